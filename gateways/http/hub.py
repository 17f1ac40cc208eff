"""Market and user streams, from whom they come to who has subscribed.

Reads   market data as final messages; user events from the accounts this gateway follows.
Writes  frames: each message is encoded once, and once more for each name under which it is wrapped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from gateways.http.errors import ApiError
from gateways.http.frames import POLICY, Socket, frame
from gateways.http.gate import Gate
from gateways.marketdata.client import canonical, continuous
from gateways.users.store import now_ms

WATCH_S: Final = 0.25
WARN_S: Final = 1.0


class Subscriber:
    """One connection and what it has subscribed to."""

    def __init__(self, socket: Socket, *, combined: bool) -> None:
        self.socket = socket
        self.combined = combined
        self.streams: dict[str, Callable[[], None]] = {}  # as the client named it -> how to stop
        self.users: dict[str, int] = {}  # listen key -> number of its API key

    def close(self) -> None:
        for stop in list(self.streams.values()):
            stop()
        self.streams.clear()
        self.users.clear()


Entry = tuple[Subscriber, str]


class Hub:
    """All subscriptions of one gateway."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._market: dict[str, dict[Entry, None]] = {}
        self._private: set[Subscriber] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.sent = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._forward()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def subscriptions(self) -> int:
        return sum(len(entries) for entries in self._market.values())

    # ------------------------------------------------------------ subscribing

    async def subscribe(
        self, who: Subscriber, name: str, events: frozenset[str] | None = None
    ) -> None:
        """Begin to send a stream; ApiError when there is none of that name.

        name    of a market stream, or a listen key
        events  of a user stream: only these
        """
        if name in who.streams:
            return
        if _is_listen_key(name):
            await self._subscribe_user(who, name, events)
            return
        stream = canonical(name)
        if stream is None:
            raise ApiError(-1130, message=f"Invalid request: unknown stream {name[:64]!r}")
        entry = (who, name)
        entries = self._market.get(stream)
        if entries is None:
            entries = self._market[stream] = {}
            self._gate.market.subscribe(stream)
        entries[entry] = None

        def stop() -> None:
            entries = self._market.get(stream)
            if entries is not None:
                entries.pop(entry, None)
                if not entries:
                    del self._market[stream]
                    self._gate.market.unsubscribe(stream)

        who.streams[name] = stop

    async def expect(self, name: str) -> None:
        """Somebody is about to subscribe: a user stream's account is adopted now, which takes a
        while. What is wrong with the name `subscribe` will say."""
        if _is_listen_key(name):
            with suppress(ApiError):
                await self._gate.state(self._known(name)[0])

    def _known(self, listen_key: str) -> tuple[int, int]:
        """(account, key) of a listen key; ApiError for none of ours."""
        keys = self._gate.keys
        if listen_key not in keys.listen_keys:
            keys.load()
            if listen_key not in keys.listen_keys:
                raise ApiError(-1125)
        account, key_id, _ = keys.listen_keys[listen_key]
        return account, key_id

    async def _subscribe_user(
        self, who: Subscriber, listen_key: str, events: frozenset[str] | None
    ) -> None:
        account, key_id = self._known(listen_key)
        await self._gate.state(account)  # adopted before the first event can come

        def hear(event: str, text: bytes) -> None:
            if events is None or event in events:
                who.socket.send(_wrapped(listen_key, text) if who.combined else text)

        stop_hearing = self._gate.accounts.listen(account, hear)

        def stop() -> None:
            stop_hearing()
            who.users.pop(listen_key, None)
            if not who.users:
                self._private.discard(who)

        who.streams[listen_key] = stop
        who.users[listen_key] = key_id
        self._private.add(who)

    @staticmethod
    def unsubscribe(who: Subscriber, name: str) -> None:
        stop = who.streams.pop(name, None)
        if stop is not None:
            stop()

    # ------------------------------------------------------------ sending

    async def _forward(self) -> None:
        async for stream, payloads in self._gate.market.messages():
            entries = self._market.get(stream)
            if entries:
                self._send(entries, payloads)

    def _send(self, entries: dict[Entry, None], payloads: list[bytes]) -> None:
        """Several messages are one write; each form of them is made once."""
        made: dict[str, bytes] = {}
        for who, name in tuple(entries):
            form = name if who.combined else name.partition("@")[2][:4] == "cont" and name or ""
            frames = made.get(form)
            if frames is None:
                frames = made[form] = _frames(payloads, name, who.combined)
            who.socket.write(frames)
            self.sent += len(payloads)

    # ------------------------------------------------------------ watching

    async def _watch(self) -> None:
        """Keys that were revoked and listen keys that have run out, within a quarter second."""
        while True:
            await asyncio.sleep(WATCH_S)
            gone = self._gate.keys.refresh()
            known = self._gate.keys.listen_keys
            now = now_ms()
            for who in tuple(self._private):
                if any(key_id in gone for key_id in who.users.values()):
                    who.socket.drop(POLICY, b"the API key is no longer valid")
                    who.close()
                    self._private.discard(who)
                    continue
                for listen_key in tuple(who.users):
                    if listen_key not in known or known[listen_key][2] <= now:
                        self._expire(who, listen_key, now)

    def _expire(self, who: Subscriber, listen_key: str, now: int) -> None:
        event: dict[str, Any] = {"e": "listenKeyExpired", "E": now, "listenKey": listen_key}
        text = msgspec.json.encode(event)
        who.socket.send(_wrapped(listen_key, text) if who.combined else text)
        self.unsubscribe(who, listen_key)


def _is_listen_key(name: str) -> bool:
    """Every market stream has an @ or a ! in its name."""
    return "@" not in name and not name.startswith("!")


def _wrapped(name: str, payload: bytes) -> bytes:
    return b'{"stream":' + msgspec.json.encode(name) + b',"data":' + payload + b"}"


def _frames(payloads: list[bytes], name: str, combined: bool) -> bytes:
    symbol, _, what = name.partition("@")
    if what[:15].lower() == "continuouskline":
        pair = symbol.rpartition("_")[0]
        with suppress(AssertionError, ValueError):
            payloads = [continuous(payload, pair) for payload in payloads]
    if combined:
        payloads = [_wrapped(name, payload) for payload in payloads]
    return b"".join(map(frame, payloads))
