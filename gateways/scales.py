"""Where the decimal points stand: integer units of the engine as decimal text, exactly.

    price     ticks * tick_quanta / 10^scale of the asset
    quantity  lots * tick_lot_quanta / tick_quanta
    money     quanta / 10^scale

Never   rounds, never touches a float: text holds exactly as many decimals as the unit has.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DECIMALS_MAX: Final = 18


def decimal_text(value: int, decimals: int) -> str:
    """`value` * 10^-decimals, written out: (1234, 2) is 12.34."""
    if decimals == 0:
        return str(value)
    if value < 0:
        return "-" + decimal_text(-value, decimals)
    digits = str(value)
    if len(digits) <= decimals:
        digits = digits.zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


class Scale(NamedTuple):
    """Of one symbol. A unit is what one tick, lot or quantum counts in its last decimal."""

    price_unit: int
    price_decimals: int
    qty_unit: int
    qty_decimals: int
    money_decimals: int
    tick_lot_quanta: int

    def price(self, ticks: int) -> str:
        return decimal_text(ticks * self.price_unit, self.price_decimals)

    def qty(self, lots: int) -> str:
        return decimal_text(lots * self.qty_unit, self.qty_decimals)

    def money(self, quanta: int) -> str:
        return decimal_text(quanta, self.money_decimals)

    def quote(self, ticks_lots: int) -> str:
        """A sum of price * lots as money."""
        return decimal_text(ticks_lots * self.tick_lot_quanta, self.money_decimals)

    def average(self, ticks_lots: int, lots: int) -> str:
        """Average price of fills, cut after `price_decimals` + 4 decimals; 0 for no fills."""
        decimals = self.price_decimals + 4
        if lots == 0:
            return decimal_text(0, self.price_decimals)
        return decimal_text(ticks_lots * self.price_unit * 10_000 // lots, decimals)


def _unit(numerator: int, denominator: int) -> tuple[int, int] | None:
    """(unit, decimals) of a fraction with the fewest decimals, or None: it has no end."""
    for decimals in range(DECIMALS_MAX + 1):
        if numerator * 10**decimals % denominator == 0:
            return numerator * 10**decimals // denominator, decimals
    return None


def scale_of(tick_lot_quanta: int, tick_quanta: int, asset_scale: int) -> Scale:
    """The scale of a symbol. One that doesn't say what a tick is counts whole ticks and lots.

    A lot that no decimal fraction can say is shown as 1.
    """
    price = _unit(tick_quanta, 10**asset_scale) if tick_quanta > 0 else None
    lot = _unit(tick_lot_quanta, tick_quanta) if tick_quanta > 0 else None
    price_unit, price_decimals = price or (1, 0)
    qty_unit, qty_decimals = lot or (1, 0)
    return Scale(price_unit, price_decimals, qty_unit, qty_decimals, asset_scale, tick_lot_quanta)
