"""Stage 5 of 7, settle: what each command came to: positions, PnL, fees, claims, reports.

Reads   commands that risk has decided, and the matches rings; shards are merged in symbol order.
Writes  positions, wallets, claims; reports; SETTLED.
Never   fails: a match is a fact; what an account lacks for it is counted, for liquidation.

The first report of every command is its answer. Settlement works off one match record at a time,
and stops between two of them when the reports ring is full (`mid_command`), or within one between
two flips of the claims that its fill has robbed (`flipping`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine import (
    algos,
    claims,
    countdown,
    delisting,
    expiry,
    funding,
    index,
    proposals,
    reports,
    requests,
    triggers,
)
from engine.clients import close_client
from engine.commands import WORDS, Commands
from engine.fills import move_isolated, settle_trade, trade_position
from engine.flips import flip_robbed
from engine.liquidation import (
    count_fill,
    report_order,
    settle_liquidate,
    settle_order_end,
    settle_refused_order,
)
from engine.reports import Out
from engine.setup import ASSETS, COMMAND_MASK, MATCH_MASK, SHARDS, SYMBOLS
from engine.state import Risk
from engine.takeover import settle_takeover, settle_victim
from shm.arithmetic import fee_of, muldiv_down, wide
from shm.atomics import load_acquire, prefetch_line, store_release, unlikely
from shm.codes import Flag, Kind, MatchKind, Reason, Route, State, Status, Working
from shm.cursors import SETTLED
from shm.jit import PLAIN, apart, inlined, kernel, rarely, spliced
from shm.kinds import PARAMETER_KINDS
from shm.margin import (
    available,
    maker_fee_ppm,
    order_hold,
    order_need,
    removable,
    taker_fee_ppm,
)
from shm.pointers import Cells, Rows
from shm.units import FEE_ACCOUNT, NIL

_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)

EXPIRE_PER_TICK: Final = 1024  # due orders proposed by one TICK; the next one goes on
_AHEAD: Final = 3  # commands ahead whose rows are asked for
_PARAMETERS: Final = sum(1 << kind for kind in PARAMETER_KINDS)
_SHARD_CELLS: Final = 48  # three cursors of 16 cells each, from cell 256 (shm/cursors.py)
_FIRST_SHARD: Final = 256


@inlined
def _written_cell(shard: int) -> int:
    return _FIRST_SHARD + shard * _SHARD_CELLS + 16


@inlined
def _read_cell(shard: int) -> int:
    return _FIRST_SHARD + shard * _SHARD_CELLS + 32


# ---------------------------------------------------------------- a trade, and what it robs


@kernel
def fill_side(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    slot: int,
    taker: int,
    trade_id: int,
    price: int,
    lots: int,
) -> None:
    """Settle one side of a trade: position, PnL, fee, claim. What it robs, `_flip` settles."""
    apart()
    c = r.claims[slot]
    position = c["position"]
    p = r.positions[position]
    s = r.symbols[c["symbol"]]
    w = r.wallets[p["wallet"]]
    funding.settle_due(r, out, setup, seq, position)
    w["exposure_quanta"] -= abs(p["entry_quanta"])
    closing, realised = trade_position(r, position, c["side"], price, lots)
    w["exposure_quanta"] += abs(p["entry_quanta"])
    account = c["account"]
    if taker:
        rate = taker_fee_ppm(r.accounts[account], s)
    else:
        rate = maker_fee_ppm(r.accounts[account], s)
    fee = fee_of(price * lots * s["tick_lot_quanta"], rate)
    r.wallets[FEE_ACCOUNT * setup[ASSETS] + s["asset"]]["wallet_quanta"] += fee
    held = c["hold_quanta"]
    if lots > closing and held == 0:
        w["deficit_count"] += 1
        r.venue[0]["deficit_count"] += 1
    claims.consume(r, slot, lots, closing)
    held -= c["hold_quanta"]
    status = taker | (c["side"] << 1) | (c["cause"] << 2) | (c["position_side"] << 5)
    reports.execution(
        r,
        out,
        setup,
        seq,
        position,
        c["order_id"],
        c["open_lots"],
        status,
        trade_id,
        price,
        lots,
        fee,
    )
    settle_trade(
        r,
        out,
        setup,
        seq,
        position,
        price,
        lots,
        closing,
        realised,
        fee,
        held,
        trade_id,
        status,
        c["hold_quanta"],
    )


# ---------------------------------------------------------------- what matching said


@inlined
def amend_claim(
    r: Risk, setup: Cells, slot: int, price: int, total: int, left: int, last: bool
) -> None:
    """An amended or reduced order has `left` lots at `price`: its claims and hold follow.

    Smaller at the same price keeps its share of the hold; anything else is reckoned anew. While an
    AMEND is in flight nothing is given back: it may need what this one doesn't.

    last      nothing more is to come of the command
    """
    c = r.claims[slot]
    p = r.positions[c["position"]]
    w = r.wallets[p["wallet"]]
    account = wide(c["account"])
    s = r.symbols[c["symbol"]]
    before = c["open_lots"]
    close = c["close_lots"]
    opens = before - close
    same = price == c["price_ticks"]
    claims.change_lots(c, p, left - before)
    c["open_lots"] = left
    c["qty_lots"] = total
    c["price_ticks"] = price
    if c["amended"] != 0 and last and c["in_flight"] == 1:
        # What claims.leave_flight would do in a moment, at one go.
        c["amended"] = 0
        c["worst_ticks"] = price
    exposure = c["worst_ticks"] * left * s["tick_lot_quanta"]
    if c["amended"] == 0 or exposure > c["exposure_quanta"]:
        claims.change_exposure(c, w, exposure)
    claims.change_close(r, slot, min(close, left))
    new_opens = left - c["close_lots"]
    if unlikely((c["flags"] & _REDUCE_ONLY) != 0):
        if new_opens > 0:
            # It was trimmed behind the AMEND's back.
            proposals.mark_order(r.claims, r.proposals, setup, slot, Reason.REDUCE_ONLY)
        elif c["pending"] == Reason.REDUCE_ONLY:
            c["pending"] = 0  # nothing in excess is left to take off
        return
    if unlikely(c["pending"] == Reason.FLIP) and new_opens == 0:
        c["pending"] = 0  # the same
    held = c["hold_quanta"] + c["reserve_quanta"]
    apart = c["apart"]
    if same and left <= before:
        need = c["hold_quanta"]
        if new_opens < opens:
            need = muldiv_down(need, new_opens, opens) if new_opens > 0 else 0
    else:
        taker = taker_fee_ppm(r.accounts[account], s)
        need, apart = order_hold(s, c["side"], price, new_opens, p["leverage"], taker)
        if unlikely(c["in_flight"] > 1):
            apart = max(apart, c["apart"])  # what else is in flight may need it
    if unlikely(need > held or apart > c["apart"]):
        # The mark has moved since risk reckoned, or a claim was robbed: more only if there is more.
        more = order_need(
            r.symbols, p, c["side"], held, c["apart"], max(need, held), max(apart, c["apart"])
        )
        if more > available(r.accounts, r.wallets, r.symbols, r.positions, account, p["wallet"]):
            need = min(need, held)
            apart = c["apart"]
    claims.set_apart(c, p, apart)
    reserve = max(held - need, 0) if c["amended"] != 0 else 0
    claims.change_both(c, p, w, need, reserve)


@inlined
def _ended_status(reason: int) -> int:
    """CANCELED when somebody asked for it, EXPIRED when the venue's rules ended it."""
    if reason == Reason.USER_CANCEL or reason == Reason.CANCEL_ALL or reason == Reason.AMENDED_AWAY:
        return Status.CANCELED
    return Status.EXPIRED


@inlined
def _places(kind: int) -> bool:
    """Whether a command of this kind opens an order."""
    return kind == Kind.PLACE or kind == Kind.TRIGGER or kind == Kind.LIQUIDATION_ORDER


@inlined
def _born(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """PLACE: the order exists; its answer, client id and trace, and what it holds and claims.

    Risk has held for it since it decided; flips since then were reported already.
    """
    c = cs.base[at]
    slot = c["slot"]
    reports.order(r, out, setup, c, slot, Status.NEW, Reason.NONE, True)
    if unlikely(c["lines"] > 1):
        reports.origin(r, out, setup, c, cs.words, at * WORDS, c["decided_order_id"], True)
    r.venue[0]["answered"] = 1
    o = r.claims[slot]
    held = c["risk_held_quanta"]
    reports.hold(
        r,
        out,
        setup,
        c["seq"],
        slot,
        (held != 0) | (o["hold_quanta"] != 0) | (o["close_lots"] != 0),
        o["hold_quanta"],
        held,
        o["close_lots"],
        o["open_lots"],
    )
    if unlikely(c["kind"] == Kind.LIQUIDATION_ORDER):
        report_order(r, out, setup, c)


@inlined
def _announce(
    r: Risk, out: Out, cursors: Cells, setup: Cells, cs: Commands, at: int, x: Rows
) -> bool:
    """What is due before the first match record `x` of a command; False: the ring is full."""
    c = cs.base[at]
    v = r.venue[0]
    kind = x["kind"]
    if v["answered"] == 0:
        if _places(c["kind"]):
            if c["kind"] == Kind.TRIGGER:
                algos.settle_trigger(r, out, setup, cs, at)
            reason = x["reason"]
            if not (
                kind == MatchKind.ENDED
                and (
                    reason == Reason.WOULD_TAKE
                    or reason == Reason.FOK_UNFILLED
                    or reason == Reason.BOOK_FULL
                )
            ):
                _born(r, out, setup, cs, at)
        elif (
            c["kind"] == Kind.CANCEL_ALL
            or c["kind"] == Kind.CANCEL_SYMBOL
            or c["kind"] == Kind.SAMPLE
        ):
            reports.answer(r, out, setup, c, Reason.NONE, 0, 0)
            reports.origin(r, out, setup, c, cs.words, at * WORDS, 0, False)
            v["answered"] = 1
    if c["kind"] == Kind.CANCEL_ALL or c["kind"] == Kind.CANCEL_SYMBOL:
        return algos.settle_ended(r, out, cursors, setup, c)
    return True


@inlined
def settle_match(
    r: Risk, out: Out, cursors: Cells, setup: Cells, cs: Commands, matches: Rows, at: int, m: int
) -> bool:
    """One match record of the command in slot `at`; False: the reports ring is full, come again."""
    c = cs.base[at]
    x = matches[m]
    v = r.venue[0]
    kind = x["kind"]
    assert x["seq"] == c["seq"]
    # What is AMENDED is answered by that itself. The ways part here, and only once: which one it is
    # the processor can't guess.
    if kind != MatchKind.AMENDED and not _announce(r, out, cursors, setup, cs, at, x):
        return False
    if kind == MatchKind.BOOK or kind == MatchKind.IMPACT:
        index.settle_sample(r, out, setup, c, x)
    elif kind == MatchKind.FILL:
        price = x["price_ticks"]
        lots = x["lots"]
        maker = x["maker"]
        taker = x["slot"]
        if v["flipping"] == 0:
            s = r.symbols[x["symbol"]]
            s["last_ticks"] = price
            s["trade_count"] += 1
            fill_side(r, out, setup, c["seq"], maker, 0, x["trade_id"], price, lots)
            fill_side(r, out, setup, c["seq"], taker, 1, x["trade_id"], price, lots)
            if unlikely(c["kind"] == Kind.LIQUIDATION_ORDER):
                count_fill(r, x["symbol"], price, lots)
            assert r.claims[maker]["open_lots"] == x["maker_open_lots"]
            assert r.claims[taker]["open_lots"] == x["open_lots"]
            triggers.on_price(r, setup, x["symbol"], Working.LAST, price)
        makers = r.claims[maker]["position"]
        takers = r.claims[taker]["position"]
        if (
            makers != takers
            and claims.robbed(r, makers)
            and not flip_robbed(r, out, cursors, setup, c["seq"], makers, maker, True)
        ):
            v["flipping"] = 1
            return False
        if claims.robbed(r, takers) and not flip_robbed(
            r, out, cursors, setup, c["seq"], takers, taker, False
        ):
            v["flipping"] = 1
            return False
        v["flipping"] = 0
        if x["maker_open_lots"] == 0:
            claims.end_order(r, setup, maker)
        if x["open_lots"] == 0:
            claims.end_order(r, setup, taker)
    elif kind == MatchKind.RESTED:
        # A reduce-only order may have claimed what others had: now that it rests, they flip.
        if c["flags"] & _REDUCE_ONLY != 0 and not flip_robbed(
            r, out, cursors, setup, c["seq"], c["position"], c["slot"], True
        ):
            return False
    elif kind == MatchKind.ENDED:
        slot = x["slot"]
        first = v["answered"] == 0 and slot == c["slot"]
        assert r.claims[slot]["open_lots"] == x["open_lots"]
        reports.order(r, out, setup, c, slot, _ended_status(x["reason"]), x["reason"], first)
        if first:
            if c["lines"] > 1:
                reports.origin(
                    r,
                    out,
                    setup,
                    c,
                    cs.words,
                    at * WORDS,
                    c["decided_order_id"],
                    _places(c["kind"]),
                )
            v["answered"] = 1
        # Of an order that never was, nobody has heard what it held but by its flips.
        o = r.claims[slot]
        told = o["hold_quanta"]
        if first and _places(c["kind"]):
            told -= c["risk_held_quanta"]
        changed = (told != 0) | ((o["close_lots"] != 0) & (told == o["hold_quanta"]))
        reports.hold(r, out, setup, c["seq"], slot, changed, 0, -told, 0, 0)
        claims.end_order(r, setup, slot)
    elif kind == MatchKind.AMENDED:
        slot = x["slot"]
        held = r.claims[slot]["hold_quanta"]
        close = r.claims[slot]["close_lots"]
        apart = r.claims[slot]["apart"]
        last = x["last"] == 1
        amend_claim(r, setup, slot, x["price_ticks"], x["lots"], x["open_lots"], last)
        reports.order(
            r,
            out,
            setup,
            c,
            slot,
            Status.AMENDED,
            c["end_reason"] if c["kind"] == Kind.EXPIRE else 0,
            True,
        )
        if unlikely(c["lines"] > 1):
            reports.origin(r, out, setup, c, cs.words, at * WORDS, c["decided_order_id"], False)
        v["answered"] = 1
        o = r.claims[slot]
        reports.hold(
            r,
            out,
            setup,
            c["seq"],
            slot,
            (o["hold_quanta"] != held) | (o["close_lots"] != close) | (o["apart"] != apart),
            o["hold_quanta"],
            o["hold_quanta"] - held,
            o["close_lots"],
            o["open_lots"],
        )
    elif kind == MatchKind.REFUSED:
        reports.refused(
            r, out, setup, c, c["decided_order_id"], Status.REFUSED, Reason.UNKNOWN_ORDER
        )
        if c["lines"] > 1:
            reports.origin(r, out, setup, c, cs.words, at * WORDS, c["decided_order_id"], False)
        v["answered"] = 1
    return True


# ---------------------------------------------------------------- commands that matching never saw


@kernel
def settle_nowhere(r: Risk, out: Out, cursors: Cells, setup: Cells, cs: Commands, at: int) -> bool:
    """A rejected command, or one that is settled by its answer and the money it moves; False: the
    reports ring is full, come again."""
    rarely()
    c = cs.base[at]
    kind = c["kind"]
    reason = c["reason"]
    if (kind >= Kind.PLACE and kind <= Kind.REDUCE) or kind == Kind.EXPIRE:
        assert reason != Reason.NONE
        order_id = c["order_id"]
        if (
            reason == Reason.DUPLICATE_CLIENT_ID
            or reason == Reason.DUPLICATE_REQUEST
            or reason == Reason.REPLAYED
        ):
            order_id = c["risk_note"]
        status = Status.REJECTED if kind == Kind.PLACE else Status.REFUSED
        reports.refused(r, out, setup, c, order_id, status, reason)
        if c["lines"] > 1:
            reports.origin(r, out, setup, c, cs.words, at * WORDS, order_id, False)
        return True
    if kind == Kind.CHECKPOINT and reason == Reason.NONE:
        k = cs.checkpoints[at]
        reports.checkpoint(r, out, setup, c, k["reports_digest"], k["reports_count"])
        return True
    if kind == Kind.POSITION_MARGIN and reason == Reason.NONE:
        _settle_position_margin(r, out, setup, cs, at)
        return True
    if kind == Kind.TRIGGER:
        algos.settle_trigger(r, out, setup, cs, at)
        return True
    if r.venue[0]["answered"] == 0:
        _answer(r, out, setup, cs, at)
        r.venue[0]["answered"] = 1
        if reason == Reason.NONE:
            _settle_once(r, out, setup, cs, at)
        elif kind == Kind.LIQUIDATION_ORDER:
            settle_refused_order(r, setup, c)
    if reason != Reason.NONE:
        return True
    # What takes many steps goes on here, however often it is interrupted.
    if kind == Kind.TICK:
        return index.settle_timers(r, out, cursors, setup, c)
    if kind == Kind.FUNDING:
        return funding.settle_slice(r, out, cursors, setup, cs, at)
    if kind == Kind.TAKEOVER:
        return settle_victim(r, out, cursors, setup, c)
    if kind == Kind.DELIST:
        return delisting.settle_slice(r, out, cursors, setup, c)
    if algos.ends_some(kind):
        return algos.settle_ended(r, out, cursors, setup, c)
    return True


@kernel
def _answer(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """The answer to a command that is not about an order, and its trace."""
    c = cs.base[at]
    kind = c["kind"]
    reason = c["reason"]
    value = 0
    if kind == Kind.DEPOSIT or kind == Kind.WITHDRAW:
        value = cs.transfers[at]["amount_quanta"]
    elif kind == Kind.ACCOUNT or kind == Kind.SYMBOL_STATE or kind == Kind.VENUE_STATE:
        value = cs.states[at]["state"]
    elif kind == Kind.LEVERAGE:
        value = cs.leverages[at]["leverage"]
    elif kind == Kind.MARK:
        value = cs.marks[at]["mark_ticks"]
    elif kind == Kind.LIQUIDATE:
        value = np.int64(c["finding"])
    elif kind == Kind.BRACKET:
        value = cs.brackets[at]["index"]
    elif kind >= Kind.COUNTDOWN and kind <= Kind.POSITION_MARGIN:
        value = cs.settings[at]["value"]
    elif kind == Kind.SOURCE:
        value = cs.sources[at]["weight"]
    elif kind == Kind.SOURCE_PRICE:
        value = cs.sources[at]["source_ticks"]
    elif kind == Kind.PLACE_ALGO or kind == Kind.CANCEL_ALGO:
        value = c["decided_order_id"]
    elif kind == Kind.REQUEST_WITHDRAW or kind == Kind.REQUEST_ADJUST or kind == Kind.TRANSFER:
        value = cs.requests[at]["amount_quanta"]
    elif kind >= Kind.APPROVE and kind <= Kind.SETTLE_WITHDRAW:
        value = cs.requests[at]["reference"]
    elif kind == Kind.SETTLE_SYMBOL or kind == Kind.DELIST:
        value = cs.settles[at]["settle_ticks"]
    reports.answer(r, out, setup, c, reason, value, c["risk_note"])
    placed = kind == Kind.PLACE_ALGO and reason == Reason.NONE
    if placed:
        algos.settle_placed(r, out, setup, cs, at)
    if c["lines"] > 1:
        reports.origin(r, out, setup, c, cs.words, at * WORDS, value if placed else 0, placed)


@kernel
def _settle_once(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """What an accepted command does in one step, after its answer."""
    c = cs.base[at]
    kind = c["kind"]
    if (_PARAMETERS >> np.int64(kind)) & 1:
        reports.parameters(r, out, setup, c, cs.words, at * WORDS)
    if kind == Kind.LIQUIDATE:
        settle_liquidate(r, out, setup, cs, at)
    elif kind == Kind.TAKEOVER:
        settle_takeover(r, out, setup, cs, at)
    elif kind == Kind.DEPOSIT or kind == Kind.WITHDRAW:
        _settle_transfer(r, out, setup, cs, at)
    elif kind == Kind.TICK:
        _settle_tick(r, setup, c["ts_ns"])
        countdown.settle_due(r, setup, c["ts_ns"])
    elif kind == Kind.ACCOUNT:
        a = r.accounts[c["account"]]
        if (
            cs.states[at]["cancel"] == 1
            and a["pending"] == 0
            and (a["open_orders"] > 0 or a["algo_count"] > 0)
        ):
            a["pending"] = Reason.KILL_SWITCH
            proposals.put(r.proposals, setup, proposals.ACCOUNT | np.int64(c["account"]))
    elif kind == Kind.TRANSFER or (kind >= Kind.REQUEST_WITHDRAW and kind <= Kind.SETTLE_WITHDRAW):
        requests.settle_request(r, out, setup, cs, at)
    elif kind == Kind.SETTLE_SYMBOL:
        delisting.propose(r, setup, c["symbol"])
    elif kind == Kind.SYMBOL_STATE or kind == Kind.SYMBOL or kind == Kind.MARK:
        reports.symbol(r, out, setup, c, c["symbol"])
        if kind == Kind.MARK:
            ticks = cs.marks[at]["mark_ticks"]
            triggers.on_price(r, setup, c["symbol"], Working.MARK, ticks)
            index.settle_mark(r, out, setup, cs, at)
        if kind == Kind.SYMBOL_STATE and cs.states[at]["cancel"] == 1:
            _propose_symbol(r, setup, c["symbol"], Reason.SYMBOL_CLOSED)
    elif kind == Kind.CONTRACT:
        # It may have moved the next funding time, which nothing else would tell for a while.
        symbol = np.int64(c["symbol"])
        reports.price(r, out, setup, c, symbol, funding.rate_now(r, symbol))
    elif kind == Kind.SOURCE or kind == Kind.SOURCE_PRICE:
        index.settle_source(r, out, setup, cs, at)
    elif kind == Kind.VENUE_STATE and cs.states[at]["cancel"] == 1:
        for symbol in range(setup[SYMBOLS]):
            if r.symbols[symbol]["state"] != State.ABSENT:
                _propose_symbol(r, setup, symbol, Reason.KILL_SWITCH)


@kernel
def _propose_symbol(r: Risk, setup: Cells, symbol: int, reason: int) -> None:
    s = r.symbols[symbol]
    if s["pending"] == 0:
        s["pending"] = reason
        proposals.put(r.proposals, setup, proposals.SYMBOL | np.int64(symbol))


@kernel
def _settle_transfer(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    c = cs.base[at]
    t = cs.transfers[at]
    asset = t["asset"]
    amount = t["amount_quanta"]
    row = c["account"] * setup[ASSETS] + asset
    w = r.wallets[row]
    if c["kind"] == Kind.DEPOSIT:
        w["wallet_quanta"] += amount
        w["deposited_quanta"] += amount
    else:
        w["pending_quanta"] -= c["risk_held_quanta"]
        w["wallet_quanta"] -= amount
        w["withdrawn_quanta"] += amount
        r.assets[asset]["total_quanta"] -= amount
        amount = -amount
    if c["slot"] != NIL:
        close_client(r, setup, c["slot"])
    reports.wallet(r, out, setup, c, asset, amount, row, t["source"])


@kernel
def _settle_position_margin(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """Move margin into or out of an isolated position, as fills have left it by now."""
    c = cs.base[at]
    position = c["position"]
    p = r.positions[position]
    amount = cs.settings[at]["value"]
    r.wallets[p["wallet"]]["pending_quanta"] -= c["risk_held_quanta"]
    reason = Reason.NONE
    if p["lots"] == 0:
        reason = Reason.NO_POSITION
    elif p["isolated"] == 0:
        reason = Reason.CROSS_MARGIN
    elif amount < 0:
        due = min(funding.due_of(r, position), 0)
        if -amount > removable(r.symbols, r.brackets, p) + due:
            reason = Reason.INSUFFICIENT_MARGIN
    reports.answer(r, out, setup, c, reason, amount, 0)
    if c["lines"] > 1:
        reports.origin(r, out, setup, c, cs.words, at * WORDS, 0, False)
    if reason == Reason.NONE:
        funding.settle_due(r, out, setup, c["seq"], position)
        move_isolated(r, out, setup, c["seq"], position, amount, 0)
        reports.margin(r, out, setup, c["seq"], position)


@kernel
def _settle_tick(r: Risk, setup: Cells, ts_ns: int) -> None:
    """Propose the end of GTD orders that are due, in (time, id) order.

    The heap is only read as far as it is due; each order leaves it when it ends.
    """
    v = r.venue[0]
    count = 0
    while v["heap_count"] > 0 and count < EXPIRE_PER_TICK:
        slot = r.heap[0]
        c = r.claims[slot]
        if c["expire_ns"] > ts_ns:
            break
        # Out of the heap, into its mark: the proposal ends it, whatever was proposed before.
        expiry.remove(r.venue, r.claims, r.heap, slot)
        proposals.mark_order(r.claims, r.proposals, setup, slot, Reason.GTD_EXPIRED)
        c["pending"] = Reason.GTD_EXPIRED
        count += 1


# ---------------------------------------------------------------- the stage


@inlined
def _next_shard(cursors: Cells, cs: Commands, matches: Rows, setup: Cells, v: Rows, at: int) -> int:
    """Of several shards the one that the next match record of a command will come from, or NIL:
    that is not known yet.

    SHARD: the shard of its symbol. ALL_SHARDS: of the shards not done, the one whose next record
    is about the lowest symbol, and only when all of them have one.
    """
    c = cs.base[at]
    shards = setup[SHARDS]
    mask = setup[MATCH_MASK]
    if c["route"] == Route.SHARD:
        return wide(c["symbol"]) % shards
    best = NIL
    best_symbol = 1 << 20
    for shard in range(shards):
        if (v["shards_done"] >> shard) & 1:
            continue
        read = cursors[_read_cell(shard)]
        if load_acquire(cursors, _written_cell(shard)) == read:
            return NIL
        x = matches[shard * (mask + 1) + (read & mask)]
        symbol = x["symbol"] if x["kind"] != MatchKind.DONE else -1
        if symbol < best_symbol:
            best_symbol = symbol
            best = shard
    return best


@inlined
def _fetch(r: Risk, c: Rows) -> None:
    """Ask for all that a command soon to be settled is about, wherever matching left it.

    Asking for row NIL, or by a slot that risk has not filled yet, does no harm.
    """
    slot = wide(c["slot"])
    prefetch_line(r.claims, slot, 0)
    prefetch_line(r.claims, slot, 1)
    position = wide(c["position"])
    prefetch_line(r.positions, position, 0)
    prefetch_line(r.positions, position, 1)


@spliced
def settle_commands(
    r: Risk,
    out: Out,
    cursors: Cells,
    setup: Cells,
    cs: Commands,
    matches: Rows,
    upto: int,
    budget: int,
) -> int:
    """Settle commands in order up to `upto`; returns how many records and answers were worked off.

    upto      highest sequence number risk has decided, or less when replay says so
    budget    at most about this many
    """
    v = r.venue[0]
    mask = setup[MATCH_MASK]
    shards = setup[SHARDS]
    seq = v["settled_seq"] + 1
    work = 0
    middle = v["mid_command"]
    while work < budget and seq <= upto:
        at = seq & setup[COMMAND_MASK]
        c = cs.base[at]
        if unlikely(not reports.has_room(r, cursors, setup)):
            break
        if not PLAIN:
            _fetch(r, cs.base[(seq + _AHEAD) & setup[COMMAND_MASK]])
        finished = False
        if unlikely(c["route"] == Route.NOWHERE):
            middle = 1
            work += 1
            if not settle_nowhere(r, out, cursors, setup, cs, at):
                break
            finished = True
        else:
            shard = 0
            if unlikely(shards != 1):
                shard = _next_shard(cursors, cs, matches, setup, v, at)
                if shard == NIL:
                    break
            read = cursors[_read_cell(shard)]
            if unlikely(load_acquire(cursors, _written_cell(shard)) == read):
                break
            m = shard * (mask + 1) + (read & mask)
            work += 1
            middle = 1
            if unlikely(not settle_match(r, out, cursors, setup, cs, matches, at, m)):
                break
            last = matches[m]["last"] == 1
            store_release(cursors, _read_cell(shard), read + 1)
            if last and c["route"] == Route.SHARD:
                finished = True
            elif last:
                v["shards_done"] |= 1 << shard
                finished = v["shards_done"] == (1 << shards) - 1
        if finished:
            if c["route"] == Route.SHARD and c["slot"] != NIL:
                claims.leave_flight(r, c["slot"])
                if unlikely(c["kind"] == Kind.LIQUIDATION_ORDER):
                    settle_order_end(r, out, setup, c)
            middle = 0
            v["answered"] = 0
            v["shards_done"] = 0
            v["settled_seq"] = seq
            seq += 1
    v["mid_command"] = middle
    if work > 0:
        reports.publish(r, cursors)
        store_release(cursors, SETTLED, v["settled_seq"])
    return work
