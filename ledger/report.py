"""Entries and amounts as people read them: decimals, names, debit and credit columns."""

from __future__ import annotations

import time
from typing import Any

from ledger.books import Books, account_path
from ledger.chart import CHART, Event, unpack
from shm.records import NO_SYMBOL


def decimal_text(quanta: int, scale: int) -> str:
    """quanta * 10^-scale, exactly."""
    if scale == 0:
        return str(quanta)
    sign, digits = ("-" if quanta < 0 else ""), str(abs(quanta)).zfill(scale + 1)
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def time_text(ts_ns: int) -> str:
    """An instant in UTC, to the nanosecond."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def entry_data(books: Books, entry: int) -> dict[str, Any]:
    """An entry with its legs, its trace and its names, as JSON has it."""
    row = books.entry_rows(entry, 1)[0]
    symbol = int(row["symbol"])
    trace = books.trace_of(int(row["seq"]))
    legs = []
    for key, amount in books.entry_legs(entry):
        k = unpack(key)
        commodity = books.commodity_of(k)
        legs.append(
            {
                "key": key,
                "account": account_path(k, books),
                "code": int(k.code),
                "side": "Dr" if amount > 0 else "Cr",
                "amount": decimal_text(abs(amount), books.scale(commodity)),
                "commodity": books.commodity_name(commodity),
                "quanta": amount,
            }
        )
    return {
        "entry": entry,
        "seq": int(row["seq"]),
        "event": Event(int(row["event"])).name,
        "recorded": time_text(int(row["recorded_ns"])),
        "recorded_ns": int(row["recorded_ns"]),
        "effective_ns": int(row["effective_ns"]),
        "report": int(row["report"]),
        "order_id": int(row["order_id"]),
        "reference": int(row["reference"]),
        "customer": int(row["account"]),
        "symbol": None if symbol == NO_SYMBOL else books.symbol_name(symbol),
        "trace": None if trace is None else f"{_hex(trace[0])}{_hex(trace[1])}",
        "legs": legs,
    }


def _hex(word: int) -> str:
    return f"{word & 0xFFFFFFFFFFFFFFFF:016x}"


def entry_text(books: Books, entry: int) -> str:
    """An entry as a table: its event, then a line a leg, debits in the left column."""
    data = entry_data(books, entry)
    said = [data["event"]]
    for name in ("order_id", "reference"):
        if data[name]:
            said.append(f"{name.removesuffix('_id')} {data[name]}")
    lines = [" ".join(said)]
    for leg in data["legs"]:
        amount = f"{leg['amount']} {leg['commodity']}"
        columns = (amount, "") if leg["side"] == "Dr" else ("", amount)
        lines.append(f"  {leg['account']:<44} {columns[0]:>20} {columns[1]:>20}".rstrip())
    return "\n".join(lines)


def normal(key: int, balance: int) -> int:
    """A balance on the side where its account normally stands."""
    return balance if CHART[unpack(key).code].debit else -balance
