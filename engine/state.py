"""Every table of the engine's state: who owns it, how large it is, and whether a snapshot keeps it.

Sizes come from `Limits` and nothing grows: a full table is a reject (Reason.CAPACITY), never an
allocation. Tables that are not kept are rebuilt from those that are, since their layout depends
on history or on the number of shards while the state does not.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from shm import records
from shm.pointers import Cells, Rows, bundle, table
from shm.units import BRACKETS_MAX, PRODUCERS_MAX, SOURCES_MAX

COMMANDS_MAX: Final = 32768  # slots of the commands ring, at most
CLAIM_WORDS: Final = records.CLAIM.dtype.itemsize // 8
ALGO_CELLS: Final = 24  # of a symbol, for conditional orders (engine/triggers.py)
ALGO_LINKS: Final = 16  # cells of a conditional order (engine/leftist.py)
MATCHER_CELLS: Final = 64  # scalars of a shard; behind them its finger cache, roots and links
FINGERS: Final = 1024  # (key, leaf) pairs: the price leaves a shard has touched lately


class Limits(NamedTuple):
    """How much of everything this venue can hold."""

    accounts: int = 4096
    assets: int = 2
    symbols: int = 16
    positions: int = 16384
    orders: int = 65536
    algos: int = 16384  # conditional orders that wait
    requests: int = 4096  # withdrawals and adjustments under way
    clients: int = 131072  # client ids, live and remembered
    client_window_ns: int = 600_000_000_000
    digests: int = 65536  # of signed requests, remembered
    digest_window_ns: int = 61_000_000_000
    leaves: int = 8192  # 64-tick price leaves, per shard
    trie: int = 8192  # inner nodes of price tries, per shard

    def check(self) -> None:
        """Raise ValueError where a limit is outside what the record layouts can number."""
        for name, value in self._asdict().items():
            if not 1 <= value <= (1 << 31) - 1 and not name.endswith("_ns"):
                raise ValueError(f"limits.{name} = {value}, must be 1 to {(1 << 31) - 1}")
        if self.symbols > 65534:
            raise ValueError(f"limits.symbols = {self.symbols}, must be at most 65534")
        if self.accounts < 17:
            raise ValueError(f"limits.accounts = {self.accounts}, must be at least 17")


class TableSpec(NamedTuple):
    """One table: record name or a number type, rows, and whether a snapshot keeps it."""

    name: str
    type: str
    rows: int
    kept: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        known = records.RECORDS.get(self.type)
        return known.dtype if known else np.dtype(self.type)


class Risk(NamedTuple):
    """Tables that risk and settlement own together, in one process."""

    venue: Rows  # VENUE[1]
    accounts: Rows  # ACCOUNT[accounts]
    assets: Rows  # ASSET[assets]
    wallets: Rows  # WALLET[accounts * assets]
    symbols: Rows  # SYMBOL[symbols]
    positions: Rows  # POSITION[positions]
    claims: Rows  # CLAIM[orders]
    claim_words: Cells  # the same memory, CLAIM_WORDS a row
    brackets: Rows  # BRACKET[symbols * BRACKETS_MAX]
    contracts: Rows  # CONTRACT[symbols]
    sources: Rows  # SOURCE[symbols * SOURCES_MAX]
    algos: Rows  # ALGO[algos]
    requests: Rows  # REQUEST[requests]
    adl_queues: Rows  # ADL_QUEUE[2 * symbols]
    adl_ranks: Rows  # ADL_RANK[2 * symbols]
    clients: Rows  # CLIENT[clients]
    client_words: Cells  # the same memory, eight words a row
    producers: Rows  # PRODUCER[PRODUCERS_MAX]
    heap: Cells  # claim rows, a binary heap by (expire_ns, order_id)
    countdowns: Cells  # position rows, a binary heap by (countdown_ns, row)
    algo_heaps: Cells  # ALGO_CELLS a symbol: heads of what waits there (engine/triggers.py)
    algo_links: Cells  # links of algo rows in heaps (engine/leftist.py)
    algo_index: Cells  # hash of algo id -> algo row
    digests: Rows  # DIGEST[digests], a ring
    digest_index: Cells  # hash of a digest -> its row
    order_index: Cells  # hash of order id -> claim row
    position_index: Cells  # hash of (account, symbol) -> position row
    client_index: Cells  # hash of (account, client id) -> client row
    proposals: Cells  # queue of what settlement proposes: count taken, count put, then codes


class Books(NamedTuple):
    """Tables that one matching shard owns; `nodes`, `books`, `mine` are shared row by row."""

    nodes: Rows  # NODE[orders]
    node_levels: Cells  # which LEVEL row an order rests in; int64[orders]
    books: Rows  # BOOK[symbols]
    mine: Rows  # MINE[positions]
    mine_heads: Cells  # per account the first MINE row of this shard, or NIL; int64[accounts]
    trie_bits: Cells  # int64[trie]: which children there are
    trie_children: Cells  # int64[trie * 64]: inner nodes, or leaves at the last step
    leaf_bits: Cells  # int64[leaves]: which of its 64 prices have orders
    levels: Rows  # LEVEL[leaves * 64]
    matcher: Cells  # paused command, finger cache, trie roots and links (engine/prices.py)


def power_of_two(at_least: int) -> int:
    """The least power of two that is not below `at_least`."""
    return 1 << max(0, (at_least - 1).bit_length())


def proposals_max(limits: Limits) -> int:
    """Slots of the queue of proposals, a power of two that it cannot outgrow.

    Each order, account and symbol has one mark. A row that ends and is used again while the queue
    waits stands there twice, but not more of them than commands are in flight: the sequencer takes
    what is proposed before it takes anything else.
    """
    marks = limits.orders + limits.algos + limits.accounts * (1 + limits.assets)
    return power_of_two(marks + 2 * limits.positions + 3 * limits.symbols + 2 * COMMANDS_MAX)


def risk_tables(limits: Limits) -> tuple[TableSpec, ...]:
    """Specs in the order of `Risk`."""
    limits.check()
    return (
        TableSpec("venue", "VENUE", 1, True),
        TableSpec("accounts", "ACCOUNT", limits.accounts, True),
        TableSpec("assets", "ASSET", limits.assets, True),
        TableSpec("wallets", "WALLET", limits.accounts * limits.assets, True),
        TableSpec("symbols", "SYMBOL", limits.symbols, True),
        TableSpec("positions", "POSITION", limits.positions, True),
        TableSpec("claims", "CLAIM", limits.orders, True),
        TableSpec("brackets", "BRACKET", limits.symbols * BRACKETS_MAX, True),
        TableSpec("contracts", "CONTRACT", limits.symbols, True),
        TableSpec("sources", "SOURCE", limits.symbols * SOURCES_MAX, True),
        TableSpec("algos", "ALGO", limits.algos, True),
        TableSpec("requests", "REQUEST", limits.requests, True),
        TableSpec("adl_queues", "ADL_QUEUE", 2 * limits.symbols, True),
        TableSpec("adl_ranks", "ADL_RANK", 2 * limits.symbols, True),
        TableSpec("clients", "CLIENT", limits.clients, True),
        TableSpec("producers", "PRODUCER", PRODUCERS_MAX, True),
        TableSpec("heap", "<i8", limits.orders, True),
        TableSpec("countdowns", "<i8", limits.positions, True),
        TableSpec("algo_heaps", "<i8", ALGO_CELLS * limits.symbols, True),
        TableSpec("algo_links", "<i8", ALGO_LINKS * limits.algos, True),
        TableSpec("algo_index", "<i8", 4 * power_of_two(limits.algos), False),
        TableSpec("digests", "DIGEST", limits.digests, True),
        TableSpec("digest_index", "<i8", 4 * power_of_two(limits.digests), False),
        # A hash entry is a (key, row) pair of cells; half empty, so that probes stay short.
        TableSpec("order_index", "<i8", 4 * power_of_two(limits.orders), False),
        TableSpec("position_index", "<i8", 4 * power_of_two(limits.positions), False),
        TableSpec("client_index", "<i8", 4 * power_of_two(limits.clients), False),
        TableSpec("proposals", "<i8", 2 + proposals_max(limits), False),
    )


def shared_book_tables(limits: Limits) -> tuple[TableSpec, ...]:
    """Book tables that all shards map, each touching the rows of its own symbols."""
    return (
        TableSpec("nodes", "NODE", limits.orders, True),
        TableSpec("node_levels", "<i8", limits.orders, False),
        TableSpec("books", "BOOK", limits.symbols, True),
        TableSpec("mine", "MINE", limits.positions, False),
    )


def shard_tables(limits: Limits) -> tuple[TableSpec, ...]:
    """Book tables of one shard alone."""
    return (
        TableSpec("mine_heads", "<i8", limits.accounts, False),
        TableSpec("trie_bits", "<i8", limits.trie, False),
        TableSpec("trie_children", "<i8", limits.trie * 64, False),
        TableSpec("leaf_bits", "<i8", limits.leaves, False),
        TableSpec("levels", "LEVEL", limits.leaves * 64, False),
        # Scalars, fingers and roots, and what hangs on what (engine/prices.py).
        TableSpec(
            "matcher",
            "<i8",
            MATCHER_CELLS + 2 * (FINGERS + limits.symbols + limits.trie) + limits.leaves,
            False,
        ),
    )


def allocate(specs: tuple[TableSpec, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Zeroed private arrays for the specs: for replay, tools and tests that need no sharing."""
    return {spec.name: zeros(spec.rows, spec.dtype) for spec in specs}


def zeros(rows: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """As np.zeros, but no row of 64 bytes straddles two cache lines, as in a segment."""
    memory = np.zeros(rows * dtype.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + rows * dtype.itemsize].view(dtype)


def risk_of(arrays: dict[str, np.ndarray[Any, Any]]) -> Risk:
    """The arrays as kernels take them."""
    views = {
        **arrays,
        "claim_words": arrays["claims"].view(np.int64),
        "client_words": arrays["clients"].view(np.int64),
    }
    return bundle(Risk(**{name: table(views[name]) for name in Risk._fields}))


def books_of(arrays: dict[str, np.ndarray[Any, Any]]) -> Books:
    """The arrays of one shard as kernels take them."""
    return Books(**{name: table(arrays[name]) for name in Books._fields})
