"""The return path: what settlement decides about the future.

A decision is a mark in state (`pending` of a claim, an account or a symbol). The queue here only
remembers which marks have not been handed to the sequencer yet; it is no part of the state, and
after recovery it is filled again from the marks. A mark is cleared by the command that applies it.
"""

from __future__ import annotations

from typing import Final

from engine.setup import ACCOUNTS, ASSETS, PROPOSAL_MASK, SYMBOLS
from engine.state import Risk
from shm.atomics import load_acquire, store_release
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows

TAKEN: Final = 0
PUT: Final = 1
FIRST: Final = 2

ORDER: Final = 0  # claim row: EXPIRE
ACCOUNT: Final = 1 << 40  # account: CANCEL_ALL
SYMBOL: Final = 2 << 40  # symbol: CANCEL_SYMBOL
ALGO: Final = 3 << 40  # algo row: TRIGGER
POSITION: Final = 4 << 40  # position row: CANCEL_ALL in its symbol
FUNDING: Final = 5 << 40  # symbol: FUNDING
WALLET: Final = 6 << 40  # wallet row: the next step of a cross liquidation
ISOLATED: Final = 7 << 40  # position row: the next step of an isolated liquidation
DELIST: Final = 8 << 40  # symbol: DELIST
KIND_MASK: Final = 15 << 40


@inlined
def put(proposals: Cells, setup: Cells, code: int) -> None:
    """Queue a mark just set: kind | row."""
    count = proposals[PUT]
    assert count - load_acquire(proposals, TAKEN) <= setup[PROPOSAL_MASK]
    proposals[FIRST + (count & setup[PROPOSAL_MASK])] = code
    store_release(proposals, PUT, count + 1)


@kernel
def mark_order(claims: Rows, proposals: Cells, setup: Cells, slot: int, reason: int) -> None:
    """Propose that a live order ends, or shrinks to what it still claims, once."""
    rarely()
    c = claims[slot]
    if c["pending"] == 0:
        c["pending"] = reason
        put(proposals, setup, ORDER | slot)


@kernel
def refill(r: Risk, setup: Cells) -> None:
    """After recovery: queue every mark that stands."""
    queue = r.proposals
    queue[TAKEN] = 0
    queue[PUT] = 0
    for slot in range(r.venue[0]["claims_used"]):
        c = r.claims[slot]
        if c["order_id"] != 0 and c["done"] == 0 and c["pending"] != 0:
            put(queue, setup, ORDER | slot)
    for account in range(setup[ACCOUNTS]):
        if r.accounts[account]["pending"] != 0:
            put(queue, setup, ACCOUNT | account)
    for symbol in range(setup[SYMBOLS]):
        if r.symbols[symbol]["pending"] != 0:
            put(queue, setup, SYMBOL | symbol)
        if r.contracts[symbol]["funding_pending"] != 0:
            put(queue, setup, FUNDING | symbol)
    for row in range(setup[ACCOUNTS] * setup[ASSETS]):
        if r.wallets[row]["liquidation"] != 0:
            put(queue, setup, WALLET | row)
    for row in range(r.venue[0]["positions_used"]):
        if r.positions[row]["liquidation"] != 0:
            put(queue, setup, ISOLATED | row)
