"""Orders, conditional orders and user-stream events as the dialect writes them.

Reads   what gateways/http/orders.py keeps, in integers.
Writes  plain values for JSON: prices, quantities and money as text, ids and times as integers.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateways.http.decimals import rounded
from gateways.http.orders import (
    ALGO_TYPES,
    LEGS,
    SIDES,
    STPS,
    TIF_WORDS,
    TYPES,
    WORKINGS,
    AccountState,
    Algo,
    AlgoHappening,
    Happening,
    Leg,
    Order,
    Turn,
)
from gateways.http.venue import Symbol, Venue
from gateways.scales import decimal_text
from shm.codes import AlgoType, Kind, Reason, Type
from shm.units import PPM

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode
_BOOLS: Final = ("false", "true")
_MARKET, _LIQUIDATION = int(Type.MARKET), int(Kind.LIQUIDATION_ORDER)
# Why an order expired, as `er` of ORDER_TRADE_UPDATE (fapi_surface 5.6).
_EXPIRY: Final[dict[int, str]] = {
    Reason.SELF_TRADE: "1",
    Reason.IOC_REMAINDER: "2",
    Reason.FLIP: "4",
    Reason.POSITION_CLOSED: "4",
    Reason.LIQUIDATION: "5",
    Reason.ADL: "5",
    Reason.DELISTED: "7",
    Reason.MARKET_REMAINDER: "9",
}
ALGO_STATUS: Final = {"NEW": "NEW", "TRIGGERED": "TRIGGERED"}


def stop_price(order: Order | Algo, symbol: Symbol) -> str:
    return symbol.scale.price(order.trigger_ticks) if order.trigger_ticks else "0"


def callback_rate(ppm: int) -> str:
    """A callback in per cent, as clients send it."""
    text = f"{ppm // 10_000}.{ppm % 10_000:04d}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def order_json(order: Order, symbol: Symbol, *, accepted_only: bool = False) -> Json:
    """An order as POST, PUT and DELETE answer it.

    accepted_only   as it was taken, whatever happened at once (newOrderRespType=ACK)
    """
    scale = symbol.scale
    executed = 0 if accepted_only else order.executed_lots
    quote = 0 if accepted_only else order.quote
    found: Json = {
        "orderId": order.order_id,
        "symbol": symbol.name,
        "status": "NEW" if accepted_only else order.status_word,
        "clientOrderId": order.client_id,
        "price": scale.price(order.shown_price_ticks),
        "avgPrice": scale.average(quote, executed),
        "origQty": scale.qty(order.qty_lots),
        "executedQty": scale.qty(executed),
        "cumQty": scale.qty(executed),
        "cumQuote": scale.quote(quote),
        "timeInForce": TIF_WORDS[order.tif],
        "type": order.type_word,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": SIDES[order.side],
        "positionSide": LEGS[order.leg],
        "stopPrice": stop_price(order, symbol),
        "workingType": WORKINGS[order.working],
        "priceProtect": order.protect,
        "origType": order.original_type,
        "priceMatch": order.price_match,
        "selfTradePreventionMode": STPS[order.stp],
        "goodTillDate": order.expire_ms,
        "updateTime": order.updated_ms,
    }
    if order.algo_type == AlgoType.TRAILING_STOP_MARKET and order.algo_id:
        found["activatePrice"] = scale.price(order.activate_ticks)
        found["priceRate"] = callback_rate(order.callback_ppm)
    return found


def order_text(order: Order, symbol: Symbol, *, accepted_only: bool = False) -> msgspec.Raw:
    """`order_json` as JSON, for the answers that there are most of.

    Filled into a text at a third of what making and encoding a dict costs; what comes from outside,
    the names, is encoded.
    """
    if order.algo_id or order.cause == _LIQUIDATION:
        return msgspec.Raw(_encode(order_json(order, symbol, accepted_only=accepted_only)))
    scale = symbol.scale
    executed = 0 if accepted_only else order.qty_lots - order.open_lots
    paid = 0 if accepted_only else order.quote
    if executed or paid:
        done, average = scale.qty(executed), scale.average(paid, executed)
        quote = scale.quote(paid)
    else:
        average, done, quote = symbol.nothing_done
    kind = order.type
    price = scale.price(0 if kind == _MARKET else order.price_ticks)
    return msgspec.Raw(
        f'{{"orderId":{order.order_id},"symbol":{symbol.quoted},'
        f'"status":"{"NEW" if accepted_only else order.status_word}",'
        f'"clientOrderId":{_encode(order.client_id).decode()},"price":"{price}",'
        f'"avgPrice":"{average}","origQty":"{scale.qty(order.qty_lots)}","executedQty":"{done}",'
        f'"cumQty":"{done}","cumQuote":"{quote}","timeInForce":"{TIF_WORDS[order.tif]}",'
        f'"type":"{TYPES[kind]}","reduceOnly":{_BOOLS[order.reduce_only]},'
        f'"closePosition":{_BOOLS[order.close_position]},"side":"{SIDES[order.side]}",'
        f'"positionSide":"{LEGS[order.leg]}","stopPrice":"{stop_price(order, symbol)}",'
        f'"workingType":"{WORKINGS[order.working]}","priceProtect":{_BOOLS[order.protect]},'
        f'"origType":"{TYPES[kind]}","priceMatch":"{order.price_match}",'
        f'"selfTradePreventionMode":"{STPS[order.stp]}","goodTillDate":{order.expire_ms},'
        f'"updateTime":{order.updated_ms}}}'.encode()
    )


def query_json(order: Order, symbol: Symbol) -> Json:
    """An order as the queries answer it: with its time, without cumQty."""
    found = order_json(order, symbol)
    del found["cumQty"]
    found["time"] = order.created_ms
    return found


def algo_json(algo: Algo, symbol: Symbol) -> Json:
    """A conditional order as POST answers it; what only trailing ones have is null of others."""
    scale = symbol.scale
    trailing = algo.type == AlgoType.TRAILING_STOP_MARKET
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "algoType": "CONDITIONAL",
        "orderType": ALGO_TYPES[algo.type],
        "symbol": symbol.name,
        "side": SIDES[algo.side],
        "positionSide": LEGS[algo.leg],
        "timeInForce": TIF_WORDS[algo.tif],
        "quantity": scale.qty(algo.qty_lots),
        "algoStatus": algo.status_word,
        "triggerPrice": stop_price(algo, symbol),
        "price": scale.price(algo.price_ticks),
        "icebergQuantity": None,
        "selfTradePreventionMode": STPS[algo.stp],
        "workingType": WORKINGS[algo.working],
        "priceMatch": algo.price_match,
        "closePosition": algo.close_position,
        "priceProtect": algo.protect,
        "reduceOnly": algo.reduce_only,
        "activatePrice": scale.price(algo.activate_ticks) if trailing else None,
        "callbackRate": callback_rate(algo.callback_ppm) if trailing else None,
        "createTime": algo.created_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": algo.expire_ms,
    }


def algo_query_json(algo: Algo, symbol: Symbol, order: Order | None) -> Json:
    """A conditional order as the queries answer it; `order`: what it became, where known."""
    scale = symbol.scale
    return {
        **algo_json(algo, symbol),
        "actualOrderId": str(algo.order_id) if algo.order_id else "",
        "actualPrice": scale.average(order.quote, order.executed_lots) if order else "0.00000",
        "actualType": order.type_word if order else "",
        "actualQty": scale.qty(order.executed_lots) if order else "0",
        "tpTriggerPrice": "0.000",
        "tpPrice": "0.000",
        "slTriggerPrice": "0.000",
        "slPrice": "0.000",
        "tpOrderType": "",
    }


def algo_as_order_json(algo: Algo, symbol: Symbol) -> Json:
    """A conditional order as the classic order endpoint shows it."""
    scale = symbol.scale
    zero = scale.qty(0)
    found: Json = {
        "orderId": algo.algo_id,
        "symbol": symbol.name,
        "status": {"TRIGGERED": "FILLED"}.get(algo.status_word, algo.status_word),
        "clientOrderId": algo.client_id,
        "price": scale.price(algo.price_ticks),
        "avgPrice": scale.price(0),
        "origQty": scale.qty(algo.qty_lots),
        "executedQty": zero,
        "cumQty": zero,
        "cumQuote": scale.quote(0),
        "timeInForce": TIF_WORDS[algo.tif],
        "type": ALGO_TYPES[algo.type],
        "reduceOnly": algo.reduce_only,
        "closePosition": algo.close_position,
        "side": SIDES[algo.side],
        "positionSide": LEGS[algo.leg],
        "stopPrice": stop_price(algo, symbol),
        "workingType": WORKINGS[algo.working],
        "priceProtect": algo.protect,
        "origType": ALGO_TYPES[algo.type],
        "priceMatch": algo.price_match,
        "selfTradePreventionMode": STPS[algo.stp],
        "goodTillDate": algo.expire_ms,
        "time": algo.created_ms,
        "updateTime": algo.updated_ms,
    }
    if algo.type == AlgoType.TRAILING_STOP_MARKET:
        found["activatePrice"] = scale.price(algo.activate_ticks)
        found["priceRate"] = callback_rate(algo.callback_ppm)
    return found


# ---------------------------------------------------------------- the user stream


def events(state: AccountState, turn: Turn, venue: Venue, marks: dict[int, int]) -> list[Json]:
    """Everything one command did to one account, in the order clients expect it."""
    found: list[Json] = []
    for happening in turn.happenings:
        symbol_index = (
            happening.algo.symbol
            if isinstance(happening, AlgoHappening)
            else happening.order.symbol
        )
        symbol = venue.at(symbol_index)
        if isinstance(happening, AlgoHappening):
            if not happening.algo.classic:
                found.append(_algo_update(happening, symbol, turn.ts_ms))
            elif happening.status in _AS_ORDER:
                found.append(_classic_update(happening, symbol, turn.ts_ms))
            continue
        found.append(_order_update(happening, symbol, turn.ts_ms))
        if happening.what == "TRADE":
            found.append(_trade_lite(happening, symbol, turn.ts_ms))
    if turn.cause and (turn.wallets or turn.legs):
        found.append(_account_update(state, turn, venue, marks))
    if turn.leverage is not None:
        symbol = venue.at(turn.leverage[0])
        found.append(
            {
                "e": "ACCOUNT_CONFIG_UPDATE",
                "E": turn.ts_ms,
                "T": turn.ts_ms,
                "ac": {"s": symbol.name, "l": turn.leverage[1]},
            }
        )
    found += [_margin_call(report, venue, turn.ts_ms) for report in turn.warnings]
    return found


def _order_update(h: Happening, symbol: Symbol, ts_ms: int) -> Json:
    order, scale = h.order, symbol.scale
    detail: Json = {
        "s": symbol.name,
        "c": order.client_id,
        "S": SIDES[order.side],
        "o": order.type_word,
        "f": TIF_WORDS[order.tif],
        "q": scale.qty(order.qty_lots),
        "p": scale.price(order.shown_price_ticks),
        "ap": scale.average(h.quote, h.executed_lots),
        "sp": stop_price(order, symbol),
        "x": h.what,
        "X": h.status,
        "i": order.order_id,
        "l": scale.qty(h.lots),
        "z": scale.qty(h.executed_lots),
        "L": scale.price(h.price_ticks),
        "n": scale.money(h.fee_quanta) if h.lots else "0",
        "N": symbol.asset,
        "T": ts_ms,
        "t": abs(h.trade_id),
        "b": "0",
        "a": "0",
        "m": h.maker and h.lots > 0,
        "R": order.reduce_only,
        "wt": WORKINGS[order.working],
        "ot": order.original_type,
        "ps": LEGS[order.leg],
        "cp": order.close_position,
        "rp": scale.money(h.realised_quanta) if h.lots else "0",
        "pP": order.protect,
        "si": 0,
        "ss": 0,
        "V": STPS[order.stp],
        "pm": order.price_match,
        "gtd": order.expire_ms,
        "er": _EXPIRY.get(order.reason, "0") if h.what == "EXPIRED" else "0",
    }
    if order.algo_id and order.algo_type == AlgoType.TRAILING_STOP_MARKET:
        detail["AP"] = scale.price(order.activate_ticks)
        detail["cr"] = callback_rate(order.callback_ppm)
    return {"e": "ORDER_TRADE_UPDATE", "E": ts_ms, "T": ts_ms, "o": detail}


# What becomes of a conditional order, to a client for which it is an order. Of one triggered
# it hears when the order that it has become opens, under the same client id.
_AS_ORDER: Final = {
    "NEW": ("NEW", "0"),
    "CANCELED": ("CANCELED", "0"),
    "EXPIRED": ("EXPIRED", "6"),
    "REJECTED": ("EXPIRED", "8"),
}


def _classic_update(h: AlgoHappening, symbol: Symbol, ts_ms: int) -> Json:
    """A conditional order that came through the order path, told as one."""
    algo, scale = h.algo, symbol.scale
    status, why = _AS_ORDER[h.status]
    detail: Json = {
        "s": symbol.name,
        "c": algo.client_id,
        "S": SIDES[algo.side],
        "o": ALGO_TYPES[algo.type],
        "f": TIF_WORDS[algo.tif],
        "q": scale.qty(algo.qty_lots),
        "p": scale.price(algo.price_ticks),
        "ap": "0",
        "sp": stop_price(algo, symbol),
        "x": status,
        "X": status,
        "i": algo.algo_id,
        "l": scale.qty(0),
        "z": scale.qty(0),
        "L": scale.price(0),
        "n": "0",
        "N": symbol.asset,
        "T": ts_ms,
        "t": 0,
        "b": "0",
        "a": "0",
        "m": False,
        "R": algo.reduce_only,
        "wt": WORKINGS[algo.working],
        "ot": ALGO_TYPES[algo.type],
        "ps": LEGS[algo.leg],
        "cp": algo.close_position,
        "rp": "0",
        "pP": algo.protect,
        "si": 0,
        "ss": 0,
        "V": STPS[algo.stp],
        "pm": algo.price_match,
        "gtd": algo.expire_ms,
        "er": why,
    }
    if algo.type == AlgoType.TRAILING_STOP_MARKET:
        detail["AP"] = scale.price(algo.activate_ticks)
        detail["cr"] = callback_rate(algo.callback_ppm)
    return {"e": "ORDER_TRADE_UPDATE", "E": ts_ms, "T": ts_ms, "o": detail}


def _trade_lite(h: Happening, symbol: Symbol, ts_ms: int) -> Json:
    order, scale = h.order, symbol.scale
    return {
        "e": "TRADE_LITE",
        "E": ts_ms,
        "T": ts_ms,
        "s": symbol.name,
        "q": scale.qty(order.qty_lots),
        "p": scale.price(order.shown_price_ticks),
        "m": h.maker,
        "c": order.client_id,
        "S": SIDES[order.side],
        "L": scale.price(h.price_ticks),
        "l": scale.qty(h.lots),
        "t": abs(h.trade_id),
        "i": order.order_id,
    }


def entry_price(leg: Leg, symbol: Symbol) -> str:
    """Average entry, with two decimals more than the price has."""
    return quotient_price(leg.entry_quanta, leg.lots, symbol)


def quotient_price(quanta: int, lots: int, symbol: Symbol) -> str:
    """A price out of exact cost and size, towards zero."""
    scale = symbol.scale
    denominator = lots * scale.tick_lot_quanta
    return rounded(quanta * scale.price_unit, denominator * 10**scale.price_decimals, 8)


def break_even(leg: Leg, symbol: Symbol) -> str:
    """Where closing would win back what was paid; fees of opening included."""
    return quotient_price(leg.entry_quanta + leg.sunk_quanta, leg.lots, symbol)


def unrealised_quanta(lots: int, entry_quanta: int, symbol: Symbol, mark_ticks: int) -> int:
    """Profit at the mark; 0 before the first."""
    if not lots or not mark_ticks:
        return 0
    return lots * mark_ticks * symbol.scale.tick_lot_quanta - entry_quanta


def _account_update(state: AccountState, turn: Turn, venue: Venue, marks: dict[int, int]) -> Json:
    balances = []
    for asset, change in turn.wallets.items():
        row = venue.assets[asset]
        isolated = sum(
            leg.isolated_quanta
            for (symbol, _), leg in state.legs.items()
            if leg.isolated and state.asset_of(symbol) == asset
        )
        cross = state.wallets.get(asset, 0)
        balances.append(
            {
                "a": row["name"],
                "wb": decimal_text(cross + isolated, row["scale"]),
                "cw": decimal_text(cross, row["scale"]),
                "bc": decimal_text(change, row["scale"]),
            }
        )
    positions = []
    for symbol_index, side in sorted(turn.legs):
        symbol, leg = venue.at(symbol_index), state.leg(symbol_index, side)
        mark = marks.get(symbol_index, 0)
        unrealised = unrealised_quanta(leg.lots, leg.entry_quanta, symbol, mark)
        positions.append(
            {
                "s": symbol.name,
                "pa": symbol.scale.qty(leg.lots),
                "ep": entry_price(leg, symbol),
                "bep": break_even(leg, symbol),
                "cr": symbol.scale.money(leg.realised_quanta),
                "up": symbol.scale.money(unrealised),
                "mt": "isolated" if leg.isolated else "cross",
                "iw": symbol.scale.money(leg.isolated_quanta),
                "ps": LEGS[side],
                "ma": symbol.asset,
            }
        )
    return {
        "e": "ACCOUNT_UPDATE",
        "E": turn.ts_ms,
        "T": turn.ts_ms,
        "a": {"m": turn.cause, "B": balances, "P": positions},
    }


def _algo_update(h: AlgoHappening, symbol: Symbol, ts_ms: int) -> Json:
    algo, scale = h.algo, symbol.scale
    trailing = algo.type == AlgoType.TRAILING_STOP_MARKET
    detail: Json = {
        "caid": algo.client_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": ALGO_TYPES[algo.type],
        "s": symbol.name,
        "S": SIDES[algo.side],
        "ps": LEGS[algo.leg],
        "f": TIF_WORDS[algo.tif],
        "q": scale.qty(algo.qty_lots),
        "X": h.status,
        "ai": str(algo.order_id) if algo.order_id else "",
        "ap": "0",
        "aq": "0",
        "act": "0",
        "tp": stop_price(algo, symbol),
        "p": scale.price(algo.price_ticks),
        "V": STPS[algo.stp],
        "wt": WORKINGS[algo.working],
        "pm": algo.price_match,
        "cp": algo.close_position,
        "pP": algo.protect,
        "R": algo.reduce_only,
        "tt": algo.triggered_ms,
        "gtd": algo.expire_ms,
        "rm": Reason(algo.reason).name if algo.reason and h.status == "REJECTED" else "",
    }
    if trailing:
        detail["AP"] = scale.price(algo.activate_ticks)
        detail["cr"] = callback_rate(algo.callback_ppm)
    return {"e": "ALGO_UPDATE", "T": ts_ms, "E": ts_ms, "o": detail}


def _margin_call(report: tuple[int, ...], venue: Venue, ts_ms: int) -> Json:
    _, _, symbol_index, _, _, equity, maintenance, wallet, mark, lots, scope = report
    asset = venue.assets[scope & 0xFFFF]
    event: Json = {
        "e": "MARGIN_CALL",
        "E": ts_ms,
        "cw": decimal_text(wallet, asset["scale"]),
        "p": [],
    }
    if symbol_index in venue.by_index:
        symbol = venue.at(symbol_index)
        isolated = bool((scope >> 24) & 1)
        event["p"].append(
            {
                "s": symbol.name,
                "ps": LEGS[(scope >> 16) & 3],
                "pa": symbol.scale.qty(lots),
                "mt": "ISOLATED" if isolated else "CROSSED",
                "iw": symbol.scale.money(wallet if isolated else 0),
                "mp": symbol.scale.price(mark),
                "up": symbol.scale.money(equity - wallet),
                "mm": symbol.scale.money(maintenance),
            }
        )
    return event


def type_of(word: str) -> int:
    """LIMIT or MARKET as a code."""
    return int(Type[word])


__all__ = ["PPM", "TYPES", "events", "order_json", "query_json"]
