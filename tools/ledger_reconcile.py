"""`perpcore ledger reconcile`: the books against a replay of the WAL, and against custody, once.

Reads   the books; the WAL, replayed here; custody statements; a running engine's memory.
Writes  <data>/breaks.json; with --cancel-only, or ledger.cancel_only set, a VENUE_STATE command.
Never   changes the books. Going on for ever is tools/ledger_watch.py.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from ledger.books import Books
from ledger.breaks import BreakReport
from ledger.chart import Code, unpack
from ledger.files import LedgerError, ledger_folder
from ledger.reconcile import (
    Break,
    Facts,
    Sums,
    compare,
    compare_custody,
    compare_facts,
    compare_liabilities,
    figures,
    laws,
    read_custody,
)
from shm.config import Config

Array = np.ndarray[Any, Any]
HALTING: Final = ("R1", "R2", "R3", "R4", "R7")
REST_S: Final = 5.0  # how long an engine is given to come to rest, and the books to follow
POINTS: Final = 16  # hash points compared on the way, besides the last


def read_mapping(path: Path) -> dict[str, str]:
    """JSON: wallet, or its beginning with a `*` -> hot, cold, third or faucet."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise LedgerError(f"{path}: must be an object of wallet: hot, cold, third or faucet")
    return found


def reconcile(
    data: Path,
    *,
    config: Config | None = None,
    custody: tuple[Path, ...] = (),
    mapping: Path | None = None,
    replay: bool = True,
    genesis: bool = False,
    programs: bool = False,
) -> tuple[list[Break], dict[str, Any]]:
    """Every reconciliation there is something to reconcile with; (breaks, what was compared).

    config      of the instance whose running engine is looked at, if it runs
    genesis     replay everything, though there is a snapshot to begin with
    """
    books = Books(ledger_folder(data))
    live = _live(config) if replay else None
    end = _last_command(data, live, books) if replay else 0
    cut = books.now()
    sums = Sums()
    found: list[Break] = []
    said: dict[str, Any] = {"sequence": cut.seq, "entries": cut.entries, "points": 0}
    if replay:
        try:
            found += _against_replay(data, books, sums, said, genesis=genesis, live=live, end=end)
        finally:
            if live is not None:
                live.close()
    sums.advance(books, cut)
    found += laws(books, cut, rounds=False, balances=sums.totals)
    if sums.strange:
        seq = int(books.entry_rows(books.entry_of(sums.strange[0]), 1)[0]["seq"])
        count = len(sums.strange)
        found.append(Break("L", "legs of accounts that are not there", count, 0, cut.seq, seq))
    if custody:
        found += against_custody(books, custody, mapping, said)
    if programs:
        from tools.ledger_programs import second_opinions

        breaks, said["programs"] = second_opinions(books, books.cut_entry(0), cut)
        found += breaks
    found += _against_proof(books)
    said["checks"] = sorted(
        {"L", "R9"}
        | ({"R1", "R2", "R3", "R4", "R7"} if replay else set())
        | ({"R5", "R6"} if custody else set())
        | ({"R8"} if programs else set())
    )
    return found, said


def against_custody(
    books: Books, custody: tuple[Path, ...], mapping: Path | None, said: dict[str, Any]
) -> list[Break]:
    """R5 and R6."""
    lines = [line for path in custody for line in read_custody(path, books)]
    said["custody"] = len(lines)
    return compare_custody(books, books.now(), lines, read_mapping(mapping) if mapping else {})


def _against_replay(
    data: Path,
    books: Books,
    sums: Sums,
    said: dict[str, Any],
    *,
    genesis: bool,
    live: Any,
    end: int,
) -> list[Break]:
    """R1 to R4 and R7 at hash points on the way, and at the last place that can be compared."""
    from engine.replay import Diverged
    from tools.ledger_facts import Replay

    blocks = max(1, len(books.blocks()))
    every = max(1, blocks // POINTS)
    good, number = 0, 0
    replay = Replay(data, genesis=genesis)
    said["replayed_from"] = replay.first_seq
    upto = min(end or books.head["seq"], books.head["seq"])
    found: list[Break] = []
    try:
        for seq in replay.checkpoints(upto):
            number += 1
            if number % every == 0:
                found = _point(books, replay.facts(), sums, said)
                if found:
                    return located(data, books, found, good)
                good = seq
        if end and replay.seq == end:
            replay.settle()
            facts = replay.facts()
            found = _point(books, facts, sums, said)
            memory = live.facts(facts.seq) if live is not None else None
            if memory is not None:
                said["live"] = memory.seq
                found += compare_facts(facts, memory, books)
        if not said["points"]:
            raise LedgerError(
                f"{data}: nothing could be compared: the engine was never at rest in {REST_S:.0f} "
                "s, and there is no CHECKPOINT before where the books are. Try again"
            )
        return located(data, books, found, good)
    except Diverged as error:
        return [*found, Break("R7", str(error), 0, 1, books.head["seq"])]
    finally:
        replay.close()


def _point(books: Books, facts: Facts, sums: Sums, said: dict[str, Any]) -> list[Break]:
    said["points"] += 1
    said["replayed"] = facts.seq
    return compare(books, facts, sums)


def _live(config: Config | None) -> Any:
    from shm.segment import SegmentError
    from tools.ledger_facts import Live

    if config is not None:
        with suppress(SegmentError):
            return Live(config)
    return None


def _last_command(data: Path, live: Any, books: Books) -> int:
    """The last command, when everything up to it is settled and booked; waits for that a while.

    returns     0: an engine is at work, and books can be compared at CHECKPOINTs only
    """
    from tools.datadir import last_seq

    until = time.monotonic() + REST_S
    while True:
        end = live.at_rest() if live is not None else last_seq(data)
        books.refresh()
        if end and books.head["seq"] >= end:
            return int(end)
        if time.monotonic() > until:
            return 0
        time.sleep(0.02)


def _against_proof(books: Books) -> list[Break]:
    """R9: the leaves of a proof, and what is owed to the venue instead, are the liabilities."""
    from ledger.proof import Tree, liabilities

    owed, assets, deficits = liabilities(books, books.now())
    sums = (0,) * len(assets)
    if owed:
        sums = Tree(books, books.now(), bytes(16)).root.sums
    net = {a: s - deficits.get(a, 0) for a, s in zip(assets, sums, strict=True)}
    return compare_liabilities(books, books.now(), net)


# ---------------------------------------------------------------- where it began


def located(data: Path, books: Books, found: list[Break], good: int) -> list[Break]:
    """The same breaks with the first command at which each of them shows.

    The books are made a second time from the WAL: where those differ from what is on disk, an
    entry was altered or lost. Where they don't, the reports are at odds with the engine's state,
    and a replay command by command says since when. What only memory says began where it was
    compared last.

    good        a command at which all was well
    """
    wanted = [b for b in found if b.check in ("R1", "R2", "R3", "R4", "L") and not b.first_seq]
    if not wanted:
        return found
    folder = Path(tempfile.mkdtemp(prefix="perpcore-shadow-"))
    try:
        shadow = _shadow(data, folder / "ledger", max(b.seq for b in wanted))
        first = {b.key: _first_leg(books, shadow, b.key) for b in wanted if b.key}
        whole = first_difference(books, shadow, 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for b in wanted:
        seq = first.get(b.key) or whole
        if not seq and b.key:
            seq = _first_by_state(data, books, b, good)
        found[found.index(b)] = b._replace(first_seq=seq)
    return found


def _first_leg(books: Books, shadow: Books, figure: int) -> int:
    """The first command at which two books disagree about a figure."""
    parts = {*_parts(books, figure), *_parts(shadow, figure)}
    seqs = [seq for key in parts if (seq := first_difference(books, shadow, key))]
    return min(seqs, default=0)


def _parts(books: Books, figure: int) -> list[int]:
    """Keys of the accounts of the books that a figure is made of: of a wallet there are several."""
    ones = np.ones(1, np.int64)
    found = []
    owner = unpack(figure).account
    for row in np.flatnonzero((books.keys["key"] & 0xFFFFFFFF) == owner).tolist():
        made, _ = figures(books.keys[row : row + 1], ones)
        if figure in made.tolist():
            found.append(int(books.keys["key"][row]))
    return found


def _shadow(data: Path, folder: Path, upto: int) -> Books:
    """Books made of the WAL alone, up to a command."""
    from engine.recovery import fresh_arrays
    from engine.replay import Replayer
    from engine.walreader import read_commands
    from ledger.store import Ledger
    from tools.datadir import limits_for

    limits = limits_for(data)
    ledger = Ledger(folder)

    def sink(index: int, rows: Array) -> None:
        keep = int(np.searchsorted(rows["seq"], upto, side="right"))
        ledger.feed(index, rows[:keep]) if keep else None

    replayer = Replayer(fresh_arrays(limits), limits, sink=sink)
    rows = None
    for rows in read_commands(data, 0, upto):
        replayer.feed(rows)
    if rows is not None:
        replayer.feed(rows[:0], end=True)
    ledger.close()
    return Books(folder)


def first_difference(one: Books, other: Books, key: int) -> int:
    """The command of the first leg of an account that two books disagree about; key 0: of any.

    returns   0 where they agree
    """
    (seqs, keys, amounts), (seqs2, keys2, amounts2) = (_legs(b, key) for b in (one, other))
    count = min(len(seqs), len(seqs2))
    differ = (
        (seqs[:count] != seqs2[:count])
        | (keys[:count] != keys2[:count])
        | (amounts[:count] != amounts2[:count])
    )
    if differ.any():
        at = int(np.argmax(differ))
        return int(min(seqs[at], seqs2[at]))
    longer = seqs if len(seqs) > count else seqs2
    end = min(one.head["seq"], other.head["seq"])
    return int(longer[count]) if len(longer) > count and longer[count] <= end else 0


def _legs(books: Books, key: int) -> tuple[Array, Array, Array]:
    """(command, key, amount) of every leg of an account, or of all."""
    entries = books.rows("entries", 0, books.entries)
    seqs = np.repeat(entries["seq"], entries["leg_count"].astype(np.int64))
    accounts = books.rows("account", 0, books.legs)
    known = accounts < len(books.keys)
    keys = np.where(known, books.keys["key"][np.where(known, accounts, 0)], -1)
    amounts = books.rows("amount", 0, books.legs)
    keep = keys == key if key else np.ones(len(keys), np.bool_)
    return seqs[keep], keys[keep], amounts[keep]


def _first_by_state(data: Path, books: Books, b: Break, good: int) -> int:
    """Replay command by command behind `good` until this break shows."""
    from tools.ledger_facts import Replay

    told = _history(books, b.key)
    replay = Replay(data)
    try:
        for _ in replay.checkpoints(good):
            pass
        return replay.first_difference(b.key, told, b.seq)
    finally:
        replay.close()


def _history(books: Books, figure: int) -> Array:
    """int64[n, 2]: a figure as the books tell it, behind each command that moved it."""
    moves: dict[int, int] = {}
    for key in _parts(books, figure):
        seqs, _, amounts = _legs(books, key)
        for seq, amount in zip(seqs.tolist(), amounts.tolist(), strict=True):
            moves[seq] = moves.get(seq, 0) + amount
    sign = -1 if unpack(figure).code in (Code.AVAILABLE, Code.POSITION_MARGIN) else 1
    total, rows = 0, []
    for seq in sorted(moves):
        total += sign * moves[seq]
        rows.append((seq, total))
    return np.array(rows, np.int64).reshape(-1, 2)


# ---------------------------------------------------------------- what follows


def run(
    config: Config,
    *,
    custody: tuple[Path, ...],
    mapping: Path | None,
    replay: bool,
    genesis: bool,
    programs: bool,
    cancel_only: bool,
    as_json: bool,
) -> int:
    """Reconcile, keep the report, say what was found; 1 when there is a break."""
    data = Path(config.data_dir)
    found, said = reconcile(
        data,
        config=config,
        custody=custody,
        mapping=mapping,
        replay=replay,
        genesis=genesis,
        programs=programs,
    )
    report = BreakReport(data)
    new = report.record(found, checks=said["checks"])
    said["breaks"] = len(found)
    if (cancel_only or config.ledger.cancel_only) and halting(found):
        halt(config)
        said["venue"] = "CANCEL_ONLY"
    if as_json:
        click.echo(json.dumps({**said, "new": len(new), "open": report.live}, indent=2))
    else:
        for b in found:
            click.echo(break_text(b))
        what = f"{said['points']} hash points of a replay to command {said.get('replayed', 0)}"
        click.echo(f"{len(found)} breaks at command {said['sequence']}; compared with {what}")
        if "venue" in said:
            click.echo("the venue takes nothing but cancels now")
    return 1 if found else 0


def break_text(b: Break) -> str:
    """One line for the log."""
    return (
        f"BREAK {b.check} {b.account}: books {b.books}, other side {b.other}, "
        f"difference {b.difference}, first at command {b.first_seq or b.seq}"
    )


def halting(found: list[Break]) -> bool:
    """Whether any of these is a reason to stop trading."""
    return any(b.check in HALTING for b in found)


Halt = Callable[[Config], None]


def halt(config: Config) -> None:
    """The venue takes nothing but cancels until somebody looked.

    Through the operators' socket where there is one, which is the producer "admin"; else, or where
    `ledger.producer` is another, through that producer's own ring.
    """
    from gateways.http.adminclient import administer
    from shm.codes import Kind, State
    from shm.kinds import command
    from tools.desk import ask

    if config.ledger.producer != "admin":
        ask(config, config.ledger.producer, command(Kind.VENUE_STATE, state=State.CANCEL_ONLY))
        return
    said = {"state": State.CANCEL_ONLY.name}
    administer(
        config,
        "/commands/venue_state",
        said,
        lambda admin, who: admin.act(who, Kind.VENUE_STATE, said),
    )
