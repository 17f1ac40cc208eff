"""Which release may replay what: an UPGRADE in the WAL is where another release goes on.

The old release takes an UPGRADE that names the new one as its last command, and a snapshot after
it; the new one starts from that snapshot. What was decided before is the old code's, what comes
after is the new one's, and replay by either never crosses the line.

Reads   COMMAND rows of a replay, in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.files import DataError
from shm.codes import Kind
from shm.records import NOTE_COMMAND
from shm.release import RELEASE
from shm.units import RELEASE_MAX


class Releases:
    """Looks at what a replay is fed with; `data` is named in what it says."""

    def __init__(self, data: object, release: int = RELEASE) -> None:
        self.data, self.release = data, release
        self.left: tuple[int, int] | None = None  # (seq, release) of an UPGRADE to another one

    def check(self, rows: np.ndarray[Any, Any]) -> None:
        """Raise DataError where replaying these rows would cross an UPGRADE.

        One that risk refused (it names no release) is none.
        """
        if self.left is None and not (rows["kind"] == Kind.UPGRADE).any():
            return
        for row in rows:
            if self.left is not None and row["kind"] != Kind.CHECKPOINT:
                seq, other = self.left
                raise DataError(
                    f"{self.data}: command {int(row['seq'])} was decided by release {other}, to "
                    f"which command {seq} changed; this is release {self.release}. Start release "
                    f"{other}"
                )
            if row["kind"] != Kind.UPGRADE:
                continue
            named = int(row.reshape(1).view(NOTE_COMMAND.dtype)["note"][0, 0])
            if not 0 < named <= RELEASE_MAX:
                continue
            if named == self.release:
                raise DataError(
                    f"{self.data}: what comes before command {int(row['seq'])} was decided by the "
                    f"release before {self.release}, and no snapshot covers it. Start that one, "
                    "and take a snapshot with it: perpcore snapshot"
                )
            self.left = int(row["seq"]), named
