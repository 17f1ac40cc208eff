"""Hear market data and ask for snapshots, as gateways and tools do.

Reads   the market-data process (gateways/marketdata/main.py): its PUB and ROUTER sockets.
Never   imports numba; never decodes what it forwards: a payload is the final JSON text.

    market = MarketData(config)
    market.subscribe("btcusdt@depth@100ms")
    async for stream, payloads in market.messages():     # payloads: list[bytes], oldest first
        ...
    text = await market.ask("depth", symbol="BTCUSDT", limit=100)     # bytes, MarketDataError

A stream is named as in the dialect's WebSocket paths, the defaults written out:

    <s>@depth@100ms <s>@depth@250ms <s>@depth@500ms     <s>@depth5@100ms ... <s>@depth20@500ms
    <s>@trade <s>@aggTrade <s>@bookTicker               <s>@kline_<i>
    <s>@markPrice@1s <s>@markPrice@3s                   <s>@indexPriceKline_<i>, markPriceKline_<i>
    <s>@ticker <s>@miniTicker <s>@forceOrder            !ticker@arr !miniTicker@arr !bookTicker
    !markPrice@arr@1s !markPrice@arr@3s !forceOrder@arr !contractInfo
    records.l2 records.l3                               L2_UPDATE, L3_UPDATE rows of every symbol

`canonical` maps what clients ask for (`btcusdt@depth`, `BTCUSDT_PERPETUAL@continuousKline_1m`) to
these. The payload of continuousKline differs: the gateway renames it from kline with `continuous`.

What may be asked for (each answer is the dialect's final JSON):

    depth(symbol, limit)  trades(symbol, limit)  aggTrades(symbol, limit, from_id, start, end)
    klines(symbol, interval, start, end, limit, kind=trade|mark|index|premium)
    ticker(symbol?) price(symbol?) bookTicker(symbol?) premiumIndex(symbol?) openInterest(symbol)
    fundingInfo() symbols() status()
    l2(symbol) l3(symbol)     msgpack {symbol, seq, update_id, ts_ns, rows: the book as records}

Messages of a stream are numbered without gaps, the same number for ever: what a restarted process
says again is dropped here, and a gap is told to `on_gap`, after which a snapshot is the way on.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgpack
import zmq
import zmq.asyncio

from shm.config import Config
from shm.records import L2_UPDATE, L3_UPDATE

END: Final = b"\0"  # after a stream's name: no name is the beginning of another
HEAD: Final = struct.Struct("<qqq")  # number of the first payload, report index, stamped ns
RECEIVE_HWM: Final = 100_000
RECORD_BYTES: Final = {
    b"records.l2": L2_UPDATE.dtype.itemsize,
    b"records.l3": L3_UPDATE.dtype.itemsize,
}

INTERVALS: Final = (
    *("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"),
)
_OF_ALL: Final = (
    *("!bookTicker", "!ticker@arr", "!miniTicker@arr", "!forceOrder@arr", "!contractInfo"),
)
_SPEEDS: Final = ("100ms", "250ms", "500ms")


class MarketDataError(RuntimeError):
    """The market-data process refused, or didn't answer in time."""


def canonical(stream: str) -> str | None:
    """The stream that a client's name means, or None: there is none like that."""
    name = stream.strip()
    if name in _OF_ALL:
        return name
    if name in ("!markPrice@arr", "!markPrice@arr@3s"):
        return "!markPrice@arr@3s"
    if name in ("!markPrice@arr@1s", "!assetIndex@arr"):  # the latter is silent: there is no index
        return name
    symbol, at, rest = name.partition("@")
    symbol = symbol.lower()
    if not at or not re.fullmatch(r"[a-z0-9_.-]{1,32}", symbol):
        return None
    if match := re.fullmatch(r"continuousKline_(\w+)", rest, re.IGNORECASE):
        pair, _, contract = symbol.rpartition("_")
        if contract != "perpetual" or match[1] not in INTERVALS:
            return None
        return f"{pair}@kline_{match[1]}"
    if rest in ("assetIndex", "compositeIndex"):  # silent, too
        return f"{symbol}@{rest}"
    if rest in ("trade", "aggTrade", "bookTicker", "ticker", "miniTicker", "forceOrder"):
        return f"{symbol}@{rest}"
    if rest in ("markPrice", "markPrice@3s"):
        return f"{symbol}@markPrice@3s"
    if rest == "markPrice@1s":
        return f"{symbol}@{rest}"
    if rest in ("rpiDepth", "rpiDepth@500ms"):  # there are no RPI orders: every level is shown
        return f"{symbol}@depth@500ms"
    if match := re.fullmatch(r"depth(5|10|20)?(?:@(\d+ms))?", rest):
        speed = match[2] or "250ms"
        return f"{symbol}@depth{match[1] or ''}@{speed}" if speed in _SPEEDS else None
    if match := re.fullmatch(r"(kline|indexPriceKline|markPriceKline)_(\w+)", rest):
        return f"{symbol}@{match[1]}_{match[2]}" if match[2] in INTERVALS else None
    return None


def continuous(payload: bytes, pair: str) -> bytes:
    """A kline message as continuousKline says it."""
    head = b'{"e":"kline",'
    assert payload.startswith(head)
    cut = payload.index(b',"k":')
    event = payload[len(head) : cut].partition(b',"s":')[0]
    said = b'{"e":"continuous_kline",' + event + b',"ps":"' + pair.upper().encode()
    return said + b'","ct":"PERPETUAL"' + payload[cut:]


class MarketData:
    """One gateway's ear and mouth. Its methods are of one event loop."""

    def __init__(self, config: Config, on_gap: Callable[[str], None] | None = None) -> None:
        """on_gap: is told the name of a stream that missed something."""
        self._context = zmq.asyncio.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        self._sub.setsockopt(zmq.LINGER, 0)
        self._sub.setsockopt(zmq.RECONNECT_IVL, 50)
        self._sub.connect(config.marketdata_endpoint)
        self._ask = self._context.socket(zmq.DEALER)
        self._ask.setsockopt(zmq.LINGER, 0)
        self._ask.setsockopt(zmq.RECONNECT_IVL, 50)
        self._ask.connect(config.marketdata_ask_endpoint)
        self._on_gap = on_gap
        self._wanted: dict[str, int] = {}
        self._last: dict[bytes, int] = {}  # stream -> number of the last payload
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, asyncio.Future[tuple[bytes, bytes]]] = {}
        self._answers: asyncio.Task[None] | None = None

    def subscribe(self, stream: str) -> None:
        """Hear a stream (its canonical name) until as many `unsubscribe` calls."""
        count = self._wanted.get(stream, 0)
        if count == 0:
            self._sub.subscribe(stream.encode() + END)
        self._wanted[stream] = count + 1

    def unsubscribe(self, stream: str) -> None:
        count = self._wanted.get(stream, 0)
        if count == 1:
            self._sub.unsubscribe(stream.encode() + END)
            self._last.pop(stream.encode(), None)
            del self._wanted[stream]
        elif count > 1:
            self._wanted[stream] = count - 1

    async def messages(self) -> AsyncIterator[tuple[str, list[bytes]]]:
        """(stream, payloads) as they come, each payload once."""
        while True:
            topic, head, *payloads = await self._sub.recv_multipart()
            fresh = self._fresh(topic[:-1], HEAD.unpack(head)[0], payloads)
            if fresh:
                yield topic[:-1].decode(), fresh

    def _fresh(self, name: bytes, first: int, payloads: list[bytes]) -> list[bytes]:
        """What of a message wasn't heard before; payload k has number first + k."""
        size = RECORD_BYTES.get(name)
        if size is not None:  # records are numbered one by one
            payloads = [p[at : at + size] for p in payloads for at in range(0, len(p), size)]
        last = self._last.get(name)
        if last is not None and first <= last:
            payloads = payloads[last + 1 - first :]
            first = last + 1
        elif last is not None and first > last + 1 and self._on_gap is not None:
            self._on_gap(name.decode())
        if payloads:
            self._last[name] = first + len(payloads) - 1
        return payloads if size is None or not payloads else [b"".join(payloads)]

    async def ask(self, what: str, timeout_s: float = 2.0, **parameters: Any) -> bytes:
        """A snapshot as JSON text; MarketDataError with the process's words when it refuses."""
        if self._answers is None:
            self._answers = asyncio.create_task(self._take_answers())
        number = next(self._numbers).to_bytes(8, "little")
        future: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            await self._ask.send_multipart([number, msgpack.packb({"what": what, **given})])
            status, body = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise MarketDataError(f"{what}: market data didn't answer in {timeout_s} s") from None
        finally:
            del self._waiting[number]
        if status != b"ok":
            raise MarketDataError(body.decode())
        return body

    async def _take_answers(self) -> None:
        while True:
            number, status, body = await self._ask.recv_multipart()
            future = self._waiting.get(number)
            if future is not None and not future.done():
                future.set_result((status, body))

    def close(self) -> None:
        """End for good; what waits for answers is cancelled."""
        if self._answers is not None:
            self._answers.cancel()
        for future in self._waiting.values():
            future.cancel()
        self._context.destroy(linger=0)
