"""metrics, top and errors, beside a running exchange and without one."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from shm.errors import ErrorTable
from tests.process.conftest import Venues
from tests.process.helpers import free_port
from tools.cli import main

ROOT = Path(__file__).parent.parent.parent


def perpcore(*args: str) -> str:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_running_exchange_is_seen(venues: Venues) -> None:
    venue = venues("--demo-rate", "2000", "--topology", "fused")
    venue.start()
    venue.until_running()
    name = ("--instance", venue.instance)
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "metrics", *name, "--listen", f"127.0.0.1:{port}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None and "metrics at" in server.stdout.readline()
        url = f"http://127.0.0.1:{port}/metrics"
        text = ""
        for _ in range(100):
            text = urllib.request.urlopen(url, timeout=10).read().decode()
            if re.search(r"^perpcore_risk_commands_total [1-9]", text, re.M):
                break
    finally:
        server.terminate()
        server.wait(10)
    found = {f.name: f for f in text_string_to_metric_families(text)}
    assert found["perpcore_up"].samples[0].value == 1
    stages = {s.labels["stage"] for s in found["perpcore_stage_backlog"].samples}
    assert stages == {"sequence", "risk", "match", "settle", "journal", "publish"}
    assert found["perpcore_sequencer_commands"].type == "counter"
    assert any(s.labels.get("quantile") == "0.99" for s in found["perpcore_sync_seconds"].samples)
    rings = {s.labels["ring"] for s in found["perpcore_ring_used_ratio"].samples}
    assert {"commands", "reports", "ingress.demo"} <= rings
    # Twice the same numbers from one look would be a counter that isn't one.
    assert all(s.value >= 0 for f in found.values() for s in f.samples if f.type == "counter")

    shown = perpcore("top", *name, "--interval", "0.05", "--count", "2")
    assert "RUNNING" in shown and "journal" in shown and "sequenced_to_durable" in shown
    assert perpcore("errors", *name) == "no errors since the engine started\n"
    table = ErrorTable.attach(venue.instance, writable=True)
    table.note("test", "warning: 3 of 5")
    table.close()
    assert "1 x  test: warning: # of #" in perpcore("errors", *name)
    assert "warning: 3 of 5" in perpcore("top", *name, "--interval", "0.01", "--count", "1")
    assert venue.stop() == 0


def test_without_an_exchange(instance: str) -> None:
    assert "perpcore_up 0.0" in perpcore("metrics", "--once", "--instance", instance)
    for command in ("top", "errors"):
        result = CliRunner().invoke(main, [command, "--instance", instance])
        assert result.exit_code == 1 and instance in result.output
