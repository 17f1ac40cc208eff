"""The WebSocket API: requests and replies of /ws-fapi/v1 (fapi_surface 8).

Reads   the same routes as HTTP: a method is a route under another name.
Writes  replies in any order; `id` says which request each belongs to.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web

from gateways.http.auth import (
    NOBODY,
    SIGNED,
    Caller,
    authenticate,
    check_once,
    check_session,
    signature_good,
)
from gateways.http.errors import ApiError
from gateways.http.frames import POLICY, Socket
from gateways.http.gate import Call, Gate, clock_ns
from gateways.http.refusals import WHERE_MAX
from gateways.http.routes import BY_NAME
from gateways.http.schema import Raw, Route, Security, parse, read_json, weight_of
from gateways.http.signing import check_time, sorted_payload
from gateways.http.sockets import Bucket, keep_alive, receive
from gateways.http.traces import message_trace
from gateways.users.keyring import Address, allowed
from gateways.users.store import Key, Scope
from shm.config import Http
from shm.traces import Trace, new_trace, trace_text

WS: Final = "WS"  # stands for the method of HTTP in the log
HANDSHAKE_WEIGHT: Final = 5
IN_FLIGHT_MAX: Final = 512
METHODS: Final[dict[str, Route]] = {
    method: BY_NAME[route]
    for method, route in {
        "order.place": ("POST", "/fapi/v1/order"),
        "order.test": ("POST", "/fapi/v1/order/test"),
        "order.modify": ("PUT", "/fapi/v1/order"),
        "order.cancel": ("DELETE", "/fapi/v1/order"),
        "order.status": ("GET", "/fapi/v1/order"),
        "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
        "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
        "account.balance": ("GET", "/fapi/v2/balance"),
        "v2/account.balance": ("GET", "/fapi/v3/balance"),
        "account.status": ("GET", "/fapi/v2/account"),
        "v2/account.status": ("GET", "/fapi/v3/account"),
        "account.position": ("GET", "/fapi/v2/positionRisk"),
        "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
        "depth": ("GET", "/fapi/v1/depth"),
        "ticker.price": ("GET", "/fapi/v2/ticker/price"),
        "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
        "ping": ("GET", "/fapi/v1/ping"),
        "time": ("GET", "/fapi/v1/time"),
        "exchangeInfo": ("GET", "/fapi/v1/exchangeInfo"),
        "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
        "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
        "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
    }.items()
}
SESSION: Final = ("session.logon", "session.status", "session.logout")


class Session:
    """One connection: who has logged on, and what is on its way."""

    def __init__(self, gate: Gate, socket: Socket, address: Address | None, told: bool) -> None:
        self.gate = gate
        self.socket = socket
        self.address = address
        self.told = told  # replies carry rateLimits unless asked not to
        self.key: Key | None = None
        self.since_ms = 0
        self.tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ one request

    async def answer(self, text: str) -> None:
        """Do what a message asks, and reply."""
        request_id: Any = None
        trace: Trace | None = None
        trace, method = new_trace(), None
        told = self.told
        key: Key | None = None
        try:
            request = read_json("request", text)
            if not isinstance(request, dict):
                raise ApiError(-1013)
            trace = message_trace(request)
            request_id = request.get("id")
            if isinstance(request_id, list | dict) or len(str(request_id)) > 64:
                request_id = None
                raise ApiError(-1130, "id")
            params = request.get("params")
            params = {} if params is None else params
            if not isinstance(params, dict):
                raise ApiError(-1130, "params")
            if str(params.get("returnRateLimits", "true")).lower() == "false":
                told = False
            method = request.get("method")
            result, key = await self._do(method, params, trace)
            reply: dict[str, Any] = {"id": request_id, "status": 200, "result": result}
        except ApiError as error:
            reply = self._refused(error, request_id, trace, method)
        except Exception:
            self.gate.refusals.bug(trace, f"{WS} {method}")
            reply = self._refused(ApiError(-1000), request_id, trace, method)
        reply["traceId"] = trace_text(trace)
        if told:
            reply["rateLimits"] = self._rate_limits(key)
        self.socket.send(msgspec.json.encode(reply))

    def _refused(
        self, error: ApiError, request_id: Any, trace: Trace, method: Any
    ) -> dict[str, Any]:
        where = f"{WS} {str(method)[:WHERE_MAX]}"
        account = self.key.account if self.key is not None else None
        self.gate.refusals.note(error, trace, where, self.socket.address, account)
        return {"id": request_id, "status": error.status, "error": error.body}

    async def _do(
        self, method: Any, params: dict[str, Raw], trace: Trace
    ) -> tuple[Any, Key | None]:
        recv_ns = clock_ns()
        now_ms = recv_ns // 1_000_000
        if method in SESSION:
            self.gate.limits.weigh(self.socket.address, 2, now_ms)
            return self._session(str(method), params, now_ms), self.key
        route = METHODS.get(method) if isinstance(method, str) else None
        if route is None:
            self.gate.limits.weigh(self.socket.address, 1, now_ms)
            raise ApiError(-1020, message="Invalid request: unknown method")
        weighed = False
        try:
            caller = self._caller(route, params, now_ms)
            check_once(route, caller, self.gate.once, now_ms)
            values = parse(route.params, params)
            weighed = True
            self.gate.limits.weigh(self.socket.address, weight_of(route, values), now_ms)
        except ApiError:
            if not weighed:
                self.gate.limits.weigh(self.socket.address, 1, now_ms)
            raise
        if route.orders:
            assert caller.key is not None
            self.gate.limits.order(caller.key.account, route.orders, 1, now_ms)
        call = Call(self.gate, values, caller.key, recv_ns, caller.signed, trace)
        try:
            result = await route.handler(call)
        except ApiError as error:
            error.account = caller.key.account if caller.key is not None else None
            raise
        return (msgspec.Raw(result) if isinstance(result, bytes) else result), caller.key

    def _caller(self, route: Route, params: dict[str, Raw], now_ms: int) -> Caller:
        api_key = params.get("apiKey")
        if route.security == Security.NONE:
            return NOBODY
        if self.key is not None and "signature" not in params:
            until_ms = check_session(route, self.key, self.address, params, now_ms)
            message = sorted_payload(params) if route.security in SIGNED else b""
            return Caller(self.key, message, until_ms)
        text = api_key if isinstance(api_key, str) else ""
        message = self._signed(params, text) if route.security in SIGNED else b""
        return authenticate(route, self.gate.keys, text, self.address, params, message, now_ms)

    def _signed(self, params: dict[str, Raw], api_key: str) -> bytes:
        """What was signed; Python's spelling of booleans where only that fits (PB)."""
        message = sorted_payload(params)
        if any(isinstance(value, bool) for value in params.values()):
            other = sorted_payload(
                {k: str(v) if isinstance(v, bool) else v for k, v in params.items()}
            )
            key, signature = self.gate.keys.signer(api_key), params.get("signature")
            if isinstance(signature, str) and signature_good(key, other, signature):
                return other
        return message

    # ------------------------------------------------------------ logging on

    def _session(self, method: str, params: dict[str, Raw], now_ms: int) -> dict[str, Any]:
        if method == "session.logon":
            self._logon(params, now_ms)
        elif method == "session.logout":
            self.key, self.since_ms = None, 0
        return {
            "apiKey": self.key.api_key if self.key else None,
            "authorizedSince": self.since_ms or None,
            "connectedSince": self.since_ms or now_ms,
            "returnRateLimits": self.told,
            "serverTime": now_ms,
        }

    def _logon(self, params: dict[str, Raw], now_ms: int) -> None:
        api_key, signature = params.get("apiKey"), params.get("signature")
        if not isinstance(api_key, str) or not api_key:
            raise ApiError(-1102, "apiKey")
        if not isinstance(signature, str) or not signature:
            raise ApiError(-1102, "signature")
        key = self.gate.keys.signer(api_key)
        good = signature_good(key, sorted_payload(params), signature)
        if key is None or not allowed(key, Scope.READ, self.address):
            raise ApiError(-2015)
        if key.kind != "ed25519":
            raise ApiError(-4056)
        if not good:
            raise ApiError(-1022)
        check_time(params, now_ms)
        self.key, self.since_ms = key, now_ms

    def _rate_limits(self, key: Key | None) -> list[dict[str, Any]]:
        limits, now_ms = self.gate.limits, clock_ns() // 1_000_000
        weight, minute, ten = limits.rate_limits()
        found = [{**weight, "count": limits.used(self.socket.address, now_ms)}]
        key = key or self.key
        if key is not None:
            in_10s, in_1m = limits.orders_used(key.account, now_ms)
            found += [{**ten, "count": in_10s}, {**minute, "count": in_1m}]
        return found


async def serve(
    request: web.BaseRequest,
    ws: web.WebSocketResponse,
    gate: Gate,
    address: Address | None,
    config: Http,
    sessions: set[Session],
) -> None:
    """One connection, from handshake to end."""
    socket = Socket(ws, request, config.unsent_bytes_max)
    told = request.query.get("returnRateLimits", "true").lower() != "false"
    session = Session(gate, socket, address, told)
    sessions.add(session)
    pinging = asyncio.create_task(keep_alive(socket, config))
    bucket = Bucket(config.requests_per_s)
    loop = asyncio.get_running_loop()
    try:
        while (text := await receive(socket)) is not None:
            if not bucket.take(loop.time()):
                socket.drop(POLICY, b"too many requests in a second")
                return
            task = asyncio.create_task(session.answer(text))
            session.tasks.add(task)
            task.add_done_callback(session.tasks.discard)
            if len(session.tasks) >= IN_FLIGHT_MAX:
                await asyncio.wait(session.tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sessions.discard(session)
        pinging.cancel()
        socket.drop(1000, b"")
