"""Every record that crosses a process boundary or reaches disk, declared once.

From these declarations come the dtypes kernels compile against, `perpcore layouts`, and the
digest stamped into every segment and file header. No other file writes an offset or a width.

A command slot is four cache lines, each written by one stage:

    line 0  the command itself              ingress producer; seq, ts_ns by the sequencer
    line 1  client id, or parameters        ingress producer
    line 2  trace and origin, or parameters ingress producer
    line 3  what risk decided               risk

Lines 1 and 2 travel only as far as `lines` says; the rest is zero. Kinds that are not orders lay
their own record over the same 256 bytes: the head (seq, ts_ns, request) and the tail of line 0
(account ... lines) stand in the same place in all of them.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np


class Field(NamedTuple):
    """One column of a record: numpy type, little-endian, and what the number means."""

    name: str
    type: str
    meaning: str


class Record(NamedTuple):
    """A layout. `digest` changes whenever a name, type, order or size does."""

    name: str
    fields: tuple[Field, ...]
    dtype: np.dtype[np.void]
    digest: str
    meaning: str


RECORDS: dict[str, Record] = {}


def record(name: str, meaning: str, *, size_bytes: int, fields: tuple[Field, ...]) -> Record:
    """Build a layout; refuse a hidden hole, a misaligned field or a size nobody asked for."""
    dtype: np.dtype[np.void] = np.dtype([(f.name, f.type) for f in fields])
    assert dtype.fields is not None
    for f in fields:
        kind, offset = dtype.fields[f.name][:2]
        width = kind.base.itemsize
        if offset % width != 0:
            raise ValueError(f"{name}.{f.name}: byte {offset} is not a multiple of {width}")
    if dtype.itemsize != size_bytes:
        raise ValueError(f"{name}: fields add up to {dtype.itemsize} bytes, declared {size_bytes}")
    digest = hashlib.blake2s(repr((name, dtype.descr)).encode(), digest_size=8).hexdigest()
    layout = Record(name, fields, dtype, digest, meaning)
    assert name not in RECORDS, name
    RECORDS[name] = layout
    return layout


def layout_table(layout: Record) -> list[tuple[int, int, str, str]]:
    """Rows of (offset_bytes, width_bytes, name, meaning), for printing."""
    parts: dict[str, Any] = dict(layout.dtype.fields or {})
    return [(parts[f.name][1], parts[f.name][0].itemsize, f.name, f.meaning) for f in layout.fields]


def layouts_digest() -> str:
    """One digest over every record: two builds that agree on it can share memory and files."""
    return hashlib.blake2s(
        "".join(r.digest for r in RECORDS.values()).encode(), digest_size=8
    ).hexdigest()


# ---------------------------------------------------------------- commands

_HEAD = (
    Field("seq", "<i8", "place in the total order, from 1; 0 until the sequencer assigns it"),
    Field("ts_ns", "<i8", "when the sequencer took it, ns since the Unix epoch; never decreases"),
    Field("request", "<i8", "producer << 48 | the producer's own number"),
)
_TAIL = (
    Field("account", "<u4", "who; index of the account table"),
    Field("symbol", "<u2", "where; index of the symbol table, or NO_SYMBOL"),
    Field("settled_lag", "<u2", "in the WAL: seq - 1 - settled_seq of risk; zero in the ring"),
    Field("kind", "u1", "codes.Kind"),
    Field("side", "u1", "codes.Side"),
    Field("type", "u1", "codes.Type"),
    Field("tif", "u1", "codes.Tif"),
    Field("flags", "u1", "codes.Flag"),
    Field("stp", "u1", "codes.Stp"),
    Field("position_side", "u1", "codes.PositionSide"),
    Field("lines", "u1", "how many 64-byte lines the producer filled, 1 to 3"),
)
_ORIGIN = (
    Field("trace_hi", "<i8", "trace id, first 8 bytes"),
    Field("trace_lo", "<i8", "trace id, last 8 bytes"),
    Field("digest_hi", "<i8", "digest of the signed request, first 8 bytes"),
    Field("digest_lo", "<i8", "digest of the signed request, last 8 bytes"),
    Field("recv_ns", "<i8", "when the gateway had read it"),
    Field("key_id", "<i8", "which API key signed it"),
    Field("origin_reserved", "2i8", "zero"),
)
_RISK = (
    Field("settled_seq", "<i8", "the last command settled when risk looked at this one"),
    Field(
        "decided_order_id", "<i8", "the order this is about: new, or resolved from the client id"
    ),
    Field("limit_ticks", "<i8", "the worst price matching may trade at"),
    Field("decided_lots", "<i8", "the quantity matching shall use"),
    Field("slot", "<i4", "row of the order in the claim and node tables, or NIL"),
    Field("position", "<i4", "row of (account, symbol) in the position table, or NIL"),
    Field("reason", "u1", "codes.Reason; NONE lets it through"),
    Field("route", "u1", "codes.Route"),
    Field("order_tif", "u1", "codes.Tif of the order meant, which may be older than the command"),
    Field("order_stp", "u1", "codes.Stp of the order meant"),
    Field("end_reason", "u1", "codes.Reason that ENDED records of a cancel shall carry"),
    Field("risk_reserved", "3u1", "zero"),
    Field("risk_held_quanta", "<i8", "WITHDRAW: what risk has held for it"),
    Field("risk_note", "<i8", "DUPLICATE_*: the order or request that was first"),
)

COMMAND = record(
    "COMMAND",
    "a command about an order, and the base of every other kind",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("order_id", "<i8", "the order meant; 0 for a new one or when the client id names it"),
        Field("price_ticks", "<i8", "limit price; 0 where the kind carries none"),
        Field("qty_lots", "<i8", "quantity; see the kind"),
        *_TAIL,
        Field("client_id", "5i8", "client order id, 36 bytes of text, zero padded to 40"),
        Field("expire_ns", "<i8", "GTD: when it ends"),
        Field("order_reserved", "2i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

TRANSFER_COMMAND = record(
    "TRANSFER_COMMAND",
    "DEPOSIT, WITHDRAW",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("amount_quanta", "<i8", "> 0"),
        Field("asset", "<i8", "index of the asset table"),
        Field("source", "<i8", "where the money comes from or goes to; opaque to the engine"),
        *_TAIL,
        Field("client_id", "5i8", "request id; the same one is not done twice"),
        Field("transfer_reserved", "3i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

ASSET_COMMAND = record(
    "ASSET_COMMAND",
    "ASSET",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("asset", "<i8", "index to declare"),
        Field("scale", "<i8", "decimals, 0 to 8"),
        Field("asset_reserved", "<i8", "zero"),
        *_TAIL,
        Field("name", "2i8", "up to 16 bytes of text"),
        Field("asset_reserved2", "6i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

STATE_COMMAND = record(
    "STATE_COMMAND",
    "ACCOUNT, SYMBOL_STATE, VENUE_STATE",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("state", "<i8", "codes.State"),
        Field("cancel", "<i8", "1: also cancel what is open there"),
        Field("state_reserved", "<i8", "zero"),
        *_TAIL,
        Field("state_reserved2", "8i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

LEVERAGE_COMMAND = record(
    "LEVERAGE_COMMAND",
    "LEVERAGE",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("leverage", "<i8", "1 to the symbol's largest"),
        Field("leverage_reserved", "2i8", "zero"),
        *_TAIL,
        Field("leverage_reserved2", "8i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

MARK_COMMAND = record(
    "MARK_COMMAND",
    "MARK",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("mark_ticks", "<i8", "mark price, 1 to PRICE_TICKS_MAX"),
        Field("mark_reserved", "2i8", "zero"),
        *_TAIL,
        Field("mark_reserved2", "8i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

CHECKPOINT_COMMAND = record(
    "CHECKPOINT_COMMAND",
    "CHECKPOINT",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("checkpoint_reserved", "3i8", "zero"),
        *_TAIL,
        Field(
            "reports_digest", "<i8", "running digest of every report before this command; by risk"
        ),
        Field("reports_count", "<i8", "how many they are"),
        Field("checkpoint_reserved2", "6i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

SYMBOL_COMMAND = record(
    "SYMBOL_COMMAND",
    "SYMBOL: declare a symbol, or change what may change of one",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field(
            "tick_lot_quanta",
            "<i8",
            "quanta that one tick times one lot is worth, >= 1; fixed once declared",
        ),
        Field("asset", "<i8", "settlement asset; fixed once declared"),
        Field("state", "<i8", "codes.State"),
        *_TAIL,
        Field("name", "2i8", "up to 16 bytes of text"),
        Field("qty_lots_min", "<i8", "least quantity of an order"),
        Field("qty_lots_max", "<i8", "largest quantity of an order"),
        Field("notional_quanta_min", "<i8", "least notional of an order that may open; 0 for none"),
        Field("price_ticks_min", "<i8", "lowest price, >= 1"),
        Field("price_ticks_max", "<i8", "highest price"),
        Field("band_ppm", "<i8", "a limit price may be this far from the mark; 0 for any"),
        Field(
            "market_ppm", "<i8", "a MARKET order trades this far from the mark; 0 for any distance"
        ),
        Field("maker_fee_ppm", "<i8", "of notional; negative is a rebate"),
        Field("taker_fee_ppm", "<i8", "of notional, >= 0"),
        Field("leverage_max", "<i8", "largest leverage"),
        Field("leverage_default", "<i8", "leverage of a position nobody set it for"),
        Field("orders_max", "<i8", "open orders an account may have here"),
        Field("symbol_reserved", "2i8", "zero"),
        *_RISK,
    ),
)

NO_SYMBOL = 0xFFFF

# ---------------------------------------------------------------- matches

MATCH = record(
    "MATCH",
    "what matching says happened; settlement says what it costs",
    size_bytes=64,
    fields=(
        Field("seq", "<i8", "the command that caused it"),
        Field("price_ticks", "<i8", "FILL: the maker's price; RESTED, AMENDED: the order's price"),
        Field("lots", "<i8", "FILL: quantity traded; AMENDED: its new total"),
        Field("open_lots", "<i8", "what the order at `slot` has left after this"),
        Field("maker_open_lots", "<i8", "FILL: what the maker has left"),
        Field("trade_id", "<i8", "FILL: dense per symbol, from 1"),
        Field("slot", "<i4", "the order meant; FILL: the taker"),
        Field("maker", "<i4", "FILL: the maker's slot; else NIL"),
        Field("symbol", "<u2", "index of the symbol table"),
        Field("kind", "u1", "codes.MatchKind"),
        Field("reason", "u1", "ENDED: codes.Reason"),
        Field("last", "u1", "1 on the last record of this command from this shard"),
        Field("reserved", "3u1", "zero"),
    ),
)

# ---------------------------------------------------------------- reports

_REPORT = (
    Field("seq", "<i8", "the command that caused it"),
    Field("account", "<u4", "whom it is about"),
    Field("symbol", "<u2", "where, or NO_SYMBOL"),
    Field("kind", "u1", "codes.ReportKind"),
    Field("status", "u1", "ORDER: codes.Status; ANSWER: the command's codes.Kind"),
)

REPORT = record(
    "REPORT",
    "ORDER: an order's state after an event, and the answer to a command about one order",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("ts_ns", "<i8", "the command's time"),
        Field("request", "<i8", "the command's request when this is its answer, else 0"),
        Field("order_id", "<i8", "the order"),
        Field("price_ticks", "<i8", "its price"),
        Field("open_lots", "<i8", "what is left of it; NEW: all of it"),
        Field("side", "u1", "codes.Side"),
        Field("type", "u1", "codes.Type"),
        Field("tif", "u1", "codes.Tif"),
        Field("flags", "u1", "codes.Flag"),
        Field("reason", "u1", "codes.Reason"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("stp", "u1", "codes.Stp"),
        Field("command", "u1", "codes.Kind of the command"),
    ),
)

ANSWER_REPORT = record(
    "ANSWER_REPORT",
    "ANSWER: to a command that is not about one order",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("ts_ns", "<i8", "the command's time"),
        Field("request", "<i8", "the command's request"),
        Field("reason", "<i8", "codes.Reason; NONE: done"),
        Field("value", "<i8", "what the kind says: amount, leverage, state, price"),
        Field("original", "<i8", "DUPLICATE_*: the request or order that was first"),
        Field("reserved", "<i8", "zero"),
    ),
)

CLIENT_ID_REPORT = record(
    "CLIENT_ID_REPORT",
    "CLIENT_ID: the client's name for an order just opened",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("order_id", "<i8", "the order"),
        Field("client_id", "5i8", "36 bytes of text, zero padded to 40"),
    ),
)

TRACE_REPORT = record(
    "TRACE_REPORT",
    "TRACE: where the command came from",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("trace_hi", "<i8", "trace id, first 8 bytes"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("recv_ns", "<i8", "when the gateway had read it"),
        Field("key_id", "<i8", "which API key signed it"),
        Field("order_id", "<i8", "the order, or 0"),
        Field("reserved", "<i8", "zero"),
    ),
)

EXEC_REPORT = record(
    "EXEC_REPORT",
    "EXEC: one side of a trade; `status` is 0 for the maker, 1 for the taker, + 2 on the sell side",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("order_id", "<i8", "the order that traded"),
        Field("trade_id", "<i8", "dense per symbol"),
        Field("price_ticks", "<i8", "traded at"),
        Field("lots", "<i8", "traded"),
        Field("open_lots", "<i8", "what is left of the order; 0: it is filled"),
        Field("fee_quanta", "<i8", "paid; negative is a rebate"),
    ),
)

POSITION_REPORT = record(
    "POSITION_REPORT",
    "POSITION: a position and its wallet after a trade",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("trade_id", "<i8", "the trade"),
        Field("position_lots", "<i8", "signed"),
        Field("entry_quanta", "<i8", "signed exact cost of the open position"),
        Field("realised_quanta", "<i8", "by this trade, fee not included"),
        Field("wallet_quanta", "<i8", "after it, fee included"),
        Field("held_quanta", "<i8", "held for open orders of this wallet"),
    ),
)

WALLET_REPORT = record(
    "WALLET_REPORT",
    "WALLET: money moved without a trade; `status` is the command's codes.Kind",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("asset", "<i8", "index of the asset table"),
        Field("amount_quanta", "<i8", "signed, into the wallet"),
        Field("wallet_quanta", "<i8", "after it"),
        Field("held_quanta", "<i8", "held for open orders"),
        Field("source", "<i8", "from the command"),
        Field("reserved", "<i8", "zero"),
    ),
)

FLIP_REPORT = record(
    "FLIP_REPORT",
    "FLIP: a claim changed kind; `status` 0: close to open, 1: open to close, 2: trimmed",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("order_id", "<i8", "whose claim"),
        Field("thief_order_id", "<i8", "the order whose fill took what was claimed"),
        Field("lots", "<i8", "how much changed kind"),
        Field("close_lots", "<i8", "its claim on the position after it"),
        Field("hold_quanta", "<i8", "its hold after it"),
        Field("hold_change_quanta", "<i8", "what that took or gave back"),
    ),
)

CHECKPOINT_REPORT = record(
    "CHECKPOINT_REPORT",
    "CHECKPOINT: the digest that went into the WAL",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("ts_ns", "<i8", "the command's time"),
        Field("request", "<i8", "the command's request"),
        Field("reports_digest", "<i8", "running digest of every report before this command"),
        Field("reports_count", "<i8", "how many they are"),
        Field("reserved", "2i8", "zero"),
    ),
)

SYMBOL_REPORT = record(
    "SYMBOL_REPORT",
    "SYMBOL: a symbol's state or mark changed",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("ts_ns", "<i8", "the command's time"),
        Field("state", "<i8", "codes.State"),
        Field("mark_ticks", "<i8", "mark price, 0 before the first"),
        Field("last_ticks", "<i8", "last trade, 0 before the first"),
        Field("reserved", "2i8", "zero"),
    ),
)

# ---------------------------------------------------------------- state owned by risk and settle

ACCOUNT = record(
    "ACCOUNT",
    "one customer, or the venue itself",
    size_bytes=32,
    fields=(
        Field("opened_ns", "<i8", "when"),
        Field("open_orders", "<i8", "live orders over all symbols"),
        Field("first_position", "<i4", "head of the list of its positions, or NIL"),
        Field("state", "u1", "codes.State"),
        Field("pending", "u1", "codes.Reason of a cancel of all its orders that is proposed, or 0"),
        Field("reserved", "10u1", "zero"),
    ),
)

ASSET = record(
    "ASSET",
    "what money is counted in",
    size_bytes=64,
    fields=(
        Field("name", "2i8", "up to 16 bytes of text"),
        Field("scale", "<i8", "decimals"),
        Field("declared", "<i8", "1 once it is"),
        Field("total_quanta", "<i8", "deposits - withdrawals of everybody"),
        Field("reserved", "3i8", "zero"),
    ),
)

WALLET = record(
    "WALLET",
    "money of one account in one asset; row account * assets_max + asset",
    size_bytes=64,
    fields=(
        Field("wallet_quanta", "<i8", "deposits - withdrawals + realised PnL - fees"),
        Field("held_quanta", "<i8", "sum of the holds of its live orders"),
        Field("deposited_quanta", "<i8", "sum of deposits"),
        Field("withdrawn_quanta", "<i8", "sum of withdrawals"),
        Field("realised_quanta", "<i8", "sum of realised PnL"),
        Field("fees_quanta", "<i8", "sum of fees paid"),
        Field("deficit_count", "<i8", "times settlement found less than it had to take"),
        Field(
            "exposure_quanta",
            "<i8",
            "cost of its positions, and what its orders could cost at their worst prices",
        ),
    ),
)

SYMBOL = record(
    "SYMBOL",
    "a contract: its parameters, mark and last trade",
    size_bytes=256,
    fields=(
        Field("name", "2i8", "up to 16 bytes of text"),
        Field("tick_lot_quanta", "<i8", "quanta per tick and lot"),
        Field("asset", "<i8", "settlement asset"),
        Field("state", "<i8", "codes.State"),
        Field("qty_lots_min", "<i8", "least quantity"),
        Field("qty_lots_max", "<i8", "largest quantity"),
        Field("notional_quanta_min", "<i8", "least opening notional"),
        Field("price_ticks_min", "<i8", "lowest price"),
        Field("price_ticks_max", "<i8", "highest price"),
        Field("band_ppm", "<i8", "limit price to mark"),
        Field("market_ppm", "<i8", "MARKET to mark"),
        Field("maker_fee_ppm", "<i8", "of notional"),
        Field("taker_fee_ppm", "<i8", "of notional"),
        Field("leverage_max", "<i8", "largest"),
        Field("leverage_default", "<i8", "until set"),
        Field("orders_max", "<i8", "per account"),
        Field("mark_ticks", "<i8", "0 before the first"),
        Field("last_ticks", "<i8", "0 before the first trade"),
        Field("open_lots", "<i8", "open interest: the sum of long positions"),
        Field("trade_count", "<i8", "trades so far"),
        Field("ticks_lots_max", "<i8", "largest price * lots of an order: keeps notional in int64"),
        Field("high_bid_ticks", "<i8", "highest price a bid was ever accepted at"),
        Field(
            "pending", "<i8", "codes.Reason of a cancel of everything here that is proposed, or 0"
        ),
        Field("reserved", "8i8", "zero"),
    ),
)

POSITION = record(
    "POSITION",
    "(account, symbol): position, claims on it, leverage",
    size_bytes=128,
    fields=(
        Field("lots", "<i8", "signed position"),
        Field("entry_quanta", "<i8", "signed exact cost of what is open"),
        Field("realised_quanta", "<i8", "sum of realised PnL"),
        Field("close_lots", "<i8", "sum of the close claims of live orders against it"),
        Field("reduce_only_lots", "<i8", "the part of it that reduce-only orders claim"),
        Field("hold_quanta", "<i8", "sum of the holds of live orders here"),
        Field("open_orders", "<i8", "live orders here"),
        Field("order_lots", "<i8", "sum of their open lots"),
        Field("leverage", "<i8", "initial margin is notional / leverage"),
        Field("account", "<u4", "whose"),
        Field("symbol", "<u2", "of what"),
        Field("reserved", "<u2", "zero"),
        Field("next_position", "<i4", "next of the same account, by symbol, or NIL"),
        Field("first_closer", "<i4", "oldest order with a close claim, or NIL"),
        Field("last_closer", "<i4", "newest order with a close claim, or NIL"),
        Field("wallet", "<i4", "its margin: row of the wallet table"),
        Field("reserved2", "4i8", "zero"),
    ),
)

CLAIM = record(
    "CLAIM",
    "risk's half of a live order: what it may still cost",
    size_bytes=128,
    fields=(
        Field("order_id", "<i8", "0: the row is free"),
        Field("price_ticks", "<i8", "the price its hold was reckoned at"),
        Field("open_lots", "<i8", "what is left, as far as settlement has come"),
        Field("close_lots", "<i8", "the part of it that claims position and needs no margin"),
        Field("hold_quanta", "<i8", "margin and fee held for it"),
        Field("qty_lots", "<i8", "total quantity"),
        Field("expire_ns", "<i8", "GTD, else 0"),
        Field("account", "<u4", "whose"),
        Field("position", "<i4", "row of the position table"),
        Field("next_closer", "<i4", "next younger close claim of the position, or NIL"),
        Field("prev_closer", "<i4", "next older one, or NIL"),
        Field("client", "<i4", "row of the client-id table, or NIL"),
        Field("heap", "<i4", "place in the expiry heap, or NIL"),
        Field("next_free", "<i4", "free list"),
        Field("in_flight", "<i4", "commands risk let through that settlement has not seen"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("type", "u1", "codes.Type"),
        Field("tif", "u1", "codes.Tif"),
        Field("flags", "u1", "codes.Flag"),
        Field("stp", "u1", "codes.Stp"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("pending", "u1", "codes.Reason of a cancel that settlement proposes, or 0"),
        Field("done", "u1", "1: ended, and waits for commands in flight"),
        Field("amended", "u1", "1: an AMEND is in flight, and counts until none is"),
        Field("reserved", "5u1", "zero"),
        Field("exposure_quanta", "<i8", "what open_lots could cost at the worst price"),
        Field("worst_ticks", "<i8", "that price"),
        Field("reserve_quanta", "<i8", "held beyond hold_quanta while AMENDs are in flight"),
    ),
)

CLIENT = record(
    "CLIENT",
    "a client id in its dedupe window",
    size_bytes=64,
    fields=(
        Field("client_id", "5i8", "36 bytes of text, zero padded"),
        Field("order_id", "<i8", "the order or transfer it named; 0: the row is free"),
        Field("closed_ns", "<i8", "when that ended; 0 while it lives"),
        Field("account", "<u4", "whose"),
        Field("next", "<i4", "next in order of closing, or free list"),
    ),
)

PRODUCER = record(
    "PRODUCER",
    "what the engine remembers of whoever sends commands",
    size_bytes=16,
    fields=(
        Field("last_number", "<i8", "largest number taken"),
        Field("last_seq", "<i8", "the command it became"),
    ),
)

VENUE = record(
    "VENUE",
    "scalars of the risk and settle state; one row",
    size_bytes=256,
    fields=(
        Field("risked_seq", "<i8", "last command risk decided"),
        Field("settled_seq", "<i8", "last command settled"),
        Field("ts_ns", "<i8", "time of the last command"),
        Field("state", "<i8", "codes.State of the venue"),
        Field("reports_digest", "<i8", "running digest of all reports"),
        Field("reports_count", "<i8", "how many"),
        Field("claims_used", "<i8", "rows of the claim table ever used"),
        Field("claims_free", "<i8", "head of the free list, or NIL"),
        Field("positions_used", "<i8", "rows of the position table used"),
        Field("clients_used", "<i8", "rows of the client table ever used"),
        Field("clients_free", "<i8", "head of the free list, or NIL"),
        Field("clients_oldest", "<i8", "head of the closed list, or NIL"),
        Field("clients_newest", "<i8", "tail of the closed list, or NIL"),
        Field("heap_count", "<i8", "orders in the expiry heap"),
        Field("accounts_used", "<i8", "highest account opened + 1"),
        Field("mid_command", "<i8", "1 while settlement is between two matches of one command"),
        Field("tick_ns", "<i8", "time of the last TICK"),
        Field("deficit_count", "<i8", "times settlement found less than it had to take"),
        Field("live_orders", "<i8", "orders not ended"),
        Field("answered", "<i8", "1 once the command being settled has its answer"),
        Field("shards_done", "<i8", "bit per shard that has told all of the command being settled"),
        Field("disk_state", "<i8", "codes.State that room on disk asks for"),
        Field(
            "flipping", "<i8", "1: the match record to be read next is settled but for its flips"
        ),
        Field("diverged_seq", "<i8", "replay: the CHECKPOINT whose digest is another one, or 0"),
        Field("reserved", "8i8", "zero"),
    ),
)

# ---------------------------------------------------------------- state owned by matching

NODE = record(
    "NODE",
    "matching's half of an order: its place in the book",
    size_bytes=64,
    fields=(
        Field("order_id", "<i8", "whose row this is now"),
        Field("price_ticks", "<i8", "resting price"),
        Field("open_lots", "<i8", "what is left to fill"),
        Field("filled_lots", "<i8", "what was filled"),
        Field("account", "<u4", "whose, for self-trade prevention"),
        Field("next", "<i4", "next younger order at this price, or NIL"),
        Field("prev", "<i4", "next older order at this price, or NIL"),
        Field("mine_next", "<i4", "next order of the same (account, symbol), or NIL"),
        Field("mine_prev", "<i4", "previous one, or NIL"),
        Field("position", "<i4", "row of the position table: names (account, symbol)"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("state", "u1", "codes.NodeState"),
        Field("reserved", "<u4", "zero"),
    ),
)

LEVEL = record(
    "LEVEL",
    "one price: a queue of orders, oldest first",
    size_bytes=16,
    fields=(
        Field("first", "<i4", "oldest order, or NIL"),
        Field("last", "<i4", "newest order, or NIL"),
        Field("lots", "<i8", "their open lots"),
    ),
)

BOOK = record(
    "BOOK",
    "one symbol's order book; where its price tries begin is the shard's own business",
    size_bytes=128,
    fields=(
        Field("best_bid", "<i8", "ticks; 0 when there is none"),
        Field("best_ask", "<i8", "ticks; PRICE_TICKS_MAX + 1 when there is none"),
        Field("last_ticks", "<i8", "last trade; 0 before the first"),
        Field("trade_id", "<i8", "of the last trade"),
        Field("bid_orders", "<i8", "orders resting"),
        Field("ask_orders", "<i8", "orders resting"),
        Field("reserved", "10i8", "zero"),
    ),
)

MINE = record(
    "MINE",
    "the live orders of one (account, symbol) in the book, oldest first; row as in POSITION",
    size_bytes=16,
    fields=(
        Field("first", "<i4", "head, or NIL"),
        Field("last", "<i4", "tail, or NIL"),
        Field(
            "next_position", "<i4", "next row of the same account in this shard, by symbol, or NIL"
        ),
        Field("symbol", "<i4", "of this row, or NIL while unused"),
    ),
)

# ---------------------------------------------------------------- shared memory itself

SEGMENT_HEADER = record(
    "SEGMENT_HEADER",
    "first page of every shared-memory segment: whose it is and what lies in it",
    size_bytes=4096,
    fields=(
        Field("magic", "<i8", "shm.segment.MAGIC, written last; 0 while the segment is being made"),
        Field("layouts", "<i8", "digest of every record of the build that made it"),
        Field("parts", "<i8", "digest of the names, types and sizes of its parts"),
        Field("epoch", "<i8", "which start of the engine it belongs to"),
        Field("pid", "<i8", "process that made it"),
        Field("process_start", "<i8", "when that process started, clock ticks since boot"),
        Field("created_ns", "<i8", "when it was made, ns since the Unix epoch"),
        Field("size_bytes", "<i8", "of the whole segment, this page included"),
        Field("name", "96u1", "instance.name, zero padded"),
        Field("reserved", "492i8", "zero"),
    ),
)

INGRESS = record(
    "INGRESS",
    "head of an ingress ring: who may send what through it",
    size_bytes=64,
    fields=(
        Field("producer", "<i8", "id of the only producer, 1 to 63"),
        Field("kinds", "<i8", "bit k: codes.Kind k is allowed"),
        Field("privileged", "<i8", "1: privileged flags are allowed"),
        Field("capacity", "<i8", "slots, a power of two"),
        Field("reserved", "4i8", "zero"),
    ),
)

LABEL = record(
    "LABEL",
    "what a counter or histogram in shared memory is called",
    size_bytes=64,
    fields=(
        Field("name", "48u1", "text, zero padded; empty: the row is unused"),
        Field("unit", "16u1", "text, zero padded"),
    ),
)

ENGINE_STATUS = record(
    "ENGINE_STATUS",
    "what a start of the engine says about itself; written by its supervisor",
    size_bytes=768,
    fields=(
        Field("phase", "<i8", "shm.control.Phase"),
        Field("epoch", "<i8", "which start this is"),
        Field("pid", "<i8", "of the supervisor"),
        Field("started_ns", "<i8", "when this start began, ns since the Unix epoch"),
        Field("running_ns", "<i8", "when it took its first command; 0 before"),
        Field("stop_asked", "<i8", "1: a worker was told to end, the supervisor shall stop all"),
        Field("restarts", "<i8", "how often the supervisor has started the group again"),
        Field("recovered_seq", "<i8", "last command that recovery found"),
        Field("recovered_us", "<i8", "how long recovery took"),
        Field("workers", "<i8", "rows of the worker table in use"),
        Field("sequencer", "<i8", "which of them reads the ingress rings: whose bell to ring"),
        Field("shards", "<i8", "matching shards"),
        Field("commands", "<i8", "slots of the commands ring"),
        Field("matches", "<i8", "slots of each matches ring"),
        Field("reports", "<i8", "slots of the reports ring"),
        Field("ingress", "<i8", "slots of each ingress ring"),
        Field("reserved", "16i8", "zero"),
        Field("data_dir", "512u1", "text, zero padded"),
    ),
)

WORKER_STATUS = record(
    "WORKER_STATUS",
    "one worker process: what it runs and how far its start has come",
    size_bytes=128,
    fields=(
        Field("order", "<i8", "by the supervisor: shm.control.Order"),
        Field("state", "<i8", "by the worker: shm.control.WorkerState"),
        Field("pid", "<i8", "of the worker"),
        Field("stages", "<i8", "bit k: stage k of shm.control.STAGES"),
        Field("shards", "<i8", "bit k: matching shard k"),
        Field("ready_us", "<i8", "from its spawning until it was ready"),
        Field("refused", "<i8", "bits of shm.control.Wish that the host refused"),
        Field("cpu", "<i8", "pinned to, or NIL"),
        Field("name", "32u1", "text, zero padded"),
        Field("reserved", "4i8", "zero"),
    ),
)

# ---------------------------------------------------------------- files

WAL_BLOCK = record(
    "WAL_BLOCK",
    "one group commit: this header, then packed command lines, zeros up to a multiple of 4096",
    size_bytes=128,
    fields=(
        Field("magic", "<i8", "PERPWAL1"),
        Field("header_hash", "<i8", "of the words after it; the chain goes through it"),
        Field("body_hash", "<i8", "of everything after this header, the padding too"),
        Field("previous_hash", "<i8", "header_hash of the block before; 0 in the very first"),
        Field("wal_hi", "<i8", "which WAL, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "start of the engine that wrote it, from 1"),
        Field("segment", "<i8", "number of the segment file, from 0"),
        Field("offset", "<i8", "where in that file it begins, bytes"),
        Field("block", "<i8", "its number, from 0 without gaps over all segments"),
        Field("first_seq", "<i8", "of its first command; of the next one when it has none"),
        Field("durable_seq", "<i8", "highest command whose sync had returned when it was built"),
        Field("layout", "<i8", "digest of COMMAND, the layout of the lines"),
        Field("record_count", "<u4", "commands in it"),
        Field("body_bytes", "<u4", "of their lines"),
        Field("kind", "u1", "engine.wal: DATA, HEARTBEAT or SEAL"),
        Field("reserved", "u1", "zero"),
        Field("format", "<u2", "version of this format"),
        Field("release", "<u4", "release of the program that wrote it"),
        Field("reserved2", "<i8", "zero"),
    ),
)

WAL_MANIFEST = record(
    "WAL_MANIFEST",
    "which WAL a data directory holds, and where the newest start of the engine appends",
    size_bytes=128,
    fields=(
        Field("magic", "<i8", "PERPMAN1"),
        Field("hash", "<i8", "of the words after it"),
        Field("wal_hi", "<i8", "which WAL, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "counts starts, from 1"),
        Field("segment_bytes", "<i8", "size of a segment file"),
        Field("segment", "<i8", "where this epoch's first block goes: the file"),
        Field("offset", "<i8", "and the byte in it"),
        Field("block", "<i8", "number of that block"),
        Field("seq", "<i8", "last command before it"),
        Field("previous_hash", "<i8", "header_hash of the block before it"),
        Field("created_ns", "<i8", "when this epoch began, ns since the Unix epoch"),
        Field("release", "<i8", "release of the program that began it"),
        Field("reserved", "3i8", "zero"),
    ),
)

WATERMARK = record(
    "WATERMARK",
    "how far the WAL is durable, kept outside it in two slots written in turn",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPMRK1"),
        Field("hash", "<i8", "of the words after it"),
        Field("wal_hi", "<i8", "which WAL, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "start of the engine that wrote it"),
        Field("durable_seq", "<i8", "highest command whose sync has returned"),
        Field("block", "<i8", "the block it ends"),
        Field("count", "<i8", "which write this is: even ones go to slot 0, odd ones to slot 1"),
    ),
)

REPORT_SEGMENT = record(
    "REPORT_SEGMENT",
    "first 4096 bytes of a report log file, zero padded; raw reports follow",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPREP1"),
        Field("hash", "<i8", "of the words after it"),
        Field("wal_hi", "<i8", "which WAL the reports come from, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "start of the engine that made the file"),
        Field("first_index", "<i8", "index of its first report"),
        Field("record_count", "<i8", "how many reports it has room for"),
        Field("layout", "<i8", "digest of the report records"),
    ),
)

REPORT_GROUP = record(
    "REPORT_GROUP",
    "integrity of a group of reports, one row each in the file beside the segment",
    size_bytes=32,
    fields=(
        Field("hash", "<i8", "of the reports; 0: the group is not complete"),
        Field("first_seq", "<i8", "of its first report"),
        Field("last_seq", "<i8", "of its last report"),
        Field("record_count", "<i8", "reports in it"),
    ),
)

FOLLOWER = record(
    "FOLLOWER",
    "how far a registered follower has got; the report log is kept for it",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPFOL1"),
        Field("index", "<i8", "reports it has done with"),
        Field("updated_ns", "<i8", "when it said so"),
        Field("name", "32u1", "text, zero padded"),
        Field("reserved", "<i8", "zero"),
    ),
)

SNAPSHOT_HEADER = record(
    "SNAPSHOT_HEADER",
    "head of a snapshot file; a JSON text and the sections follow",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPSNP1"),
        Field("hash", "<i8", "of the words after it"),
        Field("file_bytes", "<i8", "size of the whole file"),
        Field(
            "file_hash", "<i8", "of text and section table, which holds the hash of each section"
        ),
        Field("meta_bytes", "<i8", "of the JSON text with the zeros after it"),
        Field("section_count", "<i8", "rows of the section table"),
        Field("format", "<i8", "version of this format"),
        Field("reserved", "<i8", "zero"),
    ),
)

SNAPSHOT_SECTION = record(
    "SNAPSHOT_SECTION",
    "one table in a snapshot file",
    size_bytes=128,
    fields=(
        Field("name", "32u1", "text, zero padded"),
        Field("type", "48u1", "numpy type as text, or the name of a record; zero padded"),
        Field("layout", "<i8", "digest of that record, 0 for a plain type"),
        Field("rows", "<i8", "how many"),
        Field("row_bytes", "<i8", "of one"),
        Field("offset", "<i8", "where they begin in the file, a multiple of 64"),
        Field("bytes", "<i8", "rows * row_bytes; zeros up to a multiple of 64 follow"),
        Field("hash", "<i8", "of them"),
    ),
)
