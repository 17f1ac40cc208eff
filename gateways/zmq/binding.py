"""Endpoints that are ours alone: a Unix socket at which somebody answers is not taken over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import zmq

from gateways.unixsocket import remove, taking
from shm.files import DataError

IPC = "ipc://"


def bind(socket: zmq.Socket[Any], endpoints: Iterable[str]) -> None:
    """Bind all of them; Unix sockets are for the group.

    raises      DataError when another process answers there, or the address can't be had
    """
    for endpoint in endpoints:
        path = Path(endpoint.removeprefix(IPC))
        unix = endpoint.startswith(IPC)
        with taking(path) if unix else nullcontext():
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                raise DataError(
                    f"{endpoint}: cannot be bound: {error.strerror}. Configure another"
                ) from None
            if unix:
                os.chmod(path, 0o660)


def unlink(endpoints: Iterable[str]) -> None:
    """Remove the Unix sockets among them, after closing."""
    for endpoint in endpoints:
        if endpoint.startswith(IPC):
            remove(Path(endpoint.removeprefix(IPC)))
