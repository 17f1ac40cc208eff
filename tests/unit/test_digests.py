"""A signed request is taken once within its window, whatever becomes of it, across restarts."""

from __future__ import annotations

from typing import Any

import pytest

from engine.recovery import kept_tables, restore
from shm.codes import Kind, Side, State
from shm.kinds import COMMAND_RECORDS, HAS_ORIGIN
from shm.records import COMMAND
from tests.venue import ANN, BOB, LIMITS, SECOND, Venue, check_laws
from tools.inprocess import fresh_arrays

SMALL = LIMITS._replace(leaves=64, trie=128, digests=8)
WINDOW = LIMITS.digest_window_ns


def place(v: Venue, digest: tuple[int, int], **fields: Any) -> tuple[str, int]:
    """(reason, order id or original) of a signed order."""
    fields = {"account": ANN, "symbol": 0, "side": Side.BUY, "price_ticks": 50, **fields}
    hi, lo = digest
    v.send(Kind.PLACE, qty_lots=1, digest_hi=hi, digest_lo=lo, **fields)
    told = v.drain()[0]
    return told["reason"], told["order_id"]


def test_the_window_is_sequencer_time() -> None:
    v = Venue(SMALL).open_market()
    first = place(v, (1, 2))[1]
    assert place(v, (1, 2)) == ("REPLAYED", first)
    assert place(v, (1, 2), account=BOB, price_ticks=60) == ("REPLAYED", first)
    assert place(v, (2, 1))[0] == place(v, (0, 1))[0] == place(v, (1, 0))[0] == "NONE"
    v.wait(WINDOW - 1)
    assert place(v, (1, 2)) == ("REPLAYED", first)
    v.wait(1)
    again = place(v, (1, 2))
    assert again[0] == "NONE" and again[1] > first
    assert place(v, (1, 2)) == ("REPLAYED", again[1])
    check_laws(v)


def test_no_digest_is_no_digest() -> None:
    v = Venue(SMALL).open_market()
    assert {place(v, (0, 0))[0] for _ in range(3)} == {"NONE"}
    assert v.venue["digests_count"] == 0


def test_what_was_refused_is_remembered_too() -> None:
    """Or a request caught on its way could be sent again when there is money for it."""
    v = Venue(SMALL).open_market(quanta=1)
    assert place(v, (5, 5), price_ticks=90_000)[0] == "INSUFFICIENT_MARGIN"
    v.send(Kind.DEPOSIT, account=ANN, amount_quanta=10**9)
    v.drain()
    assert place(v, (5, 5), price_ticks=90_000)[0] == "REPLAYED"


def test_the_envelope_comes_first() -> None:
    """A producer's number sent again is a duplicate, and says nothing of the digest."""
    v = Venue(SMALL).open_market()
    first = place(v, (5, 5))[1]
    assert place(v, (5, 5), request=v.numbers[1])[0] == "DUPLICATE_REQUEST"
    assert place(v, (5, 5)) == ("REPLAYED", first)


def test_a_full_table_forgets_the_oldest() -> None:
    v = Venue(SMALL).open_market()
    for k in range(1, 10):
        assert place(v, (k, 0))[0] == "NONE"
    assert place(v, (1, 0))[0] == "NONE"  # the ninth had its row
    assert place(v, (3, 0))[0] == "REPLAYED"
    assert place(v, (2, 0))[0] == "NONE"
    assert v.venue["digests_count"] == 8


@pytest.mark.parametrize("digests", [8, 16])
def test_restored_from_a_snapshot(digests: int) -> None:
    """With the same room, or more of it after the ring had wrapped."""
    v = Venue(SMALL).open_market()
    for k in range(1, 13):
        place(v, (k, 7))
        v.wait(SECOND)
    limits = SMALL._replace(digests=digests)
    again = Venue(limits)
    kept = {name: rows.copy() for name, rows in kept_tables(v.arrays, v.limits).items()}
    restore(again.arrays, limits, kept, 1)
    seqs = again.arrays["digests"]["seq"]
    assert (seqs != 0).sum() == 8 == again.venue["digests_count"]
    first = int(again.venue["digests_first"])
    order = [int(seqs[(first + k) % digests]) for k in range(8)]
    assert order == sorted(order)
    assert fresh_arrays(limits)["digests"].dtype == again.arrays["digests"].dtype


def test_kinds_without_an_origin_are_never_signed() -> None:
    """Their third line is their own: what stands there is no digest."""
    v = Venue(SMALL).open_market()
    note = [0, 0, 3, 4, 0, 0, 0, 0]
    for _ in range(2):
        assert v.do(Kind.AUDIT, note3=note)[0]["reason"] == "NONE"
    for kind in Kind:
        layout = COMMAND_RECORDS.get(kind, COMMAND)
        signed = "digest_hi" in (layout.dtype.names or ()) and kind != Kind.NONE
        assert bool(HAS_ORIGIN >> kind & 1) == signed


def test_every_kind_that_is_signed_is_refused_again() -> None:
    v = Venue(SMALL._replace(digests=64)).open_market()
    for kind, fields in (
        (Kind.TRANSFER, {"account": ANN, "reference": BOB, "amount_quanta": 5}),
        (Kind.REQUEST_WITHDRAW, {"account": ANN, "amount_quanta": 5}),
        (Kind.COUNTDOWN, {"account": ANN, "symbol": 0, "value": SECOND}),
        (Kind.LEVERAGE, {"account": ANN, "symbol": 0, "leverage": 3}),
        (Kind.SYMBOL_STATE, {"symbol": 0, "state": State.TRADING}),
        (Kind.CANCEL_ALL, {"account": ANN, "symbol": 0}),
    ):
        more = {**fields, "digest_hi": int(kind), "digest_lo": 1}
        told = v.do(kind, **more)[0]
        assert told["reason"] == "NONE", kind
        again = v.do(kind, **more)[0]
        assert (again["reason"], again["original"]) == ("REPLAYED", told["seq"])
    assert v.wallet(BOB)["adjusted_quanta"] == 5
    check_laws(v)
