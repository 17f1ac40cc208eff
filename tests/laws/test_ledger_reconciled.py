"""Books beside a WAL: sound ones have no break, one altered unit is found with its command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.recovery import LIMITS_FILE, fresh_arrays, take
from engine.replay import Replayer
from engine.wal import scan_wal
from engine.walreader import read_commands
from ledger.books import Books
from ledger.breaks import BreakReport
from ledger.files import LedgerError, list_segments
from ledger.store import Ledger
from ledger.verify import verify
from shm.codes import Kind
from shm.config import load
from shm.cursors import JOURNALED, RISKED, SETTLED
from shm.files import DataError
from tests.model.random_flow import Flow, open_venue
from tests.model.wal_rig import WalRig
from tests.venue import LIMITS, Venue
from tools import ledger_reconcile
from tools.ledger_reconcile import reconcile
from tools.ledger_run import rebuild, wal_of
from tools.ledger_seal import seal


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory: WAL with hash points, limits, books."""
    v = Venue(seed=3, checkpoint_every=40)
    open_venue(v)
    for kind, fields in Flow(3).commands(v, 150):
        v.send(kind, **fields)
    v.work()
    folder = tmp_path / "data"
    rig = WalRig(folder)
    rig.start()
    for at in range(0, len(v.log), 64):
        rows = np.array(v.log[at : at + 64]).reshape(-1)
        rig.ring[rows["seq"] & (rig.capacity - 1)] = rows
        rig.cursors[RISKED] = rig.cursors[SETTLED] = int(rows["seq"][-1])
        while rig.cursors[JOURNALED] < rig.cursors[RISKED]:
            rig.journal.step()
    rig.journal.close()
    for path in (folder / "reports").iterdir():
        path.unlink()  # the rig journals commands alone: an empty log would say that reports are late
    (folder / LIMITS_FILE).write_text(json.dumps(LIMITS._asdict()))
    ledger = Ledger(folder / "ledger", wal=wal_of(folder))
    ledger.feed(0, v.all_reports())
    ledger.close()
    assert sum(int(row["kind"]) == Kind.CHECKPOINT for row in v.log) > 2
    return folder


def test_sound_books_have_no_break_and_come_out_of_the_wal_alone(data: Path) -> None:
    found, said = reconcile(data)
    assert found == [] and said["points"] > 1
    made = rebuild(data, data / "again")
    assert made["chain"] == Books(data / "ledger").chain()
    assert made["entries"] == Books(data / "ledger").entries


def alter(data: Path, entry: int) -> int:
    """Add one unit to a customer's leg and to its counterpart; the command it belongs to."""
    books = Books(data / "ledger")
    first = books.first_leg(entry)
    (segment,) = list_segments(data / "ledger")
    amounts = np.memmap(segment.path / "amount", np.int64, "r+")
    amounts[first] += 1
    amounts[first + 1] -= 1
    amounts.flush()
    return int(books.entry_rows(entry, 1)[0]["seq"])


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_an_altered_posting_is_found_with_its_command(
    data: Path, part: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(data / "ledger")
    seq = alter(data, int(books.entries * part))
    halted = []
    monkeypatch.setattr(ledger_reconcile, "halt", lambda _config: halted.append(True))
    config = load(None, {"data_dir": str(data), "instance": "none", "ledger.cancel_only": True})
    code = ledger_reconcile.run(
        config,
        custody=(),
        mapping=None,
        replay=True,
        genesis=False,
        programs=False,
        cancel_only=False,
        as_json=False,
    )
    assert code == 1 and halted == [True]
    assert f"first at command {seq}" in capsys.readouterr().out
    live = BreakReport(data).live
    assert live and all(row["first_seq"] == seq for row in live if row["key"])
    assert {abs(row["difference"]) for row in live} == {1}


def reports_of(data: Path) -> np.ndarray[Any, Any]:
    """Every report that the WAL gives."""
    found: list[np.ndarray[Any, Any]] = []
    replayer = Replayer(
        fresh_arrays(LIMITS), LIMITS, sink=lambda _, rows: found.append(rows.copy())
    )
    for rows in read_commands(data, 0, scan_wal(data).seq):
        replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    return np.concatenate(found)


@pytest.mark.parametrize("snapshot", [False, True])
def test_books_are_made_again_from_a_seal_without_what_came_before_it(
    data: Path, tmp_path: Path, snapshot: bool
) -> None:
    whole, reports = Books(data / "ledger").chain(), reports_of(data)
    if snapshot:
        assert take(data, LIMITS).path is not None
    shutil.move(data / "ledger", tmp_path / "whole")
    sizes = {"segment_legs": 256, "segment_entries": 64, "balance_legs": 64, "span": 8}
    ledger = Ledger(data / "ledger", wal=wal_of(data), **sizes)
    part = len(reports) - 40 if snapshot else len(reports) // 3
    ledger.feed(0, reports[:part])
    ledger.checkpoint()
    ledger.feed(part, reports[part:])  # behind the state: none of it is sealed
    said = seal(data, tmp_path / "sealed")
    with pytest.raises(LedgerError, match="is there already"):
        seal(data, tmp_path / "sealed")
    assert said["reports"] == part and (said["snapshot_seq"] > 0) == snapshot
    wanted = ledger.chain.hex()
    ledger.close()
    shutil.rmtree(data / "ledger")
    made = rebuild(data, data / "ledger", tmp_path / "sealed")
    assert made["chain"] == wanted and made["from_entry"] == said["entries"]
    assert made["entries"] == Books(tmp_path / "whole").entries and whole != wanted
    assert verify(data / "ledger").notes == []
    assert reconcile(data)[0] == []

    for name in ("seal", "ledger/blocks", "snapshot"):
        path = tmp_path / "sealed" / name
        if not path.exists():
            continue
        whole_file = path.read_bytes()
        path.write_bytes(whole_file[:99] + bytes([whole_file[99] ^ 1]) + whole_file[100:])
        with pytest.raises((LedgerError, DataError)):
            rebuild(data, tmp_path / f"again-{path.name}", tmp_path / "sealed")
        path.write_bytes(whole_file)
