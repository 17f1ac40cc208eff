"""Dead man's switch: cancel all of (account, symbol) unless the client sets it again in time.

Reads   COUNTDOWN commands, the clock's TICKs.
Writes  `countdown_ns` of a position row; the heap of rows by (countdown_ns, row). When it is due a
        mark (`pending`) and a proposal: CANCEL_ALL ends orders and conditional orders there.

One row of (account, symbol) carries the switch for all its legs.
"""

from __future__ import annotations

from typing import Final

from engine import proposals
from engine.checks import account_reason, state_reason, symbol_reason, zero
from engine.commands import Commands
from engine.positions import any_leg, leg_row, new_position
from engine.setup import ASSETS, POSITIONS
from engine.state import Risk
from shm.codes import PositionMode, PositionSide, Reason, State
from shm.jit import inlined, kernel
from shm.pointers import Cells
from shm.units import COUNTDOWN_NS_MAX, NIL

DUE_PER_TICK: Final = 256  # switches proposed by one TICK; the next one goes on


@inlined
def _before(r: Risk, a: int, b: int) -> bool:
    x = r.positions[a]["countdown_ns"]
    y = r.positions[b]["countdown_ns"]
    return x < y or (x == y and a < b)


@inlined
def _set(r: Risk, at: int, row: int) -> None:
    r.countdowns[at] = row
    r.positions[row]["countdown_heap"] = at


@kernel
def _up(r: Risk, at: int) -> int:
    row = r.countdowns[at]
    while at > 0:
        parent = (at - 1) // 2
        if not _before(r, row, r.countdowns[parent]):
            break
        _set(r, at, r.countdowns[parent])
        at = parent
    _set(r, at, row)
    return at


@kernel
def _down(r: Risk, at: int) -> None:
    row = r.countdowns[at]
    count = r.venue[0]["countdown_count"]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and _before(r, r.countdowns[child + 1], r.countdowns[child]):
            child += 1
        if not _before(r, r.countdowns[child], row):
            break
        _set(r, at, r.countdowns[child])
        at = child
    _set(r, at, row)


@kernel
def _stop(r: Risk, row: int) -> None:
    """Take a row out of the heap if it is there."""
    p = r.positions[row]
    at = p["countdown_heap"]
    p["countdown_ns"] = 0
    if at == NIL:
        return
    v = r.venue[0]
    count = v["countdown_count"] - 1
    v["countdown_count"] = count
    p["countdown_heap"] = NIL
    moved = r.countdowns[count]
    r.countdowns[count] = 0
    if moved != row:
        r.countdowns[at] = moved
        r.positions[moved]["countdown_heap"] = at
        _down(r, _up(r, at))


@kernel
def _start(r: Risk, row: int, due_ns: int) -> None:
    _stop(r, row)
    v = r.venue[0]
    count = v["countdown_count"]
    r.positions[row]["countdown_ns"] = due_ns
    v["countdown_count"] = count + 1
    r.countdowns[count] = row
    _up(r, count)


@kernel
def _row(r: Risk, setup: Cells, account: int, symbol: int) -> int:
    """The row that carries the switch, or some leg, or NIL."""
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL and r.positions[row]["countdown_heap"] != NIL:
            return row
    return any_leg(r, setup, account, symbol)


@kernel
def decide_countdown(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """COUNTDOWN: set the switch to `value` ns from now, or (0) stop it."""
    c = cs.base[at]
    account = c["account"]
    symbol = c["symbol"]
    if not zero(cs.words, at, 4, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE:
        reason = symbol_reason(r, setup, symbol)
    if reason == Reason.NONE:
        reason = state_reason(r, account, symbol, State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    value = cs.settings[at]["value"]
    if value < 0 or value > COUNTDOWN_NS_MAX:
        return Reason.BAD_PARAMETER
    row = _row(r, setup, account, symbol)
    if value == 0:
        if row != NIL:
            _stop(r, row)
        return Reason.NONE
    if row == NIL:
        if r.venue[0]["positions_used"] == setup[POSITIONS]:
            return Reason.CAPACITY
        s = r.symbols[symbol]
        hedge = r.accounts[account]["position_mode"] == PositionMode.HEDGE
        row = new_position(
            r,
            setup,
            account,
            symbol,
            PositionSide.LONG if hedge else PositionSide.BOTH,
            account * setup[ASSETS] + s["asset"],
            s["leverage_default"],
            NIL,
        )
    _start(r, row, c["ts_ns"] + value)
    return Reason.NONE


@kernel
def settle_due(r: Risk, setup: Cells, ts_ns: int) -> None:
    """TICK: propose what is due, in (time, row) order."""
    for _ in range(DUE_PER_TICK):
        if r.venue[0]["countdown_count"] == 0:
            break
        row = r.countdowns[0]
        p = r.positions[row]
        if p["countdown_ns"] > ts_ns:
            break
        _stop(r, row)
        if p["pending"] == 0:
            p["pending"] = Reason.COUNTDOWN
            proposals.put(r.proposals, setup, proposals.POSITION | row)


@kernel
def take_mark(r: Risk, setup: Cells, account: int, symbol: int) -> int:
    """Clear what is proposed for (account, symbol); its reason, or 0."""
    reason = 0
    for leg in range(3):
        row = leg_row(r, setup, account, symbol, leg)
        if row != NIL and r.positions[row]["pending"] != 0:
            if reason == 0:
                reason = r.positions[row]["pending"]
            r.positions[row]["pending"] = 0
    return reason


@kernel
def refill(r: Risk, setup: Cells) -> None:
    """After recovery: propose again what was due."""
    for row in range(r.venue[0]["positions_used"]):
        if r.positions[row]["pending"] != 0:
            proposals.put(r.proposals, setup, proposals.POSITION | row)
