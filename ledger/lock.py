"""One writer: a lock on the ledger's directory, held for the life of the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ledger.files import LedgerError


class FolderLock:
    """flock on a directory; the kernel lets go of it when the process ends, however it does."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise LedgerError(f"{folder}: another ledger writes here. Stop it first") from None

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
