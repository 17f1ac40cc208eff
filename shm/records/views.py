"""What clients read as records: market data, and the orders of the account view."""

from __future__ import annotations

from shm.records.layout import Field, record

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
