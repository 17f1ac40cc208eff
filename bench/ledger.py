"""How fast the books are kept, what they weigh, and how long a look into the past takes.

    python -m bench.ledger [--smoke] [--json] [--out DIR] [--entries N]

The engine runs in this process over private rings: limit orders around a mark, cancels, and the
trades they make, in four symbols. Its reports are booked with balances, hash trees and chain; only
that is timed. Wall time is what the thread ran, what it waited for a core that others had, and what
it slept for the disk: the kernel's accounts of the thread (schedstat) tell them apart. Then

  lag       reports come as they would at 200,000 commands/s; how long after a report's time it is
            in the books, committed, and when the last one is
  rebuild   the books are made again from the commands: engine, replay and booking in one thread,
            and must end in the same hash chain
  past      balance sheets of random past instants are drawn, each by a reader that opens the
            directory anew, and checked against the sums of all legs

What is compared: TigerBeetle publishes 606,258 transfers/s (two legs each), replicated and durable,
on far larger hardware. Postings here are legs; durability is the report log's, the books are
derived from it; nothing is replicated.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.harness import Report, parser
from engine.recovery import fresh_arrays
from engine.replay import Replayer
from engine.state import Limits
from ledger.books import Books
from ledger.chart import Event
from ledger.sheet import as_text
from ledger.statements import balance_sheet
from ledger.store import Ledger
from shm.codes import Kind
from shm.records import COMMAND, NO_SYMBOL
from shm.units import SYSTEM_ACCOUNTS
from tools.inprocess import Venue

Array = np.ndarray[Any, Any]
ENTRIES: Final = 10_000_000
ACCOUNTS: Final = 1_000
ORDERS: Final = 1 << 17
SYMBOLS: Final = 4
ROUND: Final = 200_000  # commands between two bookings
MARK: Final = 1_000
RATE: Final = 200_000  # commands a second
COMMANDS_A_DAY: Final = RATE * 86_400
LAG_ROUNDS: Final = 10  # of ROUND commands: ten seconds' worth
REBUILD_ROUNDS: Final = 3


class Clock:
    """Where the time of this thread goes."""

    def __init__(self) -> None:
        self.cpu = self.wall = self.queued = 0.0

    def _now(self) -> tuple[float, float, float]:
        ran, waited, _slices = map(int, Path("/proc/thread-self/schedstat").read_text().split())
        return ran / 1e9, time.monotonic(), waited / 1e9

    def __enter__(self) -> Clock:
        self._begun = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        ran, wall, queued = (b - a for a, b in zip(self._begun, self._now(), strict=True))
        self.cpu, self.wall, self.queued = self.cpu + ran, self.wall + wall, self.queued + queued

    def rates(self, what: str, count: int) -> dict[str, Any]:
        """Millions a second: of CPU, on a core of its own (sleep counts), and as it was."""
        alone = max(self.wall - self.queued, self.cpu)
        return {
            f"M {what}/s cpu": count / self.cpu / 1e6,
            f"M {what}/s own core": count / alone / 1e6,
            f"M {what}/s wall": count / self.wall / 1e6,
            "% queued": 100 * self.queued / self.wall,
            "% asleep": 100 * max(self.wall - self.queued - self.cpu, 0) / self.wall,
        }


def open_venue(accounts: int) -> Venue:
    """Funded accounts and symbols with fees on both sides."""
    limits = Limits(
        accounts=SYSTEM_ACCOUNTS + accounts,
        assets=1,
        symbols=SYMBOLS,
        positions=SYMBOLS * (SYSTEM_ACCOUNTS + accounts),
        orders=ORDERS,
        clients=256,
        leaves=4096,
        trie=4096,
    )
    v = Venue(limits, commands=4096, matches=4096, reports=16384, ingress_slots=4096)
    v.send(Kind.ASSET, asset=0, scale=6, name="USDT")
    for symbol in range(SYMBOLS):
        v.send(
            Kind.SYMBOL,
            symbol=symbol,
            name=f"PERP{symbol}",
            tick_lot_quanta=10,
            qty_lots_min=1,
            qty_lots_max=10_000,
            price_ticks_min=1,
            price_ticks_max=100_000,
            maker_fee_ppm=20,
            taker_fee_ppm=50,
            leverage_max=100,
            leverage_default=10,
            orders_max=100_000,
        )
        v.send(Kind.MARK, symbol=symbol, mark_ticks=MARK)
    for account in range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + accounts):
        v.send(Kind.ACCOUNT, account=account, symbol=NO_SYMBOL)
        v.send(Kind.DEPOSIT, account=account, amount_quanta=10**12)
    v.work()
    return v


def commands(r: np.random.Generator, count: int, accounts: int, first_seq: int) -> Array:
    """55% new orders, a quarter of them across the spread; 45% cancels of recent ones."""
    rows = np.zeros(count, COMMAND.dtype)
    place = r.random(count) < 0.55
    place[0] = True
    rows["kind"] = np.where(place, int(Kind.PLACE), int(Kind.CANCEL))
    rows["account"] = SYSTEM_ACCOUNTS + r.integers(0, accounts, count)
    rows["symbol"], rows["lines"] = r.integers(0, SYMBOLS, count), 1
    side, away = r.integers(0, 2, count), r.geometric(0.2, count)
    away = np.where(r.random(count) < 0.25, -away, away)
    rows["side"] = np.where(place, side, 0)
    rows["price_ticks"] = np.where(place, MARK + np.where(side == 0, -away, away), 0)
    rows["qty_lots"] = np.where(place, r.integers(1, 20, count), 0)
    # A cancel names an order placed a little before: its id is its sequence number.
    number = np.arange(count)
    newest = np.maximum.accumulate(np.where(place, number, 0))
    aim = newest[np.maximum(number - r.integers(1, 200, count), 0)]
    gone = ~place
    rows["order_id"][gone] = first_seq + aim[gone]
    for name in ("account", "symbol"):
        rows[name][gone] = rows[name][aim[gone]]
    return rows


def batches(accounts: int, seed: int, log: list[Array] | None = None) -> Iterator[Array]:
    """Reports of the engine, a round at a time, without end.

    log         is given the commands of each round, as a WAL has them
    """
    v = open_venue(accounts)
    r = np.random.default_rng(seed)
    while True:
        if log is not None:
            log.append(np.array(v.log).reshape(-1))
        yield v.all_reports()
        v.reports.clear()
        v.log.clear()
        v.told = 0
        # What was never met is taken away, or the table of orders fills, and nothing is booked.
        for account in range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + accounts):
            v.send(Kind.CANCEL_ALL, account=account, symbol=NO_SYMBOL)
        v.work()
        v.send_rows(commands(r, ROUND, accounts, int(v.venue["settled_seq"]) + 1))
        v.work()
        assert int(np.count_nonzero(v.arrays["claims"]["order_id"])) < ORDERS // 2


def size_of(folder: Path) -> int:
    """Bytes the books take on disk; of the newest segment only what is used."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: list[str] | None = None) -> None:
    """Book until there are enough entries, weigh them, look back."""
    made = parser("ledger", __doc__)
    made.add_argument("--entries", type=int, default=ENTRIES, help="how many to book")
    chosen = made.parse_args(argv)
    wanted = 2_000 if chosen.smoke else chosen.entries
    accounts = 16 if chosen.smoke else ACCOUNTS
    report = Report("ledger", chosen)
    folder = Path(tempfile.mkdtemp(prefix="perpcore-bench-ledger-"))
    try:
        _book(report, folder / "ledger", wanted, accounts, chosen.smoke)
        _lag(report, folder / "lag", accounts, chosen.smoke)
        _rebuild(report, folder, accounts, chosen.smoke)
        _look_back(report, folder / "ledger", 5 if chosen.smoke else 50)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.finish()


def _book(report: Report, folder: Path, wanted: int, accounts: int, smoke: bool) -> None:
    ledger = Ledger(folder)
    clock = Clock()
    reports = seqs = 0
    warm = smoke  # the first round compiles, and is not timed
    counted = (0, 0, 0)
    index = 0
    for rows in batches(accounts, 42):
        before = (ledger.entries, ledger.legs, int(ledger.seq))
        with clock if warm else Clock():
            for at in range(0, len(rows), 8192):
                part = rows[at : at + 8192]
                ledger.feed(index, part)
                ledger.commit()
                index += len(part)
        if warm:
            reports += len(rows)
            seqs += ledger.seq - before[2]
            counted = (
                counted[0] + ledger.entries - before[0],
                counted[1] + ledger.legs - before[1],
                0,
            )
        warm = warm or ledger.seq > 0
        if ledger.entries >= wanted:
            break
    assert ledger.flushed["breaks"] == 0, "the engine's reports and the books differ"
    ledger.close()
    entries, legs = counted[0], counted[1]
    report.table(
        f"booked with balances, hash trees and chain: {entries:,} entries of {accounts:,} accounts",
        [
            {
                **clock.rates("legs", legs),
                "M entries/s cpu": entries / clock.cpu / 1e6,
                "M reports/s cpu": reports / clock.cpu / 1e6,
                "legs/entry": legs / entries,
                "entries/command": entries / max(seqs, 1),
            }
        ],
    )
    books = Books(folder)
    events = np.zeros(64, np.int64)
    for _, rows in books.pieces("entries", 0, books.entries):
        events += np.bincount(rows["event"], minlength=64)
    # The newest segment is reserved in full: its empty part is no weight of the legs.
    unused = sum(
        (path.stat().st_size // width - used) * width
        for path, width, used in (
            (
                books.segments[-1].path / name,
                dtype.itemsize,
                books._bounds(len(books.segments) - 1, name)[1]
                - books._bounds(len(books.segments) - 1, name)[0],
            )
            for name, dtype in _columns().items()
        )
    )
    total = size_of(folder) - unused
    a_leg = total / books.legs
    report.table(
        "weight, on this mix: "
        + ", ".join(f"{100 * events[e] / books.entries:.0f}% {e.name}" for e in Event if events[e]),
        [
            {
                "B/leg": a_leg,
                "B/leg beyond its amount": a_leg - 8,
                "GB/day at 200 K commands/s": a_leg * legs / max(seqs, 1) * COMMANDS_A_DAY / 1e9,
            }
        ],
    )


def _lag(report: Report, folder: Path, accounts: int, smoke: bool) -> None:
    """Reports at the times they would have; the writer sleeps as a follower does."""
    made = batches(accounts, 43)
    ledger = Ledger(folder)
    ledger.feed(0, next(made))
    rows = np.concatenate([next(made) for _ in range(1 if smoke else LAG_ROUNDS)])
    rows = rows[: 20_000 if smoke else len(rows)]
    seqs = rows["seq"].astype(np.int64)
    due = (seqs - seqs[0]) / RATE
    lags: list[float] = []
    pause, at, clock = 0.0002, 0, Clock()
    with clock:
        begun = time.monotonic()
        while at < len(rows):
            upto = int(np.searchsorted(due, time.monotonic() - begun, side="right"))
            end = min(upto, at + 8192)
            if end == at:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.005)
                continue
            pause = 0.0002
            ledger.feed(ledger.next_report, rows[at:end])
            ledger.commit()
            lags.append(time.monotonic() - begun - float(due[at]))  # of the oldest of them
            at = end
        rest = time.monotonic() - begun - float(due[-1])
    ledger.close()
    report.table(
        f"lag behind an engine at {RATE:,} commands/s, {due[-1]:.1f} s of it",
        [
            {
                "p50 ms": float(np.percentile(lags, 50)) * 1e3,
                "p99 ms": float(np.percentile(lags, 99)) * 1e3,
                "max ms": max(lags) * 1e3,
                "0 again after ms": rest * 1e3,
                "% of a core wanted": 100 * clock.cpu / float(due[-1]),
                "% queued": 100 * clock.queued / clock.wall,
            }
        ],
    )


def _rebuild(report: Report, folder: Path, accounts: int, smoke: bool) -> None:
    """The same books from the commands alone, as `perpcore ledger rebuild` makes them of a WAL."""
    log: list[Array] = []
    made = batches(accounts, 44, log)
    rounds = 1 if smoke else REBUILD_ROUNDS
    rows = [next(made) for _ in range(1 + rounds)]
    wanted, index = Ledger(folder / "wanted"), 0
    for part in rows:
        wanted.feed(index, part)
        index += len(part)
    wanted.close()
    limits = open_venue(accounts).limits
    ledger = Ledger(folder / "again")

    def sink(first: int, reports: Array) -> None:
        ledger.feed(first, reports)

    replayer = Replayer(fresh_arrays(limits), limits, sink=sink)
    replayer.feed(log[0])
    before, clock = (ledger.entries, ledger.legs, ledger.seq), Clock()
    with clock:
        for commands_of in log[1:]:
            replayer.feed(commands_of)
        replayer.feed(log[0][:0], end=True)
        ledger.close()
    assert (ledger.chain, ledger.entries) == (wanted.chain, wanted.entries), "other books came out"
    report.table(
        "rebuilt from commands in memory: replay and booking, one thread",
        [
            {
                **clock.rates("legs", ledger.legs - before[1]),
                "M entries/s cpu": (ledger.entries - before[0]) / clock.cpu / 1e6,
                "M commands/s cpu": (ledger.seq - before[2]) / clock.cpu / 1e6,
            }
        ],
    )


def _columns() -> dict[str, np.dtype[Any]]:
    from ledger.files import COLUMNS

    return COLUMNS


def _look_back(report: Report, folder: Path, times: int) -> None:
    r = random.Random(7)
    spent, cold = [], []
    books = Books(folder)
    amounts, accounts = (
        books.rows(name, 0, min(books.legs, 1 << 22)) for name in ("amount", "account")
    )
    for _ in range(times):
        seq = r.randrange(1, books.head["seq"])
        begun = time.monotonic()
        again = Books(folder)
        cut = again.cut_seq(seq)
        made = balance_sheet(again, cut)
        text = as_text(made)
        cold.append(time.monotonic() - begun)
        begun = time.monotonic()
        balance_sheet(books, books.cut_seq(seq))
        spent.append(time.monotonic() - begun)
        assert made.ok and "Total assets" in text
        if cut.legs <= len(amounts):
            sums = np.zeros(len(books.keys), np.int64)
            np.add.at(sums, accounts[: cut.legs], amounts[: cut.legs])
            assert (sums == again.balances(cut)).all(), seq
    report.table(
        f"balance sheet of a random past instant, {books.entries:,} entries, {books.legs:,} legs",
        [
            {
                "case": case,
                "p50 ms": float(np.percentile(found, 50)) * 1e3,
                "max ms": max(found) * 1e3,
            }
            for case, found in (("opened anew, as text", cold), ("reader kept open", spent))
        ],
    )


if __name__ == "__main__":
    main()
