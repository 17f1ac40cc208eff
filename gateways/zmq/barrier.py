"""When nothing that was handed over before is on its way any more.

Reads   the producer's ring, the engine's cursors and heartbeat.
Writes  nothing.
Never   takes a guess: each step waits for the one before, and the sequencer's heartbeat tells that
        it has come home from the round in which it took the last of them.

    ring taken up to the tail of then -> heartbeat after that -> SEQUENCED -> SETTLED reaches it
    -> REPORTS_WRITTEN: every answer stands below it

A new start of the engine begins with an empty ring: then only what was recovered counts.
"""

from __future__ import annotations

import time

from shm import cursors
from shm.door import Door


class Barrier:
    """One wait. `request`: the last number that had been given out when it began."""

    def __init__(self, door: Door | None, request: int) -> None:
        self.request = request
        self._epoch = door.view.epoch if door is not None else 0
        self._tail = door.handed_over() if door is not None else 0
        self._taken_ns = 0
        self._seq = -1
        self._index = -1

    def passed(self, door: Door | None, epoch: int) -> int:
        """Index below which every answer stands, or -1: not yet.

        epoch   of the engine whose reports are being read
        """
        if door is None or door.view.epoch != epoch:
            return -1
        if epoch != self._epoch:
            self._epoch, self._tail = epoch, 0
            self._taken_ns, self._seq, self._index = 0, -1, -1
        if self._index >= 0:
            return self._index
        view = door.view
        if not self._taken_ns:
            if door.taken() < self._tail:
                return -1
            self._taken_ns = time.monotonic_ns()
        if self._seq < 0:
            if door.sequencer_heartbeat_ns() <= self._taken_ns:
                return -1
            self._seq = view.cursor(cursors.SEQUENCED)
        # x86-64 keeps loads in order: what is settled has its reports below what is written.
        if view.cursor(cursors.SETTLED) < self._seq:
            return -1
        self._index = view.cursor(cursors.REPORTS_WRITTEN)
        return self._index
