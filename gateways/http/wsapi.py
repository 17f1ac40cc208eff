"""The WebSocket API: requests and replies of /ws-fapi/v1 (fapi_surface 8).

Reads   the same routes as HTTP: a method is a route under another name.
Writes  replies in any order; `id` says which request each belongs to.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web

from gateways.http import trade
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
_encode: Final = msgspec.json.Encoder().encode
_PLACE: Final = "order.place"
SESSION: Final = ("session.logon", "session.status", "session.logout")


class _Reply:
    """Where the outcome of one request goes: what `Desk.ask` takes in the place of a future."""

    __slots__ = ("id", "key", "method", "session", "told", "trace")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.id: Any = None
        self.method: Any = None
        self.trace: Trace | None = None
        self.told = session.told
        self.key: Key | None = None  # whose it is

    def read(self, text: str) -> dict[str, Raw]:
        """Take in a message; returns its parameters, or raises ApiError."""
        request = read_json("request", text)
        if not isinstance(request, dict):
            raise ApiError(-1013)
        self.trace = message_trace(request)
        request_id = request.get("id")
        if isinstance(request_id, list | dict) or len(str(request_id)) > 64:
            raise ApiError(-1130, "id")
        self.id = request_id
        params = request.get("params")
        params = {} if params is None else params
        if not isinstance(params, dict):
            raise ApiError(-1130, "params")
        if str(params.get("returnRateLimits", "true")).lower() == "false":
            self.told = False
        self.method = request.get("method")
        return params

    def done(self) -> bool:
        """Never before it was told."""
        return False

    def set_result(self, result: Any) -> None:
        """It was done."""
        self._send({"id": self.id, "status": 200, "result": result})

    def set_exception(self, error: BaseException) -> None:
        """It wasn't, or by a bug of ours."""
        session = self.session
        if self.trace is None:
            self.trace = new_trace()
        where = f"{WS} {str(self.method)[:WHERE_MAX]}"
        if isinstance(error, ApiError):
            refused = error
            account = session.key.account if session.key is not None else None
            if error.account is None and self.key is not None:
                error.account = self.key.account
            refusals = session.gate.refusals
            refusals.note(error, self.trace, where, session.socket.address, account)
        else:
            try:
                raise error
            except Exception:
                session.gate.refusals.bug(self.trace, where)
            refused = ApiError(-1000)
        self._send({"id": self.id, "status": refused.status, "error": refused.body})

    def _send(self, reply: dict[str, Any]) -> None:
        session = self.session
        assert self.trace is not None
        reply["traceId"] = trace_text(self.trace)
        if self.told:
            reply["rateLimits"] = session.rate_limits(self.key)
        session.socket.send_soon(_encode(reply))
        session.end_one()


class Session:
    """One connection: who has logged on, and how much is on its way."""

    def __init__(self, gate: Gate, socket: Socket, address: Address | None, told: bool) -> None:
        self.gate = gate
        self.socket = socket
        self.address = address
        self.told = told  # replies carry rateLimits unless asked not to
        self.key: Key | None = None
        self.since_ms = 0
        self.waiting = 0  # requests that have no reply yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._room: asyncio.Future[None] | None = None

    async def room(self) -> None:
        """Until another request may be taken."""
        while self.waiting >= IN_FLIGHT_MAX:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def end_one(self) -> None:
        """A request has got its reply."""
        self.waiting -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # ------------------------------------------------------------ one request

    def take(self, text: str) -> None:
        """Do what a message asks. An order goes to the desk at once; the rest may take a task."""
        self.waiting += 1
        reply = _Reply(self)
        try:
            params = reply.read(text)
            self._do(reply, params)
        except Exception as error:  # a refusal, or a bug of ours for the one who asked
            reply.set_exception(error)

    def _do(self, reply: _Reply, params: dict[str, Raw]) -> None:
        recv_ns = clock_ns()
        now_ms = recv_ns // 1_000_000
        method, limits = reply.method, self.gate.limits
        limits.refuse_banned(self.socket.address, now_ms)
        if method in SESSION:
            limits.weigh(self.socket.address, 2, now_ms)
            result = self._session(str(method), params, now_ms)
            reply.key = self.key
            reply.set_result(result)
            return
        route = METHODS.get(method) if isinstance(method, str) else None
        if route is None:
            limits.weigh(self.socket.address, 1, now_ms)
            raise ApiError(-1020, message="Invalid request: unknown method")
        weighed = False
        try:
            caller = self._caller(route, params, now_ms)
            digest = check_once(route, caller, self.gate.once, now_ms)
            values = parse(route.params, params)
            weighed = True
            limits.weigh(self.socket.address, weight_of(route, values), now_ms)
        except ApiError:
            if not weighed:
                limits.weigh(self.socket.address, 1, now_ms)
            raise
        reply.key = caller.key
        if route.orders:
            assert caller.key is not None
            limits.order(caller.key.account, route.orders, 1, now_ms)
        assert reply.trace is not None
        call = Call(self.gate, values, caller.key, recv_ns, digest, reply.trace)
        if method == _PLACE and trade.place_at_once(call, reply):
            return
        task = asyncio.create_task(self._finish(route, call, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _finish(route: Route, call: Call, reply: _Reply) -> None:
        try:
            result = await route.handler(call)
        except Exception as error:
            reply.set_exception(error)
        else:
            reply.set_result(msgspec.Raw(result) if isinstance(result, bytes) else result)

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
        values = params.values()
        # A 1 or 0 among them looks like one, and is no different in either spelling.
        if True in values or False in values:
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

    def rate_limits(self, key: Key | None) -> list[dict[str, Any]]:
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
                socket.refuse(POLICY, b"too many requests in a second")
                await socket.linger()
                return
            session.take(text)
            if session.waiting >= IN_FLIGHT_MAX:
                await session.room()
    finally:
        sessions.discard(session)
        pinging.cancel()
        socket.drop(1000, b"")
