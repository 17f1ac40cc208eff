"""The books in other programs' words: hledger, beancount, ledger-cli, CSV.

Reads   Books between two cuts.
Writes  one file a chunk into a folder: declarations, opening balances with assertions, entries, and
        an assertion behind the last leg of every account.
Never   rounds: amounts are printed with 18 decimals always, because both programs balance an entry
        only as exactly as its amounts are printed. hledger is told of 18 decimals a commodity;
        beancount's tolerance is switched off.

The memorandum accounts stand below Equity:Memo, and add up to nothing in every commodity.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import numpy as np

from ledger.books import Books, Cut, account_path
from ledger.chart import LOTS, Event, unpack
from ledger.report import time_text

DECIMALS: Final = 18
CSV_COLUMNS: Final = (
    *("entry", "seq", "recorded", "effective", "event", "order", "reference"),
    *("account", "commodity", "debit", "credit", "balance"),
)
CHUNK_ENTRIES: Final = 50_000  # what both programs read in some seconds


class Names:
    """Accounts and commodities as all three programs take them: unique, in plain letters."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.accounts: dict[int, str] = {}
        self.commodities: dict[int, str] = {}
        taken: set[str] = set()
        for unit in sorted(set(books.keys["commodity"].tolist())):
            name = re.sub(r"[^A-Z0-9.]", "-", books.commodity_name(unit).upper()).strip("-.")
            if not re.fullmatch(r"[A-Z][A-Z0-9.\-]{0,22}[A-Z0-9]", name):
                name = f"C-{name}-{unit}".replace("--", "-")[:24]
            while name in taken:
                name = f"{name[:20]}-{unit}"
            taken.add(name)
            self.commodities[unit] = name
        paths: set[str] = set()
        for row, key in enumerate(books.keys["key"].tolist()):
            parts = account_path(unpack(key), books).split(":")
            path = ":".join(_component(part) for part in parts)
            if path in paths:
                path = f"{path}-{row}"
            paths.add(path)
            self.accounts[row] = path


def _component(text: str) -> str:
    """A part of an account's path: letters, digits, hyphens; a capital or digit first."""
    plain = re.sub(r"[^A-Za-z0-9\-]", "-", text)
    if plain and (plain[0].isdigit() or plain[0].isupper()):
        return plain
    return "X" + plain


class _Chunk(NamedTuple):
    """Entries [first, last) and what stands before and after them."""

    number: int
    first: int
    last: int
    opening: np.ndarray[Any, Any]
    closing: np.ndarray[Any, Any]


class Exporter:
    """One export: `to` a folder, in one format."""

    def __init__(self, books: Books, first: Cut, last: Cut, chunk: int = CHUNK_ENTRIES) -> None:
        self.books, self.first, self.last = books, first, last
        self.chunk = chunk
        self.names = Names(books)
        self.scales = {u: books.scale(u) for u in self.names.commodities}
        self.commodity = books.keys["commodity"].tolist()

    def write(self, folder: Path, form: str) -> list[Path]:
        """Write every chunk; returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        write, suffix = FORMATS[form]
        paths = []
        for part in self._chunks():
            path = folder / f"books.{part.number:05d}.{suffix}"
            with open(path, "w", encoding="utf-8", newline="") as file:
                write(self, part, file)
            paths.append(path)
        return paths

    def _chunks(self) -> Iterator[_Chunk]:
        at = self.first.entries
        opening = self.books.balances(self.first)
        number = 1
        while True:
            end = min(at + self.chunk, self.last.entries)
            closing = self.books.balances(self.books.cut_entry(end))
            yield _Chunk(number, at, end, opening, closing)
            if end >= self.last.entries:
                return
            at, opening, number = end, closing, number + 1

    def amount(self, row: int, quanta: int) -> str:
        """An amount with all its decimals, without its commodity."""
        scale = self.scales[self.commodity[row]]
        digits = str(abs(quanta) * 10 ** (DECIMALS - scale)).zfill(DECIMALS + 1)
        return f"{'-' if quanta < 0 else ''}{digits[:-DECIMALS]}.{digits[-DECIMALS:]}"

    def unit(self, row: int) -> str:
        return self.names.commodities[self.commodity[row]]

    def entries(self, part: _Chunk) -> Iterator[tuple[Any, int, list[int], list[int]]]:
        """(entry row, its number, accounts, amounts) of a chunk."""
        at = part.first
        while at < part.last:
            rows = self.books.entry_rows(at, min(4096, part.last - at))
            for row in rows:
                accounts, amounts = self.books._leg_rows(at)
                yield row, at, accounts, amounts
                at += 1

    def last_legs(self, part: _Chunk) -> dict[int, tuple[int, int]]:
        """Account -> (entry, leg in it) of its last leg in the chunk."""
        found: dict[int, tuple[int, int]] = {}
        for _row, entry, accounts, _amounts in self.entries(part):
            for k, account in enumerate(accounts):
                found[account] = (entry, k)
        return found

    def used(self, part: _Chunk) -> list[int]:
        """Accounts with an opening balance or a leg in the chunk."""
        rows = set(np.flatnonzero(part.opening).tolist()) | self.last_legs(part).keys()
        return sorted(rows)


def _date(ts_ns: int) -> str:
    return time_text(ts_ns)[:10]


def _next_day(date: str) -> str:
    return str(np.datetime64(date) + np.timedelta64(1, "D"))


def _start(x: Exporter, part: _Chunk) -> str:
    """Date of the chunk's opening balances: of its first entry."""
    if part.first < part.last:
        return _date(int(x.books.entry_rows(part.first, 1)[0]["recorded_ns"]))
    return _date(x.last.ts_ns)


def _head(x: Exporter, part: _Chunk) -> str:
    return (
        f"; books of {x.books.folder}, entries {part.first} to {part.last - 1} of "
        f"{x.last.entries}, sequence {x.last.seq}\n"
    )


def _about(row: Any, entry: int) -> str:
    said = [f"entry:{entry}", f"seq:{int(row['seq'])}", f"at:{time_text(int(row['recorded_ns']))}"]
    if row["effective_ns"] != row["recorded_ns"]:
        said.append(f"effective:{time_text(int(row['effective_ns']))}")
    for name in ("order_id", "reference"):
        if row[name]:
            said.append(f"{name}:{int(row[name])}")
    return ", ".join(said)


def _journal(x: Exporter, part: _Chunk, out: TextIO, *, ledger_cli: bool) -> None:
    """hledger and ledger-cli: the same words but for the declarations."""
    out.write(_head(x, part))
    used = x.used(part)
    for unit in sorted({x.unit(row) for row in used}):
        if ledger_cli:
            out.write(f'commodity "{unit}"\n    format 1000.{"0" * DECIMALS} "{unit}"\n')
        else:
            out.write(f'commodity 1000.{"0" * DECIMALS} "{unit}"\n')
    for row in used:
        out.write(f"account {x.names.accounts[row]}\n")
    out.write("\n")
    opened = [row for row in used if part.opening[row]]
    if opened:
        out.write(f"{_start(x, part)} * opening balances\n")
        for row in opened:
            said = f'{x.amount(row, int(part.opening[row]))} "{x.unit(row)}"'
            out.write(f"    {x.names.accounts[row]}  {said} = {said}\n")
        out.write("\n")
    last = x.last_legs(part)
    for row, entry, accounts, amounts in x.entries(part):
        date = _date(int(row["recorded_ns"]))
        out.write(f"{date} * {Event(int(row['event'])).name}  ; {_about(row, entry)}\n")
        for k, (account, quanta) in enumerate(zip(accounts, amounts, strict=True)):
            line = (
                f'    {x.names.accounts[account]}  {x.amount(account, quanta)} "{x.unit(account)}"'
            )
            if last[account] == (entry, k):
                line += f' = {x.amount(account, int(part.closing[account]))} "{x.unit(account)}"'
            out.write(line + "\n")
        out.write("\n")


def _hledger(x: Exporter, part: _Chunk, out: TextIO) -> None:
    _journal(x, part, out, ledger_cli=False)


def _ledger_cli(x: Exporter, part: _Chunk, out: TextIO) -> None:
    _journal(x, part, out, ledger_cli=True)


def _beancount(x: Exporter, part: _Chunk, out: TextIO) -> None:
    """Assertions are by day: of the opening balances before, of the closing ones the day after."""
    out.write(_head(x, part))
    out.write(
        f'option "title" "Perpcore, chunk {part.number}"\noption "tolerance_multiplier" "0"\n'
    )
    for unit in sorted(name for n, name in x.names.commodities.items() if not n & LOTS):
        out.write(f'option "operating_currency" "{unit}"\n')
    start = _start(x, part)
    before = str(np.datetime64(start) - np.timedelta64(1, "D"))
    used = x.used(part)
    for unit in sorted({x.unit(row) for row in used}):
        out.write(f"{before} commodity {unit}\n")
    for row in used:
        out.write(f"{before} open {x.names.accounts[row]} {x.unit(row)}\n")
    opened = [row for row in used if part.opening[row]]
    if opened:
        out.write(f'\n{before} * "opening balances"\n')
        for row in opened:
            said = x.amount(row, int(part.opening[row]))
            out.write(f"  {x.names.accounts[row]}  {said} {x.unit(row)}\n")
        out.write("\n")
        for row in opened:
            said = f"{x.amount(row, int(part.opening[row]))} ~ 0 {x.unit(row)}"
            out.write(f"{start} balance {x.names.accounts[row]} {said}\n")
    end = start
    for row, entry, accounts, amounts in x.entries(part):
        end = _date(int(row["recorded_ns"]))
        out.write(f'\n{end} * "{Event(int(row["event"])).name}" "{_about(row, entry)}"\n')
        for account, quanta in zip(accounts, amounts, strict=True):
            out.write(
                f"  {x.names.accounts[account]}  {x.amount(account, quanta)} {x.unit(account)}\n"
            )
    out.write("\n")
    for row in used:
        said = f"{x.amount(row, int(part.closing[row]))} ~ 0 {x.unit(row)}"
        out.write(f"{_next_day(end)} balance {x.names.accounts[row]} {said}\n")


def _csv(x: Exporter, part: _Chunk, out: TextIO) -> None:
    """A line a leg; the opening balances come first, as lines without an entry."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    balance = {row: int(part.opening[row]) for row in x.used(part)}
    for row in balance:
        if balance[row]:
            said = x.amount(row, balance[row])
            writer.writerow(
                [
                    "",
                    "",
                    "",
                    "",
                    "OPENING",
                    "",
                    "",
                    x.names.accounts[row],
                    x.unit(row),
                    "",
                    "",
                    said,
                ]
            )
    for row, entry, accounts, amounts in x.entries(part):
        for account, quanta in zip(accounts, amounts, strict=True):
            balance[account] += quanta
            said = x.amount(account, abs(quanta))
            writer.writerow(
                [
                    *(entry, int(row["seq"]), time_text(int(row["recorded_ns"]))),
                    *(time_text(int(row["effective_ns"])), Event(int(row["event"])).name),
                    *(int(row["order_id"]) or "", int(row["reference"]) or ""),
                    *(x.names.accounts[account], x.unit(account)),
                    *((said, "") if quanta > 0 else ("", said)),
                    x.amount(account, balance[account]),
                ]
            )


FORMATS: Final = {
    "hledger": (_hledger, "journal"),
    "ledger": (_ledger_cli, "ledger"),
    "beancount": (_beancount, "beancount"),
    "csv": (_csv, "csv"),
}
