"""Tables of the history database, and the rows they give back.

Never   holds a decimal: prices are ticks, quantities lots, money quanta, times ns, as in reports.

`meta` holds the cursor (index of the next report), moved in the transaction that wrote what came
before it: after a kill the database stands at one index, and goes on from there.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1

TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS orders (
        order_id INTEGER PRIMARY KEY, account INTEGER NOT NULL, symbol INTEGER NOT NULL,
        client_id TEXT NOT NULL DEFAULT '', side INTEGER NOT NULL, type INTEGER NOT NULL,
        tif INTEGER NOT NULL, flags INTEGER NOT NULL, stp INTEGER NOT NULL,
        position_side INTEGER NOT NULL, price_ticks INTEGER NOT NULL, qty_lots INTEGER NOT NULL,
        open_lots INTEGER NOT NULL, filled_lots INTEGER NOT NULL DEFAULT 0,
        quote_ticks_lots INTEGER NOT NULL DEFAULT 0, status INTEGER NOT NULL,
        reason INTEGER NOT NULL DEFAULT 0, expire_ns INTEGER NOT NULL DEFAULT 0,
        algo_id INTEGER NOT NULL DEFAULT 0, trigger_ticks INTEGER NOT NULL DEFAULT 0,
        algo_type INTEGER NOT NULL DEFAULT 0, working INTEGER NOT NULL DEFAULT 0,
        algo_flags INTEGER NOT NULL DEFAULT 0, amends INTEGER NOT NULL DEFAULT 0,
        cause INTEGER NOT NULL DEFAULT 0, created_ns INTEGER NOT NULL,
        updated_ns INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS orders_by_account ON orders (account, symbol, order_id)",
    "CREATE INDEX IF NOT EXISTS orders_by_time ON orders (account, symbol, created_ns)",
    "CREATE INDEX IF NOT EXISTS orders_by_name ON orders (account, client_id)"
    " WHERE client_id <> ''",
    "CREATE INDEX IF NOT EXISTS orders_by_end ON orders (updated_ns)",
    """CREATE TABLE IF NOT EXISTS amendments (
        number INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, account INTEGER NOT NULL,
        symbol INTEGER NOT NULL, ts_ns INTEGER NOT NULL, price_before INTEGER NOT NULL,
        price_after INTEGER NOT NULL, qty_before INTEGER NOT NULL, qty_after INTEGER NOT NULL,
        count INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS amendments_by_order ON amendments (order_id, number)",
    """CREATE TABLE IF NOT EXISTS trades (
        symbol INTEGER NOT NULL, trade_id INTEGER NOT NULL, taker INTEGER NOT NULL,
        account INTEGER NOT NULL, order_id INTEGER NOT NULL, side INTEGER NOT NULL,
        position_side INTEGER NOT NULL, price_ticks INTEGER NOT NULL, lots INTEGER NOT NULL,
        fee_quanta INTEGER NOT NULL, realised_quanta INTEGER NOT NULL, cause INTEGER NOT NULL,
        ts_ns INTEGER NOT NULL, PRIMARY KEY (symbol, trade_id, taker)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS trades_by_id ON trades (account, symbol, trade_id)",
    "CREATE INDEX IF NOT EXISTS trades_by_time ON trades (account, symbol, ts_ns)",
    "CREATE INDEX IF NOT EXISTS trades_by_order ON trades (order_id)",
    "CREATE INDEX IF NOT EXISTS trades_by_age ON trades (ts_ns)",
    """CREATE TABLE IF NOT EXISTS income (
        number INTEGER PRIMARY KEY, account INTEGER NOT NULL, symbol INTEGER NOT NULL,
        asset INTEGER NOT NULL, type TEXT NOT NULL, amount_quanta INTEGER NOT NULL,
        info TEXT NOT NULL DEFAULT '', trade_id INTEGER NOT NULL DEFAULT 0,
        ts_ns INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS income_by_time ON income (account, ts_ns)",
    "CREATE INDEX IF NOT EXISTS income_by_age ON income (ts_ns)",
    """CREATE TABLE IF NOT EXISTS funding (
        symbol INTEGER NOT NULL, funding_ns INTEGER NOT NULL, rate_ppb INTEGER NOT NULL,
        mark_ticks INTEGER NOT NULL, index_ticks INTEGER NOT NULL,
        PRIMARY KEY (symbol, funding_ns)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS funding_by_time ON funding (funding_ns)",
    """CREATE TABLE IF NOT EXISTS force_orders (
        number INTEGER PRIMARY KEY, account INTEGER NOT NULL, symbol INTEGER NOT NULL,
        order_id INTEGER NOT NULL, side INTEGER NOT NULL, position_side INTEGER NOT NULL,
        cause INTEGER NOT NULL, price_ticks INTEGER NOT NULL, qty_lots INTEGER NOT NULL,
        filled_lots INTEGER NOT NULL, quote_ticks_lots INTEGER NOT NULL,
        created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS force_by_time ON force_orders (account, created_ns)",
    "CREATE INDEX IF NOT EXISTS force_by_order ON force_orders (order_id)",
    """CREATE TABLE IF NOT EXISTS algos (
        algo_id INTEGER PRIMARY KEY, account INTEGER NOT NULL, symbol INTEGER NOT NULL,
        client_id TEXT NOT NULL DEFAULT '', side INTEGER NOT NULL, type INTEGER NOT NULL,
        tif INTEGER NOT NULL, flags INTEGER NOT NULL, stp INTEGER NOT NULL,
        position_side INTEGER NOT NULL, working INTEGER NOT NULL, trigger_ticks INTEGER NOT NULL,
        price_ticks INTEGER NOT NULL, qty_lots INTEGER NOT NULL,
        activate_ticks INTEGER NOT NULL DEFAULT 0, callback_ppm INTEGER NOT NULL DEFAULT 0,
        expire_ns INTEGER NOT NULL DEFAULT 0, order_id INTEGER NOT NULL DEFAULT 0,
        status INTEGER NOT NULL, reason INTEGER NOT NULL DEFAULT 0,
        created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
        triggered_ns INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX IF NOT EXISTS algos_by_account ON algos (account, symbol, algo_id)",
    "CREATE INDEX IF NOT EXISTS algos_by_time ON algos (account, symbol, created_ns)",
    "CREATE INDEX IF NOT EXISTS algos_by_name ON algos (account, client_id) WHERE client_id <> ''",
    """CREATE TABLE IF NOT EXISTS moves (
        number INTEGER PRIMARY KEY, account INTEGER NOT NULL, symbol INTEGER NOT NULL,
        asset INTEGER NOT NULL, position_side INTEGER NOT NULL, move INTEGER NOT NULL,
        amount_quanta INTEGER NOT NULL, reference INTEGER NOT NULL, ts_ns INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS moves_by_account ON moves (account, symbol, ts_ns)",
    """CREATE TABLE IF NOT EXISTS transfers (
        number INTEGER NOT NULL, account INTEGER NOT NULL, asset INTEGER NOT NULL,
        kind INTEGER NOT NULL, amount_quanta INTEGER NOT NULL, status INTEGER NOT NULL,
        reference INTEGER NOT NULL, principal INTEGER NOT NULL, fee_quanta INTEGER NOT NULL,
        created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
        PRIMARY KEY (number, account)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS symbols (symbol INTEGER PRIMARY KEY, asset INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS candles (symbol INTEGER PRIMARY KEY, state BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS transfers_by_account ON transfers (account, created_ns)",
    """CREATE TABLE IF NOT EXISTS klines (
        symbol INTEGER NOT NULL, kind INTEGER NOT NULL, interval INTEGER NOT NULL,
        open_ms INTEGER NOT NULL, open INTEGER NOT NULL, high INTEGER NOT NULL,
        low INTEGER NOT NULL, close INTEGER NOT NULL, lots INTEGER NOT NULL,
        ticks_lots INTEGER NOT NULL, trades INTEGER NOT NULL, taker_lots INTEGER NOT NULL,
        taker_ticks_lots INTEGER NOT NULL,
        PRIMARY KEY (symbol, kind, interval, open_ms)) WITHOUT ROWID""",
)
