"""The ledger's files: entries, what they are about, blocks and heads."""

from __future__ import annotations

from shm.records.layout import Field, record

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
