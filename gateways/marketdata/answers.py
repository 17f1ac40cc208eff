"""What may be asked of market data, and what answers it: final JSON, or records.

Reads   the state of gateways/marketdata/market.py, between two commands.
Never   trusts a request: names, ranges and limits are checked here, whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgpack
import numpy as np

from gateways.marketdata import messages
from gateways.marketdata.book import ADDED
from gateways.marketdata.klines import INTERVALS, KINDS, MINUTE_MS, OPEN_AT
from gateways.marketdata.market import Market, Markets
from shm.records import L2_UPDATE, L3_UPDATE, Record

LIMIT_MAX: Final = 1500
_TEXT_MAX: Final = 64


class Refused(ValueError):
    """The request makes no sense; the text goes back to who asked."""


def answer(markets: Markets, request: Any) -> bytes:
    """The answer to {"what": ..., parameters}; Refused says what is wrong with it."""
    if not isinstance(request, dict) or not isinstance(request.get("what"), str):
        raise Refused("wanted a map with `what` in it")
    what = request["what"]
    made = _ANSWERS.get(what)
    if made is None:
        raise Refused(f"{what[:_TEXT_MAX]!r}: unknown; there are {', '.join(_ANSWERS)}")
    return made(markets, request)


def _market(markets: Markets, request: dict[str, Any]) -> Market:
    name = request.get("symbol")
    found = markets.find(name) if isinstance(name, str) else None
    if found is None:
        raise Refused(f"symbol {str(name)[:_TEXT_MAX]!r}: there is none")
    return found


def _number(request: dict[str, Any], name: str, default: int | None = None) -> int | None:
    value = request.get(name, default)
    if value is not None and (type(value) is not int or not -(1 << 63) <= value < 1 << 63):
        raise Refused(f"{name}: must be an integer")
    return value


def _limit(request: dict[str, Any], default: int, most: int) -> int:
    limit = _number(request, "limit", default)
    if limit is None or limit < 1:
        raise Refused("limit: must be at least 1")
    return min(limit, most)


def _one_or_all(
    build: Callable[[Market], str], of: Callable[[Market], bool] = lambda _m: True
) -> Callable[[Markets, dict[str, Any]], bytes]:
    """An answer that is an object for one symbol, and a list without one."""

    def made(markets: Markets, request: dict[str, Any]) -> bytes:
        if request.get("symbol") is not None:
            return build(_current(markets, _market(markets, request))).encode()
        return messages.array(build(_current(markets, m)) for m in markets.declared() if of(m))

    return made


def _current(markets: Markets, m: Market) -> Market:
    """Its day ends now, though nothing may have been traded for a while."""
    m.now_ms = max(m.now_ms, markets.ms)
    return m


def _depth(markets: Markets, request: dict[str, Any]) -> bytes:
    return messages.depth(_market(markets, request), _limit(request, 500, 1000))


def _book(layout: Record) -> Callable[[Markets, dict[str, Any]], bytes]:
    """A whole book as records, with the command at which it stands."""

    def made(markets: Markets, request: dict[str, Any]) -> bytes:
        m = _market(markets, request)
        resting = m.book.resting()
        found: list[tuple[int, int, int, int]] = resting  # side, price, order, lots
        if layout is L2_UPDATE:
            found = [(s, p, 0, m.book.totals[p * 2 + s]) for s, p in dict.fromkeys(
                (side, price) for side, price, _, _ in resting)]  # fmt: skip
        rows = np.zeros(len(found), layout.dtype)
        rows["ts_ns"], rows["seq"], rows["update_id"] = markets.ts_ns, markets.seq, m.update_id
        rows["symbol"] = m.index
        if found:
            rows["side"], rows["price_ticks"], orders, rows["lots"] = zip(*found, strict=True)
            if layout is L3_UPDATE:
                rows["order_id"], rows["what"] = orders, ADDED
        body: bytes = msgpack.packb(
            {
                "symbol": m.name,
                "seq": markets.seq,
                "update_id": m.update_id,
                "ts_ns": markets.ts_ns,
                "rows": rows.tobytes(),
            }
        )
        return body

    return made


def _last(rows: Any, limit: int) -> Iterable[Any]:
    return islice(rows, max(len(rows) - limit, 0), None)


def _trades(markets: Markets, request: dict[str, Any]) -> bytes:
    m = _market(markets, request)
    limit = _limit(request, 500, 1000)
    return messages.array(messages.trade_row(m, t) for t in _last(m.trades, limit))


def _agg_trades(markets: Markets, request: dict[str, Any]) -> bytes:
    m = _market(markets, request)
    limit = _limit(request, 500, 1000)
    from_id = _number(request, "from_id")
    start, end = _number(request, "start"), _number(request, "end")
    rows = [
        t
        for t in m.aggs
        if (from_id is None or t.id >= from_id)
        and (start is None or t.ms >= start)
        and (end is None or t.ms <= end)
    ]
    oldest = from_id is not None or start is not None
    picked = rows[:limit] if oldest else rows[-limit:]
    return messages.array(messages.agg_trade_row(m, t) for t in picked)


def _klines(markets: Markets, request: dict[str, Any]) -> bytes:
    m = _market(markets, request)
    interval = INTERVALS.get(str(request.get("interval")))
    if interval is None:
        raise Refused(f"interval: must be one of {', '.join(INTERVALS)}")
    kind = str(request.get("kind", KINDS[0]))
    if kind not in KINDS:
        raise Refused(f"kind: must be one of {', '.join(KINDS)}")
    limit = _limit(request, 500, LIMIT_MAX)
    start, end = _number(request, "start"), _number(request, "end")
    number = KINDS.index(kind)
    rows = [
        c
        for c in m.candles[number].recent(interval)
        if (start is None or c[OPEN_AT] * MINUTE_MS >= start)
        and (end is None or c[OPEN_AT] * MINUTE_MS <= end)
    ]
    picked = rows[:limit] if start is not None else rows[-limit:]
    return messages.array(messages.kline_row(m, number, interval, c) for c in picked)


def _open_interest(markets: Markets, request: dict[str, Any]) -> bytes:
    return messages.open_interest(_market(markets, request), markets.ms)


def _premium(markets: Markets, request: dict[str, Any]) -> bytes:
    build = _one_or_all(lambda m: messages.premium_row(m, markets.ms), lambda m: m.mark > 0)
    return build(markets, request)


def _funding_info(markets: Markets, _request: dict[str, Any]) -> bytes:
    rows = (m for m in markets.declared() if m.interval_ns > 0)
    return messages.array(messages.funding_info_row(m) for m in rows)


def _symbols(markets: Markets, _request: dict[str, Any]) -> bytes:
    """What exchangeInfo needs beside the parameters that the account view has."""
    rows = [
        {
            "index": m.index,
            "name": m.name,
            "state": m.state,
            "asset": markets.asset_names.get(m.asset, ""),
            "onboardMs": m.onboard_ms,
            "pricePrecision": m.scale.price_decimals,
            "quantityPrecision": m.scale.qty_decimals,
        }
        for m in markets.declared()
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def _status(markets: Markets, _request: dict[str, Any]) -> bytes:
    """Where it stands; `records`: number of the newest record of each stream that is being sent."""
    hub = markets.hub
    status = {
        "seq": markets.seq,
        "index": markets.index,
        "tsNs": markets.ts_ns,
        "records": {
            name: hub.numbers.get(f"records.{name}", 0)
            for name in ("l2", "l3")
            if hub.heard is None or f"records.{name}" in hub.heard
        },
    }
    return json.dumps(status).encode()


_ANSWERS: Final[dict[str, Callable[[Markets, dict[str, Any]], bytes]]] = {
    "depth": _depth,
    "l2": _book(L2_UPDATE),
    "l3": _book(L3_UPDATE),
    "trades": _trades,
    "aggTrades": _agg_trades,
    "klines": _klines,
    "ticker": _one_or_all(messages.ticker_row),
    "price": _one_or_all(messages.price_row),
    "bookTicker": _one_or_all(messages.book_ticker_row),
    "premiumIndex": _premium,
    "openInterest": _open_interest,
    "fundingInfo": _funding_info,
    "symbols": _symbols,
    "status": _status,
}
