"""Kernels that count and time: one writer a counter or histogram, a few ns each.

Writes  cells laid out by shm.counters and shm.histogram, where any process can read them.
Never   uses a locked instruction: a counter that two processes write loses counts.
"""

from __future__ import annotations

from shm.atomics import leading_zeros
from shm.counters import COUNTER_CELLS
from shm.histogram import BUCKETS, HISTOGRAM_CELLS, LARGEST, SUB_BITS, SUM, VALUE_BITS_MAX
from shm.jit import inlined
from shm.pointers import Cells

_VALUE_MAX = (1 << VALUE_BITS_MAX) - 1


@inlined
def count(counters: Cells, counter: int, amount: int) -> None:
    """Add to a counter that only this process writes."""
    counters[counter * COUNTER_CELLS] = counters[counter * COUNTER_CELLS] + amount


@inlined
def bucket(value_ns: int) -> int:
    """Index of the bucket of a value from 0 to 2^40 - 1."""
    shift = max(63 - SUB_BITS - leading_zeros(value_ns | 1), 0)
    return (shift << SUB_BITS) + (value_ns >> shift)


@inlined
def record(histograms: Cells, histogram: int, value_ns: int) -> None:
    """Add a value; below 0 counts as 0, above 2^40 - 1 as that, in the buckets."""
    base = histogram * HISTOGRAM_CELLS
    value = max(value_ns, 0)
    at = base + BUCKETS + bucket(min(value, _VALUE_MAX))
    histograms[at] = histograms[at] + 1
    histograms[base + SUM] = histograms[base + SUM] + value
    if value > histograms[base + LARGEST]:
        histograms[base + LARGEST] = value
