"""`perpcore install`, `uninstall`, `upgrade`: units, users, folders and releases on a host.

    PREFIX/releases/VERSION   an environment with one release in it
    PREFIX/current            a link to the release that runs; units know only this
    /etc/perpcore             perpcore.toml, seal.key (made once, root's own); never overwritten,
                              never removed

Reads   the unit files beside the project (systemd/) and perpcore.toml.
Writes  files under a root, which tests and image builders may choose; with `dry_run` nothing.
Never   touches the data directory, and starts or stops nothing but in `upgrade`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from gateways.users.seal import Seal
from shm.config import Config, ConfigError, load, workers_for

PREFIX: Final = Path("/opt/perpcore")
CONFIG: Final = Path("/etc/perpcore/perpcore.toml")
SEAL_KEY: Final = Path("/etc/perpcore/seal.key")
UNITS: Final = Path("/etc/systemd/system")
TARGET: Final = "perpcore.target"
ENGINE: Final = "perpcore-engine.service"
# Whoever may send commands; they end before the engine does, and take their sockets along.
DOORS: Final = ("perpcore-http@*.socket", "perpcore-http@*.service", "perpcore-zmq@*.service",
                "perpcore-admin.service", "perpcore-clock.service")  # fmt: skip
# What follows an engine waits for it: whether that comes up is seen at its own unit.
_START: Final = ["systemctl", "start", "--no-block", TARGET]
# All by name: a target that isn't wholly up yet doesn't take along what is.
_STOP: Final = ["systemctl", "stop", TARGET, ENGINE, *DOORS, "perpcore-accounts.service",
                "perpcore-marketdata.service", "perpcore-history.service",
                "perpcore-ledger.service", "perpcore-reconcile.service",
                "perpcore-metrics.service"]  # fmt: skip
READY_SECONDS: Final = 600.0  # a release may compile its kernels at its first start


class InstallError(Exception):
    """It cannot be done; the text says what, where and what to do."""


class Planned(NamedTuple):
    """One file to write."""

    path: Path  # absolute, as on the host
    text: str
    keep: bool  # an operator's file: written only where there is none


def assets() -> Path:
    """Where unit files lie: beside a checkout, or in the environment of an installed release."""
    for folder in (
        Path(__file__).parent.parent / "systemd",
        Path(sys.prefix) / "share" / "perpcore" / "systemd",
    ):
        if (folder / "units").is_dir():
            return folder
    raise InstallError(f"no unit files beside {__file__} or under {sys.prefix}/share/perpcore")


_WRITTEN: Final = (
    "# Written by `perpcore install` from perpcore.toml; install again after changing it.",
    "[Service]",
)


def _common_settings(config: Config) -> str:
    """What the configuration says about every unit, as a drop-in: where they may write."""
    lines = [*_WRITTEN]
    data = Path(config.data_dir)
    if not data.is_relative_to("/var/lib/perpcore"):
        lines.append(f"ReadWritePaths={data}")
    return "\n".join(lines) + "\n"


def _engine_settings(config: Config) -> str:
    """What the configuration says about the engine's unit, as a drop-in."""
    workers = workers_for(config, os.cpu_count() or 1)
    cores = sorted({w.cpu for w in workers if w.cpu is not None})
    lines = [*_WRITTEN]
    if cores and all(w.cpu is not None for w in workers):
        lines.append(f"CPUAffinity={' '.join(map(str, cores))}")
    if any(w.lock_memory for w in workers):
        lines.append("LimitMEMLOCK=infinity")
    if any(w.scheduler.startswith("fifo") for w in workers):
        lines.append("LimitRTPRIO=99")
    return "\n".join(lines) + "\n"


def plan(config_path: Path | None = None, prefix: Path = PREFIX) -> Iterator[Planned]:
    """Every file of an installation. config_path: the configuration to install and to follow."""
    folder = assets()
    source = config_path or folder / "perpcore.toml"
    config = load(source)
    if not Path(config.data_dir).is_absolute():
        raise InstallError(
            f"{source}: data_dir = {config.data_dir!r}, must be an absolute path: units have no "
            "folder of their own to count from"
        )
    yield Planned(CONFIG, source.read_text(), True)
    for path in sorted((folder / "units").rglob("*")):
        if path.is_file():
            text = path.read_text().replace(str(PREFIX), str(prefix))
            yield Planned(UNITS / path.relative_to(folder / "units"), text, False)
    for unit, text in (
        ("perpcore-.service.d", _common_settings(config)),
        ("perpcore-engine.service.d", _engine_settings(config)),
    ):
        yield Planned(UNITS / unit / "20-configuration.conf", text, False)
    for kind in ("sysusers.d", "tmpfiles.d"):
        for path in sorted((folder / kind).glob("*.conf")):
            yield Planned(Path("/usr/lib") / kind / path.name, path.read_text(), False)
    for path in sorted((folder / "tuned").rglob("*.conf")):
        yield Planned(
            Path("/etc/tuned") / path.relative_to(folder / "tuned"), path.read_text(), False
        )
    yield Planned(Path("/etc/perpcore/RUNBOOK.md"), (folder / "RUNBOOK.md").read_text(), False)


def under(root: Path, path: Path) -> Path:
    """A path of the host below another root."""
    return root / path.relative_to("/")


def install(
    root: Path, config_path: Path | None, prefix: Path, *, dry_run: bool
) -> list[tuple[str, Path]]:
    """Write every file; returns (what happened, path). Written by rename: no unit is ever half."""
    done = []
    for file in plan(config_path, prefix):
        path = under(root, file.path)
        same = path.is_file() and path.read_text() == file.text
        what = "kept" if same or (file.keep and path.exists()) else "write"
        done.append((what, file.path))
        if what == "write" and not dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".new")
            part.write_text(file.text)
            part.rename(path)
    key = under(root, SEAL_KEY)
    done.append(("kept" if key.exists() else "write", SEAL_KEY))
    if not dry_run:
        Seal.load(key, create=True)
    return done


def uninstall(root: Path, *, dry_run: bool) -> list[Path]:
    """Remove what `install` wrote, but for /etc/perpcore; data stays."""
    removed = []
    for file in plan(None):
        path = under(root, file.path)
        if path.is_file() and not file.path.is_relative_to("/etc/perpcore"):
            removed.append(file.path)
            if not dry_run:
                path.unlink()
                for folder in (path.parent, path.parent.parent):
                    if folder.name.startswith("perpcore") and not any(folder.iterdir()):
                        folder.rmdir()
    return removed


# ---------------------------------------------------------------- releases


def _said(command: list[str]) -> str:
    if command[0] == "systemctl" and not Path("/run/systemd/system").is_dir():
        return ""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


class Identity(NamedTuple):
    """What a release says of itself with --version."""

    number: int  # what decides: replay never crosses from one number to another
    layouts: str  # digest: it can read what another one of the same wrote


def identity_of(release: Path) -> Identity:
    """Ask a release who it is."""
    text = _said([str(release / "bin" / "perpcore"), "--version"])
    found = re.search(r"release (\d+), layouts (\S+)", text)
    if not found:
        raise InstallError(f"{release}: says {text!r} of its version, without release and layouts")
    return Identity(int(found[1]), found[2])


def switch(prefix: Path, release: Path) -> None:
    """Let `current` mean another release, at once."""
    part = prefix / "current.new"
    part.unlink(missing_ok=True)
    part.symlink_to(release)
    part.rename(prefix / "current")


def upgrade(
    release: Path,
    prefix: Path = PREFIX,
    *,
    control: Callable[[list[str]], str] = _said,
    ready_seconds: float = READY_SECONDS,
) -> str:
    """Stop in order, switch to `release` and its units, start; go back if it doesn't come up.

    A release of another number decides otherwise: the old one takes an UPGRADE as its last command
    and a snapshot behind it, from which the new one starts. There is no way back from that by
    itself, since what the new one has decided the old one must not replay.

    control     runs systemctl and releases' own commands; tests may stand in
    returns     what was done, for the operator
    raises      InstallError when nothing was changed, or when the old release runs again
    """
    if not (release / "bin" / "perpcore").exists():
        raise InstallError(f"{release}: no release there (bin/perpcore is missing)")
    link = prefix / "current"
    before = link.resolve(strict=True) if link.exists() else None
    if before == release.resolve():
        return f"{release.name} runs already"
    new = identity_of(release)
    old = identity_of(before) if before is not None else new
    same = old.number == new.number
    if old.layouts != new.layouts:
        raise InstallError(
            f"{release}: its records are laid out as {new.layouts}, those of {before} as "
            f"{old.layouts}; it could not read this data directory. Nothing was changed. "
            "A release of other layouts starts with a data directory of its own: see RUNBOOK.md"
        )
    # Whatever isn't known to be down counts as up: its files must not be changed under it.
    running = before is not None and _state(control) not in ("", "inactive", "failed")
    if not running and not same:
        raise InstallError(
            f"{release}: another release number than {before}, whose engine must run to say so in "
            f"its log. Nothing was changed. First: systemctl start {TARGET}"
        )
    if running:
        assert before is not None
        if not same:
            _hand_over(control, before, new.number)
        control(_STOP)
    _switch_all(control, prefix, release.resolve())
    if not running:
        return f"{release.name} is current; start it with: systemctl start {TARGET}"
    try:
        control(_START)
        _wait_running(control, link, ready_seconds)
    except InstallError as error:
        assert before is not None
        control(_STOP)
        control(["systemctl", "reset-failed", "perpcore-*"])  # or it may not start again so soon
        if not same:
            raise InstallError(
                f"{release.name} did not come up ({error}). {before.name} may not replay what it "
                "decided: see `journalctl -u perpcore-engine`, or restore the last backup"
            ) from error
        _switch_all(control, prefix, before)
        control(_START)
        raise InstallError(
            f"{release.name} did not come up ({error}); {before.name} runs again"
        ) from error
    return f"{release.name} runs; back: perpcore upgrade {before}"


def _switch_all(control: Callable[[list[str]], str], prefix: Path, release: Path) -> None:
    """Let `current` and the units be those of a release."""
    switch(prefix, release)
    control([str(release / "bin" / "perpcore"), "install", "--prefix", str(prefix)])
    control(["systemctl", "daemon-reload"])


def _hand_over(control: Callable[[list[str]], str], before: Path, number: int) -> None:
    """The old engine's last command names the new release, and a snapshot stands behind it."""
    control(["systemctl", "stop", *DOORS])
    try:
        program = str(before / "bin" / "perpcore")
        control([program, "stop", "--config", str(CONFIG), "--for-release", str(number)])
    except InstallError:
        control(_START)
        raise
    control(["systemctl", "start", "perpcore-snapshot.service"])


def _state(control: Callable[[list[str]], str]) -> str:
    """Of the engine's unit; nothing where there is no systemd. Raises when systemd doesn't say."""
    return control(["systemctl", "show", "--property=ActiveState", "--value", ENGINE])


def _wait_running(control: Callable[[list[str]], str], link: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        state = "unknown"
        with suppress(InstallError):  # a busy systemd may not answer in time
            state = _state(control)
        if state == "active":
            break
        if state == "failed":
            raise InstallError(f"{ENGINE} failed")
        if time.monotonic() > until:
            raise InstallError(f"{ENGINE} is {state} after {seconds:.0f} s")
        time.sleep(0.1)
    control([str(link / "bin" / "perpcore"), "status", "--config", str(CONFIG)])


def remove_release(release: Path) -> None:
    """Delete a release that is not the current one."""
    if (release.parent.parent / "current").resolve() == release.resolve():
        raise InstallError(f"{release}: it is the current one")
    shutil.rmtree(release)


__all__ = ["ConfigError", "InstallError", "install", "uninstall", "upgrade"]
