"""What comes out: matches, which settlement reads, and the reports of every kind."""

from __future__ import annotations

from shm.records.layout import Field, record

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
