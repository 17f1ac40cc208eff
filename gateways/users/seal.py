"""Secrets at rest: AES-256-GCM under a key that lives in a file of its own.

Reads   the key file, root- or service-only; systemd credentials are such files.
Never   writes a secret or the key anywhere else, and never into a log or the WAL.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shm.files import create_file

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class SealError(RuntimeError):
    """The key file cannot be used, or doesn't fit what it shall open."""


class Seal:
    """Seals and opens small secrets; each is bound to what it belongs to."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def load(cls, path: Path, *, create: bool = False) -> Seal:
        """Take the key from its file, making one where there is none and `create` says so.

        raises      SealError: not there, not 32 bytes, or readable by others
        """
        try:
            if create and not path.exists():
                path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                create_file(path, secrets.token_bytes(KEY_BYTES))
            mode = path.stat().st_mode
            key = path.read_bytes()
        except OSError as error:
            raise SealError(f"master key {path}: {error.strerror}") from None
        if mode & 0o077:
            raise SealError(f"master key {path}: mode {mode & 0o777:o}, must be 600: chmod 600")
        if len(key) != KEY_BYTES:
            raise SealError(f"master key {path}: {len(key)} bytes, must be {KEY_BYTES}")
        return cls(key)

    def seal(self, secret: bytes, owner: str) -> bytes:
        """Nonce and ciphertext; only opens again for the same owner."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes:
        """The secret; SealError when key or owner is another, or the bytes were changed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())
        except InvalidTag:
            raise SealError(f"the sealed secret of {owner} doesn't open with this key") from None
