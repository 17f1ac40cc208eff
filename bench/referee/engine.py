"""The engine's order book behind the public referee's messages and reports.

    adapter.cpp  --on_batch, on_new, on_cancel, on_modify-->  here  -->  engine/book.py

Reads   messages as the referee lays them out in memory: ME_MSG, or the order alone.
Writes  the book, through the same kernels as the match stage; one ME_REPORT per report, into the
        adapter's ring, published every so many.
Never   runs the interpreter between two messages: `prepare` hands out addresses of compiled code.

The referee's orders have ids and no owners, so what stands in front of the book here is a map from
id to row, and the per-account lists stay out of it. Everything else is the engine's: price trie,
queues, level totals, best prices.

"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from numba import cfunc, types
from numba.np.numpy_support import from_dtype

from engine.book import best_against, crosses, link, reset_shard, reset_shared, unlink
from engine.prices import NO_ASK, NO_BID, leaf_of
from engine.state import Limits, allocate, books_of, shard_tables, shared_book_tables, zeros
from shm.atomics import load_acquire, store_release
from shm.jit import inlined, kernel
from shm.pointers import Cells, Rows, RowsType
from shm.units import NIL, PRICE_TICKS_MAX

# api/matching_engine_api.h of the referee.
NEW: Final = 0
CANCEL: Final = 1
MODIFY: Final = 2
ORDER_ACK: Final = 0
TRADE: Final = 1
CANCEL_ACK: Final = 2
MODIFY_ACK: Final = 3
CANCEL_REJECT: Final = 4
MODIFY_REJECT: Final = 5

ME_ORDER = np.dtype(
    [
        ("order_id", "<i8"),
        ("sequence_number", "<i8"),
        ("price_ticks", "<i8"),
        ("quantity", "<u4"),
        ("side", "u1"),
        ("ioc", "u1"),
        ("reserved", "<u2"),
    ]
)
ME_MSG = np.dtype([("type", "<i8"), *ME_ORDER.descr])
ME_REPORT = np.dtype(
    [
        ("head", "<i8"),  # type in the lowest byte, side in the next
        ("sequence_number", "<i8"),
        ("order_id", "<i8"),
        ("price_ticks", "<i8"),
        ("quantity", "<i8"),  # 32 bits of it, then 32 that are reserved
        ("maker_order_id", "<i8"),
        ("taker_order_id", "<i8"),
        ("reserved", "<i8"),
    ]
)
assert ME_MSG.itemsize == 40 and ME_REPORT.itemsize == 64

LIMITS = Limits(
    accounts=17, assets=1, symbols=1, positions=1, orders=1 << 20, leaves=1 << 14, trie=1 << 14
)
# The referee's prices are signed; the middle of our range stands for 0.
ZERO_TICKS: Final = (PRICE_TICKS_MAX + 1) // 2

INDEX_BITS_MIN: Final = 10
INDEX_BITS_MAX: Final = 22
_GOLDEN: Final = np.int64(-7046029254386353131)  # 2^64 / phi, odd

# Cells of `state`; the adapter knows WRITTEN, READ and MASK.
WRITTEN: Final = 0  # reports the drainer may read
READ: Final = 16  # reports it has read
MASK: Final = 32  # slots of the ring - 1
NEXT: Final = 33  # reports written, published or not
ROOM: Final = 34  # reports that fit before READ must be looked at again
FREE: Final = 35  # head of the free rows, linked through NODE.next
FRESH: Final = 36  # rows from here on were never used
COUNT: Final = 37  # ids in the index
INDEX_BITS: Final = 38
INDEX_MASK: Final = 39
INDEX_BASE: Final = 40  # the half of the index in use
STATE_CELLS: Final = 64

_PUBLISH_EVERY: Final = 64


@kernel
def _publish(state: Cells) -> None:
    store_release(state, WRITTEN, state[NEXT])


@kernel
def _wait_for_room(state: Cells) -> None:
    """Until the drainer has read something; its ring is full of what we wrote."""
    _publish(state)
    slots = state[MASK] + 1
    while load_acquire(state, READ) + slots <= state[NEXT]:
        pass
    state[ROOM] = load_acquire(state, READ) + slots


@inlined
def _report(
    ring: Rows,
    state: Cells,
    kind: int,
    side: int,
    seq: int,
    order_id: int,
    price_ticks: int,
    quantity: int,
    maker_id: int,
    taker_id: int,
) -> None:
    at = state[NEXT]
    if at == state[ROOM]:
        _wait_for_room(state)
    r = ring[at & state[MASK]]
    r["head"] = kind | side << 8
    r["sequence_number"] = seq
    r["order_id"] = order_id
    r["price_ticks"] = price_ticks
    r["quantity"] = quantity
    r["maker_order_id"] = maker_id
    r["taker_order_id"] = taker_id
    r["reserved"] = 0
    state[NEXT] = at + 1
    if at & (_PUBLISH_EVERY - 1) == 0:
        store_release(state, WRITTEN, at + 1)


# ---------------------------------------------------------------- ids

# Open addressing from id to row. A cell holds 32 bits of the hash and, below, the row + 1; 0 is
# empty. It has twice to four times as many cells as orders rest: what is small stays in the cache.


@inlined
def _hash(id_: int) -> int:
    """32 bits, signed."""
    return (id_ * _GOLDEN) >> 32


@inlined
def _home(hash_: int, bits: int) -> int:
    return (hash_ & 0xFFFFFFFF) >> (32 - bits)


@inlined
def _find(nodes: Rows, index: Cells, state: Cells, id_: int) -> int:
    """Cell of a resting order's id, or NIL."""
    hash_ = _hash(id_)
    mask = state[INDEX_MASK]
    at = _home(hash_, state[INDEX_BITS])
    base = state[INDEX_BASE]
    while True:
        cell = index[base + at]
        if cell >> 32 == hash_ and nodes[(cell & 0xFFFFFFFF) - 1]["order_id"] == id_:
            return at
        if cell == 0:
            return np.int64(NIL)
        at = (at + 1) & mask


@kernel
def _grow(index: Cells, state: Cells) -> None:
    """Twice the cells, in the other half of the table."""
    base = state[INDEX_BASE]
    size = state[INDEX_MASK] + 1
    assert 4 * size <= 2 << INDEX_BITS_MAX
    other = (1 << INDEX_BITS_MAX) - base
    bits = state[INDEX_BITS] + 1
    for k in range(2 * size):
        index[other + k] = 0
    for k in range(size):
        cell = index[base + k]
        if cell != 0:
            at = _home(cell >> 32, bits)
            while index[other + at] != 0:
                at = (at + 1) & (2 * size - 1)
            index[other + at] = cell
    state[INDEX_BASE] = other
    state[INDEX_MASK] = 2 * size - 1
    state[INDEX_BITS] = bits


@inlined
def _remember(index: Cells, state: Cells, id_: int, slot: int) -> None:
    count = state[COUNT] + 1
    state[COUNT] = count
    if 2 * count > state[INDEX_MASK]:
        _grow(index, state)
    hash_ = _hash(id_)
    mask = state[INDEX_MASK]
    base = state[INDEX_BASE]
    at = _home(hash_, state[INDEX_BITS])
    while index[base + at] != 0:
        at = (at + 1) & mask
    index[base + at] = (hash_ << 32) | (slot + 1)


@inlined
def _forget(nodes: Rows, index: Cells, state: Cells, at: int, slot: int) -> None:
    """The order is gone: its id, in cell `at`, means nothing now, and its row is free."""
    mask = state[INDEX_MASK]
    base = state[INDEX_BASE]
    bits = state[INDEX_BITS]
    hole = at
    while True:
        at = (at + 1) & mask
        cell = index[base + at]
        if cell == 0:
            break
        # It may move into the hole unless its own probe starts after the hole.
        if ((at - _home(cell >> 32, bits)) & mask) >= ((at - hole) & mask):
            index[base + hole] = cell
            hole = at
    index[base + hole] = 0
    state[COUNT] -= 1
    nodes[slot]["next"] = state[FREE]
    state[FREE] = slot


@inlined
def _slot_in(index: Cells, state: Cells, at: int) -> int:
    return (index[state[INDEX_BASE] + at] & 0xFFFFFFFF) - 1


@inlined
def _row(nodes: Rows, state: Cells) -> int:
    """A free row."""
    slot = state[FREE]
    if slot == NIL:
        slot = state[FRESH]
        state[FRESH] = slot + 1
    else:
        state[FREE] = np.int64(nodes[slot]["next"])
    return slot


# ---------------------------------------------------------------- messages


@kernel
def _take(
    ring: Rows,
    state: Cells,
    index: Cells,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    seq: int,
    id_: int,
    side: int,
    limit_ticks: int,
    quantity: int,
) -> int:
    """Trade with the other side while its prices are within the limit; returns what is left."""
    price = best_against(books, 0, side)
    while quantity > 0 and crosses(price, side, limit_ticks):
        leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, 1 - side, price, 0)
        level = levels[leaf * 64 + (price & 63)]
        maker = np.int64(level["first"])
        m = nodes[maker]
        lots = min(quantity, m["open_lots"])
        quantity -= lots
        m["open_lots"] -= lots
        level["lots"] -= lots
        maker_id = m["order_id"]
        ticks = price - ZERO_TICKS
        _report(ring, state, TRADE, 0, seq, id_, ticks, lots, maker_id, id_)
        if m["open_lots"] == 0:
            unlink(
                nodes, node_levels, books, trie_bits, trie_children, leaf_bits, levels, matcher,
                maker,
            )  # fmt: skip
            _forget(nodes, index, state, _find(nodes, index, state, maker_id), maker)
            price = best_against(books, 0, side)
    return quantity


@inlined
def _new(
    ring: Rows,
    state: Cells,
    index: Cells,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    o: Any,
) -> None:
    """ACK, fills, and what is left rests or, if the order is IOC, is cancelled."""
    id_ = o["order_id"]
    seq = o["sequence_number"]
    ticks = o["price_ticks"]
    side = np.int64(o["side"])
    left = np.int64(o["quantity"])
    price = ticks + ZERO_TICKS
    _report(ring, state, ORDER_ACK, side, seq, id_, ticks, left, 0, 0)
    if crosses(best_against(books, 0, side), side, price):
        left = _take(
            ring, state, index, nodes, node_levels, books, trie_bits, trie_children,
            leaf_bits, levels, matcher, seq, id_, side, price, left,
        )  # fmt: skip
        if left == 0:
            return
    if o["ioc"] != 0:
        _report(ring, state, CANCEL_ACK, side, seq, id_, ticks, left, 0, 0)
        return
    slot = _row(nodes, state)
    m = nodes[slot]
    m["order_id"] = id_
    m["symbol"] = 0
    m["side"] = side
    _remember(index, state, id_, slot)
    rests = link(
        nodes, node_levels, books, trie_bits, trie_children, leaf_bits, levels, matcher,
        slot, 0, side, price, left,
    )  # fmt: skip
    assert rests


@inlined
def _cancel(
    ring: Rows,
    state: Cells,
    index: Cells,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    o: Any,
) -> None:
    id_ = o["order_id"]
    seq = o["sequence_number"]
    at = _find(nodes, index, state, id_)
    if at == NIL:
        _report(ring, state, CANCEL_REJECT, 0, seq, id_, 0, 0, 0, 0)
        return
    slot = _slot_in(index, state, at)
    m = nodes[slot]
    ticks = m["price_ticks"] - ZERO_TICKS
    _report(
        ring, state, CANCEL_ACK, np.int64(m["side"]), seq, id_, ticks, m["open_lots"], 0, 0
    )  # fmt: skip
    unlink(
        nodes, node_levels, books, trie_bits, trie_children, leaf_bits, levels, matcher, slot
    )  # fmt: skip
    _forget(nodes, index, state, at, slot)


@inlined
def _modify(
    ring: Rows,
    state: Cells,
    index: Cells,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    o: Any,
) -> None:
    """Out of the queue, ACK, fills at the new price, and what is left to the end of its queue."""
    id_ = o["order_id"]
    seq = o["sequence_number"]
    at = _find(nodes, index, state, id_)
    if at == NIL:
        _report(ring, state, MODIFY_REJECT, 0, seq, id_, 0, 0, 0, 0)
        return
    slot = _slot_in(index, state, at)
    ticks = o["price_ticks"]
    left = np.int64(o["quantity"])
    side = np.int64(nodes[slot]["side"])
    price = ticks + ZERO_TICKS
    _report(ring, state, MODIFY_ACK, side, seq, id_, ticks, left, 0, 0)
    unlink(
        nodes, node_levels, books, trie_bits, trie_children, leaf_bits, levels, matcher, slot
    )  # fmt: skip
    if crosses(best_against(books, 0, side), side, price):
        left = _take(
            ring, state, index, nodes, node_levels, books, trie_bits, trie_children,
            leaf_bits, levels, matcher, seq, id_, side, price, left,
        )  # fmt: skip
        if left == 0:
            _forget(nodes, index, state, at, slot)
            return
    rests = link(
        nodes, node_levels, books, trie_bits, trie_children, leaf_bits, levels, matcher,
        slot, 0, side, price, left,
    )  # fmt: skip
    assert rests


# ---------------------------------------------------------------- what the adapter calls

# Each takes its own arguments, then every table in the order of `Prepared.tables`.


def _batch(
    messages: Rows, count: int, ring: Rows, state: Cells, index: Cells,
    nodes: Rows, node_levels: Cells, books: Rows, trie_bits: Cells, trie_children: Cells,
    leaf_bits: Cells, levels: Rows, matcher: Cells,
) -> None:  # fmt: skip
    for k in range(count):
        o = messages[k]
        if o["type"] & 255 == NEW:
            _new(ring, state, index, nodes, node_levels, books, trie_bits,
                 trie_children, leaf_bits, levels, matcher, o)  # fmt: skip
        elif o["type"] & 255 == CANCEL:
            _cancel(ring, state, index, nodes, node_levels, books, trie_bits,
                    trie_children, leaf_bits, levels, matcher, o)  # fmt: skip
        else:
            _modify(ring, state, index, nodes, node_levels, books, trie_bits,
                    trie_children, leaf_bits, levels, matcher, o)  # fmt: skip


def _on_new(
    message: Rows, unused: int, ring: Rows, state: Cells, index: Cells,
    nodes: Rows, node_levels: Cells, books: Rows, trie_bits: Cells, trie_children: Cells,
    leaf_bits: Cells, levels: Rows, matcher: Cells,
) -> None:  # fmt: skip
    _new(ring, state, index, nodes, node_levels, books, trie_bits,
         trie_children, leaf_bits, levels, matcher, message[0])  # fmt: skip


def _on_cancel(
    message: Rows, unused: int, ring: Rows, state: Cells, index: Cells,
    nodes: Rows, node_levels: Cells, books: Rows, trie_bits: Cells, trie_children: Cells,
    leaf_bits: Cells, levels: Rows, matcher: Cells,
) -> None:  # fmt: skip
    _cancel(ring, state, index, nodes, node_levels, books, trie_bits,
            trie_children, leaf_bits, levels, matcher, message[0])  # fmt: skip


def _on_modify(
    message: Rows, unused: int, ring: Rows, state: Cells, index: Cells,
    nodes: Rows, node_levels: Cells, books: Rows, trie_bits: Cells, trie_children: Cells,
    leaf_bits: Cells, levels: Rows, matcher: Cells,
) -> None:  # fmt: skip
    _modify(ring, state, index, nodes, node_levels, books, trie_bits,
            trie_children, leaf_bits, levels, matcher, message[0])  # fmt: skip


def _best(
    side: int, unused: int, ring: Rows, state: Cells, index: Cells,
    nodes: Rows, node_levels: Cells, books: Rows, trie_bits: Cells, trie_children: Cells,
    leaf_bits: Cells, levels: Rows, matcher: Cells,
) -> int:  # fmt: skip
    """The best price of a side in the referee's ticks, or the int64 limit that says none."""
    price = best_against(books, 0, 1 - side)
    if price == NO_BID:
        return np.int64(-(1 << 63))
    if price == NO_ASK:
        return np.int64((1 << 63) - 1)
    return price - ZERO_TICKS


def _depth(
    ticks: int, side: int, ring: Rows, state: Cells, index: Cells,
    nodes: Rows, node_levels: Cells, books: Rows, trie_bits: Cells, trie_children: Cells,
    leaf_bits: Cells, levels: Rows, matcher: Cells,
) -> int:  # fmt: skip
    """Open lots at one price of a side."""
    price = ticks + ZERO_TICKS
    if price < 1 or price > PRICE_TICKS_MAX:
        return 0
    leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, side, price, 0)
    return levels[leaf * 64 + (price & 63)]["lots"] if leaf != NIL else 0


class Prepared:
    """Tables, and compiled functions over them, kept alive while the adapter calls."""

    def __init__(self, ring: int, state: int, slots: int) -> None:
        self.state = _memory_at(state, STATE_CELLS, np.dtype(np.int64))
        self.arrays = allocate((*shared_book_tables(LIMITS), *shard_tables(LIMITS)))
        self.tables = [
            _memory_at(ring, slots, ME_REPORT),
            self.state,
            zeros(2 << INDEX_BITS_MAX, np.dtype(np.int64)),
            *(self.arrays[name] for name in ("nodes", "node_levels", "books")),
            *(self.arrays[name] for name in ("trie_bits", "trie_children", "leaf_bits")),
            *(self.arrays[name] for name in ("levels", "matcher")),
        ]
        books = books_of(self.arrays)
        reset_shared(books, LIMITS)
        reset_shard(books, LIMITS)
        self.state[ROOM] = slots
        self.state[MASK] = slots - 1
        self.state[FREE] = NIL
        self.state[INDEX_BITS] = INDEX_BITS_MIN
        self.state[INDEX_MASK] = (1 << INDEX_BITS_MIN) - 1
        message, order = (RowsType(from_dtype(dtype)) for dtype in (ME_MSG, ME_ORDER))
        self.functions = [
            self._compiled(types.void, message, _batch),
            self._compiled(types.void, order, _on_new),
            self._compiled(types.void, order, _on_cancel),
            self._compiled(types.void, order, _on_modify),
            self._compiled(types.int64, types.int64, _best),
            self._compiled(types.int64, types.int64, _depth),
        ]

    def _compiled(self, returns: Any, first: Any, body: Any) -> Any:
        rest = (RowsType(from_dtype(array.dtype)) for array in self.tables)
        signature = returns(first, types.int64, *rest)
        return cfunc(signature, cache=True, error_model="numpy")(body)

    def addresses(self) -> tuple[int, ...]:
        """Of the functions, then of the tables."""
        functions = [function.address for function in self.functions]
        return (*functions, *(array.ctypes.data for array in self.tables))


def _memory_at(address: int, rows: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The adapter's memory as an array."""
    size_bytes = rows * dtype.itemsize
    memory: Any = (ctypes.c_char * size_bytes).from_address(address)
    return np.frombuffer(memory, dtype)


_kept: list[Prepared] = []


def prepare(ring: int, state: int, slots: int) -> tuple[int, ...]:
    """Called once by adapter.cpp: an empty book, and where everything is."""
    _kept.append(Prepared(ring, state, slots))
    return _kept[-1].addresses()
