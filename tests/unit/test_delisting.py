"""Delisting in slices while nobody takes reports away: each position is closed once, none is lost.

The golden tables (tests/golden/delisting.txt) say what a settlement comes to; here the ring of
reports is smaller than what one slice says, and its reader lags by chance.
"""

from __future__ import annotations

import pytest

from shm.codes import Cause, Kind, ReportKind, Side, State
from shm.records import EXEC_REPORT
from shm.units import SYSTEM_ACCOUNTS
from tests.venue import LIMITS, Venue, check_laws, check_reports

HOLDERS = 100


def market(reports: int, seed: int | None) -> Venue:
    """As many small longs as there are holders, and one short against them."""
    accounts = SYSTEM_ACCOUNTS + HOLDERS + 1
    limits = LIMITS._replace(accounts=accounts, positions=2 * accounts, symbols=1, orders=1024)
    v = Venue(limits, reports=reports, matches=16, commands=64, seed=seed)
    v.open_market(accounts=HOLDERS + 1, quanta=10**9)
    maker = SYSTEM_ACCOUNTS + HOLDERS
    v.place(maker, Side.SELL, 100, 2 * HOLDERS)
    for k in range(HOLDERS):
        v.place(SYSTEM_ACCOUNTS + k, Side.BUY, 100, 2)
    v.work()
    return v


@pytest.mark.parametrize("reports", [64, 256])
@pytest.mark.parametrize("seed", [None, 1])
def test_slices_wait_for_room_in_the_ring_of_reports(reports: int, seed: int | None) -> None:
    v = market(reports, seed)
    told = len(v.all_reports())
    v.send(Kind.SYMBOL_STATE, symbol=0, state=State.HALTED)
    v.send(Kind.SETTLE_SYMBOL, symbol=0, settle_ticks=103)
    v.work()
    check_laws(v)
    check_reports(v)
    assert not v.arrays["positions"]["lots"].any()
    assert v.arrays["symbols"]["state"][0] == State.CLOSED
    rows = v.all_reports()[told:]
    execs = rows[rows["kind"] == ReportKind.EXEC].view(EXEC_REPORT.dtype)
    assert (execs["status"] >> 2 & 7 == Cause.DELIST).all() and (execs["price_ticks"] == 103).all()
    assert sorted(execs["account"].tolist()) == sorted(
        range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + HOLDERS + 1)
    )
    assert len(rows) > 2 * HOLDERS, "more than the smaller rings hold"


def test_a_reader_that_has_stopped_stops_the_slice_and_nothing_is_lost() -> None:
    v = market(64, None)
    v.send(Kind.SYMBOL_STATE, symbol=0, state=State.HALTED)
    v.send(Kind.SETTLE_SYMBOL, symbol=0, settle_ticks=97)
    for _ in range(50):  # nobody reads
        v.feed()
        v.sequence()
        v.risk()
        v.match()
        v.risk()
        v.journal()
    closed = int((v.arrays["positions"]["lots"] == 0).sum())
    assert v.arrays["positions"]["lots"].any() and closed > 0, "in the middle of a slice"
    v.work()
    check_laws(v)
    check_reports(v)
    assert not v.arrays["positions"]["lots"].any()
