"""`perpcore gateway admin`: the operators' endpoints, on a Unix socket of their own.

    POST   /commands/<kind>    {field: value}    symbol, contract, deposit, approve, ...
    GET    /commands           what there is, and the fields of each
    GET    /users  /keys  /audit  /health
    POST   /users              {name, password, admin?}
    POST   /users/disable      {name}
    POST   /users/password     {name, password}
    POST   /users/totp         {name, on}
    POST   /accounts           {name, parent?, label?}
    POST   /keys               {name, account?, scopes?, networks?, label?, expires_ms?,
                                public_key? | curve?}
    POST   /keys/revoke        {api_key}
    POST   /books              {op, principal?, amount?, debit?, credit?, effective_ns?,
                                reference?, text?}     bookkeepers' notes (ledger/bookkeeping.py)
    POST   /login              {name, password, code?}     -> {access}

Who calls: the bearer of an operator's access token, or whoever runs as the gateway's own user (or
root), who is principal 0. A key with the scope admin is none of these.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from gateways.http.admin import KINDS_ALLOWED, LOCAL, Administrator, Principal, fields_of
from gateways.http.desk import Desk
from gateways.http.errors import ApiError
from gateways.http.schema import check_json
from gateways.unixsocket import taking
from gateways.users.logins import LoginError, Logins
from gateways.users.store import StoreError
from shm.codes import Kind

LOG: Final = logging.getLogger("perpcore.http")
BODY_BYTES_MAX: Final = 65536


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    pass


class NewUser(_Strict):
    name: str
    password: str
    admin: bool = False


class Named(_Strict):
    name: str


class Password(_Strict):
    name: str
    password: str


class Totp(_Strict):
    name: str
    on: bool


class NewAccount(_Strict):
    name: str
    parent: int | None = None
    label: str = ""


class NewKey(_Strict):
    name: str
    account: int | None = None
    scopes: str = "read"
    networks: tuple[str, ...] = ()
    label: str = ""
    expires_ms: int = 0
    public_key: str = ""
    curve: str = ""


class KeyNamed(_Strict):
    api_key: str


class Note(_Strict):
    op: str
    principal: int = 0
    amount: int = 0
    debit: int = 0
    credit: int = 0
    effective_ns: int = 0
    reference: int = 0
    text: str = ""


class Login(_Strict):
    name: str
    password: str
    code: str = ""


Action = Callable[[Principal, Any], Awaitable[Any]]


class AdminSocket:
    """The HTTP side of an Administrator."""

    def __init__(self, admin: Administrator, logins: Logins, desk: Desk) -> None:
        self._admin = admin
        self._logins = logins
        self._desk = desk
        self._posts: dict[str, tuple[type[Any], Action]] = {
            "/users": (
                NewUser,
                lambda who, b: admin.add_user(who, b.name, b.password, admin=b.admin),
            ),
            "/users/disable": (Named, lambda who, b: admin.disable_user(who, b.name)),
            "/users/password": (
                Password,
                lambda who, b: admin.set_password(who, b.name, b.password),
            ),
            "/users/totp": (Totp, lambda who, b: admin.set_totp(who, b.name, on=b.on)),
            "/accounts": (NewAccount, self._add_account),
            "/keys": (NewKey, self._new_key),
            "/keys/revoke": (KeyNamed, lambda who, b: admin.revoke_key(who, b.api_key)),
            "/books": (Note, lambda who, b: admin.keep_books(who, **msgspec.structs.asdict(b))),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request of the socket."""
        try:
            result = await self._answer(request)
            status = 200
        except ApiError as error:
            result, status = error.body, error.status
        except StoreError as error:
            result, status = {"code": -1130, "msg": str(error)}, 400
        except web.HTTPRequestEntityTooLarge:
            result, status = ApiError(-1101).body, 413
        except Exception:
            LOG.exception("admin request failed: %s %s", request.method, request.path)
            result, status = ApiError(-1000).body, 500
        return web.Response(
            status=status,
            body=msgspec.json.encode(result),
            headers={"Content-Type": "application/json"},
        )

    async def _answer(self, request: web.BaseRequest) -> Any:
        body = await request.read()
        path = request.path
        if (request.method, path) == ("POST", "/login"):
            asked = _read(body, Login)
            try:
                checked = self._logins.check(asked.name, asked.password)
                known = await asyncio.to_thread(checked.run)
                return self._logins.finish(checked, known, asked.code)._asdict()
            except LoginError:
                raise ApiError(-1002) from None
        who = self._principal(request)
        if request.method == "GET":
            return self._look(path)
        if request.method != "POST":
            raise ApiError(-5000, path, request.method)
        if path.startswith("/commands/"):
            return await self._command(who, path.removeprefix("/commands/"), body)
        if path not in self._posts:
            raise ApiError(-5000, path, request.method)
        shape, action = self._posts[path]
        return await action(who, _read(body, shape))

    def _look(self, path: str) -> Any:
        store = self._admin.store
        if path == "/commands":
            return {kind.name.lower(): fields_of(kind) for kind in KINDS_ALLOWED}
        if path == "/users":
            names = ("id", "name", "admin", "disabled_ms")
            return [dict(zip(names, row, strict=True)) for row in store.users()]
        if path == "/keys":
            return store.key_rows()
        if path == "/audit":
            columns = ("ts_ms", "principal", "action", "subject", "seq")
            return [dict(zip(columns, row, strict=True)) for row in store.audit()]
        if path == "/health":
            desk = self._desk
            return {"engine": desk.open, "epoch": desk.epoch, "seq": desk.seen_seq}
        raise ApiError(-5000, path, "GET")

    async def _command(self, who: Principal, name: str, body: bytes) -> Any:
        kind = Kind.__members__.get(name.upper().replace("-", "_"))
        if kind is None:
            raise ApiError(-1020, message=f"there is no command {name!r}")
        fields = _read(body or b"{}", dict[str, Any])
        return await self._admin.act(who, kind, fields)

    async def _add_account(self, who: Principal, b: NewAccount) -> Any:
        account = await self._admin.add_account(who, b.name, parent=b.parent, label=b.label)
        return {"account": account}

    async def _new_key(self, who: Principal, b: NewKey) -> Any:
        return await self._admin.new_key(
            who,
            b.name,
            account=b.account,
            scopes=b.scopes,
            networks=b.networks,
            label=b.label,
            expires_ms=b.expires_ms,
            public_key=b.public_key,
            curve=b.curve,
        )

    def _principal(self, request: web.BaseRequest) -> Principal:
        """An operator by token, or our own user by the socket's credentials."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme:
            try:
                found = self._logins.principal(token if scheme.lower() == "bearer" else "")
            except LoginError:
                raise ApiError(-1002) from None
            user = self._admin.store.user_by_id(found.user_id)
            if user is None or not user.admin or user.disabled_ms:
                raise ApiError(-1002)
            return Principal(found.user_id)
        transport = request.transport
        raw = transport.get_extra_info("socket") if transport is not None else None
        if raw is None or raw.family != socket.AF_UNIX:
            raise ApiError(-1002)
        peer = raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", peer)[1] not in (0, os.getuid()):
            raise ApiError(-1002)
        return Principal(LOCAL)


def _read(body: bytes, shape: Any) -> Any:
    check_json("body", body)
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(-1013, message=f"body: {error}") from None


async def listen(admin: AdminSocket, path: Path) -> web.ServerRunner:
    """Serve on the Unix socket, for our own user and group alone.

    raises      DataError: another process answers there
    """
    runner = web.ServerRunner(web.Server(admin.handle, access_log=None))
    await runner.setup()
    with taking(path):
        path.unlink(missing_ok=True)
        before = os.umask(0o117)
        try:
            await web.UnixSite(runner, path).start()
        finally:
            os.umask(before)
    return runner
