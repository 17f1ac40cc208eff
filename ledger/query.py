"""The books as a JSON API: pure functions from a viewer and parameters to data.

Reads   Books; the break report and the published proof of the same data directory.
Writes  nothing.
Never   shows a customer another's lines: what isn't its own is not found, in the same words as what
        isn't there. An auditor sees everything and changes nothing.

    answer(books, Viewer("auditor"), "balance-sheet", {"at": "123"})
    answer(books, Viewer("customer", 16), "statement", {"from": "2026-01-01T00:00:00Z"})

`at`, `from` and `to` are a sequence number or an instant in UTC; without one, now, or the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import numpy as np

from ledger import proof, sheet, statements
from ledger.books import Books, Cut, account_path
from ledger.breaks import BreakReport
from ledger.chart import CHART, CHECKS, CODE_SHIFT, Code, Event, unpack
from ledger.files import QuestionError
from ledger.report import decimal_text, entry_data
from shm.units import SYSTEM_ACCOUNTS

AUDITOR: Final = "auditor"
CUSTOMER: Final = "customer"
PUBLIC: Final = "public"
LIMIT_MAX: Final = 1000
LINES_MAX: Final = 10_000  # of a statement: more are asked for in shorter periods
LEGS_AN_ENTRY: Final = 4  # of one account, at most


class Viewer(NamedTuple):
    """Who asks. A customer is one account of the engine."""

    role: str
    account: int = -1


class QueryError(QuestionError):
    """A question that cannot be answered: `status` is what HTTP would say."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def not_found(what: str) -> QueryError:
    return QueryError(404, f"{what} was not found")


# ---------------------------------------------------------------- parameters

_ZONE: Final = re.compile(r"(.*T\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|\+00:00)?", re.ASCII)


def parse_time(text: str) -> int:
    """An instant in ns: 2026-01-31, 2026-01-31T23:59:59[.123456789][Z]; UTC only."""
    full = text if "T" in text else f"{text}T00:00:00"
    match = _ZONE.fullmatch(full)
    if match is None:
        raise QueryError(400, f"{text!r} is no sequence number and no instant in UTC")
    try:
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise QueryError(400, f"{text!r} is no instant: {error}") from None
    return int(moment.timestamp()) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def parse_cut(books: Books, text: str | None, default: Cut) -> Cut:
    """A cut from a sequence number or an instant."""
    if text is None or text == "now":
        return default
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return books.cut_seq(int(text))
    return books.cut(parse_time(text))


def parse_currency(text: str | None, rates: Mapping[str, str]) -> statements.Currency | None:
    """USD[:decimals] and the rate of each asset in it."""
    if text is None:
        return None
    name, _, decimals = text.partition(":")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,11}", name) or (
        decimals and not decimals.isdecimal()
    ):
        raise QueryError(400, f"currency {text!r}, must be NAME or NAME:DECIMALS")
    found = {}
    for asset, rate in rates.items():
        try:
            value = Decimal(rate)
        except InvalidOperation:
            raise QueryError(400, f"rate {rate!r} of {asset} is no number") from None
        if not value.is_finite() or value < 0:
            raise QueryError(400, f"rate {rate!r} of {asset}, must be 0 or more")
        found[asset] = value
    return statements.Currency(name, found, min(int(decimals or 2), 18))


class Ask(NamedTuple):
    """A question, taken apart."""

    books: Books
    viewer: Viewer
    params: Mapping[str, str]

    def number(self, name: str, default: int | None = None) -> int | None:
        text = self.params.get(name)
        if text is None:
            return default
        if (
            not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII)
            or not -(1 << 63) <= int(text) < 1 << 63
        ):
            raise QueryError(400, f"{name} {text!r} is no number")
        return int(text)

    def limit(self) -> int:
        return min(max(self.number("limit", 100) or 0, 1), LIMIT_MAX)

    def cut(self, name: str = "at") -> Cut:
        default = self.books.cut_seq(0) if name == "from" else self.books.now()
        return parse_cut(self.books, self.params.get(name), default)

    def currency(self) -> statements.Currency | None:
        rates = {
            name.removeprefix("rate."): value
            for name, value in self.params.items()
            if name.startswith("rate.")
        }
        return parse_currency(self.params.get("currency"), rates)

    def customer(self) -> int:
        """Whose lines are wanted: a customer's own, whatever it asks for."""
        if self.viewer.role == CUSTOMER:
            return self.viewer.account
        account = self.number("account")
        if account is None:
            raise QueryError(400, "account is missing")
        return account


# ---------------------------------------------------------------- answers


def _head(ask: Ask) -> dict[str, Any]:
    books = ask.books
    return {**books.head, "chain": books.chain(), "assets": books.assets, "symbols": books.symbols}


def _balance_sheet(ask: Ask) -> dict[str, Any]:
    before = ask.cut("compare") if "compare" in ask.params else None
    made = statements.balance_sheet(ask.books, ask.cut(), before=before, currency=ask.currency())
    return sheet.as_data(made)


def _trial_balance(ask: Ask) -> dict[str, Any]:
    detail = ask.params.get("detail") in ("1", "true")
    first, last = _span(ask)
    return sheet.as_data(statements.trial_balance(ask.books, first, last, detail=detail))


def _span(ask: Ask) -> tuple[Cut, Cut]:
    first, last = ask.cut("from"), ask.cut("to" if "to" in ask.params else "at")
    said = [ask.params.get("from", ""), ask.params.get("to", "")]
    backwards = all(text.isdecimal() for text in said) and int(said[0]) > int(said[1])
    if first.entries > last.entries or backwards:
        raise QueryError(400, "the period ends before it begins")
    return first, last


def _period(make: Callable[[Books, Cut, Cut], sheet.Sheet]) -> Callable[[Ask], dict[str, Any]]:
    return lambda ask: sheet.as_data(make(ask.books, *_span(ask)))


def _moment(make: Callable[[Books, Cut], sheet.Sheet]) -> Callable[[Ask], dict[str, Any]]:
    return lambda ask: sheet.as_data(make(ask.books, ask.cut()))


def _income(ask: Ask) -> dict[str, Any]:
    first, last = _span(ask)
    return sheet.as_data(statements.income(ask.books, first, last, currency=ask.currency()))


def _statement(ask: Ask) -> dict[str, Any]:
    first, last = _span(ask)
    account = ask.customer()
    known = ask.viewer.role == CUSTOMER or ask.books.has_customer(account)
    if account < SYSTEM_ACCOUNTS or not known:
        raise not_found(f"customer {account}")
    made = statements.customer(ask.books, account, first, last, limit=LINES_MAX)
    return sheet.as_data(made)


def _accounts(ask: Ask) -> dict[str, Any]:
    """Drill-down from a line of a statement: the accounts of one code, with balances; of a
    customer its own, of every code unless it names one."""
    code = ask.number("code")
    if code not in CHART and not (code is None and ask.viewer.role == CUSTOMER):
        raise not_found(f"code {code}")
    balances = ask.books.balances(ask.cut())
    keys = ask.books.keys["key"]
    wanted = balances != 0
    if code in (Code.AVAILABLE, Code.RECEIVABLE):
        # A cross wallet that owes is a receivable, in the statement and here.
        owing = balances > 0 if code == Code.RECEIVABLE else balances < 0
        wanted &= (keys >> CODE_SHIFT == Code.AVAILABLE) & owing
    elif code is not None:
        wanted &= keys >> CODE_SHIFT == code
    if ask.viewer.role == CUSTOMER:
        wanted &= (keys & 0xFFFFFFFF) == ask.viewer.account
    found = []
    for row in np.flatnonzero(wanted).tolist():
        key = int(keys[row])
        if _may_see(ask.viewer, key):
            unit = int(ask.books.keys[row]["commodity"])
            debit = unpack(key).line.debit or code == Code.RECEIVABLE
            amount = int(balances[row]) * (1 if debit else -1)
            found.append(
                {
                    "key": key,
                    "account": account_path(unpack(key), ask.books),
                    "balance": decimal_text(amount, ask.books.scale(unit)),
                    "commodity": ask.books.commodity_name(unit),
                }
            )
    return {
        "code": code,
        "meaning": CHART[code].meaning if code is not None else "",
        "accounts": found,
    }


def _entries(ask: Ask) -> dict[str, Any]:
    """Entries of an account of the books, an order, a reference, a customer, an event; oldest
    first. `next` is the `start` to ask for more with, or None."""
    books = ask.books
    limit = ask.limit()
    first, last = _span(ask)
    start = ask.number("start", 0) or 0
    if start > first.entries:
        first = books.cut_entry(min(start, last.entries))
    key = ask.number("key")
    if key is not None:
        row = books.find_key(key)
        if row is None or not _may_see(ask.viewer, key):
            raise not_found(f"account {key}")
        legs = books.account_legs(row, first.legs, last.legs, LEGS_AN_ENTRY * (limit + 1))
        entries = np.unique(books.entries_of(np.array(legs, np.int64))).tolist()
    else:
        own = ask.viewer.account if ask.viewer.role == CUSTOMER else ask.number("account")
        event = ask.params.get("event")
        if event is not None and event not in Event.__members__:
            raise QueryError(400, f"event {event!r} is none of {', '.join(Event.__members__)}")
        entries = books.find_entries(
            order_id=ask.number("order"),
            reference=ask.number("reference"),
            account=own,
            symbol=ask.number("symbol"),
            event=Event[event] if event else None,
            first=first.entries,
            last=last.entries,
            limit=limit + 1,
        )
    return {
        "entries": [_shown(ask, entry) for entry in entries[:limit]],
        "next": entries[limit] if len(entries) > limit else None,
    }


def _may_see(viewer: Viewer, key: int) -> bool:
    k = unpack(key)
    return viewer.role == AUDITOR or (k.line.customer and k.account == viewer.account)


def _shown(ask: Ask, entry: int) -> dict[str, Any]:
    """An entry as the viewer may see it: a customer sees its own legs, and its own requests."""
    data = entry_data(ask.books, entry)
    if ask.viewer.role == CUSTOMER:
        data["legs"] = [leg for leg in data["legs"] if _may_see(ask.viewer, leg["key"])]
        if data["customer"] != ask.viewer.account:
            # Another's command moved this customer's money: whose it was is not its business.
            for name in ("order_id", "customer", "trace", "reference"):
                data[name] = None
        elif ask.books.trace_order(data["seq"]) not in (0, data["order_id"]):
            data["trace"] = None  # of whoever took what this customer had made
    return data


def _entry(ask: Ask) -> dict[str, Any]:
    entry = ask.number("entry")
    if entry is None or not 0 <= entry < ask.books.entries:
        raise not_found(f"entry {entry}")
    data = _shown(ask, entry)
    if ask.viewer.role == CUSTOMER and not data["legs"]:
        raise not_found(f"entry {entry}")
    return data


def _trace(ask: Ask) -> dict[str, Any]:
    """From a request's trace id to the commands and entries it caused."""
    text = ask.params.get("trace", "")
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise QueryError(400, f"trace {text!r}, must be 32 hex digits")
    high, low = (
        int.from_bytes(bytes.fromhex(part), "big", signed=True) for part in (text[:16], text[16:])
    )
    found = []
    for seq in ask.books.find_trace(high, low):
        shown = [_shown(ask, entry) for entry in ask.books.find_seq(seq)]
        if ask.viewer.role == CUSTOMER:
            shown = [data for data in shown if data["legs"] and data["trace"]]
        found += shown
    if not found:
        raise not_found(f"trace {text}")
    return {"trace": text.lower(), "entries": found}


def _notes(ask: Ask) -> dict[str, Any]:
    return {"notes": ask.books.notes()}


def _breaks(ask: Ask) -> dict[str, Any]:
    """Reports that differed from the books when they were booked."""
    return {
        "breaks": [
            {
                "seq": int(b["seq"]),
                "report": int(b["report"]),
                "check": CHECKS.get(int(b["check"]), str(int(b["check"]))),
                "account": int(b["account"]),
                "report_says": int(b["expected"]),
                "books_say": int(b["found"]),
            }
            for b in ask.books.breaks()[:LIMIT_MAX]
        ]
    }


def _reconciliation(ask: Ask) -> dict[str, Any]:
    """The break report: every difference that was ever found, its owner and state."""
    report = BreakReport(ask.books.folder.parent)
    rows = report.rows if ask.params.get("all") in ("1", "true") else report.live
    return {"open": len(report.live), "breaks": rows}


def _published(ask: Ask) -> dict[str, Any]:
    return proof.published(ask.books.folder.parent) or _no_proof()


def _no_proof() -> dict[str, Any]:
    raise not_found("a published proof of liabilities")


def _proof(ask: Ask) -> dict[str, Any]:
    """A customer's inclusion proof in the tree whose root was published last."""
    said = _published(ask)
    return proof.published_tree(ask.books, said).prove(ask.customer())


_ROUTES: Final[dict[str, tuple[frozenset[str], Callable[[Ask], dict[str, Any]]]]] = {
    name: (frozenset(roles), make)
    for name, roles, make in (
        ("head", {AUDITOR}, _head),
        ("balance-sheet", {AUDITOR}, _balance_sheet),
        ("trial-balance", {AUDITOR}, _trial_balance),
        ("income", {AUDITOR}, _income),
        ("custody", {AUDITOR}, _moment(statements.custody)),
        ("fund", {AUDITOR}, _period(statements.fund)),
        ("fees", {AUDITOR}, _period(statements.fees)),
        ("funding", {AUDITOR}, _period(statements.funding)),
        ("withdrawals", {AUDITOR}, _moment(statements.withdrawals)),
        ("notes", {AUDITOR}, _notes),
        ("breaks", {AUDITOR}, _breaks),
        ("reconciliation", {AUDITOR}, _reconciliation),
        ("accounts", {AUDITOR, CUSTOMER}, _accounts),
        ("statement", {AUDITOR, CUSTOMER}, _statement),
        ("entries", {AUDITOR, CUSTOMER}, _entries),
        ("entry", {AUDITOR, CUSTOMER}, _entry),
        ("trace", {AUDITOR, CUSTOMER}, _trace),
        ("proof", {AUDITOR, CUSTOMER}, _proof),
        ("proof-root", {AUDITOR, CUSTOMER, PUBLIC}, _published),
    )
}
ROUTES: Final = {name: roles for name, (roles, _make) in _ROUTES.items()}


def answer(books: Books, viewer: Viewer, name: str, params: Mapping[str, str]) -> dict[str, Any]:
    """The answer to a question, as JSON's own types.

    raises   QueryError with the status HTTP would give; LedgerError where the books cannot answer
    """
    roles, make = _ROUTES.get(name, (frozenset(), None))
    if make is None or viewer.role not in roles:
        raise not_found(name)
    return make(Ask(books, viewer, params))


__all__ = ["AUDITOR", "CUSTOMER", "PUBLIC", "ROUTES", "QueryError", "Viewer", "answer"]
