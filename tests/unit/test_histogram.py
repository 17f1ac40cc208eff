"""Histograms against sorted lists: percentiles within a bucket, kernel and numpy the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import measure
from shm.histogram import (
    BUCKETS,
    HISTOGRAM_CELLS,
    SUB_BITS,
    bucket_of,
    count_of,
    highest_of,
    merge,
    new_histogram,
    percentiles,
    record_all,
    summary,
)
from shm.jit import kernel
from shm.pointers import table

LARGEST_VALUE = (1 << 40) - 1
VALUES = st.lists(st.integers(0, LARGEST_VALUE) | st.integers(0, 5000), max_size=200)


@kernel
def record(histograms: Any, histogram: int, values: Any, count: int) -> None:
    for i in range(count):
        measure.record(histograms, histogram, values[i])


def recorded(values: list[int]) -> np.ndarray[Any, Any]:
    cells = new_histogram()
    record(table(cells), 0, table(np.array([*values, 0], np.int64)), len(values))
    return cells


BUCKET_TABLE = """
  value | bucket | highest value in it
      0 |      0 | 0
      1 |      1 | 1
     64 |     64 | 64
    127 |    127 | 127       up to here exact
    128 |    128 | 129       from here two
    129 |    128 | 129
    255 |    191 | 255
    256 |    192 | 259
   1000 |    317 | 1007
"""


@pytest.mark.parametrize("row", BUCKET_TABLE.strip().splitlines()[1:])
def test_buckets(row: str) -> None:
    value, bucket, highest = (int(cell.split()[0]) for cell in row.split("|"))
    assert bucket_of(np.array([value])).tolist() == [bucket]
    assert highest_of(np.array([bucket])).tolist() == [highest]
    assert int(np.flatnonzero(recorded([value])[BUCKETS:])[0]) == bucket


@given(VALUES)
def test_kernel_and_numpy_fill_the_same_cells(values: list[int]) -> None:
    cells = new_histogram()
    record_all(cells, np.array(values, np.int64))
    assert (recorded(values) == cells).all()


@given(st.integers(-(1 << 62), 1 << 62))
def test_any_value_lands_in_a_bucket(value: int) -> None:
    cells = recorded([value])
    assert count_of(cells) == 1
    assert percentiles(cells, (50,))[0] == min(max(value, 0), LARGEST_VALUE)


@given(st.lists(st.integers(0, LARGEST_VALUE), min_size=1), st.floats(0, 100))
def test_percentiles_are_at_most_a_bucket_too_high(values: list[int], percent: float) -> None:
    (got,) = percentiles(recorded(values), (percent,))
    rank = max(1, int(np.ceil(len(values) * percent / 100 - 1e-9)))
    exact = sorted(values)[rank - 1]
    assert exact <= got <= exact + (exact >> SUB_BITS)


@given(VALUES, VALUES)
def test_merging_is_recording_both(a: list[int], b: list[int]) -> None:
    cells = recorded(a)
    merge(cells, recorded(b))
    assert (cells == recorded(a + b)).all()


def test_histograms_side_by_side_do_not_touch() -> None:
    cells = np.zeros(3 * HISTOGRAM_CELLS, np.int64)
    record(table(cells), 1, table(np.array([0, LARGEST_VALUE, 1 << 50])), 3)
    assert not cells[:HISTOGRAM_CELLS].any() and not cells[2 * HISTOGRAM_CELLS :].any()
    assert count_of(cells[HISTOGRAM_CELLS : 2 * HISTOGRAM_CELLS]) == 3


def test_the_summary_of_nothing_and_of_a_hundred() -> None:
    assert summary(new_histogram()) == (0, 0, 0, 0, 0, 0, 0, 0.0)
    assert summary(recorded(list(range(1, 101)))) == (100, 50, 90, 99, 100, 100, 100, 50.5)
