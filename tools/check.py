"""Every check of the project, in order: `python -m tools.check`, which is all that CI runs.

    format, lint, types       ruff format --check, ruff check, mypy
    compile                   production's kernels, so that no test waits for them
    compiled                  pytest on arrays with bounds checks (shm/jit.py)
    processes                 pytest of what runs as processes, on production's own build
    plain                     the kernels' tests again, as plain Python

Arguments go to pytest; with any, what is not pytest is left out. Which test belongs to which run,
tests/conftest.py says. Ends with a summary, and with 1 if anything failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
NO_TESTS: Final = 5  # pytest: nothing was selected


class Step(NamedTuple):
    """One command, and what of the environment it needs."""

    name: str
    command: list[str]
    environment: dict[str, str]


class Outcome(NamedTuple):
    """How a step ended."""

    name: str
    code: int
    seconds: float


def steps(arguments: list[str]) -> list[Step]:
    """What to run, in order."""
    python = [sys.executable, "-m"]
    checks = [
        Step("format", [*python, "ruff", "format", "--check", "."], {}),
        Step("lint", [*python, "ruff", "check", "."], {}),
        Step("types", [*python, "mypy"], {}),
    ]
    builds = {
        "compiled": {"PERPCORE_BOUNDSCHECK": "1"},
        "processes": {},
        "plain": {"NUMBA_DISABLE_JIT": "1"},
    }
    suites = [
        Step(name, [*python, "pytest", *arguments], {"PERPCORE_SUITE": name, **build})
        for name, build in builds.items()
    ]
    # Both compiled builds before any test: a time limit is for tests, and not for a compiler.
    compiles = [
        Step("compile", [*python, "tools.cli", "compile"], {}),
        Step("checked", [*python, "tools.cli", "compile"], builds["compiled"]),
    ]
    return [*([] if arguments else checks), *compiles, *suites]


def run(step: Step) -> Outcome:
    """Run one step with its output passed through."""
    print(f"\n== {step.name}: {' '.join(step.command[2:])}", flush=True)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PERPCORE_BOUNDSCHECK", "NUMBA_DISABLE_JIT", "PERPCORE_SUITE")
    }
    begun = time.monotonic()
    code = subprocess.run(step.command, cwd=ROOT, env=inherited | step.environment).returncode
    return Outcome(step.name, code, time.monotonic() - begun)


def main(arguments: list[str]) -> int:
    outcomes = [run(step) for step in steps(arguments)]
    # A selection may well have nothing in one of the runs, but not in all of them.
    suites = [outcome.code for outcome in outcomes[-3:]]
    empty = all(code == NO_TESTS for code in suites)
    failed = [o.name for o in outcomes if o.code and (o.code != NO_TESTS or not arguments or empty)]
    print("\n== summary")
    for outcome in outcomes:
        word = "FAILED" if outcome.name in failed else "ok" if outcome.code == 0 else "no tests"
        print(f"{outcome.name:<10} {word:<8} {outcome.seconds:7.1f} s")
    print(
        f"{'all':<10} {'FAILED' if failed else 'ok':<8} {sum(o.seconds for o in outcomes):7.1f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
