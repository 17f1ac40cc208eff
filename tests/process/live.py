"""Venues that are sent one command at a time, each when all that the last one caused is done.

`Lockstep` is the venue of tests/venue.py, in this process. `Live` is a running exchange of real
processes behind the same few methods, with a clock that the test sets: what is sent, when, and what
`arrays` show between two commands are the same, so the two must come to the same bytes. `Live` can
be told to have a process of it killed at some command; it waits for the recovery then, hears what
was answered, and sends again what was not.

In the chain of commands that one sent command causes, settlement is as far as it happens to be: two
runs without any kill may differ there. What is to come to the bytes of a `Live` venue is therefore
a `RecordedLockstep`, which has that one's lag, and nothing else, from its WAL.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine import memory, proposals
from engine.sequencer import LAST_TS_NS
from engine.state import Limits
from shm import ingress
from shm.codes import ReportKind
from shm.config import load
from shm.cursors import JOURNALED, REPORTS_JOURNALED, SEQUENCED, SETTLED, matched
from shm.door import Door
from shm.records import COMMAND
from shm.segment import remove_segments
from shm.units import PRODUCER_SHIFT, REQUEST_NUMBER_MAX
from tests import venue
from tests.model.recorded import Recorded
from tests.process.helpers import SMALL, Witness, wait_until
from tests.process.helpers import Venue as Exchange
from tests.venue import DESK, EPOCH_NS, PRODUCERS

Array = np.ndarray[Any, Any]

PRODUCER: Final = "replay"  # the desk of tests/venue.py is this one too: number 4, of any kind
SCRIPTED: Final = Path(__file__).parent / "scripted"
NO_COMMANDS: Final = np.zeros(0, COMMAND.dtype)
SECONDS: Final = 60.0  # until something that must come is late
ROLES: Final = {
    "fused": ("engine", "engine", "engine", "journal", "publisher", "supervisor"),
    "split": ("risk", "risk", "match0", "match1", "sequencer", "journal", "supervisor"),
}


class Lockstep(venue.Venue):
    """One command at a time, in this process."""

    def set_time(self, at_ns: int) -> None:
        self.sequencer[LAST_TS_NS] = at_ns

    def work(self) -> None:
        waiting, self.outbox[DESK] = self.outbox[DESK], []
        for rows in waiting:
            for k in range(len(rows)):
                self.outbox[DESK].append(rows[k : k + 1])
                super().work()
        super().work()


class RecordedLockstep(Lockstep, Recorded):
    """One command at a time, with the lag of another venue's WAL (tests/model/recorded.py)."""


class Kill(NamedTuple):
    """A process to kill, and when: as soon as the engine has sequenced, or the journal made
    durable, so many commands from the one at hand on; 0: before that one is taken."""

    role: str
    cursor: int
    ahead: int


class Live(venue.Venue):
    """One command at a time, to an exchange of its own."""

    def __init__(
        self, folder: Path, instance: str, limits: Limits, topology: str, **settings: Any
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.limits = limits
        self.topology = topology
        clock = folder / "clock"
        clock.write_bytes(EPOCH_NS.to_bytes(8, "little"))
        with clock.open("r+b") as file:
            self._clock = mmap.mmap(file.fileno(), 8)
        chosen = {
            **{f"limits.{name}": value for name, value in limits._asdict().items()},
            "shards": 2 if topology == "split" else 1,
            "restarts_max": 1000,
            # Rings so small that a chain of commands is never all ahead of the journal.
            "rings.commands": 64,
            "rings.matches": 64,
            "rings.reports": 512,
            "wal.segment_bytes": SMALL["wal.segment_bytes"],
            **settings,
        }
        self.every = int(chosen.setdefault("checkpoint_every", 512))
        python_path = os.pathsep.join(filter(None, (str(SCRIPTED), os.environ.get("PYTHONPATH"))))
        self.exchange = Exchange(
            folder,
            instance,
            "--topology",
            topology,
            settings=chosen,
            environment={"PERPCORE_TEST_CLOCK": str(clock), "PYTHONPATH": python_path},
        )
        where = {"instance": instance, "data_dir": str(self.exchange.data), "topology": topology}
        self.config = load(None, {**SMALL, **chosen, **where})
        self.shards = self.config.shards
        self.witness = Witness(self.exchange)
        self.numbers = [0 for _ in PRODUCERS]
        self.outbox = [[] for _ in PRODUCERS]
        self.unanswered: dict[int, Array] = {}
        self.heard_count = 0
        self.kills: dict[int, Kill] = {}  # number of a command -> what happens after it was sent
        self.recovered: list[int] = []  # after each kill, the last command that came back
        self.exchange.start()
        self._attach(1)

    # ------------------------------------------------------------ its life

    def _attach(self, epoch: int) -> None:
        view = self.exchange.until_running(epoch)
        self.epoch = view.epoch
        self.first = int(view.engine["recovered_seq"])
        view.close()
        self.memory = memory.attach(self.config, self.epoch)
        self.arrays = self.memory.arrays
        self.cursors, self.venue = self.arrays["cursors"], self.arrays["venue"][0]
        self.door = Door(self.exchange.instance, PRODUCER)
        self.witness.attach(self.door.view)

    def _detach(self) -> None:
        self.door.close()
        self.witness.detach()
        self.memory.close()

    def pid_of(self, role: str) -> int:
        return self.exchange.pid if role == "supervisor" else self.exchange.worker(role)

    def die(self, role: str, pid: int) -> None:
        """kill -9 of one process; then the recovery, and whatever was not answered once more."""
        os.kill(pid, signal.SIGKILL)
        if role == "supervisor":
            self.exchange.until_ended()
            wait_until(
                lambda: not self.exchange.processes(), 10, "workers outlive their supervisor"
            )
            self.exchange.start()
        epoch = self.epoch
        self._detach()
        self._attach(epoch + 1)
        self.recovered.append(self.first)
        self.until_heard()
        for row in list(self.unanswered.values()):
            self._send(row)
            self.until_quiet()

    def stop(self) -> None:
        """In order; what is left to hear is heard."""
        self.until_heard()
        assert self.exchange.stop() == 0, self.exchange.said()[-4000:]
        self.witness.finish()
        self._detach()
        self.exchange.check_nothing_left()

    def end(self) -> None:
        """Whatever happened: nothing of it is left."""
        self.exchange.end()
        remove_segments(self.exchange.instance, dead_only=False)

    # ------------------------------------------------------------ its time

    @property
    def now(self) -> int:
        return int.from_bytes(self._clock[:8], "little")

    def set_time(self, at_ns: int) -> None:
        """And wait until no turn of the sequencer's goes on that has read the clock before."""
        self._clock[:8] = at_ns.to_bytes(8, "little")
        began = time.monotonic_ns()
        until = time.monotonic() + SECONDS
        while self.door.sequencer_heartbeat_ns() <= began:
            assert time.monotonic() < until, "the sequencer doesn't come by"
            self.door.send(NO_COMMANDS)  # wakes it

    def wait(self, ns: int) -> None:
        self.set_time(self.now + ns)

    # ------------------------------------------------------------ sending

    def _send(self, row: Array) -> None:
        assert self.door.send(row) == 1

    def work(self) -> None:
        waiting, self.outbox[DESK] = self.outbox[DESK], []
        for rows in waiting:
            for k in range(len(rows)):
                row = rows[k : k + 1]
                number = int(row["request"][0])
                self.unanswered[number] = row
                before = int(self.cursors[SEQUENCED])
                kill = self.kills.pop(number, None)
                if kill is None:
                    self._send(row)
                    self.until_quiet()
                else:
                    pid = self.pid_of(kill.role)  # to look it up lasts longer than a chain
                    self._send(row)
                    self._until(kill.cursor, before + kill.ahead)
                    self.die(kill.role, pid)
        self.hear()

    def _until(self, cursor: int, seq: int) -> None:
        """Until a cursor has come so far, or there is no more to come; it lasts microseconds."""
        until = time.monotonic() + SECONDS
        cursors = self.cursors
        while not any(cursors[cursor] >= seq for _ in range(1000)):
            if self.quiet() and self.cursors[JOURNALED] == self.cursors[SEQUENCED]:
                break
            assert time.monotonic() < until, "it neither goes on nor rests"

    # ------------------------------------------------------------ listening

    def quiet(self) -> bool:
        """Whether all that was sent, and all that came of it, is settled.

        Every command is one that was taken from the ring, one that was proposed, or a CHECKPOINT:
        none is between its queue and the ring of commands when they add up. Each count is read
        once: the sequencer says what it took from a queue before it says that it was sequenced.
        """
        c, queue = self.cursors, self.arrays["proposals"]
        ring = self.arrays[ingress.segment_name(PRODUCER)]
        seq = int(c[SEQUENCED])
        checkpoints = seq // self.every - self.first // self.every
        sent, proposed = int(ring[ingress.HEAD]), int(queue[proposals.TAKEN])
        return bool(
            seq == self.first + sent + proposed + checkpoints
            and sent == ring[ingress.TAIL]
            and seq == c[SETTLED]
            and all(seq == c[matched(k)] for k in range(self.shards))
            and proposed == queue[proposals.PUT]  # after SETTLED: what that proposed is there
            and seq == c[SEQUENCED]
        )

    def until_quiet(self) -> None:
        until = time.monotonic() + SECONDS
        while not self.quiet():
            assert time.monotonic() < until, f"it never rests:\n{self.exchange.said()[-3000:]}"
            time.sleep(0.0001)

    def until_heard(self) -> None:
        """Rest, durable and read."""

        def heard() -> bool:
            self.hear()
            made = int(self.venue["reports_count"])
            return self.quiet() and self.cursors[REPORTS_JOURNALED] == made == self.witness.count

        wait_until(heard, SECONDS, "not all of it is told")

    def hear(self) -> None:
        """Take the reports there are: an answered command isn't sent again."""
        while self.witness.take():
            pass
        for rows in self.witness.batches[self.heard_count :]:
            first = (rows["kind"] == ReportKind.ORDER) | (rows["kind"] == ReportKind.ANSWER)
            own = rows["request"] >> PRODUCER_SHIFT == PRODUCERS[DESK].id
            mask = (1 << PRODUCER_SHIFT) - 1
            for number in (rows["request"][first & own] & mask).tolist():
                self.unanswered.pop(number, None)
        self.heard_count = len(self.witness.batches)

    def all_reports(self) -> Array:
        self.until_heard()
        return self.witness.reports()


def some_kills(
    dice: random.Random, topology: str, log: Sequence[Array], count: int
) -> dict[int, Kill]:
    """Where to kill a venue that is to come to this log: four of five anywhere in the chains of
    commands that the engine itself proposes, the longer the likelier, one of five anywhere."""
    chains: list[tuple[int, int]] = []  # number of the client's command, what follows from it
    for c in log:
        if c["request"] != 0:
            chains.append((int(c["request"]) & REQUEST_NUMBER_MAX, 0))
        elif chains:
            chains[-1] = chains[-1][0], chains[-1][1] + 1
    kills = {}
    for _ in range(count):
        lengths = [length for _, length in chains]
        weights = lengths if dice.random() < 0.8 and any(lengths) else None
        number, length = dice.choices(chains, weights)[0]
        cursor = dice.choice((SEQUENCED, JOURNALED))
        kills[number] = Kill(dice.choice(ROLES[topology]), cursor, dice.randint(0, 1 + length))
    return kills


def kills_within(
    dice: random.Random, topology: str, log: Sequence[Array], kind: int
) -> dict[int, Kill]:
    """One kill amid a chain that has commands of this kind, next to one of them; none without."""
    found: list[tuple[int, int]] = []  # number of the client's command, how far behind it
    number = behind = 0
    for c in log:
        if c["request"] != 0:
            number, behind = int(c["request"]) & REQUEST_NUMBER_MAX, 0
        else:
            behind += 1
            if c["kind"] == kind:
                found.append((number, behind))
    if not found:
        return {}
    number, behind = dice.choice(found)
    cursor = dice.choice((SEQUENCED, JOURNALED))
    return {number: Kill(dice.choice(ROLES[topology]), cursor, max(behind - dice.randint(0, 2), 0))}
