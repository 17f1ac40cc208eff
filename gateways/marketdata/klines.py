"""Candles of every interval from one stream of trades or prices.

Never   looks at a clock: a candle closes when stamped time has passed its end.

Only the candle of the running minute is changed by a trade; longer ones are the sum of the minutes
closed so far and the running one. Candles follow each other without a gap from the first trade on:
a minute without a trade opens and closes at the last price, and one with trades opens at its first.
A price that isn't traded (mark, index, premium) opens where the minute before closed. Across a
silence of more than FILL_MAX minutes nothing is filled in.

An interval is its length in minutes, a month 43,200. Weeks begin on Monday, months on the first,
all in UTC.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

MINUTE_MS: Final = 60_000
MONTH: Final = 43_200
WEEK: Final = 10_080
INTERVALS: Final[dict[str, int]] = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1440,
    "3d": 4320,
    "1w": WEEK,
    "1M": MONTH,
}
LONGER: Final = tuple(INTERVALS.values())[1:]
FILL_MAX: Final = 3 * 1440
_FIRST_MONDAY: Final = 4 * 1440  # minutes from the epoch, a Thursday

# Cells of a candle. Prices in ticks; quantities in lots; ticks_lots are sums of price * lots.
OPEN_AT, OPEN, HIGH, LOW, CLOSE, LOTS, TICKS_LOTS, TRADES, TAKER_LOTS, TAKER_TICKS_LOTS = range(10)
FIRST_ID, LAST_ID = 10, 11  # of its trades; 0 without any
CELLS: Final = 12

Candle = list[int]

# Kinds, as history keeps them.
TRADE, MARK, INDEX, PREMIUM = range(4)
KINDS: Final = ("trade", "mark", "index", "premium")


def _month(minute: int, ahead: int = 0) -> int:
    """First minute of the month `ahead` of that of `minute`."""
    at = datetime.fromtimestamp(minute * 60, UTC)
    months = at.year * 12 + at.month - 1 + ahead
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()) // 60


def open_of(interval: int, minute: int) -> int:
    """First minute of the candle that a minute belongs to."""
    if interval == MONTH:
        return _month(minute)
    if interval == WEEK:
        return (minute - _FIRST_MONDAY) // WEEK * WEEK + _FIRST_MONDAY
    return minute - minute % interval


def next_open(interval: int, open_at: int) -> int:
    """First minute of the candle after the one that opens at `open_at`."""
    return _month(open_at, 1) if interval == MONTH else open_at + interval


def _merge(into: Candle, later: Candle, traded: bool) -> None:
    """Add a later candle to an earlier one; of trades, minutes without any have no price."""
    if traded and into[TRADES] == 0:
        into[OPEN], into[HIGH], into[LOW] = later[OPEN], later[HIGH], later[LOW]
    elif traded and later[TRADES] == 0:
        later = [*later[:OPEN], into[CLOSE], into[CLOSE], into[CLOSE], into[CLOSE], *later[LOTS:]]
    into[HIGH] = max(into[HIGH], later[HIGH])
    into[LOW] = min(into[LOW], later[LOW])
    into[CLOSE] = later[CLOSE]
    for cell in (LOTS, TICKS_LOTS, TRADES, TAKER_LOTS, TAKER_TICKS_LOTS):
        into[cell] += later[cell]
    into[FIRST_ID] = into[FIRST_ID] or later[FIRST_ID]
    into[LAST_ID] = later[LAST_ID] or into[LAST_ID]


class Candles:
    """Of one symbol and one kind."""

    def __init__(self, keep: int, traded: bool) -> None:
        """keep: closed candles of each interval to remember; traded: of trades, not of a price."""
        self.keep = keep
        self.traded = traded
        self.running: Candle | None = None  # of the minute at hand
        self.begun: dict[int, Candle] = {}  # interval -> sum of the closed minutes of its candle
        self.closed: dict[int, deque[Candle]] = {}

    def advance(self, minute: int) -> list[tuple[int, Candle]]:
        """Time has come to `minute`: close what is over. Returns (interval, candle) of that."""
        running = self.running
        if running is None or running[OPEN_AT] >= minute:
            return []
        over: list[tuple[int, Candle]] = []
        if minute - running[OPEN_AT] > FILL_MAX:
            self._close_minute(over)
            for interval, candle in sorted(self.begun.items()):
                self._keep(interval, candle, over)
            self.begun.clear()
            self.running = None
            return over
        while running[OPEN_AT] < minute:
            self._close_minute(over)
            close, at = running[CLOSE], running[OPEN_AT] + 1
            running = self.running = [at, close, close, close, close, *[0] * 7]
        return over

    def trade(self, minute: int, price: int, lots: int, taker_buys: bool, trade_id: int) -> None:
        """A trade of the minute at hand; `advance` has been there."""
        c = self._at(minute, price)
        c[HIGH] = price if price > c[HIGH] else c[HIGH]
        c[LOW] = price if price < c[LOW] else c[LOW]
        c[CLOSE] = price
        c[LOTS] += lots
        c[TICKS_LOTS] += price * lots
        c[TRADES] += 1
        if taker_buys:
            c[TAKER_LOTS] += lots
            c[TAKER_TICKS_LOTS] += price * lots
        c[FIRST_ID] = c[FIRST_ID] or trade_id
        c[LAST_ID] = trade_id

    def value(self, minute: int, value: int) -> None:
        """A price that isn't traded: mark, index, premium. `trades` counts its changes."""
        c = self._at(minute, value)
        c[HIGH] = value if value > c[HIGH] else c[HIGH]
        c[LOW] = value if value < c[LOW] else c[LOW]
        c[CLOSE] = value
        c[TRADES] += 1

    def _at(self, minute: int, price: int) -> Candle:
        c = self.running
        if c is None:
            c = self.running = [minute, price, price, price, price, *[0] * 7]
        elif self.traded and c[TRADES] == 0:
            c[OPEN] = c[HIGH] = c[LOW] = price
        return c

    def current(self, interval: int) -> Candle | None:
        """The candle that isn't over yet."""
        running = self.running
        if running is None:
            return None
        begun = self.begun.get(interval)
        if begun is None:
            return [open_of(interval, running[OPEN_AT]), *running[1:]]
        candle = list(begun)
        _merge(candle, running, self.traded)
        return candle

    def recent(self, interval: int) -> list[Candle]:
        """Closed candles that are remembered, and the current one, oldest first."""
        candles = list(self.closed.get(interval, ()))
        current = self.current(interval)
        return candles + [current] if current is not None else candles

    def _close_minute(self, over: list[tuple[int, Candle]]) -> None:
        c = self.running
        assert c is not None
        self._keep(1, c, over)
        after = c[OPEN_AT] + 1
        for interval in LONGER:
            begun = self.begun.get(interval)
            if begun is None:
                begun = self.begun[interval] = [open_of(interval, c[OPEN_AT]), *c[1:]]
            else:
                _merge(begun, c, self.traded)
            if next_open(interval, begun[OPEN_AT]) == after:
                self._keep(interval, begun, over)
                del self.begun[interval]

    def _keep(self, interval: int, candle: Candle, over: list[tuple[int, Candle]]) -> None:
        kept = self.closed.get(interval)
        if kept is None:
            kept = self.closed[interval] = deque(maxlen=self.keep)
        kept.append(candle)
        over.append((interval, candle))

    # ------------------------------------------------------------ checkpoints

    def dump(self) -> dict[str, Any]:
        return {
            "running": self.running,
            "begun": sorted(self.begun.items()),
            "closed": [(interval, list(kept)) for interval, kept in sorted(self.closed.items())],
        }

    @classmethod
    def load(cls, keep: int, traded: bool, kept: dict[str, Any]) -> Candles:
        candles = cls(keep, traded)
        candles.running = kept["running"]
        candles.begun = {int(k): list(c) for k, c in kept["begun"]}
        candles.closed = {
            int(k): deque((list(c) for c in rows), maxlen=keep) for k, rows in kept["closed"]
        }
        return candles
