"""README says what is so: its commands parse, the short ones run, its table of codes is the enum."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from shm.codes import Reason
from shm.records import RECORDS
from tools.cli import main
from tools.snippets import SNIPPETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RUN = ("layouts", "shm ls", "config show")  # short enough to run as they stand


class _AnyPath(click.Path):
    """Stands in for every path of the command line: README's files don't exist here."""

    def convert(self, value: object, param: object, ctx: object) -> object:
        return value


def parse_only(line: str) -> tuple[str, ...]:
    """Parse a `perpcore` line as click would, running nothing; click.UsageError where it is wrong."""
    words = shlex.split(line, comments=True)
    assert words[0] == "perpcore", line
    command: click.Command = main
    context = click.Context(main, info_name="perpcore")
    rest = words[1:]
    path = []
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        path.append(name)
        found = command.get_command(context, name)
        assert found is not None, f"{line}: there is no command {name!r}"
        command = found
    with pytest.MonkeyPatch.context() as patch:
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                patch.setattr(parameter, "type", _AnyPath())
        command.make_context(" ".join(["perpcore", *path]), rest)
    return tuple(path)


def command_lines() -> list[str]:
    """Every command line in README's code blocks, without prompt and comment."""
    lines = []
    inside = ""
    for line in README.splitlines():
        if line.startswith("```"):
            inside = "" if inside else line.removeprefix("```") or "text"
        elif inside == "sh":
            line = line.strip().removeprefix("$ ").partition(" | ")[0]
            line = re.sub(r"^(\.venv/bin/|[A-Z_]+=\S+ )+(?=perpcore )", "", line)
            if line.startswith(("perpcore ", "./tools/")):
                lines.append(line)
    return lines


@pytest.mark.parametrize("line", command_lines())
def test_command_in_readme_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0].startswith("./tools/"):
        script = ROOT / words[0]
        assert script.is_file(), line
        assert script.stat().st_mode & 0o111, f"{script} is not executable"
        if words[0] == "./tools/up":
            parse_only(shlex.join(["perpcore", "demo", *words[1:]]))
        return
    parse_only(line)


@pytest.mark.parametrize("line", [line for line in command_lines() if line[9:].startswith(RUN)])
def test_short_command_in_readme_runs(line: str) -> None:
    result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
    assert result.exit_code == 0, result.output


def test_snippets_in_readme_are_those_that_the_demo_prints() -> None:
    shown = dict(re.findall(r"```python ([\w.-]+)\n(.*?)```", README, re.S))
    assert shown == SNIPPETS


def test_every_command_is_in_readme() -> None:
    assert main.commands.keys() == {words[0] for line in command_lines() if (words := _path(line))}


def _path(line: str) -> tuple[str, ...]:
    return parse_only(line) if line.startswith("perpcore ") else ()


def section(title: str) -> str:
    """Text of a section, up to the next heading of its level or a higher one."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", README, re.M | re.S)
    assert match, f"README has no section {title!r}"
    return match[2]


def test_table_of_codes_is_the_enumeration() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", section("Reject codes"), re.M)
    assert [(int(code), name) for code, name, _ in rows] == [
        (int(reason), reason.name) for reason in Reason if reason
    ]


def test_code_map_is_the_tree() -> None:
    """Every module is named in the code map, and nothing that is not there."""
    named = set(re.findall(r"`((?:shm|engine|tools|bench|ledger|gateways)/[\w./]+\.py)`", README))
    there = {
        path.relative_to(ROOT).as_posix()
        for floor in ("shm", "engine", "tools")
        for path in (ROOT / floor).glob("*.py")
        if path.name != "__init__.py"
    }
    assert named >= there, f"missing in README: {sorted(there - named)}"
    assert all((ROOT / path).is_file() for path in named)


def test_records_named_in_readme_exist() -> None:
    for name in re.findall(r"`([A-Z]+_(?:COMMAND|REPORT|BLOCK|HEADER))`", README):
        assert name in RECORDS
