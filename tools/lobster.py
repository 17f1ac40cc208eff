"""LOBSTER message files as order flow that `perpcore replay` understands.

Reads   a message file, and the book file beside it if there is one.
Writes  FLOW rows (tools/flow.py); `file_seq` is the line of the message, from 1, or 0 for the
        orders that were there before the first.

    1 new limit order     PLACE, or SNAP where it would trade: the file says that it rests
    2 partial cancel      REDUCE
    3 deletion            CANCEL
    4 execution           an IOC from the other side at that price, under an id of our own
    5, 6, 7               hidden execution, cross, halt: nothing the visible book would show

A file starts in mid-day. The book file's first row, less what the first message did, says what
rested before: one SNAP a level, under ids above the file's own. Messages about orders older than
the file act on those. The file also says nothing about what happens outside its N levels, so when
a level comes into view with another size than it should have, it is put right there, by a SNAP or
by taking from its orders. So the N best levels are the published ones at every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from shm.codes import Side
from tools.flow import FLOW, Array, Chunk, Cmd, FlowError, integers, read_lines, split

NEW, PARTIAL_CANCEL, DELETE, EXECUTE = 1, 2, 3, 4
_MESSAGE: Final = ("time", "type", "order_id", "size", "price", "direction")

Row = tuple[int, Cmd, int, int, int, int]  # file_seq, cmd, order_id, side, price, qty


class Lobster(NamedTuple):
    """A message file as flow, and how much of it the file did not say itself."""

    flow: Array
    seeded: int  # orders that rested before the first message
    corrected: int  # orders put in or taken out because of what happened out of view


def book_beside(messages: Path) -> Path | None:
    """The book file that belongs to a message file by name, if it exists."""
    path = messages.with_name(messages.name.replace("_message_", "_orderbook_"))
    return path if path != messages and path.is_file() else None


def load_lobster(messages: Path, orderbook: Path | None = None) -> Lobster:
    """Translate a message file; without a book file nothing rests before its first message."""
    rows = [row for chunk in _chunks(messages, _MESSAGE) for row in _message_rows(chunk)]
    book = _Book(max((order_id for _, order_id, *_ in rows), default=0) + 1)
    published = _levels(orderbook) if orderbook else iter(())
    seeded = corrected = 0
    for line, (kind, order_id, size, price, side) in enumerate(rows, 1):
        levels = next(published, None)
        if line == 1 and levels:
            before = [dict(prices) for prices in levels]
            change = {NEW: -size, PARTIAL_CANCEL: size, DELETE: size, EXECUTE: size}.get(kind, 0)
            before[side][price] = before[side].get(price, 0) + change
            for at in Side:
                for level, lots in before[at].items():
                    seeded += book.correct(0, at, level, lots)
        if kind == NEW:
            if price in book.sides[side] and order_id in book.sides[side][price]:
                raise FlowError(f"{messages}: line {line}: order_id = {order_id} is live already")
            book.add(line, order_id, side, price, size)
        elif kind in (PARTIAL_CANCEL, DELETE):
            book.remove(line, order_id, side, price, size)
        elif kind == EXECUTE:
            book.execute(line, side, price, size)
        if levels:
            corrected += book.agree(line, levels)
    flow = np.zeros(len(book.rows), FLOW)
    for field, column in zip(
        ("file_seq", "cmd", "order_id", "side", "price", "qty"),
        zip(*book.rows, strict=True),
        strict=False,
    ):
        flow[field] = column
    return Lobster(flow, seeded, corrected)


class _Book:
    """The book as the rows so far leave it, order by order; every change appends its row."""

    def __init__(self, first_own_id: int) -> None:
        self.rows: list[Row] = []
        # For each side: price -> {order id: open lots}, oldest order first.
        self.sides: list[dict[int, dict[int, int]]] = [{}, {}]
        self.first_own_id = first_own_id
        self.next_id = first_own_id

    def own_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def best(self, side: int) -> int | None:
        prices = self.sides[side]
        return (max(prices) if side == Side.BUY else min(prices)) if prices else None

    def add(self, line: int, order_id: int, side: int, price: int, lots: int) -> None:
        against = self.best(1 - side)
        crosses = against is not None and (
            price >= against if side == Side.BUY else price <= against
        )
        self.rows.append((line, Cmd.SNAP if crosses else Cmd.PLACE, order_id, side, price, lots))
        self.sides[side].setdefault(price, {})[order_id] = lots

    def take(self, line: int, order_id: int, side: int, price: int, lots: int) -> int:
        """Take up to `lots` off an order if it is at this price; returns what was left to take."""
        queue = self.sides[side].get(price, {})
        taken = min(lots, queue.get(order_id, 0))
        if taken == 0:
            return lots
        queue[order_id] -= taken
        if queue[order_id]:
            self.rows.append((line, Cmd.REDUCE, order_id, side, price, taken))
        else:
            self.rows.append((line, Cmd.CANCEL, order_id, side, price, 0))
            self._drop(order_id, side, price)
        return lots - taken

    def _drop(self, order_id: int, side: int, price: int) -> None:
        queue = self.sides[side][price]
        del queue[order_id]
        if not queue:
            del self.sides[side][price]

    def remove(self, line: int, order_id: int, side: int, price: int, lots: int) -> None:
        """A cancel: of the order if we know it, else of what we put at its price ourselves."""
        left = self.take(line, order_id, side, price, lots)
        for own_id in list(self.sides[side].get(price, {})):
            if own_id >= self.first_own_id and left:
                left = self.take(line, own_id, side, price, left)
        if left == lots:  # nothing known there: let the engine say so
            self.rows.append((line, Cmd.CANCEL, order_id, side, price, 0))

    def execute(self, line: int, side: int, price: int, lots: int) -> None:
        """An IOC against the resting `side`, matched here as the engine will match it."""
        self.rows.append((line, Cmd.IOC, self.own_id(), 1 - side, price, lots))
        while lots:
            best = self.best(side)
            if best is None or (best < price if side == Side.BUY else best > price):
                return
            order_id, open_lots = next(iter(self.sides[side][best].items()))
            taken = min(lots, open_lots)
            lots -= taken
            self.sides[side][best][order_id] -= taken
            if taken == open_lots:
                self._drop(order_id, side, best)

    def correct(self, line: int, side: int, price: int, lots: int) -> bool:
        """Make a level's total `lots`; returns whether that took anything."""
        queue = self.sides[side].get(price, {})
        more = lots - sum(queue.values())
        if more > 0:
            own_id = self.own_id()
            self.rows.append((line, Cmd.SNAP, own_id, side, price, more))
            self.sides[side].setdefault(price, {})[own_id] = more
        less = -more
        # Our own first, they have the largest ids; then the newest: the oldest trade next.
        for order_id in sorted(queue, reverse=True):
            if less > 0:
                less = self.take(line, order_id, side, price, less)
        return more != 0

    def agree(self, line: int, levels: list[dict[int, int]]) -> int:
        """Correct every level that a published row shows, and those it shows to be absent."""
        count = 0
        for side in Side:
            shown = levels[side]
            if not shown:
                continue
            worst = min(shown) if side == Side.BUY else max(shown)
            stale = [
                price
                for price in self.sides[side]
                if price not in shown and (price > worst if side == Side.BUY else price < worst)
            ]
            for price, lots in [*shown.items(), *((price, 0) for price in stale)]:
                count += self.correct(line, side, price, lots)
        return count


def _chunks(path: Path, names: tuple[str, ...]) -> Iterator[Chunk]:
    before = width = 0
    for lines in read_lines(path):
        width = width or lines[0].count(",") + 1
        if width < len(names):
            raise FlowError(
                f"{path}: line 1: {width} columns, wanted {len(names)} ({','.join(names)})"
            )
        yield split(path, names, lines, before, width)
        before += len(lines)


def _message_rows(chunk: Chunk) -> Iterator[tuple[int, int, int, int, int]]:
    kinds = integers(chunk, 1, 1, 7, "a message type, 1 to 7")
    ids = integers(chunk, 2, 0, 2**63 - 1, "an integer from 0")
    sizes = integers(chunk, 3, 0, 2**63 - 1, "an integer from 0")
    prices = integers(chunk, 4, -(2**63), 2**63 - 1, "an integer of 64 bits")
    directions = integers(chunk, 5, -1, 1, "1 for a buy order, -1 for a sell order")
    sides = (int(Side.BUY if direction > 0 else Side.SELL) for direction in directions)
    return zip(kinds, ids, sizes, prices, sides, strict=True)


def _levels(path: Path) -> Iterator[list[dict[int, int]]]:
    """For each row of a book file: bids and asks as price -> lots; empty levels left out."""
    for chunk in _chunks(path, ("ask price", "ask size", "bid price", "bid size")):
        names = [chunk.names[column % 4] for column in range(len(chunk.columns))]
        chunk = chunk._replace(names=names)
        if len(names) % 4:
            raise FlowError(f"{path}: {len(names)} columns, wanted four for each level")
        columns = [
            integers(chunk, column, -(2**63), 2**63 - 1, "an integer of 64 bits")
            for column in range(len(names))
        ]
        for row in zip(*columns, strict=True):
            asks = dict(zip(row[0::4], row[1::4], strict=True))
            bids = dict(zip(row[2::4], row[3::4], strict=True))
            yield [{p: lots for p, lots in side.items() if lots > 0} for side in (bids, asks)]
