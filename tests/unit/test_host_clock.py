"""The host's clock against its limit, and counters of what was reported."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from engine import supervisor
from engine.supervisor import Log, heed_clock
from shm.codes import LiquidationStep, ReportKind
from shm.config import Books, Clock, Config, ConfigError, HotWallet, load
from shm.counters import Counters, counter_parts
from shm.cursors import CURSOR_CELLS, CUT, CUT_CLOCK, CUT_DISK
from shm.hostclock import HostClock, host_clock
from shm.records import REPORT
from shm.reported import ReportCounts
from shm.segment import Segment
from tools import metrics

CLOCKS = """
    offset us   error us   limit us   cut before   cut after   logged
        0           10         100        0            0       -
     -101            0         100        0            2       error
       60           60         100        0            2       error     both count
      500            0         100        2            2       -         it said so already
       50            0         100        2            0       warning
        -            -         100        2            0       warning   nobody disciplines it any more
        -            -         100        0            0       -
      500            0           0        0            0       -         no limit
      500            0           0        2            0       warning   the limit was taken away
      500            0         100        1            1       -         the disk is full, too
       50            0         100        1            1       -         that is the journal's
"""


@pytest.mark.parametrize("row", CLOCKS.strip().splitlines()[1:])
def test_a_clock_beyond_its_limit_is_cancel_only(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offset, error, limit, before, after, logged = row.split()[:6]
    clock = None if offset == "-" else HostClock(int(offset) * 1000, int(error) * 1000)
    monkeypatch.setattr(supervisor, "host_clock", lambda: clock)
    cells = np.zeros(CURSOR_CELLS, np.int64)
    cells[CUT] = int(before)
    stream = io.StringIO()
    heed_clock(Config(clock=Clock(offset_max_us=int(limit))), cells, Log(stream))
    assert cells[CUT] == int(after)
    levels = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
    assert levels == ([] if logged == "-" else [logged])
    assert (CUT_DISK, CUT_CLOCK) == (1, 2)


def test_the_kernel_is_asked() -> None:
    clock = host_clock()
    assert clock is None or clock.off_ns >= abs(clock.offset_ns)


@pytest.mark.parametrize("most", ["250000", "0.5", "1" * 18])
def test_limits_of_hot_wallets(tmp_path: Path, most: str) -> None:
    path = tmp_path / "perpcore.toml"
    path.write_text(f'[[ledger.hot_wallets]]\nasset = "USDT"\nmax = "{most}"\n')
    assert load(path).ledger.hot_wallets == (HotWallet(asset="USDT", max=most),)


@pytest.mark.parametrize("most", ["", "-1", "1e5", "1.", "nan", "1_000", "٣", "1" * 19])
def test_a_limit_that_is_no_decimal(tmp_path: Path, most: str) -> None:
    path = tmp_path / "perpcore.toml"
    path.write_text(f'[[ledger.hot_wallets]]\nasset = "USDT"\nmax = "{most}"\n')
    with pytest.raises(ConfigError, match="ledger.hot_wallets"):
        load(path)


def test_reports_are_counted_by_kind(instance: str) -> None:
    rows = np.zeros(7, REPORT.dtype)
    rows["kind"] = [ReportKind.ORDER] * 3 + [ReportKind.LIQUIDATION] * 3 + [ReportKind.FUNDING]
    rows["status"][3:6] = [LiquidationStep.STARTED, LiquidationStep.ADL, LiquidationStep.STARTED]
    segment = Segment.create(instance, "counters", counter_parts(), 1)
    counters = Counters(segment.arrays, segment)
    counters.format()
    counts = ReportCounts()
    counts.add(rows)
    counts.add(rows[:1])
    counts.register(counters)
    counts.tell(counters.cells)
    found = {name: value for name, (value, _) in counters.read().items()}
    segment.unlink()
    wanted = {"reported.order": 4, "reported.funding": 1, "reported.exec": 0}
    wanted |= {"liquidated.started": 2, "liquidated.adl": 1, "liquidated.closed": 0}
    assert {name: found[name] for name in wanted} == wanted


def test_breaks_and_hot_wallets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The books are asked now and then, breaks at every scrape."""
    asked = []
    monkeypatch.setattr(metrics, "hot_balances", lambda data: asked.append(data) or {"USDT": 300.5})
    config = Config(ledger=Books(hot_wallets=(HotWallet(asset="USDT", max="250"),)))
    exchange = metrics.Exchange(config)
    states = ("OPEN", "RESOLVED", "OPEN")
    (tmp_path / "breaks.json").write_text(json.dumps([{"state": state} for state in states]))
    for _ in range(3):
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in exchange._books(tmp_path)
            for sample in family.samples
        }
    assert asked == [tmp_path]
    assert found["perpcore_hot_wallet", "USDT"] == 300.5
    assert found["perpcore_hot_wallet_max", "USDT"] == 250
    assert found["perpcore_reconciliation_breaks", "OPEN"] == 2
    assert found["perpcore_reconciliation_breaks", "RESOLVED"] == 1


def test_without_books_nothing_is_held(tmp_path: Path) -> None:
    assert metrics.hot_balances(tmp_path) == {}
