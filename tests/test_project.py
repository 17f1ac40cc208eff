"""The project's own files: locks that agree, scripts that say what is missing and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the scripts may use of a fresh system, besides Python.
BARE = ("bash", "env", "dirname", "cat", "head", "ls", "sha256sum", "flock", "sed", "grep")


def locked(name: str) -> dict[str, set[str]]:
    """package -> pinned versions; every pin has a hash."""
    found: dict[str, set[str]] = {}
    for pin in re.findall(r"^\S.*?(?=^\S|\Z)", (ROOT / name).read_text(), re.M | re.S):
        if match := re.match(r"([\w.-]+)==(\S+)", pin):
            assert "--hash=sha256:" in pin, pin
            found.setdefault(match[1], set()).add(match[2])
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[ ]", text)[0] for text in requirements}


def test_locks_hold_every_dependency_once() -> None:
    run, test = locked("requirements.lock"), locked("requirements-test.lock")
    extras = PROJECT["optional-dependencies"]
    assert run.keys() >= names(PROJECT["dependencies"])
    assert test.keys() >= names(extras["test"]) | names(extras["bench"])
    assert run.keys() <= test.keys()
    assert {name: test[name] for name in run} == run


def test_ci_runs_the_suite() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "tools/test" in text
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("exit 1", ["Python 3.11 or newer is needed", "apt-get install python3 python3-venv"]),
        ("[[ $2 != *ensurepip* ]] || exit 1", ["no venv module", "apt-get install python3-venv"]),
        (
            'case $2 in *pip*|venv|"") [[ $2 == *ensurepip* ]] || exit 1 ;; esac',
            ["PERPCORE_VENV names another place"],
        ),
    ],
    ids=["python", "venv", "no room"],
)
@pytest.mark.parametrize("script", ["up", "test"])
def test_what_is_missing_is_named(
    tmp_path: Path, script: str, python: str, said: list[str]
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BARE:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    stub = folder / "python3"
    stub.write_text(f"#!{shutil.which('bash')}\n{python}\n")
    stub.chmod(0o755)
    result = subprocess.run(
        [ROOT / "tools" / script],
        env={"PATH": str(folder), "PERPCORE_VENV": str(tmp_path / "with space" / "venv")},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    for text in said:
        assert text in result.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    result = subprocess.run(
        [ROOT / "tools" / "test"],
        env={"PATH": os.environ["PATH"], "PERPCORE_VENV": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert f"{tmp_path} exists and is no virtual environment" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
