"""A second keeper of books, written from the dialect's text alone (fapi_surface 6.3).

1. open the stream and buffer; 2. GET depth; 3. drop events with u < lastUpdateId; 4. the first one
applied has U <= lastUpdateId <= u; 5. every next one's pu is the u before it; 6. quantities are
absolute and 0 removes. Whatever isn't so is a `Broken`; nothing is repaired.

Imports nothing of ours. Books are kept as text, so that 1.0 and 1.00 are not the same.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import aiohttp

Levels = dict[str, str]


class Broken(AssertionError):
    """A rule of the dialect was broken."""


class Chain:
    """One (symbol, speed): the book as its diffs make it, and what it was after each."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.bids: Levels = {}
        self.asks: Levels = {}
        self.u = 0
        self.begun = False
        self.events = 0
        self.buffer: list[Any] = []
        self.states: dict[int, tuple[Levels, Levels]] = {}

    def start(self, snapshot: Any) -> None:
        """From a snapshot of all levels, then what was buffered."""
        self.bids, self.asks = dict(snapshot["bids"]), dict(snapshot["asks"])
        self.u, self.begun = snapshot["lastUpdateId"], False
        self.states = {self.u: (dict(self.bids), dict(self.asks))}
        waiting, self.buffer = self.buffer, []
        for event in waiting:
            self.hear(event)

    def hear(self, event: Any) -> None:
        if not self.u:
            self.buffer.append(event)
            return
        if event["U"] > event["u"]:
            raise Broken(f"{self.stream}: U {event['U']} > u {event['u']}")
        if not self.begun:
            if event["u"] < self.u:
                return
            if event["u"] == self.u:  # all of it is in the snapshot: the next one follows it
                self.begun = True
                return
            if not event["U"] <= self.u <= event["u"] and event["pu"] != self.u:
                raise Broken(f"{self.stream}: first {event['U']}..{event['u']} after {self.u}")
            self.begun = True
        elif event["pu"] != self.u:
            raise Broken(f"{self.stream}: pu {event['pu']} after u {self.u}")
        for side, changes in ((self.bids, event["b"]), (self.asks, event["a"])):
            for price, quantity in changes:
                if Decimal(quantity):
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self.u = event["u"]
        self.events += 1
        self.states[self.u] = (dict(self.bids), dict(self.asks))
        while len(self.states) > 1000:
            del self.states[next(iter(self.states))]
        if self.bids and self.asks and max(map(Decimal, self.bids)) >= min(map(Decimal, self.asks)):
            raise Broken(f"{self.stream}: crossed at {self.u}")

    def check(self, snapshot: Any) -> bool:
        """Whether there is a state of this very update; Broken when it differs."""
        state = self.states.get(snapshot["lastUpdateId"])
        if state is None:
            return False
        for name, side in (("bids", state[0]), ("asks", state[1])):
            wanted = sorted(side.items(), key=lambda row: Decimal(row[0]), reverse=name == "bids")
            found = [tuple(row) for row in snapshot[name]]
            if found != wanted[: len(found)] or (len(found) < 1000 and len(found) != len(wanted)):
                at = snapshot["lastUpdateId"]
                raise Broken(f"{self.stream}: {name} at {at}: {found[:5]} and not {wanted[:5]}")
        return True


async def follow(base: str, symbol: str, seconds: float, compared_min: int) -> dict[str, Any]:
    """Follow the three speeds of a symbol; returns events and comparisons by stream.

    Goes on after `seconds` until each chain was compared so often with REST, for a minute at most.
    """
    streams = [f"{symbol.lower()}@depth@{speed}" for speed in ("100ms", "250ms", "500ms")]
    chains = {stream: Chain(stream) for stream in streams}
    compared = dict.fromkeys(streams, 0)
    url = f"{base}/stream?streams={'/'.join(streams)}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:

        async def listen() -> None:
            async for message in ws:
                said = message.json()
                chains[said["stream"]].hear(said["data"])

        async def snapshot() -> Any:
            where = f"{base}/fapi/v1/depth?symbol={symbol}&limit=1000"
            async with session.get(where) as answer:
                return await answer.json()

        listening = asyncio.create_task(listen())
        until = time.monotonic() + 20
        while not all(chain.buffer for chain in chains.values()):  # what a snapshot is to follow
            if listening.done() or time.monotonic() > until:
                raise Broken("the streams say nothing")
            await asyncio.sleep(0.05)
        first = await snapshot()
        for chain in chains.values():
            chain.start(first)
        begun = time.monotonic()
        while True:
            taken = await snapshot()
            await asyncio.sleep(0.7)  # until the slowest stream has told of it
            if listening.done():
                listening.result()
                raise Broken("the stream has ended")
            for stream, chain in chains.items():
                compared[stream] += chain.check(taken)
            passed = time.monotonic() - begun
            if passed > seconds and (min(compared.values()) >= compared_min or passed > 60):
                break
        listening.cancel()
    return {s: (chains[s].events, compared[s]) for s in streams}
