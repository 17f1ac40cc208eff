"""One fast non-cryptographic hash for blocks, snapshots and the running digest of reports.

Multiply-and-fold of 64-bit words (the wyhash idea, our own constants): it finds accidents, not
attackers. Each 64-byte record takes four 128-bit products, about 5 ns.
"""

from __future__ import annotations

import numpy as np

from shm.atomics import multiply_high
from shm.jit import PLAIN, inlined, kernel
from shm.pointers import Cells

_MASK = (1 << 64) - 1
K0 = 0x9E3779B97F4A7C15
K1 = 0xD1B54A32D192ED03
K2 = 0x8CB92BA72F3D8DD7
K3 = 0xABC98388FB8FAC03
SEED = 0x243F6A8885A308D3

if PLAIN:

    def _fold(a: int, b: int) -> int:
        product = (a & _MASK) * (b & _MASK)
        return (product ^ (product >> 64)) & _MASK

    def _signed(word: int) -> int:
        return word - (1 << 64) if word >> 63 else word

    def fold_words(
        digest: int, w0: int, w1: int, w2: int, w3: int, w4: int, w5: int, w6: int, w7: int
    ) -> int:
        w = [int(word) & _MASK for word in (w0, w1, w2, w3, w4, w5, w6, w7)]
        d = int(digest) & _MASK
        a = _fold(w[0] ^ K0 ^ d, w[1] ^ K1)
        b = _fold(w[2] ^ K1 ^ d, w[3] ^ K2)
        c = _fold(w[4] ^ K2 ^ d, w[5] ^ K3)
        e = _fold(w[6] ^ K3 ^ d, w[7] ^ K0)
        return _signed(_fold(a ^ c ^ K1, b ^ e ^ d ^ K2))

    def fold_word(digest: int, word: int) -> int:
        return _signed(_fold((int(digest) & _MASK) ^ K0, (int(word) & _MASK) ^ K1))

else:
    _U = np.uint64

    @inlined
    def _fold(a: int, b: int) -> int:
        high, low = multiply_high(a, b)
        return high ^ low

    @inlined
    def fold_words(
        digest: int, w0: int, w1: int, w2: int, w3: int, w4: int, w5: int, w6: int, w7: int
    ) -> int:
        """`digest` taken over the eight words of a line."""
        d = _U(digest)
        a = _fold(_U(w0) ^ _U(K0) ^ d, _U(w1) ^ _U(K1))
        b = _fold(_U(w2) ^ _U(K1) ^ d, _U(w3) ^ _U(K2))
        c = _fold(_U(w4) ^ _U(K2) ^ d, _U(w5) ^ _U(K3))
        e = _fold(_U(w6) ^ _U(K3) ^ d, _U(w7) ^ _U(K0))
        return np.int64(_fold(a ^ c ^ _U(K1), b ^ e ^ d ^ _U(K2)))

    @inlined
    def fold_word(digest: int, word: int) -> int:
        """`digest` taken over one word; also the hash of a single key."""
        return np.int64(_fold(_U(digest) ^ _U(K0), _U(word) ^ _U(K1)))


@inlined
def fold_line(digest: int, words: Cells, first: int) -> int:
    """`digest` taken over the eight words from words[first]."""
    return fold_words(
        digest,
        words[first],
        words[first + 1],
        words[first + 2],
        words[first + 3],
        words[first + 4],
        words[first + 5],
        words[first + 6],
        words[first + 7],
    )


@kernel
def hash_words(words: Cells, first: int, count: int, seed: int) -> int:
    """Hash of `count` words from words[first]; the count is part of it.

    words       int64 cells
    returns     int64, never 0: 0 stands for "no hash" in headers
    """
    digest = fold_word(seed, count)
    at = first
    end = first + count
    while at + 8 <= end:
        digest = fold_line(digest, words, at)
        at += 8
    while at < end:
        digest = fold_word(digest, words[at])
        at += 1
    return digest if digest != 0 else 1
