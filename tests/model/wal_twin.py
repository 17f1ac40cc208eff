"""The WAL read the slow and obvious way: bytes, struct and big integers, nothing of engine/.

Offsets are written out here on purpose: the twin must not learn them from what it checks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PAGE = 4096
MASK = (1 << 64) - 1
K = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7, 0xABC98388FB8FAC03)
HEADER = struct.Struct("<13q2I2BHIq")
MAGIC = int.from_bytes(b"PERPWAL1", "little")
MARK_MAGIC = int.from_bytes(b"PERPMRK1", "little")


@dataclass(frozen=True)
class Command:
    """What the WAL keeps of a command."""

    seq: int
    settled_seq: int
    lines: bytes  # 64, 128 or 192 bytes, settled_lag zeroed


@dataclass(frozen=True)
class Log:
    """What was made of a WAL: commands up to its end, and where the next block goes."""

    commands: list[Command]
    segment: int
    offset: int


class TwinDamage(Exception):
    """Commands first..last were durable and are not there."""

    def __init__(self, segment: int, offset: int, first: int, last: int) -> None:
        super().__init__(f"segment {segment} byte {offset}: {first}..{last}")
        self.where = (segment, offset, first, last)


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & MASK) ^ (product >> 64)


def hash_bytes(data: bytes, seed: int) -> int:
    """The hash of a run of 64-bit words, as a signed number that is never 0."""
    words = [w[0] for w in struct.iter_unpack("<Q", data)]
    digest = _fold((seed & MASK) ^ K[0], len(words) ^ K[1])
    whole = len(words) // 8 * 8
    for at in range(0, whole, 8):
        w = words[at : at + 8]
        a = _fold(w[0] ^ K[0] ^ digest, w[1] ^ K[1])
        b = _fold(w[2] ^ K[1] ^ digest, w[3] ^ K[2])
        c = _fold(w[4] ^ K[2] ^ digest, w[5] ^ K[3])
        d = _fold(w[6] ^ K[3] ^ digest, w[7] ^ K[0])
        digest = _fold(a ^ c ^ K[1], b ^ d ^ digest ^ K[2])
    for word in words[whole:]:
        digest = _fold(digest ^ K[0], word ^ K[1])
    signed = digest - (1 << 64) if digest >> 63 else digest
    return signed or 1


@dataclass(frozen=True)
class Header:
    """A block header whose hash is right."""

    header_hash: int
    body_hash: int
    previous: int
    wal: tuple[int, int]
    epoch: int
    segment: int
    offset: int
    block: int
    first_seq: int
    durable_seq: int
    count: int
    body_bytes: int


def header_at(data: bytes, at: int) -> Header | None:
    """The header there, or None."""
    piece = data[at : at + HEADER.size]
    if len(piece) < HEADER.size:
        return None
    fields = HEADER.unpack(piece)
    if fields[0] != MAGIC or hash_bytes(piece[16:], MAGIC) != fields[1]:
        return None
    return Header(
        *fields[1:4], (fields[4], fields[5]), *fields[6:12], fields[13], fields[14]
    )  # fmt: skip


def commands_in(body: bytes, first_seq: int, count: int) -> list[Command] | None:
    """The commands of a block body, or None when they are not numbered as they should."""
    found = []
    at = 0
    for n in range(count):
        line = body[at : at + 64]
        if len(line) < 64:
            return None
        lines = line[63] if 1 <= line[63] <= 3 else 3
        piece = bytearray(body[at : at + 64 * lines])
        seq = struct.unpack_from("<q", piece, 0)[0]
        if seq != first_seq + n or len(piece) < 64 * lines:
            return None
        lag = struct.unpack_from("<H", piece, 54)[0]
        piece[54:56] = b"\0\0"
        found.append(Command(seq, seq - 1 - lag, bytes(piece)))
        at += 64 * lines
    return found if at == len(body) else None


def watermark(content: bytes, wal: tuple[int, int]) -> int | None:
    """durable_seq of the newest sound slot."""
    best: tuple[int, int] | None = None
    for at in (0, PAGE):
        slot = content[at : at + 64]
        if len(slot) < 64:
            continue
        f = struct.unpack("<8q", slot)
        if f[0] == MARK_MAGIC and hash_bytes(slot[16:], MARK_MAGIC) == f[1] and (f[2], f[3]) == wal:
            best = max(best or (-1, 0), (f[7], f[5]))
    return best[1] if best else None


def read_wal(
    segments: dict[int, bytes],
    *,
    wal: tuple[int, int],
    epoch: int,
    epoch_block: int,
    epoch_seq: int,
    segment_bytes: int,
    mark: bytes,
    snapshot_seq: int = 0,
) -> Log:
    """Read a WAL from its first block on; TwinDamage when what was durable is not there.

    epoch, epoch_block, epoch_seq   of the manifest
    mark                            content of the watermark file
    """
    commands: list[Command] = []
    number, offset, block, previous, last_epoch, durable = 0, 0, 0, 0, 0, 0
    while True:
        if offset == segment_bytes:
            number, offset = number + 1, 0
        data = segments.get(number, b"")[:segment_bytes]
        head = header_at(data, offset)
        if head is None or head.wal != wal:
            break
        size = -(-(HEADER.size + head.body_bytes) // PAGE) * PAGE
        whole = data[offset : offset + size]
        if len(whole) < size or hash_bytes(whole[HEADER.size :], MAGIC) != head.body_hash:
            break
        if (head.segment, head.offset, head.block) != (number, offset, block):
            break
        if head.first_seq != len(commands) + 1 or head.previous != previous:
            break
        if head.epoch < last_epoch or (block >= epoch_block) != (head.epoch == epoch):
            break
        body = whole[HEADER.size : HEADER.size + head.body_bytes]
        found = commands_in(body, head.first_seq, head.count)
        if found is None:
            break
        commands += found
        offset, block, previous, last_epoch = offset + size, block + 1, head.header_hash, head.epoch
        durable = max(durable, head.durable_seq)
    for other in sorted(n for n in segments if n >= number):
        for at in range(offset if other == number else 0, len(segments[other]), PAGE):
            found_head = header_at(segments[other], at)
            if found_head is not None and found_head.wal == wal:
                durable = max(durable, found_head.durable_seq)
    marked = watermark(mark, wal)
    durable = max(durable, epoch_seq, snapshot_seq)
    if marked is None:
        raise TwinDamage(-1, 0, 1, 0)
    durable = max(durable, marked)
    if durable > len(commands):
        raise TwinDamage(number, offset, len(commands) + 1, durable)
    return Log(commands, number, offset)
