"""Reading a WAL: its blocks in order, judged one by one, and the commands in them.

Reads   the manifest and the segments of <data>/wal, also while a journal writes them.
Never   changes a byte; what damage it meets it raises with file, byte and sequence (WalDamage).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine.direct import PAGE_BYTES, aligned, open_direct
from engine.files import (
    RESTORE,
    Manifest,
    WalDamage,
    read_manifest,
    row_from,
    segment_numbers,
    segment_path,
)
from engine.walblocks import (
    HEADER_WORDS,
    PAGE_WORDS,
    S_ANY,
    S_BLOCKS,
    S_EPOCH_BLOCK,
    S_EPOCH_NOW,
    S_FIRST,
    S_OFFSET,
    S_SEGMENT,
    S_SEQ,
    S_WAL_HI,
    S_WAL_LO,
    SAYS,
    SCAN_CELLS,
    Verdict,
    find_durable,
    header_sound,
    last_nonzero,
    scan_words,
    unpack_commands,
)
from shm.pointers import table
from shm.records import COMMAND, WAL_BLOCK

_CHUNK_BYTES: Final = 4 << 20


class Buffer:
    """Page-aligned memory in the three shapes that kernels take it."""

    def __init__(self, size_bytes: int) -> None:
        self.array = aligned(size_bytes)
        self.words = table(self.array)
        self.blocks = table(self.array.view(WAL_BLOCK.dtype))
        self.bytes = self.array.view(np.uint8).data
        self.size_bytes = size_bytes

    def fill(self, fd: int, offset: int, size_bytes: int) -> int:
        """Read into the beginning; returns bytes that were there, and zeros what follows them."""
        got = 0
        while got < size_bytes:
            count = os.preadv(fd, [self.bytes[got:size_bytes]], offset + got)
            got += count
            if count == 0 or got % PAGE_BYTES:  # end of file: O_DIRECT must not go on from there
                break
        self.array.view(np.uint8)[got:size_bytes] = 0
        return got


def scan_start(manifest: Manifest) -> np.ndarray[Any, Any]:
    """Cells for a scan of a whole WAL from its very first block."""
    scan = np.zeros(SCAN_CELLS, np.int64)
    scan[S_WAL_HI], scan[S_WAL_LO] = manifest.wal_hi, manifest.wal_lo
    scan[S_EPOCH_NOW], scan[S_EPOCH_BLOCK] = manifest.epoch, manifest.block
    return scan


def first_header(data: Path, manifest: Manifest, number: int) -> Any:
    """The header that a segment begins with, None if it is not sound or belongs elsewhere."""
    with open(segment_path(data, number), "rb") as file:
        content = file.read(WAL_BLOCK.dtype.itemsize)
    row = row_from(content, WAL_BLOCK)
    head = row[0]
    if not header_sound(table(row.view(np.int64)), 0):
        return None
    wanted = (manifest.wal_hi, manifest.wal_lo, number, 0)
    found = tuple(int(head[name]) for name in ("wal_hi", "wal_lo", "segment", "offset"))
    return head if found == wanted else None


def segment_of(data: Path, manifest: Manifest, after_seq: int) -> int:
    """Number of the last segment that begins at or before command after_seq + 1."""
    numbers = segment_numbers(data)
    if not numbers:
        return manifest.segment
    for number in reversed(numbers):
        head = first_header(data, manifest, number)
        if head is not None and int(head["first_seq"]) <= after_seq + 1:
            return number
    return numbers[0]


class Behind(NamedTuple):
    """What stands in a segment behind the end of a log."""

    number: int
    start: int  # byte from which nothing belongs to the log
    used: int  # byte after the last that isn't zero; `start` when all are


class BlockScanner:
    """Goes over the blocks of a WAL on disk and stops at the first that is not sound.

    after_seq   begins with the segment that holds command after_seq + 1
    still       nobody writes to the log meanwhile: what was read once is not read again
    """

    def __init__(
        self, data: Path, manifest: Manifest, after_seq: int = 0, *, still: bool = False
    ) -> None:
        self.data = data
        self.manifest = manifest
        self.still = still
        self.scan = scan_start(manifest)
        self.scan[S_SEGMENT] = segment_of(data, manifest, after_seq)
        self.scan[S_ANY] = 1 if self.scan[S_SEGMENT] > 0 else 0
        self.buffer = Buffer(min(_CHUNK_BYTES, manifest.segment_bytes))
        self.body = 0  # word after the header of the last block accepted
        self._cells = table(self.scan)
        self._fd = -1
        self._at = self._end = 0  # words of the buffer: next block, end of what was read
        self._fresh = False  # the buffer was read from the next block on, and nothing accepted
        self._read_bytes = self.buffer.size_bytes

    @property
    def path(self) -> Path:
        """The segment in which the next block is looked for, at byte scan[S_OFFSET]."""
        return segment_path(self.data, int(self.scan[S_SEGMENT]))

    def advance(self, blocks: int, stop_seq: int) -> Verdict:
        """Accept up to `blocks`; SOUND, or why the next block is not."""
        scan = self.scan
        goal = int(scan[S_BLOCKS]) + blocks
        self._fresh = False
        while scan[S_BLOCKS] < goal and scan[S_SEQ] < stop_seq:
            if scan[S_OFFSET] == self.manifest.segment_bytes:
                self.close()
                scan[S_SEGMENT] += 1
                scan[S_OFFSET] = 0
            if self._fd < 0 and not self._open():
                return Verdict.NO_FILE
            self.body = self._at + HEADER_WORDS
            last = self._at + (self.manifest.segment_bytes - int(scan[S_OFFSET])) // 8
            verdict, at = scan_words(
                *(self.buffer.blocks, self.buffer.words, self._at, self._end, last),
                *(goal, stop_seq, self._cells),
            )
            self._fresh = self._fresh and at == self._at
            self._at = at
            if verdict == Verdict.SOUND or (verdict == Verdict.EPOCH and self._new_epoch()):
                continue
            fresh = self._fresh or (self.still and self._end == last)
            if fresh and not (verdict == Verdict.SHORT and self._grow()):
                return Verdict(verdict)
            # Perhaps it was not yet written when this stretch was read, or goes on behind it.
            self._refill()
        return Verdict.SOUND

    def behind(self, spare: dict[int, tuple[int, Behind]]) -> tuple[int, list[Behind]]:
        """What stands behind the last accepted block: the highest durable_seq that anything there
        vouches for, and how far each segment is used.

        spare   segments that were looked at already
        """
        place, number = int(self.scan[S_OFFSET]), int(self.scan[S_SEGMENT])
        looked = []
        for other in segment_numbers(self.data):
            if other >= number:
                start = place if other == number else 0
                looked.append(
                    spare.get(other) or self._look(other, start, self._rest(other, start))
                )
        return max((vouched for vouched, _ in looked), default=0), [each for _, each in looked]

    def spare(self) -> dict[int, tuple[int, Behind]]:
        """What stands in the last segments that begin with zeros: the log doesn't get there.

        May be called beside `advance`, when nobody writes to the log.
        """
        found: dict[int, tuple[int, Behind]] = {}
        for number in reversed(segment_numbers(self.data)):
            with open(segment_path(self.data, number), "rb") as file:
                if any(file.read(PAGE_BYTES)):
                    break
            found[number] = self._look(number, 0, self._segment(number, 0))
        return found

    def _look(
        self, number: int, start: int, pieces: Iterator[tuple[Buffer, int, int, int]]
    ) -> tuple[int, Behind]:
        """(the highest durable_seq that is vouched for, how far it is used) of a segment's rest."""
        durable, used = 0, start
        wal = self.manifest.wal_hi, self.manifest.wal_lo
        for buffer, at, end, offset in pieces:
            durable = max(durable, find_durable(buffer.blocks, buffer.words, at, end, *wal))
            last = last_nonzero(buffer.words, at, end)
            used = offset + (last - at) * 8 if last > at else used
        return durable, Behind(number, start, used)

    def _rest(self, number: int, start: int) -> Iterator[tuple[Buffer, int, int, int]]:
        """(buffer, first word, word after the last, file byte) over a segment from a page on."""
        here = self.still and self._fd >= 0 and number == self.scan[S_SEGMENT]
        if here and start + (self._end - self._at) * 8 == self.manifest.segment_bytes:
            # The end was looked for in here, and all of the rest was read for it.
            yield self.buffer, self._at, self._end, start
        else:
            yield from self._segment(number, start)

    def _segment(self, number: int, start: int) -> Iterator[tuple[Buffer, int, int, int]]:
        """As `_rest`, always from the file."""
        for buffer, offset, got in chunks(segment_path(self.data, number), start):
            yield buffer, 0, -(-got // 8), offset

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._at = self._end = 0

    def _open(self) -> bool:
        try:
            self._fd, _direct = open_direct(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        self._refill()
        return True

    def _refill(self) -> None:
        """Read from the next block on: much while much is used, little at the end of a log."""
        if self._at * 2 > self._end:
            self._read_bytes = min(2 * self._read_bytes, self.buffer.size_bytes)
        elif self._end and not self._fresh:
            self._read_bytes = max(self._read_bytes // 2, 64 * PAGE_BYTES)
        offset = int(self.scan[S_OFFSET])
        size = min(self._read_bytes, self.manifest.segment_bytes - offset)
        self._end = self.buffer.fill(self._fd, offset, size) // 8
        self._at = 0
        self._fresh = True

    def _grow(self) -> bool:
        """Whether the block at hand is larger than what was read; then more is read next."""
        head = self.buffer.array[self._at : self._at + HEADER_WORDS].view(WAL_BLOCK.dtype)
        if self._end - self._at < PAGE_WORDS or not header_sound(self.buffer.words, self._at):
            return False
        wanted = -(-(int(head[0]["body_bytes"]) + HEADER_WORDS * 8) // PAGE_BYTES) * PAGE_BYTES
        left = self.manifest.segment_bytes - int(self.scan[S_OFFSET])
        if wanted <= (self._end - self._at) * 8 or wanted > left:
            return False
        if wanted > self._read_bytes:
            self._read_bytes = wanted
            if wanted > self.buffer.size_bytes:
                self.buffer = Buffer(wanted)
            return True
        return False  # the file itself ends there

    def _new_epoch(self) -> bool:
        """Whether the engine was started again since the manifest was read."""
        manifest = read_manifest(self.data)
        if manifest.epoch == self.manifest.epoch:
            return False
        self.manifest = manifest
        self.scan[S_EPOCH_NOW] = manifest.epoch
        self.scan[S_EPOCH_BLOCK] = manifest.block
        return True


def chunks(path: Path, offset: int) -> Iterator[tuple[Buffer, int, int]]:
    """(buffer, file byte, bytes) over a file from a page on; the buffer is used again."""
    fd, _direct = open_direct(path, os.O_RDONLY)
    try:
        left = os.fstat(fd).st_size - offset
        buffer = Buffer(max(PAGE_BYTES, min(_CHUNK_BYTES, -(-left // PAGE_BYTES) * PAGE_BYTES)))
        while got := buffer.fill(fd, offset, buffer.size_bytes):
            yield buffer, offset, got
            offset += got
            if got < buffer.size_bytes:
                return
    finally:
        os.close(fd)


class WalReader:
    """Commands of a WAL in order, a batch at a time; may follow one that is being written.

    after_seq   the first command returned is after_seq + 1
    blocks      a scanner that begins there
    buffers     of a batch each: what `read` returns stays until as many more were read
    """

    def __init__(
        self,
        data: Path,
        after_seq: int = 0,
        batch: int = 8192,
        blocks: BlockScanner | None = None,
        buffers: int = 1,
    ) -> None:
        self.after_seq = after_seq  # last command returned, or left out
        self.verdict = Verdict.BLANK  # about what stands where the log ends
        self._blocks = blocks or BlockScanner(data, read_manifest(data), after_seq)
        self._begun = (0, 0, 0)  # of the last block: next word, commands left, commands to skip
        made = [np.zeros(batch, COMMAND.dtype) for _ in range(buffers)]
        self._buffers = [(rows, table(rows.view(np.int64))) for rows in made]

    @property
    def head(self) -> Any:
        """WAL_BLOCK of the last block begun; valid until the next read."""
        body = self._blocks.body
        words = self._blocks.buffer.array[body - HEADER_WORDS : body]
        return words.view(WAL_BLOCK.dtype)[0]

    @property
    def place(self) -> tuple[Path, int]:
        """(file, byte) where the next block is looked for."""
        return self._blocks.path, int(self._blocks.scan[S_OFFSET])

    def read(self, until_seq: int) -> np.ndarray[Any, Any]:
        """The next commands, at most a batch and none after `until_seq`; empty when there is none.

        The array is used again by the next call, or by the last of so many as there are buffers.
        """
        rows, words = self._buffers[0]
        self._buffers.append(self._buffers.pop(0))
        row = 0
        while row < len(rows) and self.after_seq < until_seq:
            if not self._more():
                break
            at, left, skip = self._begun
            take = min(left, skip + min(len(rows) - row, until_seq - self.after_seq))
            row, at = unpack_commands(self._blocks.buffer.words, at, take, skip, words, row)
            self._begun = (at, left - take, 0)
            self.after_seq += take - skip
        return rows[:row]

    def batches(self) -> Iterator[np.ndarray[Any, Any]]:
        """What `read` returns, until the log ends."""
        while len(rows := self.read(NO_STOP)):
            yield rows

    @property
    def buffers(self) -> int:
        """How many arrays `read` uses in turn."""
        return len(self._buffers)

    def peek(self) -> Any:
        """`head` of the block that holds the next command; None when the log ends before it."""
        return self.head if self._more() else None

    def _more(self) -> bool:
        """Whether a block is begun that has commands left."""
        while self._begun[1] == 0:
            self.verdict = self._blocks.advance(1, NO_STOP)
            if self.verdict != Verdict.SOUND:
                return False
            self._begin()
        return True

    def _begin(self) -> None:
        scan = self._blocks.scan
        first, count = int(scan[S_FIRST]), int(scan[S_SEQ] - scan[S_FIRST]) + 1
        if first > self.after_seq + 1:
            raise missing_start(self._blocks, self.after_seq, first)
        skip = self.after_seq + 1 - first
        self._begun = (self._blocks.body, count, skip) if skip < count else (0, 0, 0)

    def close(self) -> None:
        self._blocks.close()


NO_STOP: Final = (1 << 63) - 1


def missing_start(blocks: BlockScanner, after_seq: int, first_seq: int) -> WalDamage:
    """The error for a log whose oldest segment begins too late."""
    path = segment_path(blocks.data, segment_of(blocks.data, blocks.manifest, after_seq))
    return WalDamage(
        *(path, 0, after_seq + 1, first_seq - 1),
        f"the oldest segment begins with command {first_seq}",
        f"Copy the segments before it back, or start from a snapshot at {first_seq - 1} or later",
    )


def read_commands(
    data: Path, after_seq: int, until_seq: int, batch: int = 8192
) -> Iterator[np.ndarray[Any, Any]]:
    """Commands after_seq + 1 .. until_seq as COMMAND arrays; each is used again by the next.

    What risk had decided is left zero, except settled_seq. Raises WalDamage when the log ends
    before `until_seq`.
    """
    reader = WalReader(data, after_seq, max(1, min(batch, until_seq - after_seq)))
    yield from commands_upto(reader, until_seq)


def commands_upto(reader: WalReader, until_seq: int) -> Iterator[np.ndarray[Any, Any]]:
    """As `read_commands`, from where a reader is; closes it."""
    try:
        while reader.after_seq < until_seq:
            rows = reader.read(until_seq)
            if len(rows) == 0:
                path, offset = reader.place
                first = reader.after_seq + 1
                raise WalDamage(path, offset, first, until_seq, SAYS[reader.verdict], RESTORE)
            yield rows
    finally:
        reader.close()
