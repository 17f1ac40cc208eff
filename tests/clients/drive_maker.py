"""A market maker on ccxt.pro, with ccxt's own order-book checks on: B, W, K, S as in README.

    python drive_maker.py SECONDS

Quotes both sides around the middle, moves its quotes with the book, takes now and then itself, and
hears its orders, trades, positions and balance. ccxt raises ChecksumError for a chain of depth
that has a gap; a book of its that is crossed, or differs from what the account has in the end, is
an error here. Prints what was done.
"""

import asyncio
import os
import sys
import time

import ccxt
import ccxt.pro

B, W, K, S = (os.environ[name] for name in ("B", "W", "K", "S"))
SECONDS = float(sys.argv[1])
SYMBOL = "BTC/USDT:USDT"
SIZE = 0.01
API = {
    "fapiPublic": B + "/fapi/v1", "fapiPublicV2": B + "/fapi/v2", "fapiPublicV3": B + "/fapi/v3",
    "fapiPrivate": B + "/fapi/v1", "fapiPrivateV2": B + "/fapi/v2", "fapiPrivateV3": B + "/fapi/v3",
    "fapiData": B + "/futures/data", "sapi": B + "/sapi/v1",
    "ws": {"linear": W + "/ws", "ws-api": {"linear": W + "/ws-fapi/v1"}},
}  # fmt: skip
ERRORS = {"exact": ccxt.binanceusdm().exceptions["linear"]["exact"]}
# A quote that would have taken: all in a maker's day.
USUAL = (ccxt.OrderNotFillable, ccxt.InvalidOrder, ccxt.OrderImmediatelyFillable)
done = dict.fromkeys(("books", "placed", "changed", "taken", "refused", "crossed", "one-sided"), 0)
fills = {}
orders = {}
until = time.monotonic() + SECONDS


async def books(ex):
    while time.monotonic() < until:
        book = await asyncio.wait_for(ex.watch_order_book(SYMBOL), 30)
        done["books"] += 1
        bids, asks = book["bids"], book["asks"]
        done["crossed"] += bool(bids and asks and bids[0][0] >= asks[0][0])
        done["one-sided"] += not (bids and asks)


async def hear_orders(ex):
    while True:
        for order in await ex.watch_orders(SYMBOL):
            orders[order["id"]] = order["status"]


async def hear_trades(ex):
    while True:
        for trade in await ex.watch_my_trades(SYMBOL):
            fills[trade["id"], trade["takerOrMaker"]] = trade


async def hear_money(ex):
    while True:
        await ex.watch_balance()
        done["balances"] = done.get("balances", 0) + 1


async def quote(ex, side, sign):
    """One quote, kept a little outside the best price."""
    own, at = None, 0.0
    while time.monotonic() < until:
        await asyncio.sleep(0.25)
        book = ex.orderbooks[SYMBOL]
        levels = book["bids" if side == "buy" else "asks"]
        if not levels:
            continue  # somebody took all of it; the makers are about to come back
        best = levels[0][0]
        price = float(ex.price_to_precision(SYMBOL, best - sign * 0.5))
        try:
            if own is None or orders.get(own) in ("closed", "canceled", "expired"):
                own = (
                    await ex.create_order_ws(
                        SYMBOL, "limit", side, SIZE, price, {"timeInForce": "GTX"}
                    )
                )["id"]
                done["placed"] += 1
            elif price != at:
                await ex.edit_order(own, SYMBOL, "limit", side, SIZE, price)
                done["changed"] += 1
            at = price
        except ccxt.OrderNotFound:
            own = None  # it has just traded
        except USUAL:
            done["refused"] += 1


async def take(ex):
    turn = 0
    while time.monotonic() < until:
        await asyncio.sleep(0.5)
        await ex.create_order_ws(SYMBOL, "market", "sell" if turn % 2 else "buy", SIZE)
        turn += 1
        done["taken"] += 1


async def flat(ex):
    """Close what is open; returns what it was, negative for short."""
    held = 0.0
    for p in await ex.fetch_positions([SYMBOL]):
        held = p["contracts"] if p["side"] == "long" else -p["contracts"]
        side = "sell" if held > 0 else "buy"
        await ex.create_order(SYMBOL, "market", side, abs(held), None, {"reduceOnly": True})
    return held


async def main():
    options = {"fetchCurrencies": False, "watchOrderBook": {"checksum": True}}
    ex = ccxt.pro.binanceusdm(
        {"apiKey": K, "secret": S, "urls": {"api": API}, "options": options, "exceptions": ERRORS}
    )
    try:
        await ex.load_markets()
        await ex.watch_order_book(SYMBOL)
        await flat(ex)
        begun = ex.milliseconds()
        heard = [asyncio.create_task(f(ex)) for f in (hear_orders, hear_trades, hear_money)]
        await asyncio.sleep(2.0)
        work = [books(ex), quote(ex, "buy", 1), quote(ex, "sell", -1), take(ex)]
        await asyncio.gather(*work)
        for task in heard:
            assert not task.done(), task.exception()
        await ex.cancel_all_orders(SYMBOL)
        await asyncio.sleep(2.0)
        for task in heard:
            task.cancel()
        # Everything that was told is in the history, and the other way round.
        found, since, before = set(), begun, -1
        while len(found) > before:
            before = len(found)
            page = await ex.fetch_my_trades(SYMBOL, since, 1000)
            found |= {(t["id"], t["takerOrMaker"]) for t in page}
            since = page[-1]["timestamp"] if page else since
        assert found == set(fills), found ^ set(fills)
        net = sum((1 if t["side"] == "buy" else -1) * t["amount"] for t in fills.values())
        held = await flat(ex)
        assert abs(net - held) < 1e-9, (net, held)
        assert done["crossed"] == 0 and done["books"] > SECONDS and done["placed"] and fills
        as_maker = sum(t["takerOrMaker"] == "maker" for t in fills.values())
        print({**done, "fills": len(fills), "as maker": as_maker, "seconds": SECONDS})
    finally:
        await ex.close()


asyncio.run(main())
