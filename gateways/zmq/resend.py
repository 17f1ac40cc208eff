"""Reports that somebody missed, out of the report log, a piece at a time.

Reads   the report log, beside the engine that writes it.
Never   reads what is not there yet: the log may be a moment behind what was published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from shm.files import DataError, read_manifest
from shm.records import REPORT
from shm.reportlog import ReportLogReader

Rows = np.ndarray[Any, Any]
PIECE: Final = 16384  # reports in one reading: 1 MiB


class Pruned(RuntimeError):
    """The log no longer reaches back so far; the text is for who asked."""


class Log:
    """The log of one data directory, opened when it is first needed."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._reader: ReportLogReader | None = None

    def read(self, first: int, end: int) -> Rows:
        """Reports from index `first` on, below `end`, as many as there are and a piece has.

        raises      Pruned
        """
        try:
            if self._reader is None:
                self._reader = ReportLogReader(self._data, read_manifest(self._data))
            rows = self._reader.read(first, min(PIECE, end - first))
            if len(rows) == 0:
                self._reader.refresh()
                if first < self._reader.first_index:
                    raise Pruned(f"reports before {self._reader.first_index} are no longer kept")
                rows = self._reader.read(first, min(PIECE, end - first))
        except (DataError, OSError):  # no log yet, or a segment pruned under our eyes: look anew
            self.close()
            return np.zeros(0, REPORT.dtype)
        blank = np.flatnonzero(rows["seq"] == 0)
        return rows[: blank[0]] if len(blank) else rows

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
