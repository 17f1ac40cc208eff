"""BLAKE2b-256 (RFC 7693) over int64 words, for kernels: what the books' hash tree is made of.

The same bytes as `hashlib.blake2b(words, digest_size=32)`, which whoever checks the books uses;
about 130 ns for 16 words, where a call of hashlib alone costs Python a microsecond.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from shm.jit import PLAIN, inlined, kernel
from shm.pointers import Cells

_SIGMA: Final = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.int64,
).reshape(-1)
DIGEST_BYTES: Final = 32
DIGEST_WORDS: Final = 4
BLOCK_WORDS: Final = 16

if PLAIN:

    def blake2b(words: Cells, first: int, count: int, work: Cells, out: Cells, at: int) -> None:
        digest = hashlib.blake2b(words[first : first + count].tobytes(), digest_size=DIGEST_BYTES)
        out[at : at + DIGEST_WORDS] = np.frombuffer(digest.digest(), np.int64)

else:
    _U = np.uint64
    _IV0: Final = 0x6A09E667F3BCC908
    _IV1: Final = 0xBB67AE8584CAA73B
    _IV2: Final = 0x3C6EF372FE94F82B
    _IV3: Final = 0xA54FF53A5F1D36F1
    _IV4: Final = 0x510E527FADE682D1
    _IV5: Final = 0x9B05688C2B3E6C1F
    _IV6: Final = 0x1F83D9ABFB41BD6B
    _IV7: Final = 0x5BE0CD19137E2179

    @inlined
    def _right(x: int, n: int) -> int:
        return (x >> _U(n)) | (x << _U(64 - n))

    @inlined
    def _mix(a: int, b: int, c: int, d: int, x: int, y: int) -> tuple[int, int, int, int]:
        a = a + b + x
        d = _right(d ^ a, 32)
        c = c + d
        b = _right(b ^ c, 24)
        a = a + b + y
        d = _right(d ^ a, 16)
        c = c + d
        b = _right(b ^ c, 63)
        return a, b, c, d

    @kernel
    def blake2b(words: Cells, first: int, count: int, work: Cells, out: Cells, at: int) -> None:
        """Digest of `count` words from words[first] into out[at : at + 4].

        work      int64[16], scratch
        """
        h0 = _U(_IV0) ^ _U(0x01010000 ^ DIGEST_BYTES)
        h1, h2, h3 = _U(_IV1), _U(_IV2), _U(_IV3)
        h4, h5, h6, h7 = _U(_IV4), _U(_IV5), _U(_IV6), _U(_IV7)
        done = 0
        while True:
            here = min(count - done, BLOCK_WORDS)
            for k in range(BLOCK_WORDS):
                work[k] = words[first + done + k] if k < here else 0
            done += here
            last = done == count
            a0, a1, a2, a3, a4, a5, a6, a7 = h0, h1, h2, h3, h4, h5, h6, h7
            b0, b1, b2, b3 = _U(_IV0), _U(_IV1), _U(_IV2), _U(_IV3)
            b4 = _U(_IV4) ^ _U(done * 8)
            b5, b7 = _U(_IV5), _U(_IV7)
            b6 = ~_U(_IV6) if last else _U(_IV6)
            for r in range(12):
                s = r * 16
                a0, a4, b0, b4 = _mix(a0, a4, b0, b4, _U(work[_SIGMA[s]]), _U(work[_SIGMA[s + 1]]))
                a1, a5, b1, b5 = _mix(
                    a1, a5, b1, b5, _U(work[_SIGMA[s + 2]]), _U(work[_SIGMA[s + 3]])
                )
                a2, a6, b2, b6 = _mix(
                    a2, a6, b2, b6, _U(work[_SIGMA[s + 4]]), _U(work[_SIGMA[s + 5]])
                )
                a3, a7, b3, b7 = _mix(
                    a3, a7, b3, b7, _U(work[_SIGMA[s + 6]]), _U(work[_SIGMA[s + 7]])
                )
                a0, a5, b2, b7 = _mix(
                    a0, a5, b2, b7, _U(work[_SIGMA[s + 8]]), _U(work[_SIGMA[s + 9]])
                )
                a1, a6, b3, b4 = _mix(
                    a1, a6, b3, b4, _U(work[_SIGMA[s + 10]]), _U(work[_SIGMA[s + 11]])
                )
                a2, a7, b0, b5 = _mix(
                    a2, a7, b0, b5, _U(work[_SIGMA[s + 12]]), _U(work[_SIGMA[s + 13]])
                )
                a3, a4, b1, b6 = _mix(
                    a3, a4, b1, b6, _U(work[_SIGMA[s + 14]]), _U(work[_SIGMA[s + 15]])
                )
            h0, h1, h2, h3 = h0 ^ a0 ^ b0, h1 ^ a1 ^ b1, h2 ^ a2 ^ b2, h3 ^ a3 ^ b3
            h4, h5, h6, h7 = h4 ^ a4 ^ b4, h5 ^ a5 ^ b5, h6 ^ a6 ^ b6, h7 ^ a7 ^ b7
            if last:
                break
        out[at] = np.int64(h0)
        out[at + 1] = np.int64(h1)
        out[at + 2] = np.int64(h2)
        out[at + 3] = np.int64(h3)
