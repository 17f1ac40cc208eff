"""A whole venue in one process: sequence, risk, match and settle over private arrays.

    v = Venue(limits, shards=2, commands=16, matches=8, reports=64, seed=7)
    v.send(Kind.ASSET, asset=0, scale=6, name="USDT")
    reports = v.drain()                         # decoded, in order

Reads and writes nothing outside its own arrays. `drain` calls pipeline.turn until nothing is left
to do: with a seed the stages run in a random order and by random amounts, and the journal and the
reader of reports lag at random, so that risk and settlement interleave as they may in production.
Without one, each stage does all it can, in order, so that settlement is always close behind.

Time stands still: every command is stamped `now` until `wait` moves it.

`log` holds what a WAL would: the commands with the settlement each was decided after.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numba import typeof

from engine import pipeline
from engine.book import resting
from engine.pipeline import Stage
from engine.proposals import PUT, TAKEN
from engine.recovery import propose_again, taken_proposals
from engine.replay import Replayer
from engine.sequencer import LAST_TS_NS
from engine.setup import FUNDING_SLICE, SLICE_APART
from engine.state import (
    Limits,
    allocate,
    risk_tables,
    shard_tables,
    shared_book_tables,
)
from shm import cursors, ingress
from shm.codes import Kind, PositionSide, Reason, ReportKind, Side, Status, Stp, Tif, Type
from shm.config import Producer
from shm.jit import BOUNDSCHECK, PLAIN
from shm.kinds import REPORT_RECORDS, command
from shm.pointers import Table, array_of, table
from shm.records import COMMAND, REPORT

LIMITS: Final = Limits(
    accounts=32,
    assets=2,
    symbols=6,
    positions=128,
    orders=512,
    clients=256,
    client_window_ns=60_000_000_000,
    leaves=600,
    trie=600,
)
EPOCH_NS: Final = 4_000_000_000_000_000_000  # ahead of every clock: the venue's time is its own

CLOCK, DESK, GATEWAY = range(3)  # the rings, in the order they are drained
PRODUCERS: Final = (
    Producer(name="clock", id=1, kinds=("clock",)),
    Producer(name="desk", id=4, kinds=("any",), privileged=True),
    Producer(name="gateway", id=8, kinds=("order",)),
)

ENUMS = {
    "side": Side,
    "type": Type,
    "tif": Tif,
    "reason": Reason,
    "position_side": PositionSide,
    "stp": Stp,
}


def words_text(words: Any) -> str:
    return np.asarray(words, np.int64).tobytes().rstrip(b"\0").decode("latin1")


def decode(row: Any) -> dict[str, Any]:
    """A report as a dict of names and numbers."""
    kind = ReportKind(int(row["kind"]))
    view = np.asarray(row).reshape(1).view(REPORT_RECORDS.get(kind, REPORT).dtype)[0]
    said: dict[str, Any] = {}
    for name in view.dtype.names:
        value = view[name]
        if name == "client_id":
            said[name] = words_text(value)
        elif name == "payload":
            said[name] = value.tolist()
        elif value.ndim == 0:
            said[name] = int(value)
    said["kind"] = kind.name
    if kind == ReportKind.ORDER:
        said["status"] = Status(said["status"]).name
        said["command"] = Kind(said["command"]).name
        for name, enum in ENUMS.items():
            # What was rejected may say anything.
            said[name] = enum(said[name]).name if said[name] in list(enum) else said[name]
    elif kind == ReportKind.ANSWER:
        said["status"] = name_of(Kind, said["status"])
        said["reason"] = Reason(said["reason"]).name
    return said


def name_of(enum: Any, value: int) -> Any:
    return enum(value).name if value in list(enum) else value


class Venue:
    """See the module. `arrays` holds every table and ring by name."""

    def __init__(
        self,
        limits: Limits = LIMITS,
        *,
        shards: int = 1,
        commands: int = 256,
        matches: int = 256,
        reports: int = 1024,
        ingress_slots: int = 1024,
        checkpoint_every: int = 1 << 40,
        funding_slice: int = SLICE_APART,
        seed: int | None = None,
        start_ns: int = EPOCH_NS,
        log: Sequence[np.ndarray[Any, Any]] = (),
        arrays: pipeline.Arrays | None = None,
        producers: Sequence[Producer] = PRODUCERS,
    ) -> None:
        """
        log         of another venue: this one goes on where that one's log ends
        arrays      rings, cursors and tables that a recovery has filled already
        producers   who sends: one ingress ring each, in this order
        """
        self.limits, self.shards, self.seed = limits, shards, seed
        self.random = random.Random(seed)
        self.arrays = arrays or fresh_arrays(
            limits, shards, commands=commands, matches=matches, reports=reports
        )
        self.log: list[np.ndarray[Any, Any]] = list(log)
        self.reports: list[np.ndarray[Any, Any]] = []  # every report made, as rows
        self.told = 0  # of them, how many `drain` has given back
        if log:
            self._replay(log)
        self.slots = ingress_slots
        cells = ingress.SLOTS + ingress_slots * ingress.SLOT_WORDS
        self.producers = producers
        self.rings = tuple(np.zeros(cells, np.int64) for _ in producers)
        self._doors = tuple(table(ring) for ring in self.rings)
        self.engine = pipeline.engine_of(
            self.arrays,
            limits,
            shards=shards,
            checkpoint_every=checkpoint_every,
            funding_slice=funding_slice,
            rings=self.rings,
        )
        for tables in (self.engine, self.engine.books):
            typed_once(tables)
        self.sequencer = array_of(self.engine.sequencer)
        self.cursors = self.arrays["cursors"]
        self.venue = self.arrays["venue"][0]
        self.numbers = [0 for _ in producers]
        self.outbox: list[list[np.ndarray[Any, Any]]]
        self.begin(start_ns)

    def begin(self, start_ns: int = EPOCH_NS) -> None:
        """Be ready for commands, as after every start: empty rings, nobody waits to send, and the
        time goes on from what is in the arrays."""
        for ring, producer in zip(self.rings, self.producers, strict=True):
            ring[:] = 0
            ingress.format_ring(ring, producer, self.slots)
        self.outbox = [[] for _ in self.producers]
        pipeline.begin_sequencing(self.sequencer, self.arrays, len(self.rings))
        self.sequencer[LAST_TS_NS] = max(start_ns, int(self.arrays["venue"]["ts_ns"][0]))

    def _replay(self, log: Sequence[np.ndarray[Any, Any]]) -> None:
        """Derive the state from a log, as recovery does, and propose again what is pending."""
        keep = lambda _at, rows: self.reports.append(rows.copy())  # noqa: E731
        replayer = Replayer(self.arrays, self.limits, self.shards, keep)
        rows = wal_rows(log)
        replayer.feed(rows)
        replayer.feed(wal_rows(()), end=True)
        propose_again(self.arrays, replayer.engine.setup, taken_proposals(rows))
        told = int(self.arrays["venue"]["reports_count"][0])
        self.cursors = self.arrays["cursors"]
        self.cursors[cursors.JOURNALED] = replayer.seq
        for cell in (cursors.REPORTS_CLAIMED, cursors.REPORTS_WRITTEN, cursors.REPORTS_READ):
            self.cursors[cell] = told
        self.told = len(self.reports)

    def successor(self) -> Venue:
        """The venue that a crash now and a recovery from `log` would give; this one is dead.

        What was sequenced and not yet logged is lost, as are commands in the rings.
        """
        return type(self)(
            self.limits,
            shards=self.shards,
            matches=len(self.arrays["matches"]) // self.shards,
            funding_slice=int(array_of(self.engine.setup)[FUNDING_SLICE]),
            ingress_slots=self.slots,
            seed=None if self.seed is None else self.random.randrange(1 << 31),
            log=self.log,
            commands=len(self.arrays["commands"]),
            reports=len(self.arrays["reports"]),
        )

    # ------------------------------------------------------------ time

    @property
    def now(self) -> int:
        return int(self.sequencer[LAST_TS_NS])

    def wait(self, ns: int) -> None:
        """Commands sequenced from now on are this much later."""
        self.sequencer[LAST_TS_NS] += ns

    # ------------------------------------------------------------ sending

    def send(self, kind: int, *, ring: int = DESK, **fields: Any) -> int:
        """Queue a command for a ring; returns its producer's number."""
        if "request" not in fields:
            self.numbers[ring] += 1
            fields["request"] = self.numbers[ring]
        self.outbox[ring].append(command(kind, **fields))
        return int(fields["request"])

    def send_rows(self, rows: np.ndarray[Any, Any], ring: int = DESK) -> None:
        """Queue COMMAND rows as they are, but for fresh producer numbers."""
        rows = rows.copy()
        rows["request"] = self.numbers[ring] + 1 + np.arange(len(rows))
        self.numbers[ring] += len(rows)
        self.outbox[ring].append(rows)

    def do(self, kind: int, *, ring: int = DESK, **fields: Any) -> list[dict[str, Any]]:
        """Send one command and work until nothing is left to do."""
        self.send(kind, ring=ring, **fields)
        return self.drain()

    # ------------------------------------------------------------ working

    def feed(self, most: int = 1 << 30) -> int:
        """Hand queued commands to the rings as far as they fit, at most `most` from each."""
        total = 0
        for ring, queue in zip(self._doors, self.outbox, strict=True):
            left = most
            while queue and left > 0:
                rows = queue[0]
                count = min(len(rows), left)
                taken = ingress.push_many(ring, self.slots, table(rows.view(np.int64)), 0, count)
                total += taken
                left -= taken
                if taken == len(rows):
                    queue.pop(0)
                else:
                    queue[0] = rows[taken:]
                if taken < count:
                    break
        return total

    def raw(self, words: np.ndarray[Any, Any], ring: int = DESK) -> None:
        """Put slots of 192 bytes into a ring as they are: words[n, 24], n that fit."""
        cells = self.rings[ring]
        tail = int(cells[ingress.TAIL])
        assert tail + len(words) - cells[ingress.HEAD] <= self.slots
        at = (tail + np.arange(len(words))) % self.slots
        cells[ingress.SLOTS :].reshape(self.slots, 24)[at] = words
        cells[ingress.TAIL] = tail + len(words)

    def turn(self, stages: int, shards: int = 0) -> int:
        """Some stages once; `shards` are bits."""
        return int(pipeline.turn(self.engine, int(stages), shards))

    def sequence(self) -> int:
        return self.turn(Stage.SEQUENCE)

    def risk(self) -> int:
        """Risk, then settlement of what is there."""
        return self.turn(Stage.RISK | Stage.SETTLE)

    def match(self, shard: int | None = None) -> int:
        return self.turn(Stage.MATCH, (1 << self.shards) - 1 if shard is None else 1 << shard)

    def journal(self, most: int = 1 << 30) -> int:
        """Log what risk has decided, as the journal does; its slots are free then."""
        first = int(self.cursors[cursors.JOURNALED])
        last = min(int(self.cursors[cursors.RISKED]), first + most)
        ring = self.arrays["commands"]
        for seq in range(first + 1, last + 1):
            self.log.append(ring[seq % len(ring)].copy())
        self.cursors[cursors.JOURNALED] = last
        return last - first

    def read(self, most: int = 1 << 30) -> int:
        """Take reports out of their ring."""
        first = int(self.cursors[cursors.REPORTS_READ])
        last = min(int(self.cursors[cursors.REPORTS_WRITTEN]), first + most)
        ring = self.arrays["reports"]
        assert last <= self.cursors[cursors.REPORTS_CLAIMED] <= first + len(ring)
        at = np.arange(first, last) % len(ring)
        if last > first:
            self.reports.append(ring[at])
            ring[at] = np.zeros(1, REPORT.dtype)  # nobody else may need them
        self.cursors[cursors.REPORTS_READ] = last
        return last - first

    def quiet(self) -> bool:
        """Whether everything sent has been settled, answered and read."""
        c = self.cursors
        seq = c[cursors.SEQUENCED]
        queue = self.arrays["proposals"]
        return bool(
            not any(self.outbox)
            and all(ring[ingress.TAIL] == ring[ingress.HEAD] for ring in self.rings)
            and seq == c[cursors.SETTLED] == c[cursors.JOURNALED]
            and all(seq == c[cursors.matched(k)] for k in range(self.shards))
            and queue[TAKEN] == queue[PUT]
            and c[cursors.REPORTS_READ] == c[cursors.REPORTS_WRITTEN]
        )

    def _round(self) -> int:
        did = self.feed() + self.sequence()
        did += self.risk() + self.match() + self.risk()
        return did + self.journal() + self.read()

    def _chance(self) -> int:
        """One stage, by a random amount."""
        r = self.random
        few = r.choice((1, 2, 3, 8, 64))
        what = r.randrange(6)
        if what == 0:
            return self.feed(few) + self.sequence()
        if what == 1:
            return self.risk()
        if what == 2:
            return self.match(r.randrange(self.shards))
        if what == 3:
            return self.journal(few)
        if what == 4:
            return self.read(few)
        return self.match() + self.risk()

    def work(self) -> None:
        """Until nothing is left to do."""
        idle = 0
        while not self.quiet():
            did = self._round() if self.seed is None else self._chance()
            idle = 0 if did else idle + 1
            assert idle < 2000, f"nothing moves: {self.where()}"

    def drain(self) -> list[dict[str, Any]]:
        """Work until nothing is left to do; returns the reports since the last time."""
        self.work()
        return self.heard()

    def heard(self) -> list[dict[str, Any]]:
        """Reports since the last time, decoded."""
        rows, self.told = self.reports[self.told :], len(self.reports)
        return [decode(row) for batch in rows for row in batch]

    def where(self) -> dict[str, int]:
        names = ("SEQUENCED", "RISKED", "SETTLED", "JOURNALED", "REPORTS_WRITTEN", "REPORTS_READ")
        found = {name.lower(): int(self.cursors[getattr(cursors, name)]) for name in names}
        found |= {f"matched {k}": int(self.cursors[cursors.matched(k)]) for k in range(self.shards)}
        return found

    # ------------------------------------------------------------ looking

    def all_reports(self) -> np.ndarray[Any, Any]:
        """Every report so far as REPORT rows."""
        return np.concatenate([*self.reports, np.zeros(0, REPORT.dtype)])

    def wallet(self, account: int, asset: int = 0) -> dict[str, int]:
        return as_dict(self.arrays["wallets"][account * self.limits.assets + asset])

    def position(self, account: int, symbol: int = 0, leg: int = 0) -> dict[str, int]:
        """The POSITION row, or a flat one with nothing on it."""
        rows = self.arrays["positions"][: self.venue["positions_used"]]
        found = rows[(rows["account"] == account) & (rows["symbol"] == symbol)]
        found = found[found["position_side"] == leg]
        return as_dict(found[0] if len(found) else np.zeros(1, rows.dtype)[0])

    def claim(self, order_id: int) -> dict[str, int] | None:
        """The live CLAIM row of an order."""
        rows = self.arrays["claims"]
        at = np.flatnonzero((rows["order_id"] == order_id) & (rows["done"] == 0))
        return as_dict(rows[at[0]]) if order_id and len(at) else None

    def live_claims(self) -> Iterator[dict[str, int]]:
        rows = self.arrays["claims"]
        for at in np.flatnonzero((rows["order_id"] != 0) & (rows["done"] == 0)):
            yield {"slot": int(at), **as_dict(rows[at])}

    def book(self, symbol: int = 0) -> list[tuple[str, int, int, int]]:
        """(side, price, order id, open lots) of resting orders: bids best first, then asks."""
        nodes = self.arrays["nodes"]
        return [
            (
                Side(side).name,
                int(nodes[slot]["price_ticks"]),
                int(nodes[slot]["order_id"]),
                int(nodes[slot]["open_lots"]),
            )
            for side, slot in resting(nodes, symbol)
        ]


def typed_once(value: Any) -> None:
    """Say once and for all of what type arguments like this one are: a tuple of tables.

    Tables are bare pointers that differ in nothing but their rows, so an Engine is an Engine. numba
    would look at each of its hundred tables at every call; with this it looks at one attribute.
    """
    if not (BOUNDSCHECK or PLAIN) and "_numba_type_" not in type(value).__dict__:
        type(value)._numba_type_ = typeof(value)


if not (BOUNDSCHECK or PLAIN):
    Table._numba_type_ = Table.__dict__["kind"]  # type: ignore[attr-defined]


def zeroed_arrays(limits: Limits, shards: int = 1, **rings: int) -> pipeline.Arrays:
    """Rings, cursors and tables, all zero, as a recovery wants them."""
    arrays = pipeline.allocate_rings(shards=shards, **rings)
    for specs, times in (
        (risk_tables(limits), 1),
        (shared_book_tables(limits), 1),
        (shard_tables(limits), shards),
    ):
        arrays.update(allocate(tuple(s._replace(rows=s.rows * times) for s in specs)))
    return arrays


def fresh_arrays(limits: Limits, shards: int = 1, **rings: int) -> pipeline.Arrays:
    """Rings, cursors and tables of a venue where nothing was declared yet."""
    arrays = zeroed_arrays(limits, shards, **rings)
    pipeline.initialise(arrays, limits, shards)
    return arrays


def wal_rows(log: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """What a WAL would give back of logged slots: as many lines as were sent, and the settlement
    each was decided after."""
    rows = np.array(list(log), COMMAND.dtype) if log else np.zeros(0, COMMAND.dtype)
    words = rows.view(np.int64).reshape(-1, 32)
    settled = rows["settled_seq"].copy()
    words[:, 24:] = 0
    for lines in (1, 2):
        words[np.ix_(rows["lines"] == lines, range(8 * lines, 24))] = 0
    rows["settled_seq"] = settled
    return rows


def replayed(
    log: Sequence[np.ndarray[Any, Any]], limits: Limits, shards: int = 1, **rings: int
) -> tuple[pipeline.Arrays, np.ndarray[Any, Any]]:
    """(state, every report) that a log alone gives, on any number of shards."""
    reports: list[np.ndarray[Any, Any]] = []
    arrays = fresh_arrays(limits, shards, **rings)
    replayer = Replayer(arrays, limits, shards, lambda _at, rows: reports.append(rows.copy()))
    replayer.feed(wal_rows(log))
    replayer.feed(wal_rows(()), end=True)
    return arrays, np.concatenate([np.zeros(0, REPORT.dtype), *reports])


def as_dict(row: Any) -> dict[str, int]:
    return {name: int(row[name]) for name in row.dtype.names if row[name].ndim == 0}
