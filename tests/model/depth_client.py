"""A second reading of the depth rules, as a client would write it: nothing of ours is used."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


class DepthClient:
    """Keeps one local book from diffs; a broken chain is an AssertionError."""

    def __init__(self, snapshot: dict[str, Any] | None = None) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.last: int | None = None
        self.synced = snapshot is None
        self.event_ms = 0
        if snapshot is not None:
            self.snapshot_id = snapshot["lastUpdateId"]
            self._take(snapshot["bids"], self.bids)
            self._take(snapshot["asks"], self.asks)

    def hear(self, event: dict[str, Any]) -> None:
        assert event["E"] >= self.event_ms, "time goes on"
        self.event_ms = event["E"]
        assert event["T"] <= event["E"] or event["T"] - event["E"] < 1000
        if not self.synced:
            if event["u"] < self.snapshot_id:
                return
            assert event["U"] <= self.snapshot_id + 1, "the first event reaches back far enough"
            self.synced = True
        elif self.last is not None:
            assert event["pu"] == self.last, f"gap: pu {event['pu']} after u {self.last}"
        assert event["U"] <= event["u"]
        self.last = event["u"]
        self._take(event["b"], self.bids)
        self._take(event["a"], self.asks)

    def _take(self, rows: list[list[str]], side: dict[Decimal, Decimal]) -> None:
        for price, qty in rows:
            if Decimal(qty) == 0:
                side.pop(Decimal(price), None)
            else:
                side[Decimal(price)] = Decimal(qty)

    def book(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        bids = sorted(self.bids.items(), reverse=True)
        return bids, sorted(self.asks.items())
