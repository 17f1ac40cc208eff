"""Child processes of one command: started, waited for, started again when they die, ended in order.

Reads   what children say as they would to systemd (shm/notify.py), each on a socket of its own.
Writes  signals; the children's output goes to a file each.
Never   shares a terminal's signals with them: Ctrl-C reaches the parent alone, which ends them in
        its own order. When the parent is killed the kernel tells each child to stop (SIGTERM).

A child is a process group: what it started itself is ended with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parent.parent
AGAIN_SECONDS: Final = (0.2, 5.0)  # before a child is started again: at first, at most
DEATHS_MAX: Final = 8  # of one child within DEATHS_SECONDS; then it is hopeless
DEATHS_SECONDS: Final = 60.0
LOG_BYTES_MAX: Final = 4 << 20  # a longer one is put aside when its child starts
TAIL_LINES: Final = 12
MESSAGE_BYTES: Final = 4096
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class ChildError(Exception):
    """A child can't be had; the text says why, as far as its output does."""


def environment() -> dict[str, str]:
    """Of a child: our own packages come first, whatever lies in the current directory."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def python(
    *arguments: str, stderr: IO[bytes], stdout: IO[bytes] | int = subprocess.PIPE, nice: int = 0
) -> subprocess.Popen[bytes]:
    """A child that does one thing and ends; what it prints can be read, unless told otherwise."""
    end_with_us = _end_with(os.getpid())

    def in_child() -> None:
        end_with_us()
        os.nice(nice)

    return subprocess.Popen(
        [sys.executable, "-P", *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
        preexec_fn=in_child,
    )


def _end_with(parent: int) -> Callable[[], None]:
    """In the child: hear SIGTERM from the kernel when its parent is gone."""

    def in_child() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class Child:
    """One process to keep alive."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, grace_s: float) -> None:
        """
        arguments   of this Python; what it prints goes to `log`
        grace_s     after SIGTERM, until SIGKILL
        """
        self.name, self.arguments, self.log, self.grace_s = name, list(arguments), log, grace_s
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False  # it has said so, since it was last started
        self.status = ""  # what it last said of itself
        self.restarts = 0
        self.deaths: deque[float] = deque()
        self.again_s = 0.0  # when to start it again, monotonic
        self.address = f"@perpcore-{os.getpid()}-{name}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind("\0" + self.address[1:])

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def ended_well(self) -> bool:
        """Whether it has ended by itself, in order."""
        return self.process is not None and self.process.poll() == 0

    def start(self) -> None:
        """Start it; its log goes on below what is there."""
        self.ready, self.status = False, ""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".old"))
        with self.log.open("ab") as log:
            # -P: a folder called `tools` where the command was given is none of ours.
            self.process = subprocess.Popen(
                [sys.executable, "-P", *self.arguments],
                env={**environment(), "NOTIFY_SOCKET": self.address},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=_end_with(os.getpid()),
            )

    def hear(self) -> None:
        """Take what it has said."""
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in self.socket.recv(MESSAGE_BYTES).decode(errors="replace").splitlines():
                    name, _, value = line.partition("=")
                    self.ready = self.ready or name == "READY"
                    self.status = value if name == "STATUS" else self.status

    def ask_to_end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End it, and whatever it started that is still there."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def how(self) -> str:
        """How it ended."""
        assert self.process is not None
        code = self.process.returncode or 0
        what = f"ended with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        return f"{self.name} {what}"

    def why(self) -> str:
        """How it ended, and the last lines it printed."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"{self.how()}. Its last words ({self.log}):", *lines])


class Children:
    """All of them, in the order they were started."""

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self.logs, self.say = logs, say
        self.all: dict[str, Child] = {}
        self._stopping = False

    def start(self, name: str, *arguments: str, grace_s: float = 10.0) -> Child:
        """Start a child and keep it alive from now on."""
        child = Child(name, arguments, self.logs / f"{name}.log", grace_s)
        self.all[name] = child
        child.start()
        return child

    def until_ready(
        self,
        names: Iterable[str],
        seconds: float,
        stop: Callable[[], bool],
        progress: Callable[[], None] = lambda: None,
    ) -> bool:
        """Wait until all of them have said that they are ready; False: `stop` came first.

        raises      ChildError when one ends before, or takes too long
        """
        wanted = [self.all[name] for name in names]
        until = time.monotonic() + seconds
        while late := [child for child in wanted if not child.ready]:
            if stop():
                return False
            for child in late:
                if not child.alive:
                    raise ChildError(child.why())
            if time.monotonic() > until:
                raise ChildError(
                    f"{late[0].name} is not ready after {seconds:.0f} s: {late[0].log}"
                )
            progress()
            self.wait(0.1)
        return True

    def wait(self, seconds: float) -> None:
        """So long at most, or until a child says something."""
        sockets = [child.socket for child in self.all.values()]
        readable, _, _ = select.select(sockets, [], [], seconds)
        for child in self.all.values():
            if child.socket in readable:
                child.hear()

    def look(self) -> None:
        """Start again what has died; ChildError when that has been tried too often."""
        now = time.monotonic()
        for child in self.all.values():
            if child.alive:
                continue
            if child.again_s == 0.0:
                child.kill()  # what it leaves behind would be in its successor's way
                child.deaths.append(now)
                while now - child.deaths[0] > DEATHS_SECONDS:
                    child.deaths.popleft()
                if len(child.deaths) > DEATHS_MAX:
                    raise ChildError(f"{len(child.deaths)} times within a minute: {child.why()}")
                first, most = AGAIN_SECONDS
                child.again_s = now + min(first * 2 ** (len(child.deaths) - 1), most)
                self.say(f"{child.how()}, starting it again")
            elif now >= child.again_s:
                child.again_s = 0.0
                child.restarts += 1
                child.start()

    def stop(self, names: Iterable[str], forced: Callable[[], bool]) -> list[str]:
        """Ask these to end, all at once, and wait; who had to be killed.

        forced      True: don't wait any longer
        """
        ending = [self.all[name] for name in names if name in self.all]
        begun = time.monotonic()
        for child in ending:
            child.ask_to_end()
        killed = []
        while left := [child for child in ending if child.alive]:
            for child in left:
                if forced() or time.monotonic() - begun > child.grace_s:
                    child.kill()
                    killed.append(child.name)
            self.wait(0.02)
        for child in ending:
            child.socket.close()
            del self.all[child.name]
        return killed

    def kill(self) -> None:
        """End whatever is left, at once."""
        self.stop(list(self.all), lambda: True)
