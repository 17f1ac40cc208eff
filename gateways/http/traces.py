"""Trace ids: kept where the client sent one, made where not; 16 bytes, as two words.

Reads   X-Trace-Id (32 hexadecimal digits) or a W3C traceparent.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from typing import Final

_HEX: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_WORDS: Final = struct.Struct("<qq")

Trace = tuple[int, int]


def new_trace() -> Trace:
    """One that nobody has; never (0, 0)."""
    high, low = _WORDS.unpack(os.urandom(16))
    return high, low or 1


def trace_of(headers: Mapping[str, str]) -> Trace:
    """The request's own, or a new one."""
    text = headers.get("X-Trace-Id")
    if text is None:
        parent = headers.get("traceparent")
        match = _PARENT.fullmatch(parent) if parent else None
        text = match[1] if match else None
    if text is None or not _HEX.fullmatch(text) or text.strip("0") == "":
        return new_trace()
    high, low = _WORDS.unpack(bytes.fromhex(text))
    return high, low


def trace_text(trace: Trace) -> str:
    """As X-Trace-Id shows it."""
    return _WORDS.pack(*trace).hex()
