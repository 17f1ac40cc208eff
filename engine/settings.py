"""What an account sets about its positions: leverage, margin type, mode, isolated margin, fees.

Reads   settings commands as risk decides them; positions, wallets, brackets.
Writes  POSITION leverage and margin type, ACCOUNT mode and fees; what POSITION_MARGIN sets aside.
Never   moves money: settlement does, in its turn (engine/settlement.py).
"""

from __future__ import annotations

from engine.checks import account_reason, state_reason, symbol_reason, zero
from engine.commands import Commands
from engine.positions import any_leg, leg_row, mode_fits, new_position
from engine.scopes import is_locked
from engine.setup import ASSETS, POSITIONS
from engine.state import Risk
from shm.codes import MarginType, PositionMode, PositionSide, Reason, State
from shm.jit import inlined, kernel
from shm.maintenance import notional_allowed, position_value
from shm.margin import available, removable, withdrawable
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import MONEY_QUANTA_MAX, NIL, PPM


@kernel
def decide_leverage(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """LEVERAGE of (account, symbol): refused while orders are open, and where it costs too much."""
    if not zero(cs.words, at, 4, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    c = cs.base[at]
    account = c["account"]
    symbol = c["symbol"]
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE:
        reason = symbol_reason(r, setup, symbol)
    if reason == Reason.NONE:
        reason = state_reason(r, account, symbol, State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    leverage = cs.leverages[at]["leverage"]
    s = r.symbols[symbol]
    if leverage < 1 or leverage > s["leverage_max"]:
        return Reason.BAD_LEVERAGE
    position = any_leg(r, setup, account, symbol)
    if position == NIL:
        if r.venue[0]["positions_used"] == setup[POSITIONS]:
            return Reason.CAPACITY
        _new_settings(r, setup, account, symbol, leverage)
        return Reason.NONE
    before = r.positions[position]["leverage"]
    if leverage == before:
        return Reason.NONE
    if _open_orders(r, setup, account, symbol) > 0:
        return Reason.IN_USE
    largest = _largest_value(r, setup, account, symbol)
    wallet = r.positions[position]["wallet"]
    isolated = r.positions[position]["isolated"]
    _set_leverage(r, setup, account, symbol, leverage)
    if (
        leverage < before
        and largest > 0
        and isolated == 0
        and available(r.accounts, r.wallets, r.symbols, r.positions, account, wallet) < 0
    ):
        reason = Reason.INSUFFICIENT_MARGIN
    elif is_locked(r, position, wallet):
        reason = Reason.LIQUIDATING
    elif leverage < before and largest > 0 and isolated != 0:
        reason = Reason.OPEN_POSITION  # its wallet was filled for the leverage it has
    elif largest > notional_allowed(r.brackets, r.symbols, symbol, leverage):
        reason = Reason.BRACKET_NOTIONAL
    if reason != Reason.NONE:
        _set_leverage(r, setup, account, symbol, before)
    return reason


@kernel
def _new_settings(r: Risk, setup: Cells, account: int, symbol: int, leverage: int) -> int:
    """A row for what is set before there is an order: the leg that its first one may well need."""
    leg = PositionSide.BOTH
    if r.accounts[account]["position_mode"] == PositionMode.HEDGE:
        leg = PositionSide.LONG
    wallet = account * setup[ASSETS] + r.symbols[symbol]["asset"]
    return new_position(r, setup, account, symbol, leg, wallet, leverage, NIL)


@kernel
def _open_orders(r: Risk, setup: Cells, account: int, symbol: int) -> int:
    """Live orders over all legs."""
    count = 0
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL:
            count += r.positions[row]["open_orders"]
    return count


@kernel
def _largest_value(r: Risk, setup: Cells, account: int, symbol: int) -> int:
    """The largest notional of a leg."""
    most = 0
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL and r.positions[row]["lots"] != 0:
            value, _ = position_value(r.symbols, r.positions[row])
            most = max(most, value)
    return most


@kernel
def _set_leverage(r: Risk, setup: Cells, account: int, symbol: int, leverage: int) -> None:
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL:
            r.positions[row]["leverage"] = leverage


@inlined
def _holds_something(p: Rows) -> bool:
    """Whether a leg is open, or has money of its own: what an isolated loss still owes counts."""
    return p["lots"] != 0 or p["isolated_quanta"] != 0


@kernel
def decide_position_mode(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """POSITION_MODE of an account: one-way or hedge, while it has neither orders nor positions."""
    c = cs.base[at]
    if (
        not zero(cs.words, at, 4, 5)
        or not zero(cs.words, at, 8, 15)
        or c["position_side"] != PositionSide.BOTH
    ):
        return Reason.MALFORMED
    account = c["account"]
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE:
        reason = state_reason(r, account, NO_SYMBOL, State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    mode = cs.settings[at]["value"]
    if mode < PositionMode.ONE_WAY or mode > PositionMode.HEDGE:
        return Reason.BAD_PARAMETER
    a = r.accounts[account]
    row = a["first_position"]
    while row != NIL:
        if is_locked(r, row, r.positions[row]["wallet"]):
            return Reason.LIQUIDATING
        row = r.positions[row]["next_position"]
    if a["position_mode"] == mode:
        return Reason.NO_CHANGE
    if a["open_orders"] > 0 or a["algo_count"] > 0:
        return Reason.OPEN_ORDERS
    row = a["first_position"]
    while row != NIL:
        if _holds_something(r.positions[row]):
            return Reason.OPEN_POSITION
        row = r.positions[row]["next_position"]
    a["position_mode"] = mode
    return Reason.NONE


@kernel
def decide_margin_type(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """MARGIN_TYPE of (account, symbol): cross or isolated, for all legs, while they are empty."""
    c = cs.base[at]
    if (
        not zero(cs.words, at, 4, 5)
        or not zero(cs.words, at, 8, 15)
        or c["position_side"] != PositionSide.BOTH
    ):
        return Reason.MALFORMED
    account = c["account"]
    symbol = c["symbol"]
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE:
        reason = symbol_reason(r, setup, symbol)
    if reason == Reason.NONE:
        reason = state_reason(r, account, symbol, State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    kind = cs.settings[at]["value"]
    if kind < MarginType.CROSS or kind > MarginType.ISOLATED:
        return Reason.BAD_PARAMETER
    some = any_leg(r, setup, account, symbol)
    if some == NIL:
        if r.venue[0]["positions_used"] == setup[POSITIONS]:
            return Reason.CAPACITY
        if kind == MarginType.CROSS:
            return Reason.NO_CHANGE
        some = _new_settings(r, setup, account, symbol, r.symbols[symbol]["leverage_default"])
        r.positions[some]["isolated"] = kind
        return Reason.NONE
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL and is_locked(r, row, r.positions[row]["wallet"]):
            return Reason.LIQUIDATING
    if r.positions[some]["isolated"] == kind:
        return Reason.NO_CHANGE
    if _open_orders(r, setup, account, symbol) > 0:
        return Reason.OPEN_ORDERS
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL and _holds_something(r.positions[row]):
            return Reason.OPEN_POSITION
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL:
            r.positions[row]["isolated"] = kind
    return Reason.NONE


@kernel
def decide_position_margin(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """POSITION_MARGIN: move money between the cross wallet and an isolated position.

    What goes in is set aside here; settlement moves it, and looks again at what comes out.
    """
    c = cs.base[at]
    leg = c["position_side"]
    if not zero(cs.words, at, 4, 5) or not zero(cs.words, at, 8, 15) or leg > PositionSide.SHORT:
        return Reason.MALFORMED
    account = c["account"]
    symbol = c["symbol"]
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE:
        reason = symbol_reason(r, setup, symbol)
    if reason == Reason.NONE:
        reason = state_reason(r, account, symbol, State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    amount = cs.settings[at]["value"]
    if amount == 0 or amount > MONEY_QUANTA_MAX or amount < -MONEY_QUANTA_MAX:
        return Reason.BAD_AMOUNT
    if not mode_fits(r, account, leg):
        return Reason.POSITION_MODE
    position = leg_row(r, setup, account, symbol, leg)
    if position != NIL and is_locked(r, position, r.positions[position]["wallet"]):
        return Reason.LIQUIDATING
    if position == NIL or r.positions[position]["lots"] == 0:
        return Reason.NO_POSITION
    p = r.positions[position]
    if p["isolated"] == 0:
        return Reason.CROSS_MARGIN
    if amount < 0:
        if -amount > removable(r.symbols, r.brackets, p):
            return Reason.INSUFFICIENT_MARGIN
    else:
        free = withdrawable(
            r.accounts, r.wallets, r.symbols, r.positions, r.brackets, account, p["wallet"]
        )
        if amount > free:
            return Reason.INSUFFICIENT_BALANCE
        r.wallets[p["wallet"]]["pending_quanta"] += amount
        c["risk_held_quanta"] = amount
    c["position"] = position
    return Reason.NONE


@kernel
def decide_fees(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """FEE_RATES of an account, instead of every symbol's; orders keep what they hold."""
    if not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    account = cs.base[at]["account"]
    reason = account_reason(r, setup, account)
    if reason != Reason.NONE:
        return reason
    f = cs.fees[at]
    own = f["own"]
    maker = f["maker_fee_ppm"]
    taker = f["taker_fee_ppm"]
    if (
        own < 0
        or own > 1
        or taker < 0
        or taker > PPM
        or maker > PPM
        or maker < -taker
        or (own == 0 and (maker != 0 or taker != 0))
    ):
        return Reason.BAD_PARAMETER
    a = r.accounts[account]
    a["own_fees"] = own
    a["maker_fee_ppm"] = maker
    a["taker_fee_ppm"] = taker
    return Reason.NONE
