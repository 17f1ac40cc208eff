"""The scan finds what risk would, and nothing else; torn rows cost it nothing."""

from __future__ import annotations

import numpy as np
import pytest

from engine.liquidation_scan import FOUND_CELLS, Scan, sweep, unwinding
from shm.codes import Kind, Side
from shm.kinds import COMMAND_RECORDS
from shm.units import INSURANCE_ACCOUNT, SYSTEM_ACCOUNTS
from tests.laws.test_liquidation_laws import market
from tests.venue import ANN, BOB, CAT, Venue

SECOND = 1_000_000_000


def found(v: Venue) -> list[tuple[int, int, int, int]]:
    """(account, symbol, leg, row) of every LIQUIDATE that a sweep over all accounts gives."""
    _, rows = sweep(v.arrays, 0, v.limits.accounts)
    view = [r.view(COMMAND_RECORDS[Kind.LIQUIDATE].dtype) for r in rows]
    names = ("account", "symbol", "position_side", "settle_row")
    return [tuple(int(x[name]) for name in names) for part in view for x in part]  # type: ignore[misc]


def propose(v: Venue) -> None:
    for account, symbol, leg, row in found(v):
        v.send(Kind.LIQUIDATE, account=account, symbol=symbol, position_side=leg, settle_row=row)


@pytest.mark.parametrize("seed", range(1, 5))
def test_what_is_found_is_news_to_risk_and_what_is_not_is_none(seed: int) -> None:
    """Every command of a sweep is taken, one sent for any other scope says NO_CHANGE or less."""
    v, flow = market(seed, shards=1, commands=256, matches=256, reports=1024)
    for _ in range(6):
        for kind, fields in flow.commands(v, 40):
            if kind != Kind.LIQUIDATE:
                v.send(kind, **fields)
        v.work()
        if v.venue["state"] or v.venue["disk_state"]:
            continue
        told = found(v)
        asked = []
        for p in v.arrays["positions"][: v.venue["positions_used"]]:
            if p["account"] < SYSTEM_ACCOUNTS:
                continue
            if p["isolated"]:
                row = int((v.arrays["positions"] == p).argmax())
                asked.append((int(p["account"]), int(p["symbol"]), int(p["position_side"]), row))
            else:
                asked.append((int(p["account"]), 0xFFFF, 0, int(p["wallet"])))
        for scope in dict.fromkeys([*told, *asked]):
            account, symbol, leg, row = scope
            before = len(v.log)
            fields = {"account": account, "symbol": symbol, "position_side": leg}
            now = found(v)
            v.send(Kind.LIQUIDATE, **fields, settle_row=row)
            v.work()
            reason = v.log[before]["reason"]
            assert (reason == 0) == (scope in now), scope


def test_nothing_is_left_after_it_was_proposed() -> None:
    v, flow = market(11, shards=1, commands=256, matches=256, reports=1024)
    for kind, fields in flow.commands(v, 150):
        v.send(kind, **fields)
    v.send(Kind.VENUE_STATE, state=0)
    v.work()
    for _ in range(4):
        propose(v)
        v.work()
    assert found(v) == []


def simple() -> Venue:
    v = Venue().open_market(accounts=3, quanta=2_000, tick_lot_quanta=1)
    fields = {"floor_quanta": 0, "cap_quanta": 1 << 50, "maintenance_ppm": 10_000}
    v.send(Kind.BRACKET, symbol=0, index=0, **fields, bracket_leverage_max=100)
    v.mark(100)
    v.place(BOB, Side.SELL, 100, 100)
    v.place(ANN, Side.BUY, 100, 100)
    v.work()
    return v


def test_marks_and_time_begin_a_sweep() -> None:
    v, scan = simple(), Scan()
    assert scan(v.arrays, 0) == [] and scan.swept == v.limits.accounts - SYSTEM_ACCOUNTS - 13
    assert scan(v.arrays, 1) == [] and scan.swept == 3, "nothing has changed"
    v.mark(81)
    v.work()
    rows = scan(v.arrays, 2)
    assert len(rows) == 1 and rows[0]["account"].tolist() == [ANN]
    assert scan(v.arrays, 3) == []
    assert len(scan(v.arrays, 2 + SECOND)) == 1, "it is said again until it is done"


def test_a_sweep_in_pieces() -> None:
    v, scan = simple(), Scan(most=1)
    v.mark(81)
    v.work()
    rows = [scan(v.arrays, k) for k in range(3)]
    assert [len(part) for part in rows] == [1, 0, 0] and scan.swept == 3


def test_the_fund_is_reminded_of_what_it_holds() -> None:
    v, scan = simple(), Scan()
    v.send(Kind.DEPOSIT, account=INSURANCE_ACCOUNT, asset=0, amount_quanta=20_000)
    v.mark(80)
    v.work()
    for row in scan(v.arrays, 0):
        v.send(Kind.LIQUIDATE, account=int(row["account"][0]), settle_row=ANN * v.limits.assets)
    v.work()
    assert v.position(INSURANCE_ACCOUNT)["lots"] == 100
    assert len(unwinding(v.arrays)) == 1
    rows = scan(v.arrays, SECOND)
    assert [r["account"].tolist() for r in rows] == [[INSURANCE_ACCOUNT]]
    assert scan(v.arrays, SECOND + 1) == []
    v.place(CAT, Side.BUY, 80, 100)
    v.send(Kind.LIQUIDATE, account=INSURANCE_ACCOUNT, settle_row=int(v.limits.assets))
    v.work()
    assert unwinding(v.arrays) == []


@pytest.mark.parametrize("torn", [0, 1, 77, 1 << 30, -2])
def test_torn_links_end_a_walk(torn: int) -> None:
    v = simple()
    v.mark(81)
    v.work()
    v.arrays["positions"]["next_position"][:2] = torn
    at, rows = sweep(v.arrays, 0, v.limits.accounts)
    assert at == v.limits.accounts and len(rows) <= 1
    v.arrays["positions"]["symbol"][:2] = 60_000
    v.arrays["accounts"]["first_position"][ANN] = torn
    sweep(v.arrays, 0, v.limits.accounts)


def test_room_for_few_goes_on_where_it_ended() -> None:
    v = simple()
    v.mark(81)
    v.work()
    few = np.zeros(FOUND_CELLS * (3 * v.limits.symbols + v.limits.assets), np.int64)
    at, rows = sweep(v.arrays, 0, v.limits.accounts, few)
    assert at == ANN + 1 and len(rows[0]) == 1
    at, rows = sweep(v.arrays, at, v.limits.accounts, few)
    assert at == v.limits.accounts and rows == []
