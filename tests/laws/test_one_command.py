"""One command fills, cancels, robs or trims a hundred thousand orders, through rings of 64 slots.

Matching pauses when its ring is full and settlement when the reports ring is, in the middle of the
command, again and again, in order and in any order; nothing is lost and nobody waits for ever.
"""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from shm.codes import Flag, Kind, Side
from shm.records import COMMAND
from shm.units import NIL
from tests.venue import ANN, BOB, CAT, LIMITS, Venue, check_laws

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
CHECKED = os.environ.get("PERPCORE_BOUNDSCHECK") == "1"
LARGE = 300 if PLAIN else 4_000 if CHECKED else 100_000


def _crowd(v: Venue, count: int, side: int, accounts: int = 10) -> None:
    """`count` resting orders of one lot, over several accounts and 50 prices."""
    rows = np.zeros(count, COMMAND.dtype)
    at = np.arange(count)
    rows["kind"] = Kind.PLACE
    rows["account"] = ANN + at % accounts
    rows["side"] = side
    rows["price_ticks"] = 1000 + at % 50
    rows["qty_lots"] = 1
    rows["lines"] = 1
    v.send_rows(rows)
    v.work()


def _large(count: int) -> Venue:
    limits = LIMITS._replace(orders=count + 8, clients=8)
    v = Venue(limits, shards=2, commands=64, matches=64, reports=64, ingress_slots=256)
    v.open_market(accounts=12, symbols=2, quanta=10**14, orders_max=count + 8, qty_lots_max=count)
    return v


def _shuffled(v: Venue, seed: int | None) -> None:
    """From now on the stages run in this order, and nobody remembers what was reported."""
    v.seed, v.random = seed, random.Random(seed)
    v.reports.clear()


@pytest.mark.parametrize("seed", [None, 5])
def test_one_command_fills_a_hundred_thousand_orders(seed: int | None) -> None:
    """Rings of 64 slots: matching and settlement pause in its middle and go on, again and again."""
    count = LARGE
    v = _large(count)
    _crowd(v, count, Side.SELL)
    check_laws(v)
    v.place(ANN + 11, Side.BUY, 2000, count)
    _shuffled(v, seed)
    v.work()
    assert v.position(ANN + 11)["lots"] == count
    assert v.book() == [] and v.venue["live_orders"] == 0
    assert len(v.all_reports()) == 2 + 6 * count  # HOLD once; MARGIN after each POSITION
    check_laws(v)


@pytest.mark.parametrize("seed", [None, 6])
@pytest.mark.parametrize("what", ["symbol", "account", "kill switch"])
def test_one_command_cancels_a_hundred_thousand_orders(what: str, seed: int | None) -> None:
    count = LARGE
    v = _large(count)
    _crowd(v, count, Side.BUY, accounts=10 if what == "symbol" else 1)
    if what == "symbol":
        v.send(Kind.CANCEL_SYMBOL, symbol=0)
    elif what == "account":
        v.send(Kind.CANCEL_ALL, account=ANN)
    else:
        v.send(Kind.ACCOUNT, account=ANN, state=2, cancel=1)
    _shuffled(v, seed)
    v.work()
    assert v.book() == [] and v.venue["live_orders"] == 0
    ended = v.all_reports()
    assert (ended["kind"] == 1).sum() == count
    check_laws(v)


def test_one_fill_robs_a_hundred_thousand_claims() -> None:
    """And the flips pause too, when there is no room to report them."""
    count = LARGE
    v = _large(count)
    v.place(ANN, Side.BUY, 1000, count)
    v.place(BOB, Side.SELL, 1000, count)
    v.place(CAT, Side.BUY, 900, count)
    v.work()
    _crowd(v, count, Side.SELL, accounts=1)
    assert v.position(ANN)["close_lots"] == count
    v.place(ANN, Side.SELL, 900, count)
    _shuffled(v, 9)
    v.work()
    flips = v.all_reports()
    flips = flips[flips["kind"] == 8]
    assert len(flips) == count
    p = v.position(ANN)
    assert p["lots"] == p["close_lots"] == 0 and p["first_closer"] == NIL
    check_laws(v)


def test_a_crowd_of_reduce_only_orders_is_trimmed() -> None:
    """Every one of them is trimmed away by one fill, and proposed, and ended."""
    count = LARGE
    v = _large(count)
    v.place(ANN, Side.BUY, 1000, count)
    v.place(BOB, Side.SELL, 1000, count)
    v.place(CAT, Side.BUY, 900, count)
    v.work()
    rows = np.zeros(count, COMMAND.dtype)
    rows["kind"], rows["account"], rows["side"] = Kind.PLACE, ANN, Side.SELL
    rows["price_ticks"], rows["qty_lots"], rows["lines"] = 1100, 1, 1
    rows["flags"] = Flag.REDUCE_ONLY
    v.send_rows(rows)
    v.work()
    assert v.position(ANN)["reduce_only_lots"] == count
    v.place(ANN, Side.SELL, 900, count)
    _shuffled(v, 10)
    v.work()
    assert v.book() == []
    check_laws(v)
