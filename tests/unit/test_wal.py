"""The WAL by small cases: what is written comes back, what is damaged is named."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from engine import files, wal, walblocks, walreader
from engine.files import DataError, WalDamage
from engine.journal import Journal
from engine.journalrounds import J_OFFSET
from engine.reportlog import ReportLogReader
from shm.config import Wal
from shm.counters import COUNTER_CELLS, Counter
from shm.cursors import CUT, JOURNALED, REPORTS_JOURNALED, REPORTS_READ, REPORTS_WRITTEN, RISKED
from shm.hashing import hash_words
from shm.jit import PLAIN
from shm.pointers import table
from shm.records import COMMAND, REPORT, WAL_BLOCK
from tests.model.wal_rig import (
    PAGE,
    SMALL,
    WalRig,
    content_of,
    read_all,
    segments_of,
    twin_command,
    twin_of,
)


def headers(data: Path) -> list[tuple[int, int, int, int, int]]:
    """(segment, page, kind, commands, durable_seq) of every block."""
    found = []
    for number, content in segments_of(data).items():
        at = 0
        while at < len(content):
            head = np.frombuffer(content, WAL_BLOCK.dtype, 1, at)[0]
            if head["magic"] == 0:
                break
            kind, count = int(head["kind"]), int(head["record_count"])
            found.append((number, at // PAGE, kind, count, int(head["durable_seq"])))
            at += -(-(128 + int(head["body_bytes"])) // PAGE) * PAGE
    return found


@pytest.mark.parametrize("io", ["direct", "mmap"])
def test_what_is_written_comes_back(tmp_path: Path, io: str) -> None:
    rig = WalRig(tmp_path, Wal(**{**_settings(SMALL), "io": io}))
    for _start in range(3):
        rig.start()
        for count in (1, 2, 40, 7, 100, 1):
            rig.write(count)
        rig.journal.close()
    want = rig.written()
    end = wal.scan_wal(tmp_path)
    assert end.seq == len(want) == end.durable_seq
    assert (read_all(tmp_path, 0, end.seq) == want).all()
    assert twin_of(tmp_path).commands == [twin_command(row) for row in want]
    for after, until in ((0, 1), (5, 90), (100, 400), (end.seq - 1, end.seq), (7, 7)):
        assert (read_all(tmp_path, after, until, 13) == want[after:until]).all()


def _settings(config: Wal) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__struct_fields__}


def test_blocks_seals_and_heartbeats(tmp_path: Path) -> None:
    """Segments of 8 pages: the last page is the seal's, whatever came before it.

    A block takes what fits: 4 pages at most, fewer where the segment ends.
    """
    rig = WalRig(tmp_path)
    rig.start()
    for count in (1, 1, 100, 1, 1):
        rig.write(count)
    rig.journal.close()
    kinds = [(segment, page, kind) for segment, page, kind, _count, _durable in headers(tmp_path)]
    assert kinds[:2] == [(0, 0, walblocks.DATA), (0, 1, walblocks.DATA)]
    assert (0, 7, walblocks.SEAL) in kinds
    assert kinds[-1][2] == walblocks.HEARTBEAT
    assert sum(count for *_rest, count, _durable in headers(tmp_path)) == 104
    # Every block says how far the ones before it were durable; the last says all of it.
    assert [durable for *_rest, durable in headers(tmp_path)][:3] == [0, 1, 2]
    assert headers(tmp_path)[-1][4] == 104


def test_one_heartbeat_when_idle_and_no_more(tmp_path: Path) -> None:
    rig = WalRig(tmp_path, Wal(**{**_settings(SMALL), "heartbeat_ms": 1}))
    rig.start()
    rig.write(3)
    for _turn in range(5):
        time.sleep(0.002)
        rig.journal.step()
    assert [kind for _s, _p, kind, _c, _d in headers(tmp_path)] == [
        walblocks.DATA,
        walblocks.HEARTBEAT,
    ]
    rig.journal.close()
    assert len(headers(tmp_path)) == 2


def test_an_empty_log(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    end = wal.recover_wal(tmp_path)
    assert (end.seq, end.segment, end.offset, end.block) == (0, 0, 0, 0)
    assert len(read_all(tmp_path, 0, 0)) == 0
    with pytest.raises(DataError, match="no epoch was begun"):
        Journal(tmp_path, rig.cursors, rig.ring, rig.report_ring, SMALL, threads=False)
    with pytest.raises(DataError, match="there is a WAL already"):
        wal.create_wal(tmp_path, SMALL.segment_bytes)


def test_a_start_without_commands_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(5)
    rig.journal.close()
    before = wal.scan_wal(tmp_path)
    for _start in range(3):
        rig.start().close()
    assert wal.scan_wal(tmp_path) == before
    assert files.read_manifest(tmp_path).epoch == 4


def test_an_epoch_is_written_to_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LOCK_SECONDS", 0.05)
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(1)
    with pytest.raises(DataError, match="in use by a journal"):
        Journal(tmp_path, rig.cursors, rig.ring, rig.report_ring, SMALL, threads=False)
    rig.journal.close()
    rig.cursors[JOURNALED] = 0
    with pytest.raises(DataError, match="has been written to already"):
        Journal(tmp_path, rig.cursors, rig.ring, rig.report_ring, SMALL, threads=False)
    rig.cursors[JOURNALED] = 1
    with pytest.raises(DataError, match="cursor JOURNALED = 1, the manifest says 0"):
        Journal(tmp_path, rig.cursors, rig.ring, rig.report_ring, SMALL, threads=False)


def test_the_data_directory_has_one_owner(tmp_path: Path) -> None:
    with (
        files.lock_data(tmp_path),
        pytest.raises(DataError, match=f"in use by an engine, pid {os.getpid()}"),
    ):
        files.lock_data(tmp_path)
    files.lock_data(tmp_path).release()


def test_a_torn_tail_is_kept_and_cut(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(4)
    offset = wal.scan_wal(tmp_path).offset
    rig.journal.close()
    path = files.segment_path(tmp_path, 0)
    with open(path, "r+b") as file:
        file.seek(offset)
        torn = b"half a block" * 100
        file.write(torn.ljust(PAGE, b"\0"))
        file.seek(offset + PAGE)
        file.write(bytes(PAGE))
    end = wal.recover_wal(tmp_path)
    assert (end.seq, end.offset) == (4, offset)
    assert 0 < end.cut_bytes <= PAGE
    kept = list(files.wal_folder(tmp_path).glob("*.broken"))
    assert [p.read_bytes()[: len(torn)] for p in kept] == [torn]
    assert path.read_bytes()[offset:] == bytes(SMALL.segment_bytes - offset)
    assert wal.recover_wal(tmp_path) == end._replace(cut_bytes=0)


def test_damage_names_file_byte_and_commands(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    for _block in range(4):
        rig.write(2)
    rig.journal.close()
    path = files.segment_path(tmp_path, 0)
    with open(path, "r+b") as file:
        file.seek(PAGE + 200)
        file.write(b"\xff")
    before = content_of(tmp_path)
    with pytest.raises(WalDamage) as caught:
        wal.recover_wal(tmp_path)
    damage = caught.value
    assert (damage.path, damage.offset, damage.first_seq, damage.last_seq) == (path, PAGE, 3, 8)
    assert str(damage) == (
        f"{path}: byte {PAGE}: the hash of the block body differs; commands 3..8 were acknowledged "
        "and cannot be read. Nothing was changed. Copy the file from a standby or a backup of the "
        "same WAL, then start again; perpcore verify lists what else is damaged"
    )
    assert content_of(tmp_path) == before
    with pytest.raises(WalDamage, match=r"commands 3\.\.8"):
        read_all(tmp_path, 0, 8)
    assert len(read_all(tmp_path, 0, 2)) == 2


def test_a_snapshot_beyond_the_log_is_evidence(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(2)
    rig.journal.close()
    assert wal.scan_wal(tmp_path, 2).seq == 2
    with pytest.raises(WalDamage, match=r"commands 3\.\.9 were acknowledged"):
        wal.scan_wal(tmp_path, 9)


def test_another_format_is_neither_cut_nor_called_damage(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(2)
    rig.journal.close()
    path = files.segment_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    words = np.frombuffer(content, np.int64)
    blocks = np.frombuffer(content, WAL_BLOCK.dtype)
    blocks[0]["format"] = 9
    words[1] = hash_words(table(words), 2, walblocks.HEADER_WORDS - 2, walblocks.MAGIC)
    path.write_bytes(content)
    with pytest.raises(DataError, match="which reads format 1. Start the release that wrote it"):
        wal.recover_wal(tmp_path)
    assert path.read_bytes() == bytes(content)


def test_pruning_keeps_what_follows(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    for _block in range(30):
        rig.write(9)
    rig.journal.close()
    want = rig.written()
    numbers = files.segment_numbers(tmp_path)
    removed = wal.prune_wal(tmp_path, 100)
    assert removed and files.segment_numbers(tmp_path) == numbers[len(removed) :]
    assert (read_all(tmp_path, 100, 270) == want[100:270]).all()
    assert wal.recover_wal(tmp_path, 100).seq == 270
    with pytest.raises(WalDamage, match="the oldest segment begins with command"):
        wal.recover_wal(tmp_path, 10)
    with pytest.raises(WalDamage, match="the oldest segment begins with command"):
        read_all(tmp_path, 0, 270)
    wal.prune_wal(tmp_path, 1 << 60)
    assert wal.recover_wal(tmp_path, 270).seq == 270
    rig.start(snapshot_seq=270)
    rig.write(3)
    rig.journal.close()
    assert wal.scan_wal(tmp_path, 270).seq == 273


@pytest.mark.parametrize("look", ["behind", "read_watermark"])
def test_a_scan_beside_a_journal_sees_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The journal writes whole blocks between the scan's looks at the log and at what was durable."""
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(5)
    place = walreader.BlockScanner if look == "behind" else wal
    real = getattr(place, look)

    def later(*arguments: object) -> object:
        for _block in range(9):  # into the next segment
            rig.write(9)
        return real(*arguments)

    monkeypatch.setattr(place, look, later)
    for _turn in range(3):
        before = int(rig.cursors[JOURNALED])
        assert before <= wal.scan_wal(tmp_path).seq <= rig.cursors[JOURNALED]
    monkeypatch.undo()
    rig.journal.close()
    assert wal.scan_wal(tmp_path).seq == rig.cursors[JOURNALED] == 5 + 3 * 81


def test_a_reader_follows_a_log_that_grows(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    reader = walreader.WalReader(tmp_path, 0, batch=16)
    got: list[np.ndarray[object, np.dtype[np.void]]] = []
    for turn in range(40):
        if turn == 20:
            rig.journal.close()
            rig.start()
        rig.write(1 + turn % 11)
        while len(rows := reader.read(int(rig.cursors[JOURNALED]))):
            got.append(rows.copy())
        assert reader.after_seq == rig.cursors[JOURNALED]
    reader.close()
    rig.journal.close()
    assert (np.concatenate(got) == rig.written()).all()


def test_a_reader_may_come_too_early(tmp_path: Path) -> None:
    """Finding nothing, however often, does not keep it from finding what comes later."""
    rig = WalRig(tmp_path)
    rig.start()
    reader = walreader.WalReader(tmp_path)
    for count in (1, 2, 300):
        for _look in range(3):
            assert len(reader.read(walreader.NO_STOP)) == 0
        rig.write(min(count, 200))
        got = 0
        while len(rows := reader.read(walreader.NO_STOP)):
            got += len(rows)
        assert got == min(count, 200)
    reader.close()
    rig.journal.close()


@pytest.mark.parametrize("io", ["direct", "mmap"])
def test_a_lost_seal_is_written_again(tmp_path: Path, io: str) -> None:
    """The last block of a segment and its seal are one write; a power cut may part them."""
    rig = WalRig(tmp_path, Wal(**{**_settings(SMALL), "io": io}))
    rig.start()
    mark = files.watermark_path(tmp_path)
    while rig.journal.manifest.segment_bytes - int(rig.journal.cells[J_OFFSET]) > 2 * PAGE:
        rig.write(1)
    before = mark.read_bytes()
    rig.write(1)
    rig.journal.close()
    path = files.segment_path(tmp_path, 0)
    content = path.read_bytes()
    path.write_bytes(content[: 7 * PAGE] + bytes(PAGE))
    files.segment_path(tmp_path, 1).write_bytes(bytes(len(content)))
    mark.write_bytes(before)
    end = wal.recover_wal(tmp_path)
    assert (end.seq, end.segment, end.offset) == (7, 0, 7 * PAGE)
    rig.start()
    rig.write(5)
    rig.journal.close()
    assert path.read_bytes()[: 7 * PAGE] == content[: 7 * PAGE]
    assert (read_all(tmp_path, 0, 12) == rig.written()).all()
    assert twin_of(tmp_path).commands == [twin_command(row) for row in rig.written()]


def test_blocks_larger_than_a_chunk(tmp_path: Path) -> None:
    """A reader's buffer grows to the block it meets."""
    config = Wal(segment_bytes=4 << 20, block_bytes_max=1 << 20, preallocate=1)
    rig = WalRig(tmp_path, config, capacity=8192)
    rig.start()
    rig.write(5000)
    rig.journal.close()
    reader = walreader.BlockScanner(tmp_path, files.read_manifest(tmp_path))
    reader.buffer = walreader.Buffer(64 * PAGE)
    reader._read_bytes = 64 * PAGE
    assert reader.advance(1 << 60, walreader.NO_STOP) in (
        walblocks.Verdict.BLANK,
        walblocks.Verdict.NO_FILE,
    )
    assert int(reader.scan[walblocks.S_SEQ]) == 5000
    reader.close()


def test_lines_beyond_three_and_lag_at_its_limit(tmp_path: Path) -> None:
    """Any byte may stand in `lines`: what is no number of lines counts as three."""
    rig = WalRig(tmp_path)
    rig.start()
    rows = np.zeros(4, COMMAND.dtype)
    rows.view(np.int64)[:] = 7
    rows["seq"], rows["settled_lag"] = (1, 2, 3, 4), 0
    rows["lines"] = (0, 255, 4, 1)
    rows["settled_seq"] = rows["seq"] - 1 - (0, 1, 65535, 40000)
    rig.ring[1:5] = rows
    rig.cursors[RISKED] = 4
    rig.journal.step()
    rig.journal.close()
    back = read_all(tmp_path, 0, 4)
    assert (back["settled_seq"] == rows["settled_seq"]).all()
    words = back.view(np.int64).reshape(4, 32)
    assert (words[:3, 8:24] == 7).all() and (words[3, 8:24] == 0).all()
    assert len(twin_of(tmp_path).commands) == 4


def test_the_watermark_is_one_of_two_slots(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    for block in range(1, 6):
        rig.write(1)
        mark = files.read_watermark(tmp_path, files.read_manifest(tmp_path))
        assert (mark.durable_seq, mark.writes) == (block, block)
    rig.journal.close()
    path = files.watermark_path(tmp_path)
    good = path.read_bytes()
    manifest = files.read_manifest(tmp_path)
    marks = [0, 0]
    for slot in (0, 1):
        broken = bytearray(good)
        broken[slot * PAGE + 40] ^= 1
        path.write_bytes(broken)
        marks[slot] = files.read_watermark(tmp_path, manifest).writes
    assert sorted(marks) == [5, 6]  # the heartbeat of the clean stop was the sixth
    for content in (b"", bytes(2 * PAGE)):
        path.write_bytes(content)
        with pytest.raises(WalDamage, match="the watermark is"):
            wal.scan_wal(tmp_path)


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    wal.create_wal(tmp_path, SMALL.segment_bytes)
    path = files.manifest_path(tmp_path)
    good = path.read_bytes()
    for at in range(len(good)):
        broken = bytearray(good)
        broken[at] ^= 1 << (at % 8)
        path.write_bytes(broken)
        with pytest.raises(WalDamage, match="the manifest is damaged"):
            wal.recover_wal(tmp_path)


def test_without_room_the_venue_goes_cancel_only(tmp_path: Path) -> None:
    """The next segment cannot be made: CUT; the last one is full: nothing moves, nobody dies."""
    rig = WalRig(tmp_path)
    rig.start()
    block = files.wal_folder(tmp_path) / "wal.0000000002.seg.tmp"
    block.mkdir()  # a directory where the file should go: as refused as by a full disk
    while not rig.cursors[CUT]:
        rig.write(1)
    durable = int(rig.cursors[JOURNALED])
    assert rig.journal.segments_ahead() == 0
    for _turn in range(4):
        if room := 250 - int(rig.cursors[RISKED] - rig.cursors[JOURNALED]):
            rig.put(room)
        for _round in range(20):
            rig.journal.step()
    stuck = int(rig.cursors[JOURNALED])
    assert durable < stuck < rig.cursors[RISKED]
    assert rig.journal.step() == 0
    block.rmdir()
    assert rig.journal.make_ahead()
    assert rig.cursors[CUT] == 0
    while rig.cursors[JOURNALED] < rig.cursors[RISKED]:
        rig.journal.step()
    rig.journal.close()
    assert (read_all(tmp_path, 0, len(rig.written())) == rig.written()).all()


def test_reports_are_shown_once_what_they_tell_of_is_durable(tmp_path: Path) -> None:
    """A report may tell of holds of commands that risk took later: it waits for those as well."""
    rig = WalRig(tmp_path)
    rig.start()
    rig.put(10, reports=2)
    assert rig.cursors[REPORTS_JOURNALED] == 0
    rig.journal.step()
    assert rig.cursors[JOURNALED] == 10
    assert rig.cursors[REPORTS_JOURNALED] == 20
    # Written while risk had gone on to 12: shown when 12 is durable.
    rig.put(2)
    late = np.zeros(1, REPORT.dtype)
    late["seq"] = 10
    rig.report_ring[20] = late[0]
    rig.cursors[REPORTS_WRITTEN] = 21
    rig.journal.step()
    assert rig.cursors[JOURNALED] == 12
    assert rig.cursors[REPORTS_JOURNALED] == 21
    # Written when all of it is durable: shown without another sync.
    rig.report_ring[21] = late[0]
    rig.cursors[REPORTS_WRITTEN] = 22
    assert rig.journal.step() == 1
    assert rig.cursors[REPORTS_JOURNALED] == 22
    rig.journal.close()


@pytest.mark.skipif(PLAIN, reason="plain Python has no kernels to stay in")
def test_threads_and_the_loop_do_what_steps_do(tmp_path: Path) -> None:
    """The helper thread inside a kernel, segments made ahead, rounds without the interpreter."""
    rig = WalRig(tmp_path)
    for _start in range(2):
        rig.start(threads=True)
        for count in range(1, 60):
            rig.put(count, reports=2)
            while rig.cursors[JOURNALED] < rig.cursors[RISKED]:
                rig.journal.run(0, 0, 10, 1_000_000, 2_000_000)
            while rig.report_count - rig.cursors[REPORTS_READ] > 100:
                rig.journal.run(0, 0, 10, 1_000_000, 2_000_000)
        rig.journal.close()
        assert rig.cursors[REPORTS_READ] == rig.cursors[REPORTS_JOURNALED] == rig.report_count
    want = rig.written()
    assert (read_all(tmp_path, 0, len(want)) == want).all()
    reader = ReportLogReader(tmp_path, rig.journal.manifest)
    assert (np.concatenate(list(reader.batches(0, rig.report_count))) == rig.told()).all()


def test_counters(tmp_path: Path) -> None:
    rig = WalRig(tmp_path)
    rig.start()
    rig.write(3, reports=1)
    rig.write(4, reports=1)
    rig.journal.close()

    def counted(which: Counter) -> int:
        return int(rig.journal.counters[which * COUNTER_CELLS])

    assert counted(Counter.JOURNAL_COMMANDS) == 7
    assert counted(Counter.JOURNAL_REPORTS) == 7
    assert counted(Counter.JOURNAL_BLOCKS) == counted(Counter.JOURNAL_SYNCS) == 3
    assert counted(Counter.JOURNAL_BYTES) == 3 * PAGE
