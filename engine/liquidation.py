"""Liquidation: the chain of commands that closes what an account can no longer keep.

Reads   health of a scope (shm/maintenance.py): a cross wallet, or one isolated position.
Writes  its marks (`liquidation`, `plan_*`, `tried`), orders of its own, reports of every step.
Never   looks for unsafe accounts: the clock's scan does (engine/liquidation_scan.py), and proposes.

    LIQUIDATE (clock)      risk: unsafe? -> locked; settlement proposes to cancel its open orders
    LIQUIDATE (engine)     a look, when all before it is settled: safe -> unlocked; nothing open ->
                           closed; else what comes next is planned in state, and proposed
    LIQUIDATION_ORDER      an IOC of the account for part of a position, at no worse than its
                           bankruptcy price; then the clearance fee; then another look
    TAKEOVER               what the market would not take: to the fund, or against the other side
                           (engine/takeover.py); then another look

Between two steps the scope's mark says which command is due, and exactly one is proposed: after a
crash it is proposed again, and nothing is done twice. Risk sets the mark, so that no command
decided after it can act on the scope; all that was decided before it is settled before the look.
A look changes nothing that risk decides upon but these marks, so they are in order even while risk
is far ahead.

What to close. Of a cross wallet's positions the one with the largest maintenance margin, ties by
the list (symbol, leg); those that the market would take first, then those to be taken over. How
much: down to the floor of the highest bracket below in which the scope is safe again with
BUFFER_PPM of its maintenance to spare, fees paid; all of it where that is bracket 0.

A position without a price that can be trusted (CONTRACT.halted), or in a symbol where only
cancels are taken, keeps its scope from being liquidated; once begun, a liquidation goes on with
the marks there are.

A margin call is reported once when maintenance reaches WARN_PPM of equity, and again only after it
has been below CALM_PPM.
"""

from __future__ import annotations

from typing import Final

from engine import claims, proposals, reports
from engine.checks import account_reason, symbol_reason, zero
from engine.commands import Commands
from engine.fills import move_isolated
from engine.positions import leg_row, new_position
from engine.reports import Out
from engine.scopes import (
    in_scope,
    is_unsafe,
    propose_step,
    scope_health,
    scope_of,
    set_step,
    step_of,
)
from engine.setup import ASSETS, ORDERS, POSITIONS
from engine.state import Risk
from shm.arithmetic import fee_of, muldiv_down, muldiv_up, wide
from shm.codes import (
    Cause,
    Flag,
    LiquidationStep,
    Move,
    PositionSide,
    Reason,
    Route,
    Side,
    State,
    Stp,
    Tif,
    Type,
)
from shm.jit import inlined, kernel, rarely
from shm.maintenance import bankruptcy_ticks, bracket_of, equity_share, maintenance, position_value
from shm.margin import taker_fee_ppm
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import BRACKETS_MAX, INSURANCE_ACCOUNT, NIL, PPM, PRODUCER_SHIFT, SYSTEM_ACCOUNTS

BUFFER_PPM: Final = 100_000  # of maintenance, to spare after a partial close
WARN_PPM: Final = 800_000  # of equity
CALM_PPM: Final = 750_000
UNWIND_PPM: Final = 5_000  # how far from the mark the fund closes its own positions
FILLS_RESERVED: Final = 1024  # each fill's fee is rounded up by less than a quantum

# What risk found when it decided LIQUIDATE; `value` of the answer.
UNSAFE: Final = 1
MARGIN_CALL: Final = 2
SAFE_AGAIN: Final = 3
UNWIND: Final = 4

TRIED: Final = 1  # bits of POSITION.tried
TAKEN: Final = 2

_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)


# ---------------------------------------------------------------- scopes


@kernel
def report_step(
    r: Risk,
    out: Out,
    setup: Cells,
    command: Rows,
    wallet: int,
    isolated: int,
    step: int,
    row: int,
    price_ticks: int,
    lots: int,
) -> None:
    """LIQUIDATION: a step of a scope, and if it is about one (not NIL) the position in `row`."""
    account = command["account"]
    equity, needed, _ = scope_health(r, wallet, isolated, account)
    asset = wide(wallet % setup[ASSETS])
    symbol = wide(NO_SYMBOL)
    leg = wide(PositionSide.BOTH)
    if row != NIL:
        symbol = wide(r.positions[row]["symbol"])
        leg = wide(r.positions[row]["position_side"])
    fund = r.wallets[INSURANCE_ACCOUNT * setup[ASSETS] + asset]["wallet_quanta"]
    scope = asset | (leg << 16) | ((1 << 24) if isolated != NIL else 0)
    reports.liquidation(
        r,
        out,
        setup,
        command["seq"],
        account,
        symbol,
        step,
        equity,
        needed,
        price_ticks,
        lots,
        fund,
        scope,
    )


# ---------------------------------------------------------------- risk: LIQUIDATE


@inlined
def _is_blocked(r: Risk, row: int) -> int:
    """The Reason why an open position keeps its scope from being liquidated, or NONE."""
    symbol = r.positions[row]["symbol"]
    state = r.symbols[symbol]["state"]
    if state == State.CANCEL_ONLY or state == State.HALTED:
        return Reason.SYMBOL_STATE
    if r.contracts[symbol]["halted"] != 0:
        return Reason.STALE_PRICE
    return Reason.NONE


@kernel
def _blocking_reason(r: Risk, wallet: int, isolated: int, account: int) -> int:
    row = r.accounts[account]["first_position"]
    while row != NIL:
        if in_scope(r, row, wallet, isolated) and r.positions[row]["lots"] != 0:
            reason = _is_blocked(r, row)
            if reason != Reason.NONE:
                return reason
        row = r.positions[row]["next_position"]
    return Reason.NONE


@kernel
def _prepare_fund(r: Risk, setup: Cells, wallet: int, isolated: int, account: int) -> bool:
    """Whether the fund has a position row wherever it may have to take one over; makes them."""
    missing = 0
    for make in range(2):
        row = r.accounts[account]["first_position"]
        while row != NIL:
            after = r.positions[row]["next_position"]
            symbol = wide(r.positions[row]["symbol"])
            if (
                in_scope(r, row, wallet, isolated)
                and r.positions[row]["lots"] != 0
                and leg_row(r, setup, INSURANCE_ACCOUNT, symbol, PositionSide.BOTH) == NIL
            ):
                if make == 0:
                    missing += 1
                else:
                    s = r.symbols[symbol]
                    new_position(
                        r,
                        setup,
                        INSURANCE_ACCOUNT,
                        symbol,
                        PositionSide.BOTH,
                        INSURANCE_ACCOUNT * setup[ASSETS] + s["asset"],
                        s["leverage_default"],
                        NIL,
                    )
            row = after
        if r.venue[0]["positions_used"] + missing > setup[POSITIONS] and make == 0:
            return False
    return True


@kernel
def _find_in_fund(r: Risk, wallet: int) -> bool:
    """Whether the fund holds something that it could close in the market now."""
    row = r.accounts[INSURANCE_ACCOUNT]["first_position"]
    while row != NIL:
        p = r.positions[row]
        if p["wallet"] == wallet and p["lots"] != 0 and can_trade(r, row):
            return True
        row = p["next_position"]
    return False


@inlined
def can_trade(r: Risk, row: int) -> bool:
    """Whether there is a market for a position."""
    symbol = r.positions[row]["symbol"]
    return (
        r.symbols[symbol]["state"] == State.TRADING
        and r.symbols[symbol]["mark_ticks"] > 0
        and r.contracts[symbol]["halted"] == 0
    )


@kernel
def decide_liquidate(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """LIQUIDATE: is this scope unsafe, at this very command? Of the engine itself: its next look.

    `symbol` NO_SYMBOL: the cross wallet in row `settle_row` (0: of asset 0); else the isolated
    position of (account, symbol, position side).
    """
    c = cs.base[at]
    if (
        not zero(cs.words, at, 3, 4)
        or not zero(cs.words, at, 8, 15)
        or c["position_side"] > PositionSide.SHORT
    ):
        return Reason.MALFORMED
    account = wide(c["account"])
    symbol = wide(c["symbol"])
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE and symbol != NO_SYMBOL:
        reason = symbol_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    row = cs.settles[at]["settle_row"]
    isolated = NIL
    wallet = account * setup[ASSETS]
    own = (c["request"] >> PRODUCER_SHIFT) == 0
    if not own and (
        r.venue[0]["state"] > State.TRADING or r.venue[0]["disk_state"] > State.TRADING
    ):
        return Reason.VENUE_STATE
    if symbol == NO_SYMBOL:
        if row != 0:
            wallet = row
        if wallet < 0 or wallet // setup[ASSETS] != account:
            return Reason.BAD_PARAMETER
    else:
        isolated = leg_row(r, setup, account, symbol, c["position_side"])
        if row != 0 and row != isolated:
            return Reason.BAD_PARAMETER
        if isolated == NIL:
            return Reason.NO_POSITION
        if r.positions[isolated]["isolated"] == 0:
            return Reason.CROSS_MARGIN
        wallet = wide(r.positions[isolated]["wallet"])
    step = step_of(r, wallet, isolated)
    c["position"] = isolated
    c["risk_held_quanta"] = wallet
    if own:
        return Reason.NONE if step == LiquidationStep.STARTED else Reason.NO_CHANGE
    if step != LiquidationStep.NONE:
        return Reason.NO_CHANGE
    if account < SYSTEM_ACCOUNTS:
        if account != INSURANCE_ACCOUNT or isolated != NIL or not _find_in_fund(r, wallet):
            return Reason.NO_CHANGE
        set_step(r, wallet, isolated, LiquidationStep.STARTED, 0)
        c["finding"] = UNWIND
        return Reason.NONE
    reason = _blocking_reason(r, wallet, isolated, account)
    if reason != Reason.NONE:
        return reason
    equity, needed, count = scope_health(r, wallet, isolated, account)
    if is_unsafe(equity, needed, count):
        if not _prepare_fund(r, setup, wallet, isolated, account):
            return Reason.CAPACITY
        set_step(r, wallet, isolated, LiquidationStep.STARTED, 0)
        c["finding"] = UNSAFE
        return Reason.NONE
    warned = (
        wide(r.positions[isolated]["warned"])
        if isolated != NIL
        else wide(r.wallets[wallet]["warned"])
    )
    calls = count > 0 and needed >= muldiv_down(equity, WARN_PPM, PPM) and needed > 0
    calm = count == 0 or needed < muldiv_down(equity, CALM_PPM, PPM)
    if warned == 0 and calls:
        c["finding"] = MARGIN_CALL
    elif warned != 0 and calm:
        c["finding"] = SAFE_AGAIN
    else:
        return Reason.NO_CHANGE
    _set_warned(r, wallet, isolated, 1 if warned == 0 else 0)
    return Reason.NONE


@inlined
def _set_warned(r: Risk, wallet: int, isolated: int, warned: int) -> None:
    if isolated != NIL:
        r.positions[isolated]["warned"] = warned
    else:
        r.wallets[wallet]["warned"] = warned


# ---------------------------------------------------------------- settlement: LIQUIDATE


@kernel
def _cancel_orders(
    r: Risk, setup: Cells, wallet: int, isolated: int, account: int, begins: bool
) -> int:
    """Propose to cancel every open order of a scope; returns how many there are.

    A cross wallet's are all that hold its money: those of its isolated positions too. Conditional
    orders in the symbols of open positions end with them, once, when it `begins`.
    """
    count = 0
    waits = begins and r.accounts[account]["algo_count"] > 0
    row = r.accounts[account]["first_position"]
    while row != NIL:
        p = r.positions[row]
        mine = row == isolated if isolated != NIL else p["wallet"] == wallet
        if mine and (p["open_orders"] > 0 or (waits and p["lots"] != 0)):
            count += p["open_orders"]
            if p["pending"] == 0:
                p["pending"] = Reason.LIQUIDATION
                proposals.put(r.proposals, setup, proposals.POSITION | wide(row))
        row = p["next_position"]
    return count


@kernel
def settle_liquidate(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """LIQUIDATE after its answer: begin, report a margin call, or take a look."""
    c = cs.base[at]
    account = wide(c["account"])
    isolated = wide(c["position"])
    wallet = c["risk_held_quanta"]
    finding = c["finding"]
    if finding == 0:
        _look(r, out, setup, c, wallet, isolated)
    elif finding == MARGIN_CALL:
        _report_call(r, out, setup, c, wallet, isolated)
    elif finding != SAFE_AGAIN:
        if finding == UNSAFE:
            report_step(r, out, setup, c, wallet, isolated, LiquidationStep.STARTED, isolated, 0, 0)
        _cancel_orders(r, setup, wallet, isolated, account, True)
        propose_step(r, setup, wallet, isolated, LiquidationStep.STARTED, 0)


@kernel
def _report_call(
    r: Risk, out: Out, setup: Cells, command: Rows, wallet: int, isolated: int
) -> None:
    """WARNING: a margin call."""
    account = command["account"]
    equity, needed, _ = scope_health(r, wallet, isolated, account)
    asset = wide(wallet % setup[ASSETS])
    symbol = wide(NO_SYMBOL)
    money = r.wallets[wallet]["wallet_quanta"]
    mark = wide(0)
    lots = wide(0)
    scope = asset
    if isolated != NIL:
        p = r.positions[isolated]
        symbol = wide(p["symbol"])
        money = p["isolated_quanta"]
        mark = r.symbols[symbol]["mark_ticks"]
        lots = p["lots"]
        scope = asset | (wide(p["position_side"]) << 16) | (1 << 24)
    reports.warning(
        r, out, setup, command["seq"], account, symbol, equity, needed, money, mark, lots, scope
    )


@kernel
def _look(r: Risk, out: Out, setup: Cells, command: Rows, wallet: int, isolated: int) -> None:
    """Decide what comes next for a scope whose orders have all been cancelled."""
    account = wide(command["account"])
    if _cancel_orders(r, setup, wallet, isolated, account, False) > 0:
        propose_step(r, setup, wallet, isolated, LiquidationStep.STARTED, 0)
        return
    equity, needed, count = scope_health(r, wallet, isolated, account)
    if account == INSURANCE_ACCOUNT:
        row = _largest(r, wallet, isolated, account, True)
        if row != NIL:
            _plan_unwinding(r, row)
            propose_step(r, setup, wallet, isolated, LiquidationStep.ORDER, row)
        else:
            _unlock(r, wallet, isolated, account)
        return
    if count == 0:
        _close_scope(r, out, setup, command, wallet, isolated)
        _unlock(r, wallet, isolated, account)
        report_step(
            r, out, setup, command, wallet, isolated, LiquidationStep.CLOSED, isolated, 0, 0
        )
        return
    if not is_unsafe(equity, needed, count):
        _unlock(r, wallet, isolated, account)
        report_step(
            r, out, setup, command, wallet, isolated, LiquidationStep.RECOVERED, isolated, 0, 0
        )
        return
    row = _largest(r, wallet, isolated, account, True)
    if row != NIL:
        _plan_order(r, row, equity, needed, count)
        propose_step(r, setup, wallet, isolated, LiquidationStep.ORDER, row)
    else:
        row = _largest(r, wallet, isolated, account, False)
        propose_step(r, setup, wallet, isolated, LiquidationStep.TAKEOVER, row)


@kernel
def _largest(r: Risk, wallet: int, isolated: int, account: int, market: bool) -> int:
    """The open position of a scope with the largest maintenance margin (then notional), or NIL.

    market    only those that the market may still take
    """
    best = NIL
    most = -1
    most_value = -1
    row = r.accounts[account]["first_position"]
    while row != NIL:
        p = r.positions[row]
        if (
            in_scope(r, row, wallet, isolated)
            and p["lots"] != 0
            and (not market or (p["tried"] & TRIED == 0 and can_trade(r, row)))
        ):
            value, _ = position_value(r.symbols, p)
            needed = maintenance(r.brackets, r.symbols, p["symbol"], value)
            if needed > most or (needed == most and value > most_value):
                best = row
                most = needed
                most_value = value
        row = p["next_position"]
    return wide(best)


@kernel
def _unlock(r: Risk, wallet: int, isolated: int, account: int) -> None:
    """The liquidation of a scope is over."""
    set_step(r, wallet, isolated, LiquidationStep.NONE, 0)
    _set_warned(r, wallet, isolated, 0)
    row = r.accounts[account]["first_position"]
    while row != NIL:
        if in_scope(r, row, wallet, isolated):
            r.positions[row]["tried"] = 0
        row = r.positions[row]["next_position"]


# ---------------------------------------------------------------- plans


@kernel
def lots_to_close(r: Risk, row: int, equity: int, needed: int) -> int:
    """The fewest lots whose closing makes a scope safe with something to spare, by bracket floors.

    equity, needed   of the whole scope
    """
    p = r.positions[row]
    symbol = wide(p["symbol"])
    size = p["lots"] if p["lots"] > 0 else -p["lots"]
    value, _ = position_value(r.symbols, p)
    bracket = bracket_of(r.brackets, r.symbols, symbol, value)
    if bracket == NIL:
        return size
    rest = needed - maintenance(r.brackets, r.symbols, symbol, value)
    taker = taker_fee_ppm(r.accounts[p["account"]], r.symbols[symbol])
    clearance = r.contracts[symbol]["liquidation_fee_ppm"]
    while bracket > symbol * BRACKETS_MAX:
        keep = muldiv_down(size, r.brackets[bracket]["floor_quanta"], value)
        stays = muldiv_up(value, keep, size)
        fees = fee_of(value - stays, taker) + fee_of(value - stays, clearance)
        after = rest + maintenance(r.brackets, r.symbols, symbol, stays)
        if equity - fees > after + muldiv_up(after, BUFFER_PPM, PPM):
            return size - keep
        bracket -= 1
    return size


@kernel
def _plan_order(r: Risk, row: int, equity: int, needed: int, count: int) -> None:
    """What to close of a position in the market, and at no worse than its bankruptcy price."""
    p = r.positions[row]
    symbol = p["symbol"]
    s = r.symbols[symbol]
    value, _ = position_value(r.symbols, p)
    part = maintenance(r.brackets, r.symbols, symbol, value)
    share = equity_share(equity, part, needed, count)
    lots = p["lots"]
    size = lots if lots > 0 else -lots
    taker = taker_fee_ppm(r.accounts[p["account"]], r.symbols[symbol])
    if taker > 0:
        share -= min(size, FILLS_RESERVED)
    ticks = bankruptcy_ticks(r.symbols, symbol, lots, value, share, taker)
    p["plan_lots"] = min(lots_to_close(r, row, equity, needed), s["qty_lots_max"])
    p["plan_ticks"] = max(ticks, s["price_ticks_min"])


@kernel
def _plan_unwinding(r: Risk, row: int) -> None:
    """The fund closes what it has near the mark: what the market gives within UNWIND_PPM of it."""
    p = r.positions[row]
    s = r.symbols[p["symbol"]]
    lots = p["lots"]
    away = muldiv_down(s["mark_ticks"], UNWIND_PPM, PPM)
    ticks = s["mark_ticks"] - away if lots > 0 else s["mark_ticks"] + away
    p["plan_lots"] = min(lots if lots > 0 else -lots, s["qty_lots_max"])
    p["plan_ticks"] = min(max(ticks, s["price_ticks_min"]), s["price_ticks_max"])


# ---------------------------------------------------------------- LIQUIDATION_ORDER


@kernel
def decide_liquidation_order(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """LIQUIDATION_ORDER: what was planned becomes an order, if the scope still needs it.

    `position` is set where it is the step the scope waits for, whatever becomes of it.
    """
    c = cs.base[at]
    d = cs.settles[at]
    if (c["request"] >> PRODUCER_SHIFT) != 0:
        return Reason.FORBIDDEN
    row = d["settle_row"]
    if row < 0 or row >= r.venue[0]["positions_used"]:
        return Reason.NO_CHANGE
    p = r.positions[row]
    wallet, isolated = scope_of(r, row)
    lots = d["settle_lots"]
    if (
        p["account"] != c["account"]
        or p["symbol"] != c["symbol"]
        or p["position_side"] != c["position_side"]
        or step_of(r, wallet, isolated) != LiquidationStep.ORDER
        or (isolated == NIL and r.wallets[wallet]["liquidation_row"] != row)
        or lots <= 0
        or p["plan_lots"] != lots
        or p["plan_ticks"] != d["settle_ticks"]
    ):
        return Reason.NO_CHANGE
    p["plan_lots"] = 0
    p["plan_ticks"] = 0
    c["position"] = row
    account = wide(c["account"])
    equity, needed, count = scope_health(r, wallet, isolated, account)
    if account != INSURANCE_ACCOUNT and not is_unsafe(equity, needed, count):
        return Reason.NO_CHANGE
    s = r.symbols[c["symbol"]]
    if s["state"] != State.TRADING:
        return Reason.SYMBOL_STATE
    side = Side.SELL if p["lots"] > 0 else Side.BUY
    limit = d["settle_ticks"]
    worst = limit if side == Side.BUY else max(limit, s["high_bid_ticks"])
    lots = min(lots, claims.closable(r, row, side, True))
    lots = min(lots, s["ticks_lots_max"] // worst)
    if lots <= 0 or c["side"] != side:
        return Reason.REDUCE_ONLY
    if r.venue[0]["claims_free"] == NIL and r.venue[0]["claims_used"] == setup[ORDERS]:
        return Reason.CAPACITY
    slot = claims.take_slot(r, setup)
    o = r.claims[slot]
    o["order_id"] = c["seq"]
    o["price_ticks"] = limit
    o["open_lots"] = lots
    o["qty_lots"] = lots
    o["close_lots"] = 0
    o["hold_quanta"] = 0
    o["expire_ns"] = 0
    o["account"] = account
    o["position"] = row
    o["next_closer"] = NIL
    o["prev_closer"] = NIL
    o["client"] = NIL
    o["heap"] = NIL
    o["in_flight"] = 1
    o["symbol"] = c["symbol"]
    o["side"] = side
    o["type"] = Type.LIMIT
    o["tif"] = Tif.IOC
    o["flags"] = _REDUCE_ONLY
    o["stp"] = Stp.NONE
    o["position_side"] = p["position_side"]
    o["apart"] = 0
    o["cause"] = Cause.MATCH if account == INSURANCE_ACCOUNT else Cause.LIQUIDATION
    o["pending"] = 0
    o["done"] = 0
    o["amended"] = 0
    o["reserve_quanta"] = 0
    o["worst_ticks"] = worst
    o["exposure_quanta"] = worst * lots * s["tick_lot_quanta"]
    claims.open_order(r, setup, slot)
    claims.change_close(r, slot, lots)
    c["slot"] = slot
    c["decided_order_id"] = c["seq"]
    c["decided_lots"] = lots
    c["limit_ticks"] = limit
    c["order_tif"] = Tif.IOC
    c["order_stp"] = Stp.NONE
    c["route"] = Route.SHARD
    return Reason.NONE


@kernel
def settle_refused_order(r: Risk, setup: Cells, command: Rows) -> None:
    """LIQUIDATION_ORDER that came to nothing: another look, without the market if it can't help."""
    row = wide(command["position"])
    if row == NIL:
        return
    if command["reason"] != Reason.NO_CHANGE:
        r.positions[row]["tried"] |= TRIED
    wallet, isolated = scope_of(r, row)
    propose_step(r, setup, wallet, isolated, LiquidationStep.STARTED, 0)


@kernel
def report_order(r: Risk, out: Out, setup: Cells, command: Rows) -> None:
    """LIQUIDATION_ORDER has become an order."""
    rarely()
    row = wide(command["position"])
    if command["account"] == INSURANCE_ACCOUNT:
        return
    wallet, isolated = scope_of(r, row)
    lots = command["decided_lots"]
    report_step(
        r,
        out,
        setup,
        command,
        wallet,
        isolated,
        LiquidationStep.ORDER,
        row,
        command["limit_ticks"],
        lots if command["side"] == Side.SELL else -lots,
    )


@inlined
def count_fill(r: Risk, symbol: int, price: int, lots: int) -> None:
    """A fill of the LIQUIDATION_ORDER being settled: its clearance fee is due at the end."""
    v = r.venue[0]
    v["slice_row"] += lots
    v["slice_sum"] += price * lots * r.symbols[symbol]["tick_lot_quanta"]


@kernel
def settle_order_end(r: Risk, out: Out, setup: Cells, command: Rows) -> None:
    """The last record of a LIQUIDATION_ORDER is settled: clearance fee, and another look."""
    rarely()
    row = wide(command["position"])
    v = r.venue[0]
    filled = v["slice_row"]
    notional = v["slice_sum"]
    v["slice_row"] = 0
    v["slice_sum"] = 0
    account = wide(command["account"])
    wallet, isolated = scope_of(r, row)
    if filled < command["decided_lots"] or account == INSURANCE_ACCOUNT:
        r.positions[row]["tried"] |= TRIED
    if notional > 0 and account != INSURANCE_ACCOUNT:
        symbol = wide(command["symbol"])
        equity, _, _ = scope_health(r, wallet, isolated, account)
        w = r.wallets[wallet]
        if isolated != NIL:
            there = r.positions[isolated]["isolated_quanta"]
        else:
            there = w["wallet_quanta"] - w["pending_quanta"]
        fee = fee_of(notional, r.contracts[symbol]["liquidation_fee_ppm"])
        fee = min(fee, min(there, equity))
        if fee > 0:
            if isolated != NIL:
                move_isolated(r, out, setup, command["seq"], isolated, -fee, command["seq"])
            to_fund(r, out, setup, command, wallet, symbol, Move.CLEARANCE, fee)
            if isolated != NIL:
                reports.margin(r, out, setup, command["seq"], isolated)
    propose_step(r, setup, wallet, isolated, LiquidationStep.STARTED, 0)


# ---------------------------------------------------------------- money between scope and fund


@kernel
def to_fund(
    r: Risk, out: Out, setup: Cells, command: Rows, wallet: int, symbol: int, why: int, quanta: int
) -> None:
    """Move money from a wallet to the insurance fund; negative: from the fund. MOVE."""
    asset = wallet % setup[ASSETS]
    w = r.wallets[wallet]
    fund = r.wallets[INSURANCE_ACCOUNT * setup[ASSETS] + asset]
    w["wallet_quanta"] -= quanta
    w["adjusted_quanta"] -= quanta
    fund["wallet_quanta"] += quanta
    fund["adjusted_quanta"] += quanta
    if quanta < 0 and fund["wallet_quanta"] < 0:
        # Nobody else bears it: the fund owes until somebody pays in.
        fund["deficit_count"] += 1
        r.venue[0]["deficit_count"] += 1
    reports.move(
        r,
        out,
        setup,
        command["seq"],
        command["account"],
        symbol,
        why,
        -quanta,
        w["wallet_quanta"],
        INSURANCE_ACCOUNT,
        fund["wallet_quanta"],
        command["seq"],
        asset,
    )


@kernel
def _close_scope(
    r: Risk, out: Out, setup: Cells, command: Rows, wallet: int, isolated: int
) -> None:
    """Nothing is open any more: what it still owes the fund pays.

    What is left is the account's, if the market closed it all; the fund's, if that took over.
    """
    account = wide(command["account"])
    symbol = wide(NO_SYMBOL)
    taken = False
    row = r.accounts[account]["first_position"]
    while row != NIL:
        if in_scope(r, row, wallet, isolated) and r.positions[row]["tried"] & TAKEN != 0:
            taken = True
        row = r.positions[row]["next_position"]
    w = r.wallets[wallet]
    left = w["wallet_quanta"] - w["pending_quanta"]
    if isolated != NIL:
        left = r.positions[isolated]["isolated_quanta"]
        symbol = wide(r.positions[isolated]["symbol"])
        if left > 0:
            move_isolated(r, out, setup, command["seq"], isolated, -left, command["seq"])
    if left < 0:
        to_fund(r, out, setup, command, wallet, symbol, Move.BAD_DEBT, left)
        if isolated != NIL:
            move_isolated(r, out, setup, command["seq"], isolated, -left, command["seq"])
    elif left > 0 and taken:
        to_fund(r, out, setup, command, wallet, symbol, Move.LEFTOVER, left)
