"""The `perpcore` command: help, exit codes, configuration, shared memory, and where numba is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from shm import config as configuration
from shm.records import RECORDS, layouts_digest
from shm.segment import Part, Segment, list_segments
from tools.cli import main

ROOT = Path(__file__).parent.parent.parent
INSTANCE = f"test-cli-{os.getpid()}"


def perpcore(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in main.commands.items():
        inner = command.commands if isinstance(command, click.Group) else {}
        found += [(name,), *((name, sub) for sub in inner)]
    return sorted(found)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_help_teaches(words: tuple[str, ...]) -> None:
    result = perpcore(*words, "--help")
    assert result.exit_code == 0
    command = main.commands[words[0]]
    if isinstance(command, click.Group) and len(words) == 2:
        command = command.commands[words[1]]
    assert command.help
    assert not command.get_short_help_str(67).endswith("..."), "cut off in the list of commands"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.show_default, f"{parameter.name} has no help"


def test_examples_parse() -> None:
    """Every example in a help text is a command line that click accepts."""
    from tests.test_docs import parse_only

    for words in every_command():
        command = main.commands[words[0]]
        if isinstance(command, click.Group) and len(words) == 2:
            command = command.commands[words[1]]
        for line in (command.epilog or "").strip().splitlines():
            parse_only(line.strip().partition(" | ")[0])


def test_numba_is_not_imported_where_it_is_not_needed(tmp_path: Path) -> None:
    file = tmp_path / "perpcore.toml"
    file.write_text('instance = "a"\n')
    program = f"""
import sys
from click.testing import CliRunner
from tools.cli import main
for line in ({["--help"]!r}, ["up", "--help"], ["replay", "--help"], ["layouts"],
             ["layouts", "COMMAND", "--json"], ["config", "show"], ["--version"],
             ["config", "check", {str(file)!r}], ["shm", "ls"], ["shm", "ls", "--json"]):
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, (line, result.output)
    assert "numba" not in sys.modules, line
    assert "numpy.testing" not in sys.modules, line
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_exit_codes(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("shards = 0\nnonsense = 1\n[rings]\ncommands = 100\n")
    for line, code in (
        ((), 2),
        (("up", "--nonsense"), 2),
        (("replay", str(tmp_path / "absent.csv")), 2),
        (("layouts", "NOPE"), 2),
        (("config", "check", str(bad)), 1),
        (("config", "show", "--set", "rings.commands=100"), 1),
        (("config", "show", "--set", "nonsense"), 1),
        (("inspect", str(bad)), 1),
        (("inspect", f"{INSTANCE}.commands"), 1),
    ):
        result = perpcore(*line)
        assert result.exit_code == code, (line, result.output)
        assert "Traceback" not in result.output + result.stderr
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_bug_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("our bug")

    monkeypatch.setattr("shm.segment.list_segments", broken)
    assert isinstance(perpcore("shm", "ls").exception, AssertionError)


def test_config_check_lists_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "perpcore.toml"
    file.write_text("shards = 0\n[rings]\ncommands = 100\n")
    result = perpcore("config", "check", str(file))
    assert f"{file}: shards = 0, must be 1 to 16" in result.stderr
    assert f"{file}: rings.commands = 100, must be a power of two, 64 to 32768" in result.stderr
    told = json.loads(perpcore("config", "check", str(file), "--json").stdout)
    assert told["ok"] is False
    assert len(told["problems"]) == 2


@pytest.mark.parametrize("topology", ["auto", "list"])
def test_config_show_is_a_configuration_file(tmp_path: Path, topology: str) -> None:
    first = tmp_path / "first.toml"
    workers = """
        [[topology]]
        name = "engine"
        stages = ["sequence", "risk", "match:*", "settle"]
        cpu = 2
        [[topology]]
        name = "rest"
        stages = ["journal", "publish"]
        """
    first.write_text("shards = 2\n" + (workers if topology == "list" else ""))
    text = perpcore("config", "show", "--config", str(first), "--set", "rings.reports=1024").stdout
    second = tmp_path / "second.toml"
    second.write_text(text)
    loaded = configuration.load(second)
    assert loaded == configuration.load(first, {"rings.reports": 1024})
    assert perpcore("config", "check", str(second)).exit_code == 0
    as_json = json.loads(perpcore("config", "show", "--config", str(second), "--json").stdout)
    written = tomllib.loads(text)
    assert {name: as_json[name] for name in written} == {
        name: as_json[name] if name == "topology" else value for name, value in written.items()
    }


def test_layouts_cover_every_byte() -> None:
    told = json.loads(perpcore("layouts", "--json").stdout)
    assert told["digest"] == layouts_digest()
    assert told["records"].keys() == RECORDS.keys()
    text = perpcore("layouts").stdout
    for name, layout in told["records"].items():
        assert name in text
        at = 0
        for field in layout["fields"]:
            assert field["offset"] == at, f"{name}.{field['name']}"
            at += field["bytes"]
        assert at == layout["bytes"]
    only = perpcore("layouts", "MATCH").stdout
    assert "trade_id" in only
    assert "client_id" not in only


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(INSTANCE, "commands", (Part("cells", "<i8", 8),), epoch=7)
    yield made
    made.unlink()
    made.close()


def test_shm_ls_and_reset(segment: Segment) -> None:
    row = perpcore("shm", "ls", "--instance", INSTANCE).stdout.splitlines()[1].split()
    assert row[0] == f"{INSTANCE}.commands"
    assert row[2:] == ["live", "7", str(os.getpid()), "same"]
    told = json.loads(perpcore("shm", "ls", "--instance", INSTANCE, "--json").stdout)
    assert [(info["name"], info["epoch"], info["state"]) for info in told] == [
        ("commands", 7, "live")
    ]
    result = perpcore("shm", "reset", "--instance", INSTANCE)
    assert result.exit_code == 1, "it is ours and we live"
    assert f"in use: {INSTANCE}.commands" in result.stdout
    result = perpcore("shm", "reset", "--instance", INSTANCE, "--force", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"removed": {INSTANCE: ["commands"]}, "left": []}
    assert list_segments(INSTANCE) == []
