"""Books beside a WAL: sound ones have no break, one altered unit is found with its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.recovery import LIMITS_FILE
from ledger.books import Books
from ledger.breaks import BreakReport
from ledger.files import list_segments
from ledger.store import Ledger
from shm.codes import Kind
from shm.config import load
from shm.cursors import JOURNALED, RISKED, SETTLED
from tests.model.random_flow import Flow, open_venue
from tests.model.wal_rig import WalRig
from tests.venue import LIMITS, Venue
from tools import ledger_reconcile
from tools.ledger_reconcile import reconcile
from tools.ledger_run import rebuild, wal_of


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
