"""A client's book beside the market-data process's own, when messages come twice, late or never."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateways.client.market import Book as ClientBook
from gateways.marketdata import book as venue
from shm.codes import Side
from shm.records import L2_UPDATE, L3_UPDATE


class Twin:
    """The venue's book, and what it would publish of each command."""

    def __init__(self) -> None:
        self.book = venue.Book()
        self.seq = 0
        self.last = {"l2": -1, "l3": -1}
        self.live: list[int] = []

    def command(self, action: int, side: int, price: int, lots: int) -> dict[str, Any]:
        """One command; (previous, last, rows) by depth, where it told something."""
        self.seq += 1
        book = self.book
        if action and self.live:
            order = self.live[price % len(self.live)]
            if action == 1:
                book.ended(order)
            elif action == 2:
                book.traded(order, max(book.orders[order].lots - lots, 0))
            else:
                book.amended(order, book.orders[order].side, price, lots, to_back=lots % 2 == 0)
            self.live = [o for o in self.live if o in book.orders]
        else:
            book.opened(self.seq, side, price, lots)
            self.live.append(self.seq)
        changed = book.end_command()
        l2 = [(0, self.seq, 0, k >> 1, book.totals.get(k, 0), 0, k & 1) for k in changed]
        l3 = [
            (0, self.seq, 0, order, p, left, 0, s, what) for what, order, s, p, left in book.events
        ]
        book.events.clear()
        told = {}
        for depth, rows in (("l2", l2), ("l3", l3)):
            if rows:
                told[depth] = (self.last[depth], self.seq, rows)
                self.last[depth] = self.seq
        return told

    def snapshot(self, depth: str) -> dict[str, Any]:
        resting = self.book.resting()
        rows = np.zeros(len(resting), (L2_UPDATE if depth == "l2" else L3_UPDATE).dtype)
        for row, (side, price, order, lots) in zip(rows, resting, strict=True):
            row["side"], row["price_ticks"], row["lots"] = side, price, lots
            if depth == "l2":
                row["lots"] = self.book.totals[price * 2 + side]
            else:
                row["order_id"], row["what"] = order, venue.ADDED
        return {"seq": self.seq, "update_id": 0, "rows": rows.tobytes()}

    def agrees(self, client: ClientBook) -> bool:
        for side in (Side.BUY, Side.SELL):
            totals = {k >> 1: v for k, v in self.book.totals.items() if k & 1 == side}
            if client.levels[side] != totals:
                return False
            for price, queue in client.queues[side].items():
                if list(queue.items()) != list(self.book.queues[price * 2 + side].items()):
                    return False
        return True


COMMANDS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 6), st.integers(1, 4),
              st.sampled_from(("heard", "heard", "heard", "lost", "twice", "snapshot"))),
    max_size=60,
)  # fmt: skip


@given(COMMANDS)
def test_a_book_that_says_it_is_ready_is_right(
    commands: list[tuple[int, int, int, int, str]],
) -> None:
    twin = Twin()
    clients = {depth: ClientBook("X", depth) for depth in ("l2", "l3")}
    for client in clients.values():
        client.start(twin.snapshot(client.depth))
    for *what, fate in commands:
        told = twin.command(*what)
        for depth, client in clients.items():
            for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
                if depth in told:
                    client.hear(*told[depth])
            if fate == "snapshot" and not client.ready:
                client.start(twin.snapshot(depth))
            # The beat of a quiet second: whoever lost the last message learns of it.
            client.hear(twin.last[depth], twin.last[depth], [])
            assert not client.ready or twin.agrees(client), (depth, what, fate)
    for depth, client in clients.items():
        if not client.ready:
            client.start(twin.snapshot(depth))
        assert client.ready and twin.agrees(client)
