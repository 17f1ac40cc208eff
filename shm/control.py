"""The control segment: who runs, how far the start has come, and who is asked to do what.

    control         int64 doorbells, one a worker: sleep, stop, heartbeat (shm/cursors.py)
    engine_status   ENGINE_STATUS[1], by the supervisor
    worker_status   WORKER_STATUS, a row a worker

Reads   and writes single words of these tables; no order between two of them is relied on, what
        must be ordered goes through cursors.
Never   imports numba: tools and clients look at a running engine through this.

The sizes here don't depend on configuration, so that any process can look at any instance.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple

import numpy as np

from shm import cursors
from shm.cursors import CURSOR_CELLS, DOORBELL_CELLS, DOORBELLS_MAX
from shm.segment import Part, Segment, SegmentError

STAGES: Final = ("sequence", "risk", "match", "settle", "journal", "publish")

CONTROL: Final = "control"
CONTROL_PARTS: Final = (
    Part("control", "<i8", DOORBELL_CELLS * DOORBELLS_MAX),
    Part("engine_status", "ENGINE_STATUS", 1),
    Part("worker_status", "WORKER_STATUS", DOORBELLS_MAX),
)
CURSORS: Final = "cursors"
CURSOR_PARTS: Final = (Part("cursors", "<i8", CURSOR_CELLS),)


class Phase(IntEnum):
    """Of the engine group. Producers may hand over commands while it is RUNNING."""

    STARTING = 0
    RECOVERING = 1
    RUNNING = 2
    DRAINING = 3  # no more commands are taken; what was taken is being finished
    STOPPED = 4  # all of it is on disk and published
    DEAD = 5  # a worker died: this memory is worthless, the next epoch is coming or the end


class Order(IntEnum):
    """What the supervisor wants a worker to do."""

    HOLD = 0
    RUN = 1
    DRAIN = 2  # run, but take no more commands from the ingress rings


class WorkerState(IntEnum):
    """How far a worker has come."""

    ABSENT = 0
    SPAWNED = 1
    READY = 2  # attached, kernels loaded
    RUNNING = 3
    DRAINED = 4  # as RUNNING, and the ingress rings are no longer read
    STOPPED = 5
    FAILED = 6


class Wish(IntFlag):
    """What a worker asks of the host, and the host may refuse."""

    CPU = 1
    SCHEDULER = 2
    LOCK_MEMORY = 4


def text_of(cells: Any) -> str:
    """Zero-padded bytes of a record as text."""
    return bytes(cells).rstrip(b"\0").decode(errors="replace")


def put_text(cells: Any, text: str) -> None:
    """Store text in zero-padded bytes of a record; what doesn't fit is cut."""
    raw = text.encode()[: len(cells)]
    cells[:] = 0
    cells[: len(raw)] = np.frombuffer(raw, np.uint8)


def stage_names(stages: int, shards: int) -> list[str]:
    """Stages of a worker row by name, matching with its shards."""
    names = []
    for k, name in enumerate(STAGES):
        if stages >> k & 1:
            suffix = ",".join(str(s) for s in range(shards.bit_length()) if shards >> s & 1)
            names.append(f"{name}:{suffix}" if name == "match" else name)
    return names


class WorkerView(NamedTuple):
    """One worker as another process sees it."""

    name: str
    pid: int
    state: WorkerState
    stages: list[str]
    cpu: int
    ready_us: int
    refused: Wish
    heartbeat_ns: int  # CLOCK_MONOTONIC
    progress: int
    sleeps: int


class View:
    """A running engine as any process may look at it: read only, no numba, no configuration."""

    def __init__(self, instance: str, *, dead: bool = False) -> None:
        self._control = Segment.attach(instance, CONTROL, CONTROL_PARTS, writable=False, dead=dead)
        epoch = self._control.epoch
        try:
            self._cursors = Segment.attach(
                instance, CURSORS, CURSOR_PARTS, epoch, writable=False, dead=dead
            )
        except SegmentError:
            self._control.close()
            raise
        self.instance = instance
        self.epoch = epoch
        self.engine = self._control.arrays["engine_status"][0]
        if int(self.engine["started_ns"]) == 0:  # the supervisor writes it last
            self.close()
            raise SegmentError(
                f"instance {instance!r}: its engine has only begun to start and says nothing of "
                "itself yet. Try again in a moment"
            )
        self._workers = self._control.arrays["worker_status"]
        self._bells = self._control.arrays["control"]
        self.cells = self._cursors.arrays["cursors"]

    @property
    def phase(self) -> Phase:
        return Phase(int(self.engine["phase"]))

    @property
    def alive(self) -> bool:
        """Whether this start of the engine is still the one that runs."""
        return self._control.current() and self._control.owner_alive() and self.phase < Phase.DEAD

    @property
    def pid(self) -> int:
        return int(self.engine["pid"])

    def cursor(self, cell: int) -> int:
        return int(self.cells[cell])

    def workers(self) -> list[WorkerView]:
        """Every worker of this start."""
        views = []
        for k in range(int(self.engine["workers"])):
            row, bell = self._workers[k], k * DOORBELL_CELLS
            views.append(
                WorkerView(
                    name=text_of(row["name"]),
                    pid=int(row["pid"]),
                    state=WorkerState(int(row["state"])),
                    stages=stage_names(int(row["stages"]), int(row["shards"])),
                    cpu=int(row["cpu"]),
                    ready_us=int(row["ready_us"]),
                    refused=Wish(int(row["refused"])),
                    heartbeat_ns=int(self._bells[bell + cursors.HEARTBEAT_NS]),
                    progress=int(self._bells[bell + cursors.PROGRESS]),
                    sleeps=int(self._bells[bell + cursors.SLEEPS]),
                )
            )
        return views

    def close(self) -> None:
        self._control.close()
        self._cursors.close()
