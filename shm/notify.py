"""Telling systemd how a process is doing (sd_notify(3)); silence where systemd didn't start us.

Reads   NOTIFY_SOCKET of the environment.
Writes  READY=1, STATUS=..., WATCHDOG=1, EXTEND_TIMEOUT_USEC=..., STOPPING=1 to that socket.
Never   fails, nor waits for who reads: a lost message costs a restart at worst.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final

EXTEND_EVERY_SECONDS: Final = 5.0
EXTEND_US: Final = 20_000_000
WAITS: Final = "waiting for the engine"


def notify(text: str) -> None:
    """Tell systemd, if it started us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(text.encode(), socket.MSG_DONTWAIT, address)


def alive(ready: bool, doing: str) -> None:
    """Call it every second or so, from the loop's own progress: feeds the watchdog.

    ready   False: not yet, and systemd shall wait longer, since something is being done. Who waits
            for an engine that isn't there is as ready as can be: nothing else must wait for that.
    """
    if ready:
        notify("WATCHDOG=1")
    elif doing == WAITS:
        notify(f"READY=1\nSTATUS={WAITS}\nWATCHDOG=1")
    else:
        notify(f"EXTEND_TIMEOUT_USEC={EXTEND_US}\nSTATUS={doing}")


class Patience:
    """While it is open, systemd waits: a start that compiles or replays takes what it takes.

    Ends after `most_seconds`, so that a start that hangs is still ended.
    """

    def __init__(self, most_seconds: float) -> None:
        self._turns = int(most_seconds / EXTEND_EVERY_SECONDS) + 1
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        for _ in range(self._turns):
            notify(f"EXTEND_TIMEOUT_USEC={EXTEND_US}")
            if self._over.wait(EXTEND_EVERY_SECONDS):
                return

    def __enter__(self) -> Patience:
        if os.environ.get("NOTIFY_SOCKET"):
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
