"""Signatures and time stamps of requests (fapi_surface 1.2).

The signed string is what arrived, byte for byte: raw query, raw body, nothing between them, the
`signature` pair taken out wherever it stands. Nothing is ever encoded again.

A key that is unknown is checked against a secret nobody has, so that it takes as long as a wrong
signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateways.http.errors import ApiError
from gateways.http.schema import Raw
from gateways.users.keyed import hmac_hex, keyed

RECV_WINDOW_MS: Final = 5000
RECV_WINDOW_MS_MAX: Final = 60000
FUTURE_MS: Final = 1000
_WORDS: Final = struct.Struct("<qq")
NOBODY: Final = secrets.token_bytes(32)
keyed(NOBODY)

Pairs = dict[str, Raw]


def unsigned(raw: bytes) -> bytes:
    """The text without its `signature` pair and one `&` beside it."""
    at = 0 if raw.startswith(b"signature=") else raw.find(b"&signature=")
    if at < 0:
        return raw
    end = raw.find(b"&", at + 1)
    if end < 0:
        return raw[:at]
    return raw[:at] + raw[end + (at == 0) :]


def _decoded(raw: bytes) -> str:
    if b"%" in raw or b"+" in raw:
        raw = unquote_to_bytes(raw.replace(b"+", b" "))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ApiError(-1100, "parameters") from None


def pairs(raw: bytes, into: Pairs) -> Pairs:
    """Add name=value pairs to `into`, where what is there already stays: the query wins.

    raises      ApiError -1101 when a name comes twice in the same place
    """
    if not raw:
        return into
    # Escapes are rare: without them all of it is decoded at once.
    plain = b"%" not in raw and b"+" not in raw
    parts: list[str] | list[bytes] = _decoded(raw).split("&") if plain else raw.split(b"&")
    seen: set[str] = set()
    for part in parts:
        if not part:
            continue
        if isinstance(part, str):
            name, _, value = part.partition("=")
        else:
            head, _, tail = part.partition(b"=")
            name, value = _decoded(head), _decoded(tail)
        if name in seen:
            raise ApiError(-1101)
        seen.add(name)
        if name not in into:
            into[name] = value
    return into


def payload(query: bytes, body: bytes) -> bytes:
    """What was signed of an HTTP request."""
    return unsigned(query) + unsigned(body)


def sorted_payload(params: Pairs) -> bytes:
    """What was signed of a WebSocket request: all but the signature, sorted by name."""
    # Names are there once, so that sorting never comes to compare values.
    return "&".join(
        [
            f"{name}={value if type(value) is str else _shown(value)}"
            for name, value in sorted(params.items())
            if name != "signature"
        ]
    ).encode()


def _shown(value: Raw) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def hmac_matches(secret: bytes | None, message: bytes, signature: str) -> bool:
    """Whether it is the HMAC-SHA256 of the message, in hexadecimal of either case.

    secret      None: the key is unknown, and the answer no, as late as for a wrong signature
    """
    digest = hmac_hex(secret or NOBODY, message)
    given = signature.lower() if signature.isascii() else ""
    return hmac.compare_digest(digest, given) and secret is not None


def ed25519_matches(public: Ed25519PublicKey, message: bytes, signature: str) -> bool:
    """Whether it is the Ed25519 signature of the message, in base64."""
    try:
        public.verify(base64.b64decode(signature.replace(" ", "+"), validate=True), message)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def check_time(params: Pairs, now_ms: int) -> int:
    """Refuse what is too old or from the future; returns until when it isn't too old, ms."""
    stamp, window = params.get("timestamp"), params.get("recvWindow")
    at_ms = _milliseconds("timestamp", stamp)
    window_ms = RECV_WINDOW_MS
    if window not in (None, ""):
        window_ms = _milliseconds("recvWindow", window)
        if window_ms > RECV_WINDOW_MS_MAX:
            raise ApiError(-1130, "recvWindow")
    if not (at_ms < now_ms + FUTURE_MS and now_ms - at_ms <= window_ms):
        if at_ms >= now_ms + FUTURE_MS:
            raise ApiError(
                -1021,
                message="Timestamp for this request was 1000ms ahead of the server's time.",
            )
        raise ApiError(-1021)
    return at_ms + window_ms


def _milliseconds(name: str, raw: Raw) -> int:
    text = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
    if not isinstance(text, str) or not (0 < len(text) <= 16) or not text.isascii():
        raise ApiError(-1102, name)
    if not text.isdigit():
        raise ApiError(-1102, name)
    return int(text)


@lru_cache(4096)
def _hash_of(key: str) -> hashlib.blake2b:
    """The hash of nothing yet under a key: to set it up takes as long as all the rest."""
    return hashlib.blake2b(digest_size=16, key=key.encode()[:64])


def digest_of(message: bytes, key: str) -> tuple[int, int]:
    """Sixteen bytes that name a signed request, as two words; never (0, 0)."""
    hashed = _hash_of(key).copy()
    hashed.update(message)
    high, low = _WORDS.unpack(hashed.digest())
    return (high, low) if high or low else (1, 0)


def digest_of_part(digest: tuple[int, int], part: int) -> tuple[int, int]:
    """The name of one of a request's commands, where it makes several; part 0 has the request's.

    Two requests whose digests are less than a few apart are as rare as two with the same one.
    """
    high, low = digest
    low += part
    if low >> 63 > 0:
        low -= 1 << 64
    return (high, low) if high or low else (1, 0)
