"""The books on disk: exactly once whatever dies, and no bit of them changes unnoticed."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import numpy as np
import pytest

from ledger import statements
from ledger.blake import blake2b
from ledger.books import Books
from ledger.chart import CHART, Code, pack, unpack
from ledger.files import LedgerError, QuestionError
from ledger.store import Ledger
from ledger.verify import verify
from shm.codes import Side, Status
from shm.pointers import table
from tests.model.report_stream import ANN, BOB, CAT, DAN, Stream

SMALL = {"segment_legs": 256, "segment_entries": 64, "balance_legs": 200, "span": 8}


def stream(seed: int, steps: int = 120) -> Stream:
    """Deposits, orders, trades and funding of four accounts in two symbols."""
    r = random.Random(seed)
    s = Stream().market(2)
    for account in (ANN, BOB, CAT, DAN):
        s.deposit(account, 10**9, trace=account)
    for _ in range(steps):
        what = r.random()
        a, b = r.sample((ANN, BOB, CAT, DAN), 2)
        if what < 0.3:
            order = s.order(a)
            s.hold(a, order, r.randint(1, 10**6))
        elif what < 0.8:
            fees = (r.randint(-20, 20), r.randint(0, 50))
            s.trade(a, b, r.randint(900, 1100), r.randint(1, 30), fees=fees, symbol=r.randrange(2))
        elif what < 0.9:
            s.funding({(a, False): -101, (b, False): 99})
        else:
            s.deposit(a, r.choice((1, -1)) * r.randint(1, 1000), trace=r.getrandbits(32))
    return s


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the ones that say when and who."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "head" and not p.name.startswith("state.")
    }


def booked(folder: Path, rows: np.ndarray, **sizes: int) -> dict[str, bytes]:
    ledger = Ledger(folder, **{**SMALL, **sizes})
    ledger.feed(0, rows)
    ledger.close()
    return contents(folder)


@pytest.mark.parametrize("seed", range(4))
def test_killed_restarted_and_fed_again_the_books_are_the_same(seed: int, tmp_path: Path) -> None:
    rows = stream(seed).rows()
    wanted = booked(tmp_path / "whole", rows)
    r = random.Random(seed)
    folder = tmp_path / "killed"
    ledger = Ledger(folder, **SMALL)
    kills = 0
    while ledger.next_report < len(rows):
        index = max(0, ledger.next_report - r.randint(0, 30))  # reports it has already, again
        ledger.feed(index, rows[index : ledger.next_report + r.randint(1, 90)])
        what = r.random()
        if what < 0.3:
            ledger.checkpoint()
        elif what < 0.6:
            ledger.commit()
        elif what < 0.8:
            ledger.abandon()
            kills += 1
            ledger = Ledger(folder, **SMALL)
    ledger.close()
    assert kills > 0
    assert contents(folder) == wanted
    assert verify(folder).entries == Books(folder).entries


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(LedgerError, match="another ledger writes"):
        Ledger(tmp_path)
    ledger.close()
    Ledger(tmp_path).close()


def test_a_gap_in_the_reports_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    rows = stream(1, 5).rows()
    ledger.feed(0, rows[:10])
    with pytest.raises(LedgerError, match=r"report 10 is the next, got 11"):
        ledger.feed(11, rows[11:])
    ledger.close()


def test_books_of_another_wal_are_refused(tmp_path: Path) -> None:
    Ledger(tmp_path, wal=(1, 2)).close()
    with pytest.raises(LedgerError, match="another WAL"):
        Ledger(tmp_path, wal=(1, 3))


def test_reports_that_fall_are_refused(tmp_path: Path) -> None:
    rows = stream(1, 5).rows()
    ledger = Ledger(tmp_path)
    with pytest.raises(LedgerError, match="not in order"):
        ledger.feed(0, np.concatenate([rows[:14], rows[:1]]))
    ledger.abandon()


def test_a_symbol_nobody_declared_is_refused(tmp_path: Path) -> None:
    s = Stream()
    s.trade(ANN, BOB, 1000, 1)
    ledger = Ledger(tmp_path)
    for _ in range(2):
        with pytest.raises(LedgerError, match="symbol 0 was never declared"):
            ledger.feed(0, s.rows())
        ledger.close()
        ledger = Ledger(tmp_path)
        assert (ledger.entries, ledger.legs, ledger.next_report) == (0, 0, 0)
    ledger.close()


def test_a_balance_that_would_leave_64_bits_is_refused(tmp_path: Path) -> None:
    s = Stream().market()
    most = (1 << 63) - 1
    s.deposit(ANN, most)
    ledger = Ledger(tmp_path)
    ledger.feed(0, s.rows())
    at = len(s.rows())
    s.wallets[ANN] = 0
    s.deposit(ANN, 1)
    with pytest.raises(LedgerError, match=r"CUSTODY_HOT .* would leave 64 bits"):
        ledger.feed(at, s.rows()[at:])
    ledger.abandon()


def test_blocks_that_come_out_otherwise_are_noticed(tmp_path: Path) -> None:
    s = stream(3)
    rows = s.rows()
    ledger = Ledger(tmp_path, **SMALL)
    ledger.feed(0, rows[:40])
    ledger.checkpoint()
    ledger.feed(40, rows[40:])
    ledger.abandon()
    changed = rows.copy()
    at = 40 + int(np.flatnonzero(rows["kind"][40:] == 5)[0])  # an EXEC's fee
    changed.view(np.int64).reshape(-1, 8)[at, 7] += 1
    ledger = Ledger(tmp_path, **SMALL)
    with pytest.raises(LedgerError, match="was closed before with another hash"):
        ledger.feed(40, changed[40:])
    ledger.abandon()


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, long_run: bool) -> None:
    booked(tmp_path, stream(5).rows())
    verify(tmp_path)
    r = random.Random(7)
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for _ in range((40 if long_run else 3) if data else 0):
            at, bit = r.randrange(len(data)), r.randrange(8)
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            with pytest.raises(LedgerError):
                verify(tmp_path)
        path.write_bytes(data)
    verify(tmp_path)


def test_what_is_cut_off_or_gone_is_named(tmp_path: Path) -> None:
    """Zeros behind the last row, a newline, a file: all of it was there when it was written."""
    booked(tmp_path, stream(5).rows())
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for size in {0, len(whole) // 2, len(whole) - 1} - {-1, len(whole)}:
            path.write_bytes(whole[:size])
            with pytest.raises(LedgerError, match=re.escape(path.name)):
                verify(tmp_path)
        path.unlink()
        derived = path.parent.name == "balances" or path.name.startswith("state.")
        if not derived:  # of those there may be any number
            with pytest.raises(LedgerError, match=re.escape(path.name)):
                verify(tmp_path)
        path.write_bytes(whole)
    verify(tmp_path)


def test_segments_that_changed_places_or_are_another_s(tmp_path: Path) -> None:
    booked(tmp_path, stream(5).rows())
    first, second, *_rest = sorted(tmp_path.glob("seg.*"))
    aside = tmp_path / "aside"

    def swap() -> None:
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    swap()
    with pytest.raises(LedgerError, match=r"seg\."):
        verify(tmp_path)
    swap()
    verify(tmp_path)
    # One whose entries balance and whose running balances were reckoned again.
    account = np.fromfile(first / "account", "<u4")
    amount = np.fromfile(first / "amount", np.int64) * 2
    total: dict[int, int] = {}
    balance = np.zeros(len(amount), np.int64)
    for at, (row, quanta) in enumerate(zip(account.tolist(), amount.tolist(), strict=True)):
        total[row] = balance[at] = total.get(row, 0) + quanta
    amount.tofile(first / "amount")
    balance.tofile(first / "balance")
    with pytest.raises(LedgerError, match=rf"{re.escape(first.name)}.*block 0"):
        verify(tmp_path)


def test_a_span_that_ends_before_it_begins_has_no_answer(tmp_path: Path) -> None:
    booked(tmp_path, stream(5).rows())
    books = Books(tmp_path)
    early, late = books.cut_entry(10), books.now()
    for made in (
        statements.customer(books, ANN, early, late),
        statements.income(books, early, late),
    ):
        assert made is not None
    with pytest.raises(QuestionError, match="before it begins"):
        statements.customer(books, ANN, late, early)
    for of in (statements.trial_balance, statements.income):
        with pytest.raises(QuestionError, match="before it begins"):
            of(books, late, early)


def test_balances_at_every_cut_are_the_sums_of_the_legs(tmp_path: Path) -> None:
    booked(tmp_path, stream(2).rows())
    books = Books(tmp_path)
    accounts = books.rows("account", 0, books.legs)
    amounts = books.rows("amount", 0, books.legs)
    for entry in range(0, books.entries, 7):
        row = books.entry_rows(entry, 1)[0]
        cut = books.cut_seq(int(row["seq"]))
        sums = np.zeros(len(books.keys), np.int64)
        np.add.at(sums, accounts[: cut.legs], amounts[: cut.legs])
        assert (books.balances(cut) == sums).all()
        assert books.cut(int(row["recorded_ns"])).entries == cut.entries
    assert not books.balances(books.cut(0)).any()
    assert books.cut(1 << 62).entries == books.entries


@pytest.mark.parametrize("links", [256, 3])
def test_an_accounts_legs_are_found_through_their_links_or_by_a_look_at_all(
    links: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.books.LINKS", links)
    booked(tmp_path, stream(2).rows())
    books = Books(tmp_path)
    accounts = books.rows("account", 0, books.legs)
    for row in range(len(books.keys)):
        for first, last in ((0, books.legs), (100, 300), (books.legs, books.legs)):
            wanted = first + np.flatnonzero(accounts[first:last] == row)
            assert books.account_legs(row, first, last) == wanted.tolist()
            assert books.account_legs(row, first, last, 5) == wanted.tolist()[:5]
            assert (books.gather("account", wanted) == row).all()
            entries = books.entries_of(wanted)
            assert entries.tolist() == [books.entry_of(int(leg)) for leg in wanted]
            assert (books.gather("entries", entries)["seq"] > 0).all()
    for leg in range(0, books.legs, 13):
        entry = books.entry_of(leg)
        assert books.first_leg(entry) <= leg
        assert leg < books.first_leg(entry) + int(books.entry_rows(entry, 1)[0]["leg_count"])


def test_traces_lead_to_entries_and_back(tmp_path: Path) -> None:
    booked(tmp_path, stream(2).rows())
    books = Books(tmp_path)
    for trace in books.traces():
        high, low = int(trace["trace_hi"]), int(trace["trace_lo"])
        assert int(trace["seq"]) in books.find_trace(high, low)
        entries = books.find_seq(int(trace["seq"]))
        assert len(entries) == 1
        assert books.trace_of(int(trace["seq"])) == (high, low)
    assert books.trace_of(1) is None


def test_the_hash_is_blake2b() -> None:
    r = np.random.default_rng(1)
    out, work = np.zeros(4, np.int64), table(np.zeros(16, np.int64))
    for count in (*range(35), 100):
        words = r.integers(-(1 << 63), (1 << 63) - 1, count + 1, dtype=np.int64)
        blake2b(table(words), 1, count, work, table(out), 0)
        assert out.tobytes() == hashlib.blake2b(words[1:].tobytes(), digest_size=32).digest()


def test_a_key_is_its_parts() -> None:
    for code in CHART:
        key = pack(code, (1 << 32) - 1, 65535, 2)
        assert 0 < key < 1 << 63
        assert unpack(key) == (Code(code), (1 << 32) - 1, 65535, 2)


def test_the_books_notice_a_report_that_says_otherwise(tmp_path: Path) -> None:
    s = Stream().market()
    s.deposit(ANN, 1000)
    s.wallets[ANN] += 1
    s.deposit(ANN, 1000)
    s.trade(ANN, BOB, 1000, 2)
    s.lots[ANN, 0, 0] += 1
    s.cost[BOB, 0, 0] += 1
    s.seq += 1
    s.fill(ANN, Side.BUY, 1000, 1)
    s.fill(BOB, Side.SELL, 1000, 1)
    ledger = Ledger(tmp_path)
    ledger.feed(0, s.rows())
    ledger.close()
    found = [
        (int(b["check"]), int(b["account"]), int(b["expected"] - b["found"]))
        for b in Books(tmp_path).breaks()
    ]
    assert found == [(1, ANN, 1), (1, ANN, 1), (2, ANN, 1), (1, ANN, 1), (3, BOB, 1)]


def test_an_event_without_legs_leaves_nothing_behind(tmp_path: Path) -> None:
    s = Stream().market()
    order = s.order(ANN, position_side=1)
    s.hold(ANN, order, 0)
    s.order(ANN, Status.CANCELED, order)
    ledger = Ledger(tmp_path)
    ledger.feed(0, s.rows())
    ledger.close()
    assert verify(tmp_path).entries == 0
