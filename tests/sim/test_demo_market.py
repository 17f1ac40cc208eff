"""The demo's traffic on a venue in one process: it is a market, and stays one.

In production's own build. Time is the venue's: what happens is a function of the seed alone.
"""

from __future__ import annotations

import numpy as np

from engine.liquidation_scan import sweep
from engine.state import Limits
from shm.codes import Kind, LiquidationStep, Reason, ReportKind
from shm.kinds import command
from shm.records import SOURCE_COMMAND
from tests.venue import Venue
from tools import demopath
from tools.demoflow import RATE, TURN_NS, TURNS_A_SECOND, Flow
from tools.demomarket import ACCOUNTS, CONTRACTS, declarations, makers
from tools.laws import check_laws

SECONDS = 60
# As small as tests of processes have it: nothing of the demo may fill a table up.
LIMITS = Limits(
    accounts=ACCOUNTS.stop,
    assets=1,
    symbols=len(CONTRACTS),
    positions=512,
    orders=1024,
    algos=16,
    requests=16,
    clients=512,
    leaves=4096,
    trie=4096,
)


def played(seed: int, seconds: int) -> tuple[Venue, list[np.ndarray]]:
    """A venue after so long, and the reports of each second."""
    v = Venue(LIMITS, commands=4096, matches=4096, reports=1 << 15)
    for row in declarations(funding_ns=10_000_000_000):
        v.send_rows(row)
    v.work()
    flow = Flow(seed, RATE, demopath.paths(seed, 20.0), tell=True)
    told = [v.all_reports()]
    v.told = len(v.reports)
    for turn in range(seconds * TURNS_A_SECOND):
        v.wait(TURN_NS)
        rows = flow.turn(turn)
        prices = rows["kind"] == Kind.SOURCE_PRICE
        rows.view(SOURCE_COMMAND.dtype)["source_ns"][prices] = v.now
        v.send_rows(rows)
        v.work()
        for found in sweep(v.arrays, ACCOUNTS.start, ACCOUNTS.stop)[1]:
            v.send_rows(found)
        if turn % TURNS_A_SECOND == TURNS_A_SECOND - 1:
            for symbol in range(len(CONTRACTS)):
                v.send_rows(command(Kind.SAMPLE, symbol=symbol))
            v.send_rows(command(Kind.TICK))
            v.work()
            told.append(np.concatenate(v.reports[v.told :]))
            v.told = len(v.reports)
    return v, told


def test_the_demo_is_a_market_and_stays_one(long_run: bool) -> None:
    v, told = played(1, 600 if long_run else SECONDS)
    check_laws(v)
    trades = [int((rows["kind"] == ReportKind.EXEC).sum()) for rows in told[1:]]
    assert min(sum(trades[at : at + 10]) for at in range(0, len(trades) - 9, 10)) > 100, trades
    rows = np.concatenate(told)
    steps = rows[rows["kind"] == ReportKind.LIQUIDATION]["status"]
    assert (steps == LiquidationStep.STARTED).sum() >= 5
    assert (rows["kind"] == ReportKind.FUNDING).sum() > 0
    # Whoever makes the market can: a quote is only refused for what a book does to quotes.
    orders = rows[(rows["kind"] == ReportKind.ORDER) & np.isin(rows["account"], makers())]
    refused = set(orders["reason"][orders["command"] == Kind.PLACE].tolist())
    assert refused <= {Reason.NONE, Reason.WOULD_TAKE, Reason.SELF_TRADE}, refused
    assert not (rows[rows["kind"] == ReportKind.ORDER]["reason"] == Reason.CAPACITY).any()


def test_the_same_seed_is_the_same_history() -> None:
    one, other = (np.concatenate(played(7, 5)[1]) for _ in range(2))
    assert np.array_equal(one, other)
