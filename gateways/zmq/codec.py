"""From messages to COMMAND rows and from reports to messages; nothing here knows a socket.

Reads   msgpack Orders, raw records, REPORT rows.
Writes  COMMAND rows whose account and key are the session's; frames.
Never   judges an order: risk does. A message that is none is named, and nothing of it is done.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from gateways.zmq.protocol import OPERATIONS, ORDERS_MAX, RECORD_BYTES, REPORTS, Order
from shm.codes import Kind
from shm.records import COMMAND

Rows = np.ndarray[Any, Any]

DECODER: Final = msgspec.msgpack.Decoder(list[Order])
ENCODER: Final = msgspec.msgpack.Encoder()
_WORDS: Final = COMMAND.dtype.itemsize // 8
_LINE_BYTES: Final = 64
_SIZES: Final = (64, 128, 192, RECORD_BYTES)
_REPORT: Final = np.dtype([("head", "<q"), ("b", "<u8"), ("w", "<q", 6)])

_KINDS: Final = np.zeros(256, bool)  # what a client may send
_KINDS[[int(kind) for kind in OPERATIONS.values()]] = True
# Kinds that carry one setting: it stands where others have the order's id.
_VALUED: Final = np.zeros(256, bool)
_VALUED[[Kind.LEVERAGE, Kind.COUNTDOWN, Kind.MARGIN_TYPE, Kind.POSITION_MODE]] = True
_VALUED[[Kind.POSITION_MARGIN]] = True

_CODES: Final = ("side", "type", "tif", "flags", "stp", "position_side")
_NUMBERS: Final = ("symbol", *_CODES, "price_ticks", "qty_lots", "order_id", "expire_ns")
_RARE: Final = ("trigger_ticks", "activate_ticks", "terms", "value", "trace_hi", "trace_lo")
_fields = attrgetter("op", "client_id", *_NUMBERS, *_RARE)
# The words of a COMMAND that matter here (shm/records.py).
_W_FIRST, _W_PRICE, _W_QTY = 3, 4, 5
_W_CLIENT, _W_EXPIRE, _W_ACTIVATE, _W_TERMS = 8, 13, 14, 15
_W_TRACE, _W_DIGEST, _W_RECV, _W_KEY = 16, 18, 20, 21


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
    rows = np.zeros(len(orders), COMMAND.dtype)
    if not orders:
        return rows
    words = rows.view(np.int64).reshape(-1, _WORDS)
    ops, names, *columns = zip(*map(_fields, orders), strict=True)
    of = dict(zip((*_NUMBERS, *_RARE), (np.array(c, np.int64) for c in columns), strict=True))
    kinds = np.array([OPERATIONS[op] for op in ops], np.uint8)
    algo, valued = kinds == Kind.PLACE_ALGO, _VALUED[kinds]
    _unused(~algo, of, ("trigger_ticks", "activate_ticks", "terms"))
    _unused(~valued, of, ("value",))
    _unused(valued, of, ("order_id", "price_ticks", "qty_lots"))
    _unused(algo, of, ("order_id",))
    rows["account"], rows["kind"] = account, kinds
    for name in ("symbol", *_CODES):
        rows[name] = of[name]
    # At most one of the three is not zero.
    words[:, _W_FIRST] = of["order_id"] | of["trigger_ticks"] | of["value"]
    words[:, _W_PRICE], words[:, _W_QTY] = of["price_ticks"], of["qty_lots"]
    words[:, _W_EXPIRE] = of["expire_ns"]
    words[:, _W_ACTIVATE], words[:, _W_TERMS] = of["activate_ticks"], of["terms"]
    words[:, _W_TRACE], words[:, _W_TRACE + 1] = of["trace_hi"], of["trace_lo"]
    if any(names):
        _put_names(words, names)
    lines = np.ones(len(rows), np.uint8)
    lines[words[:, _W_CLIENT:_W_TRACE].any(axis=1)] = 2
    traced: Rows = (words[:, _W_TRACE] | words[:, _W_TRACE + 1]) != 0
    lines[traced] = 3
    rows["lines"] = lines
    _sign(words, traced, now_ns, key_id)
    return rows


def _put_names(words: Rows, names: tuple[str, ...]) -> None:
    for place, name in enumerate(names):
        if not name.isascii() or "\0" in name:
            raise Malformed(f"$[{place}].client_id: must be ASCII without NUL")
    packed = np.array([name.encode() for name in names], "S40")
    words[:, _W_CLIENT:_W_EXPIRE] = packed.view(np.int64).reshape(-1, 5)


def _unused(where: Rows, of: dict[str, Rows], names: tuple[str, ...]) -> None:
    """Malformed when an order says something that its operation doesn't use."""
    for name in names:
        column = of[name]
        if column.any() and (at := np.flatnonzero(where & (column != 0))).size:
            raise Malformed(f"$[{at[0]}].{name}: the operation doesn't use it")


def _sign(words: Rows, traced: Rows, now_ns: int, key_id: int) -> None:
    """Where a command comes from is for the gateway to say; the trace is the client's own."""
    if traced.any():
        words[traced, _W_DIGEST : _W_DIGEST + 2] = 0
        words[traced, _W_RECV] = now_ns
        words[traced, _W_KEY] = key_id


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
    rows["lines"] = np.clip(rows["lines"], 1, min(size_bytes // _LINE_BYTES, 3))
    _sign(words, rows["lines"] == 3, now_ns, key_id)
    good = _KINDS[rows["kind"]]
    if good.all():
        return rows, np.zeros(0, np.int64)
    return rows[good].copy(), np.flatnonzero(~good)


def report_frames(rows: Rows, indices: Rows, previous: int, *, raw: bool) -> list[bytes]:
    """A REPORTS message of REPORT rows, in order of their int64 indices."""
    if raw:
        before = previous.to_bytes(8, "little", signed=True)
        return [REPORTS, before, indices.tobytes(), rows.tobytes()]
    words = rows.view(_REPORT)["w"].tolist()
    named = zip(
        indices.tolist(),
        *(rows[name].tolist() for name in ("seq", "account", "symbol", "kind", "status")),
        words,
        strict=True,
    )
    return [REPORTS, ENCODER.encode([previous, [(*head, *more) for *head, more in named]])]
