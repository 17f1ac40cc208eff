"""The clock process: tells the engine what time it is, what sources say, and when to look.

    TICK           when a timer is due, and once a second
    SAMPLE         every declared contract, once a second
    SOURCE_PRICE   what the configured sources say (engine/sources.py)
    LIQUIDATE      what a scan of the shared tables finds unsafe (engine/liquidation_scan.py)

Reads   shared memory of a running engine: contracts, symbols, timers. Nobody writes to it here.
Writes  commands, through the ingress ring of producer "clock".
Never   decides anything. What it reads may be half written: a wrong guess costs an idle TICK, or
        waits for the one of the next second.

It holds no state of its own. What doesn't fit into a full ring is not sent again: the next TICK,
SAMPLE or price says the same and more. When the engine starts again it attaches to the new one;
killed, it is simply started again.
"""

from __future__ import annotations

import logging
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import numpy as np

from engine.forks import SIGNALS, die_with_server
from engine.liquidation_scan import Scan
from engine.memory import segment_parts
from engine.sources import Lines, Names, Quote, sources_of
from engine.worker import name_process
from shm.codes import Halt, Kind, State
from shm.config import Config, ConfigError
from shm.control import Phase
from shm.door import Door
from shm.kinds import command
from shm.logs import say, set_up
from shm.notify import notify
from shm.segment import Segment, SegmentError
from shm.units import SOURCES_MAX

LOG: Final = logging.getLogger("perpcore.clock")
PRODUCER: Final = "clock"
SECOND_NS: Final = 1_000_000_000
AGAIN_SECONDS: Final = 0.1  # between two looks for an engine
LATE_NS: Final = 10 * SECOND_NS  # a schedule further behind than this starts over

Arrays = dict[str, np.ndarray[Any, Any]]
Look = Callable[[Arrays], list[np.ndarray[Any, Any]]]


def timer_due(arrays: Arrays, now_ns: int) -> bool:
    """Whether a TICK at `now_ns` would find something to do."""
    venue = arrays["venue"][0]
    if int(venue["heap_count"]) > 0:
        slot = int(arrays["heap"][0])
        if 0 <= slot < len(arrays["claims"]) and arrays["claims"][slot]["expire_ns"] <= now_ns:
            return True
    if int(venue["countdown_count"]) > 0:
        row = int(arrays["countdowns"][0])
        if 0 <= row < len(arrays["positions"]) and (
            arrays["positions"][row]["countdown_ns"] <= now_ns
        ):
            return True
    c = arrays["contracts"]
    live = c["halted"] == Halt.NONE
    funding = (
        (c["funding_interval_ns"] > 0)
        & (c["funding_next_ns"] <= now_ns)
        & live
        & (c["funding_open"] == 0)
        & (arrays["symbols"]["mark_ticks"] > 0)
    )
    breaker = (c["breaker_until_ns"] > 0) & (c["breaker_until_ns"] <= now_ns)
    if bool((funding | breaker).any()):
        return True
    s = arrays["sources"]
    counted = (s["weight"] > 0) & (s["price_ticks"] > 0)
    if not counted.any():
        return False
    stale_ns = np.repeat(c["source_stale_ns"], SOURCES_MAX)
    fresh = counted & ((stale_ns == 0) | (s["price_ns"] + stale_ns >= now_ns))
    dead = ~fresh.reshape(-1, SOURCES_MAX).any(1)
    return bool((live & dead & (c["sources_count"] > 0)).any())


def is_due(due_ns: int, every_ns: int, now_ns: int) -> bool:
    """Whether a beat has come; one that is further ahead than a beat was made before a clock that
    has been set back."""
    return not 0 < due_ns - now_ns <= every_ns


def next_beat(due_ns: int, every_ns: int, now_ns: int) -> int:
    """The beat after this one: on time, unless it is too far off for that."""
    if abs(now_ns - due_ns) > LATE_NS:
        return now_ns + every_ns
    return due_ns + ((now_ns - due_ns) // every_ns + 1) * every_ns


class Clock:
    """One start of the engine, told the time until it ends."""

    def __init__(
        self,
        config: Config,
        scan: Look | None = None,
        log: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """scan: finds LIQUIDATE commands in the shared tables, called every turn.

        raises      SegmentError when the engine isn't running, or another clock is;
                    ConfigError when a source can't be had
        """
        self._config, self._scan, self._log = config, scan, log
        self.door = Door(config.instance, PRODUCER)
        self._sources: list[Any] = []
        try:
            parts = segment_parts(config)["risk"]
            self._risk = Segment.attach(config.instance, "risk", parts, self.door.view.epoch)
            self.arrays: Arrays = self._risk.arrays
            names = Names(self.arrays["symbols"], self.arrays["assets"])
            for source in sources_of(config, names, self._index_of):
                self._sources.append(source)
        except BaseException:
            self.close()
            raise
        self._request = self.door.next_request()
        self._next_look_ns = self._next_sample_ns = self._last_tick_ns = 0
        self._complained_ns = 0
        self.refused = 0  # commands that found the ring full

    def _index_of(self, symbol: int) -> int:
        return int(self.arrays["contracts"][symbol]["index_ticks"])

    def close(self) -> None:
        for source in self._sources:
            source.close()
        if hasattr(self, "_risk"):
            self.arrays = {}
            self._risk.close()
        self.door.close()

    # ------------------------------------------------------------ one turn

    def due(self, now_ns: int) -> list[np.ndarray[Any, Any]]:
        """What is to be said now, prices before ticks, and remember that it was said."""
        rows = [self._quote(q) for source in self._sources for q in source.poll(now_ns)]
        every_ns = self._config.clock.sample_ms * 1_000_000
        if is_due(self._next_sample_ns, every_ns, now_ns):
            self._next_sample_ns = next_beat(self._next_sample_ns, every_ns, now_ns)
            there = self.arrays["symbols"]["state"] != State.ABSENT
            for symbol in np.flatnonzero((self.arrays["contracts"]["declared"] == 1) & there):
                rows.append(command(Kind.SAMPLE, symbol=int(symbol)))
        every_ns = self._config.clock.tick_ms * 1_000_000
        if is_due(self._next_look_ns, every_ns, now_ns):
            self._next_look_ns = next_beat(self._next_look_ns, every_ns, now_ns)
            idle = not 0 <= now_ns - self._last_tick_ns < SECOND_NS
            if idle or timer_due(self.arrays, now_ns):
                self._last_tick_ns = now_ns
                rows.append(command(Kind.TICK))
        return rows

    @staticmethod
    def _quote(q: Quote) -> np.ndarray[Any, Any]:
        return command(
            Kind.SOURCE_PRICE,
            symbol=q.symbol,
            source=q.source,
            source_ticks=q.ticks,
            source_ns=q.source_ns,
        )

    def send(self, rows: list[np.ndarray[Any, Any]]) -> None:
        """Hand over what fits; the rest is said again soon enough."""
        if not rows:
            return
        batch = np.concatenate(rows)
        batch["request"] = self._request + np.arange(len(batch))
        taken = self.door.send(batch)
        self._request += taken
        self.refused += len(batch) - taken
        if taken < len(batch) and time.monotonic_ns() - self._complained_ns > SECOND_NS:
            self._complained_ns = time.monotonic_ns()
            self._log(f"the ring is full: {self.refused} commands not sent so far")

    def turn(self) -> None:
        self.send(self.due(time.time_ns()))
        if self._scan is not None:
            self.send(self._scan(self.arrays))

    def rest(self) -> None:
        """Until something is due, or a feeder speaks."""
        until_ns = min(self._next_look_ns, self._next_sample_ns)
        seconds = min(max(until_ns - time.time_ns(), 0) / 1e9, self._config.clock.tick_ms / 1e3)
        ears = [s for s in self._sources if isinstance(s, Lines)]
        if ears:
            select.select(ears, [], [], seconds)
        else:
            time.sleep(seconds)


class Stop:
    """Set by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def run(
    config: Config, *, scan: Look | None = None, until_stopped: bool = False, quiet: bool = False
) -> int:
    """Tell every start of the engine the time until a signal comes; returns the exit code.

    until_stopped   end when the engine has been stopped in order, as part of `perpcore up`
    """

    set_up("clock", config.instance, "error" if quiet else config.log_level)

    def log(text: str) -> None:
        say(LOG, logging.INFO, text)

    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    name_process("pc-clock")
    said = ""
    notify("READY=1\nSTATUS=waiting for the engine")
    while not stop.asked:
        notify("WATCHDOG=1")
        try:
            clock = Clock(config, scan or Scan(), log)
        except SegmentError as error:
            if str(error) != said:
                said = str(error)
                log(said)
            time.sleep(AGAIN_SECONDS)
            continue
        except ConfigError as error:
            say(LOG, logging.ERROR, str(error))
            return 1
        said = ""
        say(LOG, logging.INFO, "attached", epoch=clock.door.view.epoch)
        notify(f"STATUS=epoch {clock.door.view.epoch}")
        try:
            beat_ns = 0
            while not stop.asked and clock.door.open:
                clock.turn()
                if time.monotonic_ns() - beat_ns > SECOND_NS:
                    beat_ns = time.monotonic_ns()
                    notify("WATCHDOG=1")
                clock.rest()
            if until_stopped and clock.door.view.phase in (Phase.STOPPED, Phase.DRAINING):
                return 0
        finally:
            clock.close()
    notify("STOPPING=1")
    return 0


def main(config: Config) -> None:
    """Entry of the process that `perpcore up` starts beside the engine."""
    die_with_server()
    sys.exit(run(config, until_stopped=True, quiet=True))
