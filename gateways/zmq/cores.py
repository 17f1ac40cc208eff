"""Which cores a gateway's threads run on: off the disk's while a lone answer is due, else any."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from shm.interrupts import disk_cpus
from shm.logs import say

LOG: Final = logging.getLogger("perpcore.zmq")
CROWD: Final = 8  # turns in a row with more on the way than a lone answer


class Cores:
    """Of this process, from those it was started on."""

    def __init__(self, folder: Path) -> None:
        """folder: on the disk whose syncs are awaited."""
        self._all = self._kept = os.sched_getaffinity(0)
        self._quiet = self._all - disk_cpus(folder) or self._all
        self._crowd = 0

    def awaits_one(self) -> None:
        """From now on somebody is awake for a sync."""
        self._crowd = 0
        self._keep_to(self._quiet)

    def awaits_many(self) -> None:
        """A turn in which others were on the way already."""
        self._crowd += 1
        if self._crowd == CROWD:
            self._keep_to(self._all)

    def _keep_to(self, cpus: set[int]) -> None:
        """Let all threads run on these cores alone.

        With ZeroMQ's thread too: to wake that on another core, which sleeps, takes longer than to
        have it take turns with this one.
        """
        if self._kept == cpus:
            return
        self._kept = cpus
        try:
            for thread in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cpus)
        except OSError as error:
            # A sandbox that forbids it, or cores that were taken away: it runs where it may.
            self._quiet = self._all = cpus
            say(LOG, logging.INFO, "cores not chosen", cpus=sorted(cpus), why=str(error))
