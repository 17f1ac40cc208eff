"""Counters and timings: fixed ids, registered ones, and readers that know nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shm import measure
from shm.codes import Reason
from shm.counters import (
    COUNTER_CELLS,
    COUNTERS_MAX,
    FREE,
    REFUSED_BASE,
    Counter,
    Counters,
    Timing,
)
from shm.histogram import summary
from shm.jit import kernel
from shm.pointers import table
from shm.segment import SegmentError


@kernel
def count(cells: Any, counter: int, amount: int) -> None:
    measure.count(cells, counter, amount)


@kernel
def record(histograms: Any, histogram: int, value_ns: int) -> None:
    measure.record(histograms, histogram, value_ns)


def test_any_process_reads_by_name_what_one_counts(instance: str) -> None:
    engine = Counters.create(instance, epoch=1)
    count(table(engine.cells), Counter.JOURNAL_BYTES, 4096)
    count(table(engine.cells), Counter.JOURNAL_BYTES, 1)
    count(table(engine.cells), REFUSED_BASE + Reason.BAD_PRICE, 3)
    record(table(engine.histograms), Timing.SYNC, 190_000)
    reader = Counters.attach(instance, writable=False)
    values = reader.read()
    assert values["journal.bytes"] == (4097, "bytes")
    assert values["refused.bad_price"] == (3, "commands")
    assert values["match.paused"] == (0, "turns")
    timings = reader.read_timings()
    assert summary(timings["sync"]).value_count == 1
    assert summary(timings["sequenced_to_durable"]).value_count == 0


def test_fixed_ids_leave_room_for_those_that_are_registered(instance: str) -> None:
    assert max(Counter) < REFUSED_BASE
    assert REFUSED_BASE + max(Reason) < FREE < COUNTERS_MAX
    assert len(Counters.create(instance, epoch=1).read()) == len(Counter) + len(Reason) - 1


def test_a_name_is_registered_once_whoever_asks(instance: str) -> None:
    engine = Counters.create(instance, epoch=1)
    gateway = Counters.attach(instance, writable=True)
    assert gateway.register("gateway0.requests", "requests") == FREE
    assert engine.register("gateway1.requests", "requests") == FREE + 1
    assert engine.register("gateway0.requests", "requests") == FREE
    assert gateway.register_timing("gateway0.parse") == Timing.FREE
    assert "gateway0.parse" in engine.read_timings()
    assert engine.read()["gateway1.requests"] == (0, "requests")


def test_when_there_is_no_row_left_it_says_so(instance: str) -> None:
    engine = Counters.create(instance, epoch=1)
    engine.labels["name"][FREE:] = ord("x")
    with pytest.raises(SegmentError, match="no free row for 'one.more'; 256 are taken"):
        engine.register("one.more", "things")


def test_two_counters_never_share_a_cache_line(instance: str) -> None:
    engine = Counters.create(instance, epoch=1)
    assert COUNTER_CELLS * engine.cells.itemsize == 64
    assert engine.cells.ctypes.data % 64 == 0
    count(table(engine.cells), COUNTERS_MAX - 1, 1)
    assert np.flatnonzero(engine.cells).tolist() == [(COUNTERS_MAX - 1) * COUNTER_CELLS]
