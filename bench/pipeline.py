"""The whole pipeline: cost of a command in one thread, and rate and latency over processes.

    python -m bench.pipeline [--smoke] [--json] [--out DIR] [--seconds N] [--only NAME]

fused      one thread, no disk: ingress -> sequence -> risk -> match -> settle -> reports,
           on exchange-core's stream with cross margin and fees on; generator's push included
latency    open loop at given rates, stamped when a command was due: ring in -> its answer in the
           reports ring, no disk; fused in one worker, or split over four
durable    the real exchange with WAL and report log: a command counts when its answer may be shown;
           flat out at two reports a command, and at three

Answers are checked: trades, lots, and that every command is answered exactly once.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from typing import Any, Final

import numpy as np

from bench.harness import (
    LAST_NS,
    STALL_COUNT,
    STALLS,
    Report,
    apart,
    cores,
    die_with_parent,
    due_ns,
    histogram_of,
    latency_row,
    parser,
    pin,
    stalls_of,
    with_backlog,
    witness,
    witness_cells,
)
from bench.rings import bare_line
from bench.workload import LOTS, TRADES, Ask, exchange_core
from engine import memory, pipeline
from engine.pipeline import Engine, Stage, turn
from engine.state import Limits, allocate, risk_tables, shard_tables, shared_book_tables
from shm import ingress
from shm.arithmetic import wide
from shm.atomics import (
    CLOCK_MONOTONIC,
    clock_ns,
    either,
    load_acquire,
    prefetch,
    store_release,
    yield_now,
)
from shm.codes import Flag, Kind, ReportKind, Tif
from shm.config import Config, Producer, load
from shm.cursors import (
    JOURNALED,
    REPORTS_JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    RISKED,
    SETTLED,
    STOP,
    doorbell,
)
from shm.jit import kernel
from shm.pointers import Cells, table
from shm.records import (
    ASSET_COMMAND,
    COMMAND,
    NO_SYMBOL,
    STATE_COMMAND,
    SYMBOL_COMMAND,
    TRANSFER_COMMAND,
)
from shm.units import REQUEST_NUMBER_MAX, SYSTEM_ACCOUNTS
from shm.wait import beat, ring_doorbells

Array = np.ndarray[Any, Any]

CHECKPOINT_EVERY: Final = 65536
PRODUCER: Final = 3
STALL_NS: Final = 20_000  # longer than a full turn of the stages
# Of the fused case: rings no larger than one thread needs, so that most of it stays near the core.
SLOTS: Final = 128  # of the ingress ring, filled 64 at a time
COMMANDS: Final = 256  # of the commands ring, and of the matches ring
REPORTS: Final = 512  # of the reports ring
_WORDS: Final = 32
STEPS: Final = 4  # of the load over processes: three reports a command
RATES: Final = (25_000, 100_000, 250_000, 500_000, 1_000_000)


# ---------------------------------------------------------------- what is sent


def command(layout: Any, kind: Kind, **fields: Any) -> Array:
    """One command of the kind."""
    row = np.zeros(1, layout.dtype)
    row["kind"], row["lines"], row["symbol"] = kind, 3, NO_SYMBOL
    for name, value in fields.items():
        row[name] = value
    return row.view(COMMAND.dtype)


def declare(accounts: int) -> Array:
    """A USDT-like asset, one symbol with fees and cross margin, funded accounts."""
    rows = [
        command(ASSET_COMMAND, Kind.ASSET, asset=0, scale=6),
        command(
            SYMBOL_COMMAND,
            Kind.SYMBOL,
            symbol=0,
            tick_lot_quanta=100,
            qty_lots_min=1,
            qty_lots_max=1_000_000,
            price_ticks_min=1,
            price_ticks_max=1_000_000,
            maker_fee_ppm=200,
            taker_fee_ppm=500,
            leverage_max=100,
            leverage_default=20,
            orders_max=1_000_000,
        ),
    ]
    for account in range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + accounts):
        rows.append(command(STATE_COMMAND, Kind.ACCOUNT, account=account))
        rows.append(command(TRANSFER_COMMAND, Kind.DEPOSIT, account=account, amount_quanta=10**14))
    made = np.concatenate(rows)
    made["request"] = np.arange(len(made))
    return made


def next_number(ring: Array, steps: int = STEPS) -> int:
    """Requests a producer has used, rounded up so that the pattern begins with its first step."""
    used = int(ring[ingress.LAST_REQUEST]) & REQUEST_NUMBER_MAX
    return -(-used // steps) * steps


def seqs_after(first: int, count: int) -> Array:
    """Sequence numbers of `count` commands from `first` on, the CHECKPOINTs between left out."""
    numbers = np.arange(first, first + count + count // CHECKPOINT_EVERY + 2)
    return numbers[numbers % CHECKPOINT_EVERY != 0][:count]


def commands_of(stream: Array, first_seq: int) -> Array:
    """exchange-core's stream as commands; orders are named by the id the engine will give them."""
    seqs = seqs_after(first_seq, len(stream))
    ask = stream["ask"]
    rows = np.zeros(len(stream), COMMAND.dtype)
    placing = ask <= int(Ask.FOK)
    named = np.zeros(int(stream["id"].max()) + 1, np.int64)
    named[stream["id"][placing]] = seqs[placing]
    kinds = np.array([Kind.PLACE, Kind.PLACE, Kind.PLACE, Kind.CANCEL, Kind.REDUCE, Kind.AMEND])
    rows["kind"] = kinds[ask]
    rows["tif"] = np.array([Tif.GTC, Tif.IOC, Tif.FOK, 0, 0, 0])[ask]
    rows["flags"][ask == int(Ask.MOVE)] = int(Flag.KEEP_QTY | Flag.TO_BACK)
    rows["order_id"] = np.where(placing, 0, named[stream["id"]])
    rows["side"] = np.where(placing, stream["side"], 0)
    rows["price_ticks"] = np.where(placing | (ask == int(Ask.MOVE)), stream["price_ticks"], 0)
    rows["qty_lots"] = np.where(placing | (ask == int(Ask.REDUCE)), stream["lots"], 0)
    rows["account"] = SYSTEM_ACCOUNTS + stream["account"] - 1
    rows["symbol"] = 0
    rows["lines"] = 1
    return rows


# ---------------------------------------------------------------- fused, one thread


def private_engine(accounts: int, slots: int) -> tuple[dict[str, Array], Array, Engine]:
    """An engine in private memory, and its one ingress ring."""
    limits = Limits(
        accounts=SYSTEM_ACCOUNTS + accounts,
        assets=1,
        symbols=1,
        positions=SYSTEM_ACCOUNTS + accounts,
        orders=4096,
        clients=64,
        leaves=4096,
        trie=1024,
    )
    arrays = pipeline.allocate_rings(commands=COMMANDS, matches=COMMANDS, reports=REPORTS)
    for specs in (risk_tables(limits), shared_book_tables(limits), shard_tables(limits)):
        arrays.update(allocate(specs))
    pipeline.initialise(arrays, limits)
    ring = np.zeros(ingress.SLOTS + slots * ingress.SLOT_WORDS, np.int64)
    producer = Producer(name="bench", id=PRODUCER, kinds=("any",), privileged=True)
    ingress.format_ring(ring, producer, slots)
    engine = pipeline.engine_of(arrays, limits, checkpoint_every=CHECKPOINT_EVERY, rings=(ring,))
    return arrays, ring, engine


@kernel
def drive(
    e: Engine,
    ring: Cells,
    capacity: int,
    source: Cells,
    width: int,
    first: int,
    count: int,
    sums: Cells,
) -> None:
    """Push commands and turn the pipeline until every one of them is settled.

    source  the first `width` cells of COMMAND rows, packed: 8 where a line is all they have
    sums    reports, answers, trades and lots, counted from the reports as a reader would
    """
    stages = 15
    row = first
    end = first + count
    cursors = e.cursors
    words = e.out.words
    mask = REPORTS - 1
    read = cursors[REPORTS_READ]
    while True:
        if row < end:
            batch = min(64, end - row)
            row += ingress.push_rows(ring, capacity, source, width, row, batch)
            # What comes next is on its way from main memory while these are dealt with.
            for k in range(min(64, end - row)):
                prefetch(source, (row + k) * width)
        did = turn(e, stages, 1)
        written = cursors[REPORTS_WRITTEN]
        sums[0] = sums[0] + written - read
        answers = 0
        trades = 0
        lots = 0
        while read < written:
            about = words[(read & mask) * 8 + 1]
            kind = (about >> 48) & 255
            answers += wide((kind == ReportKind.ORDER) & (words[(read & mask) * 8 + 3] != 0))
            takes = wide(kind == ReportKind.EXEC) & (about >> 56)
            trades += takes
            lots += either(takes, 0, e.out.execs[read & mask]["lots"])
            read += 1
        sums[1] = sums[1] + answers
        sums[2] = sums[2] + trades
        sums[3] = sums[3] + lots
        store_release(cursors, REPORTS_READ, read)
        store_release(cursors, JOURNALED, cursors[RISKED])
        if did == 0 and row == end:
            break


def fused(report: Report, smoke: bool, runs: int) -> None:
    """ns a command on exchange-core's stream, everything but the disk, one thread."""
    count = 30_000 if smoke else 3_000_000
    stream = exchange_core(count)
    rows = []
    for _ in range(runs):
        arrays, ring, engine = private_engine(1000, SLOTS)
        cells = table(ring)
        setup = declare(1000)
        setup["request"] = np.arange(1, len(setup) + 1)
        sums = np.zeros(8, np.int64)
        # Deposits are settled before the first order is checked.
        counts = table(sums)
        source = table(setup.view(np.int64))
        drive(engine, cells, SLOTS, source, _WORDS, 0, len(setup), counts)
        first = int(arrays["venue"]["settled_seq"][0]) + 1
        commands = commands_of(stream, first)
        commands["request"] = len(setup) + 1 + np.arange(len(commands))
        # Packed as they would come off a wire: fetched a line after the other, not one in four.
        source = table(commands.view(np.int64).reshape(-1, _WORDS)[:, :8].ravel())
        fill = 1000
        drive(engine, cells, SLOTS, source, 8, 0, fill, counts)
        answered = int(sums[1])
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        drive(engine, cells, SLOTS, source, 8, fill, len(commands) - fill, counts)
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
        n = len(commands) - fill
        assert int(sums[1]) - answered == n, f"{int(sums[1]) - answered} answers, {n} commands"
        if not smoke:
            assert (int(sums[2]), int(sums[3])) == (TRADES, LOTS), sums[:4].tolist()
        rows.append((cpu / n, wall / n, int(sums[0]) / n))
    rows.sort()
    middle = rows[len(rows) // 2]
    report.table(
        f"fused, one thread, no disk: exchange-core's stream (3 M commands, 71 % moves); rings of "
        f"{SLOTS} ingress slots, {COMMANDS} commands and matches, {REPORTS} reports",
        [
            {
                "runs": runs,
                "ns/command cpu, median": round(middle[0], 1),
                "best": round(rows[0][0], 1),
                "worst": round(rows[-1][0], 1),
                "ns wall, median": round(sorted(r[1] for r in rows)[len(rows) // 2], 1),
                "reports/command": round(middle[2], 2),
                "trades": int(sums[2]),
                "lots": int(sums[3]),
            }
        ],
    )


# ---------------------------------------------------------------- open loop over processes


@kernel
def pattern(rows: Cells, row: int, number: int, accounts: int, steps: int = STEPS) -> None:
    """Command `number` of a load that leaves the book as it was every `steps` commands.

    A bid rests (2 reports), GTX sells that would take it are turned away (1 each), an IOC sell
    takes all of it (8). With 8 steps that is two reports a command, with 4 it is three.
    """
    at = row * _WORDS
    step = number % steps
    turn_of = number // steps
    account = 16 + (turn_of + (0 if step == 0 else 1)) % accounts
    for k in range(24):
        rows[at + k] = 0
    kind = 1
    side = 0 if step == 0 else 1
    tif = 0 if step == 0 else 1 if step == steps - 1 else 3
    price = 10_000 + (turn_of & 63)
    rows[at + 2] = number + 1
    rows[at + 4] = price
    rows[at + 5] = 3
    rows[at + 6] = account
    rows[at + 7] = kind | (side << 8) | (tif << 24) | (1 << 56)


@kernel
def open_loop(
    ring: Cells, capacity: int, cursors: Cells, words: Cells, mask: int, bells: Cells, wake: int,
    visible_cell: int, stand_in: bool, base: int, count: int, rate: int, accounts: int,
    row: Cells, due: Cells, done: Cells, stalls: Cells, stall_cells: int,
) -> int:  # fmt: skip
    """Send commands when they are due and stamp when their answers are visible.

    visible_cell    REPORTS_WRITTEN, or REPORTS_JOURNALED for what is durable
    stand_in        move JOURNALED and REPORTS_READ, as a journal without a disk would
    base            requests used before
    returns         answers seen; below `count` when nothing moved for ten seconds
    """
    start = clock_ns(CLOCK_MONOTONIC) + 1_000_000
    sent = 0
    seen = 0
    read = load_acquire(cursors, visible_cell)
    last = start
    while seen < count:
        now = witness(stalls, stall_cells, STALL_NS)
        pushed = 0
        while sent < count and now >= due_ns(start, sent, rate):
            pattern(row, 0, base + sent, accounts)
            if ingress.push_many(ring, capacity, row, 0, 1) == 0:
                break
            due[sent] = due_ns(start, sent, rate)
            sent += 1
            pushed += 1
        if pushed > 0:
            ring_doorbells(bells, wake)
        written = load_acquire(cursors, visible_cell)
        if read < written:
            now = clock_ns(CLOCK_MONOTONIC)
            last = now
            while read < written:
                at = (read & mask) * 8
                # ORDER with a request is an answer: its low 48 bits are our number.
                if ((words[at + 1] >> 48) & 255) == 1 and words[at + 3] != 0:
                    done[(words[at + 3] & 0xFFFFFFFFFFFF) - base - 1] = now
                    seen += 1
                read += 1
            if stand_in:
                store_release(cursors, REPORTS_READ, read)
                store_release(cursors, JOURNALED, load_acquire(cursors, RISKED))
                ring_doorbells(bells, wake)
        elif now - last > 10_000_000_000:
            break
    return seen


@kernel
def flat_out(
    ring: Cells, capacity: int, cursors: Cells, bells: Cells, wake: int, base: int, until_ns: int,
    accounts: int, rows: Cells, batch: int, steps: int = STEPS,
) -> int:  # fmt: skip
    """Push the pattern as fast as it is taken until a moment; returns how many were pushed."""
    sent = 0
    while clock_ns(CLOCK_MONOTONIC) < until_ns:
        for k in range(batch):
            pattern(rows, k, base + sent + k, accounts, steps)
        at = 0
        while at < batch:
            taken = ingress.push_many(ring, capacity, rows, at, batch - at)
            at += taken
            if taken > 0:
                ring_doorbells(bells, wake)
            else:
                yield_now()
        sent += batch
    return sent


def venue(topology: str, instance: str, data: str, limits: dict[str, int]) -> Config:
    """Configuration of a benchmark's exchange."""
    return load(
        None,
        {
            "instance": instance,
            "data_dir": data,
            "topology": topology,
            "log_level": "warning",
            "producers": [
                {"name": "bench", "id": PRODUCER, "kinds": ["any"], "privileged": True},
                {"name": "clock", "id": 1, "kinds": ["clock"]},
            ],
            **{f"limits.{name}": value for name, value in limits.items()},
        },
    )


SMALL: Final = {
    "accounts": SYSTEM_ACCOUNTS + 256,
    "assets": 1,
    "symbols": 1,
    "positions": SYSTEM_ACCOUNTS + 256,
    "orders": 65536,
    "clients": 1024,
}


@kernel
def watched_run(
    e: pipeline.Engine, stages: int, worker: int, slice_ns: int, seen: Cells, seen_count: int
) -> None:
    """As pipeline.run, spinning, with a witness of what else had the core."""
    now = witness(seen, seen_count, STALL_NS)
    until = now + slice_ns
    while now < until:
        pipeline.turn(e, stages, 1)
        now = witness(seen, seen_count, STALL_NS)
    beat(e.bells, worker, 1)


def host(
    config: Config, stages: int, worker: int, workers: int, cpu: int | None, witnessed: Any
) -> None:
    """A worker without supervisor and disk: pinned, looping over its stages until told to stop.

    witnessed    int64 cells of a witness of this core, which nobody shares, or None
    """
    die_with_parent()
    pin(cpu)
    found = memory.attach(config)
    arrays = found.arrays
    engine = pipeline.engine_of(
        arrays,
        memory.limits_of(config),
        checkpoint_every=config.checkpoint_every,
        rings=tuple(arrays[name] for name in memory.ring_names(config)),
    )
    peers = ((1 << workers) - 1) & ~(1 << worker)
    bell = doorbell(worker)
    yields = 200
    while not arrays["control"][bell + STOP]:
        if witnessed is None:
            pipeline.run(engine, stages, 1, worker, peers, 0, yields, 50_000_000, 20_000_000)
        else:
            seen = np.frombuffer(witnessed, np.int64)
            seen[LAST_NS] = 0  # Python between two slices is a stall of our own making
            watched_run(engine, stages, worker, 1_000_000_000, table(seen), len(seen))


TOPOLOGIES: Final = {
    "fused": (15,),
    "split": (int(Stage.SEQUENCE), int(Stage.RISK | Stage.SETTLE), int(Stage.MATCH)),
}


def between_cores(report: Report, smoke: bool) -> None:
    """Say what a cache line takes from the driver's core to the worker's, as the host is now.

    An order's way in and its answer's way out are a few of these one after the other. Whoever
    rents two cores may find them on one die now and on two a minute later.
    """
    usable = cores()
    if len(usable) > 1:
        row = bare_line(smoke, (usable[0], usable[1]))
        os.sched_setaffinity(0, usable)
        report.note(
            f"One cache line between the two cores at this moment, half a round trip: p50 "
            f"{row['p50_ns']} ns, p99 {row['p99_ns']} ns."
        )


def latency(report: Report, topology: str, rates: tuple[int, ...], seconds: float) -> None:
    """Ring in to answer in the reports ring, open loop, no disk.

    With one worker, which then has a core of its own, it and the driver both witness stalls; of
    several on one core nobody can tell a stall from another worker's turn.
    """
    instance = f"bench-{os.getpid()}-{topology}"
    with tempfile.TemporaryDirectory(prefix="perpcore-bench-") as data:
        config = venue("fused", instance, data, SMALL)
        memory_of = memory.create(config, 1)
        stages = TOPOLOGIES[topology]
        context = multiprocessing.get_context("spawn")
        usable = cores()
        processes: list[Any] = []
        try:
            arrays = memory_of.arrays
            pipeline.initialise(arrays, memory.limits_of(config))
            alone = len(stages) == 1 and len(usable) > 1
            witnessed = context.RawArray("q", witness_cells()) if alone else None
            for k, stage in enumerate(stages):
                # The driver has the first core to itself where there is another one.
                cpu = usable[1 + k % max(len(usable) - 1, 1)] if len(usable) > 1 else None
                process = context.Process(
                    target=host, args=(config, stage, k, len(stages), cpu, witnessed), daemon=True
                )
                process.start()
                processes.append(process)
            pin(usable[0])
            ring = arrays[ingress.segment_name("bench")]
            cells = table(ring)
            capacity = config.rings.ingress
            cursors = arrays["cursors"]
            wake = (1 << len(stages)) - 1
            bells = table(arrays["control"])
            _set_up(cells, capacity, cursors, bells, wake)
            base = next_number(ring)
            rows = []
            for rate in (rates[0], *rates):  # the first one twice: it warms up
                count = max(int(rate * seconds), 1000) // 4 * 4
                due, done = np.zeros(count, np.int64), np.zeros(count, np.int64)
                stalls = np.zeros(witness_cells(), np.int64)
                workers = np.zeros(STALLS, np.int64)
                if witnessed is not None:
                    workers = np.frombuffer(witnessed, np.int64)
                    workers[STALL_COUNT] = 0
                seen = open_loop(
                    cells, capacity, table(cursors), table(arrays["reports"].view(np.int64)),
                    len(arrays["reports"]) - 1, bells, wake, REPORTS_WRITTEN, True, base, count,
                    rate, 256, table(np.zeros(_WORDS, np.int64)), table(due), table(done),
                    table(stalls), len(stalls),
                )  # fmt: skip
                if seen != count:
                    raise RuntimeError(f"{topology} at {rate}/s: {seen} of {count} answered")
                base += count
                both = (stalls_of(stalls), stalls_of(workers))
                rows.append(_latency_rows(report, topology, rate, due, done, *both))
            report.table(
                f"latency {topology}, ring in to answer out, no disk, "
                f"{len(stages)} worker(s) + driver on {len(usable)} cores, ns",
                [row for pair in rows[1:] for row in pair],
            )
        finally:
            os.sched_setaffinity(0, usable)
            for k in range(len(stages)):
                memory_of.arrays["control"][doorbell(k) + STOP] = 1
            for process in processes:
                process.join(5)
                if process.is_alive():
                    process.kill()
                    process.join()
            memory_of.unlink()
            memory_of.close()


def _latency_rows(
    report: Report, case: str, rate: int, due: Array, done: Array, *stalls: Array
) -> list[dict[str, Any]]:
    """All of it, and what remains when spans that overlap a stall, or queued behind one that
    does, are set apart."""
    took = done - due
    hit = with_backlog(apart(due, done, *stalls), due, done)
    cells = histogram_of(took)
    report.latency(f"{case} {rate // 1000} K/s", cells)
    rows = [latency_row(f"{rate // 1000} K/s", cells, stalls=sum(map(len, stalls)))]
    if not hit.all():
        rows.append(latency_row("  stalls apart", histogram_of(took[~hit]), stalls=int(hit.sum())))
    return rows


def _set_up(cells: Cells, capacity: int, cursors: Array, bells: Cells, wake: int) -> None:
    """Declare the venue and wait until it is settled; there is no journal to do it for us."""
    setup = declare(256)
    setup["request"] = np.arange(1, len(setup) + 1)
    source = table(setup.view(np.int64))
    until = time.monotonic() + 300
    sent = 0
    while int(cursors[SETTLED]) < len(setup):
        sent += ingress.push_many(cells, capacity, source, sent, len(setup) - sent)
        wake_all(bells, wake)
        cursors[JOURNALED] = cursors[RISKED]
        cursors[REPORTS_READ] = cursors[REPORTS_WRITTEN]
        if time.monotonic() > until:
            raise RuntimeError("the workers did not settle the declarations")
        time.sleep(0.001)
    cursors[REPORTS_READ] = cursors[REPORTS_WRITTEN]


@kernel
def wake_all(bells: Cells, wake: int) -> None:
    """Ring the doorbells of a set of workers."""
    ring_doorbells(bells, wake)


# ---------------------------------------------------------------- durable


def durable(
    report: Report, topology: str, rates: tuple[int, ...], seconds: float, flat_seconds: float
) -> None:
    """The real exchange: rate over a while, and latency to the moment an answer may be shown."""
    from tools.replay import Session

    with tempfile.TemporaryDirectory(
        prefix="perpcore-bench-", dir=os.environ.get("PERPCORE_BENCH_DIR")
    ) as data:
        config = venue(
            topology,
            f"bench-{os.getpid()}-d{topology}",
            data,
            SMALL,
        )
        config = load(None, {**_as_overrides(config), "wal.report_log_bytes_max": 2 << 30})
        session = Session(config, producer="bench")
        try:
            session.send(declare(256), None)
            _durable_rows(report, session, config, topology, rates, seconds, flat_seconds)
        finally:
            session.close()


def _as_overrides(config: Config) -> dict[str, Any]:
    import msgspec

    return dict(msgspec.to_builtins(config))


def _durable_rows(
    report: Report,
    session: Any,
    config: Config,
    topology: str,
    rates: tuple[int, ...],
    seconds: float,
    flat_seconds: float,
) -> None:
    found = memory.attach(config)
    try:
        arrays = found.arrays
        ring = arrays[ingress.segment_name("bench")]
        cells, capacity = table(ring), config.rings.ingress
        cursors, bells = arrays["cursors"], table(arrays["control"])
        wake = 1 << session.door._sequencer
        base = next_number(ring)
        rows = []
        for rate in rates:
            count = max(int(rate * seconds), 1000) // 4 * 4
            due, done = np.zeros(count, np.int64), np.zeros(count, np.int64)
            stalls = np.zeros(witness_cells(), np.int64)
            seen = open_loop(
                cells, capacity, table(cursors), table(arrays["reports"].view(np.int64)),
                len(arrays["reports"]) - 1, bells, wake, REPORTS_JOURNALED, False, base, count,
                rate, 256, table(np.zeros(_WORDS, np.int64)), table(due), table(done),
                table(stalls), len(stalls),
            )  # fmt: skip
            if seen != count:
                raise RuntimeError(f"durable {topology} at {rate}/s: {seen} of {count} answered")
            base += count
            rows += _latency_rows(report, f"durable {topology}", rate, due, done, stalls_of(stalls))
        if rows:
            report.table(f"latency {topology}, ring in to durable answer, ns", rows)
        for steps in (2 * STEPS, STEPS):
            _flat_rate(report, topology, config, arrays, wake, steps, flat_seconds)
    finally:
        found.close()


def _flat_rate(
    report: Report,
    topology: str,
    config: Config,
    arrays: dict[str, Array],
    wake: int,
    steps: int,
    flat_seconds: float,
) -> None:
    """Commands a second, pushed as fast as they are taken, at the pattern's mix of reports."""
    batch = 1024
    ring = arrays[ingress.segment_name("bench")]
    cursors = arrays["cursors"]
    base = next_number(ring, steps)
    before_reports = int(cursors[REPORTS_JOURNALED])
    begun = time.monotonic_ns()
    sent = flat_out(
        table(ring), config.rings.ingress, table(cursors), table(arrays["control"]), wake, base,
        begun + int(flat_seconds * 1e9), 256, table(np.zeros(batch * _WORDS, np.int64)), batch,
        steps,
    )  # fmt: skip
    at_end = int(cursors[JOURNALED])
    elapsed = (time.monotonic_ns() - begun) / 1e9
    while int(cursors[SETTLED]) < at_end or int(cursors[JOURNALED]) < int(cursors[RISKED]):
        time.sleep(0.01)
    reports = int(cursors[REPORTS_JOURNALED]) - before_reports
    report.table(
        f"rate {topology}, generator + engine + journal + publisher on {len(cores())} cores",
        [
            {
                "seconds": round(elapsed, 1),
                "commands/s durable": round(sent / elapsed),
                "reports/command": round(reports / sent, 2),
                "commands": sent,
            }
        ],
    )


def main(argv: list[str] | None = None) -> None:
    """Run what was asked for and print it."""
    made = parser("pipeline", __doc__)
    made.add_argument("--only", choices=("fused", "latency", "durable"), help="one part alone")
    made.add_argument("--seconds", type=float, default=4.0, help="of each latency rate")
    made.add_argument("--flat-seconds", type=float, default=60.0, help="of the durable rate")
    made.add_argument("--runs", type=int, default=5, help="of the fused case")
    chosen = made.parse_args(argv)
    report = Report("pipeline", chosen)
    smoke = chosen.smoke
    seconds = 0.2 if smoke else chosen.seconds
    rates = (5_000,) if smoke else RATES
    if chosen.only in (None, "fused"):
        fused(report, smoke, 1 if smoke else chosen.runs)
    if chosen.only in (None, "latency"):
        between_cores(report, smoke)
        for topology in ("fused", "split"):
            latency(report, topology, rates, seconds)
    if chosen.only in (None, "durable"):
        for topology in ("fused", "split"):
            durable(
                report,
                topology,
                (5_000,) if smoke else (10_000, 100_000),
                seconds,
                0.5 if smoke else chosen.flat_seconds,
            )
    report.finish()


if __name__ == "__main__":
    main()
