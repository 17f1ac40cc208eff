"""Maintenance, liquidation and bankruptcy prices: published tables, then laws against fractions."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import records
from shm.jit import entry_of, kernel
from shm.maintenance import (
    bankruptcy_ticks,
    bracket_amount,
    bracket_of,
    cross_health,
    cross_liquidation_ticks,
    equity_share,
    isolated_health,
    isolated_liquidation_ticks,
    liquidation_ticks,
    maintenance,
    notional_allowed,
)
from shm.pointers import table
from shm.records import NO_SYMBOL
from shm.units import BRACKETS_MAX, EXPOSURE_QUANTA_MAX, NIL, PPM, PRICE_TICKS_MAX
from tests.model import maintenance_twin as twin
from tests.model.maintenance_twin import Bracket, Rig, rig

USDT = 10**6  # quanta
# BTCUSDT as published: cap, floor, mmr, largest leverage, amount.
BTCUSDT = """
       50 000 |           0 |  0.40 | 125 |          0
      600 000 |      50 000 |  0.50 | 100 |         50
    3 000 000 |     600 000 |  0.65 |  75 |        950
   12 000 000 |   3 000 000 |  1.00 |  50 |     11 450
   70 000 000 |  12 000 000 |  2.00 |  25 |    131 450
  100 000 000 |  70 000 000 |  2.50 |  20 |    481 450
  230 000 000 | 100 000 000 |  5.00 |  10 |  2 981 450
"""


def read_brackets(text: str) -> tuple[list[Bracket], list[int]]:
    """Brackets and published amounts, in quanta."""
    plain, amounts = [], []
    for line in text.strip().splitlines():
        cap, floor, mmr, leverage, amount = (c.replace(" ", "") for c in line.split("|"))
        ppm = int(Decimal(mmr) * 10_000)
        plain.append(Bracket(int(floor) * USDT, int(cap) * USDT, ppm, int(leverage)))
        amounts.append(int(amount) * USDT)
    return plain, amounts


BTC, BTC_AMOUNTS = read_brackets(BTCUSDT)


def published(path: Path) -> dict[str, list[dict[str, Any]]]:
    text = (path / "brackets" / "binance_leverage_brackets_10.json").read_text()
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found


def from_published(rows: list[dict[str, Any]]) -> tuple[list[Bracket], list[int]]:
    plain = []
    for row in rows:
        info = row["info"]
        plain.append(
            Bracket(
                int(Decimal(info["notionalFloor"]) * USDT),
                int(Decimal(info["notionalCap"]) * USDT),
                int(Decimal(info["maintMarginRatio"]) * PPM),
                int(info["initialLeverage"]),
            )
        )
    return plain, [int(Decimal(row["info"]["cum"]) * USDT) for row in rows]


# ---------------------------------------------------------------- brackets


def test_amounts_are_the_published_ones(recorded: Path) -> None:
    for name, rows in published(recorded).items():
        plain, amounts = from_published(rows)
        found = [0]
        for below, b in zip(plain, plain[1:], strict=False):
            found.append(bracket_amount(b.floor, b.ppm, below.ppm, found[-1]))
        assert found == amounts, name


def test_maintenance_is_continuous_at_every_edge(recorded: Path) -> None:
    for name, rows in published(recorded).items():
        venue = rig(from_published(rows)[0])
        symbols, brackets = table(venue.symbols), table(venue.brackets)
        for k, b in enumerate(venue.plain[1:], 1):
            below, row = venue.brackets[k - 1], venue.brackets[k]
            by_below = b.floor * int(below["maintenance_ppm"]) // PPM - int(below["amount_quanta"])
            by_this = b.floor * int(row["maintenance_ppm"]) // PPM - int(row["amount_quanta"])
            assert by_below == by_this == maintenance(brackets, symbols, 0, b.floor), name
            step = maintenance(brackets, symbols, 0, b.floor + 1) - by_this
            assert 0 <= step <= 1


MAINTENANCE = """
  notional | maintenance | bracket
         0 |           0 |  0
    10 000 |          40 |  0
    50 000 |         200 |  0      an edge belongs to the bracket below it
    50 001 |     200.005 |  1
   264 000 |       1 270 |  1
 1 000 000 |       5 550 |  2
 5 000 000 |      38 550 |  3
"""


@pytest.mark.parametrize("line", MAINTENANCE.strip().splitlines()[1:])
def test_maintenance(line: str) -> None:
    notional, wanted, bracket = line.replace(" ", "").split("|")
    venue = rig(BTC)
    symbols, brackets = table(venue.symbols), table(venue.brackets)
    quanta = int(notional) * USDT
    assert maintenance(brackets, symbols, 0, quanta) == int(Decimal(wanted) * USDT)
    assert bracket_of(brackets, symbols, 0, quanta) == int(bracket[0])
    assert [int(a) for a in venue.brackets["amount_quanta"][: len(BTC)]] == BTC_AMOUNTS


def test_above_all_caps_the_last_bracket_goes_on() -> None:
    venue = rig(BTC)
    symbols, brackets = table(venue.symbols), table(venue.brackets)
    quanta = 1_000_000_000 * USDT
    assert bracket_of(brackets, symbols, 0, quanta) == len(BTC) - 1
    assert maintenance(brackets, symbols, 0, quanta) == quanta // 20 - BTC_AMOUNTS[-1]


def test_without_brackets_nothing_is_needed() -> None:
    venue = rig([])
    symbols, brackets = table(venue.symbols), table(venue.brackets)
    assert bracket_of(brackets, symbols, 0, 10**12) == NIL
    assert maintenance(brackets, symbols, 0, 10**12) == 0
    assert notional_allowed(brackets, symbols, 0, 125) == EXPOSURE_QUANTA_MAX


ALLOWED = """
  leverage | largest notional
       126 |           0
       125 |      50 000
       101 |      50 000
       100 |     600 000
        50 |  12 000 000
        20 | 100 000 000
         1 | 230 000 000
"""


@pytest.mark.parametrize("line", ALLOWED.strip().splitlines()[1:])
def test_leverage_limits_the_notional(line: str) -> None:
    leverage, wanted = (int(c.replace(" ", "")) for c in line.split("|"))
    venue = rig(BTC)
    allowed = notional_allowed(table(venue.brackets), table(venue.symbols), 0, leverage)
    assert allowed == wanted * USDT


# ---------------------------------------------------------------- liquidation prices

LOTS = 1000  # of 0.001 BTC; with ticks of 0.01 one tick x one lot is 10 quanta
PRICES = """
  case                     | long     | short    | rest   | price
  isolated long 1          | 1@60000  |          |   3000 | 57236.18090452
  isolated short 1         |          | 1@60000  |   3000 | 62736.31840796
  long 10, crosses         | 10@60000 |          |  30000 | 57281.40703518
  cross, others -50 -200   | 1@60000  |          |   9750 | 50452.26130653
  hedge, net long          | 2@60000  | 1@61000  |   5000 | 54720.81218274
  hedge, flat              | 1@60000  | 1@61000  |   5000 | 607692.30769231
  cross long, no debt      | 1@60000  |          | 100000 | none
"""


def _leg(cell: str) -> tuple[int, int]:
    """(lots, cost in quanta) of `quantity@entry`."""
    if not cell.strip():
        return 0, 0
    quantity, entry = (int(part) for part in cell.split("@"))
    return quantity * LOTS, quantity * entry * USDT


@pytest.mark.parametrize("line", PRICES.strip().splitlines()[1:])
def test_liquidation_price(line: str) -> None:
    _, long, short, rest, wanted = line.split("|")
    venue = rig(BTC, unit=10)
    (longs, cost), (shorts, owed) = _leg(long), _leg(short)
    found = liquidation_ticks(
        table(venue.brackets), table(venue.symbols), 0, longs, shorts, cost - owed, int(rest) * USDT
    )
    if wanted.strip() == "none":
        assert found == 0
    else:
        exact = Decimal(wanted.strip()) * 100
        safe = exact.to_integral_value("ROUND_CEILING" if longs > shorts else "ROUND_FLOOR")
        assert found == int(safe)


def test_documented_prices(recorded: Path) -> None:
    """Four prices of the venue's own page; mmr and amount as given there, brackets around them."""
    text = (recorded / "vectors" / "liquidation_price.json").read_text()
    for vector in json.loads(text)["vectors"]:
        venue, row = _given_brackets(vector["position"])
        rest = Decimal(str(vector["wallet_balance"])) * USDT
        for other in vector["other_positions"]:
            value = Decimal(str(other["qty"])) * Decimal(str(other["mark"]))
            cost = Decimal(str(other["qty"])) * Decimal(str(other["entry"]))
            needed = value * Decimal(str(other["mmr"])) - Decimal(str(other["cum"]))
            rest += (value - cost - needed) * USDT
        p = vector["position"]
        lots = int(Decimal(str(p["qty"])) * 1000)
        cost = Decimal(str(p["qty"])) * Decimal(str(p["entry"])) * USDT
        found = liquidation_ticks(
            table(venue.brackets), table(venue.symbols), 0, lots, 0, int(cost), int(rest)
        )
        exact = Decimal(str(vector["recomputed"])) * 100
        assert exact <= found < exact + 1, (row, found)


def _given_brackets(position: dict[str, Any]) -> tuple[Rig, int]:
    """Two brackets of which the upper one has the given rate and amount."""
    ppm, amount = int(position["mmr"] * PPM), int(position["cum"]) * USDT
    floor = amount * 2 * PPM // ppm
    plain = [Bracket(0, floor, ppm // 2, 50), Bracket(floor, 1 << 60, ppm, 10)]
    return rig(plain, [0, amount], unit=10), floor


@st.composite
def brackets(draw: st.DrawFn, most: int = 6) -> list[Bracket]:
    floors = sorted(draw(st.sets(st.integers(1, 10**13), max_size=most - 1)))
    rates = sorted(draw(st.lists(st.integers(0, 600_000), min_size=most, max_size=most)))
    edges = [0, *floors, 1 << 60]
    return [Bracket(a, b, rates[k], 100 - k) for k, (a, b) in enumerate(zip(edges, edges[1:]))]  # noqa: B905


NOTIONALS = st.integers(0, EXPOSURE_QUANTA_MAX)


@given(brackets(), NOTIONALS)
def test_maintenance_is_the_tax_by_slices_rounded_up(plain: list[Bracket], notional: int) -> None:
    venue = rig(plain)
    found = maintenance(table(venue.brackets), table(venue.symbols), 0, notional)
    exact = twin.taxed(plain, notional)
    # Each edge below rounds once more, by less than a quantum either way.
    assert abs(found - exact) < len(plain) + 1


@given(brackets())
def test_maintenance_never_falls_at_an_edge(plain: list[Bracket]) -> None:
    venue = rig(plain)
    tables = table(venue.brackets), table(venue.symbols)
    for b in plain[1:]:
        around = [maintenance(*tables, 0, b.floor + d) for d in (-1, 0, 1)]
        assert around == sorted(around) and around[2] - around[0] <= 4


def check_price(plain: list[Bracket], unit: int, longs: int, shorts: int, cost: int, rest: int,
                find: Any, venue: Rig) -> None:  # fmt: skip
    """The price is the twin's to the tick, but for what maintenance rounds."""
    found = find(table(venue.brackets), table(venue.symbols), 0, longs, shorts, cost, rest)
    up, down = longs * unit, shorts * unit
    limit = min(PRICE_TICKS_MAX, EXPOSURE_QUANTA_MAX // max(up, down))
    rounding = 2 * len(plain) + 2
    if found != 0:
        assert 1 <= found <= limit
        below, at, above = (
            twin.gap_at_ticks(plain, up, down, rest - cost, int(found) + d) for d in (-1, 0, 1)
        )
        one = max(abs(below - at), abs(above - at))
        # equity at the liquidation price equals maintenance, to what one tick is worth
        assert -rounding * PPM <= at <= one + rounding * PPM
        return
    exact = twin.liquidation(plain, up, down, rest - cost)
    if exact is not None:
        # Out of reach, or no wider than the roundings.
        reach = twin.gap(plain, up, down, rest - cost, Fraction(limit))
        near = twin.gap(plain, up, down, rest - cost, Fraction(1))
        peak = max(reach, near)
        assert exact < 1 + rounding or exact > limit - 1 or peak <= rounding


@given(
    brackets(),
    st.integers(1, 10**6),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.integers(-(10**15), 10**15),
)
def test_equity_at_the_liquidation_price_is_maintenance(
    plain: list[Bracket], unit: int, longs: int, shorts: int, entry: int, owed: int, rest: int
) -> None:
    if longs + shorts == 0:
        longs = 1
    cost = (longs * entry - shorts * owed) * unit
    check_price(plain, unit, longs, shorts, cost, rest, liquidation_ticks, rig(plain, unit=unit))
    sizes = longs * unit, shorts * unit, rest - cost
    assert twin.gap(plain, *sizes, Fraction(entry)) * PPM == twin.gap_at_ticks(plain, *sizes, entry)


def test_many_liquidation_prices(long_run: bool) -> None:
    """Realistic accounts on the published brackets, then sizes to the end of the arithmetic."""
    chance = random.Random(20220123)
    venues = [rig(BTC, unit=unit) for unit in (1, 10, 100, 10**6)]
    first = venues[0]
    find = entry_of(liquidation_ticks, table(first.brackets), table(first.symbols), 0, 0, 0, 0, 0)
    for _ in range(1_000_000 if long_run else 1500):
        venue = chance.choice(venues)
        unit = int(venue.symbols["tick_lot_quanta"][0])
        entry = chance.randrange(1, 1 << chance.randrange(2, 40))
        most = max((1 << 59) // (entry * unit), 1)
        longs = chance.randrange(0, 1 + min(most, 1 << chance.randrange(1, 58)))
        shorts = chance.choice((0, 0, chance.randrange(0, longs + 1)))
        if chance.random() < 0.5:
            longs, shorts = shorts, longs
        if longs + shorts == 0:
            continue
        cost = (longs - shorts) * entry * unit
        leverage = chance.randrange(1, 126)
        rest = (longs + shorts) * entry * unit // leverage
        check_price(BTC, unit, longs, shorts, cost, rest, find, venue)


# ---------------------------------------------------------------- bankruptcy prices

BANKRUPT = """
  side  | entry | wallet | fee % | price
  long  | 60000 |   3000 |  0    | 57000
  short | 60000 |   3000 |  0    | 63000
  long  | 60000 |   3000 |  0.05 | 57028.51425713
  short | 60000 |   3000 |  0.05 | 62968.51574213
  long  | 60000 |  -1000 |  0    | 61000            nothing left: above what it cost
  long  | 60000 |  60000 |  0    | 0.01             never liquidated: the lowest price there is
"""


@pytest.mark.parametrize("line", BANKRUPT.strip().splitlines()[1:])
def test_bankruptcy_price(line: str) -> None:
    side, entry, wallet, fee, price = (c.split()[0] for c in line.split("|"))
    venue = rig(BTC, unit=10)
    lots = LOTS if side == "long" else -LOTS
    # At a mark of 58 000: the share is wallet + unrealised PnL.
    mark = 58_000 * USDT
    gain = mark - int(entry) * USDT
    share = int(wallet) * USDT + (gain if lots > 0 else -gain)
    found = bankruptcy_ticks(table(venue.symbols), 0, lots, mark, share, int(Decimal(fee) * 10_000))
    exact = Decimal(price) * 100
    assert found == int(exact.to_integral_value("ROUND_CEILING" if lots > 0 else "ROUND_FLOOR"))


@given(
    st.integers(1, 10**9),
    st.booleans(),
    st.integers(1, 10**9),
    st.integers(0, 1 << 60),
    st.integers(-(1 << 60), 1 << 60),
    st.integers(0, 5000),
)
def test_no_rounding_is_left_to_the_fund(
    lots: int, long: bool, unit: int, value: int, share: int, fee: int
) -> None:
    venue = rig([], unit=unit)
    signed = lots if long else -lots
    found = int(bankruptcy_ticks(table(venue.symbols), 0, signed, value, share, fee))
    exact = twin.bankruptcy(lots * unit, long, value, share, fee)
    assert found == min(max(exact, 1), PRICE_TICKS_MAX)
    if 1 <= exact <= PRICE_TICKS_MAX:
        paid = found * lots * unit
        owed = -(-paid * fee // PPM)
        left = share + (paid - value if long else value - paid) - owed
        assert left >= 0


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=9))
def test_shares_never_add_up_to_more(equity: int, parts: list[int]) -> None:
    shares = [equity_share(equity, part, sum(parts), len(parts)) for part in parts]
    assert equity - len(parts) <= sum(shares) <= equity


# ---------------------------------------------------------------- wallets and positions


def _venue_of_two() -> tuple[dict[str, np.ndarray[Any, Any]], list[Any]]:
    """Account 3: cross long 1 @ 60000 in symbol 0, cross short 2 @ 3000 and isolated in symbol 1."""
    arrays = {
        "accounts": np.zeros(4, records.ACCOUNT.dtype),
        "wallets": np.zeros(4, records.WALLET.dtype),
        "symbols": np.zeros(2, records.SYMBOL.dtype),
        "positions": np.zeros(3, records.POSITION.dtype),
        "brackets": np.zeros(2 * BRACKETS_MAX, records.BRACKET.dtype),
    }
    one = rig(BTC, unit=10)
    for symbol in range(2):
        arrays["symbols"][symbol] = one.symbols[0]
        arrays["brackets"][symbol * BRACKETS_MAX : (symbol + 1) * BRACKETS_MAX] = one.brackets
    arrays["symbols"]["mark_ticks"] = (59_000_00, 3_100_00)
    arrays["accounts"]["first_position"] = NIL
    arrays["accounts"]["first_position"][3] = 0
    arrays["wallets"]["wallet_quanta"][3] = 10_000 * USDT
    arrays["wallets"]["pending_quanta"][3] = 500 * USDT
    for row, (symbol, lots, entry, isolated) in enumerate(
        ((0, 1000, 60_000, 0), (1, -2000, 6_000, 0), (1, 1000, 3_000, 300))
    ):
        p = arrays["positions"][row : row + 1]
        p["account"], p["wallet"], p["symbol"] = 3, 3, symbol
        p["lots"], p["entry_quanta"] = lots, (entry if lots > 0 else -entry) * USDT
        p["isolated"], p["isolated_quanta"] = isolated > 0, isolated * USDT
        p["next_position"] = row + 1 if row < 2 else NIL
    names = ("accounts", "wallets", "symbols", "positions", "brackets")
    return arrays, [table(arrays[name]) for name in names]


@kernel
def _isolated(brackets: Any, symbols: Any, positions: Any, row: int) -> tuple[int, int, int]:
    p = positions[row]
    equity, needed = isolated_health(brackets, symbols, p)
    return equity, needed, isolated_liquidation_ticks(brackets, symbols, p)


def test_health_of_a_cross_wallet_and_of_an_isolated_position() -> None:
    _, tables = _venue_of_two()
    # 9500 - 1000 - 200; 59000 * 0.5 % - 50 + 6200 * 0.4 %
    wanted = 8_300 * USDT, (245 * USDT + 24_800_000), 2
    assert cross_health(*tables, 3, 3, NO_SYMBOL) == wanted
    assert cross_health(*tables, 3, 3, 1) == (8_500 * USDT, 245 * USDT, 1)
    symbols, brackets = tables[2], tables[4]
    # 300 + 100; 3100 * 0.4 %; 0.996 of the price + 300 left of what it cost
    assert _isolated(brackets, symbols, tables[3], 2) == (400 * USDT, 12_400_000, 2_710_85)


def test_at_its_liquidation_price_a_wallet_is_just_safe() -> None:
    arrays, tables = _venue_of_two()
    for symbol, unsafe in ((0, -1), (1, 1)):
        mark = int(arrays["symbols"]["mark_ticks"][symbol])
        price = cross_liquidation_ticks(*tables, 3, 3, symbol)
        arrays["symbols"]["mark_ticks"][symbol] = price
        equity, needed, _ = cross_health(*tables, 3, 3, NO_SYMBOL)
        assert equity >= needed
        arrays["symbols"]["mark_ticks"][symbol] = price + unsafe
        equity, needed, _ = cross_health(*tables, 3, 3, NO_SYMBOL)
        assert equity < needed
        arrays["symbols"]["mark_ticks"][symbol] = mark
