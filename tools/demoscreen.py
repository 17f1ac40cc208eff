"""What somebody in front of a running demo sees: the market, the rates, the money, who runs.

Reads   shared memory (counters, account view), the history database and the books, once a second.
Writes  a screen that is drawn again and again; a line now and then where there is no terminal.
Never   fails because a process is gone for a moment, and never imports numba.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateways.accounts.client import AccountView, ViewError
from gateways.scales import decimal_text
from ledger.files import LedgerError, ledger_folder, read_head
from shm.codes import Cause
from shm.config import Config
from shm.control import View
from shm.counters import COUNTER_CELLS, Counter, Counters
from shm.segment import SegmentError
from shm.units import INSURANCE_ACCOUNT
from tools.children import Child
from tools.demomarket import USDT, USDT_SCALE


class Market(NamedTuple):
    """One symbol, prices as text."""

    name: str
    index_price: str
    mark: str
    last: str
    rate_ppb: int  # of the next funding, as estimated
    funding_s: float  # until then


class Money(NamedTuple):
    """What history knows, since this demo was started, but for forced orders: of all times."""

    forced: dict[int, int]  # codes.Cause -> how many
    payments: int  # of funding
    paid_quanta: int


class Seen(NamedTuple):
    """Everything at one moment; None where nobody could be asked."""

    ns: int
    commands: int | None
    fills: int | None
    markets: list[Market]
    fund_quanta: int | None
    open_orders: int | None
    money: Money | None
    entries: int | None  # in the books


class Watch:
    """Looks, and goes on looking when what it looks at was started again."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._view: View | None = None
        self._counters: Counters | None = None
        self._accounts: AccountView | None = None
        self._history: sqlite3.Connection | None = None
        self._income = 0  # number of the last row counted
        self._payments = self._paid_quanta = 0

    def look(self) -> Seen:
        commands, fills = self._engine()
        markets, fund, orders = self._market()
        money, entries = self._money(), self._entries()
        return Seen(time.monotonic_ns(), commands, fills, markets, fund, orders, money, entries)

    def _engine(self) -> tuple[int | None, int | None]:
        if self._view is None or not self._view.alive:
            self._view = self._counters = None
            with suppress(SegmentError):
                self._view = View(self.config.instance)
                self._counters = Counters.attach(self.config.instance, writable=False)
        if self._counters is None:
            return None, None
        cells = self._counters.cells
        return (
            int(cells[Counter.SEQUENCER_COMMANDS * COUNTER_CELLS]),
            int(cells[Counter.MATCH_FILLS * COUNTER_CELLS]),
        )

    def _market(self) -> tuple[list[Market], int | None, int | None]:
        if self._accounts is None or not self._accounts.alive:
            self._accounts = None
            with suppress(ViewError):
                self._accounts = AccountView(self.config)
        view = self._accounts
        if view is None or not view.ready:
            return [], None, None
        found = []
        for symbol, row in view.symbols().items():
            contract, scale = view.contract(symbol), view.scale(symbol)
            until_s = (contract["next_ns"] - time.time_ns()) / 1e9 if contract["next_ns"] else 0.0
            found.append(
                Market(
                    row["name"],
                    scale.price(contract["index_ticks"]),
                    scale.price(row["mark_ticks"]),
                    scale.price(row["last_ticks"]),
                    contract["rate_ppb"],
                    max(until_s, 0.0),
                )
            )
        fund = None
        with suppress(ViewError):
            account = view.account(INSURANCE_ACCOUNT)
            fund = account.wallets[USDT]["wallet_quanta"] if account is not None else 0
        return found, fund, view.open_count

    def _money(self) -> Money | None:
        try:
            if self._history is None:
                path = self.config.history_path
                if not path.exists():
                    return None
                uri = f"{path.resolve().as_uri()}?mode=ro"
                self._history = sqlite3.connect(uri, uri=True, timeout=0.2, isolation_level=None)
                (last,) = self._history.execute("SELECT max(number) FROM income").fetchone()
                self._income = last or 0
            db = self._history
            last, count, paid = db.execute(
                "SELECT max(number), sum(type = 'FUNDING_FEE'),"
                " sum((type = 'FUNDING_FEE') * max(amount_quanta, 0)) FROM income WHERE number > ?",
                (self._income,),
            ).fetchone()
            forced = dict(db.execute("SELECT cause, count(*) FROM force_orders GROUP BY cause"))
        except sqlite3.Error:
            self._history = None  # it is being made, or is busy: look again
            return None
        if last is not None:
            self._income = last
            self._payments += count
            self._paid_quanta += paid
        return Money(forced, self._payments, self._paid_quanta)

    def _entries(self) -> int | None:
        with suppress(LedgerError, OSError):
            return int(read_head(ledger_folder(Path(self.config.data_dir)))[0]["entries"])
        return None


# ---------------------------------------------------------------- text


def usdt(quanta: int | None) -> str:
    """Money to the cent, or a dash."""
    return "-" if quanta is None else f"{quanta / 10**USDT_SCALE:,.2f} USDT"


def rate_of(now: int | None, before: int | None, seconds: float) -> str:
    """So many a second; a dash across a start of the engine."""
    if now is None or before is None or now < before:
        return "-"
    return f"{(now - before) / max(seconds, 1e-9):,.0f}"


def forced_text(money: Money | None) -> str:
    if money is None:
        return "-"
    orders = money.forced.get(Cause.LIQUIDATION, 0)
    taken, deleveraged = money.forced.get(Cause.TAKEOVER, 0), money.forced.get(Cause.ADL, 0)
    return (
        f"{orders:,} in the market, {taken:,} taken over by the fund, {deleveraged:,} deleveraged"
    )


def ledger_text(status: str, entries: int | None) -> tuple[str, bool]:
    """(what the reconciliation says, whether it found breaks). status: of its process."""
    booked = "" if entries is None else f", {entries:,} entries"
    found = re.search(r"command (\d+), (\d+) breaks", status)
    if found is None:
        return f"not compared yet{booked}", False
    seq, breaks = int(found[1]), int(found[2])
    if breaks:
        return f"{breaks} BREAKS at command {seq:,}: perpcore ledger breaks{booked}", True
    return f"in balance with a replay at command {seq:,}{booked}", False


def line(now: Seen, before: Seen, reconciled: str) -> str:
    """The moment in one line, for a log. reconciled: what that process says of itself."""
    seconds = (now.ns - before.ns) / 1e9
    prices = " ".join(f"{m.name} {m.mark}" for m in now.markets)
    funding = f"{now.money.payments:,}" if now.money is not None else "-"
    return (
        f"{datetime.now():%H:%M:%S} {rate_of(now.commands, before.commands, seconds)} commands/s, "
        f"{rate_of(now.fills, before.fills, seconds)} fills/s; marks {prices or '-'}; "
        f"liquidations: {forced_text(now.money)}; funding payments: {funding}; "
        f"fund {usdt(now.fund_quanta)}; ledger {ledger_text(reconciled, now.entries)[0]}"
    )


def screen(
    now: Seen, before: Seen, children: Mapping[str, Child], reconciled: str, notes: Iterable[str]
) -> Any:
    """The moment as a picture. notes: lines below it."""
    seconds = (now.ns - before.ns) / 1e9
    market = Table(box=None, pad_edge=False)
    for title in ("", "index", "mark", "last", "funding rate", "in"):
        market.add_column(title, justify="left" if not title else "right", min_width=9)
    for m in now.markets:
        style = "green" if m.rate_ppb >= 0 else "red"
        rate = Text(f"{decimal_text(m.rate_ppb, 7)} %", style)
        market.add_row(m.name, m.index_price, m.mark, m.last, rate, f"{m.funding_s:.0f} s")
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold")
    facts.add_column()
    money = now.money
    paid = "-" if money is None else f"{money.payments:,} payments, {usdt(money.paid_quanta)}"
    balance, broken = ledger_text(reconciled, now.entries)
    orders = "-" if now.open_orders is None else f"{now.open_orders:,}"
    for title, text in (
        ("commands/s", rate_of(now.commands, before.commands, seconds)),
        ("fills/s", rate_of(now.fills, before.fills, seconds)),
        ("open orders", orders),
        ("liquidations", forced_text(money)),
        ("funding", paid),
        ("insurance fund", usdt(now.fund_quanta)),
        ("ledger", Text(balance, "bold red" if broken else "green")),
    ):
        facts.add_row(title, text)
    who = Text("processes  ", "bold")
    for child in children.values():
        again = f" (started again {child.restarts} times)" if child.restarts else ""
        style = "" if child.alive and child.ready else "yellow"
        who.append(f"{child.name}{again}  ", style)
    return Group(market, Text(), facts, who, *(Text(note) for note in notes))
