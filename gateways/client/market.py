"""Books of the native market data, kept in step: snapshots, records on top, gaps repaired.

    market = Market("tcp://127.0.0.1:7020", "tcp://127.0.0.1:7021")
    book = market.follow("BTCUSDT", "l2")
    while True:
        market.poll(1.0)
        print(book.best())

Reads   gateways/zmq/market.py: PUB and ROUTER.
Writes  nothing. Imports no numba, and starts no thread: messages are taken when the caller asks.
Never   shows a book that missed something: until the snapshot is there, `ready` is False.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

import msgpack
import numpy as np
import zmq

from shm.codes import Side
from shm.records import L2_UPDATE, L3_UPDATE

ASK_AGAIN_S: Final = 0.5
BUFFERED_MAX: Final = 100_000  # messages while a snapshot is on its way
SILENT_S: Final = 5.0
_HEAD: Final = np.dtype([("previous", "<i8"), ("last", "<i8"), ("ts_ns", "<i8")])
_ADDED: Final = 1
_DTYPES: Final = {"l2": L2_UPDATE.dtype, "l3": L3_UPDATE.dtype}

Message = tuple[int, int, Any]


class Book:
    """One symbol: levels, and with l3 the orders of each level, oldest first."""

    def __init__(self, symbol: str, depth: str) -> None:
        self.symbol = symbol
        self.depth = depth
        self.ready = False
        self.seq = -1  # everything up to this command is in it
        self.update_id = 0
        self.gaps = 0  # times something was missed
        self.levels: tuple[dict[int, int], dict[int, int]] = ({}, {})  # of bids, of asks
        self.queues: tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]] = ({}, {})
        self._orders: dict[int, tuple[int, int]] = {}  # id -> side, price
        self._waiting: deque[Message] = deque(maxlen=BUFFERED_MAX)
        self.asked_at = 0.0

    def best(self) -> tuple[int, int]:
        """(bid, ask) in ticks; 0 where there is none."""
        bids, asks = self.levels
        return max(bids, default=0), min(asks, default=0)

    def start(self, snapshot: dict[str, Any]) -> None:
        """Begin from a snapshot, then what came meanwhile."""
        for side in (Side.BUY, Side.SELL):
            self.levels[side].clear()
            self.queues[side].clear()
        self._orders.clear()
        self.seq, self.update_id = snapshot["seq"], snapshot["update_id"]
        for row in np.frombuffer(snapshot["rows"], _DTYPES[self.depth]).tolist():
            self._apply(row)
        self.ready = True
        waiting, self._waiting = self._waiting, deque(maxlen=BUFFERED_MAX)
        for message in waiting:
            self.hear(*message)

    def hear(self, previous: int, last: int, rows: Any) -> None:
        """A message: rows of commands that the book has are passed over."""
        if not self.ready:
            self._waiting.append((previous, last, rows))
            return
        if last <= self.seq:
            return
        if previous < 0 or previous > self.seq:
            self.gaps += 1
            self.ready = False
            self._waiting.append((previous, last, rows))
            return
        for row in rows:
            if row[1] > self.seq:
                self._apply(row)
                self.update_id = row[2]
        self.seq = last

    def _apply(self, row: Any) -> None:
        if self.depth == "l2":
            price, lots, side = row[3], row[4], row[6]
            if lots:
                self.levels[side][price] = lots
            else:
                self.levels[side].pop(price, None)
            return
        order, price, lots, side, what = row[3], row[4], row[5], row[7], row[8]
        queue = self.queues[side].setdefault(price, {})
        if what == _ADDED or lots:
            self.levels[side][price] = self.levels[side].get(price, 0) + lots - queue.get(order, 0)
            queue[order] = lots
            self._orders[order] = (side, price)
        elif order in queue:
            self.levels[side][price] -= queue.pop(order)
            del self._orders[order]
        if not queue:
            del self.queues[side][price]
            self.levels[side].pop(price, None)


class Market:
    """Any number of books. Not for use from several threads."""

    def __init__(self, endpoint: str, ask_endpoint: str, *, records: bool = True) -> None:
        """records: hear records; else msgpack."""
        self.books: dict[bytes, Book] = {}
        self.heard_s = time.monotonic()
        self._prefix = "" if records else "m."
        self._records = records
        self._context = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._ask_endpoint = ask_endpoint
        self._sub.connect(endpoint)
        self._ask = self._context.socket(zmq.DEALER)
        self._ask.connect(ask_endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self._sub, zmq.POLLIN)
        self._poller.register(self._ask, zmq.POLLIN)

    def close(self) -> None:
        self._context.destroy(linger=0)

    def follow(self, symbol: str, depth: str = "l2") -> Book:
        """A book that `poll` keeps; depth is "l2" or "l3"."""
        topic = f"{self._prefix}{depth}.{symbol}".encode() + b"\0"
        if topic not in self.books:
            self.books[topic] = Book(symbol, depth)
            self._sub.subscribe(topic)
        return self.books[topic]

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Take what has come; asks for snapshots of books that lack one. Whether anything came."""
        now = time.monotonic()
        for topic, book in self.books.items():
            if not book.ready and now - book.asked_at > ASK_AGAIN_S:
                book.asked_at = now
                request = msgpack.packb({"what": book.depth, "symbol": book.symbol})
                self._ask.send_multipart([topic, request], zmq.NOBLOCK)
        came = dict(self._poller.poll(int(timeout_s * 1000)))
        if self._ask in came:
            topic, status, body = self._ask.recv_multipart()
            if status == b"ok" and not self.books[topic].ready:
                self.books[topic].start(msgpack.unpackb(body))
        if self._sub in came:
            self._hear()
        elif time.monotonic() - self.heard_s > SILENT_S:
            # Only now: what came while the caller was busy elsewhere has just been looked for.
            self.heard_s = time.monotonic()
            for book in self.books.values():
                book.ready = False
        return bool(came)

    def _hear(self) -> None:
        while True:
            try:
                topic, head, body = self._sub.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.heard_s = time.monotonic()
            book = self.books[topic]
            previous, last, _ = np.frombuffer(head, _HEAD)[0].tolist()
            if self._records:
                rows = np.frombuffer(body, _DTYPES[book.depth]).tolist()
            else:
                rows = msgpack.unpackb(body)
            book.hear(previous, last, rows)
