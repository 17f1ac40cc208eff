"""Several processes make the same file at their first start: all of them end up with one, whole."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from unittest.mock import Mock

import pytest
import zmq
from numba.core.caching import IndexDataCacheFile

from gateways import sqlitefile, unixsocket
from gateways.history import writer
from gateways.history.queries import History, HistoryError
from gateways.http.adminsocket import listen
from gateways.http.classic import Classic
from gateways.users.seal import KEY_BYTES, Seal, SealError
from gateways.users.store import Store
from gateways.zmq import binding
from gateways.zmq.curvekey import curve_key
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


def test_a_history_that_is_being_made_is_not_there_yet(tmp_path: Path) -> None:
    """Whoever reads while it is made finds all of its tables or is told to come again."""
    seen = set()

    def read(_: Path) -> None:
        history = History(tmp_path / "history.db")
        try:
            seen.add(history.seq())
        except HistoryError as error:
            seen.add(str(error).partition(": ")[2])
        finally:
            history.close()

    connect = sqlite3.connect
    path = tmp_path / "history.db"

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            read(path)
            return super().execute(sql, *values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sqlitefile.sqlite3,
            "connect",
            lambda path, **options: connect(
                path, **options, **({} if "uri" in options else {"factory": Slow})
            ),
        )
        writer.connect(path).close()
    read(path)
    assert seen == {"is being made. Try again in a moment", 0}


def test_a_kernel_for_several_types_is_kept_for_each(tmp_path: Path) -> None:
    """numba's index of a kernel: processes that add to it at once."""
    for turn in range(20):
        types = iter(range(RIVALS))

        def save(turn: int = turn, types: Iterator[int] = types) -> None:
            types_of_one = next(types)
            IndexDataCacheFile(str(tmp_path), f"kernel{turn}", "stamp").save(
                types_of_one, f"code for {types_of_one}"
            )

        _at_once(save)
        kept = IndexDataCacheFile(str(tmp_path), f"kernel{turn}", "stamp")
        found = [kept.load(types_of_one) for types_of_one in range(RIVALS)]
        assert found == [f"code for {types_of_one}" for types_of_one in range(RIVALS)], turn


def test_an_endpoint_that_two_bind_is_of_one(tmp_path: Path) -> None:
    """The second comes when the first has looked who answers there, and hasn't bound it yet."""
    endpoint = f"ipc://{tmp_path}/socket"
    context = zmq.Context()
    got: list[str] = []

    def take(socket: Any, who: str) -> None:
        with suppress(DataError):
            binding.bind(socket, [endpoint])
            got.append(who)

    class Slow:
        def bind(self, endpoint: str) -> None:
            rival.start()
            rival.join(0.2)
            mine.bind(endpoint)

    with context.socket(zmq.ROUTER) as mine, context.socket(zmq.ROUTER) as theirs:
        rival = Thread(target=take, args=(theirs, "second"))
        take(Slow(), "first")
        rival.join()
    context.term()
    binding.unlink([endpoint])
    assert got == ["first"]
    assert not list(tmp_path.iterdir())


def test_a_socket_of_a_successor_stays(tmp_path: Path) -> None:
    """Who stops removes its own name, not that of whoever has bound it since."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as successor:
        with unixsocket.taking(path):
            successor.bind(str(path))
            successor.listen()
        unixsocket.remove(path)
        assert path.exists()
    unixsocket.remove(path)
    assert not path.exists()


def test_an_admin_gateway_leaves_the_socket_of_one_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as running:
        running.bind(str(path))
        running.listen()
        inode = path.stat().st_ino
        with pytest.raises(DataError, match="another process answers there"):
            asyncio.run(listen(Mock(), path))
        assert path.stat().st_ino == inode
