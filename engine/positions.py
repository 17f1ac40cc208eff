"""Rows of the position table: one for each (account, symbol, leg) that was ever used, kept."""

from __future__ import annotations

from engine import hashmap
from engine.setup import POSITION_BITS, POSITIONS
from engine.state import Risk
from shm.jit import inlined, kernel
from shm.pointers import Cells
from shm.units import NIL


@inlined
def position_key(account: int, symbol: int, position_side: int) -> int:
    """Key of the position index; never 0."""
    return ((account + 1) << 18) | (symbol << 2) | position_side


@kernel
def new_position(
    r: Risk, setup: Cells, account: int, symbol: int, wallet: int, leverage: int
) -> int:
    """A flat position row, in its account's list by symbol. Rows are kept for ever."""
    v = r.venue[0]
    row = v["positions_used"]
    assert row < setup[POSITIONS]
    v["positions_used"] = row + 1
    p = r.positions[row]
    p["account"] = account
    p["symbol"] = symbol
    p["leverage"] = leverage
    p["wallet"] = wallet
    p["countdown_heap"] = NIL
    p["funding_round"] = r.contracts[symbol]["funding_round"]  # flat: it owes nothing to it
    p["first_closer"] = NIL
    p["last_closer"] = NIL
    a = r.accounts[account]
    before = NIL
    at = a["first_position"]
    while at != NIL and r.positions[at]["symbol"] < symbol:
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
    key = position_key(account, symbol, p["position_side"])
    hashmap.put(r.position_index, setup[POSITION_BITS], key, row)
    return row
