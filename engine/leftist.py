"""Leftist heaps of rows: many heaps over one table of links, least key first, nothing allocated.

A row is in at most one heap of each of two sets (`PRICE`, `TRAIL`). Its links are cells:

    row * STRIDE + set + LEFT, RIGHT, UP    rows or NIL; UP of a root is NIL
    row * STRIDE + set + RANK               length of its right spine, 1 for a leaf
    row * STRIDE + set + KEY                what it is ordered by; equal keys by ID

Invariant: the rank of a left child is never below that of its right sibling, so every right spine
is at most log2(n + 1) long, and merge, push and remove take O(log n) steps at worst.
A heap is the row of its root, or NIL.
"""

from __future__ import annotations

from typing import Final

from engine.state import ALGO_LINKS
from shm.jit import inlined, kernel
from shm.pointers import Cells
from shm.units import NIL

STRIDE: Final = ALGO_LINKS
PRICE: Final = 0  # set: by price, one heap a symbol and direction
TRAIL: Final = 5  # set: by callback, one heap for each extreme that trailing stops share
LEFT: Final = 0
RIGHT: Final = 1
UP: Final = 2
RANK: Final = 3
KEY: Final = 4
ID: Final = 10
OLDER: Final = 11  # of the root of a TRAIL heap: the next one on its stack, or NIL
NEWER: Final = 12


@inlined
def _before(links: Cells, set_: int, a: int, b: int) -> bool:
    x = links[a * STRIDE + set_ + KEY]
    y = links[b * STRIDE + set_ + KEY]
    if x != y:
        return x < y
    return links[a * STRIDE + ID] < links[b * STRIDE + ID]


@inlined
def _rank(links: Cells, set_: int, row: int) -> int:
    return links[row * STRIDE + set_ + RANK] if row != NIL else 0


@inlined
def single(links: Cells, set_: int, row: int, key: int) -> None:
    """A heap of this row alone."""
    at = row * STRIDE + set_
    links[at + LEFT] = NIL
    links[at + RIGHT] = NIL
    links[at + UP] = NIL
    links[at + RANK] = 1
    links[at + KEY] = key


@inlined
def _settle(links: Cells, set_: int, row: int) -> bool:
    """Put the children of a row in order; whether its rank is another one now."""
    at = row * STRIDE + set_
    left = links[at + LEFT]
    right = links[at + RIGHT]
    if _rank(links, set_, left) < _rank(links, set_, right):
        links[at + LEFT] = right
        links[at + RIGHT] = left
        right = left
    rank = _rank(links, set_, right) + 1
    changed = links[at + RANK] != rank
    links[at + RANK] = rank
    return changed


@kernel
def merge(links: Cells, set_: int, a: int, b: int) -> int:
    """One heap of two; returns its root."""
    if a == NIL:
        return b
    if b == NIL:
        return a
    if _before(links, set_, b, a):
        a, b = b, a
    # Down the right spines, which become one, then up again to put ranks right.
    at = a
    other = b
    while other != NIL:
        right = links[at * STRIDE + set_ + RIGHT]
        if right == NIL or _before(links, set_, other, right):
            links[at * STRIDE + set_ + RIGHT] = other
            links[other * STRIDE + set_ + UP] = at
            at = other
            other = right
        else:
            at = right
    while at != NIL:
        _settle(links, set_, at)
        at = links[at * STRIDE + set_ + UP]
    return a


@kernel
def push(links: Cells, set_: int, root: int, row: int, key: int) -> int:
    """Add a row; returns the root."""
    single(links, set_, row, key)
    return merge(links, set_, root, row)


@kernel
def remove(links: Cells, set_: int, root: int, row: int) -> int:
    """Take a row out, wherever it is; returns the root of the rest, or NIL."""
    at = row * STRIDE + set_
    up = links[at + UP]
    left = links[at + LEFT]
    right = links[at + RIGHT]
    if left != NIL:
        links[left * STRIDE + set_ + UP] = NIL
    if right != NIL:
        links[right * STRIDE + set_ + UP] = NIL
    rest = merge(links, set_, left, right)
    if rest != NIL:
        links[rest * STRIDE + set_ + UP] = up
    single(links, set_, row, links[at + KEY])
    if up == NIL:
        return rest
    if links[up * STRIDE + set_ + LEFT] == row:
        links[up * STRIDE + set_ + LEFT] = rest
    else:
        links[up * STRIDE + set_ + RIGHT] = rest
    # A rank that stays the same changes nothing above it.
    while up != NIL and _settle(links, set_, up):
        up = links[up * STRIDE + set_ + UP]
    return root
