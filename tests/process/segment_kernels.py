"""Kernels of the litmus tests: one process writes words that follow from a number, one checks."""

from __future__ import annotations

from typing import Any

from shm import ingress, seqlock
from shm.atomics import load_acquire, pause, store_release
from shm.cursors import (
    CURSOR_CELLS,
    DOORBELL_CELLS,
    REPORTS_JOURNALED,
    REPORTS_WRITTEN,
    STRIDE,
)
from shm.follower import REPORT_WORDS, claim_reports
from shm.jit import kernel
from shm.segment import Part
from shm.wait import rest, ring_doorbells

STREAM_PARTS = (
    Part("bells", "<i8", 2 * DOORBELL_CELLS),
    Part("cursors", "<i8", CURSOR_CELLS),
    Part("words", "<i8", 1 << 16),
)
LOCKED_WORDS = 24
SLEEP_NS = 999_000_000
_REQUEST = 2
_CODES = 7
_THREE_LINES_OF_PLACE = 3 << 56 | 1


@kernel
def fill_commands(rows: Any, request: int, count: int) -> None:
    """COMMAND rows of three lines; word w of request r is r * (w + 3), but for the head."""
    for k in range(count):
        for w in range(ingress.SLOT_WORDS):
            rows[k * 32 + w] = (request + k) * (w + 3)
        rows[k * 32 + _REQUEST] = request + k
        rows[k * 32 + _CODES] = _THREE_LINES_OF_PLACE


@kernel
def drain(ring: Any, capacity: int, last: int) -> tuple[int, int, int]:
    """(commands taken, the newest request, how many were torn or out of order)."""
    count = ingress.available(ring, capacity)
    wrong = 0
    for k in range(count):
        at = ingress.peek(ring, capacity, k)
        request = ring[at + _REQUEST]
        if request <= last:
            wrong += 1
        last = request
        for w in range(ingress.SLOT_WORDS):
            if w != _REQUEST and w != _CODES and ring[at + w] != request * (w + 3):
                wrong += 1
    if count > 0:
        ingress.release(ring, count)
    return count, last, wrong


@kernel
def write_reports(cursors: Any, words: Any, capacity: int, written: int, pauses: int) -> int:
    """2,000 reports in batches of up to nine; word w of report i is i * (w + 3)."""
    end = written + 2000
    while written < end:
        batch = 1 + written % 9
        claim_reports(cursors, written + batch)
        for i in range(written, written + batch):
            at = (i & (capacity - 1)) * REPORT_WORDS
            for w in range(REPORT_WORDS):
                words[at + w] = i * (w + 3)
        written += batch
        store_release(cursors, REPORTS_WRITTEN, written)
        store_release(cursors, REPORTS_JOURNALED, written)
        if written & 127 < 9:  # in bursts: what a reader at the brink is copying is overwritten
            for _ in range(pauses):
                pause()
    return written


@kernel
def write_locked(cells: Any, words: Any, count: int) -> None:
    """Rewrite what cells[0] protects: each word a multiple of the version at its beginning."""
    for _ in range(count):
        seqlock.write_begin(cells, 0)
        version = cells[0] + 1  # what it will be when the write is done
        for w in range(LOCKED_WORDS):
            words[w] = version * (w + 1)
            pause()  # most of its time in a write: that is where it shall be killed
        seqlock.write_end(cells, 0)
        for _ in range(LOCKED_WORDS // 3):
            pause()


@kernel
def play(bells: Any, cursors: Any, me: int, rounds: int) -> None:
    """Ping-pong on two cursors; both sleep at once when it is not their turn."""
    mine, other = me * STRIDE, (1 - me) * STRIDE
    turns = done = 0
    while done < rounds:
        did = 0
        if load_acquire(cursors, other) == cursors[mine] + me:
            store_release(cursors, mine, cursors[mine] + 1)
            ring_doorbells(bells, 1 << (1 - me))
            did = 1
        done += did
        turns = rest(bells, me, did, turns, 0, 0, SLEEP_NS)
