"""What a request may say, declared once: it parses, documents and routes.

Reads   the pairs of a request, each value text or what JSON made of it.
Writes  typed values by parameter name; ApiError for the first that is wrong, in declared order.
Never   refuses a parameter it doesn't know: clients send their own (fapi_surface 0.5).

Spellings follow fapi_surface 0.4: booleans in any case, integers and decimals as text or number,
lists as JSON text or as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from gateways.http.decimals import INTEGER, PLAIN, plain_number
from gateways.http.errors import ApiError

Raw = str | int | bool | list[Any] | dict[str, Any] | None
CLIENT_ID: Final = re.compile(r"[\.A-Z\:/a-z0-9_-]{1,36}", re.ASCII)
NAME: Final = re.compile(r"[A-Z0-9_]{1,20}", re.ASCII)
TIME_MS_MAX: Final = 253402300799000


class Security(StrEnum):
    """What a route asks of its caller, as fapi_surface 1.1 names it."""

    NONE = "NONE"
    MARKET_DATA = "MARKET_DATA"  # a key
    USER_STREAM = "USER_STREAM"  # a key
    USER_DATA = "USER_DATA"  # key, timestamp, signature
    TRADE = "TRADE"


class Type(NamedTuple):
    """A kind of value: how to read it, and how OpenAPI says it."""

    read: Callable[[str, Raw], Any]
    openapi: Mapping[str, Any]


class Param(NamedTuple):
    """One parameter of a route."""

    name: str
    type: Type
    required: bool = False
    default: Any = None
    meaning: str = ""
    aliases: tuple[str, ...] = ()


def _text(name: str, raw: Raw) -> str:
    if raw is True or raw is False:
        return "true" if raw else "false"
    if isinstance(raw, int):
        return str(raw)
    if not isinstance(raw, str):
        raise ApiError(-1102, name)
    if not raw.isascii() or not raw.isprintable():
        raise ApiError(-1100, name)
    return raw


def _read_text(name: str, raw: Raw) -> str:
    text = _text(name, raw)
    if len(text) > 256:
        raise ApiError(-1130, name)
    return text


# Readers look first whether it is as it mostly is: a plain text of the right form.
def _read_name(name: str, raw: Raw) -> str:
    if type(raw) is str and NAME.fullmatch(raw):
        return raw
    text = _text(name, raw).upper()
    if not NAME.fullmatch(text):
        raise ApiError(-1121 if name == "symbol" else -1130, name)
    return text


def _read_client_id(name: str, raw: Raw) -> str:
    if type(raw) is str and CLIENT_ID.fullmatch(raw):
        return raw
    text = _text(name, raw)
    if not CLIENT_ID.fullmatch(text):
        raise ApiError(-4015)
    return text


def _read_integer(name: str, raw: Raw) -> int:
    text = _text(name, raw)
    if not INTEGER.fullmatch(text):
        raise ApiError(-1102, name)
    return int(text)


class Number(str):
    """The raw text of a JSON number with a point or an exponent, as it was signed."""

    __slots__ = ()


def _read_decimal(name: str, raw: Raw) -> str:
    if type(raw) is str and PLAIN.fullmatch(raw):
        return raw
    text = _text(name, raw)
    if isinstance(raw, Number):
        text = plain_number(text)
    if text.startswith("-") and PLAIN.fullmatch(text[1:]):
        return text  # well-formed: what it is for says why it is wrong
    if not PLAIN.fullmatch(text):
        raise ApiError(-1100 if any(c not in "0123456789." for c in text) else -1102, name)
    return text


def _read_bool(name: str, raw: Raw) -> bool:
    text = _text(name, raw).lower()
    if text not in ("true", "false"):
        raise ApiError(-1130, name)
    return text == "true"


_json = msgspec.json.Decoder(float_hook=Number)


def read_json(name: str, text: str | bytes) -> Any:
    """JSON as plain values; numbers with a point stay text. Duplicate keys are refused."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = _json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        check_json(name, raw)
        raise ApiError(-1102, name) from None
    # A member has a colon of its own. Where there are as many colons as keys, none came twice.
    if b"\\" in raw or raw.count(b":") != _keys(name, value, JSON_DEPTH_MAX):
        check_json(name, raw)
    return value


def _keys(name: str, value: Any, depth: int) -> int:
    """Keys of all objects in it; ApiError when they are nested deeper than that."""
    inside: Iterable[Any] = value if isinstance(value, list) else ()
    count = 0
    if isinstance(value, dict):
        count, inside = len(value), value.values()
    elif not isinstance(value, list):
        return 0
    if depth == 0:
        raise ApiError(-1100, name)
    for item in inside:
        if type(item) is dict or type(item) is list:
            count += _keys(name, item, depth - 1)
    return count


JSON_DEPTH_MAX: Final = 8
_TOKENS: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"|[{}\[\],:]', re.DOTALL)


def check_json(name: str, text: bytes) -> None:
    """Refuse what decoders let through: depth, and a key given twice in one object."""
    stack: list[set[bytes] | None] = []
    expect_key = False
    for match in _TOKENS.finditer(text):
        token = match[0]
        if token in (b"{", b"["):
            stack.append(set() if token == b"{" else None)
            expect_key = token == b"{"
            if len(stack) > JSON_DEPTH_MAX:
                raise ApiError(-1100, name)
        elif token in (b"}", b"]"):
            if stack:
                stack.pop()
            expect_key = False
        elif token == b",":
            expect_key = bool(stack) and stack[-1] is not None
        elif token != b":" and expect_key:
            keys = stack[-1]
            key = match[1]
            if b"\\" in key:  # an escape may spell another key
                raise ApiError(-1100, name)
            if keys is None or key in keys:
                raise ApiError(-1101)
            keys.add(key)
            expect_key = False


def _read_list(name: str, raw: Raw) -> list[Any]:
    value = read_json(name, raw) if isinstance(raw, str) else raw
    if not isinstance(value, list) or not value:
        raise ApiError(-1102, name)
    return value


def _read_integers(name: str, raw: Raw) -> list[int]:
    if isinstance(raw, str) and raw and raw[0] != "[":
        return [_read_integer(name, part) for part in raw.split(",")]
    return [_read_integer(name, item) for item in _read_list(name, raw)]


def _read_client_ids(name: str, raw: Raw) -> list[str]:
    return [_read_client_id(name, item) for item in _read_list(name, raw)]


def _read_orders(name: str, raw: Raw) -> list[dict[str, Raw]]:
    orders = _read_list(name, raw)
    if not all(isinstance(order, dict) for order in orders):
        raise ApiError(-1102, name)
    if len(orders) > 5:
        raise ApiError(-4082)
    return orders


def choice(code: int, *values: str, fold: bool = True) -> Type:
    """One of a few words; `code` when it is another."""
    known = frozenset(values)

    def read(name: str, raw: Raw) -> str:
        if type(raw) is str and raw in known:
            return raw
        text = _text(name, raw)
        text = text.upper() if fold else text
        if text not in known:
            raise ApiError(code, name)
        return text

    return Type(read, {"type": "string", "enum": list(values)})


def integer(low: int, high: int, code: int = -1130) -> Type:
    """A whole number in a range."""

    def read(name: str, raw: Raw) -> int:
        value = _read_integer(name, raw)
        if not low <= value <= high:
            raise ApiError(code, name if code in (-1130, -1102) else value)
        return value

    return Type(read, {"type": "integer", "minimum": low, "maximum": high})


def one_of(code: int, *values: int) -> Type:
    """One of a few whole numbers."""

    def read(name: str, raw: Raw) -> int:
        value = _read_integer(name, raw)
        if value not in values:
            raise ApiError(code, name)
        return value

    return Type(read, {"type": "integer", "enum": list(values)})


_DECIMAL: Final = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?$"}
TEXT: Final = Type(_read_text, {"type": "string", "maxLength": 256})
SYMBOL: Final = Type(_read_name, {"type": "string", "pattern": "^[A-Z0-9_]{1,20}$"})
COIN: Final = Type(_read_name, {"type": "string", "pattern": "^[A-Z0-9_]{1,20}$"})
CLIENT_ID_TYPE: Final = Type(
    _read_client_id, {"type": "string", "pattern": "^[\\.A-Z\\:/a-z0-9_-]{1,36}$"}
)
ID: Final = integer(0, (1 << 53) - 1)
LONG: Final = Type(_read_integer, {"type": "integer", "minimum": 0, "maximum": 10**18 - 1})
TIME: Final = integer(0, TIME_MS_MAX)
DECIMAL: Final = Type(_read_decimal, _DECIMAL)
BOOLEAN: Final = Type(_read_bool, {"type": "boolean"})
IDS: Final = Type(_read_integers, {"type": "string", "description": "a JSON list of ids"})
CLIENT_IDS: Final = Type(
    _read_client_ids, {"type": "string", "description": "a JSON list of client ids"}
)
ORDERS: Final = Type(
    _read_orders, {"type": "string", "description": "a JSON list of at most five orders"}
)


class Values(dict[str, Any]):
    """Typed values of a request; a parameter that wasn't sent is its default."""

    def given(self, name: str) -> bool:
        """Whether there is a value, sent or by default."""
        return self[name] is not None


Handler = Callable[..., Awaitable[Any]]


class Route(NamedTuple):
    """One operation of the door. Each says who may use it: a test reads this table."""

    method: str
    path: str
    security: Security
    scope: str  # which scope a key needs; "" where none is needed
    weight: int | Callable[[Values], int]
    params: tuple[Param, ...]
    handler: Handler
    reply: str  # name of the reply's shape in gateways/http/replies.py
    summary: str
    orders: int = 0  # how many it counts towards the order limits
    changes: bool = False  # it is a command: its digest is taken once


class _Reading:
    """Declared parameters by name, made once: what `parse` needs where nothing is wrong."""

    __slots__ = ("defaults", "params", "read", "required")

    def __init__(self, params: tuple[Param, ...]) -> None:
        self.params = params  # kept, so that no other tuple ever has its id
        self.defaults = Values((param.name, param.default) for param in params)
        # What stands under an alias is for who reads in declared order.
        self.read: dict[str, Callable[[str, Raw], Any] | None] = {
            alias: None for param in params for alias in param.aliases
        }
        self.read.update((param.name, param.type.read) for param in params)
        self.required = tuple(param.name for param in params if param.required)


_readings: Final[dict[int, _Reading]] = {}


def parse(params: tuple[Param, ...], sent: Mapping[str, Raw]) -> Values:
    """Typed values of the declared parameters.

    params      of a route: such tuples live as long as the process
    raises      ApiError for the first that is wrong in declared order; -1105 for an optional one
                that is empty, as on the real venue
    """
    reading = _readings.get(id(params))
    if reading is None:
        reading = _readings[id(params)] = _Reading(params)
    values = Values(reading.defaults)
    readers = reading.read
    try:
        for name, raw in sent.items():
            if name in readers:
                read = readers[name]
                if read is None or raw is None or raw == "":
                    return _parse_in_order(params, sent)
                values[name] = read(name, raw)
    except ApiError:
        return _parse_in_order(params, sent)
    for name in reading.required:
        if values[name] is None:
            return _parse_in_order(params, sent)
    return values


def _parse_in_order(params: tuple[Param, ...], sent: Mapping[str, Raw]) -> Values:
    """The same one by one: with aliases, and what is wrong is told of the first."""
    values = Values()
    for param in params:
        raw = sent.get(param.name)
        if raw is None and param.aliases:
            raw = next((sent[a] for a in param.aliases if sent.get(a) is not None), None)
        if raw is None or raw == "":
            if param.required:
                raise ApiError(-1102, param.name)
            if raw == "":
                raise ApiError(-1105, param.name)
            values[param.name] = param.default
        else:
            values[param.name] = param.type.read(param.name, raw)
    return values


def weight_of(route: Route, values: Values) -> int:
    """What a call costs."""
    return route.weight if isinstance(route.weight, int) else route.weight(values)
