"""What a record is: fields, their bytes, and the digest that two builds compare.

Never   declares a record: the other modules of this package do.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np


class Field(NamedTuple):
    """One column of a record: numpy type, little-endian, and what the number means."""

    name: str
    type: str
    meaning: str


class Record(NamedTuple):
    """A layout. `digest` changes whenever a name, type, order or size does."""

    name: str
    fields: tuple[Field, ...]
    dtype: np.dtype[np.void]
    digest: str
    meaning: str

    def offset(self, field: str) -> int:
        """Where a field begins, in bytes."""
        assert self.dtype.fields is not None
        return int(self.dtype.fields[field][1])

    def place(self, field: str) -> tuple[int, int]:
        """(which int64 of a row holds it, from which bit on)."""
        word, byte = divmod(self.offset(field), 8)
        return word, byte * 8


RECORDS: dict[str, Record] = {}


def record(name: str, meaning: str, *, size_bytes: int, fields: tuple[Field, ...]) -> Record:
    """Build a layout; refuse a hidden hole, a misaligned field or a size nobody asked for."""
    dtype: np.dtype[np.void] = np.dtype([(f.name, f.type) for f in fields])
    assert dtype.fields is not None
    for f in fields:
        kind, offset = dtype.fields[f.name][:2]
        width = kind.base.itemsize
        if offset % width != 0:
            raise ValueError(f"{name}.{f.name}: byte {offset} is not a multiple of {width}")
    if dtype.itemsize != size_bytes:
        raise ValueError(f"{name}: fields add up to {dtype.itemsize} bytes, declared {size_bytes}")
    digest = hashlib.blake2s(repr((name, dtype.descr)).encode(), digest_size=8).hexdigest()
    layout = Record(name, fields, dtype, digest, meaning)
    assert name not in RECORDS, name
    RECORDS[name] = layout
    return layout


def layout_table(layout: Record) -> list[tuple[int, int, str, str]]:
    """Rows of (offset_bytes, width_bytes, name, meaning), for printing."""
    parts: dict[str, Any] = dict(layout.dtype.fields or {})
    return [(parts[f.name][1], parts[f.name][0].itemsize, f.name, f.meaning) for f in layout.fields]


def layouts_digest() -> str:
    """One digest over every record: two builds that agree on it can share memory and files."""
    return hashlib.blake2s(
        "".join(r.digest for r in RECORDS.values()).encode(), digest_size=8
    ).hexdigest()
