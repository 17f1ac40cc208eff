"""The hash tree over a block's entries: one root that every bit of them went into.

leaf = H(LEAF, the entry's 8 words, key and amount of every leg)
node = H(NODE, left, right); the last node of an odd row goes up as it is
H    = BLAKE2b-256 of int64 words
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ledger.blake import blake2b
from shm.jit import kernel
from shm.pointers import Cells, table

Array = np.ndarray[Any, Any]

LEAF: Final = 0x4C  # first word of what a leaf hashes, and of what a node does
NODE: Final = 0x4E


@kernel
def hash_entries(
    entry_words: Cells,
    leg_account: Cells,
    leg_amount: Cells,
    accounts: Cells,
    first: int,
    count: int,
    scratch: Cells,
    work: Cells,
    tree: Cells,
) -> None:
    """Root of the Merkle tree over entries [first, first + count) of a segment, into tree[0:4].

    entry_words   LEDGER_ENTRY rows as cells
    accounts      LEDGER_ACCOUNT rows as cells: a leg is hashed with its account's key
    scratch       cells for the words of the largest entry
    work          int64[16]
    tree          4 * count cells
    """
    for n in range(count):
        at = (first + n) * 8
        scratch[0] = LEAF
        for k in range(8):
            scratch[1 + k] = entry_words[at + k]
        begin = entry_words[at + 6] & 0xFFFFFFFF
        legs = (entry_words[at + 7] >> 16) & 0xFFFF
        to = 9
        for k in range(begin, begin + legs):
            scratch[to] = accounts[leg_account[k] * 4]
            scratch[to + 1] = leg_amount[k]
            to += 2
        blake2b(scratch, 0, to, work, tree, 4 * n)
    left = count
    while left > 1:
        half = left // 2
        for n in range(half):
            scratch[0] = NODE
            for k in range(8):
                scratch[1 + k] = tree[8 * n + k]
            blake2b(scratch, 0, 9, work, tree, 4 * n)
        if left % 2 == 1:
            for k in range(4):
                tree[4 * half + k] = tree[4 * (left - 1) + k]
            half += 1
        left = half


def tree_root(
    entries: Array, account: Array, amount: Array, accounts: Array, at: int, count: int
) -> bytes:
    """Root of the Merkle tree over entries [at, at + count) of a segment; of none: 32 zeros.

    accounts   LEDGER_ACCOUNT rows
    """
    if count == 0:
        return bytes(32)
    tree = np.zeros(4 * count, np.int64)
    most = int(entries["leg_count"][at : at + count].max())
    hash_entries(
        table(entries.view(np.int64)),
        table(account),
        table(amount),
        table(accounts.view(np.int64)),
        at,
        count,
        table(np.zeros(16 + 2 * most, np.int64)),
        table(np.zeros(16, np.int64)),
        table(tree),
    )
    return tree[:4].tobytes()
