"""The clerk: BOOKKEEPING commands in order, each proposed, approved or refused, and then booked.

Reads   notes (ledger/bookkeeping.py), and what is written by now.
Writes  entries and lines of notes, through the ledger whose clerk it is.
Never   follows what was not approved by another principal, nor anything twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ledger import bookkeeping as notes
from ledger import tables as t
from ledger.chart import CHART, Code, Event, pack, unpack
from shm.records import LEDGER_NOTE

if TYPE_CHECKING:
    from ledger.store import Ledger

_CLOSE_ACCOUNTS = 12  # accounts one closing entry empties


class Clerk:
    """What waits for approval, what was reversed, which periods are closed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.proposals: dict[int, dict[str, Any]] = {}
        self.reversed: dict[int, int] = {}  # entry -> the one that reversed it
        self.closed: list[list[int]] = []  # (locked_ns, first closing entry, how many)

    @property
    def locked_ns(self) -> int:
        """Periods up to here are closed."""
        return self.closed[-1][0] if self.closed else 0

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "proposals": {str(k): v for k, v in self.proposals.items()},
            "reversed": {str(k): v for k, v in self.reversed.items()},
            "closed": self.closed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.proposals = {int(k): v for k, v in state["proposals"].items()}
        self.reversed = {int(k): v for k, v in state["reversed"].items()}
        self.closed = state["closed"]

    def take(self, note: Any) -> None:
        """A BOOKKEEPING command: propose, or resolve what was proposed."""
        seq, first = self.ledger.seq, self.ledger.entries
        op, who = int(note["op"]), int(note["principal"])
        line: dict[str, Any] = {
            "seq": seq,
            "op": notes.Op(op).name if op in list(notes.Op) else op,
            "principal": who,
            "text": notes.text_of(note),
        }
        try:
            if op in notes.PROPOSALS:
                self._check(note)
                said = np.asarray(note).reshape(1).view(np.int64).tolist()
                self.proposals[seq] = {"words": said, "principal": who}
            elif op in (notes.Op.APPROVE, notes.Op.REJECT):
                line["reference"] = int(note["reference"])
                asked = self.proposals.get(int(note["reference"]))
                if asked is None:
                    raise notes.Refused(f"no proposal {int(note['reference'])} waits")
                if op == notes.Op.APPROVE:
                    if asked["principal"] == who:
                        raise notes.Refused("who approves must not be who proposed")
                    words = np.array(asked["words"], np.int64)
                    self._follow(words.view(LEDGER_NOTE.dtype)[0], int(note["reference"]))
                del self.proposals[int(note["reference"])]
            else:
                raise notes.Refused(f"op {op} is none")
        except notes.Refused as error:
            line["refused"] = str(error)
        if self.ledger.entries > first:
            line["entries"] = [first, self.ledger.entries]
        self.ledger.add_note(line)

    def _check(self, note: Any) -> None:
        """Raise Refused for a proposal that could not be followed now."""
        now, locked = int(self.ledger.cells[t.TS_NS]), self.locked_ns
        op = int(note["op"])
        if op == notes.Op.JOURNAL:
            notes.check_journal(note, self.ledger.commodity_of, now, locked)
        elif op == notes.Op.REVERSE:
            entry = int(note["reference"])
            if not 0 <= entry < self.ledger.entries:
                raise notes.Refused(f"there is no entry {entry}")
            if entry in self.reversed:
                raise notes.Refused(f"entry {entry} was reversed by {self.reversed[entry]}")
            event = int(self.ledger.written().entry_rows(entry, 1)[0]["event"])
            if event not in (Event.JOURNAL, Event.REVERSAL):
                raise notes.Refused(
                    f"entry {entry} is a {Event(event).name} of the engine's: request an adjustment"
                )
        elif op == notes.Op.CLOSE:
            until = int(note["effective_ns"])
            if until > now:
                raise notes.Refused(f"the period ends at {until}, later than the command, {now}")
            if until <= locked:
                raise notes.Refused(f"closed up to {locked} already")
        elif op == notes.Op.REOPEN and not self.closed:
            raise notes.Refused("no period is closed")

    def _follow(self, note: Any, asked: int) -> None:
        """Book an approved proposal; it is checked again, since things may have changed."""
        self._check(note)
        op = int(note["op"])
        effective = int(note["effective_ns"])
        if op == notes.Op.JOURNAL:
            amount = int(note["amount"])
            legs = [(int(note["debit"]), amount), (int(note["credit"]), -amount)]
            self.ledger.add_entry(Event.JOURNAL, asked, effective, legs)
        elif op == notes.Op.REVERSE:
            entry = int(note["reference"])
            legs = [(key, -amount) for key, amount in self.ledger.written().entry_legs(entry)]
            self.reversed[entry] = self.ledger.entries
            self.ledger.add_entry(Event.REVERSAL, entry, effective, legs)
        elif op == notes.Op.CLOSE:
            first = self.ledger.entries
            for legs in self._closing_legs(effective):
                self.ledger.add_entry(Event.CLOSE, asked, effective, legs)
            self.closed.append([effective, first, self.ledger.entries - first])
        elif op == notes.Op.REOPEN:
            until, first, count = self.closed.pop()
            books = self.ledger.written()
            for entry in range(first, first + count):
                legs = [(key, -amount) for key, amount in books.entry_legs(entry)]
                self.ledger.add_entry(Event.REOPEN, entry, until, legs)

    def _closing_legs(self, until_ns: int) -> list[list[tuple[int, int]]]:
        """Legs that empty income and expense as of an instant, some accounts an entry."""
        books = self.ledger.written()
        balances = books.balances(books.cut(until_ns), effective_ns=until_ns)
        found: dict[int, list[tuple[int, int]]] = {}
        for row in np.flatnonzero(balances).tolist():
            value = int(books.keys[row]["key"])
            key = unpack(value)
            if notes.closing_code(key.code):
                found.setdefault(int(books.keys[row]["commodity"]), []).append(
                    (value, int(balances[row]))
                )
        entries = []
        for asset, rows in sorted(found.items()):
            for at in range(0, len(rows), _CLOSE_ACCOUNTS):
                legs: list[tuple[int, int]] = []
                totals: dict[int, int] = {}
                for value, balance in rows[at : at + _CLOSE_ACCOUNTS]:
                    key = unpack(value)
                    legs.append((value, -balance))
                    owner = key.account if CHART[key.code].engine else notes.OUTSIDE
                    totals[owner] = totals.get(owner, 0) + balance
                legs += [
                    (pack(Code.RETAINED, owner, asset), total) for owner, total in totals.items()
                ]
                entries.append(legs)
        return entries
