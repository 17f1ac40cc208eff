"""The engine of a simulated exchange: memory, stages and journal, through one life after another.

Reads   a data directory, by the real recovery.
Writes  the same, by the real journal; nothing else outside its own memory.
Never   carries anything from one life to the next but what is on disk.

What a start of a process costs an operating system, mapping memory and finding the addresses of a
hundred tables in it, says nothing about the exchange: the memory stays where it is and is zeroed.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

import numpy as np

from engine.journal import Journal, JournalFailed
from engine.pipeline import Arrays, engine_of
from engine.recovery import Recovered, recover
from engine.state import Limits
from shm.config import Config
from shm.counters import COUNTER_CELLS, COUNTERS_MAX, TIMINGS_MAX
from shm.cursors import JOURNALED, REPORTS_JOURNALED, REPORTS_READ, RISKED
from shm.feed import Feed
from shm.histogram import HISTOGRAM_CELLS
from shm.records import REPORT
from tools.inprocess import Venue, zeroed_arrays
from tools.simulateflow import PRODUCERS

LOG_RECORDS: Final = 4096  # of a report-log segment
# Hardly used: cheaper given back to the operating system than zeroed.
_LARGE: Final = ("hops", "proposals")
_LINE: Final = 64
_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Memory:
    """Rings, cursors and tables, zeroed at once."""

    def __init__(self, like: Arrays) -> None:
        size = sum(a.nbytes + _LINE for name, a in like.items() if name not in _LARGE)
        self._small = np.frombuffer(mmap.mmap(-1, size, _PRIVATE), np.uint8)
        self._large = {name: mmap.mmap(-1, like[name].nbytes, _PRIVATE) for name in _LARGE}
        self.arrays: Arrays = {}
        at = 0
        for name, array in like.items():
            if name in _LARGE:
                self.arrays[name] = np.frombuffer(self._large[name], array.dtype)
            else:
                self.arrays[name] = self._small[at : at + array.nbytes].view(array.dtype)
                at += -(-array.nbytes // _LINE) * _LINE

    def zero(self) -> None:
        """All of it, as the memory of a new process is."""
        self._small[:] = 0
        for large in self._large.values():
            large.madvise(mmap.MADV_DONTNEED)


class Engine(Venue):
    """A venue whose journal is the real one, and whose reports leave the ring when it logs them."""

    journal_: Journal
    feed_: Feed
    recovered: Recovered

    def __init__(
        self, config: Config, limits: Limits, shape: tuple[int, ...], checkpoint_every: int
    ) -> None:
        """shape: of the rings: shards, commands, matches, reports, slots of an ingress ring"""
        shards, commands, matches, reports, slots = shape
        self.config = config
        self.data = Path(config.data_dir)
        rings = {"commands": commands, "matches": matches, "reports": reports}
        told = {"told": np.zeros(reports, REPORT.dtype)}
        self.memory = Memory({**zeroed_arrays(limits, shards, **rings), **told})
        # A replay tells its reports into a ring of its own, as in any start.
        self._told_apart = {**self.memory.arrays, "reports": self.memory.arrays["told"]}
        self._replay_engine = engine_of(self._told_apart, limits, shards=shards)
        super().__init__(
            limits,
            shards=shards,
            ingress_slots=slots,
            seed=0,
            arrays=self.memory.arrays,
            producers=PRODUCERS,
            checkpoint_every=checkpoint_every,
        )
        # Nobody looks at what the journal counts and times.
        self._counters = np.zeros(COUNTERS_MAX * COUNTER_CELLS, np.int64)
        self._histograms = np.zeros(TIMINGS_MAX * HISTOGRAM_CELLS, np.int64)

    def recover(self) -> None:
        """Bring fresh memory to where the disk says that the last life ended."""
        self.memory.zero()
        self.recovered = recover(self.config, self._told_apart, LOG_RECORDS, self._replay_engine)

    def start(self) -> None:
        """Recover, and be ready for traffic."""
        self.recover()
        self.begin()
        commands, reports = self.arrays["commands"], self.arrays["reports"]
        self.journal_ = Journal(
            *(self.data, self.cursors, commands, reports, self.config.wal),
            threads=False,
            ahead=False,
            segment_records=LOG_RECORDS,
            failed=_give_up,
            counters=self._counters,
            histograms=self._histograms,
            hops=self.arrays["hops"],
        )
        self.feed_ = Feed(self.data, self.cursors, reports, 512)

    def stop(self) -> None:
        """The process is gone; its files stay as they are."""
        self.journal_.abandon()
        self.feed_.close()

    def journal(self, most: int = 1 << 30) -> int:
        before = int(self.cursors[JOURNALED]), int(self.cursors[REPORTS_READ])
        self.keep()
        # The thread that makes segments comes when it comes, sometimes too late.
        if (self.seed is None or self.random.random() < 0.3) and self.journal_.wanted():
            self.journal_.make_ahead()
        self.journal_.step()
        after = int(self.cursors[JOURNALED]), int(self.cursors[REPORTS_READ])
        return after[0] - before[0] + after[1] - before[1]

    def keep(self) -> None:
        """Note what risk has decided, before its slots are free."""
        ring = self.arrays["commands"]
        at = np.arange(len(self.log) + 1, int(self.cursors[RISKED]) + 1)
        if len(at):
            self.log.extend(ring[at % len(ring)])  # rows of a copy

    def read(self, most: int = 1 << 30) -> int:
        return 0  # the report log does

    def quiet(self) -> bool:
        c = self.cursors
        logged = c[REPORTS_JOURNALED] == self.venue["reports_count"]
        hidden, c[REPORTS_READ] = int(c[REPORTS_READ]), self.venue["reports_count"]
        try:
            return super().quiet() and bool(logged)
        finally:
            c[REPORTS_READ] = hidden


def _give_up(error: JournalFailed) -> None:
    raise error
