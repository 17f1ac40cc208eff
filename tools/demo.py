"""The process that sends the demo's traffic: turn after turn, on every start of the engine.

Reads   the flow of commands (tools/demoflow.py); what time it is.
Writes  commands through the ingress ring of producer "demo".
Never   hears what becomes of them, and never is needed: the engine doesn't know that this is no
        gateway.

Turn k is due k turns after the demo began, by the clock on the wall: what depends on that clock is
when a turn is sent, and which turns are left out because nobody ran, the ring was full, or this
process had no processor for LATE_TURNS. Each start of the engine is told what is declared first;
what exists already is refused, and that is fine.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.forks import SIGNALS, die_with_server
from engine.worker import name_process
from shm.codes import Kind
from shm.control import Phase
from shm.door import Door
from shm.notify import notify
from shm.records import SOURCE_COMMAND
from shm.segment import SegmentError
from tools import demopath
from tools.demoflow import TURN_NS, TURNS_A_SECOND, Flow
from tools.demomarket import FUNDING_NS, declarations

PRODUCER: Final = "demo"
WAIT_SECONDS: Final = 120.0  # for the engine to come back
LATE_TURNS: Final = TURNS_A_SECOND  # what is later than that is left out


class Trader:
    """One start of the engine, traded on until it ends."""

    def __init__(self, instance: str, flow: Flow, began_ns: int, funding_ns: int) -> None:
        """began_ns: the time of turn 0. Raises SegmentError when the engine isn't running."""
        self.flow, self.began_ns = flow, began_ns
        self.door = Door(instance, PRODUCER)
        self.request = self.door.next_request()
        self.outbox: deque[np.ndarray[Any, Any]] = deque(
            [np.concatenate([*declarations(funding_ns)])]
        )
        self.next = self.due()

    def due(self) -> int:
        """The turn that is due now."""
        return max(time.time_ns() - self.began_ns, 0) // TURN_NS

    def step(self) -> None:
        """Send what is due, and what a full ring left."""
        due = self.due()
        if due - self.next > LATE_TURNS or due < self.next - LATE_TURNS:
            self.next = due
        while self.next <= due and not self.outbox:
            rows = self.flow.turn(self.next)
            self.next += 1
            if len(rows):
                self.outbox.append(rows)
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Hand over what is queued; what doesn't fit waits, and no turn begins before it."""
        while self.outbox:
            rows = self.outbox.popleft()
            rows["request"] = self.request + np.arange(len(rows))
            prices = rows.view(SOURCE_COMMAND.dtype)[rows["kind"] == Kind.SOURCE_PRICE]
            if len(prices):
                prices["source_ns"] = time.time_ns()
                rows[rows["kind"] == Kind.SOURCE_PRICE] = prices.view(rows.dtype)
            taken = self.door.send(rows)
            self.request += taken
            if taken < len(rows):
                self.outbox.appendleft(rows[taken:])
                return

    def run(self, stop: list[int]) -> Phase:
        """Trade until the engine stops, or `stop` has something in it; returns the phase."""
        while self.door.open and not stop:
            self.step()
            wait_ns = self.began_ns + self.next * TURN_NS - time.time_ns()
            time.sleep(min(max(wait_ns, 1_000_000), TURN_NS) / 1e9)
        return self.door.view.phase


def trade(
    instance: str, flow: Flow, began_ns: int, funding_ns: int, *, until_stopped: bool
) -> None:
    """Trade on every start of the engine, until SIGTERM.

    until_stopped   or until it has been stopped in order, or stays away too long
    """
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    name_process("pc-demo")
    until = time.monotonic() + WAIT_SECONDS
    while not stop and not (until_stopped and time.monotonic() > until):
        with suppress(SegmentError):
            trader = Trader(instance, flow, began_ns, funding_ns)
            notify("READY=1")
            try:
                if trader.run(stop) == Phase.STOPPED and until_stopped:
                    return
            finally:
                trader.door.close()
            until = time.monotonic() + WAIT_SECONDS
        time.sleep(0.05)


def main(instance: str, rate: int) -> None:
    """Entry of the process that `perpcore up --traffic` starts: it tells the prices itself.

    Its turns are counted from 1970: started again it goes on, and no client id comes twice.
    """
    die_with_server()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    flow = Flow(1, rate, demopath.paths(1, 1.0), tell=True)
    trade(instance, flow, 0, FUNDING_NS, until_stopped=True)


def run(data: Path) -> None:
    """Entry of the process of `perpcore demo`: everything it needs to know is in the directory."""
    from tools.demoplan import config_of_demo, paths_folder, read_plan

    plan, config = read_plan(data), config_of_demo(data)
    flow = Flow(plan.seed, plan.rate, demopath.read(paths_folder(data)))
    trade(config.instance, flow, plan.began_ns, plan.funding_ns, until_stopped=False)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
