"""Position rows: one for each leg of (account, symbol), found by key and listed by account.

    one-way mode   one leg, BOTH: its lots are signed
    hedge mode     LONG and SHORT, each for itself; BUY opens LONG, SELL closes it, and reversed
    all legs       share the leverage and margin type of (account, symbol)

Rows are kept for ever: a change of mode leaves the old ones flat.
"""

from __future__ import annotations

from engine import hashmap
from engine.setup import POSITION_BITS, POSITIONS
from engine.state import Risk
from shm.codes import PositionMode, PositionSide, Side
from shm.jit import apart, inlined, kernel, rarely
from shm.pointers import Cells
from shm.units import NIL


@inlined
def position_key(account: int, symbol: int, position_side: int) -> int:
    """Key of the position index; never 0."""
    return ((account + 1) << 18) | (symbol << 2) | position_side


@inlined
def leg_row(r: Risk, setup: Cells, account: int, symbol: int, position_side: int) -> int:
    """Row of one leg of (account, symbol), or NIL."""
    key = position_key(account, symbol, position_side)
    return hashmap.get(r.position_index, setup[POSITION_BITS], key)


@kernel
def any_leg(r: Risk, setup: Cells, account: int, symbol: int) -> int:
    """Row of some leg of (account, symbol), or NIL: they share leverage and margin type."""
    apart()
    row = leg_row(r, setup, account, symbol, PositionSide.BOTH)
    if row == NIL:
        row = leg_row(r, setup, account, symbol, PositionSide.LONG)
    if row == NIL:
        row = leg_row(r, setup, account, symbol, PositionSide.SHORT)
    return row


@inlined
def mode_fits(r: Risk, account: int, position_side: int) -> bool:
    hedge = r.accounts[account]["position_mode"] == PositionMode.HEDGE
    return hedge == (position_side != PositionSide.BOTH)


@inlined
def closes_leg(position_side: int, side: int) -> bool:
    """Whether an order can only close its leg: SELL of LONG, BUY of SHORT."""
    return (position_side == PositionSide.LONG and side == Side.SELL) or (
        position_side == PositionSide.SHORT and side == Side.BUY
    )


@kernel
def new_position(
    r: Risk,
    setup: Cells,
    account: int,
    symbol: int,
    position_side: int,
    wallet: int,
    leverage: int,
    sibling: int,
) -> int:
    """A flat position row, in its account's list by symbol and leg. Rows are kept for ever.

    sibling   another leg of (account, symbol), whose margin type it shares, or NIL
    """
    rarely()
    v = r.venue[0]
    row = v["positions_used"]
    assert row < setup[POSITIONS]
    v["positions_used"] = row + 1
    p = r.positions[row]
    p["account"] = account
    p["symbol"] = symbol
    p["position_side"] = position_side
    p["isolated"] = r.positions[sibling]["isolated"] if sibling != NIL else 0
    p["leverage"] = leverage
    p["wallet"] = wallet
    p["countdown_heap"] = NIL
    p["funding_round"] = r.contracts[symbol]["funding_round"]  # flat: it owes nothing to it
    p["first_closer"] = NIL
    p["last_closer"] = NIL
    a = r.accounts[account]
    before = NIL
    at = a["first_position"]
    while at != NIL and (
        r.positions[at]["symbol"] < symbol
        or (
            r.positions[at]["symbol"] == symbol and r.positions[at]["position_side"] < position_side
        )
    ):
        before = at
        at = r.positions[at]["next_position"]
    p["next_position"] = at
    if before == NIL:
        a["first_position"] = row
    else:
        r.positions[before]["next_position"] = row
    p["next_in_symbol"] = NIL
    s = r.symbols[symbol]
    if s["last_position"] == NIL:
        s["first_position"] = row
    else:
        r.positions[s["last_position"]]["next_in_symbol"] = row
    s["last_position"] = row
    key = position_key(account, symbol, position_side)
    hashmap.put(r.position_index, setup[POSITION_BITS], key, row)
    return row
