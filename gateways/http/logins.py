"""Logins of people over HTTP: for the terminal, not for programs.

    POST /auth/login     {"name", "password", "code"?}      -> {access, refresh, expiresIn}
    POST /auth/refresh   {"refresh"}                        -> the same, and the old one is spent
    POST /auth/logout    Authorization: Bearer ...          -> {}
    GET  /auth/me        Authorization: Bearer ...          -> {name, admin, accounts}

Bodies are JSON with these fields and no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateways.http.errors import ApiError
from gateways.http.schema import check_json
from gateways.users.logins import LoginError, Logins, Tokens
from gateways.users.store import Store

LOGINS: Final = frozenset(
    {
        ("POST", "/auth/login"),
        ("POST", "/auth/refresh"),
        ("POST", "/auth/logout"),
        ("GET", "/auth/me"),
    }
)


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    password: str
    code: str = ""


class _Refresh(msgspec.Struct, forbid_unknown_fields=True):
    refresh: str


class LoginRoutes:
    """Serves the four routes; password hashing runs in a thread, one at a time."""

    def __init__(self, store: Store, logins: Logins) -> None:
        self._store = store
        self._logins = logins
        self._turn = asyncio.Semaphore(1)

    async def handle(self, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        """The reply; ApiError -1002 for every way of not being let in."""
        try:
            if path == "/auth/login":
                asked = self._read(body, _Login)
                async with self._turn:
                    checked = self._logins.check(asked.name, asked.password)
                    known = await asyncio.to_thread(checked.run)
                    return _shown(self._logins.finish(checked, known, asked.code))
            if path == "/auth/refresh":
                return _shown(self._logins.refresh(self._read(body, _Refresh).refresh))
            principal = self._logins.principal(_bearer(headers))
            if path == "/auth/logout":
                self._store.revoke_sessions(principal.user_id)
                return {}
            user = self._store.user_by_id(principal.user_id)
            if user is None or user.disabled_ms:
                raise LoginError
            accounts = [
                {"account": account, "parent": parent, "label": label}
                for account, parent, label in self._store.accounts_of(user.id)
            ]
            return {"name": user.name, "admin": user.admin, "accounts": accounts}
        except LoginError:
            raise ApiError(-1002) from None

    @staticmethod
    def _read(body: bytes, kind: type[Any]) -> Any:
        check_json("body", body)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ApiError(-1013) from None


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise LoginError
    return token


def _shown(tokens: Tokens) -> dict[str, Any]:
    return {
        "access": tokens.access,
        "refresh": tokens.refresh,
        "expiresIn": tokens.expires_s,
    }
