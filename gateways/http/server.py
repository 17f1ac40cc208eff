"""The front: one function takes every request from its bytes to its reply.

    bytes -> route -> parameters -> caller -> limits -> handler -> JSON

Reads   raw query and raw body: signatures are of these.
Never   has a route without a rule, keeps a connection that doesn't send a whole request in time, or
        a body larger than is allowed.
"""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_network
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from gateways.accounts.client import ViewError
from gateways.http import openapi, wsapi
from gateways.http.auth import authenticate, check_once
from gateways.http.errors import ApiError
from gateways.http.frames import GOING_AWAY, POLICY
from gateways.http.gate import Call, Gate, clock_ns
from gateways.http.hub import Hub
from gateways.http.logins import LOGINS, LoginRoutes
from gateways.http.response import EMPTY, Whole
from gateways.http.routes import ALLOWED, BY_NAME
from gateways.http.schema import Route, Security, parse, weight_of
from gateways.http.signing import Pairs, pairs, payload
from gateways.http.sockets import PATH, expect, streams
from gateways.http.traces import trace_of
from gateways.users.keyring import Address, address_of
from gateways.users.store import Key
from shm.traces import Trace, trace_text

LOG: Final = logging.getLogger("perpcore.http")
HEADERS: Final = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
WS_API: Final = "/ws-fapi/v1"
METHODS: Final = "GET, POST, PUT, DELETE"
SHOWN: Final = (
    "X-MBX-USED-WEIGHT-1M, X-MBX-ORDER-COUNT-10S, X-MBX-ORDER-COUNT-1M, Retry-After, X-Trace-Id"
)
LINE_BYTES_MAX: Final = 16384
ADDRESSES_MAX: Final = 16384  # remembered as parsed
_encode: Final = msgspec.json.Encoder().encode


class Front:
    """All of one gateway's HTTP and WebSocket connections."""

    def __init__(self, gate: Gate, logins: LoginRoutes | None = None) -> None:
        self.gate = gate
        self.config = gate.config.http
        self.hub = Hub(gate)
        self._logins = logins
        self._proxies = [ip_network(n, strict=False) for n in self.config.trusted_proxies]
        self._origins = frozenset(self.config.cors_origins)
        self._addresses: dict[str, Address | None] = {}
        self._sockets: dict[str, int] = {}  # WebSockets by address
        self._open: set[web.WebSocketResponse] = set()
        self._sessions: set[wsapi.Session] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.stopping = False
        self.requests = 0

    def server(self) -> Server:
        """What a listening socket hands its connections to."""
        return Server(self)

    def request(
        self,
        message: RawRequestMessage,
        body: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """A request with our own limit on its body."""
        return web.BaseRequest(
            message,
            body,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self.config.body_bytes_max,
        )

    async def start(self) -> None:
        self.hub.start()
        self._tasks = [asyncio.create_task(self._watch_sessions())]

    async def stop(self) -> None:
        """Tell every WebSocket that this gateway is going away."""
        self.stopping = True
        for task in self._tasks:
            task.cancel()
        for ws in tuple(self._open):
            await ws.close(code=GOING_AWAY, message=b"the gateway is stopping", drain=False)
        await self.hub.stop()

    async def _watch_sessions(self) -> None:
        """A WebSocket API session ends with the key it logged on with."""
        while True:
            await asyncio.sleep(0.25)
            good = self.gate.keys.by_id
            for session in tuple(self._sessions):
                if session.key is not None and session.key.id not in good:
                    session.socket.drop(POLICY, b"the API key is no longer valid")

    # ------------------------------------------------------------ addresses

    def address(self, request: web.BaseRequest) -> tuple[str, Address | None]:
        """Who is at the other end: forwarded addresses count from trusted proxies only."""
        text = request.remote or "local"
        if text in self._addresses:
            address = self._addresses[text]
        else:
            if len(self._addresses) >= ADDRESSES_MAX:
                self._addresses.clear()
            address = self._addresses[text] = address_of(text)
        if self._proxies and address is not None and any(address in n for n in self._proxies):
            chain = request.headers.get("X-Forwarded-For", "").split(",")
            for hop in reversed(chain):
                found = address_of(hop.strip())
                if found is None:
                    break
                address, text = found, str(found)
                if not any(found in n for n in self._proxies):
                    break
        return text, address

    # ------------------------------------------------------------ requests

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request comes through here."""
        self.requests += 1
        recv_ns = clock_ns()
        trace = trace_of(request.headers)
        headers = {**HEADERS, "X-Trace-Id": trace_text(trace)}
        origin = request.headers.get("Origin")
        if origin is not None:
            self._cors(origin, headers)
        path, _, query = request.raw_path.partition("?")
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, path, headers["X-Trace-Id"])
            if request.method == "OPTIONS":
                return self._preflight(request, path, headers)
            page = openapi.PAGES.get(path) if request.method == "GET" else None
            if page is not None:
                headers["Content-Type"] = page.type
                return Whole(200, page.body(tuple(self.gate.venue.by_name)), headers)
            if self._logins is not None and (request.method, path) in LOGINS:
                result = await self._login(request, path)
            else:
                result = await self._route(request, path, query, recv_ns, trace, headers)
            body = result if isinstance(result, bytes) else _encode(result)
            return Whole(200, body, headers)
        except ApiError as error:
            refused = error
        except web.HTTPRequestEntityTooLarge:
            refused = ApiError(-1101, status=413)
        except web.HTTPException as error:
            refused = ApiError(-1013, status=error.status)
        except ViewError:
            refused = ApiError(-1001)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            self.gate.refusals.bug(trace, f"{request.method} {path}")
            refused = ApiError(-1000)
        where = f"{request.method} {path}"
        self.gate.refusals.note(refused, trace, where, request.remote or "local")
        return self._refused(refused, headers)

    async def _route(
        self,
        request: web.BaseRequest,
        path: str,
        query_text: str,
        recv_ns: int,
        trace: Trace,
        headers: dict[str, str],
    ) -> Any:
        now_ms = recv_ns // 1_000_000
        shown, address = self.address(request)
        limits = self.gate.limits
        limits.refuse_banned(shown, now_ms)
        weighed = False
        try:
            route = BY_NAME.get((request.method, path))
            if route is None:
                raise self._no_route(request.method, path, headers)
            query = query_text.encode("utf-8", "surrogateescape")
            body = await self._body(request) if request.can_read_body else b""
            sent: Pairs = pairs(body, pairs(query, {}))
            message = payload(query, body) if route.security not in _UNSIGNED else b""
            api_key = request.headers.get("X-MBX-APIKEY", "")
            caller = authenticate(route, self.gate.keys, api_key, address, sent, message, now_ms)
            digest = check_once(route, caller, self.gate.once, now_ms)
            values = parse(route.params, sent)
            weighed = True
            used = limits.weigh(shown, weight_of(route, values), now_ms)
        except ApiError:
            if not weighed:
                limits.weigh(shown, 1, now_ms)
            raise
        headers["X-MBX-USED-WEIGHT-1M"] = str(used)
        if route.orders:
            self._count_orders(route, caller.key, now_ms, headers)
        call = Call(self.gate, values, caller.key, recv_ns, digest, trace)
        try:
            return await route.handler(call)
        except ApiError as error:
            error.account = caller.key.account if caller.key is not None else None
            raise

    @staticmethod
    def _no_route(method: str, path: str, headers: dict[str, str]) -> ApiError:
        """404, or 405 where there are other methods."""
        others = ALLOWED.get(path)
        if others is None:
            return ApiError(-5000, path[:128], method)
        headers["Allow"] = others
        return ApiError(-5000, path[:128], method, status=405)

    async def _body(self, request: web.BaseRequest) -> bytes:
        """The whole body; ApiError when it doesn't come in time."""
        if request.content.is_eof():  # it came with the head, as it mostly does
            return await request.read()
        try:
            async with asyncio.timeout(self.config.idle_timeout_s):
                return await request.read()
        except TimeoutError:
            raise ApiError(-1013, message="The body did not come in time.", status=408) from None

    def _count_orders(
        self, route: Route, key: Key | None, now_ms: int, headers: dict[str, str]
    ) -> None:
        assert key is not None, f"{route.path} counts orders of nobody"
        in_10s, in_1m = self.gate.limits.order(key.account, route.orders, 1, now_ms)
        headers["X-MBX-ORDER-COUNT-10S"] = str(in_10s)
        headers["X-MBX-ORDER-COUNT-1M"] = str(in_1m)

    async def _login(self, request: web.BaseRequest, path: str) -> Any:
        assert self._logins is not None
        shown, _ = self.address(request)
        self.gate.limits.weigh(shown, 20, clock_ns() // 1_000_000)
        return await self._logins.handle(path, await self._body(request), request.headers)

    def _refused(self, error: ApiError, headers: dict[str, str]) -> Whole:
        if error.retry_after_s:
            headers["Retry-After"] = str(error.retry_after_s)
        return Whole(error.status, _encode(error.body), headers)

    # ------------------------------------------------------------ browsers

    def _cors(self, origin: str, headers: dict[str, str]) -> None:
        if "*" in self._origins or origin in self._origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = SHOWN
            headers["Vary"] = "Origin"

    def _preflight(self, request: web.BaseRequest, path: str, headers: dict[str, str]) -> Whole:
        if "Access-Control-Allow-Origin" not in headers:
            raise ApiError(-5000, path[:128], "OPTIONS")
        headers["Access-Control-Allow-Methods"] = METHODS
        headers["Access-Control-Allow-Headers"] = (
            "X-MBX-APIKEY, Authorization, Content-Type, X-Trace-Id, traceparent"
        )
        headers["Access-Control-Max-Age"] = "600"
        return Whole(EMPTY, b"", headers)

    def _origin_good(self, request: web.BaseRequest) -> bool:
        """A browser's WebSocket comes from our own pages or from an allowed origin."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        return origin.partition("://")[2] == request.headers.get("Host", "")

    # ------------------------------------------------------------ WebSockets

    async def _websocket(
        self, request: web.BaseRequest, path: str, trace: str
    ) -> web.StreamResponse:
        api = path.rstrip("/") == WS_API
        if not api and PATH.fullmatch(path) is None:
            raise ApiError(-5000, path[:128], request.method)
        if self.stopping:
            raise ApiError(-1001)
        if not self._origin_good(request):
            raise ApiError(-2015, status=403)
        shown, address = self.address(request)
        if api:
            now_ms = clock_ns() // 1_000_000
            self.gate.limits.weigh(shown, wsapi.HANDSHAKE_WEIGHT, now_ms)
        if self._sockets.get(shown, 0) >= self.config.sockets_per_address:
            raise ApiError(-1003, message="Too many connections from this address.")
        ws = web.WebSocketResponse(
            max_msg_size=self.config.frame_bytes_max, autoping=False, compress=False
        )
        ws.headers["X-Trace-Id"] = trace
        self._sockets[shown] = self._sockets.get(shown, 0) + 1
        self._open.add(ws)
        try:
            if not api:
                await expect(request, self.hub, self.config)
            await ws.prepare(request)
            if api:
                await wsapi.serve(request, ws, self.gate, address, self.config, self._sessions)
            else:
                await streams(request, ws, self.hub, self.config)
        finally:
            self._open.discard(ws)
            left = self._sockets[shown] - 1
            if left:
                self._sockets[shown] = left
            else:
                del self._sockets[shown]
        return ws

    def counts(self) -> dict[str, int]:
        """Figures for people (gateways/doorcounts.py)."""
        desk = self.gate.desk
        return {
            "clients": len(self._open),  # WebSockets
            "requests": self.requests,
            "sent": self.hub.sent,
            "overloads": desk.overloads,
            "unknowns": desk.unknowns,
        }

    @property
    def websockets(self) -> int:
        return len(self._open)


_UNSIGNED: Final = (Security.NONE, Security.MARKET_DATA, Security.USER_STREAM)


class Server(web.Server):
    """aiohttp's server with a cap on connections, in all and from one address."""

    def __init__(self, front: Front) -> None:
        config = front.config
        super().__init__(
            front.handle,
            request_factory=front.request,
            access_log=None,
            keepalive_timeout=config.idle_timeout_s,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=8190,
            lingering_time=0.5,
            auto_decompress=False,
        )
        self._most = config.connections_max
        self._most_of_one = config.connections_per_address
        self._by_address: dict[str, int] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        peer = _peer(transport)
        count = self._by_address.get(peer, 0) + 1
        self._by_address[peer] = count
        super().connection_made(handler, transport)
        if len(self._connections) > self._most or count > self._most_of_one:
            transport.close()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        transport = self._connections.get(handler)
        if transport is not None:
            peer = _peer(transport)
            left = self._by_address.get(peer, 1) - 1
            if left > 0:
                self._by_address[peer] = left
            else:
                self._by_address.pop(peer, None)
        super().connection_lost(handler, exc)


def _peer(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else "local"
