"""Reports by index, from wherever they still are: the ring while it has them, else the log.

Reads   the reports ring and its cursors, and the report log of a running engine.
Writes  nothing: a private copy of what was read.
Never   gives out a report that JOURNALED doesn't cover.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shm.atomics import load_acquire, store_release
from shm.cursors import REPORTS_JOURNALED, REPORTS_READ, REPORTS_WRITTEN, SETTLED
from shm.files import read_manifest
from shm.follower import LAPPED, REPORT_WORDS, follow
from shm.jit import entry_of, kernel
from shm.pointers import Cells, array_of, table
from shm.records import REPORT
from shm.reportlog import ReportLogReader

Array = np.ndarray[Any, Any]


@kernel
def load_cursor(cursors: Cells, cell: int) -> int:
    """A cursor, and everything its writer stored before it."""
    return load_acquire(cursors, cell)


@kernel
def load_progress(cursors: Cells) -> tuple[int, int, int]:
    """(commands settled, reports written, reports journaled), in this order.

    What is settled has its reports below what is written.
    """
    settled = load_acquire(cursors, SETTLED)
    written = load_acquire(cursors, REPORTS_WRITTEN)
    return settled, written, load_acquire(cursors, REPORTS_JOURNALED)


@kernel
def store_cursor(cursors: Cells, cell: int, value: int) -> None:
    """Move a cursor, after everything stored before."""
    store_release(cursors, cell, value)


class Feed:
    """Reports by index: out of the ring, or out of the log when the ring has moved on."""

    def __init__(self, data: Path, cursors: Array, reports: Array, most: int) -> None:
        """cursors, reports: arrays of a running engine; most: records in one read."""
        self.lapped_count = 0
        self._data = data
        self._cursors = table(cursors)
        self._ring = table(reports.view(np.int64))
        self._capacity = len(reports)
        self._most = most
        self._out = table(np.zeros(most * REPORT_WORDS, np.int64))
        self._log: ReportLogReader | None = None
        # Asked after every sync: numba need not look at the types of what it is given each time.
        where = (self._cursors, self._ring, self._capacity)
        self._follow = entry_of(follow, *where, 0, self._out, most)
        self._load = entry_of(load_cursor, self._cursors, REPORTS_JOURNALED)

    def end(self) -> int:
        """How many reports anybody may read by now."""
        return int(self._load(self._cursors, REPORTS_JOURNALED))

    def read(self, first: int, most: int) -> Array:
        """Reports from index `first` on, at most `most`; empty: no news. Valid until the next read.

        raises      ReportDamage when the log no longer reaches back so far
        """
        most = min(most, self._most)
        count = self._follow(self._cursors, self._ring, self._capacity, first, self._out, most)
        if count == 0:
            return np.zeros(0, REPORT.dtype)
        if count != LAPPED:
            rows: Array = array_of(self._out)[: count * REPORT_WORDS].view(REPORT.dtype)
            # After a recovery the ring is empty though its indices go on: a report has a sequence.
            if rows[0]["seq"] != 0:
                return rows
        self.lapped_count += 1
        # The log has everything below REPORTS_READ, and more than that left the ring never has.
        end = min(self.end(), int(load_cursor(self._cursors, REPORTS_READ)))
        if self._log is None:
            self._log = ReportLogReader(self._data, read_manifest(self._data))
        return next(self._log.batches(first, min(end, first + most)), np.zeros(0, REPORT.dtype))

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
