"""One symbol's order book out of reports alone: levels, queues, and what changed.

Reads   what reports say of orders of one symbol, in order (gateways/marketdata/market.py).
Writes  orders, queues and totals a level; which levels a command changed; L3 events.
Never   matches anything: who met whom is told.

An order enters the book at the end of the command that opened it or made it lose its place, if it
is still alive then: in between it is the one that trades. There is one such order a command.

Keys of levels are price * 2 + side (codes.Side), so that one dict serves both sides.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

BUY: Final = 0
SELL: Final = 1

# What an L3 event says.
ADDED: Final = 1  # at the end of its queue
CHANGED: Final = 2  # fewer lots, same place
TRADED: Final = 3  # the same, by a trade
REMOVED: Final = 4

L3Event = tuple[int, int, int, int, int]  # (what, order id, side, price, lots left)


class Order:
    """What the book knows of a live order."""

    __slots__ = ("lots", "price", "resting", "side")

    def __init__(self, side: int, price: int, lots: int) -> None:
        self.side = side
        self.price = price
        self.lots = lots
        self.resting = False


class Book:
    """See the module. `queues[key]` maps order id to lots, oldest first."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.queues: dict[int, dict[int, int]] = {}
        self.totals: dict[int, int] = {}
        self.prices: tuple[list[int], list[int]] = ([], [])  # ascending, of bids and asks
        self.events: list[L3Event] = []  # of the command at hand
        self._touched: dict[int, int] = {}  # level -> its total before the command at hand
        self._entering = 0

    # ------------------------------------------------------------ what reports say

    def opened(self, order_id: int, side: int, price: int, lots: int) -> None:
        self.orders[order_id] = Order(side, price, lots)
        self._entering = order_id

    def traded(self, order_id: int, lots_left: int) -> None:
        """One side of a trade; an order that rests keeps its place."""
        order = self.orders.get(order_id)
        if order is None:
            return
        if order.resting:
            self._set(order_id, order, lots_left, TRADED)
        order.lots = lots_left
        if lots_left == 0:
            del self.orders[order_id]

    def ended(self, order_id: int) -> None:
        order = self.orders.pop(order_id, None)
        if order is not None and order.resting:
            self._set(order_id, order, 0, REMOVED)

    def amended(self, order_id: int, side: int, price: int, lots: int, to_back: bool) -> None:
        """It has a new price or size; its place it keeps for less at the same price, if it may."""
        order = self.orders.get(order_id)
        if order is None:  # it was gone, and came back as a new one
            self.opened(order_id, side, price, lots)
            return
        if order.resting and price == order.price and lots <= order.lots and not to_back:
            self._set(order_id, order, lots, CHANGED)
            order.lots = lots
            return
        if order.resting:
            self._set(order_id, order, 0, REMOVED)
            order.resting = False
        order.price = price
        order.lots = lots
        self._entering = order_id

    def end_command(self) -> list[int]:
        """All is told of a command: who has entered, rests. Returns the levels that changed."""
        if self._entering:
            order_id, self._entering = self._entering, 0
            order = self.orders.get(order_id)
            if order is not None and order.lots > 0:
                order.resting = True
                key = order.price * 2 + order.side
                queue = self.queues.get(key)
                if queue is None:
                    queue = self.queues[key] = {}
                    insort(self.prices[order.side], order.price)
                total = self.totals.get(key, 0)
                self._touched.setdefault(key, total)
                queue[order_id] = order.lots
                self.totals[key] = total + order.lots
                self.events.append((ADDED, order_id, order.side, order.price, order.lots))
        if not self._touched:
            return []
        totals = self.totals
        changed = [key for key, before in self._touched.items() if totals.get(key, 0) != before]
        self._touched.clear()
        return changed

    def _set(self, order_id: int, order: Order, lots: int, what: int) -> None:
        """A resting order has so many lots now; 0 takes it out."""
        key = order.price * 2 + order.side
        queue = self.queues[key]
        total = self.totals[key]
        self._touched.setdefault(key, total)
        total -= queue[order_id] - lots
        if lots:
            queue[order_id] = lots
            self.totals[key] = total
        else:
            del queue[order_id]
            if queue:
                self.totals[key] = total
            else:
                del self.queues[key], self.totals[key]
                prices = self.prices[order.side]
                del prices[bisect_left(prices, order.price)]
        self.events.append((what, order_id, order.side, order.price, lots))

    # ------------------------------------------------------------ what there is

    def best(self) -> tuple[int, int, int, int]:
        """(bid price, bid lots, ask price, ask lots); zeros where there is none."""
        bids, asks = self.prices
        bid = bids[-1] if bids else 0
        ask = asks[0] if asks else 0
        return (
            bid,
            self.totals[bid * 2] if bid else 0,
            ask,
            self.totals[ask * 2 + 1] if ask else 0,
        )

    def top(self, side: int, count: int) -> list[tuple[int, int]]:
        """(price, lots) of the best levels, best first."""
        prices = self.prices[side]
        best = prices[: -count - 1 : -1] if side == BUY else prices[:count]
        return [(price, self.totals[price * 2 + side]) for price in best]

    def resting(self) -> list[tuple[int, int, int, int]]:
        """(side, price, order id, lots): bids from the best, then asks, each queue oldest first."""
        rows = []
        for side in (BUY, SELL):
            prices = self.prices[side]
            for price in reversed(prices) if side == BUY else prices:
                for order_id, lots in self.queues[price * 2 + side].items():
                    rows.append((side, price, order_id, lots))
        return rows

    # ------------------------------------------------------------ checkpoints

    def dump(self) -> list[int]:
        """Between two commands every live order rests: their rows in order are all there is."""
        assert all(order.resting for order in self.orders.values())
        return [cell for row in self.resting() for cell in row]

    @classmethod
    def load(cls, cells: list[int]) -> Book:
        book = cls()
        for at in range(0, len(cells), 4):
            side, price, order_id, lots = cells[at : at + 4]
            order = book.orders[order_id] = Order(side, price, lots)
            order.resting = True
            key = price * 2 + side
            if key not in book.queues:
                book.queues[key] = {}
                insort(book.prices[side], price)
            book.queues[key][order_id] = lots
            book.totals[key] = book.totals.get(key, 0) + lots
        return book
