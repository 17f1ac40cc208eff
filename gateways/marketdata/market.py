"""All market data out of reports: books, trades, candles, tickers, and the messages about them.

Reads   whole commands (gateways/follow.py), stamped time alone.
Writes  messages into a Hub, by stream; its state, which a checkpoint keeps.
Never   looks at a clock: windows of 100 ms to 5 s are cut where stamped time passes their end, so
        the same reports give the same messages with the same numbers, whenever they are read.

Depth: one counter a symbol (`update_id`) counts the commands that changed a level. Each (symbol,
speed) keeps the `u` it last told as `pu` of the next; a window without a change tells nothing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from gateways.marketdata import klines, messages
from gateways.marketdata.book import BUY, SELL, Book
from gateways.marketdata.klines import INTERVALS, KINDS, MINUTE_MS, TRADE, Candles
from gateways.scales import Scale, scale_of
from shm.codes import Flag, Kind, Reason, ReportKind, State, Status
from shm.records import L2_UPDATE, L3_UPDATE
from shm.units import BRACKETS_MAX

Array = np.ndarray[Any, Any]

MS: Final = 1_000_000
DAY_MINUTES: Final = 1440
SPEEDS_MS: Final = (100, 250, 500)
LEVELS: Final = (5, 10, 20)
_GRAIN_MS: Final = 50  # every window is a multiple of it
_TO_BACK: Final = int(Flag.TO_BACK)
_TEXTS: Final = {minutes: text for text, minutes in INTERVALS.items()}
_PARAMETERS: Final = (Kind.SYMBOL, Kind.CONTRACT, Kind.BRACKET, Kind.ASSET)


class Trade(NamedTuple):
    """One trade of the book."""

    id: int
    price: int
    lots: int
    ms: int
    taker_sells: bool


class AggTrade(NamedTuple):
    """Trades of one taker order at one price in one command."""

    id: int
    price: int
    lots: int
    first: int
    last: int
    ms: int
    taker_sells: bool


class Day(NamedTuple):
    """The 1,440 minutes up to the one at hand."""

    open: int
    high: int
    low: int
    last: int
    last_lots: int
    lots: int
    ticks_lots: int
    first_id: int
    last_id: int
    trades: int
    open_ms: int
    close_ms: int


class Forced(NamedTuple):
    """A liquidation order in the market."""

    side: int
    price: int
    lots: int
    filled: int
    ticks_lots: int
    last_lots: int
    status: str
    ms: int


class Hub:
    """Where messages go: numbered by stream, built only for streams that somebody hears."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}  # stream -> number of its last message
        self.heard: set[str] | None = set()  # None: everything, for tests and tools
        self.pending: dict[str, tuple[int, list[bytes]]] = {}

    def emit(self, stream: str, build: Callable[..., str | bytes], *values: Any) -> None:
        """The next message of a stream is `build(*values)`."""
        number = self.numbers.get(stream, 0) + 1
        self.numbers[stream] = number
        if self.heard is None or stream in self.heard:
            said = build(*values)
            self.put(stream, number, said.encode() if isinstance(said, str) else said)

    def put(self, stream: str, number: int, payload: bytes) -> None:
        waiting = self.pending.get(stream)
        if waiting is None:
            self.pending[stream] = (number, [payload])
        else:
            waiting[1].append(payload)

    def take(self) -> dict[str, tuple[int, list[bytes]]]:
        """stream -> (number of the first, payloads) since the last call."""
        pending, self.pending = self.pending, {}
        return pending


class Market:
    """One symbol."""

    def __init__(self, index: int, keep_trades: int, keep_klines: int) -> None:
        self.index = index
        self.name = ""
        self.lower = ""
        self.scale: Scale = scale_of(1, 0, 0)
        self.tick_lot_quanta = 1
        self.tick_quanta = 0
        self.asset = 0
        self.state = int(State.ABSENT)
        self.onboard_ms = 0
        self.brackets: list[tuple[int, int, int, int]] = []  # floor, cap, ppm, leverage
        self.interest_ppb = self.cap_ppb = self.floor_ppb = self.interval_ns = 0
        self.book = Book()
        self.update_id = 0
        self.changed_ms = 0
        self.shown = (0, 0, 0, 0)  # best prices as bookTicker last told
        self.changed: dict[int, set[int]] = {speed: set() for speed in SPEEDS_MS}
        self.told: dict[int, int] = dict.fromkeys(SPEEDS_MS, 0)  # u of the last depth message
        self.trades: deque[Trade] = deque(maxlen=keep_trades)
        self.aggs: deque[AggTrade] = deque(maxlen=keep_trades)
        self.agg_id = 0
        self.last = self.last_lots = self.traded_ms = 0
        self.candles = [Candles(keep_klines, kind == TRADE) for kind in range(len(KINDS))]
        self.mark = self.index_ticks = self.rate_ppb = self.next_funding_ms = 0
        self.longs: dict[int, int] = {}  # account * 4 + leg -> lots of a long position
        self.open_interest = 0
        self.forced: Forced | None = None  # the largest liquidation of this second
        self.now_ms = 0

    def day(self) -> Day:
        """Exact over the minutes it names: closed candles and the running one."""
        candles = self.candles[TRADE]
        minute = self.now_ms // MINUTE_MS
        first = minute - DAY_MINUTES + 1
        rows = [c for c in candles.closed.get(1, ()) if c[klines.OPEN_AT] >= first]
        if candles.running is not None and candles.running[klines.OPEN_AT] >= first:
            rows.append(candles.running)
        traded = [c for c in rows if c[klines.TRADES]]
        open_ms, close_ms = first * MINUTE_MS, self.now_ms
        if not traded:
            p = self.last
            return Day(p, p, p, p, self.last_lots, 0, 0, 0, 0, 0, open_ms, close_ms)
        return Day(
            traded[0][klines.OPEN],
            max(c[klines.HIGH] for c in traded),
            min(c[klines.LOW] for c in traded),
            traded[-1][klines.CLOSE],
            self.last_lots,
            sum(c[klines.LOTS] for c in traded),
            sum(c[klines.TICKS_LOTS] for c in traded),
            traded[0][klines.FIRST_ID],
            traded[-1][klines.LAST_ID],
            sum(c[klines.TRADES] for c in traded),
            open_ms,
            close_ms,
        )


_PLAIN: Final = (
    *("name", "lower", "tick_lot_quanta", "tick_quanta", "asset", "state", "onboard_ms"),
    *("brackets", "interest_ppb", "cap_ppb", "floor_ppb", "interval_ns", "update_id", "changed_ms"),
    *("shown", "agg_id", "last", "last_lots", "traded_ms", "mark", "index_ticks", "rate_ppb"),
    *("next_funding_ms", "open_interest", "now_ms"),
)


class Markets:
    """Every symbol, and stamped time."""

    def __init__(self, hub: Hub, keep_trades: int = 1000, keep_klines: int = 1500) -> None:
        self.hub = hub
        self.keep_trades = keep_trades
        self.keep_klines = keep_klines
        self.markets: dict[int, Market] = {}
        self.assets: dict[int, int] = {}  # index -> scale
        self.asset_names: dict[int, str] = {}
        self.index = 0  # of the next report
        self.seq = 0
        self.ts_ns = 0
        self.ms = 0
        self._grain = 0
        self._minute = 0
        self._touched: dict[int, Market] = {}  # markets with book events in this command
        self._depth: dict[int, Market] = {}  # with a level changed since some window was cut
        self._traded: dict[int, Market] = {}  # with trades since the last 250 ms window
        self._ticked: dict[int, dict[int, Market]] = {1000: {}, 2000: {}, 5000: {}}
        self._priced: dict[int, Market] = {}  # with a mark or index since the last 250 ms window
        self._forced: dict[int, Market] = {}
        self._agg: list[Any] | None = None
        self._orders: dict[int, list[int]] = {}  # liquidation order -> what it has come to
        self._words = [0] * 24
        self._l2: list[tuple[int, ...]] = []
        self._l3: list[tuple[int, ...]] = []
        self.on_closed: Callable[[Market, int, int, list[int]], None] | None = None

    # ------------------------------------------------------------ reports

    def apply(self, rows: Array) -> None:
        """Whole commands, in order; messages go to the hub."""
        words = rows.view(np.int64).reshape(-1, 8).tolist()
        order_kind, exec_kind = int(ReportKind.ORDER), int(ReportKind.EXEC)
        position_kind = int(ReportKind.POSITION)
        seq = self.seq
        for w in words:
            if w[0] != seq:
                self._end_command()
                seq = self.seq = w[0]
            head = w[1]
            kind = (head >> 48) & 0xFF
            if kind == order_kind:
                if w[2] != self.ts_ns:
                    self._advance(w[2])
                self._order(w, head)
            elif kind == exec_kind:
                self._exec(w, head)
            elif kind == position_kind:
                self._position(w, head)
            elif kind in _HANDLERS:
                _HANDLERS[kind](self, w, head)
        self._end_command()
        self.index += len(words)
        self._flush_records()

    def market(self, symbol: int) -> Market:
        m = self.markets.get(symbol)
        if m is None:
            m = self.markets[symbol] = Market(symbol, self.keep_trades, self.keep_klines)
            m.now_ms = self.ms
        return m

    def _order(self, w: list[int], head: int) -> None:
        status = (head >> 56) & 0xFF
        if status in (Status.REJECTED, Status.REFUSED):
            return
        symbol = (head >> 32) & 0xFFFF
        order_id, price, lots, packed = w[4], w[5], w[6], w[7]
        m = self.market(symbol)
        book = m.book
        side = packed & 0xFF
        if status == Status.NEW:
            book.opened(order_id, side, price, lots)
            if (packed >> 56) & 0xFF == Kind.LIQUIDATION_ORDER:
                self._orders[order_id] = [side, price, lots, 0, 0, 0]
        elif status == Status.AMENDED:
            book.amended(order_id, side, price, lots, bool((packed >> 24) & _TO_BACK))
        else:  # CANCELED, EXPIRED
            book.ended(order_id)
            if order_id in self._orders:
                self._force(m, order_id, Status(status).name)
        self._touched[symbol] = m

    def _exec(self, w: list[int], head: int) -> None:
        symbol = (head >> 32) & 0xFFFF
        status = (head >> 56) & 0xFF
        order_id, trade_id, price, lots, left = w[2], w[3], w[4], w[5], w[6]
        m = self.market(symbol)
        if order_id:
            m.book.traded(order_id, left)
            self._touched[symbol] = m
            forced = self._orders.get(order_id)
            if forced is not None:
                forced[3] += lots
                forced[4] += price * lots
                forced[5] = lots
                if left == 0:
                    self._force(m, order_id, "FILLED")
        if status & 1 and trade_id > 0:
            self._trade(m, Trade(trade_id, price, lots, self.ms, bool(status & 2)), order_id)

    def _trade(self, m: Market, t: Trade, taker: int) -> None:
        m.trades.append(t)
        m.last, m.last_lots, m.traded_ms = t.price, t.lots, t.ms
        m.candles[TRADE].trade(self._minute, t.price, t.lots, not t.taker_sells, t.id)
        self._traded[m.index] = m
        for waiting in self._ticked.values():
            waiting[m.index] = m
        self.hub.emit(f"{m.lower}@trade", messages.trade, m, t)
        agg = self._agg
        if agg is not None and agg[0] is m and agg[1] == taker and agg[2] == t.price:
            agg[3] += t.lots
            agg[5] = t.id
            return
        if agg is not None:
            self._end_agg(agg)
        self._agg = [m, taker, t.price, t.lots, t.id, t.id, t.ms, t.taker_sells]

    def _end_agg(self, agg: list[Any]) -> None:
        m: Market = agg[0]
        m.agg_id += 1
        t = AggTrade(m.agg_id, *agg[2:])
        m.aggs.append(t)
        self.hub.emit(f"{m.lower}@aggTrade", messages.agg_trade, m, t)

    def _position(self, w: list[int], head: int) -> None:
        """Open interest: the sum of what is long."""
        m = self.market((head >> 32) & 0xFFFF)
        leg = (head & 0xFFFFFFFF) * 4 + ((head >> 61) & 3)
        lots = max(w[3], 0)
        before = m.longs.get(leg, 0)
        if lots != before:
            m.open_interest += lots - before
            if lots:
                m.longs[leg] = lots
            else:
                del m.longs[leg]

    def _answer(self, w: list[int], head: int) -> None:
        if w[2] != self.ts_ns:
            self._advance(w[2])
        if w[4] != Reason.NONE:
            return
        kind = (head >> 56) & 0xFF
        symbol = (head >> 32) & 0xFFFF
        if kind == Kind.MARK:
            m = self.market(symbol)
            self._mark(m, w[5], m.index_ticks)
        elif kind == Kind.SYMBOL_STATE:
            self._state(self.market(symbol), w[5])

    def _checkpoint(self, w: list[int], head: int) -> None:
        if w[2] != self.ts_ns:
            self._advance(w[2])

    def _symbol(self, w: list[int], head: int) -> None:
        m = self.market((head >> 32) & 0xFFFF)
        if w[3] != m.state:
            self._state(m, w[3])

    def _state(self, m: Market, state: int) -> None:
        if state != m.state:
            m.state = state
            self._tell_contract(m)

    def _tell_contract(self, m: Market) -> None:
        self.hub.emit("!contractInfo", messages.contract_info, m, self.ms)

    def _price(self, w: list[int], head: int) -> None:
        m = self.market((head >> 32) & 0xFFFF)
        m.rate_ppb = w[5]
        m.next_funding_ms = w[6] // MS
        self._mark(m, w[3], w[4])

    def _round(self, w: list[int], head: int) -> None:
        self.market((head >> 32) & 0xFFFF).next_funding_ms = w[7] // MS

    def _mark(self, m: Market, mark: int, index: int) -> None:
        """New prices. Candles take every change; premium is (mark - index) / index, 8 decimals."""
        minute = self._minute
        if mark > 0:
            m.candles[klines.MARK].value(minute, mark)
        if index > 0:
            m.candles[klines.INDEX].value(minute, index)
            if mark > 0:
                premium = (mark - index) * 100_000_000 // index
                m.candles[klines.PREMIUM].value(minute, premium)
        m.mark, m.index_ticks = mark, index
        self._priced[m.index] = m

    def _parameters(self, w: list[int], head: int) -> None:
        status = (head >> 56) & 0xFF
        kind, part = status >> 2, status & 3
        if kind not in _PARAMETERS:
            return
        for k in range(6):
            word = part * 6 + k
            at = word + 3 if word < 3 else word + 5
            if at < 24:
                self._words[at] = w[2 + k]
        if part == 3:
            self._declare(kind, (head >> 32) & 0xFFFF, self._words)

    def _declare(self, kind: int, symbol: int, p: list[int]) -> None:
        """p: words of the command, by their place in it (shm/records)."""
        if kind == Kind.ASSET:
            self.assets[p[3]] = p[4]
            self.asset_names[p[3]] = _name(p[8], p[9])
            return
        m = self.market(symbol)
        if kind == Kind.SYMBOL:
            if not m.name:
                m.onboard_ms = self.ms
            m.name = _name(p[8], p[9])
            m.lower = m.name.lower()
            m.tick_lot_quanta, m.asset, m.tick_quanta = p[3], p[4], p[22]
            m.scale = scale_of(m.tick_lot_quanta, m.tick_quanta, self.assets.get(m.asset, 0))
            m.state = p[5]
        elif kind == Kind.CONTRACT:
            m.interval_ns, m.interest_ppb = p[3], p[8]
            m.cap_ppb, m.floor_ppb = p[10], p[11]
        elif kind == Kind.BRACKET and 0 <= p[3] < BRACKETS_MAX:
            del m.brackets[p[3] :]
            m.brackets.append((p[4], p[5], p[8], p[9]))
        self._tell_contract(m)

    def _force(self, m: Market, order_id: int, status: str) -> None:
        """A liquidation order is over: the largest of each second is told."""
        side, price, lots, filled, ticks_lots, last = self._orders.pop(order_id)
        if m.forced is None or lots > m.forced.lots:
            m.forced = Forced(side, price, lots, filled, ticks_lots, last, status, self.ms)
            self._forced[m.index] = m

    # ------------------------------------------------------------ the end of a command

    def _end_command(self) -> None:
        if self._agg is not None:
            self._end_agg(self._agg)
            self._agg = None
        if not self._touched:
            return
        for symbol, m in self._touched.items():
            book = m.book
            changed = book.end_command()
            if changed:
                m.update_id += 1
                m.changed_ms = self.ms
                for speed in SPEEDS_MS:
                    m.changed[speed].update(changed)
                self._depth[symbol] = m
                best = book.best()
                if best != m.shown:
                    m.shown = best
                    self._ticked[5000][symbol] = m
                    self.hub.emit(f"{m.lower}@bookTicker", messages.book_ticker, m, self.ms)
            self._record(m, changed)
        self._touched.clear()

    def _record(self, m: Market, changed: list[int]) -> None:
        """The same as records, for whoever wants no text."""
        at = (self.ts_ns, self.seq, m.update_id)
        for key in changed:
            self._l2.append((*at, key >> 1, m.book.totals.get(key, 0), m.index, key & 1))
        for what, order_id, side, price, lots in m.book.events:
            self._l3.append((*at, order_id, price, lots, m.index, side, what))
        m.book.events.clear()

    def _flush_records(self) -> None:
        for stream, rows, layout in (
            ("records.l2", self._l2, L2_UPDATE),
            ("records.l3", self._l3, L3_UPDATE),
        ):
            if rows:
                number = self.hub.numbers.get(stream, 0) + 1
                self.hub.numbers[stream] = number + len(rows) - 1
                if self.hub.heard is None or stream in self.hub.heard:
                    packed = np.zeros(len(rows), layout.dtype)
                    names = [n for n in layout.dtype.names or () if not n.startswith("reserved")]
                    for name, column in zip(names, zip(*rows, strict=True), strict=True):
                        packed[name] = column
                    self.hub.put(stream, number, packed.tobytes())
                rows.clear()

    # ------------------------------------------------------------ stamped time

    def _advance(self, ts_ns: int) -> None:
        """The command at hand has this time: what ended before it is told before it."""
        self.ts_ns = ts_ns
        ms = ts_ns // MS
        grain = ms // _GRAIN_MS
        before = self.ms
        if grain != self._grain and before:
            for speed in SPEEDS_MS:
                if ms // speed != before // speed:
                    self._cut_depth(speed, ms // speed * speed)
            if ms // 250 != before // 250:
                self._cut_klines(ms // 250 * 250)
            for window in (1000, 2000, 3000, 5000):
                if ms // window != before // window:
                    self._cut(window, ms // window * window)
        self._grain = grain
        self.ms = ms
        minute = ms // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._close_candles(minute)

    def _cut_depth(self, speed: int, event_ms: int) -> None:
        for symbol, m in list(self._depth.items()):
            changed = m.changed[speed]
            if changed:
                ids = (m.told[speed] + 1, m.update_id, m.told[speed])
                at = (m, event_ms, ids)
                self.hub.emit(f"{m.lower}@depth@{speed}ms", _diff, *at, changed)
                for count in LEVELS:
                    self.hub.emit(f"{m.lower}@depth{count}@{speed}ms", _partial, *at, count)
                m.told[speed] = m.update_id
                m.changed[speed] = set()
            if not any(m.changed.values()):
                del self._depth[symbol]

    def _cut_klines(self, event_ms: int) -> None:
        for m in self._traded.values():
            for text, interval in INTERVALS.items():
                self._tell_kline(m, TRADE, event_ms, text, interval)
        self._traded.clear()
        for m in self._priced.values():
            for text, interval in INTERVALS.items():
                self._tell_kline(m, klines.MARK, event_ms, text, interval)
                self._tell_kline(m, klines.INDEX, event_ms, text, interval)
        self._priced.clear()

    def _tell_kline(
        self,
        m: Market,
        kind: int,
        event_ms: int,
        text: str,
        interval: int,
        over: list[int] | None = None,
    ) -> None:
        candles = m.candles[kind]
        if over is None and candles.running is None:
            return

        stream = f"{m.lower}@{_STREAMS[kind]}_{text}"
        self.hub.emit(stream, _kline, m, kind, event_ms, text, interval, over)

    def _close_candles(self, minute: int) -> None:
        for m in self.markets.values():
            m.now_ms = self.ms
            for kind, candles in enumerate(m.candles):
                for interval, candle in candles.advance(minute):
                    if self.on_closed is not None:
                        self.on_closed(m, kind, interval, candle)
                    if kind in _STREAMS:
                        self._tell_kline(m, kind, self.ms, _TEXTS[interval], interval, candle)

    def _cut(self, window: int, event_ms: int) -> None:
        hub = self.hub
        waiting = self._ticked.get(window, {})
        for m in waiting.values():
            m.now_ms = max(m.now_ms, self.ms)
        if window == 1000:
            if waiting:
                found = list(waiting.values())
                hub.emit("!ticker@arr", _all, messages.ticker, found, event_ms)
                hub.emit("!miniTicker@arr", _all, messages.mini_ticker, found, event_ms)
            for m in self._forced.values():
                text = messages.force_order(m, event_ms)
                hub.emit(f"{m.lower}@forceOrder", str, text)
                hub.emit("!forceOrder@arr", str, text)
                m.forced = None
            self._forced.clear()
        elif window == 2000:
            for m in waiting.values():
                hub.emit(f"{m.lower}@ticker", messages.ticker, m, event_ms)
                hub.emit(f"{m.lower}@miniTicker", messages.mini_ticker, m, event_ms)
        elif window == 5000:
            for m in waiting.values():
                hub.emit("!bookTicker", messages.book_ticker, m, event_ms)
        waiting.clear()
        if window in (1000, 3000):
            self._cut_marks(window, event_ms)

    def _cut_marks(self, window: int, event_ms: int) -> None:
        """Marks are told in every window, changed or not, as long as there is one."""
        told = [m for m in self.markets.values() if m.mark > 0]
        speed = f"{window // 1000}s"
        for m in told:
            self.hub.emit(f"{m.lower}@markPrice@{speed}", messages.mark_price, m, event_ms)
        if told:
            self.hub.emit(f"!markPrice@arr@{speed}", _all, messages.mark_price, told, event_ms)

    # ------------------------------------------------------------ what is asked for

    def declared(self) -> Iterator[Market]:
        """Markets with a name, by index."""
        return (m for _, m in sorted(self.markets.items()) if m.name)

    def find(self, name: str) -> Market | None:
        return next((m for m in self.declared() if m.name == name), None)

    # ------------------------------------------------------------ checkpoints

    def dump(self) -> dict[str, Any]:
        """Between two commands; lists, numbers and text alone."""
        return {
            "index": self.index,
            "seq": self.seq,
            "ts_ns": self.ts_ns,
            "assets": sorted(self.assets.items()),
            "asset_names": sorted(self.asset_names.items()),
            "numbers": sorted(self.hub.numbers.items()),
            "depth": list(self._depth),
            "traded": list(self._traded),
            "priced": list(self._priced),
            "ticked": [(w, list(found)) for w, found in self._ticked.items()],
            "forced": list(self._forced),
            "orders": sorted(self._orders.items()),
            "markets": [self._dump_market(m) for _, m in sorted(self.markets.items())],
        }

    def _dump_market(self, m: Market) -> dict[str, Any]:
        return {
            "index": m.index,
            **{name: getattr(m, name) for name in _PLAIN},
            "book": m.book.dump(),
            "changed": [(speed, sorted(found)) for speed, found in m.changed.items()],
            "told": list(m.told.items()),
            "trades": [list(t) for t in m.trades],
            "aggs": [list(t) for t in m.aggs],
            "candles": [c.dump() for c in m.candles],
            "longs": sorted(m.longs.items()),
            "forced": list(m.forced) if m.forced is not None else None,
        }

    def load(self, kept: dict[str, Any]) -> None:
        self.index, self.seq, self.ts_ns = kept["index"], kept["seq"], kept["ts_ns"]
        self.ms = self.ts_ns // MS
        self._grain, self._minute = self.ms // _GRAIN_MS, self.ms // MINUTE_MS
        self.assets = dict(kept["assets"])
        self.asset_names = dict(kept["asset_names"])
        self.hub.numbers = dict(kept["numbers"])
        for row in kept["markets"]:
            m = self.market(row["index"])
            for name in _PLAIN:
                setattr(m, name, row[name])
            m.shown = tuple(row["shown"])
            m.brackets = [tuple(b) for b in row["brackets"]]
            m.scale = scale_of(m.tick_lot_quanta, m.tick_quanta, self.assets.get(m.asset, 0))
            m.book = Book.load(row["book"])
            m.changed = {speed: set(found) for speed, found in row["changed"]}
            m.told = dict(row["told"])
            m.trades.extend(Trade(*t) for t in row["trades"])
            m.aggs.extend(AggTrade(*t) for t in row["aggs"])
            m.candles = [
                Candles.load(self.keep_klines, kind == TRADE, c)
                for kind, c in enumerate(row["candles"])
            ]
            m.longs = dict(row["longs"])
            m.forced = Forced(*row["forced"]) if row["forced"] is not None else None
        at = self.markets
        self._depth = {s: at[s] for s in kept["depth"]}
        self._traded = {s: at[s] for s in kept["traded"]}
        self._priced = {s: at[s] for s in kept["priced"]}
        self._ticked = {w: {s: at[s] for s in found} for w, found in kept["ticked"]}
        self._forced = {s: at[s] for s in kept["forced"]}
        self._orders = {k: list(v) for k, v in kept["orders"]}


_STREAMS: Final = {TRADE: "kline", klines.MARK: "markPriceKline", klines.INDEX: "indexPriceKline"}
_EVENTS: Final = {klines.MARK: "markPrice_kline", klines.INDEX: "indexPrice_kline"}
_HANDLERS: Final[dict[int, Callable[[Markets, list[int], int], None]]] = {
    ReportKind.ANSWER: Markets._answer,
    ReportKind.CHECKPOINT: Markets._checkpoint,
    ReportKind.SYMBOL: Markets._symbol,
    ReportKind.PRICE: Markets._price,
    ReportKind.FUNDING_ROUND: Markets._round,
    ReportKind.PARAMETERS: Markets._parameters,
}


def _name(first: int, second: int) -> str:
    """A symbol's name as it may stand in JSON as it is."""
    raw = np.array([first, second], np.int64).tobytes().rstrip(b"\0").decode("latin1")
    return json.dumps(raw)[1:-1]


def _all(build: Callable[[Market, int], str], found: list[Market], event_ms: int) -> bytes:
    return messages.array(build(m, event_ms) for m in found)


def _diff(m: Market, event_ms: int, ids: tuple[int, int, int], changed: set[int]) -> bytes:
    sides = (_totals(m, changed, BUY), _totals(m, changed, SELL))
    return messages.depth_update(m, event_ms, m.changed_ms, *ids, *sides)


def _partial(m: Market, event_ms: int, ids: tuple[int, int, int], count: int) -> bytes:
    sides = (m.book.top(BUY, count), m.book.top(SELL, count))
    return messages.depth_update(m, event_ms, m.changed_ms, *ids, *sides)


def _kline(
    m: Market, kind: int, event_ms: int, text: str, interval: int, over: list[int] | None
) -> bytes:
    """`over`: the candle, if it has closed; else the current one is meant."""
    candle = over or m.candles[kind].current(interval)
    assert candle is not None
    if kind == TRADE:
        return messages.kline(m, event_ms, text, interval, candle, over is not None)
    said = (_EVENTS[kind], event_ms, text, interval, candle, over is not None)
    return messages.price_kline(m, kind, *said)


def _totals(m: Market, changed: set[int], side: int) -> list[tuple[int, int]]:
    """Changed levels of one side with what they hold now, best first."""
    prices = sorted((key >> 1 for key in changed if key & 1 == side), reverse=side == BUY)
    return [(price, m.book.totals.get(price * 2 + side, 0)) for price in prices]
