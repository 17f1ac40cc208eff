"""One trace id from a client's header to reply, WAL, reports, books, log and `perpcore trace`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shm.files import read_manifest
from shm.hops import AFTER, in_order
from shm.traces import read_trace
from tests.model.trace_events import check_document
from tests.process.gateway_helpers import Exchange, Trader
from tests.process.helpers import ROOT, perpcore, wait_until
from tools.tracelog import Wal, trace_in


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    limits = ("orders_per_10s", "orders_per_minute", "weight_per_minute")
    made = Exchange(
        tmp_path_factory.mktemp("trace"),
        f"trace-{os.getpid()}",
        {f"http.{name}": 1_000_000 for name in limits},
    )
    try:
        made.start()
        made.spawn("ledger", "ledger", "run")
        made.declare()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def ann(exchange: Exchange) -> Trader:
    return exchange.trader("ann")


@pytest.fixture(scope="module")
def bob(exchange: Exchange) -> Trader:
    return exchange.trader("bob")


def parent_of(trace: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}


def send(
    trader: Trader, method: str, path: str, headers: dict[str, str], **params: Any
) -> tuple[int, Any, dict[str, str]]:
    """A signed call with headers of the test's own."""
    where = f"{path}?{trader.signed(**params)}"
    return trader.exchange.call(method, where, None, {"X-MBX-APIKEY": trader.key, **headers})


def order(side: str, quantity: str, price: str) -> dict[str, str]:
    return {
        "symbol": "BTCUSDT",
        "side": side,
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": quantity,
        "price": price,
        "newOrderRespType": "RESULT",
    }


def told(exchange: Exchange, asked: str) -> list[dict[str, Any]]:
    """What `perpcore trace --json` says."""
    done = perpcore("trace", asked, "--data", str(exchange.venue.data), "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def log_lines(exchange: Exchange, name: str, trace: str) -> list[dict[str, Any]]:
    """Lines of a process's log that grep finds by the trace id."""
    text = (Path(exchange.folder) / f"{name}.log").read_text()
    return [json.loads(line) for line in text.splitlines() if trace in line]


def test_one_id_everywhere(exchange: Exchange, ann: Trader, bob: Trader) -> None:
    """An order rests, is filled by another request, and both are found by their ids."""
    rests, takes = "0af7651916cd43dd8448eb211c80319c", "b0b00000000000000000000000000001"
    before_ns = time.time_ns()
    status, placed, headers = send(
        ann, "POST", "/fapi/v1/order", parent_of(rests), **order("BUY", "0.010", "60000")
    )
    assert status == 200 and headers["x-trace-id"] == rests
    status, filled, headers = send(
        bob, "POST", "/fapi/v1/order", {"X-Trace-Id": takes}, **order("SELL", "0.010", "60000")
    )
    after_ns = time.time_ns()
    assert filled["status"] == "FILLED" and headers["x-trace-id"] == takes

    # The WAL, by its bytes alone.
    data = exchange.venue.data
    wanted = read_trace(rests)
    assert wanted is not None
    (logged,) = Wal(data, read_manifest(data)).find_trace(wanted)
    assert trace_in(logged.row) == wanted and int(logged.row["account"]) == ann.account

    # Reports, hops and books, beside the engine that runs; the newest are only in its ring.
    (story,) = told(exchange, rests)
    assert story["trace"] == rests and story["seq"] == logged.seq == placed["orderId"]
    assert story["command"]["kind"] == "PLACE"
    assert [r["kind"] for r in story["reports"]][:3] == ["ORDER", "CLIENT_ID", "TRACE"]
    (fill,) = (r for r in story["later"] if r["kind"] == "EXEC")
    assert fill["seq"] == filled["orderId"] and fill["order_id"] == placed["orderId"]
    assert {r["account"] for r in story["later"]} == {ann.account}
    # Every hop has its mark, in order: the venue is quiet, so that every command is sampled.
    hops = {hop["hop"]: hop["ns"] for hop in story["hops"]}
    assert list(hops) == list(AFTER) and all(hops.values()), hops
    assert in_order(hops)
    assert before_ns <= hops["received"] and hops["answered"] <= after_ns

    def booked() -> bool:
        (now,) = told(exchange, rests)
        return {entry["seq"] for entry in now["entries"]} == {placed["orderId"], filled["orderId"]}

    wait_until(booked, 60, "the books don't have it")
    done = perpcore("ledger", "trace", takes, "--data", str(data), "--format", "json")
    entries = json.loads(done.stdout)
    assert {entry["trace"] for entry in entries} == {takes}
    assert {entry["seq"] for entry in entries} == {filled["orderId"]}

    # As people read it.
    text = perpcore("trace", rests, "--data", str(data)).stdout
    assert text.startswith(f"trace {rests}\n") and "EXEC" in text and "received" in text


def test_a_batch_is_one_request(exchange: Exchange, ann: Trader) -> None:
    trace = "ba7c0000000000000000000000000001"
    orders = [order("BUY", "0.010", "50000"), order("BUY", "0.010", "nonsense")]
    orders.append(order("BUY", "0.020", "49000"))
    text = json.dumps(orders, separators=(",", ":"))
    status, answers, headers = send(
        ann, "POST", "/fapi/v1/batchOrders", {"X-Trace-Id": trace}, batchOrders=text
    )
    assert status == 200 and headers["x-trace-id"] == trace
    done = [answer["orderId"] for answer in answers if "orderId" in answer]
    assert [story["seq"] for story in told(exchange, trace)] == done and len(done) == 2
    (line,) = log_lines(exchange, "http", trace)
    assert line["event"] == "refused" and line["account"] == ann.account


def test_the_websocket_api_carries_it(exchange: Exchange, ann: Trader) -> None:
    trace = "5ea50000000000000000000000000001"
    params: dict[str, Any] = {"apiKey": ann.key, **order("BUY", "0.010", "48000")}
    params["timestamp"] = time.time_ns() // 1_000_000
    text = "&".join(f"{k}={v}" for k, v in sorted(params.items()))
    params["signature"] = hmac.new(ann.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    async def talk() -> tuple[str | None, list[Any]]:
        async with aiohttp.ClientSession() as s, s.ws_connect(f"{exchange.base}/ws-fapi/v1") as ws:
            answers = []
            for message in (
                {"id": 1, "method": "order.place", "params": params, "traceId": trace},
                {"id": 2, "method": "no.such", **parent_of(trace)},
                {"id": 3, "method": "time"},
            ):
                await ws.send_json(message)
                answers.append((await ws.receive(timeout=10)).json())
            return ws._response.headers.get("X-Trace-Id"), answers

    shake, (placed, refused, plain) = asyncio.run(talk())
    assert shake is not None and read_trace(shake) is not None
    assert placed["status"] == 200 and placed["traceId"] == refused["traceId"] == trace
    assert read_trace(plain["traceId"]) is not None and plain["traceId"] != trace
    (story,) = told(exchange, trace)
    assert story["seq"] == placed["result"]["orderId"]
    (line,) = log_lines(exchange, "http", trace)
    assert (line["where"], line["code"]) == ("WS no.such", -1020)


REFUSED = """
    id of the request                  order               status code    event
    dead0000000000000000000000000001   BUY 0.010 1         400    -4164   refused
    dead0000000000000000000000000002   BUY 0.010 60000.05  400    -1111   refused
    dead0000000000000000000000000003   BUY 0 60000         400    -4003   refused
"""


def test_what_was_refused_is_in_the_log(exchange: Exchange, ann: Trader) -> None:
    for row in REFUSED.strip().splitlines()[1:]:
        trace, side, quantity, price, status, code, event = row.split()
        got, body, headers = send(
            ann, "POST", "/fapi/v1/order", {"X-Trace-Id": trace}, **order(side, quantity, price)
        )
        assert (got, body["code"]) == (int(status), int(code)), body
        assert headers["x-trace-id"] == trace
        (line,) = log_lines(exchange, "http", trace)
        assert (line["event"], line["code"]) == (event, body["code"])
        assert line["role"] == "gateway" and line["instance"] == exchange.instance
        assert line["where"] == "POST /fapi/v1/order" and line["account"] == ann.account
        assert ann.key not in json.dumps(line), "nobody's key or signature is logged"


def test_every_process_logs_lines(exchange: Exchange) -> None:
    for name, role in (
        *(("http", "gateway"), ("admin", "gateway"), ("accounts", "follower")),
        ("ledger", "ledger"),
    ):
        first = (Path(exchange.folder) / f"{name}.log").read_text().splitlines()[0]
        line = json.loads(first)
        assert (line["role"], line["instance"]) == (role, exchange.instance), name
    engine = [line for line in exchange.venue.said().splitlines() if line.startswith("{")]
    assert {json.loads(line)["role"] for line in engine} == {"engine"}


def test_hops_as_a_trace_file(exchange: Exchange, ann: Trader, tmp_path: Path) -> None:
    out = tmp_path / "hops.json"
    data = str(exchange.venue.data)
    looking = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "trace", "--perfetto", str(out), "--seconds", "4",
         "--data", data],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while looking.poll() is None:
        placed = ann.order("BUY", "0.010", "46000")
        ann.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"])
        time.sleep(0.01)
    assert looking.stdout is not None
    said = looking.stdout.read()
    assert looking.returncode == 0, said
    made = json.loads(out.read_text())
    assert check_document(made) == made["otherData"]["samples"] > 5
    assert made["otherData"]["disordered"] == 0
    inner = {event["name"] for event in made["traceEvents"] if event["ph"] == "b"}
    assert {"gateway in", "ingress ring", "risk", "match", "settle", "journal", "publish",
            "to the gateway", "gateway out"} <= inner  # fmt: skip
    traces = {e["args"]["trace"] for e in made["traceEvents"] if "trace" in e.get("args", {})}
    assert all(read_trace(trace) for trace in traces)
    for hop in ("journal", "gateway out"):
        assert re.search(rf"^{hop} +\d+ +[\d.,]+ +[\d.,]+ +[\d.,]+$", said, re.M), said


def test_after_the_engine_has_stopped(exchange: Exchange, ann: Trader) -> None:
    """The last one: the files alone say the same."""
    trace = "57090000000000000000000000000001"
    send(ann, "POST", "/fapi/v1/order", {"X-Trace-Id": trace}, **order("BUY", "0.010", "47000"))
    (before,) = told(exchange, trace)
    assert exchange.venue.stop() == 0
    (after,) = told(exchange, trace)
    # Shared memory is gone, and with it the marks; what the gateway still has it still shows.
    marks = {hop["hop"]: hop["ns"] for hop in after["hops"]}
    assert marks["received"] and marks["sequenced"] and marks["durable"] is None
    same = ("seq", "trace", "command", "wal", "reports")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
