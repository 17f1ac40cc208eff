"""`perpcore ledger reconcile --follow`: the books against the engine, over and over, to the unit.

Reads   the WAL as it is written, replayed here on and on; the books; a running engine's memory when
        nothing is in flight there; custody files.
Writes  <data>/breaks.json; an alert ([alert] of the configuration); with --cancel-only, or
        ledger.cancel_only set, a VENUE_STATE command.
Never   holds the engine back, and never begins again where it was: a cycle costs what came since
        the last one, and a look at some megabytes of what was compared before.

    a cycle   WAL --replay--> state at a place where nothing is in flight
              state = books at the same report         R1 to R4
              state = the engine's memory              R7, when it is at rest
              legs are what they were                  L, all of them within some cycles
              custody files, proof                     R5, R6, R9
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from ledger.books import Books
from ledger.breaks import BreakReport
from ledger.files import LedgerError, ledger_folder
from ledger.reconcile import Break, Facts, Sums, compare, compare_facts, cut_of, laws
from shm.config import Config
from shm.files import DataError, read_manifest
from shm.notify import notify
from shm.segment import SegmentError
from tools.alert import tell
from tools.ledger_facts import Live, Replay
from tools.ledger_reconcile import against_custody, break_text, halt, halting, located

SCRUB_SPANS: Final = 256  # of ledger.reconcile.Sums.SPAN legs: 200 MB a cycle
ALERT_BREAKS: Final = 10  # told in one alert; the report has them all
FACTS_EVERY_S: Final = 0.5
PATIENCE_S: Final = 10.0  # how long the books may take to come to where the replay is


class Cycle(NamedTuple):
    """What one round looked at."""

    seq: int  # where the state was compared with the books; 0: nowhere new
    live_seq: int  # where with the engine's memory; 0: it was not at rest
    checks: frozenset[str]  # of ledger.reconcile that were made
    found: list[Break]
    behind: int = 0  # reports that the books have not taken up in all of PATIENCE_S


class Watch:
    """Everything that is kept from one cycle to the next."""

    def __init__(
        self,
        config: Config,
        *,
        custody: tuple[Path, ...] = (),
        mapping: Path | None = None,
        genesis: bool = False,
    ) -> None:
        self.config = config
        self.data = Path(config.data_dir)
        self.custody, self.mapping, self.genesis = custody, mapping, genesis
        self.replay: Replay | None = None
        self.sums = Sums()
        self.good = 0  # the last command at which all was well
        self._live: Live | None = None
        self._compared = -1  # reports at the last comparison
        self._was_altered = False
        self._facts_s = 0.0
        self._first: dict[tuple[str, str], int] = {}  # (check, account): command, of open breaks

    # ------------------------------------------------------------ one cycle

    def cycle(self) -> Cycle:
        """Compare all there is to compare now."""
        from engine.replay import Diverged

        books = Books(ledger_folder(self.data))
        try:
            facts, at_rest = self._advance()
        except Diverged as error:
            self._forget()  # from the newest snapshot on, next time
            found = [Break("R7", str(error), 0, 1, books.head["seq"])]
            return Cycle(0, 0, frozenset(["R7"]), found)
        found, checks = list[Break](), set[str]()
        seq = live_seq = 0
        behind = 0
        if facts is not None and not self._books_at(books, facts.reports):
            behind = facts.reports - books.head["reports"]
        elif facts is not None:
            seq = facts.seq
            self.sums.advance(books, cut_of(books, facts))
            checks |= {"L", "R1", "R2", "R3", "R4"}
            altered = self._scrubbed(books)
            found += altered + compare(books, facts, self.sums)
            found += laws(books, cut_of(books, facts), rounds=False, balances=self.sums.totals)
            self._compared = facts.reports
            if at_rest and self._live is not None:
                memory = self._live.facts(seq)
                if memory is not None:
                    live_seq = seq
                    checks.add("R7")
                    found += compare_facts(facts, memory, books)
        if self.custody:
            checks |= {"R5", "R6"}
            found += against_custody(books, self.custody, self.mapping, {})
        found = self._located(books, found)
        if seq and not found:
            self.good = seq
        return Cycle(seq, live_seq, frozenset(checks), found, behind)

    def _located(self, books: Books, found: list[Break]) -> list[Break]:
        """With the first command of each: looked for once, as long as a break is there."""
        new = [b for b in found if (b.check, b.account) not in self._first]
        made = located(self.data, books, new, self.good)
        known = {**self._first, **{(b.check, b.account): b.first_seq for b in made}}
        self._first = {(b.check, b.account): known[b.check, b.account] for b in found}
        return [b._replace(first_seq=self._first[b.check, b.account]) for b in found]

    def _scrubbed(self, books: Books) -> list[Break]:
        """Legs that were added up before and are others now; then everything is added up again."""
        span = self.sums.changed(books, SCRUB_SPANS)
        if span is not None or self._was_altered:
            self.sums.again(books)
        self._was_altered = span is not None
        if span is None:
            return []
        name = f"legs {span[0]} to {span[1] - 1} are not what was booked"
        return [Break("L", name, 1, 0, books.head["seq"])]

    # ------------------------------------------------------------ where the engine is

    def _advance(self) -> tuple[Facts | None, bool]:
        """Replay as far as can be compared; (facts, whether the engine is at rest there).

        None where that is no further than the last time.
        """
        self._attach()
        if self.replay is None:
            self.replay = Replay(self.data, genesis=self.genesis)
        replay, rest = self.replay, self._rest()
        facts: Facts | None = None
        for _ in replay.checkpoints(rest or self._durable()):
            # Facts of a large venue take a while: an engine at full speed is compared now and then.
            due = time.monotonic() - self._facts_s >= FACTS_EVERY_S
            if due and int(replay.arrays["venue"]["reports_count"][0]) > self._compared:
                facts, self._facts_s = replay.facts(), time.monotonic()
        if rest and replay.seq == rest:
            replay.settle()
            facts = replay.facts()
            return facts, True
        return facts, False

    def _attach(self) -> None:
        if self._live is not None and not self._live.alive:
            self._live.close()
            self._live = None
        if self._live is None:
            with suppress(SegmentError):
                self._live = Live(self.config)

    def _rest(self) -> int:
        """The last command, when everything up to it is settled and durable; else 0."""
        from tools.datadir import last_seq

        if self._live is not None:
            return self._live.at_rest()
        epoch = read_manifest(self.data).epoch
        end = last_seq(self.data)
        self._attach()
        alone = self._live is None and read_manifest(self.data).epoch == epoch
        return end if alone else 0

    def _durable(self) -> int:
        return self._live.durable() if self._live is not None else 0

    def _books_at(self, books: Books, reports: int) -> bool:
        """Wait until the books have taken up so many reports; whether they did in time."""
        until = time.monotonic() + PATIENCE_S
        while books.head["reports"] < reports:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
            books.refresh()
        return True

    def _forget(self) -> None:
        if self.replay is not None:
            self.replay.close()
        self.replay = None

    def close(self) -> None:
        self._forget()
        if self._live is not None:
            self._live.close()


def run(
    config: Config,
    *,
    custody: tuple[Path, ...],
    mapping: Path | None,
    genesis: bool,
    cancel_only: bool,
    every_s: float,
) -> int:
    """Until SIGTERM or SIGINT; what is found is said once, kept in the break report, acted on.

    returns     0: whoever starts it again is told of breaks, not of an end that was asked for
    """
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: stop.append(got))
    data = Path(config.data_dir)
    watch = Watch(config, custody=custody, mapping=mapping, genesis=genesis)
    report = BreakReport(data)
    stopped = ready = behind = False
    seq = 0
    while not stop:
        begun = time.monotonic()
        try:
            done = watch.cycle()
        except (DataError, LedgerError, OSError) as error:
            _say(f"not compared: {error}")
            done = None
        if done is not None:
            seq = max(seq, done.seq)
            known = {row["id"] for row in report.live}
            report.record(done.found, checks=done.checks)
            new = [row for row in report.live if row["id"] not in known]
            for row in new:
                _say(_text(done.found, row))
            for number in sorted(known - {row["id"] for row in report.live}):
                _say(f"break {number} is gone")
            if (done.behind > 0) != behind:
                behind = done.behind > 0
                _say(f"the books are {done.behind} reports behind the replay" if behind
                     else "the books have caught up")  # fmt: skip
            if halting(done.found) and (cancel_only or config.ledger.cancel_only) and not stopped:
                stopped = _halted(config)
            stopped = stopped and bool(done.found)
            if new:
                _alert(config, [_text(done.found, row) for row in new], stopped)
        if not ready and done is not None:
            ready = True
            notify("READY=1")
            _say(f"reconciled to command {seq}, {len(report.live)} breaks open")
        notify(f"WATCHDOG=1\nSTATUS=command {seq}, {len(report.live)} breaks open")
        _wait(stop, begun + every_s)
    notify("STOPPING=1")
    watch.close()
    _say(f"stopped at command {seq}, {len(report.live)} breaks open")
    return 0


def _text(found: list[Break], row: dict[str, Any]) -> str:
    same = [b for b in found if (b.check, b.account) == (row["check"], row["account"])]
    return f"{break_text(same[0])} (break {row['id']})" if same else f"break {row['id']}"


def _halted(config: Config) -> bool:
    """Whether the venue takes nothing but cancels now; tried again next time if not."""
    try:
        halt(config)
    except Exception as error:  # whatever keeps it from being told: the break is told all the same
        _say(f"the venue could not be stopped: {error}")
        return False
    _say("the venue takes nothing but cancels now")
    return True


def _alert(config: Config, texts: list[str], stopped: bool) -> None:
    """Tell whoever has to know; a cycle doesn't wait for the command that does."""
    said = {
        "event": "break between the ledger and the engine",
        "instance": config.instance,
        "breaks": "; ".join(texts[:ALERT_BREAKS]),
        "count": str(len(texts)),
        "venue": "CANCEL_ONLY" if stopped else "goes on",
    }
    threading.Thread(target=lambda: _say(tell(config, said)), daemon=True).start()


def _wait(stop: list[int], until: float) -> None:
    while not stop and time.monotonic() < until:
        time.sleep(min(0.05, max(until - time.monotonic(), 0)))


def _say(text: str) -> None:
    print(f"perpcore reconcile: {text}", file=sys.stderr, flush=True)
