"""Money that leaves: withdrawals are asked for here, and approved by two people elsewhere.

Reads   transfers out of the history.
Writes  REQUEST_WITHDRAW; where the money is to go, in the user store, under the number that the
        command carries.
Never   moves money: what is asked for is set aside until operators approve or reject it.
"""

from __future__ import annotations

import time
from typing import Final

from gateways.accounts.client import Row
from gateways.http.decimals import BadDecimal, TooPrecise, scaled
from gateways.http.errors import ApiError, refusal
from gateways.http.gate import Call
from gateways.http.rows import Ask
from gateways.http.shapes import Json
from gateways.scales import decimal_text
from shm.codes import Kind, Reason, RequestStatus
from shm.units import MONEY_QUANTA_MAX

# As the dialect counts them: awaiting approval, rejected, processing, completed.
_STATUS: Final = {
    RequestStatus.REQUESTED: 2,
    RequestStatus.APPROVED: 4,
    RequestStatus.REJECTED: 3,
    RequestStatus.SETTLED: 6,
}


def coin_of(call: Call, name: str) -> tuple[int, Row]:
    """Index and row of a coin."""
    for index, row in call.gate.venue.assets.items():
        if row["name"] == name:
            return index, row
    raise ApiError(-1108)


def amount_of(text: str, asset: Row) -> int:
    """An amount above zero, in quanta; one that nobody can have as the least of those."""
    try:
        quanta = scaled(text, asset["scale"])
    except TooPrecise:
        raise ApiError(-1111) from None
    except BadDecimal:
        raise ApiError(-4055) from None
    if quanta <= 0:
        raise ApiError(-4055)
    return min(quanta, MONEY_QUANTA_MAX + 1)


async def withdraw(call: Call) -> Json:
    """POST /sapi/v1/capital/withdraw/apply."""
    v = call.values
    index, asset = coin_of(call, v["coin"])
    quanta = amount_of(v["amount"], asset)
    reference = call.gate.store.destination(
        call.account, v["coin"], v["network"] or "", v["address"], v["addressTag"] or ""
    )
    assert call.key is not None
    ask = Ask(
        kind=Kind.REQUEST_WITHDRAW,
        account=call.account,
        origin=call.origin(),
        words=(quanta, index, reference),
        name=v["withdrawOrderId"] or "",
        more=(call.key.user_id, 0, 0),
    )

    def told(report: tuple[int, ...]) -> Json:
        if report[7] != Reason.NONE:
            raise refusal(report[7], Kind.REQUEST_WITHDRAW)
        return {"id": str(report[0])}

    return await call.gate.desk.ask(ask, told)


async def withdrawals(call: Call) -> list[Json]:
    """GET /sapi/v1/capital/withdraw/history, newest first."""
    return [
        {
            "id": str(row["number"]),
            "amount": decimal_text(abs(row["amount_quanta"]), asset["scale"]),
            "transactionFee": decimal_text(row["fee_quanta"], asset["scale"]),
            "coin": asset["name"],
            "status": _STATUS[RequestStatus(row["status"])],
            **call.gate.store.destination_of(call.account, row["reference"]),
            "txId": "",
            "applyTime": _utc(row["created_ns"]),
            "transferType": 0,
            "confirmNo": 0,
        }
        for row, asset in await _moved(call, (Kind.REQUEST_WITHDRAW, Kind.WITHDRAW))
    ]


async def deposits(call: Call) -> list[Json]:
    """GET /sapi/v1/capital/deposit/hisrec, newest first."""
    return [
        {
            "id": str(row["number"]),
            "amount": decimal_text(row["amount_quanta"], asset["scale"]),
            "coin": asset["name"],
            "network": "",
            "status": 1,
            "address": "",
            "addressTag": "",
            "txId": "",
            "insertTime": row["created_ns"] // 1_000_000,
            "transferType": 0,
            "confirmTimes": "1/1",
        }
        for row, asset in await _moved(call, (Kind.DEPOSIT,))
    ]


async def _moved(call: Call, kinds: tuple[Kind, ...]) -> list[tuple[Row, Row]]:
    """(transfer, asset) of these kinds within the window asked for."""
    v, assets = call.values, call.gate.venue.assets
    first_ns = (v["startTime"] or 0) * 1_000_000
    last_ns = v["endTime"] * 1_000_000 if v["endTime"] is not None else 1 << 62
    rows = await call.gate.history("transfers", call.account, limit=1000)
    found = [
        (row, assets[row["asset"]])
        for row in reversed(rows)
        if row["kind"] in kinds
        and first_ns <= row["created_ns"] <= last_ns
        and v["coin"] in (None, assets[row["asset"]]["name"])
    ]
    return found[v["offset"] : v["offset"] + v["limit"]]


def _utc(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ns // 1_000_000_000))
