"""The history process: a follower whose checkpoint is its database.

Reads   reports (gateways/follow.py).
Writes  history.db (gateways/history/writer.py), a transaction every `commit_ms`.
Never   keeps a state beside the database: the cursor in it says where to go on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from typing import Any, Final

import numpy as np

from gateways.follow import Follower, FollowError
from gateways.history.writer import Writer, connect
from shm.config import Config

Array = np.ndarray[Any, Any]

NAME: Final = "history"
_WAITING_MAX: Final = 50_000  # rows: then they are written, whatever the time
_REGISTER_S: Final = 1.0


class HistoryFollower(Follower):
    """The process's loop."""

    name = NAME
    checkpoint_seconds = _REGISTER_S

    def __init__(self, config: Config) -> None:
        """Raises FollowError when another process writes, or the file isn't one of ours."""
        path = config.history_path
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise FollowError(f"{path}: another history process writes it. Stop it first") from None
        try:
            self.writer = Writer(connect(path), config.history)
        except sqlite3.DatabaseError as error:
            os.close(self._lock)
            raise FollowError(f"{path}: {error}") from None
        self._commit_s = config.history.commit_ms / 1000
        self._committed_s = time.monotonic()
        super().__init__(config, self.writer.index)

    def apply(self, rows: Array) -> None:
        self.writer.apply(np.ascontiguousarray(rows))

    def serve(self) -> int:
        """Commit when it is time; reading goes on meanwhile."""
        late = time.monotonic() - self._committed_s >= self._commit_s
        if self.writer.waiting >= _WAITING_MAX or (late and self._behind()):
            return int(self.kept(self._commit))
        return 0

    def room(self) -> bool:
        """Rows that can't be written wait in memory: so many, and no more."""
        return self.writer.waiting < _WAITING_MAX

    def _behind(self) -> bool:
        return self.writer.index > self._kept_index or self.writer.waiting > 0

    def _commit(self) -> None:
        try:
            self.writer.commit()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, str(error)) from None
        self._kept_index = self.writer.index
        self._committed_s = time.monotonic()

    def save(self, index: int) -> None:
        assert index == self.writer.index
        self._commit()

    def turn(self) -> int:
        did = super().turn()
        now = time.monotonic()
        if now - self._kept_s >= self.checkpoint_seconds:
            self.kept(lambda: self.register(self._kept_index))
            self._kept_s = now
        return did

    def close(self) -> None:
        super().close()
        self.writer.db.close()
        os.close(self._lock)
