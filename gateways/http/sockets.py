"""Market and user WebSockets: paths, control messages, pings, limits (fapi_surface 6.1).

/ws/<s1>/<s2>   /ws   /ws/<number>           raw payloads
/stream?streams=a/b   /stream                {"stream": name, "data": payload}
the same under /public, /market, /private    the prefix means nothing here
/private/ws?listenKey=K&events=A/B           user data
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import WSMsgType, web

from gateways.http.errors import ApiError
from gateways.http.frames import GOING_AWAY, POLICY, Socket
from gateways.http.hub import Hub, Subscriber
from gateways.http.schema import read_json
from shm.config import Http

LIFE_S: Final = 24 * 3600.0
PATH: Final = re.compile(r"(?:/(?:public|market|private))?/(ws|stream)(/.*)?")


class Bucket:
    """So many a second, counted by whole seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._count = 0

    def take(self, now: float) -> bool:
        """Whether one more is allowed."""
        second = int(now)
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= self._most


async def keep_alive(socket: Socket, config: Http) -> None:
    """Ping now and then, end who doesn't answer and who has been here for a day."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not socket.closed:
        await asyncio.sleep(config.ping_s)
        now = loop.time()
        if now - socket.last_heard > config.pong_s:
            socket.drop(GOING_AWAY, b"no pong")
        elif now - begun > LIFE_S:
            socket.drop(GOING_AWAY, b"a connection lives for 24 hours")
        else:
            socket.ping()


async def receive(socket: Socket) -> str | None:
    """The next text message; None: the connection has ended, or spoke in bytes."""
    while True:
        message = await socket.ws.receive()
        socket.last_heard = asyncio.get_running_loop().time()
        if message.type is WSMsgType.TEXT:
            return str(message.data)
        if message.type is WSMsgType.PING:
            await socket.ws.pong(message.data)
        elif message.type is not WSMsgType.PONG:
            if message.type is WSMsgType.BINARY:
                socket.drop(1003, b"text frames only")
            return None


async def streams(
    request: web.BaseRequest, ws: web.WebSocketResponse, hub: Hub, config: Http
) -> None:
    """One market or user connection, from its path to its end."""
    socket = Socket(ws, request, config.unsent_bytes_max)
    match = PATH.fullmatch(request.path)
    assert match is not None
    who = Subscriber(socket, combined=match[1] == "stream")
    pinging = asyncio.create_task(keep_alive(socket, config))
    try:
        if await _begin(who, hub, request, config):
            await _control(who, hub, config)
    finally:
        pinging.cancel()
        who.close()
        socket.drop(1000, b"")


class Asked(NamedTuple):
    """Streams that the address of a connection asks for."""

    names: list[str]  # of market streams, and listen keys
    users: list[tuple[str, frozenset[str] | None]]  # listen keys, and which events of each

    @property
    def total(self) -> int:
        return len(self.names) + len(self.users)


def asked(request: web.BaseRequest) -> Asked:
    match = PATH.fullmatch(request.path)
    assert match is not None
    names = [name for name in (match[2] or "").split("/") if name and not name.isdecimal()]
    query = request.query
    for joined in query.getall("streams", []):
        names += [name for name in joined.split("/") if name]
    # events= stands behind the listenKey it filters.
    users: list[tuple[str, frozenset[str] | None]] = []
    for key, value in query.items():
        if key == "listenKey":
            users.append((value, None))
        elif key == "events" and users:
            users[-1] = (users[-1][0], frozenset(value.split("/")))
    return Asked(names, users)


async def expect(request: web.BaseRequest, hub: Hub, config: Http) -> None:
    """Before the handshake: what happens right behind it is heard by its user streams."""
    streams = asked(request)
    if streams.total <= config.streams_max:
        for name in (*streams.names, *(listen_key for listen_key, _ in streams.users)):
            await hub.expect(name)


async def _begin(who: Subscriber, hub: Hub, request: web.BaseRequest, config: Http) -> bool:
    """Subscribe to what the address asks for; False: it was refused."""
    streams = asked(request)
    if streams.total > config.streams_max:
        who.socket.drop(POLICY, b"too many streams")
        return False
    try:
        for name in streams.names:
            await hub.subscribe(who, name)
        for listen_key, events in streams.users:
            await hub.subscribe(who, listen_key, events)
    except ApiError as error:
        who.socket.send(msgspec.json.encode({"error": {"code": error.code, "msg": error.message}}))
        who.socket.drop(POLICY, error.message.encode())
        return False
    return True


async def _control(who: Subscriber, hub: Hub, config: Http) -> None:
    bucket = Bucket(config.messages_per_s)
    loop = asyncio.get_running_loop()
    while (text := await receive(who.socket)) is not None:
        if not bucket.take(loop.time()):
            who.socket.refuse(POLICY, b"too many messages in a second")
            await who.socket.linger()
            return
        who.socket.send(msgspec.json.encode(await _answer(who, hub, text, config)))


async def _answer(who: Subscriber, hub: Hub, text: str, config: Http) -> dict[str, Any]:
    """The reply to one control message; `id` comes back as the type it came as."""
    request_id: Any = None
    try:
        request = read_json("request", text)
        if not isinstance(request, dict):
            raise ApiError(-1102, message="Invalid JSON: expected an object")
        request_id = request.get("id")
        if isinstance(request_id, list | dict) or len(str(request_id)) > 64:
            request_id = None
            raise ApiError(-1130, message="Invalid value type: request ID")
        params = request.get("params") or []
        if not isinstance(params, list) or len(params) > config.streams_max:
            raise ApiError(-1130, message="Invalid request: params must be a list")
        return {
            "result": await _do(who, hub, request.get("method"), params, config),
            "id": request_id,
        }
    except ApiError as error:
        code = 3 if error.code in (-1102, -1100, -1101) else 2
        return {"error": {"code": code, "msg": error.message}, "id": request_id}


async def _do(who: Subscriber, hub: Hub, method: Any, params: list[Any], config: Http) -> Any:
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        if not params or not all(isinstance(name, str) and len(name) < 256 for name in params):
            raise ApiError(-1130, message="Invalid request: params must be stream names")
        if method == "UNSUBSCRIBE":
            for name in params:
                hub.unsubscribe(who, name)
            return None
        if len(who.streams) + len(params) > config.streams_max:
            raise ApiError(-1130, message=f"At most {config.streams_max} streams a connection")
        for name in params:
            await hub.subscribe(who, name)
        return None
    if method == "LIST_SUBSCRIPTIONS":
        return list(who.streams)
    if method == "SET_PROPERTY":
        if len(params) != 2 or params[0] != "combined" or not isinstance(params[1], bool):
            raise ApiError(-1130, message='Invalid request: wanted ["combined", true or false]')
        who.combined = params[1]
        return None
    if method == "GET_PROPERTY":
        if params != ["combined"]:
            raise ApiError(-1130, message='Invalid request: wanted ["combined"]')
        return who.combined
    raise ApiError(-1130, message="Invalid request: unknown method")
