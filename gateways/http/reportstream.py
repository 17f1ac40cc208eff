"""The durable reports, in order and without a gap, to an event loop as soon as they are durable.

Reads   the reports ring of a running engine, the log for what it no longer has (shm/feed.py).
Writes  batches into `on_batch(rows, first_index)`; `on_epoch(epoch)` once everything that an
        earlier start of the engine reported has been handed over.
Never   skips a report, nor gives out one that isn't durable; never slows the engine.

A gateway runs on the engine's host: it hands commands over through shared memory, and hears of them
the same way. Through the publisher every answer would wait for two more processes' threads and
sockets (0.3 ms of 1.4), and every gateway would take its reports out of a socket again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from shm.config import Config
from shm.control import CURSOR_PARTS, CURSORS, View
from shm.feed import Feed
from shm.files import DataError
from shm.listen import NEWS, Listener, NoBell
from shm.segment import Part, Segment, SegmentError

Rows = np.ndarray[Any, Any]
BATCH_RECORDS: Final = 1024
BATCHES_A_TURN: Final = 16
LOOK_S: Final = 0.05  # whether the engine runs; and for news that nobody rang for
AGAIN_S: Final = 0.001  # what is durable, and not yet in the log


class _Attached:
    """The reports of one start of the engine."""

    def __init__(self, config: Config, fd: int) -> None:
        """Raises SegmentError while no engine runs."""
        instance = config.instance
        self.view = View(instance)
        self._segments: list[Segment] = []
        try:
            slots, epoch = int(self.view.engine["reports"]), self.view.epoch
            if not self.view.alive or slots == 0 or int(self.view.engine["running_ns"]) == 0:
                raise SegmentError(f"instance {instance!r} is only starting")
            for name, parts in (
                (CURSORS, CURSOR_PARTS),
                ("reports", (Part("reports", "REPORT", slots),)),
            ):
                self._segments.append(Segment.attach(instance, name, parts, epoch))
            cursors, ring = (
                s.arrays[name]
                for s, name in zip(self._segments, ("cursors", "reports"), strict=True)
            )
            self.listener: Listener | None = None
            with suppress(NoBell):
                self.listener = Listener(instance, epoch, cursors, fd)
        except SegmentError:
            self._close()
            raise
        self.feed = Feed(Path(config.data_dir), cursors, ring, BATCH_RECORDS)
        self.begin = self.feed.end()  # below it: all of earlier starts, and maybe some of this

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
        self.feed.close()
        del self.feed
        self._close()

    def _close(self) -> None:
        for segment in self._segments:
            segment.close()
        self.view.close()


class ReportStream:
    """All reports from now on, driven by an event loop."""

    def __init__(
        self,
        config: Config,
        on_batch: Callable[[Rows, int], None],
        on_epoch: Callable[[int], None],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """on_batch: its rows are good during the call.
        wanted: whether anybody waits for reports; else they are taken many at a time, now and then
        """
        self.next = -1  # index of the next report; -1: the first engine says where we begin
        self.epoch = 0
        self.failed: DataError | None = None
        self._config = config
        self._on_batch = on_batch
        self._on_epoch = on_epoch
        self._wanted = wanted
        self._engine: _Attached | None = None
        self._coming: tuple[int, int] | None = None  # epoch, index at which we found it
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to listen, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.add_reader(self._fd, self._hear)
        self._look()

    def close(self) -> None:
        if self._later is not None:
            self._later.cancel()
        self._detach()
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._loop = None

    def _detach(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _look(self) -> None:
        """Now and then: whether the engine is the one we know."""
        assert self._loop is not None
        self._later = self._loop.call_later(LOOK_S, self._look)
        if self._engine is not None:
            self._turn()  # what it has said, even if it has ended meanwhile
            if not self._engine.view.alive:
                self._detach()
        if self._engine is None:
            with suppress(SegmentError):
                self._engine = engine = _Attached(self._config, self._fd)
                if self.next < 0:
                    self.next = engine.begin
                self._coming = (engine.view.epoch, engine.begin)
                self._turn()

    def _hear(self) -> None:
        """The bell was rung."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        if self._wanted():
            self._turn()

    def hurry(self) -> None:
        """Somebody waits from now on."""
        self._turn()

    def attend(self, fd: int, until_ns: int) -> bool:
        """Look for news until `until_ns` (CLOCK_MONOTONIC) or any come.

        It ends when `fd` becomes readable, too. News are handed on before it returns.
        returns     False: neither came, or they can't be had yet; the usual way goes on
        """
        engine = self._engine
        if engine is None or engine.listener is None or self.failed is not None:
            return False
        found, first = engine.listener.attend(self.next, fd, until_ns), self.next
        if found == NEWS:
            self._turn()
            return self.next > first
        return found != 0

    def _turn(self) -> None:
        """Take what has come; more than a turn's worth goes on in the next one."""
        engine = self._engine
        if engine is None or self.failed is not None:
            return
        assert self._loop is not None
        try:
            for _ in range(BATCHES_A_TURN):
                rows = engine.feed.read(self.next, BATCH_RECORDS)
                if len(rows):
                    first = self.next
                    self.next += len(rows)
                    self._on_batch(rows, first)
                self._arrive()
                if len(rows) < BATCH_RECORDS:
                    break
        except DataError as error:
            self.failed = error
            return
        if engine.listener is not None:
            engine.listener.seen(self.next)
        if self.next < engine.feed.end():
            self._loop.call_later(0 if len(rows) else AGAIN_S, self._turn)

    def _arrive(self) -> None:
        """A new start of the engine counts once everything before it has been handed over."""
        if self._coming is not None and self.next >= self._coming[1]:
            self.epoch = self._coming[0]
            self._coming = None
            self._on_epoch(self.epoch)
