"""Conditional orders once more: a list, looked through from end to end at every price."""

from __future__ import annotations

from dataclasses import dataclass

from shm.codes import AlgoType, Side, Working
from shm.units import PPM

PROFITS = (AlgoType.TAKE_PROFIT, AlgoType.TAKE_PROFIT_MARKET)


@dataclass
class Waiting:
    id: int
    type: int
    side: int
    working: int
    protect: bool
    trigger: int = 0
    activate: int = 0
    callback: int = 0
    extreme: int = 0  # 0: a trailing stop that doesn't follow yet

    @property
    def trailing(self) -> bool:
        return self.type == AlgoType.TRAILING_STOP_MARKET

    @property
    def asleep(self) -> bool:
        return self.trailing and not self.extreme

    def past(self, ticks: int) -> int:
        """How far beyond what it waits for a price is; negative: not there yet."""
        buy = self.side == Side.BUY
        if self.asleep:
            return self.activate - ticks if buy else ticks - self.activate
        if self.trailing:
            back = -(-self.extreme * self.callback // PPM)
            self.trigger = self.extreme + back if buy else self.extreme - back
        up = buy != (self.type in PROFITS)
        return ticks - self.trigger if up else self.trigger - ticks


class Twin:
    def __init__(self, protect_ppm: int) -> None:
        self.protect_ppm = protect_ppm
        self.prices = {Working.LAST: 0, Working.MARK: 0}
        self.waiting: list[Waiting] = []

    def add(self, w: Waiting) -> None:
        if w.trailing and not w.activate:
            w.extreme = self.prices[Working(w.working)]
        self.waiting.append(w)

    @property
    def calm(self) -> bool:
        last, mark = self.prices[Working.LAST], self.prices[Working.MARK]
        if not self.protect_ppm:
            return True
        return bool(last and mark and abs(mark - last) * PPM <= mark * self.protect_ppm)

    def led(self, w: Waiting) -> bool:
        """Whether another trailing stop of the same extreme comes before this one: its exact price,
        before rounding to ticks, is reached first."""
        return any(
            o.extreme == w.extreme
            and (o.working, o.protect, o.side) == (w.working, w.protect, w.side)
            and (o.callback, o.id) < (w.callback, w.id)
            for o in self.waiting
            if w.extreme and o.extreme
        )

    def price(self, working: Working, ticks: int) -> list[tuple[int, int]]:
        """(id, trigger) of what that reaches, in order."""
        self.prices[working] = ticks
        for w in self.waiting:
            if w.extreme and w.working == working:
                best = min if w.side == Side.BUY else max
                w.extreme = best(w.extreme, ticks)
        reached = []
        while True:
            found = []
            for w in self.waiting:
                now = self.prices[Working(w.working)]
                guarded = w.protect and not w.asleep
                if not now or (guarded and not self.calm) or (not guarded and w.working != working):
                    continue
                if w.past(now) >= 0 and not self.led(w):
                    found.append((-w.past(now), w.id, w))
            if not found:
                return reached
            w = min(found)[2]
            if w.asleep:
                w.extreme = ticks
            else:
                self.waiting.remove(w)
                reached.append((w.id, w.trigger))
