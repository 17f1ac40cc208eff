"""What `perpcore prune` removes, and everything that keeps it from removing too much."""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine import files, recovery, wal, walreader
from engine.files import DataError
from engine.snapshotfile import list_snapshots, read_meta
from ledger.store import Ledger
from shm.reportlog import FollowerPosition
from tests.conftest import ROOT
from tools import backup, prune
from tools.cli import main
from tools.datadir import last_seq, limits_for
from tools.ledger_seal import seal
from tools.simulate import History


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with many segments and four snapshots."""
    history = History(1, tmp_path_factory.mktemp("prune") / "data", checkpoint_every=24)
    chance = random.Random(4)
    for _ in range(4):
        for _ in range(9):
            for _ in range(8):
                history.send(*history.traffic.next(chance, history.venue.now))
            history.settle_down()
        assert recovery.take(history.data, history.limits, keep=9).path is not None
    history.stop()
    assert len(files.segment_numbers(history.data)) > 4
    return history.data


@pytest.fixture
def data(venue: Path, tmp_path: Path) -> Path:
    shutil.copytree(venue, tmp_path / "data")
    return tmp_path / "data"


def cuts(data: Path) -> list[tuple[int, int]]:
    """(command, reports) of the snapshots, oldest first."""
    metas = [read_meta(path) for path in reversed(list_snapshots(data))]
    return [(meta["seq"], meta["reports_count"]) for meta in metas]


def at(data: Path, name: str, index: int) -> None:
    position = FollowerPosition(data, name)
    position.store(index)
    position.close()


def test_recovery_goes_on_from_what_is_left(data: Path) -> None:
    state = recovery.verify(data, limits_for(data)).state_digest
    last = wal.scan_wal(data).seq
    told = prune.prune(data, dry_run=True)
    assert told.segments and all(Path(name).exists() for name in told.segments)
    done = prune.prune(data)
    assert done.segments == told.segments
    assert not any(Path(name).exists() for name in done.segments)
    assert done.after_seq == cuts(data)[-2][0]
    # The older of the two snapshots does alone.
    list_snapshots(data)[0].write_bytes(b"rotten")
    assert wal.recover_wal(data, cuts_sound(data)).seq == last == last_seq(data)
    list_snapshots(data)[0].unlink()
    for path in list_snapshots(data)[1:]:
        path.unlink()
    found = recovery.verify(data, limits_for(data))
    assert (found.state_digest, found.first_seq) == (state, done.after_seq + 1)
    assert prune.prune(data, keep=1).segments == []


def cuts_sound(data: Path) -> int:
    return int(read_meta(list_snapshots(data)[1])["seq"])


TABLE = """
what is there                    | keeps everything after
nothing else                     | snapshot 3 of 4
a follower behind snapshot 2     | snapshot 2
a follower at snapshot 1         | snapshot 1
a follower before any snapshot   | genesis
a follower that is up to date    | snapshot 3 of 4
a history nobody knows the place of | genesis
a cursor that is damaged         | genesis
only one sound snapshot          | genesis
the newest snapshot is rotten    | snapshot 2
"""


@pytest.mark.parametrize("row", TABLE.strip().splitlines()[1:])
def test_who_keeps_what(data: Path, row: str) -> None:
    what, wanted = (cell.strip() for cell in row.split("|"))
    found = cuts(data)
    if what == "a follower behind snapshot 2":
        at(data, "history", found[1][1] + 1)
    elif what == "a follower at snapshot 1":
        at(data, "history", found[0][1])
    elif what == "a follower before any snapshot":
        at(data, "history", found[0][1] - 1)
    elif what == "a follower that is up to date":
        at(data, "history", found[-1][1])
    elif what == "a history nobody knows the place of":
        (data / "history.db").write_bytes(b"")
    elif what == "a cursor that is damaged":
        at(data, "history", found[-1][1])
        (data / "reports/followers/history.pos").write_bytes(bytes(64))
    elif what == "only one sound snapshot":
        for path in list_snapshots(data)[1:]:
            path.write_bytes(path.read_bytes()[:-1])
    elif what == "the newest snapshot is rotten":
        newest = list_snapshots(data)[0]
        newest.write_bytes(b"\1" + newest.read_bytes()[1:])
    places = {"genesis": 0, "snapshot 1": found[0][0], "snapshot 2": found[1][0]}
    done = prune.prune(data)
    assert done.after_seq == places.get(wanted, found[2][0])
    numbers = files.segment_numbers(data)
    head = prune_head(data, numbers[0])
    assert head <= done.after_seq + 1 and (head == 1 or wanted != "genesis")


def prune_head(data: Path, number: int) -> int:
    from engine.walreader import first_header

    return int(first_header(data, files.read_manifest(data), number)["first_seq"])


def test_books_need_a_seal_or_an_archive(data: Path, tmp_path: Path) -> None:
    limits = limits_for(data)
    ledger = Ledger(data / "ledger", wal=(files.read_manifest(data).wal_hi,
                                          files.read_manifest(data).wal_lo))  # fmt: skip
    arrays = recovery.fresh_arrays(limits)
    replayer = recovery.Replayer(arrays, limits, sink=lambda index, rows: ledger.feed(index, rows))
    for rows in walreader.read_commands(data, 0, wal.scan_wal(data).seq):
        replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    ledger.close()
    at(data, "ledger", ledger.next_report)
    done = prune.prune(data)
    assert done.segments == [] and done.needs[0].who == "ledger rebuild"
    said = seal(data, tmp_path / "seals" / "one")
    assert said["snapshot_seq"] == cuts(data)[-1][0]
    assert prune.prune(data, seals=tmp_path / "nowhere", dry_run=True).segments == []
    sealed = prune.prune(data, seals=tmp_path / "seals", dry_run=True)
    assert sealed.segments
    # A seal that somebody changed is none, and nothing goes.
    kept = (tmp_path / "seals/one/seal").read_text()
    (tmp_path / "seals/one/seal").write_text(kept.replace('"seq"', '"sep"', 1))
    with pytest.raises(Exception, match="its hash differs"):
        prune.prune(data, seals=tmp_path / "seals")
    (tmp_path / "seals/one/seal").write_text(kept)
    before = {p.name: p.read_bytes() for p in (data / "wal").glob("*.seg")}
    archived = prune.prune(data, archive=tmp_path / "archive")
    assert archived.segments == sealed.segments
    for name in archived.segments:
        assert (tmp_path / "archive" / Path(name).name).read_bytes() == before[Path(name).name]


def test_an_archive_that_holds_something_else(data: Path, tmp_path: Path) -> None:
    going = prune.prune(data, dry_run=True).segments
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / Path(going[0]).name).write_bytes(b"another one")
    with pytest.raises(DataError, match="Nothing was removed"):
        prune.prune(data, archive=archive)
    assert all(Path(name).exists() for name in going)


def test_not_while_a_backup_copies(data: Path, tmp_path: Path) -> None:
    with files.lock_retention(data), pytest.raises(DataError, match="nothing was pruned"):
        prune.prune(data)
    prune.prune(data)
    made = backup.backup(data, tmp_path / "backups")
    found = backup.restore(Path(made.path), tmp_path / "restored")
    assert found.seq == made.seq == last_seq(data)


def test_a_snapshot_a_follower_needs_outlives_newer_ones(data: Path) -> None:
    found = cuts(data)
    at(data, "history", found[0][1] + 1)
    list_snapshots(data)[0].unlink()
    assert recovery.take(data, limits_for(data), keep=1).path is not None
    assert [seq for seq, _ in cuts(data)] == [found[0][0], found[-1][0]]


def test_the_command(data: Path) -> None:
    told = CliRunner().invoke(main, ["prune", "--data", str(data), "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    said = json.loads(told.output)
    assert said["dry_run"] and said["segments"] and said["needs"][0]["who"] == "recovery"
    done = CliRunner().invoke(main, ["prune", "--data", str(data)])
    assert done.exit_code == 0 and "nobody needs commands up to" in done.output
    assert "recovery needs what is after" in done.output
    assert CliRunner().invoke(main, ["prune", "--data", str(data), "--seal"]).exit_code == 2


def test_an_archive_with_no_room_removes_nothing(data: Path, tmp_path: Path) -> None:
    """The disk of the archive is full: said in a sentence, and done when there is room."""
    there = prune.prune(data, dry_run=True).segments
    words = ["-m", "tools.cli", "prune", "--data", str(data), "--archive", str(tmp_path / "copies")]
    small = min(Path(name).stat().st_size for name in there) // 2
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ") and str(tmp_path / "copies") in done.stderr
    assert "Nothing was removed" in done.stderr
    assert all(Path(name).exists() for name in there)
    assert prune.prune(data, archive=tmp_path / "copies").segments == there
    copied = [path.name for path in sorted((tmp_path / "copies").iterdir())]
    assert copied == [Path(name).name for name in there]
