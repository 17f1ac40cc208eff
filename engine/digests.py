"""Digests of signed requests: one that was taken within the window is not taken again.

Reads   the origin (line 2) of commands whose kind has one; a digest of zero is no digest.
Writes  DIGEST rows, a ring in order of time, and their index.

A row lives for `digest_window_ns` of sequencer time, unless the table is full: then the oldest goes
first. What is refused for another reason is remembered as well, or it could be sent again when that
reason is gone. A signed request that becomes several commands gives each a digest of its own.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine import hashmap
from engine.commands import WORDS
from engine.setup import DIGEST_BITS, DIGEST_WINDOW_NS, DIGESTS
from engine.state import Risk
from shm.hashing import fold_word
from shm.jit import inlined, kernel, rarely
from shm.kinds import HAS_ORIGIN
from shm.pointers import Cells, Rows
from shm.units import NIL

_HAS_ORIGIN: Final = HAS_ORIGIN
_FORGET: Final = 4  # rows past their window that one new row sweeps out, at most


@inlined
def _key(hi: int, lo: int) -> int:
    key = fold_word(hi, lo)
    return key if key != 0 else 1


@inlined
def is_signed(words: Cells, at: int, c: Rows) -> bool:
    """Whether the command in a slot carries a digest."""
    base = at * WORDS
    return (
        c["lines"] == 3
        and (words[base + 18] | words[base + 19]) != 0
        and (_HAS_ORIGIN >> np.int64(c["kind"])) & 1 != 0
    )


@kernel
def _find(r: Risk, setup: Cells, hi: int, lo: int) -> int:
    bits = setup[DIGEST_BITS]
    mask = (1 << bits) - 1
    key = _key(hi, lo)
    at = hashmap.home(key, bits)
    while r.digest_index[2 * at] != 0:
        if r.digest_index[2 * at] == key:
            row = r.digest_index[2 * at + 1]
            d = r.digests[row]
            if d["digest_hi"] == hi and d["digest_lo"] == lo:
                return row
        at = (at + 1) & mask
    return NIL


@kernel
def _drop_oldest(r: Risk, setup: Cells) -> None:
    v = r.venue[0]
    row = v["digests_first"]
    d = r.digests[row]
    hashmap.remove(r.digest_index, setup[DIGEST_BITS], _key(d["digest_hi"], d["digest_lo"]), row)
    d["seq"] = 0
    v["digests_first"] = (row + 1) % setup[DIGESTS]
    v["digests_count"] -= 1


@kernel
def take(r: Risk, setup: Cells, words: Cells, at: int, c: Rows) -> int:
    """Remember the digest of a signed command; 0, or the command that had it first."""
    rarely()
    base = at * WORDS
    hi = words[base + 18]
    lo = words[base + 19]
    v = r.venue[0]
    past = c["ts_ns"] - setup[DIGEST_WINDOW_NS]
    found = _find(r, setup, hi, lo)
    if found != NIL and r.digests[found]["ts_ns"] > past:
        return r.digests[found]["seq"]
    while found != NIL and r.digests[found]["seq"] != 0:
        _drop_oldest(r, setup)  # past its window, and so is all before it
    for _ in range(_FORGET):
        if v["digests_count"] == 0 or r.digests[v["digests_first"]]["ts_ns"] > past:
            break
        _drop_oldest(r, setup)
    if v["digests_count"] == setup[DIGESTS]:
        _drop_oldest(r, setup)
    row = (v["digests_first"] + v["digests_count"]) % setup[DIGESTS]
    v["digests_count"] += 1
    d = r.digests[row]
    d["digest_hi"] = hi
    d["digest_lo"] = lo
    d["seq"] = c["seq"]
    d["ts_ns"] = c["ts_ns"]
    hashmap.put(r.digest_index, setup[DIGEST_BITS], _key(hi, lo), row)
    return 0


@kernel
def reindex(r: Risk, setup: Cells) -> None:
    """The index from the rows; it is empty before."""
    for row in range(setup[DIGESTS]):
        d = r.digests[row]
        if d["seq"] != 0:
            key = _key(d["digest_hi"], d["digest_lo"])
            hashmap.put(r.digest_index, setup[DIGEST_BITS], key, row)
