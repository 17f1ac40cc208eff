"""Conditional orders, on their own path and on the classic order path.

Reads   typed parameters; the account as this gateway follows it.
Writes  PLACE_ALGO, CANCEL_ALGO, CANCEL_ALGOS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateways.http.decimals import BadDecimal, TooPrecise, scaled
from gateways.http.errors import ApiError, refusal
from gateways.http.gate import Call
from gateways.http.ordering import (
    CANCEL_ALL_DONE,
    answered,
    expire_of,
    leg_of,
    matched_price,
    new_client_id,
    order_refusal,
    reduce_only_of,
)
from gateways.http.orders import AccountState, Algo
from gateways.http.rows import Ask
from gateways.http.schema import Values
from gateways.http.shapes import Json, algo_as_order_json, algo_json, algo_query_json
from gateways.http.venue import Symbol
from shm.codes import (
    AlgoType,
    Flag,
    Kind,
    PositionSide,
    Reason,
    Side,
    Stp,
    Tif,
    Working,
)

TYPES: Final = frozenset(t.name for t in AlgoType)
_LIMITED: Final = (AlgoType.STOP, AlgoType.TAKE_PROFIT)
_CLOSERS: Final = (AlgoType.STOP_MARKET, AlgoType.TAKE_PROFIT_MARKET)
CALLBACK_PPM_MIN: Final = 1_000  # 0.1 per cent
CALLBACK_PPM_MAX: Final = 100_000
CALLBACK_PPM_MAX_CLASSIC: Final = 50_000
_WORKING: Final = {"CONTRACT_PRICE": Working.LAST, "MARK_PRICE": Working.MARK}
CANCELED: Final = {"code": "200", "msg": "success"}


class Terms:
    """The names a conditional order's parameters have on one of the two paths."""

    def __init__(self, name: str, trigger: str, activate: str, callback_max: int) -> None:
        self.name = name
        self.trigger = trigger
        self.activate = activate
        self.callback_max = callback_max


ALGO_TERMS: Final = Terms("clientAlgoId", "triggerPrice", "activatePrice", CALLBACK_PPM_MAX)
CLASSIC: Final = Terms("newClientOrderId", "stopPrice", "activationPrice", CALLBACK_PPM_MAX_CLASSIC)


async def place(call: Call) -> Json:
    """POST /fapi/v1/algoOrder."""
    state = await call.gate.trading_state(call.account)
    symbol = call.symbol()
    ask = await _ask(call, state, symbol, ALGO_TERMS)
    call.gate.classic.drop(call.account, ask.name)
    return await _hand(call, state, symbol, ask, lambda algo: algo_json(algo, symbol))


async def hand_classic(call: Call, state: AccountState) -> asyncio.Future[Json]:
    """The same through POST /fapi/v1/order, to be answered as an order."""
    symbol = call.symbol()
    ask = await _ask(call, state, symbol, CLASSIC)
    call.gate.classic.add(call.account, ask.name, call.now_ms)
    return _hand(call, state, symbol, ask, lambda algo: algo_as_order_json(algo, symbol))


def test_classic(call: Call) -> Json:
    """Check a conditional order of the classic path without placing it."""
    symbol = call.symbol()
    ask = _checked(call, AccountState(call.account), symbol, CLASSIC, 0)
    algo = Algo(0, symbol.index)
    algo.client_id, algo.side, algo.type, algo.tif = ask.name, ask.side, ask.type, ask.tif
    algo.trigger_ticks, algo.price_ticks, algo.qty_lots = ask.words
    algo.updated_ms = algo.created_ms = call.now_ms
    return algo_as_order_json(algo, symbol)


def _hand(
    call: Call, state: AccountState, symbol: Symbol, ask: Ask, shown: Callable[[Algo], Json]
) -> asyncio.Future[Json]:
    def render(report: tuple[int, ...]) -> Json:
        reason = report[7]
        if reason != Reason.NONE:
            raise order_refusal(reason, Kind.PLACE_ALGO, ask.words[1], symbol)
        algo = state.find_algo(report[0], None)
        if algo is None:  # not followed here: as it was asked for
            algo = Algo(report[0], symbol.index)
            algo.client_id, algo.side, algo.type, algo.tif = ask.name, ask.side, ask.type, ask.tif
            algo.trigger_ticks, algo.price_ticks, algo.qty_lots = ask.words
            algo.created_ms = algo.updated_ms = report[5] // 1_000_000
        if not algo.client_id:
            algo.client_id = ask.name
        if call.values["priceMatch"]:
            algo.price_match = call.values["priceMatch"]
        return shown(algo)

    return call.gate.desk.ask(ask, render)


async def _ask(call: Call, state: AccountState, symbol: Symbol, terms: Terms) -> Ask:
    v = call.values
    price_ticks = 0
    if v["priceMatch"] is not None:
        if AlgoType[v["type"]] not in _LIMITED:
            raise ApiError(-5038)
        if v["price"] is not None:
            raise ApiError(-1106, "price")
        price_ticks = await matched_price(call, symbol, Side[v["side"]], v["priceMatch"])
    return _checked(call, state, symbol, terms, price_ticks)


def _checked(
    call: Call, state: AccountState, symbol: Symbol, terms: Terms, price_ticks: int
) -> Ask:
    """A conditional order as a command; `price_ticks`: what priceMatch found, or 0."""
    v = call.values
    kind, side = AlgoType[v["type"]], Side[v["side"]]
    leg = leg_of(v, state)
    close = bool(v["closePosition"])
    tif = _tif(v, kind)
    if kind in _LIMITED and not price_ticks:
        if v["price"] is None:
            raise ApiError(-1102, "price")
        price_ticks = symbol.price_ticks(v["price"])
    elif kind not in _LIMITED and v["price"] is not None:
        raise ApiError(-1106, "price")
    trigger_ticks, activate_ticks, callback_ppm = _prices(v, kind, symbol, terms)
    if close:
        _check_close(v, kind, side, leg)
    elif v["quantity"] is None:
        raise ApiError(-1102, "quantity")
    lots = 0 if close else symbol.qty_lots(v["quantity"])
    flags = Flag.CLOSE_POSITION if close else Flag.NONE
    if reduce_only_of(v, state):
        flags |= Flag.REDUCE_ONLY
    expire_ns = expire_of(call, v, tif)
    working = _WORKING[v["workingType"]]
    return Ask(
        kind=Kind.PLACE_ALGO,
        account=call.account,
        origin=call.origin(),
        symbol=symbol.index,
        words=(trigger_ticks, price_ticks, lots),
        side=side,
        type=kind,
        tif=tif,
        flags=flags,
        stp=Stp[v["selfTradePreventionMode"] or "NONE"],
        position_side=leg,
        name=v[terms.name] or new_client_id(),
        more=(
            expire_ns,
            activate_ticks,
            callback_ppm | int(working) << 32 | int(bool(v["priceProtect"])) << 40,
        ),
    )


def _tif(v: Values, kind: AlgoType) -> Tif:
    if kind not in _LIMITED:
        return Tif.GTC if v["timeInForce"] is None else Tif[v["timeInForce"]]
    return Tif[v["timeInForce"] or "GTC"]


def _prices(v: Values, kind: AlgoType, symbol: Symbol, terms: Terms) -> tuple[int, int, int]:
    """(trigger, activation, callback ppm)."""
    if kind != AlgoType.TRAILING_STOP_MARKET:
        if v[terms.trigger] is None:
            raise ApiError(-1102, terms.trigger)
        return symbol.price_ticks(v[terms.trigger], stop=True), 0, 0
    if v["callbackRate"] is None:
        raise ApiError(-1102, "callbackRate")
    try:
        callback_ppm = scaled(v["callbackRate"], 4)
    except (BadDecimal, TooPrecise):
        raise ApiError(-1130, "callbackRate") from None
    if not CALLBACK_PPM_MIN <= callback_ppm <= terms.callback_max:
        raise ApiError(-1130, "callbackRate")
    activate = v[terms.activate]
    if activate is None:
        return 0, 0, callback_ppm
    try:
        return 0, symbol.price_ticks(activate, stop=True), callback_ppm
    except ApiError as error:
        raise ApiError(-4135) from error


def _check_close(v: Values, kind: AlgoType, side: Side, leg: PositionSide) -> None:
    """closePosition: what may stand beside it."""
    if kind not in _CLOSERS:
        raise ApiError(-4136)
    if v["quantity"] is not None and v["quantity"].strip("0.") != "":
        raise ApiError(-4137)
    if v["reduceOnly"]:
        raise ApiError(-4138)
    opening = (side == Side.BUY and leg == PositionSide.LONG) or (
        side == Side.SELL and leg == PositionSide.SHORT
    )
    if opening:
        raise ApiError(-4061)


# ---------------------------------------------------------------- cancelling


async def cancel(call: Call) -> Json:
    """DELETE /fapi/v1/algoOrder."""
    v = call.values
    if v["algoId"] is None and v["clientAlgoId"] is None:
        raise ApiError(
            -1102, message="Param 'algoId' or 'clientAlgoId' must be sent, but both were empty!"
        )
    state = await call.gate.state(call.account)
    algo = await call.gate.found(lambda: state.find_algo(v["algoId"], v["clientAlgoId"]))
    if algo is None:
        raise ApiError(-2011)
    named = {"algoId": algo.algo_id, "clientAlgoId": algo.client_id}
    return await hand_cancel(call, state, algo, lambda: {**named, **CANCELED})


def hand_cancel(
    call: Call, state: AccountState, algo: Algo, shown: Callable[[], Json]
) -> asyncio.Future[Json]:
    """Cancel one that waits; `shown` is the answer when it is done."""
    if algo.algo_id not in state.algos:
        raise ApiError(-2011)
    ask = Ask(
        kind=Kind.CANCEL_ALGO,
        account=call.account,
        origin=call.origin(),
        symbol=algo.symbol,
        words=(algo.algo_id, 0, 0),
    )

    def told(report: tuple[int, ...]) -> Json:
        if report[7] != Reason.NONE:
            raise refusal(report[7], Kind.CANCEL_ALGO)
        return shown()

    return call.gate.desk.ask(ask, told)


async def cancel_all(call: Call) -> Json:
    """DELETE /fapi/v1/algoOpenOrders."""
    await answered(call, Kind.CANCEL_ALGOS, call.symbol().index)
    return dict(CANCEL_ALL_DONE)


# ---------------------------------------------------------------- looking


async def query(call: Call) -> Json:
    """GET /fapi/v1/algoOrder."""
    v = call.values
    if v["algoId"] is None and v["clientAlgoId"] is None:
        raise ApiError(-1102, "algoId")
    state = await call.gate.state(call.account)
    await call.gate.desk.caught_up()
    algo = state.find_algo(v["algoId"], v["clientAlgoId"])
    if algo is None:
        row = await call.gate.history(
            "algo", call.account, algo_id=v["algoId"] or 0, client_id=v["clientAlgoId"] or ""
        )
        algo = Algo.of_view({**row, "open": 0}) if row else None
    if algo is None:
        raise ApiError(-2013)
    return _shown(call, state, algo)


def _shown(call: Call, state: AccountState, algo: Algo) -> Json:
    order = state.find(algo.order_id, None) if algo.order_id else None
    return algo_query_json(algo, call.gate.venue.at(algo.symbol), order)


async def open_algos(call: Call) -> list[Json]:
    """GET /fapi/v1/openAlgoOrders."""
    wanted, algo_id = call.symbol_index(), call.values["algoId"]
    state = await call.gate.state(call.account)
    await call.gate.desk.caught_up()
    return [
        _shown(call, state, algo)
        for algo in state.algos.values()
        if (wanted is None or algo.symbol == wanted) and algo_id in (None, algo.algo_id)
    ]


async def all_algos(call: Call) -> list[Json]:
    """GET /fapi/v1/allAlgoOrders."""
    v, symbol = call.values, call.symbol()
    rows: list[dict[str, Any]] = await call.gate.history(
        "algos",
        call.account,
        symbol.index,
        algo_id=v["algoId"],
        start_ms=v["startTime"],
        end_ms=v["endTime"],
        limit=v["limit"],
    )
    state = await call.gate.state(call.account)
    return [_shown(call, state, Algo.of_view(row)) for row in rows]
