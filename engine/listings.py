"""What risk decides about the venue: assets, accounts, symbols, their states, a mark by hand.

Reads   the parameters of the command.
Writes  the rows that are declared, or the state they are in.
Never   takes a parameter that could overflow what is reckoned with it later.
"""

from __future__ import annotations

from engine import index
from engine.checks import symbol_reason, zero
from engine.commands import WORDS, Commands
from engine.setup import ACCOUNTS, ASSETS, SYMBOLS
from engine.state import Risk
from shm.arithmetic import product_exceeds
from shm.codes import Kind, Reason, State
from shm.jit import kernel
from shm.pointers import Cells
from shm.units import (
    NIL,
    NOTIONAL_QUANTA_MAX,
    PPM,
    PRICE_TICKS_MAX,
    PRODUCER_SHIFT,
    QTY_LOTS_MAX,
    SCALE_MAX,
)

RATE_PPM_MAX = 10 * PPM
LEVERAGE_MAX = 1000


@kernel
def decide_asset(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """ASSET: declare one."""
    if not zero(cs.words, at, 5, 5) or not zero(cs.words, at, 10, 15):
        return Reason.MALFORMED
    a = cs.assets[at]
    asset = a["asset"]
    if asset < 0 or asset >= setup[ASSETS]:
        return Reason.UNKNOWN_ASSET
    if a["scale"] < 0 or a["scale"] > SCALE_MAX:
        return Reason.BAD_PARAMETER
    if r.assets[asset]["declared"] != 0:
        return Reason.EXISTS
    r.assets[asset]["declared"] = 1
    r.assets[asset]["scale"] = a["scale"]
    r.assets[asset]["name"][0] = cs.words[at * WORDS + 8]
    r.assets[asset]["name"][1] = cs.words[at * WORDS + 9]
    return Reason.NONE


@kernel
def decide_account(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """ACCOUNT: open one, or set its state and with `cancel` end its orders."""
    if not zero(cs.words, at, 5, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    c = cs.base[at]
    account = c["account"]
    state = cs.states[at]["state"]
    if account >= setup[ACCOUNTS]:
        return Reason.UNKNOWN_ACCOUNT
    if (
        state < 0
        or state > State.CLOSED
        or cs.states[at]["cancel"] < 0
        or cs.states[at]["cancel"] > 1
    ):
        return Reason.BAD_PARAMETER
    a = r.accounts[account]
    if a["state"] == State.ABSENT:
        a["opened_ns"] = c["ts_ns"]
        a["first_position"] = NIL
        r.venue[0]["accounts_used"] = max(r.venue[0]["accounts_used"], account + 1)
    a["state"] = state
    return Reason.NONE


@kernel
def decide_symbol(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """SYMBOL: declare one; later the same command changes all but what fixes its arithmetic."""
    if not zero(cs.words, at, 23, 23):
        return Reason.MALFORMED
    c = cs.base[at]
    d = cs.declarations[at]
    symbol = c["symbol"]
    if symbol >= setup[SYMBOLS]:
        return Reason.UNKNOWN_SYMBOL
    asset = d["asset"]
    if asset < 0 or asset >= setup[ASSETS] or r.assets[asset]["declared"] == 0:
        return Reason.UNKNOWN_ASSET
    unit = d["tick_lot_quanta"]
    high = d["price_ticks_max"]
    if (
        unit < 1
        or unit > NOTIONAL_QUANTA_MAX
        or d["state"] < 0
        or d["state"] > State.CLOSED
        or d["price_ticks_min"] < 1
        or high < d["price_ticks_min"]
        or high > PRICE_TICKS_MAX
        or d["qty_lots_min"] < 1
        or d["qty_lots_max"] < d["qty_lots_min"]
        or d["qty_lots_max"] > QTY_LOTS_MAX
        or product_exceeds(high, unit, NOTIONAL_QUANTA_MAX)
        or product_exceeds(d["qty_lots_max"], unit, NOTIONAL_QUANTA_MAX)
        or d["notional_quanta_min"] < 0
        or d["notional_quanta_min"] > NOTIONAL_QUANTA_MAX
        or d["band_ppm"] < 0
        or d["band_ppm"] > RATE_PPM_MAX
        or d["market_ppm"] < 0
        or d["market_ppm"] > RATE_PPM_MAX
        or d["taker_fee_ppm"] < 0
        or d["taker_fee_ppm"] > PPM
        or d["maker_fee_ppm"] > PPM
        or d["maker_fee_ppm"] < -d["taker_fee_ppm"]
        or d["leverage_max"] < 1
        or d["leverage_max"] > LEVERAGE_MAX
        or d["leverage_default"] < 1
        or d["leverage_default"] > d["leverage_max"]
        or d["orders_max"] < 1
        or d["tick_quanta"] < 0
    ):
        return Reason.BAD_PARAMETER
    s = r.symbols[symbol]
    if s["state"] == State.ABSENT:
        s["tick_lot_quanta"] = unit
        s["asset"] = asset
        s["price_ticks_max"] = high
        s["ticks_lots_max"] = NOTIONAL_QUANTA_MAX // unit
    elif (
        s["tick_lot_quanta"] != unit
        or s["asset"] != asset
        or s["price_ticks_max"] != high
        or s["settle_ticks"] != 0
    ):
        return Reason.IN_USE
    s["state"] = d["state"]
    index.release_breaker(r, symbol)
    s["name"][0] = cs.words[at * WORDS + 8]
    s["name"][1] = cs.words[at * WORDS + 9]
    s["qty_lots_min"] = d["qty_lots_min"]
    s["qty_lots_max"] = d["qty_lots_max"]
    s["notional_quanta_min"] = d["notional_quanta_min"]
    s["price_ticks_min"] = d["price_ticks_min"]
    s["band_ppm"] = d["band_ppm"]
    s["market_ppm"] = d["market_ppm"]
    s["maker_fee_ppm"] = d["maker_fee_ppm"]
    s["taker_fee_ppm"] = d["taker_fee_ppm"]
    s["leverage_max"] = d["leverage_max"]
    s["leverage_default"] = d["leverage_default"]
    s["orders_max"] = d["orders_max"]
    s["tick_quanta"] = d["tick_quanta"]
    return Reason.NONE


@kernel
def decide_state(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """SYMBOL_STATE and VENUE_STATE."""
    if not zero(cs.words, at, 5, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    c = cs.base[at]
    state = cs.states[at]["state"]
    cancel = cs.states[at]["cancel"]
    if c["kind"] == Kind.SYMBOL_STATE:
        reason = symbol_reason(r, setup, c["symbol"])
        if reason != Reason.NONE:
            return reason
    if state < 0 or state > State.CLOSED or cancel < 0 or cancel > 1:
        return Reason.BAD_PARAMETER
    if c["kind"] == Kind.SYMBOL_STATE:
        if r.symbols[c["symbol"]]["settle_ticks"] != 0:
            return Reason.IN_USE  # its positions are being closed
        r.symbols[c["symbol"]]["state"] = state
        index.release_breaker(r, c["symbol"])
    elif (c["request"] >> PRODUCER_SHIFT) == 0:
        r.venue[0]["disk_state"] = state  # the sequencer, about room for the WAL
    else:
        r.venue[0]["state"] = state
    return Reason.NONE


@kernel
def decide_mark(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """MARK: the mark price of a symbol."""
    if not zero(cs.words, at, 4, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    c = cs.base[at]
    reason = symbol_reason(r, setup, c["symbol"])
    if reason != Reason.NONE:
        return reason
    s = r.symbols[c["symbol"]]
    mark = cs.marks[at]["mark_ticks"]
    if mark < 1 or mark > s["price_ticks_max"]:
        return Reason.BAD_PRICE
    s["mark_ticks"] = mark
    return Reason.NONE
