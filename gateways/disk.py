"""A full disk, as gateways and followers meet it: it ends none of them that has begun its work.

A store into a mapped file that the disk has no room for would end the process (SIGBUS), and whoever
starts it again at the same place: such files have their place from the beginning. Whoever keeps
something goes on without having kept it, and does so when there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

from shm.files import DataError, is_full


def reserve(fd: int, path: Path, size_bytes: int) -> None:
    """Give a file its place on the disk, all of it; what is in there stays, the rest is zeros.

    raises      DataError: there is no room
    """
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as error:
        if not is_full(error):
            raise
        room = os.statvfs(path.parent)
        raise DataError(
            f"{path}: needs {size_bytes:,} bytes, its disk has {room.f_bavail * room.f_frsize:,} "
            f"free ({os.strerror(error.errno or 0)}). Make room, then start the gateway again"
        ) from None
