"""Leveraged accounts through the crash of January 2022: no unit of money is lost.

In production's own build. The default run takes two hundred accounts over some days of the crash;
--long takes a thousand through every fifth minute of the month.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.recovery import state_digest
from tests.model.market import Market, closing_prices
from tools.inprocess import replayed

CRASH = 27_000  # minute of the file where the fall below 43,000 begins


def bars(recorded: Path) -> Path:
    return next((recorded / "klines").glob("*.csv.gz"))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_crash(recorded: Path, seed: int, long_run: bool) -> None:
    if long_run:
        prices = closing_prices(bars(recorded), every=5)
    else:
        prices = closing_prices(bars(recorded), every=60, first=CRASH, count=80)
    traders = 1000 if long_run else 200
    market = Market(prices, seed, traders=traders, fund=200_000 if seed == 1 else 2_000).run()
    v, seen = market.venue, market.seen
    # It liquidates, in every way there is; the poor fund of the second seed leaves much to others.
    assert seen["STARTED"] == seen["RECOVERED"] + seen["CLOSED"] > 20, seen
    assert seen["ORDER"] > 20 and seen["CLEARANCE"] > 0 and seen["WARNING"] > 0, seen
    assert seen["TAKEOVER"] > 0 if seed == 1 else seen["ADL"] > 0, seen
    assert market.open_interest() > 0
    digest = state_digest(v.arrays, v.limits)
    live = v.all_reports()
    for shards in (1, 3):
        arrays, reports = replayed(v.log, v.limits, shards)
        assert np.array_equal(reports, live)
        assert state_digest(arrays, v.limits) == digest
