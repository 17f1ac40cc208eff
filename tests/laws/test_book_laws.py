"""Any stream of commands: kernel and twin say the same, and every table stays sound.

Prices come dense (a few ticks), sparse (10^9 ticks) and at the edges of leaves and trie nodes;
rings come smaller than what a command says; shards from one to three.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.matching import MATCHES_MIN
from engine.prices import INNER
from shm.codes import Flag, Kind, MatchKind, Reason, Route, Side, Stp, Tif, Type
from shm.records import NO_SYMBOL
from shm.units import PRICE_TICKS_MAX
from tests.model.book_rig import SMALL, Rig, check_laws, command, position_of
from tests.model.book_twin import Event, Twin

EDGE = [k << s for k in (1, 2, 63) for s in range(6, PRICE_TICKS_MAX.bit_length() - 6, 6)]
DENSE = st.integers(1000, 1006)
EDGES = st.sampled_from(EDGE).flatmap(lambda p: st.integers(max(1, p - 1), p))
SPARSE = st.integers(1, PRICE_TICKS_MAX)
PRICES = (
    lambda rng: rng.randint(1000, 1006),
    lambda rng: rng.choice(EDGE) - rng.randint(0, 1),
    lambda rng: rng.randint(1, PRICE_TICKS_MAX),
    lambda rng: 5000 + int(rng.gauss(0, 100)),
)

CHOICES: dict[str, Sequence[Any]] = {
    "what": ["place"] * 60
    + ["cancel", "expire", "reduce", "amend", "amend", "upsert"] * 5
    + ["cancel-all", "cancel-symbol", "nowhere"],
    "account": range(17, 21),
    "symbol": [0] * 6 + list(range(SMALL.symbols)),
    "side": list(Side),
    "lots": range(1, 10),
    "tif": [Tif.GTC] * 4 + list(Tif),
    "stp": [Stp.NONE] * 2 + list(Stp),
    "type": [Type.LIMIT] * 5 + [Type.MARKET],
    "which": range(1 << 16),
    "flags": [0] * 6
    + [Flag.NO_MATCH, Flag.TO_BACK, Flag.REMAINING, Flag.KEEP_QTY]
    + [Flag.REMAINING | Flag.TO_BACK],
}
INTENT = st.fixed_dictionaries({name: st.sampled_from(of) for name, of in CHOICES.items()})


class Writer:
    """Turns intents into commands as risk would hand them on; row reuse follows the twin."""

    def __init__(self) -> None:
        self.twin = Twin()
        self.orders: list[dict[str, Any]] = []
        self.next_row = 0
        self.commands: list[dict[str, Any]] = []
        self.wanted: list[list[Event]] = []

    def add(self, intent: dict[str, Any], price: int) -> None:
        c = self._command(intent, price)
        self.commands.append(c)
        self.wanted.append(self.twin.apply(c))

    def _fresh(self, i: dict[str, Any]) -> dict[str, Any]:
        # Of the same symbol: shards run one after the other here, so that another shard's row may
        # still be in use when its turn comes. Settlement frees a row only when all have passed.
        rows = self.twin.rows.values()
        dead = [o.slot for o in rows if not o.live and o.symbol == i["symbol"]]
        if dead and i["which"] % 2:
            slot = dead[i["which"] % len(dead)]
        else:
            slot, self.next_row = self.next_row, self.next_row + 1
        identity = {
            "slot": slot,
            "decided_order_id": len(self.orders) + 1,
            "account": i["account"],
            "symbol": i["symbol"],
            "position": position_of(i["account"], i["symbol"]),
            "side": i["side"],
        }
        self.orders.append(identity)
        return identity

    def _command(self, i: dict[str, Any], price: int) -> dict[str, Any]:
        what = i["what"]
        rules = {"order_tif": i["tif"], "order_stp": i["stp"], "limit_ticks": price}
        rules |= {"flags": int(i["flags"]), "decided_lots": i["lots"]}
        if what == "nowhere":
            return command(kind=Kind.PLACE, route=Route.NOWHERE)
        if what == "cancel-symbol":
            return command(
                kind=Kind.CANCEL_SYMBOL, symbol=i["symbol"], end_reason=Reason.SYMBOL_CLOSED
            )
        if what == "cancel-all":
            everywhere = i["which"] % 2
            return command(
                kind=Kind.CANCEL_ALL,
                account=i["account"],
                symbol=NO_SYMBOL if everywhere else i["symbol"],
                route=Route.ALL_SHARDS if everywhere else Route.SHARD,
                end_reason=Reason.CANCEL_ALL,
            )
        if what == "place" or not self.orders:
            return command(**self._fresh(i), **rules, kind=Kind.PLACE, type=i["type"])
        if what == "upsert" and i["which"] % 3 == 0:
            identity = self._fresh(i)
        else:
            # Mostly an order that lives: there the rules are.
            live = [o for o in self.orders if self.twin.rows[o["slot"]].live]
            pool = live if live and i["which"] % 8 else self.orders
            identity = pool[i["which"] % len(pool)]
        if what == "upsert":
            rules["flags"] |= int(Flag.UPSERT)
        if what == "cancel" or (what == "expire" and i["which"] % 2):
            rules["decided_lots"] = 0  # all of it
        kind = Kind.AMEND if what == "upsert" else Kind[what.upper()]
        return command(**{**identity, **rules, "kind": kind, "end_reason": Reason.USER_CANCEL})


def split(events: list[Event], c: dict[str, Any], shards: int) -> list[list[Event]]:
    """What each shard says of it; every shard asked says DONE for itself."""
    if c["route"] == Route.NOWHERE:
        return [[] for _ in range(shards)]
    if c["route"] == Route.SHARD:
        return [events if c["symbol"] % shards == k else [] for k in range(shards)]
    return [
        [e for e in events if e[0] == MatchKind.DONE or e[1] % shards == k] for k in range(shards)
    ]


def stream(data: Any, count_max: int) -> Writer:
    """A short stream that hypothesis shrinks, or a long one that only its seed names."""
    writer = Writer()
    seed = data.draw(st.none() | st.integers(0, 1 << 32), label="seed")
    if seed is None:
        prices = data.draw(st.sampled_from([DENSE, EDGES, SPARSE]), label="prices")
        intents = st.lists(st.tuples(INTENT, prices), max_size=count_max)
        for intent, price in data.draw(intents, label="stream"):
            writer.add(intent, price)
        return writer
    rng = Random(seed)
    drawn = PRICES[rng.randrange(len(PRICES))]
    for _ in range(8 * count_max):
        writer.add({name: rng.choice(of) for name, of in CHOICES.items()}, drawn(rng))
    return writer


@given(st.data())
@settings(deadline=None)
def test_kernel_and_twin_agree(data: Any) -> None:
    writer = stream(data, 120)
    shards = data.draw(st.integers(1, 3), label="shards")
    ring = data.draw(st.sampled_from([MATCHES_MIN, 16, 1024]), label="ring")
    budget = data.draw(st.sampled_from([1, 7, 1000]), label="budget")
    rig = Rig(shards=shards, ring=ring, budget=budget)
    said = rig.run(writer.commands)
    for c, events, wanted in zip(writer.commands, said, writer.wanted, strict=True):
        assert events == split(wanted, c, shards), c
    check_laws(rig)
    for symbol in range(SMALL.symbols):
        book = rig.shared["books"][symbol]
        assert book["trade_id"] == writer.twin.trades.get(symbol, 0)
        assert book["last_ticks"] == writer.twin.last_ticks.get(symbol, 0)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_shards_and_rings_leave_no_trace_in_what_a_snapshot_keeps(data: Any) -> None:
    writer = stream(data, 80)
    rigs = [Rig(shards=1), Rig(shards=3, ring=MATCHES_MIN, budget=3)]
    for rig in rigs:
        rig.run(writer.commands)
    for name in ("nodes", "books"):
        assert rigs[0].shared[name].tobytes() == rigs[1].shared[name].tobytes()


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_a_rebuilt_book_goes_on_as_if_nothing_had_happened(data: Any) -> None:
    writer = stream(data, 80)
    cut = data.draw(st.integers(0, len(writer.commands)), label="cut")
    shards = data.draw(st.integers(1, 3), label="shards")
    rig = Rig(shards=2)
    rig.run(writer.commands[:cut])
    again = rig.rebuilt(shards)
    check_laws(again)
    said = again.run(writer.commands[cut:])
    for c, events, wanted in zip(writer.commands[cut:], said, writer.wanted[cut:], strict=True):
        assert events == split(wanted, c, shards), c
    check_laws(again)
    rig.run(writer.commands[cut:])
    assert rig.shared["nodes"].tobytes() == again.shared["nodes"].tobytes()


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_running_out_of_leaves_ends_the_order_and_leaks_nothing(data: Any) -> None:
    """With few leaves and nodes some orders find no place: BOOK_FULL, and all else stays sound."""
    prices = data.draw(st.sampled_from([EDGES, SPARSE]))
    sizes = {"leaves": data.draw(st.integers(1, 6)), "trie": data.draw(st.integers(1, 20))}
    rig = Rig(SMALL._replace(**sizes))
    orders = data.draw(st.lists(st.tuples(prices, st.booleans()), min_size=1, max_size=40))
    resting: dict[int, int] = {}  # slot -> price >> 6
    for slot, (price, cancel) in enumerate(orders):
        place = command(
            slot=slot,
            decided_order_id=slot + 1,
            position=position_of(20, 0),
            limit_ticks=price,
            decided_lots=1,
        )
        (event,) = rig.run([place])[0][0]
        leaves, trie = needed({*resting.values(), price >> 6})
        if leaves <= sizes["leaves"] and trie <= sizes["trie"]:
            assert event[0] == MatchKind.RESTED
            resting[slot] = price >> 6
        else:
            assert (event[0], event[5], event[9]) == (MatchKind.ENDED, 1, Reason.BOOK_FULL)
        if cancel and resting:
            gone = sorted(resting)[price % len(resting)]
            del resting[gone]
            rig.run([command(kind=Kind.CANCEL, slot=gone, decided_order_id=gone + 1)])
        check_laws(rig)
    rig.run([command(kind=Kind.CANCEL_SYMBOL)])
    check_laws(rig)
    assert rig.shared["books"][0]["bid_orders"] == 0


def needed(parts: set[int]) -> tuple[int, int]:
    """(leaves, inner nodes) that orders in these leaves need, whatever rested before."""
    return len(parts), sum(len({part >> 6 * k for part in parts}) for k in range(1, INNER + 1))
