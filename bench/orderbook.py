"""What one command costs the order book, on the stream other engines publish their figures for.

    python -m bench.orderbook             nine passes over each stream
    python -m bench.orderbook --smoke     seconds, for the tests

Measured: one thread takes each line of a stream from an array, finds the order's row by its id
(open-addressing hash), writes the COMMAND slot as risk would, matches a batch with the engine's
own match stage (price trie, queues, per-account lists), which writes a MATCH record for every fill,
rest, end and amend, and reads those records to free the rows and ids of orders that are gone.
Not measured: making the stream, risk, settlement, sockets, disk.

A run that does not give exchange-core's 122,704 trades and 1,062,983 lots fails.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from bench import harness
from bench.workload import (
    COMMANDS,
    LOTS,
    TRADES,
    Ask,
    Stream,
    exchange_core,
    many_resting,
)
from engine import hashmap
from engine.book import reset_shard, reset_shared
from engine.matching import match_commands
from engine.state import (
    Books,
    Limits,
    allocate,
    books_of,
    power_of_two,
    shard_tables,
    shared_book_tables,
    zeros,
)
from shm.atomics import prefetch
from shm.codes import Flag, Kind, MatchKind, Reason, Route, Tif
from shm.cursors import CURSOR_CELLS, RISKED, matched, matches_read, matches_written
from shm.jit import BOUNDSCHECK, PLAIN, kernel
from shm.pointers import Cells, Rows, table
from shm.records import COMMAND, MATCH
from shm.units import NIL

_BATCH: Final = 128  # commands a stage takes at a time, and slots of the commands ring
_MATCHES: Final = 1024
_MATCHED: Final = matched(0)
_WRITTEN: Final = matches_written(0)
_READ: Final = matches_read(0)
_AHEAD: Final = 8  # lines between asking for an id's hash entry and looking at it
_MOVE: Final = int(Flag.KEEP_QTY | Flag.TO_BACK)

# Cells of `state`: what the driver keeps between two calls.
_FREE: Final = 0  # head of the free rows, linked through `next_free`
_TRADES: Final = 1
_LOTS: Final = 2
_REFUSED: Final = 3
_RESTING: Final = 4
STATE_CELLS: Final = 8


class Tables(NamedTuple):
    """All that a run touches."""

    stream: Rows
    cursors: Cells
    commands: Rows
    matches: Rows
    index: Cells  # order id -> row
    next_free: Cells
    state: Cells
    books: Books


@kernel
def _ask(
    stream: Rows,
    cursors: Cells,
    commands: Rows,
    index: Cells,
    bits: int,
    next_free: Cells,
    state: Cells,
    first: int,
    count: int,
) -> None:
    """Lines first .. first + count - 1 of the stream as commands that risk let through."""
    seq = cursors[RISKED]
    end = first + count
    for k in range(first, end):
        seq += 1
        ahead = stream[min(k + _AHEAD, end - 1)]["id"]
        prefetch(index, 2 * hashmap.home(ahead, bits))
        s = stream[k]
        c = commands[seq & (_BATCH - 1)]
        id_ = s["id"]
        ask = s["ask"]
        c["seq"] = seq
        c["decided_order_id"] = id_
        c["limit_ticks"] = s["price_ticks"]
        c["decided_lots"] = s["lots"]
        c["order_tif"] = Tif.GTC
        c["flags"] = 0
        if ask <= Ask.FOK:
            slot = state[_FREE]
            state[_FREE] = next_free[slot]
            hashmap.put(index, bits, id_, slot)
            c["kind"] = Kind.PLACE
            c["account"] = s["account"]
            c["position"] = s["account"]
            c["side"] = s["side"]
            c["slot"] = slot
            if ask != Ask.GTC:
                c["order_tif"] = Tif.IOC if ask == Ask.IOC else Tif.FOK
            continue
        c["slot"] = hashmap.get(index, bits, id_)
        if ask == Ask.MOVE:
            c["kind"] = Kind.AMEND
            c["flags"] = _MOVE
        else:
            c["kind"] = Kind.REDUCE
            c["end_reason"] = Reason.USER_CANCEL
            if ask != Ask.REDUCE:
                c["kind"] = Kind.CANCEL
                c["decided_lots"] = 0
    cursors[RISKED] = seq


@kernel
def _read(
    cursors: Cells,
    matches: Rows,
    nodes: Rows,
    index: Cells,
    bits: int,
    next_free: Cells,
    state: Cells,
) -> None:
    """Take every MATCH record there is; what ended gives its row and id back."""
    read = cursors[_READ]
    written = cursors[_WRITTEN]
    while read < written:
        r = matches[read & (_MATCHES - 1)]
        read += 1
        kind = r["kind"]
        gone = np.int64(NIL)
        if kind == MatchKind.FILL:
            state[_TRADES] += 1
            state[_LOTS] += r["lots"]
            if r["maker_open_lots"] == 0:
                _forget(nodes, index, bits, next_free, state, np.int64(r["maker"]))
            if r["open_lots"] == 0:
                gone = np.int64(r["slot"])
        elif kind == MatchKind.ENDED:
            gone = np.int64(r["slot"])
        elif kind == MatchKind.REFUSED:
            state[_REFUSED] += 1
        if gone != NIL:
            _forget(nodes, index, bits, next_free, state, gone)
    cursors[_READ] = read


@kernel
def _forget(
    nodes: Rows, index: Cells, bits: int, next_free: Cells, state: Cells, slot: int
) -> None:
    entry = hashmap.find(index, bits, nodes[slot]["order_id"])
    hashmap.remove_entry(index, bits, entry)
    next_free[slot] = state[_FREE]
    state[_FREE] = slot


@kernel
def play(t: Tables, bits: int, first: int, count: int) -> None:
    """Lines first .. first + count - 1 of the stream, batch after batch."""
    b = t.books
    at = first
    end = first + count
    while at < end:
        batch = min(_BATCH, end - at)
        _ask(t.stream, t.cursors, t.commands, t.index, bits, t.next_free, t.state, at, batch)
        at += batch
        while t.cursors[_MATCHED] < t.cursors[RISKED]:
            match_commands(
                t.cursors,
                t.commands,
                t.matches,
                b.nodes,
                b.node_levels,
                b.books,
                b.mine,
                b.mine_heads,
                b.trie_bits,
                b.trie_children,
                b.leaf_bits,
                b.levels,
                b.matcher,
                0,
                1,
                _BATCH - 1,
                _MATCHES - 1,
                _MATCHED,
                _WRITTEN,
                _READ,
                _BATCH,
            )
            _read(t.cursors, t.matches, b.nodes, t.index, bits, t.next_free, t.state)


class Run(NamedTuple):
    """One pass over a stream, the part after `warm` lines timed."""

    wall_ns: int
    cpu_ns: int
    commands: int
    trades: int
    lots: int
    refused: int
    resting: int


def tables_for(stream: Stream, limits: Limits) -> tuple[Tables, int]:
    """Empty books, rows and ids for one run."""
    arrays = allocate((*shared_book_tables(limits), *shard_tables(limits)))
    books = books_of(arrays)
    reset_shared(books, limits)
    reset_shard(books, limits)
    entries = 2 * power_of_two(limits.orders)
    commands = zeros(_BATCH, COMMAND.dtype)
    commands["route"] = Route.SHARD
    state = zeros(STATE_CELLS, np.dtype(np.int64))
    next_free = np.arange(1, limits.orders + 1)
    return Tables(
        table(stream if stream.flags.writeable else stream.copy()),
        table(zeros(CURSOR_CELLS, np.dtype(np.int64))),
        table(commands),
        table(zeros(_MATCHES, MATCH.dtype)),
        table(zeros(2 * entries, np.dtype(np.int64))),
        table(next_free),
        table(state),
        books,
    ), entries.bit_length() - 1


def run(stream: Stream, limits: Limits, warm: int) -> Run:
    """Play a stream into an empty book."""
    tables, bits = tables_for(stream, limits)
    state = tables.state if BOUNDSCHECK or PLAIN else tables.state.array
    book = tables.books.books if BOUNDSCHECK or PLAIN else tables.books.books.array
    play(tables, bits, 0, warm)
    cpu = time.thread_time_ns()
    wall = time.perf_counter_ns()
    play(tables, bits, warm, len(stream) - warm)
    wall = time.perf_counter_ns() - wall
    cpu = time.thread_time_ns() - cpu
    return Run(
        wall,
        cpu,
        len(stream) - warm,
        int(state[_TRADES]),
        int(state[_LOTS]),
        int(state[_REFUSED]),
        int(book[0]["bid_orders"] + book[0]["ask_orders"]),
    )


class Case(NamedTuple):
    """A stream and how large its tables are."""

    name: str
    stream: Stream
    limits: Limits
    warm: int
    trades: int | None
    lots: int | None


SMALL: Final = Limits(accounts=1024, symbols=1, positions=1024, orders=4096, leaves=1024, trie=1024)


def cases(smoke: bool) -> Iterator[Case]:
    """One after the other: together their streams would take a gigabyte."""
    if smoke:
        few = exchange_core(20_000)
        yield Case("exchange-core's first 20,000", few, SMALL, 0, 924, 7_845)
        larger = SMALL._replace(orders=1 << 14)
        yield Case("5,000 resting", many_resting(5_000, 20_000, 500), larger, 5_000, None, None)
        return
    yield Case("exchange-core's stream", exchange_core(), SMALL, 0, TRADES, LOTS)
    large = SMALL._replace(orders=1 << 21, leaves=1 << 15, trie=1 << 12)
    million = 1_000_000
    for ticks in (500, 100_000):
        stream = many_resting(million, COMMANDS, ticks)
        name = f"{million:,} resting, {2 * ticks:,} prices"
        yield Case(name, stream, large, million, None, None)


def measure(case: Case, runs: int) -> dict[str, Any]:
    """Figures of one case over several runs, which must agree in what they did."""
    done = [run(case.stream, case.limits, case.warm) for _ in range(runs)]
    wall = [r.wall_ns / r.commands for r in done]
    cpu = [r.cpu_ns / r.commands for r in done]
    first = done[0]
    for r in done:
        assert r[2:] == first[2:], "two runs of the same stream differ"
    if case.trades is not None and (first.trades, first.lots) != (case.trades, case.lots):
        raise SystemExit(
            f"{case.name}: {first.trades} trades of {first.lots} lots, "
            f"must be {case.trades} of {case.lots}"
        )
    return {
        "case": case.name,
        "cpu_ns": round(statistics.median(cpu), 1),
        "cpu_ns_best": round(min(cpu), 1),
        "wall_ns": round(statistics.median(wall), 1),
        "wall_ns_best": round(min(wall), 1),
        "runs": runs,
        "commands": first.commands,
        "trades": first.trades,
        "lots": first.lots,
        "refused": first.refused,
        "resting": first.resting,
    }


def main(argv: list[str] | None = None) -> None:
    parser = harness.parser("orderbook", __doc__)
    parser.add_argument("--runs", type=int, default=0, help="passes over each stream")
    chosen = parser.parse_args(argv)
    report = harness.Report("orderbook", chosen)
    runs = chosen.runs or (2 if chosen.smoke else 9)
    run(exchange_core(2_000), SMALL, 0)  # compiles
    title = "ns a command: median and best of the runs, thread CPU time and wall clock"
    for case in cases(chosen.smoke):
        report.table(title, [measure(case, runs)])
    report.note(
        "Measured: line in, id to row, COMMAND written, matched, MATCH records written and read.\n"
        "Not measured: making the stream, risk, settlement, sockets, disk."
    )
    report.finish()


if __name__ == "__main__":
    main()
