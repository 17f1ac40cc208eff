"""Stage 2 of 7, risk: decide every command in sequence order, and hold what it may cost.

Reads   the commands ring up to SEQUENCED, and the tables it owns together with settlement.
Writes  line 3 of the slot (reason, route, slot, limits), claims and holds; RISKED.
Never   touches a book, money of a trade, or a clock; never runs between two matches of one command.

What it sees of earlier commands is what settlement has finished: that point is written into the
slot (`settled_seq`), kept in the WAL and reproduced by replay, which is all that determinism needs.
Checks run in the order of codes.Reason; a rejected command changes nothing but its producer's
number.
"""

from __future__ import annotations

from typing import Final

from engine import (
    algos,
    clients,
    contracts,
    countdown,
    delisting,
    digests,
    funding,
    hashmap,
    notes,
    requests,
    settings,
)
from engine.brackets import decide_bracket
from engine.checks import zero
from engine.commands import WORDS, Commands
from engine.liquidation import decide_liquidate, decide_liquidation_order
from engine.listings import decide_account, decide_asset, decide_mark, decide_state, decide_symbol
from engine.orders import (
    decide_amend,
    decide_cancel,
    decide_cancel_all,
    decide_expire,
    decide_place,
)
from engine.positions import position_key
from engine.setup import ASSETS, COMMAND_MASK, ORDER_BITS, POSITION_BITS, SYMBOLS
from engine.state import Risk
from engine.takeover import decide_takeover
from engine.transfers import decide_transfer
from shm.arithmetic import wide
from shm.atomics import load_acquire, prefetch, prefetch_line, store_release, unlikely
from shm.codes import Kind, Reason, Route
from shm.cursors import RISKED, SEQUENCED
from shm.jit import PLAIN, inlined, kernel, spliced
from shm.pointers import Cells
from shm.units import NIL, PRODUCER_SHIFT, PRODUCERS_MAX, REQUEST_NUMBER_MAX

# Bit k: commands of kind k have none of an order's codes (side, type, tif, flags, stp, leg).
_CODELESS: Final = sum(
    1 << kind
    for kind in (
        *(Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL, Kind.CANCEL_ALGOS, Kind.TICK, Kind.SAMPLE),
        *(Kind.LEVERAGE, Kind.COUNTDOWN, Kind.MARGIN_TYPE, Kind.POSITION_MODE, Kind.FEE_RATES),
        *(Kind.DEPOSIT, Kind.WITHDRAW, Kind.ASSET, Kind.ACCOUNT, Kind.SYMBOL, Kind.SYMBOL_STATE),
        *(Kind.VENUE_STATE, Kind.MARK, Kind.CONTRACT, Kind.BRACKET, Kind.SOURCE),
        *(Kind.SOURCE_PRICE, Kind.SETTLE_SYMBOL),
    )
)
# Bit k: they have no payload either.
_BARE: Final = sum(
    1 << kind for kind in (Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL, Kind.CANCEL_ALGOS, Kind.TICK)
)
_CODES: Final = (1 << 48) - 1  # of word 7, behind the kind
_WARM_LEAST: Final = 3  # a batch of fewer has nothing to gain
_WARM_MOST: Final = 16  # commands at once: the rows of more push each other out of the first cache


@inlined
def _says_more(cs: Commands, at: int, kind: int) -> bool:
    """Whether a client's command carries what its kind has no use for, and may get one: codes of an
    order, or a payload where there is none. What a cancel or amend says of its order isn't read."""
    if (cs.base[at]["request"] >> PRODUCER_SHIFT) == 0 or kind >= 64:
        return False
    if (_CODELESS >> wide(kind)) & 1 and (cs.words[at * WORDS + 7] >> 8) & _CODES != 0:
        return True
    return ((_BARE >> wide(kind)) & 1) != 0 and not (
        zero(cs.words, at, 3, 5) and zero(cs.words, at, 8, 15)
    )


@inlined
def _take_number(r: Risk, cs: Commands, at: int) -> int:
    """The envelope: a producer's numbers only grow, so that nothing is taken twice."""
    c = cs.base[at]
    request = c["request"]
    producer = request >> PRODUCER_SHIFT
    if unlikely(producer < 0 or producer >= PRODUCERS_MAX):
        return Reason.MALFORMED
    if producer == 0:
        return Reason.NONE  # the engine itself
    number = request & REQUEST_NUMBER_MAX
    p = r.producers[producer]
    if unlikely(number <= p["last_number"]):
        # Which command an older number became, nobody remembers.
        c["risk_note"] = p["last_seq"] if number == p["last_number"] else 0
        return Reason.DUPLICATE_REQUEST
    p["last_number"] = number
    p["last_seq"] = c["seq"]
    return Reason.NONE


@spliced
def decide(r: Risk, setup: Cells, cs: Commands, at: int) -> None:
    """Fill line 3 of the command in slot `at`. The views are one memory, read by kind."""
    c = cs.base[at]
    v = r.venue[0]
    v["ts_ns"] = c["ts_ns"]
    c["decided_order_id"] = 0
    c["limit_ticks"] = 0
    c["decided_lots"] = 0
    c["slot"] = NIL
    c["position"] = NIL
    c["route"] = Route.NOWHERE
    c["order_tif"] = 0
    c["order_stp"] = 0
    c["end_reason"] = 0
    c["finding"] = 0
    c["risk_held_quanta"] = 0
    c["risk_note"] = 0
    kind = c["kind"]
    if unlikely(algos.ends_some(kind)):
        c["decided_lots"] = NIL
    reason = _take_number(r, cs, at)
    if reason == Reason.NONE and unlikely(digests.is_signed(cs.words, at, c)):
        c["risk_note"] = digests.take(r, setup, cs.words, at, c)
        if c["risk_note"] != 0:
            reason = Reason.REPLAYED
    if reason == Reason.NONE and kind > Kind.REDUCE and _says_more(cs, at, kind):
        reason = Reason.MALFORMED
    if reason == Reason.NONE:
        if kind <= Kind.REDUCE:
            # Out of the long list below, which becomes a table of places to jump to: of one jump to
            # three places the processor foresees less than of two to two.
            if kind == Kind.AMEND:
                reason = decide_amend(r, setup, cs, at)
            elif kind == Kind.PLACE:
                reason = decide_place(r, setup, cs, at)
            elif kind == Kind.NONE:
                reason = Reason.UNKNOWN_KIND
            else:
                reason = decide_cancel(r, setup, cs, at)
        elif kind == Kind.TRIGGER:
            reason = algos.open_trigger(r, setup, cs, at)
            if reason == Reason.NONE:
                reason = decide_place(r, setup, cs, at)
            algos.close_trigger(r, setup, cs, at, reason)
        elif kind == Kind.CANCEL_ALL or kind == Kind.CANCEL_SYMBOL:
            reason = decide_cancel_all(r, setup, cs, at)
        elif kind == Kind.EXPIRE:
            reason = decide_expire(r, setup, cs, at)
        elif kind == Kind.TICK:
            v["tick_ns"] = c["ts_ns"]
            clients.forget_past(r, setup)
        elif kind == Kind.CHECKPOINT:
            cs.checkpoints[at]["reports_digest"] = v["reports_digest"]
            cs.checkpoints[at]["reports_count"] = v["reports_count"]
        elif kind == Kind.DEPOSIT or kind == Kind.WITHDRAW:
            reason = decide_transfer(r, setup, cs, at)
        elif kind == Kind.ASSET:
            reason = decide_asset(r, setup, cs, at)
        elif kind == Kind.ACCOUNT:
            reason = decide_account(r, setup, cs, at)
        elif kind == Kind.SYMBOL:
            reason = decide_symbol(r, setup, cs, at)
        elif kind == Kind.LEVERAGE:
            reason = settings.decide_leverage(r, setup, cs, at)
        elif kind == Kind.MARGIN_TYPE:
            reason = settings.decide_margin_type(r, setup, cs, at)
        elif kind == Kind.POSITION_MODE:
            reason = settings.decide_position_mode(r, setup, cs, at)
        elif kind == Kind.POSITION_MARGIN:
            reason = settings.decide_position_margin(r, setup, cs, at)
        elif kind == Kind.FEE_RATES:
            reason = settings.decide_fees(r, setup, cs, at)
        elif kind == Kind.SYMBOL_STATE or kind == Kind.VENUE_STATE:
            reason = decide_state(r, setup, cs, at)
        elif kind == Kind.MARK:
            reason = decide_mark(r, setup, cs, at)
        elif kind == Kind.PLACE_ALGO:
            reason = algos.decide_place_algo(r, setup, cs, at)
        elif kind == Kind.CANCEL_ALGO:
            reason = algos.decide_cancel_algo(r, setup, cs, at)
        elif kind == Kind.CANCEL_ALGOS:
            reason = algos.decide_cancel_algos(r, setup, cs, at)
        elif kind == Kind.COUNTDOWN:
            reason = countdown.decide_countdown(r, setup, cs, at)
        elif kind == Kind.REQUEST_WITHDRAW or kind == Kind.REQUEST_ADJUST or kind == Kind.TRANSFER:
            reason = requests.decide_request(r, setup, cs, at)
        elif kind >= Kind.APPROVE and kind <= Kind.SETTLE_WITHDRAW:
            reason = requests.decide_verdict(r, setup, cs, at)
        elif kind == Kind.SETTLE_SYMBOL:
            reason = delisting.decide_settle(r, setup, cs, at)
        elif kind == Kind.DELIST:
            reason = delisting.decide_delist(r, setup, cs, at)
        elif kind == Kind.BOOKKEEPING or kind == Kind.AUDIT or kind == Kind.UPGRADE:
            reason = notes.decide_note(r, setup, cs, at)
        elif kind == Kind.CONTRACT:
            reason = contracts.decide_contract(r, setup, cs, at)
        elif kind == Kind.SOURCE:
            reason = contracts.decide_source(r, setup, cs, at)
        elif kind == Kind.SOURCE_PRICE:
            reason = contracts.decide_source_price(r, setup, cs, at)
        elif kind == Kind.SAMPLE:
            reason = contracts.decide_sample(r, setup, cs, at)
        elif kind == Kind.FUNDING:
            reason = funding.decide_funding(r, cs, at)
        elif kind == Kind.BRACKET:
            reason = decide_bracket(r, setup, cs, at)
        elif kind == Kind.LIQUIDATE:
            reason = decide_liquidate(r, setup, cs, at)
        elif kind == Kind.LIQUIDATION_ORDER:
            reason = decide_liquidation_order(r, setup, cs, at)
        elif kind == Kind.TAKEOVER:
            reason = decide_takeover(r, setup, cs, at)
        elif kind == Kind.REFUSED:
            reason = Reason.FORBIDDEN
        else:
            reason = Reason.UNKNOWN_KIND
    c["reason"] = reason
    v["risked_seq"] = c["seq"]


@inlined
def warm(r: Risk, setup: Cells, cs: Commands, first: int, last: int) -> None:
    """Ask for the rows that commands first..last will be decided and settled by.

    With more than a few hundred orders and accounts nearly every row is out of the first-level
    cache, and each leads to the next: order id -> claim, (account, symbol) -> position. Asked for
    together, before the first is decided, they arrive together.
    """
    mask = setup[COMMAND_MASK]
    orders = setup[ORDER_BITS]
    legs = setup[POSITION_BITS]
    for seq in range(first, last + 1):
        c = cs.base[seq & mask]
        account = wide(c["account"])
        symbol = wide(c["symbol"])
        # What names nothing finds no row, and asking for one that is not there does no harm.
        asset = r.symbols[symbol]["asset"] if symbol < setup[SYMBOLS] else 0
        wallet = account * setup[ASSETS] + asset
        prefetch(r.accounts, account)
        prefetch_line(r.wallets, wallet, 0)
        prefetch_line(r.wallets, wallet, 1)
        # What names no order may become one: it will be called by its sequence number.
        order_id = c["order_id"] if c["order_id"] != 0 else seq
        home = hashmap.home(order_id, orders)
        prefetch(r.order_index, 2 * home)
        prefetch(r.order_index, 2 * home + 2)  # whoever removes it looks at the next too
        c["slot"] = home  # until it is decided: for the second time round
        home = hashmap.home(position_key(account, symbol, c["position_side"]), legs)
        prefetch(r.position_index, 2 * home)
        c["position"] = home
    for seq in range(first, last + 1):
        c = cs.base[seq & mask]
        position = r.position_index[2 * wide(c["position"]) + 1]
        prefetch_line(r.positions, position, 0)
        prefetch_line(r.positions, position, 1)
        prefetch_line(r.positions, position, 2)
        slot = r.order_index[2 * wide(c["slot"]) + 1]
        prefetch_line(r.claims, slot, 0)
        prefetch_line(r.claims, slot, 1)


@kernel
def risk_commands(
    r: Risk, cursors: Cells, setup: Cells, cs: Commands, replaying: bool, budget: int
) -> int:
    """Decide what the sequencer has published, at most `budget` commands; returns how many.

    replaying   slots say which settlement each command was decided after: wait for exactly that.
                What lies ahead is known then: whoever calls asks for the rows
    """
    v = r.venue[0]
    if v["mid_command"] != 0:
        return 0
    first = v["risked_seq"] + 1
    last = min(load_acquire(cursors, SEQUENCED), first + budget - 1)
    warmed = first
    if PLAIN or replaying or last - first < _WARM_LEAST:
        warmed = last + 1
    seq = first
    while seq <= last:
        if unlikely(seq == warmed):
            warmed = min(seq + _WARM_MOST, last + 1)
            warm(r, setup, cs, seq, warmed - 1)
        at = seq & setup[COMMAND_MASK]
        c = cs.base[at]
        assert c["seq"] == seq
        if replaying:
            if c["settled_seq"] != v["settled_seq"]:
                break
            if c["kind"] == Kind.CHECKPOINT and (
                cs.checkpoints[at]["reports_digest"] != v["reports_digest"]
                or cs.checkpoints[at]["reports_count"] != v["reports_count"]
            ):
                v["diverged_seq"] = seq
                break
        else:
            if unlikely(c["kind"] == Kind.CHECKPOINT) and v["settled_seq"] != seq - 1:
                break  # a point where nothing is between risk and settlement
            c["settled_seq"] = v["settled_seq"]
        decide(r, setup, cs, at)
        seq += 1
    if seq > first:
        store_release(cursors, RISKED, seq - 1)
    return seq - first
