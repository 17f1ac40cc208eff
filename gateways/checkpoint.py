"""A follower's state as one file: what it had come to when it had read so many reports.

    <data>/followers/<name>.ckpt    8 bytes of length | JSON head | blobs, compressed

Reads, writes  that file, as a whole: a kill leaves the old one or the new one.
Never   trusts it: a damaged file, one of another layout or of another WAL is no checkpoint, and the
        follower begins at the first report again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from shm.files import DataError, read_manifest, replace_file
from shm.records import layouts_digest

_HEAD_BYTES_MAX: Final = 1 << 20


class Checkpoint(NamedTuple):
    """`at` is the index of the first report that the blobs don't contain yet."""

    at: int
    blobs: dict[str, bytes]


def checkpoint_path(data: Path, name: str) -> Path:
    return data / "followers" / f"{name}.ckpt"


def _wal(data: Path) -> str:
    manifest = read_manifest(data)
    return f"{manifest.wal_hi & (1 << 64) - 1:016x}{manifest.wal_lo & (1 << 64) - 1:016x}"


def save(data: Path, name: str, layout: str, index: int, blobs: Mapping[str, bytes]) -> None:
    """Keep `blobs` durably. layout: whatever makes them readable, compared when they are loaded."""
    packed = {key: zlib.compress(blob, 1) for key, blob in blobs.items()}
    body = b"".join(packed.values())
    head = json.dumps(
        {
            "index": index,
            "layout": f"{layouts_digest()} {layout}",
            "wal": _wal(data),
            "hash": hashlib.blake2s(body).hexdigest(),
            "blobs": [(key, len(blob)) for key, blob in packed.items()],
        }
    ).encode()
    path = checkpoint_path(data, name)
    path.parent.mkdir(mode=0o750, exist_ok=True)
    try:
        replace_file(path, len(head).to_bytes(8, "little") + head + body)
    except OSError:
        path.with_name(path.name + ".tmp").unlink(missing_ok=True)  # on a disk that is full
        raise


def load(data: Path, name: str, layout: str) -> Checkpoint | None:
    """The last one kept; None where there is none that can be used."""
    try:
        content = checkpoint_path(data, name).read_bytes()
        size = int.from_bytes(content[:8], "little")
        if size > _HEAD_BYTES_MAX:
            return None
        head: dict[str, Any] = json.loads(content[8 : 8 + size])
        body = content[8 + size :]
        wanted = (f"{layouts_digest()} {layout}", _wal(data), hashlib.blake2s(body).hexdigest())
        if (head["layout"], head["wal"], head["hash"]) != wanted:
            return None
        blobs, at = {}, 0
        for key, length in head["blobs"]:
            blobs[key] = zlib.decompress(body[at : at + length])
            at += length
        return Checkpoint(int(head["index"]), blobs)
    except (OSError, DataError, ValueError, KeyError, TypeError, zlib.error):
        return None
