"""What every order path has in common: time in force, expiry, price match, and the reply.

Writes  commands that are not about one order (`answered`).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from gateways.http.errors import ApiError, refusal
from gateways.http.gate import Call
from gateways.http.orders import AccountState
from gateways.http.rows import Ask
from gateways.http.schema import Values
from gateways.http.venue import Symbol
from shm.codes import Kind, PositionSide, Reason, Side, State, Tif

GTD_AHEAD_MS: Final = 600_000
GTD_MOST_MS: Final = 253402300799000
_LAST_S: Final = ((1 << 63) - 1) // 1_000_000_000
_LEGS: Final = dict(PositionSide.__members__)
_BOTH, _GTD = PositionSide.BOTH, Tif.GTD  # named once: every order is compared with them
CANCEL_ALL_DONE: Final = {
    "code": 200,
    "msg": "The operation of cancel all open order is done.",
}


def new_client_id() -> str:
    """A name for an order that came without one."""
    return secrets.token_urlsafe(16)


def order_refusal(reason: int, kind: int, price_ticks: int, symbol: Symbol) -> ApiError:
    """The dialect's error for an order at a price that was refused."""
    if reason == Reason.NOTIONAL_TOO_SMALL:
        return refusal(reason, kind, symbol.notional_min)
    if reason == Reason.PRICE_BAND:
        return ApiError(-4016 if price_ticks > symbol.row["mark_ticks"] else -4024)
    if reason == Reason.SYMBOL_STATE and symbol.row["state"] == State.CLOSED:
        return ApiError(-4141)
    return refusal(reason, kind)


def reduce_only_of(v: Values, state: AccountState) -> bool:
    """reduceOnly; in hedge mode side and positionSide say it, and nothing else may."""
    if v["reduceOnly"] and state.hedge:
        raise ApiError(-1106, "reduceOnly")
    return bool(v["reduceOnly"])


def leg_of(v: Values, state: AccountState) -> PositionSide:
    """positionSide, which must fit the account's mode; the engine checks it again."""
    leg = _LEGS[v["positionSide"]]
    if state.ready and (leg == _BOTH) == state.hedge:
        raise ApiError(-4061)
    return leg


def expire_of(call: Call, v: Values, tif: Tif) -> int:
    """When a GTD order ends, ns; whole seconds, and no later than a command can say: in 2262."""
    at_ms = v["goodTillDate"]
    if tif != _GTD:
        if at_ms:
            raise ApiError(-1106, "goodTillDate")
        return 0
    if not at_ms:
        raise ApiError(-1102, "goodTillDate")
    if not call.now_ms + GTD_AHEAD_MS < at_ms < GTD_MOST_MS:
        raise ApiError(-5040)
    return min(int(at_ms) // 1000, _LAST_S) * 1_000_000_000


async def matched_price(call: Call, symbol: Symbol, side: Side, word: str) -> int:
    """The price of a level of the book: OPPONENT is the other side, QUEUE one's own."""
    where, _, number = word.partition("_")
    level = int(number or 1)
    book = msgspec.json.decode(await call.gate.ask_market("depth", symbol=symbol.name, limit=20))
    bids = (side == Side.BUY) == (where == "QUEUE")
    levels = book["bids" if bids else "asks"]
    if len(levels) < level:
        raise ApiError(-5041)
    return symbol.price_ticks(levels[level - 1][0])


async def answered(
    call: Call, kind: Kind, symbol: int, value: int = 0, *, render: Any = None, **fields: Any
) -> Any:
    """Send a command that isn't about one order; raises its refusal, else what `render` makes."""
    ask = Ask(
        kind=kind,
        account=call.account,
        origin=call.origin(),
        symbol=symbol,
        words=(value, 0, 0),
        **fields,
    )

    def told(report: tuple[int, ...]) -> Any:
        if report[7] != Reason.NONE:
            raise refusal(report[7], kind, value)
        return render(report) if render else None

    return await call.gate.desk.ask(ask, told)
