"""From messages to COMMAND rows and from reports to messages; nothing here knows a socket.

Reads   msgpack Orders, raw records, REPORT rows.
Writes  COMMAND rows whose account and key are the session's; frames.
Never   judges an order: risk does. A message that is none is named, and nothing of it is done.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
import numpy as np

from gateways.zmq.protocol import (
    OPERATIONS,
    ORDERS_MAX,
    RECORD_BYTES,
    REPORT_ROW,
    REPORTS,
    Order,
)
from shm.codes import Kind
from shm.records import COMMAND, REPORT

Rows = np.ndarray[Any, Any]

DECODER: Final = msgspec.msgpack.Decoder(list[Order])
ENCODER: Final = msgspec.msgpack.Encoder()
_WORDS: Final = COMMAND.dtype.itemsize // 8
_LINE_BYTES: Final = 64
_SIZES: Final = (64, 128, 192, RECORD_BYTES)
assert REPORT_ROW.size == REPORT.dtype.itemsize

_KINDS: Final = np.zeros(256, bool)  # what a client may send
_KINDS[[int(kind) for kind in OPERATIONS.values()]] = True
# Kinds that carry one setting: it stands where others have the order's id.
_VALUED: Final = frozenset(
    (Kind.LEVERAGE, Kind.COUNTDOWN, Kind.MARGIN_TYPE, Kind.POSITION_MODE, Kind.POSITION_MARGIN)
)
_PLAIN: Final = frozenset(OPERATIONS.values()) - _VALUED - {Kind.PLACE_ALGO}
# A COMMAND from its fourth word on, as far as clients fill it (shm/records).
_ROW: Final = struct.Struct("<24x qqq IHH 8B 40s qqq qq 16x qq 80x")
assert _ROW.size == COMMAND.dtype.itemsize
_W_DIGEST, _W_RECV, _W_KEY = 18, 20, 21


class Malformed(ValueError):
    """The message is none; nothing of it was done. The text is for its sender."""


def rows_of_orders(body: bytes, account: int, now_ns: int, key_id: int) -> Rows:
    """A msgpack message as rows, in order.

    raises      Malformed, naming the order and the field
    """
    try:
        orders = DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if len(orders) > ORDERS_MAX:
        raise Malformed(f"{len(orders)} orders, at most {ORDERS_MAX} in a message")
    out = bytearray(_ROW.size * len(orders))
    for place, o in enumerate(orders):
        kind = OPERATIONS[o.op]
        plain = kind in _PLAIN
        first = o.order_id
        if not plain or o.value or o.trigger_ticks or o.activate_ticks or o.terms:
            _check_unused(o, kind, place)
            first = o.order_id or o.trigger_ticks or o.value
        name = o.client_id
        if name and (not name.isascii() or "\0" in name):
            raise Malformed(f"$[{place}].client_id: must be ASCII without NUL")
        traced = o.trace_hi or o.trace_lo
        if traced:
            lines, origin = 3, (now_ns, key_id)
        else:
            long = name or o.expire_ns or o.activate_ticks or o.terms
            lines, origin = 2 if long else 1, (0, 0)
        _ROW.pack_into(
            *(out, _ROW.size * place, first, o.price_ticks, o.qty_lots, account, o.symbol, 0),
            *(kind, o.side, o.type, o.tif, o.flags, o.stp, o.position_side, lines),
            *(name.encode(), o.expire_ns, o.activate_ticks, o.terms, o.trace_hi, o.trace_lo),
            *origin,
        )
    return np.frombuffer(out, COMMAND.dtype)


def _check_unused(order: Order, kind: int, place: int) -> None:
    """Malformed when an order says something that its operation doesn't use."""
    unused = ["trigger_ticks", "activate_ticks", "terms", "value"]
    if kind == Kind.PLACE_ALGO:
        unused = ["order_id", "value"]
    elif kind in _VALUED:
        unused = ["order_id", "price_ticks", "qty_lots", "trigger_ticks", "activate_ticks", "terms"]
    for name in unused:
        if getattr(order, name):
            raise Malformed(f"$[{place}].{name}: the operation doesn't use it")


def _sign(words: Rows, traced: Rows, now_ns: int, key_id: int) -> None:
    """Where a command comes from is for the gateway to say; the trace is the client's own."""
    if traced.any():
        words[traced, _W_DIGEST : _W_DIGEST + 2] = 0
        words[traced, _W_RECV] = now_ns
        words[traced, _W_KEY] = key_id


def picked(rows: Rows, at: Rows) -> Rows:
    """Rows by number, in that order; a run of them stays where it is.

    numpy copies records of fields one field at a time, words all at once.
    """
    if len(at) and at[-1] - at[0] == len(at) - 1 and (at[1:] > at[:-1]).all():
        return rows[at[0] : at[-1] + 1]
    words = rows.view(np.int64).reshape(len(rows), -1)
    return words.take(at, axis=0).view(rows.dtype).reshape(-1)


def rows_of_records(
    body: bytes, size_bytes: int, account: int, now_ns: int, key_id: int
) -> tuple[Rows, Rows]:
    """(rows a client may send, places of the others): copies, with the session's account.

    size_bytes  of one record: 64, 128, 192 or 256; what is left out of a COMMAND is zero
    raises      Malformed
    """
    if size_bytes not in _SIZES:
        raise Malformed(f"records of {size_bytes} bytes, must be one of {_SIZES}")
    count, rest = divmod(len(body), size_bytes)
    if rest or count > ORDERS_MAX:
        raise Malformed(f"{len(body)} bytes, must be at most {ORDERS_MAX} records of {size_bytes}")
    rows = np.zeros(count, COMMAND.dtype)
    given = np.frombuffer(body, np.int64).reshape(count, size_bytes // 8)
    words = rows.view(np.int64).reshape(count, _WORDS)
    words[:, : size_bytes // 8] = given
    rows["account"] = account
    lines = np.clip(rows["lines"], 1, min(size_bytes // _LINE_BYTES, 3))
    rows["lines"] = lines
    if size_bytes > 2 * _LINE_BYTES:
        _sign(words, lines == 3, now_ns, key_id)
    good = _KINDS[rows["kind"]]
    if good.all():
        return rows, np.zeros(0, np.int64)
    return picked(rows, np.flatnonzero(good)), np.flatnonzero(~good)


def report_frames(rows: Rows, indices: Rows, previous: int, *, raw: bool) -> list[bytes]:
    """A REPORTS message of REPORT rows, in order of their int64 indices."""
    if raw:
        before = previous.to_bytes(8, "little", signed=True)
        return [REPORTS, before, indices.tobytes(), rows.tobytes()]
    unpacked = zip(indices.tolist(), REPORT_ROW.iter_unpack(rows.tobytes()), strict=True)
    return [REPORTS, ENCODER.encode([previous, [(index, *row) for index, row in unpacked]])]
