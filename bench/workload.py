"""Order streams to measure with: exchange-core's published one, and a book of many orders.

`exchange_core` repeats the stream of exchange-core's ITOrderBookDirectImpl.performanceTest1K (its
TestOrdersGenerator at commit 2f85487), command by command: java.util.Random's numbers, a book of
its own in plain Python whose trades steer what comes next. 3,000,000 commands after 1,000 that
fill the book give 122,704 trades and 1,062,983 lots; bench/orderbook.py checks both.

`many_resting` is ours: a book that holds a given number of orders while all of it is touched.

The first takes half a minute to make, so it is kept in the cache folder, named by what made it.
"""

from __future__ import annotations

import hashlib
import math
import os
from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from shm.codes import Side
from shm.jit import cache_root

Stream = np.ndarray[Any, np.dtype[np.void]]


class Ask(IntEnum):
    """What a line of a stream asks for."""

    GTC = 0
    IOC = 1
    FOK = 2
    CANCEL = 3
    REDUCE = 4  # by `lots`
    MOVE = 5  # to `price_ticks`, keeping what is left; always to the back, may trade


# One line of a stream. No record of shm/records: it is stored and sent nowhere.
STREAM = np.dtype(
    [
        ("id", "<i8"),  # the order, from 1
        ("price_ticks", "<i8"),  # limit; 0 where none belongs
        ("lots", "<i8"),  # quantity; 0 where none belongs
        ("account", "<u4"),  # whose, from 1
        ("ask", "u1"),  # Ask
        ("side", "u1"),  # codes.Side
        ("reserved", "<u2"),
    ]
)

SEED = 101572685
COMMANDS = 3_000_000
FILL = 1_000
USERS = 1_000
TRADES = 122_704
LOTS = 1_062_983

_STATISTICS_EVERY = 512


class JavaRandom:
    """java.util.Random: 48 bits, linear congruential."""

    def __init__(self, seed: int) -> None:
        self.state = (seed ^ 0x5DEECE66D) & ((1 << 48) - 1)

    def bits(self, count: int) -> int:
        self.state = (self.state * 0x5DEECE66D + 0xB) & ((1 << 48) - 1)
        return self.state >> (48 - count)

    def below(self, bound: int) -> int:
        """nextInt(bound)."""
        word = self.bits(31)
        if bound & (bound - 1) == 0:
            return (bound * word) >> 31
        value = word % bound
        while word - value + bound - 1 >= 1 << 31:
            word = self.bits(31)
            value = word % bound
        return value

    def unit(self) -> float:
        """nextDouble()."""
        return ((self.bits(26) << 27) + self.bits(27)) * 2.0**-53


class Book:
    """Price-time priority with dicts: what the stream's own trades come from."""

    def __init__(self) -> None:
        self.levels: tuple[dict[int, dict[int, None]], ...] = ({}, {})
        self.prices: tuple[list[int], list[int]] = ([], [])
        self.orders: dict[int, tuple[int, int]] = {}  # id -> side, price
        self.left: dict[int, int] = {}
        self.counts = [0, 0]

    def rest(self, id_: int, side: int, price: int) -> None:
        level = self.levels[side].get(price)
        if level is None:
            level = self.levels[side][price] = {}
            insort(self.prices[side], price)
        level[id_] = None
        self.orders[id_] = (side, price)
        self.counts[side] += 1

    def remove(self, id_: int) -> None:
        side, price = self.orders.pop(id_)
        level = self.levels[side][price]
        del level[id_]
        self.counts[side] -= 1
        if not level:
            del self.levels[side][price]
            del self.prices[side][bisect_left(self.prices[side], price)]

    def makers(self, side: int, limit: int) -> Iterator[tuple[int, int]]:
        """(id, price) an order of `side` may trade with, best first; removing them is fine."""
        other = 1 - side
        prices = self.prices[other]
        while prices:
            price = prices[0] if side == Side.BUY else prices[-1]
            if price > limit if side == Side.BUY else price < limit:
                return
            level = self.levels[other][price]
            while level:
                yield next(iter(level)), price

    def available(self, side: int, limit: int) -> int:
        other = 1 - side
        return sum(
            sum(self.left[id_] for id_ in level)
            for price, level in self.levels[other].items()
            if (price <= limit if side == Side.BUY else price >= limit)
        )


class Generator:
    """exchange-core's TestOrdersGeneratorSession; names follow its meaning, not its spelling."""

    def __init__(self, symbol: int, seed: int, fill: int, users: int) -> None:
        a, b = symbol * -177277, seed * 10037 + 198267
        mixed = 31 * (31 + _int32(a)) + _int32(b)
        self.random = JavaRandom(_int32(mixed))
        price = int(10 ** (3.3 + self.random.unit() * 1.5 + self.random.unit() * 1.5))
        self.last_ticks = price
        self.deviation = min(int(price * 0.05), 10_000)
        self.low, self.high = price - 5 * self.deviation, price + 5 * self.deviation
        self.half = fill // 2
        self.users = users
        self.fast_fill_over = min(_STATISTICS_EVERY, self.half * 3 // 4)
        self.filled_once = False
        self.seen = [0, 0]  # orders by side, as of the last look
        self.next_id = 1
        self.live: list[int] = []  # ids in order of arrival, which is rising
        self.owner: dict[int, int] = {}
        self.asked_ticks: dict[int, int] = {}
        self.book = Book()

    def lines(self, count: int, fill: int) -> Iterator[tuple[int, ...]]:
        next_look = _STATISTICS_EVERY
        for k in range(fill + count):
            line = self._gtc() if k < fill else self._any()
            yield line
            self._execute(*line)
            if k >= next_look:
                next_look += min(_STATISTICS_EVERY, fill + 1)
                self.seen = list(self.book.counts)

    def _side(self) -> Side:
        return Side.BUY if self.random.below(4) >= 2 else Side.SELL

    def _size(self, faces: int) -> int:
        below = self.random.below
        return 1 + below(faces) * below(faces) * below(faces)

    def _gtc(self) -> tuple[int, ...]:
        below = self.random.below
        side = self._side()
        account = below(self.users) + 1
        spread = 1 + int(self.random.unit() ** 2 * self.deviation)
        away = (below(spread) + below(spread) + below(spread) + below(spread)) // 4 * 2 - spread
        if (away > 0) != (side == Side.SELL):
            away = -away
        price = self.last_ticks + away
        lots = self._size(6)
        id_ = self._new(account, lots)
        self.live.append(id_)
        self.asked_ticks[id_] = price
        return id_, price, lots, account, Ask.GTC, side

    def _instant(self) -> tuple[int, ...]:
        side = self._side()
        account = self.random.below(self.users) + 1
        limit = self.high if side == Side.BUY else self.low
        if self.random.below(32) == 0:
            # A budget of the worst price for all of it: the same as fill-or-kill at that price.
            ask, lots = Ask.FOK, self._size(8)
        else:
            ask, lots = Ask.IOC, self._size(6)
        return self._new(account, lots), limit, lots, account, ask, side

    def _new(self, account: int, lots: int) -> int:
        id_ = self.next_id
        self.next_id += 1
        self.owner[id_] = account
        self.book.left[id_] = lots
        return id_

    def _any(self) -> tuple[int, ...]:
        lacking = [self.half - seen for seen in self.seen]
        side = self._side()
        grow = lacking[side] > 0
        fast = not self.filled_once or lacking[side] > self.fast_fill_over
        if not self.filled_once and not grow:
            self.filled_once = True
        choice = self.random.below((2 if fast else 10) if grow else 40)
        if choice < 2 or not self.live:
            return self._gtc() if grow else self._instant()
        id_ = self.live[self.random.below(min(len(self.live), 512))]
        account = self.owner[id_]
        side = Side(self.book.orders[id_][0])
        if choice == 2:
            self._forget(id_)
            return id_, 0, 0, account, Ask.CANCEL, side
        if choice == 3:
            lots = self.random.below(self.book.left[id_]) + 1
            return id_, 0, lots, account, Ask.REDUCE, side
        before = self.asked_ticks[id_]
        step = (self.last_ticks - before) * 0.01
        if before > self.last_ticks:
            move = math.floor(step)
        elif before < self.last_ticks:
            move = math.ceil(step)
        else:
            move = self.random.below(2) * 2 - 1
        price = min(before + move, self.high)
        self.asked_ticks[id_] = price
        return id_, price, 0, account, Ask.MOVE, side

    def _forget(self, id_: int) -> None:
        at = bisect_left(self.live, id_)
        if at < len(self.live) and self.live[at] == id_:
            del self.live[at]

    def _execute(self, id_: int, price: int, lots: int, account: int, ask: int, side: int) -> None:
        book = self.book
        if ask == Ask.CANCEL:
            book.remove(id_)
            return
        if ask == Ask.REDUCE:
            book.left[id_] -= lots
            if book.left[id_] == 0:
                book.remove(id_)
                self._forget(id_)
            return
        if ask == Ask.MOVE:
            book.remove(id_)
        if ask == Ask.FOK and book.available(side, price) < lots:
            self.seen = list(book.counts)
            return
        left = book.left[id_]
        last_ticks = self.last_ticks
        for maker, at in book.makers(side, price):
            traded = min(left, book.left[maker])
            left -= traded
            book.left[maker] -= traded
            if book.left[maker] == 0:
                book.remove(maker)
                self._forget(maker)
            last_ticks = at
            if left == 0:
                break
        self.last_ticks = min(self.high, max(self.low, last_ticks))
        book.left[id_] = left
        if left == 0:
            self._forget(id_)
        elif ask in (Ask.GTC, Ask.MOVE):
            book.rest(id_, side, price)
        else:
            self.seen = list(book.counts)


def _int32(value: int) -> int:
    """As Java's int holds it."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def exchange_core(count: int = COMMANDS, fill: int = FILL, seed: int = SEED) -> Stream:
    """The first `fill` + `count` commands of exchange-core's book benchmark."""

    def make() -> Stream:
        lines = Generator(0, seed, fill, USERS).lines(count, fill)
        return np.array([(*line, 0) for line in lines], STREAM)

    return _kept(f"exchange_core-{count}-{fill}-{seed}", make)


def many_resting(resting: int, count: int, ticks: int, seed: int = 1) -> Stream:
    """Fill a book with `resting` orders over `ticks` prices a side, then work on all of it.

    The mix is that of exchange-core's stream: 13% new, 2% IOC, 7% cancel, 7% reduce, 71% move by
    up to three ticks; what is picked is picked from all orders alike. New orders lie anywhere on
    their side. About one command in fifteen names an order that was filled before: it is refused.
    """

    rng = np.random.default_rng(seed)
    middle = 1 << 24
    out = np.zeros(resting + count, STREAM)
    out["account"] = rng.integers(1, USERS + 1, len(out))
    out["side"] = rng.integers(0, 2, len(out))
    out["lots"] = rng.integers(1, 100, len(out))
    away = 1 + rng.integers(0, ticks, len(out))
    out["price_ticks"] = middle + np.where(out["side"] == Side.BUY, -away, away)
    asks = rng.choice(
        [Ask.GTC, Ask.IOC, Ask.CANCEL, Ask.REDUCE, Ask.MOVE],
        len(out),
        p=[0.12, 0.02, 0.075, 0.075, 0.71],
    )
    asks[:resting] = Ask.GTC
    out["ask"] = asks
    # Lists from here: one line depends on those before it, and numpy is slow one by one.
    draws, steps = rng.random(len(out)).tolist(), rng.integers(-3, 4, len(out)).tolist()
    kinds, sides = asks.tolist(), out["side"].tolist()
    prices, accounts = out["price_ticks"].tolist(), out["account"].tolist()
    ids = [0] * len(out)
    live: list[int] = []
    rests = list(prices)  # where the order that line k placed rests now
    for k, ask in enumerate(kinds):
        buys = sides[k] == Side.BUY
        if ask == Ask.GTC or ask == Ask.IOC:
            ids[k] = k + 1
            if ask == Ask.GTC:
                live.append(k)
            else:
                prices[k] = middle + ticks if buys else middle - ticks
            continue
        at = int(draws[k] * len(live))
        order = live[at]
        ids[k], accounts[k], sides[k] = order + 1, accounts[order], sides[order]
        if ask == Ask.CANCEL:
            live[at] = live[-1]
            live.pop()
        elif ask == Ask.MOVE:
            price = rests[order] + steps[k]
            buys = sides[k] == Side.BUY
            price = min(price, middle - 1) if buys else max(price, middle + 1)
            prices[k] = rests[order] = price
    out["id"], out["side"], out["account"], out["price_ticks"] = ids, sides, accounts, prices
    return out


def _kept(name: str, make: Any) -> Stream:
    """What `make` makes, from the cache folder if this source made it before."""
    source = hashlib.blake2s(Path(__file__).read_bytes(), digest_size=8).hexdigest()
    path = cache_root() / "streams" / f"{name}-{source}.npz"
    if path.exists():
        return np.load(path)["stream"]
    stream: Stream = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(file, stream=stream)
    partial.replace(path)
    return stream
