"""Blocks of the WAL: their format, how commands are packed into them, when one is accepted.

Reads   slots of the commands ring; bytes of a segment.
Writes  blocks into memory: engine/journal.py puts them on disk.
Never   touches a file.

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
       and no epoch is below that of the block before"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np

from engine.direct import PAGE_BYTES
from engine.files import digest_word, magic_word
from shm.hashing import hash_words
from shm.jit import kernel
from shm.pointers import Cells, Rows
from shm.records import COMMAND, WAL_BLOCK
from shm.release import RELEASE

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


_LAG_WORD, _LAG_SHIFT = COMMAND.place("settled_lag")
LINES_WORD, _LINES_SHIFT = COMMAND.place("lines")
_SETTLED_WORD = COMMAND.place("settled_seq")[0]
_LAG_MAX: Final = (1 << 16) - 1
_LAG_REST: Final = (1 << _LAG_SHIFT) - 1  # the rest of its word: it is the highest field
assert _LAG_SHIFT == 48 and COMMAND_WORDS == 4 * LINE_WORDS


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
        count = lines_of(commands[slot + LINES_WORD]) * LINE_WORDS
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
        lines = lines_of(words[at + LINES_WORD]) * LINE_WORDS
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
        line += lines_of(words[line + LINES_WORD]) * LINE_WORDS
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
