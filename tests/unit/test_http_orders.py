"""What the gateway makes of a real engine's reports: orders, answers, events of the user stream."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.http.errors import ApiError
from gateways.http.orders import AccountState, Order
from gateways.http.shapes import events, order_json, order_text, query_json
from gateways.http.venue import KNOWN_MAX, Symbol
from gateways.scales import scale_of
from shm.codes import AlgoType, Flag, Kind, Reason, Side, State, Status, Tif, Type
from shm.records import REPORT
from tools.inprocess import Venue as Engine

ANN, BOB = 16, 17
WORDS = np.dtype([("head", "<q"), ("b", "<u8"), ("w", "<q", 6)])
USDT = {"name": "USDT", "scale": 6}


class Market:
    """USDT and BTCUSDT, as the gateway's `Venue` shows them."""

    def __init__(self) -> None:
        row = {"name": "BTCUSDT", "asset": 0, "state": 0, "mark_ticks": 600_000}
        self.symbol = Symbol(0, row, scale_of(100, 100_000, 6), USDT)
        self.by_index = {0: self.symbol}
        self.assets = {0: USDT}

    def at(self, index: int) -> Symbol:
        return self.by_index[index]


class Rig:
    """An engine in this process, and two accounts that are followed."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.market = Market()
        self.states = {ANN: AccountState(ANN), BOB: AccountState(BOB)}
        self.heard: dict[int, list[Any]] = {ANN: [], BOB: []}
        self.seen = 0
        e = self.engine
        e.send(Kind.ASSET, asset=0, scale=6, name="USDT")
        e.send(
            Kind.SYMBOL,
            symbol=0,
            tick_lot_quanta=100,
            tick_quanta=100_000,
            asset=0,
            state=State.TRADING,
            name="BTCUSDT",
            qty_lots_min=1,
            qty_lots_max=1_000_000,
            price_ticks_min=1,
            price_ticks_max=10_000_000,
            maker_fee_ppm=200,
            taker_fee_ppm=500,
            leverage_max=100,
            leverage_default=20,
            orders_max=200,
        )
        e.send(Kind.MARK, symbol=0, mark_ticks=600_000)
        for account in (ANN, BOB):
            e.send(Kind.ACCOUNT, account=account, state=State.TRADING)
            e.send(
                Kind.DEPOSIT,
                account=account,
                asset=0,
                amount_quanta=10**12,
                client_id=f"d{account}",
            )
        self.take()
        for heard in self.heard.values():
            heard.clear()

    def take(self) -> None:
        """Let the engine work, and apply every report it made."""
        self.engine.work()
        rows = self.engine.all_reports()[self.seen :]
        self.seen += len(rows)
        assert rows.dtype == REPORT.dtype
        words = rows.view(WORDS)["w"].tolist()
        for row, six in zip(rows, words, strict=True):
            state = self.states.get(int(row["account"]))
            if state is None:
                continue
            if state.turn is not None and state.turn.seq != int(row["seq"]):
                self.flush(state)
            report = (int(row["seq"]), int(row["account"]), int(row["symbol"]))
            state.apply((*report, int(row["kind"]), int(row["status"]), *six), 10**18)
        for state in self.states.values():
            self.flush(state)

    def flush(self, state: AccountState) -> None:
        turn, state.turn = state.turn, None
        if turn is not None:
            self.heard[state.account] += events(state, turn, self.market, {0: 600_000})  # type: ignore[arg-type]

    def place(self, account: int, side: Side, lots: int, ticks: int, **more: Any) -> None:
        fields = {"type": Type.LIMIT, "tif": Tif.GTC, **more}
        self.engine.send(
            Kind.PLACE,
            account=account,
            symbol=0,
            side=side,
            qty_lots=lots,
            price_ticks=ticks,
            **fields,
        )
        self.take()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def said(events_heard: list[Any]) -> list[str]:
    """Events in short: NEW/NEW 0.000, TRADE/FILLED 0.010, ACCOUNT_UPDATE ORDER 0.010."""
    short = []
    for event in events_heard:
        if event["e"] == "ORDER_TRADE_UPDATE":
            o = event["o"]
            short.append(f"{o['x']}/{o['X']} {o['z']}")
        elif event["e"] == "ACCOUNT_UPDATE":
            a = event["a"]
            short.append(f"{a['m']} {a['P'][0]['pa'] if a['P'] else ''}".strip())
        elif event["e"] != "TRADE_LITE":
            short.append(event["e"])
    return short


def test_an_order_from_birth_to_fill(rig: Rig) -> None:
    rig.place(ANN, Side.BUY, 10, 600_000, client_id="abc")
    assert said(rig.heard[ANN]) == ["NEW/NEW 0.000"]
    (order,) = rig.states[ANN].orders.values()
    shown = query_json(order, rig.market.symbol)
    assert (shown["clientOrderId"], shown["price"], shown["origQty"]) == ("abc", "60000.0", "0.010")
    rig.place(BOB, Side.SELL, 4, 600_000, tif=Tif.IOC)
    rig.place(BOB, Side.SELL, 6, 600_000, tif=Tif.IOC)
    assert said(rig.heard[ANN])[1:] == [
        "TRADE/PARTIALLY_FILLED 0.004",
        "ORDER 0.004",
        "TRADE/FILLED 0.010",
        "ORDER 0.010",
    ]
    trade = next(e["o"] for e in rig.heard[ANN] if e["e"] == "ORDER_TRADE_UPDATE" and e["o"]["t"])
    assert (trade["c"], trade["m"], trade["n"], trade["L"]) == ("abc", True, "0.048000", "60000.0")
    assert rig.states[ANN].orders == {} and rig.states[ANN].find(order.order_id, None) is order
    done = order_json(order, rig.market.symbol)
    assert (done["status"], done["avgPrice"], done["cumQuote"]) == (
        "FILLED",
        "60000.00000",
        "600.000000",
    )
    assert order_json(order, rig.market.symbol, accepted_only=True)["status"] == "NEW"


CODES = {"side": 2, "type": 2, "tif": 5, "leg": 3, "stp": 4, "working": 2}


@given(
    st.fixed_dictionaries({name: st.integers(0, most - 1) for name, most in CODES.items()}),
    st.fixed_dictionaries(
        {name: st.booleans() for name in ("reduce_only", "protect", "close_position")}
    ),
    st.fixed_dictionaries(
        {
            **{name: st.integers(0, 2**42) for name in ("price_ticks", "quote", "trigger_ticks")},
            **{name: st.integers(0, 10**15) for name in ("expire_ms", "updated_ms", "order_id")},
            "status": st.sampled_from([int(s) for s in Status if s <= Status.REJECTED]),
            "client_id": st.text(max_size=36),
            "price_match": st.sampled_from(["NONE", "QUEUE_5"]),
            "algo_id": st.sampled_from([0, 0, 7]),
            "cause": st.sampled_from([0, 0, int(Kind.LIQUIDATION_ORDER)]),
            "reason": st.sampled_from([0, int(Reason.SELF_TRADE), int(Reason.COUNTDOWN)]),
        }
    ),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_an_answer_as_text_is_the_answer(
    codes: dict[str, int],
    flags: dict[str, bool],
    values: dict[str, Any],
    open_lots: int,
    executed_lots: int,
    accepted_only: bool,
) -> None:
    """What is filled into a text says the same, member for member, as what is encoded."""
    order, symbol = Order(1, 0), Market().symbol
    for name, value in (codes | flags | values).items():
        setattr(order, name, value)
    order.algo_type = int(next(iter(AlgoType)))
    order.open_lots, order.qty_lots = open_lots, open_lots + executed_lots
    slow = order_json(order, symbol, accepted_only=accepted_only)
    fast = order_text(order, symbol, accepted_only=accepted_only)
    assert bytes(fast) == msgspec.json.encode(slow)


@pytest.mark.parametrize("read", ["price_ticks", "qty_lots"])
def test_what_was_read_before_is_read_the_same(read: str) -> None:
    """A symbol remembers texts that were good, never so many; what was wrong stays wrong."""
    row = {f"{name}_min": 10 for name in ("price_ticks", "qty_lots")}
    row |= {f"{name}_max": 10**7 for name in ("price_ticks", "qty_lots")}
    symbol = Symbol(0, {"name": "B", "asset": 0, **row}, scale_of(100, 100_000, 6), USDT)
    fresh = getattr(Symbol, {"price_ticks": "_read_price", "qty_lots": "_read_qty"}[read])
    more = (False,) if read == "price_ticks" else ()
    for _ in range(2):
        for text in ("12.0", "12", "12.000", "0.001", "-1", "99999999999", "1.00001", "x", ""):
            try:
                wanted = fresh(symbol, text, *more)
            except ApiError as error:
                with pytest.raises(ApiError) as refused:
                    getattr(symbol, read)(text)
                assert refused.value.code == error.code
            else:
                assert getattr(symbol, read)(text) == wanted
    for k in range(2 * KNOWN_MAX):
        assert getattr(symbol, read)(f"{100 + k}") == fresh(symbol, f"{100 + k}", *more)
    assert len(symbol._prices) <= KNOWN_MAX and len(symbol._quantities) <= KNOWN_MAX


def test_cancel_and_amend(rig: Rig) -> None:
    rig.place(ANN, Side.BUY, 10, 590_000, client_id="abc")
    (order,) = rig.states[ANN].orders.values()
    rig.engine.send(
        Kind.AMEND,
        account=ANN,
        symbol=0,
        order_id=order.order_id,
        price_ticks=590_010,
        qty_lots=20,
        flags=Flag.TO_BACK,
    )
    rig.take()
    assert (order.price_ticks, order.qty_lots) == (590_010, 20)
    rig.engine.send(Kind.CANCEL, account=ANN, symbol=0, order_id=order.order_id)
    rig.take()
    assert said(rig.heard[ANN]) == [
        "NEW/NEW 0.000",
        "AMENDMENT/NEW 0.000",
        "CANCELED/CANCELED 0.000",
    ]


def test_what_the_book_refuses_is_recorded_nowhere(rig: Rig) -> None:
    rig.place(ANN, Side.SELL, 10, 600_100)
    rig.place(BOB, Side.BUY, 10, 600_100, tif=Tif.GTX)
    rig.place(BOB, Side.BUY, 20, 600_100, tif=Tif.FOK)
    assert rig.heard[BOB] == [] and rig.states[BOB].orders == {}


def test_a_remainder_expires_with_its_reason(rig: Rig) -> None:
    rig.place(ANN, Side.SELL, 10, 600_100)
    rig.place(BOB, Side.BUY, 15, 600_100, tif=Tif.IOC)
    assert said(rig.heard[BOB]) == [
        "NEW/NEW 0.000",
        "TRADE/PARTIALLY_FILLED 0.010",
        "EXPIRED/EXPIRED 0.010",
        "ORDER 0.010",
    ]
    ended = [e for e in rig.heard[BOB] if e["e"] == "ORDER_TRADE_UPDATE"][-1]
    assert ended["o"]["er"] == "2"


def test_closing_tells_what_was_won(rig: Rig) -> None:
    rig.place(ANN, Side.BUY, 10, 600_000)
    rig.place(BOB, Side.SELL, 10, 600_000, tif=Tif.IOC)
    rig.place(BOB, Side.BUY, 10, 601_000)
    rig.heard[ANN].clear()
    rig.place(ANN, Side.SELL, 10, 601_000, tif=Tif.IOC)
    trade = [e for e in rig.heard[ANN] if e["e"] == "ORDER_TRADE_UPDATE"][-1]["o"]
    assert trade["rp"] == "1.000000", "0.010 at 100 more"
    update = rig.heard[ANN][-1]["a"]
    assert update["P"][0]["pa"] == "0.000" and update["B"][0]["a"] == "USDT"
    assert update["B"][0]["bc"] == "0.000000"


def test_reports_the_view_already_had_are_left_out(rig: Rig) -> None:
    rig.states[ANN].seeded_seq = 10**9
    rig.place(ANN, Side.BUY, 10, 590_000)
    assert rig.states[ANN].orders == {} and rig.heard[ANN] == []
