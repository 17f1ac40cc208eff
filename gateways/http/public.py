"""Public market data over HTTP, and what the venue says of itself.

Reads   final JSON from the market-data process, forwarded as it is; older candles from
        the history; symbols from the account view.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateways.http.errors import ApiError
from gateways.http.gate import Call
from gateways.http.records import rate_text
from gateways.http.schema import Values
from gateways.http.shapes import Json
from gateways.http.venue import Symbol
from gateways.marketdata.klines import INTERVALS, KINDS, MINUTE_MS
from gateways.marketdata.messages import array, kline_row
from gateways.scales import decimal_text
from shm.units import INSURANCE_ACCOUNT

HOUR_NS: Final = 3_600_000_000_000
ASSETS_AUTO_EXCHANGE: Final = "-10000"


async def ping(_call: Call) -> Json:
    """GET /fapi/v1/ping."""
    return {}


async def server_time(call: Call) -> Json:
    """GET /fapi/v1/time."""
    return {"serverTime": call.now_ms}


async def empty_list(_call: Call) -> list[Any]:
    """What only other venues have."""
    return []


async def system_status(_call: Call) -> Json:
    """GET /sapi/v1/system/status: who can answer is not under maintenance."""
    return {"status": 0, "msg": "normal"}


async def no_transfers(_call: Call) -> Json:
    """GET /sapi/v1/asset/transfer: there is no spot wallet that money could come from."""
    return {"total": 0, "rows": []}


async def exchange_info(call: Call) -> Json:
    """GET /fapi/v1/exchangeInfo."""
    gate = call.gate
    gate.venue.refresh()
    view = gate.view()
    symbols = []
    for index, symbol in sorted(gate.venue.by_index.items()):
        contract = view.contract(index)
        symbols.append(
            symbol.info(
                contract["liquidation_fee_ppm"],
                contract["protect_ppm"],
                contract["algos_max"] or 200,
            )
        )
    return {
        "timezone": "UTC",
        "serverTime": call.now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": gate.limits.rate_limits(),
        "exchangeFilters": [],
        "assets": [
            {
                "asset": row["name"],
                "marginAvailable": True,
                "autoAssetExchange": ASSETS_AUTO_EXCHANGE,
            }
            for _, row in sorted(gate.venue.assets.items())
        ],
        "symbols": symbols,
    }


# ---------------------------------------------------------------- forwarded


async def depth(call: Call) -> bytes:
    """GET /fapi/v1/depth."""
    name = call.symbol().name
    return await call.gate.ask_market("depth", symbol=name, limit=call.values["limit"])


async def trades(call: Call) -> bytes:
    """GET /fapi/v1/trades."""
    name = call.symbol().name
    return await call.gate.ask_market("trades", symbol=name, limit=call.values["limit"])


async def agg_trades(call: Call) -> bytes:
    """GET /fapi/v1/aggTrades."""
    v = call.values
    check_window(v)
    return await call.gate.ask_market(
        "aggTrades",
        symbol=call.symbol().name,
        from_id=v["fromId"],
        start=v["startTime"],
        end=v["endTime"],
        limit=v["limit"],
    )


def check_window(v: Values) -> None:
    """A window that ends before it begins is a mistake."""
    if v["startTime"] is not None and v["endTime"] is not None and v["startTime"] > v["endTime"]:
        raise ApiError(-1023)


def klines(kind: str, name: str = "symbol") -> Any:
    """Candles of one kind; `name`: the parameter that says of what."""

    async def handler(call: Call) -> bytes:
        v = call.values
        check_window(v)
        symbol = call.gate.venue.by_name.get(v[name])
        if symbol is None:
            raise ApiError(-1121 if name == "symbol" else -4144)
        recent = await call.gate.ask_market(
            "klines",
            symbol=symbol.name,
            interval=v["interval"],
            start=v["startTime"],
            end=v["endTime"],
            limit=v["limit"],
            kind=kind,
        )
        if v["startTime"] is None and v["endTime"] is None:
            return recent
        return await _with_older(call, symbol, kind, recent)

    handler.__doc__ = f"Candles of {kind} prices."
    return handler


async def _with_older(call: Call, symbol: Symbol, kind: str, recent: bytes) -> bytes:
    """Candles of a window that may begin before those which market data keeps: history has them."""
    v, rows = call.values, msgspec.json.decode(recent, type=list[msgspec.Raw])
    first_ms = msgspec.json.decode(rows[0])[0] if rows else None
    start_ms, end_ms, limit = v["startTime"], v["endTime"], v["limit"]
    if first_ms is not None:
        if (start_ms is None and len(rows) >= limit) or (start_ms or 0) >= first_ms:
            return recent
        end_ms = first_ms - 1
    interval = INTERVALS[v["interval"]]
    number = KINDS.index(kind)
    try:
        found = await call.gate.history(
            *("klines", symbol.index, number, interval),
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit if start_ms is not None else limit - len(rows),
        )
    except ApiError:  # no history runs here: what is known is answered
        return recent
    older = [
        kline_row(
            symbol, number, interval, [row["open_ms"] // MINUTE_MS, *(row[c] for c in _CELLS)]
        )
        for row in found
    ]
    return array([*older, *(bytes(row).decode() for row in rows)][:limit])


_CELLS: Final = (
    *("open", "high", "low", "close", "lots", "ticks_lots", "trades", "taker_lots"),
    "taker_ticks_lots",
)


def by_symbol(what: str) -> Any:
    """A snapshot of one symbol, or of all as a list."""

    async def handler(call: Call) -> bytes:
        name = call.symbol().name if call.values["symbol"] is not None else None
        return await call.gate.ask_market(what, symbol=name)

    return handler


ticker_24h = by_symbol("ticker")
ticker_price = by_symbol("price")
book_ticker = by_symbol("bookTicker")
premium_index = by_symbol("premiumIndex")
open_interest = by_symbol("openInterest")


async def series_not_kept(call: Call) -> list[Any]:
    """GET /futures/data/...: statistics that nobody keeps here; an empty series is the truth."""
    name = call.values["symbol"] or call.values["pair"]
    if name is None:
        raise ApiError(-1102, "symbol")
    call.gate.venue.symbol(name)
    return []


# ---------------------------------------------------------------- what the venue says


async def funding_info(call: Call) -> list[Json]:
    """GET /fapi/v1/fundingInfo: caps, floors and intervals of every symbol."""
    view = await call.gate.fresh_view()
    found = []
    for index, symbol in sorted(call.gate.venue.by_index.items()):
        contract = view.contract(index)
        found.append(
            {
                "symbol": symbol.name,
                "adjustedFundingRateCap": rate_text(contract["funding_cap_ppb"]),
                "adjustedFundingRateFloor": rate_text(contract["funding_floor_ppb"]),
                "fundingIntervalHours": contract["funding_interval_ns"] // HOUR_NS,
                "disclaimer": False,
            }
        )
    return found


async def insurance_balance(call: Call) -> Json | list[Json]:
    """GET /fapi/v1/insuranceBalance: one fund for all symbols of an asset."""
    wanted = call.symbol_index()
    fund = await call.gate.account(INSURANCE_ACCOUNT)
    groups: dict[int, list[str]] = {}
    for index, symbol in sorted(call.gate.venue.by_index.items()):
        if wanted in (None, index):
            groups.setdefault(symbol.asset_index, []).append(symbol.name)
    found = []
    for asset, names in groups.items():
        row, wallet = call.gate.venue.assets[asset], fund.wallets[asset]
        found.append(
            {
                "symbols": names,
                "assets": [
                    {
                        "asset": row["name"],
                        "marginBalance": decimal_text(wallet["wallet_quanta"], row["scale"]),
                        "updateTime": wallet["updated_ns"] // 1_000_000,
                    }
                ],
            }
        )
    return found[0] if wanted is not None else found


async def adl_risk(call: Call) -> Json | list[Json]:
    """GET /fapi/v1/symbolAdlRisk: by what the insurance fund has."""
    wanted = call.symbol_index()
    fund = await call.gate.account(INSURANCE_ACCOUNT)
    found = [
        {
            "symbol": symbol.name,
            "adlRisk": "low" if fund.wallets[symbol.asset_index]["wallet_quanta"] > 0 else "high",
            "updateTime": call.now_ms,
        }
        for index, symbol in sorted(call.gate.venue.by_index.items())
        if wanted in (None, index)
    ]
    return found[0] if wanted is not None else found


async def index_info(call: Call) -> list[Any]:
    """GET /fapi/v1/indexInfo: no composite indices."""
    call.symbol_index()
    return []


async def constituents(call: Call) -> Json:
    """GET /fapi/v1/constituents: the sources of an index are the operator's own."""
    return {"symbol": call.symbol().name, "time": call.now_ms, "constituents": []}


async def asset_index(call: Call) -> Json | list[Json]:
    """GET /fapi/v1/assetIndex: multi-assets mode doesn't exist, so nothing is converted."""
    if call.values["symbol"] is not None:
        raise ApiError(-1121)
    return []
