"""What happens to positions without their owners' doing, over HTTP and user streams, on a real engine.

Conditional orders on both paths, hedge mode, isolated margin, the dead man's switch, funding and
liquidation: each as a client hears of it and as it finds it when it asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from gateways.http.routes import ROUTES
from gateways.http.schema import Security
from tests.process.gateway_helpers import SYMBOL, Exchange, Trader
from tests.process.helpers import wait_until

SECOND_NS = 1_000_000_000
CONTRACT = {
    "symbol": 0,
    "funding_interval_ns": 0,
    "interest_ppb": 800_000_000,
    "funding_clamp_ppb": 800_000_000,
    "funding_cap_ppb": 100_000,
    "funding_floor_ppb": -100_000,
    "source_clamp_ppm": 5_000,
    "liquidation_fee_ppm": 10_000,
    "protect_ppm": 50_000,
    "algos_max": 100,
}


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    limits = {"http.weight_per_minute": 1_000_000, "http.orders_per_10s": 100_000,
              "http.orders_per_minute": 100_000}  # fmt: skip
    made = Exchange(tmp_path_factory.mktemp("events"), f"events-{os.getpid()}", limits)
    made.venue.arguments.remove("--no-clock")
    try:
        made.start("history", "marketdata")
        made.declare()
        made.admin("/commands/contract", CONTRACT)
        made.admin(
            "/commands/bracket",
            {"symbol": 0, "index": 0, "floor_quanta": 0, "cap_quanta": 10**13,
             "maintenance_ppm": 5_000, "bracket_leverage_max": 100},
        )  # fmt: skip
        maker = made.trader("maker")
        for side, price in (
            ("BUY", "59990"),
            ("BUY", "50000"),
            ("SELL", "60010"),
            ("SELL", "69000"),
        ):
            maker.order(side, "50.000", price)
        yield made
    finally:
        made.end()


class Ear(threading.Thread):
    """A user stream, heard by a thread of its own."""

    def __init__(self, trader: Trader, stream: str = "") -> None:
        super().__init__(daemon=True)
        key = stream or trader.raw("POST", "/fapi/v1/listenKey")[1]["listenKey"]
        self.url = f"{trader.exchange.base}/ws/{key}"
        self.events: list[Any] = []
        self.open = threading.Event()
        self.start()
        assert self.open.wait(20)

    def run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(self.url) as ws:
            self.open.set()
            async for message in ws:
                self.events.append(json.loads(message.data))

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The first event like that; it and what came before it are done with."""

        def found() -> Any:
            for k, event in enumerate(self.events):
                if wanted(event):
                    del self.events[: k + 1]
                    return event
            return None

        return wait_until(found, 30, f"not heard; {self.events}")

    def order(self, name: str, execution: str) -> Any:
        """The next execution of an order."""
        return self.until(
            lambda e: (
                e["e"] == "ORDER_TRADE_UPDATE" and (e["o"]["c"], e["o"]["x"]) == (name, execution)
            )
        )["o"]

    def account(self, why: str) -> Any:
        return self.until(lambda e: e["e"] == "ACCOUNT_UPDATE" and e["a"]["m"] == why)["a"]


def mark(exchange: Exchange, ticks: int) -> None:
    exchange.admin("/commands/mark", {"symbol": 0, "mark_ticks": ticks})


def position(trader: Trader, side: str = "BOTH") -> Any:
    found = trader.call("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT")[1]
    return next((p for p in found if p["positionSide"] == side), None)


def test_conditional_orders_on_their_own_path(exchange: Exchange) -> None:
    ann = exchange.trader("ann")
    ear = Ear(ann)
    assert ann.order("BUY", "0.100")["status"] == "FILLED"
    placed = ann.call(
        *("POST", "/fapi/v1/algoOrder"), algoType="CONDITIONAL", symbol="BTCUSDT", side="SELL",
        type="STOP_MARKET", quantity="0.100", triggerPrice="58000", workingType="MARK_PRICE",
        clientAlgoId="stop", reduceOnly="true",
    )[1]  # fmt: skip
    assert placed["algoStatus"] == "NEW" and placed["triggerPrice"] == "58000.0"
    assert ann.call("GET", "/fapi/v1/openAlgoOrders")[1][0]["algoId"] == placed["algoId"]
    assert ann.call("GET", "/fapi/v1/openOrders")[1] == []
    told = ear.until(lambda e: e["e"] == "ALGO_UPDATE")["o"]
    assert (told["X"], told["caid"], told["aid"]) == ("NEW", "stop", placed["algoId"])
    mark(exchange, 579_000)
    told = ear.until(lambda e: e["e"] == "ALGO_UPDATE" and e["o"]["X"] == "TRIGGERED")["o"]
    filled = ear.order("stop", "TRADE")
    assert filled["X"] == "FILLED" and str(filled["i"]) == told["ai"] and filled["R"]
    assert (filled["o"], filled["ot"]) == ("MARKET", "STOP_MARKET")
    mark(exchange, 600_000)
    asked = ann.call("GET", "/fapi/v1/algoOrder", clientAlgoId="stop")[1]
    assert asked["actualOrderId"] == told["ai"] and asked["actualQty"] == "0.100"
    assert position(ann) is None
    again = ann.call("DELETE", "/fapi/v1/algoOrder", algoId=placed["algoId"])
    assert again == (400, {"code": -2011, "msg": "Unknown order sent."})


def test_conditional_orders_on_the_classic_path(exchange: Exchange) -> None:
    """A client that knows of nothing newer finds them among its orders."""
    bea = exchange.trader("bea")
    ear = Ear(bea)
    stop = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.100",
            "workingType": "MARK_PRICE"}  # fmt: skip
    placed = bea.call("POST", "/fapi/v1/order", **stop, stopPrice="58000", newClientOrderId="c1")[1]
    assert (placed["status"], placed["type"], placed["stopPrice"]) == (
        "NEW",
        "STOP_MARKET",
        "58000.0",
    )
    told = ear.order("c1", "NEW")
    assert (told["o"], told["sp"], told["i"]) == ("STOP_MARKET", "58000.0", placed["orderId"])
    assert [o["clientOrderId"] for o in bea.call("GET", "/fapi/v1/openOrders")[1]] == ["c1"]
    assert bea.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[1]["code"] == 200
    assert ear.order("c1", "CANCELED")["X"] == "CANCELED"
    assert bea.call("GET", "/fapi/v1/openOrders")[1] == []
    bea.call("POST", "/fapi/v1/order", **stop, stopPrice="58000", newClientOrderId="c2")
    one = bea.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="c2")[1]
    assert one["clientOrderId"] == "c2"
    assert ear.order("c2", "CANCELED")["i"] == one["orderId"]
    # In a batch as well, and triggered.
    batch = json.dumps(
        [{**stop, "stopPrice": "58000", "newClientOrderId": "c3"}], separators=(",", ":")
    )
    assert bea.call("POST", "/fapi/v1/batchOrders", batchOrders=batch)[1][0]["status"] == "NEW"
    mark(exchange, 579_000)
    assert ear.order("c3", "TRADE")["X"] == "FILLED"
    mark(exchange, 600_000)
    assert not [e for e in ear.events if e["e"] == "ALGO_UPDATE"]
    history = bea.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT")[1]
    assert [(o["clientOrderId"], o["status"]) for o in history] == [
        *(("c1", "CANCELED"), ("c2", "CANCELED"), ("c3", "FILLED")),
    ]


def test_hedge_mode(exchange: Exchange) -> None:
    cid = exchange.trader("cid")
    ear = Ear(cid)
    assert cid.call("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")[1]["code"] == 200
    assert cid.call("POST", "/fapi/v1/positionSide/dual", dualSidePosition="TRUE")[1] == {
        "code": -4059,
        "msg": "No need to change position side.",
    }
    assert cid.order("BUY", "0.010")["code"] == -4061
    assert (
        cid.order("BUY", "0.010", positionSide="LONG", newClientOrderId="l")["status"] == "FILLED"
    )
    assert cid.order("SELL", "0.020", positionSide="SHORT")["status"] == "FILLED"
    assert ear.order("l", "TRADE")["ps"] == "LONG"
    assert ear.account("ORDER")["P"][0]["ps"] == "LONG"
    assert position(cid, "LONG")["positionAmt"] == "0.010"
    assert position(cid, "SHORT")["positionAmt"] == "-0.020"
    assert cid.order("SELL", "0.010", positionSide="LONG", reduceOnly="true")["code"] == -1106
    busy = cid.call("POST", "/fapi/v1/positionSide/dual", dualSidePosition="false")[1]
    assert busy["code"] == -4068
    assert cid.order("SELL", "0.010", positionSide="LONG")["status"] == "FILLED"
    assert cid.order("BUY", "0.020", positionSide="SHORT")["status"] == "FILLED"
    assert cid.call("POST", "/fapi/v1/positionSide/dual", dualSidePosition="false")[0] == 200


def test_isolated_margin(exchange: Exchange) -> None:
    dan = exchange.trader("dan")
    ear = Ear(dan)
    isolated = {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
    assert dan.call("POST", "/fapi/v1/marginType", **isolated)[1]["code"] == 200
    assert dan.call("POST", "/fapi/v1/marginType", **isolated)[1] == {
        "code": -4046,
        "msg": "No need to change margin type.",
    }
    assert dan.call("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=10)[1]["leverage"] == 10
    changed = ear.until(lambda e: e["e"] == "ACCOUNT_CONFIG_UPDATE")
    assert changed["ac"] == {"s": "BTCUSDT", "l": 10}
    assert dan.order("BUY", "0.100")["status"] == "FILLED"
    update = ear.account("ORDER")["P"][0]
    assert update["mt"] == "isolated" and float(update["iw"]) > 590
    before = float(position(dan)["isolatedWallet"])
    margin = {"symbol": "BTCUSDT"}
    added = dan.call("POST", "/fapi/v1/positionMargin", **margin, amount="50", type=1)[1]
    assert added["code"] == 200 and added["type"] == 1
    assert float(ear.account("MARGIN_TRANSFER")["P"][0]["iw"]) == before + 50
    taken = dan.call("POST", "/fapi/v1/positionMargin", **margin, amount="20", type=2)
    assert taken[0] == 200, taken
    lower = dan.call("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=5)[1]
    assert lower["code"] == -4161
    crossed = dan.call("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="CROSSED")[1]
    assert crossed["code"] == -4048
    moves = dan.call("GET", "/fapi/v1/positionMargin/history", symbol="BTCUSDT")[1]
    assert [(m["type"], m["amount"]) for m in moves[-2:]] == [(1, "50.000000"), (2, "20.000000")]
    assert dan.order("SELL", "0.100", reduceOnly="true")["status"] == "FILLED"


def test_the_dead_mans_switch(exchange: Exchange) -> None:
    eli = exchange.trader("eli")
    ear = Ear(eli)
    eli.order("BUY", "0.010", "50000", newClientOrderId="dead")
    told = eli.call("POST", "/fapi/v1/countdownCancelAll", symbol="BTCUSDT", countdownTime=200)[1]
    assert told == {"symbol": "BTCUSDT", "countdownTime": "200"}
    assert ear.order("dead", "CANCELED")["X"] == "CANCELED"
    eli.order("BUY", "0.010", "50000", newClientOrderId="alive")
    eli.call("POST", "/fapi/v1/countdownCancelAll", symbol="BTCUSDT", countdownTime=60_000)
    eli.call("POST", "/fapi/v1/countdownCancelAll", symbol="BTCUSDT", countdownTime=0)
    assert len(eli.call("GET", "/fapi/v1/openOrders")[1]) == 1


TRANSFERS = """
  key    | path                         | from | to   | answer
  main   | universalTransfer            | main | desk | done
  main   | universalTransfer            | main | desk | done
  main   | universalTransfer            | main | desk | done
  main   | futures/internalTransfer     | main | desk | done
  main   | futures/internalTransfer     | desk | side | done     both below it
  desk   | transfer/subToMaster         |      |      | done
  desk   | transfer/subToSub            |      | side | done
  desk   | universalTransfer            | desk |      | done     to the main account
  desk   | universalTransfer            | side | desk | -1109    not its own money
  desk   | universalTransfer            | main | desk | -1109
  main   | universalTransfer            | bob  | main | -1109    somebody else's
  main   | universalTransfer            | main | bob  | -1109
  main   | universalTransfer            | main | main | -1130
  reader | universalTransfer            | main | desk | -2015    a key without the scope
"""


def test_money_moves_between_the_accounts_of_one_user(exchange: Exchange) -> None:
    bob = exchange.trader("bob")
    mona = exchange.trader("mona", "read,transfer")
    reader = exchange.admin("/keys", {"name": "mona", "scopes": "read,trade"})
    traders = {
        "main": mona,
        "reader": Trader(exchange, mona.account, reader["apiKey"], reader["secret"]),
    }
    for label in ("desk", "side"):
        made = exchange.admin(
            "/accounts", {"name": "mona", "parent": mona.account, "label": label}
        )["account"]
        key = exchange.admin("/keys", {"name": "mona", "account": made, "scopes": "read,transfer"})
        traders[label] = Trader(exchange, made, key["apiKey"], key["secret"])
    desk, side = traders["desk"], traders["side"]
    names = {"main": f"{mona.account}@perpcore", "desk": "desk", "side": f"{side.account}",
             "bob": f"{bob.account}@perpcore"}  # fmt: skip

    def has(trader: Trader) -> float:
        found = trader.call("GET", "/fapi/v3/balance")[1]
        return float(found[0]["balance"]) if found else 0.0

    for trader in traders.values():  # a key is known everywhere a quarter of a second later
        wait_until(
            lambda trader=trader: trader.call("GET", "/fapi/v3/balance")[0] == 200, 10, "no key"
        )
    root = "/sapi/v1/sub-account/"
    for row in TRANSFERS.strip().splitlines()[1:]:
        who, path, sender, receiver, answer = (cell.strip() for cell in row.split("|"))
        sent: dict[str, Any] = {"asset": "USDT", "amount": "10"}
        sent |= {"fromEmail": names[sender]} if sender else {}
        sent |= {"toEmail": names[receiver]} if receiver else {}
        if path == "universalTransfer":
            sent |= {"fromAccountType": "USDT_FUTURE", "toAccountType": "USDT_FUTURE"}
        elif path.startswith("futures"):
            sent |= {"futuresType": 1}
        else:
            sent.pop("fromEmail", None)
        status, found = traders[who].call("POST", root + path, **sent)
        wanted = answer.split()[0]
        assert (status == 200) if wanted == "done" else found["code"] == int(wanted), (row, found)
    assert [has(t) for t in (mona, desk, side)] == [999_980.0, 0.0, 20.0]
    below = mona.call("GET", root + "list")[1]["subAccounts"]
    assert [row["subUserId"] for row in below] == [desk.account, side.account]
    assert desk.call("GET", root + "list")[1] == {"subAccounts": []}
    moved = side.call("GET", root + "transfer/subUserHistory")[1]
    assert [(row["type"], row["qty"], row["email"]) for row in moved] == [
        (1, "10.000000", f"{desk.account}@perpcore"),
        (1, "10.000000", f"{desk.account}@perpcore"),
    ]


def test_a_transfer_is_done_once_and_told_to_both_sides(exchange: Exchange) -> None:
    tom = exchange.trader("tom", "read,transfer")
    vault = exchange.admin("/accounts", {"name": "tom", "parent": tom.account, "label": "vault"})
    sent = {"fromAccountType": "USDT_FUTURE", "toAccountType": "USDT_FUTURE", "amount": "7.5",
            "asset": "USDT", "toEmail": "vault", "clientTranId": "once"}  # fmt: skip
    path = "/sapi/v1/sub-account/universalTransfer"
    ear = Ear(tom)
    first, again = (tom.call("POST", path, **sent) for _ in range(2))
    assert first[0] == 200 and again[1]["code"] == -4116
    assert ear.account("ASSET_TRANSFER")["B"] == [
        {"a": "USDT", "wb": "999992.500000", "cw": "999992.500000", "bc": "-7.500000"}
    ]
    listed = tom.call("GET", path)[1]["result"]
    assert [(r["toEmail"], r["amount"]) for r in listed] == [
        (f"{vault['account']}@perpcore", "7.500000")
    ]
    lower = tom.call("POST", path, **{**sent, "clientTranId": "more", "amount": "1000001"})
    assert lower[1]["code"] == -2018


def test_what_happens_right_behind_the_handshake_is_heard(exchange: Exchange) -> None:
    """The account is new to the gateway, and its stream open only just."""
    for number in range(12):
        name = f"new{number}"
        new = exchange.trader(name, "read,transfer")
        exchange.admin("/accounts", {"name": name, "parent": new.account, "label": "below"})
        ear = Ear(new)
        moved = new.call(
            *("POST", "/sapi/v1/sub-account/universalTransfer"),
            fromAccountType="USDT_FUTURE",
            toAccountType="USDT_FUTURE",
            amount="1",
            asset="USDT",
            toEmail="below",
        )
        assert moved[0] == 200
        assert ear.account("ASSET_TRANSFER")["B"][0]["bc"] == "-1.000000"


def test_funding(exchange: Exchange) -> None:
    fay = exchange.trader("fay")
    ear = Ear(fay)
    assert fay.order("BUY", "0.100")["status"] == "FILLED"
    exchange.admin("/commands/contract", {**CONTRACT, "funding_interval_ns": SECOND_NS})
    paid = ear.account("FUNDING_FEE")
    exchange.admin("/commands/contract", CONTRACT)
    (balance,) = paid["B"]
    assert paid["P"] == [] and balance["a"] == "USDT" and float(balance["bc"]) < 0
    income = fay.call("GET", "/fapi/v1/income", incomeType="FUNDING_FEE")[1]
    assert income and income[0]["income"] == balance["bc"] and income[0]["symbol"] == "BTCUSDT"
    rates = exchange.call("GET", "/fapi/v1/fundingRate?symbol=BTCUSDT")[1]
    assert rates and float(rates[-1]["fundingRate"]) > 0 and rates[-1]["rateType"] == "Regular"
    assert fay.order("SELL", "0.100", reduceOnly="true")["status"] == "FILLED"


def test_liquidation(exchange: Exchange) -> None:
    gil = exchange.trader("gil")
    ear, street = Ear(gil), Ear(gil, "btcusdt@forceOrder")
    for path, terms in (
        ("marginType", {"marginType": "ISOLATED"}),
        ("leverage", {"leverage": 100}),
    ):
        assert gil.call("POST", f"/fapi/v1/{path}", symbol="BTCUSDT", **terms)[0] == 200
    assert gil.order("BUY", "0.100")["status"] == "FILLED"
    reached = float(position(gil)["liquidationPrice"])
    assert 59_000 < reached < 60_010
    mark(exchange, int(reached * 10) - 100)
    forced = ear.until(
        lambda e: e["e"] == "ORDER_TRADE_UPDATE" and e["o"]["c"].startswith("autoclose-")
        and e["o"]["X"] == "FILLED"
    )["o"]  # fmt: skip
    assert forced["S"] == "SELL" and forced["z"] == "0.100"
    mark(exchange, 600_000)
    wait_until(lambda: position(gil) is None, 20, "it still has a position")
    rows = gil.call("GET", "/fapi/v1/forceOrders", autoCloseType="LIQUIDATION")[1]
    assert rows and rows[0]["clientOrderId"].startswith("autoclose-")
    told = street.until(lambda e: e["e"] == "forceOrder")["o"]
    assert (told["s"], told["S"], told["X"]) == ("BTCUSDT", "SELL", "FILLED")
    kinds = {row["incomeType"] for row in gil.call("GET", "/fapi/v1/income")[1]}
    assert {"REALIZED_PNL", "COMMISSION"} <= kinds


def test_somebody_elses_ids_on_every_private_route(exchange: Exchange) -> None:
    """Whatever is asked with another's ids: nothing of theirs is said, and nothing changes."""
    owner, thief = exchange.trader("owner"), exchange.trader("thief")
    owner.order("BUY", "0.010")
    traded = owner.call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT")[1][0]
    resting = owner.order("BUY", "0.010", "50200", newClientOrderId="owners-order")
    waiting = owner.call(
        "POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", symbol="BTCUSDT", side="SELL",
        type="STOP_MARKET", quantity="0.010", triggerPrice="40000", clientAlgoId="owners-algo",
    )[1]  # fmt: skip
    secrets = (str(resting["orderId"]), str(waiting["algoId"]), str(traded["orderId"]))
    ids = {
        "symbol": "BTCUSDT", "side": "BUY", "quantity": "0.020", "price": "50100",
        "orderIdList": f"[{resting['orderId']}]", "origClientOrderId": "owners-order",
        "clientAlgoId": "owners-algo", "algoId": waiting["algoId"], "fromId": 0, "limit": 5,
        "marginType": "ISOLATED", "leverage": 9, "countdownTime": 1, "amount": "1", "type": "1",
        "batchOrders": quote(json.dumps([{
            "symbol": "BTCUSDT", "side": "BUY", "quantity": "0.020", "price": "50100",
            "orderId": resting["orderId"]}])),
    }  # fmt: skip
    asked = 0
    for route in ROUTES:
        private = route.security in (Security.USER_DATA, Security.TRADE)
        if not private or route.scope not in ("read", "trade") or route.method == "POST":
            continue
        names = {param.name for param in route.params}
        for number in (resting["orderId"], traded["orderId"]):
            known = {**ids, "orderId": number}
            sent = {name: value for name, value in known.items() if name in names}
            said = json.dumps(thief.call(route.method, route.path, **sent)[1])
            assert not any(secret in said for secret in secrets), (route.path, sent, said)
            assert "owners-" not in said, (route.path, said)
            asked += 1
    assert asked > 60
    for path in ("algoOpenOrders", "allOpenOrders"):
        thief.call("DELETE", f"/fapi/v1/{path}", symbol="BTCUSDT")
    assert [o["orderId"] for o in owner.call("GET", "/fapi/v1/openOrders")[1]] == [
        resting["orderId"]
    ]
    assert [a["algoId"] for a in owner.call("GET", "/fapi/v1/openAlgoOrders")[1]] == [
        waiting["algoId"]
    ]


def test_queries_of_an_account_that_uses_one_of_two_symbols(exchange: Exchange) -> None:
    """A row for every symbol, used or not; a conditional order says null of what it hasn't."""
    pair = {**SYMBOL, "symbol": 1, "name": "ETHUSDT"}
    exchange.admin("/commands/symbol", pair)
    exchange.admin("/commands/mark", {"symbol": 1, "mark_ticks": 30_000})
    zoe = exchange.trader("zoe")
    wait_until(
        lambda: zoe.call("GET", "/fapi/v1/leverageBracket", symbol="ETHUSDT")[0] == 200,
        20,
        "no ETH",
    )
    zoe.order("BUY", "0.010", "50100")
    for path in ("/fapi/v2/positionRisk", "/fapi/v2/account"):
        status, found = zoe.call("GET", path)
        rows = found["positions"] if path.endswith("account") else found
        assert status == 200 and [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT"]
    waiting = zoe.call(
        "POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", symbol="BTCUSDT", side="SELL",
        type="STOP_MARKET", quantity="0.010", triggerPrice="40000",
    )[1]  # fmt: skip
    assert waiting["callbackRate"] is None and waiting["activatePrice"] is None
    for name in ("basis", "takerlongshortRatio", "openInterestHist"):
        path = f"/futures/data/{name}?period=5m&{'pair' if name == 'basis' else 'symbol'}=BTCUSDT"
        assert exchange.call("GET", path)[:2] == (200, [])
