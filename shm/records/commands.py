"""What comes in: a slot of the commands ring and of the WAL, by kind.

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

from shm.records.layout import Field, record

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
