"""The ring benchmark, tiny: every row is there, every sum was right, nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from shm.segment import list_segments

ROOT = Path(__file__).parent.parent.parent


def test_smoke() -> None:
    command = [sys.executable, "-m", "bench.rings", "--smoke", "--json"]
    bench = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    printed, _ = bench.communicate()
    assert bench.returncode == 0
    tables = json.loads(printed)["tables"]
    cases = {row["case"] for rows in tables.values() for row in rows}
    for case in ("ring, batches of 128", "faster-fifo, put", "multiprocessing.Queue"):
        assert case in cases
    assert {"ZeroMQ ipc, one a message", "ring, spin, stalls apart", "futex, other core"} <= cases
    assert not list_segments(f"bench-{bench.pid}")
