"""Ask the history: orders, trades, income and the like with the dialect's filters.

Reads   the SQLite database that gateways/history/main.py writes, read only; WAL mode, so that
        reading waits for nobody.
Never   imports numba; never answers more than `limit` rows; lists are oldest first.

    history = History(config)                     # HistoryError: there is none yet
    await asyncio.to_thread(history.trades, 17, 0, limit=500)       # safe from several threads

Rows are dicts of integers in the engine's units (gateways/scales.py makes decimals of them).

Windows, as in the dialect: with neither time the newest rows are given, with one of them a window
of seven days from or up to it, and a window that is longer or ends before it begins is a
QueryError with the dialect's code. `from_id` starts at an id and takes no times.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Final

from shm.config import Config

Row = dict[str, Any]

MS: Final = 1_000_000
DAY_MS: Final = 86_400_000
WINDOW_MS: Final = 7 * DAY_MS
_TIME_MS_MAX: Final = (1 << 63) // MS - 1
_BUSY_S: Final = 5.0


class HistoryError(RuntimeError):
    """There is no history to read."""


class QueryError(ValueError):
    """What was asked for makes no sense; `code` is the dialect's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class History:
    """Read-only access; one connection a thread."""

    def __init__(self, config: Config | Path) -> None:
        """Raises HistoryError when the history process has never run."""
        self.path = config if isinstance(config, Path) else config.history_path
        self._local = threading.local()
        if not self.path.exists():
            raise HistoryError(f"{self.path}: there is none. Start: perpcore follow history")

    def _read(self, text: str, *values: Any) -> list[Row]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            uri = f"file:{self.path}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                connection.close()
                raise HistoryError(f"{self.path}: is being made. Try again in a moment")
            self._local.connection = connection
        return [dict(row) for row in connection.execute(text, values)]

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    # ------------------------------------------------------------ where it stands

    def seq(self) -> int:
        """Every report of the commands up to here is in the database."""
        rows = self._read("SELECT value FROM meta WHERE key = 'seq'")
        return int(rows[0]["value"]) if rows else 0

    def wait_for(self, seq: int, timeout_s: float = 1.0) -> bool:
        """Whether the database comes as far as `seq` in time. Blocks: call it in a thread."""
        until = time.monotonic() + timeout_s
        while self.seq() < seq:
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        return True

    # ------------------------------------------------------------ orders

    def order(self, account: int, *, order_id: int = 0, client_id: str = "") -> Row | None:
        """One order, open or ended; with both names `order_id` wins. Newest of a reused name."""
        if order_id > 0:
            rows = self._read(
                "SELECT * FROM orders WHERE order_id = ? AND account = ?", order_id, account
            )
        else:
            rows = self._read(
                "SELECT * FROM orders WHERE account = ? AND client_id = ? AND client_id <> ''"
                " ORDER BY order_id DESC LIMIT 1",
                account,
                client_id,
            )
        return rows[0] if rows else None

    def orders(
        self,
        account: int,
        symbol: int,
        *,
        order_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Row]:
        """allOrders: from `order_id` on, or by time of creation."""
        return self._window(
            "orders", "order_id", "created_ns", account, symbol, order_id, start_ms, end_ms, limit
        )

    def amendments(
        self,
        account: int,
        order_id: int,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 50,
    ) -> list[Row]:
        """orderAmendment: newest first, as the dialect has them."""
        first, last = _bounds(start_ms, end_ms, None)
        return self._read(
            "SELECT * FROM amendments WHERE order_id = ? AND account = ? AND ts_ns BETWEEN ? AND ?"
            " ORDER BY number DESC LIMIT ?",
            *(order_id, account, first, last, _limited(limit, 100)),
        )

    def algo(self, account: int, *, algo_id: int = 0, client_id: str = "") -> Row | None:
        """One conditional order, waiting or ended."""
        if algo_id > 0:
            rows = self._read(
                "SELECT * FROM algos WHERE algo_id = ? AND account = ?", algo_id, account
            )
        else:
            rows = self._read(
                "SELECT * FROM algos WHERE account = ? AND client_id = ? AND client_id <> ''"
                " ORDER BY algo_id DESC LIMIT 1",
                account,
                client_id,
            )
        return rows[0] if rows else None

    def algos(
        self,
        account: int,
        symbol: int,
        *,
        algo_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Row]:
        """allAlgoOrders: from `algo_id` on, or by time of creation."""
        return self._window(
            "algos", "algo_id", "created_ns", account, symbol, algo_id, start_ms, end_ms, limit
        )

    # ------------------------------------------------------------ trades and money

    def trades(
        self,
        account: int,
        symbol: int,
        *,
        order_id: int | None = None,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Row]:
        """userTrades: of one order, from a trade id on, or by time."""
        if order_id is not None:
            if from_id is not None:
                raise QueryError(-1128, "fromId can't be sent with orderId")
            first, last = _bounds(start_ms, end_ms, WINDOW_MS)
            return self._read(
                "SELECT * FROM trades WHERE order_id = ? AND account = ? AND symbol = ?"
                " AND ts_ns BETWEEN ? AND ? ORDER BY trade_id, taker LIMIT ?",
                *(order_id, account, symbol, first, last, _limited(limit, 1000)),
            )
        return self._window(
            "trades", "trade_id", "ts_ns", account, symbol, from_id, start_ms, end_ms, limit
        )

    def public_trades(
        self, symbol: int, *, from_id: int | None = None, limit: int = 100
    ) -> list[Row]:
        """historicalTrades: the taker's side of each trade, from an id or the newest."""
        limit = _limited(limit, 1000)
        if from_id is not None:
            return self._read(
                "SELECT * FROM trades WHERE symbol = ? AND trade_id >= ? AND taker = 1"
                " ORDER BY trade_id LIMIT ?",
                *(symbol, max(from_id, 1), limit),
            )
        rows = self._read(
            "SELECT * FROM trades WHERE symbol = ? AND trade_id > 0 AND taker = 1"
            " ORDER BY trade_id DESC LIMIT ?",
            *(symbol, limit),
        )
        return rows[::-1]

    def income(
        self,
        account: int,
        *,
        symbol: int | None = None,
        type: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        page: int = 1,
        limit: int = 100,
    ) -> list[Row]:
        """income, oldest first; without times, of the last seven days."""
        if start_ms is None and end_ms is None:
            start_ms = time.time_ns() // MS - WINDOW_MS
        first, last = _bounds(start_ms, end_ms, None)
        limit = _limited(limit, 1000)
        where, values = "account = ? AND ts_ns BETWEEN ? AND ?", [account, first, last]
        if symbol is not None:
            where += " AND symbol = ?"
            values.append(symbol)
        if type is not None:
            where += " AND type = ?"
            values.append(type)  # type: ignore[arg-type]
        return self._read(
            f"SELECT * FROM income WHERE {where} ORDER BY ts_ns, number LIMIT ? OFFSET ?",
            *(*values, limit, (max(page, 1) - 1) * limit),
        )

    def funding(
        self,
        symbol: int | None = None,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 100,
    ) -> list[Row]:
        """fundingRate, ascending: from `start_ms` on, or the newest."""
        first, last = _bounds(start_ms, end_ms, None)
        where, values = "funding_ns BETWEEN ? AND ?", [first, last]
        if symbol is not None:
            where += " AND symbol = ?"
            values.append(symbol)
        order = "ASC" if start_ms is not None else "DESC"
        rows = self._read(
            f"SELECT * FROM funding WHERE {where} ORDER BY funding_ns {order}, symbol LIMIT ?",
            *(*values, _limited(limit, 1000)),
        )
        return rows if start_ms is not None else rows[::-1]

    def force_orders(
        self,
        account: int,
        *,
        symbol: int | None = None,
        causes: tuple[int, ...] = (1, 2, 3),
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 50,
    ) -> list[Row]:
        """forceOrders: what liquidation and ADL closed (`causes`: codes.Cause)."""
        first, last = _bounds(start_ms, end_ms, WINDOW_MS)
        where = "account = ? AND created_ns BETWEEN ? AND ?"
        where += f" AND cause IN ({','.join('?' * len(causes))})"
        values = [account, first, last, *causes]
        if symbol is not None:
            where += " AND symbol = ?"
            values.append(symbol)
        rows = self._read(
            f"SELECT * FROM force_orders WHERE {where} ORDER BY number DESC LIMIT ?",
            *(*values, _limited(limit, 100)),
        )
        return rows[::-1]

    def moves(
        self,
        account: int,
        symbol: int,
        *,
        moves: tuple[int, ...] = (0, 1),
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Row]:
        """positionMargin/history: margin put into and taken out of isolated positions."""
        first, last = _bounds(start_ms, end_ms, None)
        rows = self._read(
            "SELECT * FROM moves WHERE account = ? AND symbol = ? AND ts_ns BETWEEN ? AND ?"
            f" AND move IN ({','.join('?' * len(moves))}) ORDER BY number DESC LIMIT ?",
            *(account, symbol, first, last, *moves, _limited(limit, 500)),
        )
        return rows[::-1]

    def transfers(self, account: int | None = None, *, limit: int = 500) -> list[Row]:
        """Deposits, withdrawals, transfers and adjustments, newest last."""
        where, values = ("account = ?", [account]) if account is not None else ("1", [])
        rows = self._read(
            f"SELECT * FROM transfers WHERE {where} ORDER BY number DESC LIMIT ?",
            *(*values, _limited(limit, 1000)),
        )
        return rows[::-1]

    def klines(
        self,
        symbol: int,
        kind: int,
        interval: int,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Row]:
        """Closed candles; kind and interval as in gateways/marketdata/klines.py."""
        limit = _limited(limit, 1500)
        order = "ASC" if start_ms is not None else "DESC"
        rows = self._read(
            "SELECT * FROM klines WHERE symbol = ? AND kind = ? AND interval = ?"
            f" AND open_ms BETWEEN ? AND ? ORDER BY open_ms {order} LIMIT ?",
            *(symbol, kind, interval, start_ms or 0, _last(end_ms), limit),
        )
        return rows if start_ms is not None else rows[::-1]

    # ------------------------------------------------------------ windows

    def _window(
        self,
        table: str,
        key: str,
        at: str,
        account: int,
        symbol: int,
        from_id: int | None,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
    ) -> list[Row]:
        """Rows of one account and symbol, from an id or in a window, oldest first."""
        limit = _limited(limit, 1000)
        base = f"SELECT * FROM {table} WHERE account = ? AND symbol = ?"
        if from_id is not None:
            if table == "trades" and (start_ms is not None or end_ms is not None):
                raise QueryError(-1128, "fromId can't be sent with startTime or endTime")
            return self._read(
                f"{base} AND {key} >= ? ORDER BY {key} LIMIT ?", account, symbol, from_id, limit
            )
        first, last = _bounds(start_ms, end_ms, WINDOW_MS)
        # From a start time on the oldest rows count, else the newest.
        order = "ASC" if start_ms is not None else "DESC"
        rows = self._read(
            f"{base} AND {at} BETWEEN ? AND ? ORDER BY {at} {order}, {key} {order} LIMIT ?",
            *(account, symbol, first, last, limit),
        )
        return rows if start_ms is not None else rows[::-1]


def _limited(limit: int, most: int) -> int:
    if limit < 1:
        raise QueryError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, most)


def _last(end_ms: int | None) -> int:
    return _TIME_MS_MAX if end_ms is None else min(max(end_ms, 0), _TIME_MS_MAX)


def _bounds(start_ms: int | None, end_ms: int | None, window_ms: int | None) -> tuple[int, int]:
    """(first ns, last ns), both inside; a lone time opens a window where there is a longest one."""
    if start_ms is not None and end_ms is not None:
        if end_ms < start_ms:
            raise QueryError(-1023, "Start time is greater than end time.")
        if window_ms is not None and end_ms - start_ms > window_ms:
            raise QueryError(-4165, "Invalid time interval, maximum time interval is 7 days.")
    elif window_ms is not None and start_ms is not None:
        end_ms = start_ms + window_ms
    elif window_ms is not None and end_ms is not None:
        start_ms = end_ms - window_ms
    first = min(max(start_ms or 0, 0), _TIME_MS_MAX)
    return first * MS, _last(end_ms) * MS + MS - 1
