"""What the venue's operators may do: every action is a command in the WAL, or leaves one.

Reads   and writes the user store; sends through the ingress ring of producer "admin".
Never   changes a user or a key before the AUDIT that says so is durable, and never puts a secret
        into a command.

An action is a codes.Kind with the fields of its record, in the engine's integer units: what
`perpcore layouts` prints is what may be sent. Adjustments and withdrawals take two: one asks, and
another principal approves; the engine compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import pyotp

from gateways.http.desk import Desk
from gateways.http.errors import ApiError
from gateways.http.rows import Row
from gateways.users.audit import Action, Audit
from gateways.users.keyring import KeyRing
from gateways.users.logins import hash_password
from gateways.users.seal import Seal
from gateways.users.store import (
    Scope,
    Store,
    StoreError,
    new_api_key,
    new_secret,
    now_ms,
    scopes_of,
)
from ledger.bookkeeping import Op, Refused, note_command
from shm.codes import Kind, Reason, State, Status
from shm.config import KINDS, Config
from shm.kinds import COMMAND_RECORDS, command
from shm.records import COMMAND

# Fields that the door fills in, or that mean nothing here.
_HIDDEN: Final = frozenset(
    {
        *("seq", "ts_ns", "request", "settled_lag", "kind", "lines", "principal"),
        *("trace_hi", "trace_lo", "digest_hi", "digest_lo", "recv_ns", "key_id"),
        *("settled_seq", "decided_order_id", "limit_ticks", "decided_lots", "slot", "position"),
        *("reason", "route", "order_tif", "order_stp", "end_reason"),
        *("risk_held_quanta", "risk_note", "note", "note2", "note3"),
    }
)
_TEXTS: Final = frozenset({"name", "client_id"})
KINDS_ALLOWED: Final = tuple(
    kind for kind in KINDS["admin"] if kind not in (Kind.AUDIT, Kind.BOOKKEEPING, Kind.UPGRADE)
)
LOCAL: Final = 0  # principal: whoever may open the socket as the gateway's own user


class Principal(NamedTuple):
    """Who acts: a user's number, or LOCAL."""

    user_id: int


def fields_of(kind: Kind) -> dict[str, str]:
    """What an action may say, with the meaning of each field."""
    record = COMMAND_RECORDS.get(kind, COMMAND)
    return {
        field.name: field.meaning
        for field in record.fields
        if field.name not in _HIDDEN and "reserved" not in field.name
    }


class Administrator:
    """The actions, for whoever calls them: the admin socket, or the command line."""

    def __init__(self, config: Config, store: Store, seal: Seal, desk: Desk) -> None:
        self.config = config
        self.store = store
        self.seal = seal
        self.desk = desk
        self.keys = KeyRing(store)

    # ------------------------------------------------------------ commands

    async def act(self, who: Principal, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one administrative command; its answer, or ApiError with the engine's reason."""
        if kind not in KINDS_ALLOWED:
            raise ApiError(-1020, message=f"{kind.name} is no administrative action")
        known = fields_of(kind)
        for name in body:
            if name not in known:
                fields = ", ".join(known)
                raise ApiError(-1104, message=f"{kind.name} has no {name!r}; it has {fields}")
        said = {name: _value(name, value) for name, value in body.items()}
        record = COMMAND_RECORDS.get(kind, COMMAND)
        if record.dtype.fields is not None and "principal" in record.dtype.fields:
            said["principal"] = who.user_id
        try:
            row = command(kind, **said)
        except (OverflowError, ValueError, TypeError) as error:
            raise ApiError(-1130, message=f"{kind.name}: {error}") from None
        return await self._send(kind, Row(row))

    async def keep_books(
        self, who: Principal, op: str, *, principal: int = 0, **fields: Any
    ) -> dict[str, Any]:
        """A bookkeeper's note into the WAL; what comes of it the ledger's clerk decides.

        principal   believed of whoever runs as the gateway's own user; an operator is itself
        """
        if op not in Op.__members__:
            raise ApiError(-1130, message=f"op must be one of {', '.join(Op.__members__)}")
        if who.user_id != LOCAL and principal not in (0, who.user_id):
            raise ApiError(-1002, message=f"you are principal {who.user_id}, not {principal}")
        own = who.user_id if who.user_id != LOCAL else principal
        if own <= 0:
            raise ApiError(-1130, message="principal: say who proposes or approves, by number")
        try:
            row = note_command(Op[op], principal=own, **fields)
        except (Refused, OverflowError) as error:
            raise ApiError(-1130, message=f"{op}: {error}") from None
        return await self._send(Kind.BOOKKEEPING, Row(row))

    async def _send(self, kind: Kind, row: Row) -> dict[str, Any]:
        def told(report: tuple[int, ...]) -> dict[str, Any]:
            seq = report[0]
            about_order = Kind.PLACE <= kind <= Kind.REDUCE
            reason = (report[10] >> 32) & 255 if about_order else report[7]
            refused = report[4] in (Status.REFUSED, Status.REJECTED) if about_order else reason
            if refused:
                name = Reason(reason).name
                raise ApiError(-2010, message=f"{kind.name} was refused: {name}")
            return {"seq": seq, "kind": kind.name, "value": report[8]}

        return await self.desk.ask(row, told)

    async def _audit(self, audit: Audit, subject: str) -> int:
        """First the WAL; then what the caller does to the store is done."""
        answer = await self._send(Kind.AUDIT, Row(audit.row()))
        seq = int(answer["seq"])
        self.store.note(audit.principal, audit.action.name, subject, seq)
        return seq

    # ------------------------------------------------------------ users and keys

    async def add_user(
        self, who: Principal, name: str, password: str, *, admin: bool = False
    ) -> dict[str, Any]:
        """A new user, with an account of their own unless they are an operator."""
        if self.store.user(name) is not None:
            raise StoreError(f"there is a user {name!r} already")
        hashed = hash_password(password)
        await self._audit(Audit(Action.USER_ADD, who.user_id), name)
        user_id = self.store.add_user(name, hashed, admin=admin)
        found: dict[str, Any] = {"user": user_id, "name": name, "admin": admin}
        if not admin:
            found["account"] = await self.add_account(who, name)
        return found

    async def add_account(
        self, who: Principal, name: str, *, parent: int | None = None, label: str = ""
    ) -> int:
        """Open an account for a user; a sub-account has a parent."""
        user = self.store.user(name)
        if user is None:
            raise StoreError(f"there is no user {name!r}")
        account = self.store.next_account(self.config.http.first_account)
        await self.act(who, Kind.ACCOUNT, {"account": account, "state": int(State.TRADING)})
        audit = Audit(Action.ACCOUNT_ADD, who.user_id, account, user_id=user.id)
        await self._audit(audit, f"{name} {account}")
        self.store.add_account(account, user.id, parent=parent, label=label)
        return account

    async def disable_user(self, who: Principal, name: str) -> dict[str, Any]:
        """No login and no key of this user is good from now on."""
        user = self.store.user(name)
        if user is None:
            raise StoreError(f"there is no user {name!r}")
        for row in self.store.key_rows():
            if row["user"] == name and not row["revoked_ms"]:
                await self.revoke_key(who, row["api_key"])
        await self._audit(Audit(Action.USER_DISABLE, who.user_id, user_id=user.id), name)
        self.store.disable_user(user.id)
        return {"user": user.id, "name": name}

    async def set_password(self, who: Principal, name: str, password: str) -> dict[str, Any]:
        """A new password; every session ends."""
        user = self.store.user(name)
        if user is None:
            raise StoreError(f"there is no user {name!r}")
        hashed = hash_password(password)
        await self._audit(Audit(Action.PASSWORD, who.user_id, user_id=user.id), name)
        self.store.set_password(user.id, hashed)
        return {"user": user.id, "name": name}

    async def set_totp(self, who: Principal, name: str, *, on: bool) -> dict[str, Any]:
        """Turn TOTP on, with a new secret that is shown once, or off."""
        user = self.store.user(name)
        if user is None:
            raise StoreError(f"there is no user {name!r}")
        secret = pyotp.random_base32() if on else None
        await self._audit(Audit(Action.TOTP, who.user_id, user_id=user.id), name)
        self.store.set_totp(user.id, secret)
        if secret is None:
            return {"user": user.id, "totp": None}
        uri = pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="Perpcore")
        return {"user": user.id, "totp": secret, "uri": uri}

    async def new_key(
        self,
        who: Principal,
        name: str,
        *,
        account: int | None = None,
        scopes: str = "read",
        networks: tuple[str, ...] = (),
        label: str = "",
        expires_ms: int = 0,
        public_key: str = "",
        curve: str = "",
    ) -> dict[str, Any]:
        """An API key, its secret shown once; with a public key (hexadecimal), an Ed25519 one.

        curve   the client's CURVE public key as ZeroMQ writes it: a key for the native gateway
        """
        user = self.store.user(name)
        if user is None or user.disabled_ms:
            raise StoreError(f"there is no user {name!r}")
        own = [row[0] for row in self.store.accounts_of(user.id)]
        chosen = account if account is not None else (own[0] if own else None)
        if chosen not in own or chosen is None:
            raise StoreError(f"account {account} isn't of user {name!r}")
        wanted = scopes_of(scopes)
        if wanted & Scope.WITHDRAW and not networks:
            raise StoreError("a key that may withdraw needs a list of addresses")
        if 0 < expires_ms <= now_ms():
            raise StoreError("expires_ms lies in the past")
        api_key, secret, kind = new_api_key(), new_secret(), "hmac"
        raw = secret.encode()
        if public_key:
            kind, secret, raw = "ed25519", "", _public(public_key)
        if curve:
            if len(curve) != 40 or not curve.isascii() or public_key:
                raise StoreError("a CURVE public key is 40 characters, and stands alone")
            api_key, secret, kind, raw = curve, "", "curve", b""
        audit = Audit(
            Action.KEY_NEW,
            who.user_id,
            chosen,
            api_key,
            user.id,
            int(wanted),
            expires_ms,
        )
        await self._audit(audit, f"{name} {api_key[:8]}...")
        key_id = self.store.add_key(
            api_key,
            raw,
            user_id=user.id,
            account=chosen,
            scopes=wanted,
            kind=kind,
            networks=networks,
            label=label,
            expires_ms=expires_ms,
        )
        found = {"id": key_id, "apiKey": api_key, "account": chosen, "kind": kind}
        return {**found, "secret": secret} if secret else found

    async def revoke_key(self, who: Principal, api_key: str) -> dict[str, Any]:
        """Out within a second, on live connections too."""
        known = {row["api_key"]: row for row in self.store.key_rows()}
        row = known.get(api_key)
        if row is None:
            raise StoreError("there is no such key")
        audit = Audit(Action.KEY_REVOKE, who.user_id, row["account"], api_key)
        await self._audit(audit, f"{row['user']} {api_key[:8]}...")
        self.store.revoke_key(api_key)
        return {"apiKey": api_key, "revoked": True}


def _public(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise StoreError("an Ed25519 public key is 64 hexadecimal digits")
    return raw


def _value(name: str, value: Any) -> Any:
    """A field as the record has it: text, a whole number, or the name of a state."""
    if name in _TEXTS:
        if not isinstance(value, str) or not value.isascii() or not 1 <= len(value) <= 36:
            raise ApiError(-1130, message=f"{name} must be 1 to 36 characters of ASCII")
        return value
    if name == "state" and isinstance(value, str):
        if value not in State.__members__:
            raise ApiError(-1130, message=f"state must be one of {', '.join(State.__members__)}")
        return int(State[value])
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(-1130, message=f"{name} must be a whole number, in the engine's units")
    return value
