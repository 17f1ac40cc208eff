"""The account view's rows: its tables as kernels take them, and how rows are found, made and freed.

Reads, writes  the tables of gateways/accounts/layout.py, under their versions.
Never   allocates; what a full table has no room for is left out, and counted in head[DROPPED].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gateways.accounts.layout import (
    ACCOUNT,
    ALGO_BITS,
    ALGOS,
    ALGOS_CLOSED_FIRST,
    ALGOS_CLOSED_LAST,
    ALGOS_USED,
    ASSETS,
    DROPPED,
    INDEXES,
    LOCKED,
    ORDER_BITS,
    ORDERS,
    ORDERS_CLOSED_FIRST,
    ORDERS_CLOSED_LAST,
    ORDERS_USED,
    POSITIONS,
    POSITIONS_USED,
)
from shm import hashmap
from shm.codes import MarginType, ReportKind
from shm.jit import PLAIN, inlined, kernel
from shm.kinds import REPORT_RECORDS
from shm.pointers import Cells, Rows, table
from shm.records import REPORT
from shm.seqlock import write_begin, write_end
from shm.units import NIL


class Tables(NamedTuple):
    """The segment's parts as kernels take them, in the order of `view_parts`."""

    head: Cells
    versions: Cells
    accounts: Rows
    account_times: Cells
    account_orders: Cells
    account_algos: Cells
    assets: Rows
    wallets: Rows
    wallet_times: Cells
    symbols: Rows
    contracts: Rows
    brackets: Rows
    rates: Cells
    positions: Rows
    position_times: Cells
    orders: Rows
    algos: Rows
    requests: Rows
    order_index: Cells
    name_index: Cells
    algo_index: Cells
    algo_name_index: Cells


class Batch(NamedTuple):
    """One batch of reports, seen as every kind of record."""

    order: Rows
    answer: Rows
    client_id: Rows
    exec: Rows
    position: Rows
    wallet: Rows
    flip: Rows
    symbol: Rows
    margin: Rows
    hold: Rows
    funding: Rows
    funding_round: Rows
    price: Rows
    expiry: Rows
    algo: Rows
    trail: Rows
    move: Rows
    liquidation: Rows
    request: Rows
    words: Cells


def tables_of(arrays: dict[str, np.ndarray[Any, Any]]) -> Tables:
    """Arrays of a segment, or of a test, as the kernel takes them."""
    return Tables(**{name: table(arrays[name]) for name in Tables._fields})


def batch_of(rows: np.ndarray[Any, Any]) -> Batch:
    """Reports (contiguous REPORT rows) in all their views."""
    views: dict[str, Any] = {"order": table(rows.view(REPORT.dtype))}
    for kind, layout in REPORT_RECORDS.items():
        name = ReportKind(kind).name.lower()
        if name in Batch._fields:
            views[name] = table(rows.view(layout.dtype))
    views["words"] = table(rows.view(np.int64).reshape(-1))
    return Batch(**views)


# ---------------------------------------------------------------- locks


@inlined
def lock(t: Tables, account: int) -> None:
    """Make the account's version odd until another account's turn comes, or the batch ends."""
    held = t.head[LOCKED]
    if held != account + 1:
        if held != 0:
            write_end(t.versions, ACCOUNT + held - 1)
        write_begin(t.versions, ACCOUNT + account)
        t.head[LOCKED] = account + 1


@inlined
def unlock(t: Tables) -> None:
    held = t.head[LOCKED]
    if held != 0:
        write_end(t.versions, ACCOUNT + held - 1)
        t.head[LOCKED] = 0


# ---------------------------------------------------------------- names


if PLAIN:

    def name_key(account: int, rows: Rows, at: int) -> int:
        from gateways.accounts.layout import name_key as key_of

        return key_of(int(account), [int(word) for word in rows[at]["client_id"]])

else:
    _U = np.uint64

    @kernel
    def name_key(account: int, rows: Rows, at: int) -> int:
        """Key of the name indexes; gateways/accounts/layout.py has the same for readers."""
        key = _U(account + 1)
        for k in range(5):
            word = _U(rows[at]["client_id"][k])
            turn = _U(13 * k)
            if k > 0:
                word = (word << turn) | (word >> (_U(64) - turn))
            key ^= word
        key &= _U((1 << 63) - 1)
        return np.int64(key) if key != _U(0) else np.int64(1)


# ---------------------------------------------------------------- rows


@kernel
def find_position(t: Tables, account: int, symbol: int, side: int) -> int:
    """Row of (account, symbol, leg), or NIL."""
    at = np.int64(t.accounts[account]["first_position"])
    while at != NIL:
        p = t.positions[at]
        if p["symbol"] == symbol and p["position_side"] == side:
            return at
        at = np.int64(p["next_position"])
    return NIL


@kernel
def position_row(t: Tables, account: int, symbol: int, side: int) -> int:
    """The same, made where there is none; NIL when the table is full."""
    found = find_position(t, account, symbol, side)
    if found != NIL:
        return found
    row = t.head[POSITIONS_USED]
    if row == t.head[POSITIONS]:
        t.head[DROPPED] = t.head[DROPPED] + 1
        return NIL
    t.head[POSITIONS_USED] = row + 1
    s = t.symbols[symbol]
    p = t.positions[row]
    p["account"] = account
    p["symbol"] = symbol
    p["position_side"] = side
    p["wallet"] = account * t.head[ASSETS] + s["asset"]
    p["leverage"] = max(s["leverage_default"], 1)
    p["isolated"] = MarginType.CROSS
    p["first_closer"] = NIL
    p["last_closer"] = NIL
    p["countdown_heap"] = NIL
    p["next_in_symbol"] = NIL
    other = NIL  # leverage and margin type are of the symbol, whatever the leg
    before = NIL
    at = np.int64(t.accounts[account]["first_position"])
    while at != NIL and (
        t.positions[at]["symbol"] < symbol
        or (t.positions[at]["symbol"] == symbol and t.positions[at]["position_side"] < side)
    ):
        if t.positions[at]["symbol"] == symbol:
            other = at
        before = at
        at = np.int64(t.positions[at]["next_position"])
    if at != NIL and t.positions[at]["symbol"] == symbol:
        other = at
    if other != NIL:
        p["leverage"] = t.positions[other]["leverage"]
        p["isolated"] = t.positions[other]["isolated"]
    p["next_position"] = at
    if before == NIL:
        t.accounts[account]["first_position"] = row
    else:
        t.positions[before]["next_position"] = row
    if s["last_position"] == NIL:
        s["first_position"] = row
    else:
        t.positions[s["last_position"]]["next_in_symbol"] = row
    s["last_position"] = row
    return row


@inlined
def find_order(t: Tables, order_id: int) -> int:
    return hashmap.get(t.order_index, t.head[ORDER_BITS], order_id) if order_id > 0 else NIL


@inlined
def find_algo(t: Tables, algo_id: int) -> int:
    return hashmap.get(t.algo_index, t.head[ALGO_BITS], algo_id) if algo_id > 0 else NIL


@kernel
def take_order_row(t: Tables) -> int:
    """A row never used, else that of the order which closed first; NIL: all are open."""
    h = t.head
    if h[ORDERS_USED] < h[ORDERS]:
        h[ORDERS_USED] = h[ORDERS_USED] + 1
        return h[ORDERS_USED] - 1
    row = h[ORDERS_CLOSED_FIRST]
    if row == NIL:
        h[DROPPED] = h[DROPPED] + 1
        return NIL
    o = t.orders[row]
    h[ORDERS_CLOSED_FIRST] = o["next"]
    if o["next"] == NIL:
        h[ORDERS_CLOSED_LAST] = NIL
    write_begin(t.versions, INDEXES)
    hashmap.remove(t.order_index, h[ORDER_BITS], o["order_id"], row)
    if o["client_id"][0] != 0:
        hashmap.remove(t.name_index, h[ORDER_BITS], name_key(o["account"], t.orders, row), row)
    write_end(t.versions, INDEXES)
    return row


@kernel
def take_algo_row(t: Tables) -> int:
    """As `take_order_row`."""
    h = t.head
    if h[ALGOS_USED] < h[ALGOS]:
        h[ALGOS_USED] = h[ALGOS_USED] + 1
        return h[ALGOS_USED] - 1
    row = h[ALGOS_CLOSED_FIRST]
    if row == NIL:
        h[DROPPED] = h[DROPPED] + 1
        return NIL
    o = t.algos[row]
    h[ALGOS_CLOSED_FIRST] = o["next"]
    if o["next"] == NIL:
        h[ALGOS_CLOSED_LAST] = NIL
    write_begin(t.versions, INDEXES)
    hashmap.remove(t.algo_index, h[ALGO_BITS], o["algo_id"], row)
    if o["client_id"][0] != 0:
        hashmap.remove(t.algo_name_index, h[ALGO_BITS], name_key(o["account"], t.algos, row), row)
    write_end(t.versions, INDEXES)
    return row


@inlined
def join(rows: Rows, ends: Cells, account: int, row: int) -> None:
    """Put a row at the end of its account's list."""
    last = ends[2 * account + 1]
    rows[row]["next"] = NIL
    rows[row]["prev"] = last
    if last == NIL:
        ends[2 * account] = row
    else:
        rows[last]["next"] = row
    ends[2 * account + 1] = row


@inlined
def leave(rows: Rows, ends: Cells, account: int, row: int) -> None:
    """Take a row out of its account's list."""
    before = np.int64(rows[row]["prev"])
    after = np.int64(rows[row]["next"])
    if before == NIL:
        ends[2 * account] = after
    else:
        rows[before]["next"] = after
    if after == NIL:
        ends[2 * account + 1] = before
    else:
        rows[after]["prev"] = before


@inlined
def keep_closed(rows: Rows, head: Cells, first: int, last: int, row: int) -> None:
    """Put a row at the end of the list of what has closed."""
    rows[row]["next"] = NIL
    rows[row]["prev"] = NIL
    if head[last] == NIL:
        head[first] = row
    else:
        rows[head[last]]["next"] = row
    head[last] = row
