"""The ledger's benchmark at toy sizes: it runs, checks its own answers, and its JSON has every row."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_smoke() -> None:
    command = [sys.executable, "-m", "bench.ledger", "--smoke", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    booked, weight, lag, rebuilt, back = json.loads(done.stdout)["tables"].values()
    assert booked[0]["M legs/s cpu"] > 0
    assert weight[0]["B/leg beyond its amount"] > 0
    assert lag[0]["max ms"] > 0 and rebuilt[0]["M entries/s cpu"] > 0
    assert [row["case"] for row in back] == ["opened anew, as text", "reader kept open"]
