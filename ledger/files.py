"""The ledger's directory: what lies where, and how its parts are read back.

    head                 LEDGER_HEAD: how far everything else is written
    accounts             LEDGER_KEY: accounts of the books, in order of first use
    blocks               LEDGER_BLOCK: the hash chain
    traces, breaks       LEDGER_TRACE, LEDGER_BREAK
    names                JSON: symbols and assets
    notes                JSON, a line a bookkeeping command, each with the hash of all before it
    seg.<entry>.<leg>/   columns from that entry and leg on: entries, account, amount, balance,
                         before
    balances/<entries>   every account's balance and last leg there
    state.<entries>      what the writer needs to go on from there

All of it is derived from reports: a directory that is damaged or lost is made again from them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shm.records import (
    LEDGER_ACCOUNT,
    LEDGER_BLOCK,
    LEDGER_BREAK,
    LEDGER_ENTRY,
    LEDGER_HEAD,
    LEDGER_KEY,
    LEDGER_ORDER,
    LEDGER_TRACE,
    Record,
)

Array = np.ndarray[Any, Any]

MAGIC: Final = int.from_bytes(b"PERPLED1", "little")
STATE_MAGIC: Final = b"PERPLST1"
BALANCE_MAGIC: Final = b"PERPLBL1"
LAYOUT: Final = int.from_bytes(
    hashlib.blake2s(
        "".join(
            record.digest
            for record in (
                *(LEDGER_ENTRY, LEDGER_ACCOUNT, LEDGER_ORDER, LEDGER_BREAK),
                *(LEDGER_KEY, LEDGER_TRACE, LEDGER_BLOCK, LEDGER_HEAD),
            )
        ).encode(),
        digest_size=8,
    ).digest(),
    "little",
    signed=True,
)
COLUMNS: Final[dict[str, np.dtype[Any]]] = {
    "entries": LEDGER_ENTRY.dtype,
    "account": np.dtype("<u4"),
    "amount": np.dtype("<i8"),
    "balance": np.dtype("<i8"),
    "before": np.dtype("<i8"),
}


class LedgerError(Exception):
    """The books cannot be used, or cannot answer; says what, where and what to do."""


class QuestionError(LedgerError):
    """The books are sound; what was asked of them has no answer. Whoever asked may read why."""


REMAKE: Final = "Move the directory away and run `perpcore ledger rebuild`: it is derived data"


def ledger_folder(data: Path) -> Path:
    return data / "ledger"


def digest(data: bytes | memoryview) -> bytes:
    """The one hash of the ledger's files."""
    return hashlib.blake2b(data, digest_size=32).digest()


def sealed(row: Array) -> bool:
    """Whether the last four words of a row are the hash of those before."""
    words = row.view(np.int64).reshape(-1)
    return digest(words[:-4].tobytes()) == words[-4:].tobytes()


def seal(row: Array) -> None:
    """Put the hash of a row into its last four words."""
    words = row.view(np.int64).reshape(-1)
    words[-4:] = np.frombuffer(digest(words[:-4].tobytes()), np.int64)


def read_head(folder: Path) -> Array:
    """LEDGER_HEAD; while it is being written it is read again."""
    path = folder / "head"
    if not path.exists():
        raise LedgerError(f"{path}: there is none. Start the ledger: perpcore ledger run")
    for _ in range(1000):
        data = path.read_bytes()
        if len(data) == LEDGER_HEAD.dtype.itemsize:
            row = np.frombuffer(bytearray(data), LEDGER_HEAD.dtype)
            if sealed(row) and int(row["magic"][0]) == MAGIC:
                if int(row["layout"][0]) != LAYOUT:
                    raise LedgerError(f"{path}: written by another release. {REMAKE}")
                return row
    raise LedgerError(f"{path}: byte 0: its hash differs. {REMAKE}")


class Segment(NamedTuple):
    """One folder of columns."""

    path: Path
    first_entry: int
    first_leg: int


def segment_path(folder: Path, first_entry: int, first_leg: int) -> Path:
    return folder / f"seg.{first_entry:015d}.{first_leg:015d}"


def list_segments(folder: Path) -> list[Segment]:
    """Segments in order."""
    found = []
    for path in sorted(folder.glob("seg.*")):
        _, entry, leg = path.name.split(".")
        found.append(Segment(path, int(entry), int(leg)))
    return found


def read_rows(path: Path, record: Record, first: int, count: int) -> Array:
    """Rows [first, first + count) of a file of records."""
    size = record.dtype.itemsize
    if count <= 0:
        return np.zeros(0, record.dtype)
    with open(path, "rb") as file:
        file.seek(first * size)
        data = file.read(count * size)
    if len(data) != count * size:
        raise LedgerError(f"{path}: ends at row {first + len(data) // size}. {REMAKE}")
    return np.frombuffer(bytearray(data), record.dtype)


# ---------------------------------------------------------------- files with sections


def pack_sections(magic: bytes, meta: dict[str, Any], arrays: dict[str, Array]) -> bytes:
    """Magic, size and text of a JSON head, arrays, and a hash of all that at the end."""
    head = dict(meta)
    head["arrays"] = [[name, len(array)] for name, array in arrays.items()]
    text = json.dumps(head, sort_keys=True).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    body = b"".join(
        [magic, len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in arrays.values())]
    )
    return body + digest(body)


def unpack_sections(
    path: Path, magic: bytes, types: dict[str, np.dtype[Any]]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """What `pack_sections` made; LedgerError when a bit of it has changed."""
    data = path.read_bytes()
    if data[:8] != magic or len(data) < 48 or digest(memoryview(data)[:-32]) != data[-32:]:
        raise LedgerError(f"{path}: its hash differs. {REMAKE}")
    size = int.from_bytes(data[8:16], "little")
    meta = json.loads(data[16 : 16 + size])
    arrays: dict[str, Array] = {}
    at = 16 + size
    for name, rows in meta["arrays"]:
        width = rows * types[name].itemsize
        arrays[name] = np.frombuffer(bytearray(data[at : at + width]), types[name])
        at += width
    return meta, arrays


def append_file(fd: int, at: int, data: bytes) -> None:
    """Write `data` at byte `at`, all of it."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)


STATE_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "cells": np.dtype("<i8"),
    "accounts": LEDGER_ACCOUNT.dtype,
    "orders": LEDGER_ORDER.dtype,
}
BALANCE_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "balance": np.dtype("<i8"),
    "last_leg": np.dtype("<i8"),
}
