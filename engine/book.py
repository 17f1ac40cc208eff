"""The order book of every symbol: queues of orders by price, oldest first, and who owns them.

Reads   nothing but its own tables.
Writes  NODE links, LEVEL queues and totals, BOOK bests and counts, MINE lists.
Never   decides anything: who trades, rests or ends is engine/matching.py's business.

Everything else about a book follows from the links in its NODE rows, so a snapshot keeps only
those and BOOK; `rebuild_shard` makes the rest again, for any number of shards.

Invariants
    1  a node is LIVE exactly while it is in a level's queue; it is then also in its MINE list
    2  LEVEL.lots is the sum of open_lots of its queue, and 0 without one
    3  BOOK.best_bid and best_ask are the extremes of the tries, bid_orders and ask_orders counts
    4  node_levels[slot] is the LEVEL row of a LIVE node
    5  MINE rows of an account are linked by rising (symbol, row), from mine_heads[account]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.prices import (
    NO_ASK,
    NO_BID,
    best_of,
    bit,
    hide_leaf,
    leaf_of,
    reset_prices,
    show_leaf,
)
from engine.state import Books, Limits
from shm.arithmetic import below_zero, wide
from shm.atomics import either, unlikely
from shm.codes import NodeState, Side
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.units import NIL


@inlined
def best_against(books: Rows, symbol: int, side: int) -> int:
    """The best price an order of `side` could trade at: NO_ASK for a buyer, NO_BID for a seller
    when there is none."""
    bid = books[symbol]["best_bid"]
    ask = books[symbol]["best_ask"]
    return ask if side == Side.BUY else bid


@inlined
def crosses(price_ticks: int, side: int, limit_ticks: int) -> bool:
    """Whether an order of `side` with this limit trades at this price of the other side."""
    # NO_ASK is above and NO_BID below every limit, so an empty side never crosses.
    return price_ticks <= limit_ticks if side == Side.BUY else price_ticks >= limit_ticks


@inlined
def _count(book: Any, side: int, change: int) -> None:
    ask_change = change * side
    book["bid_orders"] += change - ask_change
    book["ask_orders"] += ask_change


@inlined
def link(
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    slot: int,
    symbol: int,
    side: int,
    price_ticks: int,
    open_lots: int,
) -> bool:
    """Put a node at the end of the queue of its price, and make it LIVE.

    returns     False, with nothing changed, when no leaf is left for a new price
    """
    row = symbol * 2 + side
    leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, row, price_ticks, 1)
    if unlikely(leaf == NIL):
        return False
    o = nodes[slot]
    level_row = leaf * 64 + (price_ticks & 63)
    level = levels[level_row]
    book = books[symbol]
    bits = leaf_bits[leaf]
    if unlikely(bits == 0):
        show_leaf(matcher, trie_bits, leaf)
    leaf_bits[leaf] = bits | bit(price_ticks & 63)
    # One way for the first of a price and for the next: what there is nobody to be told by, the
    # node tells itself.
    alone = 1 - ((bits >> np.int64(price_ticks & 63)) & 1)
    last = either(alone, wide(level["last"]), NIL)
    nodes[either(alone, last, slot)]["next"] = slot
    o["prev"] = last
    level["first"] = either(alone, wide(level["first"]), slot)
    level["lots"] += open_lots
    bid = book["best_bid"]
    ask = book["best_ask"]
    book["best_bid"] = either(side, max(bid, price_ticks), bid)
    book["best_ask"] = either(side, ask, min(ask, price_ticks))
    level["last"] = slot
    _count(book, side, 1)
    node_levels[slot] = level_row
    o["price_ticks"] = price_ticks
    o["open_lots"] = open_lots
    o["next"] = NIL
    o["state"] = NodeState.LIVE
    return True


@inlined
def _forget_level(
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    matcher: Cells,
    level_row: int,
    symbol: int,
    side: int,
    price_ticks: int,
    emptied: int,
) -> None:
    """Where `emptied` is 1: take a level out of the price order, and move the best price on if it
    was that. Whether it is is a toss, so what is done is the same for 0."""
    leaf = level_row >> 6
    bits = leaf_bits[leaf] & ~(emptied << np.int64(level_row & 63))
    leaf_bits[leaf] = bits
    book = books[symbol]
    bid = book["best_bid"]
    ask = book["best_ask"]
    if unlikely(bits == 0):
        best = hide_leaf(matcher, trie_bits, trie_children, leaf_bits, leaf, side, price_ticks)
    else:
        # The rest of the best leaf is the best of the rest.
        best = (price_ticks & ~63) | best_of(bits, side)
    moves = emptied & wide(price_ticks == either(side, bid, ask))
    book["best_bid"] = either(moves & (1 - side), bid, best)
    book["best_ask"] = either(moves & side, ask, best)


@inlined
def unlink(
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    slot: int,
) -> None:
    """Take a LIVE node out of its queue. It is DEAD then, and still in its MINE list."""
    o = nodes[slot]
    symbol = np.int64(o["symbol"])
    side = np.int64(o["side"])
    level_row = node_levels[slot]
    level = levels[level_row]
    following = wide(o["next"])
    previous = wide(o["prev"])
    level["lots"] -= o["open_lots"]
    o["state"] = NodeState.DEAD
    _count(books[symbol], side, -1)
    # Where in the queue it stood is a toss too: a neighbour that isn't there is the node itself.
    first = below_zero(previous)
    last = below_zero(following)
    nodes[either(first, previous, slot)]["next"] = following
    nodes[either(last, following, slot)]["prev"] = previous
    level["first"] = either(first, wide(level["first"]), following)
    level["last"] = either(last, wide(level["last"]), previous)
    _forget_level(
        books,
        trie_bits,
        trie_children,
        leaf_bits,
        matcher,
        level_row,
        symbol,
        side,
        o["price_ticks"],
        first & last,
    )


@inlined
def _comes_after(mine: Rows, row: int, symbol: int, position: int) -> bool:
    at = mine[row]["symbol"]
    return at > symbol or (at == symbol and row > position)


@kernel
def _first_use(mine: Rows, mine_heads: Cells, position: int, account: int, symbol: int) -> None:
    """Enter a MINE row into its account's list, kept by symbol and, for legs of one, by row."""
    rarely()
    mine[position]["symbol"] = symbol
    row = mine_heads[account]
    if row == NIL or _comes_after(mine, row, symbol, position):
        mine[position]["next_position"] = row
        mine_heads[account] = position
        return
    while mine[row]["next_position"] != NIL:
        following = mine[row]["next_position"]
        if _comes_after(mine, following, symbol, position):
            break
        row = following
    mine[position]["next_position"] = mine[row]["next_position"]
    mine[row]["next_position"] = position


@inlined
def join_mine(
    nodes: Rows,
    mine: Rows,
    mine_heads: Cells,
    slot: int,
    position: int,
    account: int,
    symbol: int,
) -> None:
    """Put a node at the end of the list of its (account, symbol)."""
    m = mine[position]
    if unlikely(m["symbol"] == NIL):
        _first_use(mine, mine_heads, position, account, symbol)
    o = nodes[slot]
    last = wide(m["last"])
    alone = below_zero(last)
    nodes[either(alone, last, slot)]["mine_next"] = slot
    o["mine_prev"] = last
    o["mine_next"] = NIL
    m["first"] = either(alone, wide(m["first"]), slot)
    m["last"] = slot


@inlined
def leave_mine(nodes: Rows, mine: Rows, slot: int) -> None:
    """Take a node out of the list of its (account, symbol)."""
    o = nodes[slot]
    m = mine[o["position"]]
    following = wide(o["mine_next"])
    previous = wide(o["mine_prev"])
    first = below_zero(previous)
    last = below_zero(following)
    nodes[either(first, previous, slot)]["mine_next"] = following
    nodes[either(last, following, slot)]["mine_prev"] = previous
    m["first"] = either(first, wide(m["first"]), following)
    m["last"] = either(last, wide(m["last"]), previous)


# ---------------------------------------------------------------- empty, and again from NODE rows


@kernel
def _empty_shared(b: Books, orders: int, symbols: int, positions: int) -> None:
    for slot in range(orders):
        b.nodes[slot]["order_id"] = 0
        b.nodes[slot]["state"] = NodeState.FREE
    for symbol in range(symbols):
        book = b.books[symbol]
        book["best_bid"] = NO_BID
        book["best_ask"] = NO_ASK
        book["last_ticks"] = 0
        book["trade_id"] = 0
        book["bid_orders"] = 0
        book["ask_orders"] = 0
    _forget_mine(b.mine, positions)


@kernel
def _forget_mine(mine: Rows, positions: int) -> None:
    for position in range(positions):
        m = mine[position]
        m["first"] = NIL
        m["last"] = NIL
        m["next_position"] = NIL
        m["symbol"] = NIL


@kernel
def _empty_shard(b: Books, accounts: int, symbols: int, trie: int, leaves: int) -> None:
    reset_prices(b.matcher, trie, leaves, symbols)
    for account in range(accounts):
        b.mine_heads[account] = NIL
    for row in range(leaves * 64):
        b.levels[row]["lots"] = 0


@kernel
def _relink(b: Books, orders: int, symbols: int, shard: int, shards: int) -> int:
    """Make levels, prices and MINE lists of one shard again from its NODE rows.

    returns     the first slot that found no price leaf, or NIL
    """
    for symbol in range(shard, symbols, shards):
        book = b.books[symbol]
        book["best_bid"] = NO_BID
        book["best_ask"] = NO_ASK
        book["bid_orders"] = 0
        book["ask_orders"] = 0
    for slot in range(orders):
        o = b.nodes[slot]
        symbol = np.int64(o["symbol"])
        if o["state"] != NodeState.LIVE or symbol % shards != shard:
            continue
        side = np.int64(o["side"])
        price = o["price_ticks"]
        row = symbol * 2 + side
        leaf = leaf_of(b.matcher, b.trie_bits, b.trie_children, b.leaf_bits, row, price, 1)
        if leaf == NIL:
            return slot
        level_row = leaf * 64 + (price & 63)
        b.node_levels[slot] = level_row
        if b.leaf_bits[leaf] == 0:
            show_leaf(b.matcher, b.trie_bits, leaf)
        b.leaf_bits[leaf] |= bit(price & 63)
        level = b.levels[level_row]
        level["lots"] += o["open_lots"]
        if o["prev"] == NIL:
            level["first"] = slot
        if o["next"] == NIL:
            level["last"] = slot
        book = b.books[symbol]
        _count(book, side, 1)
        if side == Side.BUY:
            book["best_bid"] = max(book["best_bid"], price)
        else:
            book["best_ask"] = min(book["best_ask"], price)
        position = np.int64(o["position"])
        m = b.mine[position]
        if m["symbol"] == NIL:
            _first_use(b.mine, b.mine_heads, position, np.int64(o["account"]), symbol)
        if o["mine_prev"] == NIL:
            m["first"] = slot
        if o["mine_next"] == NIL:
            m["last"] = slot
    return NIL


def reset_shared(books: Books, limits: Limits) -> None:
    """Empty what all shards map: no orders, no trades. Once, before any reset_shard."""
    _empty_shared(books, limits.orders, limits.symbols, limits.positions)


def reset_shard(books: Books, limits: Limits) -> None:
    """Empty what one shard owns alone."""
    _empty_shard(books, limits.accounts, limits.symbols, limits.trie, limits.leaves)


def rebuild_shared(books: Books, limits: Limits) -> None:
    """Forget the lists that follow from NODE rows. Once, before rebuild_shard of every shard."""
    _forget_mine(books.mine, limits.positions)


def rebuild_shard(books: Books, limits: Limits, shard: int, shards: int) -> None:
    """Make everything of one shard that a snapshot does not keep again, from NODE and BOOK rows."""
    reset_shard(books, limits)
    slot = _relink(books, limits.orders, limits.symbols, shard, shards)
    if slot != NIL:
        raise ValueError(
            f"shard {shard} of {shards}: no price leaf left for order slot {slot}; "
            f"raise limits.leaves ({limits.leaves}) or limits.trie ({limits.trie})"
        )


def resting(nodes: np.ndarray[Any, Any], symbol: int) -> Iterator[tuple[int, int]]:
    """(side, slot) of the orders of one symbol: bids best price first, then asks; oldest first.

    nodes       NODE rows as a numpy array; nothing else is needed
    """
    live = np.flatnonzero((nodes["state"] == NodeState.LIVE) & (nodes["symbol"] == symbol))
    heads = live[nodes["prev"][live] == NIL]
    for side in (Side.BUY, Side.SELL):
        own = heads[nodes["side"][heads] == side]
        own = own[np.argsort(nodes["price_ticks"][own] * (2 * side - 1))]
        for head in own:
            slot = int(head)
            while slot != NIL:
                yield int(side), slot
                slot = int(nodes["next"][slot])
