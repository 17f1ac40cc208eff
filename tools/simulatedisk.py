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
from pathlib import Path
from typing import Final

from engine.direct import PAGE_BYTES

SECTOR_BYTES: Final = 512


class Disk:
    """What is durable of the files it was told about."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.durable: dict[Path, bytes] = {}

    def files(self) -> list[Path]:
        """Those whose content is written in place: the WAL, the report log, the watermark."""
        found = [self.data / "durable"]
        for folder in ("wal", "reports"):
            with os.scandir(self.data / folder) as entries:
                found += [
                    self.data / folder / entry.name
                    for entry in entries
                    if folder == "reports" or entry.name.endswith(".seg")
                ]
        return sorted(found)

    def sync(self, *paths: Path) -> None:
        """The sync of these files has returned; without any, of all."""
        for path in paths or self.files():
            self.durable[path] = path.read_bytes()

    def unsynced(self) -> dict[Path, list[int]]:
        """Pages that differ from what is durable, by file. A new file was made durably: zeros."""
        found = {}
        for path in self.files():
            content = path.read_bytes()
            known = self.durable.get(path)
            if known is None:
                known = content[:PAGE_BYTES].ljust(len(content), b"\0")
            self.durable[path] = known
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
            content, known = bytearray(path.read_bytes()), self.durable[path]
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
