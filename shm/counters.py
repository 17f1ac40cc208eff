"""Named counters and histograms in shared memory, readable by any process at any time.

    part "labels"       LABEL[COUNTERS_MAX]                what each counter is called
    part "counters"     int64, 8 cells (a line) each       single writer each
    part "timings"      LABEL[TIMINGS_MAX]                 what each histogram is called
    part "histograms"   int64, HISTOGRAM_CELLS each        single writer each

Ids below FREE are fixed here, so that kernels can name them; a process that wants one of its own
(a gateway, a follower) registers a label and gets the next free id.

Never   imports numba: kernels count through shm.measure.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np

from shm.codes import Reason
from shm.histogram import HISTOGRAM_CELLS
from shm.segment import Part, Segment, SegmentError

COUNTER_CELLS: Final = 8  # a cache line: two writers never share one
COUNTERS_MAX: Final = 512
TIMINGS_MAX: Final = 32
REFUSED_BASE: Final = 128  # + codes.Reason
FREE: Final = 256  # first id that processes may register

Array = np.ndarray[Any, Any]


class Counter(IntEnum):
    """Fixed ids. The name in lower case, `_` for `.`, is the label; append, never renumber."""

    SEQUENCER_COMMANDS = 0
    SEQUENCER_FULL = 1  # turns that found no free slot in the commands ring
    SEQUENCER_CORRUPT = 2  # turns that found an ingress cursor that makes no sense
    RISK_COMMANDS = 3
    RISK_REFUSED = 4
    MATCH_COMMANDS = 5
    MATCH_FILLS = 6
    MATCH_PAUSED = 7  # turns that ended because the matches ring was full
    SETTLE_COMMANDS = 8
    SETTLE_REPORTS = 9
    SETTLE_PAUSED = 10  # turns that ended because the reports ring was full
    SETTLE_DEFICITS = 11
    SETTLE_FLIPS = 12
    JOURNAL_COMMANDS = 13
    JOURNAL_BLOCKS = 14
    JOURNAL_BYTES = 15
    JOURNAL_SYNCS = 16
    JOURNAL_REPORTS = 17
    JOURNAL_REPORT_BYTES = 18
    PUBLISH_REPORTS = 19
    PUBLISH_MESSAGES = 20
    PUBLISH_LAPPED = 21  # times the ring had moved on and the report log was read instead


# The last word of a name is its unit, but for these.
_UNITS: Final = dict.fromkeys(("full", "paused", "corrupt"), "turns")
_UNITS.update(refused="commands", lapped="times")


class Timing(IntEnum):
    """Fixed histograms, all in ns."""

    INGRESS_TO_SEQUENCED = 0
    SEQUENCED_TO_SETTLED = 1
    SEQUENCED_TO_DURABLE = 2
    SYNC = 3
    FREE = 8


def counter_parts() -> tuple[Part, ...]:
    """What the counters segment holds."""
    return (
        Part("labels", "LABEL", COUNTERS_MAX),
        Part("counters", "<i8", COUNTERS_MAX * COUNTER_CELLS),
        Part("timings", "LABEL", TIMINGS_MAX),
        Part("histograms", "<i8", TIMINGS_MAX * HISTOGRAM_CELLS),
    )


def _text(cells: Array) -> str:
    return bytes(cells).rstrip(b"\0").decode(errors="replace")


def _write_label(row: Any, name: str, unit: str) -> None:
    for field, text in (("unit", unit), ("name", name)):  # the name last: it makes the row valid
        data = text.encode()[: len(row[field])].ljust(len(row[field]), b"\0")
        row[field][:] = np.frombuffer(data, np.uint8)


class Counters:
    """The counters segment as arrays; `cells` and `histograms` go to kernels."""

    def __init__(self, arrays: dict[str, Array], segment: Segment | None = None) -> None:
        """arrays: the parts of `counter_parts`; segment: needed to register labels."""
        self.labels = arrays["labels"]
        self.cells = arrays["counters"]
        self.timings = arrays["timings"]
        self.histograms = arrays["histograms"]
        self._segment = segment

    @classmethod
    def create(cls, instance: str, epoch: int, name: str = "counters") -> Counters:
        """Make the segment and write the fixed labels; for the engine."""
        segment = Segment.create(instance, name, counter_parts(), epoch)
        counters = cls(segment.arrays, segment)
        counters.format()
        return counters

    @classmethod
    def attach(cls, instance: str, *, writable: bool, name: str = "counters") -> Counters:
        """Map what the engine made; `writable` to count or to register."""
        segment = Segment.attach(instance, name, counter_parts(), writable=writable)
        return cls(segment.arrays, segment)

    def format(self) -> None:
        """Write the labels of the fixed ids over zeros."""
        for counter in Counter:
            label = counter.name.lower().replace("_", ".", 1)
            last = counter.name.lower().rsplit("_", 1)[-1]
            _write_label(self.labels[counter], label, _UNITS.get(last, last))
        for reason in list(Reason)[1:]:
            label = f"refused.{reason.name.lower()}"
            _write_label(self.labels[REFUSED_BASE + reason], label, "commands")
        for timing in list(Timing)[:-1]:
            _write_label(self.timings[timing], timing.name.lower(), "ns")

    def register(self, name: str, unit: str) -> int:
        """Id of the counter with that label, which is added when there is none yet."""
        return self._register(self.labels, FREE, name, unit)

    def register_timing(self, name: str) -> int:
        """As `register`, for a histogram."""
        return self._register(self.timings, Timing.FREE, name, "ns")

    def _register(self, labels: Array, first: int, name: str, unit: str) -> int:
        assert self._segment is not None
        with self._segment.locked():
            for row in range(first, len(labels)):
                label = _text(labels[row]["name"])
                if label == "":
                    _write_label(labels[row], name, unit)
                    return row
                if label == name:
                    return row
        raise SegmentError(
            f"counters {self._segment.label}: no free row for {name!r}; {len(labels) - first} are "
            "taken. Stop processes that are no longer needed and restart the engine"
        )

    def read(self) -> dict[str, tuple[int, str]]:
        """label -> (value, unit) of every counter that has a label."""
        used = np.flatnonzero(self.labels["name"][:, 0])
        return {
            _text(self.labels[row]["name"]): (
                int(self.cells[row * COUNTER_CELLS]),
                _text(self.labels[row]["unit"]),
            )
            for row in used
        }

    def histogram(self, row: int) -> Array:
        """The cells of one histogram, for shm.histogram."""
        return self.histograms[row * HISTOGRAM_CELLS : (row + 1) * HISTOGRAM_CELLS]

    def read_timings(self) -> dict[str, Array]:
        """label -> histogram cells, of every histogram that has a label."""
        used = np.flatnonzero(self.timings["name"][:, 0])
        return {_text(self.timings[row]["name"]): self.histogram(int(row)) for row in used}
