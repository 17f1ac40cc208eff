"""tools/check.py: which steps there are, which test belongs to which run, when all of it failed."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import belongs
from tools import check
from tools.check import Outcome, Step

NAMES = ["format", "lint", "types", "compile", "checked", "processes", "compiled", "plain"]

# arguments to pytest | exit codes of compile, processes, compiled, plain | whole
CODES = """
           | 0 0 0 0 | 0
           | 1 0 0 0 | 1
           | 0 1 0 0 | 1
           | 0 5 0 0 | 1    nothing selected, and nobody asked for a selection
  -k flow  | 0 0 5 5 | 0
  -k flow  | 0 0 5 1 | 1
  -k none  | 0 5 5 5 | 1    a selection of nothing
"""

BELONGS = """
  unit/test_flow.py          | compiled plain
  laws/test_book.py          | compiled plain
  golden/test_matching.py    | compiled plain
  golden/test_replay_days.py | processes
  golden/replay/test_x.py    | processes
  test_floors.py             | compiled
  process/test_up.py         | processes
  faults/test_kill.py        | processes
  sim/test_seeds.py          | processes
"""


def test_steps() -> None:
    assert [step.name for step in check.steps([])] == NAMES
    assert [step.name for step in check.steps(["-x"])] == NAMES[3:]
    assert all(step.command[-1] == "-x" for step in check.steps(["-x"])[2:])


@pytest.mark.parametrize("case", [line for line in CODES.splitlines() if line])
def test_summary(case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    arguments, codes, whole = (part.split() for part in case.split("|"))
    names = [name for name in NAMES[3:] if name != "checked"]
    ends = dict(zip(names, map(int, codes), strict=True))
    monkeypatch.setattr(
        check, "run", lambda step, show=None: Outcome(step.name, ends.get(step.name, 0), 1.0)
    )
    assert check.main(arguments) == int(whole[0])
    assert ("FAILED" in capsys.readouterr().out) == (whole[0] == "1")


def test_a_step_has_only_its_own_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPCORE_BOUNDSCHECK", "1")
    program = "import os, sys; sys.exit('PERPCORE_BOUNDSCHECK' in os.environ)"
    step = Step("x", [check.sys.executable, "-c", program], {}, 0)
    assert check.run(step).code == 0
    step = step._replace(environment={"PERPCORE_BOUNDSCHECK": "1"})
    assert check.run(step).code == 1


def test_what_a_step_prints_is_passed_on_whole(capfd: pytest.CaptureFixture[str]) -> None:
    step = Step("x", [check.sys.executable, "-c", "print('one'); print('two')"], {}, 0)
    assert check.run(step, threading.Lock()).code == 0
    assert "== x said\none\ntwo\n" in capfd.readouterr().out
    assert check.run(step).code == 0
    assert "one\ntwo\n" in capfd.readouterr().out


@pytest.mark.parametrize("case", [line for line in BELONGS.splitlines() if line])
def test_every_test_runs_somewhere(case: str) -> None:
    path, suites = (part.strip() for part in case.split("|"))
    wanted = suites.split()
    assert [suite for suite in ("compiled", "processes", "plain") if belongs(path, suite)] == wanted
    assert belongs(path, "")
