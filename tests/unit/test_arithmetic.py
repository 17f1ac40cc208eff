"""Kernels that divide, multiply and hash, against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.arithmetic import (
    below_zero,
    ceil_div,
    fee_of,
    fits_money,
    initial_margin,
    muldiv_down,
    muldiv_up,
    product_exceeds,
)
from shm.atomics import either, leading_zeros, trailing_zeros, unlikely
from shm.hashing import K0, K1, K2, K3, fold_line, fold_word, hash_words
from shm.jit import kernel
from shm.pointers import table
from shm.units import MONEY_QUANTA_MAX, NOTIONAL_QUANTA_MAX, PPM

MASK = (1 << 64) - 1
BIG = 1 << 63


def edges(least: int, most: int) -> st.SearchStrategy[int]:
    """Integers of a range; its ends, powers of two and their neighbours more often."""
    near = {least, most, 0, 1, -1}
    near |= {s * (1 << k) + d for k in range(64) for d in (-1, 0, 1) for s in (1, -1)}
    return st.integers(least, most) | st.sampled_from(sorted(v for v in near if least <= v <= most))


WORDS = edges(-BIG, BIG - 1)


@kernel
def _by_sign(value: int, kept: int, other: int) -> tuple[int, bool]:
    """`other` where `value` is negative; whether the hint about a condition left it as it was."""
    negative = False
    if unlikely(value < 0):
        negative = True
    return either(below_zero(value), kept, other), negative


@given(WORDS, WORDS, WORDS)
def test_a_choice_without_a_branch_is_the_same_choice(value: int, kept: int, other: int) -> None:
    assert _by_sign(np.int64(value), np.int64(kept), np.int64(other)) == (
        (other, True) if value < 0 else (kept, False)
    )


@given(WORDS, WORDS, edges(1, BIG - 1))
def test_muldiv_is_the_exact_quotient_rounded_by_name(a: int, b: int, c: int) -> None:
    down, up = a * b // c, -(-a * b // c)
    for function, wanted in ((muldiv_down, down), (muldiv_up, up)):
        if abs(a * b) // c <= BIG - 3:
            assert function(a, b, c) == wanted
        elif not -BIG < wanted < BIG:
            with pytest.raises(AssertionError):
                function(a, b, c)


ROUNDING = """
   a |  b | c | down | up
   7 |  3 | 2 |   10 | 11
  -7 |  3 | 2 |  -11 | -10     down is towards minus infinity, not towards zero
   7 | -3 | 2 |  -11 | -10
  -7 | -3 | 2 |   10 | 11
   6 |  3 | 2 |    9 | 9
   0 |  3 | 2 |    0 | 0
"""


@pytest.mark.parametrize("row", ROUNDING.strip().splitlines()[1:])
def test_rounding(row: str) -> None:
    a, b, c, down, up = (int(cell.split()[0]) for cell in row.split("|"))
    assert (muldiv_down(a, b, c), muldiv_up(a, b, c)) == (down, up)


@given(edges(0, BIG - 1), edges(0, BIG - 1), edges(0, BIG - 1))
def test_product_exceeds_sees_past_64_bits(a: int, b: int, limit: int) -> None:
    assert product_exceeds(a, b, limit) == (a * b > limit)


@given(edges(0, NOTIONAL_QUANTA_MAX), st.integers(-PPM, PPM))
def test_a_fee_is_rounded_up(notional: int, rate: int) -> None:
    assert fee_of(notional, rate) == -(-notional * rate // PPM)


@given(edges(0, NOTIONAL_QUANTA_MAX), st.integers(1, 1000))
def test_margin_is_rounded_up(notional: int, leverage: int) -> None:
    assert initial_margin(notional, leverage) == -(-notional // leverage)


@given(edges(-BIG + 1, BIG - 1), edges(1, BIG - 1))
def test_ceil_div(a: int, b: int) -> None:
    assert ceil_div(a, b) == -(-a // b)


@given(WORDS)
def test_fits_money(quanta: int) -> None:
    assert fits_money(quanta) == (abs(quanta) <= MONEY_QUANTA_MAX)


@kernel
def _zeros_of(word: int) -> tuple[int, int]:
    return trailing_zeros(word), leading_zeros(word)


@given(WORDS.filter(lambda word: word != 0))
def test_zero_bits(word: int) -> None:
    bits = f"{word & MASK:064b}"
    assert _zeros_of(word) == (64 - len(bits.rstrip("0")), 64 - len(bits.lstrip("0")))


# ---------------------------------------------------------------- the hash, written out


def _fold(a: int, b: int) -> int:
    product = (a & MASK) * (b & MASK)
    return (product & MASK) ^ (product >> 64)


def _signed(word: int) -> int:
    return int.from_bytes(word.to_bytes(8, "little"), "little", signed=True)


def model_line(digest: int, words: list[int]) -> int:
    d, keys = digest & MASK, (K0, K1, K2, K3, K0)
    folds = []
    for k in range(4):
        left = (words[2 * k] & MASK) ^ keys[k] ^ d
        folds.append(_fold(left, (words[2 * k + 1] & MASK) ^ keys[k + 1]))
    return _signed(_fold(folds[0] ^ folds[2] ^ K1, folds[1] ^ folds[3] ^ d ^ K2))


def model_word(digest: int, word: int) -> int:
    return _signed(_fold((digest & MASK) ^ K0, (word & MASK) ^ K1))


def model_hash(words: list[int], seed: int) -> int:
    digest, whole = model_word(seed, len(words)), len(words) // 8 * 8
    for at in range(0, whole, 8):
        digest = model_line(digest, words[at : at + 8])
    for word in words[whole:]:
        digest = model_word(digest, word)
    return digest or 1


@kernel
def _fold_line(digest: int, words: object, first: int) -> int:
    return fold_line(digest, words, first)


@kernel
def _fold_word(digest: int, word: int) -> int:
    return fold_word(digest, word)


@given(st.lists(WORDS, max_size=40), WORDS, st.integers(0, 3))
def test_the_hash_is_what_its_description_says(words: list[int], seed: int, pad: int) -> None:
    cells = table(np.array([7] * pad + words + [9], np.int64))
    assert hash_words(cells, pad, len(words), seed) == model_hash(words, seed)


@given(st.lists(WORDS, min_size=8, max_size=8), WORDS)
def test_a_line_and_a_word(words: list[int], digest: int) -> None:
    assert _fold_line(digest, table(np.array(words, np.int64)), 0) == model_line(digest, words)
    assert _fold_word(digest, words[0]) == model_word(digest, words[0])


@given(st.lists(WORDS, min_size=1, max_size=20), st.data())
def test_one_flipped_bit_changes_the_hash(words: list[int], data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(words) - 1)), data.draw(st.integers(0, 63))
    cells = np.array(words, np.int64)
    before = hash_words(table(cells), 0, len(words), 1)
    cells.view(np.uint64)[at] ^= np.uint64(1 << bit)
    assert hash_words(table(cells), 0, len(words), 1) != before


def test_the_hash_never_changes() -> None:
    """It is in files: these values are part of their formats."""
    cells = table(np.arange(20, dtype=np.int64))
    assert hash_words(cells, 0, 0, 0) == -2969129365836224189
    assert hash_words(cells, 0, 1, 0) == 5370902375640860850
    assert hash_words(cells, 0, 8, 0) == -6029717490366014037
    assert hash_words(cells, 0, 20, 0) == 2345842543478251675
