"""Counters of what was reported, by kind: made by one follower, read by metrics.

Writes  cells of the counters segment that a process registered (shm/counters.py).
Never   imports numba.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from shm.codes import LiquidationStep, ReportKind
from shm.counters import COUNTER_CELLS, Counters

REPORTED: Final = "reported."  # + the kind of report
LIQUIDATED: Final = "liquidated."  # + the step of a liquidation

Array = np.ndarray[Any, Any]


class ReportCounts:
    """How many reports of every kind one follower has applied since it started."""

    def __init__(self) -> None:
        self._kinds = np.zeros(256, np.int64)
        self._steps = np.zeros(256, np.int64)
        self._rows: list[tuple[int, Array, int]] = []  # counter, tally, which of it

    def add(self, rows: Array) -> None:
        """Count REPORT rows."""
        kinds = np.bincount(rows["kind"], minlength=256)
        self._kinds += kinds
        if kinds[ReportKind.LIQUIDATION]:
            steps = rows["status"][rows["kind"] == ReportKind.LIQUIDATION]
            self._steps += np.bincount(steps, minlength=256)

    def register(self, counters: Counters) -> None:
        """Have counters in the segment of a start of the engine."""
        self._rows = [
            (counters.register(f"{prefix}{member.name.lower()}", "reports"), tally, int(member))
            for prefix, enum, tally in (
                (REPORTED, ReportKind, self._kinds),
                (LIQUIDATED, LiquidationStep, self._steps),
            )
            for member in enum
            if member
        ]

    def tell(self, cells: Array) -> None:
        """Write them."""
        for counter, tally, which in self._rows:
            cells[counter * COUNTER_CELLS] = tally[which]
