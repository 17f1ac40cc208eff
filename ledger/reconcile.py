"""Reconciliation: the books against somebody else's figures, at one sequence number, to the unit.

Reads   Books, and facts that did not come from the reports the ledger was fed: balances, positions
        and holds that an independent replay of the WAL writes (tools/ledger_facts.py), custody
        statements, exports read back.
Writes  nothing: a list of breaks. What becomes of them is kept by ledger/breaks.py.

    R1  trades of each symbol                 fills booked
    R2  wallets, isolated wallets             customers' accounts, fund, dust, fees, adjustments
    R3  positions and their entry values      Position, PositionCost, Clearing:PnL
    R4  holds and close claims of orders      OrderHold, CloseClaim
    R5  custody, an address or wallet each    Custody
    R6  third parties' statements             Custody:ThirdParty
    R7  digests of live run and replay        (replay itself: engine/replay.py)
    R8  exports, in other programs' hands     (tests, tools/ledger_export.py)
    R9  leaves of the proof of liabilities    customers' liabilities
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ledger.books import Books, Cut, account_path
from ledger.chart import CHART, CODE_SHIFT, Code, Event, Type, pack, unpack
from ledger.files import LedgerError
from ledger.statements import CUSTOMERS, exact_sum
from shm.units import SYSTEM_ACCOUNTS

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
    """What an independent replay says after command `seq`; see tools/ledger_facts.py."""

    seq: int
    wallets: Mapping[tuple[int, int], tuple[int, int]]  # (account, asset): wallet, held
    positions: Mapping[tuple[int, int, int], tuple[int, int, int, int]]
    # (account, symbol, leg): lots, entry value, isolated wallet, close claims
    trades: Mapping[int, int]  # symbol: trades, those outside the book too


# Accounts of the books that together are the engine's cross wallet of the account in their key.
_WALLET_CODES: Final = tuple(
    int(line.code)
    for line in CHART.values()
    if line.engine
    and line.type != Type.MEMO
    and line.code not in (Code.POSITION_MARGIN, Code.PNL_CLEARING, Code.FUNDING_CLEARING)
)


def compare(books: Books, facts: Facts) -> list[Break]:
    """R1 to R4 at the sequence number of the facts."""
    cut = books.cut_seq(facts.seq)
    balances = books.balances(cut)
    found: list[Break] = []
    own = _own_sums(books, balances)
    for where in sorted({*own.wallets, *facts.wallets}):
        if where[0] == 15:  # results of bookkeepers' entries: no wallet has them
            continue
        wallet, held = facts.wallets.get(where, (0, 0))
        account, asset = where
        name = f"wallet of {account} in {books.commodity_name(asset)}"
        _add(found, "R2", name, own.wallets.get(where, 0), wallet, facts.seq,
             pack(Code.AVAILABLE, account, asset))  # fmt: skip
        hold = own.holds.get(where, 0)
        _add(found, "R4", f"holds of {account} in {books.commodity_name(asset)}", hold, held,
             facts.seq, pack(Code.ORDER_HOLD, account, asset))  # fmt: skip
    for place in sorted({*own.positions, *facts.positions}):
        told = facts.positions.get(place, (0, 0, 0, 0))
        mine = own.positions.get(place, (0, 0, 0, 0))
        account, symbol, leg = place
        for k, (check, code) in enumerate(
            (
                ("R3", Code.POSITION_LOTS),
                ("R3", Code.POSITION_COST),
                ("R2", Code.POSITION_MARGIN),
                ("R4", Code.CLOSE_CLAIM),
            )
        ):
            key = pack(code, account, symbol, leg)
            name = account_path(unpack(key), books)
            _add(found, check, name, mine[k], told[k], facts.seq, key)
    for symbol in sorted({*own.costs, *(p[1] for p in facts.positions)}):
        cost = sum(told[1] for place, told in facts.positions.items() if place[1] == symbol)
        key = pack(Code.PNL_CLEARING, 0, symbol)
        name = account_path(unpack(key), books)
        _add(found, "R3", name, own.costs.get(symbol, 0), cost, facts.seq, key)
    booked = count_trades(books, cut)
    for symbol in sorted({*booked, *facts.trades}):
        name = f"trades of {books.symbol_name(symbol)}"
        count = 2 * facts.trades.get(symbol, 0)
        _add(found, "R1", name, booked.get(symbol, 0), count, facts.seq, 0)
    return found


def _add(
    found: list[Break], check: str, account: str, books: int, other: int, seq: int, key: int
) -> None:
    if books != other:
        found.append(Break(check, account, books, other, seq, 0, key))


class _Own(NamedTuple):
    wallets: dict[tuple[int, int], int]
    holds: dict[tuple[int, int], int]
    positions: dict[tuple[int, int, int], tuple[int, int, int, int]]
    costs: dict[int, int]  # debit balance of PnL clearing, by symbol


def _own_sums(books: Books, balances: Array) -> _Own:
    """The books added up the way the engine keeps its tables."""
    own = _Own({}, {}, {}, {})
    keys = books.keys["key"]
    codes = keys >> CODE_SHIFT
    for row in np.flatnonzero(np.isin(codes, _WALLET_CODES) & (balances != 0)).tolist():
        where = (int(keys[row]) & 0xFFFFFFFF, int(books.keys[row]["commodity"]))
        own.wallets[where] = own.wallets.get(where, 0) - int(balances[row])
    for row in np.flatnonzero((codes == Code.ORDER_HOLD) & (balances != 0)).tolist():
        key = unpack(int(keys[row]))
        own.holds[key.account, key.sub] = int(balances[row])
    for at, code, sign in (
        (0, Code.POSITION_LOTS, 1),
        (1, Code.POSITION_COST, 1),
        (2, Code.POSITION_MARGIN, -1),
        (3, Code.CLOSE_CLAIM, 1),
    ):
        for row in np.flatnonzero((codes == code) & (balances != 0)).tolist():
            key = unpack(int(keys[row]))
            place = (key.account, key.sub, key.leg)
            values = list(own.positions.get(place, (0, 0, 0, 0)))
            values[at] = sign * int(balances[row])
            own.positions[place] = (values[0], values[1], values[2], values[3])
    for row in np.flatnonzero((codes == Code.PNL_CLEARING) & (balances != 0)).tolist():
        own.costs[unpack(int(keys[row])).sub] = int(balances[row])
    return own


FILLS: Final = tuple(
    int(event)
    for event in (
        *(Event.FILL_OPEN, Event.FILL_REDUCE, Event.FILL_FLIP, Event.LIQUIDATION_FILL),
        *(Event.TAKEOVER, Event.ADL, Event.DELIST),
    )
)


def count_trades(books: Books, cut: Cut) -> dict[int, int]:
    """Sides of trades booked, by symbol."""
    counts = np.zeros(1 << 16, np.int64)
    for _, rows in books.pieces("entries", 0, cut.entries):
        counts += np.bincount(rows["symbol"][np.isin(rows["event"], FILLS)], minlength=1 << 16)
    return {int(symbol): int(counts[symbol]) for symbol in np.flatnonzero(counts)}


# ---------------------------------------------------------------- laws of the books themselves


def laws(books: Books, cut: Cut, *, settled: bool = True) -> list[Break]:
    """What must hold at any cut whoever else says what.

    settled   no command is half told at this cut, and no funding round under way
    """
    balances = books.balances(cut)
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
    zero = [int(Code.SUSPENSE)]
    if settled:
        zero += [int(Code.POSITION_LOTS_CONTROL), int(Code.FUNDING_CLEARING)]
    for row in np.flatnonzero(np.isin(codes, zero)).tolist():
        key = int(keys[row])
        expect(account_path(unpack(key), books), int(balances[row]), 0, key)
    for symbol in books.symbols:
        clearing = books.find_key(pack(Code.PNL_CLEARING, 0, symbol))
        control = books.find_key(pack(Code.POSITION_COST_CONTROL, 0, symbol))
        value = int(balances[clearing]) if clearing is not None else 0
        costs = -int(balances[control]) if control is not None else 0
        if settled:
            # Both sides of a trade at one price: what they realised is what entry values lost.
            key = pack(Code.PNL_CLEARING, 0, symbol)
            expect(f"{books.symbol_name(symbol)}: PnL clearing", value, costs, key)
    for row in np.flatnonzero((codes == Code.ROUNDING) & (balances > 0)).tolist():
        key = int(keys[row])
        expect(account_path(unpack(key), books), int(balances[row]), 0, key)
    return found


def deficits(books: Books, cut: Cut) -> dict[int, int]:
    """Customers whose cross wallet is below zero, and by how much, by row of the books."""
    balances = books.balances(cut)
    keys = books.keys["key"]
    customers = (keys & 0xFFFFFFFF) >= SYSTEM_ACCOUNTS
    owing = (keys >> CODE_SHIFT == Code.AVAILABLE) & customers & (balances > 0)
    return {int(row): int(balances[row]) for row in np.flatnonzero(owing)}


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
        raise LedgerError(f"{where}: balance {text!r} is no plain decimal number")
    try:
        value = Decimal(text).scaleb(scale)
        whole = int(value)
    except (InvalidOperation, ValueError, OverflowError):
        raise LedgerError(f"{where}: balance {text!r} is no number") from None
    if value != whole:
        raise LedgerError(f"{where}: balance {text!r} has more than {scale} decimals")
    if abs(whole) >= 1 << 63:
        raise LedgerError(f"{where}: balance {text!r} is beyond 64 bits")
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
