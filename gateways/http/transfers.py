"""Money between the accounts of one user: the main account, and those below it.

Reads   whose an account is, out of the user store; what was moved, out of the history.
Writes  TRANSFER, done at once.
Never   moves money to or from another user's account: that is for operators.

An account is called by its number, or as the dialect calls sub-accounts, by an address of which the
part before the @ is the number or the label. A key moves what is its own account's; the main
account's key moves what any account of its user has.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateways.http.errors import ApiError, refusal
from gateways.http.gate import Call
from gateways.http.money import amount_of, coin_of
from gateways.http.rows import Ask
from gateways.http.shapes import Json
from gateways.scales import decimal_text
from shm.codes import Kind, Reason

DOMAIN: Final = "@perpcore"
WALLET: Final = "USDT_FUTURE"  # every account has one wallet an asset, which is this
MAIN: Final = "master"
_STATUS: Final = "SUCCESS"


class Own(NamedTuple):
    """One account of the caller's user."""

    account: int
    parent: int | None
    label: str

    @property
    def address(self) -> str:
        return f"{self.account}{DOMAIN}"


def _own(call: Call) -> dict[int, Own]:
    """Every account of the caller's user, by number."""
    assert call.key is not None
    rows = call.gate.store.accounts_of(call.key.user_id)
    return {row[0]: Own(*row) for row in rows}


def _main(own: dict[int, Own], account: int) -> int:
    """The main account of an account: itself, or the one that it is below."""
    parent = own[account].parent
    return account if parent is None else parent


def named(own: dict[int, Own], text: str) -> int:
    """The account meant; the same refusal for one that isn't there and for somebody else's."""
    name = text.rpartition("@")[0] or text
    # A number is a number, even where another account has it for a label.
    for called in (lambda row: str(row.account), lambda row: row.label):
        for row in own.values():
            if name and called(row) == name:
                return row.account
    raise ApiError(-1109)


def _may_move(call: Call, own: dict[int, Own], account: int) -> None:
    """A key of a sub-account moves what is there, and nothing else."""
    if account != call.account and own[call.account].parent is not None:
        raise ApiError(-1109)


async def _move(call: Call, own: dict[int, Own], sender: int, receiver: int) -> int:
    """Send the command; returns its number."""
    assert call.key is not None
    _may_move(call, own, sender)
    index, asset = coin_of(call, call.values["asset"])
    quanta = amount_of(call.values["amount"], asset)
    if sender == receiver:
        raise ApiError(-1130, "toEmail")
    ask = Ask(
        kind=Kind.TRANSFER,
        account=sender,
        origin=call.origin(),
        words=(quanta, index, receiver),
        name=call.values.get("clientTranId") or "",
        more=(call.key.user_id, 0, 0),
    )

    def told(report: tuple[int, ...]) -> int:
        if report[7] != Reason.NONE:
            raise refusal(report[7], Kind.TRANSFER)
        return report[0]

    number: int = await call.gate.desk.ask(ask, told)
    return number


async def universal(call: Call) -> Json:
    """POST /sapi/v1/sub-account/universalTransfer: from and to any; who isn't named is the main."""
    own, v = _own(call), call.values
    main = _main(own, call.account)
    sender = main if v["fromEmail"] is None else named(own, v["fromEmail"])
    receiver = main if v["toEmail"] is None else named(own, v["toEmail"])
    number = await _move(call, own, sender, receiver)
    return {"tranId": number, "clientTranId": v["clientTranId"] or ""}


async def between_futures(call: Call) -> Json:
    """POST /sapi/v1/sub-account/futures/internalTransfer: both are named."""
    own, v = _own(call), call.values
    number = await _move(call, own, named(own, v["fromEmail"]), named(own, v["toEmail"]))
    return {"success": True, "txnId": str(number)}


async def to_another(call: Call) -> Json:
    """POST /sapi/v1/sub-account/transfer/subToSub."""
    own = _own(call)
    number = await _move(call, own, call.account, named(own, call.values["toEmail"]))
    return {"txnId": str(number)}


async def to_main(call: Call) -> Json:
    """POST /sapi/v1/sub-account/transfer/subToMaster."""
    own = _own(call)
    number = await _move(call, own, call.account, _main(own, call.account))
    return {"txnId": str(number)}


# ---------------------------------------------------------------- looking


async def accounts(call: Call) -> Json:
    """GET /sapi/v1/sub-account/list: those below the caller's account."""
    v, own = call.values, _own(call)
    below = [row for row in own.values() if row.parent == call.account]
    if v["email"] is not None:
        wanted = named(own, v["email"])
        below = [row for row in below if row.account == wanted]
    first = (v["page"] - 1) * v["limit"]
    return {
        "subAccounts": [
            {
                "subUserId": row.account,
                "email": row.address,
                "remark": row.label,
                "isFreeze": False,
                "createTime": 0,
                "isManagedSubAccount": False,
                "isAssetManagementSubAccount": False,
            }
            for row in below[first : first + v["limit"]]
        ]
    }


async def universal_history(call: Call) -> Json:
    """GET /sapi/v1/sub-account/universalTransfer: the caller's own account, newest first."""
    v, own = call.values, _own(call)
    rows = await _moved(call, own)
    first = (v["page"] - 1) * v["limit"]
    return {
        "result": [
            {
                "tranId": row["number"],
                "fromEmail": _address(own, row["sender"]),
                "toEmail": _address(own, row["receiver"]),
                "asset": row["asset"],
                "amount": row["amount"],
                "createTimeStamp": row["at_ms"],
                "fromAccountType": WALLET,
                "toAccountType": WALLET,
                "status": _STATUS,
                "clientTranId": "",
            }
            for row in rows[first : first + v["limit"]]
        ],
        "totalCount": len(rows),
    }


async def own_history(call: Call) -> list[Json]:
    """GET /sapi/v1/sub-account/transfer/subUserHistory: what came and went, newest first."""
    v, own = call.values, _own(call)
    rows = await _moved(call, own)
    side = {1: "in", 2: "out", None: ""}[v["type"]]
    return [
        {
            "counterParty": MAIN if own[call.account].parent == row["other"] else "subAccount",
            "email": _address(own, row["other"]),
            "type": 1 if row["side"] == "in" else 2,
            "asset": row["asset"],
            "qty": row["amount"],
            "fromAccountType": WALLET,
            "toAccountType": WALLET,
            "status": _STATUS,
            "tranId": row["number"],
            "time": row["at_ms"],
        }
        for row in rows
        if side in ("", row["side"]) and v["asset"] in (None, row["asset"])
    ][: v["limit"]]


def _address(own: dict[int, Own], account: int) -> str:
    """How an account is called: not at all when it is somebody else's."""
    return own[account].address if account in own else ""


async def _moved(call: Call, own: dict[int, Own]) -> list[dict[str, Any]]:
    """Transfers of the caller's account within the window asked for, newest first."""
    v, assets = call.values, call.gate.venue.assets
    first_ns = (v["startTime"] or 0) * 1_000_000
    last_ns = v["endTime"] * 1_000_000 if v["endTime"] is not None else 1 << 62
    found = []
    for row in reversed(await call.gate.history("transfers", call.account, limit=1000)):
        if row["kind"] != Kind.TRANSFER or not first_ns <= row["created_ns"] <= last_ns:
            continue
        asset, incoming = assets[row["asset"]], row["amount_quanta"] > 0
        other = row["reference"]
        found.append(
            {
                "number": row["number"],
                "asset": asset["name"],
                "amount": decimal_text(abs(row["amount_quanta"]), asset["scale"]),
                "at_ms": row["created_ns"] // 1_000_000,
                "side": "in" if incoming else "out",
                "other": other,
                "sender": other if incoming else call.account,
                "receiver": call.account if incoming else other,
            }
        )
    return found
