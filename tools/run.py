"""`perpcore up`, `status` and `stop`: an exchange in the foreground, and a look at it from outside.

Reads   shared memory of a running engine; nothing of it depends on that engine's configuration.
Writes  what is going on, once a second; with --json, everything for scripts.
Never   imports numba for `status` and `stop`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from shm import cursors
from shm.config import Config, ConfigError, workers_for
from shm.control import Phase, View, text_of
from shm.counters import Counter, Counters, Timing
from shm.histogram import percentiles
from shm.logs import text_of as text_of_record
from shm.segment import SegmentError, list_segments, process_start

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from engine.supervisor import Group

HEADER_EVERY: Final = 20  # lines
INTERVAL_SECONDS: Final = 1.0  # over which `status` measures rates

_CUT_WHY: Final = {
    0: "",
    cursors.CUT_DISK: "the disk is nearly full",
    cursors.CUT_CLOCK: "the host's clock is off",
}
STAGE_CURSORS: Final = (
    ("settled", cursors.SETTLED),
    ("journaled", cursors.JOURNALED),
    ("published", cursors.PUBLISHED),
)


# ---------------------------------------------------------------- what is going on


class Sample:
    """Cursors, counters and histograms of one moment."""

    def __init__(self, cells: Any, counters: Counters, shards: int) -> None:
        self.ns = time.monotonic_ns()
        self.sequenced = int(cells[cursors.SEQUENCED])
        matched = min(int(cells[cursors.matched(k)]) for k in range(shards))
        later = {name: int(cells[cell]) for name, cell in STAGE_CURSORS}
        risked = int(cells[cursors.RISKED])
        self.at = {"sequenced": self.sequenced, "risked": risked, "matched": matched, **later}
        self.reports = int(cells[cursors.REPORTS_WRITTEN])
        self.fills = int(counters.cells[Counter.MATCH_FILLS * 8])
        self.sync = counters.histogram(Timing.SYNC).copy()
        self.durable = counters.histogram(Timing.SEQUENCED_TO_DURABLE).copy()

    def backlog(self) -> dict[str, int]:
        """How many commands each stage is behind the sequencer."""
        return {name: self.sequenced - at for name, at in self.at.items() if name != "sequenced"}

    def since(self, before: Sample) -> dict[str, Any]:
        """Rates a second, and times in µs, between two moments; None where nothing was timed."""
        seconds = max((self.ns - before.ns) / 1e9, 1e-9)
        sync, durable = self.sync - before.sync, self.durable - before.durable
        # The largest value is not a sum; percentiles only use it as a limit.
        sync[0], durable[0] = self.sync[0], self.durable[0]
        sync_p50, sync_p99 = (ns / 1000 for ns in percentiles(sync, (50, 99)))
        p50, p99 = (ns / 1000 for ns in percentiles(durable, (50, 99)))
        return {
            "commands_per_s": round((self.sequenced - before.sequenced) / seconds),
            "fills_per_s": round((self.fills - before.fills) / seconds),
            "reports_per_s": round((self.reports - before.reports) / seconds),
            "sync_p50_us": sync_p50 or None,
            "sync_p99_us": sync_p99 or None,
            "durable_p50_us": p50 or None,
            "durable_p99_us": p99 or None,
        }


_COLUMNS: Final = (
    ("time", 8),
    ("commands/s", 11),
    ("fills/s", 9),
    ("reports/s", 10),
    ("behind: risk", 13),
    ("match", 6),
    ("settle", 7),
    ("journal", 8),
    ("publish", 8),
    ("sync p50/p99 µs", 17),
    ("durable p50/p99 µs", 20),
)


def _line(cells: list[str]) -> str:
    return " ".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))


def _pair(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:,.0f} / {high:,.0f}"


def _row(now: Sample, before: Sample) -> str:
    rates, behind = now.since(before), now.backlog()
    return _line(
        [
            f"{datetime.now():%H:%M:%S}",
            *(f"{rates[name]:,}" for name in ("commands_per_s", "fills_per_s", "reports_per_s")),
            *(f"{count:,}" for count in behind.values()),
            _pair(rates["sync_p50_us"], rates["sync_p99_us"]),
            _pair(rates["durable_p50_us"], rates["durable_p99_us"]),
        ]
    )


# ---------------------------------------------------------------- up


class _Up:
    """The foreground of a running exchange: its traffic and clock, and what is printed."""

    def __init__(
        self,
        config: Config,
        traffic: int,
        seconds: float | None,
        clock: bool,
    ):
        self.config = config
        self.rate = traffic
        self.seconds = seconds
        self.until: float | None = None
        self.show = traffic > 0 or sys.stdout.isatty()
        self.seen_by_people = sys.stderr.isatty()  # else log records go there, as JSON
        self.traffic: ForkServerProcess | None = None
        self.clock: ForkServerProcess | None = None
        self.with_clock = clock
        self.lines = 0
        self.before: Sample | None = None

    def say(self, text: str = "") -> None:
        with suppress(OSError):  # whoever reads us may go; the exchange stays
            print(text, flush=True)

    def hear(self, record: dict[str, Any]) -> None:
        """A log record; the person in front of the screen sees those that matter."""
        if record["event"] == "compiling":
            self.say(f"  compiling {record['what']} (once; kept for the next start)")
        elif self.seen_by_people and record["level"] in ("warning", "error"):
            print(text_of_record(record), file=sys.stderr, flush=True)

    def running(self, group: Group) -> None:
        """The engine has come up, for the first time or again."""
        config, engine = self.config, group.engine
        self.say(
            f"perpcore {config.instance}: running, epoch {group.epoch}, "
            f"data {text_of(engine['data_dir'])}"
        )
        for worker, process in zip(group.workers, group.processes, strict=True):
            stages = " ".join(worker.stages)
            cpu = "" if worker.cpu is None else f", core {worker.cpu}"
            self.say(f"  {worker.name:<10} pid {process.pid:<8} {stages}{cpu}")
        self.say(f"  reports    {' '.join(config.publisher_endpoints)}")
        self.say(f"  missed     {' '.join(config.range_endpoints)}")
        recovered = int(engine["recovered_seq"])
        if recovered:
            seconds = int(engine["recovered_us"]) / 1e6
            self.say(f"  recovered  {recovered:,} commands in {seconds:.2f} s")
        if self.seconds is not None and self.until is None:
            self.until = time.monotonic() + self.seconds
        self.before = self._sample(group)
        self.lines = 0
        if not self.with_clock:
            pass
        elif "clock" not in {p.name for p in config.producers}:
            self.say("  clock      none: [[producers]] has none of that name")
        elif self.clock is None or not self.clock.is_alive():
            self._start_clock()
        if self.rate and (self.traffic is None or not self.traffic.is_alive()):
            self._start_traffic()
            self.say(f"  traffic    {self.rate:,} commands a second")
        self.say("Ctrl-C stops it cleanly.")

    def _start_traffic(self) -> None:
        from engine.forks import start_process
        from tools import demo

        args = (self.config.instance, self.rate)
        self.traffic = start_process(demo.main, args, "demo")

    def _start_clock(self) -> None:
        from engine import clock
        from engine.forks import start_process

        self.clock = start_process(clock.main, (self.config,), "clock")

    def _sample(self, group: Group) -> Sample:
        arrays = group.memory.arrays
        return Sample(arrays["cursors"], Counters(arrays), self.config.shards)

    def tick(self, group: Group) -> None:
        """About a second has passed."""
        now = self._sample(group)
        if self.show and self.before is not None:
            if self.lines % HEADER_EVERY == 0:
                self.say(_line([title for title, _ in _COLUMNS]))
            self.say(_row(now, self.before))
            self.lines += 1
        self.before = now
        if self.clock is not None and not self.clock.is_alive():
            print(f"warning: the clock ended with {self.clock.exitcode}, starting it again",
                  file=sys.stderr, flush=True)  # fmt: skip
            self._start_clock()
        if self.traffic is not None and not self.traffic.is_alive():
            print(f"warning: the traffic ended with {self.traffic.exitcode}, starting it again",
                  file=sys.stderr, flush=True)  # fmt: skip
            self._start_traffic()

    def time_is_up(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def stopping(self) -> None:
        """Before the engine stops taking commands."""
        self.say("stopping: finishing what was taken (Ctrl-C again ends at once)")
        self.end_others()

    def end_others(self) -> None:
        """End what was started beside the engine."""
        for process in (self.traffic, self.clock):
            if process is not None:
                process.terminate()
                process.join(2.0)
                process.kill()
                process.join()
        self.traffic = self.clock = None


def usable_cores() -> int:
    """Physical cores this process may use."""
    import psutil

    mine = len(os.sched_getaffinity(0))
    return min(mine, psutil.cpu_count(logical=False) or mine)


def up(
    config: Config,
    *,
    traffic: int = 0,
    seconds: float | None = None,
    restart: bool = True,
    clock: bool = True,
) -> int:
    """Start an exchange and stay with it; returns the exit code.

    traffic     send it the demo's orders, so many commands a second
    seconds     stop after so long
    clock       run the clock process beside the engine; False: it is a service of its own
    restart     start the group again when a worker dies; False leaves that to systemd
    """
    from engine.forks import start_server

    start_server()  # it loads beside us
    from engine.supervisor import (
        EXIT_CLEAN,
        EXIT_FAILED,
        EXIT_UNCLEAN,
        Log,
        Supervisor,
    )

    if traffic and "demo" not in {p.name for p in config.producers}:
        raise ConfigError(
            "producers: the traffic comes through 'demo', which is not there. "
            'Add name = "demo", kinds = ["any"], or leave the traffic out'
        )
    front = _Up(config, traffic, seconds, clock)
    stream: TextIO = sys.stderr
    if front.seen_by_people:
        data = Path(config.data_dir)
        data.mkdir(mode=0o750, parents=True, exist_ok=True)
        stream = open(data / "engine.log", "a")  # noqa: SIM115 - for as long as we run
    log = Log(stream, config.log_level, front.hear, config.instance)

    def tick(group: Group) -> None:
        front.tick(group)
        if front.time_is_up():
            supervisor.request_stop()

    supervisor = Supervisor(
        config,
        workers_for(config, usable_cores()),
        log,
        restarts_max=None if restart else 0,
        on_running=front.running,
        on_tick=tick,
        on_stopping=front.stopping,
    )
    try:
        code = supervisor.run()
    finally:
        front.end_others()
    front.say(
        {
            EXIT_CLEAN: "stopped: everything taken is durable and published, nothing left behind",
            EXIT_UNCLEAN: "stopped, but not in order: the next start recovers from the WAL",
            EXIT_FAILED: "ended: a worker died; the next start recovers from the WAL",
        }[code]
    )
    return code


# ---------------------------------------------------------------- status


def _others(instance: str) -> str:
    live = sorted({s.instance for s in list_segments() if s.state == "live"} - {instance})
    return f". Running on this host: {', '.join(live)}" if live else ""


def _attach(instance: str) -> View | None:
    """Look at an instance, or say on stderr why there is nothing to look at."""
    try:
        return View(instance)
    except SegmentError as error:
        print(f"perpcore {instance}: not running: {error}{_others(instance)}", file=sys.stderr)
        return None


def status(instance: str, *, as_json: bool = False) -> int:
    """Print how a running exchange does; returns 1 when none runs."""
    import psutil

    view = _attach(instance)
    if view is None:
        return 1
    try:
        counters = Counters.attach(instance, writable=False)
    except SegmentError as error:
        print(f"perpcore {instance}: {error}", file=sys.stderr)
        return 1
    engine, shards = view.engine, int(view.engine["shards"])
    processes = {}
    for worker in view.workers():
        with suppress(psutil.Error):
            processes[worker.pid] = process = psutil.Process(worker.pid)
            process.cpu_percent()
    before = Sample(view.cells, counters, shards)
    time.sleep(INTERVAL_SECONDS)
    now = Sample(view.cells, counters, shards)
    workers = []
    for worker in view.workers():
        cpu_percent = rss_bytes = None
        with suppress(psutil.Error, KeyError):
            cpu_percent = processes[worker.pid].cpu_percent()
            rss_bytes = processes[worker.pid].memory_info().rss
        workers.append(
            {
                "name": worker.name,
                "pid": worker.pid,
                "alive": worker.pid != 0 and process_start(worker.pid) != 0,
                "state": worker.state.name,
                "stages": worker.stages,
                "cpu": worker.cpu if worker.cpu >= 0 else None,
                "refused": [wish.name for wish in worker.refused],
                "ready_ms": worker.ready_us / 1000,
                "heartbeat_age_ms": round((time.monotonic_ns() - worker.heartbeat_ns) / 1e6, 1),
                "sleeps": worker.sleeps,
                "cpu_percent": cpu_percent,
                "rss_bytes": rss_bytes,
            }
        )
    running_ns = int(engine["running_ns"])
    found = {
        "instance": instance,
        "phase": view.phase.name,
        "epoch": view.epoch,
        "pid": view.pid,
        "data_dir": text_of(engine["data_dir"]),
        "running_s": round((time.time_ns() - running_ns) / 1e9, 1) if running_ns else None,
        "restarts": int(engine["restarts"]),
        "recovered_seq": int(engine["recovered_seq"]),
        "recovered_ms": int(engine["recovered_us"]) / 1000,
        "workers": workers,
        "cursors": {
            **now.at,
            "matched": [view.cursor(cursors.matched(k)) for k in range(shards)],
            "reports_written": now.reports,
            "reports_journaled": view.cursor(cursors.REPORTS_JOURNALED),
            "reports_logged": view.cursor(cursors.REPORTS_READ),
        },
        "behind": now.backlog(),
        "rings": {
            name: int(engine[name]) for name in ("commands", "matches", "reports", "ingress")
        },
        "cut": bool(view.cursor(cursors.CUT)),
        "cut_why": _CUT_WHY.get(view.cursor(cursors.CUT), "unknown"),
        "rates": now.since(before),
        "counters": {name: value for name, (value, _) in counters.read().items()},
    }
    view.close()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_status(found)
    return 0


def _print_status(found: dict[str, Any]) -> None:
    rates, behind = found["rates"], found["behind"]
    since = "" if found["running_s"] is None else f" for {found['running_s']:,.0f} s"
    print(
        f"perpcore {found['instance']}: {found['phase'].lower()}{since}, epoch {found['epoch']}, "
        f"pid {found['pid']}, data {found['data_dir']}"
    )
    if found["cut"]:
        print(f"  CANCEL ONLY: {found['cut_why']}")
    if found["restarts"]:
        print(f"  started again {found['restarts']} times after a fault")
    print(f"  recovered {found['recovered_seq']:,} commands in {found['recovered_ms']:,.0f} ms")
    print(
        f"  {rates['commands_per_s']:,} commands/s  {rates['fills_per_s']:,} fills/s  "
        f"{rates['reports_per_s']:,} reports/s   "
        f"sync {_pair(rates['sync_p50_us'], rates['sync_p99_us'])} µs   "
        f"durable {_pair(rates['durable_p50_us'], rates['durable_p99_us'])} µs (p50 / p99)"
    )
    print(
        f"  command {found['cursors']['sequenced']:,}; behind it: "
        + ", ".join(f"{name} {count:,}" for name, count in behind.items())
    )
    for worker in found["workers"]:
        load = "" if worker["cpu_percent"] is None else f"{worker['cpu_percent']:5.1f} %"
        memory = "" if worker["rss_bytes"] is None else f"{worker['rss_bytes'] >> 20:,} MiB"
        refused = f"  refused: {', '.join(worker['refused'])}" if worker["refused"] else ""
        alive = worker["state"].lower() if worker["alive"] else "DEAD"
        print(
            f"  {worker['name']:<10} pid {worker['pid']:<8} {alive:<8} {load:>8} {memory:>8}  "
            f"heartbeat {worker['heartbeat_age_ms']:.0f} ms ago  {' '.join(worker['stages'])}"
            f"{refused}"
        )


# ---------------------------------------------------------------- stop


def name_successor(config: Config, release: int) -> int:
    """The engine's last command but a CHECKPOINT says which release goes on; its sequence number.

    Sent as the producer "admin", whose own process, like every other gateway, must be down: what
    came after it this release would have decided, and no other could replay.
    """
    from shm.codes import Kind
    from shm.kinds import command
    from tools.desk import ask

    return ask(config, "admin", command(Kind.UPGRADE, note=(release, 0, 0)))


def stop(instance: str, *, seconds: float = 30.0) -> int:
    """Ask a running exchange to stop in order, wait until it has; returns 0 when it did so."""
    view = _attach(instance)
    if view is None:
        return 1
    pid, begun = view.pid, time.monotonic()
    start = process_start(pid)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        print(f"perpcore {instance}: pid {pid} ended just now", file=sys.stderr)
        return 1
    except PermissionError:
        print(
            f"perpcore {instance}: pid {pid} belongs to another user; stop it as that user or root",
            file=sys.stderr,
        )
        return 1
    while process_start(pid) == start:
        if time.monotonic() - begun > seconds:
            print(
                f"perpcore {instance}: pid {pid} is {view.phase.name.lower()} after {seconds:.0f} s"
                f" and goes on stopping; to end it at once: kill -TERM {pid} (again)",
                file=sys.stderr,
            )
            return 1
        time.sleep(0.01)
    took = time.monotonic() - begun
    if view.phase != Phase.STOPPED:
        print(
            f"perpcore {instance}: ended after {took:.2f} s, but not in order. "
            "The next start recovers everything acknowledged",
            file=sys.stderr,
        )
        return 1
    taken = view.cursor(cursors.SEQUENCED)
    print(f"perpcore {instance}: stopped in {took:.2f} s; {taken:,} commands, all durable")
    return 0
