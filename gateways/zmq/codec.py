"""From messages to COMMAND rows and from reports to messages; nothing here knows a socket.

Reads   decoded Orders, raw records, REPORT rows.
Writes  COMMAND rows whose account is the session's; frames.
Never   judges an order: risk does. What can't be laid out, or is no client's to send, is named.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from gateways.zmq.protocol import (
    FORBIDDEN,
    MALFORMED,
    OPERATIONS,
    ORDERS_MAX,
    RECORD_BYTES,
    REPORTS,
    Order,
)
from shm.codes import Kind
from shm.records import COMMAND
from shm.units import CLIENT_ID_BYTES

Rows = np.ndarray[Any, Any]
Refused = list[tuple[int, str]]

DECODER: Final = msgspec.msgpack.Decoder(list[Order])
ENCODER: Final = msgspec.msgpack.Encoder()
_KINDS: Final = np.zeros(256, bool)
_KINDS[[int(kind) for kind in OPERATIONS.values()]] = True
_WORDS: Final = np.dtype([("head", "<q"), ("b", "<u8"), ("w", "<q", 6)])
_INT64: Final = range(-(1 << 63), 1 << 63)
_ALGO: Final = int(Kind.PLACE_ALGO)
# What `value` of a kind is called is its own business: it stands in word 3 for all of them.
_VALUED: Final = frozenset(
    int(kind)
    for kind in (
        *(Kind.LEVERAGE, Kind.COUNTDOWN, Kind.MARGIN_TYPE, Kind.POSITION_MODE),
        Kind.POSITION_MARGIN,
    )
)


def row_of(order: Order, account: int, now_ns: int, key_id: int) -> bytes | None:
    """An Order as a COMMAND row of this account; None when a number doesn't fit its field."""
    kind = OPERATIONS.get(order.op)
    if kind is None:
        return None
    client = order.client_id.encode()
    if len(client) > CLIENT_ID_BYTES:
        return None
    words = [0] * 32
    if kind == _ALGO:
        words[3], words[4], words[5] = order.trigger_ticks, order.price_ticks, order.qty_lots
        words[14], words[15] = order.activate_ticks, order.terms
    elif kind in _VALUED:
        words[3] = order.value
    else:
        words[3], words[4], words[5] = order.order_id, order.price_ticks, order.qty_lots
    if kind == Kind.CANCEL_ALGO:
        words[4] = words[5] = 0
    words[13] = order.expire_ns
    words[16], words[17] = order.trace_hi, order.trace_lo
    traced = bool(order.trace_hi or order.trace_lo)
    if traced:
        words[20], words[21] = now_ns, key_id
    small = (order.side, order.type, order.tif, order.flags, order.stp, order.position_side)
    if not (0 <= order.symbol <= 0xFFFF) or any(not 0 <= value <= 255 for value in small):
        return None
    if any(value not in _INT64 for value in words):
        return None
    lines = 3 if traced else 2 if client or order.expire_ns or words[14] or words[15] else 1
    row = np.array(words, np.int64)
    record = row.view(COMMAND.dtype)[0]
    record["account"], record["symbol"], record["kind"] = account, order.symbol, kind
    record["side"], record["type"], record["tif"], record["flags"] = small[:4]
    record["stp"], record["position_side"], record["lines"] = small[4], small[5], lines
    raw = bytearray(row.tobytes())
    raw[64 : 64 + len(client)] = client
    return bytes(raw)


def rows_of_orders(body: bytes, account: int, now_ns: int, key_id: int) -> tuple[Rows, Refused]:
    """A msgpack message as rows; msgspec.DecodeError when it is none."""
    orders = DECODER.decode(body)
    if len(orders) > ORDERS_MAX:
        raise msgspec.ValidationError(f"{len(orders)} orders, at most {ORDERS_MAX} in a message")
    packed, refused = [], []
    for place, order in enumerate(orders):
        row = row_of(order, account, now_ns, key_id)
        if row is None:
            refused.append((place, MALFORMED))
        else:
            packed.append(row)
    return np.frombuffer(bytearray(b"".join(packed)), COMMAND.dtype), refused


def rows_of_records(body: bytes, account: int) -> tuple[Rows, Refused]:
    """Raw records as rows: copied, their account set; kinds that are no client's are refused."""
    if len(body) % RECORD_BYTES or len(body) > ORDERS_MAX * RECORD_BYTES:
        raise msgspec.ValidationError(
            f"{len(body)} bytes, must be 1 to {ORDERS_MAX} records of {RECORD_BYTES}"
        )
    rows = np.frombuffer(bytearray(body), COMMAND.dtype)
    rows["account"] = account
    good = _KINDS[rows["kind"]]
    if good.all():
        return rows, []
    return rows[good].copy(), [(int(k), FORBIDDEN) for k in np.flatnonzero(~good)]


def report_frames(
    rows: Rows, indices: np.ndarray[Any, Any], previous: int, *, raw: bool
) -> list[bytes]:
    """REPORTS frames of an account's reports."""
    if raw:
        before = previous.to_bytes(8, "little", signed=True)
        return [REPORTS, before, indices.tobytes(), rows.tobytes()]
    words = rows.view(_WORDS)["w"].tolist()
    named = zip(
        indices.tolist(),
        *(rows[name].tolist() for name in ("seq", "account", "symbol", "kind", "status")),
        words,
        strict=True,
    )
    return [REPORTS, ENCODER.encode([previous, [(*head, *more) for *head, more in named]])]
