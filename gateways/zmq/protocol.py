"""What travels between a native client and the native gateway: frames, one source for both.

Every message is a kind of one byte and a body; the client's socket is a DEALER, the gateway's a
ROUTER, both with CURVE. Numbers are integers: prices in ticks, quantities in lots, money in quanta.

    client   HELLO    msgpack Hello           first; again after a silence or a restart of either
             ORDERS   msgpack [Order, ...]    at most ORDERS_MAX
             RECORDS  COMMAND rows            the same as raw records of 256 bytes, no codec at all
             PING     anything                comes back as PONG
    gateway  WELCOME  msgpack Welcome
             TAKEN    msgpack Taken           answers ORDERS and RECORDS, in order
             REPORTS  previous, indices, rows see below; or, where Hello asked, msgpack
             EPOCH    msgpack Epoch           the engine started again
             GONE     msgpack text            why this session is over
             PONG

TAKEN says which `request` numbers the commands got: command k of those that were accepted has
`first_request + k`. Its answer, and all that comes of it, are durable reports of the account
(shm/records.py): the first has that number in `request`. A report is named by its index, which only
grows; each REPORTS says the index before its first one (`previous`, -1: none since HELLO), so that
a gap is seen at once, and HELLO with `after` has everything behind an index sent again.

After EPOCH {epoch, index} a command that no report below `index` answers was not accepted.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shm.codes import Kind

HELLO: Final = b"H"
ORDERS: Final = b"O"
RECORDS: Final = b"R"
PING: Final = b"p"
WELCOME: Final = b"W"
TAKEN: Final = b"T"
REPORTS: Final = b"E"
EPOCH: Final = b"N"
GONE: Final = b"G"
PONG: Final = b"P"

ORDERS_MAX: Final = 1024  # commands in one message
RECORD_BYTES: Final = 256

# Why a command was not handed over; then nothing was done.
OVERLOADED: Final = "OVERLOADED"
NOT_RUNNING: Final = "NOT_RUNNING"
FORBIDDEN: Final = "FORBIDDEN"
MALFORMED: Final = "MALFORMED"

# What an Order may ask for; whose it is says the session.
OPERATIONS: Final = {
    "place": Kind.PLACE,
    "cancel": Kind.CANCEL,
    "amend": Kind.AMEND,
    "reduce": Kind.REDUCE,
    "cancel_all": Kind.CANCEL_ALL,
    "place_algo": Kind.PLACE_ALGO,
    "cancel_algo": Kind.CANCEL_ALGO,
    "cancel_algos": Kind.CANCEL_ALGOS,
    "countdown": Kind.COUNTDOWN,
    "leverage": Kind.LEVERAGE,
    "margin_type": Kind.MARGIN_TYPE,
    "position_mode": Kind.POSITION_MODE,
    "position_margin": Kind.POSITION_MARGIN,
}


class Hello(msgspec.Struct, forbid_unknown_fields=True):
    """Who one is is known from the CURVE key; this says what one wants."""

    after: int = -1  # reports behind this index are sent again; -1: only new ones
    records: bool = True  # reports as raw records; else msgpack
    orders: bool = True  # false: a drop copy, that only listens
    cancel_on_disconnect: bool = False  # silence for three heartbeats cancels every order


class Order(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One command. What an operation doesn't use stays as it is; numbers as in shm/codes.py."""

    op: str
    symbol: int = 0xFFFF
    side: int = 0
    type: int = 0
    tif: int = 0
    flags: int = 0
    stp: int = 0
    position_side: int = 0
    price_ticks: int = 0
    qty_lots: int = 0
    order_id: int = 0
    client_id: str = ""
    expire_ns: int = 0
    trigger_ticks: int = 0  # place_algo
    activate_ticks: int = 0
    terms: int = 0
    value: int = 0  # leverage, countdown, margin_type, position_mode, position_margin
    trace_hi: int = 0
    trace_lo: int = 0


class Welcome(msgspec.Struct):
    account: int
    scopes: list[str]
    epoch: int
    next_index: int  # of the first report that comes live
    heartbeat_ms: int
    layouts: str  # digest of all records: raw ones are only for who has the same


class Taken(msgspec.Struct):
    first_request: int
    count: int
    refused: list[tuple[int, str]]  # (place in the message, why) of those that were not


class Epoch(msgspec.Struct):
    epoch: int
    index: int


Report = tuple[int, ...]  # index, seq, account, symbol, kind, status, and its six words
