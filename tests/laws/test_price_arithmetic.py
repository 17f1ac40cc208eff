"""Prices, rates and payments against Python's integers, at the limits of every argument.

Cases that hypothesis draws (and shrinks, where one fails), then twenty thousand of a seed, a million
with --long; half of the arguments are limits themselves or next to one, where a product that wraps
would show.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from engine.funding import amount_of, next_time, rate_of, side_premium
from engine.index import median_mark
from shm.arithmetic import muldiv_cut, muldiv_nearest, muldiv_rest
from shm.units import (
    EXPOSURE_QUANTA_MAX,
    FUNDING_NS_MAX,
    FUNDING_NS_MIN,
    NOTIONAL_QUANTA_MAX,
    PPB,
    PRICE_TICKS_MAX,
    QTY_LOTS_MAX,
    RATE_PPB_MAX,
)
from tests.model.prices_twin import mark_twin, nearest, payment_twin, rate_twin

CASES = 1_000 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 20_000
LONG = 1_000_000


def numbers(r: random.Random, least: int, most: int) -> int:
    """Anything from `least` to `most`; every other time something near a limit, 0, or small."""
    if r.random() < 0.5:
        near = r.choice((least, most, max(least, 0), (least + most) // 2))
        return min(max(near + r.randint(-3, 3), least), most)
    if r.random() < 0.3:  # of any magnitude
        size = r.randint(0, max(abs(least), abs(most)).bit_length())
        return min(max(r.choice((-1, 1)) * r.getrandbits(size) if size else 0, least), most)
    return r.randint(least, most)


def law(seed: int, long_run: bool) -> Callable[[Callable[[random.Random], None]], None]:
    """Run a law at once: on what hypothesis draws and shrinks, then on the many of a seed."""

    def run(one: Callable[[random.Random], None]) -> None:
        given(st.randoms(use_true_random=False))(one)()
        r = random.Random(seed)
        for _ in range(LONG if long_run else CASES):
            one(r)

    return run


INT64 = (1 << 63) - 1


def test_products_through_128_bits(long_run: bool) -> None:

    @law(1, long_run)
    def _(r: random.Random) -> None:
        a, b = numbers(r, -INT64, INT64), numbers(r, -INT64, INT64)
        c = numbers(r, 1, INT64)
        exact = Fraction(a * b, c)
        if abs(exact) < INT64 - 1:
            assert muldiv_nearest(a, b, c) == nearest(exact), (a, b, c)
            assert muldiv_cut(a, b, c) == (floor(exact) if exact >= 0 else ceil(exact)), (a, b, c)
            assert muldiv_rest(a, b, c) == a * b - floor(exact) * c, (a, b, c)


def test_payments(long_run: bool) -> None:
    """Whatever the position: clamped at the largest exposure, rounded against who gets or pays."""

    @law(2, long_run)
    def _(r: random.Random) -> None:
        unit = numbers(r, 1, NOTIONAL_QUANTA_MAX)
        lots = numbers(r, -(NOTIONAL_QUANTA_MAX // unit), NOTIONAL_QUANTA_MAX // unit)
        mark, rate = numbers(r, 1, PRICE_TICKS_MAX), numbers(r, -RATE_PPB_MAX, RATE_PPB_MAX)
        got = amount_of(lots, mark, unit, rate)
        if abs(lots) * unit * mark <= EXPOSURE_QUANTA_MAX:
            assert got == payment_twin(lots, mark, unit, rate), (lots, mark, unit, rate)
        else:
            assert abs(got) == ceil(Fraction(EXPOSURE_QUANTA_MAX * abs(rate), PPB)) or abs(
                got
            ) == floor(Fraction(EXPOSURE_QUANTA_MAX * abs(rate), PPB))
        assert got + amount_of(-lots, mark, unit, rate) in (0, -1)  # dust, never a gift


def test_rates(long_run: bool) -> None:

    @law(3, long_run)
    def _(r: random.Random) -> None:
        premium, interest, one, other = (numbers(r, -RATE_PPB_MAX, RATE_PPB_MAX) for _ in range(4))
        clamp = numbers(r, 0, RATE_PPB_MAX)
        interval = numbers(r, FUNDING_NS_MIN, FUNDING_NS_MAX)
        terms = (premium, interest, clamp, interval, min(one, other), max(one, other))
        assert rate_of(*terms) == rate_twin(*terms), terms


def test_marks(long_run: bool) -> None:

    @law(4, long_run)
    def _(r: random.Random) -> None:
        count = r.randint(0, 30)
        index = numbers(r, 1, PRICE_TICKS_MAX)
        most = 2 * PRICE_TICKS_MAX * count
        terms = (
            index,
            numbers(r, -RATE_PPB_MAX, RATE_PPB_MAX),
            numbers(r, -(1 << 62), 1 << 62),
            r.choice((0, numbers(r, FUNDING_NS_MIN, FUNDING_NS_MAX))),
            numbers(r, -most, most),
            count,
            numbers(r, 0, PRICE_TICKS_MAX),
            numbers(r, 0, 10_000_000),
        )
        assert median_mark(*terms) == mark_twin(*terms), terms


def test_premiums(long_run: bool) -> None:
    """Impact prices as matching makes them: lots * p + left, with S >= lots * p for bids."""

    @law(5, long_run)
    def _(r: random.Random) -> None:
        price, index = numbers(r, 1, PRICE_TICKS_MAX), numbers(r, 1, PRICE_TICKS_MAX)
        left = numbers(r, 1, NOTIONAL_QUANTA_MAX)
        lots = numbers(r, 0, min(QTY_LOTS_MAX, NOTIONAL_QUANTA_MAX // price))
        full = numbers(
            r, lots, NOTIONAL_QUANTA_MAX
        )  # what the full levels were worth, at 1 or more
        notional = min(full + left, NOTIONAL_QUANTA_MAX)
        divisor = lots * price + left
        impact = Fraction(notional * price, divisor)
        if not 1 <= impact <= PRICE_TICKS_MAX:
            return
        for bid in (True, False):
            away = max(Fraction(0), impact - index if bid else index - impact)
            want = min(floor(away * PPB / index), PPB)
            got = side_premium(notional, price, divisor, index, bid)
            assert got == want, (notional, price, divisor, index, bid)


def test_funding_times(long_run: bool) -> None:

    @law(6, long_run)
    def _(r: random.Random) -> None:
        first, now = numbers(r, 0, 1 << 62), numbers(r, 0, 1 << 62)
        interval = numbers(r, FUNDING_NS_MIN, FUNDING_NS_MAX)
        at = next_time(first, interval, now)
        assert now < at <= now + interval and (at - first) % interval == 0
