"""Market-data messages and snapshots as JSON text, built once for everybody.

Never   decides what is sent when (gateways/marketdata/market.py).

Text is put together by hand: every value is an integer, a decimal out of a Scale, or a symbol name
that was checked when it was declared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from gateways.marketdata import klines
from gateways.marketdata.klines import MINUTE_MS, Candle, next_open
from gateways.scales import Scale, decimal_text
from shm.codes import Side, State, Tif

if TYPE_CHECKING:
    from gateways.marketdata.market import AggTrade, Market, Trade

PERPETUAL_END_MS: Final = 4133404800000  # "delivery date" of what is never delivered
STATUS: Final = {
    State.TRADING: "TRADING",
    State.CANCEL_ONLY: "PRE_SETTLE",
    State.HALTED: "PENDING_TRADING",
    State.CLOSED: "CLOSE",
    State.ABSENT: "CLOSE",
}
_PREMIUM_DECIMALS: Final = 8


class Scaled(Protocol):
    """A symbol, as far as its candles need it."""

    scale: Scale


def rate_text(ppb: int) -> str:
    """A rate with eight decimals, nine where it has them."""
    return decimal_text(ppb, 9) if ppb % 10 else decimal_text(ppb // 10, 8)


def _levels(scale: Scale, levels: Iterable[tuple[int, int]]) -> str:
    return ",".join(f'["{scale.price(p)}","{scale.qty(q)}"]' for p, q in levels)


def _flag(value: bool) -> str:
    return "true" if value else "false"


# ---------------------------------------------------------------- books


def depth_update(
    m: Market,
    event_ms: int,
    at_ms: int,
    first: int,
    last: int,
    previous: int,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
) -> bytes:
    return (
        f'{{"e":"depthUpdate","E":{event_ms},"T":{at_ms},"s":"{m.name}","U":{first},"u":{last},'
        f'"pu":{previous},"b":[{_levels(m.scale, bids)}],"a":[{_levels(m.scale, asks)}]}}'
    ).encode()


def depth(m: Market, limit: int) -> bytes:
    bids, asks = m.book.top(Side.BUY, limit), m.book.top(Side.SELL, limit)
    return (
        f'{{"lastUpdateId":{m.update_id},"E":{m.changed_ms},"T":{m.changed_ms},'
        f'"bids":[{_levels(m.scale, bids)}],"asks":[{_levels(m.scale, asks)}]}}'
    ).encode()


def book_ticker(m: Market, event_ms: int) -> bytes:
    bid, bid_lots, ask, ask_lots = m.book.best()
    s = m.scale
    return (
        f'{{"e":"bookTicker","u":{m.update_id},"E":{event_ms},"T":{m.changed_ms},"s":"{m.name}",'
        f'"b":"{s.price(bid)}","B":"{s.qty(bid_lots)}","a":"{s.price(ask)}","A":"{s.qty(ask_lots)}"}}'
    ).encode()


def book_ticker_row(m: Market) -> str:
    bid, bid_lots, ask, ask_lots = m.book.best()
    s = m.scale
    return (
        f'{{"symbol":"{m.name}","bidPrice":"{s.price(bid)}","bidQty":"{s.qty(bid_lots)}",'
        f'"askPrice":"{s.price(ask)}","askQty":"{s.qty(ask_lots)}","time":{m.changed_ms},'
        f'"lastUpdateId":{m.update_id}}}'
    )


# ---------------------------------------------------------------- trades


def trade(m: Market, t: Trade) -> bytes:
    return (
        f'{{"e":"trade","E":{t.ms},"T":{t.ms},"s":"{m.name}","t":{t.id},'
        f'"p":"{m.scale.price(t.price)}","q":"{m.scale.qty(t.lots)}","X":"MARKET",'
        f'"m":{_flag(t.taker_sells)}}}'
    ).encode()


def trade_row(m: Market, t: Trade) -> str:
    return (
        f'{{"id":{t.id},"price":"{m.scale.price(t.price)}","qty":"{m.scale.qty(t.lots)}",'
        f'"quoteQty":"{m.scale.quote(t.price * t.lots)}","time":{t.ms},'
        f'"isBuyerMaker":{_flag(t.taker_sells)},"isRPITrade":false}}'
    )


def _agg(m: Market, t: AggTrade) -> str:
    price, qty = m.scale.price(t.price), m.scale.qty(t.lots)
    return (
        f'"a":{t.id},"p":"{price}","q":"{qty}","nq":"{qty}","f":{t.first},"l":{t.last},'
        f'"T":{t.ms},"m":{_flag(t.taker_sells)}'
    )


def agg_trade(m: Market, t: AggTrade) -> bytes:
    return f'{{"e":"aggTrade","E":{t.ms},"s":"{m.name}",{_agg(m, t)}}}'.encode()


def agg_trade_row(m: Market, t: AggTrade) -> str:
    return f"{{{_agg(m, t)}}}"


# ---------------------------------------------------------------- candles


def _price(m: Scaled, kind: int, value: int) -> str:
    if kind == klines.PREMIUM:
        return decimal_text(value, _PREMIUM_DECIMALS)
    return m.scale.price(value)


def kline(m: Market, event_ms: int, text: str, interval: int, c: Candle, over: bool) -> bytes:
    s = m.scale
    opened = c[klines.OPEN_AT]
    close_ms = next_open(interval, opened) * MINUTE_MS - 1
    first, last = (c[klines.FIRST_ID], c[klines.LAST_ID]) if c[klines.TRADES] else (-1, -1)
    return (
        f'{{"e":"kline","E":{event_ms},"s":"{m.name}","k":{{"t":{opened * MINUTE_MS},'
        f'"T":{close_ms},"s":"{m.name}","i":"{text}","f":{first},"L":{last},'
        f'"o":"{s.price(c[klines.OPEN])}","c":"{s.price(c[klines.CLOSE])}",'
        f'"h":"{s.price(c[klines.HIGH])}","l":"{s.price(c[klines.LOW])}",'
        f'"v":"{s.qty(c[klines.LOTS])}","n":{c[klines.TRADES]},"x":{_flag(over)},'
        f'"q":"{s.quote(c[klines.TICKS_LOTS])}","V":"{s.qty(c[klines.TAKER_LOTS])}",'
        f'"Q":"{s.quote(c[klines.TAKER_TICKS_LOTS])}","B":"0"}}}}'
    ).encode()


def price_kline(
    m: Market, kind: int, event: str, event_ms: int, text: str, interval: int, c: Candle, over: bool
) -> bytes:
    """A candle of mark or index price as a stream message."""
    opened = c[klines.OPEN_AT]
    close_ms = next_open(interval, opened) * MINUTE_MS - 1
    return (
        f'{{"e":"{event}","E":{event_ms},"ps":"{m.name}","k":{{"t":{opened * MINUTE_MS},'
        f'"T":{close_ms},"s":"{m.name}","i":"{text}","o":"{_price(m, kind, c[klines.OPEN])}",'
        f'"c":"{_price(m, kind, c[klines.CLOSE])}","h":"{_price(m, kind, c[klines.HIGH])}",'
        f'"l":"{_price(m, kind, c[klines.LOW])}","n":{c[klines.TRADES]},"x":{_flag(over)}}}}}'
    ).encode()


def kline_row(m: Scaled, kind: int, interval: int, c: Candle) -> str:
    opened = c[klines.OPEN_AT]
    close_ms = next_open(interval, opened) * MINUTE_MS - 1
    prices = '","'.join(
        _price(m, kind, c[cell]) for cell in (klines.OPEN, klines.HIGH, klines.LOW, klines.CLOSE)
    )
    if kind != klines.TRADE:
        tail = f'"0",{close_ms},"0",{c[klines.TRADES]},"0","0","0"'
        return f'[{opened * MINUTE_MS},"{prices}",{tail}]'
    s = m.scale
    return (
        f'[{opened * MINUTE_MS},"{prices}","{s.qty(c[klines.LOTS])}",{close_ms},'
        f'"{s.quote(c[klines.TICKS_LOTS])}",{c[klines.TRADES]},"{s.qty(c[klines.TAKER_LOTS])}",'
        f'"{s.quote(c[klines.TAKER_TICKS_LOTS])}","0"]'
    )


# ---------------------------------------------------------------- tickers


def _change(m: Market, opened: int, last: int) -> tuple[str, str]:
    """(price change, per cent with three decimals, cut towards zero)."""
    change = last - opened
    share = 0
    if opened > 0:
        share = abs(change) * 100_000 // opened
    return m.scale.price(change), decimal_text(share if change >= 0 else -share, 3)


def ticker(m: Market, event_ms: int) -> str:
    d = m.day()
    s = m.scale
    change, per_cent = _change(m, d.open, d.last)
    return (
        f'{{"e":"24hrTicker","E":{event_ms},"s":"{m.name}","p":"{change}","P":"{per_cent}",'
        f'"w":"{s.average(d.ticks_lots, d.lots)}","c":"{s.price(d.last)}",'
        f'"Q":"{s.qty(d.last_lots)}","o":"{s.price(d.open)}","h":"{s.price(d.high)}",'
        f'"l":"{s.price(d.low)}","v":"{s.qty(d.lots)}","q":"{s.quote(d.ticks_lots)}","O":{d.open_ms},"C":{d.close_ms},'
        f'"F":{d.first_id},"L":{d.last_id},"n":{d.trades}}}'
    )


def mini_ticker(m: Market, event_ms: int) -> str:
    d = m.day()
    s = m.scale
    return (
        f'{{"e":"24hrMiniTicker","E":{event_ms},"s":"{m.name}","c":"{s.price(d.last)}",'
        f'"o":"{s.price(d.open)}","h":"{s.price(d.high)}","l":"{s.price(d.low)}",'
        f'"v":"{s.qty(d.lots)}","q":"{s.quote(d.ticks_lots)}"}}'
    )


def ticker_row(m: Market) -> str:
    d = m.day()
    s = m.scale
    change, per_cent = _change(m, d.open, d.last)
    return (
        f'{{"symbol":"{m.name}","priceChange":"{change}","priceChangePercent":"{per_cent}",'
        f'"weightedAvgPrice":"{s.average(d.ticks_lots, d.lots)}","lastPrice":"{s.price(d.last)}",'
        f'"lastQty":"{s.qty(d.last_lots)}","openPrice":"{s.price(d.open)}",'
        f'"highPrice":"{s.price(d.high)}","lowPrice":"{s.price(d.low)}","volume":"{s.qty(d.lots)}",'
        f'"quoteVolume":"{s.quote(d.ticks_lots)}","openTime":{d.open_ms},"closeTime":{d.close_ms},'
        f'"firstId":{d.first_id},"lastId":{d.last_id},"count":{d.trades}}}'
    )


def price_row(m: Market) -> str:
    return f'{{"symbol":"{m.name}","price":"{m.scale.price(m.last)}","time":{m.traded_ms}}}'


# ---------------------------------------------------------------- mark, funding, liquidations


def mark_price(m: Market, event_ms: int) -> str:
    s = m.scale
    mark, index = s.price(m.mark), s.price(m.index_ticks or m.mark)
    return (
        f'{{"e":"markPriceUpdate","E":{event_ms},"s":"{m.name}","p":"{mark}","ap":"{mark}",'
        f'"P":"{index}","i":"{index}","r":"{rate_text(m.rate_ppb)}","T":{m.next_funding_ms}}}'
    )


def premium_row(m: Market, now_ms: int) -> str:
    s = m.scale
    index = s.price(m.index_ticks or m.mark)
    return (
        f'{{"symbol":"{m.name}","markPrice":"{s.price(m.mark)}","indexPrice":"{index}",'
        f'"estimatedSettlePrice":"{index}","lastFundingRate":"{rate_text(m.rate_ppb)}",'
        f'"interestRate":"{rate_text(m.interest_ppb)}","nextFundingTime":{m.next_funding_ms},'
        f'"time":{now_ms}}}'
    )


def funding_info_row(m: Market) -> str:
    return (
        f'{{"symbol":"{m.name}","adjustedFundingRateCap":"{rate_text(m.cap_ppb)}",'
        f'"adjustedFundingRateFloor":"{rate_text(m.floor_ppb)}",'
        f'"fundingIntervalHours":{m.interval_ns // 3_600_000_000_000},"disclaimer":false}}'
    )


def open_interest(m: Market, now_ms: int) -> bytes:
    lots = m.scale.qty(m.open_interest)
    return f'{{"openInterest":"{lots}","symbol":"{m.name}","time":{now_ms}}}'.encode()


def force_order(m: Market, event_ms: int) -> str:
    """The largest liquidation of the second that is over."""
    f = m.forced
    assert f is not None
    s = m.scale
    return (
        f'{{"e":"forceOrder","E":{event_ms},"o":{{"s":"{m.name}","S":"{Side(f.side).name}",'
        f'"o":"LIMIT","f":"{Tif.IOC.name}","q":"{s.qty(f.lots)}","p":"{s.price(f.price)}",'
        f'"ap":"{s.average(f.ticks_lots, f.filled)}","X":"{f.status}","l":"{s.qty(f.last_lots)}",'
        f'"z":"{s.qty(f.filled)}","T":{f.ms}}}}}'
    )


def contract_info(m: Market, event_ms: int) -> bytes:
    brackets = [
        {
            "bs": k + 1,
            "bnf": floor // 10**m.scale.money_decimals,
            "bnc": cap // 10**m.scale.money_decimals,
            "mmr": ppm / 1_000_000,
            "cf": 0,
            "mi": 1,
            "ma": leverage,
        }
        for k, (floor, cap, ppm, leverage) in enumerate(m.brackets)
    ]
    return json.dumps(
        {
            "e": "contractInfo",
            "E": event_ms,
            "s": m.name,
            "ps": m.name,
            "ct": "PERPETUAL",
            "dt": PERPETUAL_END_MS,
            "ot": m.onboard_ms,
            "cs": STATUS[State(m.state)],
            "bks": brackets,
        },
        separators=(",", ":"),
    ).encode()


def array(rows: Iterable[str]) -> bytes:
    return f"[{','.join(rows)}]".encode()
