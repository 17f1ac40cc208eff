"""The referee's kernels, called by address as its adapter does, against the slow twin.

Needs the production build: compiled functions over raw memory are all there is to it.
"""

from __future__ import annotations

import ctypes
from random import Random
from typing import Any

import numpy as np
import pytest

from shm.codes import Flag, Kind, MatchKind, NodeState, Side, Tif
from shm.jit import BOUNDSCHECK, PLAIN
from tests.model.book_rig import command
from tests.model.book_twin import Twin

pytestmark = pytest.mark.skipif(BOUNDSCHECK or PLAIN, reason="needs the production build")

SLOTS = 1 << 12
MINUS = 1 << 32  # the twin's prices must be positive; the referee's are signed


class Engine:
    """What adapter.cpp is to the referee."""

    def __init__(self) -> None:
        from bench.referee import engine as referee

        self.r = referee
        self.ring = np.zeros(SLOTS, referee.ME_REPORT)
        self.state = np.zeros(referee.STATE_CELLS, np.int64)
        self.prepared = referee.Prepared(self.ring.ctypes.data, self.state.ctypes.data, SLOTS)
        *functions, tables = self.prepared.addresses()
        word = ctypes.c_int64
        self.batch = ctypes.CFUNCTYPE(None, word, word, word)(functions[0])
        self.single = [ctypes.CFUNCTYPE(None, word, word)(f) for f in functions[1:4]]
        self.best = ctypes.CFUNCTYPE(word, word, word)(functions[4])
        self.depth = ctypes.CFUNCTYPE(word, word, word, word)(functions[5])
        self.tables = tables

    def send(self, messages: Any, *, together: bool) -> list[tuple[int, ...]]:
        at = messages.ctypes.data
        if together:
            self.batch(at, len(messages), self.tables)
        else:
            for k, type_ in enumerate(messages["type"]):
                self.single[type_](at + k * self.r.ME_MSG.itemsize + 8, self.tables)
        first, last = int(self.state[self.r.READ]), int(self.state[self.r.NEXT])
        assert last - first <= SLOTS
        self.state[self.r.READ] = last
        rows = [self.ring[k % SLOTS].item() for k in range(first, last)]
        return [(head & 255, head >> 8, *rest) for head, *rest in rows]


class Model:
    """The twin, spoken to in the referee's words."""

    def __init__(self) -> None:
        self.twin = Twin()
        self.slots: dict[int, int] = {}
        self.rows = 0

    def live(self, id_: int) -> Any:
        order = self.twin.rows.get(self.slots.get(id_, -1))
        return order if order is not None and order.live else None

    def tell(self, m: Any) -> list[tuple[int, ...]]:
        id_, seq, price = int(m["order_id"]), int(m["sequence_number"]), int(m["price_ticks"])
        lots, side, order = int(m["quantity"]), int(m["side"]), self.live(id_)
        if m["type"] != 0 and order is None:
            return [(4 if m["type"] == 1 else 5, 0, seq, id_, 0, 0, 0, 0, 0)]
        if m["type"] == 1:
            self.twin.apply(command(kind=Kind.CANCEL, slot=order.slot, decided_order_id=id_))
            where = (order.price - MINUS, order.open)
            return [(2, order.side, seq, id_, *where, 0, 0, 0)]
        if m["type"] == 0:
            self.slots[id_] = self.rows
            self.rows += 1
            out = [(0, side, seq, id_, price, lots, 0, 0, 0)]
            more = {"kind": Kind.PLACE, "order_tif": Tif.IOC if m["ioc"] else Tif.GTC}
        else:
            side = order.side
            out = [(3, side, seq, id_, price, lots, 0, 0, 0)]
            more = {"kind": Kind.AMEND, "flags": int(Flag.TO_BACK | Flag.REMAINING)}
        c = command(
            slot=self.slots[id_],
            decided_order_id=id_,
            side=side,
            limit_ticks=price + MINUS,
            decided_lots=lots,
            **more,
        )
        for kind, _, _, at, traded, left, maker, *_ in self.twin.apply(c):
            if kind == MatchKind.FILL:
                maker_id = self.twin.rows[maker].order_id
                out.append((1, 0, seq, id_, at - MINUS, traded, maker_id, id_, 0))
            elif kind == MatchKind.ENDED:
                out.append((2, side, seq, id_, price, left, 0, 0, 0))
        return out


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.mark.parametrize("together", [True, False], ids=["batch", "message"])
def test_reports_are_those_of_the_twin(engine: Engine, together: bool) -> None:
    rng, model = Random(7), Model()
    ids = [rng.choice([k, k << 20, (1 << 63) - 1 - k]) for k in range(4000)]
    seq = 0
    for spread in (3, 40, 100_000):
        middle = rng.randint(-200_000, 200_000)
        messages = np.zeros(1000, engine.r.ME_MSG)
        for m in messages:
            known = ids[: max(1, model.rows)]
            m["type"] = rng.choice([0, 0, 0, 1, 2])
            m["order_id"] = ids[model.rows] if m["type"] == 0 else rng.choice(known[-200:])
            m["sequence_number"] = seq = seq + 1
            m["side"] = rng.choice(list(Side))
            away = int(abs(rng.gauss(0, spread))) - 1
            m["price_ticks"] = middle - away if m["side"] == Side.BUY else middle + away
            m["quantity"] = rng.randint(1, 100)
            m["ioc"] = m["type"] == 0 and rng.random() < 0.15
            if m["type"] == 2 and model.live(int(m["order_id"])) is not None:
                m["side"] = model.live(int(m["order_id"])).side
            wanted = model.tell(m)
            assert engine.send(np.array([m]), together=together) == wanted
        for side in (Side.BUY, Side.SELL):
            book = model.twin.side_of(0, side)
            none = -(1 << 63) if side == Side.BUY else (1 << 63) - 1
            assert engine.best(side, engine.tables) == (book[0].price - MINUS if book else none)
            for order in book:
                depth = sum(o.open for o in book if o.price == order.price)
                assert engine.depth(order.price - MINUS, side, engine.tables) == depth
        assert engine.depth(middle + 10 * spread + 10**6, Side.BUY, engine.tables) == 0
    nodes = engine.prepared.arrays["nodes"]
    live = {int(i) for i in nodes["order_id"][nodes["state"] == NodeState.LIVE]}
    assert live == {o.order_id for o in model.twin.queue}
    for id_ in live:
        cancel = np.zeros(1, engine.r.ME_MSG)
        cancel["type"], cancel["order_id"] = 1, id_
        engine.send(cancel, together=together)
    assert engine.state[engine.r.COUNT] == 0
