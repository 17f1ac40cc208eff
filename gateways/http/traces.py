"""Whose trace a request belongs to: the one its client names, or one made for it.

Reads   X-Trace-Id (32 hexadecimal digits), or a W3C traceparent where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shm.traces import Trace, new_trace, read_trace


def trace_of(headers: Mapping[str, str]) -> Trace:
    """Of an HTTP request."""
    return _first(headers.get("X-Trace-Id"), headers.get("traceparent"))


def message_trace(message: Mapping[str, Any]) -> Trace:
    """Of a WebSocket API message, which carries the same beside `id` and `method`."""
    return _first(message.get("traceId"), message.get("traceparent"))


def _first(*named: Any) -> Trace:
    for text in named:
        found = read_trace(text) if isinstance(text, str) and len(text) <= 512 else None
        if found is not None:
            return found
    return new_trace()
