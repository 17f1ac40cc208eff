"""Notional, holds, margins, maintenance, fees and ids against Python's integers, at every limit.

Cases that hypothesis draws, then some thousand of a seed, a million with --long; half of the
arguments are limits themselves or next to one, where a sum or product that wraps would show. Prices,
rates and payments are in tests/laws/test_price_arithmetic.py, liquidation prices in
tests/unit/test_maintenance.py.
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any

import numpy as np

from engine import proposals
from engine.positions import position_key
from shm import records
from shm.arithmetic import fee_of, initial_margin, product_exceeds
from shm.codes import Kind, PositionSide, Side
from shm.jit import entry_of, kernel
from shm.maintenance import bankruptcy_ticks, cross_health, equity_share, maintenance
from shm.margin import available, order_hold, order_need, position_margin
from shm.pointers import table
from shm.records import NO_SYMBOL
from shm.units import (
    BRACKETS_MAX,
    EXPOSURE_QUANTA_MAX,
    ID_MAX,
    MONEY_QUANTA_MAX,
    NIL,
    NOTIONAL_QUANTA_MAX,
    PPM,
    PRICE_TICKS_MAX,
    PRODUCER_SHIFT,
    PRODUCERS_MAX,
    QTY_LOTS_MAX,
    REQUEST_NUMBER_MAX,
)
from tests.laws.test_price_arithmetic import law, numbers
from tests.model import maintenance_twin as twin
from tests.model.maintenance_twin import Bracket

LEVERAGE_MAX = 1000
POSITIONS = 6
INT64 = 1 << 63


def limited(value: int, limit: int = EXPOSURE_QUANTA_MAX) -> int:
    return min(max(value, -limit), limit)


def unit_and_lots(r: random.Random) -> tuple[int, int]:
    """A symbol's unit, and a quantity it may have."""
    unit = numbers(r, 1, 10**9)
    return unit, numbers(r, 1, min(QTY_LOTS_MAX, NOTIONAL_QUANTA_MAX // unit))


@kernel
def _hold(
    symbols: Any, side: int, price: int, lots: int, leverage: int, fee: int
) -> tuple[int, int]:
    hold, apart = order_hold(symbols[0], side, price, lots, leverage, fee)
    return np.int64(hold), np.int64(apart)


@kernel
def _margin(symbols: Any, positions: Any) -> tuple[int, int]:
    return position_margin(symbols, positions[0])


@kernel
def _needs(
    symbols: Any, positions: Any, side: int, held: int, was_apart: int, hold: int, apart: int
) -> int:
    return order_need(symbols, positions[0], side, held, was_apart, hold, apart)


# ---------------------------------------------------------------- orders


def test_notional_is_bounded_before_it_is_reckoned(long_run: bool) -> None:
    """What risk asks before it multiplies: price * lots * unit above a limit, exactly."""

    @law(11, long_run)
    def _(r: random.Random) -> None:
        a, b = numbers(r, 0, INT64 - 1), numbers(r, 0, INT64 - 1)
        limit = numbers(r, 0, INT64 - 1)
        assert product_exceeds(a, b, limit) == (a * b > limit), (a, b, limit)


def test_fees_and_margins(long_run: bool) -> None:

    @law(12, long_run)
    def _(r: random.Random) -> None:
        notional = numbers(r, 0, EXPOSURE_QUANTA_MAX)
        ppm, leverage = numbers(r, -PPM, PPM), numbers(r, 1, LEVERAGE_MAX)
        assert fee_of(notional, ppm) == ceil(Fraction(notional * ppm, PPM)), (notional, ppm)
        assert initial_margin(notional, leverage) == ceil(Fraction(notional, leverage))


def hold_twin(
    side: int, price: int, mark: int, size: int, leverage: int, ppm: int
) -> tuple[int, int]:
    at = max(price, mark) if side == Side.SELL else price
    notional = limited(at * size)
    loss = max(price - mark if side == Side.BUY else mark - price, 0) if mark else 0
    margin = ceil(Fraction(notional, leverage))
    cost = ceil(Fraction(notional * ppm, PPM)) + limited(loss * size)
    return margin + cost, int(cost > margin)


def test_what_an_order_holds(long_run: bool) -> None:
    symbols = np.zeros(1, records.SYMBOL.dtype)
    hold = entry_of(_hold, table(symbols), 0, 0, 0, 0, 0)

    @law(13, long_run)
    def _(r: random.Random) -> None:
        unit, lots = unit_and_lots(r)
        symbols["tick_lot_quanta"] = unit
        mark = r.choice((0, numbers(r, 1, PRICE_TICKS_MAX)))
        symbols["mark_ticks"] = mark
        price = numbers(r, 1, min(PRICE_TICKS_MAX, NOTIONAL_QUANTA_MAX // (lots * unit)))
        side, leverage = r.choice(list(Side)), numbers(r, 1, LEVERAGE_MAX)
        ppm = numbers(r, 0, PPM)
        got = hold(table(symbols), int(side), price, lots, leverage, ppm)
        wanted = hold_twin(side, price, mark, lots * unit, leverage, ppm)
        assert tuple(map(int, got)) == wanted, (side, price, mark, lots, unit, leverage, ppm)
        assert 0 <= wanted[0] < INT64


# The reference's example: price 9253.30, mark 9259.84, 20 x, one coin; ticks of 0.01, lots of 0.001,
# six decimals. A sell is reckoned at the mark where that is above its price (the venue of the
# example adds 0.15 % to the last price), and what it loses against the mark comes on top.
def test_the_references_order_cost() -> None:
    symbols = np.zeros(1, records.SYMBOL.dtype)
    symbols["tick_lot_quanta"], symbols["mark_ticks"] = 10, 925_984
    buy = _hold(table(symbols), Side.BUY, 925_330, 1000, 20, 0)
    sell = _hold(table(symbols), Side.SELL, 925_330, 1000, 20, 0)
    assert tuple(map(int, buy)) == (462_665_000, 0)
    assert tuple(map(int, sell)) == (462_992_000 + 6_540_000, 0)


# ---------------------------------------------------------------- positions


def some_position(r: random.Random, p: Any, unit: int, most_lots: int) -> None:
    """A row as large as it may be: its cost within an account's exposure."""
    p["lots"] = r.choice((-1, 1)) * numbers(r, 1, most_lots)
    cost = numbers(r, 0, EXPOSURE_QUANTA_MAX)
    p["entry_quanta"] = cost if p["lots"] > 0 else -cost
    p["leverage"] = numbers(r, 1, LEVERAGE_MAX)
    p["isolated"] = r.random() < 0.3
    p["isolated_quanta"] = numbers(r, -MONEY_QUANTA_MAX, MONEY_QUANTA_MAX) if p["isolated"] else 0
    apart, sells, buys = (numbers(r, 0, MONEY_QUANTA_MAX // 4) for _ in range(3))
    p["hold_quanta"] = apart + sells + buys
    p["hold_sell_quanta"], p["hold_apart_quanta"] = sells, apart


def value_twin(p: Any, mark: int, unit: int) -> tuple[int, int]:
    """(notional, unrealised PnL)."""
    if mark == 0:
        return abs(int(p["entry_quanta"])), 0
    value = limited(abs(int(p["lots"])) * unit * mark)
    return value, (value if p["lots"] > 0 else -value) - int(p["entry_quanta"])


def test_the_margin_of_a_position(long_run: bool) -> None:
    symbols = np.zeros(1, records.SYMBOL.dtype)
    positions = np.zeros(1, records.POSITION.dtype)
    margin = entry_of(_margin, table(symbols), table(positions))

    @law(14, long_run)
    def _(r: random.Random) -> None:
        unit, most = unit_and_lots(r)
        mark = r.choice((0, numbers(r, 1, PRICE_TICKS_MAX)))
        symbols["tick_lot_quanta"], symbols["mark_ticks"] = unit, mark
        some_position(r, positions[0], unit, most)
        value, unrealised = value_twin(positions[0], mark, unit)
        wanted = ceil(Fraction(value, int(positions["leverage"][0]))), unrealised
        assert tuple(map(int, margin(table(symbols), table(positions)))) == wanted
        assert abs(unrealised) < INT64


# The reference's example: long 30 @0.385, mark 0.4104759, 20 x: IM 0.61571385, unrealised 0.764277.
# A tick of 1e-7 times a lot of 0.1 is worth one unit of eight decimals.
def test_the_references_position() -> None:
    symbols = np.zeros(1, records.SYMBOL.dtype)
    positions = np.zeros(1, records.POSITION.dtype)
    symbols["tick_lot_quanta"], symbols["mark_ticks"] = 1, 4_104_759
    positions["lots"], positions["entry_quanta"] = 300, 300 * 3_850_000
    positions["leverage"] = 20
    assert tuple(map(int, _margin(table(symbols), table(positions)))) == (61_571_385, 76_427_700)
    rig = twin.rig([Bracket(0, 1 << 60, 6_500, 75)])
    needed = maintenance(table(rig.brackets), table(rig.symbols), 0, 300 * 4_104_759)
    assert int(needed) == 8_004_281  # 0.080042801, rounded up


def needs_twin(p: Any, margin: int) -> int:
    sells, aside = int(p["hold_sell_quanta"]), int(p["hold_apart_quanta"])
    buys = int(p["hold_quanta"]) - sells - aside
    if p["lots"] > 0:
        buys += margin
    else:
        sells += margin
    return max(buys, sells) + aside


def own_margin_twin(p: Any, mark: int, unit: int) -> tuple[int, int]:
    value, unrealised = value_twin(p, mark, unit)
    margin = ceil(Fraction(value, int(p["leverage"])))
    if not p["isolated"]:
        return margin, unrealised
    return max(min(margin, int(p["isolated_quanta"]) + unrealised), 0), 0


def test_what_one_more_order_needs(long_run: bool) -> None:
    symbols = np.zeros(1, records.SYMBOL.dtype)
    positions = np.zeros(1, records.POSITION.dtype)
    needs = entry_of(_needs, table(symbols), table(positions), 0, 0, 0, 0, 0)

    @law(15, long_run)
    def _(r: random.Random) -> None:
        unit, most = unit_and_lots(r)
        mark = numbers(r, 1, PRICE_TICKS_MAX)
        symbols["tick_lot_quanta"], symbols["mark_ticks"] = unit, mark
        p = positions[0]
        some_position(r, p, unit, most)
        side, was_apart, apart = r.choice(list(Side)), r.randrange(2), r.randrange(2)
        sells, aside = int(p["hold_sell_quanta"]), int(p["hold_apart_quanta"])
        buys = int(p["hold_quanta"]) - sells - aside
        there = aside if was_apart else sells if side == Side.SELL else buys
        held, hold = numbers(r, 0, there), numbers(r, 0, MONEY_QUANTA_MAX // 4)
        got = needs(table(symbols), table(positions), int(side), held, was_apart, hold, apart)
        margin, _ = own_margin_twin(p, mark, unit)
        before = needs_twin(p, margin)
        p["hold_quanta"] += hold - held
        if was_apart:
            p["hold_apart_quanta"] -= held
        elif side == Side.SELL:
            p["hold_sell_quanta"] -= held
        if apart:
            p["hold_apart_quanta"] += hold
        elif side == Side.SELL:
            p["hold_sell_quanta"] += hold
        assert int(got) == needs_twin(p, margin) - before


# ---------------------------------------------------------------- sums over an account


class Account:
    """One account with a position in each of several symbols, all of one wallet."""

    def __init__(self) -> None:
        self.accounts = np.zeros(1, records.ACCOUNT.dtype)
        self.wallets = np.zeros(1, records.WALLET.dtype)
        self.symbols = np.zeros(POSITIONS, records.SYMBOL.dtype)
        self.positions = np.zeros(POSITIONS, records.POSITION.dtype)
        self.brackets = np.zeros(POSITIONS * BRACKETS_MAX, records.BRACKET.dtype)
        self.plain = [
            Bracket(0, 10**9, 4_000, 100),
            Bracket(10**9, 10**15, 33_333, 20),
            Bracket(10**15, 1 << 60, 500_000, 1),
        ]
        one = twin.rig(self.plain)
        for k in range(POSITIONS):
            self.symbols[k] = one.symbols[0]
            self.brackets[k * BRACKETS_MAX : (k + 1) * BRACKETS_MAX] = one.brackets
            self.positions[k]["symbol"] = k
            self.positions[k]["next_position"] = k + 1 if k + 1 < POSITIONS else NIL
        self.tables = [table(t) for t in (self.accounts, self.wallets, self.symbols)]
        self.tables.append(table(self.positions))

    def draw(self, r: random.Random) -> None:
        for k in range(POSITIONS):
            unit, most = unit_and_lots(r)
            self.symbols[k]["tick_lot_quanta"] = unit
            self.symbols[k]["mark_ticks"] = r.choice((0, numbers(r, 1, PRICE_TICKS_MAX)))
            some_position(r, self.positions[k], unit, most)
            if r.random() < 0.2:
                for name in ("lots", "entry_quanta"):
                    self.positions[k][name] = 0
        self.wallets["wallet_quanta"] = numbers(r, -2 * EXPOSURE_QUANTA_MAX, EXPOSURE_QUANTA_MAX)
        self.wallets["pending_quanta"] = numbers(r, 0, MONEY_QUANTA_MAX)

    def free(self) -> int:
        w = self.wallets[0]
        return limited(int(w["wallet_quanta"]) - int(w["pending_quanta"]))

    def rows(self) -> Any:
        for k, p in enumerate(self.positions):
            yield p, int(self.symbols[k]["mark_ticks"]), int(self.symbols[k]["tick_lot_quanta"])


def test_what_is_available(long_run: bool) -> None:
    a = Account()
    find = entry_of(available, *a.tables, 0, 0)

    @law(16, long_run)
    def _(r: random.Random) -> None:
        a.draw(r)
        total = a.free()
        for p, mark, unit in a.rows():
            margin, unrealised = own_margin_twin(p, mark, unit) if p["lots"] else (0, 0)
            need = needs_twin(p, margin) - (margin if p["isolated"] else 0)
            assert abs(total + unrealised - need) < INT64
            if p["lots"] or p["hold_quanta"]:
                total = limited(total + unrealised - need)
        assert int(find(*a.tables, 0, 0)) == total


def test_equity_and_maintenance_of_an_account(long_run: bool) -> None:
    a = Account()
    brackets = table(a.brackets)
    find = entry_of(cross_health, *a.tables, brackets, 0, 0, NO_SYMBOL)
    amounts = twin.exact_amounts(a.plain)

    @law(17, long_run)
    def _(r: random.Random) -> None:
        a.draw(r)
        equity, needed, count = a.free(), 0, 0
        for p, mark, unit in a.rows():
            if p["lots"] and not p["isolated"]:
                value, unrealised = value_twin(p, mark, unit)
                k = next((k for k, b in enumerate(a.plain) if value <= b.cap), len(a.plain) - 1)
                kept = ceil(Fraction(value * a.plain[k].ppm, PPM)) - amounts[k]
                equity, needed = limited(equity + unrealised), limited(needed + kept)
                count += 1
        assert tuple(map(int, find(*a.tables, brackets, 0, 0, NO_SYMBOL))) == (
            equity,
            needed,
            count,
        )


def test_shares_and_bankruptcy_prices(long_run: bool) -> None:
    symbols = np.zeros(1, records.SYMBOL.dtype)
    symbols["price_ticks_max"] = PRICE_TICKS_MAX
    find = entry_of(bankruptcy_ticks, table(symbols), 0, 0, 0, 0, 0)

    @law(18, long_run)
    def _(r: random.Random) -> None:
        equity = numbers(r, -EXPOSURE_QUANTA_MAX, EXPOSURE_QUANTA_MAX)
        whole = numbers(r, 1, EXPOSURE_QUANTA_MAX)
        part = numbers(r, 0, whole)
        share = int(_share(equity, part, whole, 1))
        assert share == floor(Fraction(equity * part, whole)), (equity, part, whole)
        unit, lots = unit_and_lots(r)
        symbols["tick_lot_quanta"] = unit
        value, fee = numbers(r, 0, EXPOSURE_QUANTA_MAX), numbers(r, 0, PPM // 2)
        long = r.random() < 0.5
        kept = limited(share, EXPOSURE_QUANTA_MAX // 4)
        left = limited(value - kept if long else value + kept)
        exact = Fraction(left * PPM, PPM - fee if long else PPM + fee)
        if abs(exact) >= INT64 - 2:
            return
        # In whole quanta first, then in whole ticks: both for the account.
        size = lots * unit
        ticks = ceil(Fraction(ceil(exact), size)) if long else floor(Fraction(floor(exact), size))
        got = find(table(symbols), 0, lots if long else -lots, value, kept, fee)
        assert int(got) == min(max(ticks, 1), PRICE_TICKS_MAX), (lots, unit, value, kept, fee)


@kernel
def _share(equity: int, part: int, whole: int, count: int) -> int:
    return equity_share(equity, part, whole, count)


# ---------------------------------------------------------------- ids


def test_ids_are_told_apart_whatever_they_are_packed_into(long_run: bool) -> None:
    """Keys and codes that hold several numbers: neighbours of any number give another one."""

    @law(19, long_run)
    def _(r: random.Random) -> None:
        account, symbol = numbers(r, 0, (1 << 31) - 1), numbers(r, 0, 65_533)
        leg = r.choice(list(PositionSide))
        key = int(position_key(account, symbol, int(leg)))
        assert 0 < key < INT64
        assert (key >> 18, key >> 2 & 0xFFFF, key & 3) == (account + 1, symbol, leg)
        producer = numbers(r, 1, PRODUCERS_MAX - 1)
        number = numbers(r, 1, REQUEST_NUMBER_MAX)
        request = producer << PRODUCER_SHIFT | number
        assert 0 < request < INT64
        assert (request >> PRODUCER_SHIFT, request & REQUEST_NUMBER_MAX) == (producer, number)
        row = numbers(r, 0, (1 << 31) - 1)
        codes = (proposals.ORDER, proposals.ALGO, proposals.WALLET, proposals.DELIST)
        code = r.choice(codes) | row
        assert (code & proposals.KIND_MASK, code & ~proposals.KIND_MASK) == (code - row, row)


def test_kinds_fit_where_they_are_packed() -> None:
    """A kind is six bits of REFUSED's and PARAMETERS' words; ids are whole in a float's 53."""
    assert max(Kind) < 64 and len(set(Kind)) == len(Kind)
    codes = [getattr(proposals, k.upper()) for k in ("order", "account", "symbol", "algo")]
    codes += [proposals.POSITION, proposals.FUNDING, proposals.WALLET, proposals.ISOLATED]
    codes.append(proposals.DELIST)
    assert all(a < b for a, b in pairwise(codes)) and max(codes) <= proposals.KIND_MASK
    assert float(ID_MAX) == ID_MAX and float(ID_MAX + 1) == float(ID_MAX + 2)
