"""Backups of a running venue, and the restore drill."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine import recovery, wal, walreader
from engine.files import DataError
from shm.control import View
from shm.cursors import JOURNALED
from tests.process.conftest import Venues
from tests.process.helpers import wait_until
from tools import backup
from tools.backup import BackupError
from tools.cli import main
from tools.datadir import limits_for


def state_after(data: Path, seq: int, folder: Path) -> int:
    """Digest of the state when the log ends with `seq`, by an independent replay of its copy."""
    shutil.copytree(data, folder)
    wal.cut_after(folder, seq)
    shutil.rmtree(folder / "reports")
    (folder / "reports").mkdir()
    return recovery.verify(folder, limits_for(folder)).state_digest


@pytest.fixture
def traded(venues: Venues) -> Iterator[Path]:
    """The data directory of a venue that is trading, with a store beside the engine's files."""
    venue = venues("--traffic", "3000", "--topology", "fused", "--set", "wal.segment_bytes=4194304")
    venue.start()
    venue.until_running()
    with sqlite3.connect(venue.data / "users.sqlite") as store:
        store.execute("create table users (name text)")
        store.execute("insert into users values ('ann')")
    view = View(venue.instance)
    wait_until(lambda: view.cursor(JOURNALED) > 6000, 60, "no traffic")
    view.close()
    yield venue.data
    assert venue.stop() == 0


def test_backup_of_a_running_venue_and_back(traded: Path, tmp_path: Path) -> None:
    made = backup.backup(traded, tmp_path / "backups")
    assert made.seq > 6000
    assert backup.check(Path(made.path))["seq"] == made.seq
    whole = tmp_path / "whole"
    found = backup.restore(Path(made.path), whole)
    assert found.seq == made.seq
    with sqlite3.connect(whole / "users.sqlite") as store:
        assert store.execute("select name from users").fetchall() == [("ann",)]

    for seq in (1, 4321, made.seq):
        data = tmp_path / f"seq{seq}"
        found = backup.restore(Path(made.path), data, to_seq=seq)
        assert found.seq == seq
        assert found.state_digest == state_after(whole, seq, tmp_path / f"other{seq}")
        assert wal.scan_wal(data).seq == seq
    # It goes on from there: the next start takes commands behind that point.
    result = CliRunner().invoke(main, ["verify", "--data", str(tmp_path / "seq4321")])
    assert result.exit_code == 0, result.output


def test_to_a_time(traded: Path, tmp_path: Path) -> None:
    made = Path(backup.backup(traded, tmp_path / "backups").path)
    rows = next(iter(walreader.read_commands(made / "data", 2999, 3000)))
    data = tmp_path / "then"
    found = backup.restore(made, data, to_ns=int(rows["ts_ns"][0]))
    later = list(walreader.read_commands(made / "data", found.seq, found.seq + 1))
    assert found.seq >= 3000 and int(later[0]["ts_ns"][0]) > int(rows["ts_ns"][0])


def test_what_is_refused(traded: Path, tmp_path: Path) -> None:
    made = Path(backup.backup(traded, tmp_path / "backups").path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(BackupError, match="not empty"):
        backup.restore(made, tmp_path / "full")
    with pytest.raises(BackupError, match="holds commands up to"):
        backup.restore(made, tmp_path / "none", to_seq=1 << 40)
    with pytest.raises(BackupError, match="no data directory"):
        backup.backup(tmp_path / "nothing", tmp_path / "backups")
    with pytest.raises(BackupError, match=r"no backup .* ends in \.part"):
        backup.check(tmp_path)
    for name, damage, said in (
        ("data/manifest", b"x", "is not what was backed up"),
        ("stores/users.sqlite", None, "is missing"),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(made, copy)
        path = copy / name
        path.write_bytes(damage) if damage else path.unlink()
        with pytest.raises(BackupError, match=said):
            backup.restore(copy, tmp_path / "none")
        assert not (tmp_path / "none").exists()
    # A log that was damaged before it was backed up is no backup.
    segment = sorted((made / "data" / "wal").iterdir())[0]
    content = bytearray(segment.read_bytes())
    content[5000] ^= 1
    sick = tmp_path / "sick"
    shutil.copytree(made / "data", sick)
    (sick / "wal" / segment.name).write_bytes(content)
    with pytest.raises(DataError):
        backup.backup(sick, tmp_path / "others")
    assert not list((tmp_path / "others").iterdir())


def test_the_command(traded: Path, tmp_path: Path) -> None:
    to = tmp_path / "backups"
    for _ in range(3):
        result = CliRunner().invoke(
            main, ["backup", "--data", str(traded), "--to", str(to), "--keep", "2", "--json"]
        )
        assert result.exit_code == 0, result.output
        time.sleep(0.01)
    assert len(json.loads(result.stdout)["removed"]) == 1 and len(list(to.iterdir())) == 2
    sink = io.BytesIO()
    backup.stream(traded, sink, tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())
    sink.seek(0)
    with tarfile.open(fileobj=sink) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    (folder,) = (tmp_path / "out").iterdir()
    result = CliRunner().invoke(main, ["restore", str(folder), "--data", str(tmp_path / "d")])
    assert result.exit_code == 0 and "verified" in result.output, result.output


def test_alert(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    said = tmp_path / "said"
    config.write_text(f'[alert]\ncommand = ["sh", "-c", "echo $0 > {said}"]\n')
    result = CliRunner().invoke(main, ["alert", "x.service", "--config", str(config)])
    assert result.exit_code == 0 and json.loads(result.stdout)["sent"] == "yes"
    assert json.loads(said.read_text())["unit"] == "x.service"
    config.write_text('[alert]\ncommand = ["/nowhere/at/all"]\n')
    result = CliRunner().invoke(main, ["alert", "x.service", "--config", str(config)])
    assert "No such file" in json.loads(result.stdout)["sent"]
