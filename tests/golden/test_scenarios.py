"""Scenarios that traders can read: each runs as expected, and notices every expectation broken."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from tools import scenariodocs
from tools.scenariofile import load, parse
from tools.scenariomodel import Check, Rows, Scenario
from tools.scenariorun import Run, Variant, run
from tools.scenariounits import Want

HERE = Path(__file__).parent / "scenarios"
README = (Path(__file__).parents[2] / "README.md").read_text()
FILES = sorted(HERE.rglob("*.toml"))
NOTHING = Want("nothing", "=", "nothing")


def section() -> str:
    return README[README.index("\n## Scenarios") : README.index("\n## Simulation")]


def told(outcome: object) -> str:
    return "\n".join(map(str, getattr(outcome, "problems", [])))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_as_expected(path: Path) -> None:
    outcome = run(load(path))
    assert not outcome.problems, told(outcome)
    assert outcome.checks > 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_expectation_can_fail(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.scenariorun.PROBLEMS_MAX", 10_000)
    scenario = load(path)
    wanted = break_all(scenario)
    one = Run(scenario, Variant(1, None))
    one.all()
    noticed = {(p.step, p.what) for p in one.problems}
    assert wanted - noticed == set()


def break_all(scenario: Scenario) -> set[tuple[str, str]]:
    """Turn every wanted value into another; returns what must be noticed."""
    wanted = set()
    for outer in scenario.steps:
        for step in (outer, *outer.inner):
            expect = step.expect
            for name, want in expect.answer.items():
                expect.answer[name] = other(want)
                wanted.add((step.number, name))
            state = expect.state
            state[:] = [
                c._replace(want=other(c.want)) if isinstance(c, Check) else c for c in state
            ]
            wanted |= {(step.number, c.what) for c in state if isinstance(c, Check)}
            for rows in (*expect.events, *(c for c in state if isinstance(c, Rows))):
                for k, wants in enumerate(rows.rows, 1):
                    wanted |= {(step.number, f"{rows.what}[{k}].{name}") for name in wants}
                    wants.update({name: other(want) for name, want in wants.items()})
                if not rows.rows and rows.many is None:
                    rows.rows.append({})  # one where there is none
                    wanted.add((step.number, rows.what))
    return wanted


def other(want: Want) -> Want:
    """Something that isn't met where this one is."""
    opposite = {"<": ">=", ">": "<=", "<=": ">", ">=": "<", "!=": "="}
    if want.op in opposite:
        return want._replace(op=opposite[want.op])
    if want.op == "~":
        return want._replace(low=want.low + 3 * want.high)
    if want.op == "..":
        return want._replace(low=want.high + 1, high=want.high + 2)
    if want.op == "=" and isinstance(want.low, Fraction):
        return want._replace(low=want.low + 1)
    return NOTHING


def test_readme_has_every_key() -> None:
    assert scenariodocs.reference() in section()


SNIPPETS = re.findall(r"```toml\n(.*?)```", section(), re.DOTALL)


@pytest.mark.parametrize("text", [*SNIPPETS, scenariodocs.EXAMPLE])
def test_documented_scenarios_run(text: str) -> None:
    outcome = run(parse(text, "README"))
    assert not outcome.problems, told(outcome)
    assert outcome.checks > 0
