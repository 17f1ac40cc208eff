"""The WAL benchmark at toy sizes: it runs, checks its own answers, and its JSON has every row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_smoke(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.wal", "--smoke", "--json", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    cases = {title: [row.get("case") for row in rows] for title, rows in tables.items()}
    assert cases == {
        "One durable block after the other": ["direct 1", "mmap 1", "direct 64", "mmap 64"],
        "Both logs, rings always full": ["direct", "mmap"],
        "Read back, past the page cache": [None],
    }
    assert all(row["commands_per_s"] > 0 for row in tables["Both logs, rings always full"])
    assert list(tmp_path.iterdir()) == []
