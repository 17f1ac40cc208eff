"""Statements: the books added up the ways accountants ask for.

Reads   Books, at one cut or between two.
Writes  nothing: every function returns a Sheet.
Never   rounds an amount of an asset. In a presentation currency amounts are rounded half up to its
        decimals, line by line, and what that makes of a total is shown.

Customer cash is a liability; what a cross wallet owes is shown as a receivable. Memorandum accounts
stand in the trial balance, among themselves, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Final, NamedTuple

import numpy as np

from ledger.books import Books, Cut, account_path
from ledger.chart import CHART, CODE_SHIFT, LEGS, LOTS, Code, Event, Type, pack, unpack
from ledger.files import QuestionError
from ledger.report import decimal_text, time_text
from ledger.sheet import Row, Sheet, facts_of
from shm.records import NO_SYMBOL

Array = np.ndarray[Any, Any]

CUSTOMERS: Final = (
    Code.AVAILABLE,
    Code.POSITION_MARGIN,
    Code.WITHDRAWAL_PENDING,
    Code.DEPOSIT_PENDING,
)
HOLDINGS: Final = (
    Code.CUSTODY_HOT,
    Code.CUSTODY_COLD,
    Code.CUSTODY_THIRD,
    Code.CUSTODY_FAUCET,
    Code.DEPOSITS_TRANSIT,
    Code.WITHDRAWALS_TRANSIT,
)
RESULT: Final = 1  # code of the line "result of the period"


class Currency(NamedTuple):
    """A presentation currency: what one unit of each asset is worth in it."""

    name: str
    rates: dict[str, Decimal]  # by asset name
    decimals: int = 2

    def amount(self, books: Books, amounts: dict[int, int]) -> Decimal:
        """Amounts by asset, added up in this currency, not rounded."""
        total = Decimal(0)
        with localcontext() as context:
            context.prec = 80
            for asset, quanta in amounts.items():
                name = books.commodity_name(asset)
                if quanta and name not in self.rates:
                    raise QuestionError(f"no rate of {name} in {self.name} was given")
                if quanta:
                    total += self.rates[name] * quanta / (Decimal(10) ** books.scale(asset))
            return total

    def text(self, value: Decimal) -> str:
        with localcontext() as context:
            context.prec = 80
            return str(value.quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_UP))


class Totals:
    """Balances by (code, asset), with receivables taken out of customers' wallets."""

    def __init__(self, books: Books, balances: Array) -> None:
        keys = books.keys["key"]
        codes = keys >> CODE_SHIFT
        commodity = books.keys["commodity"]
        self.by: dict[tuple[int, int], int] = {}
        for asset in sorted(set(commodity[commodity < LOTS].tolist())):
            for code in sorted(set(codes[commodity == asset].tolist())):
                values = balances[(commodity == asset) & (codes == code)]
                owed = 0
                if code == Code.AVAILABLE:
                    owed = exact_sum(values[values > 0])
                    self._add(Code.RECEIVABLE, asset, owed)
                self._add(code, asset, exact_sum(values) - owed)
        self.assets = sorted({asset for _code, asset in self.by})

    def _add(self, code: int, asset: int, amount: int) -> None:
        if amount:
            where = (int(code), int(asset))
            self.by[where] = self.by.get(where, 0) + amount

    def line(self, code: int) -> dict[int, int]:
        """Debits less credits of a code, by asset."""
        return {asset: amount for (c, asset), amount in self.by.items() if c == code}

    def of(self, codes: Iterable[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        for code in codes:
            for asset, amount in self.line(code).items():
                found[asset] = found.get(asset, 0) + amount
        return found

    def codes(self, kind: Type) -> list[int]:
        return sorted({code for code, _ in self.by if CHART[code].type == kind})


def exact_sum(values: Array) -> int:
    """Sum of int64 values that may pass 64 bits."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def turned(amounts: dict[int, int]) -> dict[int, int]:
    return {asset: -amount for asset, amount in amounts.items()}


class _Columns:
    """The amount columns of a sheet: one an asset, one for a currency; twice when two cuts are
    compared."""

    def __init__(self, books: Books, assets: list[int], currency: Currency | None) -> None:
        self.books, self.assets, self.currency = books, assets, currency

    @property
    def names(self) -> tuple[str, ...]:
        own = tuple(self.books.commodity_name(asset) for asset in self.assets)
        return (*own, self.currency.name) if self.currency else own

    def cells(self, amounts: dict[int, int]) -> tuple[str, ...]:
        own = tuple(
            decimal_text(amounts.get(asset, 0), self.books.scale(asset)) for asset in self.assets
        )
        if self.currency is None:
            return own
        return (*own, self.currency.text(self.currency.amount(self.books, amounts)))


def _added(*parts: dict[int, int]) -> dict[int, int]:
    total: dict[int, int] = {}
    for part in parts:
        for asset, amount in part.items():
            total[asset] = total.get(asset, 0) + amount
    return total


def from_text(cut: Cut) -> str:
    """Where a period begins: behind this."""
    if cut.entries == 0:
        return "genesis"
    return f"sequence {cut.seq}, {time_text(cut.ts_ns)}"


def line_name(code: int) -> str:
    return "/".join(CHART[code].path)


def balance_sheet(
    books: Books, cut: Cut, *, before: Cut | None = None, currency: Currency | None = None
) -> Sheet:
    """Assets, liabilities and equity at a cut; with `before`, that one's and the change beside."""
    now = Totals(books, books.balances(cut))
    then = Totals(books, books.balances(before)) if before is not None else None
    assets = sorted({*now.assets, *(then.assets if then else ())})
    columns = _Columns(books, assets, currency)
    rows: list[Row] = []

    def cells(amounts: dict[int, int], old: dict[int, int]) -> tuple[str, ...]:
        if then is None:
            return columns.cells(amounts)
        change = _added(amounts, turned(old))
        return (*columns.cells(amounts), *columns.cells(old), *columns.cells(change))

    def result(totals: Totals | None) -> dict[int, int]:
        if totals is None:
            return {}
        return turned(totals.of([*totals.codes(Type.INCOME), *totals.codes(Type.EXPENSE)]))

    sums: dict[Type, dict[int, int]] = {}
    for kind, title in (
        (Type.ASSET, "Assets"),
        (Type.LIABILITY, "Liabilities"),
        (Type.EQUITY, "Equity"),
    ):
        rows.append(Row("head", title))
        sign = 1 if kind == Type.ASSET else -1
        codes = sorted({*now.codes(kind), *(then.codes(kind) if then else ())})
        totals = [dict[int, int](), dict[int, int]()]
        for code in codes:
            pair = [
                {a: sign * v for a, v in (t.line(code) if t else {}).items()} for t in (now, then)
            ]
            totals = [_added(total, part) for total, part in zip(totals, pair, strict=True)]
            rows.append(Row("line", line_name(code), cells(*pair), code))
        if kind == Type.EQUITY:
            pair = [result(now), result(then)]
            totals = [_added(total, part) for total, part in zip(totals, pair, strict=True)]
            rows.append(Row("line", "Result of the period", cells(*pair), RESULT))
        rows.append(Row("total", f"Total {title.lower()}", cells(*totals)))
        sums[kind] = totals[0]
    difference = _added(sums[Type.ASSET], turned(sums[Type.LIABILITY]), turned(sums[Type.EQUITY]))
    balanced = not any(difference.values())
    facts = facts_of(books, cut)
    facts["A = L + E"] = balanced
    facts["coverage"] = ", ".join(
        f"{books.commodity_name(asset)} {ratio}" for asset, ratio in coverage(now).items()
    )
    if currency:
        facts["rates"] = ", ".join(f"{k} {v}" for k, v in currency.rates.items())
    names = columns.names
    if before is not None:
        facts["compared with"] = f"sequence {before.seq}, {time_text(before.ts_ns)}"
        names = (*names, *(f"{n} before" for n in names), *(f"{n} change" for n in names))
    return Sheet("Balance sheet", facts, names, rows, balanced)


def coverage(totals: Totals) -> dict[int, str]:
    """Holdings over what customers are owed, in percent, by asset; `-` where nothing is owed."""
    found = {}
    holdings, owed = totals.of(HOLDINGS), totals.of(CUSTOMERS)
    for asset in totals.assets:
        debt = -owed.get(asset, 0)
        if debt <= 0:
            found[asset] = "-"
        else:
            ppm = holdings.get(asset, 0) * 1_000_000 // debt
            found[asset] = f"{decimal_text(ppm, 4)}%"
    return found


def trial_balance(
    books: Books, first: Cut, last: Cut, *, detail: bool = False, memo: bool = True
) -> Sheet:
    """Opening, turnover and closing of every line of the chart, or of every account."""
    opening, closing = books.balances(first), books.balances(last)
    debit, credit = books.turnover(first.legs, last.legs)
    rows: list[Row] = []
    columns = ("opening Dr", "opening Cr", "period Dr", "period Cr", "closing Dr", "closing Cr")
    groups: dict[tuple[int, str, int], list[int]] = {}
    used = [row for row in range(len(books.keys)) if opening[row] or debit[row] or credit[row]]
    for row in used:
        key = unpack(int(books.keys[row]["key"]))
        if key.line.type == Type.MEMO and not memo:
            continue
        name = account_path(key, books) if detail else line_name(key.code)
        where = (int(books.keys[row]["commodity"]), name, int(key.code))
        groups.setdefault(where, []).append(row)
    ok = True
    for commodity in sorted({where[0] for where in groups}):
        rows.append(Row("head", books.commodity_name(commodity)))
        totals = [0] * 6
        for where in sorted((w for w in groups if w[0] == commodity), key=lambda w: (w[2], w[1])):
            at = groups[where]
            values = [0] * 6
            for row in at:
                for k, balance in ((0, int(opening[row])), (4, int(closing[row]))):
                    values[k + (balance < 0)] += abs(balance)
                values[2] += int(debit[row])
                values[3] += int(credit[row])
            totals = [a + b for a, b in zip(totals, values, strict=True)]
            cells = tuple(decimal_text(v, books.scale(commodity)) if v else "" for v in values)
            rows.append(Row("line", where[1], cells, where[2]))
        cells = tuple(decimal_text(v, books.scale(commodity)) for v in totals)
        rows.append(Row("total", f"Total {books.commodity_name(commodity)}", cells))
        ok = ok and totals[0] == totals[1] and totals[2] == totals[3] and totals[4] == totals[5]
    facts = facts_of(books, last)
    facts["from"] = from_text(first)
    facts["Dr = Cr"] = ok
    return Sheet("Trial balance", facts, columns, rows, ok)


def income(books: Books, first: Cut, last: Cut, *, currency: Currency | None = None) -> Sheet:
    """Income and expense of a period, by instrument; closing entries don't count."""
    debit, credit = books.turnover(
        first.legs, last.legs, without=(int(Event.CLOSE), int(Event.REOPEN))
    )
    found: dict[tuple[int, str], dict[int, int]] = {}
    codes = books.keys["key"] >> CODE_SHIFT
    for row in np.flatnonzero((codes >= 4000) & (codes < 6000)).tolist():
        amount, code = int(credit[row] - debit[row]), int(codes[row])
        if not debit[row] and not credit[row]:
            continue
        key = unpack(int(books.keys[row]["key"]))
        by_symbol = CHART[code].by != 0
        name = f"{line_name(code)} {books.symbol_name(key.sub)}" if by_symbol else line_name(code)
        line = found.setdefault((code, name), {})
        asset = int(books.keys[row]["commodity"])
        line[asset] = line.get(asset, 0) + amount
    assets = sorted({asset for line in found.values() for asset in line})
    columns = _Columns(books, assets, currency)
    rows: list[Row] = []
    totals: dict[int, int] = {}
    for title, low, sign in (("Income", 4000, 1), ("Expenses", 5000, -1)):
        rows.append(Row("head", title))
        part: dict[int, int] = {}
        for (code, name), line in sorted(found.items()):
            if low <= code < low + 1000:
                rows.append(
                    Row("line", name, columns.cells({a: sign * v for a, v in line.items()}), code)
                )
                part = _added(part, line)
        rows.append(
            Row(
                "total",
                f"Total {title.lower()}",
                columns.cells({a: sign * v for a, v in part.items()}),
            )
        )
        totals = _added(totals, part)
    rows.append(Row("total", "Result", columns.cells(totals)))
    facts = facts_of(books, last)
    facts["from"] = from_text(first)
    return Sheet("Income statement", facts, columns.names, rows)


def custody(books: Books, cut: Cut) -> Sheet:
    """What is held where, against what customers are owed."""
    totals = Totals(books, books.balances(cut))
    columns = _Columns(books, totals.assets, None)
    rows = [Row("head", "Held")]
    for code in HOLDINGS:
        if totals.line(code):
            rows.append(Row("line", line_name(code), columns.cells(totals.line(code)), int(code)))
    held = totals.of(HOLDINGS)
    rows += [Row("total", "Total held", columns.cells(held)), Row("head", "Owed to customers")]
    for code in CUSTOMERS:
        if totals.line(code):
            cells = columns.cells(turned(totals.line(code)))
            rows.append(Row("line", line_name(code), cells, int(code)))
    owed = turned(totals.of(CUSTOMERS))
    rows.append(Row("total", "Total owed", columns.cells(owed)))
    excess = _added(held, turned(owed))
    rows.append(Row("total", "Held beyond what is owed", columns.cells(excess)))
    ratio = coverage(totals)
    rows.append(Row("note", "Coverage", tuple(ratio.get(a, "-") for a in totals.assets)))
    return Sheet(
        "Custody", facts_of(books, cut), columns.names, rows, all(v >= 0 for v in excess.values())
    )


# ---------------------------------------------------------------- of one account, or one kind


def _rows_of(books: Books, codes: Iterable[int], account: int | None = None) -> list[int]:
    keys = books.keys["key"]
    keep = np.isin(keys >> CODE_SHIFT, [int(code) for code in codes])
    if account is not None:
        keep &= (keys & 0xFFFFFFFF) == account
    return np.flatnonzero(keep).tolist()


def customer(books: Books, account: int, first: Cut, last: Cut, *, limit: int = 100_000) -> Sheet:
    """Every movement of a customer's money between two cuts, with the balance after it."""
    if first.entries > last.entries:
        raise QuestionError(
            f"the span ends at command {last.seq}, before it begins at command {first.seq}"
        )
    rows: list[Row] = []
    opening, closing = books.balances(first), books.balances(last)
    for at in _rows_of(books, CUSTOMERS, account):
        key = unpack(int(books.keys[at]["key"]))
        commodity = int(books.keys[at]["commodity"])
        scale = books.scale(commodity)
        legs = books.account_legs(at, first.legs, last.legs, limit + 1)
        if not legs and not opening[at]:
            continue
        if len(legs) > limit:
            raise QuestionError(
                f"more than {limit} lines of {account_path(key, books)}: choose a shorter period"
            )
        rows.append(Row("head", account_path(key, books)))
        start = decimal_text(-int(opening[at]), scale)
        rows.append(Row("line", "opening", ("", "", "", "", "", "", "", start)))
        balance = -int(opening[at])
        places = np.array(legs, np.int64)
        entries, amounts = books.entries_of(places), -books.gather("amount", places)
        for leg, entry, row, amount in zip(
            legs,
            entries.tolist(),
            books.gather("entries", entries),
            amounts.tolist(),
            strict=True,
        ):
            balance += amount
            cells = (
                time_text(int(row["recorded_ns"])),
                str(entry),
                str(int(row["order_id"]) or ""),
                "" if row["symbol"] == NO_SYMBOL else books.symbol_name(int(row["symbol"])),
                _against(books, entry, leg, -amount),
                decimal_text(-amount, scale) if amount < 0 else "",
                decimal_text(amount, scale) if amount > 0 else "",
                decimal_text(balance, scale),
            )
            rows.append(Row("line", Event(int(row["event"])).name, cells))
        assert balance == -int(closing[at])
        end = decimal_text(balance, scale)
        rows.append(Row("total", "closing", ("", "", "", "", "", "", "", end)))
    positions = _rows_of(books, (Code.POSITION_LOTS,), account)
    if closing[positions].any():
        rows.append(Row("head", "Positions at the end: contracts, and what they cost"))
    for at in positions:
        key = unpack(int(books.keys[at]["key"]))
        if closing[at]:
            cost = books.find_key(pack(Code.POSITION_COST, account, key.sub, key.leg))
            value = int(closing[cost]) if cost is not None else 0
            scale = books.scale(int(books.symbols[key.sub]["asset"]))
            leg_name = f" {LEGS[key.leg].lower()}" if key.leg else ""
            name = f"{books.symbol_name(key.sub)}{leg_name}"
            cells = ("", "", "", "", "", "", str(int(closing[at])), decimal_text(value, scale))
            rows.append(Row("line", name, cells))
    facts = facts_of(books, last)
    facts["customer"] = account
    facts["from"] = from_text(first)
    columns = ("time", "entry", "order", "symbol", "against", "out", "in", "balance")
    return Sheet(f"Statement of customer {account}", facts, columns, rows)


def _against(books: Books, entry: int, leg: int, amount: int) -> str:
    """The line of the chart on the other side of a leg: legs are written in pairs."""
    legs = books.entry_legs(entry)
    at = leg - books.first_leg(entry)
    for k in (at - 1, at + 1):
        if 0 <= k < len(legs) and legs[k][1] == -amount:
            return line_name(legs[k][0] >> CODE_SHIFT)
    others = {line_name(key >> CODE_SHIFT) for key, _ in legs[:at] + legs[at + 1 :]}
    return ", ".join(sorted(others))


def _by_event(books: Books, row: int, first: Cut, last: Cut) -> dict[int, int]:
    """Credits less debits of an account by the event of the entry."""
    legs = np.array(books.account_legs(row, first.legs, last.legs), np.int64)
    events = books.gather("entries", books.entries_of(legs))["event"]
    amounts = books.gather("amount", legs)
    return {
        int(event): -exact_sum(amounts[events == event]) for event in np.unique(events).tolist()
    }


def fund(books: Books, first: Cut, last: Cut) -> Sheet:
    """Insurance-fund roll-forward: what came, what went, and why."""
    opening, closing = books.balances(first), books.balances(last)
    at = _rows_of(books, (Code.INSURANCE_FUND,))
    assets = [int(books.keys[row]["commodity"]) for row in at]
    columns = _Columns(books, assets, None)
    moved = {
        asset: _by_event(books, row, first, last) for asset, row in zip(assets, at, strict=True)
    }
    start = {a: -int(opening[r]) for a, r in zip(assets, at, strict=True)}
    end = {a: -int(closing[r]) for a, r in zip(assets, at, strict=True)}
    rows = [Row("line", "Opening", columns.cells(start), int(Code.INSURANCE_FUND))]
    for event in sorted({event for by in moved.values() for event in by}):
        line = {asset: by.get(event, 0) for asset, by in moved.items()}
        rows.append(Row("line", Event(event).name, columns.cells(line), int(Code.INSURANCE_FUND)))
    rows.append(Row("total", "Closing", columns.cells(end)))
    totals = {a: start[a] + sum(moved[a].values()) for a in assets}
    facts = facts_of(books, last)
    facts["from"] = from_text(first)
    return Sheet("Insurance fund", facts, columns.names, rows, totals == end)


def _by_symbol(
    books: Books, first: Cut, last: Cut, codes: tuple[Code, ...]
) -> dict[int, dict[Code, tuple[int, int]]]:
    """(debits, credits) by symbol and code."""
    debit, credit = books.turnover(
        first.legs, last.legs, without=(int(Event.CLOSE), int(Event.REOPEN))
    )
    found: dict[int, dict[Code, tuple[int, int]]] = {}
    for row in _rows_of(books, codes):
        key = unpack(int(books.keys[row]["key"]))
        found.setdefault(key.sub, {})[key.code] = (int(debit[row]), int(credit[row]))
    return found


def fees(books: Books, first: Cut, last: Cut) -> Sheet:
    """What makers and takers paid, by symbol."""
    codes = (Code.TAKER_FEE, Code.MAKER_FEE, Code.MAKER_REBATE)
    rows = []
    for symbol, by in sorted(_by_symbol(books, first, last, codes).items()):
        asset = int(books.symbols[symbol]["asset"])
        net = [by.get(code, (0, 0)) for code in codes]
        values = [net[0][1] - net[0][0], net[1][1] - net[1][0], net[2][0] - net[2][1]]
        cells = [
            decimal_text(v, books.scale(asset))
            for v in [*values, values[0] + values[1] - values[2]]
        ]
        rows.append(Row("line", books.symbol_name(symbol), (books.commodity_name(asset), *cells)))
    facts = facts_of(books, last)
    facts["from"] = from_text(first)
    columns = ("asset", "taker fees", "maker fees", "rebates", "net")
    return Sheet("Fees", facts, columns, rows)


def funding(books: Books, first: Cut, last: Cut) -> Sheet:
    """What positions paid and received, by symbol, and the dust between."""
    rows, ok = [], True
    opening, closing = books.balances(first), books.balances(last)
    for symbol, by in sorted(_by_symbol(books, first, last, (Code.FUNDING_CLEARING,)).items()):
        asset = int(books.symbols[symbol]["asset"])
        received, paid = by[Code.FUNDING_CLEARING]
        row = books.find_key(pack(Code.FUNDING_CLEARING, 0, symbol))
        assert row is not None
        dust = -_by_event(books, row, first, last).get(Event.FUNDING_DUST, 0)
        left = int(closing[row]) - int(opening[row])
        ok = ok and received - paid == left
        cells = [decimal_text(v, books.scale(asset)) for v in (paid, received - dust, dust, -left)]
        rows.append(Row("line", books.symbol_name(symbol), (books.commodity_name(asset), *cells)))
    facts = facts_of(books, last)
    facts["from"] = from_text(first)
    columns = ("asset", "paid", "received", "dust", "under way")
    return Sheet("Funding", facts, columns, rows, ok)


_AGES: Final = (
    *((3600, "under 1 h"), (86400, "under 1 d"), (7 * 86400, "under 7 d")),
    (1 << 63, "7 d and more"),
)


def withdrawals(books: Books, cut: Cut) -> Sheet:
    """Withdrawals that were asked for and have neither left nor been rejected, by age."""
    waiting: dict[int, list[int]] = {}
    for begin, rows in books.pieces("entries", 0, cut.entries):
        wanted = (Event.WITHDRAW_REQUEST, Event.WITHDRAW_RETURN, Event.WITHDRAW_SETTLE)
        keep = np.isin(rows["event"], [int(event) for event in wanted])
        for at in np.flatnonzero(keep).tolist():
            reference = int(rows[at]["reference"])
            if rows[at]["event"] == Event.WITHDRAW_REQUEST:
                waiting.setdefault(reference, []).append(begin + at)
            else:
                waiting.pop(reference, None)
    lines = []
    totals: dict[tuple[int, int], int] = {}  # (bucket, commodity)
    for reference, entries in waiting.items():
        for entry in entries:
            row = books.entry_rows(entry, 1)[0]
            seconds = (cut.ts_ns - int(row["recorded_ns"])) // 1_000_000_000
            bucket = next(k for k, (limit, _) in enumerate(_AGES) if seconds < limit)
            for key, amount in books.entry_legs(entry):
                if amount < 0:
                    commodity = books.commodity_of(unpack(key))
                    where = (bucket, commodity)
                    totals[where] = totals.get(where, 0) - amount
                    cells = (
                        time_text(int(row["recorded_ns"])),
                        _AGES[bucket][1],
                        books.commodity_name(commodity),
                        decimal_text(-amount, books.scale(commodity)),
                    )
                    name = f"U{int(row['account'])} request {reference}"
                    lines.append(Row("line", name, cells, int(Code.WITHDRAWAL_PENDING)))
    for bucket, commodity in sorted(totals):
        total = decimal_text(totals[bucket, commodity], books.scale(commodity))
        cells = ("", _AGES[bucket][1], books.commodity_name(commodity), total)
        lines.append(Row("total", f"Total {_AGES[bucket][1]}", cells))
    columns = ("asked", "age", "asset", "amount")
    return Sheet("Withdrawals under way", facts_of(books, cut), columns, lines)
