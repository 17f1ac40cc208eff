"""A venue as its operator has it: `perpcore up` as a process, looked at from outside.

Each runs in a session of its own, so that whatever it leaves behind can be found and ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from shm.control import CURSOR_PARTS, CURSORS, Phase, View
from shm.feed import Feed
from shm.records import REPORT
from shm.segment import Part, Segment, SegmentError, list_segments

ROOT = Path(__file__).parents[2]
SMALL = {
    "wal.segment_bytes": 4 << 20,
    "wal.preallocate": 1,
    "limits.accounts": 256,
    "limits.positions": 1024,
    "limits.orders": 8192,
    "limits.clients": 8192,
}
START_SECONDS = 150.0  # a cold cache compiles everything once


def die_with_pytest() -> None:
    """In the child: stop when pytest is gone, however it went."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    # Whoever runs the tests in the background (nohup, a shell's &) may ignore these, and children
    # would inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def free_port() -> int:
    """A TCP port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: Callable[[], Any], seconds: float, why: str) -> Any:
    """The first true value of `what`, or an assertion."""
    until = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < until, f"{why}: not within {seconds} s"
        time.sleep(0.005)
    return value


class Venue:
    """One `perpcore up`; `start` may be called again after it has ended."""

    def __init__(
        self,
        folder: Path,
        instance: str,
        *arguments: str,
        settings: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.data = folder / "data"
        self.instance = instance
        self.log = folder / "up.log"
        chosen = {**SMALL, **(settings or {})}
        if "--clock" not in arguments:
            arguments = (*arguments, "--no-clock")  # nothing happens that the test didn't ask for
        self.arguments = [
            *("up", "--instance", instance, "--data", str(self.data), *arguments),
            *(f"--set={name}={value}" for name, value in chosen.items()),
        ]
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.sessions: list[int] = []

    # ------------------------------------------------------------ running it

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", *self.arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_pytest,
            )
        self.sessions.append(self.process.pid)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text()

    def view(self) -> View | None:
        """The running engine, or None."""
        with suppress(SegmentError):
            view = View(self.instance)
            if view.phase == Phase.RUNNING:
                return view
            view.close()
        return None

    def until_running(self, epoch: int = 1) -> View:
        """Wait for a start of at least this epoch."""

        def running() -> View | None:
            assert self.process is not None
            assert self.process.poll() is None, f"it ended:\n{self.said()[-4000:]}"
            view = self.view()
            return view if view is not None and view.epoch >= epoch else None

        found: View = wait_until(running, START_SECONDS, "the engine is not running")
        return found

    def until_ended(self, seconds: float = 60.0) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {seconds} s:\n{self.said()[-4000:]}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the supervisor alone; returns its exit code."""
        os.kill(self.pid, number)
        return self.until_ended()

    def worker(self, name: str) -> int:
        """Pid of a worker of the running engine."""
        view = self.view()
        assert view is not None
        return {w.name: w.pid for w in view.workers()}[name]

    # ------------------------------------------------------------ what it leaves

    def processes(self) -> list[psutil.Process]:
        """Everything that was started by it and still runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                mine = os.getsid(process.pid) in self.sessions
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def sockets(self) -> list[Path]:
        return [path for path in self.data.rglob("*") if path.is_socket()]

    def segments(self) -> list[str]:
        return [info.name for info in list_segments(self.instance)]

    def check_nothing_left(self) -> None:
        """After the end: no segment, no socket, and soon no process."""
        assert self.segments() == [] and self.sockets() == []
        # multiprocessing's tracker ends by itself when it sees that its parent has.
        wait_until(lambda: not self.processes(), 5, f"processes: {self.processes()}")

    def end(self) -> None:
        """Whatever happened: end every process of it."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()
        # Until then they hold their files, and the room of those that are removed.
        wait_until(lambda: not self.processes(), 60, "killed processes are still there")


def perpcore(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another perpcore command."""
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def status_of(instance: str) -> dict[str, Any]:
    result = perpcore("status", "--instance", instance, "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


class Witness:
    """Follows the reports of a venue through all its starts, and remembers every byte."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.batches: list[np.ndarray[Any, Any]] = []
        self.count = 0
        self._epoch = 0
        self._segments: list[Segment] = []
        self._feed: Feed | None = None

    def attach(self, view: View) -> None:
        """Follow this start from where the last one was left."""
        self.detach()
        self._epoch = view.epoch
        slots = int(view.engine["reports"])
        parts = (Part("reports", "REPORT", slots),)
        instance = self.venue.instance
        self._segments = [
            Segment.attach(instance, CURSORS, CURSOR_PARTS, view.epoch),
            Segment.attach(instance, "reports", parts, view.epoch),
        ]
        cursors, ring = self._segments
        self._feed = Feed(self.venue.data, cursors.arrays["cursors"], ring.arrays["reports"], 4096)

    def detach(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._feed = None
        for segment in self._segments:
            segment.close()

    def follow(self, seconds: float) -> None:
        """Take what comes for so long; what came is acknowledged for ever."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.take() == 0:
                time.sleep(0.001)

    def finish(self) -> None:
        """Take all that is left of an engine that has stopped in order."""
        while self.take():
            pass

    def take(self) -> int:
        """Take what is there, 4,096 reports at most; returns how many."""
        assert self._feed is not None
        rows = self._feed.read(self.count, 4096)
        if len(rows):
            self.batches.append(rows.copy())
            self.count += len(rows)
        return len(rows)

    def reports(self) -> np.ndarray[Any, Any]:
        return np.concatenate(self.batches) if self.batches else np.zeros(0, REPORT.dtype)
