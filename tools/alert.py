"""`perpcore alert`: what systemd calls when a unit has failed, and reconciliation on a break.

Reads   systemctl's word on the unit; the configuration's [alert] command.
Writes  one JSON line to the journal; starts that command with the line as its last argument.
Never   fails itself over a command that does: then it says so in the line.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress

from shm.config import Config

_WANTED = ("Result", "ExecMainStatus", "ExecMainCode", "NRestarts", "StatusText")


def describe(unit: str) -> dict[str, str]:
    """What systemd knows of a unit; only its name where there is no systemd."""
    found = {"unit": unit}
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["systemctl", "show", unit, *(f"--property={name}" for name in _WANTED)],
            capture_output=True,
            text=True,
            timeout=10,
        )
        for line in done.stdout.splitlines():
            name, _, value = line.partition("=")
            if name in _WANTED:
                found[name] = value
    return found


def send(config: Config, unit: str) -> str:
    """Describe the failure, and hand it to the configured command; the line that was written."""
    return tell(config, {"event": "unit failed", "instance": config.instance, **describe(unit)})


def tell(config: Config, said: dict[str, str]) -> str:
    """Hand what happened to the configured command, if there is one; the line that was written."""
    if config.alert.command:
        try:
            done = subprocess.run(
                [*config.alert.command, json.dumps(said)], timeout=config.alert.seconds
            )
            said["sent"] = "yes" if done.returncode == 0 else f"exit code {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            said["sent"] = str(error)
    return json.dumps(said)
