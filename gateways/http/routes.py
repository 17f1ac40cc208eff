"""The table of routes: what there is, what it costs, who may, which parameters it takes.

A route that isn't here doesn't exist, and one without a rule can't be written: `security` and
`scope` have no default. tests/unit/test_routes.py reads this table.
"""

# ruff: noqa: E501 - a table

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateways.http import (
    algos,
    books,
    listenkeys,
    money,
    portfolio,
    public,
    records,
    settings,
    trade,
    transfers,
)
from gateways.http import (
    params as p,
)
from gateways.http.schema import ID, SYMBOL, Param, Route, Security, Values, one_of
from ledger.query import CUSTOMER, PUBLIC

NONE, KEY, STREAM = Security.NONE, Security.MARKET_DATA, Security.USER_STREAM
READ, TRADE = Security.USER_DATA, Security.TRADE

V1: Final = "/fapi/v1"
SERIES: Final = (
    *("openInterestHist", "globalLongShortAccountRatio", "topLongShortAccountRatio"),
    *("topLongShortPositionRatio", "takerlongshortRatio", "basis"),
)
SUB: Final = "/sapi/v1/sub-account"


def _depth_weight(v: Values) -> int:
    limit = v["limit"]
    return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20


def _kline_weight(v: Values) -> int:
    limit = v["limit"]
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def _by_symbol(one: int, every: int) -> Callable[[Values], int]:
    return lambda v: one if v["symbol"] is not None else every


def _get(
    path: str, handler: Any, reply: str, summary: str, weight: Any = 1, *params: Param
) -> Route:
    """Public."""
    return Route("GET", path, NONE, "", weight, params, handler, reply, summary)


def _read(path: str, handler: Any, reply: str, summary: str, weight: Any, *params: Param) -> Route:
    """The caller's own data."""
    return Route("GET", path, READ, "read", weight, params, handler, reply, summary)


def _trade(
    method: str,
    path: str,
    handler: Any,
    reply: str,
    summary: str,
    params: tuple[Param, ...],
    weight: int = 1,
    orders: int = 0,
) -> Route:
    """A command."""
    return Route(
        *(method, path, TRADE, "trade", weight, params, handler, reply, summary),
        orders=orders,
        changes=True,
    )


def _transfer(path: str, handler: Any, summary: str, params: tuple[Param, ...]) -> Route:
    """Money that stays its owner's."""
    return Route("POST", path, TRADE, "transfer", 1, params, handler, "any", summary, changes=True)


def _series(name: str) -> Route:
    """Statistics by period."""
    params = (p.SYMBOL_OPTIONAL, Param("pair", SYMBOL), p.PERIOD, p.limit(30, 500), *p.WINDOW)
    path = f"/futures/data/{name}"
    return _get(path, public.series_not_kept, "list", "Statistics (not kept)", 0, *params)


def _stream(method: str, handler: Any, summary: str) -> Route:
    return Route(
        *(method, f"{V1}/listenKey", STREAM, "read", 1, p.LISTEN_KEY_PARAMS),
        *(handler, "listenKey", summary),
    )


def _ledger(name: str) -> Route:
    """A question to the books: everybody's, each customer's own, or auditors' alone."""
    summary, reply, weight, params = books.QUESTIONS[name]
    roles = books.roles_of(name)
    rule = (READ, "read" if CUSTOMER in roles else "audit")
    if PUBLIC in roles:
        rule = (NONE, "")
    path = f"{books.PREFIX}/{name}"
    return Route("GET", path, *rule, weight, params, books.handler(name), reply, summary)


_TICKER_PRICE: Final = (public.ticker_price, "price", "Latest price", _by_symbol(1, 2))

ROUTES: Final[tuple[Route, ...]] = (
    # market data
    _get(f"{V1}/ping", public.ping, "empty", "Is anybody there"),
    _get(f"{V1}/time", public.server_time, "time", "Server time"),
    _get("/api/v3/ping", public.ping, "empty", "Is anybody there (python-binance asks here)"),
    _get("/api/v3/time", public.server_time, "time", "Server time (python-binance asks here)"),
    _get(f"{V1}/exchangeInfo", public.exchange_info, "exchangeInfo", "Symbols, filters, limits"),
    _get(f"{V1}/depth", public.depth, "depth", "Order book", _depth_weight, p.SYMBOL_REQUIRED, p.DEPTH_LIMIT),
    _get(f"{V1}/rpiDepth", public.depth, "depth", "Order book; no RPI orders here", 20, p.SYMBOL_REQUIRED, Param("limit", one_of(-4021, 1000), default=1000)),
    _get(f"{V1}/trades", public.trades, "trades", "Recent trades", 5, p.SYMBOL_REQUIRED, p.limit(500, 1000)),
    Route("GET", f"{V1}/historicalTrades", KEY, "read", 20, (p.SYMBOL_REQUIRED, p.limit(100, 1000), Param("fromId", ID)), records.historical_trades, "trades", "Older trades"),
    _get(f"{V1}/aggTrades", public.agg_trades, "aggTrades", "Aggregate trades", 20, p.SYMBOL_REQUIRED, Param("fromId", ID), *p.WINDOW, p.limit(500, 1000)),
    _get(f"{V1}/klines", public.klines("trade"), "klines", "Candles", _kline_weight, p.SYMBOL_REQUIRED, *p.KLINE_PARAMS),
    _get(f"{V1}/continuousKlines", public.klines("trade", "pair"), "klines", "Candles of a pair", _kline_weight, p.PAIR, p.CONTRACT_TYPE, *p.KLINE_PARAMS),
    _get(f"{V1}/indexPriceKlines", public.klines("index", "pair"), "klines", "Candles of the index", _kline_weight, p.PAIR, *p.KLINE_PARAMS),
    _get(f"{V1}/markPriceKlines", public.klines("mark"), "klines", "Candles of the mark", _kline_weight, p.SYMBOL_REQUIRED, *p.KLINE_PARAMS),
    _get(f"{V1}/premiumIndexKlines", public.klines("premium"), "klines", "Candles of the premium", _kline_weight, p.SYMBOL_REQUIRED, *p.KLINE_PARAMS),
    _get(f"{V1}/premiumIndex", public.premium_index, "premiumIndex", "Mark, index, funding rate", _by_symbol(1, 10), p.SYMBOL_OPTIONAL),
    _get(f"{V1}/fundingRate", records.funding_rate, "fundingRates", "Funding rate history", 1, p.SYMBOL_OPTIONAL, *p.WINDOW, p.limit(100, 1000)),
    _get(f"{V1}/fundingInfo", public.funding_info, "fundingInfo", "Funding caps and intervals", 0),
    _get(f"{V1}/ticker/24hr", public.ticker_24h, "ticker", "24 hour statistics", _by_symbol(1, 40), p.SYMBOL_OPTIONAL),
    _get(f"{V1}/ticker/price", *_TICKER_PRICE, p.SYMBOL_OPTIONAL),
    _get("/fapi/v2/ticker/price", *_TICKER_PRICE, p.SYMBOL_OPTIONAL),
    _get(f"{V1}/ticker/bookTicker", public.book_ticker, "bookTicker", "Best bid and ask", _by_symbol(2, 5), p.SYMBOL_OPTIONAL),
    _get(f"{V1}/openInterest", public.open_interest, "openInterest", "Open interest", 1, p.SYMBOL_REQUIRED),
    *(_series(name) for name in SERIES),
    _get("/futures/data/delivery-price", public.series_not_kept, "list", "Delivery prices (none: perpetuals)", 0, p.SYMBOL_OPTIONAL, p.PAIR),
    _get(f"{V1}/insuranceBalance", public.insurance_balance, "any", "Insurance fund", 1, p.SYMBOL_OPTIONAL),
    _get(f"{V1}/symbolAdlRisk", public.adl_risk, "any", "ADL risk", 1, p.SYMBOL_OPTIONAL),
    _get(f"{V1}/constituents", public.constituents, "any", "Index constituents", 2, p.SYMBOL_REQUIRED),
    _get(f"{V1}/indexInfo", public.index_info, "list", "Composite indices (none)", 1, p.SYMBOL_OPTIONAL),
    _get(f"{V1}/assetIndex", public.asset_index, "any", "Multi-assets index (none)", _by_symbol(1, 10), p.SYMBOL_OPTIONAL),
    _get("/sapi/v1/capital/config/getall", public.empty_list, "list", "Currencies (ccxt asks here)"),
    _get("/sapi/v1/system/status", public.system_status, "any", "Whether the venue is under maintenance (ccxt asks here)"),
    _get("/sapi/v1/margin/allPairs", public.empty_list, "list", "Margin pairs (ccxt asks here)"),
    # orders
    _trade("POST", f"{V1}/order", trade.place, "order", "New order", p.ORDER_PARAMS, 0, 1),
    _trade("POST", f"{V1}/order/test", trade.test, "order", "Check an order", p.ORDER_PARAMS, 0),
    _trade("PUT", f"{V1}/order", trade.modify, "order", "Change an order", p.MODIFY_PARAMS, 0, 1),
    _trade("DELETE", f"{V1}/order", trade.cancel, "order", "Cancel an order", p.CANCEL_PARAMS),
    _read(f"{V1}/order", trade.query, "order", "One order", 1, *p.CANCEL_PARAMS),
    _read(f"{V1}/openOrder", trade.query_open, "order", "One open order", 1, *p.CANCEL_PARAMS),
    _read(f"{V1}/openOrders", trade.open_orders, "orders", "Open orders", _by_symbol(1, 40), p.SYMBOL_OPTIONAL),
    _read(f"{V1}/allOrders", trade.all_orders, "orders", "All orders", 5, p.SYMBOL_REQUIRED, p.ORDER_ID, *p.WINDOW, p.limit(500, 1000)),
    _trade("DELETE", f"{V1}/allOpenOrders", trade.cancel_all, "code", "Cancel all orders of a symbol", (p.SYMBOL_REQUIRED,)),
    _trade("POST", f"{V1}/batchOrders", trade.place_batch, "batch", "Up to five new orders", p.BATCH_PARAMS, 5, 5),
    _trade("PUT", f"{V1}/batchOrders", trade.modify_batch, "batch", "Change up to five orders", p.BATCH_PARAMS, 5, 5),
    _trade("DELETE", f"{V1}/batchOrders", trade.cancel_batch, "batch", "Cancel up to ten orders", p.CANCEL_BATCH_PARAMS),
    _read(f"{V1}/orderAmendment", records.amendments, "list", "Changes of an order", 1, p.SYMBOL_REQUIRED, *p.NAMED, *p.WINDOW, p.limit(50, 100)),
    _trade("POST", f"{V1}/countdownCancelAll", trade.countdown, "any", "Dead man's switch", p.COUNTDOWN_PARAMS, 10),
    _trade("POST", f"{V1}/algoOrder", algos.place, "algo", "New conditional order", p.ALGO_PARAMS, 0, 1),
    _trade("DELETE", f"{V1}/algoOrder", algos.cancel, "any", "Cancel a conditional order", p.ALGO_NAMED),
    _read(f"{V1}/algoOrder", algos.query, "algo", "One conditional order", 1, *p.ALGO_NAMED),
    _read(f"{V1}/openAlgoOrders", algos.open_algos, "algos", "Conditional orders that wait", _by_symbol(1, 40), p.SYMBOL_OPTIONAL, *p.ALGO_NAMED),
    _read(f"{V1}/allAlgoOrders", algos.all_algos, "algos", "All conditional orders", 5, p.SYMBOL_REQUIRED, *p.ALGO_NAMED, *p.WINDOW, p.limit(500, 1000)),
    _trade("DELETE", f"{V1}/algoOpenOrders", algos.cancel_all, "code", "Cancel all conditional orders of a symbol", (p.SYMBOL_REQUIRED,)),
    _read(f"{V1}/forceOrders", records.force_orders, "orders", "Liquidations and ADL of the caller", _by_symbol(20, 50), *p.FORCE_PARAMS),
    _read(f"{V1}/rateLimit/order", portfolio.rate_limit_orders, "list", "Order limits", 1),
    # account
    _read("/fapi/v2/balance", portfolio.balance, "balances", "Balances", 5),
    _read("/fapi/v3/balance", portfolio.balance, "balances", "Balances", 5),
    _read("/fapi/v2/account", portfolio.account_v2, "account", "Account", 5),
    _read("/fapi/v3/account", portfolio.account_v3, "account", "Account", 5),
    _read("/fapi/v2/positionRisk", portfolio.position_risk_v2, "positions", "Positions", 5, p.SYMBOL_OPTIONAL),
    _read("/fapi/v3/positionRisk", portfolio.position_risk_v3, "positions", "Positions", 5, p.SYMBOL_OPTIONAL),
    _read(f"{V1}/accountConfig", portfolio.account_config, "any", "Settings of the account", 5),
    _read(f"{V1}/symbolConfig", portfolio.symbol_config, "list", "Settings of symbols", 5, p.SYMBOL_OPTIONAL),
    _read(f"{V1}/leverageBracket", portfolio.leverage_brackets, "list", "Leverage brackets", 1, p.SYMBOL_OPTIONAL),
    _trade("POST", f"{V1}/leverage", settings.leverage, "any", "Set the leverage", p.LEVERAGE_PARAMS),
    _trade("POST", f"{V1}/marginType", settings.margin_type, "code", "Cross or isolated", p.MARGIN_TYPE_PARAMS),
    _trade("POST", f"{V1}/positionMargin", settings.position_margin, "any", "Move isolated margin", p.POSITION_MARGIN_PARAMS),
    _read(f"{V1}/positionMargin/history", records.margin_history, "list", "Moves of isolated margin", 1, p.SYMBOL_REQUIRED, Param("type", one_of(-1130, 1, 2)), *p.WINDOW, p.limit(500, 500)),
    _read(f"{V1}/positionSide/dual", portfolio.position_mode, "any", "Position mode", 30),
    _trade("POST", f"{V1}/positionSide/dual", settings.position_mode, "code", "Set the position mode", p.DUAL_PARAMS),
    _read(f"{V1}/multiAssetsMargin", portfolio.multi_assets, "any", "Multi-assets mode", 30),
    _trade("POST", f"{V1}/multiAssetsMargin", settings.multi_assets, "code", "Multi-assets mode (refused)", p.MULTI_ASSETS_PARAMS),
    _read(f"{V1}/commissionRate", portfolio.commission_rate, "any", "Fees", 20, p.SYMBOL_REQUIRED),
    _read(f"{V1}/income", records.income, "list", "Income", 30, *p.INCOME_PARAMS),
    _read(f"{V1}/userTrades", records.user_trades, "list", "Trades of the caller", 5, *p.TRADES_PARAMS),
    _read(f"{V1}/adlQuantile", portfolio.adl_quantiles, "list", "Places in the ADL queue", 5, p.SYMBOL_OPTIONAL),
    _read(f"{V1}/feeBurn", portfolio.fee_burn, "any", "Fee discount (none)", 30),
    _trade("POST", f"{V1}/feeBurn", settings.fee_burn, "code", "Fee discount (refused)", p.FEE_BURN_PARAMS),
    _read(f"{V1}/apiTradingStatus", portfolio.trading_status, "any", "Quantitative rules (none)", 10, p.SYMBOL_OPTIONAL),
    # money
    Route("POST", "/sapi/v1/capital/withdraw/apply", TRADE, "withdraw", 10, p.WITHDRAW_PARAMS, money.withdraw, "any", "Ask for a withdrawal, which operators approve", changes=True),
    _read("/sapi/v1/capital/withdraw/history", money.withdrawals, "list", "Withdrawals", 10, *p.MOVED_PARAMS),
    _read("/sapi/v1/capital/deposit/hisrec", money.deposits, "list", "Deposits", 1, *p.MOVED_PARAMS),
    # between the accounts of one user
    _read("/sapi/v1/asset/transfer", public.no_transfers, "any", "Transfers from and to a spot wallet (none)", 1, *p.WINDOW),
    _transfer(f"{SUB}/universalTransfer", transfers.universal, "Move money from any of one's accounts to any", p.UNIVERSAL_PARAMS),
    _transfer(f"{SUB}/futures/internalTransfer", transfers.between_futures, "The same, both named", p.INTERNAL_PARAMS),
    _transfer(f"{SUB}/transfer/subToSub", transfers.to_another, "To another of one's accounts", p.TO_SUB_PARAMS),
    _transfer(f"{SUB}/transfer/subToMaster", transfers.to_main, "To one's main account", p.TO_MASTER_PARAMS),
    _read(f"{SUB}/universalTransfer", transfers.universal_history, "any", "Transfers of the account", 1, *p.UNIVERSAL_HISTORY_PARAMS),
    _read(f"{SUB}/transfer/subUserHistory", transfers.own_history, "list", "Transfers of the account, in and out", 1, *p.OWN_HISTORY_PARAMS),
    _read(f"{SUB}/list", transfers.accounts, "any", "The accounts below this one", 1, *p.SUB_ACCOUNTS_PARAMS),
    # user streams
    _stream("POST", listenkeys.open_key, "Open a user stream"),
    _stream("PUT", listenkeys.extend_key, "An hour more"),
    _stream("DELETE", listenkeys.close_key, "Close the user stream"),
    # the books
    *(_ledger(name) for name in books.QUESTIONS),
)  # fmt: skip

BY_NAME: Final[dict[tuple[str, str], Route]] = {(r.method, r.path): r for r in ROUTES}
assert len(BY_NAME) == len(ROUTES), "a route is there twice"
# Methods of a path, as the header Allow lists them.
ALLOWED: Final[dict[str, str]] = {
    path: ", ".join(r.method for r in ROUTES if r.path == path) for path in {r.path for r in ROUTES}
}
