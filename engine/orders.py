"""What risk decides about orders: place, cancel, amend, cancel all, expire.

Reads   line 1 of the slot and its parameters; accounts, symbols, positions, claims.
Writes  reason, route, limits of the slot; claims and what they hold.
Never   looks into a book: what an order meets there, matching finds (engine/matching.py).

Checks run in the order of codes.Reason.
"""

from __future__ import annotations

from typing import Final

from engine import algos, claims, clients, countdown, hashmap
from engine.checks import (
    account_reason,
    all_trades,
    band_reason,
    has_client_id,
    line_1_is_clean,
    outgrown,
    price_reason,
    state_reason,
    symbol_reason,
)
from engine.commands import WORDS, Commands
from engine.positions import any_leg, closes_leg, leg_row, mode_fits, new_position
from engine.scopes import is_frozen, is_locked
from engine.setup import ASSETS, ORDER_BITS, ORDERS, POSITIONS
from engine.state import Risk
from shm.arithmetic import muldiv_down, product_exceeds, wide
from shm.atomics import either, foretell, unlikely
from shm.codes import Flag, Kind, PositionSide, Reason, Route, Side, State, Stp, Tif, Type
from shm.jit import apart, inlined, kernel
from shm.maintenance import notional_allowed
from shm.margin import available, order_hold, order_need, taker_fee_ppm
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import EXPOSURE_QUANTA_MAX, NIL, PPM, PRICE_TICKS_MAX, PRODUCER_SHIFT, QTY_LOTS_MAX

_CLOSE_POSITION: Final = int(Flag.CLOSE_POSITION)
_KEEP_QTY: Final = int(Flag.KEEP_QTY)
_NO_MATCH: Final = int(Flag.NO_MATCH)
_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)
_REMAINING: Final = int(Flag.REMAINING)
_TAKE_NAME: Final = int(Flag.TAKE_NAME)
_TO_BACK: Final = int(Flag.TO_BACK)
_UPSERT: Final = int(Flag.UPSERT)
KNOWN_FLAGS = 0x7F


@inlined
def _resolve(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """Claim row of the live order that a command means, or NIL: not there, or not theirs."""
    c = cs.base[at]
    order_id = c["order_id"]
    if unlikely(order_id == 0) and has_client_id(cs.words, at):
        row = clients.find_client(r, setup, c["account"], cs.words, at * WORDS + 8)
        if row != NIL and r.clients[row]["closed_ns"] == 0:
            order_id = r.clients[row]["order_id"]
    if order_id <= 0:
        return NIL
    slot = hashmap.get(r.order_index, setup[ORDER_BITS], order_id)
    if unlikely(slot == NIL):
        return NIL
    claim = r.claims[slot]
    if unlikely(claim["account"] != c["account"] or claim["symbol"] != c["symbol"]):
        return NIL
    return slot


@inlined
def _find(
    r: Risk, setup: Cells, cs: Commands, at: int, least: int, limit_only: bool
) -> tuple[int, int]:
    """The checks that a command about one live order begins with, in their order.

    least       the State in which it may come
    returns     (Reason, claim row of the order or NIL)
    """
    c = cs.base[at]
    account = wide(c["account"])
    symbol = wide(c["symbol"])
    calm = all_trades(r, setup, account, symbol)
    if unlikely(not calm):
        reason = account_reason(r, setup, account)
        if reason == Reason.NONE:
            reason = symbol_reason(r, setup, symbol)
        if reason != Reason.NONE:
            return reason, NIL
    slot = _resolve(r, setup, cs, at)
    if unlikely(slot == NIL) or (limit_only and r.claims[slot]["type"] != Type.LIMIT):
        return Reason.UNKNOWN_ORDER, NIL
    if unlikely(not calm):
        return state_reason(r, account, symbol, least), slot
    return Reason.NONE, slot


@inlined
def _aim(r: Risk, cs: Commands, at: int, slot: int) -> None:
    """Route a command about one live order to its shard."""
    c = cs.base[at]
    claim = r.claims[slot]
    claim["in_flight"] += 1
    c["slot"] = slot
    c["position"] = claim["position"]
    c["decided_order_id"] = claim["order_id"]
    c["order_tif"] = claim["tif"]
    c["order_stp"] = claim["stp"]
    c["route"] = Route.SHARD


@inlined
def _worst_ticks(s: Rows, side: int, limit: int) -> int:
    """The worst price an order may trade at: a taking sell may get more than it asked for."""
    return either(wide(side), limit, max(limit, s["high_bid_ticks"]))


@kernel
def _beyond_bracket(
    r: Risk, symbol: int, position: int, side: int, price: int, lots: int, leverage: int
) -> bool:
    """Whether `lots` more on a side could take a position beyond what its leverage may have.

    Counts the position and every open order of its side, at the mark; before one, at the last
    trade or at `price`, whichever is higher.
    """
    apart()
    most = notional_allowed(r.brackets, r.symbols, symbol, leverage)
    limit = r.contracts[symbol]["position_quanta_max"]
    if limit > 0:
        most = min(most, limit)
    if most >= EXPOSURE_QUANTA_MAX:
        return False
    s = r.symbols[symbol]
    size = lots
    if position != NIL:
        p = r.positions[position]
        if side == Side.SELL:
            size += p["sell_lots"] - p["lots"]
        else:
            size += p["order_lots"] - p["sell_lots"] + p["lots"]
    reference = s["mark_ticks"] if s["mark_ticks"] > 0 else max(s["last_ticks"], price)
    if size <= 0 or reference <= 0:
        return False
    # Sizes of orders are below 2^46 lots each; more than int64 lots is more than any cap.
    return product_exceeds(reference, s["tick_lot_quanta"], most // size)


@kernel
def decide_place(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """PLACE: every check, then claim and hold. Returns a Reason; NONE has opened the claim."""
    c = cs.base[at]
    account = c["account"]
    symbol = c["symbol"]
    side = c["side"]
    flags = c["flags"]
    market = c["type"] == Type.MARKET
    tif = c["tif"]
    triggered = c["kind"] == Kind.TRIGGER  # its client id is its own already
    if (
        side > Side.SELL
        or c["type"] > Type.MARKET
        or tif > Tif.GTD
        or c["stp"] > Stp.EXPIRE_BOTH
        or c["position_side"] > PositionSide.SHORT
        or (c["order_id"] != 0 and not triggered)
        or (flags & (_TO_BACK | _UPSERT | _REMAINING | _KEEP_QTY)) != 0
        or ((flags & _CLOSE_POSITION) != 0 and not triggered)
        or (market and (tif > Tif.IOC or (flags & _NO_MATCH) != 0))
        or not line_1_is_clean(cs.words, at)
    ):
        return Reason.MALFORMED
    if unlikely(not all_trades(r, setup, account, symbol)):
        reason = account_reason(r, setup, account)
        if reason == Reason.NONE:
            reason = symbol_reason(r, setup, symbol)
        if reason == Reason.NONE:
            reason = state_reason(r, account, symbol, State.TRADING)
        if reason != Reason.NONE:
            return reason
    s = r.symbols[symbol]
    named = has_client_id(cs.words, at)
    client = NIL
    past = NIL  # a row of the same client id whose window has passed
    if named:
        client = clients.find_client(r, setup, account, cs.words, at * WORDS + 8)
        if client != NIL and clients.is_over(r, setup, client):
            past = client
            client = NIL
        if (
            client != NIL
            and not triggered
            and ((flags & _TAKE_NAME) == 0 or not _names_order(r, setup, client))
        ):
            c["risk_note"] = r.clients[client]["order_id"]
            return Reason.DUPLICATE_CLIENT_ID
    price = c["price_ticks"]
    if market:
        if price != 0:
            return Reason.BAD_PRICE
    elif price_reason(s, price) != Reason.NONE:
        return Reason.BAD_PRICE
    lots = c["qty_lots"]
    closes_all = (flags & _CLOSE_POSITION) != 0
    if (lots < s["qty_lots_min"] or lots > s["qty_lots_max"]) and not closes_all:
        return Reason.BAD_QTY
    if (tif == Tif.GTD) != (c["expire_ns"] != 0) or (
        tif == Tif.GTD and c["expire_ns"] <= c["ts_ns"]
    ):
        return Reason.BAD_EXPIRY

    # The worst price it may trade at, and the price its hold is reckoned at.
    limit = price
    hold_price = price
    if market:
        reference = s["mark_ticks"] if s["mark_ticks"] > 0 else s["last_ticks"]
        if s["market_ppm"] == 0:
            # Unbounded by configuration: held at the reference; settlement counts what is short.
            limit = PRICE_TICKS_MAX if side == Side.BUY else 1
            hold_price = reference
        else:
            if reference == 0:
                return Reason.NO_REFERENCE_PRICE
            reach = muldiv_down(reference, s["market_ppm"], PPM)
            if side == Side.BUY:
                limit = min(reference + reach, s["price_ticks_max"])
            else:
                limit = max(reference - reach, 1)
            hold_price = limit
    leg = c["position_side"]
    asked_reduce = (flags & _REDUCE_ONLY) != 0
    reduce_only = asked_reduce or closes_leg(leg, side)
    if not reduce_only and s["notional_quanta_min"] > 0:
        if hold_price == 0:
            return Reason.NO_REFERENCE_PRICE
        if not product_exceeds(
            hold_price, lots * s["tick_lot_quanta"], s["notional_quanta_min"] - 1
        ):
            return Reason.NOTIONAL_TOO_SMALL

    position = leg_row(r, setup, account, symbol, leg)
    leverage = s["leverage_default"]
    sibling = NIL  # another leg, whose leverage and margin type a new one shares
    if position == NIL:
        sibling = any_leg(r, setup, account, symbol)
        if sibling != NIL:
            leverage = r.positions[sibling]["leverage"]
    claimable = 0
    if market and s["market_ppm"] == 0 and side == Side.BUY:
        # Unbounded, but for where the arithmetic of its cost would end.
        limit = min(limit, s["ticks_lots_max"] // lots)
    worst = _worst_ticks(s, side, limit)
    if product_exceeds(worst, lots, s["ticks_lots_max"]):
        return Reason.NOTIONAL_TOO_LARGE
    wallet = account * setup[ASSETS] + s["asset"]
    if outgrown(r.wallets[wallet], worst * lots * s["tick_lot_quanta"]):
        return Reason.NOTIONAL_TOO_LARGE
    if position != NIL:
        p = r.positions[position]
        if not market and band_reason(s, price) != Reason.NONE:
            return Reason.PRICE_BAND
        if p["open_orders"] >= s["orders_max"]:
            return Reason.TOO_MANY_ORDERS
        leverage = p["leverage"]
        claimable = lots if closes_all else claims.closable(r, position, side, reduce_only)
    elif not market and band_reason(s, price) != Reason.NONE:
        return Reason.PRICE_BAND
    if reduce_only:
        if claimable == 0:
            return Reason.REDUCE_ONLY
        lots = min(lots, claimable)
    close = min(lots, claimable)
    taker = taker_fee_ppm(r.accounts[account], s)
    hold, apart = order_hold(s, side, hold_price, lots - close, leverage, taker)
    if lots > close and hold > 0:  # the first of them is known long before the other
        need = hold
        if position != NIL:
            need = order_need(r.symbols, r.positions[position], side, 0, 0, hold, apart)
        if need > available(r.accounts, r.wallets, r.symbols, r.positions, account, wallet):
            return Reason.INSUFFICIENT_MARGIN

    # Capacity: every row it needs, before any is taken.
    v = r.venue[0]
    if v["claims_free"] == NIL and v["claims_used"] == setup[ORDERS]:
        return Reason.CAPACITY
    if position == NIL and v["positions_used"] == setup[POSITIONS]:
        return Reason.CAPACITY
    # In hedge mode the leg says what closes; of CLOSE_POSITION it was the venue that said so.
    said_reduce = asked_reduce and not closes_all
    if not mode_fits(r, account, leg) or (said_reduce and leg != PositionSide.BOTH):
        return Reason.POSITION_MODE
    if is_locked(r, position if position != NIL else sibling, wallet):
        return Reason.LIQUIDATING
    if lots > close and _beyond_bracket(r, symbol, position, side, hold_price, lots, leverage):
        return Reason.BRACKET_NOTIONAL
    order_id = c["seq"]
    if named:
        if triggered:
            r.clients[client]["order_id"] = order_id
        elif client != NIL:
            _pass_name(r, setup, client, order_id)
        else:
            if past != NIL:
                clients.forget(r, setup, past)
            client = clients.open_client(r, setup, account, cs.words, at * WORDS + 8, order_id)
            if client == NIL:
                return Reason.CAPACITY
    if position == NIL:
        position = new_position(r, setup, account, symbol, leg, wallet, leverage, sibling)
    slot = claims.take_slot(r, setup)
    claim = r.claims[slot]
    claim["order_id"] = order_id
    claim["price_ticks"] = hold_price
    claim["open_lots"] = lots
    claim["qty_lots"] = lots
    claim["close_lots"] = 0
    claim["hold_quanta"] = 0
    claim["expire_ns"] = c["expire_ns"]
    claim["account"] = account
    claim["position"] = position
    claim["next_closer"] = NIL
    claim["prev_closer"] = NIL
    claim["client"] = client
    claim["heap"] = NIL
    claim["in_flight"] = 1
    claim["symbol"] = symbol
    claim["side"] = side
    claim["type"] = c["type"]
    claim["tif"] = tif
    claim["flags"] = flags | _REDUCE_ONLY if reduce_only else flags
    claim["stp"] = c["stp"]
    claim["position_side"] = leg
    claim["apart"] = apart
    claim["cause"] = 0
    claim["pending"] = 0
    claim["done"] = 0
    claim["amended"] = 0
    claim["reserve_quanta"] = 0
    claim["worst_ticks"] = worst
    claim["exposure_quanta"] = worst * lots * s["tick_lot_quanta"]
    if not market:
        s["high_bid_ticks"] = max(s["high_bid_ticks"], either(wide(side), price, 0))
    claims.open_order(r, setup, slot)
    p = r.positions[position]
    claims.change_hold(claim, p, r.wallets[wallet], hold)
    if close > 0:
        claims.change_close(r, slot, close)
    c["risk_held_quanta"] = hold
    c["slot"] = slot
    c["position"] = position
    c["decided_order_id"] = order_id
    c["decided_lots"] = lots
    c["limit_ticks"] = limit
    c["order_tif"] = tif
    c["order_stp"] = c["stp"]
    c["route"] = Route.SHARD
    return Reason.NONE


@inlined
def _names_order(r: Risk, setup: Cells, client: int) -> bool:
    """Whether a client id belongs to a live order: not to one that ended, nor to a transfer."""
    return hashmap.get(r.order_index, setup[ORDER_BITS], r.clients[client]["order_id"]) != NIL


@kernel
def _pass_name(r: Risk, setup: Cells, client: int, order_id: int) -> None:
    """TAKE_NAME: the client id of an older order names this one from now on."""
    row = r.clients[client]
    before = hashmap.get(r.order_index, setup[ORDER_BITS], row["order_id"])
    assert before != NIL and r.claims[before]["client"] == client
    r.claims[before]["client"] = NIL
    row["order_id"] = order_id


@kernel
def decide_cancel(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """CANCEL and REDUCE: one live order of the account."""
    c = cs.base[at]
    if (
        c["flags"] != 0
        or c["price_ticks"] != 0
        or (c["kind"] == Kind.CANCEL) & (c["qty_lots"] != 0)
        or not line_1_is_clean(cs.words, at)
    ):
        return Reason.MALFORMED
    reason, slot = _find(r, setup, cs, at, State.CANCEL_ONLY, False)
    if unlikely(reason != Reason.NONE):
        return reason
    lots = c["qty_lots"]
    # Of a CANCEL it is 0, which is right. Which of the two comes is a toss: no branch.
    if either(wide(c["kind"] == Kind.REDUCE), 1, lots) <= 0 or lots > QTY_LOTS_MAX:
        return Reason.BAD_QTY
    c["decided_lots"] = lots
    p = r.positions[r.claims[slot]["position"]]
    if unlikely(is_frozen(p, r.wallets[p["wallet"]])):
        return Reason.LIQUIDATING
    c["end_reason"] = Reason.USER_CANCEL
    _aim(r, cs, at, slot)
    return Reason.NONE


@kernel
def decide_amend(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """AMEND: a new price, a new total quantity, or both. What it needs beyond its hold is held."""
    c = cs.base[at]
    flags = c["flags"]
    keep = (flags & _KEEP_QTY) != 0
    if (
        (flags & (_REDUCE_ONLY | _NO_MATCH | _UPSERT | _TAKE_NAME)) != 0
        or (keep and (c["qty_lots"] != 0 or (flags & _REMAINING) != 0))
        or not line_1_is_clean(cs.words, at)
    ):
        return Reason.MALFORMED
    reason, slot = _find(r, setup, cs, at, State.TRADING, True)
    if unlikely(reason != Reason.NONE):
        return reason
    account = wide(c["account"])
    symbol = wide(c["symbol"])
    s = r.symbols[symbol]
    price = c["price_ticks"]
    if unlikely(price_reason(s, price) != Reason.NONE):
        return Reason.BAD_PRICE
    claim = r.claims[slot]
    lots = claim["open_lots"] if keep else c["qty_lots"]
    if not keep and (lots < s["qty_lots_min"] or lots > s["qty_lots_max"]):
        return Reason.BAD_QTY
    left = lots
    if not keep and (flags & _REMAINING) == 0:
        left = max(lots - (claim["qty_lots"] - claim["open_lots"]), 0)
    p = r.positions[claim["position"]]
    w = r.wallets[p["wallet"]]
    reduce_only = (claim["flags"] & _REDUCE_ONLY) != 0
    if not reduce_only and s["notional_quanta_min"] > 0:
        total = min(claim["qty_lots"] - claim["open_lots"] + left, s["qty_lots_max"])
        if not product_exceeds(price, total * s["tick_lot_quanta"], s["notional_quanta_min"] - 1):
            return Reason.NOTIONAL_TOO_SMALL
    # Until matching has answered, the order may trade as it was, or as any AMEND in flight says:
    # the worst of them counts.
    worst = max(_worst_ticks(s, claim["side"], price), claim["worst_ticks"])
    most = max(left, claim["open_lots"])
    if unlikely(product_exceeds(worst, most, s["ticks_lots_max"])):
        return Reason.NOTIONAL_TOO_LARGE
    exposure = max(worst * most * s["tick_lot_quanta"], claim["exposure_quanta"])
    if unlikely(outgrown(w, exposure - claim["exposure_quanta"])):
        return Reason.NOTIONAL_TOO_LARGE
    if unlikely(band_reason(s, price) != Reason.NONE):
        return Reason.PRICE_BAND
    locked = is_frozen(p, w)
    if unlikely(reduce_only):
        if left > claim["open_lots"]:
            return Reason.REDUCE_ONLY
    elif price != claim["price_ticks"] or left > claim["open_lots"]:
        # Less of the same is never refused, wherever the mark may be by now.
        side = claim["side"]
        opens = max(left - claim["close_lots"], 0)
        dearer = (price > claim["price_ticks"]) | (left > claim["open_lots"])
        foretell(dearer & (opens > 0))  # whether it will take more than is held
        taker = taker_fee_ppm(r.accounts[account], s)
        hold, apart = order_hold(s, side, price, opens, p["leverage"], taker)
        apart = max(apart, claim["apart"])
        held = claim["hold_quanta"] + claim["reserve_quanta"]
        if hold > held or apart != claim["apart"]:
            hold = max(hold, held)
            need = order_need(r.symbols, p, side, held, claim["apart"], hold, apart)
            if need > available(
                r.accounts, r.wallets, r.symbols, r.positions, account, p["wallet"]
            ):
                return Reason.INSUFFICIENT_MARGIN
        if unlikely(locked):
            return Reason.LIQUIDATING
        more = left - claim["open_lots"]
        if (
            more > 0
            and opens > 0
            and _beyond_bracket(r, symbol, claim["position"], side, price, more, p["leverage"])
        ):
            return Reason.BRACKET_NOTIONAL
        if hold > held or apart != claim["apart"]:
            claims.set_apart(claim, p, apart)
            claims.change_reserve(claim, p, w, claim["reserve_quanta"] + hold - held)
    if unlikely(locked):
        return Reason.LIQUIDATING
    claim["amended"] = 1
    claims.change_exposure(claim, w, exposure)
    claim["worst_ticks"] = worst
    s["high_bid_ticks"] = max(s["high_bid_ticks"], either(wide(claim["side"]), price, 0))
    c["decided_lots"] = lots
    c["limit_ticks"] = price
    _aim(r, cs, at, slot)
    return Reason.NONE


@kernel
def decide_cancel_all(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """CANCEL_ALL of an account, CANCEL_SYMBOL for everybody; the engine's own in any state."""
    c = cs.base[at]
    if c["kind"] == Kind.CANCEL_ALL:
        reason = account_reason(r, setup, c["account"])
        if reason == Reason.NONE and c["symbol"] != NO_SYMBOL:
            reason = symbol_reason(r, setup, c["symbol"])
        own = (c["request"] >> PRODUCER_SHIFT) == 0
        if reason == Reason.NONE and not own:
            reason = state_reason(r, c["account"], c["symbol"], State.CANCEL_ONLY)
        if reason != Reason.NONE:
            return reason
        c["end_reason"] = Reason.CANCEL_ALL
        if own:
            # Whatever the engine ends for an account, what waits there ends as well.
            if c["symbol"] != NO_SYMBOL:
                leg = leg_row(r, setup, c["account"], c["symbol"], c["position_side"])
                if (
                    leg != NIL
                    and r.positions[leg]["pending"] == Reason.LIQUIDATION
                    and r.positions[leg]["isolated"] != 0
                ):
                    # Legs of an isolated position are liquidated each for itself.
                    r.positions[leg]["pending"] = 0
                    c["end_reason"] = Reason.LIQUIDATION
                    c["finding"] = 1
                else:
                    c["end_reason"] = countdown.take_mark(r, setup, c["account"], c["symbol"])
                if c["end_reason"] == Reason.NONE:
                    return Reason.NO_CHANGE
            elif r.accounts[c["account"]]["pending"] != 0:
                c["end_reason"] = r.accounts[c["account"]]["pending"]
                r.accounts[c["account"]]["pending"] = 0
            c["decided_lots"] = algos.end_all(r, setup, c["account"], c["symbol"])
        if c["symbol"] == NO_SYMBOL:
            c["route"] = Route.ALL_SHARDS
            return Reason.NONE
        # Matching ends the orders of every leg; without one there is nothing to end.
        c["position"] = any_leg(r, setup, c["account"], c["symbol"])
        if c["finding"] == 1:
            c["position"] = leg_row(r, setup, c["account"], c["symbol"], c["position_side"])
        if c["position"] != NIL:
            c["route"] = Route.SHARD
        return Reason.NONE
    reason = symbol_reason(r, setup, c["symbol"])
    if reason != Reason.NONE:
        return reason
    c["end_reason"] = Reason.SYMBOL_CLOSED
    if r.symbols[c["symbol"]]["pending"] != 0 and (c["request"] >> PRODUCER_SHIFT) == 0:
        c["end_reason"] = r.symbols[c["symbol"]]["pending"]
        r.symbols[c["symbol"]]["pending"] = 0
    c["decided_lots"] = algos.end_symbol(r, setup, c["symbol"])
    c["route"] = Route.SHARD
    return Reason.NONE


@kernel
def decide_expire(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """EXPIRE, proposed by settlement: end an order for its marked reason, or shrink its excess."""
    c = cs.base[at]
    order_id = c["order_id"]
    slot = hashmap.get(r.order_index, setup[ORDER_BITS], order_id) if order_id > 0 else NIL
    if slot == NIL or r.claims[slot]["pending"] == 0:
        return Reason.UNKNOWN_ORDER
    claim = r.claims[slot]
    if claim["account"] != c["account"] or claim["symbol"] != c["symbol"]:
        return Reason.UNKNOWN_ORDER
    c["end_reason"] = claim["pending"]
    # What can't open keeps what it can still claim: matching takes the rest off it.
    c["decided_lots"] = 0
    if claim["pending"] == Reason.REDUCE_ONLY or (
        claim["pending"] == Reason.FLIP and claim["close_lots"] > 0
    ):
        c["decided_lots"] = claim["open_lots"] - claim["close_lots"]
    claim["pending"] = 0
    _aim(r, cs, at, slot)
    return Reason.NONE
