"""What a demo venue is, kept in its data directory: the plan it was made with, its configuration.

    <data>/demo/plan.json      seed, speed, rate, recording; how long it has been played
    <data>/demo/config.toml    the whole configuration, for its processes and every other command
    <data>/demo/paths/         index prices (tools/demopath.py)
    <data>/demo/logs/          what its processes print
    <data>/demo/lock           flock of the `perpcore demo` that runs it

Reads   and writes these files.
Never   touches a directory that it doesn't know for a demo's: real money may be in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from shm.config import ClockSource, Config, ConfigError, Wal, load
from shm.segment import remove_segments
from tools.demomarket import CONTRACTS

VERSION: Final = 1
SPEED_RANGE: Final = (1 / 60, 60.0)
WAL: Final = Wal(segment_bytes=64 << 20, preallocate=1, report_log_bytes_max=1 << 30)
HEARTBEAT_MS: Final = 30_000  # a laptop that does something else as well starves an engine so long
NO_DEMO: Final = (
    "{data} isn't empty and holds no demo; a demo never touches what may be a real venue's. "
    "Name another directory: perpcore demo --data DIR"
)
RECORDINGS: Final = "klines/btc-perp_1m_*.csv.gz"
# Everything that Perpcore's processes write into a data directory, as patterns.
OURS: Final = (
    *("demo", "wal", "reports", "snapshots", "followers", "ledger", "lock", "manifest", "durable"),
    *(
        "limits.json",
        "breaks.*",
        "users.db*",
        "master.key",
        "curve.key",
        "history.db*",
        "classic.db*",
    ),
    *(
        "gateways.limits",
        "gateways.once",
        "sessions.*",
        "*.sock",
        "*.sock.ask",
        "clock.*",
        "engine.log",
        "*.tmp",
    ),
)


class DemoError(Exception):
    """The operator has something to put right; says what."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a demo is made of. With the same first four, traffic and index path are the same."""

    version: int = VERSION
    seed: int
    rate: int  # commands a second
    speed: float  # minutes of the path in a second
    recording: str = ""  # file of klines that BTC's index follows; "": simulated
    funding_ns: int
    began_ns: int = 0  # when turn 0 was, seen from the last start
    played_ns: int = 0  # how long it has run in all


def folder_of(data: Path) -> Path:
    return data / "demo"


def paths_folder(data: Path) -> Path:
    return folder_of(data) / "paths"


def plan_path(data: Path) -> Path:
    return folder_of(data) / "plan.json"


def config_path(data: Path) -> Path:
    return folder_of(data) / "config.toml"


def read_plan(data: Path) -> Plan:
    """The plan of a demo; DemoError when the directory is none's."""
    path = plan_path(data)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except FileNotFoundError:
        raise DemoError(
            f"{data} holds no demo ({path} is not there). Start one: perpcore demo"
        ) from None
    except msgspec.DecodeError as error:
        raise DemoError(f"{path}: {error}. Start over: perpcore demo --reset") from None


def write_plan(data: Path, plan: Plan) -> None:
    _replace(plan_path(data), msgspec.json.format(msgspec.json.encode(plan)))


def write_config(data: Path, text: str) -> None:
    _replace(config_path(data), text.encode())


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.tmp")
    fresh.write_bytes(content)
    fresh.rename(path)


def config_of_demo(data: Path) -> Config:
    """The configuration that the demo in this directory was last started with."""
    read_plan(data)
    return load(config_path(data))


def base_url(config: Config) -> str:
    """Where clients on this machine find the HTTP gateway."""
    http = config.http
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)
    scheme = "https" if http.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{http.port}"


def is_free(data: Path) -> bool:
    """Whether a new demo may begin here: there is nothing, or what an interrupted reset left."""
    return not data.exists() or all(path.name == "demo" for path in data.iterdir())


def find_recording() -> str:
    """Recorded minutes of BTC beside the project, or where PERPCORE_DATA says; "" for none."""
    place = os.environ.get("PERPCORE_DATA") or Path(__file__).parents[2] / "shared" / "data"
    return next((str(path.resolve()) for path in sorted(Path(place).glob(RECORDINGS))), "")


def configured(config: Config, data: Path, http_port: int | None) -> Config:
    """A configuration as a demo needs it; what somebody chose otherwise stays."""
    changes: dict[str, Any] = {"data_dir": str(data)}
    if config.wal == Wal():
        changes["wal"] = WAL
    if config.heartbeat_timeout_ms == Config().heartbeat_timeout_ms:
        changes["heartbeat_timeout_ms"] = HEARTBEAT_MS
    if not config.clock.sources and not config.clock.socket:
        sources = tuple(
            ClockSource(
                symbol=contract.name,
                kind="klines",
                path=str(paths_folder(data) / f"{contract.name}.csv"),
                every_ms=250,
                loop=True,
            )
            for contract in CONTRACTS
        )
        changes["clock"] = msgspec.structs.replace(config.clock, sources=sources)
    if http_port is not None:
        changes["http"] = msgspec.structs.replace(config.http, port=http_port)
    for name in ("clock", "admin", "demo", "gateway0", "gateway3"):
        if name not in {producer.name for producer in config.producers}:
            raise ConfigError(f"producers: a demo needs {name!r}. Leave producers as they are")
    return msgspec.structs.replace(config, **changes)


def tell_clock(data: Path, plan: Plan) -> None:
    """Let the clock go on with every path where the demo's time stands (engine/sources.py)."""
    for contract in CONTRACTS:
        _replace(data / f"clock.{contract.name}.0", str(plan.began_ns).encode())


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Own a demo's directory; DemoError when another `perpcore demo` does."""
    folder_of(data).mkdir(mode=0o750, parents=True, exist_ok=True)
    fd = os.open(folder_of(data) / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            raise DemoError(
                f"{data}: a demo runs there, pid {pid}. End it first: kill {pid}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def reset(data: Path) -> list[str]:
    """Remove everything of a demo that doesn't run; returns what lies there and isn't ours.

    raises      DemoError when the directory is no demo's, or in use
    """
    from engine import files

    if not data.is_dir():
        raise DemoError(f"{data}: there is no such directory, so there is nothing to reset")
    if not plan_path(data).is_file():
        raise DemoError(
            f"{data} holds no demo ({plan_path(data)} is not there): nothing was removed. "
            "Remove it yourself if that is what you want"
        )
    with suppress(DemoError, ConfigError):
        instance = config_of_demo(data).instance
        remove_segments(instance)  # of processes that are gone
    with locked(data), files.lock_data(data):
        ours = {path for pattern in OURS for path in data.glob(pattern)}
        # The plan last: what was interrupted is still known for a demo's.
        for path in sorted(ours, key=lambda path: path.name == "demo"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return sorted(path.name for path in data.iterdir())


def begin(plan: Plan) -> Plan:
    """The plan with its time moved on, so that the demo goes on where it stopped."""
    return msgspec.structs.replace(plan, began_ns=time.time_ns() - plan.played_ns)
