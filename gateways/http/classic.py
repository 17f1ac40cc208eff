"""Which conditional orders came through the classic order path (fapi_surface 0.1).

Their owner's client is older than ALGO_UPDATE: it hears of them as of orders, finds them among its
open orders and cancels them with these. The command can't say so, so a small SQLite file does, that
all gateways of a host share.

Writes  <data>/classic.db, a row before the command that it is about is handed over.
Never   matters to the engine: a lost row changes the words of an event, not an order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateways import sqlitefile

KEEP_MS: Final = 90 * 24 * 3600 * 1000  # as long as the dialect remembers an order
_SWEEP: Final = 1000  # rows between two looks for old ones


class Classic:
    """Names of conditional orders, by account."""

    def __init__(self, path: Path) -> None:
        self._db = sqlitefile.connect(path)
        self._db.execute("PRAGMA synchronous = NORMAL")  # no sync a row: see above
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS names (account INTEGER NOT NULL, name TEXT NOT NULL, "
            "at_ms INTEGER NOT NULL, PRIMARY KEY (account, name)) STRICT, WITHOUT ROWID"
        )
        self._added = 0

    def close(self) -> None:
        self._db.close()

    def add(self, account: int, name: str, now_ms: int) -> None:
        """An order of this name is about to be placed on the classic path."""
        if self._added % _SWEEP == 0:
            self._db.execute("DELETE FROM names WHERE at_ms < ?", (now_ms - KEEP_MS,))
        self._added += 1
        self._db.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", (account, name, now_ms))

    def drop(self, account: int, name: str) -> None:
        """An order of this name is about to be placed on the path of conditional orders."""
        if self.has(account, name):
            self._db.execute("DELETE FROM names WHERE account = ? AND name = ?", (account, name))

    def has(self, account: int, name: str) -> bool:
        """Whether it came through the classic path."""
        row = self._db.execute(
            "SELECT 1 FROM names WHERE account = ? AND name = ?", (account, name)
        ).fetchone()
        return row is not None
