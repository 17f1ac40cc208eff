"""What every process logs: one JSON object a line on stderr, as journald and `grep` like it.

    {"ts": "2026-01-31T23:59:59.123456+00:00", "level": "warning", "role": "gateway",
     "instance": "main", "who": "gateway0", "event": "refused", "trace": "0af76519...", ...}

    ts        when, UTC            role      what kind of process     instance  of which exchange
    level     debug to error       who       which one of its kind    trace     of which request

Where people look (a terminal) a line is `level: who: event: name value, ...` instead.

Never   imports numba; never more lines about what outsiders cause than a `Bound` allows.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import IO, Any, Final

from shm.traces import NO_TRACE, Trace, trace_text

HEAD: Final = ("ts", "level", "role", "instance", "who", "event")  # of every record, in this order


def record_of(
    level: str, event: str, *, role: str, instance: str, who: str, ts_ns: int = 0, **fields: Any
) -> dict[str, Any]:
    """A record as its line has it."""
    at = datetime.fromtimestamp((ts_ns or time.time_ns()) / 1e9, UTC)
    values = (at.isoformat(timespec="microseconds"), level, role, instance, who, event)
    return dict(zip(HEAD, values, strict=True)) | fields


def text_of(record: dict[str, Any]) -> str:
    """A record as a person reads it."""
    more = ", ".join(f"{name} {value}" for name, value in record.items() if name not in HEAD)
    text = f"{record['level']}: {record['who']}: {record['event']}"
    return f"{text}: {more}" if more else text


def say(
    log: logging.Logger, level: int, event: str, trace: Trace = NO_TRACE, **fields: Any
) -> None:
    """Log an event with fields, and the trace id of the request that it is about."""
    if trace != NO_TRACE:
        fields = {"trace": trace_text(trace), **fields}
    log.log(level, event, extra={"fields": fields})


class Lines(logging.Formatter):
    """Log records of any module as lines of one process."""

    def __init__(self, role: str, instance: str, who: str, *, people: bool) -> None:
        super().__init__()
        self._head = {"role": role, "instance": instance, "who": who}
        self._people = people

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        event = record.getMessage()
        found = record_of(level, event, ts_ns=int(record.created * 1e9), **self._head, **fields)
        return text_of(found) if self._people else json.dumps(found, default=str)


def set_up(
    role: str, instance: str, level: str, who: str = "", stream: IO[str] | None = None
) -> None:
    """From now on this process logs so, on stderr unless told otherwise; `who` defaults to role."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines(role, instance, who or role, people=stream.isatty()))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Bound:
    """How many lines there may be: `burst` at once, `per_s` for ever; the rest is counted."""

    def __init__(self, per_s: int, burst: int) -> None:
        self._every_ns = 1_000_000_000 // per_s
        self._burst_ns = self._every_ns * (burst - 1)
        self._next_ns = -(
            1 << 62
        )  # earliest instant of the next line; long ago: the bucket is full
        self.left_out = 0  # since the last line

    def take(self, now_ns: int | None = None) -> int:
        """How many were left out before this line, or -1: leave this one out, too."""
        now = time.monotonic_ns() if now_ns is None else now_ns
        self._next_ns = max(self._next_ns, now - self._burst_ns)
        if self._next_ns > now:
            self.left_out += 1
            return -1
        self._next_ns += self._every_ns
        left_out, self.left_out = self.left_out, 0
        return left_out


class Bounded(logging.Filter):
    """For loggers of libraries, which log whatever anybody sends."""

    def __init__(self, per_s: int = 5, burst: int = 50) -> None:
        super().__init__()
        self._bound = Bound(per_s, burst)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record becomes a line; it says how many before it did not."""
        left_out = self._bound.take()
        if left_out > 0:
            record.fields = {**getattr(record, "fields", {}), "left_out": left_out}
        return left_out >= 0
