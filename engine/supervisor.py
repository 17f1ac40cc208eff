"""The engine as one unit: owns the data directory and the memory, starts and stops the workers.

    lock data dir -> epoch -> segments -> spawn workers -> recover -> all READY
                  -> RUN: journal, publisher, ... sequencer last -> watch
    a worker dies -> kill all, remove the memory, next epoch, recover from the WAL, start again
    stop          -> sequencer first; what was taken is settled, durable, published; then the rest

Reads   heartbeats, cursors, exit codes, the log queues of the workers.
Writes  status and orders in the control segment; log records; systemd's notify socket.
Never   repairs: shared memory is not trusted after a death, everything comes back from the WAL.

Each worker logs into a faster-fifo queue of its own, read by a thread of its own: a process killed
inside `put` leaves the queue's mutex locked for ever, and then only that thread hangs, until the
supervisor ends. Nothing depends on these queues; state and orders go through shared memory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import numpy as np
from faster_fifo import Empty, Queue

from engine import files, memory
from engine.forks import SIGNALS, start_process
from engine.worker import EXIT_START, EXITS, Task, stage_masks, work
from shm import cursors, kernelcache
from shm.codes import Kind
from shm.config import Config, Worker
from shm.control import STAGES, Order, Phase, WorkerState, put_text
from shm.counters import COUNTER_CELLS, Counter
from shm.cursors import HEARTBEAT_NS, doorbell
from shm.errors import ErrorTable
from shm.feed import store_cursor
from shm.hostclock import host_clock
from shm.ingress import HEAD, LAST_REQUEST, TAIL, segment_name
from shm.logs import record_of
from shm.notify import Patience, notify
from shm.pointers import table
from shm.segment import list_segments, remove_segments
from shm.units import PRODUCER_SHIFT
from shm.wait import request_stop

ROLE: Final = "engine"
LEVELS: Final = ("debug", "info", "warning", "error")

EXIT_CLEAN: Final = 0
EXIT_UNCLEAN: Final = 1  # stopped, but not in order; the WAL has everything acknowledged
EXIT_FAILED: Final = 70  # a worker died, and starting again is off or was tried enough
EXIT_FORCED: Final = 130

RESTARTS_SECONDS: Final = 60.0
READY_SECONDS: Final = 300.0  # a cold compile on a slow host
STEP_SECONDS: Final = 10.0  # how long a stop may see no progress before it goes on without
LAST_WORDS_SECONDS: Final = 0.5  # for log records of workers that are gone
INGRESS_SECONDS: Final = 1.0  # what producers have handed over is taken, if that is soon done
POLL_SECONDS: Final = 0.25
TICK_NS: Final = 1_000_000_000
_SUSPENDED_NS: Final = 1_000_000_000

SEQUENCE: Final = 1 << STAGES.index("sequence")
# The order in which workers are let go: whoever reads before whoever makes it something to read.
STARTS_LAST: Final = ("journal", "publish", "settle", "risk", "match", "sequence")


class Log:
    """Structured records, one JSON object a line (shm/logs.py)."""

    def __init__(
        self,
        stream: IO[str] | None,
        level: str = "info",
        sink: Callable[[dict[str, Any]], None] | None = None,
        instance: str = "",
    ) -> None:
        """stream: where lines go; sink: is called with every record as well."""
        self._instance = instance
        self._stream = stream
        self._least = LEVELS.index(level)
        self._sink = sink
        self._lock = threading.RLock()  # a signal may come while its own thread writes
        self.errors: ErrorTable | None = None  # of the engine that runs, for what is not well

    def write(
        self, level: str, event: str, *, who: str = "supervisor", ts_ns: int = 0, **fields: Any
    ) -> None:
        if LEVELS.index(level) < self._least:
            return
        record = record_of(
            level, event, role=ROLE, instance=self._instance, who=who, ts_ns=ts_ns, **fields
        )
        if self.errors is not None and level in ("warning", "error"):
            more = ", ".join(f"{name} {value}" for name, value in fields.items())
            self.errors.note(who, f"{level}: {event}{': ' if more else ''}{more}")
        with self._lock:
            if self._stream is not None:
                with suppress(OSError):  # whoever read it is gone; the engine stays
                    self._stream.write(json.dumps(record, default=str) + "\n")
                    self._stream.flush()
            if self._sink is not None:
                self._sink(record)


class WorkerDied(Exception):
    """A worker ended or hangs: the group must go."""

    def __init__(self, worker: str, why: str, code: int = 0) -> None:
        super().__init__(f"worker {worker}: {why}")
        self.worker = worker
        self.why = why
        self.code = code


class StopAsked(Exception):
    """Somebody asked the engine to stop while it was starting."""


def remove_sockets(config: Config) -> None:
    """Remove what a killed publisher left in the file system."""
    for endpoint in (*config.publisher_endpoints, *config.range_endpoints):
        if endpoint.startswith("ipc://"):
            with suppress(FileNotFoundError):
                os.unlink(endpoint.removeprefix("ipc://"))


class Group:
    """One start of the engine: its memory and its workers."""

    def __init__(
        self,
        config: Config,
        workers: tuple[Worker, ...],
        epoch: int,
        log: Log,
        wake: socket.socket | None = None,
    ) -> None:
        """wake: readable when a signal has come"""
        self.config = config
        self.workers = workers
        self.epoch = epoch
        self.processes: list[ForkServerProcess] = []
        self._log = log
        self._wake = wake
        self._over = threading.Event()
        self._queues: list[Queue] = []
        self.memory = memory.create(config, epoch)
        log.errors = ErrorTable.attach(config.instance, writable=True)
        arrays = self.memory.arrays
        self.engine = arrays["engine_status"][0]
        self.rows = arrays["worker_status"]
        self._bells = arrays["control"]
        self._cursors = arrays["cursors"]
        self._checked_ns = time.monotonic_ns()
        self._describe()

    def _describe(self) -> None:
        """Say in the control segment what this is, for everybody who looks."""
        config, engine = self.config, self.engine
        for k, worker in enumerate(self.workers):
            row = self.rows[k]
            row["stages"], row["shards"] = stage_masks(worker)
            row["cpu"] = -1 if worker.cpu is None else worker.cpu
            put_text(row["name"], worker.name)
        engine["epoch"], engine["pid"] = self.epoch, os.getpid()
        engine["workers"], engine["shards"] = len(self.workers), config.shards
        engine["sequencer"] = next(k for k, w in enumerate(self.workers) if "sequence" in w.stages)
        for ring in ("commands", "matches", "reports", "ingress"):
            engine[ring] = getattr(config.rings, ring)
        put_text(engine["data_dir"], str(Path(config.data_dir).resolve()))
        engine["started_ns"] = time.time_ns()

    @property
    def phase(self) -> Phase:
        return Phase(int(self.engine["phase"]))

    def set_phase(self, phase: Phase) -> None:
        self.engine["phase"] = phase

    def log(self, level: str, event: str, **fields: Any) -> None:
        self._log.write(level, event, epoch=self.epoch, **fields)

    # ------------------------------------------------------------ processes

    def spawn(self) -> None:
        """Start every process; each attaches, loads its kernels and waits for its order."""
        for k, worker in enumerate(self.workers):
            now_ns = time.monotonic_ns()
            task = Task(self.config, self.workers, k, self.epoch, now_ns)
            queue = Queue(1 << 18)
            self.processes.append(start_process(work, (task, queue), worker.name))
            self._queues.append(queue)
            threading.Thread(target=self._listen, args=(queue,), daemon=True).start()

    def _listen(self, queue: Queue) -> None:
        """Pass on what a worker logs, until all are gone and its queue is empty."""
        while not (self._over.is_set() and queue.empty()):
            with suppress(Empty):
                for ts_ns, level, who, event, fields in queue.get_many(timeout=1.0):
                    self._log.write(level, event, who=who, ts_ns=ts_ns, epoch=self.epoch, **fields)

    def check(self, timeout_seconds: float) -> None:
        """Wait a little, or until a signal comes; raise WorkerDied when one is gone or hangs."""
        alive: list[Any] = [p.sentinel for p in self.processes if p.exitcode is None]
        if len(alive) == len(self.processes):
            if self._wake is not None:
                alive.append(self._wake)
            if self._wake in connection.wait(alive, timeout_seconds):
                assert self._wake is not None
                self._wake.recv(64)
        # Of several that died together, the one that says most about the cause.
        dead = [k for k, p in enumerate(self.processes) if p.exitcode is not None]
        if dead:
            k = max(dead, key=lambda k: self.processes[k].exitcode or 0)
            raise WorkerDied(self.workers[k].name, self._why(k), self.processes[k].exitcode or 0)
        now_ns = time.monotonic_ns()
        slept_ns, self._checked_ns = now_ns - self._checked_ns, now_ns
        if slept_ns > _SUSPENDED_NS:
            return  # nobody had the processor: ask again when the workers have had it
        for k, worker in enumerate(self.workers):
            if int(self.rows[k]["state"]) in (WorkerState.RUNNING, WorkerState.DRAINED):
                silent_ms = (now_ns - int(self._bells[doorbell(k) + HEARTBEAT_NS])) // 1_000_000
                if silent_ms > self.config.heartbeat_timeout_ms:
                    raise WorkerDied(worker.name, f"no heartbeat for {silent_ms} ms")

    def count(self) -> None:
        """Bring what the state counts itself to where everybody reads counters."""
        arrays = self.memory.arrays
        for counter, value in (
            (Counter.SEQUENCER_COMMANDS, arrays["cursors"][cursors.SEQUENCED]),
            (Counter.RISK_COMMANDS, arrays["cursors"][cursors.RISKED]),
            (Counter.SETTLE_COMMANDS, arrays["cursors"][cursors.SETTLED]),
            (Counter.SETTLE_REPORTS, arrays["cursors"][cursors.REPORTS_WRITTEN]),
            (Counter.SETTLE_DEFICITS, arrays["venue"]["deficit_count"][0]),
            (Counter.MATCH_FILLS, arrays["symbols"]["trade_count"].sum()),
        ):
            arrays["counters"][counter * COUNTER_CELLS] = value

    def _why(self, k: int) -> str:
        code = self.processes[k].exitcode
        assert code is not None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit {code}: {EXITS.get(code, 'unknown')}"

    def kill(self) -> None:
        """End every process at once and wait until they are gone."""
        for process in self.processes:
            if process.exitcode is None:
                process.kill()
        for process in self.processes:
            process.join()
        self._over.set()
        until = time.monotonic() + LAST_WORDS_SECONDS  # a queue that died locked says no more
        while not all(queue.empty() for queue in self._queues) and time.monotonic() < until:
            time.sleep(0.005)

    def remove(self) -> None:
        """Kill what still runs, then remove memory and sockets."""
        self.kill()
        self.memory.unlink()
        self.memory.close()
        remove_sockets(self.config)

    # ------------------------------------------------------------ starting

    def resume_rings(self) -> None:
        """Let every producer go on above the last number that recovery knows of."""
        known = self.memory.arrays["producers"]["last_number"]
        for producer in self.config.producers:
            last = (producer.id << PRODUCER_SHIFT) + int(known[producer.id])
            self.memory.arrays[segment_name(producer.name)][LAST_REQUEST] = last

    def until_ready(self, stop_asked: Callable[[], bool]) -> None:
        """Return when every worker has attached and loaded its kernels."""
        until = time.monotonic() + READY_SECONDS
        while any(int(r["state"]) < WorkerState.READY for r in self.rows[: len(self.workers)]):
            self.check(0.005)
            if stop_asked():
                raise StopAsked
            if time.monotonic() > until:
                raise WorkerDied(self._waiting_for(WorkerState.READY), "is not ready in time")

    def _waiting_for(self, state: WorkerState) -> str:
        late = [w.name for k, w in enumerate(self.workers) if int(self.rows[k]["state"]) < state]
        return ", ".join(late)

    def release(self) -> None:
        """Let the workers run, readers before writers, the sequencer last."""
        for k in sorted(
            range(len(self.workers)),
            key=lambda k: max(
                STARTS_LAST.index(stage.partition(":")[0]) for stage in self.workers[k].stages
            ),
        ):
            self._order(k, Order.RUN, WorkerState.RUNNING)

    def _order(self, k: int, order: Order, wanted: WorkerState) -> None:
        """Give a worker an order and wait until it says that it has followed it."""
        until = time.monotonic() + READY_SECONDS
        self.rows[k]["order"] = order
        if order == Order.DRAIN:
            request_stop(table(self._bells), k)  # out of its kernel, to hear the order
        while int(self.rows[k]["state"]) < wanted:
            self.check(0.001)
            if time.monotonic() > until:
                raise WorkerDied(self.workers[k].name, f"did not follow order {order.name}")

    # ------------------------------------------------------------ stopping

    def drain(self) -> bool:
        """Take no more commands and finish those that were taken; whether all of it was done."""
        self.set_phase(Phase.DRAINING)
        self._until(self._ingress_left, INGRESS_SECONDS)
        for k in range(len(self.workers)):
            if int(self.rows[k]["stages"]) & SEQUENCE:
                self._order(k, Order.DRAIN, WorkerState.DRAINED)
        left = self._until(self._work_left, STEP_SECONDS)
        for what, count in left.items():
            self.log("error", "not drained", what=what, left=count)
        return not left

    def _until(self, left: Callable[[], dict[str, int]], seconds: float) -> dict[str, int]:
        """Wait until nothing is left, or nothing has moved for some time; what then is left."""
        before: dict[str, int] = {}
        until = time.monotonic() + seconds
        while now := left():
            if now != before:
                before, until = now, time.monotonic() + seconds
            if time.monotonic() > until:
                return now
            self.check(0.002)
        return {}

    def _ingress_left(self) -> dict[str, int]:
        """Commands handed over and not taken, by producer."""
        left = {}
        for producer in self.config.producers:
            ring = self.memory.arrays[segment_name(producer.name)]
            if count := int(ring[TAIL]) - int(ring[HEAD]):
                left[producer.name] = count
        return left

    def _work_left(self) -> dict[str, int]:
        """Commands and reports that some stage has not done with."""
        at = self._cursors
        sequenced, written = int(at[cursors.SEQUENCED]), int(at[cursors.REPORTS_WRITTEN])
        last = self.memory.arrays["commands"][sequenced & (self.config.rings.commands - 1)]
        left = {
            "closed": int(last["kind"] != Kind.CHECKPOINT),
            "settled": sequenced - int(at[cursors.SETTLED]),
            "journaled": sequenced - int(at[cursors.JOURNALED]),
            "reports journaled": written - int(at[cursors.REPORTS_JOURNALED]),
            "published": sequenced - int(at[cursors.PUBLISHED]),
        }
        return {what: count for what, count in left.items() if count}

    def stop(self) -> bool:
        """Tell the workers to end, in pipeline order, and wait; whether all of them did so well."""
        well = True
        for k, worker in enumerate(self.workers):
            request_stop(table(self._bells), k)
            self.processes[k].join(STEP_SECONDS)
            if self.processes[k].exitcode is None:
                self.log("error", "does not stop", worker=worker.name)
                self.processes[k].kill()
                self.processes[k].join()
            if self.processes[k].exitcode != EXIT_CLEAN:
                self.log("error", "ended badly", worker=worker.name, why=self._why(k))
                well = False
        return well


def heed_clock(config: Config, cells: np.ndarray[Any, Any], log: Log) -> None:
    """Cancel-only while the host's clock is further off than it may be; as before when it isn't.

    A clock that nobody disciplines is left alone: `perpcore doctor` says so. While the disk is full
    too, the journal's word stands.
    """
    limit_us, clock = config.clock.offset_max_us, host_clock()
    cut = int(cells[cursors.CUT])
    off_us = clock.off_ns // 1000 if clock is not None and limit_us else 0
    if off_us > limit_us and cut == 0:
        store_cursor(table(cells), cursors.CUT, cursors.CUT_CLOCK)
        log.write("error", "clock is off: cancel-only", off_us=off_us, limit_us=limit_us)
    elif off_us <= limit_us and cut == cursors.CUT_CLOCK:
        store_cursor(table(cells), cursors.CUT, 0)
        log.write("warning", "clock is right: openings are accepted again", off_us=off_us)


class Supervisor:
    """Runs an engine until it is asked to stop. Use from the main thread: it handles signals."""

    def __init__(
        self,
        config: Config,
        workers: tuple[Worker, ...],
        log: Log,
        *,
        restarts_max: int | None = None,
        on_running: Callable[[Group], None] | None = None,
        on_tick: Callable[[Group], None] | None = None,
        on_stopping: Callable[[], None] | None = None,
    ) -> None:
        """Hooks for `perpcore up`.

        restarts_max    instead of the configuration's; 0 leaves restarting to systemd
        on_running      after each start          on_tick     about every second while it runs
        on_stopping     before the engine stops taking commands
        """
        self.config = config
        self.workers = workers
        self.log = log
        self.group: Group | None = None
        self._restarts_max = config.restarts_max if restarts_max is None else restarts_max
        self._on_running = on_running
        self._on_tick = on_tick
        self._on_stopping = on_stopping
        self._signals = 0
        self._deaths: deque[float] = deque()
        self._restarts = 0

    # ------------------------------------------------------------ being told

    def request_stop(self) -> None:
        """Stop in order as soon as possible."""
        self._signals = max(self._signals, 1)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            return
        # Asked twice: end at once. What was acknowledged is in the WAL.
        for process in self.group.processes if self.group is not None else ():
            process.kill()
        for info in list_segments(self.config.instance):
            if info.pid == os.getpid():
                remove_segments(self.config.instance, dead_only=False)
                break
        remove_sockets(self.config)
        self.log.write("warning", "forced stop", signal=signal.Signals(number).name)
        os._exit(EXIT_FORCED)

    def stop_asked(self) -> bool:
        if self.group is not None and int(self.group.engine["stop_asked"]):
            self._signals = max(self._signals, 1)
        return self._signals > 0

    # ------------------------------------------------------------ running

    def run(self) -> int:
        """Start, watch, start again, stop; returns the exit code.

        raises      files.DataError, segment.SegmentError: what the operator must put right first
        """
        # SIGHUP may be ignored already (nohup), and then stays so.
        heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in heard}
        wake, woken = socket.socketpair()
        woken.setblocking(False)
        wakeup_before = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        data = Path(self.config.data_dir)
        files.make_folders(data)
        try:
            with files.lock_data(data):
                return self._run(wake)
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            wake.close()
            woken.close()

    def _run(self, wake: socket.socket) -> int:
        data = Path(self.config.data_dir)
        for name in remove_segments(self.config.instance):
            self.log.write("info", "removed segment of a dead engine", segment=name)
        while True:
            known = files.manifest_path(data).exists()
            epoch = (files.read_manifest(data).epoch if known else 0) + 1
            group = self.group = Group(self.config, self.workers, epoch, self.log, wake)
            group.engine["restarts"] = self._restarts
            try:
                self._start(group)
                self._watch(group)
                return self._stop(group)
            except StopAsked:
                self.log.write("info", "stopped while starting", epoch=epoch)
                return EXIT_CLEAN
            except WorkerDied as death:
                group.log("error", "worker died", worker=death.worker, why=death.why)
                if group.phase >= Phase.DRAINING or self.stop_asked():
                    return EXIT_UNCLEAN
                if death.code == EXIT_START or not self._may_start_again(group):
                    return EXIT_FAILED
            finally:
                if group.phase != Phase.STOPPED:
                    group.set_phase(Phase.DEAD)
                group.remove()
                self.group = None

    def _may_start_again(self, group: Group) -> bool:
        """Count a death; whether another start may cure it."""
        now = time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > RESTARTS_SECONDS:
            self._deaths.popleft()
        if len(self._deaths) > self._restarts_max:
            group.log("error", "not started again", deaths=len(self._deaths), within_s=60)
            return False
        self._restarts += 1
        notify(f"STATUS=restarting after a worker died (epoch {group.epoch})")
        return True

    # ------------------------------------------------------------ one start

    def _start(self, group: Group) -> None:
        """Workers load their kernels while this process recovers; then all are let go."""
        notify("STATUS=starting")
        with Patience(READY_SECONDS):
            self._come_up(group)

    def _come_up(self, group: Group) -> None:
        from engine import compiling, recovery, room

        begun_ns = time.monotonic_ns()
        # One process compiles what the cache lacks, before several would do so at once.
        cold = not compiling.is_compiled()
        level = "info" if cold else "debug"
        compiling.compile_all(
            lambda text: self.log.write(level, "compiling", what=text), look=self._unless_stopped
        )
        compiled_ns = time.monotonic_ns()
        kernelcache.mark_used()
        self._unless_stopped()
        group.spawn()
        group.set_phase(Phase.RECOVERING)
        segment_bytes, folder = self.config.wal.segment_bytes, Path(self.config.data_dir)
        then = "Nothing that was acknowledged is lost. Make room, then start again"
        with room.wanting(segment_bytes, folder, "the files of a new start", then):
            found = recovery.recover(self.config, group.memory.arrays)
        assert found.epoch == group.epoch
        group.resume_rings()
        recovered_ns = time.monotonic_ns()
        group.engine["recovered_seq"] = found.seq
        group.engine["recovered_us"] = (recovered_ns - compiled_ns) // 1000
        group.until_ready(self.stop_asked)
        ready_ns = time.monotonic_ns()
        group.release()
        group.engine["running_ns"] = time.time_ns()
        group.set_phase(Phase.RUNNING)
        running_ns = time.monotonic_ns()
        group.log(
            "info",
            "running",
            workers={w.name: p.pid for w, p in zip(self.workers, group.processes, strict=True)},
            recovered_seq=found.seq,
            load_ms=(compiled_ns - begun_ns) // 1_000_000,
            recover_ms=(recovered_ns - compiled_ns) // 1_000_000,
            workers_ms=(ready_ns - recovered_ns) // 1_000_000,
            release_ms=(running_ns - ready_ns) // 1_000_000,
            start_ms=(running_ns - begun_ns) // 1_000_000,
        )
        group.count()
        notify(f"READY=1\nSTATUS=running, epoch {group.epoch}")
        if self._on_running is not None:
            self._on_running(group)

    def _unless_stopped(self) -> None:
        if self.stop_asked():
            raise StopAsked

    def _watch(self, group: Group) -> None:
        """Return when a stop is asked for; raise WorkerDied when a worker is gone."""
        next_ns = time.monotonic_ns() + TICK_NS
        while not self.stop_asked():
            group.check(POLL_SECONDS)
            if time.monotonic_ns() >= next_ns:
                next_ns += TICK_NS
                notify("WATCHDOG=1")
                group.count()
                heed_clock(self.config, group.memory.arrays["cursors"], self.log)
                if self._on_tick is not None:
                    self._on_tick(group)

    def _stop(self, group: Group) -> int:
        """Stop in order; returns the exit code."""
        notify("STOPPING=1\nSTATUS=stopping")
        begun_ns = time.monotonic_ns()
        if self._on_stopping is not None:
            self._on_stopping()
        drained = group.drain()
        stopped = group.stop()
        group.set_phase(Phase.STOPPED)
        sequenced = int(group.memory.arrays["cursors"][cursors.SEQUENCED])
        stop_ms = (time.monotonic_ns() - begun_ns) // 1_000_000
        group.log("info", "stopped", seq=sequenced, drained=drained, stop_ms=stop_ms)
        return EXIT_CLEAN if drained and stopped else EXIT_UNCLEAN
