"""Latencies in shared memory: log-linear buckets that one process fills and any process reads.

    value < 128     a bucket for each ns
    above           64 buckets an octave, up to 2^40 ns (18 minutes): at most 1.6 % too high

    cells of one histogram:  [0] largest  [1] sum  [2..7] spare  [8..] buckets

Reads   int64 cells of a segment, or of any array. A reader beside a running writer may miss the
        newest few values, nothing else.
Never   imports numba: kernels record through shm.measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

SUB_BITS: Final = 6  # 64 buckets an octave
VALUE_BITS_MAX: Final = 40
LARGEST: Final = 0
SUM: Final = 1
BUCKETS: Final = 8
BUCKET_COUNT: Final = (VALUE_BITS_MAX - SUB_BITS + 1) << SUB_BITS
HISTOGRAM_CELLS: Final = BUCKETS + BUCKET_COUNT

Array = np.ndarray[Any, Any]


class Summary(NamedTuple):
    """What a latency table shows, in ns."""

    value_count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p99_9_ns: int
    p99_99_ns: int
    max_ns: int
    mean_ns: float


def bucket_of(values_ns: Array) -> Array:
    """Bucket index of each value, as the kernel computes it."""
    values = np.clip(values_ns, 0, (1 << VALUE_BITS_MAX) - 1).astype(np.int64)
    # frexp is exact below 2^53: the exponent is the bit length.
    shift = np.maximum(np.frexp(values.astype(np.float64))[1] - 1 - SUB_BITS, 0)
    buckets: Array = (shift << SUB_BITS) + (values >> shift)
    return buckets


def highest_of(buckets: Array) -> Array:
    """Largest value that falls into each bucket."""
    shift = np.maximum((buckets >> SUB_BITS) - 1, 0)
    values: Array = ((buckets - (shift << SUB_BITS) + 1) << shift) - 1
    return values


def new_histogram() -> Array:
    """An empty one of one's own."""
    return np.zeros(HISTOGRAM_CELLS, np.int64)


def record_all(cells: Array, values_ns: Array) -> None:
    """Add many values at once, outside kernels."""
    if len(values_ns) == 0:
        return
    values = np.maximum(values_ns, 0)
    cells[BUCKETS:] += np.bincount(bucket_of(values), minlength=BUCKET_COUNT)
    cells[SUM] += int(values.sum())
    cells[LARGEST] = max(int(cells[LARGEST]), int(values.max()))


def merge(into: Array, other: Array) -> None:
    """Add what `other` has seen."""
    into[BUCKETS:] += other[BUCKETS:]
    into[SUM] += other[SUM]
    into[LARGEST] = max(into[LARGEST], other[LARGEST])


def count_of(cells: Array) -> int:
    """How many values were recorded."""
    return int(cells[BUCKETS:].sum())


def percentiles(cells: Array, wanted: Sequence[float]) -> list[int]:
    """The least recorded value, up to bucket width, that `wanted` percent do not exceed."""
    reached = np.cumsum(cells[BUCKETS:])
    total = int(reached[-1])
    if total == 0:
        return [0] * len(wanted)
    ranks = [min(max(1, int(np.ceil(total * p / 100 - 1e-9))), total) for p in wanted]
    values = highest_of(np.searchsorted(reached, ranks))
    return [min(int(v), int(cells[LARGEST])) for v in values]


def summary(cells: Array) -> Summary:
    """The usual percentiles."""
    count = count_of(cells)
    p50, p90, p99, p99_9, p99_99 = percentiles(cells, (50, 90, 99, 99.9, 99.99))
    mean = int(cells[SUM]) / count if count else 0.0
    return Summary(count, p50, p90, p99, p99_9, p99_99, int(cells[LARGEST]), mean)
