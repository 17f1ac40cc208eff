"""Every refusal a client may hear: the dialect's code, HTTP status and literal message.

Some messages are matched literally by clients (fapi_surface 0.14): change none of them. How the
engine's reasons become codes depends on what was asked: `refusal` says.
"""

from __future__ import annotations

from typing import Any, Final

from shm.codes import Kind, Reason

# code: (HTTP status, message)
ERRORS: Final[dict[int, tuple[int, str]]] = {
    -1000: (500, "An unknown error occurred while processing the request."),
    -1001: (503, "Service Unavailable."),
    -1002: (401, "You are not authorized to execute this request."),
    -1003: (429, "Too many requests; current limit of IP({0}) is {1} requests per minute."),
    -1007: (
        408,
        "Timeout waiting for response from backend server. Send status unknown; "
        "execution status unknown.",
    ),
    -1008: (503, "Server is currently overloaded with other requests. Please try again later."),
    -1013: (400, "Invalid message."),
    -1014: (400, "Unsupported order combination."),
    -1015: (429, "Too many new orders; current limit is {0} orders per {1}."),
    -1016: (503, "This service is no longer available."),
    -1020: (400, "This operation is not supported."),
    -1021: (400, "Timestamp for this request is outside of the recvWindow."),
    -1022: (400, "Signature for this request is not valid."),
    -1023: (400, "Start time is greater than end time."),
    -1100: (400, "Illegal characters found in parameter '{0}'."),
    -1101: (400, "Too many parameters sent for this endpoint."),
    -1102: (400, "Mandatory parameter '{0}' was not sent, was empty/null, or malformed."),
    -1104: (400, "Not all sent parameters were read."),
    -1105: (400, "Parameter '{0}' was empty."),
    -1106: (400, "Parameter '{0}' sent when not required."),
    -1108: (400, "Invalid asset."),
    -1109: (400, "Invalid account."),
    -1111: (400, "Precision is over the maximum defined for this asset."),
    -1112: (400, "No orders on book for symbol."),
    -1114: (400, "TimeInForce parameter sent when not required."),
    -1115: (400, "Invalid timeInForce."),
    -1116: (400, "Invalid orderType."),
    -1117: (400, "Invalid side."),
    -1120: (400, "Invalid interval."),
    -1121: (400, "Invalid symbol."),
    -1122: (400, "Invalid symbol status."),
    -1125: (400, "This listenKey does not exist."),
    -1127: (400, "Lookup interval is too big."),
    -1128: (400, "Combination of optional parameters invalid."),
    -1130: (400, "Data sent for parameter '{0}' is not valid."),
    -1136: (400, "Invalid newOrderRespType."),
    -2010: (400, "NEW_ORDER_REJECTED"),
    -2011: (400, "Unknown order sent."),
    -2013: (400, "Order does not exist."),
    -2014: (401, "API-key format invalid."),
    -2015: (401, "Invalid API-key, IP, or permissions for action."),
    -2018: (400, "Balance is insufficient."),
    -2019: (400, "Margin is insufficient."),
    -2020: (400, "Unable to fill."),
    -2021: (400, "Order would immediately trigger."),
    -2022: (400, "ReduceOnly Order is rejected."),
    -2023: (400, "User in liquidation mode now."),
    -2024: (400, "Position is not sufficient."),
    -2025: (400, "Reach max open order limit."),
    -2027: (400, "Exceeded the maximum allowable position at current leverage."),
    -2028: (400, "Leverage is smaller than permitted: insufficient margin balance."),
    -4000: (400, "Invalid order status."),
    -4001: (400, "Price less than 0."),
    -4002: (400, "Price greater than max price."),
    -4003: (400, "Quantity less than or equal to zero."),
    -4004: (400, "Quantity less than min quantity."),
    -4005: (400, "Quantity greater than max quantity."),
    -4006: (400, "Stop price less than zero."),
    -4007: (400, "Stop price greater than max price."),
    -4013: (400, "Price less than min price."),
    -4014: (400, "Price not increased by tick size."),
    -4015: (400, "Client order id is not valid."),
    -4016: (400, "Price is higher than mark price multiplier cap."),
    -4021: (400, "Invalid depth limit."),
    -4023: (400, "Quantity not increased by step size."),
    -4024: (400, "Price is lower than mark price multiplier floor."),
    -4028: (400, "Leverage {0} is not valid."),
    -4031: (400, "Invalid parameter working type."),
    -4045: (400, "Reach max stop order limit."),
    -4046: (400, "No need to change margin type."),
    -4047: (400, "Margin type cannot be changed if there exists open orders."),
    -4048: (400, "Margin type cannot be changed if there exists position."),
    -4049: (400, "Add margin only support for isolated position."),
    -4050: (400, "Cross balance insufficient."),
    -4051: (400, "Isolated balance insufficient."),
    -4054: (400, "Cannot add position margin: position is 0."),
    -4055: (400, "Amount must be positive."),
    -4056: (400, "Invalid api key type."),
    -4059: (400, "No need to change position side."),
    -4060: (400, "Invalid position side."),
    -4061: (400, "Order's position side does not match user's setting."),
    -4062: (400, "Invalid or improper reduceOnly value."),
    -4067: (400, "Position side cannot be changed if there exists open orders."),
    -4068: (400, "Position side cannot be changed if there exists position."),
    -4082: (400, "Invalid number of batch place orders."),
    -4084: (400, "Method is not allowed currently. Coming soon."),
    -4087: (400, "User can only place reduce only order."),
    -4088: (400, "User can not place order currently."),
    -4104: (400, "Invalid contract type."),
    -4116: (400, "ClientOrderId is duplicated."),
    -4120: (400, "Order type not supported for this endpoint. Please use the Algo Order API."),
    -4131: (400, "The counterparty's best price does not meet the PERCENT_PRICE filter limit."),
    -4135: (400, "Invalid activation price."),
    -4136: (400, "Reduce only must be true with close position."),
    -4137: (400, "Quantity must be zero with closePosition equals true."),
    -4138: (400, "Reduce only must be true with closePosition equals true."),
    -4140: (400, "Invalid symbol status for opening position."),
    -4141: (400, "Symbol is closed."),
    -4144: (400, "Invalid pair."),
    -4161: (
        400,
        "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    ),
    -4164: (
        400,
        "Order's notional must be no smaller than {0} (unless you choose reduce only).",
    ),
    -4165: (400, "Invalid time interval."),
    -4168: (400, "Unable to adjust to isolated-margin mode under the Multi-Assets mode."),
    -4171: (400, "No need to change multi-assets margin mode."),
    -5000: (404, "Path {0}, Method {1} is invalid"),
    -5021: (
        400,
        "Due to the order could not be filled immediately, the FOK order has been rejected. "
        "The order will not be recorded in the order history.",
    ),
    -5022: (
        400,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. "
        "The order will not be recorded in the order history.",
    ),
    -5024: (400, "Symbol is not in trading status. Order amendment is not permitted."),
    -5025: (400, "Only limit order is supported."),
    -5026: (400, "Exceed maximum modify order limit."),
    -5027: (400, "No need to modify the order."),
    -5037: (400, "Invalid price match."),
    -5038: (400, "Price match only supports order type: LIMIT, STOP AND TAKE_PROFIT."),
    -5039: (400, "Invalid self trade prevention mode."),
    -5040: (
        400,
        "The goodTillDate timestamp must be greater than the current time plus 600 seconds and "
        "smaller than 253402300799000.",
    ),
    -5041: (400, "No depth matches this BBO order."),
}


class ApiError(Exception):
    """A refusal on its way to the client."""

    def __init__(
        self, code: int, *about: Any, message: str | None = None, status: int | None = None
    ) -> None:
        """about: what the code's message has blanks for; message, status: instead of the usual."""
        usual_status, usual_message = ERRORS[code]
        self.code = code
        self.message = usual_message.format(*about) if message is None else message
        self.status = usual_status if status is None else status
        self.retry_after_s = 0
        self.account: int | None = None  # who asked, once that is known
        super().__init__(f"{code} {self.message}")

    @property
    def body(self) -> dict[str, Any]:
        return {"code": self.code, "msg": self.message}


# What a reason means whatever was asked.
_USUAL: Final[dict[int, int]] = {
    Reason.DUPLICATE_REQUEST: -1000,
    Reason.UNKNOWN_KIND: -1020,
    Reason.FORBIDDEN: -1020,
    Reason.MALFORMED: -1013,
    Reason.UNKNOWN_ACCOUNT: -1109,
    Reason.UNKNOWN_SYMBOL: -1121,
    Reason.UNKNOWN_ASSET: -1108,
    Reason.UNKNOWN_ORDER: -2013,
    Reason.VENUE_STATE: -1016,
    Reason.SYMBOL_STATE: -4140,
    Reason.ACCOUNT_STATE: -4088,
    Reason.DUPLICATE_CLIENT_ID: -4116,
    Reason.BAD_PRICE: -4014,
    Reason.BAD_QTY: -4005,
    Reason.BAD_EXPIRY: -5040,
    Reason.BAD_LEVERAGE: -4028,
    Reason.BAD_AMOUNT: -4055,
    Reason.BAD_PARAMETER: -1130,
    Reason.EXISTS: -1130,
    Reason.IN_USE: -4047,
    Reason.NO_REFERENCE_PRICE: -1112,
    Reason.NOTIONAL_TOO_SMALL: -4164,
    Reason.NOTIONAL_TOO_LARGE: -4005,
    Reason.PRICE_BAND: -4016,
    Reason.TOO_MANY_ORDERS: -2025,
    Reason.REDUCE_ONLY: -2022,
    Reason.INSUFFICIENT_MARGIN: -2019,
    Reason.INSUFFICIENT_BALANCE: -2018,
    Reason.CAPACITY: -1008,
    Reason.WOULD_TAKE: -5022,
    Reason.FOK_UNFILLED: -5021,
    Reason.BOOK_FULL: -1008,
    Reason.POSITION_MODE: -4061,
    Reason.LIQUIDATING: -2023,
    Reason.NO_CHANGE: -4000,
    Reason.OPEN_ORDERS: -4067,
    Reason.OPEN_POSITION: -4068,
    Reason.NO_POSITION: -4054,
    Reason.CROSS_MARGIN: -4049,
    Reason.BAD_TRIGGER: -1130,
    Reason.IMMEDIATE_TRIGGER: -2021,
    Reason.TOO_MANY_ALGOS: -4045,
    Reason.BRACKET_NOTIONAL: -2027,
    Reason.UNKNOWN_REQUEST: -1130,
    Reason.SAME_PRINCIPAL: -1002,
    Reason.REPLAYED: -1021,
}

# And what it means for one kind of command.
_FOR_KIND: Final[dict[tuple[int, int], int]] = {
    (Kind.CANCEL, Reason.UNKNOWN_ORDER): -2011,
    (Kind.CANCEL_ALGO, Reason.UNKNOWN_ORDER): -2011,
    (Kind.AMEND, Reason.NO_CHANGE): -5027,
    (Kind.AMEND, Reason.SYMBOL_STATE): -5024,
    (Kind.LEVERAGE, Reason.INSUFFICIENT_MARGIN): -2028,
    (Kind.LEVERAGE, Reason.OPEN_POSITION): -4161,
    (Kind.MARGIN_TYPE, Reason.NO_CHANGE): -4046,
    (Kind.MARGIN_TYPE, Reason.OPEN_ORDERS): -4047,
    (Kind.MARGIN_TYPE, Reason.OPEN_POSITION): -4048,
    (Kind.POSITION_MODE, Reason.NO_CHANGE): -4059,
    (Kind.POSITION_MARGIN, Reason.INSUFFICIENT_MARGIN): -4051,
    (Kind.POSITION_MARGIN, Reason.INSUFFICIENT_BALANCE): -4050,
}
_LEVERAGE_IN_USE: Final = "Leverage cannot be changed if there exists open orders."
_REPLAYED: Final = "This signed request was taken before; sign a new one with a new timestamp."


def refusal(reason: int, kind: int, *about: Any) -> ApiError:
    """The dialect's error for a refused command.

    reason, kind    codes.Reason, codes.Kind of the command
    about           for the blank in the message of that code, if it has one
    """
    code = _FOR_KIND.get((kind, reason)) or _USUAL.get(reason, -2010)
    if kind == Kind.LEVERAGE and reason == Reason.IN_USE:
        return ApiError(code, message=_LEVERAGE_IN_USE)
    if reason == Reason.REPLAYED:
        return ApiError(code, message=_REPLAYED)
    blanks = ERRORS[code][1].count("{")
    return ApiError(code, *(about or (Reason(reason).name,) * blanks))
