"""Processes that test_segments_kill.py starts, and kills: python segment_actors.py ROLE INSTANCE.

Each says "ready" when it is at work, works until it is killed, and dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shm.records import COMMAND
from shm.segment import Part, Segment, SegmentError

PARTS = (Part("cells", "<i8", 1 << 18),)
RING_CAPACITY = 64
REPORTS_CAPACITY = 256
PRODUCER = "gateway0"
PR_SET_PDEATHSIG = 1


def ready(text: str = "ready") -> None:
    print(text, flush=True)


def owner(instance: str) -> None:
    """Make a segment and keep it."""
    Segment.create(instance, "target", PARTS, epoch=1).arrays["cells"][:] = 7
    ready()
    while True:
        time.sleep(0.1)


def maker(instance: str) -> None:
    """Make and remove a segment as fast as possible."""
    ready()
    while True:
        Segment.create(instance, "target", PARTS, epoch=1).unlink()


def racer(instance: str) -> None:
    """Make a segment at the same instant as others do; say who won."""
    at = float(sys.argv[3])
    while time.time() < at:
        pass
    try:
        made = Segment.create(instance, "target", PARTS, epoch=os.getpid())
        ready(f"made {made.epoch}")
    except SegmentError as refused:
        ready(f"refused {refused}")
    while True:
        time.sleep(0.1)


def visitor(instance: str) -> None:
    """Attach, write, and either leave (argument "leave") or stay."""
    seen = Segment.attach(instance, "target", PARTS)
    seen.arrays["cells"][0] += 1
    ready()
    while sys.argv[3] == "stay":
        seen.arrays["cells"][1] += 1


def producer(instance: str) -> None:
    """Push commands whose every word follows from their number, without end."""
    from shm.ingress import IngressRing
    from tests.process.segment_kernels import fill_commands

    ring = IngressRing.attach(instance, PRODUCER, RING_CAPACITY)
    rows = np.zeros(40, COMMAND.dtype)
    ready()
    while True:
        fill_commands(rows.view(np.int64), ring.next_request(), len(rows))
        done = 0
        while done < len(rows):
            done += ring.push(rows[done:])
            os.sched_yield()  # with a core for two, spinning would cost a time slice each time


def settler(instance: str) -> None:
    """Write reports whose every word follows from their index, waiting for nobody.

    Now and then so fast that no follower keeps up.
    """
    from tests.process.segment_kernels import STREAM_PARTS, write_reports

    stream = Segment.attach(instance, "stream", STREAM_PARTS).arrays
    cursors, words, written = stream["cursors"], stream["words"], 0
    ready()
    while True:
        pauses = 0 if written % 16_000 < 2000 else 400
        written = write_reports(cursors, words, REPORTS_CAPACITY, written, pauses)


def writer(instance: str) -> None:
    """Rewrite what a seqlock protects, without end."""
    from tests.process.segment_kernels import STREAM_PARTS, write_locked

    stream = Segment.attach(instance, "stream", STREAM_PARTS).arrays
    write_locked(stream["cursors"], stream["words"], 1)  # loads the kernel: from here on it writes
    ready()
    while True:
        write_locked(stream["cursors"], stream["words"], 2000)


def partner(instance: str) -> None:
    """Answer every ping, sleeping in between."""
    from tests.process.segment_kernels import STREAM_PARTS, play

    stream = Segment.attach(instance, "stream", STREAM_PARTS).arrays
    ready()
    play(stream["bells"], stream["cursors"], 1, int(sys.argv[3]))


ROLES: dict[str, Callable[[str], None]] = {
    role.__name__: role
    for role in (owner, maker, racer, visitor, producer, settler, writer, partner)
}

if __name__ == "__main__":
    # Also in the middle of a kernel: a test run that is killed leaves no process behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    name: Any = sys.argv[1]
    ROLES[name](sys.argv[2])
