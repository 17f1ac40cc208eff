"""Every check of the project: `python -m tools.check`, which is all that CI runs.

    format, lint, types       ruff format --check, ruff check, mypy
    compile                   production's kernels, so that no test waits for them
    processes                 pytest of what runs as processes, on production's own build
    checked                   the kernels again, on arrays with bounds checks (shm/jit.py)
    compiled                  pytest on that build
    plain                     the kernels' tests again, as plain Python

Two lanes run beside each other, since compiling and most tests keep one core busy: production's
build and its processes in one, the checked and the plain build in the other. What a step prints is
shown when it is over. Arguments go to pytest; with any, what is not pytest is left out, and one run
follows the other with its output as it comes. Which test belongs to which run, tests/conftest.py
says. Ends with a summary, and with 1 if anything failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
NO_TESTS: Final = 5  # pytest: nothing was selected


class Step(NamedTuple):
    """One command, and what of the environment it needs."""

    name: str
    command: list[str]
    environment: dict[str, str]
    lane: int


class Outcome(NamedTuple):
    """How a step ended."""

    name: str
    code: int
    seconds: float


LANES: Final = (0, 1)
SUITES: Final = ("processes", "compiled", "plain")


def steps(arguments: list[str]) -> list[Step]:
    """What to run; each lane in this order."""
    python = [sys.executable, "-m"]
    checks = [
        Step("format", [*python, "ruff", "format", "--check", "."], {}, 0),
        Step("lint", [*python, "ruff", "check", "."], {}, 0),
        Step("types", [*python, "mypy"], {}, 0),
    ]
    builds = {
        "processes": ({}, 0),
        "compiled": ({"PERPCORE_BOUNDSCHECK": "1"}, 1),
        "plain": ({"NUMBA_DISABLE_JIT": "1"}, 1),
    }
    suites = [
        Step(name, [*python, "pytest", *arguments], {"PERPCORE_SUITE": name, **build}, lane)
        for name, (build, lane) in builds.items()
    ]
    # Both compiled builds before their tests: a time limit is for tests, and not for a compiler.
    compiles = [
        Step("compile", [*python, "tools.cli", "compile"], {}, 0),
        Step("checked", [*python, "tools.cli", "compile"], builds["compiled"][0], 1),
    ]
    return [*([] if arguments else checks), *compiles, *suites]


def run(step: Step, show: threading.Lock | None = None) -> Outcome:
    """Run one step.

    show    held to print: others run beside it, so its output is passed on in one piece at the end
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PERPCORE_BOUNDSCHECK", "NUMBA_DISABLE_JIT", "PERPCORE_SUITE")
    }
    with show or nullcontext():
        print(f"\n== {step.name}: {' '.join(step.command[2:])}", flush=True)
    begun = time.monotonic()
    done = subprocess.run(
        step.command,
        cwd=ROOT,
        env=inherited | step.environment,
        stdout=subprocess.PIPE if show else None,
        stderr=subprocess.STDOUT if show else None,
        text=True,
        errors="replace",
    )
    seconds = time.monotonic() - begun
    if show:
        with show:
            print(f"\n== {step.name} said\n{done.stdout}", flush=True)
    return Outcome(step.name, done.returncode, seconds)


def main(arguments: list[str]) -> int:
    begun = time.monotonic()
    todo = steps(arguments)
    if arguments:
        outcomes = [run(step) for step in todo]
    else:
        show = threading.Lock()

        def follow(lane: int) -> list[Outcome]:
            return [run(step, show) for step in todo if step.lane == lane]

        with ThreadPoolExecutor(len(LANES)) as pool:
            outcomes = [outcome for lane in pool.map(follow, LANES) for outcome in lane]
    # A selection may well have nothing in one of the runs, but not in all of them.
    empty = all(o.code == NO_TESTS for o in outcomes if o.name in SUITES)
    failed = [o.name for o in outcomes if o.code and (o.code != NO_TESTS or not arguments or empty)]
    print("\n== summary")
    for outcome in outcomes:
        word = "FAILED" if outcome.name in failed else "ok" if outcome.code == 0 else "no tests"
        print(f"{outcome.name:<10} {word:<8} {outcome.seconds:7.1f} s")
    print(f"{'all':<10} {'FAILED' if failed else 'ok':<8} {time.monotonic() - begun:7.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
