"""Commands as bytes: one packing for every kind a gateway sends.

The kinds that clients ask for all lay their fields over the same places (shm/records): three
words before the tail of line 0, a name and three words in line 1, the origin in line 2. Filling a
numpy row costs ten times as much; tests/unit compares every kind with `shm.kinds.command`.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np

from shm.kinds import HAS_ORIGIN
from shm.records import COMMAND, NO_SYMBOL

_ROW: Final = struct.Struct("<qqqqqqIHH8B40sqqq6qqq64x")
assert _ROW.size == COMMAND.dtype.itemsize
_ORIGIN: Final = struct.Struct("<5q")  # the first words of line 2
_KIND_AT: Final = 56


class Origin(NamedTuple):
    """Where a command comes from: trace, digest of the signed request, time and key."""

    trace_hi: int
    trace_lo: int
    digest_hi: int
    digest_lo: int
    recv_ns: int
    key_id: int


class Ask(NamedTuple):
    """A command before it has its number."""

    kind: int
    account: int
    origin: Origin
    symbol: int = NO_SYMBOL
    words: tuple[int, int, int] = (0, 0, 0)  # the three before the tail of line 0
    side: int = 0
    type: int = 0
    tif: int = 0
    flags: int = 0
    stp: int = 0
    position_side: int = 0
    name: str = ""  # client id
    more: tuple[int, int, int] = (0, 0, 0)  # the three after it

    def packed(self, request: int) -> bytes:
        """The COMMAND row."""
        (
            kind, account, origin, symbol, (a, b, c), side, kind_of_order, tif, flags, stp,
            position_side, name, (x, y, z),
        ) = self  # fmt: skip
        high, low, digest_high, digest_low, received_ns, key = origin
        return _ROW.pack(
            0, 0, request, a, b, c, account, symbol, 0, kind, side, kind_of_order, tif, flags,
            stp, position_side, 3, name.encode(), x, y, z,
            high, low, digest_high, digest_low, received_ns, key, 0, 0,
        )  # fmt: skip

    @property
    def trail(self) -> tuple[int, int, int]:
        """As `origin_of` finds it in the packed command."""
        if not HAS_ORIGIN >> self.kind & 1:
            return 0, 0, 0
        origin = self.origin
        return origin.trace_hi, origin.trace_lo, origin.recv_ns


class Row:
    """A command that was laid out as its kind is (`shm.kinds.command`), for kinds that are rare."""

    def __init__(self, row: np.ndarray[Any, Any]) -> None:
        self._row = row.view(COMMAND.dtype)

    def packed(self, request: int) -> bytes:
        """The COMMAND row."""
        self._row["request"] = request
        return self._row.tobytes()

    @property
    def trail(self) -> tuple[int, int, int]:
        """Trace id and when the request had been read; zeros where its kind carries none."""
        return origin_of(self._row.tobytes())


def origin_of(packed: bytes) -> tuple[int, int, int]:
    """(trace_hi, trace_lo, recv_ns) of a packed command; zeros where its kind carries none."""
    if not HAS_ORIGIN >> packed[_KIND_AT] & 1:
        return 0, 0, 0
    high, low, _, _, received_ns = _ORIGIN.unpack_from(packed, 128)
    return high, low, received_ns


def rows_of(packed: list[bytes]) -> np.ndarray[Any, Any]:
    """Packed commands as an array that a door takes."""
    return np.frombuffer(bytearray(b"".join(packed)), COMMAND.dtype)
