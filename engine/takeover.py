"""TAKEOVER: what the market would not take of a bankrupt position goes to somebody who is named.

Reads   the position, the fund's positions, candidates of engine/adl.py.
Writes  both positions and wallets; EXEC, POSITION, MARGIN of both sides, FLIP, LIQUIDATION.
Never   leaves a loss with nobody: whom the position goes to bears it from then on.

The insurance fund takes all of it at the bankruptcy price while afterwards its net notional (at
mark, over all symbols of the asset) is no more than its balance, and its equity not negative.
Else it is closed against the other side, one victim a command, at the bankruptcy price and without
a fee. Once begun that goes on until the position is gone, or safe again. Victims lose what they
had claimed: their close claims flip as after a fill, and their open orders in the symbol are
cancelled.
With no victim left the fund takes the rest whatever it has: it is the bearer of last resort, and
what it owes then is counted (`deficit_count`) and reported.
"""

from __future__ import annotations

from engine import proposals, reports
from engine.adl import NOBODY, SEARCHING, bearable_lots, find_victim, queue_of
from engine.claims import robbed
from engine.commands import Commands
from engine.fills import settle_trade, trade_position
from engine.flips import flip_robbed
from engine.funding import settle_due
from engine.liquidation import TAKEN, report_step
from engine.positions import leg_row
from engine.reports import Out
from engine.scopes import is_unsafe, propose_step, scope_health, scope_of, set_step, step_of
from engine.setup import ASSETS
from engine.state import Risk
from shm.arithmetic import wide
from shm.codes import Cause, LiquidationStep, PositionSide, Reason, Side
from shm.jit import kernel
from shm.maintenance import bankruptcy_ticks, equity_share, maintenance, position_value
from shm.pointers import Cells, Rows
from shm.units import INSURANCE_ACCOUNT, NIL, PRODUCER_SHIFT


@kernel
def decide_takeover(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """TAKEOVER: whether it is the step the scope waits for; settlement does the rest."""
    c = cs.base[at]
    if (c["request"] >> PRODUCER_SHIFT) != 0:
        return Reason.FORBIDDEN
    row = cs.takeovers[at]["takeover_row"]
    if row < 0 or row >= r.venue[0]["positions_used"]:
        return Reason.NO_CHANGE
    p = r.positions[row]
    wallet, isolated = scope_of(r, row)
    step = step_of(r, wallet, isolated)
    if (
        p["account"] != c["account"]
        or p["symbol"] != c["symbol"]
        or p["position_side"] != c["position_side"]
        or (step != LiquidationStep.TAKEOVER and step != LiquidationStep.ADL)
        or (isolated == NIL and r.wallets[wallet]["liquidation_row"] != row)
    ):
        return Reason.NO_CHANGE
    c["position"] = row
    return Reason.NONE


@kernel
def _price_of(r: Risk, row: int, equity: int, needed: int, count: int) -> int:
    """Bankruptcy price of a position at this moment; nobody pays a fee for it."""
    p = r.positions[row]
    value, _ = position_value(r.symbols, p)
    part = maintenance(r.brackets, r.symbols, p["symbol"], value)
    share = equity_share(equity, part, needed, count)
    return bankruptcy_ticks(r.symbols, p["symbol"], p["lots"], value, share, 0)


@kernel
def fund_can_take(r: Risk, setup: Cells, fund: int, symbol: int, lots: int, price: int) -> bool:
    """Whether the fund may take `lots` (signed) at a price.

    fund    its position in the symbol
    """
    s = r.symbols[symbol]
    wallet = INSURANCE_ACCOUNT * setup[ASSETS] + s["asset"]
    balance = r.wallets[wallet]["wallet_quanta"]
    equity = balance
    notional = 0
    row = r.accounts[INSURANCE_ACCOUNT]["first_position"]
    while row != NIL:
        p = r.positions[row]
        if p["wallet"] == wallet:
            value, unrealised = position_value(r.symbols, p)
            if row == fund:
                after = p["lots"] + lots
                size = after if after >= 0 else -after
                reference = s["mark_ticks"] if s["mark_ticks"] > 0 else price
                unit = size * s["tick_lot_quanta"]
                if unit > 0 and reference > max(balance, 0) // unit:
                    return False
                value = unit * reference
                # |lots| fit one position, whose value at any price in reach fits its limits.
                unrealised += lots * (reference - price) * s["tick_lot_quanta"]
            notional += value
            equity += unrealised
            if notional > balance:
                return False
        row = p["next_position"]
    return notional <= balance and equity >= 0


@kernel
def _trade_side(
    r: Risk,
    out: Out,
    setup: Cells,
    command: Rows,
    row: int,
    side: int,
    cause: int,
    trade_id: int,
    price: int,
    lots: int,
) -> None:
    """One side of a trade outside the book: no order, no fee."""
    settle_due(r, out, setup, command["seq"], row)
    p = r.positions[row]
    w = r.wallets[p["wallet"]]
    w["exposure_quanta"] -= abs(p["entry_quanta"])
    closing, realised = trade_position(r, row, side, price, lots)
    w["exposure_quanta"] += abs(p["entry_quanta"])
    status = (side << 1) | (cause << 2) | (wide(p["position_side"]) << 5)
    reports.execution(r, out, setup, command["seq"], row, 0, 0, status, trade_id, price, lots, 0)
    settle_trade(
        r,
        out,
        setup,
        command["seq"],
        row,
        price,
        lots,
        closing,
        realised,
        0,
        0,
        trade_id,
        status,
        0,
    )


@kernel
def _transfer(
    r: Risk,
    out: Out,
    setup: Cells,
    command: Rows,
    row: int,
    other: int,
    cause: int,
    price: int,
    lots: int,
) -> int:
    """Close `lots` of a bankrupt position against another one, at a price; returns the trade."""
    s = r.symbols[command["symbol"]]
    s["outside_count"] += 1
    trade_id = -s["outside_count"]
    side = Side.SELL if r.positions[row]["lots"] > 0 else Side.BUY
    r.positions[row]["tried"] |= TAKEN
    _trade_side(r, out, setup, command, row, side, cause, trade_id, price, lots)
    _trade_side(r, out, setup, command, other, 1 - side, cause, trade_id, price, lots)
    return trade_id


@kernel
def _cancel_of_victim(r: Risk, setup: Cells, row: int) -> None:
    p = r.positions[row]
    if p["open_orders"] > 0 and p["pending"] == 0:
        p["pending"] = Reason.ADL
        proposals.put(r.proposals, setup, proposals.POSITION | wide(row))


@kernel
def settle_takeover(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """TAKEOVER after its answer: the trade, if there is one."""
    row = wide(cs.base[at]["position"])
    wallet, isolated = scope_of(r, row)
    victim = _take(r, out, setup, cs, at, row, wallet, isolated)
    if victim != NIL:
        r.venue[0]["flipping"] = 1
        r.venue[0]["slice_row"] = victim


@kernel
def settle_victim(r: Risk, out: Out, cursors: Cells, setup: Cells, command: Rows) -> bool:
    """What a victim of ADL had claimed flips, and its orders are proposed for cancellation.

    False: the reports ring is full, come again.
    """
    v = r.venue[0]
    if v["flipping"] == 0:
        return True
    victim = v["slice_row"]
    if robbed(r, victim) and not flip_robbed(
        r, out, cursors, setup, command["seq"], victim, NIL, True
    ):
        return False
    v["flipping"] = 0
    v["slice_row"] = 0
    _cancel_of_victim(r, setup, victim)
    return True


@kernel
def _take(
    r: Risk, out: Out, setup: Cells, cs: Commands, at: int, row: int, wallet: int, isolated: int
) -> int:
    """One step: the fund takes all, or one victim a part. Returns the victim's position, or NIL."""
    command = cs.base[at]
    ranks = cs.takeovers[at]["tells_rank"]
    p = r.positions[row]
    account = wide(command["account"])
    symbol = wide(command["symbol"])
    equity, needed, count = scope_health(r, wallet, isolated, account)
    lots = p["lots"]
    if lots == 0 or not is_unsafe(equity, needed, count):
        propose_step(r, setup, wallet, isolated, LiquidationStep.STARTED, 0)
        return NIL
    price = _price_of(r, row, equity, needed, count)
    size = lots if lots > 0 else -lots
    fund = leg_row(r, setup, INSURANCE_ACCOUNT, symbol, PositionSide.BOTH)
    assert fund != NIL
    victim = NOBODY
    if step_of(r, wallet, isolated) == LiquidationStep.ADL or not fund_can_take(
        r, setup, fund, symbol, lots, price
    ):
        set_step(r, wallet, isolated, LiquidationStep.ADL, row)
        victim = find_victim(r, setup, row, price, command["ts_ns"], ranks)
    if victim == SEARCHING:
        propose_step(r, setup, wallet, isolated, LiquidationStep.ADL, row)
        return NIL
    if victim == NOBODY:
        if step_of(r, wallet, isolated) == LiquidationStep.ADL:
            # Beyond its limits: whatever it loses by this the fund bears, and owes if it must.
            r.wallets[r.positions[fund]["wallet"]]["deficit_count"] += 1
            r.venue[0]["deficit_count"] += 1
        report_step(
            r, out, setup, command, wallet, isolated, LiquidationStep.TAKEOVER, row, price, lots
        )
        _transfer(r, out, setup, command, row, fund, Cause.TAKEOVER, price, size)
        propose_step(r, setup, wallet, isolated, LiquidationStep.STARTED, 0)
        return NIL
    part = bearable_lots(r, victim, price, size)
    report_step(
        r,
        out,
        setup,
        command,
        wallet,
        isolated,
        LiquidationStep.ADL,
        row,
        price,
        part if lots > 0 else -part,
    )
    trade_id = _transfer(r, out, setup, command, row, victim, Cause.ADL, price, part)
    if ranks != 0:
        rank = r.adl_ranks[queue_of(symbol, lots > 0)]
        whose = wide(r.positions[victim]["account"])
        closed = -part if lots > 0 else part
        reports.deleveraged(
            r, out, setup, command["seq"], whose, symbol, rank, trade_id, price, closed
        )
    step = LiquidationStep.STARTED if part == size else LiquidationStep.ADL
    propose_step(r, setup, wallet, isolated, step, row)
    return victim
