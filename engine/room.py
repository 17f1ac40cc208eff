"""A disk without room, in words that its operator can act on.

Reads   how much is free where something was to be written.
Never   frees anything: what the venue needs is no smaller for a full disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shm.files import DataError, is_full


class NoRoom(DataError):
    """A file could not be made, or grow; nothing that was durable has changed."""


@contextmanager
def wanting(size_bytes: int, folder: Path, what: str, then: str) -> Iterator[None]:
    """Turn what a full disk or quota says of a folder into NoRoom.

    size_bytes  that are wanted at most
    what        they are for
    then        what holds meanwhile, and what to do
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        room = os.statvfs(folder)
        raise NoRoom(
            f"{folder}: no room for {what}: it wants {size_bytes:,} bytes, the disk has "
            f"{room.f_bavail * room.f_frsize:,} free ({os.strerror(error.errno or 0)}). {then}"
        ) from error
