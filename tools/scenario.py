"""`perpcore scenario`: run tables that traders wrote, and say what is not as they expect.

Reads   TOML files, or all below a directory. README, "Scenarios", describes the format.
Writes  one line a file, or a block per problem; with --verbose every report; with --json all of it.
Never   needs a running exchange, or leaves anything behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from tools.scenariofile import load
from tools.scenariomodel import ScenarioError
from tools.scenariorun import Outcome, Problem, run


def main(paths: Iterable[Path], *, as_json: bool, verbose: bool) -> int:
    """Run them all; 0: as expected, 1: something isn't, 2: a file is no scenario."""
    files = sorted({file for path in paths for file in _files(path)})
    if not files:
        raise click.UsageError("there is no .toml file")
    results: list[dict[str, Any]] = []
    code = 0
    for file in files:
        try:
            scenario = load(file)
        except ScenarioError as error:
            code = 2
            results.append({"file": str(file), "ok": False, "errors": str(error).splitlines()})
            if not as_json:
                click.echo(f"ERROR {file}\n" + "\n".join(f"  {e}" for e in results[-1]["errors"]))
            continue
        talk = verbose and not as_json
        if talk:
            click.echo(f"{file}: {scenario.title}")
        outcome = run(scenario, click.echo if talk else None)
        if outcome.problems:
            code = max(code, 1)
        results.append(_result(file, outcome))
        if not as_json:
            click.echo(_text(file, outcome))
    if as_json:
        click.echo(json.dumps({"ok": code == 0, "files": results}, indent=2))
    elif len(files) > 1:
        bad = sum(not r["ok"] for r in results)
        click.echo(f"{len(files)} scenarios, {bad} not as expected" if bad else f"{len(files)} ok")
    return code


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [p for p in path.rglob("*.toml") if p.is_file()]
    return [path]


def _result(file: Path, outcome: Outcome) -> dict[str, Any]:
    s = outcome.scenario
    return {
        "file": str(file),
        "title": s.title,
        "ok": not outcome.problems,
        "steps": len(s.steps) - 1,
        "expectations": outcome.checks,
        "runs": outcome.variants,
        "problems": [p._asdict() for p in outcome.problems],
    }


def _text(file: Path, outcome: Outcome) -> str:
    s = outcome.scenario
    steps = f"{len(s.steps) - 1} steps, {outcome.checks} expectations"
    if not outcome.problems:
        return f"ok    {file}: {s.title} ({steps}, {outcome.variants} runs)"
    lines = [f"FAIL  {file}: {s.title}"]
    before: tuple[str, str] | None = None
    for p in outcome.problems:
        if (p.step, p.text) != before:
            lines.append(f"  {_where(file, p)}")
            before = p.step, p.text
        lines += [f"    {p.what}", f"      expected  {p.expected}", f"      got       {p.got}"]
    lines.append(f"  {len(outcome.problems)} not as expected ({outcome.problems[0].variant})")
    return "\n".join(lines)


def _where(file: Path, p: Problem) -> str:
    at = f"{file}:{p.line}, " if p.line else ""
    return f"{at}step {p.step}: {p.text}" if p.step else p.text
