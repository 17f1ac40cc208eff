"""The account view's kernel: what each report says about accounts, positions and orders.

Reads   a batch of reports, whole commands in order.
Writes  the tables of gateways/accounts/layout.py, under their versions.
Never   allocates, never fails on a full table: what has no row is counted in head[DROPPED].

The tables are a function of the reports up to head[INDEX]: a view that starts again from a
checkpoint and the log comes to the same bytes (versions aside).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gateways.accounts.declared import apply_parameters, apply_price, set_next_funding
from gateways.accounts.layout import (
    ACCOUNTS,
    ALGO_BITS,
    ALGOS_CLOSED_FIRST,
    ALGOS_CLOSED_LAST,
    ASSETS,
    BATCH,
    COMMAND_NS,
    COMMAND_SEQ,
    DROPPED,
    INDEX,
    INDEXES,
    OPEN_ALGOS,
    OPEN_ORDERS,
    ORDER_BITS,
    ORDERS_CLOSED_FIRST,
    ORDERS_CLOSED_LAST,
    REQUESTS,
    REQUESTS_USED,
    SEQ,
    SYMBOLS,
    TRIGGERED_ORDER,
    TRIGGERED_ROW,
    TS_NS,
    VENUE_STATE,
)
from gateways.accounts.rows import (
    Batch,
    Tables,
    find_algo,
    find_order,
    find_position,
    join,
    keep_closed,
    leave,
    lock,
    name_key,
    position_row,
    take_algo_row,
    take_order_row,
    unlock,
)
from shm import hashmap
from shm.atomics import store_release
from shm.codes import (
    AlgoStatus,
    Kind,
    LiquidationStep,
    Move,
    PositionSide,
    Reason,
    ReportKind,
    RequestStatus,
    Side,
    Status,
)
from shm.jit import kernel
from shm.pointers import Rows
from shm.records import NO_SYMBOL
from shm.seqlock import write_begin, write_end
from shm.units import FEE_ACCOUNT, NIL

_WORDS: Final = 8


# ---------------------------------------------------------------- orders


@kernel
def set_hold(t: Tables, row: int, hold: int, apart: int) -> None:
    """An order holds `hold` now, netted or (apart) not: its position and wallet follow."""
    o = t.orders[row]
    held = o["hold_quanta"]
    was_apart = o["apart"]
    if hold == held and apart == was_apart:
        return
    o["hold_quanta"] = hold
    o["apart"] = apart
    at = find_position(t, o["account"], o["symbol"], o["position_side"])
    if at != NIL:
        p = t.positions[at]
        p["hold_quanta"] += hold - held
        if was_apart != 0:
            p["hold_apart_quanta"] -= held
        elif o["side"] == Side.SELL:
            p["hold_sell_quanta"] -= held
        if apart != 0:
            p["hold_apart_quanta"] += hold
        elif o["side"] == Side.SELL:
            p["hold_sell_quanta"] += hold
    w = o["account"] * t.head[ASSETS] + t.symbols[o["symbol"]]["asset"]
    t.wallets[w]["held_quanta"] += hold - held


@kernel
def set_open(t: Tables, row: int, lots: int) -> None:
    """What is left of an open order."""
    o = t.orders[row]
    change_lots(t, row, lots - o["open_lots"])
    o["open_lots"] = lots


@kernel
def change_lots(t: Tables, row: int, change: int) -> None:
    """Add to what the orders of a position have left."""
    o = t.orders[row]
    at = find_position(t, o["account"], o["symbol"], o["position_side"])
    if at != NIL:
        t.positions[at]["order_lots"] += change
        if o["side"] == Side.SELL:
            t.positions[at]["sell_lots"] += change


@kernel
def close_order(t: Tables, row: int, status: int, reason: int) -> None:
    """An order has ended; its row stays a while."""
    o = t.orders[row]
    set_hold(t, row, 0, 0)
    change_lots(t, row, -o["open_lots"])
    p = find_position(t, o["account"], o["symbol"], o["position_side"])
    if p != NIL:
        t.positions[p]["open_orders"] -= 1
    o["close_lots"] = 0
    o["status"] = status
    o["reason"] = reason
    o["open"] = 0
    o["updated_ns"] = t.head[COMMAND_NS]
    t.accounts[o["account"]]["open_orders"] -= 1
    t.head[OPEN_ORDERS] = t.head[OPEN_ORDERS] - 1
    leave(t.orders, t.account_orders, np.int64(o["account"]), row)
    keep_closed(t.orders, t.head, ORDERS_CLOSED_FIRST, ORDERS_CLOSED_LAST, row)


@kernel
def open_order(t: Tables, r: Rows) -> int:
    """A new order out of its ORDER report; returns its row or NIL."""
    row = take_order_row(t)
    if row == NIL:
        return NIL
    o = t.orders[row]
    o["order_id"] = r["order_id"]
    for k in range(5):
        o["client_id"][k] = 0
    o["price_ticks"] = r["price_ticks"]
    o["qty_lots"] = r["open_lots"]
    o["open_lots"] = 0
    o["quote_ticks_lots"] = 0
    o["hold_quanta"] = 0
    o["close_lots"] = 0
    o["expire_ns"] = 0
    o["created_ns"] = r["ts_ns"]
    o["updated_ns"] = r["ts_ns"]
    o["account"] = r["account"]
    o["amends"] = 0
    o["symbol"] = r["symbol"]
    o["side"] = r["side"]
    o["type"] = r["type"]
    o["tif"] = r["tif"]
    o["flags"] = r["flags"]
    o["stp"] = r["stp"]
    o["position_side"] = r["position_side"]
    o["algo_id"] = 0
    o["trigger_ticks"] = 0
    o["algo_type"] = 0
    o["working"] = 0
    o["algo_flags"] = 0
    o["apart"] = 0
    o["status"] = Status.NEW
    o["reason"] = Reason.NONE
    o["open"] = 1
    write_begin(t.versions, INDEXES)
    hashmap.put(t.order_index, t.head[ORDER_BITS], r["order_id"], row)
    write_end(t.versions, INDEXES)
    join(t.orders, t.account_orders, np.int64(r["account"]), row)
    t.accounts[r["account"]]["open_orders"] += 1
    t.head[OPEN_ORDERS] = t.head[OPEN_ORDERS] + 1
    p = position_row(t, r["account"], r["symbol"], r["position_side"])
    if p != NIL:
        t.positions[p]["open_orders"] += 1
    set_open(t, row, r["open_lots"])
    if t.head[TRIGGERED_ORDER] == r["order_id"]:
        was_algo(t, row, t.head[TRIGGERED_ROW])
    return row


@kernel
def was_algo(t: Tables, row: int, algo: int) -> None:
    """The order in `row` is what a conditional order became."""
    o = t.orders[row]
    a = t.algos[algo]
    o["algo_id"] = a["algo_id"]
    o["trigger_ticks"] = a["trigger_ticks"]
    o["algo_type"] = a["type"]
    o["working"] = a["working"]
    o["algo_flags"] = a["flags"]
    o["expire_ns"] = a["expire_ns"]
    t.head[TRIGGERED_ORDER] = 0


@kernel
def apply_order(t: Tables, r: Rows) -> None:
    """ORDER: a state of an order, or a refusal that changes nothing."""
    status = r["status"]
    if status == Status.REJECTED or status == Status.REFUSED:
        return
    row = find_order(t, r["order_id"])
    if row != NIL and t.orders[row]["open"] == 0:
        if status != Status.NEW and status != Status.AMENDED:
            return
        # An amendment brought an order back that was gone: it is open again, as a new one.
        reopen(t, row, r)
        return
    if row == NIL:
        if status == Status.NEW or status == Status.AMENDED:
            open_order(t, r)
        return
    o = t.orders[row]
    if status == Status.AMENDED:
        filled = o["qty_lots"] - o["open_lots"]
        o["price_ticks"] = r["price_ticks"]
        o["qty_lots"] = filled + r["open_lots"]
        set_open(t, row, r["open_lots"])
        o["amends"] += 1
        o["updated_ns"] = r["ts_ns"]
        o["status"] = Status.PARTIALLY_FILLED if filled > 0 else Status.NEW
    elif status == Status.CANCELED or status == Status.EXPIRED:
        set_open(t, row, r["open_lots"])
        close_order(t, row, status, r["reason"])


@kernel
def reopen(t: Tables, row: int, r: Rows) -> None:
    """Open a closed order's row again, in place: it keeps its name and what it had filled."""
    o = t.orders[row]
    h = t.head
    # Out of the list of closed rows: a walk, and only privileged producers can cause one.
    before = NIL
    at = h[ORDERS_CLOSED_FIRST]
    while at != row:
        before = at
        at = np.int64(t.orders[at]["next"])
    after = np.int64(o["next"])
    if before == NIL:
        h[ORDERS_CLOSED_FIRST] = after
    else:
        t.orders[before]["next"] = after
    if after == NIL:
        h[ORDERS_CLOSED_LAST] = before
    filled = o["qty_lots"] - o["open_lots"]
    o["price_ticks"] = r["price_ticks"]
    o["open_lots"] = 0
    o["qty_lots"] = filled + r["open_lots"]
    o["status"] = Status.PARTIALLY_FILLED if filled > 0 else Status.NEW
    o["reason"] = Reason.NONE
    o["open"] = 1
    o["updated_ns"] = r["ts_ns"]
    join(t.orders, t.account_orders, np.int64(o["account"]), row)
    t.accounts[o["account"]]["open_orders"] += 1
    h[OPEN_ORDERS] = h[OPEN_ORDERS] + 1
    p = position_row(t, o["account"], o["symbol"], o["position_side"])
    if p != NIL:
        t.positions[p]["open_orders"] += 1
    set_open(t, row, r["open_lots"])


@kernel
def apply_name(t: Tables, r: Rows) -> None:
    """CLIENT_ID: the name of an order or a conditional order just opened."""
    row = find_order(t, r["order_id"])
    if row != NIL:
        o = t.orders[row]
        if o["client_id"][0] == 0:
            for k in range(5):
                o["client_id"][k] = r["client_id"][k]
            write_begin(t.versions, INDEXES)
            key = name_key(o["account"], t.orders, row)
            hashmap.put(t.name_index, t.head[ORDER_BITS], key, row)
            write_end(t.versions, INDEXES)
        return
    row = find_algo(t, r["order_id"])
    if row != NIL and t.algos[row]["client_id"][0] == 0:
        a = t.algos[row]
        for k in range(5):
            a["client_id"][k] = r["client_id"][k]
        write_begin(t.versions, INDEXES)
        key = name_key(a["account"], t.algos, row)
        hashmap.put(t.algo_name_index, t.head[ALGO_BITS], key, row)
        write_end(t.versions, INDEXES)


@kernel
def apply_exec(t: Tables, e: Rows) -> None:
    """EXEC: one side of a trade. Position and wallet follow in POSITION."""
    symbol = np.int64(e["symbol"])
    s = t.symbols[symbol]
    asset = np.int64(s["asset"])
    fee = e["fee_quanta"]
    t.wallets[FEE_ACCOUNT * t.head[ASSETS] + asset]["wallet_quanta"] += fee
    w = e["account"] * t.head[ASSETS] + asset
    t.wallets[w]["fees_quanta"] += fee
    if e["order_id"] > 0 and e["trade_id"] > 0:
        s["last_ticks"] = e["price_ticks"]
        if e["status"] & 1:
            s["trade_count"] += 1
    row = find_order(t, e["order_id"])
    if row == NIL or t.orders[row]["open"] == 0:
        return
    o = t.orders[row]
    o["quote_ticks_lots"] += e["price_ticks"] * e["lots"]
    set_open(t, row, e["open_lots"])
    o["updated_ns"] = t.head[COMMAND_NS]
    o["status"] = Status.PARTIALLY_FILLED
    if e["open_lots"] == 0:
        close_order(t, row, Status.FILLED, Reason.NONE)


@kernel
def apply_position(t: Tables, r: Rows, order_id: int) -> None:
    """POSITION: a position and its cross wallet after the trade that EXEC before it told."""
    side = (r["status"] >> 5) & 3
    account = np.int64(r["account"])
    row = position_row(t, account, r["symbol"], side)
    w = account * t.head[ASSETS] + t.symbols[r["symbol"]]["asset"]
    t.wallets[w]["wallet_quanta"] = r["wallet_quanta"]
    t.wallets[w]["realised_quanta"] += r["realised_quanta"]
    t.wallet_times[w] = t.head[COMMAND_NS]
    order = find_order(t, order_id)
    if order != NIL and t.orders[order]["open"] == 1:
        set_hold(t, order, r["hold_quanta"], t.orders[order]["apart"])
    if row == NIL:
        return
    p = t.positions[row]
    s = t.symbols[r["symbol"]]
    before = p["lots"]
    after = r["position_lots"]
    s["open_lots"] += max(after, 0) - max(before, 0)
    p["lots"] = after
    p["entry_quanta"] = r["entry_quanta"]
    p["realised_quanta"] += r["realised_quanta"]
    t.position_times[row] = t.head[COMMAND_NS]


# ---------------------------------------------------------------- money and settings


@kernel
def set_wallet(t: Tables, account: int, asset: int, quanta: int) -> None:
    w = account * t.head[ASSETS] + asset
    t.wallets[w]["wallet_quanta"] = quanta
    t.wallet_times[w] = t.head[COMMAND_NS]


@kernel
def set_isolated(t: Tables, account: int, symbol: int, side: int, quanta: int) -> None:
    """An isolated position's own wallet, and with it the sum of them."""
    row = position_row(t, account, symbol, side)
    if row == NIL:
        return
    p = t.positions[row]
    t.wallets[p["wallet"]]["isolated_quanta"] += quanta - p["isolated_quanta"]
    p["isolated_quanta"] = quanta
    t.position_times[row] = t.head[COMMAND_NS]


@kernel
def apply_move(t: Tables, r: Rows) -> None:
    """MOVE: money that changed pockets or owners without a trade."""
    move = r["status"]
    account = np.int64(r["account"])
    asset = r["pocket"] & 0xFFFF
    set_wallet(t, account, asset, r["wallet_quanta"])
    w = account * t.head[ASSETS] + asset
    if move == Move.ISOLATE or move == Move.RELEASE:
        set_isolated(t, account, r["symbol"], (r["pocket"] >> 16) & 3, r["other_quanta"])
        return
    if move == Move.WITHDRAW_HOLD or move == Move.WITHDRAW_RETURN or move == Move.WITHDRAW_SETTLE:
        return  # what is set aside follows from REQUEST
    if move == Move.DUST:
        t.wallets[w]["funding_quanta"] += r["amount_quanta"]
        return
    t.wallets[w]["adjusted_quanta"] += r["amount_quanta"]
    other = r["other_account"]
    if other != account and other >= 0 and other < t.head[ACCOUNTS]:
        lock(t, other)
        set_wallet(t, other, asset, r["other_quanta"])
        v = other * t.head[ASSETS] + asset
        t.wallets[v]["adjusted_quanta"] -= r["amount_quanta"]


@kernel
def apply_wallet(t: Tables, r: Rows) -> None:
    """WALLET: a deposit or a withdrawal."""
    set_wallet(t, r["account"], r["asset"], r["wallet_quanta"])
    w = t.wallets[r["account"] * t.head[ASSETS] + r["asset"]]
    if r["status"] == Kind.DEPOSIT:
        w["deposited_quanta"] += r["amount_quanta"]
    elif r["status"] == Kind.WITHDRAW:
        w["withdrawn_quanta"] -= r["amount_quanta"]


@kernel
def apply_margin(t: Tables, r: Rows) -> None:
    """MARGIN: margin of a position after it changed."""
    side = r["status"] & 3
    isolated = (r["status"] >> 2) & 1
    row = position_row(t, r["account"], r["symbol"], side)
    if row == NIL:
        return
    p = t.positions[row]
    p["isolated"] = isolated
    p["leverage"] = r["leverage"]
    p["sunk_quanta"] = r["sunk_quanta"]
    p["liquidation_ticks"] = r["liquidation_ticks"]
    set_isolated(t, r["account"], r["symbol"], side, r["isolated_quanta"])


@kernel
def apply_funding(t: Tables, r: Rows) -> None:
    """FUNDING: one position paid or received."""
    side = r["status"] & 3
    account = np.int64(r["account"])
    asset = np.int64(t.symbols[r["symbol"]]["asset"])
    w = account * t.head[ASSETS] + asset
    t.wallets[w]["funding_quanta"] += r["amount_quanta"]
    if (r["status"] >> 2) & 1:
        set_isolated(t, account, r["symbol"], side, r["wallet_quanta"])
    else:
        set_wallet(t, account, asset, r["wallet_quanta"])


@kernel
def set_leverage(t: Tables, account: int, symbol: int, leverage: int, isolated: int) -> None:
    """Leverage or margin type (-1: leave it) of both legs of a symbol, whether they are there."""
    row = position_row(t, account, symbol, PositionSide.BOTH)
    if row == NIL:
        return
    at = np.int64(t.accounts[account]["first_position"])
    while at != NIL:
        p = t.positions[at]
        if p["symbol"] == symbol:
            if leverage > 0:
                p["leverage"] = leverage
            if isolated >= 0:
                p["isolated"] = isolated
        at = np.int64(p["next_position"])


@kernel
def apply_answer(t: Tables, r: Rows) -> None:
    """ANSWER: what a setting is now, where the answer is all that tells it."""
    if r["reason"] != Reason.NONE:
        return
    kind = r["status"]
    account = np.int64(r["account"])
    if kind == Kind.ACCOUNT:
        a = t.accounts[account]
        if t.account_times[account] == 0 and account >= 0:
            a["opened_ns"] = r["ts_ns"]
        a["state"] = r["value"]
        t.account_times[account] = r["ts_ns"]
    elif kind == Kind.LEVERAGE:
        set_leverage(t, account, r["symbol"], r["value"], -1)
    elif kind == Kind.MARGIN_TYPE:
        set_leverage(t, account, r["symbol"], 0, r["value"])
    elif kind == Kind.POSITION_MODE:
        t.accounts[account]["position_mode"] = r["value"]
        t.account_times[account] = r["ts_ns"]
    elif kind == Kind.VENUE_STATE:
        if (r["request"] >> 48) != 0:
            t.head[VENUE_STATE] = r["value"]
    elif kind == Kind.MARK:
        t.symbols[r["symbol"]]["mark_ticks"] = r["value"]
    elif kind == Kind.SYMBOL_STATE:
        t.symbols[r["symbol"]]["state"] = r["value"]


@kernel
def apply_request(t: Tables, r: Rows) -> None:
    """REQUEST: a withdrawal or adjustment under way; its row is free once it is over.

    What a withdrawal has set aside, and the fee it pays in the end, are told here; wallets in MOVE.
    """
    h = t.head
    status = r["status"]
    amount = r["amount_quanta"]
    kind = r["what"] & 0xFF
    w = t.wallets[r["account"] * h[ASSETS] + r["asset"]]
    asked = status == RequestStatus.REQUESTED
    over = status == RequestStatus.REJECTED or status == RequestStatus.SETTLED
    if kind == Kind.REQUEST_WITHDRAW:
        if asked:
            w["pending_quanta"] += amount
        elif over:
            w["pending_quanta"] -= amount
        if status == RequestStatus.SETTLED:
            fee = r["what"] >> 8
            w["withdrawn_quanta"] += amount - fee
            w["fees_quanta"] += fee
            t.wallets[FEE_ACCOUNT * h[ASSETS] + r["asset"]]["wallet_quanta"] += fee
    at = NIL
    free = NIL
    for k in range(h[REQUESTS_USED]):
        if t.requests[k]["request_id"] == r["request_id"]:
            at = k
            break
        if t.requests[k]["request_id"] == 0 and free == NIL:
            free = k
    if asked and at == NIL:
        at = free
        if at == NIL and h[REQUESTS_USED] < h[REQUESTS]:
            at = h[REQUESTS_USED]
            h[REQUESTS_USED] = at + 1
        if at == NIL:
            h[DROPPED] = h[DROPPED] + 1
            return
        q = t.requests[at]
        q["request_id"] = r["request_id"]
        q["amount_quanta"] = amount
        q["asset"] = r["asset"]
        q["principal"] = r["principal"]
        q["reference"] = r["reference"]
        q["account"] = r["account"]
        q["kind"] = kind
    if at == NIL:
        return
    t.requests[at]["status"] = status
    if over:
        t.requests[at]["request_id"] = 0


# ---------------------------------------------------------------- conditional orders


@kernel
def apply_algo(t: Tables, r: Rows) -> None:
    """ALGO: a conditional order after an event."""
    status = r["status"]
    if status == AlgoStatus.REFUSED:
        return
    row = find_algo(t, r["algo_id"])
    if row == NIL:
        if status != AlgoStatus.NEW:
            return
        row = take_algo_row(t)
        if row == NIL:
            return
        a = t.algos[row]
        a["algo_id"] = r["algo_id"]
        for k in range(5):
            a["client_id"][k] = 0
        a["expire_ns"] = 0
        a["activate_ticks"] = 0
        a["callback_ppm"] = 0
        a["created_ns"] = t.head[COMMAND_NS]
        a["order_id"] = 0
        a["account"] = r["account"]
        a["symbol"] = r["symbol"]
        a["side"] = r["side"]
        a["type"] = r["type"]
        a["tif"] = r["tif"]
        a["flags"] = r["flags"]
        a["stp"] = r["stp"]
        a["position_side"] = r["position_side"]
        a["working"] = r["working"]
        a["open"] = 1
        write_begin(t.versions, INDEXES)
        hashmap.put(t.algo_index, t.head[ALGO_BITS], r["algo_id"], row)
        write_end(t.versions, INDEXES)
        join(t.algos, t.account_algos, np.int64(r["account"]), row)
        t.accounts[r["account"]]["algo_count"] += 1
        t.head[OPEN_ALGOS] = t.head[OPEN_ALGOS] + 1
    a = t.algos[row]
    a["trigger_ticks"] = r["trigger_ticks"]
    a["price_ticks"] = r["price_ticks"]
    a["qty_lots"] = r["qty_lots"]
    a["order_id"] = r["order_id"]
    a["status"] = status
    a["reason"] = r["reason"]
    a["updated_ns"] = t.head[COMMAND_NS]
    if status == AlgoStatus.NEW or a["open"] == 0:
        return
    a["open"] = 0
    t.accounts[a["account"]]["algo_count"] -= 1
    t.head[OPEN_ALGOS] = t.head[OPEN_ALGOS] - 1
    leave(t.algos, t.account_algos, np.int64(a["account"]), row)
    keep_closed(t.algos, t.head, ALGOS_CLOSED_FIRST, ALGOS_CLOSED_LAST, row)
    if status == AlgoStatus.TRIGGERED and r["order_id"] > 0:
        order = find_order(t, r["order_id"])
        if order != NIL:
            was_algo(t, order, row)
        else:
            t.head[TRIGGERED_ORDER] = r["order_id"]
            t.head[TRIGGERED_ROW] = row


@kernel
def apply_liquidation(t: Tables, r: Rows) -> None:
    """LIQUIDATION: a step; it is over when it recovered or nothing is left open."""
    step = np.int64(r["status"])
    if step == LiquidationStep.RECOVERED or step == LiquidationStep.CLOSED:
        step = np.int64(LiquidationStep.NONE)
    if r["symbol"] == NO_SYMBOL:
        w = r["account"] * t.head[ASSETS] + (r["scope"] & 0xFFFF)
        t.wallets[w]["liquidation"] = step
    elif (r["scope"] >> 24) & 1:
        row = find_position(t, r["account"], r["symbol"], (r["scope"] >> 16) & 3)
        if row != NIL:
            t.positions[row]["liquidation"] = step


# ---------------------------------------------------------------- all of it


@kernel
def apply_reports(t: Tables, b: Batch, count: int) -> None:
    """Apply `count` reports, whole commands, and move SEQ and INDEX behind them."""
    h = t.head
    if count == 0:
        return
    write_begin(t.versions, BATCH)
    order_id = np.int64(0)  # of the EXEC just read
    for n in range(count):
        r = b.order[n]
        kind = r["kind"]
        account = np.int64(r["account"])
        h[COMMAND_SEQ] = r["seq"]
        # Every command's first report says when it was.
        if kind == ReportKind.ORDER or kind == ReportKind.ANSWER or kind == ReportKind.CHECKPOINT:
            h[COMMAND_NS] = r["ts_ns"]
        if account >= h[ACCOUNTS]:
            continue  # a refusal of somebody who doesn't exist
        if r["symbol"] >= h[SYMBOLS] and r["symbol"] != NO_SYMBOL:
            continue
        lock(t, account)
        if kind == ReportKind.ORDER:
            apply_order(t, r)
        elif kind == ReportKind.EXEC:
            order_id = b.exec[n]["order_id"]
            apply_exec(t, b.exec[n])
        elif kind == ReportKind.POSITION:
            apply_position(t, b.position[n], order_id)
        elif kind == ReportKind.HOLD:
            row = find_order(t, b.hold[n]["order_id"])
            if row != NIL and t.orders[row]["open"] == 1:
                set_hold(t, row, b.hold[n]["hold_quanta"], b.hold[n]["status"])
                t.orders[row]["close_lots"] = b.hold[n]["close_lots"]
        elif kind == ReportKind.FLIP:
            row = find_order(t, b.flip[n]["order_id"])
            if row != NIL and t.orders[row]["open"] == 1:
                set_hold(t, row, b.flip[n]["hold_quanta"], t.orders[row]["apart"])
                t.orders[row]["close_lots"] = b.flip[n]["close_lots"]
        elif kind == ReportKind.MARGIN:
            apply_margin(t, b.margin[n])
        elif kind == ReportKind.CLIENT_ID:
            apply_name(t, b.client_id[n])
        elif kind == ReportKind.WALLET:
            apply_wallet(t, b.wallet[n])
        elif kind == ReportKind.ANSWER:
            apply_answer(t, b.answer[n])
        elif kind == ReportKind.MOVE:
            apply_move(t, b.move[n])
        elif kind == ReportKind.FUNDING:
            apply_funding(t, b.funding[n])
        elif kind == ReportKind.PRICE:
            apply_price(t, b.price[n])
        elif kind == ReportKind.FUNDING_ROUND:
            set_next_funding(t, np.int64(r["symbol"]), b.funding_round[n]["next_ns"])
        elif kind == ReportKind.SYMBOL:
            s = t.symbols[r["symbol"]]
            s["state"] = b.symbol[n]["state"]
            s["mark_ticks"] = b.symbol[n]["mark_ticks"]
        elif kind == ReportKind.ALGO:
            apply_algo(t, b.algo[n])
        elif kind == ReportKind.TRAIL:
            row = find_algo(t, b.trail[n]["algo_id"])
            if row != NIL:
                t.algos[row]["activate_ticks"] = b.trail[n]["activate_ticks"]
                t.algos[row]["callback_ppm"] = b.trail[n]["callback_ppm"]
                t.algos[row]["expire_ns"] = b.trail[n]["expire_ns"]
        elif kind == ReportKind.EXPIRY:
            row = find_order(t, b.expiry[n]["order_id"])
            if row != NIL:
                t.orders[row]["expire_ns"] = b.expiry[n]["expire_ns"]
        elif kind == ReportKind.PARAMETERS:
            apply_parameters(t, b.words, n * _WORDS, np.int64(r["symbol"]), account)
        elif kind == ReportKind.REQUEST:
            apply_request(t, b.request[n])
        elif kind == ReportKind.LIQUIDATION:
            apply_liquidation(t, b.liquidation[n])
    unlock(t)
    h[INDEX] = h[INDEX] + count
    h[TS_NS] = h[COMMAND_NS]
    store_release(h, SEQ, h[COMMAND_SEQ])
    write_end(t.versions, BATCH)
