"""The heap of GTD orders: the earliest first, the older first among equals, out from anywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import expiry
from engine.settlement import EXPIRE_PER_TICK
from shm.codes import Kind, Side, Tif
from shm.pointers import table
from shm.records import CLAIM, VENUE
from shm.units import NIL
from tests.venue import ANN, LIMITS, Venue, check_laws

ROWS = 40
STEPS = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, 9)), max_size=120)


@given(STEPS)
def test_it_is_a_sorted_list(steps: list[tuple[int, int]]) -> None:
    venue, claims = np.zeros(1, VENUE.dtype), np.zeros(ROWS, CLAIM.dtype)
    heap = np.zeros(ROWS, np.int64)
    claims["heap"] = NIL
    v, c, h = table(venue), table(claims), table(heap)
    model: dict[int, tuple[int, int]] = {}
    for number, (slot, expire_ns) in enumerate(steps):
        if slot in model:
            expiry.remove(v, c, h, slot)
            del model[slot]
        else:
            claims[slot]["expire_ns"], claims[slot]["order_id"] = expire_ns, number + 1
            expiry.push(v, c, h, slot)
            model[slot] = (expire_ns, number + 1)
        count = int(venue["heap_count"][0])
        assert sorted(heap[:count].tolist()) == sorted(model) and not heap[count:].any()
        assert [int(claims[s]["heap"]) for s in heap[:count]] == list(range(count))
        assert (claims["heap"][[s for s in range(ROWS) if s not in model]] == NIL).all()
        if model:
            assert heap[0] == min(model, key=lambda s: model[s])
    due = []
    while venue["heap_count"][0]:
        slot = int(heap[0])
        due.append(model[slot])
        expiry.remove(v, c, h, slot)
    assert due == sorted(model.values())


def test_what_one_tick_cannot_end_the_next_one_does() -> None:
    more = 10
    v = Venue(LIMITS._replace(orders=2048), commands=4096, ingress_slots=2048)
    v.open_market(orders_max=5000, quanta=10**12)
    for k in range(EXPIRE_PER_TICK + more):
        v.place(ANN, Side.BUY, 100, 1, tif=Tif.GTD, expire_ns=v.now + 1 + k % 7)
    v.work()
    v.wait(9)
    v.do(Kind.TICK)
    left = sorted((c["expire_ns"], c["order_id"]) for c in v.live_claims())
    assert len(left) == more and {at - v.now for at, _ in left} == {-2}
    v.do(Kind.TICK)
    assert not list(v.live_claims())
    check_laws(v)
