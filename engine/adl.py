"""Auto-deleveraging: whom a bankrupt position is closed against when the fund may not take it.

Reads   positions of the symbol, their accounts and brackets.
Writes  ADL_QUEUE rows: the best candidates found so far, part of the state; ADL_RANK rows: the
        score and the place of who was taken off one last.
Never   moves money: engine/liquidation.py closes the positions.

Candidates are the positions on the other side, by score (shm/ranking.py), ties by the smaller
account, then the smaller row. Not the venue's own, not of the same account, not those that are
being liquidated themselves.

A search visits SLICE positions of the symbol a command, so that no command takes long. Where one
slice is enough, every victim is the highest at that very moment. In larger symbols the search
takes several commands, between which others are decided; it keeps the best CANDIDATES, and these
serve for FRESH_NS of sequencer time: each was among the highest when its slice was searched.

No victim closes for more than it has: where the price is worse for it than the mark, only so many
lots as its equity bears; with none it is passed over.
"""

from __future__ import annotations

from typing import Final

from engine.state import Risk
from shm.arithmetic import wide
from shm.codes import Side
from shm.jit import inlined, kernel
from shm.maintenance import cross_health, isolated_health
from shm.pointers import Cells, Rows
from shm.ranking import position_score
from shm.records import NO_SYMBOL
from shm.units import NIL, SYSTEM_ACCOUNTS

SLICE: Final = 512
CANDIDATES: Final = 64
FRESH_NS: Final = 1_000_000_000

SEARCHING: Final = -2  # what `find_victim` answers besides a row: come again
NOBODY: Final = -1

_NONE: Final = 0
_GOES_ON: Final = 1
_ENDED: Final = 2


@inlined
def _comes_before(r: Risk, score: int, row: int, other_score: int, other: int) -> bool:
    if score != other_score:
        return score > other_score
    a = r.positions[row]["account"]
    b = r.positions[other]["account"]
    return a < b if a != b else row < other


@kernel
def _add(r: Risk, q: Rows, score: int, row: int) -> None:
    """Put a candidate in its place, if it is among the best."""
    count = q["count"]
    if count == CANDIDATES:
        if not _comes_before(r, score, row, q["scores"][count - 1], q["rows"][count - 1]):
            return
        count -= 1
    at = count
    while at > 0 and _comes_before(r, score, row, q["scores"][at - 1], q["rows"][at - 1]):
        q["scores"][at] = q["scores"][at - 1]
        q["rows"][at] = q["rows"][at - 1]
        at -= 1
    q["scores"][at] = score
    q["rows"][at] = row
    q["count"] = count + 1


@kernel
def _drop_first(q: Rows) -> None:
    count = q["count"] - 1
    for k in range(count):
        q["scores"][k] = q["scores"][k + 1]
        q["rows"][k] = q["rows"][k + 1]
    q["scores"][count] = 0
    q["rows"][count] = 0
    q["count"] = count


@kernel
def _forget(q: Rows) -> None:
    for k in range(q["count"]):
        q["scores"][k] = 0
        q["rows"][k] = 0
    q["count"] = 0
    q["state"] = _NONE
    q["next_row"] = NIL
    q["slices"] = 0
    q["scanned_ns"] = 0


@inlined
def _may_be_victim(r: Risk, setup: Cells, row: int, long: bool, account: int) -> bool:
    """Whether a position is on the other side (`long`: they are short), and may be closed."""
    p = r.positions[row]
    lots = p["lots"]
    if lots == 0 or (lots > 0) == long or p["account"] < SYSTEM_ACCOUNTS:
        return False
    if p["account"] == account:
        return False
    if p["isolated"] != 0:
        return p["liquidation"] == 0
    return r.wallets[p["wallet"]]["liquidation"] == 0


@kernel
def _search(
    r: Risk, setup: Cells, q: Rows, rank: Rows, position: int, long: bool, one: int, ranks: int
) -> None:
    """One slice more of the search for victims of `position`; `ranks` 1: it counts them."""
    account = r.positions[position]["account"]
    row = q["next_row"]
    for _ in range(SLICE):
        if row == NIL:
            break
        if _may_be_victim(r, setup, row, long, account):
            score = position_score(
                r.accounts, r.wallets, r.symbols, r.positions, r.brackets, row, one
            )
            _add(r, q, score, row)
            rank["ranked"] += ranks
        row = wide(r.positions[row]["next_in_symbol"])
    q["next_row"] = row
    q["slices"] += 1
    q["state"] = _ENDED if row == NIL else _GOES_ON


@kernel
def bearable_lots(r: Risk, row: int, price: int, lots: int) -> int:
    """How many of `lots` a victim can close at a price without owing more than it has at mark."""
    p = r.positions[row]
    s = r.symbols[p["symbol"]]
    size = p["lots"] if p["lots"] > 0 else -p["lots"]
    lots = min(lots, size)
    mark = s["mark_ticks"]
    if mark == 0:
        return lots
    worse = price - mark if p["lots"] < 0 else mark - price
    if worse <= 0:
        return lots
    if p["isolated"] != 0:
        equity, _ = isolated_health(r.brackets, r.symbols, p)
    else:
        equity, _, _ = cross_health(
            r.accounts,
            r.wallets,
            r.symbols,
            r.positions,
            r.brackets,
            p["account"],
            p["wallet"],
            NO_SYMBOL,
        )
    if equity <= 0:
        return 0
    return min(lots, equity // worse // s["tick_lot_quanta"])


@inlined
def queue_of(symbol: int, long: bool) -> int:
    """The queue whose positions are closed against a `long` one or a short one.

    Queues are by the side of the victims: BUY holds the long ones.
    """
    return symbol * 2 + (Side.SELL if long else Side.BUY)


@kernel
def find_victim(r: Risk, setup: Cells, position: int, price: int, now_ns: int, ranks: int) -> int:
    """The position to close a bankrupt one against at `price`; SEARCHING or NOBODY.

    It is taken off the queue: the next one is another, or the same after a new search.

    ranks    1: the queue's ADL_RANK says how it stood; 0: that row is left alone, as logs that
             were written before there was one want it
    """
    p = r.positions[position]
    symbol = wide(p["symbol"])
    long = p["lots"] > 0
    one = 1
    for _ in range(r.assets[r.symbols[symbol]["asset"]]["scale"]):
        one *= 10
    q = r.adl_queues[queue_of(symbol, long)]
    rank = r.adl_ranks[queue_of(symbol, long)]
    # What one slice found is searched again for every victim: it costs no more than one slice.
    if q["state"] == _ENDED and (q["slices"] == 1 or q["scanned_ns"] + FRESH_NS < now_ns):
        _forget(q)
    started = False
    if q["state"] == _NONE:
        q["next_row"] = r.symbols[symbol]["first_position"]
        q["scanned_ns"] = now_ns
        q["state"] = _GOES_ON
        if ranks != 0:
            rank["ranked"] = 0
            rank["place"] = 0
            rank["score_ppb"] = 0
        started = True
    if q["state"] == _GOES_ON:
        _search(r, setup, q, rank, position, long, one, ranks)
        if q["state"] == _GOES_ON:
            return SEARCHING
        started = True
    found = NIL
    while found == NIL and q["count"] > 0:
        row = wide(q["rows"][0])
        if ranks != 0:
            rank["place"] += 1
            rank["score_ppb"] = q["scores"][0]
        _drop_first(q)
        if _may_be_victim(r, setup, row, long, p["account"]) and (
            bearable_lots(r, row, price, 1) > 0
        ):
            found = row
    if q["count"] == 0:
        _forget(q)
    if found != NIL:
        return found
    return NOBODY if started else SEARCHING
