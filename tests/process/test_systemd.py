"""Units: what systemd's own tools say of them, and a real systemd that runs the engine from them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.jit import cache_root
from tests.process.systemd_host import SystemdHost, unavailable
from tools.install import PREFIX, UNITS, InstallError, install, under, uninstall, upgrade

ROOT = Path(__file__).parent.parent.parent
EXPOSURE_MAX = 2.0
TOOLS = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(
    TOOLS is None, reason="no systemd-analyze: apt-get install systemd"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root with everything installed; templates as instances too, which is what verify wants."""
    install(tmp_path, None, PREFIX, dry_run=False)
    units = under(tmp_path, UNITS)
    for template in [*units.glob("*@.service"), *units.glob("*@.socket")]:
        (units / template.name.replace("@.", "@1.")).symlink_to(template.name)
    return tmp_path


def services(root: Path) -> list[Path]:
    return sorted(p for p in under(root, UNITS).glob("perpcore*.service") if "@." not in p.name)


@needs_analyze
def test_systemd_finds_nothing_to_say(installed: Path, tmp_path: Path) -> None:
    """verify returns 0 on unknown keys and only prints them: any output fails."""
    units = under(installed, UNITS)
    program = tmp_path / "program"
    program.symlink_to("/bin/true")
    for path in units.glob("*.service"):
        if not path.is_symlink():
            text = path.read_text().replace(f"{PREFIX}/current/bin/perpcore", str(program))
            path.write_text(text)
    names = [p for p in sorted(units.iterdir()) if p.is_file() and "@." not in p.name]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_analyze
def test_exposure(installed: Path) -> None:
    found = services(installed)
    assert len(found) >= 12
    for path in found:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{path.parent}:"},
            capture_output=True,
            text=True,
        )
        level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
        assert level and float(level[1]) <= EXPOSURE_MAX, (path.name, done.stdout[-300:])


def test_install_is_repeatable_and_keeps_what_is_an_operators(tmp_path: Path) -> None:
    first = install(tmp_path, None, PREFIX, dry_run=True)
    assert {what for what, _ in first} == {"write"} and not any(tmp_path.iterdir())
    install(tmp_path, None, PREFIX, dry_run=False)
    own = tmp_path / "etc/perpcore/perpcore.toml"
    own.write_text(own.read_text() + "# mine\n")
    assert {what for what, _ in install(tmp_path, None, PREFIX, dry_run=False)} == {"kept"}
    assert own.read_text().endswith("# mine\n")
    removed = uninstall(tmp_path, dry_run=False)
    assert len(removed) > 15 and own.exists()
    assert not [p for p in (tmp_path / "etc/systemd").rglob("*") if p.is_file()]


def test_the_engines_unit_follows_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "perpcore.toml"
    config.write_text(
        'data_dir = "/srv/perpcore"\n'
        '[[topology]]\nname = "engine"\nstages = ["sequence", "risk", "match:*", "settle"]\n'
        'cpu = 2\nlock_memory = true\nscheduler = "fifo:10"\n'
        '[[topology]]\nname = "rest"\nstages = ["journal", "publish"]\ncpu = 3\n'
    )
    install(tmp_path / "root", config, Path("/opt/other"), dry_run=False)
    units = tmp_path / "root/etc/systemd/system"
    text = (units / "perpcore-engine.service.d/20-configuration.conf").read_text()
    for line in ("CPUAffinity=2 3", "LimitMEMLOCK=infinity", "ReadWritePaths=/srv/perpcore"):
        assert line in text.splitlines()
    assert "/opt/other/current/bin/perpcore up" in (units / "perpcore-engine.service").read_text()
    config.write_text('data_dir = "var"\n')
    with pytest.raises(InstallError, match="must be an absolute path"):
        install(tmp_path / "root", config, PREFIX, dry_run=False)


def release(prefix: Path, name: str, layouts: str) -> Path:
    folder = prefix / "releases" / name
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "perpcore"
    program.write_text(f"#!/bin/sh\necho perpcore {name}, layouts {layouts}\n")
    program.chmod(0o755)
    return folder


def test_upgrade_and_back(tmp_path: Path) -> None:
    """systemctl is recorded; that a real one does the same, test_a_real_systemd shows."""
    old, new = release(tmp_path, "1", "aa"), release(tmp_path, "2", "aa")
    calls: list[str] = []
    broken = False

    def control(command: list[str]) -> str:
        calls.append(" ".join(command[:2]))
        if "is-active" in command:
            return "failed" if broken and (tmp_path / "current").resolve() == new else "active"
        return ""

    assert "is current" in upgrade(old, tmp_path, control=lambda _: "inactive")
    assert "runs; back: perpcore upgrade" in upgrade(new, tmp_path, control=control)
    assert calls.index("systemctl stop") < calls.index("systemctl start")
    upgrade(old, tmp_path, control=control)
    broken = True
    with pytest.raises(InstallError, match="did not come up .* 1 runs again"):
        upgrade(new, tmp_path, control=control, ready_seconds=0.2)
    assert (tmp_path / "current").resolve() == old
    calls.clear()
    with pytest.raises(InstallError, match="laid out as bb"):
        upgrade(release(tmp_path, "3", "bb"), tmp_path, control=control)
    assert calls == [] and (tmp_path / "current").resolve() == old
    with pytest.raises(InstallError, match="no release there"):
        upgrade(tmp_path, tmp_path, control=control)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SystemdHost]:
    if reason := unavailable():
        pytest.skip(reason)
    files = tmp_path / "files"
    install(files, None, PREFIX, dry_run=False)
    program = files / "opt/perpcore/current/bin/perpcore"
    program.parent.mkdir(parents=True)
    python = sys.executable
    program.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1\nexec {python} -m tools.cli "$@"\n'
    )
    program.chmod(0o755)
    # The interpreter and its compiled kernels may lie in a home; on an installed host they don't.
    drop_in = under(files, UNITS) / "perpcore-.service.d/90-test.conf"
    drop_in.write_text(f"[Service]\nProtectHome=no\nEnvironment=PERPCORE_CACHE={cache_root()}\n")
    with SystemdHost(files) as booted:
        for folder in {Path(os.path.realpath(python)), cache_root(), ROOT}:
            for parent in folder.parents:
                booted.run("chmod", "o+x", str(parent), check=False)
        booted.run("systemd-sysusers")
        booted.run("systemd-tmpfiles", "--create", check=False)
        yield booted


ENGINE = "perpcore-engine.service"


def test_a_real_systemd(host: SystemdHost) -> None:
    """It starts hardened, comes back when killed and when it hangs, and stops in order."""
    host.run("systemctl", "start", ENGINE)
    first = host.until(ENGINE, "active")
    assert "running, epoch 1" in host.property(ENGINE, "StatusText")
    run = [f"{PREFIX}/current/bin/perpcore", "status", "--instance", "main", "--json"]
    assert '"epoch": 1' in host.run(
        "setpriv", "--reuid=perpcore", "--clear-groups", "--regid=perpcore", *run
    )
    host.run("kill", "-9", first)
    second = host.until(ENGINE, "active", other_than_pid=first)
    assert "running, epoch 2" in host.property(ENGINE, "StatusText")
    host.run("kill", "-STOP", second)
    third = host.until(ENGINE, "active", other_than_pid=second)
    assert third not in (first, second)
    assert "watchdog" in host.run("journalctl", "-u", ENGINE, "--no-pager").lower()
    host.run("systemctl", "stop", ENGINE)
    assert host.property(ENGINE, "Result") == "success"
    assert "nothing left behind" in host.run("journalctl", "-u", ENGINE, "--no-pager")
    assert host.run("ls", "/dev/shm").split() == []
