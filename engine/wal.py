"""The WAL as a whole: made, judged, cut where it is torn, pruned.

Reads   segments of <data>/wal, the manifest, the watermark.
Writes  new segments, full of zeros; a recovery cuts torn tails. Blocks: engine/walblocks.py.
Never   shortens what was acknowledged: it refuses with file, byte and sequence (WalDamage).

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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from engine.direct import check, open_direct, write_zeros
from engine.files import (
    RESTORE,
    DataError,
    Manifest,
    WalDamage,
    create_watermark,
    lock_wal,
    make_folders,
    manifest_path,
    read_manifest,
    read_watermark,
    segment_numbers,
    segment_path,
    sync_files,
    sync_folder,
    wal_folder,
    watermark_path,
    write_manifest,
)
from engine.readahead import many_commands
from engine.walblocks import (
    FORMAT,
    HEADER_WORDS,
    LINE_WORDS,
    LINES_WORD,
    S_BLOCK,
    S_BLOCKS,
    S_DURABLE,
    S_FIRST,
    S_OFFSET,
    S_PREVIOUS,
    S_SEGMENT,
    S_SEQ,
    SAYS,
    Verdict,
    finish_block,
    lines_of,
)
from engine.walreader import (
    NO_STOP,
    Behind,
    BlockScanner,
    Buffer,
    first_header,
    missing_start,
)
from shm.records import WAL_BLOCK
from shm.release import RELEASE

log = logging.getLogger(__name__)

_ZERO_BYTES: Final = 256 << 10  # small pieces: the journal's writes wait behind them


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


def create_wal(data: Path, segment_bytes: int, name: bytes = b"") -> Manifest:
    """A new WAL, with a name of its own, in a data directory that has none.

    name        its 16 bytes; of a simulation, which is the same at every run. Else nobody's before
    """
    make_folders(data)
    if manifest_path(data).exists() or segment_numbers(data):
        raise DataError(
            f"{data}: there is a WAL already. Start the engine on it, or name another directory"
        )
    name = name or uuid.uuid4().bytes
    assert len(name) == 16
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
    with closing(WalScan(data, read_manifest(data), snapshot_seq)) as wal:
        return wal.finish()


class WalScan:
    """A log that is looked at and not changed: read the commands of its blocks, `finish` it."""

    def __init__(self, data: Path, manifest: Manifest, snapshot_seq: int) -> None:
        self.snapshot_seq = snapshot_seq
        # Before the scan: beside a journal it moves on, and what it vouched for then is in the log
        # now.
        self.marked_seq = read_watermark(data, manifest).durable_seq
        self.blocks = BlockScanner(data, manifest, snapshot_seq)

    def finish(self) -> WalEnd:
        """Go on to where the log ends, and judge that."""
        return _judge(self.blocks, self.marked_seq, self.snapshot_seq, {})[0]

    def close(self) -> None:
        self.blocks.close()


def _judge(
    blocks: BlockScanner, marked: int, snapshot_seq: int, spare: dict[int, tuple[int, Behind]]
) -> tuple[WalEnd, list[Behind]]:
    """Go over what is left of the log to its end; (the end, what stands behind it).

    blocks      at its beginning, or where a reader got to, which has looked at what comes first
    marked      the last command that the watermark vouches for
    spare       segments behind the end that were looked at already
    """
    scan = blocks.scan
    whole = scan[S_BLOCKS] == 0
    verdict = blocks.advance(1, NO_STOP)
    first = int(scan[S_FIRST])
    if verdict == Verdict.SOUND:
        verdict = blocks.advance(1 << 62, NO_STOP)
    if verdict == Verdict.FORMAT:
        raise DataError(
            f"{blocks.path}: byte {int(scan[S_OFFSET])}: {SAYS[verdict]}; this is release "
            f"{RELEASE}, which reads format {FORMAT}. Start the release that wrote it"
        )
    if whole and scan[S_BLOCKS] > 0 and first > snapshot_seq + 1:
        raise missing_start(blocks, snapshot_seq, first)
    # With nothing accepted the log begins, and ends, with what the manifest says.
    vouched, behind = blocks.behind(spare)
    durable = max(int(scan[S_DURABLE]), vouched, marked, blocks.manifest.seq, snapshot_seq)
    while durable > scan[S_SEQ]:
        # A journal beside us may have written what vouches for it since we came by.
        seen = int(scan[S_BLOCKS])
        verdict = blocks.advance(1 << 62, NO_STOP)
        if scan[S_BLOCKS] == seen:
            raise WalDamage(
                *(blocks.path, int(scan[S_OFFSET]), int(scan[S_SEQ]) + 1, durable),
                *(SAYS[verdict], RESTORE),
            )
    end = WalEnd(
        seq=int(scan[S_SEQ]),
        segment=int(scan[S_SEGMENT]),
        offset=int(scan[S_OFFSET]),
        block=int(scan[S_BLOCK]),
        previous_hash=int(scan[S_PREVIOUS]),
        durable_seq=durable,
        block_count=int(scan[S_BLOCKS]),
    )
    return end, behind


def recover_wal(data: Path, snapshot_seq: int = 0) -> WalEnd:
    """Find the end of the log, refuse damage, and cut off what nobody was ever told of."""
    with WalRecovery(data, read_manifest(data), snapshot_seq) as wal:
        return wal.finish()


class WalRecovery:
    """A log on its way to its judged end: enter it, read the commands of its blocks, `finish` it.

    Everything is synced before it is read, so that no decision rests on what may still vanish.
    A crash at any moment in here leaves a log that the next recovery takes to the same end.
    """

    def __init__(self, data: Path, manifest: Manifest, snapshot_seq: int) -> None:
        self.data, self.manifest, self.snapshot_seq = data, manifest, snapshot_seq

    def __enter__(self) -> WalRecovery:
        with ExitStack() as stack:
            stack.enter_context(lock_wal(self.data))
            # Nobody reads those that end so, and they were synced.
            sync_files(wal_folder(self.data), but=".broken")
            sync_files(self.data)
            self.marked_seq = read_watermark(self.data, self.manifest).durable_seq
            self.blocks = BlockScanner(self.data, self.manifest, self.snapshot_seq, still=True)
            stack.callback(self.blocks.close)
            self._spare: Future[dict[int, tuple[int, Behind]]] | None = None
            if many_commands(self.snapshot_seq, self.marked_seq):
                # Two segments of zeros may take as long to read as all the commands.
                beside = stack.enter_context(ThreadPoolExecutor(1, "spare segments"))
                self._spare = beside.submit(self.blocks.spare)
            self._held = stack.pop_all()
        return self

    def finish(self) -> WalEnd:
        """Go on to where the log ends, judge that, and cut off what stands behind it."""
        spare = self._spare.result() if self._spare is not None else {}
        end, behind = _judge(self.blocks, self.marked_seq, self.snapshot_seq, spare)
        return end._replace(cut_bytes=_cut(self.data, self.manifest, end, behind))

    def __exit__(self, *_error: object) -> None:
        self._held.close()


def begin_epoch(data: Path, end: WalEnd, before: Manifest | None = None) -> Manifest:
    """Start a new epoch at the end of the log: after recovery, before the first append.

    before      the manifest that recovery went by
    """
    with lock_wal(data):
        before = before or read_manifest(data)
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
            line += int(lines_of(int(buffer.array[line + LINES_WORD]))) * LINE_WORDS
        head["record_count"] = count
        total = int(finish_block(buffer.blocks, buffer.words, 0, line))
        os.pwrite(file.fileno(), buffer.array[:total].tobytes(), start)
        os.fsync(file.fileno())
    return start + total * 8, int(head["header_hash"])


def _cut(data: Path, manifest: Manifest, end: WalEnd, behind: list[Behind]) -> int:
    """Save what stands behind the end of the log as .broken, and make it zeros."""
    cut = 0
    for number, start, dirty in behind:
        path = segment_path(data, number)
        size = path.stat().st_size
        if dirty == start and size == manifest.segment_bytes:
            continue
        if dirty > start:
            cut += dirty - start
            broken = path.with_name(f"{path.name}.{start}.e{manifest.epoch}.broken")
            log.warning(
                "%s: byte %d: cut %d bytes that were never acknowledged, kept in %s",
                *(path, start, dirty - start, broken.name),
            )
            _copy(path, start, min(dirty, size), broken)
        if number == end.segment and start > 0:
            _zero(path, start, dirty, manifest.segment_bytes)
        else:
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


def prunable(data: Path, before_seq: int) -> list[Path]:
    """Segments in which every command is <= before_seq, oldest first."""
    manifest = read_manifest(data)
    found: list[Path] = []
    numbers = segment_numbers(data)
    for number, following in zip(numbers, numbers[1:], strict=False):
        head = first_header(data, manifest, following)
        if head is None or int(head["first_seq"]) > before_seq + 1:
            break
        found.append(segment_path(data, number))
    return found


def prune_wal(data: Path, before_seq: int) -> list[Path]:
    """Remove segments in which every command is <= before_seq; returns what was removed.

    Who may still need them is the caller's to know (tools/prune.py).
    """
    removed = prunable(data, before_seq)
    for path in removed:  # the oldest first: a crash leaves no gap
        path.unlink()
    if removed:
        sync_folder(wal_folder(data))
    return removed
