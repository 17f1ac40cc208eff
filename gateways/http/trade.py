"""Orders: from typed parameters to a command, and from its reports to the reply.

Reads   the account as this gateway follows it, for orders by client id and what they were.
Writes  PLACE, AMEND, CANCEL, CANCEL_ALL, COUNTDOWN.

Order of checks as in fapi_surface 4: parameters, symbol, combination of type and time in force,
price and lot filters; the rest is the engine's, in the order of codes.Reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from gateways.http import algos
from gateways.http.desk import Sink
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
from gateways.http.orders import AccountState, Algo, Order, byte
from gateways.http.params import CANCEL_PARAMS, MODIFY_PARAMS, ORDER_PARAMS
from gateways.http.rows import Ask
from gateways.http.schema import Param, Raw, Values, parse
from gateways.http.shapes import Json, algo_as_order_json, order_json, order_text, query_json
from gateways.http.venue import Symbol
from shm.codes import Flag, Kind, Reason, Side, Status, Stp, Tif, Type

_REFUSED_BY_BOOK: Final = frozenset(
    (int(Reason.WOULD_TAKE), int(Reason.FOK_UNFILLED), int(Reason.BOOK_FULL))
)


# Members by name, and those that every order is compared with: a member of an enumeration costs
# four times a name of the module, a lookup by its name ten times one in a dict.
_MARKET: Final = Type.MARKET
_IOC, _AT_ONCE_OR_MAKER = Tif.IOC, frozenset((Tif.FOK, Tif.GTX))
_PLACE, _PLAIN_FLAGS, _REDUCE_ONLY = Kind.PLACE, Flag.NONE, Flag.REDUCE_ONLY
_REJECTED: Final = int(Status.REJECTED)
_TYPES: Final = dict(Type.__members__)
_SIDES: Final = dict(Side.__members__)
_TIFS: Final = dict(Tif.__members__)
_STPS: Final = dict(Stp.__members__)

# A command on its way: its answer, or its refusal.
Handed = asyncio.Future[Json] | asyncio.Future[Json | msgspec.Raw]

# ---------------------------------------------------------------- new orders


async def place(call: Call) -> Json | msgspec.Raw:
    """POST /fapi/v1/order."""
    state = await call.gate.trading_state(call.account)
    return await (await _place(call, state, "EXPIRE_MAKER"))


async def test(call: Call) -> Json:
    """POST /fapi/v1/order/test: everything is checked that can be without the book."""
    v = call.values
    if v["type"] in algos.TYPES:
        return algos.test_classic(call)
    state = await call.gate.state(call.account)
    symbol = call.symbol()
    matched = await matched_ticks(call, symbol) if v["priceMatch"] is not None else None
    ask = order_ask(call, state, symbol, "NONE", matched)
    order = Order(0, symbol.index)
    order.client_id, order.side, order.type, order.tif = ask.name, ask.side, ask.type, ask.tif
    order.price_ticks, order.qty_lots = ask.words[1], ask.words[2]
    order.open_lots = order.qty_lots
    order.reduce_only, order.leg, order.stp = bool(ask.flags & 1), ask.position_side, ask.stp
    order.expire_ms = ask.more[0] // 1_000_000
    order.price_match = v["priceMatch"] or "NONE"
    order.updated_ms = call.now_ms
    return order_json(order, symbol)


def place_at_once(call: Call, into: Sink) -> bool:
    """Hand an order over without waiting for anything; False: something has to be waited for.

    into        hears what became of it
    """
    state = call.gate.accounts.followed(call.account)
    if state is None or not _plain(call.values):
        return False
    _hand_over(call, state, "EXPIRE_MAKER", into=into)
    return True


def _plain(v: Values) -> bool:
    """Whether an order waits for no trigger and no price of the book."""
    return v["type"] in _TYPES and v["priceMatch"] is None


async def _place(call: Call, state: AccountState, stp: str) -> Handed:
    v = call.values
    if v["type"] in algos.TYPES:
        return await algos.hand_classic(call, state)
    if _plain(v):
        return _hand_over(call, state, stp)
    return _hand_over(call, state, stp, await matched_ticks(call, call.symbol()))


def _hand_over(
    call: Call, state: AccountState, stp: str, matched: int | None = None, into: Sink | None = None
) -> Handed:
    v, symbol = call.values, call.symbol()
    ask = order_ask(call, state, symbol, stp, matched)
    accepted_only = v["newOrderRespType"] != "RESULT"

    price_match, price_ticks = v["priceMatch"], ask.words[1]
    expire_ms = ask.more[0] // 1_000_000

    def render(report: tuple[int, ...]) -> msgspec.Raw:
        status, reason = report[4], (report[10] >> 32) & 255
        if status == _REJECTED or reason in _REFUSED_BY_BOOK:
            raise order_refusal(reason, Kind.PLACE, price_ticks, symbol)
        order = state.orders.get(report[7]) or state.find(report[7], None) or _blind(report, ask)
        if price_match:
            order.price_match = price_match
        if expire_ms:  # no report says it
            order.expire_ms = expire_ms
        return order_text(order, symbol, accepted_only=accepted_only)

    return call.gate.desk.ask(ask, render, into)


def _blind(report: tuple[int, ...], ask: Ask) -> Order:
    """An order whose account this gateway doesn't follow: as its answer told."""
    order = Order(report[7], report[2])
    codes = report[10]
    order.side, order.type, order.tif = byte(codes, 0), byte(codes, 1), byte(codes, 2)
    order.reduce_only = bool(byte(codes, 3) & 1)
    order.leg, order.stp, order.reason = byte(codes, 5), byte(codes, 6), byte(codes, 4)
    order.client_id, order.price_ticks = ask.name, report[8]
    order.qty_lots, order.open_lots = ask.words[2] or report[9], report[9]
    order.status = report[4] if report[4] <= Status.REJECTED else int(Status.NEW)
    order.created_ms = order.updated_ms = report[5] // 1_000_000
    return order


async def matched_ticks(call: Call, symbol: Symbol) -> int:
    """The price that an order leaves to the book, once all is right that is looked at before."""
    v = call.values
    _, side, _ = _terms_of(v)
    return await matched_price(call, symbol, side, v["priceMatch"])


def order_ask(
    call: Call, state: AccountState, symbol: Symbol, stp: str, matched: int | None = None
) -> Ask:
    """A LIMIT or MARKET order as a command; ApiError for the first thing that is wrong.

    matched     its price in ticks where the book says it (`matched_ticks`)
    """
    v = call.values
    kind, side, tif = _terms_of(v)
    price_ticks = 0
    if matched is not None:
        price_ticks = matched
    elif kind != _MARKET:
        price_ticks = symbol.price_ticks(v["price"])
    expire_ns = expire_of(call, v, tif)
    lots = symbol.qty_lots(v["quantity"])
    leg = leg_of(v, state)
    flags = _REDUCE_ONLY if reduce_only_of(v, state) else _PLAIN_FLAGS
    mode = v["selfTradePreventionMode"] or stp
    if tif in _AT_ONCE_OR_MAKER:
        mode = "NONE"
    return Ask(
        _PLACE,
        call.account,
        call.origin(),
        symbol.index,
        (0, price_ticks, lots),
        side,
        kind,
        tif,
        flags,
        _STPS[mode],
        leg,
        v["newClientOrderId"] or new_client_id(),
        (expire_ns, 0, 0),
    )


def _terms_of(v: Values) -> tuple[Type, Side, Tif]:
    """Type, side and time in force, when what they ask for beside them is there."""
    kind, side = _TYPES[v["type"]], _SIDES[v["side"]]
    tif = tif_of(v, kind)
    if v["closePosition"]:
        raise ApiError(-4136)
    if v["quantity"] is None:
        raise ApiError(-1102, "quantity")
    if kind == _MARKET:
        if v["price"] is not None:
            raise ApiError(-1106, "price")
        if v["priceMatch"] is not None:
            raise ApiError(-5038)
    elif v["priceMatch"] is not None:
        if v["price"] is not None:
            raise ApiError(-1106, "price")
    elif v["price"] is None:
        raise ApiError(-1102, "price")
    return kind, side, tif


def tif_of(v: Values, kind: Type) -> Tif:
    """Time in force: a LIMIT order names one, a MARKET order has none."""
    word = v["timeInForce"]
    if kind == _MARKET:
        if word is not None and word not in ("GTC", "IOC"):
            raise ApiError(-1114)
        return _IOC
    if word is None:
        raise ApiError(-1102, "timeInForce")
    return _TIFS[word]


# ---------------------------------------------------------------- changing and cancelling


async def modify(call: Call) -> Json | msgspec.Raw:
    """PUT /fapi/v1/order."""
    return await (await _modify(call, await call.gate.state(call.account)))


async def _modify(call: Call, state: AccountState) -> Handed:
    v, symbol = call.values, call.symbol()
    order = await call.gate.found(lambda: _named(v, state))
    if order is None or order.symbol != symbol.index or order.ended:
        raise ApiError(-2013)
    if order.type != Type.LIMIT:
        raise ApiError(-5025)
    if Side[v["side"]] != order.side:
        raise ApiError(-1117)
    if v["priceMatch"] is not None:
        price_ticks = await matched_price(call, symbol, Side(order.side), v["priceMatch"])
    elif v["price"] is not None:
        price_ticks = symbol.price_ticks(v["price"])
    else:
        raise ApiError(-1102, "price")
    lots = symbol.qty_lots(v["quantity"])
    if price_ticks == order.price_ticks and lots == order.qty_lots:
        raise ApiError(-5027)
    ask = Ask(
        kind=Kind.AMEND,
        account=call.account,
        origin=call.origin(),
        symbol=symbol.index,
        words=(order.order_id, price_ticks, lots),
        side=order.side,
        flags=Flag.TO_BACK,
    )

    def render(report: tuple[int, ...]) -> Json:
        if report[4] in (Status.REFUSED, Status.REJECTED):
            raise order_refusal(byte(report[10], 4), Kind.AMEND, price_ticks, symbol)
        changed = state.find(report[7], None) or _blind(report, ask)
        return {**order_json(changed, symbol), "pair": symbol.name}

    return call.gate.desk.ask(ask, render)


def _named(v: Mapping[str, Any], state: AccountState) -> Order | None:
    """The order meant; one of both names must be there, and orderId wins."""
    if v["orderId"] is None and v["origClientOrderId"] is None:
        raise ApiError(
            -1102,
            message="Param 'origClientOrderId' or 'orderId' must be sent, both were empty!",
        )
    return state.find(v["orderId"], v["origClientOrderId"])


async def cancel(call: Call) -> Json | msgspec.Raw:
    """DELETE /fapi/v1/order."""
    return await (await _cancel(call, await call.gate.trading_state(call.account)))


async def _cancel(call: Call, state: AccountState) -> Handed:
    v, symbol = call.values, call.symbol()
    order = await call.gate.found(lambda: _named(v, state))
    if order is None:
        algo = state.find_algo(v["orderId"], v["origClientOrderId"])
        if algo is not None and algo.symbol == symbol.index:
            return algos.hand_cancel(call, state, algo, lambda: algo_as_order_json(algo, symbol))
        if not v["orderId"] and not v["origClientOrderId"]:  # orderId=0 names nothing
            raise ApiError(-2011)
    ask = Ask(
        kind=Kind.CANCEL,
        account=call.account,
        origin=call.origin(),
        symbol=symbol.index,
        words=(order.order_id if order else v["orderId"] or 0, 0, 0),
        name="" if order or v["orderId"] else v["origClientOrderId"],
    )

    def render(report: tuple[int, ...]) -> msgspec.Raw:
        if report[4] in (Status.REFUSED, Status.REJECTED):
            raise refusal(byte(report[10], 4), Kind.CANCEL)
        return order_text(state.find(report[7], None) or _blind(report, ask), symbol)

    return call.gate.desk.ask(ask, render)


async def cancel_all(call: Call) -> Json:
    """DELETE /fapi/v1/allOpenOrders; conditional ones that came as orders count as such."""
    symbol = call.symbol()
    await answered(call, Kind.CANCEL_ALL, symbol.index)
    state = await call.gate.trading_state(call.account)
    for part, algo in enumerate(_classic(call, state, symbol.index), 1):
        with suppress(ApiError):  # it has ended meanwhile
            await algos.hand_cancel(call.of(call.values, part), state, algo, dict)
    return dict(CANCEL_ALL_DONE)


def _classic(call: Call, state: AccountState, symbol: int | None) -> list[Algo]:
    """Waiting conditional orders that came through the order path."""
    accounts = call.gate.accounts
    return [
        algo
        for algo in tuple(state.algos.values())
        if symbol in (None, algo.symbol) and accounts.is_classic(state, algo)
    ]


async def countdown(call: Call) -> Json:
    """POST /fapi/v1/countdownCancelAll."""
    symbol, wait_ms = call.symbol(), call.values["countdownTime"]
    await answered(call, Kind.COUNTDOWN, symbol.index, wait_ms * 1_000_000)
    return {"symbol": symbol.name, "countdownTime": str(wait_ms)}


# ---------------------------------------------------------------- several at once


async def _each(
    call: Call,
    params: tuple[Param, ...],
    every: list[dict[str, Raw]],
    hand: Callable[[Call], Awaitable[Handed]],
) -> list[Json | msgspec.Raw]:
    """Hand all of them over, then wait for all; what fails says so in its place, and in the log."""
    handed: list[Handed | ApiError] = []
    for part, sent in enumerate(every):
        try:
            handed.append(await hand(call.of(parse(params, sent), part)))
        except ApiError as error:
            handed.append(error)
    found: list[Json | msgspec.Raw] = []
    for part, one in enumerate(handed):
        try:
            if isinstance(one, ApiError):
                raise one
            found.append(await one)
        except ApiError as error:
            call.gate.refusals.note(error, call.trace, f"batchOrders {part}", "", call.account)
            found.append(error.body)
    return found


async def place_batch(call: Call) -> list[Json | msgspec.Raw]:
    """POST /fapi/v1/batchOrders."""
    state = await call.gate.trading_state(call.account)
    every = call.values["batchOrders"]
    return await _each(call, ORDER_PARAMS, every, lambda one: _place(one, state, "NONE"))


async def modify_batch(call: Call) -> list[Json | msgspec.Raw]:
    """PUT /fapi/v1/batchOrders."""
    state = await call.gate.state(call.account)
    every = call.values["batchOrders"]
    return await _each(call, MODIFY_PARAMS, every, lambda one: _modify(one, state))


async def cancel_batch(call: Call) -> list[Json | msgspec.Raw]:
    """DELETE /fapi/v1/batchOrders."""
    v = call.values
    call.symbol()
    ids, names = v["orderIdList"], v["origClientOrderIdList"]
    if not ids and not names:
        raise ApiError(-1102, "orderIdList")
    wanted: list[dict[str, Raw]] = (
        [{"symbol": v["symbol"], "orderId": i} for i in ids]
        if ids
        else [{"symbol": v["symbol"], "origClientOrderId": n} for n in names]
    )
    if len(wanted) > 10:
        raise ApiError(-4082)
    state = await call.gate.trading_state(call.account)
    return await _each(call, CANCEL_PARAMS, wanted, lambda one: _cancel(one, state))


# ---------------------------------------------------------------- looking


async def query(call: Call) -> Json:
    """GET /fapi/v1/order: open, or ended however long ago history goes back."""
    return await _query(call, open_only=False)


async def query_open(call: Call) -> Json:
    """GET /fapi/v1/openOrder."""
    return await _query(call, open_only=True)


async def _query(call: Call, *, open_only: bool) -> Json:
    v, symbol = call.values, call.symbol()
    state = await call.gate.state(call.account)
    await call.gate.desk.caught_up()
    order = _named(v, state)
    if order is None:
        algo = state.find_algo(v["orderId"], v["origClientOrderId"])
        if algo is not None and algo.symbol == symbol.index:
            order = state.find(algo.order_id, None)  # what it has become, if so
            if order is None and not (open_only and algo.algo_id not in state.algos):
                return algo_as_order_json(algo, symbol)
    if order is None and not open_only:
        row = await call.gate.history(
            "order",
            call.account,
            order_id=v["orderId"] or 0,
            client_id=v["origClientOrderId"] or "",
        )
        order = Order.of_view(row) if row else None
    if order is None or order.symbol != symbol.index or (open_only and order.ended):
        raise ApiError(-2013)
    return query_json(order, symbol)


async def open_orders(call: Call) -> list[Json]:
    """GET /fapi/v1/openOrders."""
    wanted = call.symbol_index()
    state = await call.gate.state(call.account)
    await call.gate.desk.caught_up()
    venue = call.gate.venue
    found = [
        query_json(order, venue.at(order.symbol))
        for order in state.orders.values()
        if wanted is None or order.symbol == wanted
    ]
    found += [
        algo_as_order_json(algo, venue.at(algo.symbol)) for algo in _classic(call, state, wanted)
    ]
    return found


async def all_orders(call: Call) -> list[Json]:
    """GET /fapi/v1/allOrders."""
    v, symbol = call.values, call.symbol()
    window = {"start_ms": v["startTime"], "end_ms": v["endTime"], "limit": v["limit"]}
    rows = await call.gate.history(
        "orders", call.account, symbol.index, order_id=v["orderId"], **window
    )
    found = [query_json(Order.of_view(row), symbol) for row in rows]
    waited = await call.gate.history(
        "algos", call.account, symbol.index, algo_id=v["orderId"], **window
    )
    found += [
        algo_as_order_json(Algo.of_view(row), symbol)
        for row in waited
        if not row["order_id"] and call.gate.classic.has(call.account, row["client_id"])
    ]
    if len(found) > len(rows):
        found.sort(key=lambda order: order["orderId"])
        oldest = v["orderId"] is not None or v["startTime"] is not None
        found = found[: v["limit"]] if oldest else found[-v["limit"] :]
    return found
