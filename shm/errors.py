"""The table of distinct errors: what went wrong, how often, first and last; a row a kind.

    segment "errors"   ERROR[ERRORS_MAX]   made by the engine, written by any process of it

Reads   and writes rows of the segment; a writer holds the segment's file lock, readers don't.
Never   imports numba, and never fails its caller: with a full table the last row counts the rest.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any, Final, NamedTuple

import numpy as np
import posix_ipc

from shm.control import put_text, text_of
from shm.segment import Part, Segment, SegmentError

ERRORS: Final = "errors"
ERRORS_MAX: Final = 256
ERROR_PARTS: Final = (Part("errors", "ERROR", ERRORS_MAX),)
OVERFLOW: Final = "other errors: the table is full"

_NUMBERS: Final = re.compile(r"\d+")


class Error(NamedTuple):
    """One kind of error."""

    where: str
    text: str
    times: int
    first_ns: int
    last_ns: int
    latest: str  # the text as it was the last time, numbers and all


def kind_of(text: str) -> str:
    """The text without what differs from time to time: two that agree in it are one row."""
    return _NUMBERS.sub("#", text)


class ErrorTable:
    """The table of one instance, to note errors in or to read."""

    def __init__(self, rows: np.ndarray[Any, Any], segment: Segment | None) -> None:
        """segment: to lock while writing; without one the caller is the only writer."""
        self._rows = rows
        self._segment = segment

    @classmethod
    def attach(cls, instance: str, *, writable: bool) -> ErrorTable:
        """SegmentError: no engine of that name runs."""
        segment = Segment.attach(instance, ERRORS, ERROR_PARTS, writable=writable)
        return cls(segment.arrays["errors"], segment)

    def note(self, where: str, text: str) -> None:
        """Count an error."""
        if self._segment is None:
            self._note(where, text)
            return
        # Its engine may be gone, and the name of the segment with it.
        with suppress(SegmentError, OSError, posix_ipc.Error), self._segment.locked():
            self._note(where, text)

    def _note(self, where: str, text: str) -> None:
        now_ns = time.time_ns()
        kind = kind_of(text)
        for k, row in enumerate(self._rows):
            if k == ERRORS_MAX - 1:
                where, kind = "", OVERFLOW
            if row["count"] == 0:
                put_text(row["where"], where)
                put_text(row["text"], kind)
                row["first_ns"] = now_ns
            elif k < ERRORS_MAX - 1 and (
                text_of(row["where"]) != where[:32] or text_of(row["text"]) != _cut(kind)
            ):
                continue
            put_text(row["latest"], text)
            row["last_ns"] = now_ns
            row["count"] += 1  # the last: a row with a count is whole
            return

    def read(self) -> list[Error]:
        """Every kind of error so far, the most recent first."""
        found = [
            Error(
                text_of(row["where"]),
                text_of(row["text"]),
                int(row["count"]),
                int(row["first_ns"]),
                int(row["last_ns"]),
                text_of(row["latest"]),
            )
            for row in self._rows
            if row["count"]
        ]
        return sorted(found, key=lambda error: -error.last_ns)

    def close(self) -> None:
        if self._segment is not None:
            del self._rows
            self._segment.close()


def _cut(text: str) -> str:
    """As the record keeps it."""
    return text.encode()[:192].decode(errors="replace")
