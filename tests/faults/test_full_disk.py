"""A disk that is full where a file is made at once: a recovery's report log, a snapshot, a set.

What there is says so in words, nothing that was acknowledged is lost, and with room it goes on.
Each test has a small file system of its own, and really fills it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from engine import recovery
from engine.files import read_manifest
from engine.memory import limits_of
from engine.reportlog import ReportLogReader, list_segments
from engine.room import NoRoom
from engine.snapshotfile import list_snapshots
from gateways.accounts.main import AccountsFollower
from gateways.follow import Follower
from gateways.history.main import HistoryFollower
from gateways.http.limits import Limits, Rates
from gateways.http.once import Came, Once
from gateways.http.signing import digest_of
from gateways.zmq.sessions import Sessions
from ledger.files import ledger_folder, read_head
from shm.config import Config
from shm.config import History as HistorySettings
from shm.cursors import CUT, JOURNALED, SEQUENCED
from shm.files import DataError
from shm.reportlog import follower_positions
from tests.faults.test_sync_errors import mounted
from tests.faults.test_venue_faults import venue_in
from tests.process.helpers import ROOT, Witness, die_with_pytest, perpcore, wait_until
from tests.process.test_kill import check_history, loaded
from tools import backup
from tools.backup import BackupError
from tools.cli import main
from tools.inprocess import zeroed_arrays
from tools.simulate import History
from tools.simulateengine import LOG_RECORDS

MIB = 1 << 20
REPORTS_SEGMENT = 256 * MIB  # and as much again is made ahead of time
CHECKPOINT_EVERY = 1024  # venue_in's
VENUE = 2 * REPORTS_SEGMENT + 100 * MIB


@contextmanager
def full(folder: Path, left_bytes: int = 0) -> Iterator[None]:
    """Somebody else's file takes all the room, but for so many bytes."""
    neighbour = folder / "neighbour"
    with open(neighbour, "wb") as file:
        at = 0
        for piece in (16 * MIB, MIB, 4096):  # others may take some meanwhile
            with suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), at, piece)
                    at += piece
        file.truncate(at - left_bytes)
    try:
        yield
    finally:
        neighbour.unlink()


def files_of(data: Path) -> dict[str, bytes]:
    """The directory, but for what a start says of itself before it can know."""
    found = sorted(p for p in data.rglob("*") if p.is_file() and p.name != "lock")
    return {str(p.relative_to(data)): p.read_bytes() for p in found}


# ---------------------------------------------------------------- recovery


def recover(history: History, data: Path) -> recovery.Recovered:
    shards, commands, matches, reports = history.shape[:4]
    limits = limits_of(history.config)
    arrays = zeroed_arrays(limits, shards, commands=commands, matches=matches, reports=reports)
    config = msgspec.structs.replace(history.config, data_dir=str(data))
    return recovery.recover(config, arrays, LOG_RECORDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A venue that has ended, whose reports fill three segments and more."""
    history = History(1, tmp_path_factory.mktemp("full") / "data", checkpoint_every=24)
    chance = random.Random(1)
    while history.heard < 4 * LOG_RECORDS:
        for _ in range(64):
            history.send(*history.traffic.next(chance, history.venue.now))
        history.settle_down()
    history.stop()
    recover(history, history.data)  # what a stop leaves in the ring is in the log now
    return history


def logged(data: Path) -> np.ndarray[Any, Any]:
    reader = ReportLogReader(data, read_manifest(data))
    rows = [batch.copy() for batch in reader.batches(reader.first_index, reader.find_end())]
    reader.close()
    return np.concatenate(rows)


@pytest.mark.parametrize("kept", [0, 300])
def test_a_recovery_stops_where_the_report_log_has_no_room(
    made: History, tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first segment, at the second, ...; each start finds what those before it wrote."""
    monkeypatch.setattr("engine.overlap.LATE_MAX", 64)
    with mounted(tmp_path / "small", "tmpfs", "-o", "size=64m") as folder:
        data = Path(shutil.copytree(made.data, folder / "data"))
        whole, manifest = logged(data), read_manifest(data)
        segments = list_segments(data, manifest)
        assert len(whole) > 3 * LOG_RECORDS
        for segment in segments:
            if segment.first_index >= kept:
                segment.path.unlink()
                segment.index_path.unlink()
            else:  # sparse, as it comes back from an archive
                content = segment.path.read_bytes()[: 4096 + 64 * kept]
                segment.path.unlink()
                with open(segment.path, "wb") as file:
                    file.write(content)
                    file.truncate(segment.size_bytes)
        size = segments[0].size_bytes
        before = files_of(data / "wal")
        found = []
        for room in (0, 3 * size // 2, 5 * size // 2):
            with full(folder, room), pytest.raises(NoRoom) as told:
                recover(made, data)
            text = str(told.value)
            assert text.startswith(f"{data}/reports: no room for reports from "), text
            assert f"it wants {size:,} bytes, the disk has " in text
            assert "Nothing that was acknowledged is lost" in text and "start again" in text
            assert files_of(data / "wal") == before and read_manifest(data) == manifest
            assert not list(data.rglob("*.tmp"))
            reader = ReportLogReader(data, manifest)
            found.append(reader.find_end())
            assert (logged(data) == whole[: found[-1]]).all() if found[-1] else True
            reader.close()
        assert found == sorted(found) and found[-1] > kept
        assert recover(made, data).reports == len(whole)
        assert (logged(data) == whole).all()
        proven = recovery.verify(data, made.limits)
        assert proven.compared == proven.reports == len(whole)


def test_an_operator_is_told_by_a_start(tmp_path: Path, instance: str) -> None:
    """`perpcore up` with a report log to complete and no room for it, killed before."""
    with (
        mounted(tmp_path / "small", "tmpfs", "-o", f"size={VENUE}") as folder,
        venue_in(folder, instance, **{"wal.segment_bytes": 2 * MIB}) as venue,
    ):
        venue.log = tmp_path / "up.log"
        witness = Witness(venue)
        venue.start()
        view = venue.until_running()
        witness.attach(view)
        loaded(view)
        witness.follow(0.3)
        witness.detach()
        venue.end()
        for path in (venue.data / "reports").glob("rep.*"):
            path.unlink()
        with full(folder):
            said = len(venue.said())
            venue.start()
            assert venue.until_ended() == 1
            told = venue.said()[said:].splitlines()[-1]
            assert told.startswith(f"Error: {venue.data}/reports: no room for reports from 0 on")
            assert "it wants 268,439,552 bytes, the disk has 0 free (No space left on dev" in told
            assert "is lost: the WAL has it. Make room (perpcore prune --dry-run" in told
            # What its operator does then works without room.
            for command in (["prune"], ["verify"], ["backup", "--to", str(tmp_path / "backups")]):
                done = CliRunner().invoke(main, [*command, "--data", str(venue.data)])
                assert done.exit_code == 0, done.output
        venue.start()
        view = venue.until_running()
        witness.attach(view)
        loaded(view)
        witness.follow(0.3)
        assert venue.stop() == 0, venue.said()[-3000:]
        witness.finish()
        witness.detach()
        check_history(venue.data, view.cursor(SEQUENCED), witness.reports())


# ---------------------------------------------------------------- backups


def test_a_backup_and_a_restore_without_room(made: History, tmp_path: Path) -> None:
    """Nothing that could be taken for either is left, and with room they are what they should be."""
    source = Path(shutil.copytree(made.data, tmp_path / "source"))
    with sqlite3.connect(source / "users.sqlite") as store:
        store.execute("CREATE TABLE notes (text TEXT)")
        store.executemany("INSERT INTO notes VALUES (?)", [("x" * 1000,)] * 500)
    (source / "gateways.once").write_bytes(b"of the moment")
    with mounted(tmp_path / "small", "tmpfs", "-o", "size=64m") as folder:
        backups = folder / "backups"
        kept = backup.backup(source, backups)
        assert not list(Path(kept.path).rglob("gateways.once"))
        for left in (0, 200_000, kept.size_bytes // 2, kept.size_bytes - 8192):
            with full(folder, left), pytest.raises(NoRoom) as told:
                backup.backup(source, backups)
            assert re.match(
                rf"{backups}: no room for a backup: it wants [0-9,]+ bytes, the disk has [0-9,]+ "
                r"free \(No space left on device\)\. None was made, those before it stay\.",
                str(told.value),
            )
            assert list(backups.iterdir()) == [Path(kept.path)]
        there = folder / "there"
        there.mkdir()
        for target in (there, folder / "new" / "one"):
            for left in (0, kept.size_bytes // 2):
                with full(folder, left), pytest.raises(BackupError) as refused:
                    backup.restore(Path(kept.path), target)
                assert re.match(
                    rf"{target}: [0-9,]+ bytes were to be laid there, its disk has [0-9,]+ free: "
                    r".*No space left on device.*\. Nothing of it was left\. Make room",
                    str(refused.value),
                )
                assert not target.exists() if target != there else not list(there.iterdir())
            assert backup.restore(Path(kept.path), target).seq == kept.seq
            with sqlite3.connect(target / "users.sqlite") as store:
                assert store.execute("SELECT count(*) FROM notes").fetchone() == (500,)


# ---------------------------------------------------------------- gateways


MAPPED: dict[str, Callable[[Path], Any]] = {
    "once": Once,
    "limits": lambda path: Limits(path, 0, Rates(10**9, 10**9, 10**9)),
    "sessions": lambda path: Sessions(path, 1024, (1, 2)),
}


@pytest.mark.parametrize("name", MAPPED)
def test_a_gateway_without_room_for_a_file_it_maps(tmp_path: Path, name: str) -> None:
    """It doesn't start; where it has started, no store finds the disk full (that is a SIGBUS)."""
    with mounted(tmp_path / "small", "tmpfs", "-o", "size=64m") as folder:
        path = folder / name
        with full(folder, MIB), pytest.raises(DataError) as told:
            MAPPED[name](path)
        assert re.match(rf"{path}: needs [0-9,]+ bytes, its disk has [0-9,]+ free", str(told.value))
        assert "Make room, then start the gateway again" in str(told.value)
        made = MAPPED[name](path)
        with full(folder):
            found = path.stat()
            assert found.st_blocks * 512 >= found.st_size > MIB
            for k in range(2000):
                if isinstance(made, Once):
                    digest = digest_of(b"%d" % k, "key")
                    assert made.came(digest, 10**12, 10**12) is Came.FIRST
                elif isinstance(made, Limits):
                    assert made.weigh(f"{k}", 1, 10**12) == 1
                else:
                    made.touch(made.add(k % 64, k, 1, set()))
        made.close()


# ---------------------------------------------------------------- followers


def told_by(follower: Follower) -> int:
    """Turns until nothing is left that it would take now; the next report it wants."""
    idle = 0
    while idle < 5:
        idle = 0 if follower.turn() else idle + 1
    return follower.source.next


def kept_rows(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as db:
        names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


@pytest.mark.parametrize("make", [AccountsFollower, HistoryFollower])
def test_a_follower_goes_on_while_the_disk_is_full(
    made: History,
    tmp_path: Path,
    instance: str,
    make: Callable[[Config], Follower],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From memory; history, which can't, waits. With room both keep what they came to."""
    caplog.set_level("INFO")
    monkeypatch.setattr("gateways.follow._FULL_S", 0.0)
    monkeypatch.setattr("gateways.follow.BATCH", 500)
    monkeypatch.setattr("gateways.history.main._WAITING_MAX", 1000)

    def on(data: Path) -> Config:
        shutil.copytree(made.data, data)
        config = msgspec.structs.replace(made.config, data_dir=str(data), instance=instance)
        return msgspec.structs.replace(config, history=HistorySettings(commit_ms=1))

    with mounted(tmp_path / "small", "tmpfs", "-o", "size=64m") as folder:
        config = on(folder / "data")
        follower = make(config)
        follower.checkpoint_seconds = 0
        with full(folder):
            stands = told_by(follower)
            said = [record.message for record in caplog.records]
            assert said.count("nothing is kept: the disk is full") == 1
            assert not list(folder.rglob("*.tmp"))
            positions = follower_positions(folder / "data")
            assert positions.get(follower.name, 0) < stands
        end = told_by(follower)
        assert end > stands if make is HistoryFollower else end == stands
        assert "there is room again" in [r.message for r in caplog.records]
        assert follower_positions(folder / "data")[follower.name] == end
        follower.close()
        again = make(config)
        assert again.source.next == end, "what it kept"
        again.close()
        if make is HistoryFollower:
            other = make(on(tmp_path / "roomy"))
            other.checkpoint_seconds = 0
            told_by(other)
            other.close()
            assert kept_rows(config.history_path) == kept_rows(other.config.history_path)


def test_the_books_wait_for_room(tmp_path: Path, instance: str, long_run: bool) -> None:
    """The ledger begins again and again by itself, and nothing of it is missing in the end."""
    if not long_run:
        pytest.skip("half a minute: --long")
    with (
        mounted(tmp_path / "small", "tmpfs", "-o", f"size={VENUE + 200 * MIB}") as folder,
        venue_in(folder, instance, **{"wal.segment_bytes": 2 * MIB}) as venue,
    ):
        venue.log = tmp_path / "up.log"
        said = tmp_path / "ledger.log"
        venue.start()
        view = venue.until_running()
        command = ["ledger", "run", "--instance", instance, "--data", str(venue.data)]
        with said.open("w") as log:
            ledger = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", *command],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_pytest,
            )
        try:
            wait_until(lambda: "following" in said.read_text(), 60, "no ledger")
            loaded(view)
            with full(folder):
                waits = "the books wait for room"
                wait_until(lambda: said.read_text().count(waits) >= 2, 120, "it doesn't notice")
            wait_until(lambda: not view.cursor(CUT), 180, "it stays cancel-only")
            goal = view.cursor(JOURNALED)
            books = ledger_folder(venue.data)
            wait_until(lambda: int(read_head(books)[0]["seq"]) > goal, 120, "it is behind")
            assert venue.stop() == 0, venue.said()[-3000:]
            ledger.terminate()
            assert ledger.wait(30) == 0, said.read_text()
        finally:
            ledger.kill()
            ledger.wait()
        compared = perpcore("ledger", "reconcile", "--data", str(venue.data))
        assert compared.stdout.startswith("0 breaks"), compared


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_without_room(tmp_path: Path, instance: str) -> None:
    """Beside a venue that runs: it takes nothing of what is free, says so, and leaves nothing."""
    with (
        mounted(tmp_path / "small", "tmpfs", "-o", f"size={VENUE}") as folder,
        venue_in(folder, instance, **{"wal.segment_bytes": 2 * MIB}) as venue,
    ):
        venue.log = tmp_path / "up.log"
        witness = Witness(venue)
        venue.start()
        view = venue.until_running()
        witness.attach(view)

        def snapshot() -> Path | None:
            """A new one; None where no CHECKPOINT has come since the last."""
            done = perpcore("snapshot", "--data", str(venue.data))
            assert done.returncode == 0, done.stderr
            return list_snapshots(venue.data)[0] if "the state after" in done.stdout else None

        first = wait_until(snapshot, 120, "no CHECKPOINT")
        size, epoch = first.stat().st_size, view.epoch
        after = view.cursor(SEQUENCED) + 2 * CHECKPOINT_EVERY
        wait_until(lambda: view.cursor(SEQUENCED) > after, 120, "it stands still")
        witness.follow(0.2)
        with full(folder, size // 2):
            free = os.statvfs(folder).f_bavail
            for _ in range(2):  # as its timer would have it
                done = perpcore("snapshot", "--data", str(venue.data))
                assert done.returncode == 1
                text = f"{venue.data}/snapshots: no room for snapshot snap."
                assert f"Error: no snapshot was written: {text}" in done.stderr
                assert f"the disk has {free * os.statvfs(folder).f_frsize:,} free" in done.stderr
                assert "Older ones stay. perpcore prune --dry-run says" in done.stderr
            assert [path.name for path in first.parent.iterdir()] == [first.name]
            assert os.statvfs(folder).f_bavail == free
            witness.follow(0.2)
        wait_until(lambda: not view.cursor(CUT), 180, "it stays cancel-only")
        assert wait_until(snapshot, 120, "no CHECKPOINT") > first
        assert view.epoch == epoch, "no reason to die"
        assert venue.stop() == 0, venue.said()[-3000:]
        witness.finish()
        witness.detach()
        check_history(venue.data, view.cursor(SEQUENCED), witness.reports())
        proven = perpcore("verify", "--data", str(venue.data))
        assert proven.returncode == 0 and "  2 snapshots, each" in proven.stdout, proven
