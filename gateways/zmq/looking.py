"""What people look at of a native gateway: hops of sampled requests, and lines in the log.

Reads   rows that were handed over, reports as they come.
Writes  REQUEST_HOPS for `perpcore trace` (shm/hops.py); one JSON object a line (shm/logs.py).
Never   costs more when more comes: a bounded number of messages a second are sampled, of each its
        first commands, and a bounded number of lines is written.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import numpy as np

from shm.codes import ReportKind
from shm.hops import RequestMarks
from shm.logs import Bound, say
from shm.traces import NO_TRACE, Trace

LOG: Final = logging.getLogger("perpcore.zmq")
MESSAGES_PER_S: Final = 250
BURST: Final = 250
OF_A_MESSAGE: Final = 4  # its first commands
WAITING_MAX: Final = 1024
LINES_PER_S: Final = 10
LINES_BURST: Final = 100
_REQUEST: Final = 1  # the word of an answer that has it
_WORDS: Final = np.dtype([("head", "<q"), ("b", "<u8"), ("w", "<q", 6)])
_ANSWERS: Final = np.zeros(256, bool)
_ANSWERS[[ReportKind.ORDER, ReportKind.ANSWER]] = True

Rows = np.ndarray[Any, Any]


class Looking:
    """Of one gateway process."""

    def __init__(self, instance: str, producer: str) -> None:
        self._marks = RequestMarks(instance, producer)
        self._bound = Bound(MESSAGES_PER_S, BURST)
        self._lines = Bound(LINES_PER_S, LINES_BURST)
        self._waiting: dict[int, tuple[Trace, int, int]] = {}  # request -> trace, received, handed

    def close(self) -> None:
        self._marks.close()

    @property
    def waiting(self) -> bool:
        """Whether an answer is looked for."""
        return bool(self._waiting)

    # ------------------------------------------------------------ hops

    def handed(self, rows: Rows, received_ns: int) -> None:
        """COMMAND rows of one message went into the ring."""
        if self._bound.take() < 0:
            return
        now_ns = time.time_ns()
        for row in rows[:OF_A_MESSAGE]:
            if len(self._waiting) >= WAITING_MAX:  # its answer was told to nobody here
                del self._waiting[next(iter(self._waiting))]
            trace = NO_TRACE
            if row["lines"] == 3:
                trace = (int(row["trace_hi"]), int(row["trace_lo"]))
            self._waiting[int(row["request"])] = (trace, received_ns, now_ns)

    def told(self, rows: Rows, heard_ns: int) -> None:
        """Reports of a batch went out to whom they are for; `heard_ns`: when the batch came."""
        answers = np.flatnonzero(_ANSWERS[rows["kind"]])
        requests = rows.view(_WORDS)["w"][answers, _REQUEST].tolist()
        waiting, answered_ns = self._waiting, time.time_ns()
        for at, request in enumerate(requests):
            if request in waiting:
                trace, received_ns, handed_ns = waiting.pop(request)
                self._marks.keep(
                    *(request, int(rows[answers[at]]["seq"]), trace),
                    *(received_ns, handed_ns, heard_ns, answered_ns),
                )

    # ------------------------------------------------------------ the log

    def note(self, level: int, event: str, **fields: Any) -> None:
        """A line about what a client did or got, unless there were too many."""
        left_out = self._lines.take()
        if left_out >= 0:
            fields |= {"left_out": left_out} if left_out else {}
            say(LOG, level, event, NO_TRACE, **fields)
