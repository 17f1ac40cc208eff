"""Books, chains, candles and tickers out of reports, against the engine and against slow twins."""

from __future__ import annotations

import json
import random
from typing import Any

import msgpack
import pytest

from gateways.marketdata.answers import Refused, answer
from gateways.marketdata.market import MS, Hub, Markets
from shm.codes import Kind, Side
from tests.laws.test_funding_laws import SYMBOLS, Run
from tests.model.depth_client import DepthClient
from tests.model.random_flow import Flow, open_venue
from tests.venue import SECOND, Venue


def heard_markets() -> Markets:
    hub = Hub()
    hub.heard = None
    return Markets(hub)


def book_of(markets: Markets, symbol: int) -> list[tuple[str, int, int, int]]:
    book = markets.market(symbol).book
    return [(Side(side).name, price, oid, lots) for side, price, oid, lots in book.resting()]


@pytest.mark.parametrize("seed", range(8))
def test_books_are_the_engines_and_chains_hold(seed: int) -> None:
    v = open_venue(Venue(seed=seed))
    markets = heard_markets()
    flow = Flow(seed, wide=True)
    clients: dict[str, DepthClient] = {}
    messages: list[tuple[str, int, dict[str, Any]]] = []
    for _ in range(10):
        for kind, fields in flow.commands(v, 40):
            v.send(kind, **fields)
        v.wait(SECOND)  # windows are cut by stamped time, which the flow may let stand still
        v.send(Kind.TICK)
        v.work()
        markets.apply(v.all_reports()[markets.index :])
        for symbol in range(flow.symbols):
            assert book_of(markets, symbol) == v.book(symbol)
        for stream, (first, payloads) in markets.hub.take().items():
            if stream.startswith("records"):
                continue
            for k, payload in enumerate(payloads):
                messages.append((stream, first + k, json.loads(payload)))
    numbers: dict[str, int] = {}
    for stream, number, said in messages:
        assert number == numbers.get(stream, 0) + 1, "numbered without a gap"
        numbers[stream] = number
        if "@depth@" in stream:
            clients.setdefault(stream, DepthClient()).hear(said)
    assert clients


@pytest.mark.parametrize("seed", (1, 2))
def test_marks_are_the_engines(seed: int) -> None:
    v = Run(seed).until(250)
    markets = heard_markets()
    markets.apply(v.all_reports())
    for symbol in range(SYMBOLS):
        m = markets.market(symbol)
        s, c = v.arrays["symbols"][symbol], v.arrays["contracts"][symbol]
        assert (m.mark, m.index_ticks) == (s["mark_ticks"], c["index_ticks"])
        assert m.open_interest == s["open_lots"] and m.next_funding_ms == c["funding_next_ns"] // MS
        assert book_of(markets, symbol) == v.book(symbol)
    said = markets.hub.take()
    assert any(stream.endswith("@markPrice@1s") for stream in said)


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_anywhere_changes_nothing(seed: int) -> None:
    """State kept and taken up between any two commands says the same, with the same numbers."""
    v = open_venue(Venue(seed=seed))
    for kind, fields in Flow(seed, wide=True).commands(v, 300):
        v.send(kind, **fields)
        v.work()
    rows = v.all_reports()
    straight, broken = heard_markets(), heard_markets()
    straight.apply(rows)
    dice = random.Random(seed)
    said: dict[str, list[bytes]] = {}
    while broken.index < len(rows):
        stop = min(len(rows), broken.index + dice.randint(1, 120))
        while stop < len(rows) and rows["seq"][stop] == rows["seq"][stop - 1]:
            stop += 1
        broken.apply(rows[broken.index : stop])
        for stream, (_, payloads) in broken.hub.take().items():
            said.setdefault(stream, []).extend(payloads)
        kept = msgpack.unpackb(msgpack.packb(broken.dump()), strict_map_key=False)
        broken = heard_markets()
        broken.load(kept)
    assert broken.dump() == straight.dump()
    for stream, (first, payloads) in straight.hub.take().items():
        assert first == 1
        assert b"".join(said[stream]) == b"".join(payloads)


def test_snapshots_answer_the_dialect() -> None:
    v = open_venue(Venue(seed=5))
    for kind, fields in Flow(5).commands(v, 300):
        v.send(kind, **fields)
        v.work()
    markets = heard_markets()
    markets.apply(v.all_reports())
    name = "S0USDT"
    book = json.loads(answer(markets, {"what": "depth", "symbol": name, "limit": 5}))
    assert book["lastUpdateId"] == markets.market(0).update_id
    assert len(book["bids"]) <= 5 and book["bids"] == sorted(
        book["bids"], key=lambda row: -float(row[0])
    )
    for what, wanted in (
        ("trades", {"id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isRPITrade"}),
        ("aggTrades", {"a", "p", "q", "nq", "f", "l", "T", "m"}),
    ):
        rows = json.loads(answer(markets, {"what": what, "symbol": name}))
        assert rows and set(rows[0]) == wanted
    lots = {t.id: t.lots for t in markets.market(0).trades}
    for t in markets.market(0).aggs:
        assert t.lots == sum(lots[k] for k in range(t.first, t.last + 1))
    candles = json.loads(
        answer(markets, {"what": "klines", "symbol": name, "interval": "1m", "limit": 2})
    )
    assert len(candles[-1]) == 12 and candles[-1][0] % 60_000 == 0
    for what in ("ticker", "price", "bookTicker", "premiumIndex"):
        assert json.loads(answer(markets, {"what": what, "symbol": name}))["symbol"] == name
        assert isinstance(json.loads(answer(markets, {"what": what})), list)
    for bad in (
        *(None, {}, {"what": 5}, {"what": "nothing"}, {"what": "depth"}),
        *({"what": "depth", "symbol": "NONE"}, {"what": "depth", "symbol": name, "limit": 0}),
        *({"what": "depth", "symbol": name, "limit": "x"}, {"what": "klines", "symbol": name}),
        {"what": "aggTrades", "symbol": name, "start": 1 << 70},
    ):
        with pytest.raises(Refused):
            answer(markets, bad)
