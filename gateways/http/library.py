"""The books as one gateway reads them: mapped once, looked at again for every question.

Reads   the ledger's directory, in a thread, one question at a time: a long one holds up no order.
Writes  nothing.
Never   says more of damaged books than that they cannot answer: paths are for the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateways.http.errors import ApiError
from ledger.books import Books
from ledger.files import LedgerError, QuestionError, ledger_folder
from ledger.query import QueryError, Viewer, answer

LOG: Final = logging.getLogger("perpcore.http")
FRESH_S: Final = 2.0  # how long the books may take to come to what was acknowledged


class Library:
    """What answers questions to the books."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._books: Books | None = None
        self._turn = asyncio.Lock()

    async def ask(self, viewer: Viewer, name: str, params: Mapping[str, str], seq: int) -> Any:
        """The answer; the books have come to command `seq` before it is looked for."""
        async with self._turn:
            return await asyncio.to_thread(self._ask, viewer, name, params, seq)

    def _ask(self, viewer: Viewer, name: str, params: Mapping[str, str], seq: int) -> Any:
        try:
            books = self._fresh(seq)
            return answer(books, viewer, name, params)
        except QueryError as error:
            raise ApiError(-1130, message=str(error), status=error.status) from None
        except QuestionError as error:
            raise ApiError(-1130, message=str(error)) from None
        except (LedgerError, OSError) as error:
            LOG.error("ledger: %s: %s", name, error)
            raise ApiError(-1001) from None

    def _fresh(self, seq: int) -> Books:
        until = time.monotonic() + FRESH_S
        while True:
            if self._books is None:
                self._books = Books(ledger_folder(self._data))
            else:
                self._books.refresh()
            if self._books.head["seq"] >= seq:
                return self._books
            if time.monotonic() > until:
                raise LedgerError(f"the books have not come to command {seq}")
            time.sleep(0.01)
