"""Candles and tickers against a naive twin that looks at every trade again."""

from __future__ import annotations

import random
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.marketdata import klines
from gateways.marketdata.klines import INTERVALS, MONTH, TRADE, WEEK, Candles, next_open, open_of
from gateways.marketdata.market import DAY_MINUTES, Market

EPOCH_MINUTE = 28_000_000  # some day in 2023
TABLE = """
  interval | minute of            | opens at
  1m       | 2024-02-29 23:59     | 2024-02-29 23:59
  5m       | 2024-02-29 23:59     | 2024-02-29 23:55
  4h       | 2024-02-29 23:59     | 2024-02-29 20:00
  1d       | 2024-02-29 23:59     | 2024-02-29 00:00
  3d       | 2024-02-29 23:59     | 2024-02-29 00:00
  1w       | 2024-03-03 23:59     | 2024-02-26 00:00     a Monday
  1w       | 2024-03-04 00:00     | 2024-03-04 00:00
  1M       | 2024-02-29 23:59     | 2024-02-01 00:00
  1M       | 2024-12-31 23:59     | 2024-12-01 00:00
"""


def minute_of(text: str) -> int:
    return (
        int(datetime.strptime(text.strip()[:16], "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp())
        // 60
    )


@pytest.mark.parametrize("line", TABLE.strip().splitlines()[1:])
def test_where_candles_open(line: str) -> None:
    interval, at, opens = (cell.strip() for cell in line.split("|"))
    assert open_of(INTERVALS[interval], minute_of(at)) == minute_of(opens)


@given(st.sampled_from(list(INTERVALS.values())), st.integers(0, 50_000_000))
def test_candles_tile_time(interval: int, minute: int) -> None:
    opened = open_of(interval, minute)
    assert opened <= minute < next_open(interval, opened)
    assert open_of(interval, next_open(interval, opened)) == next_open(interval, opened)
    if interval not in (WEEK, MONTH):
        assert opened % interval == 0


def naive(trades: list[tuple[int, int, int, bool]], interval: int, upto: int) -> list[list[int]]:
    """Every candle from the first trade to the minute `upto`, each out of its own trades."""
    found = []
    minutes = [t[0] for t in trades]
    opened = open_of(interval, minutes[0])
    close = 0
    while opened <= upto:
        after = next_open(interval, opened)
        first = bisect_left(minutes, opened)
        mine = [(k + 1, trades[k]) for k in range(first, bisect_left(minutes, after))]
        if mine:
            prices = [t[1] for _, t in mine]
            bought = [t for _, t in mine if t[3]]
            close = prices[-1]
            found.append(
                [
                    *(opened, prices[0], max(prices), min(prices), close),
                    *(sum(t[2] for _, t in mine), sum(t[1] * t[2] for _, t in mine), len(mine)),
                    *(sum(t[2] for t in bought), sum(t[1] * t[2] for t in bought)),
                    *(mine[0][0], mine[-1][0]),
                ]
            )
        else:
            found.append([opened, close, close, close, close, *[0] * 7])
        opened = after
    return found


@pytest.mark.parametrize("seed", range(3))
def test_candles_are_their_trades(seed: int) -> None:
    dice = random.Random(seed)
    candles = Candles(5000, traded=True)
    minute, price = EPOCH_MINUTE + dice.randrange(10_000), 1000
    trades: list[tuple[int, int, int, bool]] = []
    for _ in range(120):
        minute += dice.choice((0, 0, 0, 1, 2, 7, 90, 400))
        price = max(1, price + dice.randint(-5, 5))
        trade = (minute, price, dice.randint(1, 9), dice.random() < 0.5)
        trades.append(trade)
        candles.advance(minute)
        candles.trade(minute, price, trade[2], trade[3], len(trades))
        if dice.random() < 0.1:
            candles = Candles.load(5000, True, candles.dump())
    for interval in INTERVALS.values():
        got, want = candles.recent(interval), naive(trades, interval, minute)
        assert got == want[-len(got) :] and len(got) == min(5001, len(want))


@pytest.mark.parametrize("seed", range(2))
def test_a_day_is_the_last_1440_minutes(seed: int) -> None:
    """The rolling ticker is exact over the window that it names."""
    dice = random.Random(seed)
    m = Market(0, 10, 1500)
    trades: list[tuple[int, int, int]] = []
    minute = EPOCH_MINUTE
    for _ in range(200):
        minute += dice.choice((0, 0, 1, 3, 17, 200))
        price, lots = dice.randint(90, 110), dice.randint(1, 5)
        m.candles[TRADE].advance(minute)
        m.candles[TRADE].trade(minute, price, lots, True, len(trades) + 1)
        m.last, m.last_lots = price, lots
        trades.append((minute, price, lots))
        m.now_ms = minute * klines.MINUTE_MS + 59_999
        day = m.day()
        first = day.open_ms // klines.MINUTE_MS
        assert first == minute - DAY_MINUTES + 1
        inside: list[Any] = [(k, t) for k, t in enumerate(trades, 1) if t[0] >= first]
        assert (day.trades, day.first_id, day.last_id) == (len(inside), inside[0][0], len(trades))
        assert day.lots == sum(t[2] for _, t in inside)
        assert day.ticks_lots == sum(t[1] * t[2] for _, t in inside)
        prices = [t[1] for _, t in inside]
        assert (day.open, day.high, day.low, day.last) == (
            *(prices[0], max(prices), min(prices), prices[-1]),
        )
