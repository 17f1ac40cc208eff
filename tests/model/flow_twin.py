"""Order flow through a slow, obvious price-time book: lists, no money, no accounts.

Takes   FLOW rows (tools/flow.py) one at a time.
Keeps   `fills` and the resting orders; says for each row whether it was OK.
"""

from __future__ import annotations

from typing import Any

from shm.codes import Side
from tools.flow import NO_SIDE, Cmd


class FlowTwin:
    """One symbol. An order is [id, side, price, open lots], a side is a list in arrival order."""

    def __init__(self) -> None:
        self.resting: list[list[int]] = []
        self.fills: list[tuple[int, int, int, int, int]] = []

    def queue(self, side: int, limit: int | None = None) -> list[list[int]]:
        """A side as it would trade: best price first, then first come; none worse than `limit`."""
        sign = -1 if side == Side.BUY else 1
        orders = (o for o in self.resting if o[1] == side)
        if limit is not None:
            orders = (o for o in orders if sign * o[2] <= sign * limit)
        return sorted(orders, key=lambda o: sign * o[2])

    def makers(self, side: int, price: int | None) -> list[list[int]]:
        """Orders on the other side that an order of `side` at `price` (None: any) would meet."""
        return self.queue(1 - side, price)

    def match(self, order_id: int, side: int, price: int | None, lots: int) -> int:
        """Trade as far as it goes; returns what is left."""
        for maker in self.makers(side, price):
            traded = min(lots, maker[3])
            if traded == 0:
                break
            self.fills.append((order_id, maker[0], side, maker[2], traded))
            maker[3] -= traded
            lots -= traded
        self.resting = [o for o in self.resting if o[3]]
        return lots

    def place(self, order_id: int, side: int, price: int, lots: int) -> None:
        left = self.match(order_id, side, price, lots)
        if left:
            self.resting.append([order_id, side, price, left])

    def apply(self, row: Any) -> bool:
        """Do what one row says; False where nothing could be done."""
        cmd, order_id, side = Cmd(int(row["cmd"])), int(row["order_id"]), int(row["side"])
        price, lots = int(row["price"]), int(row["qty"])
        found = next((o for o in self.resting if o[0] == order_id), None)
        match cmd:
            case Cmd.SNAP:
                self.resting.append([order_id, side, price, lots])
            case Cmd.PLACE:
                self.place(order_id, side, price, lots)
            case Cmd.POST_ONLY:
                if self.makers(side, price):
                    return False
                self.resting.append([order_id, side, price, lots])
            case Cmd.MARKET:
                self.match(order_id, side, None, lots)
            case Cmd.IOC:
                self.match(order_id, side, price, lots)
            case Cmd.FOK:
                if sum(o[3] for o in self.makers(side, price)) < lots:
                    return False
                self.match(order_id, side, price, lots)
            case Cmd.CANCEL | Cmd.REDUCE | Cmd.MOVE | Cmd.REPLACE | Cmd.REPLACE_BACK:
                if found is None:
                    if cmd != Cmd.REPLACE_BACK:
                        return False
                    self.place(order_id, side, price, lots)
                elif cmd == Cmd.REDUCE and lots < found[3]:
                    found[3] -= lots
                elif cmd == Cmd.REPLACE and price == found[2] and lots <= found[3]:
                    found[3] = lots
                else:
                    self.resting.remove(found)
                    if cmd == Cmd.MOVE:
                        lots = found[3]
                    if cmd not in (Cmd.CANCEL, Cmd.REDUCE):
                        side = found[1] if side == NO_SIDE else side
                        self.place(order_id, side, price, lots)
        return True

    def levels(self, side: int, count: int) -> list[tuple[int, int]]:
        """The best `count` prices of a side with their total lots."""
        totals: dict[int, int] = {}
        for _, _, price, lots in self.queue(side):
            totals[price] = totals.get(price, 0) + lots
        return list(totals.items())[:count]
