"""History against a naive scan of the same reports, whatever is asked and wherever it was killed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateways.history.queries import MS, WINDOW_MS, History, QueryError
from gateways.history.writer import Writer, connect
from shm.codes import ReportKind, Status
from shm.config import History as HistoryConfig
from shm.records import EXEC_REPORT, POSITION_REPORT, REPORT
from tests.model.random_flow import Flow, open_venue
from tests.venue import ANN, EVE, Venue


def flow_reports(seed: int, count: int = 300) -> np.ndarray[Any, Any]:
    v = open_venue(Venue(seed=seed))
    for kind, fields in Flow(seed).commands(v, count):
        v.send(kind, **fields)
        v.work()
    return v.all_reports()


class Naive:
    """The same answers by looking at every report, each time."""

    def __init__(self, rows: np.ndarray[Any, Any]) -> None:
        self.trades: list[dict[str, int]] = []
        self.orders: dict[int, dict[str, int]] = {}
        ts = 0
        for k, row in enumerate(rows):
            kind = int(row["kind"])
            if kind in (ReportKind.ORDER, ReportKind.ANSWER, ReportKind.CHECKPOINT):
                ts = int(row["ts_ns"])
            if kind == ReportKind.ORDER:
                self._order(row)
            elif kind == ReportKind.EXEC:
                e = rows[k : k + 1].view(EXEC_REPORT.dtype)[0]
                p = rows[k + 1 : k + 2].view(POSITION_REPORT.dtype)[0]
                assert int(p["kind"]) == ReportKind.POSITION
                self.trades.append(
                    {
                        "account": int(e["account"]),
                        "symbol": int(e["symbol"]),
                        "trade_id": int(e["trade_id"]),
                        "order_id": int(e["order_id"]),
                        "lots": int(e["lots"]),
                        "price_ticks": int(e["price_ticks"]),
                        "fee_quanta": int(e["fee_quanta"]),
                        "realised_quanta": int(p["realised_quanta"]),
                        "taker": int(e["status"]) & 1,
                        "ts_ns": ts,
                    }
                )
                order = self.orders[int(e["order_id"])]
                order["filled_lots"] += int(e["lots"])
                order["quote_ticks_lots"] += int(e["lots"]) * int(e["price_ticks"])

    def _order(self, row: Any) -> None:
        order_id, status = int(row["order_id"]), int(row["status"])
        if status == Status.NEW:
            self.orders[order_id] = {
                "order_id": order_id,
                "account": int(row["account"]),
                "symbol": int(row["symbol"]),
                "created_ns": int(row["ts_ns"]),
                "filled_lots": 0,
                "quote_ticks_lots": 0,
                "reason": 0,
            }
        elif order_id in self.orders and status in (Status.CANCELED, Status.EXPIRED):
            self.orders[order_id]["reason"] = int(row["reason"])

    def of(self, rows: Any, account: int, symbol: int, at: str, first: int, last: int) -> Any:
        return [
            r
            for r in rows
            if r["account"] == account and r["symbol"] == symbol and first <= r[at] <= last
        ]


@pytest.mark.parametrize("seed", range(2))
def test_queries_are_a_scan(seed: int, tmp_path: Path) -> None:
    rows = flow_reports(seed)
    naive = Naive(rows)
    dice = random.Random(seed)
    path = tmp_path / "history.db"
    writer = Writer(connect(path), HistoryConfig())
    seqs = rows["seq"]
    while writer.index < len(rows):
        # Whole commands, a random number of them; now and then killed before the commit.
        stop = min(len(rows), writer.index + dice.randint(1, 400))
        while stop < len(rows) and seqs[stop] == seqs[stop - 1]:
            stop += 1
        writer.apply(rows[writer.index : stop].astype(REPORT.dtype))
        if dice.random() < 0.7:
            writer.commit()
        if dice.random() < 0.3:
            writer.db.close()
            writer = Writer(connect(path), HistoryConfig())
    writer.commit()
    history = History(path)
    times = sorted({t["ts_ns"] // MS for t in naive.trades})
    for account in range(ANN, EVE + 1):
        for symbol in range(4):
            mine = naive.of(naive.trades, account, symbol, "ts_ns", 0, 1 << 62)
            mine.sort(key=lambda t: (t["trade_id"], t["taker"]))
            limit = dice.randint(1, 30)
            got = history.trades(account, symbol, from_id=0, limit=limit)
            assert [{k: r[k] for k in mine[0]} for r in got] == mine[:limit]
            start = dice.choice(times)
            end = start + dice.randint(0, 10_000)
            window = naive.of(naive.trades, account, symbol, "ts_ns", start * MS, end * MS + MS - 1)
            got = history.trades(account, symbol, start_ms=start, end_ms=end, limit=1000)
            assert sorted(r["trade_id"] for r in got) == sorted(t["trade_id"] for t in window)
            assert [r["ts_ns"] for r in got] == sorted(r["ts_ns"] for r in got)
            orders = naive.of(naive.orders.values(), account, symbol, "created_ns", 0, 1 << 62)
            got = history.orders(account, symbol, order_id=1, limit=1000)
            assert [{k: r[k] for k in orders[0]} for r in got] == orders
            newest = history.orders(account, symbol, limit=3)
            assert [r["order_id"] for r in newest] == [o["order_id"] for o in orders][-3:]
        income = history.income(account, start_ms=0, end_ms=1 << 43, limit=1000)
        paid = sum(r["amount_quanta"] for r in income if r["type"] == "COMMISSION")
        assert -paid == sum(t["fee_quanta"] for t in naive.trades if t["account"] == account)


def test_windows_are_the_dialects(tmp_path: Path) -> None:
    connect(tmp_path / "h.db").close()
    history = History(tmp_path / "h.db")
    for code, asked in (
        (-1023, {"start_ms": 10, "end_ms": 9}),
        (-4165, {"start_ms": 0, "end_ms": WINDOW_MS + 1}),
        (-1128, {"from_id": 1, "start_ms": 5}),
        (-1130, {"limit": 0}),
    ):
        with pytest.raises(QueryError) as error:
            history.trades(17, 0, **asked)
        assert error.value.code == code
    assert history.trades(17, 0, start_ms=0, end_ms=WINDOW_MS) == []
    assert history.order(17, order_id=5) is None
    assert history.trades(17, 0, start_ms=1 << 70) == []
