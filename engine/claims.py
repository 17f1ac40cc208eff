"""Claims: risk's half of every live order, and the Flip protocol that resolves them.

A live order's open lots are split in two kinds: `close_lots` claim position quantity and need no
margin, the rest (`open lots`) hold margin, loss at once and fee. Invariants, for every position:

    1. 0 <= close_lots <= open_lots of the order; reduce-only orders have only close lots.
    2. The close claims of a position sum to its `close_lots`, and close_lots <= |lots|.
    3. The holds of its orders sum to its `hold_quanta`; over positions, to the wallet's
       `held_quanta` (pending withdrawals apart).
    4. Orders with a close claim stand on the side that reduces the position, in a list from the
       oldest claim to the newest.

A fill takes what is really there, whichever kind it had claimed: an order that opened closes
first what position there is, stealing it from others' close claims. In the same turn the newest
close claims that no longer hold flip to open and take margin; what finds none is proposed for
cancellation, and a reduce-only claim that lost its position is proposed to shrink or end.

A claim that was trimmed (reduce-only, or no margin) breaks invariant 1 for the one turn until its
proposal is applied: its unclaimed lots are counted as opening with no hold.
"""

from __future__ import annotations

from typing import Final

from engine import expiry, hashmap, proposals
from engine.clients import close_client
from engine.setup import ORDER_BITS, ORDERS
from engine.state import Risk
from shm.arithmetic import muldiv_down
from shm.codes import Flag, Reason, Side
from shm.jit import inlined, kernel
from shm.margin import available, order_hold
from shm.pointers import Cells
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
    c["order_id"] = 0
    c["open_lots"] = 0
    c["done"] = 0
    c["pending"] = 0
    c["next_free"] = r.venue[0]["claims_free"]
    r.venue[0]["claims_free"] = slot


@inlined
def change_hold(r: Risk, slot: int, quanta: int) -> None:
    """Set what an order holds, and with it the sums of its position and wallet."""
    c = r.claims[slot]
    change = quanta - c["hold_quanta"]
    if change != 0:
        p = r.positions[c["position"]]
        c["hold_quanta"] = quanta
        p["hold_quanta"] += change
        r.wallets[p["wallet"]]["held_quanta"] += change


@kernel
def link_closer(r: Risk, slot: int) -> None:
    """Append an order to the closers of its position: its claim is the newest."""
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
    if lots == 0 or (lots > 0) == (side == Side.BUY):
        return 0
    size = lots if lots > 0 else -lots
    taken = p["reduce_only_lots"] if reduce_only else p["close_lots"]
    return max(size - taken, 0)


@kernel
def flip_excess(r: Risk, setup: Cells, position: int, allowed: int, thief: int, keep: int) -> int:
    """Flip the newest close claims until they sum to `allowed`; `keep` is not robbed.

    thief     order id that took the lots, told in the reports
    keep      claim row that stays as it is, or NIL
    returns   the number of claims that changed
    """
    p = r.positions[position]
    slot = p["last_closer"]
    count = 0
    while p["close_lots"] > allowed and slot != NIL:
        older = r.claims[slot]["prev_closer"]
        # A reduce-only newcomer robs plain closers first; its own kind stands.
        if slot != keep and not (keep != NIL and r.claims[slot]["flags"] & _REDUCE_ONLY):
            flip_to_open(
                r, setup, slot, min(p["close_lots"] - allowed, r.claims[slot]["close_lots"])
            )
            count += 1
        slot = older
    return count


@kernel
def flip_to_open(r: Risk, setup: Cells, slot: int, lots: int) -> None:
    """`lots` of a close claim no longer hold: take margin for them, or propose the end."""
    c = r.claims[slot]
    p = r.positions[c["position"]]
    change_close(r, slot, c["close_lots"] - lots)
    if c["flags"] & _REDUCE_ONLY:
        proposals.mark_order(r.claims, r.proposals, setup, slot, Reason.REDUCE_ONLY)
        return
    need = order_hold(r.symbols, c["symbol"], c["side"], c["price_ticks"], lots, p["leverage"])
    free = available(r.accounts, r.wallets, r.symbols, r.positions, c["account"], p["wallet"], True)
    if need <= free:
        change_hold(r, slot, c["hold_quanta"] + need)
    else:
        proposals.mark_order(r.claims, r.proposals, setup, slot, Reason.FLIP)


@inlined
def consume(r: Risk, slot: int, lots: int, closing: int) -> None:
    """A fill took `lots` of an order, `closing` of which reduced the position.

    The closing part comes out of its close claim first and out of its open claim when it steals;
    the opening part the other way round. The hold shrinks with the open claim.
    """
    c = r.claims[slot]
    close = c["close_lots"]
    opens = c["open_lots"] - close
    assert 0 < lots <= c["open_lots"] and 0 <= closing <= lots
    from_close = min(closing, close)
    from_open = lots - from_close
    if from_open > opens:
        from_close += from_open - opens
        from_open = opens
    p = r.positions[c["position"]]
    left = c["open_lots"] - lots
    exposure = muldiv_down(c["exposure_quanta"], left, c["open_lots"]) if left > 0 else 0
    p["exposure_quanta"] += exposure - c["exposure_quanta"]
    c["exposure_quanta"] = exposure
    c["open_lots"] = left
    p["order_lots"] -= lots
    if from_close != 0:
        change_close(r, slot, close - from_close)
    if from_open != 0 and c["hold_quanta"] != 0:
        rest = opens - from_open
        # Rounded down: what remains held never exceeds what was held for it.
        change_hold(r, slot, muldiv_down(c["hold_quanta"], rest, opens) if rest > 0 else 0)


@inlined
def open_order(r: Risk, setup: Cells, slot: int) -> None:
    """Count a claim that risk has just filled in: index, counters, expiry."""
    c = r.claims[slot]
    p = r.positions[c["position"]]
    hashmap.put(r.order_index, setup[ORDER_BITS], c["order_id"], slot)
    p["open_orders"] += 1
    p["order_lots"] += c["open_lots"]
    p["exposure_quanta"] += c["exposure_quanta"]
    r.accounts[c["account"]]["open_orders"] += 1
    r.venue[0]["live_orders"] += 1
    if c["expire_ns"] != 0:
        expiry.push(r.venue, r.claims, r.heap, slot)


@kernel
def end_order(r: Risk, setup: Cells, slot: int) -> None:
    """An order is over: its claims and hold return; the row waits for commands in flight."""
    c = r.claims[slot]
    assert c["order_id"] != 0 and c["done"] == 0
    p = r.positions[c["position"]]
    change_close(r, slot, 0)
    change_hold(r, slot, 0)
    p["order_lots"] -= c["open_lots"]
    p["exposure_quanta"] -= c["exposure_quanta"]
    c["exposure_quanta"] = 0
    p["open_orders"] -= 1
    r.accounts[c["account"]]["open_orders"] -= 1
    r.venue[0]["live_orders"] -= 1
    c["open_lots"] = 0
    if c["heap"] != NIL:
        expiry.remove(r.venue, r.claims, r.heap, slot)
    hashmap.remove(r.order_index, setup[ORDER_BITS], c["order_id"], slot)
    if c["client"] != NIL:
        close_client(r.venue, r.clients, r.client_words, r.client_index, setup, c["client"])
        c["client"] = NIL
    c["done"] = 1
    c["pending"] = 0


@inlined
def leave_flight(r: Risk, slot: int) -> None:
    """A command about this row is settled; the last one out of an ended order frees it."""
    c = r.claims[slot]
    c["in_flight"] -= 1
    if c["in_flight"] == 0 and c["done"] != 0:
        free_slot(r, slot)
