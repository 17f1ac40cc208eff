"""`perpcore top`: a running exchange, drawn again and again: stages, rings, latencies, refusals.

Reads   shared memory of one instance, a few times a second; the engine doesn't notice.
Writes  the terminal.
Never   imports numba.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shm import cursors
from shm.control import View, text_of
from shm.counters import Counters
from shm.errors import ErrorTable
from shm.histogram import count_of, percentiles
from shm.segment import SegmentError

STAGES: Final = (
    ("sequence", cursors.SEQUENCED),
    ("risk", cursors.RISKED),
    ("match", None),
    ("settle", cursors.SETTLED),
    ("journal", cursors.JOURNALED),
    ("publish", cursors.PUBLISHED),
)
BAR: Final = 30  # characters
REFUSALS: Final = 8  # rows
ERRORS: Final = 4


class Moment(NamedTuple):
    """Everything that is looked at, at one time."""

    ns: int
    at: dict[str, int]
    counters: dict[str, int]
    timings: dict[str, Any]


def look(view: View, counters: Counters) -> Moment:
    """The state now."""
    shards = range(int(view.engine["shards"]))
    matched = min((view.cursor(cursors.matched(k)) for k in shards), default=0)
    at = {name: matched if cell is None else view.cursor(cell) for name, cell in STAGES}
    values = {label: value for label, (value, _) in counters.read().items()}
    timings = {label: cells.copy() for label, cells in counters.read_timings().items()}
    return Moment(time.monotonic_ns(), at, values, timings)


def _us(ns: float) -> str:
    return f"{ns / 1000:,.1f}"


def _bar(share: float) -> Text:
    share = min(max(share, 0.0), 1.0)
    full = round(share * BAR)
    style = "red" if share > 0.8 else "yellow" if share > 0.4 else "green"
    return Text("█" * full + "·" * (BAR - full), style)


def draw(view: View, now: Moment, before: Moment, errors: ErrorTable | None) -> Group:
    """One picture: what happened between two moments."""
    engine = view.engine
    seconds = max((now.ns - before.ns) / 1e9, 1e-9)
    alive = view.alive
    title = Text.assemble(
        (f"perpcore {view.instance}  ", "bold"),
        (f"{view.phase.name if alive else 'DEAD'}  ", "green" if alive else "bold red"),
        f"epoch {view.epoch}  pid {view.pid}  {text_of(engine['data_dir'])}",
    )
    stages = Table(box=None, pad_edge=False)
    for name in ("stage", "commands/s", "behind"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    stages.add_column("share of the ring", justify="left")
    slots = max(int(engine["commands"]), 1)
    for name, _cell in STAGES:
        behind = now.at["sequence"] - now.at[name]
        rate = (now.at[name] - before.at[name]) / seconds
        stages.add_row(name, f"{rate:,.0f}", f"{behind:,}", _bar(behind / slots))
    used = view.cursor(cursors.REPORTS_WRITTEN) - view.cursor(cursors.REPORTS_READ)
    stages.add_row("reports", "", f"{used:,}", _bar(used / max(int(engine["reports"]), 1)))

    workers = Table(box=None, pad_edge=False)
    for name in ("worker", "stages", "core", "state", "seen", "refused by the host"):
        workers.add_column(name)
    for w in view.workers():
        age = max(now.ns - w.heartbeat_ns, 0) / 1e9
        workers.add_row(
            w.name,
            " ".join(w.stages),
            "any" if w.cpu < 0 else str(w.cpu),
            w.state.name.lower(),
            Text(f"{age:.1f} s ago", "red" if age > 2 else ""),
            str(w.refused.name or "-").lower(),
        )

    timings = Table(box=None, pad_edge=False)
    for name in ("latency, us", "count", "p50", "p99", "p99.9", "max so far"):
        timings.add_column(name, justify="left" if name.startswith("l") else "right")
    for label, cells in now.timings.items():
        since = cells - before.timings[label]
        since[0] = cells[0]
        count = count_of(since)
        p50, p99, p99_9 = percentiles(since, (50, 99, 99.9))
        shown = [_us(p) if count else "-" for p in (p50, p99, p99_9)]
        timings.add_row(label, f"{count:,}", *shown, _us(int(since[0])))

    refused = Table(box=None, pad_edge=False)
    refused.add_column("refused")
    refused.add_column("a second", justify="right")
    refused.add_column("so far", justify="right")
    codes = [
        (value - before.counters.get(label, 0), value, label.removeprefix("refused."))
        for label, value in now.counters.items()
        if label.startswith("refused.") and value
    ]
    for new, total, code in sorted(codes, reverse=True)[:REFUSALS]:
        refused.add_row(code, f"{new / seconds:,.0f}", f"{total:,}")
    parts: list[Any] = [title, Text(), stages, Text(), timings, Text(), workers]
    if codes:
        parts += [Text(), refused]
    noted = errors.read()[:ERRORS] if errors is not None else []
    if noted:
        table = Table(box=None, pad_edge=False)
        for name in ("errors", "times", "latest"):
            table.add_column(name)
        for error in noted:
            table.add_row(error.where, f"{error.times:,}", error.latest)
        parts += [Text(), table]
    return Group(*parts)


def run(instance: str, interval_seconds: float, count: int | None) -> int:
    """Draw until Ctrl-C, or `count` times; the exit code: 1 when the engine went away."""
    view = View(instance)
    counters = Counters.attach(instance, writable=False)
    try:
        errors: ErrorTable | None = ErrorTable.attach(instance, writable=False)
    except SegmentError:
        errors = None
    console = Console()
    before = look(view, counters)
    drawn = 0
    try:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while count is None or drawn < count:
                time.sleep(interval_seconds)
                now = look(view, counters)
                live.update(draw(view, now, before, errors), refresh=True)
                before = now
                drawn += 1
                if not view.alive:
                    return 1
    except KeyboardInterrupt:
        pass
    return 0
