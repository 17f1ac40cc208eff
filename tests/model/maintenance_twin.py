"""Maintenance, liquidation and bankruptcy prices as the reference states them, in fractions.

Slow and obvious: money and prices are Fractions, nothing is rounded but where a docstring says so.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np

from shm import records
from shm.units import BRACKETS_MAX, PPM, PRICE_TICKS_MAX


class Bracket(NamedTuple):
    """Notional from floor to cap, in quanta."""

    floor: int
    cap: int
    ppm: int
    leverage: int


class Rig(NamedTuple):
    """One symbol with brackets, as the kernels take it and as the twin does."""

    symbols: np.ndarray[Any, Any]
    brackets: np.ndarray[Any, Any]
    plain: list[Bracket]


def rig(plain: list[Bracket], amounts: list[int] | None = None, unit: int = 1) -> Rig:
    """Tables with symbol 0; its amounts are the twin's unless given."""
    symbols = np.zeros(1, records.SYMBOL.dtype)
    symbols["tick_lot_quanta"] = unit
    symbols["price_ticks_max"] = PRICE_TICKS_MAX
    symbols["brackets_count"] = len(plain)
    brackets = np.zeros(BRACKETS_MAX, records.BRACKET.dtype)
    for k, b in enumerate(plain):
        amount = amounts[k] if amounts else exact_amounts(plain)[k]
        brackets[k] = (b.floor, b.cap, b.ppm, amount, b.leverage, [0, 0, 0])
    return Rig(symbols, brackets, plain)


def exact_amounts(plain: list[Bracket]) -> list[int]:
    """Amounts that make rounded-up maintenance continuous in whole quanta."""
    amounts = [0]
    for below, b in zip(plain, plain[1:], strict=False):
        above = ceil(Fraction(b.floor * b.ppm, PPM))
        amounts.append(amounts[-1] + above - ceil(Fraction(b.floor * below.ppm, PPM)))
    return amounts


def taxed(plain: list[Bracket], notional: int) -> Fraction:
    """Maintenance by definition: each slice of the notional is charged its own rate."""
    total = Fraction(0)
    for k, b in enumerate(plain):
        top = notional if k + 1 == len(plain) else min(notional, b.cap)
        total += Fraction(max(top - b.floor, 0) * b.ppm, PPM)
    return total


def gap(plain: list[Bracket], longs: int, shorts: int, base: int, price: Fraction) -> Fraction:
    """Equity less maintenance at a price; sizes in quanta per tick, base = wallet - cost."""
    up, down = longs * price, shorts * price
    needed = Fraction(0)
    for notional in (up, down):
        for k, b in enumerate(plain):
            top = notional if k + 1 == len(plain) else min(notional, Fraction(b.cap))
            needed += max(top - b.floor, Fraction(0)) * b.ppm / PPM
    return base + up - down - needed


def gap_at_ticks(plain: list[Bracket], longs: int, shorts: int, base: int, ticks: int) -> int:
    """The same at a whole price, times PPM: exact without fractions, for millions of cases."""
    needed = 0
    for notional in (longs * ticks, shorts * ticks):
        for k, b in enumerate(plain):
            if notional > b.floor:
                top = notional if k + 1 == len(plain) else min(notional, b.cap)
                needed += (top - b.floor) * b.ppm
    return (base + (longs - shorts) * ticks) * PPM - needed


def roots(plain: list[Bracket], longs: int, shorts: int, base: int) -> list[Fraction]:
    """Every price > 0 where the gap is zero, lowest first: between each two kinks it is a line."""
    kinks = {Fraction(0)}
    for size in (longs, shorts):
        kinks |= {Fraction(b.floor, size) for b in plain if size}
    edges = sorted(kinks)
    edges.append(edges[-1] + 1)
    found = set()
    for low, high in zip(edges, edges[1:], strict=False):
        at_low, at_high = (gap(plain, longs, shorts, base, p) for p in (low, high))
        slope = (at_high - at_low) / (high - low)
        if slope != 0:
            root = low - at_low / slope
            last = high == edges[-1]
            if root > 0 and low <= root and (last or root <= high):
                found.add(root)
    return sorted(found)


def liquidation(plain: list[Bracket], longs: int, shorts: int, base: int) -> Fraction | None:
    """The root on the side of the net position; a hedged net long without one, the other side's."""
    found = roots(plain, longs, shorts, base)
    tiny = Fraction(1, 1 << 90)
    rising = [p for p in found if gap(plain, longs, shorts, base, p + tiny) > 0]
    falling = [p for p in found if gap(plain, longs, shorts, base, p + tiny) < 0]
    if longs > shorts and rising:
        return rising[0]
    if longs > shorts and not shorts:
        return None
    return falling[-1] if falling else None


def bankruptcy(size: int, long: bool, value: int, share: int, fee_ppm: int) -> int:
    """In whole ticks, for the account: up for a long, down for a short."""
    fee = Fraction(fee_ppm, PPM)
    if long:
        return ceil((value - share) / (size * (1 - fee)))
    return floor((value + share) / (size * (1 + fee)))
