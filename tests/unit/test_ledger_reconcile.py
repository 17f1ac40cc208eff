"""One unit altered anywhere is a break, found by name; what is right is none."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ledger.books import Books
from ledger.breaks import BreakReport
from ledger.chart import Code, pack, unpack
from ledger.files import LedgerError, QuestionError
from ledger.proof import Node, Tree, leaf_node, parent_node
from ledger.reconcile import (
    SYMBOLS,
    Break,
    Facts,
    Sums,
    compare,
    compare_custody,
    compare_facts,
    compare_liabilities,
    laws,
    parse_amount,
    read_custody,
)
from tests.model.report_stream import ANN, BOB, CAT, FUND, Stream
from tests.unit.test_ledger_statements import books_of, day

ROOT = Path(__file__).parent.parent.parent


def figures_of(s: Stream) -> dict[int, int]:
    """What the engine's tables would say of a hand-made stream, by key of the books."""
    found = {pack(Code.AVAILABLE, account, 0): value for account, value in s.wallets.items()}
    found[pack(Code.AVAILABLE, 0, 0)] = 401  # fees of `day`
    for account, symbol, leg in {*s.lots, *s.isolated}:
        place = (account, symbol, leg)
        found[pack(Code.POSITION_LOTS, *place)] = s.lots[place]
        found[pack(Code.POSITION_COST, *place)] = s.cost[place]
        found[pack(Code.POSITION_MARGIN, *place)] = s.isolated[place]
        clearing = pack(Code.PNL_CLEARING, 0, symbol)
        found[clearing] = found.get(clearing, 0) + s.cost[place]
    return found


def facts_of(s: Stream, told: dict[int, int] | None = None, trades: int = 0) -> Facts:
    found = {k: v for k, v in (told or figures_of(s)).items() if v}
    keys = np.array(sorted(found), np.int64)
    counts = np.zeros(SYMBOLS, np.int64)
    counts[0] = s.trades + trades
    return Facts(s.seq, len(s.rows()), keys, np.array([found[k] for k in keys.tolist()]), counts)


def test_what_is_right_is_no_break(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path, s)
    assert compare(books, facts_of(s)) == []
    assert laws(books, books.now()) == []


CHECKS = {
    Code.AVAILABLE: "R2",
    Code.POSITION_MARGIN: "R2",
    Code.POSITION_LOTS: "R3",
    Code.POSITION_COST: "R3",
    Code.PNL_CLEARING: "R3",
    Code.FUNDING_CLEARING: "R3",
    Code.ORDER_HOLD: "R4",
    Code.CLOSE_CLAIM: "R4",
}


def test_one_unit_anywhere_is_a_break(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path, s)
    told = figures_of(s)
    told |= {pack(code, ANN, 0): 0 for code in (Code.ORDER_HOLD, Code.CLOSE_CLAIM)}
    told[pack(Code.FUNDING_CLEARING, 0, 0)] = 0
    for key in told:
        for change in (1, -1):
            found = compare(books, facts_of(s, {**told, key: told[key] + change}))
            (b,) = found
            code = unpack(key).code
            assert (b.check, b.difference, b.key) == (CHECKS[code], -change, key)
            if code == Code.AVAILABLE:
                assert b.account == f"wallet of {unpack(key).account} in USDT"
    found = compare(books, facts_of(s, trades=1))
    assert [(b.check, b.difference) for b in found] == [("R1", -2)]


def test_memory_that_is_not_the_replayed_state_is_a_break(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path, s)
    told = figures_of(s)
    assert compare_facts(facts_of(s), facts_of(s), books) == []
    key = pack(Code.POSITION_LOTS, BOB, 0)
    (b,) = compare_facts(facts_of(s), facts_of(s, {**told, key: told.get(key, 0) + 1}), books)
    assert (b.check, b.difference) == ("R7", -1) and "Position:U17:BTCUSDT" in b.account


def test_facts_behind_the_books_end_are_asked_for_again(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path, s)
    with pytest.raises(QuestionError, match="reports, not"):
        compare(books, facts_of(s)._replace(reports=len(s.rows()) + 1))


def alter(folder: Path, leg: int, change: int) -> None:
    amounts = np.memmap(next(folder.glob("seg.*")) / "amount", np.int64, "r+")
    amounts[leg] += change
    amounts.flush()


def test_sums_believe_nothing_but_legs_and_find_what_was_altered_behind_them(
    tmp_path: Path,
) -> None:
    s = day()
    books = books_of(tmp_path, s)
    for span in (8, Sums.SPAN):
        sums = Sums()
        sums.SPAN = span  # type: ignore[misc]
        for entries in range(0, books.entries + 1, 3):
            sums.advance(books, books.cut_entry(entries))
        sums.advance(books, books.now())
        assert (sums.totals == books.balances(books.now())).all()
        assert sums.changed(books, 1000) is None
        for leg in range(books.legs):
            alter(tmp_path, leg, 1)
            first, last = sums.changed(Books(tmp_path), 1000) or (0, 0)
            assert first <= leg < last
            alter(tmp_path, leg, -1)
        # What was altered is not forgotten when there is more to add.
        sums = Sums()
        sums.advance(books, books.cut_entry(books.entries - 1))
        alter(tmp_path, 0, 1)
        sums.advance(Books(tmp_path), books.now())
        assert sums.changed(Books(tmp_path), 1000) and sums.changed(Books(tmp_path), 1000)
        alter(tmp_path, 0, -1)
        assert sums.changed(Books(tmp_path), 1000) is None


def test_a_law_notices_an_altered_leg(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    r = random.Random(1)
    for _ in range(20):
        path = next(tmp_path.glob("seg.*")) / "amount"
        data = bytearray(path.read_bytes())
        at = r.randrange(books.legs if len(books.segments) == 1 else 30) * 8
        data[at : at + 8] = (int.from_bytes(data[at : at + 8], "little", signed=True) + 1).to_bytes(
            8, "little", signed=True
        )
        whole = path.read_bytes()
        path.write_bytes(bytes(data))
        for cached in (tmp_path / "balances").iterdir():
            cached.unlink()
        assert laws(Books(tmp_path), Books(tmp_path).now())
        path.write_bytes(whole)


# ---------------------------------------------------------------- custody

MAPPING = {"hot-*": "hot", "vault": "cold", "bank": "third"}


def custody(tmp_path: Path, text: str, books: Books) -> list[Break]:
    path = tmp_path / "custody.csv"
    path.write_text(text)
    return compare_custody(books, books.now(), read_custody(path, books), MAPPING)


def test_custody(tmp_path: Path) -> None:
    books = books_of(tmp_path / "books", day())
    head = "wallet,asset,balance\n"
    assert custody(tmp_path, head + "hot-1,USDT,30.5\nhot-2,USDT,0.5\n", books) == []
    (b,) = custody(tmp_path, head + "hot-1,USDT,31.000001\n", books)
    assert (b.check, b.account, b.difference) == ("R5", "Assets:Custody:Hot:USDT", -1)
    (b, c) = custody(tmp_path, head + "hot-1,USDT,30\nbank,USDT,1\n", books)
    assert (b.check, b.difference, c.check, c.difference) == ("R5", 1_000_000, "R6", -1_000_000)
    assert len(custody(tmp_path, head, books)) == 1, "what nobody says anything of is 0"


WRONG = [
    ("", "line 1: must be wallet,asset,balance"),
    ("a,b,c\n", "line 1: must be wallet,asset,balance"),
    ("wallet,asset,balance\nhot-1,USDT\n", "line 2: 2 cells"),
    ("wallet,asset,balance\nhot-1,DOGE,1\n", "line 2: asset 'DOGE' was never declared"),
    (
        "wallet,asset,balance\nhot-1,USDT,1\nhot-1,USDT,1\n",
        "line 3: hot-1 in USDT stands there twice",
    ),
    ("wallet,asset,balance\nhot-1,USDT,0.0000001\n", "more than 6 decimals"),
    ("wallet,asset,balance\nhot-1,USDT,1e3\n", "no plain decimal number"),
    ("wallet,asset,balance\nhot-1,USDT,NaN\n", "no plain decimal number"),
    ("wallet,asset,balance\nhot-1,USDT,１２\n", "no plain decimal number"),
    ("wallet,asset,balance\nhot-1,USDT,99999999999999999999\n", "beyond 64 bits"),
    ("wallet,asset,balance\nsafe,USDT,1\n", "wallet 'safe' is mapped to None"),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_malformed_custody_files(text: str, why: str, tmp_path: Path) -> None:
    books = books_of(tmp_path / "books", day())
    with pytest.raises(LedgerError, match=why):
        custody(tmp_path, text, books)


def test_amounts() -> None:
    assert parse_amount("-12.5", 6, "x") == -12_500_000
    assert parse_amount("9223372036854.775807", 6, "x") == (1 << 63) - 1
    with pytest.raises(LedgerError, match="beyond 64 bits"):
        parse_amount("9223372036854.775808", 6, "x")


# ---------------------------------------------------------------- the break report


def test_a_break_lives_until_it_is_gone(tmp_path: Path) -> None:
    report = BreakReport(tmp_path)
    b = Break("R2", "wallet of 16 in USDT", 5, 6, 100, 42)
    assert len(report.record([b], now_ns=1)) == 1
    assert report.record([b._replace(books=4)], now_ns=2) == []
    report.assign(1, owner="ann", state="INVESTIGATING", note="asked")
    (row,) = BreakReport(tmp_path).live
    assert (row["first_seq"], row["difference"], row["owner"]) == (42, -2, "ann")
    BreakReport(tmp_path).record([], now_ns=3)
    assert not BreakReport(tmp_path).live
    assert [r["id"] for r in BreakReport(tmp_path).record([b], now_ns=4)] == [2]
    with pytest.raises(LedgerError, match="no break 9"):
        report.assign(9, owner="x", state=None, note=None)
    with pytest.raises(LedgerError, match="must be one of"):
        report.assign(1, owner=None, state="GONE", note=None)


# ---------------------------------------------------------------- proof of liabilities


def test_every_customer_can_prove_what_it_is_owed(tmp_path: Path) -> None:
    s = Stream().market()
    for k in range(11):
        s.deposit(ANN + k, 1000 + k)
    books = books_of(tmp_path, s)
    tree = Tree(books, books.now(), b"s" * 32)
    assert tree.root.sums == (sum(range(1000, 1011)),)
    assert compare_liabilities(books, books.now(), {0: tree.root.sums[0]}) == []
    assert compare_liabilities(books, books.now(), {0: 1})[0].check == "R9"
    script = ROOT / "ledger" / "check_proof.py"
    for k in range(11):
        path = tmp_path / f"proof{k}.json"
        path.write_text(json.dumps(tree.prove(ANN + k)))
        if k in (0, 10):
            done = subprocess.run(
                [sys.executable, "-I", str(script), str(path), tree.root.hash.hex()],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0 and "proven" in done.stdout, done.stderr
        assert checker().check(tree.prove(ANN + k), tree.root.hash.hex()) is None
    with pytest.raises(LedgerError, match="is owed nothing"):
        tree.prove(99)
    with pytest.raises(LedgerError, match="at least 16"):
        Tree(books, books.now(), b"short")


def checker():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("check_proof", ROOT / "ledger" / "check_proof.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_changed_proof_proves_nothing(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    tree = Tree(books, books.now(), b"s" * 32)
    root = tree.root.hash.hex()
    proof = tree.prove(BOB)
    check = checker().check
    assert check(proof, root) is None
    for change in (
        {"balances": [str(int(proof["balances"][0]) + 1)]},
        {"customer": ANN},
        {"salt": "00" * 16},
        {"path": []},
        {"root": {**proof["root"], "sums": ["1"]}},
        {"balances": ["-1"]},
        {"format": "other"},
        {"path": [{**proof["path"][0], "sums": ["-5"]}, *proof["path"][1:]]},
        {
            "path": [
                {
                    **proof["path"][0],
                    "side": "left" if proof["path"][0]["side"] == "right" else "right",
                },
                *proof["path"][1:],
            ]
        },
    ):
        assert check({**proof, **change}, root), change
    assert check(proof, "00" * 32) == "the proof's root is not the one that was published"


def test_a_venue_cannot_claim_less_than_it_owes() -> None:
    """With the total alone in the hash, a root of 100 for debts of 170 satisfied both customers."""
    a, b = leaf_node(b"a" * 16, 1, (100,)), leaf_node(b"b" * 16, 2, (70,))
    honest = parent_node(a, b)
    lying = parent_node(a, Node((0,), b.hash))
    assert honest.sums == (170,) and lying.hash != honest.hash


def test_who_owes_the_venue_hides_nobodys_money(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    tree = Tree(books, books.now(), b"s" * 32)
    assert CAT not in tree.customers and FUND not in tree.customers
    assert tree.deficits == {0: 300}
    assert pack(Code.AVAILABLE, CAT, 0) in books.keys["key"]
