"""How the command line administers: through the admin socket, or as the producer itself.

Reads   the admin socket of a running `perpcore gateway admin`.
Writes  when there is none, commands through the ring of producer "admin", for as long as it takes.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from gateways.http.admin import LOCAL, Administrator, Principal
from gateways.http.errors import ApiError
from gateways.http.main import admin_desk, open_store
from gateways.users.store import StoreError
from shm.config import Config
from shm.control import View

TIMEOUT_S: Final = 30.0
ATTACH_S: Final = 5.0


class AdminError(RuntimeError):
    """What was asked for was refused; the text is for the operator."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


Work = Callable[[Administrator, Principal], Awaitable[Any]]


def administer(config: Config, path: str, body: dict[str, Any], work: Work, token: str = "") -> Any:
    """Do something: POST it to the admin socket, or do `work` here when nobody listens there.

    token       an operator's access token; "": as whoever runs this
    raises      AdminError, SegmentError when no engine runs
    """
    connection = _Connection(config.admin_socket)
    try:
        connection.connect()
    except (FileNotFoundError, ConnectionRefusedError):
        if token:
            raise AdminError(
                "a token is for the admin socket, and nobody listens there: perpcore gateway admin"
            ) from None
        return asyncio.run(_here(config, work))
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", path, msgspec.json.encode(body), headers)
        response = connection.getresponse()
        answer = msgspec.json.decode(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise AdminError(answer["msg"])
    return answer


async def _here(config: Config, work: Work) -> Any:
    View(config.instance).close()  # says why when no engine runs
    store, seal, _ = open_store(config)
    desk = admin_desk(config)
    admin = Administrator(config, store, seal, desk)
    await desk.start()
    try:
        until = asyncio.get_running_loop().time() + ATTACH_S
        while not desk.ready:
            if asyncio.get_running_loop().time() > until:
                raise AdminError(
                    f"instance {config.instance}: the engine doesn't answer, or another process "
                    'is its producer "admin"'
                )
            await asyncio.sleep(0.01)
        return await work(admin, Principal(LOCAL))
    except (ApiError, StoreError) as error:
        raise AdminError(str(error)) from None
    finally:
        await desk.stop()
        store.close()
