"""Files that processes map and write to: a store into one must never find the disk full.

It would end the process (SIGBUS), and whoever starts it again at the same place.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from shm.files import DataError


def reserve(fd: int, path: Path, size_bytes: int) -> None:
    """Give a file its place on the disk, all of it; what is in there stays, the rest is zeros.

    raises      DataError: there is no room
    """
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        room = os.statvfs(path.parent)
        raise DataError(
            f"{path}: needs {size_bytes:,} bytes, its disk has {room.f_bavail * room.f_frsize:,} "
            f"free ({os.strerror(error.errno)}). Make room, then start the gateway again"
        ) from None
