"""The door of the engine: a ring from one producer to the sequencer, in a segment of its own.

    producer                                                            sequencer
    push()  ->  copy, TAIL += n (release)  -> [ slot | slot | ... ] ->  available(), peek
                HEAD_SEEN remembered       <-  HEAD += n (release)  <-  release()

Reads   commands that the producer laid out as COMMAND rows; only the first three lines travel,
        and of these only as many as `lines` says: the sequencer must zero the rest itself.
Writes  slots of 192 bytes, and the cursors.
Never   waits: what does not fit is the caller's to refuse ("overloaded, not accepted").

Invariants
    1. 0 <= TAIL - HEAD <= capacity; both only grow.
    2. Only the producer stores TAIL, HEAD_SEEN and LAST_REQUEST; only the sequencer HEAD and
       TAIL_SEEN. One live process at a time is the producer: `IngressRing.attach` sees to it.
    3. The last tenth of the ring takes only what can lower risk: cancels, reduces, reduce-only.
    4. LAST_REQUEST is stored before the TAIL that covers it: a producer that is killed and
       started again goes on above it and never gives a number twice.

Producers are processes with numba: the ring needs a release store, which numpy cannot promise.
Whoever cannot have numba sends through ZeroMQ.
"""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np

from shm.atomics import load_acquire, store_release
from shm.codes import Flag, Kind
from shm.config import Producer, kinds_mask
from shm.jit import inlined, kernel
from shm.pointers import Cells, table
from shm.records import COMMAND, INGRESS
from shm.segment import Part, Segment, SegmentError, process_start
from shm.units import PRODUCER_SHIFT


def _cell(name: str) -> int:
    """Cell of a field of the INGRESS record, all of them int64."""
    return INGRESS.place(name)[0]


COMMAND_WORDS: Final = 32  # a COMMAND row
SLOT_WORDS: Final = 24  # its first three lines

# Cells of the ring's one part; an INGRESS record lies in the first eight.
TAIL: Final = 16  # commands published
HEAD_SEEN: Final = 17  # the producer's memory of HEAD
LAST_REQUEST: Final = 18  # `request` of the newest command
OWNER_PID: Final = 20
OWNER_START: Final = 21
HEAD: Final = 32  # commands taken
TAIL_SEEN: Final = 33  # the sequencer's memory of TAIL
SLOTS: Final = 64  # first cell of the first slot

# Where the INGRESS record stands in the first cells, for kernels.
HEAD_PRODUCER: Final = _cell("producer")
HEAD_KINDS: Final = _cell("kinds")
HEAD_PRIVILEGED: Final = _cell("privileged")
HEAD_CAPACITY: Final = _cell("capacity")

CORRUPT: Final = -1

_REQUEST = COMMAND.place("request")[0]
_CODES, _KIND_SHIFT = COMMAND.place("kind")
_FLAGS_SHIFT = COMMAND.place("flags")[1]
_REDUCE_ONLY = int(Flag.REDUCE_ONLY)
_LINES_SHIFT = COMMAND.place("lines")[1]


@inlined
def lowers_risk(codes: int) -> bool:
    """Whether a command may use the last tenth; `codes` is its word of kind, flags and lines."""
    kind = (codes >> _KIND_SHIFT) & 255
    if kind == Kind.PLACE or kind == Kind.AMEND:
        return (codes >> _FLAGS_SHIFT) & _REDUCE_ONLY != 0
    return (
        kind == Kind.CANCEL
        or kind == Kind.CANCEL_ALL
        or kind == Kind.CANCEL_SYMBOL
        or kind == Kind.REDUCE
    )


@inlined
def lines_of(codes: int) -> int:
    """How many lines of a command travel: 1 to 3, whatever its `lines` byte says."""
    lines = (codes >> _LINES_SHIFT) & 255
    return lines if 1 <= lines <= 3 else 1


@inlined
def copy_line(to: Cells, first: int, source: Cells, at: int) -> None:
    """The eight words from source[at] on; all are read before the first is written."""
    # As a loop LLVM would ask at every line whether the two overlap.
    w0 = source[at]
    w1 = source[at + 1]
    w2 = source[at + 2]
    w3 = source[at + 3]
    w4 = source[at + 4]
    w5 = source[at + 5]
    w6 = source[at + 6]
    w7 = source[at + 7]
    to[first] = w0
    to[first + 1] = w1
    to[first + 2] = w2
    to[first + 3] = w3
    to[first + 4] = w4
    to[first + 5] = w5
    to[first + 6] = w6
    to[first + 7] = w7


@inlined
def push_rows(ring: Cells, capacity: int, source: Cells, width: int, first: int, count: int) -> int:
    """Hand commands to the sequencer, in order, until one does not fit.

    ring        int64 cells of the ring's part
    source      the first `width` cells of COMMAND rows: all 32, or fewer lines for commands that
                have no more
    first       row of the first one, `count` of them
    returns     how many were taken; the one after them was refused
    """
    tail = ring[TAIL]
    open_to_all = capacity - capacity // 10
    done = 0
    while done < count:
        at = (first + done) * width
        codes = source[at + _CODES]
        # What kind it is, is asked only where that matters: no branch predictor knows it ahead.
        if tail - ring[HEAD_SEEN] >= open_to_all:
            room = capacity if lowers_risk(codes) else open_to_all
            if tail - ring[HEAD_SEEN] >= room:
                # Ask the sequencer's line only when our memory of it says full: one miss per lap.
                ring[HEAD_SEEN] = load_acquire(ring, HEAD)
                if tail - ring[HEAD_SEEN] >= room:
                    break
        to = SLOTS + (tail & (capacity - 1)) * SLOT_WORDS
        copy_line(ring, to, source, at)
        lines = lines_of(codes)
        assert 8 * lines <= width  # or what lay in the slot before would be sent again
        for line in range(1, lines):
            copy_line(ring, to + 8 * line, source, at + 8 * line)
        tail += 1
        done += 1
        if done & 31 == 0:  # let the sequencer begin before a long batch is all in
            ring[LAST_REQUEST] = source[at + _REQUEST]
            store_release(ring, TAIL, tail)
    if done & 31 != 0:
        ring[LAST_REQUEST] = source[(first + done - 1) * width + _REQUEST]
        store_release(ring, TAIL, tail)
    return done


@kernel
def push_many(ring: Cells, capacity: int, source: Cells, first: int, count: int) -> int:
    """`push_rows` of whole COMMAND rows."""
    return push_rows(ring, capacity, source, COMMAND_WORDS, first, count)


@kernel
def push(ring: Cells, capacity: int, source: Cells, row: int) -> bool:
    """Hand one command to the sequencer; False: the ring is full for its kind."""
    return push_many(ring, capacity, source, row, 1) == 1


@inlined
def available(ring: Cells, capacity: int) -> int:
    """Commands the sequencer may take, or CORRUPT when the producer's cursor makes no sense."""
    count: int = ring[TAIL_SEEN] - ring[HEAD]
    if count == 0:
        tail = load_acquire(ring, TAIL)
        count = tail - ring[HEAD]
        if count < 0 or count > capacity:
            return CORRUPT
        ring[TAIL_SEEN] = tail
    return count


@inlined
def peek(ring: Cells, capacity: int, ahead: int) -> int:
    """Cell where the command `ahead` of the oldest one starts; ahead < available()."""
    slot: int = (ring[HEAD] + ahead) & (capacity - 1)
    return SLOTS + slot * SLOT_WORDS


@inlined
def release(ring: Cells, count: int) -> None:
    """Give the `count` oldest slots back; the producer may overwrite them from now on."""
    store_release(ring, HEAD, ring[HEAD] + count)


def segment_name(producer: str) -> str:
    """Name of a producer's ring within its instance."""
    return f"ingress.{producer}"


def ring_parts(capacity: int) -> tuple[Part, ...]:
    """What the segment of a ring holds."""
    return (Part("ring", "<i8", SLOTS + capacity * SLOT_WORDS),)


def format_ring(cells: np.ndarray[Any, Any], producer: Producer, capacity: int) -> None:
    """Write the head of a ring of zeros: who may send what."""
    head = cells[:8].view(INGRESS.dtype)[0]
    head["producer"] = producer.id
    head["kinds"] = kinds_mask(producer.kinds)
    head["privileged"] = producer.privileged
    head["capacity"] = capacity


class IngressRing:
    """A mapped ring. The engine makes it, one producer attaches; `cells` go to the kernels."""

    def __init__(self, segment: Segment, capacity: int) -> None:
        self.segment = segment
        self.capacity = capacity
        self.array = segment.arrays["ring"]
        self.head = self.array[:8].view(INGRESS.dtype)[0]
        self.cells = table(self.array)

    @classmethod
    def create(cls, instance: str, producer: Producer, capacity: int, epoch: int) -> IngressRing:
        """Make a producer's ring; for the engine."""
        parts = ring_parts(capacity)
        segment = Segment.create(instance, segment_name(producer.name), parts, epoch)
        format_ring(segment.arrays["ring"], producer, capacity)
        return cls(segment, capacity)

    @classmethod
    def attach(
        cls, instance: str, producer: str, capacity: int, epoch: int | None = None
    ) -> IngressRing:
        """Become the producer of a ring; SegmentError while another live process is."""
        segment = Segment.attach(instance, segment_name(producer), ring_parts(capacity), epoch)
        ring = cls(segment, capacity)
        with segment.locked():
            pid, start = int(ring.array[OWNER_PID]), int(ring.array[OWNER_START])
            if pid not in (0, os.getpid()) and process_start(pid) == start:
                raise SegmentError(
                    f"ingress ring {instance}.{producer}: process {pid} sends through it. "
                    "Stop that one, or give this one a producer of its own in perpcore.toml"
                )
            ring.array[OWNER_PID] = os.getpid()
            ring.array[OWNER_START] = process_start(os.getpid())
        return ring

    def next_request(self) -> int:
        """The lowest `request` that this ring's producer has not used yet."""
        last = int(self.array[LAST_REQUEST])
        return (last or int(self.head["producer"]) << PRODUCER_SHIFT) + 1

    def push(self, commands: np.ndarray[Any, Any]) -> int:
        """Hand COMMAND rows over; returns how many were taken."""
        source = table(commands.view(np.int64))
        return int(push_many(self.cells, self.capacity, source, 0, len(commands)))
