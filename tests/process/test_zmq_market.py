"""Native market data: books that two independent readers keep, through gaps and kills."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import zmq

from gateways.client.client import Client
from gateways.client.market import SILENT_S, Book, Market
from gateways.zmq.protocol import Order
from shm.codes import Side
from tests.process.helpers import ROOT, wait_until
from tests.process.zmq_doors import Doors

SYMBOL, INDEX = "ETHUSDT", 1  # no other test trades it


@pytest.fixture(scope="module")
def floor(doors: Doors) -> Doors:
    doors.open_market()
    if doors.processes["zmq"].poll() is not None:
        doors.open_gateway()
    return doors


@pytest.fixture(scope="module")
def key(floor: Doors) -> tuple[str, str]:
    floor.user("tom")
    return floor.key("tom")


@pytest.fixture
def trader(floor: Doors, key: tuple[str, str]) -> Iterator[Client]:
    with floor.connected(key) as client:
        yield client


class Traffic:
    """Orders of one trader, and the book they make: the twin that reads no market data."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.rng = random.Random(seed)
        self.open: dict[int, tuple[int, int, int]] = {}  # order id -> side, price, lots
        self.number = 0

    def some(self, count: int) -> None:
        orders: list[Order] = []
        for _ in range(count):
            if self.open and self.rng.random() < 0.4:
                order = self.rng.choice(list(self.open))
                orders.append(Order("cancel", symbol=INDEX, order_id=order))
                del self.open[order]
            else:
                side = self.rng.randrange(2)
                price = 600_000 + (1 if side else -1) * self.rng.randrange(1, 40)
                lots = self.rng.randrange(1, 5)
                orders.append(
                    Order("place", symbol=INDEX, side=side, price_ticks=price, qty_lots=lots)
                )
        self.client.connect(30.0)  # it may have been silent for long
        taken = self.client.send(orders)
        assert taken.count == count
        waiting = set(range(taken.first_request, taken.first_request + count))
        while waiting:
            for report in self.client.reports(0.05):
                if report.get("request") in waiting and "order_id" in report:
                    waiting.discard(report["request"])
                    if report["command"] == 1:
                        assert report["status"] == 0
                        self.open[report["order_id"]] = (
                            *(report["side"], report["price_ticks"], report["open_lots"]),
                        )

    def levels(self) -> tuple[dict[int, int], dict[int, int]]:
        sums: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for side, price, lots in self.open.values():
            sums[side][price] = sums[side].get(price, 0) + lots
        return sums

    def queues(self) -> tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]]:
        found: tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]] = ({}, {})
        for order, (side, price, lots) in sorted(self.open.items()):  # ids grow with time
            found[side].setdefault(price, {})[order] = lots
        return found


def keep(markets: list[Market], what: Callable[[], Any], why: str, seconds: float = 30.0) -> None:
    def look() -> Any:
        for market in markets:
            market.poll(0.01)
        return what()

    wait_until(look, seconds, why)


def lose(market: Market) -> None:
    """Throw messages away until records of each book are among them."""
    left = set(market.books)
    while left:
        assert market._sub.poll(30_000), f"no records of {left}"
        topic, _, body = market._sub.recv_multipart()
        if body:  # a beat has none
            left.discard(topic)


def same(book: Book, traffic: Traffic) -> bool:
    if not book.ready or book.levels != traffic.levels():
        return False
    if book.depth == "l3":
        mine, theirs = book.queues, traffic.queues()
        # dict equality forgets the order; in a queue it is what matters
        return all(
            {p: list(q.items()) for p, q in mine[side].items()}
            == {p: list(q.items()) for p, q in theirs[side].items()}
            for side in (Side.BUY, Side.SELL)
        )
    return True


def test_books_are_what_the_orders_make(floor: Doors, trader: Client) -> None:
    traffic = Traffic(trader, 1)
    traffic.some(40)
    raw, packed = floor.market(), floor.market(records=False)
    books = [m.follow(SYMBOL, depth) for m in (raw, packed) for depth in ("l2", "l3")]
    markets = [raw, packed]
    keep(markets, lambda: all(same(b, traffic) for b in books), "snapshots differ")
    for round_ in range(8):
        traffic.some(60)
        if round_ % 3 == 0:
            keep(markets, lambda: all(same(b, traffic) for b in books), f"round {round_}")
    keep(markets, lambda: all(same(b, traffic) for b in books), "books differ")
    bid, ask = books[0].best()
    assert bid < 600_000 < ask
    # Late subscribers join in the middle of it.
    late = floor.market()
    book = late.follow(SYMBOL, "l3")
    traffic.some(60)
    keep([late], lambda: same(book, traffic), "the late one differs")
    # A trade takes from the front of a queue.
    bid = book.best()[0]
    oldest = next(iter(traffic.queues()[Side.BUY][bid]))
    sell = Order("place", symbol=INDEX, side=int(Side.SELL), price_ticks=bid, qty_lots=1, tif=1)
    assert trader.send([sell]).count == 1
    side, price, lots = traffic.open.pop(oldest)
    traffic.open |= {oldest: (side, price, lots - 1)} if lots > 1 else {}
    every = [*markets, late]
    keep(every, lambda: all(same(b, traffic) for b in (*books, book)), "the trade is missing")
    for market in (*markets, late):
        market.close()


def test_snippet_of_readme(
    floor: Doors, trader: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text()
    snippet = text.partition("```python perpcore native market data\n")[2].partition("```")[0]
    Traffic(trader, 5).some(10)
    ends = floor.config.market_endpoints[1], floor.config.market_ask_endpoints[1]
    exec(snippet, dict(zip(("FEED", "ASK"), ends, strict=True)))
    assert capsys.readouterr().out.startswith("(")


def test_gaps_and_kills_are_repaired(floor: Doors, trader: Client) -> None:
    trader.send([Order("cancel_all", symbol=INDEX)])
    traffic = Traffic(trader, 2)
    traffic.some(30)
    market = floor.market()
    books = [market.follow(SYMBOL, depth) for depth in ("l2", "l3")]
    keep([market], lambda: all(same(b, traffic) for b in books), "no snapshot")
    # Messages that never arrived: the next one tells.
    gaps = [b.gaps for b in books]
    traffic.some(30)
    lose(market)
    traffic.some(30)
    assert market._sub.poll(30_000)
    keep([market], lambda: all(b.gaps > n for b, n in zip(books, gaps, strict=True)), "no gap")
    keep([market], lambda: all(same(b, traffic) for b in books), "the gap stays")
    # Whoever was busy for long looks at what has come before it speaks of silence.
    assert market._sub.poll(30_000)
    market.heard_s -= 2 * SILENT_S
    market.poll()
    assert all(b.ready for b in books)
    # Nobody hears the topics for a while, or, when the word of it comes late, all the while.
    for book in books:
        market._sub.unsubscribe(f"{book.depth}.ETHUSDT".encode() + b"\0")
    traffic.some(30)
    for book in books:
        market._sub.subscribe(f"{book.depth}.ETHUSDT".encode() + b"\0")
    traffic.some(30)
    keep([market], lambda: all(same(b, traffic) for b in books), "what nobody heard is missing")
    # The gateway is killed, then the market-data process behind it.
    floor.respawn("market", "gateway", "market")
    traffic.some(30)
    keep([market], lambda: all(same(b, traffic) for b in books), "after the gateway's death", 60)
    floor.respawn("marketdata", "follow", "marketdata")
    traffic.some(30)
    keep([market], lambda: all(same(b, traffic) for b in books), "after market data's death", 60)
    traffic.some(30)
    keep([market], lambda: all(same(b, traffic) for b in books), "after all of it")
    market.close()


def test_any_question_is_answered_and_any_stream_is_heard(floor: Doors, trader: Client) -> None:
    context = zmq.Context()
    ask = context.socket(zmq.DEALER)
    ask.setsockopt(zmq.RCVTIMEO, 10_000)
    ask.connect(floor.config.market_ask_endpoints[0])

    def said(request: bytes) -> tuple[bytes, bytes]:
        ask.send_multipart([b"1", request])
        _, status, body = ask.recv_multipart()
        return status, body

    rng = random.Random(4)
    for request in [
        *(b"", b"\xc1", b"\x80", msgpack.packb({"what": "l2"}), msgpack.packb({"what": ["l3"]})),
        msgpack.packb({"what": "l2", "symbol": "NOSUCH"}),
        msgpack.packb({"what": "l3", "symbol": 7}),
        *(rng.randbytes(rng.randrange(100)) for _ in range(30)),
    ]:
        assert said(request)[0] == b"refused"
    status, body = said(msgpack.packb({"what": "depth", "symbol": SYMBOL}))
    assert status == b"ok" and b"lastUpdateId" in body
    sub = context.socket(zmq.SUB)
    sub.setsockopt(zmq.RCVTIMEO, 20_000)
    sub.connect(floor.config.market_endpoints[0])
    for topic in (b"ethusdt@bookTicker\0", b"nonsense\0", b"\xff" * 3000, b"l2.NOSUCH\0"):
        sub.subscribe(topic)
    trader.send([Order("cancel_all", symbol=INDEX)])
    traffic = Traffic(trader, 3)

    def heard() -> int:
        traffic.some(20)
        return sub.poll(100)

    wait_until(heard, 30, "it heard of nothing")  # from when its subscription has arrived
    topic, _, payload, *_ = sub.recv_multipart()
    assert topic == b"ethusdt@bookTicker\0" and b'"e":"bookTicker"' in payload
    context.destroy(linger=0)
