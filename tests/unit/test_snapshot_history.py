"""A snapshot belongs to one history: recovery compares the block behind its cut with the log's."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine import files, recovery, wal
from engine.files import DataError
from engine.memory import limits_of
from engine.recovery import Block, block_of
from engine.reportlog import truncate_after
from engine.snapshotfile import list_snapshots, load_snapshot, read_meta, write_snapshot
from shm.files import read_manifest
from shm.records import WAL_BLOCK
from tests.model.wal_rig import PAGE, segments_of
from tools.inprocess import zeroed_arrays
from tools.simulate import History
from tools.simulateengine import LOG_RECORDS


def begun(folder: Path) -> History:
    """An exchange in this process with a CHECKPOINT every 24 commands, journaled to `folder`."""
    return History(1, folder, checkpoint_every=24)


def trade(history: History, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        for _ in range(8):
            history.send(*history.traffic.next(chance, history.venue.now))
        history.settle_down()


def recover(history: History, data: Path) -> recovery.Recovered:
    shards, commands, matches, reports = history.shape[:4]
    arrays = zeroed_arrays(
        limits_of(history.config), shards, commands=commands, matches=matches, reports=reports
    )
    config = msgspec.structs.replace(history.config, data_dir=str(data))
    return recovery.recover(config, arrays, LOG_RECORDS)


@pytest.fixture
def history(tmp_path: Path) -> History:
    """One that has ended, with a snapshot and commands behind it."""
    made = begun(tmp_path / "data")
    trade(made, 12, 1)
    assert recovery.take(made.data, made.limits).path is not None
    trade(made, 3, 2)
    made.stop()
    return made


def blocks(data: Path) -> list[Block]:
    """Every block of commands, read byte by byte."""
    found = []
    for content in segments_of(data).values():
        at = 0
        while at < len(content):
            head = np.frombuffer(content, WAL_BLOCK.dtype, 1, at)[0]
            if head["magic"] == 0:
                break
            last = int(head["first_seq"]) + int(head["record_count"]) - 1
            hashes = int(head["header_hash"]), int(head["previous_hash"])
            if head["record_count"]:
                found.append(Block(int(head["block"]), last, *hashes))
            at += -(-(128 + int(head["body_bytes"])) // PAGE) * PAGE
    return found


def test_the_block_behind_the_cut_is_kept(history: History) -> None:
    meta = read_meta(list_snapshots(history.data)[0])
    after = next(b for b in blocks(history.data) if b.block_last_seq > meta["seq"])
    assert {name: meta[name] for name in Block._fields} == after._asdict()
    assert block_of(history.data, 1 << 40) is None
    found = recover(history, history.data)
    assert found.snapshot_seq == meta["seq"] and found.replayed > 0


def test_no_further_than_the_report_log_goes(tmp_path: Path) -> None:
    """A snapshot answers for the reports before it: those that no file has yet can't be synced."""
    made = begun(tmp_path / "data")
    trade(made, 12, 1)
    made.stop()
    short = tmp_path / "short"
    shutil.copytree(made.data, short)
    taken = recovery.take(made.data, made.limits)
    assert taken.path is not None
    count = int(read_meta(taken.path)["reports_count"])
    truncate_after(short, read_manifest(short), count - 1)
    earlier = recovery.take(short, made.limits)
    assert earlier.path is not None and earlier.seq < taken.seq
    assert int(read_meta(earlier.path)["reports_count"]) < count
    truncate_after(short, read_manifest(short), 1)
    earlier.path.unlink()
    assert "in the report log" in recovery.take(short, made.limits).why


@pytest.mark.parametrize("name", ["block", "block_hash", "previous_hash"])
def test_another_block_is_refused(history: History, name: str) -> None:
    path = list_snapshots(history.data)[0]
    meta, sections = load_snapshot(path)
    wanted = meta[name] + 1
    write_snapshot(path, {**meta, name: wanted}, sections)
    got, want = (value & (1 << 64) - 1 for value in (meta[name], wanted))
    before = {p: p.read_bytes() for p in history.data.glob("wal/*")}
    said = rf"of command {meta['seq'] + 1}, {name} is {got:x} in .*/wal, and was {want:x}\. Nothing"
    with pytest.raises(DataError, match=said):
        recover(history, history.data)
    assert {p: p.read_bytes() for p in history.data.glob("wal/*")} == before
    path.unlink()
    assert recover(history, history.data).snapshot_seq < meta["seq"]


def test_a_snapshot_of_a_branch_that_was_given_up(tmp_path: Path) -> None:
    """Two logs of one name that were the same once: the snapshot of one is none of the other."""
    first = begun(tmp_path / "first")
    trade(first, 4, 1)
    first.stop()
    shutil.copytree(first.data, tmp_path / "second")
    first.start()
    trade(first, 9, 2)
    taken = recovery.take(first.data, first.limits)
    first.stop()
    assert taken.path is not None
    second = begun(tmp_path / "other")
    second.stop()
    shutil.rmtree(second.data)
    shutil.copytree(tmp_path / "second", second.data)
    second.start()
    del second.log[:]
    second.unanswered = [{} for _ in second.unanswered]
    second.venue.outbox = [[] for _ in second.venue.outbox]
    trade_without_checks(second, 9, 3)
    second.stop()
    shutil.copy(taken.path, second.data / "snapshots" / taken.path.name)
    assert wal.scan_wal(second.data).seq > taken.seq + 1
    with pytest.raises(DataError, match="was taken of another history than the log's"):
        recover(second, second.data)


def trade_without_checks(history: History, rounds: int, seed: int) -> None:
    """Traffic of a venue whose past this History doesn't know."""
    chance = random.Random(seed)
    for _ in range(rounds):
        for _ in range(8):
            history.send(*history.traffic.next(chance, history.venue.now))
        history.venue.seed = None
        history.venue.work()


def test_a_log_cut_in_that_block_still_follows_the_same_one(history: History) -> None:
    """A restore to a command shortens the block that holds it."""
    seq = read_meta(list_snapshots(history.data)[0])["seq"]
    block = block_of(history.data, seq + 1)
    assert block is not None
    wal.cut_after(history.data, seq + 1)
    shorter = block_of(history.data, seq + 1)
    assert shorter is not None and shorter.block == block.block
    for path in files.reports_folder(history.data).glob("rep.*"):
        path.unlink()
    assert recover(history, history.data).seq == seq + 1
