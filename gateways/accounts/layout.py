"""The account view's memory: which tables there are, and where its scalars stand.

    <instance>.view    made by the view process (gateways/accounts/main.py), read by every gateway

Never   imports numba: clients map this.

Accounts, wallets, symbols, contracts, brackets, positions and requests are the engine's own
records, filled in from reports alone; what reports don't tell (who claims what, heaps) stays zero.
Orders and conditional orders are VIEW_ORDER and VIEW_ALGO, and stay a while after they have ended,
so that whoever saw the answer finds the order.

Invariants
    1. versions[BATCH] is odd while reports are being applied: what was copied under one even
       version stands at head[SEQ] as a whole.
    2. versions[INDEXES] is odd while an index changes.
    3. versions[ACCOUNT + a] is odd while anything of account a changes.
    4. A view that was killed leaves odd versions; its successor makes a new segment.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shm.config import Config
from shm.segment import Part
from shm.units import BRACKETS_MAX

VIEW: Final = "view"

# versions
BATCH: Final = 0
INDEXES: Final = 1
ACCOUNT: Final = 2

# head: scalars, a cell each
SEQ: Final = 0  # every report of the commands up to here is in the tables
INDEX: Final = 1  # index of the next report
TS_NS: Final = 2  # stamped time of command SEQ
READY: Final = 3  # 1 once it had caught up with what was durable when it started
VENUE_STATE: Final = 4  # codes.State
ASSETS: Final = 5  # sizes of the tables, for kernels
ACCOUNTS: Final = 6
SYMBOLS: Final = 7
POSITIONS: Final = 8
ORDERS: Final = 9
ALGOS: Final = 10
REQUESTS: Final = 11
ORDER_BITS: Final = 12
ALGO_BITS: Final = 13
POSITIONS_USED: Final = 14
ORDERS_USED: Final = 15
ALGOS_USED: Final = 16
REQUESTS_USED: Final = 17
ORDERS_CLOSED_FIRST: Final = 18  # oldest closed order, or NIL: the next row to be used again
ORDERS_CLOSED_LAST: Final = 19
ALGOS_CLOSED_FIRST: Final = 20
ALGOS_CLOSED_LAST: Final = 21
OPEN_ORDERS: Final = 22
OPEN_ALGOS: Final = 23
DROPPED: Final = 24  # reports about rows for which a table had no room: configuration is too small
LOCKED: Final = 25  # account + 1 whose version is odd just now, or 0
COMMAND_NS: Final = 26  # time of the command whose reports are being applied
COMMAND_SEQ: Final = 27
TRIGGERED_ORDER: Final = 28  # order id that a conditional order became, before its ORDER came
TRIGGERED_ROW: Final = 29
EXEC_STATUS: Final = 30
SCRATCH: Final = 32  # 32 cells: the command words that PARAMETERS repeat
HEAD_CELLS: Final = 64


class Sizes(NamedTuple):
    """Rows of every table."""

    accounts: int
    assets: int
    symbols: int
    positions: int
    orders: int
    algos: int
    requests: int

    @property
    def order_bits(self) -> int:
        return (2 * self.orders - 1).bit_length()

    @property
    def algo_bits(self) -> int:
        return (2 * self.algos - 1).bit_length()


def sizes_of(config: Config) -> Sizes:
    """As many rows as the engine has, and some for orders that have ended."""
    limits, closed = config.limits, config.view.closed_orders
    return Sizes(
        limits.accounts,
        limits.assets,
        limits.symbols,
        limits.positions,
        limits.orders + closed,
        limits.algos + closed,
        limits.requests + closed,
    )


def view_parts(sizes: Sizes) -> tuple[Part, ...]:
    """What the segment holds, in the order of a checkpoint file."""
    wallets = sizes.accounts * sizes.assets
    return (
        Part("head", "<i8", HEAD_CELLS),
        Part("versions", "<i8", ACCOUNT + sizes.accounts),
        Part("accounts", "ACCOUNT", sizes.accounts),
        Part("account_times", "<i8", sizes.accounts),
        Part("account_orders", "<i4", 2 * sizes.accounts),  # first and last open order
        Part("account_algos", "<i4", 2 * sizes.accounts),
        Part("assets", "ASSET", sizes.assets),
        Part("wallets", "WALLET", wallets),
        Part("wallet_times", "<i8", wallets),
        Part("symbols", "SYMBOL", sizes.symbols),
        Part("contracts", "CONTRACT", sizes.symbols),
        Part("brackets", "BRACKET", sizes.symbols * BRACKETS_MAX),
        Part("rates", "<i8", 2 * sizes.symbols),  # estimated funding rate, next funding time
        Part("positions", "POSITION", sizes.positions),
        Part("position_times", "<i8", sizes.positions),
        Part("lights", "i1", sizes.positions),  # of the ADL queue (gateways/accounts/ranks.py)
        Part("orders", "VIEW_ORDER", sizes.orders),
        Part("algos", "VIEW_ALGO", sizes.algos),
        Part("requests", "REQUEST", sizes.requests),
        Part("order_index", "<i8", 2 << sizes.order_bits),
        Part("name_index", "<i8", 2 << sizes.order_bits),
        Part("algo_index", "<i8", 2 << sizes.algo_bits),
        Part("algo_name_index", "<i8", 2 << sizes.algo_bits),
    )


_MASK: Final = (1 << 64) - 1


def name_key(account: int, words: tuple[int, ...] | list[int]) -> int:
    """Key of the name indexes: the kernel's own (gateways/accounts/apply.py), for readers."""
    key = (account + 1) & _MASK
    for k in range(5):
        word = words[k] & _MASK
        turn = 13 * k
        key ^= ((word << turn) | (word >> (64 - turn))) & _MASK if turn else word
    key &= (1 << 63) - 1
    return key or 1
