"""Reports to journal entries: every report that moves money or a claim becomes one balanced entry.

Reads   reports in order, each once: what was taken up before is left out by its index.
Writes  entries and legs at the end of their columns, balances of accounts, live orders' holds.
Never   decides: a report is a fact. One that says something else than the books is booked as it
        says, and noted as a break with its sequence number.

A trade comes as EXEC and POSITION, for each side; both together are one entry:

    Dr Clearing:PnL        R        Cr the wallet          R        realised profit (or turned)
    Dr the wallet          f        Cr TakerFee            f        (a rebate: Dr MakerRebate)
    Dr Position            lots     Cr PositionControl     lots     memorandum
    Dr PositionCost        cost     Cr PositionCostControl cost     memorandum
    Dr OrderHoldControl    h        Cr OrderHold           h        memorandum: hold given back

The wallet is the cross wallet, or the isolated position's own: the cross wallet's balance in the
report says which of them has moved. Legs of 0 are left out, and an entry without legs is none.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ledger import tables as t
from ledger.chart import (
    CHECK_COST,
    CHECK_FUNDING,
    CHECK_ISOLATED,
    CHECK_LOTS,
    CHECK_WALLET,
    CODE_SHIFT,
    CUSTODY,
    LEG_SHIFT,
    LOTS,
    SOURCE_SHIFT,
    SUB_SHIFT,
    Code,
    Event,
)
from ledger.tables import (
    Book,
    Reports,
    account_row,
    balance_of,
    open_order,
    order_row,
    remove_order,
)
from shm.codes import Cause, Move, ReportKind, RequestStatus, Side, Status
from shm.jit import inlined, kernel
from shm.pointers import Cells
from shm.records import NO_SYMBOL
from shm.units import (
    ADJUST_ACCOUNT,
    DUST_ACCOUNT,
    FEE_ACCOUNT,
    INSURANCE_ACCOUNT,
    SYSTEM_ACCOUNTS,
)

# What `post_reports` stops for.
DONE: Final = 0
SEGMENT: Final = 1  # the segment has no room for what one report may need
TABLES: Final = 2  # accounts, orders, traces or breaks have none
BLOCK: Final = 3  # a block is full, and the next report begins a command
ASIDE: Final = 4  # a PARAMETERS report: not for a kernel
FAULT: Final = 5  # cells FAULT and FAULT_KEY say what

LEGS_MAX: Final = 32  # of one report's entry
BLOCK_ENTRIES: Final = 1024

_AVAILABLE: Final = int(Code.AVAILABLE)
_PENDING: Final = int(Code.WITHDRAWAL_PENDING)
_MARGIN: Final = int(Code.POSITION_MARGIN)
_PNL: Final = int(Code.PNL_CLEARING)
_FUNDING: Final = int(Code.FUNDING_CLEARING)
_ROUNDING: Final = int(Code.ROUNDING)
_FUND: Final = int(Code.INSURANCE_FUND)
_DESK: Final = int(Code.VENUE_DESK)
_TAKER_FEE: Final = int(Code.TAKER_FEE)
_MAKER_FEE: Final = int(Code.MAKER_FEE)
_WITHDRAWAL_FEE: Final = int(Code.WITHDRAWAL_FEE)
_OTHER: Final = int(Code.OTHER_INCOME)
_REBATE: Final = int(Code.MAKER_REBATE)
_ADJUSTMENT: Final = int(Code.ADJUSTMENT)
_HOLD: Final = int(Code.ORDER_HOLD)
_HOLD_CONTROL: Final = int(Code.ORDER_HOLD_CONTROL)
_LOTS: Final = int(Code.POSITION_LOTS)
_LOTS_CONTROL: Final = int(Code.POSITION_LOTS_CONTROL)
_COST: Final = int(Code.POSITION_COST)
_COST_CONTROL: Final = int(Code.POSITION_COST_CONTROL)
_CLAIM: Final = int(Code.CLOSE_CLAIM)
_CLAIM_CONTROL: Final = int(Code.CLOSE_CLAIM_CONTROL)
_HOT: Final = int(CUSTODY[0])
_COLD: Final = int(CUSTODY[1])
_THIRD: Final = int(CUSTODY[2])
_FAUCET: Final = int(CUSTODY[3])
_ISOLATED: Final = 4  # bit of `status` of MARGIN and FUNDING


@inlined
def key_of(code: int, account: int, sub: int, leg: int) -> int:
    """As ledger.chart.pack."""
    high = (np.int64(code) << CODE_SHIFT) | (np.int64(leg) << LEG_SHIFT)
    return high | (np.int64(sub) << SUB_SHIFT) | np.int64(account)


# ---------------------------------------------------------------- one entry


@kernel
def begin_entry(
    b: Book, event: int, account: int, symbol: int, order_id: int, reference: int
) -> None:
    """Start an entry of the command in hand; `leg` adds to it, `end_entry` counts it."""
    c = b.cells
    e = b.entries[c[t.ENTRIES] - c[t.FIRST_ENTRY]]
    e["seq"] = c[t.SEQ]
    e["recorded_ns"] = c[t.TS_NS]
    e["effective_ns"] = c[t.TS_NS]
    e["report"] = c[t.REPORTS]
    e["order_id"] = order_id
    e["reference"] = reference
    e["first_leg"] = c[t.LEGS] - c[t.FIRST_LEG]
    e["account"] = account
    e["symbol"] = symbol
    e["event"] = event
    e["leg_count"] = 0
    c[t.LEG_ENTRY] = c[t.LEGS]


@kernel
def leg(b: Book, key: int, commodity: int, amount: int) -> None:
    """Add a leg: a debit is positive. Nothing happens for 0."""
    c = b.cells
    if amount == 0 or c[t.FAULT] != 0:
        return
    row = account_row(b, key, commodity)
    a = b.accounts[row]
    balance = a["balance"]
    if (amount > 0 and balance > t.INT64_MAX - amount) or (
        amount < 0 and balance < -t.INT64_MAX - amount
    ):
        c[t.FAULT] = t.OVERFLOW
        c[t.FAULT_KEY] = key
        return
    n = c[t.LEGS]
    at = n - c[t.FIRST_LEG]
    b.leg_account[at] = row
    b.leg_amount[at] = amount
    b.leg_balance[at] = balance + amount
    b.leg_before[at] = a["last_leg"]
    a["balance"] = balance + amount
    a["last_leg"] = n
    c[t.LEGS] = n + 1


@kernel
def pair(b: Book, debit: int, credit: int, commodity: int, amount: int) -> None:
    """Two legs of one amount; a negative one turns the sides."""
    leg(b, debit, commodity, amount)
    leg(b, credit, commodity, -amount)


@kernel
def _clear_entry(b: Book) -> None:
    """Take back what `begin_entry` wrote: behind the last entry there are zeros."""
    e = b.entries[b.cells[t.ENTRIES] - b.cells[t.FIRST_ENTRY]]
    e["seq"] = 0
    e["recorded_ns"] = 0
    e["effective_ns"] = 0
    e["report"] = 0
    e["order_id"] = 0
    e["reference"] = 0
    e["first_leg"] = 0
    e["account"] = 0
    e["symbol"] = 0
    e["event"] = 0


@kernel
def end_entry(b: Book) -> bool:
    """Count the entry begun, if it has legs. Each commodity's legs must sum to 0."""
    c = b.cells
    first = c[t.LEG_ENTRY] - c[t.FIRST_LEG]
    count = c[t.LEGS] - c[t.LEG_ENTRY]
    if count == 0:
        _clear_entry(b)
        return False
    if c[t.FAULT] != 0:
        return False
    for k in range(first, first + count):
        commodity = b.accounts[b.leg_account[k]]["commodity"]
        total = b.leg_amount[k]
        for m in range(first, first + count):
            if m != k and b.accounts[b.leg_account[m]]["commodity"] == commodity:
                total = total + b.leg_amount[m]
        assert total == 0, "an entry does not balance"
    b.entries[c[t.ENTRIES] - c[t.FIRST_ENTRY]]["leg_count"] = count
    c[t.ENTRIES] = c[t.ENTRIES] + 1
    if c[t.TRACE_SEQ] == c[t.SEQ] and c[t.TRACE_SEQ] != 0:
        x = b.traces[c[t.TRACES]]
        x["seq"] = c[t.SEQ]
        x["trace_hi"] = c[t.TRACE_HI]
        x["trace_lo"] = c[t.TRACE_LO]
        x["order_id"] = c[t.TRACE_ORDER]
        c[t.TRACES] = c[t.TRACES] + 1
        c[t.TRACE_SEQ] = 0
    return True


@kernel
def note_break(
    b: Book, check: int, account: int, symbol: int, key: int, expected: int, found: int
) -> None:
    """A report and the books differ."""
    c = b.cells
    if c[t.BREAKS] < c[t.ROOM_BREAKS]:
        x = b.breaks[c[t.BREAKS]]
        x["seq"] = c[t.SEQ]
        x["report"] = c[t.REPORTS]
        x["key"] = key
        x["expected"] = expected
        x["found"] = found
        x["check"] = check
        x["account"] = account
        x["symbol"] = symbol
        x["reserved"] = 0
        x["reserved2"] = 0
    c[t.BREAKS] = c[t.BREAKS] + 1


# ---------------------------------------------------------------- whose money


@inlined
def wallet_key(account: int, asset: int) -> int:
    """The account of the books that holds a cross wallet (ledger.chart.wallet_code)."""
    code = _DESK
    if account >= SYSTEM_ACCOUNTS:
        code = _AVAILABLE
    elif account == FEE_ACCOUNT:
        code = _OTHER
    elif account == INSURANCE_ACCOUNT:
        code = _FUND
    elif account == DUST_ACCOUNT:
        code = _ROUNDING
    elif account == ADJUST_ACCOUNT:
        code = _ADJUSTMENT
    return key_of(code, account, asset, 0)


@inlined
def told_wallet(account: int) -> bool:
    """Whether one account of the books, and pending withdrawals, are all of this wallet."""
    return account >= SYSTEM_ACCOUNTS or account in (INSURANCE_ACCOUNT, DUST_ACCOUNT)


@kernel
def wallet_balance(b: Book, account: int, asset: int) -> int:
    """What the books say the engine's cross wallet is."""
    held = balance_of(b, wallet_key(account, asset))
    return -held - balance_of(b, key_of(_PENDING, account, asset, 0))


@kernel
def check_wallet(b: Book, account: int, symbol: int, asset: int, told: int) -> None:
    """Compare a wallet that a report names with the books."""
    if told_wallet(account):
        found = wallet_balance(b, account, asset)
        if found != told:
            note_break(b, CHECK_WALLET, account, symbol, wallet_key(account, asset), told, found)


@inlined
def custody_key(source: int, asset: int) -> int:
    """Where the money of a deposit lies."""
    where = (source >> SOURCE_SHIFT) & 0x7F
    code = _HOT
    if where == 1:
        code = _COLD
    elif where == 2:
        code = _THIRD
    elif where == 3:
        code = _FAUCET
    return key_of(code, 0, asset, 0)


# ---------------------------------------------------------------- orders


@kernel
def move_hold(b: Book, at: int, hold: int) -> None:
    """Set what an order holds; legs for the difference."""
    o = b.orders[at]
    asset = b.symbols[o["symbol"]]["asset"]
    change = hold - o["hold_quanta"]
    o["hold_quanta"] = hold
    own = key_of(_HOLD, o["account"], asset, 0)
    pair(b, own, key_of(_HOLD_CONTROL, 0, asset, 0), asset, change)


@kernel
def move_claim(b: Book, at: int, lots: int) -> None:
    """Set what an order claims of its position; legs for the difference."""
    o = b.orders[at]
    change = lots - o["close_lots"]
    o["close_lots"] = lots
    symbol = o["symbol"]
    own = key_of(_CLAIM, o["account"], symbol, o["position_side"])
    pair(b, own, key_of(_CLAIM_CONTROL, 0, symbol, 0), LOTS | np.int64(symbol), change)


@kernel
def known_order(b: Book, order_id: int, account: int, symbol: int, side: int) -> int:
    """Row of an order; one that was never heard of is entered."""
    at = order_row(b, order_id)
    if b.orders[at]["order_id"] == 0:
        open_order(b, at, order_id, account, symbol, side)
    return at


@kernel
def post_order(b: Book, r: Reports, i: int) -> None:
    """ORDER: one that has ended gives back what it held and claimed."""
    x = r.orders[i]
    b.cells[t.TS_NS] = x["ts_ns"]
    status = np.int64(x["status"])
    at = order_row(b, x["order_id"])
    if status == Status.NEW and x["position_side"] != 0 and b.orders[at]["order_id"] == 0:
        # HOLD does not say which leg of the position the order claims.
        open_order(b, at, x["order_id"], x["account"], x["symbol"], x["position_side"])
    if status != Status.CANCELED and status != Status.EXPIRED and status != Status.FILLED:
        return
    if b.orders[at]["order_id"] == 0:
        return
    begin_entry(b, Event.RELEASE, x["account"], x["symbol"], x["order_id"], 0)
    move_hold(b, at, 0)
    move_claim(b, at, 0)
    end_entry(b)
    remove_order(b, at)


@kernel
def post_hold(b: Book, r: Reports, i: int) -> None:
    """HOLD: what an order holds and claims after it changed."""
    x = r.holds[i]
    at = order_row(b, x["order_id"])
    if b.orders[at]["order_id"] == 0:
        if x["hold_quanta"] == 0 and x["close_lots"] == 0:
            return
        open_order(b, at, x["order_id"], x["account"], x["symbol"], 0)
    event = Event.HOLD if x["hold_quanta"] >= b.orders[at]["hold_quanta"] else Event.RELEASE
    begin_entry(b, event, x["account"], x["symbol"], x["order_id"], 0)
    move_hold(b, at, x["hold_quanta"])
    move_claim(b, at, x["close_lots"])
    end_entry(b)
    if x["open_lots"] == 0:
        remove_order(b, at)


@kernel
def post_flip(b: Book, r: Reports, i: int) -> None:
    """FLIP: a claim changed kind; what it claimed of the position now holds money, or the reverse.

    The thief's order is the reference.
    """
    x = r.flips[i]
    at = known_order(b, x["order_id"], x["account"], x["symbol"], 0)
    begin_entry(b, Event.CLAIM_FLIP, x["account"], x["symbol"], x["order_id"], x["thief_order_id"])
    before = b.orders[at]["close_lots"]
    told = x["close_lots"] + (x["lots"] if x["status"] != 1 else -x["lots"])
    if before != told:
        # Its claim was never reported by itself: the flip says what it was.
        b.orders[at]["close_lots"] = told
        pair(
            b,
            key_of(_CLAIM, x["account"], x["symbol"], b.orders[at]["position_side"]),
            key_of(_CLAIM_CONTROL, 0, x["symbol"], 0),
            LOTS | np.int64(x["symbol"]),
            told - before,
        )
    move_hold(b, at, x["hold_quanta"])
    move_claim(b, at, x["close_lots"])
    end_entry(b)


# ---------------------------------------------------------------- trades


@inlined
def _fill_event(cause: int, before: int, signed: int) -> int:
    if cause == Cause.LIQUIDATION:
        return Event.LIQUIDATION_FILL
    if cause == Cause.TAKEOVER:
        return Event.TAKEOVER
    if cause == Cause.ADL:
        return Event.ADL
    if cause == Cause.DELIST:
        return Event.DELIST
    if before == 0 or (before > 0) == (signed > 0):
        return Event.FILL_OPEN
    return Event.FILL_REDUCE if abs(signed) <= abs(before) else Event.FILL_FLIP


@kernel
def post_exec(b: Book, r: Reports, i: int) -> None:
    """EXEC: kept until its POSITION, the next report, says what it came to."""
    x = r.execs[i]
    c = b.cells
    c[t.EXEC_SEQ] = x["seq"]
    c[t.EXEC_ORDER] = x["order_id"]
    c[t.EXEC_TRADE] = x["trade_id"]
    c[t.EXEC_PRICE] = x["price_ticks"]
    c[t.EXEC_LOTS] = x["lots"]
    c[t.EXEC_OPEN] = x["open_lots"]
    c[t.EXEC_FEE] = x["fee_quanta"]


@kernel
def post_fill(b: Book, r: Reports, i: int) -> None:
    """POSITION, after its EXEC: one side of a trade."""
    x = r.positions[i]
    c = b.cells
    account = x["account"]
    symbol = x["symbol"]
    status = np.int64(x["status"])
    s = b.symbols[symbol]
    if s["declared"] == 0:
        c[t.FAULT] = t.UNKNOWN_SYMBOL
        c[t.FAULT_KEY] = symbol
        return
    asset = s["asset"]
    side = (status >> 5) & 3
    assert c[t.EXEC_SEQ] == x["seq"] and c[t.EXEC_TRADE] == x["trade_id"]
    signed = -c[t.EXEC_LOTS] if (status >> 1) & 1 == Side.SELL else c[t.EXEC_LOTS]
    lots_key = key_of(_LOTS, account, symbol, side)
    cost_key = key_of(_COST, account, symbol, side)
    before = balance_of(b, lots_key)
    cost = balance_of(b, cost_key)
    realised = x["realised_quanta"]
    fee = c[t.EXEC_FEE]
    order_id = c[t.EXEC_ORDER]
    begin_entry(
        b,
        _fill_event((status >> 2) & 7, before, signed),
        account,
        symbol,
        order_id,
        x["trade_id"],
    )
    # An isolated position settles in its own wallet: the cross wallet has not moved.
    pocket = wallet_key(account, asset)
    if told_wallet(account) and x["wallet_quanta"] == wallet_balance(b, account, asset):
        pocket = key_of(_MARGIN, account, symbol, side) if realised != fee else pocket
    pair(b, key_of(_PNL, 0, symbol, 0), pocket, asset, realised)
    if fee > 0:
        income = _TAKER_FEE if status & 1 else _MAKER_FEE
        pair(b, pocket, key_of(income, FEE_ACCOUNT, symbol, 0), asset, fee)
    elif fee < 0:
        pair(b, key_of(_REBATE, FEE_ACCOUNT, symbol, 0), pocket, asset, -fee)
    change = x["position_lots"] - before
    pair(b, lots_key, key_of(_LOTS_CONTROL, 0, symbol, 0), LOTS | np.int64(symbol), change)
    value = x["entry_quanta"] - cost
    pair(b, cost_key, key_of(_COST_CONTROL, 0, symbol, 0), asset, value)
    if order_id != 0:
        at = order_row(b, order_id)
        if b.orders[at]["order_id"] == 0 and c[t.EXEC_OPEN] != 0:
            open_order(b, at, order_id, account, symbol, side)
        if b.orders[at]["order_id"] != 0:
            move_hold(b, at, x["hold_quanta"] if c[t.EXEC_OPEN] != 0 else 0)
            move_claim(b, at, _claim_left(b.orders[at]["close_lots"], before, signed, c))
            if c[t.EXEC_OPEN] == 0:
                remove_order(b, at)
    end_entry(b)
    c[t.TRADES] = c[t.TRADES] + 1
    c[t.TRADE_LOTS] = c[t.TRADE_LOTS] + c[t.EXEC_LOTS]
    if change != signed:
        note_break(b, CHECK_LOTS, account, symbol, lots_key, x["position_lots"], before + signed)
    paid = signed * c[t.EXEC_PRICE] * s["tick_lot_quanta"] + realised
    if value != paid:
        note_break(b, CHECK_COST, account, symbol, cost_key, x["entry_quanta"], cost + paid)
    check_wallet(b, account, symbol, asset, x["wallet_quanta"])


@inlined
def _claim_left(claimed: int, before: int, signed: int, c: Cells) -> int:
    """An order's close claim after a fill: what closes comes out of it first, the rest when the
    order has nothing else left (engine/claims.py, `consume`)."""
    closing = 0
    if (before > 0) != (signed > 0):
        closing = min(abs(before), abs(signed))
    return min(claimed - min(closing, claimed), c[t.EXEC_OPEN])


# ---------------------------------------------------------------- money without a trade


@kernel
def post_wallet(b: Book, r: Reports, i: int) -> None:
    """WALLET: a deposit, or a withdrawal at once. The reference is its source."""
    x = r.wallets[i]
    account = x["account"]
    asset = x["asset"]
    amount = x["amount_quanta"]
    event = Event.DEPOSIT if amount > 0 else Event.WITHDRAW
    # What the owners put in or take out is not income.
    own = key_of(_DESK, account, asset, 0) if account == FEE_ACCOUNT else wallet_key(account, asset)
    begin_entry(b, event, account, NO_SYMBOL, 0, x["source"])
    pair(b, custody_key(x["source"], asset), own, asset, amount)
    end_entry(b)
    check_wallet(b, account, NO_SYMBOL, asset, x["wallet_quanta"])


@kernel
def post_funding(b: Book, r: Reports, i: int) -> None:
    """FUNDING: one position paid or received. The reference is the funding time."""
    x = r.fundings[i]
    account = x["account"]
    symbol = x["symbol"]
    asset = b.symbols[symbol]["asset"]
    pocket = wallet_key(account, asset)
    isolated = x["status"] & _ISOLATED != 0
    if isolated:
        pocket = key_of(_MARGIN, account, symbol, x["status"] & 3)
    begin_entry(b, Event.FUNDING, account, symbol, 0, x["funding_ns"])
    pair(b, key_of(_FUNDING, 0, symbol, 0), pocket, asset, x["amount_quanta"])
    end_entry(b)
    if isolated:
        check_isolated(b, account, symbol, x["status"] & 3, x["wallet_quanta"])
    else:
        check_wallet(b, account, symbol, asset, x["wallet_quanta"])


@kernel
def check_isolated(b: Book, account: int, symbol: int, side: int, told: int) -> None:
    """Compare an isolated wallet that a report names with the books."""
    key = key_of(_MARGIN, account, symbol, side)
    found = -balance_of(b, key)
    if found != told:
        note_break(b, CHECK_ISOLATED, account, symbol, key, told, found)


@kernel
def post_round(b: Book, r: Reports, i: int) -> None:
    """FUNDING_ROUND: the dust was moved before its end, so nothing is left in funding clearing."""
    x = r.rounds[i]
    if x["status"] == 0:
        return
    symbol = x["symbol"]
    clearing = key_of(_FUNDING, 0, symbol, 0)
    left = balance_of(b, clearing)
    if left != 0:
        note_break(b, CHECK_FUNDING, DUST_ACCOUNT, symbol, clearing, 0, left)


@inlined
def _move_event(move: int) -> int:
    if move == Move.ISOLATE:
        return Event.ISOLATE
    if move == Move.RELEASE:
        return Event.UNISOLATE
    if move == Move.TRANSFER:
        return Event.TRANSFER
    if move == Move.CLEARANCE:
        return Event.CLEARANCE
    if move == Move.LEFTOVER:
        return Event.LEFTOVER
    if move == Move.BAD_DEBT:
        return Event.BAD_DEBT
    if move == Move.DUST:
        return Event.FUNDING_DUST
    if move == Move.ADJUST:
        return Event.ADJUST
    if move == Move.WITHDRAW_HOLD:
        return Event.WITHDRAW_REQUEST
    if move == Move.WITHDRAW_RETURN:
        return Event.WITHDRAW_RETURN
    return Event.WITHDRAW_SETTLE


@kernel
def post_move(b: Book, r: Reports, i: int) -> None:
    """MOVE: between pockets of one account, or between accounts, or out of the venue."""
    x = r.moves[i]
    move = x["status"]
    account = x["account"]
    other = x["other_account"]
    symbol = x["symbol"]
    asset = x["pocket"] & 0xFFFF
    side = (x["pocket"] >> 16) & 3
    amount = x["amount_quanta"]
    own = wallet_key(account, asset)
    pending = key_of(_PENDING, account, asset, 0)
    begin_entry(b, _move_event(move), account, symbol, 0, x["reference"])
    if move == Move.ISOLATE or move == Move.RELEASE:
        pair(b, key_of(_MARGIN, account, symbol, side), own, asset, amount)
        end_entry(b)
        check_isolated(b, account, symbol, side, x["other_quanta"])
    elif move == Move.DUST:
        pair(b, key_of(_FUNDING, 0, symbol, 0), own, asset, amount)
        end_entry(b)
    elif move == Move.WITHDRAW_HOLD:
        pair(b, own, pending, asset, abs(amount))
        end_entry(b)
    elif move == Move.WITHDRAW_RETURN:
        pair(b, pending, own, asset, abs(amount))
        end_entry(b)
    elif move == Move.WITHDRAW_SETTLE:
        settled = b.cells[t.REQUEST_SEQ] == x["seq"]
        fee = b.cells[t.REQUEST_FEE] if settled else 0
        where = b.cells[t.REQUEST_WHERE] if settled else 0
        leg(b, pending, asset, abs(amount))
        leg(b, custody_key(where, asset), asset, fee - abs(amount))
        leg(b, key_of(_WITHDRAWAL_FEE, FEE_ACCOUNT, asset, 0), asset, -fee)
        end_entry(b)
    else:
        pair(b, wallet_key(other, asset), own, asset, amount)
        end_entry(b)
        check_wallet(b, other, symbol, asset, x["other_quanta"])
    check_wallet(b, account, symbol, asset, x["wallet_quanta"])


@kernel
def post_request(b: Book, r: Reports, i: int) -> None:
    """REQUEST: the money of one is told by MOVE; a settled one says here what its fee is, and where
    the rest of it went."""
    x = r.requests[i]
    if x["status"] == RequestStatus.SETTLED:
        b.cells[t.REQUEST_SEQ] = x["seq"]
        b.cells[t.REQUEST_FEE] = x["what"] >> 8
        b.cells[t.REQUEST_WHERE] = x["reference"]


# ---------------------------------------------------------------- the stream


@kernel
def post_report(b: Book, r: Reports, i: int, kind: int) -> None:
    """One report that is not for Python."""
    if kind == ReportKind.ORDER:
        post_order(b, r, i)
    elif kind == ReportKind.EXEC:
        post_exec(b, r, i)
    elif kind == ReportKind.POSITION:
        post_fill(b, r, i)
    elif kind == ReportKind.HOLD:
        post_hold(b, r, i)
    elif kind == ReportKind.FLIP:
        post_flip(b, r, i)
    elif kind == ReportKind.MARGIN:
        x = r.margins[i]
        if x["status"] & _ISOLATED != 0:
            check_isolated(b, x["account"], x["symbol"], x["status"] & 3, x["isolated_quanta"])
    elif kind == ReportKind.WALLET:
        post_wallet(b, r, i)
    elif kind == ReportKind.FUNDING:
        post_funding(b, r, i)
    elif kind == ReportKind.FUNDING_ROUND:
        post_round(b, r, i)
    elif kind == ReportKind.MOVE:
        post_move(b, r, i)
    elif kind == ReportKind.REQUEST:
        post_request(b, r, i)
    elif kind == ReportKind.ANSWER:
        b.cells[t.TS_NS] = r.answers[i]["ts_ns"]
    elif kind == ReportKind.TRACE:
        x = r.traces[i]
        b.cells[t.TRACE_SEQ] = x["seq"]
        b.cells[t.TRACE_HI] = x["trace_hi"]
        b.cells[t.TRACE_LO] = x["trace_lo"]
        b.cells[t.TRACE_ORDER] = x["order_id"]
    elif kind == ReportKind.CHECKPOINT:
        b.cells[t.TS_NS] = r.checkpoints[i]["ts_ns"]
        b.cells[t.CLOSE_BLOCK] = 1


@kernel
def post_reports(b: Book, r: Reports, first: int, count: int) -> int:
    """Book reports [first, count) of a batch; stops where something has to be done first.

    returns   DONE, or why it stopped: the report at index REPORTS is the next one then
    """
    c = b.cells
    base = c[t.REPORTS] - first
    for i in range(first, count):
        if (
            c[t.ENTRIES] - c[t.FIRST_ENTRY] >= c[t.ROOM_ENTRIES]
            or c[t.LEGS] - c[t.FIRST_LEG] + LEGS_MAX > c[t.ROOM_LEGS]
        ):
            return SEGMENT
        if (
            c[t.ACCOUNTS] + LEGS_MAX > c[t.ACCOUNT_ROOM]
            or 2 * c[t.ORDERS] >= 1 << c[t.ORDER_BITS]
            or c[t.TRACES] >= c[t.ROOM_TRACES]
            or c[t.BREAKS] >= c[t.ROOM_BREAKS]
        ):
            return TABLES
        seq = r.words[i * 8]
        if seq != c[t.SEQ]:
            if seq < c[t.SEQ]:
                c[t.FAULT] = t.DISORDER
                c[t.FAULT_KEY] = seq
                return FAULT
            open_entries = c[t.ENTRIES] - c[t.BLOCK_ENTRY]
            if open_entries > 0 and (c[t.CLOSE_BLOCK] != 0 or open_entries >= c[t.SPAN]):
                return BLOCK
            c[t.CLOSE_BLOCK] = 0
            c[t.SEQ] = seq
        kind = r.orders[i]["kind"]
        if kind == ReportKind.PARAMETERS:
            return ASIDE
        post_report(b, r, i, kind)
        if c[t.FAULT] != 0:
            return FAULT
        c[t.REPORTS] = base + i + 1
    return DONE
