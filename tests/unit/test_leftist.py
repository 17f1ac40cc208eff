"""Heaps of linked rows against a sorted list."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.leftist import ID, KEY, LEFT, PRICE, RANK, RIGHT, STRIDE, TRAIL, UP, merge, push, remove
from shm.pointers import table
from shm.units import NIL

ROWS = 64


def rows_of(links: Any, set_: int, root: int) -> list[int]:
    """Rows of a heap; asserts order, ranks and ways up."""
    found: list[int] = []
    todo = [(root, NIL)]
    while todo:
        row, up = todo.pop()
        if row == NIL:
            continue
        at = row * STRIDE + set_
        assert links[at + UP] == up
        found.append(row)
        children = int(links[at + LEFT]), int(links[at + RIGHT])
        ranks = [int(links[c * STRIDE + set_ + RANK]) if c != NIL else 0 for c in children]
        assert ranks[0] >= ranks[1] and links[at + RANK] == ranks[1] + 1
        for child in children:
            if child != NIL:
                key = links[at + KEY], links[row * STRIDE + ID]
                below = links[child * STRIDE + set_ + KEY], links[child * STRIDE + ID]
                assert key < below
                todo.append((child, row))
    return sorted(found)


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(-3, 3), st.integers(0, 2))))
def test_as_a_set_of_sorted_lists(steps: list[tuple[int, int, int]]) -> None:
    """Rows come and go in three heaps of either set, and heaps are merged, in any order."""
    cells = np.zeros(ROWS * STRIDE, np.int64)
    cells[ID::STRIDE] = np.random.default_rng(len(steps)).permutation(ROWS)
    links = table(cells)
    for set_ in (PRICE, TRAIL):
        roots, twin = [NIL] * 3, [set[int](), set[int](), set[int]()]
        for row, key, which in steps:
            home = [k for k in range(3) if row in twin[k]]
            if not home:
                roots[which] = push(links, set_, roots[which], row, key)
                twin[which].add(row)
            elif key == 3 and home[0] != which:
                roots[which] = merge(links, set_, roots[home[0]], roots[which])
                twin[which] |= twin[home[0]]
                roots[home[0]], twin[home[0]] = NIL, set()
            else:
                roots[home[0]] = remove(links, set_, roots[home[0]], row)
                twin[home[0]].discard(row)
            for root, rows in zip(roots, twin, strict=True):
                assert rows_of(cells, set_, root) == sorted(rows)


def test_a_right_spine_stays_short() -> None:
    """Whatever the order of insertion: log2(n + 1) rows at most."""
    many = 1 << 12
    for keys in (range(many), range(many, 0, -1), [5] * many):
        cells = np.zeros(many * STRIDE, np.int64)
        cells[ID::STRIDE] = range(many)
        links, root = table(cells), NIL
        for row, key in enumerate(keys):
            root = push(links, PRICE, root, row, key)
        assert cells[root * STRIDE + PRICE + RANK] <= 12
        order = []
        while root != NIL:
            order.append((int(cells[root * STRIDE + PRICE + KEY]), root))
            root = remove(links, PRICE, root, root)
        assert order == sorted(order) and len(order) == many
