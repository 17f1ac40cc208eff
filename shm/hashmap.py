"""Open-addressing map from int64 keys to table rows, in a table of (key, row) cell pairs.

Fibonacci hashing spreads the dense order ids evenly, so with the table at most half full a probe
is short and deletion can shift back instead of leaving tombstones: the layout never ages.
Key 0 marks an empty entry and is never a key.
"""

from __future__ import annotations

import numpy as np

from shm.jit import PLAIN, inlined, kernel
from shm.pointers import Cells
from shm.units import NIL

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / phi, odd

if PLAIN:

    def home(key: int, bits: int) -> int:
        return ((int(key) * _GOLDEN) & ((1 << 64) - 1)) >> (64 - int(bits))

else:
    _U = np.uint64

    @inlined
    def home(key: int, bits: int) -> int:
        """Where the probe for `key` starts in a table of 2^bits entries."""
        # Unsigned: signed products may not wrap, LLVM counts on it and computes something else.
        return np.int64((_U(key) * _U(_GOLDEN)) >> _U(64 - bits))


@inlined
def find(index: Cells, bits: int, key: int) -> int:
    """Entry that holds `key`, or NIL."""
    mask = (1 << bits) - 1
    at = home(key, bits)
    while True:
        found = index[2 * at]
        if found == key:
            return at
        if found == 0:
            return NIL
        at = (at + 1) & mask


@inlined
def get(index: Cells, bits: int, key: int) -> int:
    """Row stored for `key`, or NIL."""
    at = find(index, bits, key)
    return index[2 * at + 1] if at != NIL else NIL


@kernel
def put(index: Cells, bits: int, key: int, row: int) -> None:
    """Store a row for a key; the caller keeps the table at most half full."""
    assert key != 0
    mask = (1 << bits) - 1
    at = home(key, bits)
    while index[2 * at] != 0:
        at = (at + 1) & mask
    index[2 * at] = key
    index[2 * at + 1] = row


@kernel
def remove_entry(index: Cells, bits: int, entry: int) -> None:
    """Empty an entry and close the gap behind it."""
    mask = (1 << bits) - 1
    hole = entry
    at = (hole + 1) & mask
    while index[2 * at] != 0:
        # The key at `at` may move into the hole unless its probe starts after the hole.
        if ((at - home(index[2 * at], bits)) & mask) >= ((at - hole) & mask):
            index[2 * hole] = index[2 * at]
            index[2 * hole + 1] = index[2 * at + 1]
            hole = at
        at = (at + 1) & mask
    index[2 * hole] = 0
    index[2 * hole + 1] = 0


@kernel
def remove(index: Cells, bits: int, key: int, row: int) -> None:
    """Remove the entry that maps `key` to `row`; it must be there. Keys may repeat."""
    mask = (1 << bits) - 1
    at = home(key, bits)
    while index[2 * at] != key or index[2 * at + 1] != row:
        assert index[2 * at] != 0
        at = (at + 1) & mask
    remove_entry(index, bits, at)
