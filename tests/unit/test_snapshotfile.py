"""The container of snapshots by small cases; tests/faults/test_wal_damage.py breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine import files
from engine.snapshotfile import (
    SnapshotDamage,
    list_snapshots,
    load_snapshot,
    newest_sound,
    prune_snapshots,
    read_meta,
    snapshot_path,
    verify_snapshot,
    write_snapshot,
)
from shm.records import ACCOUNT, RECORDS, SNAPSHOT_HEADER, SNAPSHOT_SECTION

META = {"seq": 7, "wal": "ab" * 16, "epoch": 2, "reports_count": 31, "limits": {"orders": 64}}


def sections() -> dict[str, np.ndarray[object, np.dtype[np.generic]]]:
    accounts = np.zeros(3, ACCOUNT.dtype)
    accounts["opened_ns"] = (1, 2, 3)
    return {
        "accounts": accounts,
        "heap": np.array([5, 4, 3], np.int64),
        "empty": np.zeros(0, np.int64),
        "bytes": np.frombuffer(b"odd length!", np.uint8),
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    files.make_folders(tmp_path)
    return tmp_path


def test_what_is_written_comes_back(data: Path) -> None:
    path = snapshot_path(data, 7)
    write_snapshot(path, META, sections())
    meta, tables = load_snapshot(path)
    assert meta == read_meta(path) == verify_snapshot(path) == META
    for name, table in sections().items():
        assert tables[name].dtype == table.dtype
        assert tables[name].tobytes() == table.tobytes()
        assert tables[name].flags.writeable
    assert list(tables) == list(sections())
    assert [p.name for p in (data / "snapshots").iterdir()] == [path.name]


def test_every_table_begins_on_a_line(data: Path) -> None:
    path = snapshot_path(data, 7)
    write_snapshot(path, META, sections())
    content = path.read_bytes()
    head = np.frombuffer(content, SNAPSHOT_HEADER.dtype, 1)[0]
    at = 64 + int(head["meta_bytes"])
    assert json.loads(content[64:at].rstrip(b"\0")) == META
    rows = np.frombuffer(content, SNAPSHOT_SECTION.dtype, int(head["section_count"]), at)
    assert [int(row["offset"]) % 64 for row in rows] == [0, 0, 0, 0]
    assert len(content) % 64 == 0


def test_a_record_that_has_changed_since_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = snapshot_path(data, 7)
    write_snapshot(path, META, sections())
    monkeypatch.setitem(RECORDS, "ACCOUNT", ACCOUNT._replace(digest="00" * 8))
    with pytest.raises(SnapshotDamage, match="section accounts: ACCOUNT of another release"):
        load_snapshot(path)


def test_newest_first_and_pruned(data: Path) -> None:
    for seq in (100, 20, 3):
        write_snapshot(snapshot_path(data, seq), META | {"seq": seq}, sections())
    (data / "snapshots" / "snap.left.tmp").write_bytes(b"x")
    assert [read_meta(p)["seq"] for p in list_snapshots(data)] == [100, 20, 3]
    found = newest_sound(data, seq_max=99)
    assert found is not None and found[1]["seq"] == 20
    removed = prune_snapshots(data, 2)
    assert sorted(p.name for p in removed) == [snapshot_path(data, 3).name, "snap.left.tmp"]
    assert [read_meta(p)["seq"] for p in list_snapshots(data)] == [100, 20]


DAMAGED = """
  snapshots, newest first | keep | stay
  s100 s20 s3             | 2    | s100 s20
  d100 s20 s3             | 2    | d100 s20 s3      a damaged one doesn't count
  d100 d20 s3             | 1    | d100 d20 s3
  s100 d20 s3 s2          | 2    | s100 d20 s3
  s100 d20 s3             | 1    | s100
  d100 d20                | 1    | d100 d20         none is sound: nothing is lost besides
"""


@pytest.mark.parametrize("row", DAMAGED.strip().splitlines()[1:])
def test_pruning_keeps_what_recovery_could_take(data: Path, row: str) -> None:
    there, keep, stay = (cell.strip() for cell in row.split("|"))
    for name in there.split():
        path = snapshot_path(data, int(name[1:]))
        write_snapshot(path, META | {"seq": int(name[1:])}, sections())
        if name[0] == "d":
            content = bytearray(path.read_bytes())
            content[-70] ^= 4  # of a table: the head still reads well
            path.write_bytes(content)
    prune_snapshots(data, int(keep))
    wanted = [int(name[1:]) for name in stay.split() if name[0] in "sd" and name[1:].isdigit()]
    assert [int(path.suffix[1:]) for path in list_snapshots(data)] == wanted
