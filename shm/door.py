"""How a process outside the engine hands commands over: its ingress ring and the bell behind it.

Reads   the control segment: whether the engine runs, which worker to wake, how large the ring is.
Writes  the ring of one producer; the sequencer's doorbell.
Never   waits: `send` says how many commands were taken, the rest were not accepted.

A door belongs to one start of the engine. When `open` turns False the commands that were handed
over may or may not have been taken: attach to the next start and look for (producer, number) in
the reports.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shm.control import CONTROL, CONTROL_PARTS, Phase, View
from shm.cursors import HEARTBEAT_NS, doorbell
from shm.ingress import HEAD, TAIL, IngressRing
from shm.jit import kernel
from shm.pointers import Cells, table
from shm.segment import ProcessWatch, Segment, SegmentError
from shm.wait import ring_doorbells


@kernel
def wake(bells: Cells, worker: int) -> None:
    """Ring one worker's bell."""
    ring_doorbells(bells, 1 << worker)


class Door:
    """One producer's way into a running engine."""

    def __init__(self, instance: str, producer: str) -> None:
        """Raises SegmentError when the engine isn't running, or another process is the producer."""
        self.view = View(instance)
        try:
            if self.view.phase != Phase.RUNNING:
                raise SegmentError(
                    f"instance {instance!r} is {self.view.phase.name.lower()}, not running"
                )
            epoch = self.view.epoch
            self._control = Segment.attach(instance, CONTROL, CONTROL_PARTS, epoch)
            capacity = int(self.view.engine["ingress"])
            self._ring = IngressRing.attach(instance, producer, capacity, epoch)
        except SegmentError:
            self.view.close()
            raise
        self._engine = ProcessWatch(self.view.pid)
        if not self.view.alive:
            self.close()
            raise SegmentError(f"instance {instance!r} has just ended")
        self._bells = table(self._control.arrays["control"])
        self._sequencer = int(self.view.engine["sequencer"])

    @property
    def open(self) -> bool:
        """Whether commands handed over now will be taken; cheap enough to ask of each message."""
        return bool(self.view.phase == Phase.RUNNING and not self._engine.gone)

    def next_request(self) -> int:
        """The lowest `request` that this producer has not used yet."""
        return self._ring.next_request()

    def handed_over(self) -> int:
        """Commands that this start of the engine was ever given through this ring."""
        return int(self._ring.array[TAIL])

    def taken(self) -> int:
        """How many of them the sequencer has copied."""
        return int(self._ring.array[HEAD])

    def sequencer_heartbeat_ns(self) -> int:
        """When the sequencer's worker last came by, CLOCK_MONOTONIC."""
        return int(self._control.arrays["control"][doorbell(self._sequencer) + HEARTBEAT_NS])

    def send(self, commands: np.ndarray[Any, Any]) -> int:
        """Hand over COMMAND rows, their `request` filled in; returns how many were taken."""
        taken = self._ring.push(commands)
        wake(self._bells, self._sequencer)
        return taken

    def close(self) -> None:
        self._engine.close()
        self._ring.segment.close()
        self._control.close()
        self.view.close()
