"""`perpcore simulate`: the whole exchange in one process from a seed, killed again and again.

Reads   a seed. Nothing else decides what happens: not time, not the host.
Writes  a data directory in shared memory, by the real journal; recovers it by the real recovery.
Never   leaves anything behind, and never goes on after something was wrong.

A history is a number of steps. Each one is drawn from (seed, its number) alone: traffic of several
gateways, a desk and a clock, into rings that are often full; one stage, by some amount; the
journal; followers (tools/simulatefollow.py) that read, lag, or keep a checkpoint; a snapshot, or
half of one; time that passes; or a crash. A crash is a kill (the page cache survives), or a power
cut (tools/simulatedisk.py), between two rounds of the journal or within one, and perhaps a bit of
the newest snapshot has turned meanwhile. Then it recovers, perhaps to die again before it has done
anything; gateways send again what nobody answered, and it goes on.

What is checked after each recovery
    1  every command that was acknowledged is there, at its place, byte for byte, and no other
    2  the state, and every report, are those that a replica derives from the log alone
    3  a follower reads on where it was and finds the reports that it had seen unchanged
    4  a request is carried out once, however often it was sent
    5  when nothing is in flight, the laws hold (tools/laws.py), and account view and ledger say
       what the engine's tables say
    6  a disk that lies about a sync is found out, or had lost nothing that mattered

A failure prints the one line that repeats it, cut down to the steps it needs.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from engine import recovery
from engine.files import DataError
from engine.journal import JournalFailed
from engine.memory import limits_of
from engine.pipeline import Stage
from engine.recovery import kept_tables
from engine.replay import Diverged, Replayer
from engine.reportlog import ReportDamage
from engine.snapshotfile import list_snapshots, snapshot_path
from engine.wal import create_wal
from ledger.files import LedgerError
from shm import config as configs
from shm.codes import Kind, Reason, ReportKind, Status
from shm.cursors import JOURNALED, REPORTS_JOURNALED, RISKED, SEQUENCED
from shm.kinds import command
from shm.records import ANSWER_REPORT, REPORT
from shm.units import PRODUCER_SHIFT
from tools.inprocess import EPOCH_NS, fresh_arrays, wal_rows
from tools.laws import check_laws
from tools.simulatedisk import ALL, Died, Disk, dying
from tools.simulateengine import Engine
from tools.simulateflow import PRODUCERS, SECOND, Traffic, market
from tools.simulatefollow import Followers

PAGE: Final = 4096
STEPS: Final = 400
TRIES_MAX: Final = 60  # histories played to shrink one
BOOKS_EVERY: Final = 4  # one history in so many keeps the ledger too
# Rings: (shards, commands, matches, reports, ingress).
SHAPES: Final = (
    (1, 256, 256, 1024, 256),
    (2, 64, 64, 256, 16),
    (3, 64, 64, 256, 32),
    (2, 256, 64, 512, 16),
)
LIMITS: Final = configs.Limits(
    accounts=32,
    assets=2,
    symbols=4,
    positions=96,
    orders=256,
    clients=256,
    algos=128,
    requests=64,
    client_window_ns=60 * SECOND,
    digests=128,
    leaves=64,
    trie=64,
)


RING_OF: Final = {producer.id: ring for ring, producer in enumerate(PRODUCERS)}


class Broken(Exception):
    """Something that must hold does not."""


@dataclass
class Outcome:
    """Of one history."""

    seed: int
    steps: int
    broken: str = ""
    at: int = 0  # the step
    crashes: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    detected: int = 0  # lying disks found out
    snapshots: int = 0
    rotten: int = 0  # of them, how many got a turned bit
    digest: int = 0  # of every report, and of every file
    died_recovering: int = 0  # recoveries that were cut short themselves, before another one

    @property
    def recoveries(self) -> int:
        return sum(self.crashes.values())


class History:
    """One seed."""

    def __init__(
        self, seed: int, data: Path, *, lying: bool = False, checkpoint_every: int = 0
    ) -> None:
        """checkpoint_every: commands between two CHECKPOINTs; 0: as the seed says"""
        self.seed = seed
        self.data = data
        self.lying = lying
        self.shape = SHAPES[seed % len(SHAPES)]
        self.outcome = Outcome(seed, 0)
        self.traffic = Traffic()
        chance = random.Random(f"{seed} wal")
        self.config = configs.Config(
            data_dir=str(data),
            shards=self.shape[0],
            limits=LIMITS,
            wal=configs.Wal(
                segment_bytes=PAGE * chance.choice((6, 16, 48)),
                block_bytes_max=PAGE * chance.choice((1, 2, 4)),
                heartbeat_ms=3_600_000,
                preallocate=1,
                io=chance.choice(("direct", "mmap")),
                report_log_bytes_max=1 << 40,
            ),
        )
        self.limits = limits_of(self.config)
        self.unanswered: list[dict[int, np.ndarray[Any, Any]]] = [{} for _ in PRODUCERS]
        self.numbers = [0 for _ in PRODUCERS]
        self.done: dict[int, int] = {}  # request -> command that carried it out
        self.heard = 0  # reports a follower has read
        self.seen: list[np.ndarray[Any, Any]] = []  # and what they were
        self.fed = 0  # of them, how many the replica has
        self.replica_reports: list[np.ndarray[Any, Any]] = []
        shards = self.shape[0] % 3 + 1
        arrays = fresh_arrays(self.limits, shards, commands=1024, matches=256, reports=2048)
        keep = lambda _at, rows: self.replica_reports.append(rows.copy())  # noqa: E731
        self.replica = Replayer(arrays, self.limits, shards, keep)
        self.disk = Disk(data, mapped=self.config.wal.io == "mmap")
        self.followers: Followers | None = None
        every = checkpoint_every or chance.choice((24, 96, 1 << 40))
        self.venue = Engine(self.config, self.limits, self.shape, every)
        self.log = self.venue.log  # every command that was decided, by seq
        self.derive_anew = False  # something in the report log was garbled
        # A name from the seed: it is in every block, and what is torn depends on what was there.
        create_wal(data, self.config.wal.segment_bytes, chance.randbytes(16))
        self.start()
        self.followers = Followers(data, self.limits, books=seed % BOOKS_EVERY == 0)
        for ring, kind, fields in market(EPOCH_NS):
            self.send(ring, kind, fields)
        self.settle_down()

    # ------------------------------------------------------------ life and death

    def start(self) -> None:
        """Recover from what is on disk, and be ready for traffic."""
        self.venue.start()
        self.disk.durable.clear()
        self.disk.sync()

    def stop(self) -> None:
        """The process is gone; its files stay as they are."""
        self.venue.stop()

    def acknowledged(self) -> tuple[int, int]:
        """(commands, reports) that anybody outside may know of."""
        c = self.venue.cursors
        return int(c[JOURNALED]), int(c[REPORTS_JOURNALED])

    def crash(self, chance: random.Random, die_after: int | None = None) -> None:
        """Die somewhere, and come back.

        die_after   calls of recovery, then die in it as well
        """
        v = self.venue
        power = chance.random() < 0.6
        within = chance.random() < 0.6
        if self.lying and power:
            self.lie(chance)
            return
        known = self.acknowledged()
        how = ("power" if power else "kill") + (" in a round" if within else "")
        self.disk.sync(*self.synced())
        if within:
            self.round_cut_short(chance, power)
        v.keep()
        self.stop()
        garbled = self.disk.cut(chance) if power else set()
        self.outcome.crashes[how] += 1
        self.derive_anew = any(path.parent.name == "reports" for path in garbled)
        self.rot(chance)
        decided = int(v.cursors[RISKED])
        if die_after is None and chance.random() < 0.1:
            die_after = chance.randrange(25)
        if die_after is not None:
            self.die_recovering(die_after, chance, power)
        self.come_back(known, decided)
        while chance.random() < 0.25:
            # Dead again before it has done anything: recovery of a recovery.
            known, decided = self.acknowledged(), int(v.cursors[RISKED])
            self.stop()
            if power:
                self.disk.cut(chance)
            self.outcome.crashes["again"] += 1
            self.come_back(known, decided)
        assert self.followers is not None
        self.followers.crash(chance, power, self.read_again)

    def die_recovering(self, calls: int, chance: random.Random, power: bool) -> None:
        """Die again before recovery has come to its end: the next one has what this one left."""
        disk = self.disk
        disk.durable.clear()
        disk.sync()  # what the cut has left is what there is
        try:
            with dying(calls, disk.sync_one):
                self.venue.recover()
        except Died:
            self.outcome.died_recovering += 1
        except (Diverged, ReportDamage):
            if not self.derive_anew:
                raise
        if power:
            self.derive_anew |= any(path.parent.name == "reports" for path in disk.cut(chance))

    def read_again(self, index: int, count: int) -> np.ndarray[Any, Any]:
        """Reports from the log; from a replay of the WAL where the log was made anew behind a
        snapshot, and doesn't reach back so far."""
        try:
            return self.venue.feed_.read(index, count)
        except ReportDamage as damage:
            if "is not in the log" not in str(damage):
                raise
            self.advance(self.venue.recovered.seq)
            self.replica.feed(wal_rows(()), end=True)
            told = np.concatenate([*self.replica_reports, np.zeros(0, REPORT.dtype)])
            return told[index : index + count]

    def rot(self, chance: random.Random) -> None:
        """A bit of the newest snapshot turns: the one before it must do."""
        found = list_snapshots(self.data)
        if len(found) > 1 and chance.random() < 0.1:
            content = bytearray(found[0].read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            found[0].write_bytes(content)
            self.outcome.rotten += 1

    def snapshot(self, chance: random.Random) -> None:
        """Take one beside the engine, or die in the middle of it, or leave half a file."""
        if chance.random() < 0.2:
            half = snapshot_path(self.data, 1 + self.venue.recovered.seq).with_suffix(".tmp")
            half.parent.mkdir(exist_ok=True)
            half.write_bytes(chance.randbytes(chance.randrange(PAGE)))
            return
        # It syncs the reports before it: recovery looks at none of them again.
        calls = chance.randrange(12) if chance.random() < 0.25 else ALL
        with suppress(Died), dying(calls, self.disk.sync_one):
            if recovery.take(self.data, self.limits, keep=2).path is not None:
                self.outcome.snapshots += 1

    def synced(self) -> list[Path]:
        """Files that are durable whenever a round of the journal has ended."""
        return [path for path in self.disk.files() if path.parent.name != "reports"]

    def round_cut_short(self, chance: random.Random, power: bool) -> None:
        """A round of the journal, not to its end: nobody heard that it returned."""
        read = self.disk.read
        before = {path: read(path) for path in self.disk.files()}
        self.venue.journal()
        mark = self.data / "durable"
        if chance.random() < 0.5:
            # After the sync of the block, and before that of the watermark.
            self.disk.sync(*(path for path in self.synced() if path != mark))
            return
        # Before the sync of the block: the watermark isn't written yet, nor any report that this
        # round has let go.
        mark.write_bytes(before[mark])
        for path in self.disk.files():
            if path.parent.name != "reports":
                continue
            if path not in before:
                path.unlink()
            elif read(path) != before[path]:
                path.write_bytes(before[path])
        changed = [p for p in self.synced() if p != mark and p in before and read(p) != before[p]]
        if not power and changed and chance.random() < 0.5:
            # Killed amid the write.
            old, new = before[changed[0]], read(changed[0])
            words = np.frombuffer(old, np.int64) != np.frombuffer(new, np.int64)
            upto = 8 * (int(words.argmax()) + chance.randint(0, 1024))
            changed[0].write_bytes(new[:upto] + old[upto:])

    def lie(self, chance: random.Random) -> None:
        """A disk that said it had synced a block, and had not; the watermark it did write."""
        v = self.venue
        for _ in range(3):
            self.send(*self.traffic.next(chance, v.now))
        v.feed()
        v.sequence()
        v.risk()
        before = {path: path.read_bytes() for path in self.disk.files() if path.suffix == ".seg"}
        mark = v.cursors[JOURNALED]
        v.journal()
        known = self.acknowledged()
        self.stop()
        lost = known[0] > mark and chance.random() < 0.8
        if lost:
            for path, content in before.items():
                if path.parent.name == "wal":
                    path.write_bytes(content)
        self.outcome.crashes["lying disk" if lost else "power"] += 1
        try:
            self.come_back(known, int(v.cursors[RISKED]))
        except DataError:
            if not lost:
                raise
            self.outcome.detected += 1
            raise _Over from None
        if lost:
            raise Broken(f"a lying disk lost commands after {int(mark)}, and nobody noticed")

    def come_back(self, known: tuple[int, int], decided: int) -> None:
        """Recover, and compare with what was known before."""
        try:
            self.start()
        except (Diverged, ReportDamage) as error:
            if not self.derive_anew:
                raise Broken(f"recovery: {error}") from error
            # The report log isn't synced, and its last group has no hash yet. Recovery refuses
            # what it can't tell from another history, and says what to do: this.
            for path in self.data.glob("reports/*"):
                path.unlink()
            self.start()
        self.derive_anew = False
        seq = self.venue.recovered.seq
        if seq < known[0]:
            raise Broken(f"commands up to {known[0]} were acknowledged, {seq} came back")
        if seq > decided:
            raise Broken(f"command {seq} came back, and {decided} was the last one")
        told, came_back = max(self.heard, known[1]), self.venue.recovered.reports
        if came_back < told:
            raise Broken(f"report {came_back} of {told} that could be read is nowhere")
        del self.log[seq:]
        self.compare()
        # Every other time gateways are quicker than the news: they send what was done already.
        if self.venue.recovered.epoch % 2:
            self.follow(1 << 30)
        for ring, waiting in enumerate(self.unanswered):
            self.venue.outbox[ring] = [waiting[number] for number in sorted(waiting)]

    def compare(self) -> None:
        """The replica, fed with what was decided before the crash, has the same state."""
        self.advance(self.venue.recovered.seq)
        self.replica.feed(wal_rows(()), end=True)
        mine = kept_tables(self.venue.arrays, self.limits)
        other = kept_tables(self.replica.arrays, self.limits)
        for name, rows in mine.items():
            if rows.tobytes() != other[name].tobytes():
                raise Broken(f"table {name} differs from what a replica derives")

    def advance(self, upto: int) -> None:
        """Let the replica follow as far as the log is durable."""
        if upto > self.fed:
            self.replica.feed(wal_rows(self.log[self.fed : upto]))
            self.fed = upto

    # ------------------------------------------------------------ traffic

    def send(self, ring: int, kind: int, fields: dict[str, Any]) -> None:
        """Hand a command to a gateway, which keeps it until it is answered."""
        self.numbers[ring] += 1
        row = command(kind, **fields, request=self.numbers[ring])
        self.unanswered[ring][self.numbers[ring]] = row
        self.venue.outbox[ring].append(row)
        self.outcome.commands += 1

    def follow(self, most: int) -> int:
        """Read reports as a gateway does, and hear the answers among them."""
        total = 0
        while total < most:
            rows = self.read_again(self.heard, min(most - total, 512)).copy()
            if not len(rows):
                break
            self.hear(rows)
            if self.followers is not None:
                self.followers.hear(rows)
            self.seen.append(rows)
            self.heard += len(rows)
            total += len(rows)
        return total

    def hear(self, rows: np.ndarray[Any, Any]) -> None:
        orders = rows["kind"] == ReportKind.ORDER
        first = rows[(orders | (rows["kind"] == ReportKind.ANSWER)) & (rows["request"] != 0)]
        of_answers = first.view(ANSWER_REPORT.dtype)["reason"]
        reasons = np.where(first["kind"] == ReportKind.ORDER, first["reason"], of_answers)
        told = (first["request"].tolist(), first["seq"].tolist(), reasons.tolist())
        for request, seq, reason in zip(*told, strict=True):
            self.answered(request, seq, duplicate=reason == Reason.DUPLICATE_REQUEST)
        new = (rows["kind"] == ReportKind.ORDER) & (rows["status"] == Status.NEW)
        for row in rows[new & (rows["command"] == Kind.PLACE)]:
            self.traffic.hear(int(row["account"]), int(row["symbol"]), int(row["order_id"]))

    def answered(self, request: int, seq: int, *, duplicate: bool) -> None:
        """An answer: the request is done, or was done before."""
        ring = RING_OF[request >> PRODUCER_SHIFT]
        self.unanswered[ring].pop(request & (1 << PRODUCER_SHIFT) - 1, None)
        if duplicate:
            if request not in self.done:
                raise Broken(f"request {request:x} was refused as a duplicate, and never done")
        elif self.done.setdefault(request, seq) != seq:
            raise Broken(f"request {request:x} was done by {self.done[request]} and by {seq}")

    # ------------------------------------------------------------ steps

    def step(self, number: int) -> None:
        """What happens at a step depends on the seed and its number alone."""
        chance = random.Random(f"{self.seed} {number}")
        assert self.followers is not None
        v = self.venue
        v.random = chance
        what = chance.random()
        if what < 0.275:
            for _ in range(chance.choice((1, 2, 5, 12))):
                self.send(*self.traffic.next(chance, v.now))
            v.feed(chance.choice((1, 3, 64)))
        elif what < 0.38:
            v.sequence()
        elif what < 0.485:
            v.risk()
        elif what < 0.575:
            v.match(chance.randrange(v.shards))
        elif what < 0.685:
            v.journal()
        elif what < 0.745:
            self.follow(chance.choice((1, 16, 512)))
        elif what < 0.77:
            v.wait(chance.choice((1, SECOND // 3, SECOND, 7 * SECOND)))
        elif what < 0.805:
            v.feed()
            v.turn(Stage.SEQUENCE | Stage.RISK | Stage.SETTLE | Stage.MATCH, (1 << v.shards) - 1)
            v.journal()
        elif what < 0.817:
            self.settle_down()
        elif what < 0.82:
            self.advance(self.acknowledged()[0])
        elif what < 0.829:
            self.snapshot(chance)
        elif what < 0.839:
            self.followers.checkpoint(chance, self.read_again)
        else:
            self.crash(chance)

    def settle_down(self) -> None:
        """Nothing in flight: the laws hold, and everything was answered."""
        v = self.venue
        v.seed = None
        v.work()
        v.seed = 0
        self.follow(1 << 30)
        check_laws(v)
        if self.followers is not None:
            self.followers.settle()
            if other := self.followers.differs(v.arrays, self.limits):
                raise Broken(f"{other} is not the engine's")
        waiting = sum(map(len, self.unanswered))
        if waiting:
            raise Broken(f"{waiting} commands were never answered")

    def finish(self) -> None:
        """The end: everything settled, and every report the replica's."""
        self.settle_down()
        v = self.venue
        self.advance(len(self.log))
        self.replica.feed(wal_rows(()), end=True)
        mine, other = np.concatenate(self.seen), np.concatenate(self.replica_reports)
        if mine.tobytes() != other.tobytes():
            at = int(np.flatnonzero(mine[: len(other)] != other[: len(mine)])[:1].sum())
            raise Broken(f"a follower's report {at} of {len(mine)} isn't the one the log gives")
        if len(v.log) != v.cursors[SEQUENCED]:
            raise Broken("not every command was decided")

    def digest(self) -> int:
        """What two runs of one seed have in common: every report, and every byte of the logs."""
        found = hashlib.blake2b(b"".join(rows.tobytes() for rows in self.seen), digest_size=8)
        for path in self.disk.files():
            found.update(path.name.encode() + path.read_bytes())
        return int.from_bytes(found.digest())

    def run(self, steps: int, without: frozenset[int] = frozenset()) -> Outcome:
        """Play so many steps, but those left out; `broken` says what was wrong."""
        outcome = self.outcome
        outcome.steps = steps
        try:
            for number in range(1, steps + 1):
                outcome.at = number
                if number not in without:
                    self.step(number)
            outcome.at = steps + 1
            self.finish()
            outcome.digest = self.digest()
        except _Over:
            pass
        except (
            Broken,
            AssertionError,
            DataError,
            JournalFailed,
            Diverged,
            ReportDamage,
            LedgerError,
        ) as error:
            outcome.broken = f"{type(error).__name__}: {error}"
        finally:
            self.stop()
            if self.followers is not None:
                self.followers.close()
        return outcome


class _Over(Exception):
    """A history that rightly can't go on: the disk was found out."""


# ---------------------------------------------------------------- many of them


def simulate(
    seed: int, steps: int = STEPS, *, lying: bool = False, without: frozenset[int] = frozenset()
) -> Outcome:
    """One history in a directory of its own in shared memory."""
    shm = Path("/dev/shm")
    gc.disable()  # thousands of small objects live as long as a history: look for garbage after it
    try:
        with tempfile.TemporaryDirectory(
            prefix="perpcore-simulate-", dir=shm if shm.is_dir() else None
        ) as folder:
            return History(seed, Path(folder) / "data", lying=lying).run(steps, without)
    finally:
        gc.enable()


def shrink(outcome: Outcome, lying: bool) -> frozenset[int]:
    """Steps that the failure doesn't need: leave out ever smaller runs of them."""
    last = min(outcome.at, outcome.steps)
    kind = outcome.broken.partition(":")[0]
    without: frozenset[int] = frozenset()
    size = max(1, last // 2)
    tries = 0
    while size >= 1 and tries < TRIES_MAX:
        for first in range(1, last, size):
            chunk = frozenset(range(first, min(first + size, last))) - without
            if not chunk or tries >= TRIES_MAX:
                continue
            tries += 1
            again = simulate(outcome.seed, last, lying=lying, without=without | chunk)
            if again.broken.partition(":")[0] == kind:
                without |= chunk
        size //= 2
    return without


def repeat_line(outcome: Outcome, lying: bool, without: frozenset[int]) -> str:
    """The one line that repeats a failure."""
    last = min(outcome.at, outcome.steps)
    line = f"perpcore simulate --seed {outcome.seed} --steps {last}"
    if lying:
        line += " --lying"
    return f"{line} --without {ranges(without)}" if without else line


def ranges(numbers: frozenset[int]) -> str:
    """1-3,7 for 1, 2, 3 and 7."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(numbers), -1]:
        if run and number != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        run.append(number)
    return ",".join(parts)


def numbers_of(text: str) -> frozenset[int]:
    """The other way round; ValueError when it isn't that."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def main(
    *, seed: int, runs: int, steps: int, lying: bool, without: str, for_ever: bool, as_json: bool
) -> int:
    """Run histories; 0: all held, 1: one is broken, and how to repeat it is said."""
    left_out = numbers_of(without)
    logging.getLogger("engine").setLevel(logging.CRITICAL)  # of torn logs there are thousands
    gc.freeze()  # what is loaded by now is no garbage of a history
    total = Outcome(seed, steps)
    began, cpu = time.monotonic(), time.process_time()
    done = 0
    say: Callable[[str], None] = (lambda _text: None) if as_json else click.echo
    while for_ever or done < runs:
        outcome = simulate(seed + done, steps, lying=lying, without=left_out)
        done += 1
        total.crashes += outcome.crashes
        total.commands += outcome.commands
        total.detected += outcome.detected
        total.snapshots += outcome.snapshots
        total.rotten += outcome.rotten
        total.died_recovering += outcome.died_recovering
        total.digest = total.digest * 31 + outcome.digest & (1 << 64) - 1
        if outcome.broken:
            return _failed(outcome, lying, left_out, as_json)
        if for_ever and done % 100 == 0:
            rate = total.recoveries / (time.monotonic() - began)
            say(f"{done} histories, {total.recoveries} recoveries, {rate:.0f} a second, all held")
    seconds, busy = time.monotonic() - began, time.process_time() - cpu
    result = {
        "ok": True,
        "seeds": [seed, seed + done - 1],
        "steps": steps,
        "commands": total.commands,
        "recoveries": total.recoveries,
        "crashes": dict(sorted(total.crashes.items())),
        "lying_disks_detected": total.detected,
        "snapshots": total.snapshots,
        "snapshots_damaged": total.rotten,
        "recoveries_cut_short": total.died_recovering,
        "digest": f"{total.digest:016x}",
        "recoveries_per_second": round(total.recoveries / max(seconds, 1e-9), 1),
        "recoveries_per_cpu_second": round(total.recoveries / max(busy, 1e-9), 1),
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        kinds = ", ".join(f"{n} {k}" for k, n in sorted(total.crashes.items()))
        say(
            f"{done} histories of {steps} steps held: {total.commands} commands, "
            f"{total.recoveries} recoveries ({kinds}), {result['recoveries_per_second']} a second, "
            f"{result['recoveries_per_cpu_second']} a second of one core"
        )
    return 0


def _failed(outcome: Outcome, lying: bool, left_out: frozenset[int], as_json: bool) -> int:
    without = left_out or shrink(outcome, lying)
    line = repeat_line(outcome, lying, without)
    if as_json:
        failure = {"ok": False, "seed": outcome.seed, "step": outcome.at, "repeat": line}
        click.echo(json.dumps({**failure, "broken": outcome.broken}, indent=2))
    else:
        click.echo(f"BROKEN  seed {outcome.seed}, step {outcome.at}: {outcome.broken}")
        click.echo(f"repeat  {line}")
    return 1
