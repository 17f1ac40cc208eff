"""Who is asking, and may they: the same for HTTP and for the WebSocket API.

Reads   the key ring. Never   tells an unknown key from one that may not: both are -2015.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from gateways.http.errors import ApiError, refusal
from gateways.http.once import Came, Once
from gateways.http.schema import Route, Security
from gateways.http.signing import (
    Pairs,
    check_time,
    digest_of,
    ed25519_matches,
    hmac_matches,
)
from gateways.users.keyring import Address, KeyRing, allowed
from gateways.users.store import Key, Scope
from shm.codes import Reason

KEY_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
SIGNED: Final = (Security.USER_DATA, Security.TRADE)
HEX_DIGITS: Final = 64  # of an HMAC-SHA256; an Ed25519 signature is longer in base64
# Of a secret that nobody kept; a signature of it would still be nobody's.
_NO_PUBLIC_KEY: Final = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
_SCOPES: Final = {"": Scope(0), **{s.name.lower(): s for s in Scope if s.name}}


class Caller(NamedTuple):
    """Who it is, and what was signed: b"" where nothing had to be."""

    key: Key | None
    signed: bytes
    until_ms: int = 0  # when that is too old


NOBODY: Final = Caller(None, b"")


def authenticate(
    route: Route,
    keys: KeyRing,
    api_key: str,
    address: Address | None,
    params: Pairs,
    message: bytes,
    now_ms: int,
) -> Caller:
    """The caller of a route; ApiError when it isn't theirs to call.

    api_key     as it came, "" when none did
    message     what a signature is of
    """
    if route.security == Security.NONE:
        return NOBODY
    if not KEY_TEXT.fullmatch(api_key):
        raise ApiError(-2014)
    key = keys.signer(api_key)
    signed = route.security in SIGNED
    if signed:
        signature = params.get("signature")
        if not isinstance(signature, str) or not signature:
            raise ApiError(-1102, "signature")
        good = signature_good(key, message, signature)
    if key is None or not allowed(key, _SCOPES[route.scope], address):
        raise ApiError(-2015)
    if not signed:
        return Caller(key, b"")
    if not good:
        raise ApiError(-1022)
    return Caller(key, message, check_time(params, now_ms))


def check_once(route: Route, caller: Caller, once: Once, now_ms: int) -> tuple[int, int] | None:
    """The digest of a signed request that asks for more than to look.

    raises      ApiError: it is a copy; or nobody can say so later, as it can't be remembered
    """
    key, signed, until_ms = caller
    if key is None or not signed or route.method == "GET":
        return None
    digest = digest_of(signed, key.api_key)
    came = once.came(digest, until_ms, now_ms)
    if came is not Came.FIRST:
        raise refusal(Reason.REPLAYED, 0) if came is Came.COPY else ApiError(-1008)
    return digest


def signature_good(key: Key | None, message: bytes, signature: str) -> bool:
    """Whether the key's owner signed this.

    What is reckoned follows from the signature alone: it takes as long for no key, and for a key of
    the other kind, as for a wrong signature of the right one.
    """
    if len(signature) == HEX_DIGITS:
        known = key is not None and key.kind == "hmac"
        return hmac_matches(key.secret if key is not None and known else None, message, signature)
    known = key is not None and key.kind == "ed25519"
    public = key.secret if key is not None and known else _NO_PUBLIC_KEY
    good = ed25519_matches(Ed25519PublicKey.from_public_bytes(public), message, signature)
    return good and known


def check_session(
    route: Route, key: Key, address: Address | None, params: Pairs, now_ms: int
) -> int:
    """A request on a connection that has logged on: no signature, but all the rest.

    returns     until when it isn't too old, ms
    """
    if not allowed(key, _SCOPES[route.scope], address):
        raise ApiError(-2015)
    return check_time(params, now_ms) if route.security in SIGNED else 0
