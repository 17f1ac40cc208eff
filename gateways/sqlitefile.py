"""The SQLite files of gateways, made by whoever comes first of several that start at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

BUSY_S: Final = 5.0  # how long one connection waits for another
_AGAIN_S: Final = 0.005


def connect(path: Path) -> sqlite3.Connection:
    """A connection that begins its transactions itself; the file is made where there is none.

    raises      sqlite3.Error: not a database, no room, or another kept it to itself for BUSY_S
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    path.chmod(0o640)
    until = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return db
        except sqlite3.OperationalError as error:
            # SQLite waits for nobody where a file changes its mode: who comes second asks again.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                db.close()
                raise
        time.sleep(_AGAIN_S)
