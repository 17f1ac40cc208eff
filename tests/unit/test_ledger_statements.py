"""Statements of one small day, and that each customer sees its own lines only."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ledger import proof, statements
from ledger.bookkeeping import Op, note_fields
from ledger.books import Books
from ledger.chart import Code, pack
from ledger.files import LedgerError, QuestionError
from ledger.query import ROUTES, QueryError, Viewer, answer, parse_time
from ledger.sheet import FORMATS, Sheet, as_data, as_text
from ledger.store import Ledger
from shm.codes import Kind, Move, RequestStatus
from tests.model.report_stream import ANN, BOB, CAT, FUND, T0, Stream

AUDITOR = Viewer("auditor")


def day() -> Stream:
    s = Stream().market(2)
    for account, amount in ((ANN, 10_000_000), (BOB, 20_000_000), (FUND, 1_000_000)):
        s.deposit(account, amount, trace=account)
    s.trade(ANN, BOB, 1000, 50, fees=(-50, 250))
    s.trade(CAT, ANN, 1010, 20, fees=(100, 101))  # CAT has no money: what it pays it owes
    s.funding({(ANN, False): -301, (BOB, False): 500, (CAT, False): -200})
    seq = s.answer(Kind.REQUEST_WITHDRAW, BOB)
    s.request(BOB, RequestStatus.REQUESTED, 2_000_000, request=seq)
    s.move(Move.WITHDRAW_HOLD, BOB, -2_000_000, reference=seq)
    s.answer(Kind.TRANSFER, ANN, trace=77)
    s.move(Move.TRANSFER, BOB, 30_000, other=ANN)
    return s


def books_of(folder: Path, s: Stream) -> Books:
    ledger = Ledger(folder, segment_legs=256, segment_entries=64, balance_legs=64, span=4)
    ledger.feed(0, s.rows())
    ledger.close()
    return Books(folder)


def rows(made: Sheet) -> dict[str, tuple[str, ...]]:
    return {row.name: row.cells for row in made.rows}


def test_balance_sheet(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    made = statements.balance_sheet(books, books.now())
    said = {name: cells[0] for name, cells in rows(made).items() if cells}
    assert said == {
        "Custody/Hot": "31.000000",
        "Receivable/UserDeficit": "0.000300",
        "Total assets": "31.000300",
        "User/Available": "28.001898",
        "User/WithdrawalPending": "2.000000",
        "Clearing/PnL": "-0.002000",
        "Clearing/Rounding": "0.000001",
        "InsuranceFund": "1.000000",
        "Total liabilities": "30.999899",
        "Result of the period": "0.000401",
        "Total equity": "0.000401",
    }
    assert made.ok and made.facts["A = L + E"] is True
    assert made.facts["sequence"] == books.head["seq"] and len(made.facts["digest"]) == 64
    assert made.facts["coverage"] == "USDT 103.3267%"


def test_a_balance_sheet_of_the_past_and_the_change(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path, s)
    early = statements.balance_sheet(books, books.cut_seq(6))
    assert rows(early)["Custody/Hot"] == ("31.000000",)
    assert rows(early)["Total equity"] == ("0.000000",)
    nothing = statements.balance_sheet(books, books.cut(T0 - 1))
    assert [row.name for row in nothing.rows if row.kind == "line"] == ["Result of the period"]
    made = statements.balance_sheet(books, books.now(), before=books.cut_seq(4))
    assert rows(made)["Custody/Hot"] == ("31.000000", "10.000000", "21.000000")
    with pytest.raises(LedgerError, match="not to 999"):
        books.cut_seq(999)


def test_a_presentation_currency_is_rounded_line_by_line(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    usd = statements.Currency("USD", {"USDT": Decimal("1.0002")})
    made = statements.balance_sheet(books, books.now(), currency=usd)
    assert made.columns == ("USDT", "USD")
    assert rows(made)["Custody/Hot"] == ("31.000000", "31.01")
    with pytest.raises(LedgerError, match="no rate of USDT in USD"):
        statements.balance_sheet(books, books.now(), currency=statements.Currency("USD", {}))


def test_trial_balance_adds_up(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    for detail in (False, True):
        made = statements.trial_balance(books, books.cut_seq(6), books.now(), detail=detail)
        assert made.ok
        totals = [row.cells for row in made.rows if row.kind == "total"]
        assert all(c[0] == c[1] and c[2] == c[3] and c[4] == c[5] for c in totals)
    assert rows(made)["Assets:Custody:Hot:USDT"] == ("31.000000", "", "", "", "31.000000", "")


def test_income_of_a_period_and_after_its_close(tmp_path: Path) -> None:
    s = day()
    until = s.ts_ns
    seq = s.administer(Kind.BOOKKEEPING, **note_fields(Op.CLOSE, principal=1, effective_ns=until))
    s.administer(Kind.BOOKKEEPING, **note_fields(Op.APPROVE, principal=2, reference=seq))
    s.trade(ANN, BOB, 1000, 1, fees=(5, 7))
    books = books_of(tmp_path, s)
    start = books.cut_seq(0)
    first = rows(statements.income(books, start, books.cut(until)))
    assert first["TakerFee BTCUSDT"] == ("0.000351",)
    assert first["MakerFee BTCUSDT"] == ("0.000100",)
    assert first["MakerRebate BTCUSDT"] == ("0.000050",)
    assert first["Result"] == ("0.000401",)
    second = rows(statements.income(books, books.cut(until), books.now()))
    assert second["Result"] == ("0.000012",)
    assert rows(statements.income(books, start, books.now()))["Result"] == ("0.000413",)
    after = rows(statements.balance_sheet(books, books.now()))
    assert after["Retained"] == ("0.000401",)
    assert after["Result of the period"] == ("0.000012",)
    assert books.head["locked_ns"] == until


REFUSED = """
  JOURNAL  | amount=0                                    | must be > 0
  JOURNAL  | debit=AVAILABLE                             | is the engine's
  JOURNAL  | debit=CUSTODY_HOT                           | the same account
  JOURNAL  | effective_ns=99999999999999999              | later than the command
  JOURNAL  | debit=7                                     | no account of the chart
  REVERSE  | reference=0                                 | request an adjustment
  REVERSE  | reference=4711                              | there is no entry 4711
  CLOSE    | effective_ns=9999999999999999999            | later than the command
  REOPEN   |                                             | no period is closed
  APPROVE  | reference=4711                              | no proposal 4711 waits
"""


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_what_a_bookkeeper_may_not(line: str, tmp_path: Path) -> None:
    op, given, why = (cell.strip() for cell in line.split("|"))
    fields = (
        {"amount": 5, "debit": "CUSTODY_COLD", "credit": "CUSTODY_HOT"} if op == "JOURNAL" else {}
    )
    if given:
        name, _, value = given.partition("=")
        fields[name] = (
            min(int(value) + T0 if name == "effective_ns" else int(value), (1 << 63) - 1)
            if value.isdecimal()
            else value
        )
    for side in ("debit", "credit"):
        if isinstance(fields.get(side), str):
            fields[side] = pack(
                Code[str(fields[side])], ANN if fields[side] == "AVAILABLE" else 0, 0
            )
    s = day()
    s.administer(Kind.BOOKKEEPING, **note_fields(Op[op], principal=1, **fields))  # type: ignore[arg-type]
    books = books_of(tmp_path, s)
    assert why in books.notes()[-1]["refused"]
    assert not books.bookkeeping()


def test_nobody_approves_what_he_proposed_and_nothing_happens_twice(tmp_path: Path) -> None:
    s = day()
    keys = {"debit": pack(Code.CUSTODY_COLD, 0, 0), "credit": pack(Code.CUSTODY_HOT, 0, 0)}
    seq = s.administer(
        Kind.BOOKKEEPING, **note_fields(Op.JOURNAL, principal=1, amount=5, text="x", **keys)
    )
    for principal in (1, 2, 2):
        s.administer(
            Kind.BOOKKEEPING, **note_fields(Op.APPROVE, principal=principal, reference=seq)
        )
    books = books_of(tmp_path, s)
    said = [note.get("refused", "done") for note in books.notes()]
    assert said == [
        "done",
        "who approves must not be who proposed",
        "done",
        f"no proposal {seq} waits",
    ]
    assert len(books.bookkeeping()) == 1


def test_what_is_held_and_owed_and_under_way(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    custody = rows(statements.custody(books, books.now()))
    assert custody["Total held"] == ("31.000000",)
    assert custody["User/WithdrawalPending"] == ("2.000000",)
    waiting = statements.withdrawals(books, books.now())
    assert [(row.name, row.cells[1:]) for row in waiting.rows] == [
        (f"U{BOB} request 10", ("under 1 h", "USDT", "2.000000")),
        ("Total under 1 h", ("under 1 h", "USDT", "2.000000")),
    ]
    fund = rows(statements.fund(books, books.cut_seq(0), books.now()))
    assert fund["Opening"] == ("0.000000",) and fund["DEPOSIT"] == ("1.000000",)
    assert fund["Closing"] == ("1.000000",)
    fees = rows(statements.fees(books, books.cut_seq(0), books.now()))
    assert fees["BTCUSDT"] == ("USDT", "0.000351", "0.000100", "0.000050", "0.000401")
    funding = rows(statements.funding(books, books.cut_seq(0), books.now()))
    assert funding["BTCUSDT"] == ("USDT", "0.000501", "0.000500", "0.000001", "0.000000")


def test_a_customers_statement_is_every_movement(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path, s)
    made = statements.customer(books, BOB, books.cut_seq(0), books.now())
    events = [row.name for row in made.rows if row.kind == "line"]
    assert events.count("DEPOSIT") == 1 and "TRANSFER" in events and "WITHDRAW_REQUEST" in events
    closing = [row.cells[-1] for row in made.rows if row.kind == "total"]
    assert sum(Decimal(c) for c in closing) * 10**6 == s.wallets[BOB]
    for form in FORMATS.values():
        assert "WITHDRAW_REQUEST" in form(made)
    assert json.loads(FORMATS["json"](made)) == json.loads(json.dumps(as_data(made)))
    assert "<script" not in FORMATS["html"](Sheet("<script>", {"<script": "x"}, ("<script>",), []))
    assert as_text(made).startswith(f"Statement of customer {BOB}")


# ---------------------------------------------------------------- the API


def test_an_auditor_drills_down_from_a_line_to_the_request_and_back(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    sheet = answer(books, AUDITOR, "balance-sheet", {})
    code = next(row["code"] for row in sheet["rows"] if row["name"] == "User/Available")
    accounts = answer(books, AUDITOR, "accounts", {"code": str(code)})["accounts"]
    key = next(a["key"] for a in accounts if f"U{BOB}" in a["account"])
    entries = answer(books, AUDITOR, "entries", {"key": str(key)})["entries"]
    last = entries[-1]
    assert last["event"] == "TRANSFER" and len(last["legs"]) == 2
    traced = answer(books, AUDITOR, "trace", {"trace": last["trace"]})["entries"]
    assert [e["entry"] for e in traced] == [last["entry"]]
    for name in ("head", "income", "custody", "fund", "fees", "funding", "withdrawals", "notes",
                 "breaks", "trial-balance", "reconciliation"):  # fmt: skip
        json.dumps(answer(books, AUDITOR, name, {}))


def test_a_customer_sees_its_own_lines_only(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    ann, bob = Viewer("customer", ANN), Viewer("customer", BOB)
    for entry in range(books.entries):
        own = {leg["account"] for leg in answer(books, AUDITOR, "entry", {"entry": str(entry)})["legs"]
               if f":U{ANN}:" in leg["account"]}  # fmt: skip
        if own:
            seen = answer(books, ann, "entry", {"entry": str(entry)})
            assert {leg["account"] for leg in seen["legs"]} == own
        else:
            with pytest.raises(QueryError, match=f"entry {entry} was not found") as error:
                answer(books, ann, "entry", {"entry": str(entry)})
            assert error.value.status == 404
    transfer = answer(books, AUDITOR, "entries", {"event": "TRANSFER"})["entries"][0]
    seen = answer(books, ann, "entry", {"entry": str(transfer["entry"])})
    assert str(BOB) not in json.dumps(seen["legs"]) and seen["customer"] is None
    assert answer(books, ann, "statement", {"account": str(BOB)})["facts"]["customer"] == ANN
    mine = answer(books, bob, "entries", {"account": str(ANN)})["entries"]
    assert mine and all(e["customer"] == BOB for e in mine)
    public = Viewer("public")
    for name, roles in ROUTES.items():
        for viewer in (ann, public):
            if viewer.role not in roles:
                with pytest.raises(QueryError, match=f"{name} was not found"):
                    answer(books, viewer, name, {"code": "2010"})
    for params in ({}, {"code": "2010"}):
        own = answer(books, ann, "accounts", params)["accounts"]
        assert own and all(f":U{ANN}:" in a["account"] for a in own)
    assert answer(books, ann, "accounts", {"code": "4010"})["accounts"] == []
    key = str(pack(Code.AVAILABLE, BOB, 0))
    with pytest.raises(QueryError, match="was not found"):
        answer(books, ann, "entries", {"key": key})
    assert answer(books, bob, "entries", {"key": key})["entries"]
    theirs = answer(books, AUDITOR, "entries", {"event": "DEPOSIT"})["entries"][1]["trace"]
    with pytest.raises(QueryError, match="was not found"):
        answer(books, ann, "trace", {"trace": theirs})


def test_the_accounts_behind_a_line_add_up_to_it(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    sheet = answer(books, AUDITOR, "balance-sheet", {})
    lines = [row for row in sheet["rows"] if row["kind"] == "line" and (row["code"] or 0) >= 1000]
    assert {"Receivable/UserDeficit", "User/Available"} <= {row["name"] for row in lines}
    for row in lines:
        found = answer(books, AUDITOR, "accounts", {"code": str(row["code"])})["accounts"]
        total = sum(Decimal(a["balance"]) for a in found)
        assert found and total == Decimal(row["cells"]["USDT"]), row


def test_a_statement_says_what_each_line_was_against(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    made = statements.customer(books, ANN, books.cut_seq(0), books.now())
    said = {(row.name, row.cells[3], row.cells[4]) for row in made.rows if len(row.cells) > 4}
    assert {
        ("DEPOSIT", "", "Custody/Hot"),
        ("FILL_OPEN", "BTCUSDT", "MakerRebate"),
        ("FUNDING", "BTCUSDT", "Clearing/Funding"),
        ("TRANSFER", "", "User/Available"),
    } <= said
    assert str(BOB) not in as_text(made), "whose money came is not in a customer's statement"


def test_a_statement_that_is_too_long_is_asked_for_in_parts(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    with pytest.raises(QuestionError, match=r"more than 3 lines of .*:U17:.*shorter period"):
        statements.customer(books, BOB, books.cut_seq(0), books.now(), limit=3)


def test_entries_in_pages_are_all_of_them(tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    key = str(pack(Code.AVAILABLE, BOB, 0))
    for params in ({}, {"account": str(BOB)}, {"key": key}):
        whole = [e["entry"] for e in answer(books, AUDITOR, "entries", params)["entries"]]
        found, start = [], 0
        while start is not None:
            part = answer(books, AUDITOR, "entries", {**params, "limit": "2", "start": str(start)})
            found += [e["entry"] for e in part["entries"]]
            start = part["next"]
        assert found == whole and len(whole) > 2


def test_a_proof_is_of_the_root_that_was_published(tmp_path: Path) -> None:
    s = day()
    books = books_of(tmp_path / "ledger", s)
    ann = Viewer("customer", ANN)
    for viewer, name in ((ann, "proof"), (Viewer("public"), "proof-root")):
        with pytest.raises(QueryError, match="a published proof of liabilities was not found"):
            answer(books, viewer, name, {})
    tree = proof.Tree(books, books.cut_seq(s.seq - 1), proof.secret_of(tmp_path))
    proof.publish(tmp_path, tree)
    root = answer(books, Viewer("public"), "proof-root", {})
    assert root["sequence"] == s.seq - 1 and root["root"]["hash"] == tree.root.hash.hex()
    mine = answer(books, ann, "proof", {"account": str(BOB)})
    assert mine["customer"] == ANN and mine == {**tree.prove(ANN)}
    assert answer(books, AUDITOR, "proof", {"account": str(BOB)})["customer"] == BOB
    with pytest.raises(QuestionError, match="is owed nothing"):
        answer(books, AUDITOR, "proof", {"account": "99"})
    (tmp_path / "proof.key").chmod(0o644)
    with pytest.raises(LedgerError, match="others may read it"):
        proof.secret_of(tmp_path)


BAD = [
    ("balance-sheet", {"at": "yesterday"}, 400),
    ("balance-sheet", {"at": "2026-13-01"}, 400),
    ("balance-sheet", {"at": "2026-01-01T00:00:00+02:00"}, 400),
    ("balance-sheet", {"currency": "US D"}, 400),
    ("balance-sheet", {"currency": "USD", "rate.USDT": "NaN"}, 400),
    ("balance-sheet", {"currency": "USD", "rate.USDT": "-1"}, 400),
    ("income", {"from": "9", "to": "8"}, 400),
    ("entries", {"event": "PARTY"}, 400),
    ("entries", {"order": "1_0"}, 400),
    ("entries", {"order": "99999999999999999999"}, 400),
    ("entry", {"entry": "-1"}, 404),
    ("entry", {}, 404),
    ("trace", {"trace": "zz"}, 400),
    ("accounts", {"code": "1"}, 404),
    ("statement", {}, 400),
    ("statement", {"account": "3"}, 404),
    ("statement", {"account": "9999"}, 404),
]


@pytest.mark.parametrize(("name", "params", "status"), BAD)
def test_bad_questions(name: str, params: dict[str, str], status: int, tmp_path: Path) -> None:
    books = books_of(tmp_path, day())
    with pytest.raises(QueryError) as error:
        answer(books, AUDITOR, name, params)
    assert error.value.status == status


def test_instants() -> None:
    assert parse_time("1970-01-01") == 0
    assert parse_time("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert parse_time("2023-11-14T22:13:20.000000001") == T0 + 1
