"""Unix sockets that are one process's alone: one at which somebody answers is not taken over.

A name is looked at, bound and removed under flock(LOCK_EX) on its folder: of several processes that
start at once one has it, and whoever stops doesn't remove what by then is its successor's.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shm.files import DataError


@contextmanager
def taking(path: Path) -> Iterator[None]:
    """Bind in here; the folder is made where there is none.

    raises      DataError: another process answers there
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with _alone(path.parent):
        if _answered(path):
            raise DataError(f"{path}: another process answers there. Stop it first")
        yield


def remove(path: Path) -> None:
    """Remove a name after closing, unless a successor answers there already."""
    with suppress(FileNotFoundError), _alone(path.parent):
        if not _answered(path):
            path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError, ConnectionError):
        probe.connect(str(path))
        return True
    return False
