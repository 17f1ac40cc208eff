"""The table of distinct errors."""

from __future__ import annotations

import numpy as np

from shm.errors import ERROR_PARTS, ERRORS, ERRORS_MAX, OVERFLOW, ErrorTable, kind_of
from shm.records import ERROR
from shm.segment import Segment


def test_errors_that_differ_in_numbers_are_one() -> None:
    table = ErrorTable(np.zeros(ERRORS_MAX, ERROR.dtype), None)
    for n in (1, 22, 333):
        table.note("journal", f"sync took {n} us")
    table.note("http0", "sync took 4 us")
    other, first = table.read()
    assert (first.where, first.text, first.times) == ("journal", "sync took # us", 3)
    assert first.latest == "sync took 333 us" and first.first_ns <= first.last_ns
    assert (other.where, other.times) == ("http0", 1)
    assert kind_of("a1b22") == "a#b#"


def test_a_full_table_counts_the_rest_in_its_last_row() -> None:
    table = ErrorTable(np.zeros(ERRORS_MAX, ERROR.dtype), None)
    for n in range(ERRORS_MAX + 50):
        table.note("x", "e" * (n % 180) + "f" * (n // 180))
    found = table.read()
    assert len(found) == ERRORS_MAX
    assert sum(e.times for e in found) == ERRORS_MAX + 50
    (rest,) = [e for e in found if e.text == OVERFLOW]
    assert rest.times == 51


def test_long_texts_are_cut_and_still_one() -> None:
    table = ErrorTable(np.zeros(ERRORS_MAX, ERROR.dtype), None)
    for _ in range(2):
        table.note("w" * 40, "ä" * 300)
    (error,) = table.read()
    assert error.times == 2 and len(error.text.encode()) <= 200


def test_processes_share_it(instance: str) -> None:
    made = Segment.create(instance, ERRORS, ERROR_PARTS, epoch=1)
    writer = ErrorTable.attach(instance, writable=True)
    reader = ErrorTable.attach(instance, writable=False)
    writer.note("a", "b")
    assert [(e.where, e.text, e.times) for e in reader.read()] == [("a", "b", 1)]
    made.unlink()
    writer.note("a", "the engine has ended, and its segments have no name any more")
    assert len(reader.read()) == 1
    writer.close()
    reader.close()
    made.close()
