"""The engine's order book behind the public referee's messages and reports.

    adapter.cpp  --on_batch, on_new, on_cancel, on_modify-->  here  -->  engine/book.py

Reads   messages as the referee lays them out in memory: ME_MSG, or the order alone.
Writes  the book, through the same kernels as the match stage; one ME_REPORT per report, into the
        adapter's ring, published every so many.
Never   runs the interpreter between two messages: `prepare` hands out addresses of compiled code.

The referee's orders have ids and no owners, so what stands in front of the book here is a map from
id to row, and the per-account lists stay out of it. Everything else is the engine's: price trie,
queues, level totals, best prices.

A function the adapter calls takes one pointer to everything, `t`: a table of addresses. Twelve
pointers a call would cost as much as finding an order does.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from engine.book import best_against, crosses, link, reset_shard, reset_shared, unlink
from engine.prices import NO_ASK, NO_BID, leaf_of
from engine.state import Limits, allocate, books_of, shard_tables, shared_book_tables, zeros
from shm import records
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
ME_MSG = np.dtype([("type", "u1"), ("padding", "7u1"), *ME_ORDER.descr])
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

# Cells of `state`; the adapter knows WRITTEN, READ, MASK and NEXT.
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

# ---------------------------------------------------------------- tables, from one pointer

TABLES: dict[str, np.dtype[Any]] = {
    "ring": ME_REPORT,
    "state": np.dtype(np.int64),
    "index": np.dtype(np.int64),
    "nodes": records.NODE.dtype,
    "node_levels": np.dtype(np.int64),
    "books": records.BOOK.dtype,
    "trie_bits": np.dtype(np.int64),
    "trie_children": np.dtype(np.int64),
    "leaf_bits": np.dtype(np.int64),
    "levels": records.LEVEL.dtype,
    "matcher": np.dtype(np.int64),
}


def _table(name: str) -> Any:
    """An intrinsic that takes table `name` out of `t`."""
    place = list(TABLES).index(name)
    rows = RowsType(from_dtype(TABLES[name]))

    @intrinsic  # type: ignore[untyped-decorator]
    def get(typingctx: Any, t: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            cell = builder.gep(args[0], [ir.Constant(ir.IntType(64), place)], inbounds=True)
            address = builder.load(cell)
            # Nobody writes to `t`: no store needs the address to be loaded again.
            address.set_metadata("invariant.load", builder.module.add_metadata([]))
            return builder.inttoptr(address, context.get_value_type(rows))

        return rows(t), codegen

    return get


_ring = _table("ring")
_state = _table("state")
_index = _table("index")
_nodes = _table("nodes")
_node_levels = _table("node_levels")
_books = _table("books")
_trie_bits = _table("trie_bits")
_trie_children = _table("trie_children")
_leaf_bits = _table("leaf_bits")
_levels = _table("levels")
_matcher = _table("matcher")


# ---------------------------------------------------------------- reports


@kernel
def _wait_for_room(state: Cells) -> None:
    """Until the drainer has read something: its ring is full of what we wrote."""
    store_release(state, WRITTEN, state[NEXT])
    slots = state[MASK] + 1
    while load_acquire(state, READ) + slots <= state[NEXT]:
        pass
    state[ROOM] = load_acquire(state, READ) + slots


@inlined
def _report(
    t: Cells,
    kind: int,
    side: int,
    seq: int,
    order_id: int,
    price_ticks: int,
    quantity: int,
    maker_id: int,
    taker_id: int,
) -> None:
    state = _state(t)
    at = state[NEXT]
    if at == state[ROOM]:
        _wait_for_room(state)
    r = _ring(t)[at & state[MASK]]
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
def _find(t: Cells, id_: int) -> int:
    """Cell of a resting order's id, or NIL."""
    state = _state(t)
    index = _index(t)
    nodes = _nodes(t)
    hash_ = _hash(id_)
    mask = state[INDEX_MASK]
    at = _home(hash_, state[INDEX_BITS])
    base = state[INDEX_BASE]
    while True:
        cell = index[base + at]
        if cell == 0:
            return np.int64(NIL)
        if cell >> 32 == hash_ and nodes[(cell & 0xFFFFFFFF) - 1]["order_id"] == id_:
            return at
        at = (at + 1) & mask


@inlined
def _row_of(t: Cells, at: int) -> int:
    """The row that cell `at` names."""
    return (_index(t)[_state(t)[INDEX_BASE] + at] & 0xFFFFFFFF) - 1


@kernel
def _grow(index: Cells, state: Cells) -> None:
    """Twice the cells, in the other half of the table."""
    base = state[INDEX_BASE]
    size = state[INDEX_MASK] + 1
    bits = state[INDEX_BITS] + 1
    assert bits <= INDEX_BITS_MAX
    other = (1 << INDEX_BITS_MAX) - base
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
def _remember(t: Cells, id_: int, slot: int) -> None:
    state = _state(t)
    index = _index(t)
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
def _forget(t: Cells, at: int, slot: int) -> None:
    """The order is gone: its id, in cell `at`, means nothing now, and its row is free."""
    state = _state(t)
    index = _index(t)
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
    _nodes(t)[slot]["next"] = state[FREE]
    state[FREE] = slot


@inlined
def _free_row(t: Cells) -> int:
    state = _state(t)
    slot = state[FREE]
    if slot == NIL:
        slot = state[FRESH]
        state[FRESH] = slot + 1
    else:
        state[FREE] = np.int64(_nodes(t)[slot]["next"])
    return slot


# ---------------------------------------------------------------- the book


@inlined
def _link(t: Cells, slot: int, side: int, price: int, lots: int) -> None:
    rests = link(
        _nodes(t),
        _node_levels(t),
        _books(t),
        _trie_bits(t),
        _trie_children(t),
        _leaf_bits(t),
        _levels(t),
        _matcher(t),
        slot,
        0,
        side,
        price,
        lots,
    )
    assert rests


@inlined
def _unlink(t: Cells, slot: int) -> None:
    unlink(
        _nodes(t),
        _node_levels(t),
        _books(t),
        _trie_bits(t),
        _trie_children(t),
        _leaf_bits(t),
        _levels(t),
        _matcher(t),
        slot,
    )


@inlined
def _leaf_of(t: Cells, side: int, price: int) -> int:
    return leaf_of(
        _matcher(t), _trie_bits(t), _trie_children(t), _leaf_bits(t), side, price, 0
    )  # fmt: skip


@kernel
def _take(t: Cells, seq: int, id_: int, side: int, limit_ticks: int, quantity: int) -> int:
    """Trade with the other side while its prices are within the limit; returns what is left."""
    books = _books(t)
    levels = _levels(t)
    nodes = _nodes(t)
    price = best_against(books, 0, side)
    while quantity > 0 and crosses(price, side, limit_ticks):
        level = levels[_leaf_of(t, 1 - side, price) * 64 + (price & 63)]
        maker = np.int64(level["first"])
        m = nodes[maker]
        lots = min(quantity, m["open_lots"])
        quantity -= lots
        m["open_lots"] -= lots
        level["lots"] -= lots
        maker_id = m["order_id"]
        _report(t, TRADE, 0, seq, id_, price - ZERO_TICKS, lots, maker_id, id_)
        if m["open_lots"] == 0:
            _unlink(t, maker)
            _forget(t, _find(t, maker_id), maker)
            price = best_against(books, 0, side)
    return quantity


# ---------------------------------------------------------------- messages


@inlined
def _new(t: Cells, o: Any) -> None:
    """ACK, fills, and what is left rests or, if the order is IOC, is cancelled."""
    id_ = o["order_id"]
    seq = o["sequence_number"]
    ticks = o["price_ticks"]
    side = np.int64(o["side"])
    left = np.int64(o["quantity"])
    price = ticks + ZERO_TICKS
    _report(t, ORDER_ACK, side, seq, id_, ticks, left, 0, 0)
    if crosses(best_against(_books(t), 0, side), side, price):
        left = _take(t, seq, id_, side, price, left)
        if left == 0:
            return
    if o["ioc"] != 0:
        _report(t, CANCEL_ACK, side, seq, id_, ticks, left, 0, 0)
        return
    slot = _free_row(t)
    m = _nodes(t)[slot]
    m["order_id"] = id_
    m["symbol"] = 0
    m["side"] = side
    _remember(t, id_, slot)
    _link(t, slot, side, price, left)


@inlined
def _cancel(t: Cells, o: Any) -> None:
    id_ = o["order_id"]
    seq = o["sequence_number"]
    at = _find(t, id_)
    if at == NIL:
        _report(t, CANCEL_REJECT, 0, seq, id_, 0, 0, 0, 0)
        return
    slot = _row_of(t, at)
    m = _nodes(t)[slot]
    ticks = m["price_ticks"] - ZERO_TICKS
    _report(t, CANCEL_ACK, np.int64(m["side"]), seq, id_, ticks, m["open_lots"], 0, 0)
    _unlink(t, slot)
    _forget(t, at, slot)


@inlined
def _modify(t: Cells, o: Any) -> None:
    """Out of the queue, ACK, fills at the new price, and what is left to the end of its queue."""
    id_ = o["order_id"]
    seq = o["sequence_number"]
    at = _find(t, id_)
    if at == NIL:
        _report(t, MODIFY_REJECT, 0, seq, id_, 0, 0, 0, 0)
        return
    slot = _row_of(t, at)
    ticks = o["price_ticks"]
    left = np.int64(o["quantity"])
    side = np.int64(_nodes(t)[slot]["side"])
    price = ticks + ZERO_TICKS
    _report(t, MODIFY_ACK, side, seq, id_, ticks, left, 0, 0)
    _unlink(t, slot)
    if crosses(best_against(_books(t), 0, side), side, price):
        left = _take(t, seq, id_, side, price, left)
        if left == 0:
            # Where its id is now: the makers' that went may have moved it.
            _forget(t, _find(t, id_), slot)
            return
    _link(t, slot, side, price, left)


# ---------------------------------------------------------------- what the adapter calls


def _on_batch(messages: Rows, count: int, t: Cells) -> None:
    for k in range(count):
        o = messages[k]
        if o["type"] == NEW:
            _new(t, o)
        elif o["type"] == CANCEL:
            _cancel(t, o)
        else:
            _modify(t, o)


def _on_new(order: Rows, t: Cells) -> None:
    _new(t, order[0])


def _on_cancel(order: Rows, t: Cells) -> None:
    _cancel(t, order[0])


def _on_modify(order: Rows, t: Cells) -> None:
    _modify(t, order[0])


def _best(side: int, t: Cells) -> int:
    """The best price of a side in the referee's ticks, or the int64 limit that says none."""
    price = best_against(_books(t), 0, 1 - side)
    if price == NO_BID:
        return np.int64(-(1 << 63))
    if price == NO_ASK:
        return np.int64((1 << 63) - 1)
    return price - ZERO_TICKS


def _depth(ticks: int, side: int, t: Cells) -> int:
    """Open lots at one price of a side."""
    price = ticks + ZERO_TICKS
    if price < 1 or price > PRICE_TICKS_MAX:
        return 0
    leaf = _leaf_of(t, side, price)
    return _levels(t)[leaf * 64 + (price & 63)]["lots"] if leaf != NIL else 0


class Prepared:
    """Tables, and compiled functions over them, kept alive while the adapter calls."""

    def __init__(self, ring: int, state: int, slots: int) -> None:
        self.state = _memory_at(state, STATE_CELLS, np.dtype(np.int64))
        self.arrays = allocate((*shared_book_tables(LIMITS), *shard_tables(LIMITS)))
        books = books_of(self.arrays)
        reset_shared(books, LIMITS)
        reset_shard(books, LIMITS)
        self.arrays["ring"] = _memory_at(ring, slots, ME_REPORT)
        self.arrays["state"] = self.state
        self.arrays["index"] = zeros(2 << INDEX_BITS_MAX, np.dtype(np.int64))
        self.state[ROOM] = slots
        self.state[MASK] = slots - 1
        self.state[FREE] = NIL
        self.state[INDEX_BITS] = INDEX_BITS_MIN
        self.state[INDEX_MASK] = (1 << INDEX_BITS_MIN) - 1
        self.table = np.array([self.arrays[name].ctypes.data for name in TABLES])
        message, order = (RowsType(from_dtype(dtype)) for dtype in (ME_MSG, ME_ORDER))
        number, t = types.int64, RowsType(types.int64)
        self.functions = [
            _compiled(types.void(message, number, t), _on_batch),
            _compiled(types.void(order, t), _on_new),
            _compiled(types.void(order, t), _on_cancel),
            _compiled(types.void(order, t), _on_modify),
            _compiled(number(number, t), _best),
            _compiled(number(number, number, t), _depth),
        ]

    def addresses(self) -> tuple[int, ...]:
        """Of the functions, and of the table of tables."""
        functions = (function.address for function in self.functions)
        return (*functions, self.table.ctypes.data)


def _compiled(signature: Any, body: Any) -> Any:
    return cfunc(signature, cache=True, error_model="numpy")(body)


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
