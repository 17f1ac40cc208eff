"""What every benchmark shares: conditions, options, tables, open-loop latency, stalls, a plot.

    options = harness.options("rings", __doc__)
    report = harness.Report("rings", options)
    report.table("hop", [{"case": "64 B, spin", "p50_ns": 210}])   # rows as JSON would have them
    report.latency("hop", cells)                                  # a line of the plot
    report.finish()                                               # text, JSON, plot

Reads   the host, once, before anything runs: a figure without its conditions is not a result.
Writes  text or JSON to standard output; with --out also files.
Never   hides a run: what a busy machine did to it is set apart (`apart`), and both are shown.

Latency is open loop: command i is due at start + i / rate whatever happened to the one before,
and its latency counts from when it was due. A generator that falls behind does not forgive.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from shm.atomics import CLOCK_MONOTONIC, clock_ns
from shm.histogram import new_histogram, record_all, summary
from shm.jit import BOUNDSCHECK, PLAIN, inlined
from shm.pointers import Cells

ROOT: Final = Path(__file__).parent.parent
Array = np.ndarray[Any, Any]
Row = dict[str, Any]

# ---------------------------------------------------------------- conditions


def _first_line(path: str, starts: str = "") -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] or line for line in lines if line.startswith(starts)), "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def conditions() -> Row:
    """What a reader must know about the machine and the build to judge a figure."""
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    if commit != "unknown":
        commit += " dirty" if _git("status", "--porcelain", "--untracked-files=no") else " clean"
    return {
        "commit": commit,
        "build": "bounds checked" if BOUNDSCHECK else "plain Python" if PLAIN else "production",
        "python": platform.python_version(),
        "numba": version("numba"),
        "numpy": version("numpy"),
        "cpu": _first_line("/proc/cpuinfo", "model name").strip() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "isolated": _first_line("/sys/devices/system/cpu/isolated").strip(),
        "hypervisor": "hypervisor" in _first_line("/proc/cpuinfo", "flags"),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 2),
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def conditions_text(name: str, facts: Row) -> str:
    """The conditions as the first lines of a report."""
    cores = f"{facts['cores']} cores, " + (
        f"{facts['isolated']} isolated" if facts["isolated"] else "none isolated"
    )
    machine = f"{facts['cpu']}{' (virtual)' if facts['hypervisor'] else ''}"
    text = (
        f"{name}  commit {facts['commit']}  {facts['build']} build  Python {facts['python']}  "
        f"numba {facts['numba']}\n{machine}, {cores}, load {facts['load']}  "
        f"Linux {facts['kernel']}  {facts['at']}"
    )
    if facts["load"] > 0.3:
        text += "\nThe machine was busy when this began: expect worse tails and lower rates."
    return text


# ---------------------------------------------------------------- options and report


def options(name: str, doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """--smoke, --json and --out, the same for all; `parser` is for benchmarks that want more."""
    return parser(name, doc).parse_args(argv)


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Parser with the shared options."""
    about = (doc or "").strip().split("\n")[0]
    made = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    made.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    made.add_argument("--json", action="store_true", help="print JSON, not text")
    made.add_argument("--out", metavar="DIR", type=Path, help="also write NAME.txt, .json, .svg")
    return made


class Report:
    """Tables and latencies of one benchmark, told as text, JSON and a plot."""

    def __init__(self, name: str, chosen: argparse.Namespace) -> None:
        self.name = name
        self.conditions = conditions()
        self.tables: dict[str, list[Row]] = {}
        self.notes: list[str] = []
        self._chosen = chosen
        self._latencies: dict[str, Array] = {}

    def table(self, title: str, rows: Iterable[Row]) -> None:
        """Add a table, or rows to one; a person watching sees each as soon as it is known."""
        rows = list(rows)
        if not self._chosen.json:
            if not self.tables:
                print(conditions_text(self.name, self.conditions), flush=True)
            print(f"\n{title}\n{table_text(rows)}", flush=True)
        self.tables.setdefault(title, []).extend(rows)

    def note(self, text: str) -> None:
        """One line on what was measured, or what was not."""
        self.notes.append(text)
        if not self._chosen.json:
            print(text, flush=True)

    def latency(self, label: str, cells: Array) -> None:
        """Keep a histogram for the plot."""
        self._latencies[label] = cells.copy()

    def text(self) -> str:
        """All of it, as printed."""
        parts = [conditions_text(self.name, self.conditions)]
        parts += [f"\n{title}\n{table_text(rows)}" for title, rows in self.tables.items()]
        return "\n".join(parts + self.notes) + "\n"

    def as_json(self) -> Row:
        """All of it, for a script."""
        return {
            "benchmark": self.name,
            "conditions": self.conditions,
            "tables": self.tables,
            "notes": self.notes,
        }

    def finish(self) -> None:
        """Print JSON if asked to; write text, JSON and plot where --out says."""
        if self._chosen.json:
            print(json.dumps(self.as_json(), indent=1))
        if self._chosen.out is None:
            return
        folder: Path = self._chosen.out
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.txt").write_text(self.text())
        (folder / f"{self.name}.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")
        if self._latencies:
            title = f"{self.name}, commit {self.conditions['commit']}"
            plot_latencies(folder / f"{self.name}.svg", title, self._latencies)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def table_text(rows: Sequence[Row]) -> str:
    """Rows under the union of their columns, text to the left, numbers to the right."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[k]) for r in cells)) for k, c in enumerate(columns)]
    text = [all(isinstance(row.get(c, ""), str) for row in rows) for c in columns]
    lines = []
    for line in [columns, *cells]:
        shown = (
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, text, strict=True)
        )
        lines.append("  " + "  ".join(shown).rstrip())
    return "\n".join(lines)


def latency_row(case: str, cells: Array, **more: Any) -> Row:
    """The usual percentiles of a histogram as a table row, in ns."""
    row = summary(cells)._asdict()
    row["mean_ns"] = round(row["mean_ns"])
    count = row.pop("value_count")
    return {"case": case, **more, **row, "count": count}


def histogram_of(values_ns: Array) -> Array:
    """A histogram of what was kept one by one."""
    cells = new_histogram()
    record_all(cells, values_ns)
    return cells


def plot_latencies(path: Path, title: str, latencies: dict[str, Array]) -> bool:
    """Latency by percentile, one line a label; False when matplotlib is not there."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install 'perpcore[bench]' brings matplotlib", file=sys.stderr)
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    from shm.histogram import percentiles

    beyond = np.logspace(0, -5, 101)  # the part of all values that lies above
    figure, axes = pyplot.subplots(figsize=(9, 5))
    for label, cells in latencies.items():
        count = int(cells[8:].sum())
        if count:
            shown = beyond[beyond * count >= 1]
            values = percentiles(cells, list(100 * (1 - shown)))
            axes.plot(1 / shown, np.maximum(values, 1) / 1000, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    marks = {1: "0 %", 2: "50 %", 10: "90 %", 100: "99 %", 1e3: "99.9 %", 1e4: "99.99 %"}
    axes.set_xticks(list(marks), list(marks.values()))
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency, µs")
    axes.set_title(title)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return True


# ---------------------------------------------------------------- open loop


@inlined
def due_ns(start_ns: int, i: int, rate: int) -> int:
    """When command i of an open loop is due; exact, however long the run."""
    return start_ns + (i // rate) * 1_000_000_000 + (i % rate) * 1_000_000_000 // rate


# ---------------------------------------------------------------- stalls

# A spin witness: the loop under test looks at the clock every turn, and where two looks are far
# apart something else had the core. Cells of its memory, then pairs of (from_ns, to_ns).
LAST_NS: Final = 0
STALL_COUNT: Final = 1
STALLS: Final = 8


def witness_cells(stalls_max: int = 1 << 16) -> int:
    """How many int64 cells a witness needs."""
    return STALLS + 2 * stalls_max


@inlined
def witness(cells: Cells, cell_count: int, threshold_ns: int) -> int:
    """Look at the clock; note a gap above `threshold_ns` since the last look. Returns now."""
    now = clock_ns(CLOCK_MONOTONIC)
    if now - cells[LAST_NS] > threshold_ns and cells[LAST_NS] != 0:
        at = STALLS + 2 * cells[STALL_COUNT]
        if at + 2 <= cell_count:
            cells[at] = cells[LAST_NS]
            cells[at + 1] = now
        cells[STALL_COUNT] = cells[STALL_COUNT] + 1
    cells[LAST_NS] = now
    return now


def stalls_of(cells: Array) -> Array:
    """(from_ns, to_ns) of each stall that a witness noted."""
    kept = min(int(cells[STALL_COUNT]), (len(cells) - STALLS) // 2)
    return cells[STALLS : STALLS + 2 * kept].reshape(-1, 2)


def apart(from_ns: Array, to_ns: Array, *stalls: Array) -> Array:
    """Which of the spans from_ns..to_ns overlap a stall of any witness."""
    hit = np.zeros(len(from_ns), bool)
    for spans in stalls:
        if len(spans):
            # The first stall that ends after the span began: does it begin before the span ends?
            first = np.searchsorted(spans[:, 1], from_ns, side="right")
            begins = np.append(spans[:, 0], np.iinfo(np.int64).max)[first]
            hit |= begins < to_ns
    return hit


def with_backlog(hit: Array, from_ns: Array, to_ns: Array) -> Array:
    """`hit`, and every span that queued behind one: due before its predecessor was through.

    Spans are in order, one served after the other. At a rate near saturation that is nearly all
    of them; the count of what is left says so.
    """
    idle = np.ones(len(hit), bool)
    idle[1:] = from_ns[1:] >= to_ns[:-1]  # nobody was being served: a new busy period begins
    begins = np.maximum.accumulate(np.where(idle, np.arange(len(hit)), 0))
    hits = np.concatenate([[0], np.cumsum(hit)])
    queued: Array = hits[1:] > hits[begins]
    return queued


# ---------------------------------------------------------------- processes


def pin(cpu: int | None) -> str:
    """Pin this process; returns what to say when the host refuses, else nothing."""
    if cpu is None:
        return ""
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        return f"could not pin process {os.getpid()} to cpu {cpu}: {error}"
    return ""


@contextmanager
def awake() -> Iterator[bool]:
    """While it lasts, cores with nothing to do poll, and don't halt; False: not allowed here.

    What a host of its own is set to. Waking a core that a hypervisor has put to sleep takes 30 to
    50 us, and an order wakes ten times on its way.
    """
    try:
        fd = os.open("/dev/cpu_dma_latency", os.O_WRONLY)
    except OSError:
        yield False
        return
    try:
        os.write(fd, (0).to_bytes(4, sys.byteorder))
        yield True
    finally:
        os.close(fd)


def die_with_parent() -> None:
    """End this process when its parent does, also in the middle of a kernel."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def cores() -> list[int]:
    """The cpus this process may use."""
    return sorted(os.sched_getaffinity(0))


def median_of(runs: int, measure: Callable[[], float]) -> tuple[float, float]:
    """(median, best) of several runs of something that returns a rate."""
    values = sorted(measure() for _ in range(runs))
    return values[len(values) // 2], values[-1]
