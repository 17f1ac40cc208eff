"""The report log as readers see it: reports by index, and who has read how far.

Reads   <data>/reports/rep.<first index>.seg and .idx, as engine/reportlog.py writes them.
Writes  followers/<name>.pos: how far a registered follower has got; the log is kept for it.
Never   changes a segment. Reports below REPORTS_READ are in the log for good: a reader beside a
        running engine asks for no more than that.

    .seg   REPORT_SEGMENT, zeros to 4096 | reports, 64 bytes each, report i at i - first_index
    .idx   REPORT_GROUP per GROUP reports: hash, first and last sequence

A report has a sequence above 0, so the log ends at the first zero.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shm.files import (
    PAGE_BYTES,
    DataError,
    Manifest,
    digest_word,
    magic_word,
    reports_folder,
    row_from,
    stamped,
)
from shm.hashing import SEED, fold_line, fold_word
from shm.jit import kernel
from shm.pointers import Cells, table
from shm.records import FOLLOWER, REPORT, REPORT_GROUP, REPORT_SEGMENT

MAGIC: Final = magic_word("PERPREP1")
FOLLOWER_MAGIC: Final = magic_word("PERPFOL1")
LAYOUT: Final = digest_word(REPORT)
RECORD_BYTES: Final = REPORT.dtype.itemsize
RECORD_WORDS: Final = RECORD_BYTES // 8
GROUP: Final = 4096  # reports under one hash: 256 KiB


@kernel
def end_group(digest: int, count: int) -> int:
    """The hash of a group of `count` reports folded into `digest`."""
    value = fold_word(digest, count)
    return value if value != 0 else 1


@kernel
def hash_reports(words: Cells, first: int, count: int) -> int:
    """Digest of a group begun: of `count` reports from the one in row `first`."""
    digest = SEED
    for n in range(count):
        digest = fold_line(digest, words, (first + n) * RECORD_WORDS)
    return digest


@kernel
def count_reports(words: Cells, most: int, last_seq: int) -> int:
    """How many of the first `most` records are reports in order, none below `last_seq`."""
    n = 0
    while n < most and words[n * RECORD_WORDS] >= last_seq:
        last_seq = words[n * RECORD_WORDS]
        n += 1
    return n


# ---------------------------------------------------------------- files


class Segment(NamedTuple):
    """One file of the log."""

    path: Path
    first_index: int
    record_count: int  # reports it has room for

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".idx")

    @property
    def size_bytes(self) -> int:
        return PAGE_BYTES + self.record_count * RECORD_BYTES

    @property
    def end_index(self) -> int:
        return self.first_index + self.record_count


class ReportDamage(DataError):
    """A report in the log is not what was written."""


@lru_cache(1024)
def segment_path(data: Path, first_index: int) -> Path:
    return reports_folder(data) / f"rep.{first_index:016d}.seg"


def list_segments(data: Path, manifest: Manifest) -> list[Segment]:
    """The newest unbroken run of segments, oldest first; what is before a gap does not count."""
    found: list[Segment] = []
    folder = reports_folder(data)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        names = []
    for name in sorted(n for n in names if n.startswith("rep.") and n.endswith(".seg")):
        path = f"{folder}/{name}"
        fd = os.open(path, os.O_RDONLY)
        try:
            row = row_from(os.read(fd, REPORT_SEGMENT.dtype.itemsize), REPORT_SEGMENT)
        finally:
            os.close(fd)
        head = row[0]
        if not stamped(row, MAGIC):
            raise ReportDamage(f"{path}: byte 0: the hash of the file header differs. {REMAKE}")
        if (int(head["wal_hi"]), int(head["wal_lo"])) != (manifest.wal_hi, manifest.wal_lo):
            raise ReportDamage(f"{path}: byte 0: belongs to another WAL. {REMAKE}")
        if int(head["layout"]) != LAYOUT:
            raise ReportDamage(f"{path}: byte 0: reports of another release. {REMAKE}")
        first_index = int(head["first_index"])
        segment = Segment(segment_path(data, first_index), first_index, int(head["record_count"]))
        if segment.path.name != name:
            raise ReportDamage(f"{path}: byte 0: was written as {segment.first_index}. {REMAKE}")
        if found and found[-1].end_index != segment.first_index:
            found.clear()
        found.append(segment)
    return found


REMAKE: Final = (
    "Move the file away: recovery derives the reports after the newest snapshot again, "
    "and older ones come from replaying the WAL"
)


class ReportLogReader:
    """Reports by index or sequence, straight from the files; beside a writer or without one."""

    def __init__(self, data: Path, manifest: Manifest) -> None:
        self.data = data
        self.manifest = manifest
        self.segments: list[Segment] = []
        self._fd = -1
        self._open_path: Path | None = None
        self.refresh()

    def refresh(self) -> None:
        """Look for segments made or pruned since."""
        self.segments = list_segments(self.data, self.manifest)

    @property
    def first_index(self) -> int:
        """Index of the oldest report that is still there."""
        return self.segments[0].first_index if self.segments else 0

    def find_end(self) -> int:
        """How many reports there ever were, as far as the files tell: one past the last."""
        if not self.segments:
            return 0
        used = (s for s in reversed(self.segments) if self._seq_at(s.first_index) != 0)
        segment = next(used, self.segments[0])
        low, high = segment.first_index, segment.end_index
        fd, first = self._descriptor(segment), segment.first_index
        while low < high:
            middle = (low + high) // 2
            if any(os.pread(fd, 8, PAGE_BYTES + (middle - first) * RECORD_BYTES)):
                low = middle + 1
            else:
                high = middle
        return low

    def read(self, index: int, most: int) -> np.ndarray[Any, Any]:
        """Up to `most` reports from `index` on, as REPORT rows, all out of one segment.

        Empty when `index` is not in the log. What is behind the end of the log reads as zeros:
        the caller knows the end, from REPORTS_READ of a running engine or from `find_end`.
        """
        segment = self._segment_of(index)
        if segment is None:
            return np.zeros(0, REPORT.dtype)
        rows = np.zeros(min(most, segment.end_index - index), REPORT.dtype)
        self.read_into(index, rows)
        return rows

    def read_into(self, index: int, rows: np.ndarray[Any, Any]) -> int:
        """As `read`, into REPORT rows that are there; returns how many, ReportDamage for none."""
        segment = self._segment_of(index)
        if segment is None:
            raise ReportDamage(self._lacks(index))
        count = min(len(rows), segment.end_index - index)
        fd = self._descriptor(segment)
        at = PAGE_BYTES + (index - segment.first_index) * RECORD_BYTES
        view = rows[:count].view(np.uint8).data
        got = 0
        while got < len(view) and (piece := os.preadv(fd, [view[got:]], at + got)):
            got += piece
        if got < len(view):
            rows[:count].view(np.uint8)[got:] = 0
        return count

    def ask_for(self, index: int, most: int) -> None:
        """Have the operating system read up to `most` reports from `index` on, of one segment."""
        segment = self._segment_of(index)
        if segment is not None:
            at = PAGE_BYTES + (index - segment.first_index) * RECORD_BYTES
            size = min(most, segment.end_index - index) * RECORD_BYTES
            os.posix_fadvise(self._descriptor(segment), at, size, os.POSIX_FADV_WILLNEED)

    def find_seq(self, seq: int, end: int) -> int:
        """Index of the first report below `end` of command `seq` or a later one, else `end`."""
        low, high = self.first_index, end
        while low < high:
            middle = (low + high) // 2
            if self._seq_at(middle) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def batches(self, index: int, end: int, most: int = 8192) -> Iterator[np.ndarray[Any, Any]]:
        """The reports from `index` to `end`, a batch at a time."""
        while index < end:
            rows = self.read(index, min(most, end - index))
            if len(rows) == 0:
                raise ReportDamage(self._lacks(index))
            yield rows
            index += len(rows)

    def sound_end(self, index: int, end: int) -> int:
        """Check order and group hashes from the group of `index` on; returns where it is broken.

        That is `end` when all is sound. Reports of a group that is not complete have no hash:
        of those only the order is checked.
        """
        for segment in self.segments:
            if segment.end_index <= index or segment.first_index >= end:
                continue
            groups = _read_groups(segment)
            at = segment.first_index + max(0, index - segment.first_index) // GROUP * GROUP
            last_seq = 1
            while at < min(end, segment.end_index):
                count = min(GROUP, segment.end_index - at, end - at)
                rows = self.read(at, min(GROUP, segment.end_index - at))
                words = table(rows.view(np.int64))
                good = count_reports(words, count, last_seq)
                if good < count:
                    return at + good
                last_seq = int(rows[count - 1]["seq"])
                group = groups[(at - segment.first_index) // GROUP]
                if int(group["hash"]) != 0 and len(rows) == int(group["record_count"]):
                    digest = hash_reports(words, 0, len(rows))
                    if end_group(digest, len(rows)) != int(group["hash"]):
                        return at
                elif count == GROUP:
                    return at
                at += count
        return end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._open_path = None

    def _lacks(self, index: int) -> str:
        return (
            f"{reports_folder(self.data)}: report {index} is not in the log, which begins "
            f"at {self.first_index}. Replay the WAL to get it"
        )

    def _segment_of(self, index: int) -> Segment | None:
        for attempt in range(2):
            for segment in reversed(self.segments):
                if segment.first_index <= index < segment.end_index:
                    return segment
            if attempt == 0:
                self.refresh()
        return None

    def _descriptor(self, segment: Segment) -> int:
        if self._open_path != segment.path:
            self.close()
            self._fd = os.open(segment.path, os.O_RDONLY)
            self._open_path = segment.path
        return self._fd

    def _seq_at(self, index: int) -> int:
        segment = self._segment_of(index)
        assert segment is not None
        at = PAGE_BYTES + (index - segment.first_index) * RECORD_BYTES
        return int.from_bytes(os.pread(self._descriptor(segment), 8, at), "little", signed=True)


def _read_groups(segment: Segment) -> np.ndarray[Any, Any]:
    """Entries of every group, zeros where the file has none."""
    groups = np.zeros(-(-segment.record_count // GROUP), REPORT_GROUP.dtype)
    if segment.index_path.exists():
        found = np.fromfile(segment.index_path, REPORT_GROUP.dtype)[: len(groups)]
        groups[: len(found)] = found
    return groups


# ---------------------------------------------------------------- followers


class FollowerPosition:
    """Where a named follower has got to; while it is registered its reports are kept."""

    def __init__(self, data: Path, name: str) -> None:
        if not (1 <= len(name) <= 32 and name.isascii() and name.replace("-", "").isalnum()):
            raise DataError(f"follower {name!r}: must be 1 to 32 letters, digits or '-'")
        folder = reports_folder(data) / "followers"
        folder.mkdir(mode=0o750, exist_ok=True)
        self.path = folder / f"{name}.pos"
        self._row = np.zeros(1, FOLLOWER.dtype)
        self._row["magic"] = FOLLOWER_MAGIC
        self._row["name"][0, : len(name)] = np.frombuffer(name.encode(), np.uint8)
        new = not self.path.exists()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640)
        self.index = 0 if new else int(row_from(os.pread(self._fd, 64, 0), FOLLOWER)[0]["index"])
        if new:
            self.store(0)

    def store(self, index: int) -> None:
        """Everything below `index` is done with, and need not be kept for this follower."""
        self.index = index
        self._row["index"], self._row["updated_ns"] = index, time.time_ns()
        os.pwrite(self._fd, self._row.tobytes(), 0)

    def close(self) -> None:
        os.close(self._fd)


def follower_positions(data: Path) -> dict[str, int]:
    """Name -> index of every registered follower."""
    found: dict[str, int] = {}
    for path in sorted((reports_folder(data) / "followers").glob("*.pos")):
        row = row_from(path.read_bytes(), FOLLOWER)[0]
        if int(row["magic"]) == FOLLOWER_MAGIC:
            found[path.stem] = int(row["index"])
    return found
