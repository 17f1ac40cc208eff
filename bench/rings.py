"""What a hop between two processes costs: our rings, faster-fifo, multiprocessing.Queue, ZeroMQ.

    python -m bench.rings [--smoke] [--json] [--out DIR]

Measured: 64-byte records, every word written by the sender and read by the receiver; the sum of
all words is checked after each run. Latency is one way and open loop: each record carries when it
was due, on CLOCK_MONOTONIC, which all cores share. All rows of a table are of one run.
Not measured: what a stage does with a record.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from bench import harness
from bench.harness import Row, due_ns, witness
from shm.atomics import (
    CLOCK_MONOTONIC,
    clock_ns,
    load_acquire,
    pause,
    store_release,
    yield_now,
)
from shm.cursors import DOORBELL_CELLS, STRIDE
from shm.histogram import HISTOGRAM_CELLS
from shm.jit import kernel
from shm.measure import record
from shm.pointers import Cells, table
from shm.segment import Part, Segment
from shm.wait import FOR_EVER, Policy, rest, ring_doorbells

WORDS: Final = 8  # a record
CAPACITY: Final = 16384
SAMPLES_MAX: Final = 1 << 20
STAGES: Final = 5
STALL_NS: Final = 2_000
SPIN: Final = Policy(FOR_EVER, 0, 50_000_000)
YIELD: Final = Policy(0, 200, 50_000_000)  # the default of shm.config.Wait
SLEEP: Final = Policy(0, 0, 50_000_000)

PARTS: Final = (
    Part("cursors", "<i8", 2 * STAGES * STRIDE),
    Part("bells", "<i8", STAGES * DOORBELL_CELLS),
    Part("words", "<i8", CAPACITY * WORDS),
    Part("samples", "<i8", 2 * SAMPLES_MAX),  # pairs: due, received
    Part("sender_stalls", "<i8", harness.witness_cells()),
    Part("receiver_stalls", "<i8", harness.witness_cells()),
    Part("histogram", "<i8", HISTOGRAM_CELLS),
    Part("results", "<i8", STAGES * WORDS),
    Part("ready", "<i8", STAGES),  # 1: that process has its kernels loaded and starts
)

# ---------------------------------------------------------------- kernels


@kernel
def send(cursors: Cells, words: Cells, first: int, count: int, batch: int) -> None:
    """Word w of record i is i + w; the cursor moves once a batch."""
    seen = load_acquire(cursors, STRIDE)
    sent = first
    end = first + count
    while sent < end:
        upto = min(sent + batch, end)
        while upto - seen > CAPACITY:
            seen = load_acquire(cursors, STRIDE)
            if upto - seen > CAPACITY:
                pause()
        for i in range(sent, upto):
            at = (i & (CAPACITY - 1)) * WORDS
            for w in range(WORDS):
                words[at + w] = i + w
        sent = upto
        store_release(cursors, 0, sent)


@kernel
def receive(cursors: Cells, words: Cells, first: int, count: int, batch: int) -> int:
    """Sum of all words of `count` records."""
    total = 0
    taken = first
    end = first + count
    while taken < end:
        upto = min(load_acquire(cursors, 0), taken + batch)
        if upto == taken:
            pause()
        else:
            for i in range(taken, upto):
                at = (i & (CAPACITY - 1)) * WORDS
                for w in range(WORDS):
                    total += words[at + w]
            taken = upto
            store_release(cursors, STRIDE, taken)
    return total


@kernel
def send_when_due(
    cursors: Cells, words: Cells, count: int, rate: int, seen: Cells, seen_count: int
) -> None:
    """Open loop: record i is sent at start + i / rate, or as soon after as possible."""
    start = clock_ns(CLOCK_MONOTONIC) + 1_000_000
    free = 0  # as in `send`: the receiver's line is asked for once a lap
    for i in range(count):
        due = due_ns(start, i, rate)
        while witness(seen, seen_count, STALL_NS) < due:
            pass
        while i + 1 - free > CAPACITY:
            free = load_acquire(cursors, STRIDE)
        at = (i & (CAPACITY - 1)) * WORDS
        for w in range(WORDS):
            words[at + w] = i + w
        words[at] = due
        store_release(cursors, 0, i + 1)


@kernel
def receive_when_due(
    cursors: Cells, words: Cells, count: int, samples: Cells, seen: Cells, seen_count: int
) -> int:
    """Keep (due, received) of every record and every stall; sum of the words after the first."""
    total = 0
    for i in range(count):
        witness(seen, seen_count, STALL_NS)
        while load_acquire(cursors, 0) <= i:
            witness(seen, seen_count, STALL_NS)
        at = (i & (CAPACITY - 1)) * WORDS
        samples[2 * i] = words[at]
        for w in range(1, WORDS):
            total += words[at + w]
        # The look before the load is older than the record: look again.
        samples[2 * i + 1] = witness(seen, seen_count, STALL_NS)
        store_release(cursors, STRIDE, i + 1)
    return total


@kernel
def bounce(cursors: Cells, me: int, count: int, samples: Cells) -> None:
    """One cache line to the other core and back: what the hardware asks for, whatever we do."""
    mine, other = me * STRIDE, (1 - me) * STRIDE
    since = clock_ns(CLOCK_MONOTONIC)
    for i in range(1, count + 1):
        if me == 0:
            store_release(cursors, mine, i)
        while load_acquire(cursors, other) < i:
            pass
        if me == 1:
            store_release(cursors, mine, i)
        elif i % 64 == 0:
            now = clock_ns(CLOCK_MONOTONIC)
            samples[i // 64] = (now - since) // 128
            since = now


@kernel
def stage(
    me: int,
    cursors: Cells,
    bells: Cells,
    words: Cells,
    count: int,
    rate: int,
    histogram: Cells,
    spins: int,
    yields: int,
    sleep_ns: int,
) -> int:
    """One of STAGES over one ring, as the engine's stages are: each reads all, passes a cursor.

    Stage 0 writes, at `rate` or, with 0, as fast as it can; the last one frees slots and, with a
    rate, records latencies. Returns the sum of words this stage saw.
    """
    mine = me * STRIDE
    before = ((me + STAGES - 1) % STAGES) * STRIDE
    follower = 1 << ((me + 1) % STAGES)  # whoever waits for our cursor
    total = done = turns = 0
    start = clock_ns(CLOCK_MONOTONIC) + 1_000_000
    while done < count:
        upto = load_acquire(cursors, before)
        if me == 0:
            upto = min(upto + CAPACITY, count)
            if rate > 0:
                upto = done + 1 if clock_ns(CLOCK_MONOTONIC) >= due_ns(start, done, rate) else done
        upto = min(upto, done + 64)
        for i in range(done, upto):
            at = (i & (CAPACITY - 1)) * WORDS
            if me == 0:
                for w in range(WORDS):
                    words[at + w] = i + w
                if rate > 0:
                    words[at] = due_ns(start, i, rate)
            for w in range(1, WORDS):
                total += words[at + w]
            if me == STAGES - 1 and rate > 0:
                record(histogram, 0, clock_ns(CLOCK_MONOTONIC) - words[at])
        did = upto - done
        if did > 0:
            done = upto
            store_release(cursors, mine, done)
            ring_doorbells(bells, follower)
        if me == 0 and rate > 0:
            yield_now()  # a generator never sleeps, and never keeps a stage off its core
        else:
            turns = rest(bells, me, did, turns, spins, yields, sleep_ns)
    return total


@kernel
def idle_until(bells: Cells, me: int, until_ns: int, spins: int, yields: int, ns: int) -> None:
    """A worker of a venue where nothing happens."""
    turns = 0
    while clock_ns(CLOCK_MONOTONIC) < until_ns:
        turns = rest(bells, me, 0, turns, spins, yields, ns)


@kernel
def wake_often(cursors: Cells, bells: Cells, count: int, gap_ns: int) -> None:
    """Store the time and ring for a sleeper, `count` times; each time it has had time to sleep."""
    for i in range(count):
        until = clock_ns(CLOCK_MONOTONIC) + gap_ns
        while clock_ns(CLOCK_MONOTONIC) < until:
            yield_now()
        cursors[1] = clock_ns(CLOCK_MONOTONIC)
        store_release(cursors, 0, i + 1)
        ring_doorbells(bells, 2)


@kernel
def be_woken(cursors: Cells, bells: Cells, count: int, histogram: Cells) -> int:
    """Sleep until the other side moves its cursor; record how long after that we ran."""
    turns = done = 0
    while done < count:
        did = load_acquire(cursors, 0) - done
        if did > 0:
            record(histogram, 0, clock_ns(CLOCK_MONOTONIC) - cursors[1])
            done += did
        turns = rest(bells, 1, did, turns, 0, 0, 50_000_000)
    return done


# ---------------------------------------------------------------- processes

INSTANCE: Final = f"bench-{os.getpid()}"


class Mapped:
    """What a child process sees of the segment that its parent made."""

    def __init__(self, instance: str, cpu: int | None) -> None:
        harness.die_with_parent()
        harness.pin(cpu)
        self.segment = Segment.attach(instance, "rings", PARTS)
        self.a = self.segment.arrays
        self.t = {name: table(array) for name, array in self.a.items()}

    def ready(self, me: int) -> None:
        self.a["ready"][me] = 1


def child_stage(instance: str, me: int, count: int, rate: int, how: tuple[int, int, int]) -> None:
    m = Mapped(instance, None)
    run_stage(m.t, me, 0, 0, how)
    m.ready(me)
    m.a["results"][me * WORDS] = run_stage(m.t, me, count, rate, how)


def run_stage(t: dict[str, Any], me: int, count: int, rate: int, how: Sequence[int]) -> int:
    return stage(me, t["cursors"], t["bells"], t["words"], count, rate, t["histogram"], *how)


def child_receive(instance: str, cpu: int | None, rounds: list[tuple[int, int, int]]) -> None:
    m = Mapped(instance, cpu)
    receive(m.t["cursors"], m.t["words"], 0, 0, 1)
    m.ready(1)
    for k, (first, count, batch) in enumerate(rounds):
        m.a["results"][0] = receive(m.t["cursors"], m.t["words"], first, count, batch)
        m.a["results"][1] = k + 1


def child_receive_when_due(instance: str, cpu: int | None, count: int) -> None:
    m = Mapped(instance, cpu)
    cells = harness.witness_cells()
    for n in (0, count):  # the first call loads the kernel
        m.a["results"][0] = receive_when_due(
            m.t["cursors"], m.t["words"], n, m.t["samples"], m.t["receiver_stalls"], cells
        )
        m.ready(1)


def child_bounce(instance: str, cpu: int | None, count: int) -> None:
    m = Mapped(instance, cpu)
    for n in (0, count):
        bounce(m.t["cursors"], 1, n, m.t["samples"])
        m.ready(1)


def child_be_woken(instance: str, cpu: int | None, count: int) -> None:
    m = Mapped(instance, cpu)
    for n in (0, count):
        be_woken(m.t["cursors"], m.t["bells"], n, m.t["histogram"])
        m.ready(1)


def child_idle(instance: str, me: int, seconds: float, how: Any, back: Connection) -> None:
    m = Mapped(instance, None)
    idle_until(m.t["bells"], me, 0, *how)  # loads the kernel
    before = resource.getrusage(resource.RUSAGE_SELF)
    idle_until(m.t["bells"], me, time.monotonic_ns() + int(seconds * 1e9), *how)
    after = resource.getrusage(resource.RUSAGE_SELF)
    back.send(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


SPAWN: Final = multiprocessing.get_context("spawn")


def started(target: Callable[..., None], *arguments: Any) -> Any:
    """A process of its own, started afresh: it loads its kernels before it is ready."""
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def sums_to(count: int, first: int = 0, from_word: int = 0) -> int:
    """What the words of records first .. first + count add up to."""
    words = WORDS - from_word
    return words * (first * count + count * (count - 1) // 2) + count * sum(range(from_word, WORDS))


def check(what: str, got: int, wanted: int) -> None:
    if got != wanted:
        raise SystemExit(f"bench.rings: {what}: the words add up to {got}, must be {wanted}")


def warm() -> None:
    """Compile once, here: the processes then load what is in the cache."""
    arrays = {p.name: table(np.zeros(p.rows, p.dtype)) for p in PARTS}
    cursors, words, bells = arrays["cursors"], arrays["words"], arrays["bells"]
    send(cursors, words, 0, 1, 1)
    receive(cursors, words, 0, 1, 1)
    send_when_due(cursors, words, 0, 1, arrays["sender_stalls"], 8)
    receive_when_due(cursors, words, 0, arrays["samples"], arrays["receiver_stalls"], 8)
    bounce(cursors, 0, 0, arrays["samples"])
    stage(0, cursors, bells, words, 0, 0, arrays["histogram"], *YIELD)
    idle_until(bells, 0, 0, *YIELD)
    wake_often(cursors, bells, 0, 0)
    be_woken(cursors, bells, 0, arrays["histogram"])


class Arena:
    """The segment of one measurement; `t` is for kernels."""

    def __init__(self) -> None:
        self.segment = Segment.create(INSTANCE, "rings", PARTS, epoch=1)
        self.a = self.segment.arrays
        self.t = {name: table(array) for name, array in self.a.items()}

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.segment.unlink()

    def wait_for(self, *children: Any) -> None:
        """Until all children have loaded their kernels: one that is late is no latency."""
        while self.a["ready"].sum() < len(children):
            if not all(child.is_alive() for child in children):
                raise SystemExit("bench.rings: a process failed; what it said is above")
            time.sleep(0.001)


# ---------------------------------------------------------------- our rings


def bare_line(smoke: bool, cpus: tuple[int, int]) -> Row:
    """Half a round trip of one cache line between the two cores."""
    count = 6_400 if smoke else 640_000
    with Arena() as arena:
        child = started(child_bounce, INSTANCE, cpus[1], count)
        harness.pin(cpus[0])
        arena.wait_for(child)
        bounce(arena.t["cursors"], 0, count, arena.t["samples"])
        child.join()
        taken = arena.a["samples"][1 : count // 64 + 1]
    return harness.latency_row("one cache line, no ring", harness.histogram_of(taken))


def hop_latency(report: harness.Report, smoke: bool, cpus: tuple[int, int]) -> None:
    rows = [bare_line(smoke, cpus)]
    for rate in (100_000,) if smoke else (10_000, 100_000, 1_000_000):
        count = min(20_000 if smoke else rate * 5, SAMPLES_MAX)
        with Arena() as arena:
            child = started(child_receive_when_due, INSTANCE, cpus[1], count)
            harness.pin(cpus[0])
            arena.wait_for(child)
            t, cells = arena.t, harness.witness_cells()
            send_when_due(t["cursors"], t["words"], count, rate, t["sender_stalls"], cells)
            child.join()
            check("hop", int(arena.a["results"][0]), sums_to(count, from_word=1))
            due, received = arena.a["samples"][: 2 * count].reshape(-1, 2).T
            stalls = [harness.stalls_of(arena.a[f"{who}_stalls"]) for who in ("sender", "receiver")]
            stalled = harness.with_backlog(harness.apart(due, received, *stalls), due, received)
            every = harness.histogram_of(received - due)
            quiet = harness.histogram_of((received - due)[~stalled])
        rows.append(harness.latency_row("ring, spin, all", every, rate=rate))
        rows.append(harness.latency_row("ring, spin, stalls apart", quiet, rate=rate))
        report.latency(f"ring hop at {rate:,}/s, stalls apart", quiet)
    report.table("One-way latency between two pinned processes", rows)
    report.note(
        "one cache line: half a round trip, averages of 64; what two cores ask for on this host at "
        "this moment. A hop moves two lines, cursor and record, and the clock is read twice"
    )
    report.note(
        f"stalls: gaps over {STALL_NS} ns that sender or receiver, both always looking at the "
        "clock, saw on their own cores; with them goes what queued behind what they held up"
    )


def ring_throughput(smoke: bool, cpus: tuple[int, int]) -> list[Row]:
    # Rounds shorter than a time slice: on a busy machine some of them have both cores.
    rows, count, runs = [], 20_000 if smoke else 200_000, 3 if smoke else 300
    for batch in (8, 128) if smoke else (1, 8, 32, 128):
        with Arena() as arena:
            rounds = [(k * count, count, batch) for k in range(runs)]
            child = started(child_receive, INSTANCE, cpus[1], rounds)
            harness.pin(cpus[0])
            arena.wait_for(child)
            rates = []
            for k, (first, _, _) in enumerate(rounds):
                begin = time.perf_counter()
                send(arena.t["cursors"], arena.t["words"], first, count, batch)
                while arena.a["results"][1] <= k:
                    pass
                rates.append(count / (time.perf_counter() - begin))
                check("throughput", int(arena.a["results"][0]), sums_to(count, first))
            child.join()
        rates.sort()
        rows.append(throughput_row(f"ring, batches of {batch}", rates))
    return rows


def throughput_row(case: str, rates: list[float]) -> Row:
    rates = sorted(rates)
    return {
        "case": case,
        "records_per_s_median": round(rates[len(rates) // 2]),
        "records_per_s_best": round(rates[-1]),
    }


# ---------------------------------------------------------------- the others

PAYLOAD_WORDS: Final = np.arange(WORDS, dtype=np.int64)


def child_queue(queue: Any, many: int, count: int, back: Connection) -> None:
    """Take records from a faster_fifo or multiprocessing queue; sums and latencies."""
    harness.die_with_parent()
    back.send("ready")
    total, late = 0, []
    taken = 0
    while taken < count:
        got = queue.get_many(max_messages_to_get=many) if many > 1 else [queue.get()]
        now = time.monotonic_ns()
        for data in got:
            words = np.frombuffer(data, np.int64)
            late.append(now - int(words[0]))
            total += int(words[1:].sum())
        taken += len(got)
    back.send((total, np.array(late)))


def child_zmq(endpoint: str, count: int, back: Connection) -> None:
    import zmq

    harness.die_with_parent()
    socket: Any = zmq.Context.instance().socket(zmq.PULL)
    socket.set_hwm(0)
    socket.connect(endpoint)
    back.send("ready")
    total, late, taken = 0, [], 0
    while taken < count:
        words = np.frombuffer(socket.recv(), np.int64).reshape(-1, WORDS)
        late.append(time.monotonic_ns() - int(words[0, 0]))
        total += int(words[:, 1:].sum())
        taken += len(words)
    back.send((total, np.array(late)))


def others_sum(count: int) -> int:
    return count * int(PAYLOAD_WORDS[1:].sum())


def stamped(many: int) -> bytes:
    """`many` records, each starting with the time."""
    records = np.tile(PAYLOAD_WORDS, (many, 1))
    records[:, 0] = time.monotonic_ns()
    return records.tobytes()


def drive(
    send_some: Callable[[bytes], None], back: Connection, many: int, count: int, rate: int
) -> tuple[float, harness.Array]:
    """Send `count` records, at `rate` or flat out; (records a second, latencies)."""
    back.recv()
    begin = time.monotonic_ns()
    for sent in range(0, count, many):
        if rate:
            while time.monotonic_ns() < begin + sent * 1_000_000_000 // rate:
                pass
        send_some(stamped(many))
    total, late = back.recv()
    seconds = (time.monotonic_ns() - begin) / 1e9
    check("other queues", total, others_sum(count))
    return count / seconds, late


def faster_fifo(many: int, count: int, rate: int) -> tuple[float, harness.Array]:
    import faster_fifo

    importlib.import_module("faster_fifo_reduction")  # lets a queue be handed to a process
    queue = faster_fifo.Queue(64 << 20, loads=bytes, dumps=bytes)
    ours, theirs = SPAWN.Pipe()
    child = started(child_queue, queue, max(many, 2), count, theirs)

    def send_some(records: bytes) -> None:
        if many > 1:
            queue.put_many([records[k : k + 64] for k in range(0, len(records), 64)])
        else:
            queue.put(records)

    try:
        return drive(send_some, ours, many, count, rate)
    finally:
        child.join()


def mp_queue(many: int, count: int, rate: int) -> tuple[float, harness.Array]:
    queue: Any = SPAWN.Queue()
    ours, theirs = SPAWN.Pipe()
    child = started(child_queue, queue, 1, count, theirs)
    try:
        return drive(queue.put, ours, 1, count, rate)
    finally:
        child.join()


def zeromq(many: int, count: int, rate: int) -> tuple[float, harness.Array]:
    import zmq

    folder = tempfile.TemporaryDirectory(prefix=INSTANCE)
    endpoint = f"ipc://{folder.name}/hop"
    socket: Any = zmq.Context.instance().socket(zmq.PUSH)
    socket.set_hwm(0)
    socket.bind(endpoint)
    ours, theirs = SPAWN.Pipe()
    child = started(child_zmq, endpoint, count, theirs)
    try:
        return drive(lambda records: socket.send(records, copy=False), ours, many, count, rate)
    finally:
        child.join()
        socket.close()
        folder.cleanup()


OTHERS: Final[list[tuple[str, Callable[..., tuple[float, harness.Array]], int, int]]] = [
    ("ZeroMQ ipc, 64 records a message", zeromq, 64, 3_000_000),
    ("ZeroMQ ipc, one a message", zeromq, 1, 200_000),
    ("faster-fifo, put_many of 100", faster_fifo, 100, 200_000),
    ("faster-fifo, put", faster_fifo, 1, 100_000),
    ("multiprocessing.Queue", mp_queue, 1, 100_000),
]


def other_queues(smoke: bool) -> tuple[list[Row], list[Row]]:
    """(throughput rows, latency rows)."""
    os.sched_setaffinity(0, ALL_CPUS)
    rates, latencies = [], []
    for case, queue, many, count in OTHERS:
        count = many * 20 if smoke else count
        runs = [queue(many, count, 0)[0] for _ in range(1 if smoke else 3)]
        rates.append(throughput_row(case, runs))
        if many == 1:
            late = queue(1, 50 if smoke else 3_000, 1_000)[1]
            row = harness.latency_row(case, harness.histogram_of(late), rate=1_000)
            latencies.append(row)
    return rates, latencies


# ---------------------------------------------------------------- waiting


def wake_up(smoke: bool, cpus: tuple[int, int]) -> list[Row]:
    rows = []
    for case, cpu in (("futex, other core", cpus[1]), ("futex, same core", cpus[0])):
        count = 20 if smoke else 500
        with Arena() as arena:
            child = started(child_be_woken, INSTANCE, cpu, count)
            harness.pin(cpus[0])
            arena.wait_for(child)
            wake_often(arena.t["cursors"], arena.t["bells"], count, 2_000_000)
            child.join()
            rows.append(harness.latency_row(case, arena.a["histogram"]))
    return rows


def five_stages(smoke: bool) -> tuple[list[Row], list[Row]]:
    """(throughput rows, latency rows) of STAGES processes on all cores there are."""
    os.sched_setaffinity(0, ALL_CPUS)
    rates, latencies = [], []
    policies = (("yield at once, then futex", YIELD), ("futex only", SLEEP))
    for case, how in policies[:1] if smoke else policies:
        count, runs = (20_000, 1) if smoke else (10_000_000, 3)
        seconds = [run_stages(count, 0, how)[0] for _ in range(runs)]
        rates.append(throughput_row(f"{STAGES} stages, {case}", [count / s for s in seconds]))
        for rate in (10_000,) if smoke else (10_000, 100_000):
            count = 500 if smoke else rate * 3
            cells = run_stages(count, rate, how)[1]
            row = harness.latency_row(f"{STAGES} stages, {case}", cells, rate=rate)
            latencies.append(row)
    return rates, latencies


def run_stages(count: int, rate: int, how: Policy) -> tuple[float, harness.Array]:
    """(seconds, latencies) of `count` records through all stages; this process is the first."""
    with Arena() as arena:
        children = [
            started(child_stage, INSTANCE, me, count, rate, tuple(how)) for me in range(1, STAGES)
        ]
        arena.wait_for(*children)
        begin = time.perf_counter()
        total = run_stage(arena.t, 0, count, rate, how)
        while arena.a["cursors"][(STAGES - 1) * STRIDE] < count:
            time.sleep(0)
        seconds = time.perf_counter() - begin
        for child in children:
            child.join()
        # With a rate, word 0 is a time; the stages add up the others.
        wanted = sums_to(count, from_word=1)
        check("stage 0", total, wanted)
        for me in range(1, STAGES):
            check(f"stage {me}", int(arena.a["results"][me * WORDS]), wanted)
        return seconds, arena.a["histogram"].copy()


def idle_cost(smoke: bool) -> list[Row]:
    """What workers burn while nothing happens, in percent of one core."""
    seconds = 0.3 if smoke else 5.0
    with Arena():
        pipes, children = [], []
        for me in range(STAGES):
            ours, theirs = SPAWN.Pipe()
            pipes.append(ours)
            children.append(started(child_idle, INSTANCE, me, seconds, tuple(YIELD), theirs))
        burnt = sum(pipe.recv() for pipe in pipes)
        for child in children:
            child.join()
    return [{"case": f"{STAGES} idle workers", "percent_of_a_core": 100 * burnt / seconds}]


ALL_CPUS: Final = set(harness.cores())


def main() -> None:
    options = harness.options("rings", __doc__)
    report = harness.Report("rings", options)
    cpus = (harness.cores()[0], harness.cores()[-1])
    warm()
    rows = ring_throughput(options.smoke, cpus)
    rates, latencies = other_queues(options.smoke)
    report.table("Throughput, 64-byte records between two processes", rows + rates)
    hop_latency(report, options.smoke, cpus)
    report.table("One-way latency of the others, at 1,000 a second", latencies)
    report.table("From ringing to running, a sleeping worker", wake_up(options.smoke, cpus))
    stage_rates, stage_latencies = five_stages(options.smoke)
    report.table(f"{STAGES} processes over one ring, {len(ALL_CPUS)} cores", stage_rates)
    report.table("Latency through all of them", stage_latencies)
    report.table("An idle venue", idle_cost(options.smoke))
    report.finish()


if __name__ == "__main__":
    main()
