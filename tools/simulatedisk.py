"""A disk that forgets: what a power cut leaves of writes that no sync had covered.

Reads   the files of a data directory as the page cache has them.
Writes  them anew as they would be found after the cut.
Never   touches what was synced, unless it is told to lie.

A write reaches the disk in pieces of a sector, in any order, whole or not: each page that was
written since the last sync is kept, dropped, torn between two sectors, or garbled, by chance. A
process that is merely killed loses nothing that it wrote: its writes are in the page cache.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine.direct import PAGE_BYTES

SECTOR_BYTES: Final = 512
# What changes a file, its name or its durability: a process may be killed before any of them.
_CALLS: Final = (*("fsync", "rename", "unlink", "ftruncate", "posix_fallocate", "pwrite"),)
_READ_NS: Final = 1_000_000_000  # the time of a file that was read and not written since


ALL: Final = 1 << 30  # more calls than anybody makes


class Died(BaseException):
    """The process was killed."""


@contextmanager
def dying(calls: int, synced: Callable[[Path], None]) -> Iterator[None]:
    """Kill whoever changes files in here, with Died, instead of his call number `calls`.

    synced      is told of every file whose sync returned
    """
    left = calls
    real = {name: getattr(os, name) for name in _CALLS}

    def mortal(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died
            result = real[name](*arguments, **more)
            if name == "fsync":
                synced(Path(os.readlink(f"/proc/self/fd/{arguments[0]}")))
            return result

        return call

    for name in _CALLS:
        setattr(os, name, mortal(name))
    try:
        yield
    finally:
        for name in _CALLS:
            setattr(os, name, real[name])


class Disk:
    """What is durable of the files it was told about."""

    def __init__(self, data: Path, *, mapped: bool = False) -> None:
        """mapped: the WAL is written through a mapping, which leaves no trace in its time."""
        self.data = data
        self.mapped = mapped
        self.durable: dict[Path, bytes] = {}
        self._read: dict[Path, bytes] = {}
        self._paths: dict[str, Path] = {}

    def files(self) -> list[Path]:
        """Those whose content is written in place: the WAL, the report log, the watermark."""
        found = [f"{self.data}/durable"]
        for folder in ("wal", "reports"):
            with os.scandir(f"{self.data}/{folder}") as entries:
                found += [
                    entry.path
                    for entry in entries
                    if entry.name.endswith(".seg") or (folder == "reports" and entry.is_file())
                ]
        known = self._paths
        return [known.get(name) or known.setdefault(name, Path(name)) for name in sorted(found)]

    def read(self, path: Path) -> bytes:
        """What a file holds; read again only when it was written to since the last time.

        A file that was read gets a time of its own, which a write moves; one through a mapping
        doesn't.
        """
        name = os.fspath(path)
        stat = os.stat(name)
        if stat.st_mtime_ns == _READ_NS and path in self._read:
            return self._read[path]
        fd = os.open(name, os.O_RDONLY)
        try:
            if not (self.mapped and path.parent.name == "wal"):
                os.utime(fd, ns=(_READ_NS, _READ_NS))  # before the read: what comes later shows
            content = os.read(fd, stat.st_size)
        finally:
            os.close(fd)
        assert len(content) == stat.st_size
        self._read[path] = content
        return content

    def sync(self, *paths: Path) -> None:
        """The sync of these files has returned; without any, of all."""
        for path in paths or self.files():
            self.durable[path] = self.read(path)

    def sync_one(self, path: Path) -> None:
        """The sync of this file has returned, if it is one that is written in place."""
        if path.suffix in (".seg", ".idx") or path.name == "durable":
            self.durable[path] = self.read(path)

    def unsynced(self) -> dict[Path, list[int]]:
        """Pages that differ from what is durable, by file. A new file was made durably: zeros."""
        found = {}
        for path in self.files():
            content = self.read(path)
            known = self.durable.get(path)
            if known is None:
                known = content[:PAGE_BYTES]
            if len(known) != len(content):  # how long a file is, its system writes first
                known = known[: len(content)].ljust(len(content), b"\0")
            self.durable[path] = known
            if content == known:
                continue
            pages = [
                at
                for at in range(0, len(content), PAGE_BYTES)
                if content[at : at + PAGE_BYTES] != known[at : at + PAGE_BYTES]
            ]
            if pages:
                found[path] = pages
        return found

    def cut(self, chance: random.Random) -> set[Path]:
        """Lose power; returns the files in which something was garbled."""
        garbled = set()
        for path, pages in self.unsynced().items():
            content, known = bytearray(self.read(path)), self.durable[path]
            whole = chance.choice(("keep", "drop")) if chance.random() < 0.2 else ""
            for at in pages:
                page = slice(at, at + PAGE_BYTES)
                fate = whole or chance.choice(("keep", "drop", "tear", "garble"))
                if fate == "drop":
                    content[page] = known[page]
                elif fate == "tear":
                    for sector in range(at, at + PAGE_BYTES, SECTOR_BYTES):
                        if chance.random() < 0.5:
                            piece = slice(sector, sector + SECTOR_BYTES)
                            content[piece] = known[piece]
                elif fate == "garble":
                    garbled.add(path)
                    # What is written again as it was comes out as it was. (Recovery from a
                    # snapshot doesn't look at reports before it, in the page it ends in either.)
                    changed = [
                        sector
                        for sector in range(at, at + PAGE_BYTES, SECTOR_BYTES)
                        if content[sector : sector + SECTOR_BYTES]
                        != known[sector : sector + SECTOR_BYTES]
                    ]
                    sector = chance.choice(changed)
                    end = sector + SECTOR_BYTES
                    first = next(k for k in range(sector, end) if content[k] != known[k])
                    content[first:end] = chance.randbytes(end - first)
            path.write_bytes(content)
        return garbled
