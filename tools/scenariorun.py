"""Run a scenario: every step through the real stages, then look whether it is as expected.

Reads   a Scenario (tools/scenariofile.py).
Writes  nothing outside the venues it makes; hands back what was not as expected.
Never   lets a step pass that broke a law (tools/laws.py), or an end that its log doesn't repeat.

One scenario runs several times: with each number of matching shards, each stage doing all it can
in its turn; then with random interleavings of the stages and rings that are nearly always full.
What a trader may rely on doesn't depend on that, so neither may an expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from engine.liquidation_scan import sweep, unwinding
from engine.recovery import kept_tables
from engine.state import Limits
from shm.codes import Kind
from shm.cursors import SETTLED
from shm.units import PRODUCER_SHIFT, SYSTEM_ACCOUNTS
from tools import scenariokeys as keys
from tools.inprocess import CLOCK, DESK, EPOCH_NS, PRODUCERS, Venue, replayed
from tools.laws import check_laws, check_reports
from tools.scenariolook import Eye, ended
from tools.scenariomodel import Check, Command, Expect, Rows, Scenario, Step
from tools.scenariounits import SECOND_NS, Want, shown

DAY_NS: Final = 86_400 * SECOND_NS
PROBLEMS_MAX: Final = 50  # of one run
SCANS_MAX: Final = 100  # in one step
# Rings of random runs: (commands, matches, reports).
SMALL: Final = ((64, 64, 256), (16, 8, 64), (256, 8, 128))
Say = Callable[[str], None]


class Variant(NamedTuple):
    """How to run it."""

    shards: int
    seed: int | None

    @property
    def text(self) -> str:
        shards = f"{self.shards} shard{'s' * (self.shards > 1)}"
        return f"{shards}, stages in order" if self.seed is None else f"{shards}, seed {self.seed}"


class Problem(NamedTuple):
    """Something was not as expected."""

    step: str
    line: int
    text: str  # of the step
    what: str
    expected: str
    got: str
    variant: str


@dataclass
class Outcome:
    """Of all runs of one scenario."""

    scenario: Scenario
    variants: int = 0
    checks: int = 0  # expectations compared in one run
    problems: list[Problem] = field(default_factory=list)


class Stopped(Exception):
    """A run can't go on; its problem is noted."""


def variants(scenario: Scenario) -> Iterator[Variant]:
    """In order first: when that fails, how the stages interleave isn't the question."""
    for shards in scenario.shards:
        yield Variant(shards, None)
    for k, seed in enumerate(scenario.seeds):
        yield Variant(scenario.shards[k % len(scenario.shards)], seed)


def run(scenario: Scenario, say: Say | None = None) -> Outcome:
    """Every variant, until one has a problem; `say` hears what the first one does."""
    outcome = Outcome(scenario)
    for variant in variants(scenario):
        one = Run(scenario, variant, say if outcome.variants == 0 else None)
        one.all()
        outcome.variants += 1
        outcome.checks = one.checks
        outcome.problems = one.problems
        if one.problems:
            break
    return outcome


class Run:
    """One variant."""

    def __init__(self, scenario: Scenario, variant: Variant, say: Say | None = None) -> None:
        self.scenario = scenario
        self.variant = variant
        self.say = say or (lambda _text: None)
        self.problems: list[Problem] = []
        self.checks = 0
        # The sequencer's time never lies behind the real one, so scenarios play a whole number of
        # days ahead of it; whatever depends on the time of day stays what it was.
        self.offset_ns = -(-(EPOCH_NS - scenario.start_ns) // DAY_NS) * DAY_NS
        commands, matches, reports = (256, 256, 1024)
        if variant.seed is not None:
            commands, matches, reports = SMALL[variant.seed % len(SMALL)]
        self.venue = Venue(
            _limits(scenario),
            shards=variant.shards,
            seed=variant.seed,
            commands=commands,
            matches=matches,
            reports=reports,
            start_ns=scenario.start_ns + self.offset_ns,
        )
        self.eye = Eye(scenario, self.venue, self.offset_ns)
        self.step = Step("", 0)
        self.said: dict[tuple[int, int], int] = {}  # (symbol, source) -> its last price
        self.made: list[dict[str, Any]] = []  # reports of this step
        self.answers: dict[int, dict[str, Any]] = {}  # seq -> first report, of this step

    # ------------------------------------------------------------ the whole

    def all(self) -> None:
        """Set up, play, and prove that the log repeats it."""
        try:
            self.setup()
            for step in self.scenario.steps:
                self.play(step)
            self.repeat()
        except Stopped:
            pass

    def setup(self) -> None:
        self.step = Step("", 0, text="setup")
        for command in self.scenario.setup:
            self.deliver([command])
            self.listen()
            refused = [a for a in self.answers.values() if reason_of(a) != "NONE"]
            for answer in refused:
                what = f"{command.kind.name} {_fields(command.fields)}"
                self.problem(what, "accepted", f"refused: {reason_of(answer)}")
                raise Stopped
        self.laws()

    def play(self, step: Step) -> None:
        """One step, and all that is expected of it."""
        self.step = step
        if step.number:
            note = f"  # {step.note}" if step.note and step.note != step.text else ""
            self.say(f"{step.number:>4}  {step.text}{note}")
        self.made, self.answers = [], {}
        sent: list[tuple[Step, list[int]]] = []
        if step.inner:
            seqs = self.deliver([c for inner in step.inner for c in inner.commands], step.verb)
            for inner in step.inner:
                sent.append((inner, seqs[: len(inner.commands)]))
                seqs = seqs[len(inner.commands) :]
                self.named(inner.commands, sent[-1][1])
            self.listen()
        elif step.verb == "wait":
            self.wait(step.options)
        elif step.verb == "restart":
            self.restart()
        else:
            seqs = self.deliver(step.commands)
            self.named(step.commands, seqs)
            self.listen()
            sent.append((step, seqs))
        if self.scenario.scan or step.verb == "scan":
            self.scan(unwind=step.verb in ("scan", "wait"))
        self.laws()
        for one, seqs in sent:
            self.answer(one, seqs)
            if one is not step:
                own = [r for r in self.made if r["seq"] in seqs]
                self.look(one, one.expect, own)
        self.look(step, step.expect, self.made)

    # ------------------------------------------------------------ doing

    def deliver(self, commands: list[Command], how: str = "") -> list[int]:
        """Send commands and work until nothing is left to do; returns their sequence numbers."""
        v = self.venue
        requests = []
        for command in commands:
            fields = dict(command.fields)
            for name in ("expire_ns", "funding_first_ns", "source_ns"):
                if fields.get(name):
                    fields[name] += self.offset_ns
            if command.about:
                algo = command.id_field == "algo_id"
                ids = self.eye.algo_ids if algo else self.eye.ids
                order_id = ids.get(command.about, 0)
                fields["order_id" if algo else command.id_field] = order_id
                if command.kind == Kind.AMEND and not fields["price_ticks"]:
                    known = self.eye.orders.get(order_id)
                    fields["price_ticks"] = known.price if known else 0
            if command.kind == Kind.SOURCE_PRICE:
                self.said[fields["symbol"], fields["source"]] = fields["source_ticks"]
            number = v.send(command.kind, **fields)
            requests.append(PRODUCERS[DESK].id << PRODUCER_SHIFT | number)
        seed = v.seed
        if how == "together":
            v.seed = None  # in order: all are decided before any is matched
        before = len(v.log)
        self.work()
        v.seed = seed
        seqs = {int(c["request"]): int(c["seq"]) for c in v.log[before:]}
        return [seqs[request] for request in requests]

    def work(self) -> None:
        try:
            self.venue.work()
        except AssertionError as error:
            self.problem("the engine", "works", f"stopped at an assertion: {error}")
            raise Stopped from error

    def named(self, commands: list[Command], seqs: list[int]) -> None:
        """Remember what the commands created; before reports about it are heard."""
        for command, seq in zip(commands, seqs, strict=True):
            if command.label and command.kind == Kind.PLACE_ALGO:
                self.eye.algo_ids[command.label] = seq
            elif command.label:
                self.eye.ids[command.label] = seq

    def listen(self) -> None:
        """Take the reports there are."""
        reports = self.venue.heard()
        for r in reports:
            self.answers.setdefault(r["seq"], r)
        self.made += reports
        self.eye.hear(reports)
        if self.step.number:
            for r in reports:
                self.say(f"        {self.eye.told(r)}")

    def wait(self, options: dict[str, Any]) -> None:
        span, every = options["span"], options["every"]
        passed = 0
        while passed < span:
            now = min(every, span - passed)
            passed += now
            self.venue.wait(now)
            if not options["tick"]:
                continue
            if options["sources"]:
                at = self.venue.now - self.offset_ns
                for (symbol, source), ticks in self.said.items():
                    fields = {"symbol": symbol, "source": source, "source_ticks": ticks}
                    self.deliver([Command(Kind.SOURCE_PRICE, {**fields, "source_ns": at})])
            if options["sample"]:
                for declared in self.scenario.symbols.values():
                    self.deliver([Command(Kind.SAMPLE, {"symbol": declared.number})])
            self.deliver([Command(Kind.TICK, {})])
            self.listen()
            if self.scenario.scan:
                self.scan()

    def scan(self, unwind: bool = False) -> None:
        """As the clock process does: propose what looks unsafe, until nothing new does.

        unwind      and what the insurance fund could close in the market, once
        """
        v = self.venue
        before: bytes = b""
        for turn in range(SCANS_MAX):
            end = int(v.venue["accounts_used"])
            found = sweep(v.arrays, SYSTEM_ACCOUNTS, end)[1]
            if unwind and turn == 0:
                found = found + unwinding(v.arrays)
            told = b"".join(rows.tobytes() for rows in found)
            if told == before:
                return
            before = told
            for rows in found:
                v.send_rows(rows, CLOCK)
            self.work()
            self.listen()
        self.problem("liquidation", "ends", f"something new is unsafe after {SCANS_MAX} scans")
        raise Stopped

    def restart(self) -> None:
        """Die and come back: from the log alone, the same state and the same reports."""
        self.compare("the state recovered")
        offers = self.venue.numbers
        self.venue = self.venue.successor()
        self.venue.numbers = offers
        self.eye.venue = self.venue
        self.work()
        self.listen()

    def repeat(self) -> None:
        """The log gives the same again, on another number of shards."""
        self.step = Step("", 0, text="replay of the log")
        self.compare("the state replayed")
        try:
            check_reports(self.venue)
        except AssertionError as error:
            self.problem("the reports", "one answer a command, in order", str(error) or "not so")

    def compare(self, what: str) -> None:
        v = self.venue
        shards = self.variant.shards % 3 + 1
        arrays, reports = replayed(v.log, v.limits, shards)
        if reports.tobytes() != v.all_reports().tobytes():
            self.problem(what, "the same reports", f"others, with {shards} shards")
        mine, other = kept_tables(v.arrays, v.limits), kept_tables(arrays, v.limits)
        for name, rows in mine.items():
            if not np.array_equal(rows, other[name]):
                self.problem(what, f"the same {name}", f"others, with {shards} shards")

    # ------------------------------------------------------------ looking

    def problem(self, what: str, expected: str, got: str) -> None:
        s = self.step
        if len(self.problems) < PROBLEMS_MAX:
            text = s.text or ("the end" if not s.number else "")
            variant = self.variant.text
            self.problems.append(Problem(s.number, s.line, text, what, expected, got, variant))

    def laws(self) -> None:
        """Money, positions, claims, books: tools/laws.py."""
        try:
            assert self.venue.cursors[SETTLED] == len(self.venue.log), "not everything is settled"
            check_laws(self.venue)
        except AssertionError as error:
            self.problem("a law of the venue", "holds", f"broken: {error or 'see --verbose'}")
            raise Stopped from error

    def answer(self, step: Step, seqs: list[int]) -> None:
        """Was it taken, and what became of its order?"""
        answers = [self.answers[seq] for seq in seqs]
        reasons = [reason_of(a) for a in answers]
        refused = [r for r in reasons if r != "NONE"]
        if not step.expect.answer:
            if refused:
                shelved, self.step = self.step, step
                self.problem("the command", "accepted", f"refused: {refused[0]}")
                self.step = shelved
            return
        shelved, self.step = self.step, step
        for what, want in step.expect.answer.items():
            if what == "accepted":
                self.compared(what, want, not refused)
            else:
                status, reason = self.outcome(step, refused)
                self.compared(what, want, status if what == "status" else reason)
        self.step = shelved

    def outcome(self, step: Step, refused: list[str]) -> tuple[str, str]:
        """(status, reason) of a step by now."""
        command = step.commands[0]
        label = command.label or command.about
        if refused:
            new = command.kind in (Kind.PLACE, Kind.PLACE_ALGO)
            return "REJECTED" if new else "REFUSED", refused[0]
        known = self.eye.algos.get(self.eye.algo_ids.get(label, 0))
        if command.kind not in (Kind.PLACE_ALGO, Kind.CANCEL_ALGO):
            known = self.eye.orders.get(self.eye.ids.get(label, 0))
        if known is None:
            return "ACCEPTED", "NONE"
        return ended(known.status, known.reason), known.reason

    def look(self, step: Step, expect: Expect, reports: list[dict[str, Any]]) -> None:
        """Compare events and state with what is expected."""
        shelved, self.step = self.step, step
        for rows in expect.events:
            self.listed(rows, self.eye.events(rows.table, reports))
        for check in expect.state:
            if isinstance(check, Check):
                got = self.eye.value(check.table, check.key, check.field)
                self.compared(check.what, check.want, got)
            else:
                self.listed(check, self.eye.rows(check.table, check.key))
        self.step = shelved

    def compared(self, what: str, want: Want, got: Any) -> None:
        self.checks += 1
        if not want.met(got):
            self.problem(what, want.text, shown(got))

    def listed(self, rows: Rows, got: list[dict[str, Any]]) -> None:
        """A list that shall be so, row by row."""
        self.checks += 1
        if rows.many is not None:
            if not rows.many.met(len(got)):
                self.problem(rows.what, rows.many.text, f"{len(got)}{_listing(got)}")
            return
        if len(got) != len(rows.rows):
            self.problem(rows.what, f"{len(rows.rows)} of them", f"{len(got)}{_listing(got)}")
        elif rows.table in keys.ANY_ORDER or all(found.get("cause") == "DELIST" for found in got):
            got = _as_wanted(rows.rows, got)
        for k, (wants, found) in enumerate(zip(rows.rows, got, strict=False), 1):
            for name, want in wants.items():
                self.compared(f"{rows.what}[{k}].{name}", want, found[name])


def reason_of(answer: dict[str, Any]) -> str:
    """Why a command was refused by its first report; NONE if it wasn't."""
    if answer["kind"] in ("ORDER", "ALGO") and answer["status"] not in ("REJECTED", "REFUSED"):
        return "NONE"
    return str(answer.get("reason", "NONE"))


def _limits(scenario: Scenario) -> Limits:
    people = SYSTEM_ACCOUNTS + len(scenario.accounts) + 1
    symbols = len(scenario.symbols)
    return Limits(
        accounts=people,
        assets=len(scenario.assets),
        symbols=symbols,
        positions=3 * people * symbols,
        orders=2048,
        algos=512,
        requests=256,
        clients=2048,
        leaves=2048,
        trie=4096,
    )


def _fields(fields: dict[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in fields.items())


def _as_wanted(wants: list[dict[str, Want]], got: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order in which they are wanted, as far as each has one that it is; else as is."""
    left = list(got)
    placed: list[dict[str, Any] | None] = []
    for wanted in wants:
        met = next((f for f in left if all(w.met(f[k]) for k, w in wanted.items())), None)
        if met is not None:
            left.remove(met)
        placed.append(met)
    return [left.pop(0) if found is None else found for found in placed]


def _listing(rows: list[dict[str, Any]]) -> str:
    """Rows as a file would write them."""
    tables = [
        "{ " + ", ".join(f"{k} = {_written(v)}" for k, v in row.items() if v is not None) + " }"
        for row in rows[:5]
    ]
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f": {', '.join(tables)}{more}" if tables else ""


def _written(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else shown(value)
