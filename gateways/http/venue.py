"""Symbols and assets as the dialect shows them, from the account view.

Reads   what was declared, a few times a second; symbols and filters change rarely.
Writes  one Symbol each, with everything order entry and exchangeInfo need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateways.accounts.client import AccountView, Row, ViewError
from gateways.http.decimals import BadDecimal, TooPrecise, scaled
from gateways.http.errors import ApiError
from gateways.marketdata.messages import STATUS
from gateways.scales import Scale
from shm.units import MONEY_QUANTA_MAX, PPM

KNOWN_MAX: Final = 4096  # prices, and quantities, that a symbol remembers as read
FOREVER_MS: Final = 4133404800000
ORDER_TYPES: Final = (
    *("LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"),
    "TRAILING_STOP_MARKET",
)


class Symbol:
    """One contract: its scale, limits and filters."""

    def __init__(self, index: int, row: Row, scale: Scale, asset: Row) -> None:
        self.index = index
        self.name: str = row["name"]
        self.row = row
        self.scale = scale
        self.asset: str = asset["name"]
        self.asset_index: int = row["asset"]
        quote = self.asset if self.name.endswith(self.asset) else ""
        self.base = self.name.removesuffix(quote) or self.name
        self.quote = self.asset
        self.quoted = msgspec.json.encode(self.name).decode()  # its name as JSON
        # Average price, quantity and value of an order that nothing was traded of.
        self.nothing_done = (scale.average(0, 0), scale.qty(0), scale.quote(0))
        self._prices: dict[str, int] = {}  # what was read lately, and was good
        self._quantities: dict[str, int] = {}

    # ------------------------------------------------------------ from text

    def price_ticks(self, text: str, *, stop: bool = False) -> int:
        """A price as ticks; every rule of PRICE_FILTER, in the dialect's order."""
        known = self._prices.get(text)
        if known is not None:
            return known
        ticks = self._read_price(text, stop)
        if len(self._prices) >= KNOWN_MAX:
            self._prices.clear()
        self._prices[text] = ticks
        return ticks

    def _read_price(self, text: str, stop: bool) -> int:
        if text.startswith("-"):
            raise ApiError(-4006 if stop else -4001)
        units = self._scaled(text, self.scale.price_decimals)
        ticks, rest = divmod(units, self.scale.price_unit)
        if ticks < self.row["price_ticks_min"]:
            raise ApiError(-4006 if stop else -4013)
        if ticks > self.row["price_ticks_max"]:
            raise ApiError(-4007 if stop else -4002)
        if rest:
            raise ApiError(-4014)
        return ticks

    def qty_lots(self, text: str) -> int:
        """A quantity as lots; every rule of LOT_SIZE."""
        known = self._quantities.get(text)
        if known is not None:
            return known
        lots = self._read_qty(text)
        if len(self._quantities) >= KNOWN_MAX:
            self._quantities.clear()
        self._quantities[text] = lots
        return lots

    def _read_qty(self, text: str) -> int:
        if text.startswith("-"):
            raise ApiError(-4003)
        units = self._scaled(text, self.scale.qty_decimals)
        if units == 0:
            raise ApiError(-4003)
        lots, rest = divmod(units, self.scale.qty_unit)
        if lots < self.row["qty_lots_min"]:
            raise ApiError(-4004)
        if lots > self.row["qty_lots_max"]:
            raise ApiError(-4005)
        if rest:
            raise ApiError(-4023)
        return lots

    @staticmethod
    def _scaled(text: str, decimals: int) -> int:
        try:
            return scaled(text, decimals)
        except TooPrecise:
            raise ApiError(-1111) from None
        except BadDecimal:
            raise ApiError(-1100, "decimal") from None

    def money_quanta(self, text: str) -> int:
        """An amount as quanta; one that nobody can have as the least of those."""
        if text.startswith("-"):
            raise ApiError(-4055)
        return min(self._scaled(text, self.scale.money_decimals), MONEY_QUANTA_MAX + 1)

    # ------------------------------------------------------------ as exchangeInfo shows it

    def info(self, liquidation_fee_ppm: int, protect_ppm: int, algos_max: int) -> dict[str, Any]:
        """One element of exchangeInfo.symbols."""
        row, scale = self.row, self.scale
        lots = {
            "minQty": scale.qty(row["qty_lots_min"]),
            "maxQty": scale.qty(row["qty_lots_max"]),
            "stepSize": scale.qty(1),
        }
        return {
            "symbol": self.name,
            "pair": self.name,
            "contractType": "PERPETUAL",
            "deliveryDate": FOREVER_MS,
            "onboardDate": 0,
            "status": STATUS.get(row["state"], "CLOSE"),
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "marginAsset": self.asset,
            "pricePrecision": scale.price_decimals,
            "quantityPrecision": scale.qty_decimals,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "settlePlan": 0,
            "triggerProtect": ratio(protect_ppm),
            "liquidationFee": ratio(liquidation_fee_ppm),
            "marketTakeBound": ratio(row["market_ppm"] or PPM),
            "maxMoveOrderLimit": 10000,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": scale.price(row["price_ticks_min"]),
                    "maxPrice": scale.price(row["price_ticks_max"]),
                    "tickSize": scale.price(1),
                },
                {"filterType": "LOT_SIZE", **lots},
                {"filterType": "MARKET_LOT_SIZE", **lots},
                {"filterType": "MAX_NUM_ORDERS", "limit": row["orders_max"]},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": algos_max},
                {"filterType": "MIN_NOTIONAL", "notional": self.notional_min},
                {
                    "filterType": "PERCENT_PRICE",
                    "multiplierUp": ratio(PPM + (row["band_ppm"] or 99 * PPM)),
                    "multiplierDown": ratio(
                        max(PPM - row["band_ppm"], 0) if row["band_ppm"] else 0
                    ),
                    "multiplierDecimal": "4",
                },
                {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
            ],
            "orderTypes": list(ORDER_TYPES),
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            "permissionSets": ["GRID", "COPY"],
        }

    @property
    def notional_min(self) -> str:
        """MIN_NOTIONAL, without trailing zeros."""
        text = self.scale.money(self.row["notional_quanta_min"])
        return text.rstrip("0").rstrip(".") if "." in text else text


def ratio(ppm: int) -> str:
    """Parts per million as a share, with no more decimals than it needs and at least four."""
    text = f"{ppm // PPM}.{ppm % PPM:06d}"
    return text[:-2] if text.endswith("00") else text


class Venue:
    """Everything that is declared, by name and by index."""

    def __init__(self, view: Callable[[], AccountView]) -> None:
        """view: the mapping that is good now; raises ViewError."""
        self._view = view
        self.by_name: dict[str, Symbol] = {}
        self.by_index: dict[int, Symbol] = {}
        self.assets: dict[int, Row] = {}

    def refresh(self) -> None:
        """Look again; the tables of a view that is gone stay as they were."""
        try:
            view = self._view()
            assets = view.assets()
            symbols = {
                index: Symbol(index, row, view.scale(index), assets[row["asset"]])
                for index, row in view.symbols().items()
                if row["asset"] in assets and row["name"]
            }
        except ViewError:
            return
        self.assets = assets
        self.by_index = symbols
        self.by_name = {symbol.name: symbol for symbol in symbols.values()}

    def symbol(self, name: str) -> Symbol:
        """A symbol by name; ApiError -1121."""
        found = self.by_name.get(name)
        if found is None:
            self.refresh()
            found = self.by_name.get(name)
            if found is None:
                raise ApiError(-1121)
        return found

    def at(self, index: int) -> Symbol:
        """A symbol by the index reports carry."""
        found = self.by_index.get(index)
        if found is None:
            self.refresh()
            found = self.by_index[index]
        return found
