"""Of all copies of a signed request, at however many gateways, one is the first; whoever is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.helpers import ROOT


def hammered(folder: Path, seed: int, kills: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "tests.process.once_actors",
        str(folder),
        str(seed),
        str(kills),
    ]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    return dict(json.loads(done.stdout))


def test_four_at_once_have_one_first_each(tmp_path: Path) -> None:
    assert hammered(tmp_path, 0, 0) == {"first": {"1": 20_000}, "never": 0, "failed": 0}


@pytest.mark.parametrize("seed", range(2))
def test_kills_neither_forget_nor_hold_up_anything(
    tmp_path: Path, seed: int, long_run: bool
) -> None:
    """A request has no winner only where the winner was killed before it could say so."""
    kills = 2000 if long_run else 200
    found = hammered(tmp_path, seed, kills)
    assert found["failed"] == 0
    assert set(found["first"]) == {"1"}, "a request was the first twice"
    assert found["never"] <= kills + 1
