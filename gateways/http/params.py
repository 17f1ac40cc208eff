"""Parameters that routes share, declared once (fapi_surface 3)."""

from __future__ import annotations

from typing import Final

from gateways.http.schema import (
    BOOLEAN,
    CLIENT_ID_TYPE,
    CLIENT_IDS,
    COIN,
    DECIMAL,
    ID,
    IDS,
    LONG,
    ORDERS,
    SYMBOL,
    TEXT,
    TIME,
    Param,
    choice,
    integer,
    one_of,
)

INTERVALS: Final = (
    *("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"),
)
STOP_TYPES: Final = (
    *("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"),
)
_SIDE: Final = choice(-1117, "BUY", "SELL")
_LEG: Final = choice(-4060, "BOTH", "LONG", "SHORT")
_TIF: Final = choice(-1115, "GTC", "IOC", "FOK", "GTX", "GTD")
_TYPE: Final = choice(-1116, "LIMIT", "MARKET", *STOP_TYPES)
_ALGO_TYPE: Final = choice(-1116, *STOP_TYPES)
_MATCH: Final = choice(
    -5037,
    *("OPPONENT", "OPPONENT_5", "OPPONENT_10", "OPPONENT_20"),
    *("QUEUE", "QUEUE_5", "QUEUE_10", "QUEUE_20"),
)
_STP: Final = choice(-5039, "NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
_REPLY: Final = choice(-1136, "ACK", "RESULT")
_WORKING: Final = choice(-4031, "CONTRACT_PRICE", "MARK_PRICE")

SYMBOL_REQUIRED: Final = Param("symbol", SYMBOL, required=True)
SYMBOL_OPTIONAL: Final = Param("symbol", SYMBOL)
PAIR: Final = Param("pair", SYMBOL, required=True)
INTERVAL: Final = Param("interval", choice(-1120, *INTERVALS, fold=False), required=True)
START: Final = Param("startTime", TIME)
END: Final = Param("endTime", TIME)
WINDOW: Final = (START, END)
CONTRACT_TYPE: Final = Param("contractType", choice(-4104, "PERPETUAL"), required=True)
DEPTH_LIMIT: Final = Param("limit", one_of(-4021, 5, 10, 20, 50, 100, 500, 1000), default=500)
PERIOD: Final = Param(
    "period",
    choice(-1130, "5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d", fold=False),
    required=True,
)


def limit(default: int, most: int) -> Param:
    """How many rows are wanted."""
    return Param("limit", integer(1, most), default=default)


ORDER_ID: Final = Param("orderId", ID)
NAMED: Final = (ORDER_ID, Param("origClientOrderId", CLIENT_ID_TYPE))
ALGO_NAMED: Final = (Param("algoId", ID), Param("clientAlgoId", CLIENT_ID_TYPE))

ORDER_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("side", _SIDE, required=True),
    Param("type", _TYPE, required=True),
    Param("positionSide", _LEG, default="BOTH"),
    Param("timeInForce", _TIF),
    Param("quantity", DECIMAL),
    Param("reduceOnly", BOOLEAN),
    Param("price", DECIMAL),
    Param("newClientOrderId", CLIENT_ID_TYPE),
    Param("newOrderRespType", _REPLY, default="ACK"),
    Param("priceMatch", _MATCH),
    Param("selfTradePreventionMode", _STP),
    Param("goodTillDate", LONG),
    Param("stopPrice", DECIMAL, meaning="conditional types", aliases=("triggerPrice",)),
    Param("closePosition", BOOLEAN),
    Param("activationPrice", DECIMAL, aliases=("activatePrice",)),
    Param("callbackRate", DECIMAL),
    Param("workingType", _WORKING, default="CONTRACT_PRICE"),
    Param("priceProtect", BOOLEAN, default=False),
)
MODIFY_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("side", _SIDE, required=True),
    Param("quantity", DECIMAL, required=True),
    Param("price", DECIMAL),
    Param("priceMatch", _MATCH),
    *NAMED,
)
CANCEL_PARAMS: Final = (SYMBOL_REQUIRED, *NAMED)
CANCEL_BATCH_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("orderIdList", IDS, aliases=("orderidlist",)),
    Param("origClientOrderIdList", CLIENT_IDS, aliases=("origclientorderidlist",)),
)
BATCH_PARAMS: Final = (Param("batchOrders", ORDERS, required=True),)
ALGO_PARAMS: Final = (
    Param("algoType", choice(-1130, "CONDITIONAL"), required=True),
    SYMBOL_REQUIRED,
    Param("side", _SIDE, required=True),
    Param("type", _ALGO_TYPE, required=True, aliases=("orderType",)),
    Param("positionSide", _LEG, default="BOTH"),
    Param("timeInForce", _TIF),
    Param("quantity", DECIMAL),
    Param("price", DECIMAL),
    Param("triggerPrice", DECIMAL, aliases=("stopPrice",)),
    Param("workingType", _WORKING, default="CONTRACT_PRICE"),
    Param("priceMatch", _MATCH),
    Param("closePosition", BOOLEAN),
    Param("priceProtect", BOOLEAN, default=False),
    Param("reduceOnly", BOOLEAN),
    Param("activatePrice", DECIMAL, aliases=("activationPrice",)),
    Param("callbackRate", DECIMAL),
    Param("clientAlgoId", CLIENT_ID_TYPE),
    Param("newOrderRespType", _REPLY, default="ACK"),
    Param("selfTradePreventionMode", _STP),
    Param("goodTillDate", LONG),
)
COUNTDOWN_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("countdownTime", integer(0, 365 * 24 * 3600 * 1000), required=True),
)
LEVERAGE_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("leverage", integer(1, 125, -4028), required=True),
)
MARGIN_TYPE_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("marginType", choice(-1130, "ISOLATED", "CROSSED"), required=True),
)
POSITION_MARGIN_PARAMS: Final = (
    SYMBOL_REQUIRED,
    Param("positionSide", _LEG, default="BOTH"),
    Param("amount", DECIMAL, required=True),
    Param("type", one_of(-1130, 1, 2), required=True),
)
DUAL_PARAMS: Final = (Param("dualSidePosition", BOOLEAN, required=True),)
MULTI_ASSETS_PARAMS: Final = (Param("multiAssetsMargin", BOOLEAN, required=True),)
FEE_BURN_PARAMS: Final = (Param("feeBurn", BOOLEAN, required=True),)
INCOME_TYPES: Final = (
    *("TRANSFER", "WELCOME_BONUS", "REALIZED_PNL", "FUNDING_FEE", "COMMISSION"),
    *("INSURANCE_CLEAR", "REFERRAL_KICKBACK", "COMMISSION_REBATE", "API_REBATE"),
    *("CONTEST_REWARD", "CROSS_COLLATERAL_TRANSFER", "OPTIONS_PREMIUM_FEE"),
    *("OPTIONS_SETTLE_PROFIT", "INTERNAL_TRANSFER", "AUTO_EXCHANGE", "DELIVERED_SETTELMENT"),
    *("COIN_SWAP_DEPOSIT", "COIN_SWAP_WITHDRAW", "POSITION_LIMIT_INCREASE_FEE"),
)
INCOME_PARAMS: Final = (
    SYMBOL_OPTIONAL,
    Param("incomeType", choice(-1130, *INCOME_TYPES)),
    *WINDOW,
    Param("page", integer(1, 1_000_000), default=1),
    limit(100, 1000),
)
TRADES_PARAMS: Final = (
    SYMBOL_REQUIRED,
    ORDER_ID,
    *WINDOW,
    Param("fromId", ID),
    limit(500, 1000),
)
FORCE_PARAMS: Final = (
    SYMBOL_OPTIONAL,
    Param("autoCloseType", choice(-1130, "LIQUIDATION", "ADL")),
    *WINDOW,
    limit(50, 100),
)
WITHDRAW_PARAMS: Final = (
    Param("coin", COIN, required=True),
    Param("withdrawOrderId", CLIENT_ID_TYPE),
    Param("network", TEXT),
    Param("address", TEXT, required=True),
    Param("addressTag", TEXT),
    Param("amount", DECIMAL, required=True),
)
_MOVED: Final = (Param("asset", COIN, required=True), Param("amount", DECIMAL, required=True))
_TRAN_ID: Final = Param("clientTranId", CLIENT_ID_TYPE)
_WALLET: Final = choice(-1130, "USDT_FUTURE")  # there is no other kind of wallet
UNIVERSAL_PARAMS: Final = (
    Param("fromEmail", TEXT),
    Param("toEmail", TEXT),
    Param("fromAccountType", _WALLET, required=True),
    Param("toAccountType", _WALLET, required=True),
    _TRAN_ID,
    *_MOVED,
)
INTERNAL_PARAMS: Final = (
    Param("fromEmail", TEXT, required=True),
    Param("toEmail", TEXT, required=True),
    Param("futuresType", one_of(-1130, 1), required=True),
    _TRAN_ID,
    *_MOVED,
)
TO_SUB_PARAMS: Final = (Param("toEmail", TEXT, required=True), _TRAN_ID, *_MOVED)
TO_MASTER_PARAMS: Final = (_TRAN_ID, *_MOVED)
UNIVERSAL_HISTORY_PARAMS: Final = (
    *WINDOW,
    Param("page", integer(1, 1000), default=1),
    limit(500, 500),
)
OWN_HISTORY_PARAMS: Final = (
    Param("asset", COIN),
    Param("type", one_of(-1130, 1, 2)),
    *WINDOW,
    limit(500, 500),
)
SUB_ACCOUNTS_PARAMS: Final = (
    Param("email", TEXT),
    Param("page", integer(1, 1000), default=1),
    limit(10, 200),
)
MOVED_PARAMS: Final = (
    Param("coin", COIN),
    Param("offset", integer(0, 1000), default=0),
    *WINDOW,
    limit(1000, 1000),
)
LISTEN_KEY_PARAMS: Final = (Param("listenKey", TEXT),)
KLINE_PARAMS: Final = (INTERVAL, *WINDOW, limit(500, 1500))
