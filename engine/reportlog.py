"""The report log: every report the engine ever made, raw, in files of fixed size.

Reads   reports out of their ring (engine/journal.py calls `pump`), or arrays during recovery.
Writes  <data>/reports/rep.<first index>.seg, and rep.<first index>.idx with a hash per group.
Never   is synced with every batch: what a power cut takes can be derived from the WAL again.

    .seg   REPORT_SEGMENT, zeros to 4096 | reports, 64 bytes each, report i at i - first_index
    .idx   REPORT_GROUP per GROUP reports: hash, first and last sequence

Files are reserved in full when they are made and read as zeros where nothing was written; a report
has a sequence above 0, so the log ends at the first zero. Writes are of whole pages and bypass the
page cache: at full speed it would fill with dirty pages, and every sync of the WAL wait for them.
The last page is kept in memory and written again when there is more of it.

A report may leave the ring only when it is in the log (REPORTS_READ moves after the write), so a
follower that was lapped in the ring finds in the log what it missed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.direct import PAGE_BYTES, check, open_direct, pwrite_all
from engine.files import Manifest, reports_folder, stamp, sync_file, sync_folder
from engine.walreader import Buffer
from shm.atomics import load_acquire, store_release
from shm.cursors import REPORTS_JOURNALED, REPORTS_READ
from shm.hashing import SEED, fold_line
from shm.jit import kernel
from shm.pointers import Cells, Rows, table
from shm.records import REPORT_GROUP, REPORT_SEGMENT
from shm.reportlog import (
    GROUP,
    LAYOUT,
    MAGIC,
    RECORD_BYTES,
    RECORD_WORDS,
    FollowerPosition,
    ReportDamage,
    ReportLogReader,
    Segment,
    count_reports,
    end_group,
    follower_positions,
    hash_reports,
    list_segments,
    segment_path,
)

# The reading half is shm/reportlog.py, which followers stand on too.
__all__ = [
    "GROUP",
    "MAGIC",
    "RECORD_BYTES",
    "RECORD_WORDS",
    "FollowerPosition",
    "ReportDamage",
    "ReportLogReader",
    "Segment",
    "count_reports",
    "end_group",
    "follower_positions",
    "hash_reports",
    "list_segments",
]

_GROUP_BYTES: Final = REPORT_GROUP.dtype.itemsize
_PAGE_RECORDS: Final = PAGE_BYTES // RECORD_BYTES
_WINDOW_RECORDS: Final = 8192  # what one write takes at most: 512 KiB
SEGMENT_RECORDS: Final = 1 << 22  # 256 MiB

# Cells of a log that is being written.
L_FD: Final = 0
L_INDEX_FD: Final = 1
L_FIRST: Final = 2  # index of the first report of the segment
L_CAPACITY: Final = 3  # reports it has room for
L_LOGGED: Final = 4  # reports in the log: below this index a reader finds them
L_FILLED: Final = 5  # reports copied into the window
L_WINDOW: Final = 6  # index of the window's first report, on a page of the segment
L_DIGEST: Final = 7  # of the group begun
L_GROUP_SEQ: Final = 8  # first sequence of the group begun
L_FLUSH: Final = 9  # somebody wants the log up to here, whole page or not
L_BYTES: Final = 10  # written so far
LOG_CELLS: Final = 16

SEGMENT_FULL: Final = 1 << 40  # from `pump`: make the next segment, then call it again


@kernel
def take_reports(
    ring: Cells, mask: int, base: int, upto: int, window: Cells, groups: Rows, groups_at: int,
    log: Cells,
) -> int:  # fmt: skip
    """Copy reports below index `upto` into the window, hashing them; ends each full group.

    ring        report i is in slot (i - base) & mask
    groups      one row to build a group's entry in, at address groups_at
    returns     0, or minus errno
    """
    first = log[L_FIRST]
    index = log[L_FILLED]
    while index < upto:
        stop = min(upto, first + ((index - first) // GROUP + 1) * GROUP)
        digest = log[L_DIGEST]
        if (index - first) % GROUP == 0:
            digest = SEED
            log[L_GROUP_SEQ] = ring[((index - base) & mask) * RECORD_WORDS]
        last_seq = 0
        while index < stop:
            slot = ((index - base) & mask) * RECORD_WORDS
            to = (index - log[L_WINDOW]) * RECORD_WORDS
            for k in range(RECORD_WORDS):
                window[to + k] = ring[slot + k]
            digest = fold_line(digest, window, to)
            last_seq = window[to]
            index += 1
        log[L_DIGEST] = digest
        log[L_FILLED] = index
        if (index - first) % GROUP == 0:
            groups[0]["hash"] = end_group(digest, GROUP)
            groups[0]["first_seq"] = log[L_GROUP_SEQ]
            groups[0]["last_seq"] = last_seq
            groups[0]["record_count"] = GROUP
            at = ((index - first) // GROUP - 1) * _GROUP_BYTES
            failed = pwrite_all(log[L_INDEX_FD], groups_at, _GROUP_BYTES, at)
            if failed != 0:
                return failed
    return 0


@kernel
def write_window(window: Cells, window_at: int, whole: bool, log: Cells) -> int:
    """Write the window's full pages; with `whole` the last page too, zeros behind its reports.

    window_at   address of the window
    returns     0, or minus errno
    """
    start = log[L_WINDOW]
    filled = log[L_FILLED]
    done = start + (filled - start) // _PAGE_RECORDS * _PAGE_RECORDS
    upto = done
    if whole and filled > done:
        upto = done + _PAGE_RECORDS
        for k in range((filled - start) * RECORD_WORDS, (upto - start) * RECORD_WORDS):
            window[k] = 0
    if upto == start:
        return 0
    size = (upto - start) * RECORD_BYTES
    offset = PAGE_BYTES + (start - log[L_FIRST]) * RECORD_BYTES
    failed = pwrite_all(log[L_FD], window_at, size, offset)
    if failed != 0:
        return failed
    log[L_BYTES] = log[L_BYTES] + size
    # The page begun stays, to be written again when there is more of it.
    for k in range((filled - done) * RECORD_WORDS):
        window[k] = window[(done - start) * RECORD_WORDS + k]
    log[L_WINDOW] = done
    store_release(log, L_LOGGED, filled if whole else done)
    return 0


@kernel
def append_reports(
    ring: Cells, mask: int, base: int, upto: int, whole: bool, window: Cells, window_at: int,
    groups: Rows, groups_at: int, log: Cells,
) -> int:  # fmt: skip
    """Log reports below index `upto`, as far as the segment has room.

    whole       write the last page too, though it is not full
    returns     0, minus errno, or SEGMENT_FULL when there are more than fit
    """
    room = log[L_FIRST] + log[L_CAPACITY]
    end = min(upto, room)
    while log[L_LOGGED] < end:
        stop = min(end, log[L_WINDOW] + _WINDOW_RECORDS)
        failed = take_reports(ring, mask, base, stop, window, groups, groups_at, log)
        if failed != 0:
            return failed
        logged = log[L_LOGGED]
        failed = write_window(window, window_at, (whole and stop == end) or stop == room, log)
        if failed != 0:
            return failed
        if log[L_LOGGED] == logged:
            break
    return SEGMENT_FULL if upto > room else 0


@kernel
def pump(
    cursors: Cells, ring: Cells, capacity: int, least: int, window: Cells, window_at: int,
    groups: Rows, groups_at: int, log: Cells,
) -> int:  # fmt: skip
    """Log what may be known outside, and free its slots in the ring.

    capacity    of the reports ring
    least       wait for so many reports, unless L_FLUSH asks for them
    returns     reports logged; minus errno; or SEGMENT_FULL when the next segment is needed
    """
    logged = log[L_LOGGED]
    end = load_acquire(cursors, REPORTS_JOURNALED)
    whole = load_acquire(log, L_FLUSH) > logged
    if end == logged or (end - logged < least and not whole):
        return 0
    result = append_reports(
        ring, capacity - 1, 0, end, whole, window, window_at, groups, groups_at, log
    )
    store_release(cursors, REPORTS_READ, log[L_LOGGED])
    return result if result != 0 else log[L_LOGGED] - logged


# ---------------------------------------------------------------- files


def make_segment(data: Path, manifest: Manifest, first_index: int, record_count: int) -> Segment:
    """Make an empty segment with its room reserved; OSError leaves nothing behind."""
    path = segment_path(data, first_index)
    segment = Segment(path, first_index, record_count)
    row = np.zeros(1, REPORT_SEGMENT.dtype)
    row["wal_hi"], row["wal_lo"], row["epoch"] = manifest.wal_hi, manifest.wal_lo, manifest.epoch
    row["first_index"], row["record_count"], row["layout"] = first_index, record_count, LAYOUT
    stamp(row, MAGIC)
    groups = -(-record_count // GROUP)
    temporary = path.with_name(path.name + ".tmp")
    try:
        for name, size, content in (
            (segment.index_path, groups * _GROUP_BYTES, b""),
            (temporary, segment.size_bytes, row.tobytes().ljust(PAGE_BYTES, b"\0")),
        ):
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
            try:
                os.posix_fallocate(fd, 0, size)
                if content:
                    os.pwrite(fd, content, 0)
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError:
        for name in (temporary, segment.index_path):
            with suppress(OSError):
                name.unlink()
        raise
    os.rename(temporary, path)
    sync_folder(path.parent)
    return segment


def sync_reports(data: Path, manifest: Manifest, upto: int) -> None:
    """Make the log durable below index `upto`: before a snapshot that relies on it is published."""
    for segment in list_segments(data, manifest):
        if segment.first_index < upto:
            sync_file(segment.path)
            sync_file(segment.index_path)
    sync_folder(reports_folder(data))


def truncate_after(data: Path, manifest: Manifest, index: int) -> None:
    """Cut the log so that its last report is index - 1: before what follows is derived again."""
    for segment in reversed(list_segments(data, manifest)):
        if segment.first_index >= index:
            segment.path.unlink()
            segment.index_path.unlink(missing_ok=True)
        elif index < segment.end_index:
            groups = (index - segment.first_index) // GROUP
            for path, at, size in (
                (segment.path, PAGE_BYTES + (index - segment.first_index) * RECORD_BYTES,
                 segment.size_bytes),
                (segment.index_path, groups * _GROUP_BYTES,
                 -(-segment.record_count // GROUP) * _GROUP_BYTES),
            ):  # fmt: skip
                fd = os.open(path, os.O_RDWR)
                try:
                    os.ftruncate(fd, at)
                    os.posix_fallocate(fd, at, size - at)
                    os.fsync(fd)
                finally:
                    os.close(fd)
    sync_folder(reports_folder(data))


class ReportLog:
    """The writing end. Goes on where the log ends, or begins anew at `next_index`."""

    def __init__(
        self,
        data: Path,
        manifest: Manifest,
        next_index: int,
        segment_records: int = SEGMENT_RECORDS,
    ) -> None:
        """next_index: how many reports there were; the log must end there, else it begins anew."""
        assert segment_records % GROUP == 0
        self.data = data
        self.manifest = manifest
        self.segment_records = segment_records
        self.log = np.zeros(LOG_CELLS, np.int64)
        self.cells = table(self.log)
        self.window = Buffer(_WINDOW_RECORDS * RECORD_BYTES)
        self.group = np.zeros(1, REPORT_GROUP.dtype)
        self.groups = table(self.group)
        self.log[L_FD] = self.log[L_INDEX_FD] = -1
        reader = ReportLogReader(data, manifest)
        end = reader.find_end()
        if end > next_index and reader.segments:
            raise ReportDamage(
                f"{reports_folder(data)}: the log has {end} reports, the engine made {next_index}. "
                "Cut it first: truncate_after"
            )
        self._ready: Segment | None = None
        begun = [g for g in reader.segments if g.first_index <= next_index < g.end_index]
        with closing(reader):
            for segment in reader.segments:
                if segment.first_index > next_index:  # made ahead of time, and empty
                    segment.path.unlink()
            if end == next_index and begun:
                self._resume(reader, begun[0], next_index)
            else:
                self._begin(make_segment(data, manifest, next_index, segment_records))

    @property
    def logged(self) -> int:
        """Reports in the log."""
        return int(self.log[L_LOGGED])

    @property
    def end_index(self) -> int:
        """First index that does not fit the segment being written."""
        return int(self.log[L_FIRST] + self.log[L_CAPACITY])

    def args(self) -> tuple[Any, ...]:
        """The last arguments of `append_reports` and `pump`."""
        return (
            *(self.window.words, self.window.array.ctypes.data),
            *(self.groups, self.group.ctypes.data, self.cells),
        )

    def append(self, reports: np.ndarray[Any, Any]) -> None:
        """Log an array of reports: for recovery and tools; the engine's go through `pump`."""
        words = np.ascontiguousarray(reports).view(np.int64).reshape(-1)
        if len(words) == 0:
            return
        base = self.logged
        upto = base + len(reports)
        while self.logged < upto:
            result = append_reports(table(words.copy()), -1, base, upto, True, *self.args())
            if result == SEGMENT_FULL:
                self.roll()
            else:
                check(result, "cannot write the report log", self._segment.path)

    def prepare(self) -> None:
        """Make the next segment ahead of time; OSError when there is no room for it."""
        if self._ready is None:
            self._ready = make_segment(
                self.data, self.manifest, self.end_index, self.segment_records
            )

    def roll(self) -> None:
        """Go on in the next segment; the one before is full."""
        assert self.logged == self.end_index
        self.prepare()
        assert self._ready is not None
        self._begin(self._ready)
        self._ready = None

    def sync(self) -> None:
        """Make what was logged durable."""
        os.fsync(int(self.log[L_FD]))
        os.fsync(int(self.log[L_INDEX_FD]))

    def close(self) -> None:
        for cell in (L_FD, L_INDEX_FD):
            if self.log[cell] >= 0:
                os.close(int(self.log[cell]))
                self.log[cell] = -1

    def _begin(self, segment: Segment) -> None:
        self._open(segment)
        self.log[L_LOGGED] = self.log[L_FILLED] = self.log[L_WINDOW] = segment.first_index

    def _open(self, segment: Segment) -> None:
        self.close()
        self._segment = segment
        fd, _direct = open_direct(segment.path, os.O_RDWR)
        self.log[L_FD] = fd
        self.log[L_INDEX_FD] = os.open(segment.index_path, os.O_RDWR)
        self.log[L_FIRST], self.log[L_CAPACITY] = segment.first_index, segment.record_count

    def _resume(self, reader: ReportLogReader, segment: Segment, index: int) -> None:
        """Take up the page and the group that `index` is in the middle of."""
        self._open(segment)
        group = (index - segment.first_index) // GROUP * GROUP + segment.first_index
        rows = reader.read(group, index - group)
        self.log[L_DIGEST] = (
            hash_reports(table(rows.view(np.int64)), 0, len(rows)) if len(rows) else 0
        )
        self.log[L_GROUP_SEQ] = int(rows[0]["seq"]) if len(rows) else 0
        page = (index - segment.first_index) // _PAGE_RECORDS * _PAGE_RECORDS + segment.first_index
        begun = rows[page - group :].view(np.int64)
        self.window.array[: len(begun)] = begun
        self.log[L_LOGGED] = self.log[L_FILLED] = index
        self.log[L_WINDOW] = page


# ---------------------------------------------------------------- pruning


def prune_reports(
    data: Path,
    manifest: Manifest,
    *,
    bytes_max: int,
    keep_index: Callable[[], int],
    bytes_limit: int,
) -> list[Path]:
    """Remove the oldest segments while the log is larger than it should be, and those of no use.

    bytes_max    above this, remove what snapshot (keep_index) and every follower have passed
    bytes_limit  above this, remove all the same: a follower left behind replays the WAL instead
    returns      the files removed
    """
    segments = list_segments(data, manifest)
    total = sum(segment.size_bytes for segment in segments)
    known = {segment.path.name for segment in segments}
    folder = reports_folder(data)
    names = sorted(n for n in os.listdir(folder) if n.startswith("rep.") and n.endswith(".seg"))
    removed = [folder / name for name in names if name not in known]
    for path in removed:  # before a gap: no reader gets there
        path.unlink()
        path.with_suffix(".idx").unlink(missing_ok=True)
    if total <= bytes_max:
        return removed
    passed = min([keep_index(), *follower_positions(data).values()])
    for segment in segments[:-1]:
        if total <= bytes_max or (segment.end_index > passed and total <= bytes_limit):
            break
        segment.path.unlink()
        segment.index_path.unlink(missing_ok=True)
        total -= segment.size_bytes
        removed.append(segment.path)
    return removed
