"""Conditional orders: where they wait, how prices find them, what becomes of them.

Reads   ALGO rows, links and heads; a symbol's last price and mark as settlement changes them.
Writes  the same; a mark (`pending`) and a proposal for each one that is reached.
Never   scans: work is in proportion to what is reached, activated or brought together.

A conditional order waits in a heap of its (symbol, working price, price protection, direction):
UP is reached by a price at or above its key (BUY STOP, SELL TAKE_PROFIT), DOWN by one at or below.
A symbol's heads say which prices matter next, so a trade that reaches nothing costs two compares.

A trailing stop waits, until it is activated, under its activation price. Then it follows: all those
of one kind that share an extreme (lowest price since activation of a BUY, highest of a SELL) are a
group, a heap by callback, and only its head waits in the heap by price. Groups stand on a stack,
the newest on top: whatever comes later has seen less, so extremes grow worse from the top down, and
a price that makes a new extreme brings groups together from the top only. O(log n) for each group
that is brought together, and no group is brought together twice.

Reached by one price, they are proposed in the order in which the price came by: the furthest
behind it first, equal ones by id; of one group the smaller callback first, whose exact price came
first even where rounding to ticks makes both the same.

Price protection is looked at with each price of its symbol, last or mark: while |mark - last| is
more than the contract's share of mark nothing protected fires, and what the price still reaches
when that is over fires then.

Taken out by risk (cancelled, triggered), a row stays as it is until settlement has reported it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine import hashmap, leftist, proposals
from engine.leftist import ID, KEY, NEWER, OLDER, PRICE, STRIDE, TRAIL, UP
from engine.setup import ALGO_BITS
from engine.state import ALGO_CELLS, Risk
from shm.arithmetic import muldiv_down
from shm.codes import AlgoType, Side, Working
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.units import NIL, PPM

NEVER: Final = 1 << 62  # above every price
# Cells of a symbol.
NEXT: Final = 0  # by working price: reached at or above; at or below
BLOCKED: Final = 4  # 1: a protected one is reached, and the prices are too far apart
HEAPS: Final = 6  # working * 4 + protect * 2 + down
TRAILS: Final = 14  # working * 4 + protect * 2 + side: head of the newest group
_KINDS: Final = 8


def empty_heads(symbols: int) -> np.ndarray[Any, Any]:
    """The cells of symbols where nothing waits."""
    cells = np.zeros((symbols, ALGO_CELLS), np.int64)
    cells[:, [NEXT, NEXT + 2]] = NEVER
    cells[:, HEAPS : TRAILS + _KINDS] = NIL
    return cells.reshape(-1)


@inlined
def is_trailing(a: Rows) -> bool:
    return a["type"] == AlgoType.TRAILING_STOP_MARKET


@inlined
def becomes_limit(type_: int) -> bool:
    return type_ == AlgoType.STOP or type_ == AlgoType.TAKE_PROFIT


@inlined
def waits_up(type_: int, side: int) -> bool:
    """Whether it is reached from below; TRAILING: once it follows."""
    profit = type_ == AlgoType.TAKE_PROFIT or type_ == AlgoType.TAKE_PROFIT_MARKET
    return (side == Side.BUY) != profit


@inlined
def working_ticks(r: Risk, symbol: int, working: int) -> int:
    """The price a conditional order watches, or 0 before the first."""
    s = r.symbols[symbol]
    return s["last_ticks"] if working == Working.LAST else s["mark_ticks"]


# ---------------------------------------------------------------- heaps and groups


@kernel
def _hang(r: Risk, row: int, protect: int, down: int, ticks: int) -> None:
    """Let a row wait for a price."""
    a = r.algos[row]
    heap = a["working"] * 4 + protect * 2 + down
    at = np.int64(a["symbol"]) * ALGO_CELLS + HEAPS + heap
    key = -ticks if down == 1 else ticks
    r.algo_heaps[at] = leftist.push(r.algo_links, PRICE, r.algo_heaps[at], row, key)
    a["heap"] = heap


@kernel
def _unhang(r: Risk, row: int) -> None:
    a = r.algos[row]
    assert a["heap"] != NIL
    at = np.int64(a["symbol"]) * ALGO_CELLS + HEAPS + a["heap"]
    r.algo_heaps[at] = leftist.remove(r.algo_links, PRICE, r.algo_heaps[at], row)
    a["heap"] = NIL


@inlined
def _trail_cell(a: Rows) -> int:
    return (
        np.int64(a["symbol"]) * ALGO_CELLS
        + TRAILS
        + a["working"] * 4
        + a["protect"] * 2
        + a["side"]
    )


@inlined
def trail_ticks(side: int, extreme: int, callback_ppm: int) -> int:
    """Where a trailing stop is reached; rounded away from the extreme, so never at it."""
    back = -((-extreme * callback_ppm) // PPM)
    return extreme + back if side == Side.BUY else extreme - back


@kernel
def _lead(r: Risk, cell: int, row: int, extreme: int, older: int, newer: int) -> None:
    """Make a row the head of its group, between two others on the stack."""
    a = r.algos[row]
    links = r.algo_links
    links[row * STRIDE + OLDER] = older
    links[row * STRIDE + NEWER] = newer
    if older != NIL:
        links[older * STRIDE + NEWER] = row
    if newer != NIL:
        links[newer * STRIDE + OLDER] = row
    else:
        r.algo_heaps[cell] = row
    a["extreme_ticks"] = extreme
    a["trigger_ticks"] = trail_ticks(a["side"], extreme, a["callback_ppm"])
    _hang(r, row, a["protect"], 0 if a["side"] == Side.BUY else 1, a["trigger_ticks"])


@inlined
def _is_passed(side: int, extreme: int, ticks: int) -> bool:
    """Whether an extreme is no better than a price."""
    return extreme >= ticks if side == Side.BUY else extreme <= ticks


@kernel
def _gather(r: Risk, cell: int, side: int, group: int, ticks: int) -> None:
    """Bring `group` (a root, or NIL) and every group whose extreme is no better than `ticks`
    together: one group with that extreme, on top of the stack."""
    top = r.algo_heaps[cell]
    while top != NIL and _is_passed(side, r.algos[top]["extreme_ticks"], ticks):
        older = r.algo_links[top * STRIDE + OLDER]
        _unhang(r, top)
        group = leftist.merge(r.algo_links, TRAIL, group, top)
        top = older
    _lead(r, cell, group, ticks, top, NIL)


@kernel
def follow(r: Risk, row: int, ticks: int) -> None:
    """A trailing stop begins to follow at this price."""
    a = r.algos[row]
    a["active"] = 1
    leftist.single(r.algo_links, TRAIL, row, a["callback_ppm"])
    _gather(r, _trail_cell(a), a["side"], row, ticks)


@kernel
def _leave_group(r: Risk, row: int) -> None:
    """Take a trailing stop that follows out of its group; another one may lead it then."""
    links = r.algo_links
    if links[row * STRIDE + TRAIL + UP] != NIL:
        leftist.remove(links, TRAIL, NIL, row)
        return
    a = r.algos[row]
    cell = _trail_cell(a)
    older = links[row * STRIDE + OLDER]
    newer = links[row * STRIDE + NEWER]
    _unhang(r, row)
    rest = leftist.remove(links, TRAIL, row, row)
    if rest != NIL:
        _lead(r, cell, rest, a["extreme_ticks"], older, newer)
        return
    if older != NIL:
        links[older * STRIDE + NEWER] = newer
    if newer != NIL:
        links[newer * STRIDE + OLDER] = older
    else:
        r.algo_heaps[cell] = older


@kernel
def leave(r: Risk, row: int) -> None:
    """It waits no more."""
    a = r.algos[row]
    if a["pending"] != 0:
        return  # it has left already
    if is_trailing(a) and a["active"] != 0:
        _leave_group(r, row)
    else:
        _unhang(r, row)
    _refresh(r, a["symbol"])


@kernel
def _refresh(r: Risk, symbol: int) -> None:
    """Which prices matter next."""
    cells = r.algo_heaps
    base = np.int64(symbol) * ALGO_CELLS
    for working in range(2):
        up = NEVER
        down = 0
        for protect in range(2):
            kind = base + working * 4 + protect * 2
            row = cells[kind + HEAPS]
            if row != NIL:
                up = min(up, r.algo_links[row * STRIDE + PRICE + KEY])
            row = cells[kind + HEAPS + 1]
            if row != NIL:
                down = max(down, -r.algo_links[row * STRIDE + PRICE + KEY])
            row = cells[kind + TRAILS + Side.SELL]
            if row != NIL:
                up = min(up, r.algos[row]["extreme_ticks"] + 1)
            row = cells[kind + TRAILS + Side.BUY]
            if row != NIL:
                down = max(down, r.algos[row]["extreme_ticks"] - 1)
        cells[base + NEXT + 2 * working] = up
        cells[base + NEXT + 2 * working + 1] = down


@kernel
def wait(r: Risk, row: int, ticks: int) -> None:
    """A new conditional order begins to wait; `ticks` is its working price, or 0."""
    a = r.algos[row]
    if is_trailing(a):
        if a["activate_ticks"] == 0:
            follow(r, row, ticks)
        else:
            _hang(r, row, 0, 1 if a["side"] == Side.BUY else 0, a["activate_ticks"])
    else:
        up = waits_up(a["type"], a["side"])
        _hang(r, row, a["protect"], 0 if up else 1, a["trigger_ticks"])
    _refresh(r, a["symbol"])


# ---------------------------------------------------------------- prices


@inlined
def on_price(r: Risk, setup: Cells, symbol: int, working: int, ticks: int) -> None:
    """A symbol's last price or mark is `ticks` (> 0) now: propose what that reaches."""
    at = np.int64(symbol) * ALGO_CELLS
    cells = r.algo_heaps
    if (
        ticks >= cells[at + NEXT + 2 * working]
        or ticks <= cells[at + NEXT + 2 * working + 1]
        or cells[at + BLOCKED] != 0
    ):
        _look(r, setup, symbol, working, ticks)


@inlined
def _is_calm(r: Risk, symbol: int, last: int, mark: int) -> bool:
    """Whether last price and mark are near enough for what is protected."""
    share = r.contracts[symbol]["protect_ppm"]
    if share == 0:
        return True  # nothing is declared to protect from
    if last == 0 or mark == 0:
        return False
    return abs(mark - last) <= muldiv_down(mark, share, PPM)


@kernel
def _look(r: Risk, setup: Cells, symbol: int, working: int, ticks: int) -> None:
    rarely()
    cells = r.algo_heaps
    base = np.int64(symbol) * ALGO_CELLS
    for kind in range(4):
        side = kind & 1
        cell = base + TRAILS + working * 4 + kind
        top = cells[cell]
        # A new extreme; the same one again changes nothing.
        if (
            top != NIL
            and r.algos[top]["extreme_ticks"] != ticks
            and _is_passed(side, r.algos[top]["extreme_ticks"], ticks)
        ):
            _gather(r, cell, side, NIL, ticks)
    other = working_ticks(r, symbol, 1 - working)
    if working == Working.LAST:
        calm = _is_calm(r, symbol, ticks, other)
    else:
        calm = _is_calm(r, symbol, other, ticks)
    blocked = 0
    while True:
        best = NIL
        furthest = -1
        blocked = 0
        for heap in range(_KINDS):
            protect = (heap >> 1) & 1
            row = cells[base + HEAPS + heap]
            mine = heap >> 2 == working
            price = ticks if mine else other
            # What isn't protected waits for its own price alone.
            if row == NIL or price == 0 or (protect == 0 and not mine):
                continue
            key = r.algo_links[row * STRIDE + PRICE + KEY]
            past = price - key if heap & 1 == 0 else -key - price
            if past < 0:
                continue
            if protect == 1 and not calm:
                blocked = 1
                continue
            if past > furthest or (
                past == furthest and r.algos[row]["algo_id"] < r.algos[best]["algo_id"]
            ):
                best = row
                furthest = past
        if best == NIL:
            break
        a = r.algos[best]
        if is_trailing(a) and a["active"] == 0:
            _unhang(r, best)
            follow(r, best, ticks)
        else:
            leave(r, best)
            a["pending"] = 1
            proposals.put(r.proposals, setup, proposals.ALGO | best)
    cells[base + BLOCKED] = blocked
    _refresh(r, symbol)


# ---------------------------------------------------------------- rows


@inlined
def find(r: Risk, setup: Cells, algo_id: int) -> int:
    """Row of a conditional order that waits, or NIL."""
    return hashmap.get(r.algo_index, setup[ALGO_BITS], algo_id) if algo_id > 0 else NIL


@kernel
def take_row(r: Risk, setup: Cells, algo_id: int, account: int, symbol: int) -> int:
    """A row for a new conditional order, in its account's list; the caller knows there is one."""
    v = r.venue[0]
    row = v["algos_free"]
    if row != NIL:
        v["algos_free"] = r.algos[row]["next"]
    else:
        row = v["algos_used"]
        v["algos_used"] = row + 1
    a = r.algos[row]
    a["algo_id"] = algo_id
    a["account"] = account
    a["symbol"] = symbol
    a["pending"] = 0
    a["active"] = 0
    a["extreme_ticks"] = 0
    a["heap"] = NIL
    r.algo_links[row * STRIDE + ID] = algo_id
    owner = r.accounts[account]
    a["prev"] = NIL
    a["next"] = owner["first_algo"]
    if a["next"] != NIL:
        r.algos[a["next"]]["prev"] = row
    owner["first_algo"] = row
    owner["algo_count"] += 1
    r.symbols[symbol]["algo_count"] += 1
    hashmap.put(r.algo_index, setup[ALGO_BITS], algo_id, row)
    return row


@kernel
def retire(r: Risk, setup: Cells, row: int) -> None:
    """Risk has decided about it: nobody finds it any more. Its row waits for settlement."""
    a = r.algos[row]
    leave(r, row)
    owner = r.accounts[a["account"]]
    if a["prev"] != NIL:
        r.algos[a["prev"]]["next"] = a["next"]
    else:
        owner["first_algo"] = a["next"]
    if a["next"] != NIL:
        r.algos[a["next"]]["prev"] = a["prev"]
    owner["algo_count"] -= 1
    r.symbols[a["symbol"]]["algo_count"] -= 1
    a["next"] = NIL
    a["prev"] = NIL
    hashmap.remove(r.algo_index, setup[ALGO_BITS], a["algo_id"], row)


@kernel
def free_row(r: Risk, row: int) -> None:
    """Settlement has told its end."""
    a = r.algos[row]
    assert a["client"] == NIL and a["heap"] == NIL
    a["algo_id"] = 0
    a["pending"] = 0
    a["next"] = r.venue[0]["algos_free"]
    r.venue[0]["algos_free"] = row


@kernel
def count_in(r: Risk, account: int, symbol: int) -> int:
    """Conditional orders of an account in a symbol; it walks over those it has anywhere."""
    count = 0
    row = r.accounts[account]["first_algo"]
    while row != NIL:
        if r.algos[row]["symbol"] == symbol:
            count += 1
        row = r.algos[row]["next"]
    return count


@kernel
def refill(r: Risk, setup: Cells) -> None:
    """After recovery: propose again what had been reached."""
    for row in range(r.venue[0]["algos_used"]):
        if r.algos[row]["algo_id"] != 0 and r.algos[row]["pending"] != 0:
            proposals.put(r.proposals, setup, proposals.ALGO | row)


@kernel
def reindex(r: Risk, setup: Cells) -> None:
    """The index of ids, from the rows; at a CHECKPOINT every row in use waits or is proposed."""
    for row in range(r.venue[0]["algos_used"]):
        if r.algos[row]["algo_id"] != 0:
            hashmap.put(r.algo_index, setup[ALGO_BITS], r.algos[row]["algo_id"], row)
