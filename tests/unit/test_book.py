"""Prices in order, queues, and what a snapshot load rebuilds: small cases by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from engine.book import rebuild_shard, rebuild_shared, resting
from engine.prices import (
    NO_ASK,
    NO_BID,
    above,
    below,
    best_of,
    best_price,
    bit,
    highest,
    lowest,
    next_price,
)
from engine.state import allocate, books_of, shard_tables, shared_book_tables
from shm.codes import Kind, Side
from shm.jit import kernel
from shm.pointers import table
from shm.units import PRICE_TICKS_MAX
from tests.model.book_rig import SMALL, Rig, check_laws, command, position_of

WORDS = [1, 2, 3, 1 << 62, 0x7FFF_FFFF_FFFF_FFFF, -1, -(1 << 63), (1 << 63) - (1 << 31), 0x5A5A]


@kernel
def bit_tricks(word: int, place: int, out: Any) -> None:
    out[0] = above(word, place)
    out[1] = below(word, place)
    out[2] = lowest(word)
    out[3] = highest(word)
    out[4] = bit(place)
    out[5] = best_of(word, Side.BUY)
    out[6] = best_of(word, Side.SELL)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("place", [0, 1, 31, 32, 62, 63])
def test_bit_tricks(word: int, place: int) -> None:
    out = np.zeros(7, np.int64)
    bit_tricks(np.int64(word), place, table(out))
    places = [k for k in range(64) if (word >> k) & 1]

    def mask(of: list[int]) -> int:
        total = sum(1 << k for k in of)
        return total - (1 << 64) if total >> 63 else total

    assert out.tolist() == [
        mask([k for k in places if k > place]),
        mask([k for k in places if k < place]),
        places[0],
        places[-1],
        mask([place]),
        places[-1],
        places[0],
    ]


def place(slot: int, side: Side, price: int, account: int = 20, symbol: int = 0) -> dict[str, Any]:
    return command(
        slot=slot,
        decided_order_id=slot + 1,
        account=account,
        symbol=symbol,
        position=position_of(account, symbol),
        side=side,
        limit_ticks=price,
        decided_lots=1 + slot % 7,
    )


PRICES = {
    "one leaf": [4096, 4097, 4130, 4159],
    "edges of leaves": [63, 64, 127, 128, 129],
    "edges of inner nodes": [4095, 4096, (1 << 18) - 1, 1 << 18, (1 << 24) - 1, 1 << 24],
    "the whole range": [1, 1 << 29, PRICE_TICKS_MAX // 2, PRICE_TICKS_MAX - 64, PRICE_TICKS_MAX],
}


@pytest.mark.parametrize("name", PRICES)
@pytest.mark.parametrize("side", list(Side))
def test_prices_come_in_order(name: str, side: Side) -> None:
    prices = PRICES[name]
    rig = Rig()
    # In at random, in two symbols at once, so that the fingers of one meet the leaves of another.
    order = np.random.default_rng(1).permutation(len(prices))
    for k in order:
        rig.run([place(int(k), side, prices[k]), place(100 + int(k), side, prices[k], symbol=5)])
        check_laws(rig)
    b = rig.books[0]
    tries = (b.matcher, b.trie_bits, b.trie_children, b.leaf_bits)
    walked = [int(best_price(*tries, 10 + side))]
    nothing = NO_BID if side == Side.BUY else NO_ASK
    while walked[-1] != nothing:
        walked.append(int(next_price(*tries, 10 + side, walked[-1])))
    assert walked[:-1] == sorted(prices, reverse=side == Side.BUY)
    for k in order:
        rig.run([command(kind=Kind.CANCEL, slot=int(k), decided_order_id=int(k) + 1)])
        check_laws(rig)


def test_resting_lists_a_book_as_a_trader_reads_it() -> None:
    rig = Rig()
    rig.run([place(k, Side.BUY, 100 + k % 3) for k in range(6)])
    rig.run([place(10 + k, Side.SELL, 200 + k % 2) for k in range(4)])
    rig.run([place(20, Side.SELL, 150, symbol=3)])
    assert [slot for _, slot in resting(rig.shared["nodes"], 0)] == [
        *(2, 5, 1, 4, 0, 3),
        *(10, 12, 11, 13),
    ]
    assert list(resting(rig.shared["nodes"], 3)) == [(Side.SELL, 20)]
    assert list(resting(rig.shared["nodes"], 1)) == []


def test_a_snapshot_too_wide_for_these_limits_is_refused_with_what_to_raise() -> None:
    rig = Rig()
    rig.run([place(k, Side.BUY, 1000 * k + 1) for k in range(10)])
    tight = SMALL._replace(leaves=9)
    arrays = {**allocate(shared_book_tables(tight)), **allocate(shard_tables(tight))}
    for name in ("nodes", "books"):
        arrays[name][:] = rig.shared[name]
    books = books_of(arrays)
    rebuild_shared(books, tight)
    with pytest.raises(ValueError, match=re.escape("raise limits.leaves (9)")):
        rebuild_shard(books, tight, 0, 1)
