"""Trace ids: 16 bytes that name a request from its first hop to its last, as two words.

    text     32 hexadecimal digits, as X-Trace-Id and the middle of a W3C traceparent have them
    words    trace_hi, trace_lo of COMMAND and TRACE_REPORT: the first and the last 16 digits

Never   (0, 0): that is a command without a trace.
"""

from __future__ import annotations

import random
import re
import struct
from typing import Final

_HEX: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_PARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?",
    re.ASCII,
)
_WORDS: Final = struct.Struct(">qq")

Trace = tuple[int, int]
NO_TRACE: Final[Trace] = (0, 0)
_HALF: Final = 1 << 63
_random: Final = random.Random().getrandbits  # seeded by the host; ids are names, no secrets


def new_trace() -> Trace:
    """One that nobody has."""
    return _random(64) - _HALF, _random(64) - _HALF or 1


def read_trace(text: str) -> Trace | None:
    """The words of 32 hexadecimal digits or of a traceparent; None: it is neither, or all zeros."""
    digits = text
    if match := _PARENT.fullmatch(text):
        # Version 00 ends here, later ones may go on, ff is none (Trace Context, 3.2.2).
        known = match["version"] != "00" or match["more"] is None
        if not known or match["version"] == "ff" or match["span"] == "0" * 16:
            return None
        digits = match["trace"]
    if not _HEX.fullmatch(digits):
        return None
    high, low = _WORDS.unpack(bytes.fromhex(digits))
    return (high, low) if high or low else None


def trace_text(trace: Trace) -> str:
    """The 32 digits."""
    return _WORDS.pack(*trace).hex()
