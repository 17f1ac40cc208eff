"""Every bit, every length, every block of a small WAL damaged: refused, or nothing anyone knew of.

The rule is one: what was acknowledged is never silently lost or changed. A recovery that goes on
must end at or after the last acknowledged command, with exactly the commands that were written.

Each bit and each length go through the scanner's kernels on memory, as recovery would put them
together; samples of both, and every block and segment, go through recover_wal on files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engine import files, wal
from engine.files import DataError, WalDamage
from engine.snapshotfile import (
    SnapshotDamage,
    list_snapshots,
    load_snapshot,
    newest_sound,
    snapshot_path,
    verify_snapshot,
    write_snapshot,
)
from engine.walblocks import (
    S_ANY,
    S_BLOCKS,
    S_DURABLE,
    S_OFFSET,
    S_SEGMENT,
    S_SEQ,
    SCAN_CELLS,
    find_durable,
    scan_words,
)
from engine.walreader import NO_STOP, scan_start
from shm.config import Wal
from shm.hashing import hash_words
from shm.jit import kernel
from shm.pointers import Cells, Rows, table
from shm.records import COMMAND, POSITION, WAL_BLOCK
from tests.model.wal_rig import PAGE, WalRig, content_of, copy_data, read_all, segments_of, twin_of
from tests.model.wal_twin import TwinDamage

SEGMENT_PAGES = 6
CONFIG = Wal(
    segment_bytes=SEGMENT_PAGES * PAGE, block_bytes_max=2 * PAGE, heartbeat_ms=60_000, preallocate=1
)


@kernel
def judge(
    blocks: Rows, words: Cells, segments: int, segment_words: int, known: int,
    start: Cells, scan: Cells,
) -> tuple[int, int]:  # fmt: skip
    """What recovery makes of segments that lie one after the other in `words`.

    known       what watermark, manifest and snapshot say was durable
    start       cells of a scan from the beginning
    returns     (last command, word where the log ends), or (-1, ...) when recovery refuses
    """
    for k in range(SCAN_CELLS):
        scan[k] = start[k]
    at = 0
    for segment in range(segments):
        scan[S_SEGMENT] = segment
        scan[S_OFFSET] = 0
        last = (segment + 1) * segment_words
        _verdict, at = scan_words(
            blocks, words, segment * segment_words, last, last, NO_STOP, NO_STOP, scan
        )
        if at != last:
            break
    durable = find_durable(blocks, words, at, segments * segment_words, start[0], start[1])
    durable = max(max(durable, known), scan[S_DURABLE])
    return (-1, at) if durable > scan[S_SEQ] else (scan[S_SEQ], at)


@kernel
def flip_every_bit(
    blocks: Rows, words: Cells, segments: int, segment_words: int, known: int, acknowledged: int,
    start: Cells, scan: Cells, found: Cells,
) -> None:  # fmt: skip
    """Count in `found`: refused, went on without loss, lost silently, changed silently."""
    for word in range(segments * segment_words):
        for bit in range(64):
            mask = 1 << bit
            words[word] = words[word] ^ mask
            seq, end = judge(blocks, words, segments, segment_words, known, start, scan)
            words[word] = words[word] ^ mask
            if seq < 0:
                found[0] = found[0] + 1
            elif seq < acknowledged:
                found[2] = found[2] + 1
            elif word < end:
                found[3] = found[3] + 1
            else:
                found[1] = found[1] + 1


@kernel
def cut_at_every_byte(
    blocks: Rows, words: Cells, octets: Cells, segments: int, segment_words: int, known: int,
    acknowledged: int, start: Cells, scan: Cells, found: Cells,
) -> None:  # fmt: skip
    """As `flip_every_bit`, for every length that the log may be cut to. Leaves zeros."""
    for length in range(segments * segment_words * 8 - 1, -1, -1):
        octets[length] = 0
        seq, _end = judge(blocks, words, segments, segment_words, known, start, scan)
        if seq < 0:
            found[0] = found[0] + 1
        elif seq < acknowledged:
            found[2] = found[2] + 1
        else:
            found[1] = found[1] + 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> WalRig:
    """Two starts, two full segments, all kinds of blocks; cleanly stopped."""
    rig = WalRig(tmp_path_factory.mktemp("small"), CONFIG)
    rig.start()
    for count in (3, 50, 1):
        rig.write(count)
    rig.journal.close()
    rig.start()
    for count in (2, 20, 1, 2):
        rig.write(count)
    rig.journal.close()
    rig.start()
    rig.write(2)
    rig.write(1)
    rig.journal.close()
    return rig


class Image:
    """A WAL's segments in memory, as the kernels here take them."""

    def __init__(self, data: Path) -> None:
        segments = segments_of(data)
        self.count = len(segments)
        self.manifest = files.read_manifest(data)
        self.segment_words = self.manifest.segment_bytes // 8
        self.array = np.frombuffer(bytearray(b"".join(segments.values())), np.int64)
        self.words = table(self.array)
        self.blocks = table(self.array.view(WAL_BLOCK.dtype))
        self.start = table(scan_start(self.manifest))
        self.scan = table(np.zeros(SCAN_CELLS, np.int64))

    def args(self, known: int) -> tuple[object, ...]:
        return (self.blocks, self.words, self.count, self.segment_words, known)

    def judge(self, known: int) -> tuple[int, int]:
        seq, end = judge(*self.args(known), self.start, self.scan)
        return int(seq), int(end)


@pytest.mark.parametrize("evidence", ["watermark", "heartbeat"])
def test_every_bit_flipped(small: WalRig, evidence: str) -> None:
    """With the watermark, and with nothing but the log's own heartbeat, no bit goes unnoticed."""
    image = Image(small.data)
    acknowledged = len(small.written())
    known = acknowledged if evidence == "watermark" else image.manifest.seq
    assert image.judge(known)[0] == acknowledged
    used = image.judge(known)[1] * 64
    found = np.zeros(4, np.int64)
    flip_every_bit(*image.args(known), acknowledged, image.start, image.scan, table(found))
    refused, harmless, lost, changed = found.tolist()
    assert (lost, changed) == (0, 0)
    assert refused + harmless == len(image.array) * 64
    # Harmless is what lies behind the log, and the last block: a heartbeat with no command in it.
    assert harmless == len(image.array) * 64 - used + PAGE * 8
    assert used > 10 * PAGE * 8


def test_without_any_evidence_the_last_group_could_be_lost(small: WalRig) -> None:
    """The control: were there no watermark and no heartbeat, flips would go unnoticed.

    The harness sees them, so that its silence above means something.
    """
    image = Image(small.data)
    acknowledged = len(small.written())
    end = image.judge(0)[1]
    image.array[end - PAGE // 8 : end] = 0  # the heartbeat
    found = np.zeros(4, np.int64)
    flip_every_bit(
        *image.args(image.manifest.seq), acknowledged, image.start, image.scan, table(found)
    )
    assert found[2] == PAGE * 8  # all of the last block, nothing else


@pytest.mark.parametrize("evidence", ["watermark", "nothing"])
def test_every_length(small: WalRig, evidence: str) -> None:
    """A log cut short anywhere in what was acknowledged: only the watermark can tell, and does."""
    image = Image(small.data)
    acknowledged = len(small.written())
    known = acknowledged if evidence == "watermark" else 0
    end = image.judge(known)[1] * 8
    found = np.zeros(4, np.int64)
    octets = table(image.array.view(np.uint8))
    cut_at_every_byte(
        image.blocks, image.words, octets, *image.args(known)[2:],
        acknowledged, image.start, image.scan, table(found),
    )  # fmt: skip
    refused, whole, lost, _changed = found.tolist()
    assert refused + whole + lost == len(image.array) * 8
    if evidence == "watermark":
        assert lost == 0
        assert end - 2 * PAGE <= refused <= end - PAGE  # less the heartbeat, and trailing zeros
    else:
        assert lost > 0  # why there is a watermark


def damaged(data: Path, to: Path, path: Path, at: int, mask: int) -> Path:
    """A copy of the data directory with one byte changed."""
    copy = copy_data(data, to)
    target = copy / path.relative_to(data)
    content = bytearray(target.read_bytes())
    content[at] ^= mask
    target.write_bytes(content)
    return copy


def recovers_or_refuses(copy: Path, rig: WalRig, acknowledged: int) -> str:
    """Recover a damaged copy and hold the result against the one rule; returns what happened."""
    want = rig.written()
    before = content_of(copy)
    try:
        twin: int | TwinDamage = len(twin_of(copy).commands)
    except TwinDamage as damage:
        twin = damage
    try:
        end = wal.recover_wal(copy)
    except WalDamage as damage:
        assert content_of(copy) == before, "a refusal changes nothing"
        assert isinstance(twin, TwinDamage), "the twin found nothing wrong"
        assert damage.path.is_relative_to(copy)
        if damage.last_seq:
            assert 1 <= damage.first_seq <= damage.last_seq
            _segment, offset, first, last = twin.where
            assert (damage.offset, damage.first_seq) == (offset, first)
            assert damage.last_seq <= last  # less when only the oldest segment is missing
            assert f"byte {damage.offset}" in str(damage)
        return "refused"
    assert end.seq == twin
    assert end.seq >= acknowledged
    assert (read_all(copy, 0, end.seq) == want[: end.seq]).all()
    assert wal.recover_wal(copy).cut_bytes == 0, "recovery is finished after one"
    return "recovered"


def test_flipped_bits_on_files(small: WalRig, tmp_path: Path, long_run: bool) -> None:
    """A sample of bits in every file of the directory, judged by recovery and by the twin."""
    rng = random.Random(5)
    acknowledged = len(small.written())
    seen = set()
    paths = [p for p in small.data.rglob("*") if p.suffix == ".seg" and p.parent.name == "wal"]
    paths.append(files.watermark_path(small.data))
    for path in sorted(paths):
        size = path.stat().st_size
        for _ in range(200 if long_run else 12):
            at = rng.randrange(size)
            copy = damaged(small.data, tmp_path / "copy", path, at, 1 << rng.randrange(8))
            seen.add(recovers_or_refuses(copy, small, acknowledged))
    assert seen == {"refused", "recovered"}


def test_truncated_files(small: WalRig, tmp_path: Path, long_run: bool) -> None:
    rng = random.Random(6)
    acknowledged = len(small.written())
    for number in files.segment_numbers(small.data):
        path = files.segment_path(small.data, number)
        size = path.stat().st_size
        for length in [0, 1, 127, 128, PAGE, size - 1] + [
            rng.randrange(size) for _ in range(100 if long_run else 6)
        ]:
            copy = copy_data(small.data, tmp_path / "copy")
            with open(copy / path.relative_to(small.data), "r+b") as file:
                file.truncate(length)
            recovers_or_refuses(copy, small, acknowledged)


def mutations(pages: int, rng: random.Random) -> Iterator[tuple[str, int, int]]:
    """Every block zeroed, each pair swapped, each block over each other."""
    for page in range(pages):
        yield "zero", page, page
    for first in range(pages):
        for second in range(pages):
            if first < second:
                yield "swap", first, second
            if first != second:
                yield "copy", first, second


def test_blocks_zeroed_swapped_and_duplicated(small: WalRig) -> None:
    """Every page of the log against every other."""
    image = Image(small.data)
    good = image.array.copy()
    acknowledged = len(small.written())
    end = image.judge(acknowledged)[1]
    page_words = PAGE // 8
    pages = len(good) // page_words
    refused = 0
    for what, first, second in mutations(pages, random.Random(1)):
        a = slice(first * page_words, (first + 1) * page_words)
        b = slice(second * page_words, (second + 1) * page_words)
        image.array[:] = good
        if what == "zero":
            image.array[a] = 0
        elif what == "swap":
            image.array[a], image.array[b] = good[b], good[a]
        else:
            image.array[b] = good[a]
        seq, stop = image.judge(acknowledged)
        if seq < 0:
            refused += 1
        else:
            assert seq >= acknowledged, (what, first, second)
            assert (image.array[:stop] == good[:stop]).all(), (what, first, second)
    assert refused > (end // page_words - 1) * 10


def test_segments_missing_swapped_duplicated_and_stale(small: WalRig, tmp_path: Path) -> None:
    acknowledged = len(small.written())
    numbers = files.segment_numbers(small.data)
    used = {n for n in numbers if any(segments_of(small.data)[n])}
    for number in numbers:
        copy = copy_data(small.data, tmp_path / "copy")
        files.segment_path(copy, number).unlink()
        happened = recovers_or_refuses(copy, small, acknowledged)
        assert happened == ("refused" if number in used else "recovered")
    for first, second in pairwise(sorted(used)):
        copy = copy_data(small.data, tmp_path / "copy")
        one, two = files.segment_path(copy, first), files.segment_path(copy, second)
        content = one.read_bytes(), two.read_bytes()
        one.write_bytes(content[1])
        assert recovers_or_refuses(copy, small, acknowledged) == "refused"
        copy = copy_data(small.data, tmp_path / "copy")
        one.write_bytes(content[1])
        two.write_bytes(content[0])
        assert recovers_or_refuses(copy, small, acknowledged) == "refused"


def test_a_segment_of_an_earlier_moment(tmp_path: Path) -> None:
    """One file out of an old backup: the watermark knows that there was more."""
    rig = WalRig(tmp_path / "data", CONFIG)
    rig.start()
    rig.write(3)
    old = copy_data(rig.data, tmp_path / "old")
    rig.write(2)
    rig.journal.close()
    path = files.segment_path(rig.data, 0)
    path.write_bytes((old / path.relative_to(rig.data)).read_bytes())
    assert recovers_or_refuses(rig.data, rig, 5) == "refused"


def test_the_wal_of_another_venue(small: WalRig, tmp_path: Path) -> None:
    """All segments of another WAL with the same sequence numbers."""
    other = WalRig(tmp_path / "other", CONFIG, seed=2)
    other.start()
    for count in (3, 50, 1):
        other.write(count)
    other.journal.close()
    copy = copy_data(small.data, tmp_path / "copy")
    for number, content in segments_of(other.data).items():
        files.segment_path(copy, number).write_bytes(content)
    with pytest.raises(WalDamage, match="the block belongs to another WAL"):
        wal.recover_wal(copy)
    copy = copy_data(small.data, tmp_path / "copy")
    files.watermark_path(copy).write_bytes(files.watermark_path(other.data).read_bytes())
    with pytest.raises(DataError, match="the watermark belongs to another WAL"):
        wal.recover_wal(copy)


def test_a_cut_tail_never_comes_back(tmp_path: Path) -> None:
    """A block written in an earlier epoch and cut then: put back, it is left over, not next."""
    rig = WalRig(tmp_path / "data", CONFIG)
    rig.start()
    rig.write(3)
    before = copy_data(rig.data, tmp_path / "before")
    rig.write(2)
    lost = segments_of(rig.data)[0]
    rig.journal.close()
    # A power cut before command 4 was acknowledged.
    end = wal.recover_wal(before)
    assert end.seq == 3
    wal.begin_epoch(before, end)
    path = files.segment_path(before, 0)
    path.write_bytes(lost[: end.offset + PAGE].ljust(CONFIG.segment_bytes, b"\0"))
    again = wal.recover_wal(before)
    assert (again.seq, again.offset) == (3, end.offset)
    assert again.cut_bytes > 0


def test_power_cuts_over_simulated_sectors(tmp_path: Path, long_run: bool) -> None:
    """Cut the power in the middle of each block: any subset of its sectors may have arrived.

    Before the sync returned nothing was acknowledged, so recovery ends where it was or, with all
    sectors there, one block later; it never calls the subset damage.
    """
    rng = random.Random(8)
    rig = WalRig(tmp_path / "data", CONFIG)
    rig.start()
    ends = set()
    for round_ in range(60 if long_run else 8):
        acknowledged = int(rig.cursors[3 * 16])
        before = copy_data(rig.data, tmp_path / "before")
        rig.write(1 + round_ % 40)
        after = segments_of(rig.data)
        marks = files.watermark_path(before).read_bytes()
        for _subset in range(10):
            cut = copy_data(before, tmp_path / "cut")
            chance = rng.choice((0.1, 0.5, 0.9, 1.0))
            for number, new in after.items():
                path = files.segment_path(cut, number)
                old = bytearray(path.read_bytes() if path.exists() else bytes(len(new)))
                for at in range(0, len(new), 512):
                    if rng.random() < chance:
                        old[at : at + 512] = new[at : at + 512]
                path.write_bytes(old)
            # The newest slot of the watermark may not have been synced either.
            mark = bytearray(marks)
            if rng.random() < 0.5:
                slot = rng.choice((0, PAGE))
                mark[slot : slot + 64] = bytes(64)
            files.watermark_path(cut).write_bytes(mark)
            try:
                end = wal.recover_wal(cut)
            except WalDamage as damage:
                assert "the watermark is" in str(damage) and acknowledged == 0
                continue
            assert end.seq == acknowledged or end.seq <= len(rig.written())
            assert end.seq >= acknowledged
            assert (read_all(cut, 0, end.seq) == rig.written()[: end.seq]).all()
            ends.add(end.seq - acknowledged == 0)
    rig.journal.close()
    assert ends == {True, False}


# ---------------------------------------------------------------- snapshots


def snapshot_in(data: Path, seq: int) -> Path:
    """A small snapshot with a table of records and one of plain numbers."""
    positions = np.zeros(7, POSITION.dtype)
    positions["lots"] = np.arange(7) * 3 + seq
    path = snapshot_path(data, seq)
    meta = {"seq": seq, "wal": "00" * 16, "epoch": 1, "reports_count": 2 * seq}
    write_snapshot(path, meta, {"positions": positions, "heap": np.arange(5, dtype=np.int64)})
    return path


def test_every_bit_of_a_snapshot(tmp_path: Path) -> None:
    files.make_folders(tmp_path)
    path = snapshot_in(tmp_path, 9)
    good = path.read_bytes()
    header = np.frombuffer(bytearray(good), np.int64)
    assert hash_words(table(header), 2, 6, int(header[0])) == header[1]
    for at in range(len(good)):
        content = bytearray(good)
        content[at] ^= 1 << (at % 8)
        path.write_bytes(content)
        with pytest.raises(SnapshotDamage) as caught:
            load_snapshot(path)
        assert str(path) in str(caught.value)
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(SnapshotDamage):
            verify_snapshot(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(SnapshotDamage, match="was written with"):
        load_snapshot(path)


def test_a_damaged_snapshot_gives_way_to_the_one_before(tmp_path: Path) -> None:
    files.make_folders(tmp_path)
    assert newest_sound(tmp_path) is None
    for seq in (5, 10, 20):
        snapshot_in(tmp_path, seq)
    newest = list_snapshots(tmp_path)[0]
    (tmp_path / "snapshots" / f"{newest.name}.tmp").write_bytes(b"left by a crash")
    content = bytearray(newest.read_bytes())
    content[-70] ^= 1
    newest.write_bytes(content)
    found = newest_sound(tmp_path)
    assert found is not None
    path, meta, sections, damage = found
    assert (path, meta["seq"]) == (snapshot_path(tmp_path, 10), 10)
    assert sections["positions"]["lots"].tolist() == [10, 13, 16, 19, 22, 25, 28]
    assert [str(newest) in str(one) for one in damage] == [True]
    for other in list_snapshots(tmp_path):
        other.write_bytes(b"")
    with pytest.raises(SnapshotDamage, match="byte 0: the hash of the file header differs"):
        newest_sound(tmp_path)


def test_scan_cells_are_what_the_kernels_here_think() -> None:
    """The harness puts segments together itself; a change of the cells must not pass unseen."""
    assert (S_SEGMENT, S_OFFSET, S_SEQ, S_ANY, S_BLOCKS) == (2, 3, 5, 10, 13)
    assert COMMAND.dtype.itemsize == 256
