"""What travels between a native client and the native gateway: frames, one source for both.

Every message is a kind of one byte and its frames; the client's socket is a DEALER, the gateway's a
ROUTER, both with CURVE. Numbers are integers: prices in ticks, quantities in lots, money in quanta.

    client   HELLO    msgpack Hello             first; again after a silence or a restart of either
             ORDERS   number, [Order, ...]      msgpack, at most ORDERS_MAX
             RECORDS  number, COMMAND rows      the same with no codec at all
             PING     anything                  comes back as PONG
    gateway  WELCOME  msgpack Welcome
             TAKEN    msgpack Taken             answers ORDERS and RECORDS, in order
             REPORTS  previous, indices, rows   see below; where Hello asked: [previous, [Report]]
             CURRENT  msgpack Current           after HELLO and EPOCH: nothing older is on its way
             EPOCH    msgpack Epoch             the engine started again
             GONE     msgpack text              why this session is over: say HELLO again
             PONG     what PING said

`number` is NUMBER: the session's own, 1 and up without a gap, and how many bytes a record has. Of
RECORDS the first 64, 128 or 192 bytes of each COMMAND may do: those with what the command needs.

TAKEN says which `request` numbers the commands got: command k of those that were taken has
`first_request + k`. Its answer, and all that comes of it, are durable reports of the account
(shm/records): the first has that number in `request`. A report is named by its index, which only
grows; each REPORTS says the index before its first one (`previous`, -1: none since HELLO), so that
a gap is seen at once, and HELLO with `after` has everything behind an index sent again.

When an answer is missing because the gateway was killed or the line broke: HELLO with the same
session, then the same messages under the same numbers. What was taken before is not taken again;
its TAKEN is. CURRENT {index, request}, once it has come, settles the rest: a command with a number
up to `request` that no report below `index` answers was not accepted, and never will be.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from shm.codes import Kind
from shm.units import CLIENT_ID_BYTES

HELLO: Final = b"H"
ORDERS: Final = b"O"
RECORDS: Final = b"R"
PING: Final = b"p"
WELCOME: Final = b"W"
TAKEN: Final = b"T"
REPORTS: Final = b"E"
CURRENT: Final = b"C"
EPOCH: Final = b"N"
GONE: Final = b"G"
PONG: Final = b"P"

NUMBER: Final = struct.Struct("<qq")  # of a message; bytes of a record, 0 where there is none
ORDERS_MAX: Final = 1024  # commands in one message
RECORD_BYTES: Final = 256
WINDOW: Final = 1024  # messages a session may have unanswered

# Why a command was not handed over; then nothing was done. Sent in TAKEN, kept by number.
OVERLOADED: Final = "OVERLOADED"
NOT_RUNNING: Final = "NOT_RUNNING"
FORBIDDEN: Final = "FORBIDDEN"
MALFORMED: Final = "MALFORMED"
WHYS: Final = ("", OVERLOADED, NOT_RUNNING, FORBIDDEN, MALFORMED)
WHOLE: Final = -1  # in `refused`: the message, not one command of it

# What an Order may ask for; whose it is says the session.
Operation = Literal[
    "place",
    "cancel",
    "amend",
    "reduce",
    "cancel_all",
    "place_algo",
    "cancel_algo",
    "cancel_algos",
    "countdown",
    "leverage",
    "margin_type",
    "position_mode",
    "position_margin",
]
OPERATIONS: Final[dict[str, Kind]] = {
    name: Kind[name.upper()]
    for name in Operation.__args__  # type: ignore[attr-defined]
}

Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Symbol = Annotated[int, Meta(ge=0, le=0xFFFF)]
Account = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]


class Hello(msgspec.Struct, forbid_unknown_fields=True):
    """Who one is is known from the CURVE key; this says what one wants."""

    session: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]  # drawn by the client, kept while it runs
    after: Annotated[int, Meta(ge=-1, le=(1 << 62))] = -1  # reports behind it again; -1: only new
    records: bool = True  # reports as raw records; else msgpack
    orders: bool = True  # false: a drop copy, that only listens
    accounts: Annotated[list[Account], Meta(max_length=64)] = []  # hear these, all of one user
    cancel_on_disconnect: bool = False  # silence for three heartbeats cancels every order


class Order(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One command. What an operation doesn't use stays as it is; numbers as in shm/codes.py."""

    op: Operation
    symbol: Symbol = 0xFFFF
    side: Byte = 0
    type: Byte = 0
    tif: Byte = 0
    flags: Byte = 0
    stp: Byte = 0
    position_side: Byte = 0
    price_ticks: Int64 = 0
    qty_lots: Int64 = 0
    order_id: Int64 = 0
    client_id: Annotated[str, Meta(max_length=CLIENT_ID_BYTES)] = ""  # ASCII
    expire_ns: Int64 = 0
    trigger_ticks: Int64 = 0  # place_algo
    activate_ticks: Int64 = 0
    terms: Int64 = 0
    value: Int64 = 0  # leverage, countdown, margin_type, position_mode, position_margin
    trace_hi: Int64 = 0
    trace_lo: Int64 = 0


class Welcome(msgspec.Struct):
    account: int
    scopes: list[str]
    epoch: int
    next_index: int  # of the first report that comes live; -1: not known yet
    heartbeat_ms: int
    last_number: int  # of the session's messages, the last that was taken; -1: a new session
    layouts: str  # digest of all records: raw ones are only for who has the same


class Taken(msgspec.Struct):
    number: int  # of the message
    first_request: int
    count: int
    refused: list[tuple[int, str]]  # (place in the message, why) of those that were not


class Epoch(msgspec.Struct):
    epoch: int
    index: int  # of its first report


class Current(msgspec.Struct):
    index: int  # every report below it has been sent
    request: int


Report = tuple[int, ...]  # index, seq, account, symbol, kind, status, and its six words
REPORT_ROW: Final = struct.Struct("<qIHBB6q")  # a row as a Report, but for the index
