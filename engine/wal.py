"""The WAL: blocks of commands on disk. Format, packing, scanning, and what damage means.

Reads   segments of <data>/wal, the manifest, the watermark.
Writes  blocks into memory (engine/journal.py puts them on disk); a recovery cuts torn tails.
Never   shortens what was acknowledged: it refuses with file, byte and sequence (WalDamage).

A segment is a file of fixed size, full of zeros when it is made and never used twice. Blocks follow
one another in it without gaps, each a multiple of 4096 bytes and one group commit:

    WAL_BLOCK 128 bytes | commands, 1 to 3 lines of 64 bytes each | zeros to a multiple of 4096

    DATA        commands
    HEARTBEAT   none; written once when commands stop coming, and at a clean stop
    SEAL        none; the last 4096 bytes of every full segment

Of a command the WAL keeps the lines its producer filled, and from risk only `settled_lag`: replay
derives everything else again.

A block is accepted when all of this holds
    1. its header and its body hash to what the header says
    2. it belongs here: this WAL, this segment, this byte
    3. it is next: block number, first sequence, and the hash of the block before it
    4. its epoch is that of its place: blocks from manifest.block on are of manifest.epoch,
       and no epoch is below that of the block before

The log ends at the first block that is not. Whether that end is right is decided by what is known
to have been durable: `durable_seq` of any sound header of this WAL behind it, the watermark, the
manifest and the snapshot. A log that ends below that is damaged; above it, it has a torn tail,
which nobody was ever told of.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine.direct import PAGE_BYTES, aligned, check, open_direct, write_zeros
from engine.files import (
    RESTORE,
    DataError,
    Manifest,
    WalDamage,
    create_watermark,
    digest_word,
    lock_wal,
    magic_word,
    make_folders,
    manifest_path,
    read_manifest,
    read_watermark,
    row_from,
    segment_numbers,
    segment_path,
    sync_files,
    sync_folder,
    wal_folder,
    watermark_path,
    write_manifest,
)
from shm.hashing import hash_words
from shm.jit import kernel
from shm.pointers import Cells, Rows, table
from shm.records import COMMAND, WAL_BLOCK
from shm.release import RELEASE

log = logging.getLogger(__name__)

FORMAT: Final = 1
MAGIC: Final = magic_word("PERPWAL1")
LAYOUT: Final = digest_word(COMMAND)

DATA: Final = 1
HEARTBEAT: Final = 2
SEAL: Final = 3

LINE_WORDS: Final = 8
COMMAND_WORDS: Final = COMMAND.dtype.itemsize // 8
HEADER_WORDS: Final = WAL_BLOCK.dtype.itemsize // 8
PAGE_WORDS: Final = PAGE_BYTES // 8
_CHUNK_BYTES: Final = 4 << 20
_ZERO_BYTES: Final = 256 << 10  # small pieces: the journal's writes wait behind them


def _place(name: str) -> tuple[int, int]:
    """(word, shift in bits) of a field of COMMAND."""
    fields: Any = COMMAND.dtype.fields
    offset = fields[name][1]
    return offset // 8, offset % 8 * 8


_LAG_WORD, _LAG_SHIFT = _place("settled_lag")
_LINES_WORD, _LINES_SHIFT = _place("lines")
_SETTLED_WORD = _place("settled_seq")[0]
_LAG_MAX: Final = (1 << 16) - 1
_LAG_REST: Final = (1 << _LAG_SHIFT) - 1  # the rest of its word: it is the highest field
assert _LAG_SHIFT == 48 and COMMAND_WORDS == 4 * LINE_WORDS


# ---------------------------------------------------------------- blocks in memory


@kernel
def lines_of(word: int) -> int:
    """Lines of a command that the WAL keeps, from its last word of line 0; 3 for any nonsense."""
    lines = (word >> _LINES_SHIFT) & 0xFF
    return lines if 1 <= lines <= 3 else 3


@kernel
def pack_commands(
    commands: Cells, mask: int, first_seq: int, last_seq: int, words: Cells, at: int, end: int
) -> tuple[int, int]:
    """Copy commands out of their ring into words[at:end], as many as fit.

    commands    COMMAND slots as cells; command n is in slot n & mask
    returns     (commands copied, the word after them)
    asserts     settled_seq of each is below it, by at most _LAG_MAX
    """
    seq = first_seq
    while seq <= last_seq:
        slot = (seq & mask) * COMMAND_WORDS
        count = lines_of(commands[slot + _LINES_WORD]) * LINE_WORDS
        if at + count > end:
            break
        lag = seq - 1 - commands[slot + _SETTLED_WORD]
        assert 0 <= lag <= _LAG_MAX and commands[slot] == seq
        for k in range(count):
            words[at + k] = commands[slot + k]
        signed = (lag ^ 0x8000) - 0x8000
        words[at + _LAG_WORD] = (words[at + _LAG_WORD] & _LAG_REST) | (signed << _LAG_SHIFT)
        at += count
        seq += 1
    return seq - first_seq, at


@kernel
def unpack_commands(
    words: Cells, at: int, count: int, skip: int, commands: Cells, row: int
) -> tuple[int, int]:
    """Unpack commands at words[at] into rows of COMMAND, leaving out the first `skip`.

    commands    COMMAND rows as cells; the first one taken goes to `row`
    returns     (row after the last, word after the last)
    """
    for n in range(count):
        lines = lines_of(words[at + _LINES_WORD]) * LINE_WORDS
        if n >= skip:
            to = row * COMMAND_WORDS
            for k in range(lines):
                commands[to + k] = words[at + k]
            for k in range(lines, COMMAND_WORDS):
                commands[to + k] = 0
            lag = (words[at + _LAG_WORD] >> _LAG_SHIFT) & _LAG_MAX
            commands[to + _LAG_WORD] = commands[to + _LAG_WORD] & _LAG_REST
            commands[to + _SETTLED_WORD] = words[at] - 1 - lag
            row += 1
        at += lines
    return row, at


@kernel
def finish_block(blocks: Rows, words: Cells, at: int, end: int) -> int:
    """Pad, hash and stamp a block whose other header fields are filled.

    blocks      the same memory as `words`, as WAL_BLOCK rows
    at, end     first word of the header, word after the last command line
    returns     words of the whole block
    """
    total = (end - at + PAGE_WORDS - 1) // PAGE_WORDS * PAGE_WORDS
    for k in range(end, at + total):
        words[k] = 0
    head = blocks[at // HEADER_WORDS]
    head["magic"] = MAGIC
    head["layout"] = LAYOUT
    head["format"] = FORMAT
    head["release"] = RELEASE
    head["reserved"] = 0
    head["reserved2"] = 0
    head["body_bytes"] = (end - at - HEADER_WORDS) * 8
    head["body_hash"] = hash_words(words, at + HEADER_WORDS, total - HEADER_WORDS, MAGIC)
    head["header_hash"] = hash_words(words, at + 2, HEADER_WORDS - 2, MAGIC)
    return total


# ---------------------------------------------------------------- scanning

# Cells of a scan: what the next block must be, and what was seen.
S_WAL_HI: Final = 0
S_WAL_LO: Final = 1
S_SEGMENT: Final = 2
S_OFFSET: Final = 3
S_BLOCK: Final = 4
S_SEQ: Final = 5  # last command accepted
S_PREVIOUS: Final = 6
S_EPOCH: Final = 7  # of the last block accepted
S_EPOCH_NOW: Final = 8  # manifest
S_EPOCH_BLOCK: Final = 9  # manifest: first block of that epoch
S_ANY: Final = 10  # 1: the next block is the first one looked at; take number, seq, hash as given
S_DURABLE: Final = 11  # highest durable_seq accepted
S_FIRST: Final = 12  # first_seq of the last block accepted
S_BLOCKS: Final = 13  # how many were accepted
SCAN_CELLS: Final = 16


class Verdict(IntEnum):
    """About one block."""

    SOUND = 0
    SHORT = 1  # more bytes are needed to tell
    BLANK = 2  # zeros: nothing was written here
    NO_BLOCK = 3
    HEADER_HASH = 4
    OTHER_WAL = 5
    FORMAT = 6
    LENGTH = 7
    BODY_HASH = 8
    PLACE = 9
    ORDER = 10
    CHAIN = 11
    EPOCH = 12
    RECORDS = 13
    NO_FILE = 14


SAYS: Final[dict[int, str]] = {
    Verdict.SHORT: "the file ends within a block",
    Verdict.BLANK: "nothing was written here",
    Verdict.NO_BLOCK: "no block begins here",
    Verdict.HEADER_HASH: "the hash of the block header differs",
    Verdict.OTHER_WAL: "the block belongs to another WAL",
    Verdict.FORMAT: "the block has another format",
    Verdict.LENGTH: "the block does not fit its segment",
    Verdict.BODY_HASH: "the hash of the block body differs",
    Verdict.PLACE: "the block was written for another place",
    Verdict.ORDER: "the block is not the next one",
    Verdict.CHAIN: "the block does not continue the one before it",
    Verdict.EPOCH: "the block is left over from an earlier start",
    Verdict.RECORDS: "the commands in the block are not numbered as its header says",
    Verdict.NO_FILE: "the segment is missing",
}


@kernel
def header_sound(words: Cells, at: int) -> bool:
    """Whether words[at] begins a block header that is as it was written."""
    if words[at] != MAGIC:
        return False
    return bool(hash_words(words, at + 2, HEADER_WORDS - 2, MAGIC) == words[at + 1])


@kernel
def check_block(blocks: Rows, words: Cells, at: int, end: int, last: int, scan: Cells) -> int:
    """Judge the block at words[at], and when it is sound move `scan` past it.

    blocks      the same memory as `words`, as WAL_BLOCK rows
    end         word after the last that was read
    last        word where the segment ends
    returns     Verdict
    """
    if at + PAGE_WORDS > end:
        return Verdict.SHORT
    head = blocks[at // HEADER_WORDS]
    if words[at] != MAGIC:
        for k in range(HEADER_WORDS):
            if words[at + k] != 0:
                return Verdict.NO_BLOCK
        return Verdict.BLANK
    if not header_sound(words, at):
        return Verdict.HEADER_HASH
    if head["wal_hi"] != scan[S_WAL_HI] or head["wal_lo"] != scan[S_WAL_LO]:
        return Verdict.OTHER_WAL
    if head["format"] != FORMAT or head["layout"] != LAYOUT:
        return Verdict.FORMAT
    body: Any = np.int64(head["body_bytes"])
    count: Any = np.int64(head["record_count"])
    total = (body // 8 + HEADER_WORDS + PAGE_WORDS - 1) // PAGE_WORDS * PAGE_WORDS
    if body % (LINE_WORDS * 8) != 0 or at + total > last:
        return Verdict.LENGTH
    if at + total > end:
        return Verdict.SHORT
    if hash_words(words, at + HEADER_WORDS, total - HEADER_WORDS, MAGIC) != head["body_hash"]:
        return Verdict.BODY_HASH
    if head["segment"] != scan[S_SEGMENT] or head["offset"] != scan[S_OFFSET]:
        return Verdict.PLACE
    if scan[S_ANY] == 0:
        if head["block"] != scan[S_BLOCK] or head["first_seq"] != scan[S_SEQ] + 1:
            return Verdict.ORDER
        if head["previous_hash"] != scan[S_PREVIOUS]:
            return Verdict.CHAIN
    epoch = head["epoch"]
    if epoch < scan[S_EPOCH] or (head["block"] >= scan[S_EPOCH_BLOCK]) != (
        epoch == scan[S_EPOCH_NOW]
    ):
        return Verdict.EPOCH
    line = at + HEADER_WORDS
    body_end = line + body // 8
    for n in range(count):
        if line >= body_end or words[line] != head["first_seq"] + n:
            return Verdict.RECORDS
        line += lines_of(words[line + _LINES_WORD]) * LINE_WORDS
    if line != body_end:
        return Verdict.RECORDS
    scan[S_ANY] = 0
    scan[S_OFFSET] = scan[S_OFFSET] + total * 8
    scan[S_BLOCK] = head["block"] + 1
    scan[S_FIRST] = head["first_seq"]
    scan[S_SEQ] = head["first_seq"] + count - 1
    scan[S_PREVIOUS] = head["header_hash"]
    scan[S_EPOCH] = epoch
    scan[S_DURABLE] = max(scan[S_DURABLE], head["durable_seq"])
    scan[S_BLOCKS] = scan[S_BLOCKS] + 1
    return Verdict.SOUND


@kernel
def scan_words(
    blocks: Rows, words: Cells, at: int, end: int, last: int, goal: int, stop_seq: int, scan: Cells
) -> tuple[int, int]:
    """Accept blocks from words[at] on, until one is not sound or enough are accepted.

    goal        stop when scan[S_BLOCKS] is this
    stop_seq    stop when this command is behind
    returns     (SOUND or the Verdict of the next block, the word where that stands)
    """
    verdict: int = Verdict.SOUND
    while at < last and scan[S_BLOCKS] < goal and scan[S_SEQ] < stop_seq:
        before = scan[S_OFFSET]
        verdict = check_block(blocks, words, at, end, last, scan)
        if verdict != Verdict.SOUND:
            break
        at += (scan[S_OFFSET] - before) // 8
    return verdict, at


@kernel
def find_durable(blocks: Rows, words: Cells, at: int, end: int, wal_hi: int, wal_lo: int) -> int:
    """The highest durable_seq that any sound header of this WAL in words[at:end] vouches for.

    Where the block stands does not matter: what was durable once stays so. 0: none says anything.
    """
    durable = 0
    while at + HEADER_WORDS <= end:
        if words[at] == MAGIC and header_sound(words, at):
            head = blocks[at // HEADER_WORDS]
            if head["wal_hi"] == wal_hi and head["wal_lo"] == wal_lo:
                durable = max(durable, head["durable_seq"])
        at += PAGE_WORDS
    return durable


@kernel
def last_nonzero(words: Cells, at: int, end: int) -> int:
    """The word after the last one in words[at:end] that is not zero; `at` when all are."""
    while end > at and words[end - 1] == 0:
        end -= 1
    return end


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


class BlockScanner:
    """Goes over the blocks of a WAL on disk and stops at the first that is not sound.

    after_seq   begins with the segment that holds command after_seq + 1
    """

    def __init__(self, data: Path, manifest: Manifest, after_seq: int = 0) -> None:
        self.data = data
        self.manifest = manifest
        self.scan = scan_start(manifest)
        self.scan[S_SEGMENT] = segment_of(data, manifest, after_seq)
        self.scan[S_ANY] = 1 if self.scan[S_SEGMENT] > 0 else 0
        self.buffer = Buffer(_CHUNK_BYTES)
        self.body = 0  # word after the header of the last block accepted
        self._cells = table(self.scan)
        self._fd = -1
        self._at = self._end = 0  # words of the buffer: next block, end of what was read
        self._fresh = False  # the buffer was read from the next block on, and nothing accepted
        self._read_bytes = _CHUNK_BYTES

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
            if self._fresh and not (verdict == Verdict.SHORT and self._grow()):
                return Verdict(verdict)
            # Perhaps it was not yet written when this stretch was read, or goes on behind it.
            self._refill()
        return Verdict.SOUND

    def durable_behind(self) -> int:
        """The highest durable_seq that anything behind the last accepted block vouches for."""
        durable = 0
        place, number = int(self.scan[S_OFFSET]), int(self.scan[S_SEGMENT])
        for other in segment_numbers(self.data):
            if other < number:
                continue
            for buffer, _offset, got in chunks(
                segment_path(self.data, other), place if other == number else 0
            ):
                found = find_durable(
                    *(buffer.blocks, buffer.words, 0, got // 8),
                    *(self.manifest.wal_hi, self.manifest.wal_lo),
                )
                durable = max(durable, found)
        return durable

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
    """

    def __init__(self, data: Path, after_seq: int = 0, batch: int = 8192) -> None:
        self.after_seq = after_seq  # last command returned, or left out
        self.verdict = Verdict.BLANK  # about what stands where the log ends
        self._blocks = BlockScanner(data, read_manifest(data), after_seq)
        self._begun = (0, 0, 0)  # of the last block: next word, commands left, commands to skip
        self._rows = np.zeros(batch, COMMAND.dtype)
        self._row_words = table(self._rows.view(np.int64))

    @property
    def block(self) -> int:
        """Number of the last block begun."""
        return int(self._blocks.scan[S_BLOCK]) - 1

    @property
    def block_hash(self) -> int:
        """Its header_hash."""
        return int(self._blocks.scan[S_PREVIOUS])

    @property
    def place(self) -> tuple[Path, int]:
        """(file, byte) where the next block is looked for."""
        return self._blocks.path, int(self._blocks.scan[S_OFFSET])

    def read(self, until_seq: int) -> np.ndarray[Any, Any]:
        """The next commands, at most a batch and none after `until_seq`; empty when there is none.

        The array is used again by the next call.
        """
        row = 0
        while row < len(self._rows) and self.after_seq < until_seq:
            at, left, skip = self._begun
            if left == 0:
                self.verdict = self._blocks.advance(1, NO_STOP)
                if self.verdict != Verdict.SOUND:
                    break
                self._begin()
                continue
            take = min(left, skip + min(len(self._rows) - row, until_seq - self.after_seq))
            row, at = unpack_commands(
                self._blocks.buffer.words, at, take, skip, self._row_words, row
            )
            self._begun = (at, left - take, 0)
            self.after_seq += take - skip
        return self._rows[:row]

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
    reader = WalReader(data, after_seq, batch)
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


# ---------------------------------------------------------------- making, judging, cutting


class WalEnd(NamedTuple):
    """Where a log ends."""

    seq: int  # last command
    segment: int  # where the next block goes
    offset: int
    block: int  # its number
    previous_hash: int  # what it chains to
    durable_seq: int  # the highest command known to have been durable
    block_count: int  # blocks looked at
    cut_bytes: int = 0  # what a recovery cut off


def create_wal(data: Path, segment_bytes: int) -> Manifest:
    """A new WAL, with a name of its own, in a data directory that has none."""
    make_folders(data)
    if manifest_path(data).exists() or segment_numbers(data):
        raise DataError(
            f"{data}: there is a WAL already. Start the engine on it, or name another directory"
        )
    name = uuid.uuid4().bytes
    manifest = Manifest(
        wal_hi=int.from_bytes(name[:8], "little", signed=True),
        wal_lo=int.from_bytes(name[8:], "little", signed=True),
        epoch=0,
        segment_bytes=segment_bytes,
        created_ns=time.time_ns(),
    )
    # The manifest last: a crash before it leaves a directory that still counts as empty.
    create_watermark(data, manifest)
    write_manifest(data, manifest)
    return manifest


def open_wal(data: Path, segment_bytes: int) -> Manifest:
    """The manifest of the directory's WAL, which is made when there is none."""
    if manifest_path(data).exists():
        return read_manifest(data)
    return create_wal(data, segment_bytes)


def scan_wal(data: Path, snapshot_seq: int = 0) -> WalEnd:
    """Find the end of the log and judge it, changing nothing.

    snapshot_seq    a snapshot covers the commands up to here; segments before it are not read
    raises          WalDamage when commands that were acknowledged cannot be read
    """
    manifest = read_manifest(data)
    blocks = BlockScanner(data, manifest, snapshot_seq)
    scan = blocks.scan
    try:
        verdict = blocks.advance(1, NO_STOP)
        first = int(scan[S_FIRST])
        if verdict == Verdict.SOUND:
            verdict = blocks.advance(1 << 62, NO_STOP)
    finally:
        blocks.close()
    if verdict == Verdict.FORMAT:
        raise DataError(
            f"{blocks.path}: byte {int(scan[S_OFFSET])}: {SAYS[verdict]}; this is release "
            f"{RELEASE}, which reads format {FORMAT}. Start the release that wrote it"
        )
    if scan[S_BLOCKS] > 0 and first > snapshot_seq + 1:
        raise missing_start(blocks, snapshot_seq, first)
    # With nothing accepted the log begins, and ends, with what the manifest says.
    seq = int(scan[S_SEQ])
    durable = max(
        int(scan[S_DURABLE]),
        blocks.durable_behind(),
        read_watermark(data, manifest).durable_seq,
        manifest.seq,
        snapshot_seq,
    )
    if durable > seq:
        raise WalDamage(
            *(blocks.path, int(scan[S_OFFSET]), seq + 1, durable), SAYS[verdict], RESTORE
        )
    return WalEnd(
        seq=seq,
        segment=int(scan[S_SEGMENT]),
        offset=int(scan[S_OFFSET]),
        block=int(scan[S_BLOCK]),
        previous_hash=int(scan[S_PREVIOUS]),
        durable_seq=durable,
        block_count=int(scan[S_BLOCKS]),
    )


def recover_wal(data: Path, snapshot_seq: int = 0) -> WalEnd:
    """Find the end of the log, refuse damage, and cut off what nobody was ever told of.

    Everything is synced before it is read, so that no decision rests on what may still vanish.
    A crash at any moment in here leaves a log that the next recovery takes to the same end.
    """
    with lock_wal(data):
        sync_files(wal_folder(data))
        sync_files(data)
        end = scan_wal(data, snapshot_seq)
        manifest = read_manifest(data)
        cut = _cut(data, manifest, end)
        return end._replace(cut_bytes=cut)


def begin_epoch(data: Path, end: WalEnd) -> Manifest:
    """Start a new epoch at the end of the log: after recovery, before the first append."""
    with lock_wal(data):
        before = read_manifest(data)
        manifest = before._replace(
            epoch=before.epoch + 1,
            segment=end.segment,
            offset=end.offset,
            block=end.block,
            seq=end.seq,
            previous_hash=end.previous_hash,
            created_ns=time.time_ns(),
            release=RELEASE,
        )
        write_manifest(data, manifest)
        return manifest


def cut_after(data: Path, seq: int) -> None:
    """Make a log that no engine runs on end with command `seq`: for a restore to a point in time.

    The block that holds `seq` is written again without what follows; a new epoch begins there, so
    that nothing of what was cut could ever be taken for its continuation.
    """
    with lock_wal(data):
        manifest = read_manifest(data)
        blocks = BlockScanner(data, manifest, seq - 1)
        scan = blocks.scan
        before = scan.copy()
        try:
            while scan[S_SEQ] < seq:
                before = scan.copy()
                verdict = blocks.advance(1, NO_STOP)
                if verdict != Verdict.SOUND:
                    raise WalDamage(
                        *(blocks.path, int(scan[S_OFFSET]), int(scan[S_SEQ]) + 1, seq),
                        *(SAYS[verdict], RESTORE),
                    )
        finally:
            blocks.close()
        segment, end = int(scan[S_SEGMENT]), int(scan[S_OFFSET])
        previous = int(scan[S_PREVIOUS])
        path = segment_path(data, segment)
        if scan[S_SEQ] > seq:
            start = int(before[S_OFFSET]) if before[S_SEGMENT] == segment else 0
            end, previous = _shorten(path, start, end, seq)
        size = path.stat().st_size
        _zero(path, end, size, manifest.segment_bytes)
        for number in segment_numbers(data):
            if number > segment:
                segment_path(data, number).unlink()
        cut = manifest._replace(
            epoch=manifest.epoch + 1,
            segment=segment,
            offset=end,
            block=int(scan[S_BLOCK]),
            seq=seq,
            previous_hash=previous,
            created_ns=time.time_ns(),
            release=RELEASE,
        )
        watermark_path(data).unlink(missing_ok=True)
        create_watermark(data, cut)
        write_manifest(data, cut)


def _shorten(path: Path, start: int, end: int, seq: int) -> tuple[int, int]:
    """Write the block in [start, end) again up to `seq`; (where it ends, its header's hash)."""
    buffer = Buffer(end - start)
    with open(path, "r+b") as file:
        content = os.pread(file.fileno(), end - start, start)
        buffer.array[:] = np.frombuffer(content, np.int64)
        head = buffer.array[:HEADER_WORDS].view(WAL_BLOCK.dtype)[0]
        count = seq - int(head["first_seq"]) + 1
        line = HEADER_WORDS
        for _ in range(count):
            line += int(lines_of(int(buffer.array[line + _LINES_WORD]))) * LINE_WORDS
        head["record_count"] = count
        total = int(finish_block(buffer.blocks, buffer.words, 0, line))
        os.pwrite(file.fileno(), buffer.array[:total].tobytes(), start)
        os.fsync(file.fileno())
    return start + total * 8, int(head["header_hash"])


def _cut(data: Path, manifest: Manifest, end: WalEnd) -> int:
    """Save what stands behind the end of the log as .broken, and make it zeros."""
    cut = 0
    for number in segment_numbers(data):
        path = segment_path(data, number)
        if number < end.segment:
            continue
        start = end.offset if number == end.segment else 0
        dirty = start
        for buffer, offset, got in chunks(path, start):
            used = last_nonzero(buffer.words, 0, -(-got // 8)) * 8
            dirty = offset + used if used else dirty
        size = path.stat().st_size
        if dirty > start:
            cut += dirty - start
            broken = path.with_name(f"{path.name}.{start}.e{manifest.epoch}.broken")
            log.warning(
                "%s: byte %d: cut %d bytes that were never acknowledged, kept in %s",
                *(path, start, dirty - start, broken.name),
            )
            _copy(path, start, min(dirty, size), broken)
        if number == end.segment and start > 0:
            _zero(path, start, max(dirty, start), manifest.segment_bytes)
        elif dirty > start or size != manifest.segment_bytes:
            path.unlink()  # nothing in it counts: the journal makes a new one
    sync_folder(wal_folder(data))
    return cut


def _copy(path: Path, start: int, end: int, to: Path) -> None:
    """Copy bytes of a file into a new one, durably."""
    temporary = to.with_name(to.name + ".tmp")
    with open(path, "rb") as source, open(temporary, "wb") as sink:
        source.seek(start)
        left = end - start
        while left > 0 and (piece := source.read(min(left, 1 << 20))):
            sink.write(piece)
            left -= len(piece)
        sink.flush()
        os.fsync(sink.fileno())
    os.rename(temporary, to)
    sync_folder(to.parent)


def _zero(path: Path, start: int, dirty: int, segment_bytes: int) -> None:
    """Zero [start, dirty) of a segment, and give it back its full size."""
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        zeros = bytes(1 << 20)
        for first, last in ((start, min(dirty, size)), (size, segment_bytes)):
            for at in range(first, last, len(zeros)):
                os.pwrite(file.fileno(), zeros[: last - at], at)
        os.fsync(file.fileno())


def make_segment(data: Path, number: int, segment_bytes: int) -> None:
    """Make a segment of real zeros under its name, durably; OSError leaves nothing behind.

    Zeros and not only reserved blocks: a write into those changes the file's metadata, and a sync
    has to write that as well (twice the latency), and a mapped write could still find no room.
    """
    path = segment_path(data, number)
    temporary = path.with_name(path.name + ".tmp")
    try:
        fd, _direct = open_direct(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            os.posix_fallocate(fd, 0, segment_bytes)
            zeros = Buffer(_ZERO_BYTES)
            address = zeros.array.ctypes.data
            failed = write_zeros(fd, address, _ZERO_BYTES, 0, segment_bytes)
            check(failed, "cannot write zeros", temporary)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    os.rename(temporary, path)
    sync_folder(path.parent)


def prune_wal(data: Path, before_seq: int) -> list[Path]:
    """Remove segments in which every command is <= before_seq; returns what was removed."""
    manifest = read_manifest(data)
    removed: list[Path] = []
    numbers = segment_numbers(data)
    for number, following in zip(numbers, numbers[1:], strict=False):
        head = first_header(data, manifest, following)
        if head is None or int(head["first_seq"]) > before_seq + 1:
            break
        segment_path(data, number).unlink()
        removed.append(segment_path(data, number))
    if removed:
        sync_folder(wal_folder(data))
    return removed
