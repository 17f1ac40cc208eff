"""metrics, top and errors, beside a running exchange and without one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from shm.errors import ErrorTable
from tests.process.conftest import Venues
from tests.process.helpers import free_port, wait_until
from tools.cli import main

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "systemd" / "monitoring"


def perpcore(*args: str) -> str:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_running_exchange_is_seen(venues: Venues) -> None:
    venue = venues("--traffic", "2000", "--topology", "fused")
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

        def traded() -> str:
            text = urllib.request.urlopen(url, timeout=10).read().decode()
            found = re.search(
                r'^perpcore_ingress_commands_total{producer="demo"} [1-9]', text, re.M
            )
            return text if found else ""

        text = wait_until(traded, 60, "the demo sends nothing")
    finally:
        server.terminate()
        server.wait(10)
    found = {f.name: f for f in text_string_to_metric_families(text)}
    assert found["perpcore_up"].samples[0].value == 1
    stages = {s.labels["stage"] for s in found["perpcore_stage_backlog"].samples}
    assert stages == {"sequence", "risk", "match", "settle", "journal", "publish"}
    assert found["perpcore_sequencer_commands"].type == "counter"
    assert any(s.labels.get("quantile") == "0.99" for s in found["perpcore_sync_seconds"].samples)
    came = {s.labels["producer"]: s.value for s in found["perpcore_ingress_commands"].samples}
    assert came["demo"] > 0 and found["perpcore_cancel_only"].samples[0].value == 0
    breaks = {s.labels["state"]: s.value for s in found["perpcore_reconciliation_breaks"].samples}
    assert breaks == dict.fromkeys(("OPEN", "INVESTIGATING", "EXPLAINED", "RESOLVED"), 0)
    rings = {s.labels["ring"] for s in found["perpcore_ring_used_ratio"].samples}
    assert {"commands", "reports", "ingress.demo"} <= rings
    # Twice the same numbers from one look would be a counter that isn't one.
    assert all(s.value >= 0 for f in found.values() for s in f.samples if f.type == "counter")

    # Dashboards and alerts ask for nothing that isn't there. Followers and the fund don't run here.
    exported = {s.name for f in found.values() for s in f.samples}
    exported |= {"perpcore_follower_behind", "perpcore_follower_lapped_total"}
    exported |= {"perpcore_insurance_fund_quanta", "perpcore_clock_offset_seconds"}
    exported |= {"perpcore_clock_off_seconds", "perpcore_reported_total"}
    exported |= {"perpcore_liquidations_total", "perpcore_hot_wallet", "perpcore_hot_wallet_max"}
    for name_of_file in ("alerts.yml", "grafana.json"):
        asked = re.findall(r"\bperpcore_\w+", (MONITORING / name_of_file).read_text())
        assert len(set(asked)) > 8 and set(asked) <= exported, set(asked) - exported

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


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus"
)
@pytest.mark.parametrize(
    "check", ["check rules alerts.yml", "test rules alerts_test.yml", "check config prometheus.yml"]
)
def test_rules(check: str) -> None:
    done = subprocess.run(
        ["promtool", *check.split()], cwd=MONITORING, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_in_the_runbook() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text()))
    told = set(re.findall(r"^\| `(\w+)`", (ROOT / "systemd" / "RUNBOOK.md").read_text(), re.M))
    assert alerts == told
