"""Imports run down only: tools -> gateways -> ledger -> shm and tools -> engine -> shm."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "shm": set(),
    "engine": {"shm"},
    "ledger": {"shm"},
    "gateways": {"shm", "ledger"},
    "tools": {"shm", "engine", "ledger", "gateways"},
    "bench": {"shm", "engine", "ledger", "gateways", "tools"},
}
# `perpcore bench` is a command like the others, and its only way up.
UPWARDS = {("tools/cli.py", "bench")}
# What a client can stand on: these never pull in numba.
WITHOUT_NUMBA = (
    *(f"shm.{m}" for m in ("units", "codes", "records", "config", "segment", "control", "cursors")),
    *("shm.counters", "gateways.scales", "gateways.accounts.client", "gateways.marketdata.client"),
    *("gateways.history.queries", "gateways.client.client", "gateways.client.market"),
)


def imports_of(path: Path) -> set[str]:
    """First names of everything a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(str(node.module).partition(".")[0])
    return names


def sources() -> list[str]:
    found = (path for floor in MAY_IMPORT for path in (ROOT / floor).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.mark.parametrize("source", sources())
def test_imports_run_down(source: str) -> None:
    floor = source.partition("/")[0]
    up = (imports_of(ROOT / source) & (MAY_IMPORT.keys() | {"tests"})) - MAY_IMPORT[floor] - {floor}
    up -= {name for path, name in UPWARDS if path == source}
    assert not up, f"{source} is on floor {floor!r} but imports {sorted(up)}"


@pytest.mark.parametrize("module", WITHOUT_NUMBA)
def test_clients_need_no_numba(module: str) -> None:
    program = f"import sys, {module}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
