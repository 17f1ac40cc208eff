"""Where a data directory keeps one command and its reports, found without replaying anything.

Reads   WAL segments and report log; the reports ring of an engine that runs on the directory.
Writes  nothing.
Never   trusts bytes alone: what a search comes upon counts when the block around it is sound.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine import walblocks, walreader
from engine.files import segment_numbers, segment_path
from shm.control import CONTROL, CURSOR_PARTS, CURSORS, View, text_of
from shm.feed import Feed
from shm.files import PAGE_BYTES, DataError, Manifest
from shm.hashing import hash_words
from shm.kinds import HAS_ORIGIN
from shm.pointers import table
from shm.records import COMMAND, WAL_BLOCK
from shm.reportlog import ReportLogReader
from shm.segment import Part, Segment, SegmentError, list_segments
from shm.traces import NO_TRACE, Trace

Array = np.ndarray[Any, Any]

BATCH: Final = 65536  # reports in one read
_LINE_BYTES: Final = 64
_TRACE: Final = struct.Struct("<qq")  # trace_hi, trace_lo as they lie in a record


def trace_in(row: Any) -> Trace:
    """The trace id that a COMMAND row carries, or NO_TRACE."""
    if int(row["lines"]) < 3 or not HAS_ORIGIN >> int(row["kind"]) & 1:
        return NO_TRACE
    return int(row["trace_hi"]), int(row["trace_lo"])


def running_on(data: Path) -> View | None:
    """The engine that runs on a data directory, whatever its instance is called."""
    wanted = str(data.resolve())
    for info in list_segments():
        if info.name != CONTROL or info.state != "live":
            continue
        try:
            view = View(info.instance)
        except SegmentError:
            continue
        if view.alive and text_of(view.engine["data_dir"]) == wanted:
            return view
        view.close()
    return None


# ---------------------------------------------------------------- reports


class Reports:
    """Every report there is, by index: out of the log, and out of the ring of a running engine."""

    def __init__(self, data: Path, manifest: Manifest, view: View | None) -> None:
        """view: the engine that runs on the directory, if one does."""
        self._log = ReportLogReader(data, manifest)
        self._feed: Feed | None = None
        self._segments: list[Segment] = []
        if view is not None:
            try:
                self._attach(data, view)
            except SegmentError:
                self._feed = None  # it has just ended: the log has the rest

    def _attach(self, data: Path, view: View) -> None:
        ring = (Part("reports", "REPORT", int(view.engine["reports"])),)
        for name, parts in ((CURSORS, CURSOR_PARTS), ("reports", ring)):
            self._segments.append(Segment.attach(view.instance, name, parts, view.epoch))
        cursors, reports = (segment.arrays for segment in self._segments)
        self._feed = Feed(data, cursors["cursors"], reports["reports"], BATCH)

    @property
    def first_index(self) -> int:
        """Index of the oldest report that is still there."""
        return self._log.first_index

    def batches(self, index: int) -> Iterator[tuple[int, Array]]:
        """(index of the first one, reports) from `index` on, whole commands if they fit.

        The array is used again by the next.
        """
        index = max(index, self.first_index)
        while True:
            if self._feed is not None:
                rows = self._feed.read(index, BATCH)
            else:
                rows = self._log.read(index, BATCH)
                rows = rows[: int(np.count_nonzero(rows["seq"]))]
            if len(rows) == 0:
                return
            if len(rows) == BATCH:
                # The next batch begins with the command that may go on in it.
                rows = rows[: int(np.searchsorted(rows["seq"], rows[-1]["seq"])) or BATCH]
            yield index, rows
            index += len(rows)

    def find_seq(self, seq: int) -> int:
        """Index of the first report of a command or a later one, or where the log ends."""
        return self._log.find_seq(seq, self._log.find_end())

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._log.close()
        for segment in self._segments:
            segment.close()


# ---------------------------------------------------------------- commands


class Place(NamedTuple):
    """Where the WAL keeps a command: its group commit."""

    path: Path
    byte: int
    block: int
    epoch: int
    first_seq: int
    commands: int


class Logged(NamedTuple):
    """A command as the WAL has it."""

    row: Any  # of COMMAND
    place: Place

    @property
    def seq(self) -> int:
        return int(self.row["seq"])


class Wal:
    """Commands of a data directory; neither chain nor hashes of what lies between are checked."""

    def __init__(self, data: Path, manifest: Manifest) -> None:
        self._data = data
        self._manifest = manifest

    def find_seq(self, seq: int) -> Logged | None:
        """The command with that number, from header to header."""
        if seq < 1 or not segment_numbers(self._data):
            return None
        path = segment_path(self._data, walreader.segment_of(self._data, self._manifest, seq - 1))
        with path.open("rb") as file, _mapped(file) as content:
            at = 0
            while (head := self._head(content, at)) is not None:
                first, count = int(head["first_seq"]), int(head["record_count"])
                if first <= seq < first + count:
                    return self._commands(content, path, at, head)[seq - first]
                if first > seq:
                    break
                at += _whole_bytes(head)
        return None

    def find_trace(self, trace: Trace) -> list[Logged]:
        """Every command with that trace id: its bytes are found, then the block around them."""
        wanted, found = _TRACE.pack(*trace), {}
        for number in segment_numbers(self._data):
            path = segment_path(self._data, number)
            with path.open("rb") as file, _mapped(file) as content:
                at = content.find(wanted)
                while at >= 0:
                    if at % _LINE_BYTES == 0:
                        for logged in self._around(content, path, at):
                            if trace_in(logged.row) == trace:
                                found[logged.seq] = logged
                    at = content.find(wanted, at + 1)
        return [found[seq] for seq in sorted(found)]

    def _around(self, content: mmap.mmap, path: Path, at: int) -> list[Logged]:
        """Commands of the block that byte `at` lies in."""
        begin = at // PAGE_BYTES * PAGE_BYTES
        while begin >= 0:
            head = self._head(content, begin)
            if head is not None:
                inside = begin + _whole_bytes(head) > at
                return self._commands(content, path, begin, head) if inside else []
            begin -= PAGE_BYTES
        return []

    def _head(self, content: mmap.mmap, at: int) -> Any:
        """The header of a block of this WAL at a byte; None where there is no sound one."""
        words = _words(content, at, WAL_BLOCK.dtype.itemsize)
        head = words.view(WAL_BLOCK.dtype)[0]
        mine = (self._manifest.wal_hi, self._manifest.wal_lo)
        if (int(head["wal_hi"]), int(head["wal_lo"])) != mine or int(head["offset"]) != at:
            return None
        return head if walblocks.header_sound(table(words), 0) else None

    def _commands(self, content: mmap.mmap, path: Path, at: int, head: Any) -> list[Logged]:
        words = _words(content, at, _whole_bytes(head))
        begin, count = walblocks.HEADER_WORDS, int(head["record_count"])
        body_hash = hash_words(table(words), begin, len(words) - begin, walblocks.MAGIC)
        if int(body_hash) != int(head["body_hash"]):
            what = walblocks.SAYS[walblocks.Verdict.BODY_HASH]
            raise DataError(f"{path}: byte {at}: {what}. See: perpcore verify")
        rows = np.zeros(count, COMMAND.dtype)
        walblocks.unpack_commands(table(words), begin, count, 0, table(rows.view(np.int64)), 0)
        names = ("block", "epoch", "first_seq", "record_count")
        place = Place(path, at, *(int(head[name]) for name in names))
        return [Logged(row, place) for row in rows]


def _words(content: mmap.mmap, at: int, size: int) -> Array:
    return np.frombuffer(bytearray(content[at : at + size].ljust(size, b"\0")), np.int64)


def _whole_bytes(head: Any) -> int:
    """Of a block with its padding."""
    size = WAL_BLOCK.dtype.itemsize + int(head["body_bytes"])
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def _mapped(file: Any) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
