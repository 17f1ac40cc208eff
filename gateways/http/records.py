"""What happened to an account: trades, income, forced orders, out of the history.

Reads   gateways/history; rows in integer units.
"""

from __future__ import annotations

from typing import Final

from gateways.accounts.client import Row
from gateways.http.errors import ApiError
from gateways.http.gate import Call
from gateways.http.orders import LEGS, SIDES
from gateways.http.shapes import Json
from gateways.http.venue import Symbol
from gateways.scales import decimal_text
from shm.codes import Cause, PositionSide, Side
from shm.units import PPB

FORCE_WINDOW_MS: Final = 90 * 24 * 3600 * 1000


async def user_trades(call: Call) -> list[Json]:
    """GET /fapi/v1/userTrades."""
    v, symbol = call.values, call.symbol()
    rows = await call.gate.history(
        "trades",
        call.account,
        symbol.index,
        order_id=v["orderId"],
        from_id=v["fromId"],
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        limit=v["limit"],
    )
    return [_trade(row, symbol) for row in rows]


def _trade(row: Row, symbol: Symbol) -> Json:
    scale = symbol.scale
    return {
        "symbol": symbol.name,
        "pair": symbol.name,
        "id": abs(row["trade_id"]),
        "orderId": row["order_id"],
        "side": SIDES[row["side"]],
        "price": scale.price(row["price_ticks"]),
        "qty": scale.qty(row["lots"]),
        "realizedPnl": scale.money(row["realised_quanta"]),
        "marginAsset": symbol.asset,
        "quoteQty": scale.quote(row["price_ticks"] * row["lots"]),
        "baseQty": scale.qty(row["lots"]),
        "commission": scale.money(row["fee_quanta"]),
        "commissionAsset": symbol.asset,
        "time": row["ts_ns"] // 1_000_000,
        "positionSide": LEGS[row["position_side"]],
        "buyer": row["side"] == Side.BUY,
        "maker": not row["taker"],
    }


async def income(call: Call) -> list[Json]:
    """GET /fapi/v1/income."""
    v = call.values
    rows = await call.gate.history(
        "income",
        call.account,
        symbol=call.symbol_index(),
        type=v["incomeType"],
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        page=v["page"],
        limit=v["limit"],
    )
    venue = call.gate.venue
    found = []
    for row in rows:
        asset = venue.assets[row["asset"]]
        symbol = venue.by_index.get(row["symbol"])
        found.append(
            {
                "symbol": symbol.name if symbol else "",
                "incomeType": row["type"],
                "income": decimal_text(row["amount_quanta"], asset["scale"]),
                "asset": asset["name"],
                "info": row["info"],
                "time": row["ts_ns"] // 1_000_000,
                "tranId": row["number"],
                "tradeId": str(abs(row["trade_id"])) if row["trade_id"] else "",
            }
        )
    return found


async def force_orders(call: Call) -> list[Json]:
    """GET /fapi/v1/forceOrders."""
    v = call.values
    causes = {
        None: (Cause.LIQUIDATION, Cause.TAKEOVER, Cause.ADL),
        "LIQUIDATION": (Cause.LIQUIDATION, Cause.TAKEOVER),
        "ADL": (Cause.ADL,),
    }[v["autoCloseType"]]
    rows = await call.gate.history(
        "force_orders",
        call.account,
        symbol=call.symbol_index(),
        causes=tuple(int(c) for c in causes),
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        limit=v["limit"],
    )
    return [_forced(row, call.gate.venue.at(row["symbol"])) for row in rows]


def _forced(row: Row, symbol: Symbol) -> Json:
    scale = symbol.scale
    name = "adl_autoclose" if row["cause"] == Cause.ADL else f"autoclose-{row['number']}"
    return {
        "orderId": row["order_id"],
        "symbol": symbol.name,
        "status": "FILLED",
        "clientOrderId": name,
        "price": scale.price(row["price_ticks"]),
        "avgPrice": scale.average(row["quote_ticks_lots"], row["filled_lots"]),
        "origQty": scale.qty(row["qty_lots"]),
        "executedQty": scale.qty(row["filled_lots"]),
        "cumQuote": scale.quote(row["quote_ticks_lots"]),
        "timeInForce": "IOC",
        "type": "LIMIT",
        "reduceOnly": False,
        "closePosition": False,
        "side": SIDES[row["side"]],
        "positionSide": LEGS[row["position_side"]],
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": "LIMIT",
        "time": row["created_ns"] // 1_000_000,
        "updateTime": row["updated_ns"] // 1_000_000,
    }


async def amendments(call: Call) -> list[Json]:
    """GET /fapi/v1/orderAmendment."""
    v, symbol = call.values, call.symbol()
    if v["orderId"] is None and v["origClientOrderId"] is None:
        raise ApiError(-1102, "orderId")
    order = await call.gate.history(
        "order",
        call.account,
        order_id=v["orderId"] or 0,
        client_id=v["origClientOrderId"] or "",
    )
    if order is None:
        raise ApiError(-2013)
    rows = await call.gate.history(
        "amendments",
        call.account,
        order["order_id"],
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        limit=v["limit"],
    )
    scale = symbol.scale
    return [
        {
            "amendmentId": row["number"],
            "symbol": symbol.name,
            "pair": symbol.name,
            "orderId": row["order_id"],
            "clientOrderId": order["client_id"],
            "time": row["ts_ns"] // 1_000_000,
            "amendment": {
                "price": {
                    "before": scale.price(row["price_before"]),
                    "after": scale.price(row["price_after"]),
                },
                "origQty": {
                    "before": scale.qty(row["qty_before"]),
                    "after": scale.qty(row["qty_after"]),
                },
                "count": row["count"],
            },
            "priceMatch": "NONE",
        }
        for row in rows
    ]


async def margin_history(call: Call) -> list[Json]:
    """GET /fapi/v1/positionMargin/history."""
    v, symbol = call.values, call.symbol()
    rows = await call.gate.history(
        "moves",
        call.account,
        symbol.index,
        moves={None: (0, 1), 1: (0,), 2: (1,)}[v["type"]],
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        limit=v["limit"],
    )
    return [
        {
            "symbol": symbol.name,
            "type": 1 if row["move"] == 0 else 2,
            "deltaType": "USER_ADJUST",
            "amount": symbol.scale.money(abs(row["amount_quanta"])),
            "asset": symbol.asset,
            "time": row["ts_ns"] // 1_000_000,
            "positionSide": PositionSide(row["position_side"]).name,
        }
        for row in rows
    ]


# ---------------------------------------------------------------- of everybody


async def funding_rate(call: Call) -> list[Json]:
    """GET /fapi/v1/fundingRate."""
    v = call.values
    rows = await call.gate.history(
        "funding",
        call.symbol_index(),
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        limit=v["limit"],
    )
    venue = call.gate.venue
    return [
        {
            "symbol": venue.at(row["symbol"]).name,
            "fundingRate": rate_text(row["rate_ppb"]),
            "fundingTime": row["funding_ns"] // 1_000_000,
            "markPrice": venue.at(row["symbol"]).scale.price(row["mark_ticks"]),
            "rateType": "Regular",
        }
        for row in rows
    ]


def rate_text(ppb: int) -> str:
    """Parts per billion with eight decimals, towards zero."""
    shown = abs(ppb) * 10**8 // PPB
    return decimal_text(-shown if ppb < 0 else shown, 8)


async def historical_trades(call: Call) -> list[Json]:
    """GET /fapi/v1/historicalTrades."""
    v, symbol = call.values, call.symbol()
    rows = await call.gate.history(
        "public_trades", symbol.index, from_id=v["fromId"], limit=v["limit"]
    )
    scale = symbol.scale
    return [
        {
            "id": row["trade_id"],
            "price": scale.price(row["price_ticks"]),
            "qty": scale.qty(row["lots"]),
            "quoteQty": scale.quote(row["price_ticks"] * row["lots"]),
            "time": row["ts_ns"] // 1_000_000,
            "isBuyerMaker": row["side"] == Side.SELL,
            "isRPITrade": False,
        }
        for row in rows
    ]
