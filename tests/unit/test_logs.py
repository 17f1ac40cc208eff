"""Log lines of every process: their fields, and how many there may be."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from engine.supervisor import Log
from gateways.http import refusals
from gateways.http.errors import ApiError
from gateways.http.refusals import BURST, PER_S, Refusals
from shm import logs
from shm.logs import HEAD, Bound, Bounded, say
from shm.traces import read_trace

ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = read_trace(ID) or (0, 0)
SECOND = 1_000_000_000


class Screen(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where a gateway of instance "venue" logs."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    found = io.StringIO()
    logs.set_up("gateway", "venue", "info", "gateway0", found)
    yield found
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line(stream: io.StringIO) -> None:
    say(logging.getLogger("any"), logging.WARNING, "slow", TRACE, ms=5, why="a\nb")
    (line,) = lines(stream)
    assert tuple(line)[: len(HEAD)] == HEAD and str(line["ts"]).endswith("+00:00")
    assert {k: line[k] for k in line if k != "ts"} == {
        "level": "warning",
        "role": "gateway",
        "instance": "venue",
        "who": "gateway0",
        "event": "slow",
        "trace": ID,
        "ms": 5,
        "why": "a\nb",
    }


def test_libraries_and_tracebacks(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").critical("%s of %d", "one", 2)
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("any").exception("bug")
    logging.getLogger("any").debug("not asked for")
    first, second = lines(stream)
    assert (first["level"], first["event"]) == ("error", "one of 2") and "trace" not in first
    assert "KeyError: 'lost'" in str(second["traceback"])


def test_people_read_text() -> None:
    screen = Screen()
    handler = logging.StreamHandler(screen)
    handler.setFormatter(logs.Lines("gateway", "venue", "gateway0", people=screen.isatty()))
    record = logging.makeLogRecord({"levelname": "INFO", "levelno": 20, "msg": "serving"})
    record.fields = {"url": "http://h:1"}
    handler.emit(record)
    assert screen.getvalue() == "info: gateway0: serving: url http://h:1\n"


def test_the_engine_logs_the_same_fields() -> None:
    stream = io.StringIO()
    Log(stream, instance="venue").write("info", "running", who="engine0", epoch=3)
    (line,) = lines(stream)
    assert tuple(line) == (*HEAD, "epoch")
    assert (line["role"], line["instance"], line["who"]) == ("engine", "venue", "engine0")


BOUND = """
    second   lines asked for   lines   left out before the next
      0            5             3        2         a burst of three
      1            1             1        0         one a second after it
      1            2             0        2
      9            5             3        2         the bucket is full again
"""


def test_bound() -> None:
    bound = Bound(per_s=1, burst=3)
    for row in BOUND.strip().splitlines()[1:]:
        second, asked, wanted, left_out = map(int, row.split()[:4])
        told = [bound.take(second * SECOND) for _ in range(asked)]
        assert sum(answer >= 0 for answer in told) == wanted, row
        assert bound.left_out == left_out, row


def test_a_flood_is_counted(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what clients get wrong does not hide what they could not help."""
    clock = [SECOND]
    monkeypatch.setattr(logs.time, "monotonic_ns", lambda: clock[0])
    note = Refusals().note
    for _ in range(BURST + 500):
        note(ApiError(-1021), TRACE, "POST /fapi/v1/order", "10.0.0.1", 17)
    note(ApiError(-1008), TRACE, "POST /fapi/v1/order", "10.0.0.1")
    clock[0] += SECOND // PER_S
    note(ApiError(-1121), TRACE, "GET /" + "x" * 5000, "10.0.0.1")
    found = lines(stream)
    assert len(found) == BURST + 2
    assert {line["trace"] for line in found} == {ID}
    assert (found[0]["event"], found[0]["level"], found[0]["account"]) == ("refused", "info", 17)
    assert (found[-2]["event"], found[-2]["level"]) == ("failed", "warning")
    assert (found[-1]["left_out"], found[-1]["code"]) == (500, -1121)
    assert len(str(found[-1]["where"])) == refusals.WHERE_MAX


def test_a_bug_has_its_trace(stream: io.StringIO) -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Refusals().bug(TRACE, "GET /fapi/v1/time")
    (line,) = lines(stream)
    assert (line["trace"], line["level"], line["event"]) == (ID, "error", "bug")
    assert "ZeroDivisionError" in str(line["traceback"])


def test_libraries_are_bounded(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.time, "monotonic_ns", lambda: SECOND)
    log = logging.getLogger("test.library")
    bound = Bounded(per_s=1, burst=4)
    log.addFilter(bound)
    for _ in range(50):
        log.info("rubbish")
    log.removeFilter(bound)
    assert len(lines(stream)) == 4
