"""Constants of one running engine, in cells that every kernel may read: sizes, masks, intervals.

numba freezes module globals at compile time; what comes from configuration travels in here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.state import COMMANDS_MAX, Limits, power_of_two, proposals_max, shard_tables

COMMAND_MASK: Final = 0
MATCH_MASK: Final = 1
REPORT_MASK: Final = 2
SHARDS: Final = 4
ACCOUNTS: Final = 6
ASSETS: Final = 7
SYMBOLS: Final = 8
POSITIONS: Final = 9
ORDERS: Final = 10
CLIENTS: Final = 11
WINDOW_NS: Final = 12
ORDER_BITS: Final = 13
POSITION_BITS: Final = 14
CLIENT_BITS: Final = 15
PROPOSAL_MASK: Final = 16
CHECKPOINT_EVERY: Final = 17
LEAVES: Final = 18
TRIE: Final = 19
MATCHER: Final = 20
ALGOS: Final = 21
REQUESTS: Final = 22
ALGO_BITS: Final = 23
DIGESTS: Final = 24
DIGEST_BITS: Final = 25
DIGEST_WINDOW_NS: Final = 26
FUNDING_SLICE: Final = 27
SETUP_CELLS: Final = 32

# Positions that one FUNDING pays: trading goes on between two. Where risk shares the sequencer's
# worker an order waits for one slice at most; where it doesn't, the next slice is some hops away.
SLICE: Final = 8  # some 0.3 us
SLICE_APART: Final = 256


def setup_cells(
    limits: Limits,
    *,
    commands: int,
    matches: int,
    reports: int,
    shards: int = 1,
    checkpoint_every: int = 65536,
    funding_slice: int = SLICE_APART,
) -> np.ndarray[Any, Any]:
    """The constants for these limits and ring capacities (records each, powers of two)."""
    for name, slots in (("commands", commands), ("matches", matches), ("reports", reports)):
        if slots != power_of_two(slots):
            raise ValueError(f"rings.{name} = {slots}, must be a power of two")
    if commands > COMMANDS_MAX:
        raise ValueError(f"rings.commands = {commands}, must be at most {COMMANDS_MAX}")
    cells = np.zeros(SETUP_CELLS, np.int64)
    cells[COMMAND_MASK] = commands - 1
    cells[MATCH_MASK] = matches - 1
    cells[REPORT_MASK] = reports - 1
    cells[SHARDS] = shards
    cells[ACCOUNTS] = limits.accounts
    cells[ASSETS] = limits.assets
    cells[SYMBOLS] = limits.symbols
    cells[POSITIONS] = limits.positions
    cells[ORDERS] = limits.orders
    cells[CLIENTS] = limits.clients
    cells[WINDOW_NS] = limits.client_window_ns
    cells[ORDER_BITS] = bits_of(limits.orders)
    cells[POSITION_BITS] = bits_of(limits.positions)
    cells[CLIENT_BITS] = bits_of(limits.clients)
    cells[PROPOSAL_MASK] = proposals_max(limits) - 1
    cells[CHECKPOINT_EVERY] = checkpoint_every
    cells[ALGOS] = limits.algos
    cells[REQUESTS] = limits.requests
    cells[ALGO_BITS] = bits_of(limits.algos)
    cells[DIGESTS] = limits.digests
    cells[DIGEST_BITS] = bits_of(limits.digests)
    cells[DIGEST_WINDOW_NS] = limits.digest_window_ns
    cells[FUNDING_SLICE] = funding_slice
    cells[LEAVES] = limits.leaves
    cells[TRIE] = limits.trie
    cells[MATCHER] = next(t.rows for t in shard_tables(limits) if t.name == "matcher")
    return cells


def bits_of(rows: int) -> int:
    """log2 of the entries of the hash index over a table of `rows`."""
    return (2 * power_of_two(rows)).bit_length() - 1
