"""Writing reports: every record of the reports ring is filled in here, and folded into the digest.

Reports are numbered from 0 in the order they are written, and report i stands in slot
i & REPORT_MASK. All 64 bytes of a record are written each time, since the digest covers them all.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from engine.commands import Commands
from engine.setup import REPORT_MASK
from engine.state import CLAIM_WORDS, Risk
from shm.arithmetic import wide
from shm.atomics import either, fence, load_acquire, store_release
from shm.codes import Flag, Flip, Kind, MarginType, Move, Reason, ReportKind, Status, Tif
from shm.cursors import REPORTS_CLAIMED, REPORTS_READ, REPORTS_WRITTEN
from shm.hashing import fold_line, fold_words
from shm.jit import apart, inlined, kernel
from shm.kinds import HAS_ORIGIN, PARAMETER_REPORTS, PAYLOAD_WORDS, WORDS_A_REPORT
from shm.maintenance import (
    cross_liquidation_ticks,
    isolated_liquidation_ticks,
    position_maintenance,
)
from shm.pointers import Cells, Rows
from shm.ranking import lights_of_place
from shm.records import CLAIM, NO_SYMBOL
from shm.units import DUST_ACCOUNT

ROOM: Final = 24  # no step of settlement writes more records, a HOLD that is not counted included
_CLAIM_AHEAD: Final = 256
_WORDS: Final = 8
_TO_BACK: Final = int(Flag.TO_BACK)
_COMMAND_WORDS: Final = 32

# The word of a claim that the codes of its order lie in, behind the symbol.
_OWN_WORD, _OWN_SHIFT = CLAIM.place("side")
_OWN: Final = ("side", "type", "tif", "flags", "stp", "position_side")
assert [CLAIM.offset(n) - CLAIM.offset("side") for n in _OWN] == list(range(6))
assert _OWN_SHIFT == 16


class Out(NamedTuple):
    """The reports ring: one memory, seen as each kind of record, in the order of ReportKind."""

    orders: Rows  # REPORT
    answers: Rows  # ANSWER_REPORT
    names: Rows  # CLIENT_ID_REPORT
    traces: Rows  # TRACE_REPORT
    execs: Rows  # EXEC_REPORT
    positions: Rows  # POSITION_REPORT
    wallets: Rows  # WALLET_REPORT
    flips: Rows  # FLIP_REPORT
    checkpoints: Rows  # CHECKPOINT_REPORT
    symbols: Rows  # SYMBOL_REPORT
    margins: Rows  # MARGIN_REPORT
    holds: Rows  # HOLD_REPORT
    fundings: Rows  # FUNDING_REPORT
    rounds: Rows  # FUNDING_ROUND_REPORT
    prices: Rows  # PRICE_REPORT
    algos: Rows  # ALGO_REPORT
    trails: Rows  # TRAIL_REPORT
    moves: Rows  # MOVE_REPORT
    liquidations: Rows  # LIQUIDATION_REPORT
    warnings: Rows  # WARNING_REPORT
    requests: Rows  # REQUEST_REPORT
    parameters: Rows  # PARAMETERS_REPORT
    expiries: Rows  # EXPIRY_REPORT
    adls: Rows  # ADL_REPORT
    words: Cells  # int64, eight a record


@inlined
def has_room(r: Risk, cursors: Cells, setup: Cells) -> bool:
    """Whether ROOM more records fit; claims their slots ahead, so that lapped followers notice."""
    index = r.venue[0]["reports_count"]
    capacity = setup[REPORT_MASK] + 1
    if index + ROOM > cursors[REPORTS_CLAIMED]:
        if (
            index + ROOM + min(_CLAIM_AHEAD, capacity // 4) - load_acquire(cursors, REPORTS_READ)
            > capacity
        ):
            return False
        store_release(cursors, REPORTS_CLAIMED, index + ROOM + min(_CLAIM_AHEAD, capacity // 4))
        fence()  # the claim is visible before the first overwritten byte
    return True


@inlined
def publish(r: Risk, cursors: Cells) -> None:
    """Show the journal what has been written."""
    store_release(cursors, REPORTS_WRITTEN, r.venue[0]["reports_count"])


@inlined
def _slot(r: Risk, setup: Cells) -> int:
    return r.venue[0]["reports_count"] & setup[REPORT_MASK]


@inlined
def _done(r: Risk, out: Out, at: int) -> None:
    v = r.venue[0]
    v["reports_digest"] = fold_line(v["reports_digest"], out.words, at * _WORDS)
    v["reports_count"] += 1


@inlined
def _about(account: int, symbol: int, kind: int, status: int) -> int:
    """Word 1 of every report: whom, where, what."""
    return wide(account) | (wide(symbol) << 32) | (wide(kind) << 48) | (wide(status) << 56)


@inlined
def _lay(
    r: Risk, out: Out, setup: Cells, w0: int, w1: int, w2: int, w3: int, w4: int, w5: int, w6: int,
    w7: int,
) -> int:  # fmt: skip
    """Write the next report as words; returns the digest with it, folded out of registers.

    For those of every order and trade: whoever writes a record field by field and then reads it by
    words waits until the stores have left the core, a dozen cycles for each word of small fields.
    """
    first = _slot(r, setup) * _WORDS
    out.words[first] = w0
    out.words[first + 1] = w1
    out.words[first + 2] = w2
    out.words[first + 3] = w3
    out.words[first + 4] = w4
    out.words[first + 5] = w5
    out.words[first + 6] = w6
    out.words[first + 7] = w7
    return fold_words(r.venue[0]["reports_digest"], w0, w1, w2, w3, w4, w5, w6, w7)


@inlined
def _tell(
    r: Risk, out: Out, setup: Cells, w0: int, w1: int, w2: int, w3: int, w4: int, w5: int, w6: int,
    w7: int,
) -> None:  # fmt: skip
    """Write a report whose words are at hand."""
    v = r.venue[0]
    v["reports_digest"] = _lay(r, out, setup, w0, w1, w2, w3, w4, w5, w6, w7)
    v["reports_count"] += 1


@inlined
def _codes(command: Rows, reason: int) -> int:
    """Last word of an ORDER report that says of the order what the command said."""
    return (
        wide(command["side"])
        | (wide(command["type"]) << 8)
        | (wide(command["tif"]) << 16)
        | (wide(command["flags"]) << 24)
        | (wide(reason) << 32)
        | (wide(command["position_side"]) << 40)
        | (wide(command["stp"]) << 48)
        | (wide(command["kind"]) << 56)
    )


@inlined
def order(
    r: Risk,
    out: Out,
    setup: Cells,
    command: Rows,
    slot: int,
    status: int,
    reason: int,
    answer: bool,
) -> None:
    """The state of the order in a claim row, after an event of `command`."""
    c = r.claims[slot]
    # Six codes at one go: side, type, tif, flags, stp and leg lie side by side in a claim, and but
    # for two places in a report as well.
    own = r.claim_words[slot * CLAIM_WORDS + _OWN_WORD] >> _OWN_SHIFT
    codes = own & 0xFF00FFFFFFFF | (own & 0xFF00000000) << 16 | wide(reason) << 32
    if status == Status.AMENDED:
        codes |= wide(command["flags"] & _TO_BACK) << 24  # whoever keeps a book must know of it
    _tell(
        r,
        out,
        setup,
        command["seq"],
        _about(c["account"], c["symbol"], ReportKind.ORDER, status),
        command["ts_ns"],
        command["request"] if answer else 0,
        c["order_id"],
        c["price_ticks"],
        c["open_lots"],
        codes | wide(command["kind"]) << 56,
    )


@inlined
def refused(
    r: Risk, out: Out, setup: Cells, command: Rows, order_id: int, status: int, reason: int
) -> None:
    """The answer to a command about an order that was rejected, or found nothing to do."""
    _tell(
        r,
        out,
        setup,
        command["seq"],
        _about(command["account"], command["symbol"], ReportKind.ORDER, status),
        command["ts_ns"],
        command["request"],
        order_id,
        command["price_ticks"],
        0,
        _codes(command, reason),
    )


@kernel
def answer(
    r: Risk, out: Out, setup: Cells, command: Rows, reason: int, value: int, original: int
) -> None:
    """The answer to a command that is not about one order."""
    at = _slot(r, setup)
    o = out.answers[at]
    o["seq"] = command["seq"]
    o["account"] = command["account"]
    o["symbol"] = command["symbol"]
    o["kind"] = ReportKind.ANSWER
    o["status"] = command["kind"]
    o["ts_ns"] = command["ts_ns"]
    o["request"] = command["request"]
    o["reason"] = reason
    o["value"] = value
    o["original"] = original
    o["reserved"] = 0
    _done(r, out, at)


@kernel
def origin(
    r: Risk,
    out: Out,
    setup: Cells,
    command: Rows,
    words: Cells,
    first: int,
    order_id: int,
    named: bool,
) -> None:
    """What follows the answer of a new order: client id, expiry and trace, if there are any.

    first     word of the command slot
    named     the command opened an order with the client id it carries
    """
    apart()
    if named and words[first + 8] != 0:
        at = _slot(r, setup)
        o = out.names[at]
        o["seq"] = command["seq"]
        o["account"] = command["account"]
        o["symbol"] = command["symbol"]
        o["kind"] = ReportKind.CLIENT_ID
        o["status"] = 0
        o["order_id"] = order_id
        for k in range(5):
            out.words[at * _WORDS + 3 + k] = words[first + 8 + k]
        _done(r, out, at)
    if named and command["tif"] == Tif.GTD:
        at = _slot(r, setup)
        x = out.expiries[at]
        x["seq"] = command["seq"]
        x["account"] = command["account"]
        x["symbol"] = command["symbol"]
        x["kind"] = ReportKind.EXPIRY
        x["status"] = 0
        x["order_id"] = order_id
        x["expire_ns"] = words[first + 13]
        for k in range(4):
            out.words[at * _WORDS + 4 + k] = 0
        _done(r, out, at)
    # Parameters of these reach into line 2, where others carry their origin.
    if (HAS_ORIGIN >> np.int64(command["kind"])) & 1 == 0:
        return
    if command["lines"] == 3 and (words[first + 16] != 0 or words[first + 17] != 0):
        at = _slot(r, setup)
        t = out.traces[at]
        t["seq"] = command["seq"]
        t["account"] = command["account"]
        t["symbol"] = command["symbol"]
        t["kind"] = ReportKind.TRACE
        t["status"] = 0
        t["trace_hi"] = command["trace_hi"]
        t["trace_lo"] = command["trace_lo"]
        t["recv_ns"] = command["recv_ns"]
        t["key_id"] = command["key_id"]
        t["order_id"] = order_id
        t["reserved"] = 0
        _done(r, out, at)


@inlined
def execution(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    position: int,
    order_id: int,
    open_lots: int,
    status: int,
    trade_id: int,
    price_ticks: int,
    lots: int,
    fee_quanta: int,
) -> None:
    """One side of a trade: what the order (or 0: none) of a position got.

    status   taker | side << 1 | codes.Cause << 2 | codes.PositionSide << 5
    """
    p = r.positions[position]
    _tell(
        r,
        out,
        setup,
        seq,
        _about(p["account"], p["symbol"], ReportKind.EXEC, status),
        order_id,
        trade_id,
        price_ticks,
        lots,
        open_lots,
        fee_quanta,
    )


@inlined
def position(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    row: int,
    status: int,
    trade_id: int,
    realised_quanta: int,
    wallet_quanta: int,
    hold_quanta: int,
) -> None:
    """A position after a trade, and its cross wallet before any MOVE that follows."""
    p = r.positions[row]
    _tell(
        r,
        out,
        setup,
        seq,
        _about(p["account"], p["symbol"], ReportKind.POSITION, status),
        trade_id,
        p["lots"],
        p["entry_quanta"],
        realised_quanta,
        wallet_quanta,
        hold_quanta,
    )


@kernel
def margin(r: Risk, out: Out, setup: Cells, seq: int, row: int) -> None:
    """Margin of a position after it changed; its liquidation price is kept in its row."""
    apart()
    p = r.positions[row]
    symbol = p["symbol"]
    s = r.symbols[symbol]
    kept = 0
    ticks = 0
    if p["lots"] != 0 and s["brackets_count"] > 0:
        kept = position_maintenance(r.brackets, r.symbols, p)
        if p["isolated"] != 0:
            ticks = isolated_liquidation_ticks(r.brackets, r.symbols, p)
        else:
            ticks = cross_liquidation_ticks(
                r.accounts,
                r.wallets,
                r.symbols,
                r.positions,
                r.brackets,
                p["account"],
                p["wallet"],
                symbol,
            )
    p["liquidation_ticks"] = ticks
    _tell(
        r,
        out,
        setup,
        seq,
        _about(
            p["account"],
            symbol,
            ReportKind.MARGIN,
            p["position_side"] | (4 if p["isolated"] != 0 else 0),
        ),
        ticks,
        p["isolated_quanta"],
        kept,
        p["leverage"],
        p["sunk_quanta"],
        s["mark_ticks"],
    )


@kernel
def move(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    account: int,
    symbol: int,
    why: int,
    amount_quanta: int,
    wallet_quanta: int,
    other_account: int,
    other_quanta: int,
    reference: int,
    pocket: int,
) -> None:
    """Money moved without a trade: `amount_quanta` into the wallet of `account`; see MOVE."""
    at = _slot(r, setup)
    o = out.moves[at]
    o["seq"] = seq
    o["account"] = account
    o["symbol"] = symbol
    o["kind"] = ReportKind.MOVE
    o["status"] = why
    o["amount_quanta"] = amount_quanta
    o["wallet_quanta"] = wallet_quanta
    o["other_account"] = other_account
    o["other_quanta"] = other_quanta
    o["reference"] = reference
    o["pocket"] = pocket
    _done(r, out, at)


@inlined
def hold(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    slot: int,
    changed: bool,
    hold_quanta: int,
    change_quanta: int,
    close_lots: int,
    open_lots: int,
) -> None:
    """What an order holds and claims, if it `changed` in a way that nothing else tells."""
    c = r.claims[slot]
    # Laid out in any case, and counted if it is one: whether it is is a toss for most commands and
    # known late, and to write what the next report overwrites costs a fifth of a wrong guess.
    v = r.venue[0]
    told = wide(changed)
    digest = _lay(
        r,
        out,
        setup,
        seq,
        _about(c["account"], c["symbol"], ReportKind.HOLD, c["apart"]),
        c["order_id"],
        hold_quanta,
        change_quanta,
        close_lots,
        open_lots,
        r.symbols[c["symbol"]]["asset"],
    )
    v["reports_digest"] = either(told, v["reports_digest"], digest)
    v["reports_count"] += told


@kernel
def flip(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    slot: int,
    thief_order_id: int,
    lots: int,
    held_quanta: int,
    opened: bool,
) -> None:
    """A close claim that lost `lots` to another order, and held `held_quanta` before."""
    at = _slot(r, setup)
    c = r.claims[slot]
    f = out.flips[at]
    f["seq"] = seq
    f["account"] = c["account"]
    f["symbol"] = c["symbol"]
    f["kind"] = ReportKind.FLIP
    f["status"] = Flip.TO_OPEN if opened else Flip.TRIMMED
    f["order_id"] = c["order_id"]
    f["thief_order_id"] = thief_order_id
    f["lots"] = lots
    f["close_lots"] = c["close_lots"]
    f["hold_quanta"] = c["hold_quanta"]
    f["hold_change_quanta"] = c["hold_quanta"] - held_quanta
    _done(r, out, at)


@kernel
def liquidation(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    account: int,
    symbol: int,
    step: int,
    equity_quanta: int,
    maintenance_quanta: int,
    price_ticks: int,
    lots: int,
    fund_quanta: int,
    scope: int,
) -> None:
    """A step of a liquidation."""
    at = _slot(r, setup)
    o = out.liquidations[at]
    o["seq"] = seq
    o["account"] = account
    o["symbol"] = symbol
    o["kind"] = ReportKind.LIQUIDATION
    o["status"] = step
    o["equity_quanta"] = equity_quanta
    o["maintenance_quanta"] = maintenance_quanta
    o["price_ticks"] = price_ticks
    o["lots"] = lots
    o["fund_quanta"] = fund_quanta
    o["scope"] = scope
    _done(r, out, at)


@kernel
def deleveraged(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    account: int,
    symbol: int,
    rank: Rows,
    trade_id: int,
    price_ticks: int,
    lots: int,
) -> None:
    """Whose position a bankrupt one was closed against; `rank`: the ADL_RANK of its queue."""
    at = _slot(r, setup)
    o = out.adls[at]
    o["seq"] = seq
    o["account"] = account
    o["symbol"] = symbol
    o["kind"] = ReportKind.ADL
    o["status"] = lights_of_place(rank["place"], rank["ranked"], rank["score_ppb"])
    o["score_ppb"] = rank["score_ppb"]
    o["place"] = rank["place"]
    o["ranked"] = rank["ranked"]
    o["trade_id"] = trade_id
    o["price_ticks"] = price_ticks
    o["lots"] = lots
    _done(r, out, at)


@kernel
def warning(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    account: int,
    symbol: int,
    equity_quanta: int,
    maintenance_quanta: int,
    wallet_quanta: int,
    mark_ticks: int,
    position_lots: int,
    scope: int,
) -> None:
    """A margin call."""
    at = _slot(r, setup)
    o = out.warnings[at]
    o["seq"] = seq
    o["account"] = account
    o["symbol"] = symbol
    o["kind"] = ReportKind.WARNING
    o["status"] = 0
    o["equity_quanta"] = equity_quanta
    o["maintenance_quanta"] = maintenance_quanta
    o["wallet_quanta"] = wallet_quanta
    o["mark_ticks"] = mark_ticks
    o["position_lots"] = position_lots
    o["scope"] = scope
    _done(r, out, at)


@kernel
def wallet(
    r: Risk, out: Out, setup: Cells, command: Rows, asset: int, amount: int, row: int, source: int
) -> None:
    """A wallet after a deposit or a withdrawal."""
    at = _slot(r, setup)
    o = out.wallets[at]
    o["seq"] = command["seq"]
    o["account"] = command["account"]
    o["symbol"] = NO_SYMBOL
    o["kind"] = ReportKind.WALLET
    o["status"] = command["kind"]
    o["asset"] = asset
    o["amount_quanta"] = amount
    o["wallet_quanta"] = r.wallets[row]["wallet_quanta"]
    o["held_quanta"] = r.wallets[row]["held_quanta"]
    o["source"] = source
    o["reserved"] = 0
    _done(r, out, at)


@kernel
def symbol(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int) -> None:
    """A symbol's state or mark after the command that changed it.

    Read when it is settled: later commands that risk has already decided may show.
    """
    at = _slot(r, setup)
    s = r.symbols[symbol]
    o = out.symbols[at]
    o["seq"] = command["seq"]
    o["account"] = command["account"]
    o["symbol"] = symbol
    o["kind"] = ReportKind.SYMBOL
    o["status"] = 0
    o["ts_ns"] = command["ts_ns"]
    o["state"] = s["state"]
    o["mark_ticks"] = s["mark_ticks"]
    o["last_ticks"] = s["last_ticks"]
    for k in range(2):
        out.words[at * _WORDS + 6 + k] = 0
    _done(r, out, at)


@kernel
def price(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int, rate_ppb: int) -> None:
    """Mark, index and funding of a symbol, as they are after this step of the command."""
    at = _slot(r, setup)
    c = r.contracts[symbol]
    o = out.prices[at]
    o["seq"] = command["seq"]
    o["account"] = 0
    o["symbol"] = symbol
    o["kind"] = ReportKind.PRICE
    o["status"] = 0
    o["ts_ns"] = command["ts_ns"]
    o["mark_ticks"] = r.symbols[symbol]["mark_ticks"]
    o["index_ticks"] = c["index_ticks"]
    o["rate_ppb"] = rate_ppb
    o["next_ns"] = c["funding_next_ns"]
    o["halted"] = c["halted"]
    _done(r, out, at)


@kernel
def funding(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    position: int,
    funding_ns: int,
    rate_ppb: int,
    mark_ticks: int,
    amount_quanta: int,
    wallet_quanta: int,
) -> None:
    """One position has paid or received its share of a funding round."""
    at = _slot(r, setup)
    p = r.positions[position]
    o = out.fundings[at]
    o["seq"] = seq
    o["account"] = p["account"]
    o["symbol"] = p["symbol"]
    o["kind"] = ReportKind.FUNDING
    o["status"] = p["position_side"] + (4 if p["isolated"] == MarginType.ISOLATED else 0)
    o["funding_ns"] = funding_ns
    o["rate_ppb"] = rate_ppb
    o["mark_ticks"] = mark_ticks
    o["position_lots"] = p["lots"]
    o["amount_quanta"] = amount_quanta
    o["wallet_quanta"] = wallet_quanta
    _done(r, out, at)


@kernel
def funding_round(
    r: Risk, out: Out, setup: Cells, seq: int, symbol: int, over: int, dust_quanta: int
) -> None:
    """A funding round of a symbol has begun, or (over) everybody has been paid in it."""
    at = _slot(r, setup)
    c = r.contracts[symbol]
    o = out.rounds[at]
    o["seq"] = seq
    o["account"] = DUST_ACCOUNT
    o["symbol"] = symbol
    o["kind"] = ReportKind.FUNDING_ROUND
    o["status"] = over
    o["funding_ns"] = c["round_ns"]
    o["rate_ppb"] = c["round_rate_ppb"]
    o["mark_ticks"] = c["round_mark_ticks"]
    o["index_ticks"] = c["index_ticks"]
    o["dust_quanta"] = dust_quanta
    o["next_ns"] = c["funding_next_ns"]
    _done(r, out, at)


@kernel
def dust(
    r: Risk, out: Out, setup: Cells, seq: int, symbol: int, row: int, amount_quanta: int
) -> None:
    """What rounding kept in a funding round is in the dust account's wallet `row` now."""
    at = _slot(r, setup)
    o = out.moves[at]
    o["seq"] = seq
    o["account"] = DUST_ACCOUNT
    o["symbol"] = symbol
    o["kind"] = ReportKind.MOVE
    o["status"] = Move.DUST
    o["amount_quanta"] = amount_quanta
    o["wallet_quanta"] = r.wallets[row]["wallet_quanta"]
    o["other_account"] = DUST_ACCOUNT
    o["other_quanta"] = r.wallets[row]["wallet_quanta"]
    o["reference"] = r.contracts[symbol]["funding_round"]
    o["pocket"] = r.symbols[symbol]["asset"]
    _done(r, out, at)


@kernel
def checkpoint(r: Risk, out: Out, setup: Cells, command: Rows, digest: int, count: int) -> None:
    """The digest that went into the WAL."""
    at = _slot(r, setup)
    o = out.checkpoints[at]
    o["seq"] = command["seq"]
    o["account"] = 0
    o["symbol"] = NO_SYMBOL
    o["kind"] = ReportKind.CHECKPOINT
    o["status"] = Kind.CHECKPOINT
    o["ts_ns"] = command["ts_ns"]
    o["request"] = command["request"]
    o["reports_digest"] = digest
    o["reports_count"] = count
    for k in range(2):
        out.words[at * _WORDS + 6 + k] = 0
    _done(r, out, at)


@kernel
def algo(
    r: Risk,
    out: Out,
    setup: Cells,
    command: Rows,
    row: int,
    status: int,
    order_id: int,
    reason: int,
) -> None:
    """A conditional order after an event of `command`; `order_id`: what it became, or 0."""
    at = _slot(r, setup)
    o = out.algos[at]
    a = r.algos[row]
    o["seq"] = command["seq"]
    o["account"] = a["account"]
    o["symbol"] = a["symbol"]
    o["kind"] = ReportKind.ALGO
    o["status"] = status
    o["algo_id"] = a["algo_id"]
    o["order_id"] = order_id
    o["trigger_ticks"] = a["trigger_ticks"]
    o["price_ticks"] = a["price_ticks"]
    o["qty_lots"] = a["qty_lots"]
    o["side"] = a["side"]
    o["type"] = a["type"]
    o["tif"] = a["tif"]
    o["flags"] = a["flags"]
    o["reason"] = reason
    o["position_side"] = a["position_side"]
    o["stp"] = a["stp"]
    o["working"] = a["working"] | (a["protect"] << 1)
    _done(r, out, at)


@kernel
def trail(r: Risk, out: Out, setup: Cells, command: Rows, row: int) -> None:
    """What a conditional order has besides."""
    at = _slot(r, setup)
    o = out.trails[at]
    a = r.algos[row]
    o["seq"] = command["seq"]
    o["account"] = a["account"]
    o["symbol"] = a["symbol"]
    o["kind"] = ReportKind.TRAIL
    o["status"] = 0
    o["algo_id"] = a["algo_id"]
    o["activate_ticks"] = a["activate_ticks"]
    o["callback_ppm"] = a["callback_ppm"]
    o["expire_ns"] = a["expire_ns"]
    o["ts_ns"] = command["ts_ns"]
    o["reserved"] = 0
    _done(r, out, at)


@kernel
def request(
    r: Risk, out: Out, setup: Cells, cs: Commands, slot: int, row: int, status: int
) -> None:
    """A withdrawal or adjustment after the command in `slot`."""
    at = _slot(r, setup)
    o = out.requests[at]
    c = cs.requests[slot]
    q = r.requests[row]
    o["seq"] = c["seq"]
    o["account"] = q["account"]
    o["symbol"] = NO_SYMBOL
    o["kind"] = ReportKind.REQUEST
    o["status"] = status
    o["request_id"] = q["request_id"]
    o["amount_quanta"] = q["amount_quanta"]
    o["asset"] = q["asset"]
    o["principal"] = c["principal"]
    o["reference"] = q["reference"]
    o["what"] = q["kind"] | (c["fee_quanta"] << 8)
    _done(r, out, at)


@kernel
def parameters(r: Risk, out: Out, setup: Cells, command: Rows, words: Cells, first: int) -> None:
    """The payload of an administrative command, verbatim: four reports, whatever it is.

    first     word of the command slot
    """
    for index in range(PARAMETER_REPORTS):
        at = _slot(r, setup)
        o = out.parameters[at]
        o["seq"] = command["seq"]
        o["account"] = command["account"]
        o["symbol"] = command["symbol"]
        o["kind"] = ReportKind.PARAMETERS
        o["status"] = command["kind"] << 2 | index
        for k in range(WORDS_A_REPORT):
            word = index * WORDS_A_REPORT + k
            said = 0
            if word < 3:
                said = words[first + 3 + word]
            elif word < PAYLOAD_WORDS:
                said = words[first + 5 + word]
            out.words[at * _WORDS + 2 + k] = said
        _done(r, out, at)


__all__ = ["ROOM", "Out", "Reason", "Status"]
