"""Settings of an account: leverage, margin type, position mode, isolated margin.

Writes  LEVERAGE, MARGIN_TYPE, POSITION_MODE, POSITION_MARGIN.
"""

from __future__ import annotations

from typing import Final

from gateways.http.errors import ApiError
from gateways.http.gate import Call
from gateways.http.ordering import answered
from gateways.http.portfolio import notional_allowed, whole
from gateways.http.shapes import Json
from shm.codes import Kind, MarginType, PositionMode, PositionSide
from shm.records import NO_SYMBOL

DONE: Final = {"code": 200, "msg": "success"}


async def leverage(call: Call) -> Json:
    """POST /fapi/v1/leverage."""
    symbol, value = call.symbol(), call.values["leverage"]
    if value > symbol.row["leverage_max"]:
        raise ApiError(-4028, value)
    await answered(call, Kind.LEVERAGE, symbol.index, value)
    allowed = notional_allowed(call.gate.view().brackets(symbol.index), value)
    return {
        "leverage": value,
        "maxNotionalValue": whole(allowed, symbol),
        "symbol": symbol.name,
    }


async def margin_type(call: Call) -> Json:
    """POST /fapi/v1/marginType."""
    isolated = call.values["marginType"] == "ISOLATED"
    value = MarginType.ISOLATED if isolated else MarginType.CROSS
    await answered(call, Kind.MARGIN_TYPE, call.symbol().index, value)
    return dict(DONE)


async def position_mode(call: Call) -> Json:
    """POST /fapi/v1/positionSide/dual."""
    value = PositionMode.HEDGE if call.values["dualSidePosition"] else PositionMode.ONE_WAY
    await answered(call, Kind.POSITION_MODE, NO_SYMBOL, value)
    return dict(DONE)


async def multi_assets(call: Call) -> Json:
    """POST /fapi/v1/multiAssetsMargin: off is how it is, on is not supported."""
    raise ApiError(-1020 if call.values["multiAssetsMargin"] else -4171)


async def fee_burn(call: Call) -> Json:
    """POST /fapi/v1/feeBurn: there is no discount token."""
    if call.values["feeBurn"]:
        raise ApiError(-1020)
    return dict(DONE)


async def position_margin(call: Call) -> Json:
    """POST /fapi/v1/positionMargin."""
    v, symbol = call.values, call.symbol()
    quanta = symbol.money_quanta(v["amount"])
    if quanta <= 0:
        raise ApiError(-4055)
    await answered(
        call,
        Kind.POSITION_MARGIN,
        symbol.index,
        quanta if v["type"] == 1 else -quanta,
        position_side=PositionSide[v["positionSide"]],
    )
    return {
        "amount": quanta / 10**symbol.scale.money_decimals,
        "code": 200,
        "msg": "Successfully modify position margin.",
        "type": v["type"],
    }
