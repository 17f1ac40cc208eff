"""A data directory as its operator has it: stopped, proven, cut, recovered, and damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.pipeline import declare, pattern, venue
from engine.state import Limits
from shm.config import Config, load
from shm.pointers import table
from shm.records import COMMAND
from tools.replay import Session

ROOT = Path(__file__).parent.parent.parent
SMALL = {"accounts": 64, "assets": 1, "symbols": 1, "positions": 64, "orders": 4096, "clients": 64}


def perpcore(*arguments: str | Path) -> tuple[int, str]:
    """(exit code, what it printed)."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def load_of(count: int, first: int) -> np.ndarray[Any, Any]:
    """`count` commands of the benchmark's pattern over 32 accounts."""
    words = np.zeros(count * 32, np.int64)
    for k in range(count):
        pattern(table(words), k, first + k, 32)
    rows = words.view(COMMAND.dtype).copy()
    rows["request"] = np.arange(count)
    return rows


@pytest.fixture
def config(tmp_path: Path, instance: str) -> Iterator[Config]:
    made = venue("fused", instance, str(tmp_path / "data"), SMALL)
    import msgspec

    raw = dict(msgspec.to_builtins(made))
    (tmp_path / "data").mkdir()
    yield load(None, {**raw, "checkpoint_every": 512, "wal.segment_bytes": 8 << 20})


def run_load(config: Config, *, begin: bool, count: int) -> None:
    session = Session(config, producer="bench")
    try:
        if begin:
            session.send(declare(32), None)
        session.send(load_of(count, 0), None)
    finally:
        session.close()


def test_stop_prove_cut_go_on_prove(config: Config) -> None:
    data = Path(config.data_dir)
    run_load(config, begin=True, count=4000)
    code, said = perpcore("verify", "--data", data, "--json")
    first = json.loads(said)
    assert code == 0 and first["sound"], said
    assert first["checkpoints"] >= 7 and first["compared"] == first["reports"] > 8000

    code, said = perpcore("snapshot", "--data", data, "--json")
    taken = json.loads(said)
    assert code == 0 and taken["path"], said
    assert perpcore("snapshot", "--data", data)[1].startswith("nothing to do")

    run_load(config, begin=False, count=4000)
    code, said = perpcore("verify", "--data", data, "--json")
    second = json.loads(said)
    assert code == 0 and second["snapshots"] == 1 and second["seq"] > first["seq"] + 3999, said

    # Without its snapshot the same WAL gives the same end.
    Path(taken["path"]).unlink()
    code, said = perpcore("verify", "--data", data, "--json")
    assert json.loads(said)["state_digest"] == second["state_digest"]

    limits = json.loads((data / "limits.json").read_text())
    assert Limits(**limits).accounts == SMALL["accounts"]


def test_a_flipped_bit_is_named_and_nothing_starts_on_it(config: Config) -> None:
    data = Path(config.data_dir)
    run_load(config, begin=True, count=2000)
    segment = sorted((data / "wal").glob("wal.*.seg"))[0]
    raw = bytearray(segment.read_bytes())
    raw[4096 + 1000] ^= 0x10
    segment.write_bytes(raw)
    code, said = perpcore("verify", "--data", data)
    assert code == 1 and segment.name in said, said
    session = None
    with pytest.raises(Exception, match="did not start"):
        session = Session(config, producer="bench")
    assert session is None

    raw[4096 + 1000] ^= 0x10
    segment.write_bytes(raw)
    assert perpcore("verify", "--data", data)[0] == 0


def test_a_report_log_that_lies_is_found(config: Config) -> None:
    data = Path(config.data_dir)
    run_load(config, begin=True, count=2000)
    segment = sorted((data / "reports").glob("rep.*.seg"))[0]
    with open(segment, "r+b") as file:
        file.seek(4096 + 64 * 700 + 40)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    code, said = perpcore("verify", "--data", data)
    assert code == 1 and "report 700" in said, said
