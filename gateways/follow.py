"""What every follower process does: read reports in whole commands, each once, and keep its place.

Reads   the reports ring of a running engine while it keeps up, the report log when it was lapped or
        no engine runs (shm/feed.py, shm/reportlog.py).
Writes  its checkpoints; followers/<name>.pos, for which the log is kept; counters in shared memory.
Never   holds the engine back: nothing waits for a follower. Never ends for a full disk: it goes on
        from memory, and keeps its state when there is room.

    state (follower's own) + index of the next report  --reports-->  state, index'

A follower's state is a function of the reports below its index, and is kept together with it: after
a kill it starts from the last checkpoint and comes to the same state. `Source` gives whole commands
only: what is read of a command that isn't complete yet waits for the rest.

Invariants
    1. A command is complete when a report of a later one is there, or when settlement had finished
       it (SETTLED) before the last report read was looked for.
    2. `apply` sees each report once, in order; it never sees part of a command.
    3. The registered position is never ahead of the last checkpoint.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from shm.config import Config
from shm.control import CURSOR_PARTS, CURSORS, View
from shm.counters import COUNTER_CELLS, Counters
from shm.feed import Feed, load_progress
from shm.files import DataError, is_full, read_manifest
from shm.logs import say
from shm.notify import WAITS, alive, notify
from shm.pointers import table
from shm.records import REPORT
from shm.reported import ReportCounts
from shm.reportlog import FollowerPosition, ReportLogReader
from shm.segment import Part, Segment, SegmentError

Array = np.ndarray[Any, Any]

LOG: Final = logging.getLogger("perpcore.follow")
BATCH: Final = 8192  # reports in one read
_COMMAND_REPORTS_MAX: Final = 1 << 24  # of one command: more is not an engine's
_SLEEP_LEAST_S: Final = 0.0002
_SLEEP_MOST_S: Final = 0.005
# After a turn that had some news, the next one waits for three times as long as it took, within
# limits: whoever keeps up leaves the core to the engine's other neighbours, and takes more at once.
_GATHER: Final = 3.0
_GATHER_MOST_S: Final = 0.001
_ATTACH_EVERY_S: Final = 0.1
_REGISTER_EVERY_S: Final = 1.0
_BEAT_EVERY_S: Final = 1.0
_FULL_S: Final = 2.0  # between two tries on a full disk


_NO_ROWS: Final = np.zeros(0, REPORT.dtype)


class FollowError(DataError):
    """A follower can't go on; the text says what the operator can do."""


class Source:
    """Whole commands of one instance, from an index on, through all starts of its engine."""

    def __init__(self, config: Config, index: int) -> None:
        """index: of the first report wanted."""
        self.config = config
        self.data = Path(config.data_dir)
        self.next = index  # of the first report not yet given out
        self.lapped_count = 0
        self.view: View | None = None
        self._held = np.zeros(0, REPORT.dtype)  # of a command that isn't complete yet
        self._segments: list[Segment] = []
        self._feed: Feed | None = None
        self._cursors: Any = None
        self._log: ReportLogReader | None = None
        self._tried_s = 0.0

    @property
    def attached(self) -> bool:
        return self._feed is not None

    def read(self) -> Array:
        """The next whole commands, about BATCH reports; empty: no news. Valid until the next call.

        raises      FollowError when the log no longer reaches back so far
        """
        self._attach()
        fresh, settled, written = self._fresh(self.next + len(self._held))
        if len(fresh) == 0 and (settled is None or len(self._held) == 0):
            return np.zeros(0, REPORT.dtype)
        rows = np.concatenate((self._held, fresh)) if len(self._held) else fresh
        last = int(rows[-1]["seq"])
        complete = settled is not None and settled >= last and self.next + len(rows) >= written
        count = len(rows) if complete else int(np.searchsorted(rows["seq"], last))
        self._held = rows[count:].copy()
        if len(self._held) > _COMMAND_REPORTS_MAX:
            raise FollowError(f"{self.data}: command {last} has no end. Verify: perpcore verify")
        self.next += count
        return rows[:count]

    def end(self) -> int:
        """How many reports there are to read by now, as far as can be told."""
        if self._feed is not None:
            return max(self._feed.end(), self.next)
        return self.next + len(self._held)

    def close(self) -> None:
        self._detach()
        if self._log is not None:
            self._log.close()

    def _fresh(self, first: int) -> tuple[Array, int | None, int]:
        """(reports from `first` on, commands settled or None: not known, reports written then)."""
        try:
            if self._feed is not None:
                settled, written, _ = load_progress(self._cursors)
                rows = self._feed.read(first, BATCH)
                self.lapped_count = self._feed.lapped_count
                return rows, int(settled), int(written)
            return self._from_log(first), None, 0
        except DataError as error:
            raise FollowError(str(error)) from None

    def _from_log(self, first: int) -> Array:
        """Reports that are in the files while no engine runs."""
        if self._log is None:
            try:
                manifest = read_manifest(self.data)
            except DataError:
                return np.zeros(0, REPORT.dtype)  # no engine was ever here
            self._log = ReportLogReader(self.data, manifest)
        rows = self._log.read(first, BATCH)
        if len(rows) == 0 and first < self._log.first_index:
            raise FollowError(
                f"{self.data}/reports: report {first} is wanted, the log begins at "
                f"{self._log.first_index}. Restore older segments, or rebuild from the WAL"
            )
        return rows[: int(np.count_nonzero(rows["seq"]))]

    def _attach(self) -> None:
        """Find the engine that runs, if one does and it isn't the one we know."""
        if self.view is not None:
            if self.view.alive:
                return
            self._detach()
        now = time.monotonic()
        if now - self._tried_s < _ATTACH_EVERY_S:
            return
        self._tried_s = now
        with suppress(SegmentError):
            view = View(self.config.instance)
            try:
                slots = int(view.engine["reports"])
                if not view.alive or slots == 0 or int(view.engine["running_ns"]) == 0:
                    raise SegmentError("it is only starting")
                self._segments = [
                    Segment.attach(self.config.instance, CURSORS, CURSOR_PARTS, view.epoch),
                    Segment.attach(
                        self.config.instance,
                        "reports",
                        (Part("reports", "REPORT", slots),),
                        view.epoch,
                    ),
                ]
            except SegmentError:
                view.close()
                raise
            cursors = self._segments[0].arrays["cursors"]
            ring = self._segments[1].arrays["reports"]
            self._cursors = table(cursors)
            self._feed = Feed(self.data, cursors, ring, BATCH)
            self.view = view
            if self._log is not None:
                self._log.close()
                self._log = None
            # What the log held of a command when its engine died, recovery may have derived anew.
            self._held = np.zeros(0, REPORT.dtype)

    def _detach(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._feed = self._cursors = None
        for segment in self._segments:
            segment.close()
        self._segments = []
        if self.view is not None:
            self.view.close()
            self.view = None
        self._held = np.zeros(0, REPORT.dtype)


class Health:
    """A follower's counters: reports applied, how many it is behind, times it was lapped."""

    def __init__(self, name: str, counts: ReportCounts | None = None) -> None:
        self.name = name
        self._counts = counts
        self._cells: Array | None = None
        self._view: View | None = None
        self._rows: dict[str, int] = {}

    def tell(self, source: Source, checkpoints: int) -> None:
        """Write the counters of the engine that runs now; without one there is nobody to tell."""
        if source.view is None:
            self._view = self._cells = None
            return
        if source.view is not self._view:
            self._view = source.view
            try:
                counters = Counters.attach(source.config.instance, writable=True)
            except SegmentError:
                self._cells = None
                return
            self._cells = counters.cells
            units = {"reports": "reports", "behind": "reports", "lapped": "times"}
            units["checkpoints"] = "times"
            self._rows = {
                what: counters.register(f"follow.{self.name}.{what}", unit)
                for what, unit in units.items()
            }
            if self._counts is not None:
                self._counts.register(counters)
        if self._cells is None:
            return
        values = {
            "reports": source.next,
            "behind": source.end() - source.next,
            "lapped": source.lapped_count,
            "checkpoints": checkpoints,
        }
        for what, value in values.items():
            self._cells[self._rows[what] * COUNTER_CELLS] = value
        if self._counts is not None:
            self._counts.tell(self._cells)


class Follower:
    """Base of a follower process. A subclass owns its state, and keeps it with `index`."""

    name = "follower"
    checkpoint_seconds = 10.0
    counts: ReportCounts | None = None  # of what one follower counts for metrics

    def __init__(self, config: Config, index: int) -> None:
        """index: of the first report that the state doesn't contain yet."""
        self.config = config
        self.data = Path(config.data_dir)
        self.source = Source(config, index)
        self.health = Health(self.name, self.counts)
        self.checkpoints = 0
        self.ready = False
        self._position: FollowerPosition | None = None
        self._kept_s = time.monotonic()
        self._kept_index = index
        self._told_s = 0.0
        self._beat_s = 0.0
        self._full_until_s = 0.0  # not 0: the disk was full when something was to be kept
        self._caught_up_to: int | None = None

    # ------------------------------------------------------------ what a follower is

    def apply(self, rows: Array) -> None:
        """Whole commands, contiguous REPORT rows, valid during the call."""
        raise NotImplementedError

    def serve(self) -> int:
        """Answer whoever asks; returns how much was done. Called in every turn."""
        return 0

    def save(self, index: int) -> None:
        """Keep the state, which stands at `index`, so that a kill loses nothing."""
        raise NotImplementedError

    def room(self) -> bool:
        """Whether it can take more reports now."""
        return True

    def on_ready(self) -> None:
        """The state has come to what was durable when the process started."""

    # ------------------------------------------------------------ the loop

    def turn(self) -> int:
        """Read and apply once, serve, keep the place when it is time; returns how much was done."""
        rows = self.source.read() if self.room() else _NO_ROWS
        if len(rows):
            self.apply(rows)
            if self.counts is not None:
                self.counts.add(rows)
        did = len(rows) + self.serve()
        now = time.monotonic()
        if now - self._kept_s >= self.checkpoint_seconds and self.source.next > self._kept_index:
            self.kept(self.checkpoint)
        if now - self._told_s >= _REGISTER_EVERY_S or (did == 0 and now - self._told_s > 0.05):
            self.health.tell(self.source, self.checkpoints)
            self._told_s = now
        if not self.ready:
            self._look_ready(len(rows))
        if now - self._beat_s >= _BEAT_EVERY_S:
            self._beat_s = now
            alive(self.ready, f"from report {self.source.next}" if self.source.attached else WAITS)
        return did

    def kept(self, keep: Callable[[], None]) -> bool:
        """Do what writes to the disk, and say whether it was done: not while that is full."""
        if time.monotonic() < self._full_until_s:
            return False
        try:
            keep()
        except OSError as error:
            if not is_full(error):
                raise
            if self._full_until_s == 0.0:
                say(LOG, logging.ERROR, "nothing is kept: the disk is full", why=str(error))
            self._full_until_s = time.monotonic() + _FULL_S
            return False
        if self._full_until_s:
            say(LOG, logging.INFO, "there is room again", report=self.source.next)
            self._full_until_s = 0.0
        return True

    def checkpoint(self) -> None:
        """Keep the state now, and let the log go below it."""
        index = self.source.next
        self.save(index)
        self.register(index)
        self._kept_index = index
        self._kept_s = time.monotonic()
        self.checkpoints += 1

    def register(self, index: int) -> None:
        """Say that reports below `index` aren't needed any more."""
        if self._position is None:
            folder = self.data / "reports"
            if not folder.is_dir():
                return  # no engine was ever here
            self._position = FollowerPosition(self.data, self.name)
        self._position.store(index)

    def _look_ready(self, read: int) -> None:
        if not self.source.attached:
            return
        if self._caught_up_to is None:
            self._caught_up_to = self.source.end()
        if read == 0 or self.source.next >= self._caught_up_to:
            self.ready = True
            self.on_ready()
            notify("READY=1\nSTATUS=up to date")

    def close(self) -> None:
        self.source.close()
        if self._position is not None:
            self._position.close()

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then a last checkpoint."""
        stop: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda got, _frame: stop.append(got))
        self.kept(lambda: self.register(self.source.next))
        pause = _SLEEP_LEAST_S
        try:
            while not stop:
                begun = time.monotonic()
                did = self.turn()
                if did >= BATCH // 2:
                    pause = _SLEEP_LEAST_S  # behind: on with it
                elif did:
                    pause = _SLEEP_LEAST_S
                    took = time.monotonic() - begun
                    time.sleep(min(max(_GATHER * took, _SLEEP_LEAST_S), _GATHER_MOST_S))
                else:
                    time.sleep(pause)
                    pause = min(pause * 1.5, _SLEEP_MOST_S)
            notify("STOPPING=1")
            self._full_until_s = 0.0  # a last try
            if self.source.next > self._kept_index:
                self.kept(self.checkpoint)
        finally:
            self.close()
