"""A client of a venue that runs on another host of ours (systemd_host.py), started inside it.

    python -m tests.process.systemd_client begin            declare a market, make a trader; its key
    python -m tests.process.systemd_client order KEY TRACE  place an order until one is taken
    python -m tests.process.systemd_client refused KEY TRACE  ask for what is refused
    python -m tests.process.systemd_client hammer SECONDS   connect again and again; what was refused

Prints one JSON object.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.process.gateway_helpers import Exchange, Trader

PORT = 8081
DATA = Path("/var/lib/perpcore/data")


class Remote(Exchange):
    """A venue that systemd runs."""

    def __init__(self) -> None:
        self.port = PORT
        self.base = f"http://127.0.0.1:{PORT}"
        self.processes = {}

    @property
    def admin_socket(self) -> Path:
        return DATA / "admin.sock"


def begin(exchange: Exchange) -> dict[str, Any]:
    exchange.until_serving()
    exchange.declare()
    trader = exchange.trader("ann")
    return {"key": trader.key, "secret": trader.secret, "account": trader.account}


def order(
    exchange: Exchange, who: dict[str, Any], trace: str, seconds: float = 60
) -> dict[str, Any]:
    """Until an order was taken; how long that took, and the order."""
    trader = Trader(exchange, who["account"], who["key"], who["secret"])
    sent = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01", "price": "59000"}
    sent |= {"type": "LIMIT", "timeInForce": "GTC", "newOrderRespType": "RESULT"}
    begun, tries = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        tries += 1
        headers = {"X-MBX-APIKEY": trader.key, "X-Trace-Id": trace}
        query = trader.signed(**sent)
        try:
            status, reply, _ = exchange.call("POST", f"/fapi/v1/order?{query}", None, headers)
        except OSError:
            status, reply = 0, None
        if status == 200:
            return {"ms": round((time.monotonic() - begun) * 1e3), "tries": tries, "order": reply}
        time.sleep(0.01)
    raise SystemExit(f"no order was taken within {seconds} s; the last answer: {status} {reply}")


def refused(exchange: Exchange, who: dict[str, Any], trace: str) -> dict[str, Any]:
    """An order of nothing."""
    trader = Trader(exchange, who["account"], who["key"], who["secret"])
    query = trader.signed(symbol="BTCUSDT", side="BUY", quantity="0", type="MARKET")
    headers = {"X-MBX-APIKEY": trader.key, "X-Trace-Id": trace}
    status, reply, _ = exchange.call("POST", f"/fapi/v1/order?{query}", None, headers)
    return {"status": status, **reply}


def hammer(seconds: float) -> dict[str, Any]:
    """Connect, ask, close, for so long."""
    done = refused = broken = 0
    longest = 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        try:
            connection.connect()
            connection.request("GET", "/fapi/v1/ping")
            assert connection.getresponse().status == 200
            done += 1
        except ConnectionRefusedError:
            refused += 1
        except (OSError, http.client.HTTPException):
            broken += 1  # it had begun with the process that ended
        finally:
            connection.close()
        longest = max(longest, time.monotonic() - begun)
        time.sleep(0.01)  # well below the weight of a minute
    return {"done": done, "refused": refused, "broken": broken, "longest_s": round(longest, 3)}


def main(words: list[str]) -> dict[str, Any]:
    if words[0] == "begin":
        return begin(Remote())
    if words[0] == "order":
        return order(Remote(), json.loads(words[1]), words[2])
    if words[0] == "refused":
        return refused(Remote(), json.loads(words[1]), words[2])
    return hammer(float(words[1]))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
