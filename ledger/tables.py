"""What the posting kernels work on: columns of entries and legs, accounts, orders, and who is what.

    entries   LEDGER_ENTRY rows of one segment
    legs      three columns beside them: account, amount, balance after it; a fourth links each
              leg to the one before of the same account
    accounts  LEDGER_ACCOUNT, in order of first use, found through `index`
    orders    LEDGER_ORDER, an open-addressed table by order id

Nothing here grows inside a kernel: a posting stops before the first report that might not fit, and
says what has to be made larger (ledger/postings.py).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from shm import records
from shm.codes import ReportKind
from shm.hashing import SEED, fold_word
from shm.jit import inlined, kernel
from shm.pointers import Cells, Rows, table
from shm.units import NIL

SYMBOLS: Final = 1 << 16
ASSETS: Final = 1 << 16
SCRATCH: Final = 64

# Cells of the books: where they stand.
ENTRIES: Final = 0
LEGS: Final = 1
FIRST_ENTRY: Final = 2  # of the segment
FIRST_LEG: Final = 3
ROOM_ENTRIES: Final = 4  # of the segment
ROOM_LEGS: Final = 5
ACCOUNTS: Final = 6
ACCOUNT_BITS: Final = 7  # of the index
ACCOUNT_ROOM: Final = 8
ORDERS: Final = 9
ORDER_BITS: Final = 10
SEQ: Final = 11
TS_NS: Final = 12
REPORTS: Final = 13  # taken up: the index of the next one
BLOCK_ENTRY: Final = 14  # first entry of the block that is open
CLOSE_BLOCK: Final = 15  # 1: close it before the next command
TRACES: Final = 16
ROOM_TRACES: Final = 17
BREAKS: Final = 18
ROOM_BREAKS: Final = 19
FAULT: Final = 20
FAULT_KEY: Final = 21
EXEC_ORDER: Final = 22  # of the EXEC that a POSITION follows
EXEC_TRADE: Final = 23
EXEC_PRICE: Final = 24
EXEC_LOTS: Final = 25
EXEC_OPEN: Final = 26
EXEC_FEE: Final = 27
EXEC_SEQ: Final = 28
REQUEST_FEE: Final = 29  # of the withdrawal that is settled by this command
REQUEST_SEQ: Final = 30
TRADES: Final = 31  # sides of trades booked
TRADE_LOTS: Final = 32
SPAN: Final = 33  # entries that close a block
TRACE_SEQ: Final = 34  # of the TRACE that came last
TRACE_HI: Final = 35
TRACE_LO: Final = 36
TRACE_ORDER: Final = 37
REQUEST_WHERE: Final = 39  # where its money goes
LEG_ENTRY: Final = 38  # legs there were when the entry began
CELLS: Final = 64

OVERFLOW: Final = 1  # FAULT: a balance would leave int64
DISORDER: Final = 2  # sequence numbers fall
UNKNOWN_SYMBOL: Final = 3  # no SYMBOL told what it is

INT64_MAX: Final = (1 << 63) - 1


class Book(NamedTuple):
    """Everything a posting kernel touches."""

    cells: Cells
    accounts: Rows  # LEDGER_ACCOUNT
    index: Cells  # account row + 1, by hash of its key
    orders: Rows  # LEDGER_ORDER
    symbols: Rows  # LEDGER_SYMBOL[SYMBOLS]
    entries: Rows  # LEDGER_ENTRY of the segment
    leg_account: Cells  # uint32
    leg_amount: Cells
    leg_balance: Cells
    leg_before: Cells
    traces: Rows  # LEDGER_TRACE of the batch
    breaks: Rows  # LEDGER_BREAK of the batch


class Reports(NamedTuple):
    """One batch of reports in all its views."""

    orders: Rows
    answers: Rows
    execs: Rows
    positions: Rows
    wallets: Rows
    flips: Rows
    margins: Rows
    holds: Rows
    fundings: Rows
    rounds: Rows
    moves: Rows
    requests: Rows
    traces: Rows
    checkpoints: Rows
    words: Cells


_VIEWS: Final = (
    *(ReportKind.ANSWER, ReportKind.EXEC, ReportKind.POSITION, ReportKind.WALLET),
    *(ReportKind.FLIP, ReportKind.MARGIN, ReportKind.HOLD, ReportKind.FUNDING),
    *(ReportKind.FUNDING_ROUND, ReportKind.MOVE, ReportKind.REQUEST, ReportKind.TRACE),
    ReportKind.CHECKPOINT,
)


def reports_of(array: np.ndarray[Any, Any]) -> Reports:
    """A buffer of REPORT rows as the kernels take it."""
    views = [table(array.view(records.RECORDS[f"{k.name}_REPORT"].dtype)) for k in _VIEWS]
    return Reports._make([table(array), *views, table(array.view(np.int64))])


@inlined
def _home(key: int, bits: int) -> int:
    return fold_word(SEED, key) & ((1 << bits) - 1)


@kernel
def account_row(b: Book, key: int, commodity: int) -> int:
    """Row of an account of the books; it is opened when there is none."""
    cells = b.cells
    mask = (1 << cells[ACCOUNT_BITS]) - 1
    at = _home(key, cells[ACCOUNT_BITS])
    while b.index[at] != 0:
        row = np.int64(b.index[at]) - 1
        if b.accounts[row]["key"] == key:
            return row
        at = (at + 1) & mask
    row = cells[ACCOUNTS]
    assert row < cells[ACCOUNT_ROOM]
    b.index[at] = row + 1
    a = b.accounts[row]
    a["key"] = key
    a["balance"] = 0
    a["last_leg"] = NIL
    a["commodity"] = commodity
    a["reserved"] = 0
    cells[ACCOUNTS] = row + 1
    return row


@kernel
def find_account(b: Book, key: int) -> int:
    """Row of an account of the books, or NIL."""
    mask = (1 << b.cells[ACCOUNT_BITS]) - 1
    at = _home(key, b.cells[ACCOUNT_BITS])
    while b.index[at] != 0:
        row = np.int64(b.index[at]) - 1
        if b.accounts[row]["key"] == key:
            return row
        at = (at + 1) & mask
    return NIL


@inlined
def balance_of(b: Book, key: int) -> int:
    """Debits less credits; 0 for an account that was never used."""
    row = find_account(b, key)
    return b.accounts[row]["balance"] if row != NIL else 0


@kernel
def rebuild_index(b: Book) -> None:
    """Fill an empty index from the accounts there are."""
    mask = (1 << b.cells[ACCOUNT_BITS]) - 1
    for row in range(b.cells[ACCOUNTS]):
        at = _home(b.accounts[row]["key"], b.cells[ACCOUNT_BITS])
        while b.index[at] != 0:
            at = (at + 1) & mask
        b.index[at] = row + 1


@kernel
def order_row(b: Book, order_id: int) -> int:
    """Row of a live order, or the free row where it belongs."""
    mask = (1 << b.cells[ORDER_BITS]) - 1
    at = _home(order_id, b.cells[ORDER_BITS])
    while b.orders[at]["order_id"] != 0 and b.orders[at]["order_id"] != order_id:
        at = (at + 1) & mask
    return at


@inlined
def open_order(b: Book, at: int, order_id: int, account: int, symbol: int, leg: int) -> None:
    """Take the free row `at` for an order that holds and claims nothing yet."""
    o = b.orders[at]
    o["order_id"] = order_id
    o["hold_quanta"] = 0
    o["close_lots"] = 0
    o["account"] = account
    o["symbol"] = symbol
    o["position_side"] = leg
    b.cells[ORDERS] = b.cells[ORDERS] + 1


@inlined
def _move_order(b: Book, to: int, at: int) -> None:
    o = b.orders[at]
    n = b.orders[to]
    n["order_id"] = o["order_id"]
    n["hold_quanta"] = o["hold_quanta"]
    n["close_lots"] = o["close_lots"]
    n["account"] = o["account"]
    n["symbol"] = o["symbol"]
    n["position_side"] = o["position_side"]


@kernel
def remove_order(b: Book, at: int) -> None:
    """Free a row, and move those behind it up, so that probes end at the first free row."""
    bits = b.cells[ORDER_BITS]
    mask = (1 << bits) - 1
    b.cells[ORDERS] = b.cells[ORDERS] - 1
    hole = at
    at = (at + 1) & mask
    while b.orders[at]["order_id"] != 0:
        home = _home(b.orders[at]["order_id"], bits)
        if ((at - home) & mask) >= ((at - hole) & mask):
            _move_order(b, hole, at)
            hole = at
        at = (at + 1) & mask
    o = b.orders[hole]
    o["order_id"] = 0
    o["hold_quanta"] = 0
    o["close_lots"] = 0
    o["account"] = 0
    o["symbol"] = 0
    o["position_side"] = 0


@kernel
def copy_orders(source: Rows, count: int, b: Book) -> None:
    """Put the orders of another table into this empty one."""
    for k in range(count):
        o = source[k]
        if o["order_id"] != 0:
            at = order_row(b, o["order_id"])
            open_order(b, at, o["order_id"], o["account"], o["symbol"], o["position_side"])
            n = b.orders[at]
            n["hold_quanta"] = o["hold_quanta"]
            n["close_lots"] = o["close_lots"]
