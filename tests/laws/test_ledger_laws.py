"""The books of random runs of the engine, against the engine's own tables, after every few commands."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.books import Books
from ledger.reconcile import Break, compare, laws
from ledger.store import Ledger
from ledger.verify import verify
from shm.codes import ReportKind
from tests.model.random_flow import Flow, open_venue
from tests.venue import LIMITS, Venue
from tools.ledger_facts import facts_of


def breaks(v: Venue, books: Books) -> list[Break]:
    """What the books and the engine's tables differ in, when nothing is in flight."""
    facts = facts_of(v.arrays, LIMITS.assets)
    found = compare(books, facts) + laws(books, books.cut_seq(facts.seq))
    if not (v.all_reports()["kind"] == ReportKind.HOLD).any():
        return [b for b in found if b.check != "R4"]  # an engine that doesn't tell of holds
    return found


def every_entry_balances(books: Books) -> None:
    """Debits are credits, in each commodity of each entry; sequence and time never fall."""
    entries = books.rows("entries", 0, books.entries)
    assert (np.diff(entries["seq"]) >= 0).all() and (np.diff(entries["recorded_ns"]) >= 0).all()
    commodity = books.keys["commodity"]
    for entry in range(books.entries):
        sums: dict[int, int] = {}
        for account, amount in zip(*books._leg_rows(entry), strict=True):
            assert amount != 0
            sums[int(commodity[account])] = sums.get(int(commodity[account]), 0) + amount
        assert not any(sums.values()), entry


@settings(max_examples=12)
@given(st.integers(0, 10**9), st.integers(1, 2))
def test_the_books_are_the_engines_tables(seed: int, shards: int) -> None:
    v = Venue(shards=shards, seed=seed)
    open_venue(v)
    with TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"segment_legs": 512, "segment_entries": 128, "balance_legs": 300, "span": 16}
        ledger = Ledger(folder, **sizes)
        flow = Flow(seed)
        for _ in range(4):
            for kind, fields in flow.commands(v, 40):
                v.send(kind, **fields)
            v.work()
            rows = v.all_reports()
            ledger.feed(ledger.next_report, rows[ledger.next_report :])
            ledger.commit()
            books = Books(folder)
            assert not len(books.breaks())
            assert not breaks(v, books)
        ledger.close()
        every_entry_balances(Books(folder))
        verify(folder)
