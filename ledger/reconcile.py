"""Reconciliation: the books against somebody else's figures, at one sequence number, to the unit.

Reads   Books, leg by leg from the first one on, and facts that did not come from the reports the
        ledger was fed: balances, positions and holds that an independent replay of the WAL writes
        and the engine has in memory (tools/ledger_facts.py), custody statements.
Writes  nothing: a list of breaks. What becomes of them is kept by ledger/breaks.py.

    R1  trades of each symbol                 fills booked
    R2  wallets, isolated wallets             customers' accounts, fund, dust, fees, adjustments
    R3  positions and their entry values      Position, PositionCost, Clearing:PnL
    R4  holds and close claims of orders      OrderHold, CloseClaim
    R5  custody, an address or wallet each    Custody
    R6  third parties' statements             Custody:ThirdParty
    R7  the engine's memory, report digests   replay of its WAL
    R8  exports, in other programs' hands     trial balance (tools/ledger_programs.py)
    R9  leaves of the proof of liabilities    customers' liabilities
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ledger.bookkeeping import OUTSIDE
from ledger.books import Books, Cut, account_path
from ledger.chart import CHART, CODE_SHIFT, SUB_SHIFT, Code, Event, Type, pack, unpack
from ledger.files import LedgerError, QuestionError
from ledger.statements import CUSTOMERS, exact_sum

Array = np.ndarray[Any, Any]


class Break(NamedTuple):
    """One difference: what the books say, what the other side says."""

    check: str  # R1 to R9, or L: a law of the books themselves
    account: str
    books: int
    other: int
    seq: int  # the cut that was compared
    first_seq: int = 0  # the first command at which they differ, 0 until it was looked for
    key: int = 0  # of the account of the books

    @property
    def difference(self) -> int:
        return self.books - self.other


class Facts(NamedTuple):
    """What somebody independent says after command `seq`; see tools/ledger_facts.py.

    By keys of accounts of the books, ascending, values that are not 0: cross wallets under
    AVAILABLE whoever's they are, what orders hold under ORDER_HOLD, a position's lots, entry value,
    isolated wallet and close claims under their own, all entry values of a symbol under
    PNL_CLEARING, what a funding round under way has paid less what it took under FUNDING_CLEARING.
    Signs are the engine's.
    """

    seq: int
    reports: int  # that the commands up to there made
    keys: Array
    values: Array
    trades: Array  # int64[65536]: trades of each symbol, those outside the book too


# Accounts of the books that together are the engine's cross wallet of the account in their key.
_WALLET_CODES: Final = tuple(
    int(line.code)
    for line in CHART.values()
    if line.engine
    and line.type != Type.MEMO
    and line.code not in (Code.POSITION_MARGIN, Code.PNL_CLEARING, Code.FUNDING_CLEARING)
)
_SIGNS: Final = {
    int(Code.ORDER_HOLD): 1,
    int(Code.POSITION_LOTS): 1,
    int(Code.POSITION_COST): 1,
    int(Code.POSITION_MARGIN): -1,
    int(Code.CLOSE_CLAIM): 1,
    int(Code.PNL_CLEARING): 1,
    int(Code.FUNDING_CLEARING): 1,
}
_CHECKS: Final = {
    int(Code.AVAILABLE): "R2",
    int(Code.POSITION_MARGIN): "R2",
    int(Code.POSITION_LOTS): "R3",
    int(Code.POSITION_COST): "R3",
    int(Code.PNL_CLEARING): "R3",
    int(Code.FUNDING_CLEARING): "R3",
    int(Code.ORDER_HOLD): "R4",
    int(Code.CLOSE_CLAIM): "R4",
}
_OWNER: Final = 0xFFFFFFFF
SYMBOLS: Final = 1 << 16


def added_up(keys: Array, values: Array) -> tuple[Array, Array]:
    """Values by key, ascending; what comes to 0 is left out."""
    unique, place = np.unique(keys, return_inverse=True)
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, place.reshape(-1), values)
    return unique[total != 0], total[total != 0]


def figures(accounts: Array, balances: Array) -> tuple[Array, Array]:
    """The books added up the way the engine keeps its tables: keys and values as Facts has them.

    accounts    LEDGER_KEY rows; balances of each
    """
    keys, commodity = accounts["key"], accounts["commodity"].astype(np.int64)
    codes = keys >> CODE_SHIFT
    found = []
    for row_codes, sign in ((_WALLET_CODES, -1), *(((c,), s) for c, s in _SIGNS.items())):
        rows = np.flatnonzero(np.isin(codes, row_codes) & (balances != 0))
        own = keys[rows]
        if row_codes is _WALLET_CODES:
            rows = rows[own & _OWNER != OUTSIDE]  # results of bookkeepers' entries: no wallet's
            wallets = pack(Code.AVAILABLE, 0, 0) | commodity[rows] << SUB_SHIFT
            own = wallets | keys[rows] & _OWNER
        found.append((own, sign * balances[rows]))
    return added_up(np.concatenate([k for k, _ in found]), np.concatenate([v for _, v in found]))


def figure_name(key: int, books: Books) -> str:
    """What a figure is called in a break."""
    k = unpack(key)
    if k.code in (Code.AVAILABLE, Code.ORDER_HOLD):
        what = "wallet" if k.code == Code.AVAILABLE else "holds"
        return f"{what} of {k.account} in {books.commodity_name(k.sub)}"
    return account_path(k, books)


def compare(books: Books, facts: Facts, sums: Sums | None = None) -> list[Break]:
    """R1 to R4 at the place of the facts. `sums` may stand anywhere before it."""
    cut = cut_of(books, facts)
    sums = sums if sums is not None else Sums()
    sums.advance(books, cut)
    keys, values = figures(books.keys, sums.totals)
    every, place = np.unique(np.concatenate([keys, facts.keys]), return_inverse=True)
    place = place.reshape(-1)
    mine, told = np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    mine[place[: len(keys)]] = values
    told[place[len(keys) :]] = facts.values
    found = []
    for at in np.flatnonzero(mine != told).tolist():
        key = int(every[at])
        check = _CHECKS[key >> CODE_SHIFT]
        name = figure_name(key, books)
        found.append(Break(check, name, int(mine[at]), int(told[at]), facts.seq, 0, key))
    for symbol in np.flatnonzero(sums.trades != 2 * facts.trades).tolist():
        booked, count = int(sums.trades[symbol]), 2 * int(facts.trades[symbol])
        name = f"trades of {books.symbol_name(symbol)}"
        found.append(Break("R1", name, booked, count, facts.seq))
    return found


def cut_of(books: Books, facts: Facts) -> Cut:
    """The place in the books where the facts stand; QuestionError when they are not there yet."""
    if books.head["reports"] < facts.reports:
        raise QuestionError(
            f"the books have taken up {books.head['reports']} reports, not {facts.reports}"
        )
    return books.cut_seq(min(facts.seq, books.head["seq"]))


def compare_facts(replayed: Facts, live: Facts, books: Books) -> list[Break]:
    """R7: the engine's own memory against a replay at the same command; `books` names accounts."""
    assert replayed.seq == live.seq
    every = np.union1d(replayed.keys, live.keys)
    mine, told = np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    mine[np.searchsorted(every, replayed.keys)] = replayed.values
    told[np.searchsorted(every, live.keys)] = live.values
    found = []
    for at in np.flatnonzero(mine != told).tolist():
        key = int(every[at])
        name = f"the engine's memory: {figure_name(key, books)}"
        found.append(Break("R7", name, int(mine[at]), int(told[at]), live.seq, 0, key))
    _add(found, "R7", "reports ever made", replayed.reports, live.reports, live.seq, 0)
    return found


def _add(
    found: list[Break], check: str, account: str, books: int, other: int, seq: int, key: int
) -> None:
    if books != other:
        found.append(Break(check, account, books, other, seq, 0, key))


FILLS: Final = tuple(
    int(event)
    for event in (
        *(Event.FILL_OPEN, Event.FILL_REDUCE, Event.FILL_FLIP, Event.LIQUIDATION_FILL),
        *(Event.TAKEOVER, Event.ADL, Event.DELIST),
    )
)


class Sums:
    """Balances added up leg by leg from the first one on: neither the running balances nor the
    files of balances are believed.

    What was added is remembered by its hash, so that a leg altered later is found without adding
    everything up again: `changed` goes round, so many spans a call.
    """

    SPAN: Final = 1 << 16  # legs under one hash at most

    def __init__(self) -> None:
        self.entries = self.legs = 0
        self.totals = np.zeros(0, np.int64)
        self.trades = np.zeros(SYMBOLS, np.int64)  # sides booked, by symbol
        self.strange: list[int] = []  # legs of accounts that are not there
        self._spans: list[tuple[int, int, bytes]] = []  # (first leg, last + 1, hash)
        self._altered = -1  # a span that was not what it had been, the last time
        self._round = 0

    def advance(self, books: Books, cut: Cut) -> None:
        """Add what lies between here and a cut that is not before it."""
        assert cut.legs >= self.legs and cut.entries >= self.entries
        for _, entries in books.pieces("entries", self.entries, cut.entries):
            symbols = entries["symbol"][np.isin(entries["event"], FILLS)]
            self.trades += np.bincount(symbols, minlength=SYMBOLS)
        self._add(books, self.legs, cut.legs)
        at = self.legs
        if self._spans and at % self.SPAN:
            first, last, made = self._spans[-1]
            if self._hash(books, first, last) == made:  # else it stays, to be found
                self._spans.pop()
                at = first
        while at < cut.legs:
            end = min((at // self.SPAN + 1) * self.SPAN, cut.legs)
            self._spans.append((at, end, self._hash(books, at, end)))
            at = end
        self.entries, self.legs = cut.entries, cut.legs

    def again(self, books: Books) -> None:
        """Add up everything anew, and go on believing that it was what it was."""
        self.totals[:] = 0
        self.strange.clear()
        self._add(books, 0, self.legs)

    def _add(self, books: Books, first: int, last: int) -> None:
        accounts = len(books.keys)
        more = max(accounts - len(self.totals), 0)
        self.totals = np.concatenate([self.totals, np.zeros(more, np.int64)])
        for begin, rows in books.pieces("account", first, last):
            amounts = books.rows("amount", begin, begin + len(rows))
            if len(rows) and int(rows.max()) >= accounts:
                good = rows < accounts
                self.strange += (begin + np.flatnonzero(~good)).tolist()
                rows, amounts = rows[good], amounts[good]
            np.add.at(self.totals, rows, amounts)

    def _hash(self, books: Books, first: int, last: int) -> bytes:
        made = hashlib.blake2b(digest_size=16)
        for name in ("account", "amount"):
            for _, rows in books.pieces(name, first, last):
                made.update(rows.tobytes())
        return made.digest()

    def changed(self, books: Books, spans: int) -> tuple[int, int] | None:
        """Look at the next so many spans; the first of them that is not what it was."""
        count = len(self._spans)
        places = [(self._round + k) % count for k in range(min(spans, count))]
        if self._altered >= 0:
            places.insert(0, self._altered)
        self._altered = -1
        for place in places:
            first, last, made = self._spans[place]
            self._round = place + 1
            if self._hash(books, first, last) != made:
                self._altered = place
                return first, last
        return None


# ---------------------------------------------------------------- laws of the books themselves


def laws(
    books: Books, cut: Cut, *, rounds: bool = True, balances: Array | None = None
) -> list[Break]:
    """What must hold behind any command whoever else says what.

    rounds     no funding round is under way
    balances   at the cut, where somebody added them up before
    """
    balances = balances if balances is not None else books.balances(cut)
    keys, commodity = books.keys["key"], books.keys["commodity"]
    codes = keys >> CODE_SHIFT
    found: list[Break] = []

    def expect(name: str, value: int, wanted: int, key: int = 0) -> None:
        _add(found, "L", name, value, wanted, cut.seq, key)

    for unit in sorted(set(commodity.tolist())):
        name = books.commodity_name(unit)
        expect(f"all accounts in {name}", exact_sum(balances[commodity == unit]), 0)
    memo = np.isin(codes, [int(c) for c, line in CHART.items() if line.type == Type.MEMO])
    for unit in sorted(set(commodity[memo].tolist())):
        value = exact_sum(balances[memo & (commodity == unit)])
        expect(f"memorandum accounts in {books.commodity_name(unit)}", value, 0)
    zero = [int(Code.SUSPENSE), int(Code.POSITION_LOTS_CONTROL)]
    if rounds:
        zero.append(int(Code.FUNDING_CLEARING))
    for row in np.flatnonzero(np.isin(codes, zero)).tolist():
        key = int(keys[row])
        expect(account_path(unpack(key), books), int(balances[row]), 0, key)
    # Both sides of a trade at one price: what they realised is what entry values lost.
    values = {}
    for code, sign in ((Code.PNL_CLEARING, 1), (Code.POSITION_COST_CONTROL, -1)):
        for row in np.flatnonzero(codes == code).tolist():
            values[code, int(keys[row]) >> SUB_SHIFT & 0xFFFF] = sign * int(balances[row])
    for symbol in sorted({symbol for _code, symbol in values}):
        value = values.get((Code.PNL_CLEARING, symbol), 0)
        costs = values.get((Code.POSITION_COST_CONTROL, symbol), 0)
        name = f"{books.symbol_name(symbol)}: PnL clearing"
        expect(name, value, costs, pack(Code.PNL_CLEARING, 0, symbol))
    for row in np.flatnonzero((codes == Code.ROUNDING) & (balances > 0)).tolist():
        key = int(keys[row])
        expect(account_path(unpack(key), books), int(balances[row]), 0, key)
    return found


# ---------------------------------------------------------------- custody


class CustodyLine(NamedTuple):
    """What a wallet or a third party says it holds."""

    wallet: str
    asset: str
    quanta: int


def read_custody(path: Path, books: Books) -> list[CustodyLine]:
    """A CSV of wallet,asset,balance with a header; balances in whole units, exact.

    raises   LedgerError with file, line and what is wrong
    """
    names = {str(v["name"]): k for k, v in books.assets.items()}
    found: list[CustodyLine] = []
    seen: set[tuple[str, str]] = set()
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}") from None
    rows = csv.reader(text.splitlines())
    header = next(rows, None)
    if header is None or [cell.strip().lower() for cell in header[:3]] != [
        "wallet",
        "asset",
        "balance",
    ]:
        raise LedgerError(f"{path}: line 1: must be wallet,asset,balance; got {header}")
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        where = f"{path}: line {number}"
        if len(row) < 3:
            raise LedgerError(f"{where}: {len(row)} cells, must be wallet,asset,balance")
        wallet, asset, balance = (cell.strip() for cell in row[:3])
        if asset not in names:
            raise LedgerError(f"{where}: asset {asset!r} was never declared")
        if (wallet, asset) in seen:
            raise LedgerError(f"{where}: {wallet} in {asset} stands there twice")
        seen.add((wallet, asset))
        found.append(
            CustodyLine(wallet, asset, parse_amount(balance, books.scale(names[asset]), where))
        )
    return found


def parse_amount(text: str, scale: int, where: str) -> int:
    """Decimal text as quanta; LedgerError unless it is a plain, exact number of them."""
    plain = text.removeprefix("-")
    if not plain.isascii() or not plain.replace(".", "", 1).isdecimal():
        raise LedgerError(f"{where}: amount {text!r} is no plain decimal number")
    try:
        value = Decimal(text).scaleb(scale)
        whole = int(value)
    except (InvalidOperation, ValueError, OverflowError):
        raise LedgerError(f"{where}: amount {text!r} is no number") from None
    if value != whole:
        raise LedgerError(f"{where}: amount {text!r} has more than {scale} decimals")
    if abs(whole) >= 1 << 63:
        raise LedgerError(f"{where}: amount {text!r} is beyond 64 bits")
    return whole


CUSTODY_CODES: Final = {
    "hot": Code.CUSTODY_HOT,
    "cold": Code.CUSTODY_COLD,
    "third": Code.CUSTODY_THIRD,
    "faucet": Code.CUSTODY_FAUCET,
}


def compare_custody(
    books: Books, cut: Cut, lines: list[CustodyLine], mapping: Mapping[str, str]
) -> list[Break]:
    """R5 and R6: statements against custody accounts.

    mapping   wallet, or its beginning with a `*` behind it -> hot, cold, third or faucet
    """
    told: dict[tuple[Code, int], int] = {}
    names = {str(v["name"]): k for k, v in books.assets.items()}
    for line in lines:
        told_code = _mapped(line.wallet, mapping)
        where = (told_code, names[line.asset])
        told[where] = told.get(where, 0) + line.quanta
    balances = books.balances(cut)
    found: list[Break] = []
    keys = books.keys["key"]
    for code in CUSTODY_CODES.values():
        for row in np.flatnonzero(keys >> CODE_SHIFT == int(code)).tolist():
            told.setdefault((code, int(books.keys[row]["commodity"])), 0)
    for (code, asset), other in sorted(told.items()):
        key = pack(code, 0, asset)
        at = books.find_key(key)
        own = int(balances[at]) if at is not None else 0
        check = "R6" if code == Code.CUSTODY_THIRD else "R5"
        _add(found, check, account_path(unpack(key), books), own, other, cut.seq, key)
    return found


def _mapped(wallet: str, mapping: Mapping[str, str]) -> Code:
    name = mapping.get(wallet)
    if name is None:
        fits = [k for k in mapping if k.endswith("*") and wallet.startswith(k[:-1])]
        name = mapping[max(fits, key=len)] if fits else None
    if name not in CUSTODY_CODES:
        raise LedgerError(
            f"wallet {wallet!r} is mapped to {name!r}, must be one of {', '.join(CUSTODY_CODES)}"
        )
    return CUSTODY_CODES[name]


# ---------------------------------------------------------------- proof of liabilities


def compare_liabilities(books: Books, cut: Cut, sums: Mapping[int, int]) -> list[Break]:
    """R9: sums of the leaves of a proof, by asset, against customers' liabilities."""
    balances = books.balances(cut)
    keys = books.keys["key"]
    mine: dict[int, int] = {}
    wanted = np.isin(keys >> CODE_SHIFT, [int(code) for code in CUSTOMERS])
    for asset in sorted(set(books.keys["commodity"][wanted].tolist())):
        mine[asset] = -exact_sum(balances[wanted & (books.keys["commodity"] == asset)])
    found: list[Break] = []
    for asset in sorted({*mine, *sums}):
        name = f"liabilities to customers in {books.commodity_name(asset)}"
        _add(found, "R9", name, mine.get(asset, 0), sums.get(asset, 0), cut.seq, 0)
    return found
