"""How a process outside the engine hands commands over: its ingress ring and the bell behind it.

Reads   the control segment: whether the engine runs, which worker to wake, how large the ring is.
Writes  the ring of one producer; the sequencer's doorbell.
Never   waits: `send` says how many commands were taken, the rest were not accepted.

A door belongs to one start of the engine. When `open` turns False the commands that were handed
over may or may not have been taken: attach to the next start and look for (producer, number) in
the reports.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from shm.control import CONTROL, CONTROL_PARTS, Phase, View
from shm.cursors import HEARTBEAT_NS, doorbell
from shm.ingress import COMMAND_WORDS, HEAD, TAIL, IngressRing, push_many
from shm.jit import entry_of, kernel
from shm.pointers import Cells, table
from shm.segment import ProcessWatch, Segment, SegmentError
from shm.wait import ring_doorbells

_RUNNING: Final = int(Phase.RUNNING)
_FEW: Final = 64  # commands that are copied once more, so that numba needn't be told of a table


@kernel
def wake(bells: Cells, workers: int) -> None:
    """Ring the bells of a set of workers, bit w: worker w."""
    ring_doorbells(bells, workers)


@kernel
def hand_over(
    ring: Cells, capacity: int, source: Cells, count: int, bells: Cells, workers: int
) -> int:
    """`push_many` of the first `count` commands of `source`, then `wake`."""
    taken = push_many(ring, capacity, source, 0, count)
    ring_doorbells(bells, workers)
    return taken


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
        self._on_the_way = sum(
            1 << k for k, worker in enumerate(self.view.workers()) if worker.stages != ["publish"]
        )
        # numba asks for the types of all arguments at every call, which takes longer than one
        # command does: here it is done once, and few commands come from where it was done.
        self._words = np.zeros(_FEW * COMMAND_WORDS, np.int64)
        self._few = table(self._words)
        self._wake = entry_of(wake, self._bells, 1)
        ring = (self._ring.cells, capacity)
        self._hand_over = entry_of(hand_over, *ring, self._few, 1, self._bells, 1)
        self._to = ring

    @property
    def open(self) -> bool:
        """Whether commands handed over now will be taken; cheap enough to ask of each message."""
        return int(self.view.engine["phase"]) == _RUNNING and not self._engine.gone

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
        words = commands.view(np.int64)
        if len(commands) <= _FEW:
            self._words[: len(words)] = words
            source = self._few
        else:
            source = table(words)
        bell = (self._bells, 1 << self._sequencer)
        return int(self._hand_over(*self._to, source, len(commands), *bell))

    def rouse(self) -> None:
        """Commands are about to come: wakes every worker on their way to being durable.

        Each would be woken by the one before it, and a wake-up of an idle core takes longer than
        what most of them do to one command. Now they wake while the commands are being read, and
        look about for a while before they sleep again.
        """
        self._wake(self._bells, self._on_the_way)

    def close(self) -> None:
        self._engine.close()
        self._ring.segment.close()
        self._control.close()
        self.view.close()
