"""The crash of January 2022 in real processes, fused and split: the same reports, state and digest.

The market of tests/model/market.py, one command at a time, in this process and in exchanges of both
topologies; and each of their logs replayed alone. What liquidations move adds up to the unit in
each (tools/laws.py looks at the exchange's own memory).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.recovery import fresh_arrays, state_digest
from engine.replay import Replayer
from engine.state import Limits
from engine.walreader import read_commands
from shm.cursors import SEQUENCED
from shm.records import COMMAND
from tests.model.market import Market, closing_prices
from tests.model.plain_state import differences, plain_state
from tests.process.live import Live, Lockstep

CRASH = 27_000  # minute of the file where the fall below 43,000 begins
SEED, FUND = 2, 500  # a poor fund: others bear what it can't


@pytest.fixture
def live(tmp_path: Path, instance: str) -> Iterator[Any]:
    made: list[Live] = []

    def start(limits: Limits, topology: str) -> Live:
        name = f"{instance}-{len(made)}"
        # As in this process, no CHECKPOINT.
        made.append(Live(tmp_path / name, name, limits, topology, checkpoint_every=1 << 40))
        return made[-1]

    yield start
    for venue in made:
        venue.end()


def test_both_topologies_come_to_the_same(recorded: Path, live: Any, long_run: bool) -> None:
    path = next((recorded / "klines").glob("*.csv.gz"))
    every, count = (5, None) if long_run else (120, 40)
    prices = closing_prices(path, every=every, first=0 if long_run else CRASH, count=count)
    traders = 1000 if long_run else 60
    limits: list[Limits] = []

    def in_process(sizes: Limits) -> Lockstep:
        limits.append(sizes)
        return Lockstep(sizes, shards=3)

    market = Market(prices, SEED, traders=traders, fund=FUND, make=in_process).run()
    whole, seen = market.venue, market.seen
    assert seen["STARTED"] == seen["RECOVERED"] + seen["CLOSED"] > 5, seen
    assert seen["ADL"] > 0 and seen["CLEARANCE"] > 0, seen
    wanted = plain_state(whole.arrays, whole.limits)
    for topology in ("fused", "split"):

        def exchange(sizes: Limits, topology: str = topology) -> Live:
            found: Live = live(sizes, topology)
            return found

        v = Market(prices, SEED, traders=traders, fund=FUND, make=exchange).run().venue
        assert isinstance(v, Live)
        reports = v.all_reports()
        assert np.array_equal(reports, whole.all_reports()), topology
        assert v.venue["reports_digest"] == whole.venue["reports_digest"]
        assert differences(plain_state(v.arrays, v.limits), wanted) == []
        digest = state_digest(v.arrays, v.limits)
        arrays = fresh_arrays(v.limits)
        replayer = Replayer(arrays, v.limits)
        for rows in read_commands(v.exchange.data, 0, int(v.cursors[SEQUENCED])):
            replayer.feed(rows)
        replayer.feed(np.zeros(0, COMMAND.dtype), end=True)
        assert state_digest(arrays, v.limits) == digest
        v.stop()
