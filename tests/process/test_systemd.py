"""Units: what systemd's own tools say of them, and a real systemd that runs the engine from them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_docs import parse_only
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
    for line in ("CPUAffinity=2 3", "LimitMEMLOCK=infinity", "LimitRTPRIO=99"):
        assert line in text.splitlines()
    # Followers and gateways keep their files in the data directory too.
    common = (units / "perpcore-.service.d/20-configuration.conf").read_text()
    assert "ReadWritePaths=/srv/perpcore" in common.splitlines()
    assert "/opt/other/current/bin/perpcore up" in (units / "perpcore-engine.service").read_text()
    config.write_text('data_dir = "var"\n')
    with pytest.raises(InstallError, match="must be an absolute path"):
        install(tmp_path / "root", config, PREFIX, dry_run=False)


def release(prefix: Path, name: str, layouts: str, number: int = 1) -> Path:
    folder = prefix / "releases" / name
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "perpcore"
    program.write_text(f"#!/bin/sh\necho perpcore {name}, release {number}, layouts {layouts}\n")
    program.chmod(0o755)
    return folder


def test_upgrade_and_back(tmp_path: Path) -> None:
    """systemctl is recorded; that a real one does the same, test_a_real_systemd shows."""
    old, new = release(tmp_path, "1", "aa"), release(tmp_path, "2", "aa")
    calls: list[str] = []
    broken = False

    def control(command: list[str]) -> str:
        calls.append(" ".join(command[:2]))
        if "--property=ActiveState" in command:
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

    def silent(command: list[str]) -> str:
        raise InstallError(f"{' '.join(command)}: Connection timed out")

    # systemd doesn't say whether the engine runs: then nothing is changed.
    with pytest.raises(InstallError, match="timed out"):
        upgrade(new, tmp_path, control=silent)
    assert (tmp_path / "current").resolve() == old


def test_upgrade_to_a_release_that_decides_otherwise(tmp_path: Path) -> None:
    """The old engine's last command says so, and a snapshot stands behind it, before the switch."""
    old, new = release(tmp_path, "1", "aa"), release(tmp_path, "2", "aa", number=2)
    calls: list[list[str]] = []
    state = "active"

    def control(command: list[str]) -> str:
        calls.append(command)
        if "--property=ActiveState" in command:
            return "failed" if (tmp_path / "current").resolve() == new else state
        return ""

    upgrade(old, tmp_path, control=lambda _: "inactive")
    state = "inactive"
    with pytest.raises(InstallError, match="whose engine must run to say so"):
        upgrade(new, tmp_path, control=control)
    assert (tmp_path / "current").resolve() == old
    state = "active"
    calls.clear()
    with pytest.raises(InstallError, match="did not come up .* may not replay what it decided"):
        upgrade(new, tmp_path, control=control, ready_seconds=0.2)
    order = [next(k for k, call in enumerate(calls) if word in call) for word in (
        "perpcore-http@*.service", "--for-release", "perpcore-snapshot.service", "install")]  # fmt: skip
    assert order == sorted(order)
    assert calls[order[1]][-1] == "2" and calls[order[1]][0].startswith(str(old))


def test_units_run_commands_that_exist(installed: Path) -> None:
    """Every ExecStart and ExecStop is a line that `perpcore` accepts."""
    found = 0
    for path in services(installed):
        for line in path.read_text().splitlines():
            key, _, command = line.partition("=")
            if key in ("ExecStart", "ExecStop"):
                assert command.startswith(f"{PREFIX}/current/bin/"), line
                words = command.removeprefix(f"{PREFIX}/current/bin/")
                parse_only(words.replace("%i", "1").replace("%n", "unit"))
                found += 1
    assert found >= 14


def test_the_target_wants_units_that_exist(installed: Path) -> None:
    """And every service of the venue goes down with it."""
    units = under(installed, UNITS)
    wanted = re.findall(r"^Wants=(.+)$", (units / "perpcore.target").read_text(), re.M)
    for name in " ".join(wanted).split():
        assert (units / name).exists(), name
    for path in services(installed):
        text = path.read_text()
        if "Type=notify" in text:
            assert "PartOf=perpcore.target" in text, path.name
            assert "WatchdogSec=" in text or "# No watchdog: " in text, path.name
            assert "Restart=on-failure" in text and "StartLimitBurst=" in text, path.name
