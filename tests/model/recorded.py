"""A venue that decides each command after just as much settlement as a log says of its number.

How far settlement is when a command is decided is an input of that decision which nobody chooses.
The engine records it (`settled_seq`), as it records the time, and two runs of the same orders may
differ in it and in what follows from it. A run that is to come to the bytes of another one is given
its lag, and nothing else: orders come from the test, and what the engine proposes is sequenced here,
when settlement here proposes it. Where it is not there in time, or too soon, nothing moves any more.

How far settlement is when a proposal is sequenced shows in one thing: whether an order that ends
before it is decided still has its number. Where the log says 0, it is sequenced here when settlement
has come as far as it was for the decision; it is refused in any case.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine import proposals
from engine.replay import REPLAY_CELLS, replay_rows
from engine.state import Limits
from shm.codes import Kind
from shm.cursors import REPORTS_WRITTEN, RISKED, SEQUENCED, SETTLED
from shm.pointers import table
from shm.records import CHECKPOINT_COMMAND, COMMAND
from tests.venue import Venue

Array = np.ndarray[Any, Any]

NO_WORDS: Final = np.zeros(COMMAND.dtype.itemsize // 8, np.int64)


class Recorded(Venue):
    """A venue with the lag of another one's log.

    log    COMMAND[n], commands 1, 2, ... of that WAL
    """

    def __init__(self, limits: Limits, log: Array, **options: Any) -> None:
        super().__init__(limits, **options)
        self.settled = log["settled_seq"]
        self._nameless = np.isin(log["kind"], (Kind.EXPIRE, Kind.TRIGGER)) & (log["order_id"] == 0)
        self._proposed = (log["request"] == 0) & (log["kind"] != Kind.CHECKPOINT)

    def _settled(self, seq: int) -> int:
        """How far settlement is when command `seq` is decided; all of it behind the WAL's end."""
        return int(self.settled[seq - 1]) if seq <= len(self.settled) else seq - 1

    def sequence(self) -> int:
        queue = self.arrays["proposals"]
        put, queue[proposals.PUT] = int(queue[proposals.PUT]), self._may_be_taken()
        did = super().sequence()
        queue[proposals.PUT] = put
        return did

    def _may_be_taken(self) -> int:
        """What PUT would be without proposals that are not to be sequenced yet."""
        taken, put = (
            int(self.arrays["proposals"][cell]) for cell in (proposals.TAKEN, proposals.PUT)
        )
        first = int(self.cursors[SEQUENCED])  # index of the next command
        coming = first + np.flatnonzero(self._proposed[first:])[: put - taken]
        early = self._nameless[coming] & (self.settled[coming] > int(self.cursors[SETTLED]))
        return taken + int(early.argmax()) if early.any() else put

    def _round(self) -> int:
        return self.feed() + self.sequence() + self._decide() + self.journal() + self.read()

    def _decide(self) -> int:
        """What replay does with commands of a WAL, to those that were sequenced here."""
        ring, queue = self.arrays["commands"], self.arrays["proposals"]
        last = int(self.cursors[SEQUENCED])
        for seq in range(int(self.cursors[RISKED]) + 1, last + 1):
            ring[seq % len(ring)]["settled_seq"] = self._settled(seq)
        before = self._progress()
        # One command more where none follows: what it proposes is sequenced before the next.
        upto = min(int(self.cursors[SETTLED]) + 1, self._settled(last + 1))
        taken = int(queue[proposals.TAKEN])
        cells = table(np.zeros(REPLAY_CELLS, np.int64))  # no report is taken away
        replay_rows(self.engine, self.shards, table(NO_WORDS), 0, 0, upto, cells)
        queue[proposals.TAKEN] = taken  # a replay passes them over; here they are sequenced
        if self.venue["diverged_seq"]:
            # A replay stops at a CHECKPOINT to compare its digest; this one is made here.
            at = int(self.venue["diverged_seq"]) % len(ring)
            checkpoint = ring.view(CHECKPOINT_COMMAND.dtype)[at : at + 1]
            for name in ("reports_digest", "reports_count"):
                assert checkpoint[name] == 0
                checkpoint[name] = self.venue[name]
            self.venue["diverged_seq"] = 0
            return 1
        return int(self._progress() != before)

    def _progress(self) -> tuple[int, int, int]:
        """Commands decided and settled, and reports made."""
        return tuple(int(self.cursors[cell]) for cell in (RISKED, SETTLED, REPORTS_WRITTEN))
