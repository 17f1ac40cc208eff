"""Runs the match stage of every shard on private arrays, with a reader that settles nothing.

    rig = Rig(shards=2, ring=16)
    events = rig.run(commands)      # per command: what each shard wrote about it

`check_laws` walks every table and asserts what engine/book.py and engine/prices.py promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.book import rebuild_shard, rebuild_shared, reset_shard, reset_shared
from engine.matching import match_shard
from engine.prices import (
    CHILDREN,
    INNER,
    LEAF_FREE,
    LEAF_FRESH,
    LEAF_LEFT,
    LEAF_LINKS,
    NO_ASK,
    NO_BID,
    NODE_LINKS,
    ROOT,
    ROOTS,
    TAKING,
    TRIE_FREE,
    TRIE_FRESH,
    TRIE_LEFT,
)
from engine.state import (
    FINGERS,
    MATCHER_CELLS,
    Limits,
    allocate,
    books_of,
    shard_tables,
    shared_book_tables,
)
from shm.codes import Kind, NodeState, Reason, Route, Side, Stp, Tif, Type
from shm.cursors import CURSOR_CELLS, RISKED, matched, matches_read, matches_written
from shm.pointers import table
from shm.records import COMMAND, MATCH
from shm.units import NIL

SMALL = Limits(accounts=32, symbols=6, positions=192, orders=512, leaves=600, trie=600)
COMMANDS = 64  # slots of the commands ring

EVENT = (
    *("kind", "symbol", "slot", "price_ticks", "lots", "open_lots"),
    *("maker", "maker_open_lots", "trade_id", "reason"),
)
DEFAULTS = {
    "kind": Kind.PLACE,
    "slot": NIL,
    "position": NIL,
    "account": 20,
    "symbol": 0,
    "side": Side.BUY,
    "type": Type.LIMIT,
    "flags": 0,
    "decided_order_id": 0,
    "limit_ticks": 0,
    "decided_lots": 0,
    "route": Route.SHARD,
    "order_tif": Tif.GTC,
    "order_stp": Stp.NONE,
    "end_reason": Reason.USER_CANCEL,
}


def command(**fields: Any) -> dict[str, Any]:
    """A command as risk would hand it on."""
    assert fields.keys() <= DEFAULTS.keys()
    return {**DEFAULTS, **fields}


def position_of(account: int, symbol: int, limits: Limits = SMALL) -> int:
    """The POSITION row of (account, symbol): here every pair has one, in an order of no use."""
    return (account * limits.symbols + symbol) * 7 % limits.positions


class Rig:
    def __init__(
        self, limits: Limits = SMALL, *, shards: int = 1, ring: int = 1024, budget: int = 1000
    ) -> None:
        self.limits, self.shards, self.ring, self.budget = limits, shards, ring, budget
        self.shared = allocate(shared_book_tables(limits))
        self.own = [allocate(shard_tables(limits)) for _ in range(shards)]
        self.books = [books_of({**self.shared, **own}) for own in self.own]
        self.matches = [np.zeros(ring, MATCH.dtype) for _ in range(shards)]
        self.commands = np.zeros(COMMANDS, COMMAND.dtype)
        self.cursors = np.zeros(CURSOR_CELLS, np.int64)
        self.seq = 0
        self.steps = 0
        reset_shared(self.books[0], limits)
        for books in self.books:
            reset_shard(books, limits)

    def rebuilt(self, shards: int, **sizes: int) -> Rig:
        """A new rig with the orders of this one, made from what a snapshot keeps."""
        other = Rig(self.limits, shards=shards, **sizes)
        for name in ("nodes", "books"):
            other.shared[name][:] = self.shared[name]
        rebuild_shared(other.books[0], self.limits)
        for shard, books in enumerate(other.books):
            rebuild_shard(books, self.limits, shard, shards)
        return other

    def step(self, shard: int) -> int:
        """One call of the stage, as a worker would make it."""
        self.steps += 1
        return int(
            match_shard(
                table(self.cursors),
                table(self.commands),
                table(self.matches[shard]),
                self.books[shard],
                shard,
                self.shards,
                COMMANDS - 1,
                self.ring - 1,
                matched(shard),
                matches_written(shard),
                matches_read(shard),
                self.budget,
            )
        )

    def drain(self, shard: int) -> Iterable[Any]:
        """What the shard has published since; the slots are free again afterwards."""
        read = int(self.cursors[matches_read(shard)])
        written = int(self.cursors[matches_written(shard)])
        assert written - read <= self.ring
        for at in range(read, written):
            yield self.matches[shard][at % self.ring].copy()
            self.matches[shard][at % self.ring] = 0
        self.cursors[matches_read(shard)] = written

    def run(self, commands: list[dict[str, Any]]) -> list[list[list[tuple[int, ...]]]]:
        """Match them all; result[command][shard] is a list of tuples as Twin.apply gives."""
        results: list[list[list[tuple[int, ...]]]] = []
        for start in range(0, len(commands), COMMANDS):
            batch = commands[start : start + COMMANDS]
            first = self.seq + 1
            for c in batch:
                self.seq += 1
                row = self.commands[self.seq % COMMANDS]
                row["seq"] = self.seq
                for name, value in c.items():
                    row[name] = value
                results.append([[] for _ in range(self.shards)])
            self.cursors[RISKED] = self.seq
            for shard in range(self.shards):
                self._run_shard(shard, first, results[start:])
        return results

    def _run_shard(self, shard: int, first: int, results: list[Any]) -> None:
        ended: set[int] = set()
        reported = first - 1
        while self.cursors[matched(shard)] < self.seq:
            before = int(self.cursors[matched(shard)])
            assert self.step(shard) > 0, "no progress although every record was read"
            for r in self.drain(shard):
                seq = int(r["seq"])
                assert seq >= reported and seq not in ended, "out of order, or after the last"
                reported = seq
                results[seq - first][shard].append(event_of(r))
                if r["last"]:
                    ended.add(seq)
            assert before <= self.cursors[matched(shard)] <= self.seq
        silent = {first + k for k, events in enumerate(results) if not events[shard]}
        assert ended | silent == set(range(first, self.seq + 1)), "a command without a last record"


def event_of(r: Any) -> tuple[int, ...]:
    """A MATCH record as the twin gives it: without seq, last and reserved."""
    assert not r["reserved"].any()
    return tuple(int(r[name]) for name in EVENT)


# ---------------------------------------------------------------- laws


def check_laws(rig: Rig) -> None:
    """Assert every invariant of the price tries, queues, totals and lists, over all shards."""
    nodes, mine = rig.shared["nodes"], rig.shared["mine"]
    live = {int(s) for s in np.flatnonzero(nodes["state"] == NodeState.LIVE)}
    queued: set[int] = set()
    for shard, own in enumerate(rig.own):
        leaves_used = nodes_used = 0
        found: dict[int, int] = {}  # finger key -> leaf
        for row in range(2 * rig.limits.symbols):
            symbol, side = row >> 1, row & 1
            root = int(own["matcher"][ROOTS + row])
            if symbol % rig.shards != shard:
                assert root == NIL
                continue
            leaves, inner = _trie(own, row)
            leaves_used += len(leaves)
            found |= {(row << 6 * INNER) | part: leaf for part, leaf in leaves.items()}
            nodes_used += inner
            slots = _side(rig, own, leaves, symbol, side)
            assert not slots & queued
            queued |= slots
        fingers = own["matcher"][MATCHER_CELLS : MATCHER_CELLS + 2 * FINGERS].tolist()
        for key, leaf in zip(fingers[::2], fingers[1::2], strict=True):
            assert key == NIL or found[key] == leaf
        _free_lists(rig, own, leaves_used, nodes_used)
        for account in range(rig.limits.accounts):
            _account(rig, own, mine, account, shard)
        assert own["matcher"][TAKING] == 0
    assert queued == live
    listed = [s for p in range(rig.limits.positions) for s in _mine(nodes, mine[p])]
    assert sorted(listed) == sorted(live)
    for position in range(rig.limits.positions):
        for slot in _mine(nodes, mine[position]):
            assert nodes[slot]["position"] == position
            assert nodes[slot]["symbol"] == mine[position]["symbol"]


def _bits(word: int) -> list[int]:
    return [k for k in range(64) if (int(word) >> k) & 1]


def _trie(own: dict[str, Any], row: int) -> tuple[dict[int, int], int]:
    """({price >> 6: leaf}, inner nodes) of a book side."""
    m = own["matcher"]
    root = int(m[ROOTS + row])
    level = {0: root} if root != NIL else {}
    if root != NIL:
        assert m[m[NODE_LINKS] + root] == ROOT + row
    inner = 0
    for step in range(INNER):
        inner += len(level)
        bits, links = own["trie_bits"], m[NODE_LINKS]
        if step == INNER - 1:
            bits, links = own["leaf_bits"], m[LEAF_LINKS]
        below: dict[int, int] = {}
        for part, node in level.items():
            digits = _bits(m[m[CHILDREN] + node])
            assert digits, "an inner node without children"
            for digit in digits:
                child = int(own["trie_children"][node * 64 + digit])
                assert m[links + child] == node * 64 + digit
                below[part * 64 + digit] = child
            seen = [d for d in digits if bits[below[part * 64 + d]] != 0]
            assert _bits(own["trie_bits"][node]) == seen
        level = below
    assert len(set(level.values())) == len(level)
    return level, inner


def _side(
    rig: Rig, own: dict[str, Any], leaves: dict[int, int], symbol: int, side: int
) -> set[int]:
    nodes = rig.shared["nodes"]
    slots: list[int] = []
    prices: list[int] = []
    for part, leaf in leaves.items():
        ticks = _bits(own["leaf_bits"][leaf])
        empty = np.ones(64, np.bool_)
        empty[ticks] = False
        assert not own["levels"]["lots"][leaf * 64 : leaf * 64 + 64][empty].any()
        for tick in ticks:
            level_row = leaf * 64 + tick
            level = own["levels"][level_row]
            price = part * 64 + tick
            prices.append(price)
            queue = []
            previous, slot = NIL, int(level["first"])
            while slot != NIL:
                o = nodes[slot]
                assert o["state"] == NodeState.LIVE and o["open_lots"] > 0
                assert (o["symbol"], o["side"], o["price_ticks"]) == (symbol, side, price)
                assert o["prev"] == previous
                assert rig.shared["node_levels"][slot] == level_row
                queue.append(slot)
                previous, slot = slot, int(o["next"])
            assert queue and level["last"] == queue[-1]
            assert level["lots"] == nodes["open_lots"][queue].sum()
            slots += queue
    book = rig.shared["books"][symbol]
    if side == Side.BUY:
        assert book["best_bid"] == max(prices, default=NO_BID)
        assert book["bid_orders"] == len(slots)
    else:
        assert book["best_ask"] == min(prices, default=NO_ASK)
        assert book["ask_orders"] == len(slots)
    return set(slots)


def _free_lists(rig: Rig, own: dict[str, Any], leaves_used: int, nodes_used: int) -> None:
    """Every leaf and inner node is in use, in the free list or was never used."""
    m = own["matcher"]
    assert m[LEAF_LEFT] == rig.limits.leaves - leaves_used
    assert m[TRIE_LEFT] == rig.limits.trie - nodes_used
    free, leaf = 0, int(m[LEAF_FREE])
    while leaf != NIL:
        assert not own["levels"]["lots"][leaf * 64 : leaf * 64 + 64].any()
        free, leaf = free + 1, -2 - int(m[m[LEAF_LINKS] + leaf])
    assert free == m[LEAF_FRESH] - leaves_used
    free, node = 0, int(m[TRIE_FREE])
    while node != NIL:
        free, node = free + 1, -2 - int(m[m[NODE_LINKS] + node])
    assert free == m[TRIE_FRESH] - nodes_used


def _account(rig: Rig, own: dict[str, Any], mine: Any, account: int, shard: int) -> None:
    """The rows of an account are its own, of this shard, by rising symbol."""
    row, before = int(own["mine_heads"][account]), -1
    while row != NIL:
        symbol = int(mine[row]["symbol"])
        assert symbol > before and symbol % rig.shards == shard
        assert row == position_of(account, symbol, rig.limits)
        row, before = int(mine[row]["next_position"]), symbol


def _mine(nodes: Any, m: Any) -> list[int]:
    if m["symbol"] == NIL:
        return []
    slots, previous, slot = [], NIL, int(m["first"])
    while slot != NIL:
        assert nodes[slot]["mine_prev"] == previous
        slots.append(slot)
        previous, slot = slot, int(nodes[slot]["mine_next"])
    assert m["last"] == (slots[-1] if slots else NIL)
    return slots
