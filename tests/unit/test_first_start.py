"""Several processes make the same file at their first start: all of them end up with one, whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from gateways.http.classic import Classic
from gateways.users.seal import KEY_BYTES, Seal, SealError
from gateways.users.store import Store
from gateways.zmq.gateway import curve_key
from ledger import proof
from shm import files
from shm.config import Config
from shm.files import DataError, create_file
from tools import faucet
from tools.demoplan import folder_of

RIVALS = 4


def _at_once(make: Callable[[], Any]) -> list[Any]:
    """What each of some rivals got, who begin at the same moment."""
    start = Barrier(RIVALS)

    def rival(_: int) -> Any:
        start.wait()
        return make()

    with ThreadPoolExecutor(RIVALS) as pool:
        return list(pool.map(rival, range(RIVALS)))


def _a_native_pair(data: Path) -> tuple[str, str]:
    folder_of(data).mkdir(exist_ok=True)
    return faucet.native_pair(Config(data_dir=str(data)))


@pytest.mark.parametrize(
    "make",
    [
        lambda data: (
            Seal.load(data / "master.key", create=True) and (data / "master.key").read_bytes()
        ),
        lambda data: curve_key(Config(data_dir=str(data))),
        proof.secret_of,
        _a_native_pair,
    ],
    ids=["master", "curve", "proof", "native"],
)
def test_a_key_that_many_make_is_one(make: Callable[[Path], Any], tmp_path: Path) -> None:
    for turn in range(20):
        data = tmp_path / str(turn)
        data.mkdir()
        got = _at_once(lambda data=data: make(data))
        assert len(set(got)) == 1 and got[0], turn
        assert len([p for p in data.rglob("*") if p.is_file()]) == 1, "nothing else is left"


def test_nobody_sees_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one writes, there is nothing under the name; who is quicker stays."""
    path = tmp_path / "key"
    sync = os.fsync
    seen = []

    def rival_is_quicker(fd: int) -> None:
        monkeypatch.setattr(files.os, "fsync", sync)
        seen.append(path.exists())
        create_file(path, b"quicker")
        sync(fd)

    monkeypatch.setattr(files.os, "fsync", rival_is_quicker)
    create_file(path, b"slower")
    assert seen == [False]
    assert path.read_bytes() == b"quicker"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_could_not_be_written_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up leaves no half of a key that every later start would refuse."""
    sync = os.fsync

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    path = tmp_path / "master.key"
    with pytest.raises(SealError, match="No space left"):
        Seal.load(path, create=True)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(files.os, "fsync", sync)
    Seal.load(path, create=True)
    assert len(path.read_bytes()) == KEY_BYTES


def test_half_a_pair_of_keys_is_named(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    config.curve_key_path.write_bytes(b"")
    with pytest.raises(DataError, match=r"0 lines, must be two.*remove it"):
        curve_key(config)


@pytest.mark.parametrize(
    "make",
    [
        lambda data: Store(data / "users.sqlite", Seal(bytes(KEY_BYTES))),
        lambda data: Classic(data / "classic.db"),
    ],
    ids=["users", "classic"],
)
def test_a_database_that_many_make(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """SQLite asks nobody to wait when a file changes to WAL mode; none of us is turned away."""

    def made_and_closed(data: Path) -> bool:
        make(data).close()
        return True

    for turn in range(20):
        data = tmp_path / str(turn)
        assert _at_once(lambda data=data: made_and_closed(data)) == [True] * RIVALS
