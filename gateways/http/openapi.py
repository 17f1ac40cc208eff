"""OpenAPI 3.1 out of the route table, and the same as a page for people.

Reads   gateways/http/routes.py: what validates and routes is what documents.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from html import escape
from typing import Any, Final, NamedTuple

import msgspec

from gateways.http import books
from gateways.http.errors import ERRORS
from gateways.http.replies import ERROR, SHAPES
from gateways.http.routes import ROUTES
from gateways.http.schema import DECIMAL, SYMBOL, Param, Route, Security

Schema = dict[str, Any]
_SIGNED: Final = (Security.USER_DATA, Security.TRADE)
_INTRO: Final = (
    "A perpetual-futures exchange in the dialect of Binance USD-M futures. Parameters may stand in "
    "the query or in a form body; prices and quantities are text. Signed calls carry `timestamp`, "
    "and as `signature` the HMAC-SHA256 (hexadecimal) or Ed25519 (base64) of the raw query "
    "followed by the raw body, without the signature itself."
)
_TIMESTAMP: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 10**16 - 1}
_WINDOW: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 60000}
_STATUSES: Final = {
    "400": "refused: wrong parameters, a filter, or the engine's answer",
    "401": "no key, an unknown one, or one that may not",
    "405": "no such method",
    "408": "no answer in time: what became of it is unknown",
    "413": "the body is too large",
    "418": "banned for going on past the limits",
    "429": "over a limit",
    "500": "an error of ours",
    "503": "overloaded or not available: nothing was done",
}
_OF_BOOKS: Final = {"404": "the books have no such entry, account or proof"}


def document(symbols: tuple[str, ...] = ()) -> Schema:
    """The whole description; `symbols`: those there are now, the values of `symbol` and `pair`."""
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, symbols)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Perpcore", "version": "1", "description": _INTRO},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR, **{name: shape for name, shape in SHAPES.items() if shape}},
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-MBX-APIKEY"},
                "signature": {"type": "apiKey", "in": "query", "name": "signature"},
            },
        },
    }


def _operation(route: Route, symbols: tuple[str, ...]) -> Schema:
    signed = route.security in _SIGNED
    parameters = [_parameter(param, symbols) for param in route.params]
    if signed:
        parameters.append(_named("timestamp", _TIMESTAMP, required=True))
        parameters.append(_named("recvWindow", _WINDOW))
    shape = SHAPES[route.reply]
    content: Schema = {"$ref": f"#/components/schemas/{route.reply}"} if shape else {}
    answers: Schema = {
        "200": {"description": "done", "content": {"application/json": {"schema": content}}}
    }
    asks_books = route.path.startswith(books.PREFIX)
    for status, meaning in (_STATUSES | (_OF_BOOKS if asks_books else {})).items():
        answers[status] = {
            "description": meaning,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    operation: Schema = {
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_')}",
        "summary": route.summary,
        "description": _rule(route),
        "parameters": parameters,
        "responses": answers,
    }
    if signed:
        operation["security"] = [{"apiKey": [], "signature": []}]
    elif route.security != Security.NONE:
        operation["security"] = [{"apiKey": []}]
    return operation


def _rule(route: Route) -> str:
    weight = route.weight if isinstance(route.weight, int) else "by parameters"
    scope = f", scope {route.scope}" if route.scope else ""
    return f"{route.security}{scope}; weight {weight}, orders {route.orders}"


def _parameter(param: Param, symbols: tuple[str, ...]) -> Schema:
    found = _named(param.name, dict(param.type.openapi), required=param.required)
    if param.type is SYMBOL and symbols:  # in either case
        found["schema"] = {"type": "string", "enum": [*symbols, *(s.lower() for s in symbols)]}
    if param.default is not None:
        found["schema"]["default"] = param.default
    words = [param.meaning] if param.meaning else []
    if param.aliases:
        words.append(f"also {', '.join(param.aliases)}")
    if words:
        found["description"] = "; ".join(words)
    return found


def _named(name: str, schema: Schema, *, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def page() -> str:
    """The table of routes and the codes, for people."""
    rows = []
    for route in ROUTES:
        shown = []
        for param in route.params:
            kind = "decimal" if param.type is DECIMAL else _kind(param)
            mark = "!" if param.required else ""
            shown.append(f"<span title='{escape(kind)}'>{escape(param.name)}{mark}</span>")
        rows.append(
            f"<tr><td>{route.method}</td><td>{escape(route.path)}</td>"
            f"<td>{escape(route.summary)}</td><td>{escape(_rule(route))}</td>"
            f"<td>{' '.join(shown)}</td></tr>"
        )
    codes = "".join(
        f"<tr><td>{code}</td><td>{status}</td><td>{escape(message)}</td></tr>"
        for code, (status, message) in sorted(ERRORS.items(), reverse=True)
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Perpcore API</title>"
        "<style>body{font:14px/1.5 system-ui;margin:2em;max-width:110em}"
        "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;"
        "border-bottom:1px solid #ddd;vertical-align:top}</style>"
        f"<h1>Perpcore API</h1><p>{escape(_INTRO)} <a href='/openapi.json'>openapi.json</a></p>"
        "<table><tr><th>method<th>path<th><th>rule<th>parameters (! mandatory)</tr>"
        f"{''.join(rows)}</table><h2>Codes</h2>"
        f"<table><tr><th>code<th>HTTP<th>message</tr>{codes}</table></html>"
    )


def _kind(param: Param) -> str:
    about = param.type.openapi
    if "enum" in about:
        return " | ".join(map(str, about["enum"]))
    return str(about.get("type", ""))


class Page(NamedTuple):
    """Something served as it is."""

    type: str
    body: Callable[[tuple[str, ...]], bytes]


@lru_cache(maxsize=4)
def _json(symbols: tuple[str, ...]) -> bytes:
    return msgspec.json.encode(document(symbols))


@cache
def _html() -> bytes:
    return page().encode()


PAGES: Final = {
    "/openapi.json": Page("application/json", _json),
    "/docs": Page("text/html; charset=utf-8", lambda _symbols: _html()),
}
