"""Claims: risk's half of every live order, and the Flip protocol that resolves them.

A live order's open lots are split in two kinds: `close_lots` claim position quantity and need no
margin, the rest (`open lots`) hold margin, loss at once and fee. Invariants, for every position:

    1. 0 <= close_lots <= open_lots of the order; reduce-only orders have only close lots.
    2. The close claims of a position sum to its `close_lots`, and close_lots <= |lots|.
    3. The holds of its orders sum to its `hold_quanta`, those of netted SELL orders to its
       `hold_sell_quanta`, those apart (shm/margin.py) to its `hold_apart_quanta`; over positions,
       they sum to the wallet's `held_quanta`.
    4. Orders with a close claim stand on the side that reduces the position, in a list from the
       oldest claim to the newest.

A fill takes what is really there, whichever kind it had claimed: an order that opened closes
first what position there is, stealing it from others' close claims. In the same turn close claims
that no longer hold flip to open and take margin, the newest first; where they find none the order
is proposed to shrink to what it still claims, or to end. Reduce-only claims cannot flip, so they
are robbed last, and propose the same.
A reduce-only order may claim what others have claimed: those flip when it comes to rest.
What closes a leg in hedge mode is reduce-only, always: no order there opens the other side.
An open claim stays one until it fills, whatever position there is by then to close.

In the meantime
    a reduce-only order that matching has not seen yet may break invariant 2;
    a claim that was trimmed (reduce-only, or no margin) breaks invariant 1 until its proposal is
    applied: its unclaimed lots are counted as opening with no hold;
    an order with an AMEND in flight counts the worst of what it was and what it may become: the
    hold beyond its own is `reserve_quanta`, and counts in the sums of invariant 3.
"""

from __future__ import annotations

from typing import Final

from engine import expiry, hashmap, proposals
from engine.clients import close_client
from engine.setup import ORDER_BITS, ORDERS
from engine.state import Risk
from shm.arithmetic import muldiv_down, wide
from shm.atomics import either, unlikely
from shm.codes import Flag, Reason, Side
from shm.jit import apart, inlined, kernel, rarely
from shm.margin import available, order_hold, order_need, taker_fee_ppm
from shm.pointers import Cells, Rows
from shm.units import NIL

_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)


@inlined
def take_slot(r: Risk, setup: Cells) -> int:
    """A free row of the claim table, or NIL when the venue is full of orders."""
    v = r.venue[0]
    slot = v["claims_free"]
    if slot != NIL:
        v["claims_free"] = r.claims[slot]["next_free"]
        return slot
    slot = v["claims_used"]
    if slot == setup[ORDERS]:
        return NIL
    v["claims_used"] = slot + 1
    return slot


@inlined
def free_slot(r: Risk, slot: int) -> None:
    """Give a row back; nothing refers to it any more."""
    c = r.claims[slot]
    assert c["in_flight"] == 0 and c["hold_quanta"] == 0 and c["close_lots"] == 0
    assert c["reserve_quanta"] == 0
    c["order_id"] = 0
    c["open_lots"] = 0
    c["done"] = 0
    c["pending"] = 0
    c["amended"] = 0
    c["next_free"] = r.venue[0]["claims_free"]
    r.venue[0]["claims_free"] = slot


@inlined
def _add_held(c: Rows, p: Rows, w: Rows, change: int) -> None:
    """Add to the sums of an order's position and wallet, where its holds count."""
    p["hold_quanta"] += change
    if unlikely(c["apart"] != 0):
        p["hold_apart_quanta"] += change
    else:
        p["hold_sell_quanta"] += either(wide(c["side"]), 0, change)
    w["held_quanta"] += change


# What follows takes the rows of an order's claim, its position and its wallet: whoever calls has
# them, and the compiler, to which any store may have changed any index, would look each up again.


@inlined
def change_hold(c: Rows, p: Rows, w: Rows, quanta: int) -> None:
    """Set what an order holds, and with it the sums of its position and wallet."""
    change = quanta - c["hold_quanta"]
    if change != 0:
        c["hold_quanta"] = quanta
        _add_held(c, p, w, change)


@inlined
def change_both(c: Rows, p: Rows, w: Rows, quanta: int, reserve_quanta: int) -> None:
    """Set what an order holds and what is held beyond it: what goes from one to the other stays."""
    change = quanta + reserve_quanta - c["hold_quanta"] - c["reserve_quanta"]
    c["hold_quanta"] = quanta
    c["reserve_quanta"] = reserve_quanta
    _add_held(c, p, w, change)


@inlined
def change_reserve(c: Rows, p: Rows, w: Rows, quanta: int) -> None:
    """Set what is held beyond an order's own hold, for AMENDs in flight."""
    change = quanta - c["reserve_quanta"]
    if change != 0:
        c["reserve_quanta"] = quanta
        _add_held(c, p, w, change)


@inlined
def set_apart(c: Rows, p: Rows, apart: int) -> None:
    """Say whether an order's holds are netted, and move them to where they count then."""
    if unlikely(apart != c["apart"]):
        held = c["hold_quanta"] + c["reserve_quanta"]
        to_apart = held if apart != 0 else -held
        p["hold_apart_quanta"] += to_apart
        if c["side"] == Side.SELL:
            p["hold_sell_quanta"] -= to_apart
        c["apart"] = apart


@inlined
def change_exposure(c: Rows, w: Rows, quanta: int) -> None:
    """Set what an order may come to cost at worst, and with it the sum of its wallet."""
    w["exposure_quanta"] += quanta - c["exposure_quanta"]
    c["exposure_quanta"] = quanta


@kernel
def link_closer(r: Risk, slot: int) -> None:
    """Append an order to the closers of its position: its claim is the newest."""
    apart()
    c = r.claims[slot]
    p = r.positions[c["position"]]
    last = p["last_closer"]
    c["prev_closer"] = last
    c["next_closer"] = NIL
    if last == NIL:
        p["first_closer"] = slot
    else:
        r.claims[last]["next_closer"] = slot
    p["last_closer"] = slot


@kernel
def unlink_closer(r: Risk, slot: int) -> None:
    """Take an order out of the closers of its position."""
    apart()
    c = r.claims[slot]
    p = r.positions[c["position"]]
    before = c["prev_closer"]
    after = c["next_closer"]
    if before == NIL:
        p["first_closer"] = after
    else:
        r.claims[before]["next_closer"] = after
    if after == NIL:
        p["last_closer"] = before
    else:
        r.claims[after]["prev_closer"] = before
    c["prev_closer"] = NIL
    c["next_closer"] = NIL


@inlined
def change_close(r: Risk, slot: int, lots: int) -> None:
    """Set an order's close claim, and with it the sums of its position."""
    c = r.claims[slot]
    before = c["close_lots"]
    if lots != before:
        p = r.positions[c["position"]]
        p["close_lots"] += lots - before
        if c["flags"] & _REDUCE_ONLY:
            p["reduce_only_lots"] += lots - before
        c["close_lots"] = lots
        if before == 0:
            link_closer(r, slot)
        elif lots == 0:
            unlink_closer(r, slot)


@inlined
def closable(r: Risk, position: int, side: int, reduce_only: bool) -> int:
    """Lots of the position that a new claim on `side` may take: none unless it would reduce.

    A reduce-only order may claim what plain closers have claimed; they flip.
    """
    p = r.positions[position]
    lots = p["lots"]
    taken = p["reduce_only_lots"] if reduce_only else p["close_lots"]
    return max(either(wide(side), -lots, lots) - taken, 0)


@inlined
def backed(r: Risk, position: int) -> int:
    """How many lots of close claims the position can bear: none where they would not reduce it."""
    p = r.positions[position]
    lots = p["lots"]
    first = p["first_closer"]
    if first == NIL or lots == 0 or (lots > 0) == (r.claims[first]["side"] == Side.BUY):
        return 0
    return lots if lots > 0 else -lots


@inlined
def robbed(r: Risk, position: int) -> bool:
    """Whether more of a position is claimed than there is."""
    close_lots = r.positions[position]["close_lots"]
    return close_lots > 0 and close_lots > backed(r, position)


@kernel
def flip_to_open(r: Risk, setup: Cells, slot: int, lots: int) -> bool:
    """`lots` of a close claim no longer hold: take margin for them, or propose the end.

    returns   whether they have become opening lots; False: they are trimmed
    """
    rarely()
    c = r.claims[slot]
    p = r.positions[c["position"]]
    change_close(r, slot, c["close_lots"] - lots)
    if c["flags"] & _REDUCE_ONLY:
        proposals.mark_order(r.claims, r.proposals, setup, slot, Reason.REDUCE_ONLY)
        return False
    s = r.symbols[c["symbol"]]
    taker = taker_fee_ppm(r.accounts[c["account"]], s)
    more, apart = order_hold(s, c["side"], c["price_ticks"], lots, p["leverage"], taker)
    apart = max(apart, c["apart"])
    held = c["hold_quanta"] + c["reserve_quanta"]
    need = order_need(r.symbols, p, c["side"], held, c["apart"], held + more, apart)
    if need <= available(r.accounts, r.wallets, r.symbols, r.positions, c["account"], p["wallet"]):
        set_apart(c, p, apart)
        change_hold(c, p, r.wallets[p["wallet"]], c["hold_quanta"] + more)
        return True
    proposals.mark_order(r.claims, r.proposals, setup, slot, Reason.FLIP)
    return False


@inlined
def consume(r: Risk, slot: int, lots: int, closing: int) -> None:
    """A fill took `lots` of an order, `closing` of which reduced the position.

    The closing part comes out of its close claim first and out of its open claim when it steals;
    the opening part the other way round. The hold shrinks with the open claim.
    """
    c = r.claims[slot]
    p = r.positions[c["position"]]
    w = r.wallets[p["wallet"]]
    close = c["close_lots"]
    opens = c["open_lots"] - close
    assert 0 < lots <= c["open_lots"] and 0 <= closing <= lots
    from_close = min(closing, close)
    from_open = lots - from_close
    if from_open > opens:
        from_close += from_open - opens
        from_open = opens
    left = c["open_lots"] - lots
    exposure = muldiv_down(c["exposure_quanta"], left, c["open_lots"]) if left > 0 else 0
    change_exposure(c, w, exposure)
    c["open_lots"] = left
    change_lots(c, p, -lots)
    if from_close != 0:
        change_close(r, slot, close - from_close)
    if from_open != 0 and c["hold_quanta"] != 0:
        rest = opens - from_open
        # Rounded down: what remains held never exceeds what was held for it.
        change_hold(c, p, w, muldiv_down(c["hold_quanta"], rest, opens) if rest > 0 else 0)


@inlined
def change_lots(c: Rows, p: Rows, change: int) -> None:
    """Add to the open lots that a position's orders have, over both sides and of sells alone."""
    if change == 0:
        return  # a new price alone: two lines of the position that need not be here
    p["order_lots"] += change
    p["sell_lots"] += either(wide(c["side"]), 0, change)


@inlined
def open_order(r: Risk, setup: Cells, slot: int) -> None:
    """Count a claim that risk has just filled in: index, counters, expiry."""
    c = r.claims[slot]
    p = r.positions[c["position"]]
    hashmap.put(r.order_index, setup[ORDER_BITS], c["order_id"], slot)
    p["open_orders"] += 1
    change_lots(c, p, c["open_lots"])
    r.wallets[p["wallet"]]["exposure_quanta"] += c["exposure_quanta"]
    r.accounts[c["account"]]["open_orders"] += 1
    r.symbols[c["symbol"]]["open_orders"] += 1
    r.venue[0]["live_orders"] += 1
    if c["expire_ns"] != 0:
        expiry.push(r.venue, r.claims, r.heap, slot)


@kernel
def end_order(r: Risk, setup: Cells, slot: int) -> None:
    """An order is over: its claims and hold return. Its row is free once no command is about it."""
    apart()
    c = r.claims[slot]
    assert c["order_id"] != 0 and c["done"] == 0
    p = r.positions[c["position"]]
    w = r.wallets[p["wallet"]]
    change_close(r, slot, 0)
    change_both(c, p, w, 0, 0)
    change_lots(c, p, -c["open_lots"])
    change_exposure(c, w, 0)
    p["open_orders"] -= 1
    r.accounts[c["account"]]["open_orders"] -= 1
    r.symbols[c["symbol"]]["open_orders"] -= 1
    r.venue[0]["live_orders"] -= 1
    c["open_lots"] = 0
    if c["heap"] != NIL:
        expiry.remove(r.venue, r.claims, r.heap, slot)
    hashmap.remove(r.order_index, setup[ORDER_BITS], c["order_id"], slot)
    if c["client"] != NIL:
        close_client(r, setup, c["client"])
        c["client"] = NIL
    c["done"] = 1
    c["pending"] = 0
    if c["in_flight"] == 0:
        free_slot(r, slot)


@inlined
def leave_flight(r: Risk, slot: int) -> None:
    """A command about this row is settled; the last one out of an ended order frees it."""
    c = r.claims[slot]
    c["in_flight"] -= 1
    if c["in_flight"] == 0:
        if c["done"] != 0:
            free_slot(r, slot)
        elif c["amended"] != 0:
            _end_amends(r, slot)


@kernel
def _end_amends(r: Risk, slot: int) -> None:
    """No AMEND is in flight any more: what was counted for what might have become is given back."""
    c = r.claims[slot]
    p = r.positions[c["position"]]
    w = r.wallets[p["wallet"]]
    c["amended"] = 0
    change_reserve(c, p, w, 0)
    # It rests, so it trades at its own price and no other.
    c["worst_ticks"] = c["price_ticks"]
    exposure = c["price_ticks"] * c["open_lots"] * r.symbols[c["symbol"]]["tick_lot_quanta"]
    change_exposure(c, w, exposure)
