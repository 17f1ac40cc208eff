"""The user store: one SQLite file with users, API keys, sessions and listen keys.

Reads   and writes <data>/users.db, in WAL mode, from any number of processes.
Never   holds a secret in the clear: passwords are argon2id hashes, API and TOTP secrets sealed.

    users        who may log in
    keys         API keys: account, scopes, addresses, expiry; revoked ones stay, and stay revoked
    sessions     refresh tokens, by hash; one use each
    listen_keys  user streams that are alive, shared by all gateways
    destinations where withdrawals go, under the number their commands carry
    audit        what was changed, in the order it went into the WAL
    meta         up to which report the log was compared with this file
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntFlag
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateways import sqlitefile
from gateways.users.seal import Seal

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS users (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    password      TEXT NOT NULL,
    totp          BLOB,
    admin         INTEGER NOT NULL DEFAULT 0,
    disabled_ms   INTEGER NOT NULL DEFAULT 0,
    failures      INTEGER NOT NULL DEFAULT 0,
    locked_ms     INTEGER NOT NULL DEFAULT 0,
    created_ms    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS accounts (
    account       INTEGER PRIMARY KEY,
    user_id       INTEGER NOT NULL REFERENCES users(id),
    parent        INTEGER,
    label         TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS keys (
    id            INTEGER PRIMARY KEY,
    api_key       TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL CHECK (kind IN ('hmac', 'ed25519', 'curve')),
    secret        BLOB NOT NULL,
    user_id       INTEGER NOT NULL REFERENCES users(id),
    account       INTEGER NOT NULL,
    scopes        INTEGER NOT NULL,
    networks      TEXT NOT NULL DEFAULT '[]',
    label         TEXT NOT NULL DEFAULT '',
    created_ms    INTEGER NOT NULL,
    expires_ms    INTEGER NOT NULL DEFAULT 0,
    revoked_ms    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    id            TEXT PRIMARY KEY,
    user_id       INTEGER NOT NULL REFERENCES users(id),
    expires_ms    INTEGER NOT NULL,
    revoked_ms    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS listen_keys (
    listen_key    TEXT PRIMARY KEY,
    account       INTEGER NOT NULL UNIQUE,
    key_id        INTEGER NOT NULL,
    expires_ms    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS destinations (
    reference     INTEGER PRIMARY KEY,
    account       INTEGER NOT NULL,
    coin          TEXT NOT NULL,
    network       TEXT NOT NULL,
    address       TEXT NOT NULL,
    tag           TEXT NOT NULL,
    UNIQUE (account, coin, network, address, tag)
) STRICT;
CREATE TABLE IF NOT EXISTS meta (
    name          TEXT PRIMARY KEY,
    value         INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    id            INTEGER PRIMARY KEY,
    ts_ms         INTEGER NOT NULL,
    principal     INTEGER NOT NULL,
    action        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    seq           INTEGER NOT NULL
) STRICT;
"""
LISTEN_KEY_MS: Final = 60 * 60 * 1000


class Scope(IntFlag):
    """What a key is good for. A new one may only read unless more is asked for."""

    READ = 1
    TRADE = 2
    TRANSFER = 4
    WITHDRAW = 8
    ADMIN = 16
    AUDIT = 32  # all of the ledger, and nothing else


class StoreError(ValueError):
    """What was asked of the store cannot be; the text is for the operator."""


class Key(NamedTuple):
    """An API key as the doors need it; `secret` is open, and lives in memory only."""

    id: int
    api_key: str
    kind: str
    secret: bytes  # HMAC secret, or the raw Ed25519 public key; curve: none, api_key is the key
    user_id: int
    account: int
    scopes: Scope
    networks: tuple[Any, ...]  # of ipaddress; empty: from anywhere
    expires_ms: int
    revoked_ms: int


class User(NamedTuple):
    """One row of users; the TOTP secret open, or None."""

    id: int
    name: str
    password: str
    totp: str | None
    admin: bool
    disabled_ms: int
    failures: int
    locked_ms: int


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def scopes_of(words: str) -> Scope:
    """'read,trade' as scopes; StoreError names what is none."""
    scopes = Scope(0)
    for word in words.replace(" ", "").lower().split(","):
        try:
            scopes |= Scope[word.upper()]
        except KeyError:
            known = ", ".join(s.name.lower() for s in Scope if s.name)
            raise StoreError(f"scope {word!r}, must be some of {known}") from None
    return scopes


def scope_words(scopes: int) -> str:
    """Scopes as 'read,trade'."""
    return ",".join(s.name.lower() for s in Scope if s & scopes and s.name)


class Store:
    """One connection to the user store. Not for use from several threads."""

    def __init__(self, path: Path, seal: Seal) -> None:
        """Opens or makes the file."""
        self.path = path
        self._seal = seal
        self._db = sqlitefile.connect(path)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._writing():
            for statement in SCHEMA.split(";\n"):
                self._db.execute(statement)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise

    def version(self) -> int:
        """A number that changes whenever another connection has changed the file."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # ------------------------------------------------------------ users

    def add_user(self, name: str, password_hash: str, *, admin: bool = False) -> int:
        """A new user; returns the user's number."""
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise StoreError(f"user name {name!r}, must be 1 to 64 printable characters")
        try:
            with self._writing() as db:
                cursor = db.execute(
                    "INSERT INTO users (name, password, admin, created_ms) VALUES (?, ?, ?, ?)",
                    (name, password_hash, int(admin), now_ms()),
                )
        except sqlite3.IntegrityError:
            raise StoreError(f"there is a user {name!r} already") from None
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def user(self, name: str) -> User | None:
        return self._user("name = ?", name)

    def user_by_id(self, user_id: int) -> User | None:
        return self._user("id = ?", user_id)

    def _user(self, condition: str, value: str | int) -> User | None:
        row = self._db.execute(
            "SELECT id, name, password, totp, admin, disabled_ms, failures, locked_ms "
            f"FROM users WHERE {condition}",
            (value,),
        ).fetchone()
        if row is None:
            return None
        totp = self._seal.open(row[3], f"totp {row[0]}").decode() if row[3] else None
        return User(row[0], row[1], row[2], totp, bool(row[4]), *row[5:])

    def users(self) -> list[tuple[int, str, bool, int]]:
        """(number, name, admin, disabled_ms) of everybody."""
        rows = self._db.execute("SELECT id, name, admin, disabled_ms FROM users ORDER BY id")
        return [(row[0], row[1], bool(row[2]), row[3]) for row in rows]

    def set_password(self, user_id: int, password_hash: str) -> None:
        with self._writing() as db:
            db.execute("UPDATE users SET password = ? WHERE id = ?", (password_hash, user_id))
            db.execute("UPDATE sessions SET revoked_ms = ? WHERE user_id = ?", (now_ms(), user_id))

    def set_totp(self, user_id: int, secret: str | None) -> None:
        sealed = self._seal.seal(secret.encode(), f"totp {user_id}") if secret else None
        with self._writing() as db:
            db.execute("UPDATE users SET totp = ? WHERE id = ?", (sealed, user_id))

    def disable_user(self, user_id: int) -> None:
        """No login, no session, no key of this user is good from now on."""
        with self._writing() as db:
            now = now_ms()
            db.execute("UPDATE users SET disabled_ms = ? WHERE id = ?", (now, user_id))
            db.execute("UPDATE sessions SET revoked_ms = ? WHERE user_id = ?", (now, user_id))
            db.execute(
                "UPDATE keys SET revoked_ms = ? WHERE user_id = ? AND revoked_ms = 0",
                (now, user_id),
            )

    def note_login(self, user_id: int, *, good: bool, failures_max: int, lock_ms: int) -> None:
        """Count failures, and lock the name for a while after too many."""
        with self._writing() as db:
            if good:
                db.execute("UPDATE users SET failures = 0, locked_ms = 0 WHERE id = ?", (user_id,))
                return
            db.execute("UPDATE users SET failures = failures + 1 WHERE id = ?", (user_id,))
            db.execute(
                "UPDATE users SET locked_ms = ?, failures = 0 WHERE id = ? AND failures >= ?",
                (now_ms() + lock_ms, user_id, failures_max),
            )

    # ------------------------------------------------------------ accounts

    def add_account(
        self, account: int, user_id: int, *, parent: int | None = None, label: str = ""
    ) -> None:
        """Say whose an account is; a sub-account has a parent of the same user."""
        if parent is not None and self.owner_of(parent) != user_id:
            raise StoreError(f"account {parent} isn't of user {user_id}")
        try:
            with self._writing() as db:
                db.execute(
                    "INSERT INTO accounts VALUES (?, ?, ?, ?)", (account, user_id, parent, label)
                )
        except sqlite3.IntegrityError:
            raise StoreError(f"account {account} is taken, or user {user_id} isn't there") from None

    def owner_of(self, account: int) -> int | None:
        """The user whose account this is."""
        row = self._db.execute(
            "SELECT user_id FROM accounts WHERE account = ?", (account,)
        ).fetchone()
        return int(row[0]) if row else None

    def accounts_of(self, user_id: int) -> list[tuple[int, int | None, str]]:
        """(account, parent, label) of a user."""
        return self._db.execute(
            "SELECT account, parent, label FROM accounts WHERE user_id = ? ORDER BY account",
            (user_id,),
        ).fetchall()

    def next_account(self, first: int) -> int:
        """The lowest account from `first` on that nobody has."""
        row = self._db.execute(
            "SELECT max(account) FROM accounts WHERE account >= ?", (first,)
        ).fetchone()
        return first if row[0] is None else int(row[0]) + 1

    # ------------------------------------------------------------ keys

    def add_key(
        self,
        api_key: str,
        secret: bytes,
        *,
        user_id: int,
        account: int,
        scopes: Scope,
        kind: str = "hmac",
        networks: tuple[str, ...] = (),
        label: str = "",
        expires_ms: int = 0,
    ) -> int:
        """Store a key; the same api_key again changes nothing. Returns its number."""
        if scopes & Scope.WITHDRAW and not networks:
            raise StoreError("a key that may withdraw needs a list of addresses")
        try:
            shown = [str(ip_network(network, strict=False)) for network in networks]
        except ValueError as error:
            raise StoreError(f"address list: {error}") from None
        sealed = self._seal.seal(secret, f"key {api_key}")
        with self._writing() as db:
            db.execute(
                "INSERT INTO keys (api_key, kind, secret, user_id, account, scopes, networks, "
                "label, created_ms, expires_ms) VALUES (?,?,?,?,?,?,?,?,?,?) "
                "ON CONFLICT (api_key) DO NOTHING",
                (
                    *(api_key, kind, sealed, user_id, account, int(scopes)),
                    *(json.dumps(shown), label, now_ms(), expires_ms),
                ),
            )
            row = db.execute("SELECT id FROM keys WHERE api_key = ?", (api_key,)).fetchone()
        return int(row[0])

    def revoke_key(self, api_key: str) -> bool:
        """From now on it is good for nothing; doing it again changes nothing."""
        with self._writing() as db:
            db.execute(
                "UPDATE keys SET revoked_ms = ? WHERE api_key = ? AND revoked_ms = 0",
                (now_ms(), api_key),
            )
            found = db.execute("SELECT 1 FROM keys WHERE api_key = ?", (api_key,)).fetchone()
            db.execute(
                "DELETE FROM listen_keys WHERE key_id = (SELECT id FROM keys WHERE api_key = ?)",
                (api_key,),
            )
        return found is not None

    def revoke_named(self, name: bytes) -> int:
        """Revoke by the name an AUDIT record has for a key (`key_name`); returns how many."""
        rows = self._db.execute("SELECT api_key FROM keys WHERE revoked_ms = 0").fetchall()
        named = [row[0] for row in rows if key_name(row[0]) == name]
        for api_key in named:
            self.revoke_key(api_key)
        return len(named)

    def every_key(self) -> list[Key]:
        """Every key, its secret open."""
        rows = self._db.execute(
            "SELECT id, api_key, kind, secret, user_id, account, scopes, networks, expires_ms, "
            "revoked_ms FROM keys ORDER BY id"
        ).fetchall()
        return [
            Key(
                *(row[0], row[1], row[2], self._seal.open(row[3], f"key {row[1]}")),
                *(row[4], row[5], Scope(row[6])),
                tuple(ip_network(network) for network in json.loads(row[7])),
                *(row[8], row[9]),
            )
            for row in rows
        ]

    def key_rows(self) -> list[dict[str, Any]]:
        """Every key as an operator may see it: without its secret."""
        rows = self._db.execute(
            "SELECT keys.id, api_key, kind, users.name, account, scopes, networks, label, "
            "keys.created_ms, expires_ms, revoked_ms "
            "FROM keys JOIN users ON users.id = user_id ORDER BY keys.id"
        ).fetchall()
        names = (
            *("id", "api_key", "kind", "user", "account", "scopes", "networks", "label"),
            *("created_ms", "expires_ms", "revoked_ms"),
        )
        shown = [dict(zip(names, row, strict=True)) for row in rows]
        for row in shown:
            row["scopes"] = scope_words(row["scopes"])
            row["networks"] = json.loads(row["networks"])
        return shown

    # ------------------------------------------------------------ sessions

    def add_session(self, token: str, user_id: int, expires_ms: int) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM sessions WHERE expires_ms < ?", (now_ms(),))
            db.execute(
                "INSERT INTO sessions (id, user_id, expires_ms) VALUES (?, ?, ?)",
                (hashed(token), user_id, expires_ms),
            )

    def take_session(self, token: str) -> int | None:
        """The user of a refresh token, which is spent by this; a spent one ends all of its user."""
        with self._writing() as db:
            row = db.execute(
                "SELECT user_id, expires_ms, revoked_ms FROM sessions WHERE id = ?",
                (hashed(token),),
            ).fetchone()
            if row is None:
                return None
            now = now_ms()
            if row[2]:
                db.execute(
                    "UPDATE sessions SET revoked_ms = ? WHERE user_id = ? AND revoked_ms = 0",
                    (now, row[0]),
                )
                return None
            db.execute("UPDATE sessions SET revoked_ms = ? WHERE id = ?", (now, hashed(token)))
            return int(row[0]) if row[1] > now else None

    def revoke_sessions(self, user_id: int) -> None:
        with self._writing() as db:
            db.execute("UPDATE sessions SET revoked_ms = ? WHERE user_id = ?", (now_ms(), user_id))

    # ------------------------------------------------------------ listen keys

    def open_listen_key(self, account: int, key_id: int) -> tuple[str, int]:
        """The account's listen key, the same while it lives, good for an hour from now on."""
        now = now_ms()
        with self._writing() as db:
            db.execute("DELETE FROM listen_keys WHERE expires_ms <= ?", (now,))
            db.execute(
                "INSERT INTO listen_keys VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE "
                "SET expires_ms = excluded.expires_ms, key_id = excluded.key_id",
                (secrets.token_hex(32), account, key_id, now + LISTEN_KEY_MS),
            )
            row = db.execute(
                "SELECT listen_key, expires_ms FROM listen_keys WHERE account = ?", (account,)
            ).fetchone()
        return str(row[0]), int(row[1])

    def extend_listen_key(self, account: int) -> str | None:
        """An hour more for what lives; None: there is none."""
        now = now_ms()
        with self._writing() as db:
            row = db.execute(
                "UPDATE listen_keys SET expires_ms = ? WHERE account = ? AND expires_ms > ? "
                "RETURNING listen_key",
                (now + LISTEN_KEY_MS, account, now),
            ).fetchone()
        return str(row[0]) if row else None

    def close_listen_key(self, account: int) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM listen_keys WHERE account = ?", (account,))

    def listen_keys(self) -> dict[str, tuple[int, int, int]]:
        """Those alive: (account, key number, expires_ms) by listen key."""
        rows = self._db.execute(
            "SELECT listen_key, account, key_id, expires_ms FROM listen_keys WHERE expires_ms > ?",
            (now_ms(),),
        )
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    # ------------------------------------------------------------ destinations

    def destination(self, account: int, coin: str, network: str, address: str, tag: str) -> int:
        """The number under which an account's place for withdrawals is known; the same for ever."""
        place = (account, coin, network, address, tag)
        with self._writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO destinations (account, coin, network, address, tag) "
                "VALUES (?, ?, ?, ?, ?)",
                place,
            )
            row = db.execute(
                "SELECT reference FROM destinations WHERE account = ? AND coin = ? "
                "AND network = ? AND address = ? AND tag = ?",
                place,
            ).fetchone()
        return int(row[0])

    def destination_of(self, account: int, reference: int) -> dict[str, str]:
        """What an account asked for under this number; empty where operators chose it."""
        row = self._db.execute(
            "SELECT network, address, tag FROM destinations WHERE reference = ? AND account = ?",
            (reference, account),
        ).fetchone() or ("", "", "")
        return dict(zip(("network", "address", "addressTag"), row, strict=True))

    # ------------------------------------------------------------ audit

    def note(self, principal: int, action: str, subject: str, seq: int) -> None:
        """What was done, and which command of the WAL says so."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO audit (ts_ms, principal, action, subject, seq) VALUES (?, ?, ?, ?, ?)",
                (now_ms(), principal, action, subject, seq),
            )

    def reconciled(self) -> int:
        """Index of the first report that this file was not compared with."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'reconciled'").fetchone()
        return int(row[0]) if row else 0

    def set_reconciled(self, index: int) -> None:
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('reconciled', ?)", (index,))

    def audit(self, limit: int = 100) -> list[tuple[int, int, str, str, int]]:
        """(ts_ms, principal, action, subject, seq), newest first."""
        return self._db.execute(
            "SELECT ts_ms, principal, action, subject, seq FROM audit ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()


def hashed(token: str) -> str:
    """How a token is stored: of use to nobody who reads the file."""
    return hashlib.sha256(token.encode()).hexdigest()


def key_name(api_key: str) -> bytes:
    """Sixteen bytes that name a key in the WAL and give nothing of it away."""
    return hashlib.sha256(b"perpcore key " + api_key.encode()).digest()[:16]


def new_api_key() -> str:
    return secrets.token_hex(32)


def new_secret() -> str:
    return secrets.token_hex(32)
