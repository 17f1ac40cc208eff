"""How many reports a second each follower sustains, by thread CPU time.

    python -m bench.followers [--smoke] [--json] [--out DIR] [--reports N]

The stream is made up: quotes come and go on 100 prices of 4 symbols, and every fourth order trades.
Each follower's own code applies it in batches of the size that the live one reads, without
processes, sockets or the report log. The account view's answer is checked against the stream, the
books of market data against the view's orders, history's rows against the number of trades.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.harness import Report, parser
from gateways.accounts import layout
from gateways.accounts.layout import Sizes, view_parts
from gateways.accounts.main import ViewState
from gateways.follow import BATCH
from gateways.history.writer import Writer, connect
from gateways.marketdata.market import Hub, Markets
from shm.codes import Kind, ReportKind, Status
from shm.config import History
from shm.kinds import PARAMETER_REPORTS
from shm.records import EXEC_REPORT, POSITION_REPORT, REPORT
from shm.units import SYSTEM_ACCOUNTS

Array = np.ndarray[Any, Any]

SYMBOLS: Final = 4
ACCOUNTS: Final = 64
REPORTS: Final = 1_000_000
START_NS: Final = 1_700_000_000_000_000_000
_SIZES: Final = Sizes(SYSTEM_ACCOUNTS + ACCOUNTS, 1, SYMBOLS, 1024, 1 << 16, 64, 64)


def declare() -> Array:
    """PARAMETERS of the symbols, as the engine tells them."""
    rows = np.zeros(SYMBOLS * (1 + PARAMETER_REPORTS), REPORT.dtype)
    words = rows.view(np.int64).reshape(-1, 8)
    for symbol in range(SYMBOLS):
        at = symbol * (1 + PARAMETER_REPORTS)
        rows["seq"][at : at + 1 + PARAMETER_REPORTS] = 1 + symbol
        rows["kind"][at], rows["status"][at], rows["ts_ns"][at] = (
            *(ReportKind.ANSWER, Kind.SYMBOL, START_NS),
        )
        rows["symbol"][at : at + 1 + PARAMETER_REPORTS] = symbol
        payload = np.zeros(24, np.int64)
        payload[:4] = 100, 0, 0, int.from_bytes(f"SYM{symbol}USD".encode(), "little")
        payload[17] = 100_000
        for part in range(PARAMETER_REPORTS):
            rows["kind"][at + 1 + part] = ReportKind.PARAMETERS
            rows["status"][at + 1 + part] = Kind.SYMBOL << 2 | part
            words[at + 1 + part, 2:] = payload[6 * part : 6 * part + 6]
    return rows


def stream(count: int) -> tuple[Array, int]:
    """About `count` reports and the trades in them: quotes placed and cancelled, some hit."""
    found: list[Array] = [declare()]
    # One cycle: three quotes placed, two cancelled, one hit by a taker; ten reports.
    cycles = max(count // 10, 1)
    n = np.arange(cycles)
    seq = SYMBOLS + 1 + n * 6
    rows = np.zeros((cycles, 10), REPORT.dtype)
    rows["symbol"] = (n % SYMBOLS)[:, None]
    rows["account"] = (SYSTEM_ACCOUNTS + n % ACCOUNTS)[:, None]
    rows["ts_ns"] = START_NS + 1_000_000 * n[:, None]
    rows["kind"] = ReportKind.ORDER
    price = 1000 + (n * 7) % 100
    for k in range(3):
        rows["seq"][:, k] = rows["order_id"][:, k] = seq + k
        rows["price_ticks"][:, k], rows["open_lots"][:, k] = price + k, 5
        rows["side"][:, k] = 1
    for k in range(2):
        rows["seq"][:, 3 + k], rows["order_id"][:, 3 + k] = seq + 3 + k, seq + 1 + k
        rows["status"][:, 3 + k], rows["open_lots"][:, 3 + k] = Status.CANCELED, 5
        rows["price_ticks"][:, 3 + k], rows["side"][:, 3 + k] = price + 1 + k, 1
    rows["seq"][:, 5] = rows["order_id"][:, 5] = seq + 5
    rows["price_ticks"][:, 5], rows["open_lots"][:, 5] = price, 5
    for side, at in ((1, 6), (0, 8)):  # maker, then taker, each with its position
        e = rows[:, at].copy().view(EXEC_REPORT.dtype)
        e["seq"], e["kind"], e["status"] = seq + 5, ReportKind.EXEC, 2 * side + (side == 0)
        e["order_id"] = seq if side else seq + 5
        e["trade_id"], e["price_ticks"], e["lots"] = 1 + n // SYMBOLS, price, 5
        e["open_lots"], e["fee_quanta"] = 0, 7
        rows[:, at] = e.view(REPORT.dtype)
        p = rows[:, at + 1].copy().view(POSITION_REPORT.dtype)
        p["seq"], p["kind"], p["status"] = seq + 5, ReportKind.POSITION, 2 * side + (side == 0)
        p["trade_id"], p["position_lots"], p["wallet_quanta"] = 1 + n // SYMBOLS, 0, -7 * n
        p["entry_quanta"] = p["realised_quanta"] = p["hold_quanta"] = 0
        rows[:, at + 1] = p.view(REPORT.dtype)
    found.append(rows.reshape(-1))
    return np.concatenate(found), cycles


def timed(apply: Callable[[Array], None], rows: Array) -> tuple[float, float]:
    """(reports a second of thread CPU, of wall time), batches as the live follower reads them."""
    seqs = rows["seq"]
    wall, cpu, at = time.perf_counter(), time.thread_time(), 0
    while at < len(rows):
        stop = min(at + BATCH, len(rows))
        while stop < len(rows) and seqs[stop] == seqs[stop - 1]:
            stop += 1
        apply(rows[at:stop])
        at = stop
    return len(rows) / (time.thread_time() - cpu), len(rows) / (time.perf_counter() - wall)


def row(case: str, rates: tuple[float, float]) -> dict[str, Any]:
    return {"case": case, "cpu_per_s": round(rates[0]), "wall_per_s": round(rates[1])}


def main(argv: list[str] | None = None) -> None:
    """Each follower over the same stream."""
    made = parser("followers", __doc__)
    made.add_argument("--reports", type=int, default=REPORTS, help="in the stream, about")
    chosen = made.parse_args(argv)
    report = Report("followers", chosen)
    rows, trades = stream(5_000 if chosen.smoke else chosen.reports)
    results = []

    arrays = {part.name: np.zeros(part.rows, part.dtype) for part in view_parts(_SIZES)}
    view = ViewState(arrays, _SIZES)
    view.apply(np.zeros(0, REPORT.dtype))
    rates = timed(view.apply, rows)
    results.append(
        {"case": "accounts", "cpu_per_s": round(rates[0]), "wall_per_s": round(rates[1])}
    )
    head = arrays["head"]
    assert head[layout.INDEX] == len(rows) and head[layout.DROPPED] == 0
    assert head[layout.OPEN_ORDERS] == 0, "every quote was cancelled or hit"

    hub = Hub()
    markets = Markets(hub)

    def apply_market(batch: Array) -> None:
        markets.apply(batch)
        hub.take()

    for case, heard in (("marketdata, nobody hears", set[str]()), ("marketdata, all hear", None)):
        markets = Markets(hub := Hub())
        hub.heard = heard
        results.append(row(case, timed(apply_market, rows)))
        assert all(m.book.best() == (0, 0, 0, 0) for m in markets.declared())
        assert sum(m.trades[-1].id for m in markets.declared()) >= trades - SYMBOLS

    with tempfile.TemporaryDirectory() as folder:
        db = connect(Path(folder) / "history.db")
        writer = Writer(db, History())

        def apply_history(batch: Array) -> None:
            writer.apply(batch)
            writer.commit()

        results.append(row("history", timed(apply_history, rows)))
        kept = db.execute("SELECT count(*) FROM trades").fetchone()[0]
        assert kept == 2 * trades, (kept, trades)
        db.close()
    report.table("Reports a second that one follower applies", results)
    report.finish()


if __name__ == "__main__":
    main()
