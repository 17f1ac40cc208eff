"""The native gateway's benchmark at toy sizes: it runs and checks its own answers."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_smoke() -> None:
    command = [sys.executable, "-m", "bench.gateways_zmq", "--smoke", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    latency, commands, echoes, records = json.loads(done.stdout)["tables"].values()
    assert all(row["p50_ns"] > 0 and row["sync_p50_ns"] > 0 for row in latency)
    assert all(row["commands_per_s"] > 0 and row["refused"] == 0 for row in commands)
    assert all(row["curve_per_s"] > 0 and row["plain_per_s"] > 0 for row in echoes)
    assert all(row["records_per_s"] > 0 for row in records)
