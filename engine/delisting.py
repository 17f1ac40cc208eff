"""Delisting: every position of a symbol is closed at one price, and the symbol is closed for good.

Reads   SETTLE_SYMBOL; the list of the symbol's positions.
Writes  positions, wallets, EXEC and POSITION reports of Cause.DELIST; at the end the state CLOSED.
Never   rounds: long and short are equal, so at one price gains and losses add up to the costs.

SETTLE_SYMBOL is taken when nothing trades there and no order or conditional order is left. It marks
the symbol (`settle_ticks`), and DELIST commands, proposed one after the other, close a slice of
positions each. Until the last one the symbol's state stays as it is. No fee; what an isolated
position has left returns; a loss beyond the wallet leaves it negative, for liquidation to resolve.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine import funding, proposals, reports
from engine.checks import symbol_reason, zero
from engine.commands import Commands
from engine.fills import settle_trade, trade_position
from engine.reports import Out
from engine.setup import SYMBOLS
from engine.state import Risk
from shm.codes import Cause, Reason, Side, State
from shm.jit import kernel
from shm.pointers import Cells, Rows
from shm.units import NIL

SLICE: Final = 512  # positions looked at by one DELIST: about 0.1 ms
_BUY: Final = int(Side.BUY)
_SELL: Final = int(Side.SELL)
_DELIST: Final = int(Cause.DELIST)


@kernel
def decide_settle(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """SETTLE_SYMBOL."""
    c = cs.settles[at]
    symbol = c["symbol"]
    if not zero(cs.words, at, 4, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    reason = symbol_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    s = r.symbols[symbol]
    if s["state"] != State.CLOSED and s["state"] != State.HALTED:
        return Reason.SYMBOL_STATE
    if c["settle_ticks"] < 1 or c["settle_ticks"] > s["price_ticks_max"]:
        return Reason.BAD_PRICE
    if s["settle_ticks"] != 0:
        return Reason.IN_USE
    if s["open_orders"] != 0 or s["algo_count"] != 0 or s["pending"] != 0:
        return Reason.OPEN_ORDERS
    s["settle_ticks"] = c["settle_ticks"]
    s["settle_row"] = s["first_position"]
    return Reason.NONE


@kernel
def propose(r: Risk, setup: Cells, symbol: int) -> None:
    """The next slice."""
    proposals.put(r.proposals, setup, proposals.DELIST | np.int64(symbol))


@kernel
def refill(r: Risk, setup: Cells) -> None:
    """After recovery: go on with what was being settled."""
    for symbol in range(setup[SYMBOLS]):
        if r.symbols[symbol]["settle_ticks"] != 0:
            propose(r, setup, symbol)


@kernel
def decide_delist(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """DELIST: whether the symbol is still being settled."""
    c = cs.settles[at]
    if c["symbol"] >= setup[SYMBOLS] or r.symbols[c["symbol"]]["settle_ticks"] == 0:
        return Reason.NO_CHANGE
    c["settle_ticks"] = r.symbols[c["symbol"]]["settle_ticks"]
    return Reason.NONE


@kernel
def close_position(r: Risk, out: Out, setup: Cells, seq: int, row: int, price: int) -> None:
    """Close one position at a price, against nobody."""
    p = r.positions[row]
    s = r.symbols[p["symbol"]]
    lots = abs(p["lots"])
    side = _SELL if p["lots"] > 0 else _BUY
    w = r.wallets[p["wallet"]]
    funding.settle_due(r, out, setup, seq, row)
    w["exposure_quanta"] -= abs(p["entry_quanta"])
    closing, realised = trade_position(r, row, side, price, lots)
    s["outside_count"] += 1
    trade_id = -s["outside_count"]
    status = (side << 1) | (_DELIST << 2) | (np.int64(p["position_side"]) << 5)
    reports.execution(r, out, setup, seq, row, 0, 0, status, trade_id, price, lots, 0)
    settle_trade(r, out, setup, seq, row, price, lots, closing, realised, 0, 0, trade_id, status, 0)


@kernel
def settle_slice(r: Risk, out: Out, cursors: Cells, setup: Cells, c: Rows) -> bool:
    """DELIST after its answer: close the next SLICE of positions. `slice_sum` counts them.

    returns   False: the reports ring is full, come again
    """
    v = r.venue[0]
    s = r.symbols[c["symbol"]]
    while s["settle_row"] != NIL and v["slice_sum"] < SLICE:
        if not reports.has_room(r, cursors, setup):
            return False
        row = s["settle_row"]
        s["settle_row"] = r.positions[row]["next_in_symbol"]
        if r.positions[row]["lots"] != 0:
            close_position(r, out, setup, c["seq"], row, s["settle_ticks"])
        v["slice_sum"] += 1
    v["slice_sum"] = 0
    if s["settle_row"] != NIL:
        propose(r, setup, c["symbol"])
        return True
    assert s["open_lots"] == 0
    s["settle_ticks"] = 0
    s["state"] = State.CLOSED
    reports.symbol(r, out, setup, c, c["symbol"])
    return True
