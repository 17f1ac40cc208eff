"""Prices in order: a 64-way bitmap trie per book side, whose leaves hold 64 neighbouring prices.

Reads and writes  trie_bits, trie_children, leaf_bits and the scalars of `matcher`, of one shard.
Never             looks at an order: a level's queue is engine/book.py's.

    price   41..36 | 35..30 | 29..24 | 23..18 | 17..12 | 11..6 | 5..0
            root     inner    inner    inner    inner    inner   leaf: one bit, one LEVEL row
                                                                 per price

A leaf is LEVEL rows leaf * 64 .. + 63 and one word of bits, so the next price inside it is one
instruction away. Nodes and leaves exist while something rests below them: 4 * 10^12 ticks cost
only what is used. The finger cache remembers where leaves are, so that walks from the root are rare.

Layout of `matcher`: scalars, then FINGERS pairs (key, leaf), then a root per (symbol, side).

Invariants
    1  a bit is set in leaf_bits exactly while its level has orders; a set bit in trie_bits leads
       to a node or leaf with at least one bit
    2  every level without orders has no lots; the word of a free leaf is the next free leaf
    3  a finger never points at a free leaf
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.state import FINGERS, MATCHER_CELLS
from shm.atomics import leading_zeros, trailing_zeros
from shm.codes import Side
from shm.jit import inlined, kernel
from shm.pointers import Cells
from shm.units import NIL, PRICE_TICKS_MAX

# Scalars of `matcher`.
LEAF_FREE: Final = 0  # head of the free list of leaves, linked through leaf_bits
LEAF_FRESH: Final = 1  # leaves from here on were never used
LEAF_LEFT: Final = 2  # how many leaves can still be taken
TRIE_FREE: Final = 3  # the same for inner nodes, linked through their first child
TRIE_FRESH: Final = 4
TRIE_LEFT: Final = 5
TAKING: Final = 6  # the command whose order is half matched, or 0
TAKING_JOINED: Final = 7  # 1: that order is in its account's list already
READ_SEEN: Final = 8  # records settlement had read when this shard last looked

_FINGER_CELLS: Final = MATCHER_CELLS
ROOTS: Final = MATCHER_CELLS + 2 * FINGERS

INNER: Final = 6  # inner nodes between a root and a leaf, root included
_TOP: Final = 6 * (INNER - 1)  # bits of a part below the root's digit
_KEY_BITS: Final = 6 * INNER
assert 1 << (_KEY_BITS + 6) == PRICE_TICKS_MAX + 1

NO_BID: Final = 0
NO_ASK: Final = PRICE_TICKS_MAX + 1


@inlined
def bit(place: int) -> int:
    """A word with one bit set."""
    return np.int64(1) << np.int64(place)


@inlined
def above(word: int, place: int) -> int:
    """The bits of `word` over `place`."""
    return word & (np.int64(-2) << np.int64(place))


@inlined
def below(word: int, place: int) -> int:
    """The bits of `word` under `place`."""
    return word & ~(np.int64(-1) << np.int64(place))


@inlined
def lowest(word: int) -> int:
    """Place of the lowest bit of a word that is not 0."""
    return trailing_zeros(int(word))


@inlined
def highest(word: int) -> int:
    """Place of the highest bit of a word that is not 0."""
    return 63 - leading_zeros(int(word))


@inlined
def best_of(word: int, side: int) -> int:
    """Place of the best price of a side: the highest bid, the lowest ask."""
    # Both, then one: two cheap instructions instead of a branch that is a coin toss.
    low = lowest(word)
    high = highest(word)
    return high if side == Side.BUY else low


@inlined
def _worse_than(word: int, place: int, side: int) -> int:
    """The bits of `word` that are worse prices of a side than `place`."""
    return below(word, place) if side == Side.BUY else above(word, place)


@inlined
def _finger(row: int, part: int) -> int:
    """Cell of the finger where leaf `part` of book side `row` would be remembered."""
    return _FINGER_CELLS + 2 * ((part + row * 389) & (FINGERS - 1))


@inlined
def _take_leaf(matcher: Cells, leaf_bits: Cells) -> int:
    leaf = matcher[LEAF_FREE]
    if leaf == NIL:
        leaf = matcher[LEAF_FRESH]
        matcher[LEAF_FRESH] = leaf + 1
    else:
        matcher[LEAF_FREE] = leaf_bits[leaf]
        leaf_bits[leaf] = 0
    matcher[LEAF_LEFT] -= 1
    return leaf


@inlined
def _take_node(matcher: Cells, trie_bits: Cells, trie_children: Cells) -> int:
    node = matcher[TRIE_FREE]
    if node == NIL:
        node = matcher[TRIE_FRESH]
        matcher[TRIE_FRESH] = node + 1
    else:
        matcher[TRIE_FREE] = trie_children[node * 64]
    matcher[TRIE_LEFT] -= 1
    trie_bits[node] = 0
    return node


@kernel
def _walk_to_leaf(
    matcher: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    row: int,
    part: int,
    make: int,
) -> int:
    """The leaf for `part` = price >> 6 of book side `row`, found from the root.

    make        1: build what is missing
    returns     leaf; NIL when it is missing, or cannot be built because nodes or leaves are out
    """
    node = matcher[ROOTS + row]
    shift = _TOP
    while node != NIL:
        digit = (part >> shift) & 63
        if trie_bits[node] & bit(digit) == 0:
            break
        node = trie_children[node * 64 + digit]
        shift -= 6
        if shift < 0:
            return node
    if make == 0:
        return NIL
    # What is missing: a leaf, and an inner node for every step below the one reached, or for all.
    missing = INNER if node == NIL else shift // 6
    if matcher[LEAF_LEFT] < 1 or matcher[TRIE_LEFT] < missing:
        return NIL
    if node == NIL:
        node = _take_node(matcher, trie_bits, trie_children)
        matcher[ROOTS + row] = node
    while shift > 0:
        child = _take_node(matcher, trie_bits, trie_children)
        digit = (part >> shift) & 63
        trie_bits[node] |= bit(digit)
        trie_children[node * 64 + digit] = child
        node = child
        shift -= 6
    leaf = _take_leaf(matcher, leaf_bits)
    digit = part & 63
    trie_bits[node] |= bit(digit)
    trie_children[node * 64 + digit] = leaf
    return leaf


@kernel
def _look_up_leaf(
    matcher: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    row: int,
    part: int,
    make: int,
) -> int:
    """As _walk_to_leaf, and the finger is set to what was found."""
    leaf = _walk_to_leaf(matcher, trie_bits, trie_children, leaf_bits, row, part, make)
    if leaf != NIL:
        finger = _finger(row, part)
        matcher[finger] = (row << _KEY_BITS) | part
        matcher[finger + 1] = leaf
    return leaf


@inlined
def leaf_of(
    matcher: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    row: int,
    price_ticks: int,
    make: int,
) -> int:
    """The leaf of a price on book side `row` = symbol * 2 + side, by finger if it is remembered.

    make        1: build it when it is missing
    returns     leaf, or NIL; with make = 1, NIL says that the tables are full and nothing changed
    """
    part = price_ticks >> 6
    finger = _finger(row, part)
    if matcher[finger] == ((row << _KEY_BITS) | part):
        return matcher[finger + 1]
    return _look_up_leaf(matcher, trie_bits, trie_children, leaf_bits, row, part, make)


@kernel
def drop_leaf(
    matcher: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    row: int,
    price_ticks: int,
) -> None:
    """Free the leaf of a price, which has no bits left, and every node this leaves empty."""
    part = price_ticks >> 6
    root = matcher[ROOTS + row]
    node = root
    shift = _TOP
    while shift > 0:
        node = trie_children[node * 64 + ((part >> shift) & 63)]
        shift -= 6
    leaf = trie_children[node * 64 + (part & 63)]
    assert leaf_bits[leaf] == 0
    leaf_bits[leaf] = matcher[LEAF_FREE]
    matcher[LEAF_FREE] = leaf
    matcher[LEAF_LEFT] += 1
    finger = _finger(row, part)
    if matcher[finger] == ((row << _KEY_BITS) | part):
        matcher[finger] = NIL
    while True:
        trie_bits[node] &= ~bit((part >> shift) & 63)
        if trie_bits[node] != 0:
            return
        trie_children[node * 64] = matcher[TRIE_FREE]
        matcher[TRIE_FREE] = node
        matcher[TRIE_LEFT] += 1
        if node == root:
            matcher[ROOTS + row] = NIL
            return
        # Its parent, by the same walk from the root, which stands as long as this one did.
        shift += 6
        node = root
        step = _TOP
        while step > shift:
            node = trie_children[node * 64 + ((part >> step) & 63)]
            step -= 6


@kernel
def best_price(
    matcher: Cells, trie_bits: Cells, trie_children: Cells, leaf_bits: Cells, row: int
) -> int:
    """The best price of book side `row`, by the trie; NO_BID or NO_ASK when it is empty."""
    side = row & 1
    node = matcher[ROOTS + row]
    if node == NIL:
        return NO_BID if side == Side.BUY else NO_ASK
    part = 0
    for _ in range(INNER):
        digit = best_of(trie_bits[node], side)
        part = (part << 6) | digit
        node = trie_children[node * 64 + digit]
    return (part << 6) | best_of(leaf_bits[node], side)


@kernel
def next_price(
    matcher: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    row: int,
    price_ticks: int,
) -> int:
    """The next worse price of book side `row` after one that is in the book; NO_BID or NO_ASK."""
    side = row & 1
    part = price_ticks >> 6
    leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, row, price_ticks, 0)
    rest = _worse_than(leaf_bits[leaf], price_ticks & 63, side)
    if rest != 0:
        return (part << 6) | best_of(rest, side)
    shift = 0
    while shift <= _TOP:
        # The node `shift` bits above the leaf, by the same walk from the root.
        node = matcher[ROOTS + row]
        step = _TOP
        while step > shift:
            node = trie_children[node * 64 + ((part >> step) & 63)]
            step -= 6
        rest = _worse_than(trie_bits[node], (part >> shift) & 63, side)
        if rest != 0:
            digit = best_of(rest, side)
            part = ((part >> (shift + 6)) << 6) | digit
            node = trie_children[node * 64 + digit]
            while shift > 0:
                shift -= 6
                digit = best_of(trie_bits[node], side)
                part = (part << 6) | digit
                node = trie_children[node * 64 + digit]
            return (part << 6) | best_of(leaf_bits[node], side)
        shift += 6
    return NO_BID if side == Side.BUY else NO_ASK


@kernel
def reset_prices(
    matcher: Cells,
    trie_bits: Cells,
    leaf_bits: Cells,
    trie: int,
    leaves: int,
    symbols: int,
) -> None:
    """No prices at all: every node and leaf of the shard is free."""
    for cell in range(ROOTS + 2 * symbols):
        matcher[cell] = 0
    for node in range(trie):
        trie_bits[node] = 0
    for leaf in range(leaves):
        leaf_bits[leaf] = 0
    for k in range(FINGERS):
        matcher[_FINGER_CELLS + 2 * k] = NIL
    for row in range(2 * symbols):
        matcher[ROOTS + row] = NIL
    matcher[LEAF_FREE] = NIL
    matcher[LEAF_LEFT] = leaves
    matcher[TRIE_FREE] = NIL
    matcher[TRIE_LEFT] = trie
