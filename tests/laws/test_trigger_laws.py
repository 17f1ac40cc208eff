"""Whatever waits and however prices move: what is found in heaps is what a look at all of it finds."""

from __future__ import annotations

import os
import random

import pytest

from engine.proposals import ALGO, FIRST, KIND_MASK, PUT, TAKEN
from engine.triggers import on_price
from shm.codes import AlgoType, Flag, Kind, Side, Working
from shm.units import PRICE_TICKS_MAX
from tests.model.trigger_twin import Twin, Waiting
from tests.venue import ANN, BOB, CAT, DAN, LIMITS, Venue
from tools.laws import check_laws

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
STEPS = 250 if PLAIN else 1500
SEEDS = range(3 if PLAIN else 12)
WIDE = LIMITS._replace(algos=1024, leaves=64, trie=128)


class Rig:
    """One symbol, and prices out of the air: orders that are reached find no book to trade in."""

    def __init__(self, seed: int, centre: int, spread: int) -> None:
        self.random = random.Random(seed)
        self.v = Venue(WIDE).open_market(price_ticks_max=PRICE_TICKS_MAX)
        self.centre, self.spread = centre, spread
        self.contract = self.v.arrays["contracts"][0]
        self.contract["algos_max"] = 1000
        self.contract["protect_ppm"] = self.random.choice((0, 300, 2000, 50_000))
        self.twin = Twin(int(self.contract["protect_ppm"]))
        self.reached = 0

    def near(self) -> int:
        walk = self.random.choice((1, 3, 3, 12)) * self.spread
        return max(1, min(self.centre + self.random.randint(-walk, walk), PRICE_TICKS_MAX))

    def place(self) -> None:
        r, v = self.random, self.v
        type_ = r.choice([*AlgoType, AlgoType.TRAILING_STOP_MARKET])
        trailing = type_ == AlgoType.TRAILING_STOP_MARKET
        w = Waiting(0, type_, r.choice(list(Side)), r.randrange(2), r.random() < 0.4)
        w.callback = r.choice((1000, 1000, 2000, 5000, 100_000)) if trailing else 0
        if not trailing:
            w.trigger = self.near()
        elif r.random() < 0.6:
            w.activate = self.near()
        limit = type_ in (AlgoType.STOP, AlgoType.TAKE_PROFIT)
        told = v.do(
            Kind.PLACE_ALGO,
            account=r.choice((ANN, BOB, CAT, DAN)),
            symbol=0,
            type=type_,
            side=w.side,
            qty_lots=1,
            price_ticks=1 if limit else 0,
            trigger_ticks=w.trigger,
            activate_ticks=w.activate,
            terms=w.callback | w.working << 32 | w.protect << 40,
            flags=Flag.REDUCE_ONLY,  # of nothing: refused when it is reached, so nothing trades
        )
        if told[0]["reason"] == "NONE":
            w.id = told[0]["value"]
            self.twin.add(w)
        else:
            now = self.twin.prices[Working(w.working)]
            reached = now and (w.activate or w.trigger) and w.past(now) >= 0
            assert reached if told[0]["reason"] == "IMMEDIATE_TRIGGER" else not now

    def cancel(self) -> None:
        if self.twin.waiting:
            gone = self.random.choice(self.twin.waiting)
            row = self.v.arrays["algos"][self.v.arrays["algos"]["algo_id"] == gone.id][0]
            self.v.do(Kind.CANCEL_ALGO, account=int(row["account"]), order_id=gone.id)
            self.twin.waiting.remove(gone)

    def price(self) -> None:
        """Move a price; compare what it reaches, in order, and at what."""
        v = self.v
        working, ticks = self.random.choice(list(Working)), self.near()
        queue, algos = v.arrays["proposals"], v.arrays["algos"]
        symbol = v.arrays["symbols"][0]
        symbol["last_ticks" if working == Working.LAST else "mark_ticks"] = ticks
        assert queue[TAKEN] == queue[PUT]
        on_price(v.engine.risk, v.engine.setup, 0, int(working), ticks)
        slots = [(k & (len(queue) - FIRST - 1)) for k in range(queue[TAKEN], queue[PUT])]
        codes = [int(queue[FIRST + k]) for k in slots]
        assert all(code & KIND_MASK == ALGO for code in codes)
        rows = [code & ~KIND_MASK for code in codes]
        got = [(int(algos[row]["algo_id"]), int(algos[row]["trigger_ticks"])) for row in rows]
        assert got == self.twin.price(working, ticks)
        self.reached += len(got)
        v.drain()


@pytest.mark.parametrize("seed", SEEDS)
def test_heaps_find_what_a_look_at_all_finds(seed: int) -> None:
    centre, spread = ((1000, 5), (100_000, 300), (3, 2), (PRICE_TICKS_MAX // 2, 1 << 30))[seed % 4]
    rig = Rig(seed, centre, spread)
    for step in range(STEPS):
        pick = rig.random.random()
        if pick < 0.45:
            rig.place()
        elif pick < 0.55:
            rig.cancel()
        else:
            if rig.random.random() < 0.1:  # a new level, up or down
                rig.centre = max(1, rig.centre + rig.random.randint(-4, 4) * rig.spread)
            rig.price()
        if step % 25 == 0:
            check_laws(rig.v)
    check_laws(rig.v)
    assert rig.reached > STEPS // 10
    rig.v.do(Kind.CANCEL_SYMBOL, symbol=0)
    assert not rig.v.arrays["algos"]["algo_id"].any()
    check_laws(rig.v)


def test_a_long_trend_gathers_each_group_once() -> None:
    """Trailing stops begun at ever higher prices: one fall brings all that are left together."""
    v = Venue(WIDE).open_market()
    v.arrays["contracts"][0]["algos_max"] = 1000
    many = 100 if PLAIN else 900
    for k in range(many):
        v.mark(10_000 + k)
        v.send(
            Kind.PLACE_ALGO,
            account=ANN,
            symbol=0,
            type=AlgoType.TRAILING_STOP_MARKET,
            side=Side.BUY,
            qty_lots=1,
            terms=100_000 | 1 << 32,
        )
    v.drain()
    check_laws(v)
    extremes = v.arrays["algos"]["extreme_ticks"][:many]
    assert sorted(extremes.tolist()) == list(range(10_000, 10_000 + many))
    v.mark(9_999)
    v.drain()
    check_laws(v)
    v.mark(10_998)
    v.drain()
    assert v.arrays["symbols"][0]["algo_count"] == many
    v.mark(10_999)
    told = v.drain()
    assert sum(r["kind"] == "ALGO" for r in told) == many
    check_laws(v)
