"""Logins of people: argon2id, optional TOTP, short-lived JWT with a refresh token.

Never   tells a wrong password from an unknown name, in words or in time.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, NamedTuple

import jwt
import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateways.users.store import Store, StoreError, User, now_ms

ACCESS_S: Final = 600
REFRESH_MS: Final = 14 * 24 * 3600 * 1000
FAILURES_MAX: Final = 8
LOCK_MS: Final = 60_000
PASSWORD_LENGTH_MIN: Final = 10
ISSUER: Final = "perpcore"


class LoginError(Exception):
    """No."""


class Tokens(NamedTuple):
    """What a login gives; `access` goes into an Authorization header for ten minutes."""

    access: str
    refresh: str
    expires_s: int


class Principal(NamedTuple):
    """Who an access token speaks for."""

    user_id: int
    admin: bool


class Check(NamedTuple):
    """A password on its way to being verified."""

    hasher: PasswordHasher
    user: User | None
    stored: str
    password: str

    def run(self) -> bool:
        """Takes tens of milliseconds, whether there is such a user or not."""
        try:
            return self.hasher.verify(self.stored, self.password)
        except (VerificationError, InvalidHashError):
            return False


class Logins:
    """Checks passwords and makes tokens."""

    def __init__(self, store: Store, master: bytes) -> None:
        """master: the seal's key; the signing key is derived from it."""
        self._store = store
        self._signing = hashlib.blake2b(master, person=b"perpcore-jwt").digest()
        self._hasher = PasswordHasher()
        # What an unknown name is checked against, so that it takes as long.
        self._decoy = self._hasher.hash(secrets.token_hex(16))

    def hash(self, password: str) -> str:
        """An argon2id hash; StoreError for a password that is too short."""
        return hash_password(password, self._hasher)

    def login(self, name: str, password: str, code: str = "") -> Tokens:
        """Tokens for a user who knows the password, and the code where TOTP is on.

        raises      LoginError, the same for every cause
        """
        checked = self.check(name, password)
        return self.finish(checked, checked.run(), code)

    def check(self, name: str, password: str) -> Check:
        """The slow part of a login, to be run in any thread; `finish` does the rest."""
        user = self._store.user(name)
        return Check(self._hasher, user, user.password if user else self._decoy, password)

    def finish(self, checked: Check, known: bool, code: str) -> Tokens:
        """Tokens, or LoginError; failures are counted."""
        user = checked.user
        if user is None or user.disabled_ms or user.locked_ms > now_ms():
            raise LoginError
        good = known and self._code_good(user, code)
        self._store.note_login(user.id, good=good, failures_max=FAILURES_MAX, lock_ms=LOCK_MS)
        if not good:
            raise LoginError
        return self._tokens(user)

    def refresh(self, token: str) -> Tokens:
        """New tokens for a refresh token, which is spent."""
        user_id = self._store.take_session(token)
        user = self._store.user_by_id(user_id) if user_id is not None else None
        if user is None or user.disabled_ms:
            raise LoginError
        return self._tokens(user)

    def principal(self, access: str) -> Principal:
        """Who sent an access token; LoginError when it is none of ours, or too old."""
        try:
            claims = jwt.decode(
                access,
                self._signing,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["exp", "iss", "sub"]},
            )
            return Principal(int(claims["sub"]), bool(claims.get("admin")))
        except (jwt.PyJWTError, ValueError):
            raise LoginError from None

    def _tokens(self, user: User) -> Tokens:
        now = now_ms()
        claims = {
            "iss": ISSUER,
            "sub": str(user.id),
            "admin": user.admin,
            "iat": now // 1000,
            "exp": now // 1000 + ACCESS_S,
        }
        refresh = secrets.token_urlsafe(32)
        self._store.add_session(refresh, user.id, now + REFRESH_MS)
        return Tokens(jwt.encode(claims, self._signing, "HS256"), refresh, ACCESS_S)

    def _code_good(self, user: User, code: str) -> bool:
        return user.totp is None or pyotp.TOTP(user.totp).verify(code, valid_window=1)


def hash_password(password: str, hasher: PasswordHasher | None = None) -> str:
    """An argon2id hash; StoreError for a password that is too short."""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise StoreError(f"a password has at least {PASSWORD_LENGTH_MIN} characters")
    return (hasher or PasswordHasher()).hash(password)
