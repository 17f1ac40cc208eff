"""A recorded day's book out of its reports: queue by queue what the engine's own book holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateways.marketdata.market import Hub, Markets
from shm.codes import Side
from shm.files import read_manifest
from shm.reportlog import ReportLogReader
from tests.golden.test_replay_flow import replay, rows_of

SIDES = {"bid": int(Side.BUY), "ask": int(Side.SELL)}


def test_books_of_a_recorded_day(recorded: Path, tmp_path: Path) -> None:
    commands = recorded / "bitstamp_btcusd_l3" / "commands.csv.gz"
    if not commands.exists():
        pytest.skip(f"{commands}: not there")
    data = tmp_path / "data"
    replay(commands, "--book", tmp_path / "book.csv", "--data", data)
    reader = ReportLogReader(data, read_manifest(data))
    markets = Markets(Hub())
    rows = np.concatenate(list(reader.batches(0, reader.find_end(), 1 << 16)))
    reader.close()
    markets.apply(rows)
    # The engine has no price 0, so a file that has one is replayed one tick higher.
    priced = [r for r in rows_of(commands) if r[2] not in ("CANCEL", "MARKET")]
    shift = 1 if any(int(r[5]) == 0 for r in priced) else 0
    (market,) = (m for m in markets.markets.values() if m.book.orders)
    got = [(side, price - shift, lots) for side, price, _, lots in market.book.resting()]
    wanted = [(SIDES[s], int(p), int(q)) for s, p, _, q in rows_of(tmp_path / "book.csv")]
    assert len(got) > 1000 and got == wanted
    assert market.trades[-1].id == 106
