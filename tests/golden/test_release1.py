"""A data directory that release 1 wrote, frozen: log, snapshot, reports and books.

The format of the WAL is 1 and the release is 1 since the first one, so this is the oldest there is.
Whoever changes a record of these files, or what the same commands come to, raises shm/release.py,
and keeps this directory with what its own release says of it (engine/releases.py).
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from engine import recovery, wal, walreader
from engine.files import read_manifest
from engine.snapshotfile import list_snapshots, read_meta
from engine.walblocks import FORMAT
from ledger.store import Ledger
from ledger.verify import verify
from shm.release import RELEASE
from tools.datadir import limits_for

FROZEN = Path(__file__).parent / "release1"
SAID: dict[str, Any] = json.loads((FROZEN / "said.json").read_text())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with tarfile.open(FROZEN / "data.tar.xz") as tar:
        tar.extractall(tmp_path / "data", filter="data")
    return tmp_path / "data"


def test_it_is_of_this_release(data: Path) -> None:
    assert FORMAT == 1 and read_manifest(data).release == SAID["release"] == RELEASE


def test_replay_gives_what_it_gave(data: Path) -> None:
    found = recovery.verify(data, limits_for(data))
    assert f"{found.state_digest & (1 << 64) - 1:016x}" == SAID["state_digest"]
    for name in ("seq", "reports", "checkpoints", "snapshots"):
        assert getattr(found, name) == SAID[name]
    assert found.compared > 0


def test_its_snapshot_and_the_rest_give_the_same(data: Path) -> None:
    limits = limits_for(data)
    newest = list_snapshots(data)[0]
    arrays = recovery.fresh_arrays(limits)
    recovery.check_history(data, read_meta(newest))
    _meta, sections = recovery.load_snapshot(newest)
    recovery.restore(arrays, limits, sections, 1)
    replayer = recovery.Replayer(arrays, limits)
    first = read_meta(newest)["seq"]
    for rows in walreader.read_commands(data, first, wal.scan_wal(data, first).seq):
        replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    digest = recovery.state_digest(arrays, limits) & (1 << 64) - 1
    assert f"{digest:016x}" == SAID["state_digest"]


def test_its_books_are_sound_and_come_out_again(data: Path, tmp_path: Path) -> None:
    sound = verify(data / "ledger")
    assert (sound.entries, sound.chain) == (SAID["entries"], SAID["chain"])
    manifest, limits = read_manifest(data), limits_for(data)
    sizes = {"segment_legs": 1 << 11, "segment_entries": 1 << 6, "balance_legs": 1 << 8, "span": 16}
    ledger = Ledger(tmp_path / "books", wal=(manifest.wal_hi, manifest.wal_lo), **sizes)
    replayer = recovery.Replayer(
        recovery.fresh_arrays(limits), limits, sink=lambda index, rows: ledger.feed(index, rows)
    )
    for rows in walreader.read_commands(data, 0, SAID["seq"]):
        replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    ledger.close()
    assert (ledger.entries, ledger.chain.hex()) == (SAID["entries"], SAID["chain"])
