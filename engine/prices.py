"""Prices in order: a 64-way bitmap trie per book side, whose leaves hold 64 neighbouring prices.

Reads and writes  trie_bits, trie_children, leaf_bits and `matcher`, of one shard.
Never             looks at an order: a level's queue is engine/book.py's.

    price   41..36 | 35..30 | 29..24 | 23..18 | 17..12 | 11..6 | 5..0
            root     inner    inner    inner    inner    inner   leaf: one bit, one LEVEL row
                                                                 per price

A leaf is LEVEL rows leaf * 64 .. + 63 and one word of bits, so the next price inside it is one
instruction away. Nodes and leaves exist where something rested: 4 * 10^12 ticks cost only what is
used. The finger cache remembers where leaves are, and every leaf and node knows its place in the
node above, so that walks from the root are rare: a price that comes or goes changes one word, and
a word above it only when the one below became or ceased to be zero.

A leaf that runs dry stays where it is, out of sight: prices near the touch come and go all the
time. When leaves or nodes run out, all dry ones are swept up at once. Whether a price finds a
place therefore depends on what rests, never on what has rested.

Layout of `matcher`: scalars, FINGERS pairs (key, leaf), a root per (symbol, side), and then what
hangs on what: a link per leaf, a link and a word of children per inner node.

Invariants
    1  a bit is set in leaf_bits exactly while its level has orders, and in trie_bits exactly while
       the node or leaf it leads to has a bit
    2  every level without orders has no lots
    3  a finger never points at a free leaf
    4  a link of a leaf or inner node in use is (node above) * 64 + digit; of a root, ROOT + row;
       of a free one, -2 - (the next free one)
    5  an inner node's children are the nodes and leaves in use whose links name it; it has one
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.state import FINGERS, MATCHER_CELLS
from shm.atomics import leading_zeros, trailing_zeros, unlikely
from shm.codes import Side
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells
from shm.units import NIL, PRICE_TICKS_MAX

# Scalars of `matcher`.
LEAF_FREE: Final = 0  # head of the free list of leaves
LEAF_FRESH: Final = 1  # leaves from here on were never used
LEAF_LEFT: Final = 2  # how many leaves can still be taken
TRIE_FREE: Final = 3  # the same for inner nodes
TRIE_FRESH: Final = 4
TRIE_LEFT: Final = 5
TAKING: Final = 6  # the command whose order is half matched, or 0
TAKING_JOINED: Final = 7  # 1: that order is in its account's list already
READ_SEEN: Final = 8  # records settlement had read when this shard last looked
LEAF_LINKS: Final = 9  # cell of the first leaf's link
NODE_LINKS: Final = 10  # cell of the first inner node's link
CHILDREN: Final = 11  # cell of the first inner node's word of children

_FINGER_CELLS: Final = MATCHER_CELLS
ROOTS: Final = MATCHER_CELLS + 2 * FINGERS

INNER: Final = 6  # inner nodes between a root and a leaf, root included
_TOP: Final = 6 * (INNER - 1)  # bits of a part below the root's digit
_KEY_BITS: Final = 6 * INNER
assert 1 << (_KEY_BITS + 6) == PRICE_TICKS_MAX + 1

ROOT: Final = 1 << 40  # links from here on are of roots

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


# ---------------------------------------------------------------- leaves and nodes


@inlined
def _take_leaf(matcher: Cells, leaf_bits: Cells, link: int) -> int:
    links = matcher[LEAF_LINKS]
    leaf = matcher[LEAF_FREE]
    if leaf == NIL:
        leaf = matcher[LEAF_FRESH]
        matcher[LEAF_FRESH] = leaf + 1
    else:
        matcher[LEAF_FREE] = -2 - matcher[links + leaf]
    matcher[LEAF_LEFT] -= 1
    matcher[links + leaf] = link
    leaf_bits[leaf] = 0
    return leaf


@inlined
def _take_node(matcher: Cells, trie_bits: Cells, link: int) -> int:
    links = matcher[NODE_LINKS]
    node = matcher[TRIE_FREE]
    if node == NIL:
        node = matcher[TRIE_FRESH]
        matcher[TRIE_FRESH] = node + 1
    else:
        matcher[TRIE_FREE] = -2 - matcher[links + node]
    matcher[TRIE_LEFT] -= 1
    matcher[links + node] = link
    matcher[matcher[CHILDREN] + node] = 0
    trie_bits[node] = 0
    return node


@kernel
def _sweep(matcher: Cells, leaf_bits: Cells) -> None:
    """Free every leaf that is dry, and every node this leaves without children."""
    rarely()
    leaf_links = matcher[LEAF_LINKS]
    node_links = matcher[NODE_LINKS]
    children = matcher[CHILDREN]
    for leaf in range(matcher[LEAF_FRESH]):
        link = matcher[leaf_links + leaf]
        if link < 0 or leaf_bits[leaf] != 0:
            continue
        matcher[leaf_links + leaf] = -2 - matcher[LEAF_FREE]
        matcher[LEAF_FREE] = leaf
        matcher[LEAF_LEFT] += 1
        while link < ROOT:
            node = link >> 6
            matcher[children + node] &= ~bit(link & 63)
            if matcher[children + node] != 0:
                break
            link = matcher[node_links + node]
            matcher[node_links + node] = -2 - matcher[TRIE_FREE]
            matcher[TRIE_FREE] = node
            matcher[TRIE_LEFT] += 1
        if link >= ROOT:
            matcher[ROOTS + link - ROOT] = NIL
    _forget_fingers(matcher)


@kernel
def _forget_fingers(matcher: Cells) -> None:
    rarely()
    for k in range(FINGERS):
        matcher[_FINGER_CELLS + 2 * k] = NIL


@inlined
def _reach(matcher: Cells, trie_children: Cells, row: int, part: int) -> tuple[int, int]:
    """The walk from a root to a leaf, as far as it goes.

    returns     (leaf, -6), or (the last node there is, the shift of the digit it has no child for);
                (NIL, the root's shift) without a root
    """
    children = matcher[CHILDREN]
    node = matcher[ROOTS + row]
    shift = np.int64(_TOP)
    while node != NIL and shift >= 0:
        digit = (part >> shift) & 63
        if matcher[children + node] & bit(digit) == 0:
            break
        node = trie_children[node * 64 + digit]
        shift -= 6
    return node, shift


@inlined
def _enough(matcher: Cells, node: int, shift: int) -> bool:
    """Whether what is missing below where _reach ended can be built."""
    # A leaf, and an inner node for every step below the one reached, or all of them.
    missing = INNER if node == NIL else shift // 6
    return matcher[LEAF_LEFT] >= 1 and matcher[TRIE_LEFT] >= missing


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
    """The leaf for `part` = price >> 6 of book side `row`, found from the root; sets its finger.

    make        1: build what is missing
    returns     leaf; NIL when it is missing, or cannot be built because nodes or leaves are out
    """
    rarely()
    node, shift = _reach(matcher, trie_children, row, part)
    if shift >= 0:
        if make == 0:
            return NIL
        if not _enough(matcher, node, shift):
            _sweep(matcher, leaf_bits)
            node, shift = _reach(matcher, trie_children, row, part)
            if not _enough(matcher, node, shift):
                return NIL
        children = matcher[CHILDREN]
        if node == NIL:
            node = _take_node(matcher, trie_bits, ROOT + row)
            matcher[ROOTS + row] = node
        while shift >= 0:
            digit = (part >> shift) & 63
            link = node * 64 + digit
            if shift > 0:
                child = _take_node(matcher, trie_bits, link)
            else:
                child = _take_leaf(matcher, leaf_bits, link)
            matcher[children + node] |= bit(digit)
            trie_children[link] = child
            node = child
            shift -= 6
    finger = _finger(row, part)
    matcher[finger] = (row << _KEY_BITS) | part
    matcher[finger + 1] = node
    return node


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
    if unlikely(matcher[finger] != ((row << _KEY_BITS) | part)):
        return _look_up_leaf(matcher, trie_bits, trie_children, leaf_bits, row, part, make)
    return matcher[finger + 1]


# ---------------------------------------------------------------- what is in sight


@kernel
def show_leaf(matcher: Cells, trie_bits: Cells, leaf: int) -> None:
    """A leaf got its first bit: set what leads to it, up to a node that led somewhere before."""
    rarely()
    link = matcher[matcher[LEAF_LINKS] + leaf]
    links = matcher[NODE_LINKS]
    while link < ROOT:
        node = link >> 6
        bits = trie_bits[node]
        trie_bits[node] = bits | bit(link & 63)
        if bits != 0:
            return
        link = matcher[links + node]


@kernel
def hide_leaf(
    matcher: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    leaf: int,
    side: int,
    price_ticks: int,
) -> int:
    """A leaf lost its last bit, that of `price_ticks`: clear the bits that lead to nothing now.

    returns     the best price of what is left under the lowest node that still leads somewhere,
                NO_BID or NO_ASK if none does: the best of the side, if `price_ticks` was that
    """
    rarely()
    link = matcher[matcher[LEAF_LINKS] + leaf]
    links = matcher[NODE_LINKS]
    part = price_ticks >> 6
    height = 0
    while link < ROOT:
        node = link >> 6
        bits = trie_bits[node] & ~bit(link & 63)
        trie_bits[node] = bits
        part >>= 6
        if bits != 0:
            while True:
                digit = best_of(bits, side)
                part = (part << 6) | digit
                node = trie_children[node * 64 + digit]
                if height == 0:
                    return (part << 6) | best_of(leaf_bits[node], side)
                height -= 1
                bits = trie_bits[node]
        height += 1
        link = matcher[links + node]
    return NO_BID if side == Side.BUY else NO_ASK


@kernel
def best_price(
    matcher: Cells, trie_bits: Cells, trie_children: Cells, leaf_bits: Cells, row: int
) -> int:
    """The best price of book side `row`, by the trie; NO_BID or NO_ASK when it is empty."""
    side = row & 1
    node = matcher[ROOTS + row]
    if node == NIL or trie_bits[node] == 0:
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
    link = matcher[matcher[LEAF_LINKS] + leaf]
    links = matcher[NODE_LINKS]
    height = 0
    while link < ROOT:
        node = link >> 6
        rest = _worse_than(trie_bits[node], link & 63, side)
        part >>= 6
        if rest != 0:
            while True:
                digit = best_of(rest, side)
                part = (part << 6) | digit
                node = trie_children[node * 64 + digit]
                if height == 0:
                    return (part << 6) | best_of(leaf_bits[node], side)
                height -= 1
                rest = trie_bits[node]
        height += 1
        link = matcher[links + node]
    return NO_BID if side == Side.BUY else NO_ASK


@kernel
def reset_prices(matcher: Cells, trie: int, leaves: int, symbols: int) -> None:
    """No prices at all: every node and leaf of the shard is free."""
    for cell in range(ROOTS):
        matcher[cell] = 0
    _forget_fingers(matcher)
    for row in range(2 * symbols):
        matcher[ROOTS + row] = NIL
    matcher[LEAF_FREE] = NIL
    matcher[LEAF_LEFT] = leaves
    matcher[TRIE_FREE] = NIL
    matcher[TRIE_LEFT] = trie
    matcher[LEAF_LINKS] = ROOTS + 2 * symbols
    matcher[NODE_LINKS] = matcher[LEAF_LINKS] + leaves
    matcher[CHILDREN] = matcher[NODE_LINKS] + trie
