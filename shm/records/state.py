"""What the engine knows: the tables of risk and settlement, and those of matching."""

from __future__ import annotations

from shm.records.layout import Field, record

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
