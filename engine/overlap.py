"""What a replay derives, beside what was written: the reports of the log, and those it lacks.

Reads   <data>/reports, in order from the first report that is derived again.
Writes  a recovery completes the log where it is short, and cuts what the engine never made.
Never   changes the log before the WAL was judged whole: until then it holds back what is missing.

Reports are compared where they lie (engine/replay.py), word by word: this gives the kernel their
address, a piece of the log at a time, read ahead by a thread where there are many.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.direct import aligned
from engine.files import PAGE_BYTES, Manifest, reports_folder
from engine.readahead import BUFFERS, taken_ahead
from engine.replay import Diverged
from engine.reportlog import (
    RECORD_BYTES,
    SEGMENT_RECORDS,
    ReportLog,
    ReportLogReader,
    truncate_after,
)
from engine.room import wanting
from shm.records import REPORT

PIECE: Final = 1 << 15  # reports compared before the next ones are looked for: 2 MiB
MANY: Final = 4 * PIECE  # from so many on a thread reads them
_ASKED: Final = 4  # pieces that the operating system is asked for ahead of reading
LATE_MAX: Final = 1 << 16  # missing reports held back until the WAL is judged


class LoggedReports:
    """The reports of the log from `first` on, as a replay compares with them.

    says    what to tell of a difference, after "report N "
    """

    def __init__(self, data: Path, manifest: Manifest, first: int, says: str) -> None:
        self.data, self.manifest = data, manifest
        self.reader = ReportLogReader(data, manifest)
        self.end = self.reader.find_end()  # reports from here on are not known
        self.first_index = max(self.reader.first_index, first)
        self._says = says
        self._pieces: Any = None
        self._piece = np.zeros(0, REPORT.dtype)
        self._at = self._until = 0  # reports of the piece at hand

    def window(self, index: int) -> tuple[int, int]:
        """See engine.replay.Logged."""
        if index >= self.end:
            return 0, index
        if index < self.first_index:
            return 0, min(self.first_index, self.end)
        if self._pieces is None:
            self._pieces = taken_ahead(self._read(index), self.end - index >= MANY)
        while index >= self._until:
            self._at, self._piece = next(self._pieces)
            self._until = self._at + len(self._piece)
        address = self._piece.ctypes.data + (index - self._at) * RECORD_BYTES
        return address, min(self._until, self.end)

    def differs(self, index: int, derived: np.ndarray[Any, Any]) -> None:
        """Raise Diverged, but for a hole: there the log ends."""
        if self._piece[index - self._at]["seq"] == 0:
            # A power cut kept later pages of what no sync had covered.
            self.end = index
            return
        raise Diverged(
            f"{self.data}/reports: report {index} {self._says.format(seq=int(derived[0]['seq']))}"
        )

    def _read(self, at: int) -> Generator[tuple[int, np.ndarray[Any, Any]], None, None]:
        """(index of the first, REPORT rows) to the end of the log; memory is used in turn."""
        most = min(PIECE, self.end - at)
        rows = [
            aligned(most * RECORD_BYTES).view(REPORT.dtype)
            for _ in range(BUFFERS if self.end - at >= MANY else 1)
        ]
        asked, turn, end = at, 0, self.end
        while at < end:
            while asked < min(end, at + _ASKED * most) and most == PIECE:
                self.reader.ask_for(asked, most)
                asked += most
            count = self.reader.read_into(at, rows[turn][: min(most, end - at)])
            yield at, rows[turn][:count]
            at += count
            turn = (turn + 1) % len(rows)

    def close(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
        self.reader.close()


class Overlap(LoggedReports):
    """Of a recovery: compares with the report log where it has them, and writes the rest.

    judge    raises when the WAL is damaged somewhere; called before anything is written
    """

    def __init__(
        self,
        data: Path,
        manifest: Manifest,
        first: int,
        judge: Callable[[], object],
        segment_records: int = SEGMENT_RECORDS,
    ) -> None:
        says = (
            "is another one than the WAL gives (command {seq}). The log is damaged, or was "
            "written by another release: move its segments away, and recovery derives them"
        )
        super().__init__(data, manifest, first, says)
        self._judge = judge
        self._segment_records = segment_records
        self._log: ReportLog | None = None
        self._late: list[np.ndarray[Any, Any]] = []
        self._late_count = 0
        self._late_first = 0

    def __call__(self, index: int, reports: np.ndarray[Any, Any]) -> None:
        """Sink of the replay: reports that the log hasn't."""
        assert index >= self.end
        if self._log is not None:
            with self._room(index):
                self._log.append(reports.copy())
            return
        if not self._late:
            self._late_first = index
        self._late.append(reports.copy())
        self._late_count += len(reports)
        if self._late_count >= LATE_MAX:
            self._judge()
            self._write()

    def _write(self) -> None:
        """Begin to write, with what was held back."""
        first, size = self._late_first, self._segment_records
        with self._room(first):
            truncate_after(self.data, self.manifest, first)
            self._log = ReportLog(self.data, self.manifest, first, size)
            self._log.append(np.concatenate(self._late))
        self._late.clear()

    def _room(self, index: int) -> AbstractContextManager[None]:
        return wanting(
            PAGE_BYTES + self._segment_records * RECORD_BYTES,
            reports_folder(self.data),
            f"reports from {index} on, which a recovery derived",
            "Nothing that was acknowledged is lost: the WAL has it. Make room (perpcore prune "
            "--dry-run says what may go), then start again",
        )

    def close(self) -> None:
        super().close()
        if self._log is not None:
            self._log.close()

    def finish(self, count: int) -> None:
        """The WAL is judged and gives `count` reports: complete the log, or cut what is too much,
        and make it durable."""
        if self._late:
            self._write()
        if self._log is not None:
            self._log.sync()
        elif self.end > count:
            truncate_after(self.data, self.manifest, count)


class Proof(LoggedReports):
    """Of `verify`: every report the log has must be the one replay gives."""

    def __init__(self, data: Path, manifest: Manifest, first: int) -> None:
        super().__init__(data, manifest, first, "differs from what the WAL gives (command {seq})")

    def finish(self, count: int) -> int:
        """The WAL gives `count` reports: returns how many of them the log has; Diverged when its
        hashes are wrong, or there are more."""
        end = self.reader.sound_end(self.reader.first_index, self.end)
        self.close()
        if end < self.end:
            raise Diverged(f"{self.data}/reports: the hash over report {end} and after is wrong")
        if self.end > count:
            raise Diverged(
                f"{self.data}/reports: {self.end} reports in the log, the WAL gives {count}"
            )
        return max(0, self.end - self.first_index)
