"""Endpoints that are ours alone: a Unix socket at which somebody answers is not taken over."""

from __future__ import annotations

import os
import socket as sockets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from shm.files import DataError

IPC = "ipc://"


def bind(socket: zmq.Socket[Any], endpoints: Iterable[str]) -> None:
    """Bind all of them; Unix sockets are for the group.

    raises      DataError when another process answers there, or the address can't be had
    """
    for endpoint in endpoints:
        path = Path(endpoint.removeprefix(IPC))
        if endpoint.startswith(IPC):
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            unix = sockets.socket(sockets.AF_UNIX)
            with unix as probe, suppress(FileNotFoundError, ConnectionError):
                probe.connect(str(path))
                raise DataError(f"{path}: another process answers there. Stop it first")
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise DataError(f"{endpoint}: cannot be bound: {error.strerror}. Set [zmq]") from None
        if endpoint.startswith(IPC):
            os.chmod(path, 0o660)


def unlink(endpoints: Iterable[str]) -> None:
    """Remove the Unix sockets among them, after closing."""
    for endpoint in endpoints:
        if endpoint.startswith(IPC):
            with suppress(FileNotFoundError):
                os.unlink(endpoint.removeprefix(IPC))
