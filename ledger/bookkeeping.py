"""Bookkeepers' own entries: proposed by one principal, approved by another, never undone silently.

Reads   LEDGER_NOTE payloads of BOOKKEEPING commands, which the engine carried uninterpreted.
Writes  entries through the kernels of ledger/postings.py; a line of notes for each command.
Never   touches what the engine keeps too (`engine` in the chart): a customer's money is corrected
        by REQUEST_ADJUST, in the engine, or the two would part.

A note that cannot be followed changes nothing: the line of notes says why it was refused.

    JOURNAL   one debit, one credit: custody moved, capital, network cost, suspense
    REVERSE   the legs of a bookkeeper's entry, turned; linked to it, once
    CLOSE     income and expense up to an instant go to retained earnings; nothing may be dated
              into the period any more
    REOPEN    the last close, turned
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np

from ledger.chart import CHART, LOTS, By, Code, unpack
from shm.kinds import command
from shm.records import LEDGER_NOTE


class Op(IntEnum):
    """Numbers are in the WAL: append, never renumber."""

    JOURNAL = 1
    REVERSE = 2
    CLOSE = 3
    REOPEN = 4
    APPROVE = 16
    REJECT = 17


PROPOSALS: Final = (Op.JOURNAL, Op.REVERSE, Op.CLOSE, Op.REOPEN)
TEXT_BYTES: Final = 88
OUTSIDE: Final = 15  # system account under which results the engine doesn't know are retained


class Refused(Exception):
    """A note that cannot be followed, and why."""


def note_fields(
    op: Op,
    *,
    principal: int,
    amount: int = 0,
    effective_ns: int = 0,
    reference: int = 0,
    debit: int = 0,
    credit: int = 0,
    text: str = "",
) -> dict[str, Any]:
    """The words of a BOOKKEEPING command, as `shm.kinds.command` takes them."""
    data = text.encode()
    if len(data) > TEXT_BYTES:
        raise Refused(f"the reason has {len(data)} bytes, must be at most {TEXT_BYTES}")
    row = np.zeros(1, LEDGER_NOTE.dtype)
    row["op"], row["principal"], row["amount"] = op, principal, amount
    row["effective_ns"], row["reference"] = effective_ns, reference
    row["debit"], row["credit"] = debit, credit
    row["text"] = np.frombuffer(data.ljust(TEXT_BYTES, b"\0"), np.int64)
    words = row.view(np.int64)
    return {"note": words[0:3], "note2": words[3:11], "note3": words[11:19]}


def note_command(op: Op, **fields: Any) -> np.ndarray[Any, Any]:
    """A BOOKKEEPING command row."""
    from shm.codes import Kind

    return command(Kind.BOOKKEEPING, **note_fields(op, **fields))


def text_of(note: Any) -> str:
    return note["text"].tobytes().rstrip(b"\0").decode("utf-8", "replace")


def check_journal(note: Any, asset_of: Any, now_ns: int, locked_ns: int) -> None:
    """Raise Refused where a JOURNAL could not be booked as it says."""
    if int(note["amount"]) <= 0:
        raise Refused(f"amount {int(note['amount'])}, must be > 0")
    check_date(int(note["effective_ns"]), now_ns, locked_ns)
    commodities = []
    for side in ("debit", "credit"):
        value = int(note[side])
        try:
            key = unpack(value)
        except ValueError:
            raise Refused(f"{side} {value} is no account of the chart") from None
        line = CHART[key.code]
        if line.engine:
            raise Refused(f"{side}: {line.code.name} is the engine's, whose commands change it")
        if not line.customer and key.account != 0:
            raise Refused(f"{side}: {line.code.name} has no customers")
        commodities.append(asset_of(key))
    if commodities[0] != commodities[1] or commodities[0] < 0 or commodities[0] >= LOTS:
        raise Refused("debit and credit are not of one asset that is declared")
    if int(note["debit"]) == int(note["credit"]):
        raise Refused("debit and credit are the same account")


def check_date(effective_ns: int, now_ns: int, locked_ns: int) -> None:
    """Raise Refused for a date in the future or in a closed period; 0 stands for now."""
    if effective_ns > now_ns:
        raise Refused(f"effective {effective_ns} is later than the command, {now_ns}")
    if effective_ns != 0 and effective_ns <= locked_ns:
        raise Refused(f"effective {effective_ns} is in a period that was closed at {locked_ns}")


def closing_code(code: Code) -> bool:
    """Whether a period's close empties an account of this code."""
    return 4000 <= code < 6000


def is_money(code: Code) -> bool:
    return CHART[code].by not in (By.SYMBOL_LOTS, By.SYMBOL_LEG_LOTS)
