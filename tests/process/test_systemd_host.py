"""A real systemd runs the venue from our units: start, kill, hang, restart, upgrade, stop.

With --long the whole venue; without, the engine alone, which is most of what could go wrong.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shm.jit import cache_root
from tests.conftest import ROOT
from tests.process.helpers import SMALL, wait_until
from tests.process.systemd_host import SystemdHost, unavailable
from tools.install import PREFIX, UNITS, install, under

ENGINE = "perpcore-engine.service"
HTTP = "perpcore-http@1.service"
OTHERS = (
    "perpcore-accounts.service",
    "perpcore-marketdata.service",
    "perpcore-history.service",
    "perpcore-ledger.service",
    "perpcore-clock.service",
    "perpcore-admin.service",
    "perpcore-metrics.service",
    "perpcore-reconcile.service",
    HTTP,
)
AS_PERPCORE = (
    "env",
    f"PERPCORE_CACHE={cache_root()}",
    "setpriv",
    "--reuid=perpcore",
    "--clear-groups",
    "--regid=perpcore",
)
PERPCORE = f"{PREFIX}/current/bin/perpcore"
CONFIG = ("--config", "/etc/perpcore/perpcore.toml")


def release(files: Path, name: str, breaks: str = "") -> None:
    """A release that runs this checkout; `breaks`: a command that fails."""
    program = files / f"opt/perpcore/releases/{name}/bin/perpcore"
    program.parent.mkdir(parents=True)
    broken = f'[ "$1" != {breaks} ] || exit 1\n' if breaks else ""
    program.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 PERPCORE_RELEASE={name}\n"
        f'{broken}exec {sys.executable} -m tools.cli "$@"\n'
    )
    program.chmod(0o755)


def configuration(files: Path) -> Path:
    """The documented example, small, and with an alert command that leaves a trace."""
    text = (ROOT / "systemd/perpcore.toml").read_text()
    tables: dict[str, list[str]] = {}
    for name, value in {**SMALL, "limits.accounts": 2048}.items():
        table, _, key = name.partition(".")
        tables.setdefault(table, []).append(f"{key} = {value}")
    for table, lines in tables.items():
        text += "\n".join(["", f"[{table}]", *lines, ""])
    path = files / "perpcore.toml"
    path.write_text(text)
    return path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SystemdHost]:
    if reason := unavailable():
        pytest.skip(reason)
    files = tmp_path / "files"
    files.mkdir()
    install(files, configuration(tmp_path), PREFIX, dry_run=False)
    for name, breaks in (("1", ""), ("2", ""), ("broken", "up")):
        release(files, name, breaks)
    (files / "opt/perpcore/current").symlink_to(PREFIX / "releases/1")
    # The interpreter and its compiled kernels may lie in a home; on an installed host they don't.
    drop_in = under(files, UNITS) / "perpcore-.service.d/90-test.conf"
    drop_in.write_text(f"[Service]\nProtectHome=no\nEnvironment=PERPCORE_CACHE={cache_root()}\n")
    with SystemdHost(files) as booted:
        for folder in {Path(os.path.realpath(sys.executable)), cache_root(), ROOT}:
            for parent in folder.parents:
                booted.run("chmod", "o+x", str(parent), check=False)
        # A kernel that nobody has compiled here yet gets a folder of its own.
        booted.run("chmod", "a+rwx", str(cache_root()), check=False)
        booted.run("systemd-sysusers")
        booted.run("systemd-tmpfiles", "--create", check=False)
        yield booted


def client(host: SystemdHost, *words: str) -> dict[str, Any]:
    """Run a client inside (systemd_client.py)."""
    command = ("env", "-C", str(ROOT), sys.executable, "-m", "tests.process.systemd_client", *words)
    found: dict[str, Any] = json.loads(host.run(*command))
    return found


def journal(host: SystemdHost, unit: str) -> str:
    """All that a unit has said by now: the journal may be behind."""
    host.run("journalctl", "--sync")
    return host.run("journalctl", "-u", unit, "--no-pager")


def test_a_real_systemd(host: SystemdHost) -> None:
    """It starts hardened, comes back when killed and when it hangs, and stops in order."""
    host.run("systemctl", "start", ENGINE)
    first = host.until(ENGINE, "active")
    assert "running, epoch 1" in host.property(ENGINE, "StatusText")
    run = [PERPCORE, "status", "--instance", "main", "--json"]
    assert '"epoch": 1' in host.run(*AS_PERPCORE, *run)
    host.run("kill", "-9", first)
    second = host.until(ENGINE, "active", other_than_pid=first)
    assert "running, epoch 2" in host.property(ENGINE, "StatusText")
    host.run("kill", "-STOP", second)
    third = host.until(ENGINE, "active", other_than_pid=second)
    assert third not in (first, second)
    assert "watchdog" in journal(host, ENGINE).lower()
    host.run("systemctl", "stop", ENGINE)
    assert host.property(ENGINE, "Result") == "success"
    assert "nothing left behind" in journal(host, ENGINE)
    assert host.run("ls", "/dev/shm").split() == []


TRACE = "00112233445566778899aabbccddee0"  # and a digit


def kill_and_wait(host: SystemdHost, unit: str) -> float:
    """kill -9; seconds until systemd says that it is ready again."""
    pid = host.property(unit, "MainPID")
    begun = time.monotonic()
    host.run("kill", "-9", pid)
    host.until(unit, "active", other_than_pid=pid, seconds=120)
    return time.monotonic() - begun


def test_the_whole_venue(host: SystemdHost, long_run: bool) -> None:
    """Start, trade, kill every role, hang every role, restart a gateway, upgrade, go back, stop."""
    if not long_run:
        pytest.skip("the whole venue under systemd takes minutes: --long")
    begun = time.monotonic()
    host.run("systemctl", "start", "perpcore.target")
    for unit in (ENGINE, *OTHERS):
        assert host.property(unit, "ActiveState") == "active", host.run("systemctl", "status", unit)
    print(f"start of the target: {time.monotonic() - begun:.2f} s")
    who = json.dumps(client(host, "begin"))
    first = client(host, "order", who, TRACE + "1")
    assert first["tries"] == 1 and first["order"]["status"] == "NEW"
    # Stopped, and started by somebody who doesn't wait: the socket keeps an order until it is taken.
    stop_and_prove(host)
    begun = time.monotonic()
    host.run("systemctl", "start", "--no-block", "perpcore.target")
    early = client(host, "order", who, TRACE + "e")
    print(
        f"first accepted order {time.monotonic() - begun:.2f} s after systemctl start: {early['ms']} ms"
    )
    for unit in (ENGINE, *OTHERS):
        host.until(unit, "active", seconds=60)
    print(f"all units active {time.monotonic() - begun:.2f} s after systemctl start")
    # Every role, killed, comes back, and the venue takes an order again.
    slow = {}
    for number, unit in enumerate((*OTHERS, ENGINE)):
        seconds = kill_and_wait(host, unit)
        again = client(host, "order", who, f"{TRACE}{number % 10}")
        slow[unit] = seconds
        print(f"{unit}: ready {seconds:.2f} s after kill -9, an order {again['ms']} ms later")
        assert host.property(unit, "NRestarts") == "1", unit
    for unit, seconds in slow.items():
        assert seconds < 60, f"{unit} took {seconds:.1f} s"
    # One that hangs is noticed by its own watchdog.
    for unit in ("perpcore-history.service", HTTP, "perpcore-clock.service"):
        pid = host.property(unit, "MainPID")
        host.run("kill", "-STOP", pid)
        host.until(unit, "active", other_than_pid=pid, seconds=60)
        assert "watchdog" in journal(host, unit).lower()
    # A gateway restarts, and nobody is refused.
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(client(host, "hammer", "8")))
    thread.start()
    time.sleep(2)
    host.run("systemctl", "restart", HTTP)
    thread.join()
    print(f"restart of a gateway under connections: {found[0]}")
    assert found[0]["refused"] == found[0]["broken"] == 0 and found[0]["done"] > 10
    # What was asked of it can be found by its trace id: in the journal, and all of its way.
    assert client(host, "refused", who, TRACE + "f")["status"] == 400
    assert TRACE + "f" in journal(host, HTTP)
    found_by = host.run(*AS_PERPCORE, PERPCORE, "trace", TRACE + "1", *CONFIG)
    assert str(first["order"]["orderId"]) in found_by
    stop_and_prove(host)


def test_upgrade_and_back(host: SystemdHost, long_run: bool) -> None:
    """Another release, one that doesn't come up, and the first one again; the work of the timers."""
    if not long_run:
        pytest.skip("the whole venue under systemd takes minutes: --long")
    host.run("systemctl", "start", "perpcore.target")
    who = json.dumps(client(host, "begin"))
    # Upgrade, an upgrade that fails, and back.
    upgrade = (PERPCORE, "upgrade")
    assert "2 runs" in host.run(*upgrade, f"{PREFIX}/releases/2")
    assert running_release(host) == "2"
    assert "runs" not in host.run(*upgrade, f"{PREFIX}/releases/broken", check=False)
    assert running_release(host) == "2"
    assert host.run("readlink", f"{PREFIX}/current").strip().endswith("/2")
    assert "1 runs" in host.run(*upgrade, f"{PREFIX}/releases/1")
    assert running_release(host) == "1"
    client(host, "order", who, TRACE + "2")
    # The timers' work.
    for unit in ("perpcore-snapshot.service", "perpcore-backup.service"):
        host.run("systemctl", "start", unit)
        assert host.property(unit, "Result") == "success"
    assert host.run("ls", "/var/backups/perpcore").split()
    assert "perpcore_up 1" in host.run("curl", "-s", "localhost:9464/metrics").replace(".0", "")
    stop_and_prove(host)


def stop_and_prove(host: SystemdHost) -> None:
    """In order, with nothing left behind, and replay gives what the engine said."""
    host.run("systemctl", "stop", "perpcore.target")
    for unit in (ENGINE, *OTHERS):
        # systemctl waits for the target alone, which stops before its parts do.
        wait_until(
            lambda unit=unit: host.property(unit, "ActiveState") == "inactive",
            60,
            f"{unit} runs on",
        )
        assert host.property(unit, "Result") == "success", unit
    assert host.run("ls", "/dev/shm").split() == []
    host.run(*AS_PERPCORE, PERPCORE, "verify", "--data", "/var/lib/perpcore/data")


def running_release(host: SystemdHost) -> str:
    """Which release the engine's process is of."""
    pid = host.until(ENGINE, "active")
    words = host.run("cat", f"/proc/{pid}/environ").split("\0")
    return next(w for w in words if w.startswith("PERPCORE_RELEASE=")).partition("=")[2]
