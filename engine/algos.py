"""Commands about conditional orders: PLACE_ALGO, CANCEL_ALGO, CANCEL_ALGOS, TRIGGER.

Reads   the command's slot; ALGO rows; prices, states and limits of its symbol.
Writes  ALGO rows, client ids; of a TRIGGER lines 0 to 2 as well: the order that it is now.
Never   holds margin: that is asked for when the order is there.

A client id is one name space of the account for orders and conditional orders; the name of one that
is triggered passes to its order. A TRIGGER is proposed with the id alone, since the sequencer may
look at a row while it changes. Risk fills in the order from the row, checks it as it checks any
PLACE, and so the WAL holds, and matching sees, an ordinary order.
"""

from __future__ import annotations

from typing import Final

from engine import clients, reports, triggers
from engine.checks import (
    account_reason,
    has_client_id,
    line_1_is_clean,
    price_reason,
    state_reason,
    symbol_reason,
)
from engine.commands import WORDS, Commands
from engine.positions import leg_row, mode_fits
from engine.reports import Out
from engine.scopes import is_locked
from engine.setup import ALGOS, ASSETS
from engine.state import Risk
from shm.codes import (
    AlgoStatus,
    AlgoType,
    Flag,
    Kind,
    PositionSide,
    Reason,
    Side,
    State,
    Stp,
    Tif,
    Type,
)
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import ALGOS_MAX, CALLBACK_PPM_MAX, CALLBACK_PPM_MIN, NIL

_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)
_CLOSE_POSITION: Final = int(Flag.CLOSE_POSITION)
_OTHER_FLAGS: Final = 255 & ~(_REDUCE_ONLY | _CLOSE_POSITION)
_CALLBACK: Final = (1 << 32) - 1


@inlined
def _shape_reason(cs: Commands, at: int) -> int:
    """Whether a PLACE_ALGO says what it may, and zero where it must."""
    c = cs.algos[at]
    base = at * WORDS
    terms = c["terms"]
    trailing = c["type"] == AlgoType.TRAILING_STOP_MARKET
    limit = triggers.becomes_limit(c["type"])
    if (
        c["side"] > Side.SELL
        or c["type"] > AlgoType.TRAILING_STOP_MARKET
        or c["tif"] > Tif.GTD
        or c["stp"] > Stp.EXPIRE_BOTH
        or c["position_side"] > PositionSide.SHORT
        or (c["flags"] & _OTHER_FLAGS) != 0
        or (not limit and c["tif"] > Tif.IOC)
        or terms >> 41 != 0
        or (terms >> 33) & 127 != 0
    ):
        return Reason.MALFORMED
    if c["flags"] & _CLOSE_POSITION != 0 and (limit or trailing or c["flags"] & _REDUCE_ONLY != 0):
        return Reason.MALFORMED
    if trailing:
        if c["trigger_ticks"] != 0:
            return Reason.MALFORMED
    elif terms & _CALLBACK != 0 or c["activate_ticks"] != 0:
        return Reason.MALFORMED
    words = cs.words
    if words[base + 8] == 0 and (words[base + 9] | words[base + 10] | words[base + 11]) != 0:
        return Reason.MALFORMED
    if words[base + 12] >> 32 != 0 or (words[base + 8] == 0 and words[base + 12] != 0):
        return Reason.MALFORMED
    return Reason.NONE


@inlined
def _terms_reason(r: Risk, cs: Commands, at: int, ticks: int) -> int:
    """Whether its trigger, activation and callback can be, and aren't reached already."""
    c = cs.algos[at]
    s = r.symbols[c["symbol"]]
    trigger = c["trigger_ticks"]
    if c["type"] == AlgoType.TRAILING_STOP_MARKET:
        callback = c["terms"] & _CALLBACK
        trigger = c["activate_ticks"]
        if callback < CALLBACK_PPM_MIN or callback > CALLBACK_PPM_MAX:
            return Reason.BAD_TRIGGER
        if trigger == 0:
            return Reason.NONE
    if price_reason(s, trigger) != Reason.NONE:
        return Reason.BAD_TRIGGER
    if ticks > 0:
        up = triggers.waits_up(c["type"], c["side"])
        if c["type"] == AlgoType.TRAILING_STOP_MARKET:
            up = not up  # it is activated on the way to its extreme
        if (ticks >= trigger) if up else (ticks <= trigger):
            return Reason.IMMEDIATE_TRIGGER
    return Reason.NONE


@kernel
def decide_place_algo(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """PLACE_ALGO: every check, then it waits. Nothing is held for it."""
    c = cs.algos[at]
    account = c["account"]
    symbol = c["symbol"]
    reason = _shape_reason(cs, at)
    if reason == Reason.NONE:
        reason = account_reason(r, setup, account)
    if reason == Reason.NONE:
        reason = symbol_reason(r, setup, symbol)
    if reason == Reason.NONE:
        reason = state_reason(r, account, symbol, State.TRADING)
    if reason != Reason.NONE:
        return reason
    s = r.symbols[symbol]
    named = has_client_id(cs.words, at)
    first = at * WORDS + 8
    past = NIL
    if named:
        past = clients.find_client(r, setup, account, cs.words, first)
        if past != NIL and not clients.is_over(r, setup, past):
            cs.base[at]["risk_note"] = r.clients[past]["order_id"]
            return Reason.DUPLICATE_CLIENT_ID
    if triggers.becomes_limit(c["type"]):
        if price_reason(s, c["price_ticks"]) != Reason.NONE:
            return Reason.BAD_PRICE
    elif c["price_ticks"] != 0:
        return Reason.BAD_PRICE
    closes = c["flags"] & _CLOSE_POSITION != 0
    if closes:
        if c["qty_lots"] != 0:
            return Reason.BAD_QTY
    elif c["qty_lots"] < s["qty_lots_min"] or c["qty_lots"] > s["qty_lots_max"]:
        return Reason.BAD_QTY
    if (c["tif"] == Tif.GTD) != (c["expire_ns"] != 0) or (
        c["tif"] == Tif.GTD and c["expire_ns"] <= c["ts_ns"]
    ):
        return Reason.BAD_EXPIRY
    working = (c["terms"] >> 32) & 1
    ticks = triggers.working_ticks(r, symbol, working)
    trailing = c["type"] == AlgoType.TRAILING_STOP_MARKET
    if trailing and c["activate_ticks"] == 0 and ticks == 0:
        return Reason.NO_REFERENCE_PRICE
    leg = c["position_side"]
    if (
        closes
        and leg != PositionSide.BOTH
        and (leg == PositionSide.LONG) != (c["side"] == Side.SELL)
    ):
        return Reason.REDUCE_ONLY
    v = r.venue[0]
    if v["algos_free"] == NIL and v["algos_used"] == setup[ALGOS]:
        return Reason.CAPACITY
    if not mode_fits(r, account, leg) or (
        leg != PositionSide.BOTH and c["flags"] & _REDUCE_ONLY != 0
    ):
        return Reason.POSITION_MODE
    if is_locked(r, leg_row(r, setup, account, symbol, leg), account * setup[ASSETS] + s["asset"]):
        return Reason.LIQUIDATING
    reason = _terms_reason(r, cs, at, ticks)
    if reason != Reason.NONE:
        return reason
    most = r.contracts[symbol]["algos_max"]
    if triggers.count_in(r, account, symbol) >= (most if most > 0 else ALGOS_MAX):
        return Reason.TOO_MANY_ALGOS
    client = NIL
    if named:
        if past != NIL:
            clients.forget(r, setup, past)
        client = clients.open_client(r, setup, account, cs.words, first, c["seq"])
        if client == NIL:
            return Reason.CAPACITY
    row = triggers.take_row(r, setup, c["seq"], account, symbol)
    a = r.algos[row]
    a["client"] = client
    a["trigger_ticks"] = c["trigger_ticks"]
    a["price_ticks"] = c["price_ticks"]
    a["qty_lots"] = c["qty_lots"]
    a["expire_ns"] = c["expire_ns"]
    a["activate_ticks"] = c["activate_ticks"]
    a["callback_ppm"] = c["terms"] & _CALLBACK
    a["side"] = c["side"]
    a["type"] = c["type"]
    a["tif"] = c["tif"]
    a["flags"] = c["flags"]
    a["stp"] = c["stp"]
    a["position_side"] = leg
    a["working"] = working
    a["protect"] = c["terms"] >> 40
    for k in range(5):
        a["client_id"][k] = cs.words[first + k]
    a["trace_hi"] = c["trace_hi"]
    a["trace_lo"] = c["trace_lo"]
    triggers.wait(r, row, ticks)
    cs.base[at]["slot"] = row
    cs.base[at]["decided_order_id"] = c["seq"]
    return Reason.NONE


@kernel
def decide_cancel_algo(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """CANCEL_ALGO: one that waits, by id or by name; NO_SYMBOL: wherever it is."""
    c = cs.base[at]
    account = c["account"]
    if (
        c["flags"] != 0
        or c["price_ticks"] != 0
        or c["qty_lots"] != 0
        or not line_1_is_clean(cs.words, at)
    ):
        return Reason.MALFORMED
    reason = account_reason(r, setup, account)
    if reason == Reason.NONE and c["symbol"] != NO_SYMBOL:
        reason = symbol_reason(r, setup, c["symbol"])
    if reason != Reason.NONE:
        return reason
    algo_id = c["order_id"]
    if algo_id == 0 and has_client_id(cs.words, at):
        client = clients.find_client(r, setup, account, cs.words, at * WORDS + 8)
        if client != NIL and r.clients[client]["closed_ns"] == 0:
            algo_id = r.clients[client]["order_id"]
    row = triggers.find(r, setup, algo_id)
    if row == NIL:
        return Reason.UNKNOWN_ORDER
    a = r.algos[row]
    if a["account"] != account or (c["symbol"] != NO_SYMBOL and c["symbol"] != a["symbol"]):
        return Reason.UNKNOWN_ORDER
    reason = state_reason(r, account, a["symbol"], State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    _end(r, setup, row)
    c["decided_order_id"] = algo_id
    c["decided_lots"] = row
    c["end_reason"] = Reason.USER_CANCEL
    return Reason.NONE


@kernel
def decide_cancel_algos(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """CANCEL_ALGOS: all that an account has waiting, in one symbol or anywhere."""
    c = cs.base[at]
    reason = account_reason(r, setup, c["account"])
    if reason == Reason.NONE and c["symbol"] != NO_SYMBOL:
        reason = symbol_reason(r, setup, c["symbol"])
    if reason == Reason.NONE:
        reason = state_reason(r, c["account"], c["symbol"], State.CANCEL_ONLY)
    if reason != Reason.NONE:
        return reason
    c["decided_lots"] = end_all(r, setup, c["account"], c["symbol"])
    c["end_reason"] = Reason.CANCEL_ALL
    return Reason.NONE


@kernel
def _end(r: Risk, setup: Cells, row: int) -> None:
    """It ends without an order; its name stays for the window."""
    triggers.retire(r, setup, row)
    a = r.algos[row]
    if a["client"] != NIL:
        clients.close_client(r, setup, a["client"])
        a["client"] = NIL


@kernel
def end_all(r: Risk, setup: Cells, account: int, symbol: int) -> int:
    """End the conditional orders of an account, in one symbol or (NO_SYMBOL) in all.

    returns   the first of them, the others behind it, for `settle_ended`; NIL: there were none
    """
    first = NIL
    row = r.accounts[account]["first_algo"]
    while row != NIL:
        following = r.algos[row]["next"]
        if symbol == NO_SYMBOL or r.algos[row]["symbol"] == symbol:
            _end(r, setup, row)
            r.algos[row]["next"] = first
            first = row
        row = following
    return first


@kernel
def end_symbol(r: Risk, setup: Cells, symbol: int) -> int:
    """As `end_all`, of everybody in a symbol. Walks over every row: for the desk alone."""
    first = NIL
    if r.symbols[symbol]["algo_count"] == 0:
        return first
    for row in range(r.venue[0]["algos_used"]):
        a = r.algos[row]
        if a["symbol"] == symbol and triggers.find(r, setup, a["algo_id"]) == row:
            _end(r, setup, row)
            a["next"] = first
            first = row
    return first


# ---------------------------------------------------------------- reached


@kernel
def open_trigger(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """TRIGGER: turn the slot into the order that a conditional order becomes.

    returns   UNKNOWN_ORDER: it has been cancelled, or triggered before; POSITION_CLOSED: there is
              nothing to close; NONE: to be decided as any PLACE. `risk_note` is its row, or NIL
    """
    rarely()
    c = cs.base[at]
    words = cs.words
    row = triggers.find(r, setup, c["order_id"])
    if row == NIL or r.algos[row]["pending"] == 0:
        c["risk_note"] = NIL
        return Reason.UNKNOWN_ORDER
    a = r.algos[row]
    c["risk_note"] = row
    c["account"] = a["account"]
    c["symbol"] = a["symbol"]
    c["price_ticks"] = a["price_ticks"]
    c["qty_lots"] = a["qty_lots"]
    c["side"] = a["side"]
    c["type"] = Type.LIMIT if triggers.becomes_limit(a["type"]) else Type.MARKET
    c["tif"] = a["tif"]
    c["flags"] = a["flags"]
    c["stp"] = a["stp"]
    c["position_side"] = a["position_side"]
    c["expire_ns"] = a["expire_ns"]
    for k in range(5):
        words[at * WORDS + 8 + k] = a["client_id"][k]
    c["trace_hi"] = a["trace_hi"]
    c["trace_lo"] = a["trace_lo"]
    c["lines"] = 2 if a["trace_hi"] | a["trace_lo"] == 0 else 3
    triggers.retire(r, setup, row)
    if a["flags"] & _CLOSE_POSITION != 0:
        c["flags"] = _CLOSE_POSITION | _REDUCE_ONLY
        c["qty_lots"] = _closable(r, setup, a)
        if c["qty_lots"] == 0:
            return Reason.POSITION_CLOSED
    return Reason.NONE


@kernel
def _closable(r: Risk, setup: Cells, a: Rows) -> int:
    """Lots of the position that its side would close."""
    position = leg_row(r, setup, a["account"], a["symbol"], a["position_side"])
    if position == NIL:
        return 0
    lots = r.positions[position]["lots"]
    return max(lots, 0) if a["side"] == Side.SELL else max(-lots, 0)


@kernel
def close_trigger(r: Risk, setup: Cells, cs: Commands, at: int, reason: int) -> None:
    """After the order was decided: its name is the order's, or, refused, nobody's."""
    rarely()
    row = cs.base[at]["risk_note"]
    if row == NIL:
        return
    a = r.algos[row]
    if reason != Reason.NONE and a["client"] != NIL:
        clients.close_client(r, setup, a["client"])
    a["client"] = NIL


# ---------------------------------------------------------------- settlement


@kernel
def settle_placed(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """PLACE_ALGO, between its answer and its origin."""
    c = cs.base[at]
    a = r.algos[c["slot"]]
    reports.algo(r, out, setup, c, c["slot"], AlgoStatus.NEW, 0, Reason.NONE)
    if triggers.is_trailing(a) or a["expire_ns"] != 0:
        reports.trail(r, out, setup, c, c["slot"])


@kernel
def settle_trigger(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """TRIGGER: its answer, and what became of the conditional order. The order itself follows."""
    rarely()
    c = cs.base[at]
    row = c["risk_note"]
    reason = c["reason"]
    reports.answer(r, out, setup, c, reason, c["order_id"], 0)
    if row == NIL:
        return
    status = AlgoStatus.TRIGGERED
    if reason == Reason.POSITION_CLOSED:
        status = AlgoStatus.EXPIRED
    elif reason != Reason.NONE:
        status = AlgoStatus.REJECTED
    reports.algo(r, out, setup, c, row, status, c["decided_order_id"], reason)
    triggers.free_row(r, row)


@kernel
def settle_ended(r: Risk, out: Out, cursors: Cells, setup: Cells, c: Rows) -> bool:
    """Report the conditional orders that a command has ended, from the one in `decided_lots` on.

    returns   False: the reports ring is full, come again
    """
    rarely()
    reason = c["end_reason"]
    asked = reason == Reason.USER_CANCEL or reason == Reason.CANCEL_ALL
    status = AlgoStatus.CANCELED if asked else AlgoStatus.EXPIRED
    while c["decided_lots"] != NIL:
        if not reports.has_room(r, cursors, setup):
            return False
        row = c["decided_lots"]
        c["decided_lots"] = r.algos[row]["next"]
        reports.algo(r, out, setup, c, row, status, 0, reason)
        triggers.free_row(r, row)
    return True


@inlined
def ends_some(kind: int) -> bool:
    """Whether `decided_lots` of a command of this kind begins a chain for `settle_ended`."""
    return (
        kind == Kind.CANCEL_ALGO
        or kind == Kind.CANCEL_ALGOS
        or kind == Kind.CANCEL_ALL
        or kind == Kind.CANCEL_SYMBOL
    )
