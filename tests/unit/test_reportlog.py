"""The report log by small cases: found by index and by sequence, whatever the file or the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import files, reportlog, wal
from engine.files import Manifest
from engine.reportlog import (
    GROUP,
    FollowerPosition,
    ReportDamage,
    ReportLog,
    ReportLogReader,
    follower_positions,
    list_segments,
    prune_reports,
    sync_reports,
    truncate_after,
)
from shm.cursors import REPORTS_JOURNALED, REPORTS_READ, REPORTS_WRITTEN, RISKED
from shm.records import REPORT
from tests.model.wal_rig import WalRig


def reports(first: int, count: int) -> np.ndarray[Any, Any]:
    """Reports by index; three of each command."""
    rows = np.zeros(count, REPORT.dtype)
    index = np.arange(first, first + count)
    rows["seq"] = 1 + index // 3
    rows["order_id"] = index
    rows["ts_ns"] = index * index
    return rows


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return wal.create_wal(tmp_path, 1 << 16)


def logged(data: Path, manifest: Manifest, count: int, first: int = 0) -> None:
    """A log of `count` reports from index `first` on."""
    log = ReportLog(data, manifest, first, GROUP)
    log.append(reports(first, count))
    log.close()


def everything(data: Path, manifest: Manifest) -> np.ndarray[Any, Any]:
    reader = ReportLogReader(data, manifest)
    rows = [r.copy() for r in reader.batches(reader.first_index, reader.find_end(), 1000)]
    reader.close()
    return np.concatenate([np.zeros(0, REPORT.dtype), *rows])


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP + 70])
def test_any_length_comes_back(tmp_path: Path, manifest: Manifest, count: int) -> None:
    logged(tmp_path, manifest, count)
    assert (everything(tmp_path, manifest) == reports(0, count)).all()
    reader = ReportLogReader(tmp_path, manifest)
    assert reader.find_end() == count
    assert reader.sound_end(0, count) == count
    assert len(list_segments(tmp_path, manifest)) == max(1, -(-count // GROUP))


@pytest.mark.parametrize("pieces", [(1, 1, 1), (63, 1, 64), (100, 4000, 5000, 1), (GROUP, 1)])
def test_goes_on_where_it_ended(tmp_path: Path, manifest: Manifest, pieces: tuple[int]) -> None:
    """Every piece by a writer of its own: a page and a group begun are taken up again."""
    at = 0
    for piece in pieces:
        logged(tmp_path, manifest, piece, at)
        at += piece
    assert (everything(tmp_path, manifest) == reports(0, at)).all()
    reader = ReportLogReader(tmp_path, manifest)
    assert reader.sound_end(0, at) == at


def test_found_by_sequence(tmp_path: Path, manifest: Manifest) -> None:
    """Three reports each: command n begins at 3 (n - 1)."""
    count = 2 * GROUP + 10
    logged(tmp_path, manifest, count)
    reader = ReportLogReader(tmp_path, manifest)
    for seq in (1, 2, 1000, 1 + count // 3):
        assert reader.find_seq(seq, count) == 3 * (seq - 1)
    assert reader.find_seq(10**9, count) == count
    assert reader.find_seq(0, count) == 0
    assert len(reader.read(count + GROUP, 5)) == 0
    with pytest.raises(ReportDamage, match="is not in the log, which begins at 0"):
        list(reader.batches(count + 5 * GROUP, count + 6 * GROUP))


@pytest.mark.parametrize("keep", [0, 1, 64, 100, GROUP, GROUP + 1, 2 * GROUP])
def test_cut_and_written_again(tmp_path: Path, manifest: Manifest, keep: int) -> None:
    logged(tmp_path, manifest, 2 * GROUP + 500)
    truncate_after(tmp_path, manifest, keep)
    assert (everything(tmp_path, manifest) == reports(0, keep)).all()
    logged(tmp_path, manifest, 300, keep)
    assert (everything(tmp_path, manifest) == reports(0, keep + 300)).all()
    reader = ReportLogReader(tmp_path, manifest)
    assert reader.sound_end(0, keep + 300) == keep + 300


def test_a_log_longer_than_the_engine_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    logged(tmp_path, manifest, 10)
    with pytest.raises(ReportDamage, match="has 10 reports, the engine made 9"):
        ReportLog(tmp_path, manifest, 9, GROUP)


def test_a_log_that_fell_short_begins_anew(tmp_path: Path, manifest: Manifest) -> None:
    """Whatever is before the gap no longer counts, and pruning takes it away."""
    logged(tmp_path, manifest, 10)
    logged(tmp_path, manifest, 5, 100)
    reader = ReportLogReader(tmp_path, manifest)
    assert (reader.first_index, reader.find_end()) == (100, 105)
    removed = prune_reports(
        tmp_path, manifest, bytes_max=1 << 30, keep_index=lambda: 0, bytes_limit=1 << 30
    )
    assert [p.name for p in removed] == [reportlog.segment_path(tmp_path, 0).name]


def test_damage_is_found_by_group(tmp_path: Path, manifest: Manifest) -> None:
    """A complete group has a hash; of the last, incomplete one only the order is checked."""
    count = GROUP + 200
    logged(tmp_path, manifest, count)
    first, second = list_segments(tmp_path, manifest)
    good = first.path.read_bytes()
    for index in (0, 17, GROUP - 1):
        content = bytearray(good)
        content[4096 + 64 * index + 40] ^= 4
        first.path.write_bytes(content)
        assert ReportLogReader(tmp_path, manifest).sound_end(0, count) == 0
    first.path.write_bytes(good)
    first.index_path.unlink()
    assert ReportLogReader(tmp_path, manifest).sound_end(0, count) == 0
    assert ReportLogReader(tmp_path, manifest).sound_end(GROUP, count) == count
    content = bytearray(second.path.read_bytes())
    content[4096 + 64 * 150] ^= 128
    second.path.write_bytes(content)
    assert ReportLogReader(tmp_path, manifest).sound_end(GROUP, count) == GROUP + 150
    content = bytearray(good)
    content[20] ^= 1
    first.path.write_bytes(content)
    with pytest.raises(ReportDamage, match="byte 0: the hash of the file header differs"):
        ReportLogReader(tmp_path, manifest)


def test_pruning_waits_for_followers_up_to_a_limit(tmp_path: Path, manifest: Manifest) -> None:
    """Four full segments and one begun; ledger has done two and a half, history none."""
    logged(tmp_path, manifest, 4 * GROUP + 1)
    size = list_segments(tmp_path, manifest)[0].size_bytes
    ledger, history = FollowerPosition(tmp_path, "ledger"), FollowerPosition(tmp_path, "history")
    ledger.store(2 * GROUP + GROUP // 2)

    def pruned(bytes_max: int, limit: int, keep: int = 10 * GROUP) -> int:
        return len(
            prune_reports(
                *(tmp_path, manifest),
                bytes_max=bytes_max,
                keep_index=lambda: keep,
                bytes_limit=limit,
            )  # fmt: skip
        )

    assert follower_positions(tmp_path) == {"history": 0, "ledger": 2 * GROUP + GROUP // 2}
    assert pruned(0, 99 * size) == 0  # history still needs all of it
    history.store(4 * GROUP)
    assert pruned(5 * size, 99 * size) == 0  # small enough
    assert pruned(0, 99 * size, keep=GROUP - 1) == 0  # the snapshot needs it
    assert pruned(4 * size, 99 * size) == 1
    assert pruned(0, 99 * size) == 1  # ledger is in the middle of the next
    assert pruned(0, 2 * size) == 1  # over the limit it must replay the WAL
    reader = ReportLogReader(tmp_path, manifest)
    assert (reader.first_index, reader.find_end()) == (3 * GROUP, 4 * GROUP + 1)
    assert pruned(0, 0) == 1
    assert pruned(0, 0) == 0  # the one being written stays
    ledger.close()
    history.close()
    again = FollowerPosition(tmp_path, "ledger")
    assert again.index == 2 * GROUP + GROUP // 2
    again.close()
    with pytest.raises(files.DataError, match="must be 1 to 32 letters"):
        FollowerPosition(tmp_path, "../x")


def test_segments_of_another_wal_or_name_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    logged(tmp_path, manifest, 5)
    with pytest.raises(ReportDamage, match="belongs to another WAL"):
        ReportLogReader(tmp_path, manifest._replace(wal_lo=1))
    path = reportlog.segment_path(tmp_path, 0)
    path.rename(reportlog.segment_path(tmp_path, 64))
    with pytest.raises(ReportDamage, match="was written as 0"):
        ReportLogReader(tmp_path, manifest)


def test_slots_are_freed_when_the_log_has_them(tmp_path: Path) -> None:
    """One command with more reports than the ring holds, written as settlement finds room."""
    rig = WalRig(tmp_path / "data")
    rig.start()
    rig.put(1)
    rig.journal.step()
    total, made = 2000, 0
    want = []
    while made < total:
        room = len(rig.report_ring) - (made - int(rig.cursors[REPORTS_READ]))
        count = min(room, total - made, 50)
        assert count > 0, "settlement would wait for ever"
        rows = np.zeros(count, REPORT.dtype)
        rows["seq"] = 1
        rows["order_id"] = np.arange(made, made + count)
        rig.report_ring[rows["order_id"] & (len(rig.report_ring) - 1)] = rows
        want.append(rows)
        made += count
        rig.cursors[REPORTS_WRITTEN] = made
        rig.journal.step()
        assert rig.cursors[REPORTS_JOURNALED] == made
        # What is no longer in the ring is in the log.
        reader = ReportLogReader(rig.data, rig.journal.manifest)
        assert rig.cursors[REPORTS_READ] <= reader.find_end()
        reader.close()
    rig.journal.close()
    assert rig.cursors[REPORTS_READ] == total
    assert (everything(rig.data, rig.journal.manifest) == np.concatenate(want)).all()


def test_reports_wait_for_the_sync(tmp_path: Path) -> None:
    rig = WalRig(tmp_path / "data")
    rig.start()
    rig.write(2, reports=2)
    rig.put(2, reports=2)
    assert (rig.cursors[RISKED], rig.cursors[REPORTS_WRITTEN]) == (4, 8)
    assert rig.cursors[REPORTS_JOURNALED] == 4
    rig.journal.step()
    assert rig.cursors[REPORTS_JOURNALED] == 8
    rig.journal.close()
    sync_reports(rig.data, rig.journal.manifest, 8)
    assert (everything(rig.data, rig.journal.manifest) == rig.told()).all()
