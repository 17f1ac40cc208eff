"""The hash index: what was put is found, what was removed is gone, and the layout never ages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import hashmap
from engine.positions import position_key
from shm.jit import kernel
from shm.pointers import table
from shm.units import NIL

BITS = 4
ENTRIES = 1 << BITS


def collide(count: int) -> list[int]:
    """Keys whose probes all start at the last entry, so that they wrap around."""
    found = [k for k in range(1, 2000) if hashmap.home(k, BITS) == ENTRIES - 1]
    return found[:count]


KEYS = st.one_of(
    st.integers(1, 40),
    st.sampled_from(collide(8)),
    st.sampled_from([-1, -(1 << 63), (1 << 63) - 1, 1 << 62]),
)


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=60))
def test_it_is_a_dict(steps: list[tuple[int, bool]]) -> None:
    index = np.zeros(2 * ENTRIES, np.int64)
    cells, model = table(index), dict[int, int]()
    for row, (key, put) in enumerate(steps):
        if key in model:
            hashmap.remove(cells, BITS, key, model.pop(key))
        elif put and len(model) < ENTRIES // 2:
            hashmap.put(cells, BITS, key, row)
            model[key] = row
        for known in {key, *model}:
            assert hashmap.get(cells, BITS, known) == model.get(known, NIL)
        pairs = index.reshape(-1, 2)
        assert dict(pairs[pairs[:, 0] != 0].tolist()) == model
    fresh = np.zeros(2 * ENTRIES, np.int64)
    for key, row in model.items():
        hashmap.put(table(fresh), BITS, key, row)
    used = index.reshape(-1, 2)[:, 0] != 0
    assert (used == (fresh.reshape(-1, 2)[:, 0] != 0)).all(), "removals leave no trace"


def test_the_same_key_twice() -> None:
    """Hashes of client ids may collide; the row says which of the two goes."""
    cells = table(np.zeros(2 * ENTRIES, np.int64))
    for row in (1, 2, 3):
        hashmap.put(cells, BITS, 7, row)
    hashmap.remove(cells, BITS, 7, 1)
    assert hashmap.get(cells, BITS, 7) == 2
    hashmap.remove(cells, BITS, 7, 3)
    assert hashmap.get(cells, BITS, 7) == 2


@kernel
def _home_of_position(account: int, symbol: int, bits: int) -> int:
    return hashmap.home(position_key(account, symbol, 0), bits)


@pytest.mark.parametrize("bits", [4, 8, 21])
def test_the_same_place_wherever_it_is_compiled(bits: int) -> None:
    """A signed product that wraps is undefined: with narrow operands LLVM gave another place."""
    for account, symbol in ((16, 0), (17, 3), (4_000_000, 999)):
        key = position_key(account, symbol, 0)
        want = ((key * 0x9E3779B97F4A7C15) % (1 << 64)) >> (64 - bits)
        assert hashmap.home(key, bits) == want
        if account < 65535:  # as plain Python, numpy's 32 bits wrap beyond
            assert _home_of_position(np.uint32(account), np.uint16(symbol), bits) == want
