"""`perpcore install`, `uninstall`, `upgrade`: units, users, folders and releases on a host.

    PREFIX/releases/VERSION   an environment with one release in it
    PREFIX/current            a link to the release that runs; units know only this
    /etc/perpcore             perpcore.toml, keys; never overwritten, never removed

Reads   the unit files beside the project (systemd/) and perpcore.toml.
Writes  files under a root, which tests and image builders may choose; with `dry_run` nothing.
Never   touches the data directory, and starts or stops nothing but in `upgrade`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from shm.config import Config, ConfigError, load, workers_for

PREFIX: Final = Path("/opt/perpcore")
CONFIG: Final = Path("/etc/perpcore/perpcore.toml")
UNITS: Final = Path("/etc/systemd/system")
TARGET: Final = "perpcore.target"
READY_SECONDS: Final = 60.0


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


def _engine_settings(config: Config) -> str:
    """What the configuration says about the engine's unit, as a drop-in."""
    workers = workers_for(config, os.cpu_count() or 1)
    cores = sorted({w.cpu for w in workers if w.cpu is not None})
    lines = ["# Written by `perpcore install` from perpcore.toml; install again after changing it."]
    lines += ["[Service]"]
    if cores and all(w.cpu is not None for w in workers):
        lines.append(f"CPUAffinity={' '.join(map(str, cores))}")
    if any(w.lock_memory for w in workers):
        lines.append("LimitMEMLOCK=infinity")
    if any(w.scheduler.startswith("fifo") for w in workers):
        lines.append("LimitRTPRIO=99")
    data = Path(config.data_dir)
    if not data.is_relative_to("/var/lib/perpcore"):
        lines.append(f"ReadWritePaths={data}")
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
    yield Planned(
        UNITS / "perpcore-engine.service.d/20-configuration.conf", _engine_settings(config), False
    )
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
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def layouts_of(release: Path) -> str:
    """The layout digest a release works with: it can read what another one of the same wrote."""
    text = _said([str(release / "bin" / "perpcore"), "--version"])
    _, found, digest = text.partition("layouts ")
    if not found:
        raise InstallError(f"{release}: says {text!r} of its version, without its layouts")
    return digest.split()[0]


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
    """Stop in order, switch to `release`, start; go back to the old one if it doesn't come up.

    control     runs systemctl and `perpcore status`; tests may stand in
    returns     what was done, for the operator
    raises      InstallError when nothing was changed, or when the old release runs again
    """
    if not (release / "bin" / "perpcore").exists():
        raise InstallError(f"{release}: no release there (bin/perpcore is missing)")
    link = prefix / "current"
    before = link.resolve(strict=True) if link.exists() else None
    if before == release.resolve():
        return f"{release.name} runs already"
    if before is not None and layouts_of(before) != layouts_of(release):
        raise InstallError(
            f"{release}: its records are laid out as {layouts_of(release)}, those of {before} as "
            f"{layouts_of(before)}; it could not read this data directory. Nothing was changed. "
            "A release of other layouts starts with a data directory of its own: see RUNBOOK.md"
        )
    running = before is not None and _is_active(control)
    if running:
        control(["systemctl", "stop", TARGET])
    switch(prefix, release.resolve())
    if not running:
        return f"{release.name} is current; start it with: systemctl start {TARGET}"
    try:
        control(["systemctl", "start", TARGET])
        _wait_running(control, link, ready_seconds)
    except InstallError as error:
        assert before is not None
        control(["systemctl", "stop", TARGET])
        switch(prefix, before)
        control(["systemctl", "start", TARGET])
        raise InstallError(
            f"{release.name} did not come up ({error}); {before.name} runs again"
        ) from error
    return f"{release.name} runs; back: perpcore upgrade {before}"


def _is_active(control: Callable[[list[str]], str]) -> bool:
    try:
        return control(["systemctl", "is-active", "perpcore-engine.service"]) == "active"
    except InstallError:
        return False


def _wait_running(control: Callable[[list[str]], str], link: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        if _is_active(control):
            control([str(link / "bin" / "perpcore"), "status"])
            return
        if time.monotonic() > until:
            raise InstallError(f"the engine was not active within {seconds:.0f} s")
        time.sleep(0.1)


def remove_release(release: Path) -> None:
    """Delete a release that is not the current one."""
    if (release.parent.parent / "current").resolve() == release.resolve():
        raise InstallError(f"{release}: it is the current one")
    shutil.rmtree(release)


__all__ = ["ConfigError", "InstallError", "install", "uninstall", "upgrade"]
