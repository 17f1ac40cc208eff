"""schemathesis on /openapi.json: whatever the description allows or forbids, the gateway does as it says.

Two passes: as nobody, and signed with a key that may trade; by default a few operations of every
sort as nobody, the rest with --long. All checks of schemathesis run, but for

    positive_data_acceptance   what is well-formed may be refused, with 400, for what it asks: a
                               filter, no such order, a window that ends before it begins
    ignored_auth               a wrong signature is 400 with -1022 in this dialect, not 401
    negative_data_rejection    in the signed pass, of cases whose fault is a name that isn't described,
                               which is to be ignored, or in what signing puts right
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from requests.auth import AuthBase
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from gateways.http import openapi
from tests.process.gateway_helpers import Exchange, Trader

SYMBOLS = ("BTCUSDT",)
LONG = "--long" in sys.argv
SOME = (
    *("/fapi/v1/depth", "/fapi/v1/klines", "/fapi/v1/exchangeInfo", "/fapi/v1/order"),
    *("/fapi/v1/batchOrders", "/fapi/v1/algoOrder", "/fapi/v1/income", "/fapi/v1/listenKey"),
    *("/fapi/v3/account", "/fapi/v1/leverage"),
)
SCHEMA = schemathesis.openapi.from_dict(openapi.document(SYMBOLS))
if not LONG:
    SCHEMA = SCHEMA.include(path=list(SOME))
load_all_checks()
EVERY = [c for c in CHECKS.get_all() if c not in (positive_data_acceptance, ignored_auth)]
SIGNING = ("timestamp", "signature", "recvWindow")


def bad_data_is_rejected(ctx: Any, response: Any, case: schemathesis.Case) -> bool | None:
    """negative_data_rejection, where the fault is still there when the request has been signed."""
    sent = dict(case.query or {})
    known = {parameter.name for parameter in case.operation.query}
    put_right = not {"timestamp", "signature"} <= sent.keys() or not all(
        str(sent.get(name, 0)).isdecimal() for name in ("timestamp", "recvWindow")
    )
    if sent.keys() - known or put_right or "recvWindow" in sent:
        return None
    return negative_data_rejection(ctx, response, case)


WHEN_SIGNED = [c for c in EVERY if c is not negative_data_rejection] + [bad_data_is_rejected]
RUNS = settings(
    max_examples=100 if LONG else 2,
    deadline=None,
    derandomize=True,  # the default run is the same every time; --long looks further
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    limits = {"http.weight_per_minute": 1_000_000_000, "http.orders_per_10s": 1_000_000_000,
              "http.orders_per_minute": 1_000_000_000}  # fmt: skip
    made = Exchange(tmp_path_factory.mktemp("openapi"), f"openapi-{os.getpid()}", limits)
    try:
        made.start("marketdata", "history")
        made.declare()
        if LONG:  # its questions are not among the few of the default run
            made.spawn("ledger", "ledger", "run")
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def trader(exchange: Exchange) -> Trader:
    return exchange.trader("schema", "read,trade")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


class Signed(AuthBase):
    """The key, a good time stamp and a signature, in the place of whatever was made up."""

    def __init__(self, trader: Trader) -> None:
        self.trader = trader

    def __call__(self, request: Any) -> Any:
        base, _, query = request.url.partition("?")
        kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] not in SIGNING]
        text = "&".join([*kept, f"timestamp={time.time_ns() // 10**6}"])
        raw = request.body or b""
        message = text.encode() + (raw if isinstance(raw, bytes) else raw.encode())
        signature = hmac.digest(self.trader.secret.encode(), message, hashlib.sha256).hex()
        request.url = f"{base}?{text}&signature={signature}"
        if "X-MBX-APIKEY" in request.headers:  # a case without one is to stay without
            request.headers["X-MBX-APIKEY"] = self.trader.key
        return request


@SCHEMA.parametrize()
@RUNS
def test_as_nobody(case: schemathesis.Case, exchange: Exchange, session: requests.Session) -> None:
    case.call_and_validate(base_url=exchange.base, session=session, checks=EVERY)


@SCHEMA.parametrize()
@RUNS
def test_signed(
    case: schemathesis.Case, exchange: Exchange, trader: Trader, session: requests.Session
) -> None:
    if not LONG:
        pytest.skip("the signed pass: --long runs it")
    case.call_and_validate(
        base_url=exchange.base,
        session=session,
        auth=Signed(trader),
        checks=WHEN_SIGNED,
    )
