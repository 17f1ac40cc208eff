"""The break report: every difference that was ever found, who looks after it, what became of it.

Reads, writes   <data>/breaks.json, one process at a time. It is derived from nothing, so a backup
                keeps it.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ledger.files import LedgerError
from ledger.reconcile import Break
from shm.files import replace_file

OPEN: Final = "OPEN"
STATES: Final = (OPEN, "INVESTIGATING", "EXPLAINED", "RESOLVED")


class BreakReport:
    """Breaks by identity: the same check of the same account is one break until it is resolved."""

    def __init__(self, data: Path) -> None:
        self.path = data / "breaks.json"
        self.rows: list[dict[str, Any]] = []
        self._load()

    def _load(self) -> None:
        if self.path.exists():
            try:
                self.rows = json.loads(self.path.read_text())
            except ValueError as error:
                raise LedgerError(f"{self.path}: {error}. Mend it, or move it away") from None

    def record(
        self,
        found: list[Break],
        *,
        checks: Collection[str] | None = None,
        now_ns: int | None = None,
    ) -> list[dict[str, Any]]:
        """Enter what a reconciliation found; returns the breaks that are new.

        One that was open, is of a check that was made and is not found any more, is RESOLVED.

        checks   those that were made; None: all
        """
        now = time.time_ns() if now_ns is None else now_ns
        with self._alone():
            return self._record(found, checks, now)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """With what others wrote, and nobody else writing."""
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._load()
            yield

    def _record(
        self, found: list[Break], checks: Collection[str] | None, now: int
    ) -> list[dict[str, Any]]:
        new: list[dict[str, Any]] = []
        seen = {(b.check, b.account) for b in found}
        for row in self.rows:
            made = checks is None or row["check"] in checks
            gone = made and (row["check"], row["account"]) not in seen
            if row["state"] != "RESOLVED" and gone:
                row["state"], row["resolved_ns"] = "RESOLVED", now
        for b in found:
            live = self._live(b.check, b.account)
            row = live or {}
            if live is None:
                row = {
                    "id": len(self.rows) + 1,
                    "check": b.check,
                    "account": b.account,
                    "key": b.key,
                    "first_seq": b.first_seq,
                    "seen_seq": b.seq,
                    "seen_ns": now,
                    "state": OPEN,
                    "owner": "",
                    "note": "",
                }
                self.rows.append(row)
                new.append(row)
            row["books"], row["other"], row["difference"] = b.books, b.other, b.difference
            row["last_seq"], row["last_ns"] = b.seq, now
            row["first_seq"] = row["first_seq"] or b.first_seq
        if found or any(row.get("resolved_ns") == now for row in self.rows):
            self._save()
        return new

    def _live(self, check: str, account: str) -> dict[str, Any] | None:
        for row in self.rows:
            if (row["check"], row["account"]) == (check, account) and row["state"] != "RESOLVED":
                return row
        return None

    def assign(
        self, number: int, *, owner: str | None, state: str | None, note: str | None
    ) -> None:
        """Say who looks after a break, and how far that is."""
        if state is not None and state not in STATES:
            raise LedgerError(f"state {state!r}, must be one of {', '.join(STATES)}")
        with self._alone():
            row = next((row for row in self.rows if row["id"] == number), None)
            if row is None:
                raise LedgerError(f"{self.path}: there is no break {number}")
            for name, value in (("owner", owner), ("state", state), ("note", note)):
                if value is not None:
                    row[name] = value
            self._save()

    def _save(self) -> None:
        replace_file(self.path, json.dumps(self.rows, indent=1).encode())

    @property
    def live(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["state"] != "RESOLVED"]
