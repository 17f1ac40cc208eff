"""Claims of one position: what a fill takes from which, and the list of those who claim."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import claims
from shm.codes import Flag, Reason, Side
from shm.units import NIL
from tests.venue import ANN, BOB, CAT, LIMITS, Venue, check_laws

# An order of some lots, the first column of which claims position; a fill, of which so many lots
# close. What is left of both kinds, and of a hold of 1000.
CONSUME = """
    close open  hold | fill closing | close open  hold
      0    10   1000 |   4     0    |   0     6    600
      0    10   1000 |  10     0    |   0     0      0
     10     0      0 |   4     4    |   6     0      0
     10     0      0 |  10    10    |   0     0      0
      4     6    600 |   4     4    |   0     6    600    the closing part leaves the hold alone
      4     6    600 |   7     4    |   0     3    300
      4     6    600 |   7     7    |   0     3    300    stolen: it closes more than it claimed
      4     6    600 |   3     0    |   4     3    300    robbed: it opens, its claim is for others
      4     6    600 |   8     0    |   2     0      0    and gives way when nothing else is left
      0     3   1000 |   1     0    |   0     2    666    rounded down, never more than was held
      0     3   1000 |   1     1    |   0     2    666
      0     7    100 |   3     0    |   0     4     57
"""


@pytest.mark.parametrize("line", CONSUME.strip().splitlines()[1:])
def test_a_fill_takes_what_is_really_there(line: str) -> None:
    before, fill, after = (tuple(map(int, part.split()[:3])) for part in line.split("|"))
    close, opens, hold = before
    v, slot = one_order(close, opens, hold)
    claims.consume(v.engine.risk, slot, *fill)
    c, p, w = v.arrays["claims"][slot], v.position(ANN), v.wallet(ANN)
    assert (c["close_lots"], c["open_lots"] - c["close_lots"], c["hold_quanta"]) == after
    assert (p["close_lots"], p["hold_quanta"], w["held_quanta"]) == (after[0], after[2], after[2])
    assert p["order_lots"] == after[0] + after[1]
    assert (p["first_closer"] == slot) == (after[0] > 0)


def one_order(close: int, opens: int, hold: int) -> tuple[Venue, int]:
    """A venue where Ann has one order, with these claims."""
    v = Venue(LIMITS._replace(orders=8, leaves=32, trie=64)).open_market()
    if close:
        v.place(ANN, Side.BUY, 100, close)
        v.place(BOB, Side.SELL, 100, close)
        v.work()
    v.place(ANN, Side.SELL, 110, close + opens)
    v.work()
    r = v.engine.risk
    slot = next(c["slot"] for c in v.live_claims())
    assert v.arrays["claims"][slot]["close_lots"] == close
    c = r.claims[slot]
    p = r.positions[c["position"]]
    claims.change_hold(c, p, r.wallets[p["wallet"]], hold)
    return v, slot


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 10**6), st.data())
def test_a_fill_never_takes_more_than_there_is(
    close: int, opens: int, hold: int, data: st.DataObject
) -> None:
    if close + opens == 0:
        return
    hold = hold if opens else 0
    v, slot = one_order(close, opens, hold)
    left = close + opens
    while left:
        lots = data.draw(st.integers(1, left))
        closing = data.draw(st.integers(0, lots))
        before = int(v.arrays["claims"][slot]["hold_quanta"])
        claims.consume(v.engine.risk, slot, lots, closing)
        left -= lots
        c = v.arrays["claims"][slot]
        assert c["open_lots"] == left and 0 <= c["close_lots"] <= left
        assert 0 <= c["hold_quanta"] <= before
        assert c["hold_quanta"] == 0 or c["close_lots"] < left
    assert v.position(ANN)["hold_quanta"] == v.position(ANN)["close_lots"] == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_closers_stand_in_the_order_of_their_claims(steps: list[tuple[int, int]]) -> None:
    v = Venue(LIMITS._replace(orders=8, leaves=32, trie=64)).open_market()
    v.place(ANN, Side.BUY, 100, 100)
    v.place(BOB, Side.SELL, 100, 100)
    v.work()
    for k in range(6):
        v.place(ANN, Side.BUY, 10 + k, 3)
    v.work()
    slots = sorted(c["slot"] for c in v.live_claims())
    r, rows = v.engine.risk, v.arrays["claims"]
    model: list[int] = []
    for k, lots in steps:
        slot = slots[k]
        if lots and slot not in model:
            model.append(slot)
        if not lots and slot in model:
            model.remove(slot)
        claims.change_close(r, slot, lots)
        p = v.position(ANN)
        forward, at = [], p["first_closer"]
        while at != NIL:
            forward.append(at)
            at = int(rows[at]["next_closer"])
        assert forward == model
        assert [int(rows[s]["prev_closer"]) for s in model] == [NIL, *model][: len(model)]
        assert p["last_closer"] == (model[-1] if model else NIL)
        assert p["close_lots"] == rows["close_lots"][slots].sum()


CLOSABLE = """
    position  plain  reduce-only | side  kind         | may claim
      10        0       0        | SELL  plain        | 10
      10        0       0        | SELL  reduce-only  | 10
      10        0       0        | BUY   plain        | 0
     -10        0       0        | BUY   plain        | 10
     -10        0       0        | SELL  reduce-only  | 0
      10        4       0        | SELL  plain        | 6
      10        4       0        | SELL  reduce-only  | 10
      10        4       3        | SELL  plain        | 3
      10        4       3        | SELL  reduce-only  | 7
      10        4       6        | SELL  plain        | 0
       0        0       0        | SELL  plain        | 0
"""


@pytest.mark.parametrize("line", CLOSABLE.strip().splitlines()[1:])
def test_what_a_new_claim_may_take(line: str) -> None:
    left, middle, right = line.split("|")
    lots, plain, reduce_only = map(int, left.split())
    side, kind = middle.split()
    v = Venue(LIMITS._replace(orders=8, leaves=32, trie=64)).open_market()
    buyer, seller = (ANN, BOB) if lots > 0 else (BOB, ANN)
    if lots:
        v.place(buyer, Side.BUY, 100, abs(lots))
        v.place(seller, Side.SELL, 100, abs(lots))
        v.work()
    closing = Side.SELL if lots > 0 else Side.BUY
    price = 110 if lots > 0 else 90
    for qty, flags in ((plain, 0), (reduce_only, Flag.REDUCE_ONLY)):
        if qty:
            v.place(ANN, closing, price, qty, flags=flags)
            v.work()
    if not v.venue["positions_used"]:
        return
    row = int(np.flatnonzero(v.arrays["positions"]["account"] == ANN)[0])
    got = claims.closable(v.engine.risk, row, int(Side[side]), kind == "reduce-only")
    assert got == int(right)


def test_a_row_waits_for_what_is_in_flight() -> None:
    """An order that ended keeps its row until every command about it is settled; then it is the
    next one's."""
    v = Venue(LIMITS._replace(orders=2, leaves=32, trie=64)).open_market()
    v.place(ANN, Side.BUY, 100, 5, client_id="a")
    v.work()
    v.heard()
    v.place(BOB, Side.SELL, 100, 5)  # fills it
    for _ in range(3):
        v.send(1 + 1, account=ANN, symbol=0, client_id="a")  # CANCEL, in flight behind the fill
    v.place(CAT, Side.BUY, 90, 1)  # no row is free yet
    told = [r for r in v.drain() if r["kind"] == "ORDER"]
    assert [r["reason"] for r in told] == ["NONE", *["UNKNOWN_ORDER"] * 3, "CAPACITY"]
    for _ in range(2):
        v.place(CAT, Side.BUY, 90, 1)
    told = [r for r in v.drain() if r["kind"] == "ORDER"]
    assert [r["reason"] for r in told] == ["NONE", "NONE"]
    assert v.venue["claims_used"] == 2
    check_laws(v)


def test_rows_are_used_again() -> None:
    """Orders that were filled as makers, cancelled with many, or ended at once leave no row behind."""
    v = Venue(LIMITS._replace(orders=12, leaves=32, trie=64)).open_market()
    for lap in range(20):
        for k in range(5):
            v.place(ANN, Side.BUY, 100 - k, 1)
        v.work()
        v.place(BOB, Side.SELL, 98, 3)
        v.place(BOB, Side.SELL, 90, 1, tif=1 + lap % 3)
        v.send(5, account=ANN)  # CANCEL_ALL
        v.work()
        check_laws(v)
    assert v.venue["claims_used"] <= 12


def test_trimmed_orders_say_why() -> None:
    """REDUCE_ONLY for what can only close, FLIP for what found no margin."""
    v = Venue().open_market(quanta=100, tick_lot_quanta=1)
    v.place(ANN, Side.BUY, 100, 10)
    v.place(BOB, Side.SELL, 100, 10)
    v.work()
    v.place(ANN, Side.SELL, 120, 4, flags=Flag.REDUCE_ONLY)
    v.place(ANN, Side.SELL, 110, 6)
    v.place(CAT, Side.BUY, 90, 10)
    v.work()
    assert v.position(ANN)["close_lots"] == 10
    v.heard()
    v.place(ANN, Side.SELL, 90, 10, flags=Flag.REDUCE_ONLY)
    reports = v.drain()
    ended = [r["reason"] for r in reports if r["kind"] == "ORDER" and r["status"] == "EXPIRED"]
    assert ended == [Reason.FLIP.name]
    assert all(a["seq"] <= b["seq"] for a, b in pairwise(reports))
    check_laws(v)
