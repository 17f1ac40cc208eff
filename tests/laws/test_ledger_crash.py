"""The books of a leveraged market through the crash of January 2022: whatever liquidation does is
booked, and the books are the engine's tables in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.books import Books
from ledger.chart import Event
from ledger.exports import Exporter
from ledger.reconcile import compare, laws
from ledger.statements import balance_sheet
from ledger.store import Ledger
from ledger.verify import verify
from tests.laws.test_ledger_laws import every_entry_balances
from tests.unit.test_ledger_exports import PROGRAMS, bend, checked
from tools.ledger_facts import facts_of

market = pytest.importorskip("tests.model.market", reason="no market to liquidate")

CRASH = 27_000  # minute of the file where the fall begins
LIQUIDATION = {Event.LIQUIDATION_FILL, Event.TAKEOVER, Event.ADL}


@pytest.mark.parametrize(("seed", "fund"), [(1, 2_000), (2, 200_000)])
def test_the_crash(recorded: Path, tmp_path: Path, seed: int, fund: int, long_run: bool) -> None:
    path = next((recorded / "klines").glob("*.csv.gz"))
    prices = market.closing_prices(path, every=60, first=CRASH, count=220 if long_run else 60)
    played = market.Market(prices, seed, traders=1000 if long_run else 60, fund=fund)
    v = played.run(laws_every=1 << 40).venue
    ledger = Ledger(tmp_path / "books", segment_legs=1 << 14, segment_entries=1 << 12)
    ledger.feed(0, v.all_reports())
    ledger.close()
    books = Books(tmp_path / "books")
    events = set(books.rows("entries", 0, books.entries)["event"].tolist())
    assert events & LIQUIDATION or seed != 1, "nobody was liquidated"
    assert not len(books.breaks())
    facts = facts_of(v.arrays, v.limits.assets)
    assert compare(books, facts) == [] and laws(books, books.now()) == []
    every_entry_balances(books)
    verify(tmp_path / "books")
    assert balance_sheet(books, books.now()).ok
    for form in PROGRAMS:
        for chunk in Exporter(books, books.cut_seq(0), books.now(), 4000).write(
            tmp_path / form, form
        ):
            said = checked(chunk)
            assert said.returncode == 0, said.stdout + said.stderr
        bend(chunk, seed * 100)
        assert checked(chunk).returncode != 0
