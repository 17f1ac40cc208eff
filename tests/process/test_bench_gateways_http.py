"""The HTTP gateway's benchmark at toy sizes: it runs and checks its own answers."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_smoke() -> None:
    command = [sys.executable, "-m", "bench.gateways_http", "--smoke", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    rows = {row["case"]: row for rows in tables.values() for row in rows}
    assert {"orders, HTTP", "orders, WebSocket API", "gateway, 10 a batch"} <= rows.keys()
    assert all(row["count"] > 0 for row in rows.values())
