"""The keys as a door knows them: a dict, made again when another process changes the store.

Reads   users.db, its version a few times a second: a revoked key is out within that time.
Writes  what has gone since the last look, so that live connections can be ended.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gateways.users.keyed import keyed
from gateways.users.store import Key, Scope, Store, now_ms

POLL_S: Final = 0.25

Address = IPv4Address | IPv6Address


def address_of(text: str) -> Address | None:
    """An address; IPv4 written as IPv6 is IPv4. None: not an address (a Unix socket)."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


class KeyRing:
    """Every key that is good, by its text; and every listen key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = -1
        self.by_text: dict[str, Key] = {}
        self.by_id: dict[int, Key] = {}
        self.listen_keys: dict[str, tuple[int, int, int]] = {}
        self.refresh()

    def refresh(self) -> set[int]:
        """Look again; returns the numbers of the keys that are no longer good."""
        now = now_ms()
        version = self._store.version()
        gone = {key.id for key in self.by_text.values() if 0 < key.expires_ms <= now}
        if version != self._version:
            gone |= self._load(now)
            self._version = version  # once it has been read: an error leaves it to the next look
        for key in [key for key in self.by_text.values() if key.id in gone]:
            del self.by_text[key.api_key]
            del self.by_id[key.id]
        return gone

    def signer(self, text: str) -> Key | None:
        """The key that signs requests as `text`: a CURVE key is public, and signs none."""
        key = self.by_text.get(text)
        return None if key is not None and key.kind == "curve" else key

    def load(self) -> set[int]:
        """Look again though it was this process that changed the store."""
        self._version = -1
        return self.refresh()

    def _load(self, now: int) -> set[int]:
        before = set(self.by_id)
        good = [
            key
            for key in self._store.every_key()
            if not key.revoked_ms and not 0 < key.expires_ms <= now
        ]
        for key in good:
            if key.kind == "hmac":
                keyed(key.secret)
        self.by_text = {key.api_key: key for key in good}
        self.by_id = {key.id: key for key in good}
        self.listen_keys = self._store.listen_keys()
        return before - self.by_id.keys()


def allowed(key: Key, scope: Scope, address: Address | None) -> bool:
    """Whether a key is good for this, from there."""
    # Plain integers: flags of an enumeration are made anew by every operator.
    if int(scope) & ~int(key.scopes):
        return False
    if key.networks:
        return address is not None and any(address in network for network in key.networks)
    return True
