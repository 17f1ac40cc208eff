"""The ledger's questions over HTTP: auditors see everything, each customer itself alone.

Reads   the books, through gateways/http/library.py and ledger/query.py, which knows who may see
        what.
Writes  nothing.
Never   takes an account from a customer's request: it is its key's.

A key with the scope `audit` is an auditor's. Every other key is a customer's, of its own account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateways.http.errors import ApiError
from gateways.http.gate import Call
from gateways.http.schema import TEXT, Param, integer
from gateways.users.store import Scope
from ledger.chart import Event
from ledger.query import AUDITOR, CUSTOMER, PUBLIC, ROUTES, Viewer

PREFIX: Final = "/ledger/v1"

_INT64: Final = integer(0, (1 << 63) - 1)
_CUT: Final = "a sequence number, or an instant in UTC as 2026-01-31T23:59:59.5Z"
_AT: Final = Param("at", TEXT, meaning=f"{_CUT}; default now")
_PERIOD: Final = (
    Param("from", TEXT, meaning=f"behind {_CUT}; default genesis"),
    Param("to", TEXT, meaning=f"up to and with {_CUT}; default now"),
)
_CURRENCY: Final = (
    Param("currency", TEXT, meaning="NAME or NAME:DECIMALS: a column in it beside the assets"),
    Param("rates", TEXT, meaning="what one unit of each asset is worth: USDT=1.0002,BTC=60000"),
)
_ACCOUNT: Final = Param("account", _INT64, meaning="an auditor's choice; a customer's is its own")
_EVENTS: Final = ", ".join(Event.__members__)

# name of the question: (summary, reply, weight, parameters)
QUESTIONS: Final[dict[str, tuple[str, str, int, tuple[Param, ...]]]] = {
    "head": ("How far the books have come", "any", 5, ()),
    "balance-sheet": (
        *("Assets, liabilities and equity", "sheet", 20),
        (_AT, Param("compare", TEXT, meaning=f"beside it {_CUT}, and the change"), *_CURRENCY),
    ),
    "trial-balance": (
        *("Opening, turnover and closing of every line", "sheet", 50),
        (*_PERIOD, Param("detail", integer(0, 1), meaning="1: of every account")),
    ),
    "income": ("Income and expense of a period", "sheet", 50, (*_PERIOD, *_CURRENCY)),
    "custody": ("What is held where, against what is owed", "sheet", 20, (_AT,)),
    "fund": ("Insurance fund, rolled forward", "sheet", 20, _PERIOD),
    "fees": ("Fees and rebates by symbol", "sheet", 50, _PERIOD),
    "funding": ("Funding paid and received by symbol", "sheet", 50, _PERIOD),
    "withdrawals": ("Withdrawals under way, by age", "sheet", 50, (_AT,)),
    "notes": ("What bookkeepers proposed, approved and were refused", "any", 5, ()),
    "breaks": ("Reports that differed from the books", "any", 5, ()),
    "reconciliation": (
        *("Open breaks, their owners and states", "any", 5),
        (Param("all", integer(0, 1), meaning="1: those that were resolved, too"),),
    ),
    "accounts": (
        *("The accounts behind a line of a statement", "any", 20),
        (Param("code", _INT64, meaning="of the chart; a customer may leave it out"), _AT),
    ),
    "statement": ("Every movement of a customer's money", "sheet", 20, (_ACCOUNT, *_PERIOD)),
    "entries": (
        *("Journal entries; a customer sees its own legs", "ledgerEntries", 50),
        (
            Param("key", TEXT, meaning="of an account of the books, as `accounts` shows it"),
            Param("order", _INT64),
            Param("reference", _INT64, meaning="a trade, request or source"),
            Param("symbol", _INT64),
            Param("event", TEXT, meaning=f"one of {_EVENTS}"),
            _ACCOUNT,
            *_PERIOD,
            Param("start", _INT64, meaning="an entry's number: `next` of the answer before"),
            Param("limit", integer(1, 1000), default=100),
        ),
    ),
    "entry": (
        *("One journal entry", "ledgerEntry", 5),
        (Param("entry", _INT64, required=True, meaning="its number"),),
    ),
    "trace": (
        *("What a request caused", "any", 20),
        (Param("trace", TEXT, required=True, meaning="X-Trace-Id of the request"),),
    ),
    "proof": ("Inclusion proof of what a customer is owed", "proof", 20, (_ACCOUNT,)),
    "proof-root": ("Root of the published proof of liabilities", "proofRoot", 5, ()),
}
assert QUESTIONS.keys() == ROUTES.keys()


def roles_of(name: str) -> frozenset[str]:
    """Who may ask."""
    return ROUTES[name]


def viewer_of(call: Call) -> Viewer:
    """Who asks: by its key's scopes, never by what it says."""
    if call.key is None:
        return Viewer(PUBLIC)
    if Scope.AUDIT in call.key.scopes:
        return Viewer(AUDITOR)
    return Viewer(CUSTOMER, call.account)


def handler(name: str) -> Callable[[Call], Awaitable[Any]]:
    """What answers one question."""

    async def ask(call: Call) -> Any:
        said = {k: str(v) for k, v in call.values.items() if v is not None}
        for pair in filter(None, said.pop("rates", "").split(",")):
            asset, sign, rate = pair.partition("=")
            if not sign:
                raise ApiError(-1130, "rates")
            said[f"rate.{asset}"] = rate
        # Whoever was acknowledged finds it in the books; the past is asked for without waiting.
        past = any(name in said for name in ("at", "to", "entry"))
        seq = 0 if past or call.key is None else await call.gate.desk.caught_up()
        return await call.gate.library.ask(viewer_of(call), name, said, seq)

    return ask
