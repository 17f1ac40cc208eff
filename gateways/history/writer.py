"""History out of reports: what each of them adds to the tables of gateways/history/schema.py.

Reads   whole commands (gateways/follow.py); on start, the open orders and candles it left.
Writes  one transaction a `commit`, the cursor in it: after a kill the database stands at one index.
Never   decides anything: rows are what reports said, in the engine's units.

Orders that were never in the market (FOK that could not fill, GTX that would have taken) and
refusals are not kept: the answer was all there is of them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np

from gateways import sqlitefile
from gateways.history.schema import TABLES, VERSION
from gateways.marketdata import klines
from gateways.marketdata.klines import KINDS, MINUTE_MS, TRADE, Candles
from shm.codes import (
    AlgoStatus,
    Cause,
    Kind,
    Move,
    Reason,
    ReportKind,
    RequestStatus,
    Status,
)
from shm.config import History
from shm.records import NO_SYMBOL

Array = np.ndarray[Any, Any]

DAY_NS: Final = 86_400_000_000_000
_PRUNE_EVERY_NS: Final = 60_000_000_000
_PRUNE_ROWS: Final = 5_000  # of one table at a time, so that no commit takes long
_LIVE: Final = (int(Status.NEW), int(Status.PARTIALLY_FILLED))
_ORDER: Final = (
    *("order_id", "account", "symbol", "client_id", "side", "type", "tif", "flags", "stp"),
    *("position_side", "price_ticks", "qty_lots", "open_lots", "filled_lots", "quote_ticks_lots"),
    *("status", "reason", "expire_ns", "algo_id", "trigger_ticks", "algo_type", "working"),
    *("algo_flags", "amends", "cause", "created_ns", "updated_ns"),
)
_FORCED: Final = (
    *("account", "symbol", "order_id", "side", "position_side", "cause"),
    *("price_ticks", "qty_lots", "filled_lots", "quote_ticks_lots", "created_ns"),
)
_ALGO: Final = (
    *("algo_id", "account", "symbol", "client_id", "side", "type", "tif", "flags", "stp"),
    *("position_side", "working", "trigger_ticks", "price_ticks", "qty_lots", "activate_ticks"),
    *("callback_ppm", "expire_ns", "order_id", "status", "reason", "created_ns", "updated_ns"),
    "triggered_ns",
)
_INCOME_OF: Final = {
    Move.TRANSFER: "TRANSFER",
    Move.ADJUST: "TRANSFER",
    Move.WITHDRAW_SETTLE: "TRANSFER",
    Move.CLEARANCE: "INSURANCE_CLEAR",
    Move.LEFTOVER: "INSURANCE_CLEAR",
    Move.BAD_DEBT: "INSURANCE_CLEAR",
}


def connect(path: Path) -> sqlite3.Connection:
    """The database for its one writer; made where there is none."""
    db = sqlitefile.connect(path)
    db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last commits, never order
    db.execute("BEGIN IMMEDIATE")  # who reads meanwhile finds all tables or none
    for statement in TABLES:
        db.execute(statement)
    found = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    if found is None:
        db.execute("INSERT INTO meta VALUES ('version', ?)", (VERSION,))
    db.execute("COMMIT")
    if found is not None and found[0] != VERSION:
        raise sqlite3.DatabaseError(
            f"{path}: version {found[0]}, this build writes {VERSION}. Move the file away: it is "
            "written anew from the report log"
        )
    return db


class Writer:
    """The tables, as far as `index`; changes wait for `commit`."""

    def __init__(self, db: sqlite3.Connection, config: History) -> None:
        self.db = db
        self.config = config
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        self.index = int(meta.get("index", 0))
        self.seq = int(meta.get("seq", 0))
        self.ts_ns = int(meta.get("ts_ns", 0))
        self._pruned_ns = self.ts_ns
        self.orders: dict[int, dict[str, Any]] = {}
        self.algos: dict[int, dict[str, Any]] = {}
        self.assets = dict(db.execute("SELECT symbol, asset FROM symbols").fetchall())
        self.candles: dict[int, list[Candles]] = {}
        self._load()
        self._changed_orders: dict[int, dict[str, Any]] = {}
        self._changed_algos: dict[int, dict[str, Any]] = {}
        self._changed_candles: set[int] = set()
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        self._exec: list[Any] | None = None  # a trade whose POSITION has not come yet
        self._triggered: dict[int, dict[str, Any]] = {}  # order id -> the algo it was
        self._words = [0] * 24

    def _load(self) -> None:
        marks = ",".join("?" * len(_LIVE))
        live = self.db.execute(
            f"SELECT {','.join(_ORDER)} FROM orders WHERE status IN ({marks})", _LIVE
        )
        self.orders = {row[0]: dict(zip(_ORDER, row, strict=True)) for row in live}
        waiting = self.db.execute(
            f"SELECT {','.join(_ALGO)} FROM algos WHERE status = ?", (int(AlgoStatus.NEW),)
        )
        self.algos = {row[0]: dict(zip(_ALGO, row, strict=True)) for row in waiting}
        for symbol, state in self.db.execute("SELECT symbol, state FROM candles"):
            kept = msgpack.unpackb(state, strict_map_key=False)
            self.candles[symbol] = [
                Candles.load(1, kind == TRADE, c) for kind, c in enumerate(kept)
            ]

    # ------------------------------------------------------------ reports

    def apply(self, rows: Array) -> None:
        """Whole commands, in order."""
        words = rows.view(np.int64).reshape(-1, 8).tolist()
        for at, w in enumerate(words, self.index):
            head = w[1]
            if w[0] != self.seq:
                self.seq = w[0]
            made = _HANDLERS.get((head >> 48) & 0xFF)
            if made is not None:
                made(self, at, w, head & 0xFFFFFFFF, (head >> 32) & 0xFFFF, (head >> 56) & 0xFF)
        self._end_trade()
        self.index += len(words)

    def _time(self, ts_ns: int) -> None:
        if ts_ns == self.ts_ns:
            return
        before, self.ts_ns = self.ts_ns // 60_000_000_000, ts_ns
        if ts_ns // 60_000_000_000 != before:
            self._minute()

    def _add(self, table: str, *values: Any) -> None:
        self._rows.setdefault(table, []).append(values)

    def _order(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        self._time(w[2])
        if status in (Status.REJECTED, Status.REFUSED):
            return
        order_id, price, lots, packed = w[4], w[5], w[6], w[7] & (1 << 64) - 1
        order = self.orders.get(order_id)
        if order is None:
            if status not in (Status.NEW, Status.AMENDED):
                return  # it was never in the market
            order = self._open(w, account, symbol, price, lots, packed)
        elif status == Status.AMENDED:
            filled = order["filled_lots"]
            total = filled + lots
            if packed >> 56 == Kind.AMEND:
                order["amends"] += 1
                self._add(
                    "amendments",
                    *(at, order_id, account, symbol, w[2], order["price_ticks"], price),
                    *(order["qty_lots"], total, order["amends"]),
                )
            order["price_ticks"], order["qty_lots"], order["open_lots"] = price, total, lots
        else:
            order["status"], order["reason"] = status, (packed >> 32) & 0xFF
            order["open_lots"] = lots
            self._close(order)
        order["updated_ns"] = w[2]
        self._changed_orders[order_id] = order

    def _open(
        self, w: list[int], account: int, symbol: int, price: int, lots: int, packed: int
    ) -> dict[str, Any]:
        liquidation = packed >> 56 == Kind.LIQUIDATION_ORDER
        order: dict[str, Any] = dict.fromkeys(_ORDER, 0)
        order |= {
            "order_id": w[4],
            "account": account,
            "symbol": symbol,
            "client_id": "",
            "side": packed & 0xFF,
            "type": (packed >> 8) & 0xFF,
            "tif": (packed >> 16) & 0xFF,
            "flags": (packed >> 24) & 0xFF,
            "position_side": (packed >> 40) & 0xFF,
            "stp": (packed >> 48) & 0xFF,
            "price_ticks": price,
            "qty_lots": lots,
            "open_lots": lots,
            "status": int(Status.NEW),
            "cause": int(Cause.LIQUIDATION) if liquidation else 0,
            "created_ns": w[2],
            "updated_ns": w[2],
        }
        algo = self._triggered.pop(w[4], None)
        if algo is not None:
            _was_algo(order, algo)
        self.orders[w[4]] = order
        return order

    def _close(self, order: dict[str, Any]) -> None:
        del self.orders[order["order_id"]]
        if order["cause"]:
            values = [order[name] for name in _FORCED]
            self._add("force_orders", order["order_id"], *values, self.ts_ns)

    def _name(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        text = np.array(w[3:8], np.int64).tobytes().rstrip(b"\0").decode("latin1")
        for found, changed in (
            (self.orders.get(w[2]), self._changed_orders),
            (self.algos.get(w[2]), self._changed_algos),
        ):
            if found is not None and not found["client_id"]:
                found["client_id"] = text
                changed[w[2]] = found
                return

    def _expiry(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        order = self.orders.get(w[2])
        if order is not None:
            order["expire_ns"] = w[3]
            self._changed_orders[w[2]] = order

    def _trade(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        self._end_trade()
        order_id, trade_id, price, lots, left, fee = w[2:8]
        taker, side, cause, leg = status & 1, (status >> 1) & 1, (status >> 2) & 7, status >> 5
        if trade_id > 0 and taker:
            self._candles(symbol)[TRADE].trade(
                self.ts_ns // 60_000_000_000, price, lots, side == 0, trade_id
            )
            self._changed_candles.add(symbol)
        order = self.orders.get(order_id)
        if order is not None:
            order["filled_lots"] += lots
            order["quote_ticks_lots"] += price * lots
            order["open_lots"] = left
            order["updated_ns"] = self.ts_ns
            order["cause"] = order["cause"] or cause
            order["status"] = int(Status.FILLED if left == 0 else Status.PARTIALLY_FILLED)
            if left == 0:
                self._close(order)
            self._changed_orders[order_id] = order
        elif order_id == 0 and cause:
            traded = (price, lots, lots, price * lots, self.ts_ns, self.ts_ns)
            self._add("force_orders", -at, account, symbol, 0, side, leg, cause, *traded)
        trade = [symbol, trade_id, taker, account, order_id, side, leg, price, lots, fee, 0, cause]
        self._exec = [at, *trade]

    def _position(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        waiting = self._exec
        if waiting is not None and waiting[2] == w[2] and waiting[4] == account:
            waiting[11] = w[5]
            self._end_trade()

    def _end_trade(self) -> None:
        """The trade at hand is told in full: row and income."""
        if self._exec is None:
            return
        at, *row = self._exec
        self._exec = None
        symbol, trade_id, _, account, *_, fee, realised, _ = row
        self._add("trades", *row, self.ts_ns)
        asset = self.assets.get(symbol, 0)
        if realised:
            self._income(at, 0, account, symbol, asset, "REALIZED_PNL", realised, "", trade_id)
        if fee:
            self._income(at, 1, account, symbol, asset, "COMMISSION", -fee, "", trade_id)

    def _income(
        self,
        at: int,
        k: int,
        account: int,
        symbol: int,
        asset: int,
        kind: str,
        quanta: int,
        info: str = "",
        trade_id: int = 0,
    ) -> None:
        number = at * 4 + k
        row = (number, account, symbol, asset, kind, quanta, info, trade_id, self.ts_ns)
        self._add("income", *row)

    def _wallet(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        asset, amount, source = w[2], w[3], w[6]
        info = "DEPOSIT" if status == Kind.DEPOSIT else "WITHDRAW"
        self._income(at, 0, account, NO_SYMBOL, asset, "TRANSFER", amount, info)
        settled = int(RequestStatus.SETTLED)
        row = (self.seq, account, asset, status, amount, settled, source, 0, 0)
        self._add("transfers", *row, self.ts_ns, self.ts_ns)

    def _move(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        amount, other, reference, pocket = w[2], w[4], w[6], w[7]
        asset, leg = pocket & 0xFFFF, (pocket >> 16) & 3
        row = (at, account, symbol, asset, leg, status, amount, reference, self.ts_ns)
        self._add("moves", *row)
        kind = _INCOME_OF.get(Move(status))
        if kind is None or not amount:
            return
        info = Move(status).name
        self._income(at, 0, account, symbol, asset, kind, amount, info)
        if other != account:
            self._income(at, 1, other, symbol, asset, kind, -amount, info)
        if status == Move.TRANSFER:
            settled = int(RequestStatus.SETTLED)
            for who, quanta, whom in ((account, amount, other), (other, -amount, account)):
                done = (int(Kind.TRANSFER), quanta, settled, whom, 0, 0)
                self._add("transfers", self.seq, who, asset, *done, self.ts_ns, self.ts_ns)

    def _request(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        request, amount, asset, principal, reference, what = w[2:8]
        row = (request, account, asset, what & 0xFF, amount, status, reference, principal)
        self._add("requests", *row, what >> 8, self.ts_ns, self.ts_ns)

    def _funding(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        if w[6]:
            asset = self.assets.get(symbol, 0)
            self._income(at, 0, account, symbol, asset, "FUNDING_FEE", w[6])

    def _round(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        if status == 0:
            self._add("funding", symbol, w[2], w[3], w[4], w[5])

    def _algo(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        algo_id, order_id, trigger, price, lots, packed = *w[2:7], w[7] & (1 << 64) - 1
        if status == AlgoStatus.REFUSED:
            return
        algo = self.algos.get(algo_id)
        if algo is None:
            if status != AlgoStatus.NEW:
                return
            algo = self.algos[algo_id] = dict.fromkeys(_ALGO, 0)
            algo |= {
                "algo_id": algo_id,
                "account": account,
                "symbol": symbol,
                "client_id": "",
                "side": packed & 0xFF,
                "type": (packed >> 8) & 0xFF,
                "tif": (packed >> 16) & 0xFF,
                "flags": (packed >> 24) & 0xFF,
                "position_side": (packed >> 40) & 0xFF,
                "stp": (packed >> 48) & 0xFF,
                "working": packed >> 56,
                "created_ns": self.ts_ns,
            }
        algo |= {"trigger_ticks": trigger, "price_ticks": price, "qty_lots": lots}
        algo |= {"order_id": order_id, "status": status, "reason": (packed >> 32) & 0xFF}
        algo["updated_ns"] = self.ts_ns
        self._changed_algos[algo_id] = algo
        if status == AlgoStatus.TRIGGERED:
            algo["triggered_ns"] = self.ts_ns
            order = self.orders.get(order_id)
            if order is not None:
                _was_algo(order, algo)
                self._changed_orders[order_id] = order
            elif order_id:
                self._triggered = {order_id: algo}
        if status != AlgoStatus.NEW:
            del self.algos[algo_id]

    def _trail(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        algo = self.algos.get(w[2])
        if algo is not None:
            algo |= {"activate_ticks": w[3], "callback_ppm": w[4], "expire_ns": w[5]}
            self._changed_algos[w[2]] = algo

    def _answer(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        self._time(w[2])
        if status == Kind.MARK and w[4] == Reason.NONE:
            self._value(symbol, klines.MARK, w[5])

    def _checkpoint(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        self._time(w[2])

    def _price(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        mark, index = w[3], w[4]
        if mark > 0:
            self._value(symbol, klines.MARK, mark)
        if index > 0:
            self._value(symbol, klines.INDEX, index)
            if mark > 0:
                premium = (mark - index) * 100_000_000 // index
                self._value(symbol, klines.PREMIUM, premium)

    def _parameters(self, at: int, w: list[int], account: int, symbol: int, status: int) -> None:
        """Only which asset a symbol settles in: the second word of a SYMBOL's payload."""
        if status == Kind.SYMBOL << 2:
            self.assets[symbol] = w[3]
            self._add("symbols", symbol, w[3])

    # ------------------------------------------------------------ candles

    def _candles(self, symbol: int) -> list[Candles]:
        found = self.candles.get(symbol)
        if found is None:
            found = [Candles(1, kind == TRADE) for kind in range(len(KINDS))]
            self.candles[symbol] = found
        return found

    def _value(self, symbol: int, kind: int, value: int) -> None:
        self._candles(symbol)[kind].value(self.ts_ns // 60_000_000_000, value)
        self._changed_candles.add(symbol)

    def _minute(self) -> None:
        """A minute has begun: candles close."""
        minute = self.ts_ns // 60_000_000_000
        for symbol, kinds in self.candles.items():
            for kind, candles in enumerate(kinds):
                over = candles.advance(minute)
                for interval, c in over:
                    at = c[klines.OPEN_AT] * MINUTE_MS
                    self._add("klines", symbol, kind, interval, at, *c[1 : klines.FIRST_ID])
                if over:
                    self._changed_candles.add(symbol)

    # ------------------------------------------------------------ transactions

    def commit(self) -> None:
        """Write what has come since the last one, and the cursor, together."""
        db = self.db
        db.execute("BEGIN IMMEDIATE")
        try:
            _upsert(db, "orders", _ORDER, self._changed_orders)
            _upsert(db, "algos", _ALGO, self._changed_algos)
            for table, rows in self._rows.items():
                db.executemany(_INSERT[table], rows)
            for symbol in self._changed_candles:
                kept = [{**c.dump(), "closed": []} for c in self.candles[symbol]]
                db.execute(
                    "INSERT OR REPLACE INTO candles VALUES (?, ?)", (symbol, msgpack.packb(kept))
                )
            if self.ts_ns - self._pruned_ns > _PRUNE_EVERY_NS:
                self._prune()
            meta = {"index": self.index, "seq": self.seq, "ts_ns": self.ts_ns}
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has ended it already
                db.execute("ROLLBACK")
            raise
        self._changed_orders.clear()
        self._changed_algos.clear()
        self._changed_candles.clear()
        self._rows.clear()

    @property
    def waiting(self) -> int:
        """Rows that wait for a commit."""
        changed = len(self._changed_orders) + len(self._changed_algos)
        return changed + sum(len(rows) for rows in self._rows.values())

    def _prune(self) -> None:
        """Forget what configuration doesn't want kept, oldest first, a little at a time."""
        more = False
        marks = ",".join(str(status) for status in _LIVE)
        ended = f"status NOT IN ({marks})"
        for days, table, key, where, unit in (
            (self.config.orders_days, "orders", "order_id", f"updated_ns < ? AND {ended}", 1),
            (
                self.config.unfilled_days,
                "orders",
                "order_id",
                f"updated_ns < ? AND filled_lots = 0 AND {ended}",
                1,
            ),
            (self.config.trades_days, "trades", "rowid", "ts_ns < ?", 1),
            (self.config.income_days, "income", "number", "ts_ns < ?", 1),
            (self.config.klines_days, "klines", "rowid", "open_ms < ? AND interval < 1440", 10**6),
        ):
            if days == 0:
                continue
            before = (self.ts_ns - days * DAY_NS) // unit
            if key == "rowid":
                done = self.db.execute(f"DELETE FROM {table} WHERE {where}", (before,))
            else:
                done = self.db.execute(
                    f"DELETE FROM {table} WHERE {key} IN "
                    f"(SELECT {key} FROM {table} WHERE {where} LIMIT {_PRUNE_ROWS})",
                    (before,),
                )
                more |= done.rowcount == _PRUNE_ROWS
        if not more:
            self._pruned_ns = self.ts_ns


def _was_algo(order: dict[str, Any], algo: dict[str, Any]) -> None:
    """An order is what a conditional order became."""
    order["algo_id"] = algo["algo_id"]
    order["trigger_ticks"] = algo["trigger_ticks"]
    order["algo_type"] = algo["type"]
    order["working"] = algo["working"]
    order["algo_flags"] = algo["flags"]
    order["expire_ns"] = algo["expire_ns"]


def _upsert(
    db: sqlite3.Connection, table: str, names: tuple[str, ...], changed: dict[int, dict[str, Any]]
) -> None:
    if changed:
        marks = ",".join("?" * len(names))
        db.executemany(
            f"INSERT OR REPLACE INTO {table} ({','.join(names)}) VALUES ({marks})",
            [tuple(row[name] for name in names) for row in changed.values()],
        )


def _insert(table: str, count: int) -> str:
    return f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * count)})"


_INSERT: Final = {
    "amendments": _insert("amendments", 10),
    "trades": _insert("trades", 13),
    "income": _insert("income", 9),
    "funding": _insert("funding", 5),
    "force_orders": _insert("force_orders", 13),
    "moves": _insert("moves", 9),
    "transfers": _insert("transfers", 11),
    # The same request again, further on: when it was asked for stays.
    "requests": (
        f"INSERT INTO transfers VALUES ({','.join('?' * 11)}) ON CONFLICT (number, account) DO "
        "UPDATE SET status = excluded.status, fee_quanta = max(fee_quanta, excluded.fee_quanta), "
        "updated_ns = excluded.updated_ns"
    ),
    "klines": _insert("klines", 13),
    "symbols": _insert("symbols", 2),
}
_HANDLERS: Final[dict[int, Any]] = {
    ReportKind.ORDER: Writer._order,
    ReportKind.ANSWER: Writer._answer,
    ReportKind.CHECKPOINT: Writer._checkpoint,
    ReportKind.CLIENT_ID: Writer._name,
    ReportKind.EXPIRY: Writer._expiry,
    ReportKind.EXEC: Writer._trade,
    ReportKind.POSITION: Writer._position,
    ReportKind.WALLET: Writer._wallet,
    ReportKind.MOVE: Writer._move,
    ReportKind.REQUEST: Writer._request,
    ReportKind.FUNDING: Writer._funding,
    ReportKind.FUNDING_ROUND: Writer._round,
    ReportKind.ALGO: Writer._algo,
    ReportKind.TRAIL: Writer._trail,
    ReportKind.PRICE: Writer._price,
    ReportKind.PARAMETERS: Writer._parameters,
}
