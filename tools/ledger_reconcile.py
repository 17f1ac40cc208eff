"""`perpcore ledger reconcile`: the books against a replay of the WAL, and against custody.

Reads   the books; the WAL, replayed here from genesis; custody statements.
Writes  <data>/breaks.json; with --cancel-only, or ledger.cancel_only set, a VENUE_STATE command.
Never   changes the books.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from ledger.books import Books
from ledger.breaks import BreakReport
from ledger.files import LedgerError, ledger_folder
from ledger.reconcile import (
    Break,
    Facts,
    compare,
    compare_custody,
    compare_liabilities,
    laws,
    read_custody,
)
from shm.config import Config

Array = np.ndarray[Any, Any]
HALTING: Final = ("R1", "R2", "R3", "R4", "R7")
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
    custody: tuple[Path, ...] = (),
    mapping: Path | None = None,
    replay: bool = True,
) -> tuple[list[Break], dict[str, Any]]:
    """Every reconciliation there is something to reconcile with; (breaks, what was compared)."""
    books = Books(ledger_folder(data))
    cut = books.now()
    found = laws(books, cut)
    said: dict[str, Any] = {"sequence": cut.seq, "entries": cut.entries, "points": 0}
    if replay:
        found += _against_replay(data, books, said)
    if custody:
        lines = [line for path in custody for line in read_custody(path, books)]
        found += compare_custody(books, cut, lines, read_mapping(mapping) if mapping else {})
        said["custody"] = len(lines)
    found += _against_proof(books)
    return found, said


def _against_replay(data: Path, books: Books, said: dict[str, Any]) -> list[Break]:
    from engine.replay import Diverged
    from engine.wal import scan_wal
    from tools.ledger_facts import Replay

    end = min(scan_wal(data).seq, books.head["seq"])
    blocks = max(1, len(books.blocks()))
    found: list[Break] = []
    try:
        for facts in Replay(data).points(end, max(1, blocks // POINTS)):
            if facts.seq > books.head["seq"]:
                break
            said["points"] += 1
            said["replayed"] = facts.seq
            found = compare(books, facts)
            if found:
                found = _located(data, books, facts, found)
                break
    except Diverged as error:
        found.append(Break("R7", str(error), 0, 1, books.head["seq"]))
    return found


def _against_proof(books: Books) -> list[Break]:
    """R9: the leaves of a proof, and what is owed to the venue instead, are the liabilities."""
    from ledger.proof import Tree, liabilities

    _owed, assets, deficits = liabilities(books, books.now())
    try:
        sums = Tree(books, books.now(), bytes(16)).root.sums
    except LedgerError:
        sums = (0,) * len(assets)
    net = {a: s - deficits.get(a, 0) for a, s in zip(assets, sums, strict=True)}
    return compare_liabilities(books, books.now(), net)


# ---------------------------------------------------------------- where it began


def _located(data: Path, books: Books, facts: Facts, found: list[Break]) -> list[Break]:
    """The same breaks with the first command at which each of them shows.

    The books are made a second time from the WAL: where those differ from what is on disk, an
    entry was altered or lost. Where they don't, the reports are at odds with the engine's state,
    and a replay command by command says since when.
    """
    folder = Path(tempfile.mkdtemp(prefix="perpcore-shadow-"))
    try:
        shadow = _shadow(data, folder / "ledger", facts.seq)
        first = {b.key: first_difference(books, shadow, b.key) for b in found if b.key}
        whole = first_difference(books, shadow, 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        b._replace(
            first_seq=first.get(b.key) or whole or _first_by_state(data, books, b, facts.seq)
        )
        for b in found
    ]


def _shadow(data: Path, folder: Path, upto: int) -> Books:
    """Books made of the WAL alone, up to a command."""
    from engine.recovery import fresh_arrays
    from engine.replay import Replayer
    from engine.wal import read_commands
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
    keys = books.keys["key"][books.rows("account", 0, books.legs)]
    amounts = books.rows("amount", 0, books.legs)
    keep = keys == key if key else np.ones(len(keys), np.bool_)
    return seqs[keep], keys[keep], amounts[keep]


def _first_by_state(data: Path, books: Books, b: Break, upto: int) -> int:
    """Replay command by command until this break shows."""
    from tools.ledger_facts import Replay

    replay = Replay(data)

    def look(seq: int) -> bool:
        return any(c.account == b.account for c in compare(books, replay.facts()._replace(seq=seq)))

    return replay.watch(upto, 0, look)


# ---------------------------------------------------------------- what follows


def run(
    config: Config,
    *,
    custody: tuple[Path, ...],
    mapping: Path | None,
    replay: bool,
    cancel_only: bool,
    as_json: bool,
    stop: Callable[[Config], None] | None = None,
) -> int:
    """Reconcile, keep the report, say what was found; 1 when there is a break."""
    data = Path(config.data_dir)
    found, said = reconcile(data, custody=custody, mapping=mapping, replay=replay)
    report = BreakReport(data)
    new = report.record(found)
    halting = [b for b in found if b.check in HALTING]
    said["breaks"] = len(found)
    if halting and (cancel_only or config.ledger.cancel_only):
        (stop or halt)(config)
        said["venue"] = "CANCEL_ONLY"
    if as_json:
        click.echo(json.dumps({**said, "new": len(new), "open": report.live}, indent=2))
    else:
        for b in found:
            since = b.first_seq or b.seq
            click.echo(
                f"BREAK {b.check} {b.account}: books {b.books}, other side {b.other}, "
                f"difference {b.difference}, first at command {since}"
            )
        what = f"{said['points']} hash points of a replay to command {said.get('replayed', 0)}"
        click.echo(f"{len(found)} breaks at command {said['sequence']}; compared with {what}")
        if "venue" in said:
            click.echo("the venue takes nothing but cancels now")
    return 1 if found else 0


def halt(config: Config) -> None:
    """The venue takes nothing but cancels until somebody looked."""
    from shm.codes import Kind, State
    from shm.kinds import command
    from tools.desk import ask

    ask(config, config.ledger.producer, command(Kind.VENUE_STATE, state=State.CANCEL_ONLY))
