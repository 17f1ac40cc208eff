"""Listen keys: what a user stream is opened with.

Writes  the user store, so that every gateway knows every key.
"""

from __future__ import annotations

from gateways.http.errors import ApiError
from gateways.http.gate import Call
from gateways.http.shapes import Json


async def open_key(call: Call) -> Json:
    """POST /fapi/v1/listenKey: the same key while it lives."""
    assert call.key is not None
    listen_key, expires_ms = call.gate.store.open_listen_key(call.account, call.key.id)
    call.gate.keys.listen_keys[listen_key] = (call.account, call.key.id, expires_ms)
    return {"listenKey": listen_key}


async def extend_key(call: Call) -> Json:
    """PUT /fapi/v1/listenKey."""
    listen_key = call.gate.store.extend_listen_key(call.account)
    if listen_key is None:
        raise ApiError(-1125)
    call.gate.keys.load()
    return {"listenKey": listen_key}


async def close_key(call: Call) -> Json:
    """DELETE /fapi/v1/listenKey: its streams end."""
    call.gate.store.close_listen_key(call.account)
    call.gate.keys.load()
    return {}
