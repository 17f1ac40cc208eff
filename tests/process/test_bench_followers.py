"""The followers' benchmark at toy sizes: it runs and checks its own answers."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_smoke() -> None:
    command = [sys.executable, "-m", "bench.followers", "--smoke", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    (rows,) = json.loads(done.stdout)["tables"].values()
    assert [row["case"] for row in rows] == [
        *("accounts", "marketdata, nobody hears", "marketdata, all hear", "history"),
    ]
    assert all(row["cpu_per_s"] > 0 for row in rows)
