"""Shapes of replies, for OpenAPI: what every client may rely on, named by `Route.reply`."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]
_S: Final[Schema] = {"type": "string"}
_I: Final[Schema] = {"type": "integer"}
_B: Final[Schema] = {"type": "boolean"}


def _object(**fields: Schema) -> Schema:
    """An object that has at least these."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_or_many(shape: Schema) -> Schema:
    return {"oneOf": [shape, _list(shape)]}


ERROR: Final = _object(code={"type": "integer", "maximum": -1}, msg=_S)
_LEVEL: Final = {"type": "array", "items": _S, "minItems": 2, "maxItems": 2}
_ORDER: Final = _object(
    orderId=_I, symbol=_S, status=_S, clientOrderId=_S, price=_S, avgPrice=_S, origQty=_S,
    executedQty=_S, cumQuote=_S, timeInForce=_S, type=_S, origType=_S, reduceOnly=_B,
    closePosition=_B, side=_S, positionSide=_S, stopPrice=_S, workingType=_S, priceProtect=_B,
    updateTime=_I,
)  # fmt: skip
_ALGO: Final = _object(
    algoId=_I, clientAlgoId=_S, algoType=_S, orderType=_S, symbol=_S, side=_S, positionSide=_S,
    timeInForce=_S, quantity=_S, algoStatus=_S, triggerPrice=_S, price=_S, workingType=_S,
    closePosition=_B, priceProtect=_B, reduceOnly=_B, createTime=_I, updateTime=_I,
)  # fmt: skip
_POSITION: Final = _object(
    symbol=_S, positionSide=_S, positionAmt=_S, entryPrice=_S, breakEvenPrice=_S, markPrice=_S,
    unRealizedProfit=_S, liquidationPrice=_S, notional=_S, updateTime=_I,
)  # fmt: skip
_ENTRY: Final = _object(
    entry=_I, seq=_I, event=_S, recorded=_S, recorded_ns=_I, effective_ns=_I,
    legs=_list(_object(key=_I, account=_S, code=_I, side=_S, amount=_S, commodity=_S, quanta=_I)),
)  # fmt: skip
_ROOT: Final = _object(
    format=_S, sequence=_I, instant_ns=_I, assets=_list(_object(name=_S, scale=_I)), customers=_I,
    root=_object(sums=_list(_S), hash=_S),
)  # fmt: skip
_TICKER: Final = _object(
    symbol=_S, priceChange=_S, priceChangePercent=_S, weightedAvgPrice=_S, lastPrice=_S,
    lastQty=_S, openPrice=_S, highPrice=_S, lowPrice=_S, volume=_S, quoteVolume=_S, openTime=_I,
    closeTime=_I, firstId=_I, lastId=_I, count=_I,
)  # fmt: skip

SHAPES: Final[dict[str, Schema]] = {
    "any": {},
    "empty": {"type": "object"},
    "list": {"type": "array"},
    "code": _object(code={"type": "integer"}, msg=_S),
    "time": _object(serverTime=_I),
    "exchangeInfo": _object(
        timezone=_S,
        serverTime=_I,
        futuresType=_S,
        rateLimits=_list(_object(rateLimitType=_S, interval=_S, intervalNum=_I, limit=_I)),
        assets=_list(_object(asset=_S, marginAvailable=_B)),
        symbols=_list(_object(symbol=_S, pair=_S, contractType=_S, status=_S, filters=_list({}))),
    ),
    "depth": _object(lastUpdateId=_I, E=_I, T=_I, bids=_list(_LEVEL), asks=_list(_LEVEL)),
    "trades": _list(_object(id=_I, price=_S, qty=_S, quoteQty=_S, time=_I, isBuyerMaker=_B)),
    "aggTrades": _list(_object(a=_I, p=_S, q=_S, f=_I, l=_I, T=_I, m=_B)),
    "klines": _list({"type": "array", "minItems": 12, "maxItems": 12}),
    "premiumIndex": _one_or_many(
        _object(
            symbol=_S,
            markPrice=_S,
            indexPrice=_S,
            estimatedSettlePrice=_S,
            lastFundingRate=_S,
            interestRate=_S,
            nextFundingTime=_I,
            time=_I,
        )  # fmt: skip
    ),
    "fundingRates": _list(_object(symbol=_S, fundingRate=_S, fundingTime=_I, markPrice=_S)),
    "fundingInfo": _list(
        _object(
            symbol=_S,
            adjustedFundingRateCap=_S,
            adjustedFundingRateFloor=_S,
            fundingIntervalHours=_I,
        )
    ),
    "ticker": _one_or_many(_TICKER),
    "price": _one_or_many(_object(symbol=_S, price=_S, time=_I)),
    "bookTicker": _one_or_many(
        _object(symbol=_S, bidPrice=_S, bidQty=_S, askPrice=_S, askQty=_S, time=_I)
    ),
    "openInterest": _object(symbol=_S, openInterest=_S, time=_I),
    "order": _ORDER,
    "orders": _list({"type": "object"}),
    "batch": _list({"oneOf": [_ORDER, ERROR]}),
    "algo": _ALGO,
    "algos": _list(_ALGO),
    "balances": _list(
        _object(
            accountAlias=_S,
            asset=_S,
            balance=_S,
            crossWalletBalance=_S,
            crossUnPnl=_S,
            availableBalance=_S,
            maxWithdrawAmount=_S,
            marginAvailable=_B,
            updateTime=_I,
        )  # fmt: skip
    ),
    "account": _object(
        totalInitialMargin=_S,
        totalMaintMargin=_S,
        totalWalletBalance=_S,
        totalUnrealizedProfit=_S,
        totalMarginBalance=_S,
        availableBalance=_S,
        maxWithdrawAmount=_S,
        assets=_list({"type": "object"}),
        positions=_list({"type": "object"}),
    ),  # fmt: skip
    "positions": _list(_POSITION),
    "sheet": _object(
        title=_S,
        ok=_B,
        facts={"type": "object"},
        columns=_list(_S),
        rows=_list(_object(kind=_S, name=_S, cells={"type": "object"})),
    ),
    "ledgerEntry": _ENTRY,
    "ledgerEntries": {
        "type": "object",
        "properties": {"entries": _list(_ENTRY), "next": {"type": ["integer", "null"]}},
        "required": ["entries", "next"],
    },
    "proofRoot": _ROOT,
    "proof": _object(
        **_ROOT["properties"],
        customer=_I,
        salt=_S,
        balances=_list(_S),
        path=_list(_object(side=_S, sums=_list(_S), hash=_S)),
    ),
    "listenKey": {"type": "object", "properties": {"listenKey": _S}},
}
