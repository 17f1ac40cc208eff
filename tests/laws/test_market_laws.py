"""Books, chains, candles and tickers out of reports, against the engine and against slow twins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateways.marketdata.market import Hub, Markets
from shm.codes import Kind, Side
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
    flow = Flow(seed)
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
