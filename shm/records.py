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
    Field(
        "decided_lots",
        "<i8",
        "the quantity matching shall use; CANCEL, REDUCE, EXPIRE: what shall come off the order, "
        "0: all of it; CANCEL_*: first row of the conditional orders that it has ended and "
        "settlement has not told yet, or NIL",
    ),
    Field("slot", "<i4", "row of the order in the claim and node tables, or NIL"),
    Field("position", "<i4", "row of (account, symbol) in the position table, or NIL"),
    Field("reason", "u1", "codes.Reason; NONE lets it through"),
    Field("route", "u1", "codes.Route"),
    Field("order_tif", "u1", "codes.Tif of the order meant, which may be older than the command"),
    Field("order_stp", "u1", "codes.Stp of the order meant"),
    Field("end_reason", "u1", "codes.Reason that ENDED records of a cancel shall carry"),
    Field(
        "finding",
        "u1",
        "LIQUIDATE: what risk found (engine.liquidation); CANCEL_ALL 1: of `position` alone",
    ),
    Field("risk_reserved", "2u1", "zero"),
    Field(
        "risk_held_quanta",
        "<i8",
        "what risk has set aside (WITHDRAW, POSITION_MARGIN) or held (PLACE) for it",
    ),
    Field(
        "risk_note",
        "<i8",
        "DUPLICATE_*, REPLAYED: what was first; TRIGGER: row of the conditional order, or NIL",
    ),
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
        Field(
            "tick_quanta",
            "<i8",
            "what one tick means to people: quanta a unit of the base; 0: not said. "
            "tick_lot_quanta / tick_quanta units are one lot",
        ),
        Field("symbol_reserved", "<i8", "zero"),
        *_RISK,
    ),
)

ALGO_COMMAND = record(
    "ALGO_COMMAND",
    "PLACE_ALGO; `type` of the tail is a codes.AlgoType. CANCEL_ALGO and TRIGGER are COMMANDs",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("trigger_ticks", "<i8", "the price it waits for; TRAILING: 0"),
        Field("price_ticks", "<i8", "limit price of STOP and TAKE_PROFIT, else 0"),
        Field("qty_lots", "<i8", "quantity; 0 with CLOSE_POSITION"),
        *_TAIL,
        Field("client_id", "5i8", "client algo id, and client order id once triggered"),
        Field("expire_ns", "<i8", "GTD of the order it becomes"),
        Field("activate_ticks", "<i8", "TRAILING: it begins to follow here; 0: at once"),
        Field(
            "terms",
            "<i8",
            "callback_ppm of TRAILING | codes.Working << 32 | price protection << 40",
        ),
        *_ORIGIN,
        *_RISK,
    ),
)

SETTING_COMMAND = record(
    "SETTING_COMMAND",
    "COUNTDOWN, MARGIN_TYPE, POSITION_MODE, POSITION_MARGIN: one setting of an account",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field(
            "value",
            "<i8",
            "COUNTDOWN: ns from now, 0 stops it; MARGIN_TYPE: codes.MarginType; "
            "POSITION_MODE: codes.PositionMode; POSITION_MARGIN: quanta, negative takes out",
        ),
        Field("setting_reserved", "2i8", "zero"),
        *_TAIL,
        Field("setting_reserved2", "8i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

REQUEST_COMMAND = record(
    "REQUEST_COMMAND",
    "REQUEST_WITHDRAW, REQUEST_ADJUST, APPROVE, REJECT, SETTLE_WITHDRAW, TRANSFER",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("amount_quanta", "<i8", "> 0; REQUEST_ADJUST: signed; APPROVE, REJECT: 0"),
        Field("asset", "<i8", "index of the asset table; APPROVE, REJECT, SETTLE: 0"),
        Field(
            "reference",
            "<i8",
            "REQUEST_*: where the money goes, opaque; APPROVE, REJECT, SETTLE: the request's id, "
            "which is the sequence number of its command; TRANSFER: the account that receives",
        ),
        *_TAIL,
        Field("client_id", "5i8", "request id; the same one is not done twice"),
        Field("principal", "<i8", "who asks or approves: a user's number"),
        Field("fee_quanta", "<i8", "SETTLE_WITHDRAW: the part that is the venue's fee"),
        Field("request_reserved", "<i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

FEE_COMMAND = record(
    "FEE_COMMAND",
    "FEE_RATES: what an account pays instead of the symbol's fees",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("maker_fee_ppm", "<i8", "of notional; negative is a rebate"),
        Field("taker_fee_ppm", "<i8", "of notional, >= 0"),
        Field("own", "<i8", "1: these; 0: the symbol's again"),
        *_TAIL,
        Field("fee_reserved", "8i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

NOTE_COMMAND = record(
    "NOTE_COMMAND",
    "BOOKKEEPING, AUDIT, UPGRADE: what the engine carries and does not read",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("note", "3i8", "opaque"),
        *_TAIL,
        Field("note2", "8i8", "opaque"),
        Field("note3", "8i8", "opaque"),
        *_RISK,
    ),
)

CONTRACT_COMMAND = record(
    "CONTRACT_COMMAND",
    "CONTRACT: what makes a symbol a perpetual",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("funding_interval_ns", "<i8", "between two funding times; 0: no funding"),
        Field("funding_first_ns", "<i8", "a funding time; the others lie whole intervals from it"),
        Field("impact_quanta", "<i8", "impact margin notional, for the premium"),
        *_TAIL,
        Field("interest_ppb", "<i8", "interest rate of 8 hours"),
        Field("funding_clamp_ppb", "<i8", "interest - premium is clamped at +- this"),
        Field("funding_cap_ppb", "<i8", "highest rate of one interval"),
        Field("funding_floor_ppb", "<i8", "lowest rate of one interval"),
        Field("mark_band_ppm", "<i8", "the mark stays this near the index; 0 for any distance"),
        Field("source_clamp_ppm", "<i8", "a source counts at most this far from their median"),
        Field("source_stale_ns", "<i8", "an older source price doesn't count; 0: none is stale"),
        Field("liquidation_fee_ppm", "<i8", "clearance fee, of liquidated notional"),
        Field("protect_ppm", "<i8", "price protection of conditional orders: |mark - last| / mark"),
        Field("breaker_ppm", "<i8", "a mark that moves more in the window halts; 0 for never"),
        Field("breaker_window_ns", "<i8", "circuit breaker: the window"),
        Field("breaker_pause_ns", "<i8", "circuit breaker: how long cancel-only lasts"),
        Field("algos_max", "<i8", "conditional orders an account may have here"),
        Field("position_quanta_max", "<i8", "largest notional of a position; 0 for the brackets'"),
        Field("jump_ppm", "<i8", "an index that moves more at once waits; 0: INDEX_JUMP_PPM"),
        Field("contract_reserved", "<i8", "zero"),
        *_RISK,
    ),
)

BRACKET_COMMAND = record(
    "BRACKET_COMMAND",
    "BRACKET: leverage bracket `index` of a symbol; those above it are dropped",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("index", "<i8", "from 0; the one before it must be there"),
        Field("floor_quanta", "<i8", "notional where it begins; bracket 0 at 0"),
        Field("cap_quanta", "<i8", "notional where it ends"),
        *_TAIL,
        Field("maintenance_ppm", "<i8", "of notional; not below the bracket before"),
        Field("bracket_leverage_max", "<i8", "largest leverage; not above the bracket before"),
        Field("bracket_reserved", "6i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

SOURCE_COMMAND = record(
    "SOURCE_COMMAND",
    "SOURCE, SOURCE_PRICE: an index source of a symbol, and what it says",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("source", "<i8", "0 to SOURCES_MAX - 1"),
        Field("weight", "<i8", "SOURCE: in the index, 0 drops it; SOURCE_PRICE: 0"),
        Field("source_ticks", "<i8", "SOURCE_PRICE: its price; SOURCE: 0"),
        *_TAIL,
        Field("source_ns", "<i8", "SOURCE_PRICE: when the source said so"),
        Field("source_reserved", "7i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

SETTLE_COMMAND = record(
    "SETTLE_COMMAND",
    "SETTLE_SYMBOL, LIQUIDATE, FUNDING, LIQUIDATION_ORDER, DELIST",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field(
            "settle_ticks",
            "<i8",
            "SETTLE_SYMBOL: at this price; LIQUIDATION_ORDER: the worst price",
        ),
        Field(
            "settle_lots",
            "<i8",
            "LIQUIDATION_ORDER: how much; FUNDING: rows to pay, 0 in older logs: 128; else 0",
        ),
        Field("settle_row", "<i8", "row of the position or wallet meant, or 0"),
        *_TAIL,
        Field("settle_reserved", "8i8", "zero"),
        *_ORIGIN,
        *_RISK,
    ),
)

TAKEOVER_COMMAND = record(
    "TAKEOVER_COMMAND",
    "TAKEOVER: a bankrupt position goes to the insurance fund or to the other side",
    size_bytes=256,
    fields=(
        *_HEAD,
        Field("tells_rank", "<i8", "1: a victim's place in the queue is reported; 0 in older logs"),
        Field("takeover_reserved", "<i8", "zero"),
        Field("takeover_row", "<i8", "row of the position"),
        *_TAIL,
        Field("takeover_rest", "8i8", "zero"),
        *_ORIGIN,
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
        Field(
            "price_ticks",
            "<i8",
            "FILL: the maker's price; RESTED, AMENDED: the order's price; BOOK: best bid, 0 for "
            "none; IMPACT: last bid that the notional reaches, 0: it is too thin",
        ),
        Field(
            "lots",
            "<i8",
            "FILL: quantity traded; AMENDED: its new total; BOOK: best ask, PRICE_TICKS_MAX + 1 "
            "for none; IMPACT: the impact bid is trade_id * price_ticks / this",
        ),
        Field(
            "open_lots",
            "<i8",
            "what the order at `slot` has left after this; IMPACT: last ask",
        ),
        Field(
            "maker_open_lots",
            "<i8",
            "FILL: what the maker has left; IMPACT: the impact ask is trade_id * open_lots / this",
        ),
        Field(
            "trade_id", "<i8", "FILL: dense per symbol, from 1; IMPACT: the notional, ticks * lots"
        ),
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
        Field("flags", "u1", "codes.Flag; AMENDED: TO_BACK too when that was asked for"),
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
    "EXEC: one side of a trade; `status`: 1 taker, 2 sell side, codes.Cause << 2, "
    "codes.PositionSide << 5",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("order_id", "<i8", "the order that traded; 0: none did (TAKEOVER, ADL, DELIST)"),
        Field("trade_id", "<i8", "dense per symbol; of trades outside the book too, but negative"),
        Field("price_ticks", "<i8", "traded at"),
        Field("lots", "<i8", "traded"),
        Field("open_lots", "<i8", "what is left of the order; 0: it is filled"),
        Field("fee_quanta", "<i8", "paid; negative is a rebate"),
    ),
)

POSITION_REPORT = record(
    "POSITION_REPORT",
    "POSITION: a position and its cross wallet after a trade; `status` as in EXEC",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("trade_id", "<i8", "the trade"),
        Field("position_lots", "<i8", "signed"),
        Field("entry_quanta", "<i8", "signed exact cost of the open position"),
        Field("realised_quanta", "<i8", "by this trade, fee not included"),
        Field("wallet_quanta", "<i8", "after it, fee included"),
        Field("hold_quanta", "<i8", "what the order that traded still holds"),
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

MARGIN_REPORT = record(
    "MARGIN_REPORT",
    "MARGIN: margin of a position after it changed; `status`: codes.PositionSide, 4 isolated",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("liquidation_ticks", "<i8", "liquidation price, rounded to the safe side; 0: none"),
        Field("isolated_quanta", "<i8", "its isolated wallet; 0 when cross"),
        Field("maintenance_quanta", "<i8", "maintenance margin at mark"),
        Field("leverage", "<i8", "chosen leverage"),
        Field("sunk_quanta", "<i8", "fees paid less PnL realised since it was opened: break-even"),
        Field("mark_ticks", "<i8", "the mark of these figures"),
    ),
)

HOLD_REPORT = record(
    "HOLD_REPORT",
    "HOLD: what an order holds and claims, after it changed without a trade or a flip; `status` 1: "
    "its hold stands apart, and is not netted",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("order_id", "<i8", "whose"),
        Field("hold_quanta", "<i8", "after it"),
        Field("change_quanta", "<i8", "what it took, or (negative) gave back"),
        Field("close_lots", "<i8", "its claim on the position after it"),
        Field("open_lots", "<i8", "what is left of the order"),
        Field("asset", "<i8", "of the money"),
    ),
)

FUNDING_REPORT = record(
    "FUNDING_REPORT",
    "FUNDING: one position paid or received; `status`: codes.PositionSide, 4 isolated",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("funding_ns", "<i8", "the funding time this is for"),
        Field("rate_ppb", "<i8", "of notional at mark; positive: longs pay"),
        Field("mark_ticks", "<i8", "the mark it is reckoned at"),
        Field("position_lots", "<i8", "signed"),
        Field("amount_quanta", "<i8", "into the account; negative: paid"),
        Field("wallet_quanta", "<i8", "cross or isolated wallet after it"),
    ),
)

FUNDING_ROUND_REPORT = record(
    "FUNDING_ROUND_REPORT",
    "FUNDING_ROUND: a symbol's funding; `status` 0: begun, 1: every position has been paid",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("funding_ns", "<i8", "the funding time"),
        Field("rate_ppb", "<i8", "of notional at mark; positive: longs pay"),
        Field("mark_ticks", "<i8", "the mark it is reckoned at"),
        Field("index_ticks", "<i8", "the index then"),
        Field("dust_quanta", "<i8", "what rounding kept, to the dust account; 0 when begun"),
        Field("next_ns", "<i8", "the next funding time"),
    ),
)

PRICE_REPORT = record(
    "PRICE_REPORT",
    "PRICE: mark and index of a symbol after one of them changed",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("ts_ns", "<i8", "the command's time"),
        Field("mark_ticks", "<i8", "mark price"),
        Field("index_ticks", "<i8", "index price; 0: none"),
        Field("rate_ppb", "<i8", "funding rate if it were due now"),
        Field("next_ns", "<i8", "next funding time; 0: none"),
        Field("halted", "<i8", "codes.Halt: unless NONE, nobody is liquidated and nothing funded"),
    ),
)

ALGO_REPORT = record(
    "ALGO_REPORT",
    "ALGO: a conditional order after an event; `status`: codes.AlgoStatus",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("algo_id", "<i8", "the conditional order: sequence number of its PLACE_ALGO"),
        Field("order_id", "<i8", "the order it became, else 0"),
        Field("trigger_ticks", "<i8", "what it waits for"),
        Field("price_ticks", "<i8", "limit price, or 0"),
        Field("qty_lots", "<i8", "quantity; 0 with CLOSE_POSITION"),
        Field("side", "u1", "codes.Side"),
        Field("type", "u1", "codes.AlgoType"),
        Field("tif", "u1", "codes.Tif"),
        Field("flags", "u1", "codes.Flag"),
        Field("reason", "u1", "codes.Reason"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("stp", "u1", "codes.Stp"),
        Field("working", "u1", "codes.Working | 2 price protection"),
    ),
)

TRAIL_REPORT = record(
    "TRAIL_REPORT",
    "TRAIL: what a conditional order has besides; follows its first ALGO",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("algo_id", "<i8", "the conditional order"),
        Field("activate_ticks", "<i8", "TRAILING: it begins to follow here"),
        Field("callback_ppm", "<i8", "TRAILING: how far it lets the price come back"),
        Field("expire_ns", "<i8", "GTD of the order it becomes"),
        Field("ts_ns", "<i8", "the command's time"),
        Field("reserved", "<i8", "zero"),
    ),
)

MOVE_REPORT = record(
    "MOVE_REPORT",
    "MOVE: money moved without a trade; `status`: codes.Move",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("amount_quanta", "<i8", "into the wallet of `account`, signed"),
        Field("wallet_quanta", "<i8", "that wallet after it"),
        Field("other_account", "<i8", "whose wallet it came from; itself: another pocket"),
        Field("other_quanta", "<i8", "that wallet, or the isolated one, after it"),
        Field("reference", "<i8", "the order, trade or request it is for; else 0"),
        Field(
            "pocket",
            "<i8",
            "asset | codes.PositionSide << 16 (ISOLATE, RELEASE)",
        ),
    ),
)

LIQUIDATION_REPORT = record(
    "LIQUIDATION_REPORT",
    "LIQUIDATION: a step; `status`: codes.LiquidationStep; `symbol` NO_SYMBOL: the cross wallet",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("equity_quanta", "<i8", "margin balance then"),
        Field("maintenance_quanta", "<i8", "maintenance margin then"),
        Field("price_ticks", "<i8", "bankruptcy price of what is closed; else 0"),
        Field("lots", "<i8", "to close, signed as the position; else 0"),
        Field("fund_quanta", "<i8", "the insurance fund's wallet"),
        Field("scope", "<i8", "asset | codes.PositionSide << 16 | isolated << 24"),
    ),
)

WARNING_REPORT = record(
    "WARNING_REPORT",
    "WARNING: margin call, before liquidation; `symbol` NO_SYMBOL: the cross wallet",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("equity_quanta", "<i8", "margin balance then"),
        Field("maintenance_quanta", "<i8", "maintenance margin then"),
        Field("wallet_quanta", "<i8", "cross or isolated wallet"),
        Field("mark_ticks", "<i8", "the mark of the symbol; 0 for a cross wallet"),
        Field("position_lots", "<i8", "signed; 0 for a cross wallet"),
        Field("scope", "<i8", "asset | codes.PositionSide << 16 | isolated << 24"),
    ),
)

REQUEST_REPORT = record(
    "REQUEST_REPORT",
    "REQUEST: of a withdrawal or adjustment; `status`: codes.RequestStatus",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("request_id", "<i8", "sequence number of the command that asked"),
        Field("amount_quanta", "<i8", "signed as asked"),
        Field("asset", "<i8", "index of the asset table"),
        Field("principal", "<i8", "who asked, approved, rejected or settled"),
        Field("reference", "<i8", "where the money goes"),
        Field("what", "<i8", "codes.Kind of the request | fee_quanta << 8"),
    ),
)

PARAMETERS_REPORT = record(
    "PARAMETERS_REPORT",
    "PARAMETERS: words 3 to 5 and 8 to 23 of a command, six a report, zero padded; "
    "`status`: codes.Kind << 2 | which of the four",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("payload", "6i8", "as it came"),
    ),
)

ADL_REPORT = record(
    "ADL_REPORT",
    "ADL: whose position a bankrupt one was closed against, and its place in the queue then; "
    "`status`: lights, 0 to 4",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("score_ppb", "<i8", "its score when it was found (shm/ranking.py)"),
        Field("place", "<i8", "among the positions of its side, 1 is the highest score"),
        Field("ranked", "<i8", "how many positions those were"),
        Field("trade_id", "<i8", "the trade, as EXEC names it"),
        Field("price_ticks", "<i8", "bankruptcy price of the other side"),
        Field("lots", "<i8", "closed, signed as the position was"),
    ),
)

EXPIRY_REPORT = record(
    "EXPIRY_REPORT",
    "EXPIRY: when a GTD order just opened ends",
    size_bytes=64,
    fields=(
        *_REPORT,
        Field("order_id", "<i8", "the order"),
        Field("expire_ns", "<i8", "when it ends"),
        Field("reserved", "4i8", "zero"),
    ),
)

# ---------------------------------------------------------------- state owned by risk and settle

ACCOUNT = record(
    "ACCOUNT",
    "one customer, or the venue itself",
    size_bytes=64,
    fields=(
        Field("opened_ns", "<i8", "when"),
        Field("open_orders", "<i8", "live orders over all symbols"),
        Field("first_position", "<i4", "head of the list of its positions, or NIL"),
        Field("state", "u1", "codes.State"),
        Field("pending", "u1", "codes.Reason of a cancel of all its orders that is proposed, or 0"),
        Field("position_mode", "u1", "codes.PositionMode"),
        Field("own_fees", "u1", "1: the fees below, not the symbol's"),
        Field("maker_fee_ppm", "<i4", "of notional"),
        Field("taker_fee_ppm", "<i4", "of notional"),
        Field("first_algo", "<i4", "head of the list of its conditional orders, or NIL"),
        Field("algo_count", "<i4", "how many they are"),
        Field("reserved", "24u1", "zero"),
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
    size_bytes=128,
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
        Field("pending_quanta", "<i8", "set aside for withdrawals; part of wallet_quanta"),
        Field(
            "isolated_quanta", "<i8", "sum of its isolated positions' wallets; not in wallet_quanta"
        ),
        Field("funding_quanta", "<i8", "sum of funding received - paid"),
        Field("adjusted_quanta", "<i8", "sum of adjustments, transfers and moves of the fund"),
        Field("liquidation", "<i8", "codes.LiquidationStep of the cross wallet, NONE when safe"),
        Field("warned", "<i8", "1: a margin call was reported, and it has not been safe since"),
        Field("liquidation_row", "<i8", "the position that its next step is about"),
        Field("reserved", "<i8", "zero"),
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
        Field("brackets_count", "<i8", "leverage brackets; 0: leverage_max alone, no maintenance"),
        Field("first_position", "<i4", "head of the list of its positions, or NIL"),
        Field("last_position", "<i4", "its tail, or NIL"),
        Field("outside_count", "<i8", "trades outside the book so far (TAKEOVER, ADL, DELIST)"),
        Field("settle_ticks", "<i8", "delisting: the price positions are closed at; 0: it is not"),
        Field("settle_row", "<i4", "delisting: the position the next slice begins with, or NIL"),
        Field("algo_count", "<i4", "conditional orders that wait here"),
        Field("open_orders", "<i8", "live orders here"),
        Field("tick_quanta", "<i8", "quanta a unit of the base that one tick is; 0: not said"),
        Field("reserved", "<i8", "zero"),
    ),
)

POSITION = record(
    "POSITION",
    "(account, symbol, leg): position, claims on it, margin",
    size_bytes=192,
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
        Field("position_side", "u1", "codes.PositionSide: BOTH one-way, LONG and SHORT hedge"),
        Field("isolated", "u1", "codes.MarginType"),
        Field("next_position", "<i4", "next of the same account, by symbol and leg, or NIL"),
        Field("first_closer", "<i4", "oldest order with a close claim, or NIL"),
        Field("last_closer", "<i4", "newest order with a close claim, or NIL"),
        Field("wallet", "<i4", "its cross margin: row of the wallet table"),
        Field("hold_sell_quanta", "<i8", "the part of hold_quanta that SELL orders hold, netted"),
        Field("isolated_quanta", "<i8", "its own wallet when isolated, else 0"),
        Field("sunk_quanta", "<i8", "fees paid less PnL realised since it was opened"),
        Field("funding_round", "<i8", "number of the symbol's last funding that it was paid in"),
        Field("liquidation_ticks", "<i8", "liquidation price when it last changed; 0: none"),
        Field("countdown_ns", "<i8", "dead man's switch: when its orders are cancelled; 0: never"),
        Field("next_in_symbol", "<i4", "next position of the symbol, in order of creation, or NIL"),
        Field("countdown_heap", "<i4", "place in the countdown heap, or NIL"),
        Field("liquidation", "u1", "codes.LiquidationStep of an isolated position"),
        Field("pending", "u1", "codes.Reason of a cancel of its orders that is proposed, or 0"),
        Field("warned", "u1", "1: a margin call was reported, and it has not been safe since"),
        Field("tried", "u1", "in liquidation: bit 0 the market has no more, bit 1 taken over"),
        Field("reserved", "4u1", "zero"),
        Field("hold_apart_quanta", "<i8", "the part of hold_quanta that is not netted"),
        Field("sell_lots", "<i8", "the part of order_lots that SELL orders have"),
        Field("plan_lots", "<i8", "in liquidation: to close in the market next; 0: nothing is"),
        Field("plan_ticks", "<i8", "at no worse than this"),
    ),
)

BRACKET = record(
    "BRACKET",
    "a leverage bracket; row symbol * BRACKETS_MAX + index",
    size_bytes=64,
    fields=(
        Field("floor_quanta", "<i8", "notional where it begins"),
        Field("cap_quanta", "<i8", "notional where it ends"),
        Field("maintenance_ppm", "<i8", "of notional"),
        Field("amount_quanta", "<i8", "maintenance amount: what the lower brackets charge less"),
        Field("leverage_max", "<i8", "largest leverage"),
        Field("reserved", "3i8", "zero"),
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
        Field("apart", "u1", "1: its hold is not netted with those of the other side"),
        Field("cause", "u1", "codes.Cause of its trades"),
        Field("reserved", "3u1", "zero"),
        Field("exposure_quanta", "<i8", "what open_lots could cost at the worst price"),
        Field("worst_ticks", "<i8", "that price"),
        Field("reserve_quanta", "<i8", "held beyond hold_quanta while AMENDs are in flight"),
    ),
)

CONTRACT = record(
    "CONTRACT",
    "what makes a symbol a perpetual: index, funding, breaker; its parameters and their state",
    size_bytes=768,
    fields=(
        Field("declared", "<i8", "1 once a CONTRACT command was taken"),
        Field("funding_interval_ns", "<i8", "0: no funding"),
        Field("funding_next_ns", "<i8", "next funding time; 0: none"),
        Field("impact_quanta", "<i8", "impact margin notional"),
        Field("interest_ppb", "<i8", "of 8 hours"),
        Field("funding_clamp_ppb", "<i8", "interest - premium within +- this"),
        Field("funding_cap_ppb", "<i8", "of one interval"),
        Field("funding_floor_ppb", "<i8", "of one interval"),
        Field("mark_band_ppm", "<i8", "mark to index"),
        Field("source_clamp_ppm", "<i8", "source to median"),
        Field("source_stale_ns", "<i8", "age at which a source stops counting"),
        Field("liquidation_fee_ppm", "<i8", "clearance fee"),
        Field("protect_ppm", "<i8", "price protection"),
        Field("breaker_ppm", "<i8", "largest move in the window"),
        Field("breaker_window_ns", "<i8", "the window"),
        Field("breaker_pause_ns", "<i8", "how long cancel-only lasts"),
        Field("algos_max", "<i8", "conditional orders of an account"),
        Field("position_quanta_max", "<i8", "largest notional of a position"),
        Field("index_ticks", "<i8", "index price; 0: none yet"),
        Field("index_ns", "<i8", "when it was last reckoned from live sources"),
        Field("halted", "<i8", "codes.Halt: unless NONE, no liquidation and no funding"),
        Field("jump_ppm", "<i8", "index to the one before"),
        Field("sources_count", "<i8", "index sources declared; 0: the mark is set by hand"),
        Field("funding_first_ns", "<i8", "as declared: a funding time"),
        Field("last_rate_ppb", "<i8", "rate of the last funding round"),
        Field("premium_sum", "<i8", "sum of k * premium_ppb of sample k since the last round"),
        Field("premium_count", "<i8", "samples in it"),
        Field("premium_second", "<i8", "of the last sample, s since the Unix epoch"),
        Field("basis_sum", "<i8", "sum of the samples in `basis`"),
        Field("basis_count", "<i8", "how many they are"),
        Field("basis_bits", "<i8", "bit k: basis[k] holds a sample"),
        Field("basis_second", "<i8", "newest second the ring covers, s since the Unix epoch"),
        Field("basis", "30i8", "best bid + best ask - 2 * index, ticks, by second % 30"),
        Field("funding_round", "<i8", "rounds begun"),
        Field("funding_open", "<i8", "1 until every position has been paid in the newest round"),
        Field("funding_pending", "<i8", "1: the next slice is proposed"),
        Field("funding_row", "<i8", "the position the next slice begins with, or NIL"),
        Field("round_ns", "<i8", "funding time of the newest round"),
        Field("round_rate_ppb", "<i8", "its rate"),
        Field("round_mark_ticks", "<i8", "the mark it is reckoned at"),
        Field("round_sum_quanta", "<i8", "what accounts have received - paid in it so far"),
        Field("breaker_until_ns", "<i8", "the breaker is open until then; 0: it is closed"),
        Field("breaker_seen_ticks", "<i8", "the mark the breaker has seen last"),
        Field("breaker_part", "<i8", "newest part of the window, counted from the Unix epoch"),
        Field("breaker_low_ticks", "8i8", "lowest mark of a part, by part % 8; 0: none"),
        Field("breaker_high_ticks", "8i8", "highest mark of a part"),
        Field("reserved", "7i8", "zero"),
    ),
)

SOURCE = record(
    "SOURCE",
    "an index source; row symbol * SOURCES_MAX + source",
    size_bytes=32,
    fields=(
        Field("weight", "<i8", "0: not there"),
        Field("price_ticks", "<i8", "the last it said; 0: nothing yet"),
        Field("price_ns", "<i8", "when it said so"),
        Field("taken_ns", "<i8", "the newest such time that risk has let through"),
    ),
)

ALGO = record(
    "ALGO",
    "a conditional order that waits",
    size_bytes=192,
    fields=(
        Field("algo_id", "<i8", "0: the row is free"),
        Field("trigger_ticks", "<i8", "what it waits for; TRAILING: as it stands now, or 0"),
        Field("price_ticks", "<i8", "limit price, or 0"),
        Field("qty_lots", "<i8", "0 with CLOSE_POSITION"),
        Field("expire_ns", "<i8", "GTD of the order it becomes"),
        Field("activate_ticks", "<i8", "TRAILING"),
        Field("callback_ppm", "<i8", "TRAILING"),
        Field("extreme_ticks", "<i8", "TRAILING: lowest (BUY) or highest price so far"),
        Field("account", "<u4", "whose"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("type", "u1", "codes.AlgoType"),
        Field("tif", "u1", "codes.Tif"),
        Field("flags", "u1", "codes.Flag"),
        Field("stp", "u1", "codes.Stp"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("working", "u1", "codes.Working"),
        Field("protect", "u1", "1: price protection"),
        Field("pending", "u1", "1: reached, and proposed"),
        Field("active", "u1", "TRAILING: 1 once it follows"),
        Field("client", "<i4", "row of the client-id table, or NIL"),
        Field("heap", "<i4", "which of its symbol's heaps by price it is in, or NIL"),
        Field("next", "<i4", "next of the same account, of what a command has ended, or free"),
        Field("prev", "<i4", "previous one of the same account, or NIL"),
        Field("client_id", "5i8", "its name"),
        Field("trace_hi", "<i8", "trace id, first 8 bytes"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("reserved", "5i8", "zero"),
    ),
)

REQUEST = record(
    "REQUEST",
    "a withdrawal or adjustment under way",
    size_bytes=64,
    fields=(
        Field("request_id", "<i8", "0: the row is free"),
        Field("amount_quanta", "<i8", "signed as asked"),
        Field("asset", "<i8", "index of the asset table"),
        Field("principal", "<i8", "who asked"),
        Field("reference", "<i8", "where the money goes"),
        Field("account", "<u4", "whose"),
        Field("kind", "u1", "codes.Kind of the request"),
        Field("status", "u1", "codes.RequestStatus"),
        Field("reserved", "<u2", "zero"),
        Field("client", "<i4", "row of the client-id table, or NIL"),
        Field("next_free", "<i4", "free list"),
        Field("reserved2", "<i8", "zero"),
    ),
)

ADL_QUEUE = record(
    "ADL_QUEUE",
    "the highest scores among one symbol's positions of a side; row symbol * 2 + codes.Side",
    size_bytes=832,
    fields=(
        Field("state", "<i8", "0: nothing; 1: the search goes on at next_row; 2: it has ended"),
        Field("next_row", "<i8", "position the next slice of the search begins with"),
        Field("count", "<i8", "candidates below"),
        Field("scanned_ns", "<i8", "when the search began"),
        Field("slices", "<i8", "how many commands it has taken"),
        Field("reserved", "3i8", "zero"),
        Field("scores", "64i8", "highest first (shm/ranking.py)"),
        Field("rows", "64i4", "their positions"),
    ),
)

ADL_RANK = record(
    "ADL_RANK",
    "who was taken off an ADL_QUEUE last; the same rows",
    size_bytes=32,
    fields=(
        Field("ranked", "<i8", "candidates that the search for it has seen"),
        Field("place", "<i8", "its place among them, 1 the highest score; 0: nobody was taken yet"),
        Field("score_ppb", "<i8", "its score when it was found"),
        Field("reserved", "<i8", "zero"),
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

DIGEST = record(
    "DIGEST",
    "a signed request in its window",
    size_bytes=32,
    fields=(
        Field("digest_hi", "<i8", "first 8 bytes"),
        Field("digest_lo", "<i8", "last 8 bytes"),
        Field("seq", "<i8", "the command that carried it; 0: the row is free"),
        Field("ts_ns", "<i8", "when that was taken"),
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
    size_bytes=320,
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
        Field("algos_used", "<i8", "rows of the algo table ever used"),
        Field("algos_free", "<i8", "head of the free list, or NIL"),
        Field("requests_used", "<i8", "rows of the request table ever used"),
        Field("requests_free", "<i8", "head of the free list, or NIL"),
        Field("countdown_count", "<i8", "positions in the countdown heap"),
        Field("slice_row", "<i8", "TICK: the symbol it goes on with; in mid-command"),
        Field(
            "slice_sum",
            "<i8",
            "FUNDING, DELIST: rows this command has paid or closed; in mid-command",
        ),
        Field("digests_first", "<i8", "oldest row of the digest ring"),
        Field("digests_count", "<i8", "digests in it"),
        Field("reserved", "7i8", "zero"),
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

# ---------------------------------------------------------------- market data as records

L2_UPDATE = record(
    "L2_UPDATE",
    "a price level after a command changed it; updates of one command have one update_id",
    size_bytes=48,
    fields=(
        Field("ts_ns", "<i8", "the command's time"),
        Field("seq", "<i8", "the command"),
        Field("update_id", "<i8", "dense per symbol, as in depth messages"),
        Field("price_ticks", "<i8", "the level"),
        Field("lots", "<i8", "what rests there now; 0: nothing"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("reserved", "5u1", "zero"),
    ),
)

L3_UPDATE = record(
    "L3_UPDATE",
    "an order in a book after an event",
    size_bytes=64,
    fields=(
        Field("ts_ns", "<i8", "the command's time"),
        Field("seq", "<i8", "the command"),
        Field("update_id", "<i8", "of the symbol's book after this command"),
        Field("order_id", "<i8", "the order"),
        Field("price_ticks", "<i8", "its level"),
        Field("lots", "<i8", "what is left of it; 0: it is gone"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("what", "u1", "1 added at the end of its queue, 2 reduced, 3 traded, 4 removed"),
        Field("reserved", "<u4", "zero"),
        Field("reserved2", "<i8", "zero"),
    ),
)

# ---------------------------------------------------------------- the account view

VIEW_ORDER = record(
    "VIEW_ORDER",
    "an order as clients may ask for it: open, or closed a while ago",
    size_bytes=192,
    fields=(
        Field("order_id", "<i8", "0: the row was never used"),
        Field("client_id", "5i8", "the client's name for it, or zeros"),
        Field("price_ticks", "<i8", "limit price; MARKET: what its hold was reckoned at"),
        Field("qty_lots", "<i8", "total quantity"),
        Field("open_lots", "<i8", "what is left; closed: what was left"),
        Field("quote_ticks_lots", "<i8", "sum of price * lots of its fills"),
        Field("hold_quanta", "<i8", "margin and fee held for it"),
        Field("close_lots", "<i8", "the part of it that claims position"),
        Field("expire_ns", "<i8", "GTD, else 0"),
        Field("created_ns", "<i8", "when it was placed"),
        Field("updated_ns", "<i8", "of its last event"),
        Field("account", "<u4", "whose"),
        Field("next", "<i4", "next younger open one of the account, or of the closed ones"),
        Field("prev", "<i4", "next older one, or NIL"),
        Field("amends", "<i4", "how often it was amended"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("type", "u1", "codes.Type"),
        Field("tif", "u1", "codes.Tif"),
        Field("flags", "u1", "codes.Flag"),
        Field("stp", "u1", "codes.Stp"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("algo_id", "<i8", "the conditional order it was, or 0"),
        Field("trigger_ticks", "<i8", "what that waited for"),
        Field("algo_type", "u1", "codes.AlgoType of it"),
        Field("working", "u1", "codes.Working | 2 price protection, of it"),
        Field("status", "u1", "codes.Status; AMENDED is told as NEW or PARTIALLY_FILLED"),
        Field("reason", "u1", "codes.Reason why it ended"),
        Field("open", "u1", "1 while it lives"),
        Field("algo_flags", "u1", "codes.Flag of the conditional order"),
        Field("apart", "u1", "1: its hold is not netted"),
        Field("reserved", "u1", "zero"),
        Field("reserved2", "3i8", "zero"),
    ),
)

VIEW_ALGO = record(
    "VIEW_ALGO",
    "a conditional order as clients may ask for it: waiting, or ended a while ago",
    size_bytes=192,
    fields=(
        Field("algo_id", "<i8", "0: the row was never used"),
        Field("client_id", "5i8", "the client's name for it, or zeros"),
        Field("trigger_ticks", "<i8", "the price it waits for"),
        Field("price_ticks", "<i8", "limit price, or 0"),
        Field("qty_lots", "<i8", "quantity; 0 with CLOSE_POSITION"),
        Field("expire_ns", "<i8", "GTD of the order it becomes"),
        Field("activate_ticks", "<i8", "TRAILING: it begins to follow here"),
        Field("callback_ppm", "<i8", "TRAILING: how far it lets the price come back"),
        Field("created_ns", "<i8", "when it was placed"),
        Field("updated_ns", "<i8", "of its last event"),
        Field("order_id", "<i8", "the order it became, or 0"),
        Field("account", "<u4", "whose"),
        Field("next", "<i4", "next younger one of the account, or of the closed ones"),
        Field("prev", "<i4", "next older one, or NIL"),
        Field("reserved", "<u4", "zero"),
        Field("symbol", "<u2", "where"),
        Field("side", "u1", "codes.Side"),
        Field("type", "u1", "codes.AlgoType"),
        Field("tif", "u1", "codes.Tif"),
        Field("flags", "u1", "codes.Flag"),
        Field("stp", "u1", "codes.Stp"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("working", "u1", "codes.Working | 2 price protection"),
        Field("status", "u1", "codes.AlgoStatus"),
        Field("reason", "u1", "codes.Reason why it ended"),
        Field("open", "u1", "1 while it waits"),
        Field("reserved2", "<u4", "zero"),
        Field("reserved3", "5i8", "zero"),
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

ERROR = record(
    "ERROR",
    "one kind of error: how often, first, last",
    size_bytes=440,
    fields=(
        Field("count", "<i8", "how often; 0: the row is unused"),
        Field("first_ns", "<i8", "when first, ns since the Unix epoch"),
        Field("last_ns", "<i8", "when last"),
        Field("where", "32u1", "which process, text, zero padded"),
        Field("text", "192u1", "what, its numbers as #"),
        Field("latest", "192u1", "what, as it was the last time"),
    ),
)

HOPS = record(
    "HOPS",
    "a sampled command: when each stage was seen to be done with it, CLOCK_REALTIME; 0: not yet",
    size_bytes=256,
    fields=(
        Field("number", "<i8", "which sample this is, from 1; 0: the row was never used"),
        Field("seq", "<i8", "the command"),
        Field("request", "<i8", "producer << 48 | the producer's own number"),
        Field("account", "<u4", "of the command"),
        Field("symbol", "<u2", "of the command, or NO_SYMBOL"),
        Field("reserved", "<u2", "means nothing"),
        Field("kind", "u1", "codes.Kind"),
        Field("rest", "7u1", "the other codes of the command"),
        Field("trace_hi", "<i8", "trace id, first 8 bytes; 0 when it carries none"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("received_ns", "<i8", "its recv_ns; 0 when it has none"),
        Field("sequenced_ns", "<i8", "its ts_ns: when that turn of the sequencer began"),
        Field("risked_ns", "<i8", "risk had decided"),
        Field("settled_ns", "<i8", "its reports were written"),
        Field("durable_ns", "<i8", "the sync of its group commit had returned"),
        Field("published_ns", "<i8", "its reports had gone out over ZeroMQ"),
        Field("reserved2", "3i8", "zero"),
        Field("matched_ns", "16i8", "the matching shard of that number had passed it"),
    ),
)

REQUEST_HOPS = record(
    "REQUEST_HOPS",
    "a request as its gateway saw it, CLOCK_REALTIME",
    size_bytes=64,
    fields=(
        Field("request", "<i8", "producer << 48 | the producer's own number; 0: never used"),
        Field("seq", "<i8", "the command it became"),
        Field("trace_hi", "<i8", "trace id, first 8 bytes"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("received_ns", "<i8", "when the gateway had read it"),
        Field("handed_ns", "<i8", "before it was put into the ingress ring"),
        Field("heard_ns", "<i8", "when its answer had come back"),
        Field("answered_ns", "<i8", "when the reply was made of it"),
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

# ---------------------------------------------------------------- the ledger's files

LEDGER_ENTRY = record(
    "LEDGER_ENTRY",
    "one journal entry; its legs stand in the columns of the same segment",
    size_bytes=64,
    fields=(
        Field("seq", "<i8", "the command that caused it"),
        Field("recorded_ns", "<i8", "that command's time"),
        Field("effective_ns", "<i8", "when it counts: the same, but for bookkeeping"),
        Field("report", "<i8", "index of the report it was made from"),
        Field("order_id", "<i8", "the order it is about, or 0"),
        Field("reference", "<i8", "trade, request, source or entry it is about; see `event`"),
        Field("first_leg", "<u4", "its first leg, counted from the segment's first"),
        Field("account", "<u4", "whose"),
        Field("symbol", "<u2", "where, or NO_SYMBOL"),
        Field("leg_count", "<u2", "how many legs, at least 2"),
        Field("event", "u1", "ledger.chart.Event"),
        Field("reserved", "3u1", "zero"),
    ),
)

LEDGER_ACCOUNT = record(
    "LEDGER_ACCOUNT",
    "one account of the books and what stands on it",
    size_bytes=32,
    fields=(
        Field("key", "<i8", "ledger.chart.pack"),
        Field("balance", "<i8", "debits - credits"),
        Field("last_leg", "<i8", "its newest leg, or -1"),
        Field("commodity", "<i4", "asset, or 65536 + symbol: its contracts"),
        Field("reserved", "<i4", "zero"),
    ),
)

LEDGER_ORDER = record(
    "LEDGER_ORDER",
    "what a live order holds and claims, as far as reports told",
    size_bytes=32,
    fields=(
        Field("order_id", "<i8", "0: the row is free"),
        Field("hold_quanta", "<i8", "held for it"),
        Field("close_lots", "<i8", "its claim on the position"),
        Field("account", "<u4", "whose"),
        Field("symbol", "<u2", "where"),
        Field("position_side", "u1", "codes.PositionSide"),
        Field("reserved", "u1", "zero"),
    ),
)

LEDGER_SYMBOL = record(
    "LEDGER_SYMBOL",
    "what the ledger has to know of a symbol, or of an asset",
    size_bytes=64,
    fields=(
        Field("name", "2i8", "up to 16 bytes of text"),
        Field("declared", "<i8", "1 once it is"),
        Field("asset", "<i8", "of a symbol: its settlement asset"),
        Field("tick_lot_quanta", "<i8", "of a symbol: quanta per tick and lot"),
        Field("scale", "<i8", "of an asset: decimals"),
        Field("tick_quanta", "<i8", "of a symbol: quanta a unit of the base that one tick is"),
        Field("reserved", "<i8", "zero"),
    ),
)

LEDGER_BREAK = record(
    "LEDGER_BREAK",
    "a report that says something else than the books",
    size_bytes=64,
    fields=(
        Field("seq", "<i8", "the command"),
        Field("report", "<i8", "index of the report"),
        Field("key", "<i8", "the account of the books"),
        Field("expected", "<i8", "what the report says"),
        Field("found", "<i8", "what the books say"),
        Field("check", "<i8", "ledger.postings: what was compared"),
        Field("account", "<u4", "whose"),
        Field("symbol", "<u2", "where, or NO_SYMBOL"),
        Field("reserved", "<u2", "zero"),
        Field("reserved2", "<i8", "zero"),
    ),
)

LEDGER_KEY = record(
    "LEDGER_KEY",
    "one account of the books, in order of first use",
    size_bytes=16,
    fields=(
        Field("key", "<i8", "ledger.chart.pack"),
        Field("commodity", "<i4", "asset, or 65536 + symbol: its contracts"),
        Field("reserved", "<i4", "zero"),
    ),
)

LEDGER_NOTE = record(
    "LEDGER_NOTE",
    "what a BOOKKEEPING command says to the ledger: its words 3 to 5 and 8 to 23",
    size_bytes=152,
    fields=(
        Field("op", "<i8", "ledger.bookkeeping.Op"),
        Field("amount", "<i8", "JOURNAL: quanta, > 0"),
        Field("effective_ns", "<i8", "JOURNAL: when it counts; CLOSE: the period's last instant"),
        Field("principal", "<i8", "who proposes, approves or rejects: a user's number"),
        Field("reference", "<i8", "REVERSE: the entry; APPROVE, REJECT: the proposal's sequence"),
        Field("debit", "<i8", "JOURNAL: key of an account of the books"),
        Field("credit", "<i8", "JOURNAL: key of an account of the books"),
        Field("reserved", "<i8", "zero"),
        Field("text", "11i8", "reason, up to 88 bytes of text"),
    ),
)

LEDGER_TRACE = record(
    "LEDGER_TRACE",
    "which request a command came from, of commands that made entries",
    size_bytes=32,
    fields=(
        Field("seq", "<i8", "the command"),
        Field("trace_hi", "<i8", "trace id, first 8 bytes"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("order_id", "<i8", "the order, or 0"),
    ),
)

LEDGER_BLOCK = record(
    "LEDGER_BLOCK",
    "a run of entries under one hash; each block's hash covers the one before",
    size_bytes=224,
    fields=(
        Field("block", "<i8", "its number, from 0"),
        Field("first_entry", "<i8", "from here"),
        Field("entry_count", "<i8", "so many"),
        Field("first_leg", "<i8", "from here, over all segments"),
        Field("leg_count", "<i8", "so many"),
        Field("first_seq", "<i8", "of its first entry"),
        Field("last_seq", "<i8", "of its last entry"),
        Field("last_ns", "<i8", "recorded time of its last entry"),
        Field("accounts", "<i8", "accounts of the books there are after it"),
        Field("traces", "<i8", "traces there are after it"),
        Field("breaks", "<i8", "breaks there are after it"),
        Field("reserved", "<i8", "zero"),
        Field("root", "4i8", "root of the Merkle tree over its entries"),
        Field("beside", "4i8", "BLAKE2b-256 of the traces and breaks that came with it"),
        Field("previous", "4i8", "`hash` of the block before; zeros in the first"),
        Field("hash", "4i8", "BLAKE2b-256 of all words before this field"),
    ),
)

LEDGER_HEAD = record(
    "LEDGER_HEAD",
    "how far the books are written; a reader looks no further",
    size_bytes=256,
    fields=(
        Field("magic", "<i8", "PERPLED1"),
        Field("layout", "<i8", "digest of the ledger's records"),
        Field("wal_hi", "<i8", "which WAL the reports come from, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("entries", "<i8", "how many"),
        Field("legs", "<i8", "how many"),
        Field("accounts", "<i8", "how many"),
        Field("traces", "<i8", "how many"),
        Field("blocks", "<i8", "how many are closed"),
        Field("breaks", "<i8", "how many"),
        Field("seq", "<i8", "last command taken up"),
        Field("ts_ns", "<i8", "its time"),
        Field("reports", "<i8", "reports taken up"),
        Field("locked_ns", "<i8", "periods up to here are closed"),
        Field("pid", "<i8", "of the writer"),
        Field("updated_ns", "<i8", "when it wrote this"),
        Field("segment_legs", "<i8", "legs a segment has room for"),
        Field("segment_entries", "<i8", "entries a segment has room for"),
        Field("notes", "<i8", "bytes of the notes file"),
        Field("reserved", "9i8", "zero"),
        Field("hash", "4i8", "BLAKE2b-256 of all words before this field"),
    ),
)
