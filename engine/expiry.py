"""GTD orders by time: a binary heap of claim rows ordered by (expire_ns, order_id).

Each claim remembers its place (`heap`), so that a cancelled order leaves at once and the heap
holds exactly the live GTD orders.
"""

from __future__ import annotations

from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.units import NIL


@inlined
def _before(claims: Rows, a: int, b: int) -> bool:
    x = claims[a]
    y = claims[b]
    if x["expire_ns"] != y["expire_ns"]:
        return x["expire_ns"] < y["expire_ns"]
    return x["order_id"] < y["order_id"]


@inlined
def _set(claims: Rows, heap: Cells, at: int, slot: int) -> None:
    heap[at] = slot
    claims[slot]["heap"] = at


@kernel
def _up(claims: Rows, heap: Cells, at: int) -> int:
    slot = heap[at]
    while at > 0:
        parent = (at - 1) // 2
        if not _before(claims, slot, heap[parent]):
            break
        _set(claims, heap, at, heap[parent])
        at = parent
    _set(claims, heap, at, slot)
    return at


@kernel
def _down(claims: Rows, heap: Cells, count: int, at: int) -> None:
    slot = heap[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and _before(claims, heap[child + 1], heap[child]):
            child += 1
        if not _before(claims, heap[child], slot):
            break
        _set(claims, heap, at, heap[child])
        at = child
    _set(claims, heap, at, slot)


@kernel
def push(venue: Rows, claims: Rows, heap: Cells, slot: int) -> None:
    """Add a live GTD order."""
    rarely()
    count = venue[0]["heap_count"]
    heap[count] = slot
    venue[0]["heap_count"] = count + 1
    _up(claims, heap, count)


@kernel
def remove(venue: Rows, claims: Rows, heap: Cells, slot: int) -> None:
    """Take an order out, wherever it stands."""
    rarely()
    at = claims[slot]["heap"]
    assert at != NIL
    count = venue[0]["heap_count"] - 1
    venue[0]["heap_count"] = count
    claims[slot]["heap"] = NIL
    moved = heap[count]
    heap[count] = 0
    if moved != slot:
        heap[at] = moved
        claims[moved]["heap"] = at
        _down(claims, heap, count, _up(claims, heap, at))
