"""Read the reports ring from outside the engine, at one's own pace, without slowing anybody.

Reads   reports that JOURNALED covers; the ring has no idea that we exist.
Writes  a private copy.
Never   gates the engine. A follower that is too slow is lapped, notices, and goes on from the
        report log, which has every report the ring ever had.

    settle                                     follower
    CLAIMED = c, fence                         n = JOURNALED - next, at most a batch
    overwrites reports c - capacity - 1 ...    copies them
    WRITTEN = ... (release)                    fence, CLAIMED again

Invariants
    1. Report i is in slot i & (capacity - 1) until report i + capacity is claimed: after copying
       it is whole if i >= CLAIMED - capacity.
    2. CLAIMED is stored before the slots below it are touched (`claim_reports`), and read after
       the copy was made: a copy that overlapped a write is never taken for a report.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from shm.atomics import fence_acquire, fence_release, load_acquire, store_release
from shm.cursors import REPORTS_CLAIMED, REPORTS_JOURNALED
from shm.jit import inlined, kernel
from shm.pointers import Cells, array_of, table
from shm.records import REPORT

REPORT_WORDS: Final = 8
LAPPED: Final = -1


@inlined
def claim_reports(cursors: Cells, upto: int) -> None:
    """For settle: reports with an index below `upto` may be written from now on."""
    store_release(cursors, REPORTS_CLAIMED, upto)
    fence_release()


@kernel
def follow(cursors: Cells, ring: Cells, capacity: int, after: int, out: Cells, most: int) -> int:
    """Copy the reports from index `after` on that anybody may know about.

    ring        the reports ring as int64 cells
    out         room for `most` reports, as int64 cells
    returns     how many were copied, 0 when there is no news, or LAPPED: report `after` is no
                longer in the ring and `out` means nothing
    """
    count = min(load_acquire(cursors, REPORTS_JOURNALED) - after, most, capacity)
    if count <= 0:
        return 0
    if after < load_acquire(cursors, REPORTS_CLAIMED) - capacity:
        return LAPPED  # known before copying: a reader far behind need not read at all
    for k in range(count):
        slot = ((after + k) & (capacity - 1)) * REPORT_WORDS
        for w in range(REPORT_WORDS):
            out[k * REPORT_WORDS + w] = ring[slot + w]
    fence_acquire()
    if after < load_acquire(cursors, REPORTS_CLAIMED) - capacity:
        return LAPPED
    return count


class Follower:
    """One reader's place in the reports stream and its private batch."""

    def __init__(
        self,
        cursors: np.ndarray[Any, Any],
        reports: np.ndarray[Any, Any],
        after: int,
        batch: int = 1024,
    ) -> None:
        """cursors, reports: arrays of the engine's segments; after: index of the first wanted."""
        self.next = after
        self._cursors = table(cursors)
        self._ring = table(reports.view(np.int64))
        self._capacity = len(reports)
        self._most = batch
        self._out = table(np.zeros(batch * REPORT_WORDS, np.int64))

    def read(self) -> np.ndarray[Any, Any] | None:
        """The next reports, valid until the next call; empty: no news; None: lapped.

        After None, read report `next` and on from the report log, set `next`, and come back.
        """
        count = follow(self._cursors, self._ring, self._capacity, self.next, self._out, self._most)
        if count == LAPPED:
            return None
        self.next += count
        reports: np.ndarray[Any, Any] = array_of(self._out)[: count * REPORT_WORDS]
        return reports.view(REPORT.dtype)
