"""The funding benchmark at toy sizes: it runs, and checks its own answers."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_smoke() -> None:
    command = [sys.executable, "-m", "bench.funding", "--smoke", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    rate, way, sweeps, marks = tables.values()
    assert rate[0]["slices"] >= 5000 // 128 and rate[0]["M positions/s"] > 0
    cases = ["alone", "while funding is paid", "while sweeps go on"]
    assert [row["case"] for row in way] == cases
    assert sweeps[0]["sweeps"] >= 1
    assert len(marks) == 1
