"""One worker process: attach, load kernels, say so, then run its stages until told to stop.

    supervisor            worker
    has it forked      -> attaches, asks the host for core, scheduling, memory; loads kernels
                       <- READY
    recovers, RUN      -> loops over its stages, beats its heart           <- RUNNING
    DRAIN              -> the same, but takes no more commands             <- DRAINED
    stop word          -> leaves the loop, closes files                    <- STOPPED, exit 0

Reads   orders and the stop word from the control segment.
Writes  its state there; log records into a queue of its own.
Never   handles a fault: an assert, an exception or a failed sync ends the process with a code that
        says which, and the supervisor starts the whole group again from the WAL.

Signals: SIGINT and SIGHUP are ignored: Ctrl-C and the end of a terminal reach the whole group, and
stopping is the supervisor's business. SIGTERM asks the supervisor to stop everything in order.
Handlers run only between two slices of a kernel, at most SLICE_NS apart. When the supervisor dies
the kernel kills us (engine/forks.py).
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from faster_fifo import Full, Queue

from engine.forks import SIGNALS, die_with_server
from shm.config import Config, Worker
from shm.control import STAGES, Order, Wish, WorkerState
from shm.cursors import EPOCH, STOP, WORKER_PID, doorbell
from shm.segment import SegmentError

if TYPE_CHECKING:
    from engine.journal import Journal
    from engine.publisher import Publisher

SLICE_NS: Final = 200_000_000  # of a kernel; signals wait so long, stop words don't

JOURNAL: Final = 1 << STAGES.index("journal")
PUBLISH: Final = 1 << STAGES.index("publish")
IN_PYTHON: Final = JOURNAL | PUBLISH
NOBODY_S: Final = 0.01  # a publisher without subscribers
TURNS_IN_KERNEL: Final = 50  # take as long as one of a stage in Python

EXIT_STOPPED: Final = 0
EXIT_START: Final = 69  # memory, data directory or an endpoint would not have us: no use to retry
EXIT_BUG: Final = 70  # an assert or exception of ours
EXIT_DISK: Final = 74  # a write or sync failed
EXIT_UNKNOWN: Final = 255  # multiprocessing's word for it
EXITS: Final = {
    EXIT_STOPPED: "stopped without being asked",
    EXIT_START: "could not start",
    EXIT_BUG: "a bug, its traceback is in the log",
    EXIT_DISK: "a write or sync failed",
    EXIT_UNKNOWN: "killed together with the server it was forked from",
}

_PR_SET_NAME: Final = 15
_MCL_CURRENT_AND_FUTURE: Final = 3


class CannotStart(Exception):
    """What the operator has to put right before this worker can run."""


class Stage(Protocol):
    """A stage that runs as Python: the journal and the publisher."""

    def step(self) -> int:
        """Do what there is to do; returns how much it was. Never waits for more."""

    def close(self) -> None:
        """Finish: nothing more will come."""


class Task(NamedTuple):
    """What a worker is started with."""

    config: Config
    workers: tuple[Worker, ...]  # all of them
    me: int  # which one this is
    epoch: int
    spawned_ns: int  # CLOCK_MONOTONIC


def stage_masks(worker: Worker) -> tuple[int, int]:
    """(bit k: stage k of STAGES, bit k: matching shard k)."""
    stages = shards = 0
    for stage in worker.stages:
        name, _, shard = stage.partition(":")
        stages |= 1 << STAGES.index(name)
        if shard:
            shards |= 1 << int(shard)
    return stages, shards


def name_process(name: str) -> None:
    """What ps and top call this process; 15 bytes count."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def ask_host(worker: Worker) -> list[tuple[Wish, str]]:
    """Ask for core, scheduling and locked memory; returns what was refused, and why."""
    refused = []
    if worker.cpu is not None:
        try:
            os.sched_setaffinity(0, {worker.cpu})
        except OSError as error:
            refused.append((Wish.CPU, f"cpu = {worker.cpu}: {error.strerror}"))
    kind, _, number = worker.scheduler.partition(":")
    try:
        if kind == "fifo":
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(int(number)))
        elif kind == "nice":
            os.setpriority(os.PRIO_PROCESS, 0, int(number))
    except OSError as error:
        refused.append((Wish.SCHEDULER, f'scheduler = "{worker.scheduler}": {error.strerror}'))
    libc = ctypes.CDLL(None, use_errno=True)
    if worker.lock_memory and libc.mlockall(_MCL_CURRENT_AND_FUTURE) != 0:
        why = os.strerror(ctypes.get_errno())
        refused.append((Wish.LOCK_MEMORY, f"lock_memory = true: {why} (see ulimit -l)"))
    return refused


class QueueHandler(logging.Handler):
    """Log records of this process on their way to the supervisor; none is waited for."""

    def __init__(self, queue: Queue, who: str) -> None:
        super().__init__()
        self._queue = queue
        self._who = who

    def put(self, level: str, event: str, fields: dict[str, Any]) -> None:
        with suppress(Full):
            self._queue.put_nowait((time.time_ns(), level, self._who, event, fields))

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        self.put("error" if level == "critical" else level, record.getMessage(), {})


def work(task: Task, queue: Queue) -> None:
    """Entry of the process."""
    die_with_server()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker = task.workers[task.me]
    name_process(f"pc-{worker.name}")
    faulthandler.enable()
    log = QueueHandler(queue, worker.name)
    logging.basicConfig(level=task.config.log_level.upper(), handlers=[log])
    try:
        code = _work(task, worker, log)
    except CannotStart as error:
        log.put("error", "cannot start", {"error": str(error)})
        code = EXIT_START
    except OSError as error:
        log.put("error", "disk failed", {"error": str(error)})
        code = EXIT_DISK
    except BaseException as error:
        log.put("error", "bug", {"error": repr(error), "traceback": traceback.format_exc()})
        traceback.print_exc()
        code = EXIT_BUG
    sys.stderr.flush()
    # Not sys.exit: the helper threads of a stage that failed must not keep the process.
    os._exit(code)


def _work(task: Task, worker: Worker, log: QueueHandler) -> int:
    """Attach, get ready, wait for the order, run."""
    from engine import memory
    from shm.pointers import table
    from shm.wait import beat

    try:
        arrays = memory.attach(task.config, task.epoch).arrays
    except SegmentError as error:
        raise CannotStart(str(error)) from error
    row = arrays["worker_status"][task.me]
    engine_status = arrays["engine_status"][0]
    cells, bell = arrays["control"], doorbell(task.me)
    row["pid"] = cells[bell + WORKER_PID] = os.getpid()
    row["state"] = WorkerState.SPAWNED

    def ask_stop(_signal: int, _frame: Any) -> None:
        engine_status["stop_asked"] = 1

    signal.signal(signal.SIGTERM, ask_stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for wish, why in ask_host(worker):
        row["refused"] |= wish
        log.put("warning", "refused by the host", {"what": why})

    _load(stage_masks(worker)[0])
    beat(table(cells), task.me, 0)
    row["ready_us"] = (time.monotonic_ns() - task.spawned_ns) // 1000
    row["state"] = WorkerState.READY
    log.put("debug", "ready", {"ms": int(row["ready_us"]) // 1000})
    while row["order"] == Order.HOLD:
        time.sleep(0.001)
        if cells[bell + STOP]:
            return EXIT_STOPPED
    # Only now: recovery has filled the tables that the stages look at when they begin.
    _run(task, worker, arrays)
    return EXIT_STOPPED


def _load(stages: int) -> None:
    """Import what the stages need, and have their kernels at hand."""
    if stages & ~IN_PYTHON:
        from engine import compiling

        compiling.compile_all(None)
    if stages & JOURNAL:
        import engine.journal
    if stages & PUBLISH:
        import engine.publisher  # noqa: F401


def _open_journal(task: Task, arrays: dict[str, Any], peers: int) -> Journal:
    from engine.journal import Journal
    from shm.listen import LISTENERS

    return Journal(
        Path(task.config.data_dir),
        arrays["cursors"],
        arrays["commands"],
        arrays["reports"],
        task.config.wal,
        bells=arrays["control"],
        wake=peers | LISTENERS,
        counters=arrays["counters"],
        histograms=arrays["histograms"],
        hops=arrays["hops"],
    )


def _open_publisher(task: Task, arrays: dict[str, Any]) -> Publisher:
    from engine.publisher import Publisher

    return Publisher(task.config, arrays, task.epoch)


def _run(task: Task, worker: Worker, arrays: dict[str, Any]) -> None:
    """The loop: stages in kernels and in Python take turns until the stop word is set."""
    from engine import memory
    from engine.files import DataError
    from engine.setup import SLICE, SLICE_APART
    from shm import jit
    from shm.pointers import table
    from shm.wait import FOR_EVER, beat, others, policy_of, rest

    config, me = task.config, task.me
    stages, shards = stage_masks(worker)
    peers = others(len(task.workers), me)
    policy = policy_of(config.wait)
    # A turn in Python takes as long as many in a kernel: a few looks before sleeping are enough.
    slow_policy = policy._replace(yields=policy.yields // TURNS_IN_KERNEL)
    python_stages: list[Stage] = []
    alone: Journal | None = None
    publisher: Publisher | None = None
    try:
        if stages & JOURNAL:
            journal = _open_journal(task, arrays, peers)
            alone = journal if stages == JOURNAL else None
            python_stages.append(journal)
        if stages & PUBLISH:
            publisher = _open_publisher(task, arrays)
            python_stages.append(publisher)
    except (OSError, DataError) as error:
        raise CannotStart(str(error)) from error
    in_kernels = stages & ~IN_PYTHON
    if in_kernels:
        from engine import pipeline

        engine = pipeline.engine_of(
            arrays,
            memory.limits_of(config),
            shards=config.shards,
            checkpoint_every=config.checkpoint_every,
            funding_slice=SLICE if stages & pipeline.Stage.RISK else SLICE_APART,
            rings=tuple(arrays[name] for name in memory.ring_names(config)),
        )
        # With others in the process, a kernel doesn't sleep: they have their turn, then all do.
        waiting = (0, FOR_EVER, 0, 0) if python_stages else (*policy, SLICE_NS)
        run = jit.entry_of(pipeline.run, engine, in_kernels, shards, me, peers, *waiting)

    row = arrays["worker_status"][me]
    cells, bell = arrays["control"], doorbell(me)
    bells = table(cells)
    cells[bell + EPOCH] = task.epoch
    beat(bells, me, 0)
    row["state"] = WorkerState.RUNNING
    turns = 0
    while True:
        if cells[bell + STOP]:
            if row["order"] != Order.DRAIN or row["state"] == WorkerState.DRAINED:
                break
            in_kernels |= int(pipeline.Stage.CLOSE)  # and end with a CHECKPOINT
            cells[bell + STOP] = 0  # it was to hear this order; the next time it is meant
            row["state"] = WorkerState.DRAINED
        if not python_stages:
            run(engine, in_kernels, shards, me, peers, *waiting)
            continue
        if alone is not None:
            alone.run(me, *policy, SLICE_NS)
            beat(bells, me, 0)  # with no segment to write to it only waits
            continue
        did = 0
        if in_kernels:
            did += run(engine, in_kernels, shards, me, peers, *waiting)
        for stage in python_stages:
            did += stage.step()
        beat(bells, me, did)
        if did == 0 and stages == PUBLISH and publisher is not None and publisher.alone:
            time.sleep(NOBODY_S)  # not woken for every sync while nobody hears of it
        else:
            turns = rest(bells, me, did, turns, *slow_policy)
    for stage in python_stages:
        stage.close()
    row["state"] = WorkerState.STOPPED
