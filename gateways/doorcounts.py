"""What a gateway counts, in the engine's counters: `perpcore top`, `status`, Prometheus.

Writes  counters `door.<producer>.<what>` (shm/counters.py), of whichever engine runs.
Never   fails nor waits: without an engine there is nobody to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from shm.control import View
from shm.counters import COUNTER_CELLS, Counters
from shm.segment import SegmentError


class DoorCounts:
    """Of one gateway process; `tell` once a second or so."""

    def __init__(self, instance: str, producer: str) -> None:
        self._instance = instance
        self._producer = producer
        self._view: View | None = None
        self._cells: np.ndarray[Any, Any] | None = None
        self._rows: dict[str, int] = {}

    def close(self) -> None:
        self._cells = None
        if self._view is not None:
            self._view.close()
            self._view = None

    def tell(self, values: Mapping[str, int]) -> None:
        """Write the values by name, as the unit that the name says."""
        if self._view is None or not self._view.alive:
            self._attach(values)
        if self._cells is not None:
            for what, value in values.items():
                self._cells[self._rows[what] * COUNTER_CELLS] = value

    def _attach(self, values: Mapping[str, int]) -> None:
        self.close()
        with suppress(SegmentError):
            view = View(self._instance)
            if not view.alive:
                view.close()
                return
            counters = Counters.attach(self._instance, writable=True)
            names = {what: f"door.{self._producer}.{what}" for what in values}
            self._rows = {what: counters.register(name, what) for what, name in names.items()}
            self._view, self._cells = view, counters.cells
