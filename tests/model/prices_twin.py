"""Index, mark, premium and funding in fractions: what engine/index.py and engine/funding.py say."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

PPM = 10**6
PPB = 10**9


def nearest(x: Fraction) -> int:
    """To the nearest integer, half up."""
    return floor(x + Fraction(1, 2))


def cut(x: Fraction) -> int:
    """Toward zero."""
    return floor(x) if x >= 0 else ceil(x)


def index_twin(rows: Any, clamp_ppm: int, base: int) -> int:
    """The index of sources that are all live."""
    sources = sorted((int(s["price_ticks"]), int(s["weight"])) for s in rows if s["weight"])
    total = sum(weight for _, weight in sources)
    below, low, high = 0, 0, 0
    for price in sorted({price for price, _ in sources}):
        below += sum(weight for p, weight in sources if p == price)
        low = low or (price if Fraction(below, total) >= Fraction(1, 2) else 0)
        high = high or (price if Fraction(below, total) > Fraction(1, 2) else 0)
    if low == high:
        median = low
    elif base == 0:
        median = nearest(Fraction(low + high, 2))
    else:
        median = min((low, high), key=lambda price: abs(price - base))
    reach = floor(Fraction(median * clamp_ppm, PPM))
    kept = [(min(max(p, median - reach), median + reach), weight) for p, weight in sources]
    return nearest(Fraction(sum(p * weight for p, weight in kept), total))


def mark_twin(
    index: int,
    rate_ppb: int,
    left_ns: int,
    interval_ns: int,
    basis_sum: int,
    basis_count: int,
    last: int,
    band_ppm: int,
) -> int:
    p1 = Fraction(index)
    if interval_ns:
        left = Fraction(min(max(left_ns, 0), interval_ns), interval_ns)
        share = Fraction(floor(rate_ppb * PPB * left), PPB * PPB)  # kept at 1e-18, as declared
        p1 = index * (1 + share)
    p2 = Fraction(index)
    if basis_count:
        p2 = index + Fraction(basis_sum, 2 * basis_count)
    mark = nearest(sorted((p1, p2, Fraction(last or index)))[1])
    if band_ppm:
        reach = floor(Fraction(index * band_ppm, PPM))
        mark = min(max(mark, index - reach), index + reach)
    return max(mark, 1)


def impact_twin(levels: list[tuple[int, int]], notional: int) -> Fraction | None:
    """Average price of trading `notional` into (price, lots) levels, the best first."""
    left, lots = Fraction(notional), Fraction(0)
    if notional <= 0:
        return None
    for price, here in levels:
        if price * here >= left:
            return notional / (lots + left / price)
        left -= price * here
        lots += here
    return None


def premium_twin(bid: Fraction, ask: Fraction, index: int) -> int:
    """One sample in ppb."""
    up = min(cut(max(Fraction(0), bid - index) * PPB / index), PPB)
    down = min(cut(max(Fraction(0), index - ask) * PPB / index), PPB)
    return up - down


def rate_twin(
    premium: int, interest: int, clamp: int, interval_ns: int, floor_ppb: int, cap_ppb: int
) -> int:
    eight_hours = 8 * 3600 * PPB
    rate = premium + min(max(interest - premium, -clamp), clamp)
    whole = cut(Fraction(rate * interval_ns, eight_hours))
    return min(max(whole, floor_ppb), cap_ppb)


def payment_twin(lots: int, mark: int, unit: int, rate_ppb: int) -> int:
    """What a position receives: down; what it pays is rounded up, which is down as well."""
    return floor(-Fraction(lots * mark * unit * rate_ppb, PPB))
