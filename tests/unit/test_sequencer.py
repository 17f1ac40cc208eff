"""What enters the total order: whose, when, in which order, and what is made of what may not."""

from __future__ import annotations

import numpy as np
import pytest

from engine.pipeline import Stage, engine_of
from engine.proposals import PUT, TAKEN
from engine.sequencer import QUOTA
from shm import cursors, ingress
from shm.codes import Flag, Kind, Side, State, Tif
from shm.records import NO_SYMBOL
from tests.venue import (
    ANN,
    BOB,
    CLOCK,
    DESK,
    EPOCH_NS,
    GATEWAY,
    SECOND,
    Venue,
    check_laws,
    check_reports,
    command,
)

SENDS = """
    ring     kind            flags     becomes
    clock    TICK                      TICK
    clock    MARK                      MARK
    clock    PLACE                     REFUSED
    clock    DEPOSIT                   REFUSED
    gateway  PLACE                     PLACE
    gateway  CANCEL_ALL                CANCEL_ALL
    gateway  LEVERAGE                  LEVERAGE
    gateway  PLACE           NO_MATCH  REFUSED
    gateway  PLACE           TAKE_NAME REFUSED
    gateway  AMEND           REMAINING REFUSED
    gateway  AMEND           TO_BACK   AMEND
    gateway  PLACE           REDUCE_ONLY PLACE
    gateway  DEPOSIT                   REFUSED
    gateway  CANCEL_SYMBOL             REFUSED
    gateway  EXPIRE                    REFUSED
    gateway  CHECKPOINT                REFUSED
    gateway  REFUSED                   REFUSED
    desk     PLACE           NO_MATCH  PLACE
    desk     AMEND           REMAINING AMEND
    desk     DEPOSIT                   DEPOSIT
    desk     EXPIRE                    REFUSED
    desk     CHECKPOINT                REFUSED
    desk     0                         NONE
    desk     15                        NONE
    desk     63                        NONE
    desk     64                        NONE
    desk     255                       NONE
"""
RINGS = {"clock": CLOCK, "desk": DESK, "gateway": GATEWAY}
ID = {CLOCK: 1, DESK: 4, GATEWAY: 8}


@pytest.mark.parametrize("line", SENDS.strip().splitlines()[1:], ids=lambda s: "-".join(s.split()))
def test_a_producer_sends_what_its_ring_allows(line: str) -> None:
    ring, kind, *flags, becomes = line.split()
    v = Venue()
    v.send(
        Kind[kind] if kind in Kind.__members__ else int(kind),
        ring=RINGS[ring],
        account=ANN,
        symbol=0,
        **({"flags": Flag[flags[0]]} if flags else {}),
    )
    v.feed()
    assert v.sequence() == 1
    slot = v.arrays["commands"][1]
    assert Kind(slot["kind"]).name == becomes
    assert (slot["seq"], slot["account"]) == (1, ANN)
    assert slot["request"] == ID[RINGS[ring]] << 48 | 1


def test_a_producer_cannot_speak_for_another() -> None:
    v = Venue()
    v.send(Kind.TICK, ring=CLOCK, request=(4 << 48) | 77)
    v.feed()
    v.sequence()
    assert v.arrays["commands"][1]["request"] == 1 << 48 | 77


def test_lines_that_were_not_sent_are_zero() -> None:
    """Whatever the slots of both rings held a lap ago."""
    v = Venue(commands=64, ingress_slots=16)
    full = command(
        Kind.PLACE, account=ANN, symbol=0, client_id="x" * 36, expire_ns=5, trace_hi=6, key_id=7
    )
    assert full["lines"] == 3
    for lines, kept in ((1, 8), (2, 16), (3, 24), (0, 8), (4, 8), (255, 8)):
        for _ in range(64):
            v.send_rows(full)
        v.work()
        rows = full.copy()
        rows["lines"] = lines
        v.send_rows(rows)
        v.work()
        words = v.log[-1].reshape(1).view(np.int64)
        assert not words[kept:24].any() and v.log[-1]["lines"] == kept // 8
        sent = full.view(np.int64)
        assert (words[8:kept] == sent[8:kept]).all()
        assert v.log[-1]["settled_lag"] == 0


def test_settled_lag_is_not_the_producers() -> None:
    v = Venue()
    v.send(Kind.TICK, settled_lag=9, account=ANN)
    v.work()
    assert v.log[-1]["settled_lag"] == 0 and v.log[-1]["account"] == ANN


def test_time_never_goes_back() -> None:
    v = Venue()
    stamps = []
    for wait in (0, 5, 0, 3 * SECOND):
        v.wait(wait)
        v.send(Kind.TICK)
        v.work()
        stamps.append(int(v.log[-1]["ts_ns"]) - EPOCH_NS)
    assert stamps == [0, 5, 5, 3 * SECOND + 5]


def test_rings_are_drained_in_turn() -> None:
    """No producer starves another, and the clock comes first."""
    v = Venue(commands=1024)
    for _ in range(QUOTA + 10):
        v.send(Kind.TICK, ring=DESK)
        v.send(Kind.CANCEL_ALL, ring=GATEWAY, account=ANN)
    v.send(Kind.TICK, ring=CLOCK)
    v.feed()
    v.sequence()
    v.sequence()
    who = v.arrays["commands"]["request"][1 : 2 * QUOTA + 22] >> 48
    want = [1] + [4] * QUOTA + [8] * QUOTA + [4] * 10 + [8] * 10
    assert who.tolist() == want


def test_a_slot_is_free_when_all_have_passed_it() -> None:
    """Settlement, the journal, and every shard: also one that has nothing to do with the command."""
    v = Venue(shards=2, commands=64)
    for _ in range(100):
        v.send(Kind.CANCEL_SYMBOL, symbol=9)  # refused: matching never sees it
    v.feed()
    v.sequence()
    v.sequence()
    assert v.cursors[cursors.SEQUENCED] == 64
    v.risk()
    assert v.cursors[cursors.SETTLED] == 64
    assert v.sequence() == 0, "the journal has not been there"
    v.journal()
    assert v.sequence() == 0, "no shard has been there"
    v.match(0)
    assert v.sequence() == 0, "the second shard has not been there"
    v.match(1)
    assert v.sequence() == 36
    v.work()
    check_reports(v)


def test_checkpoints_stand_at_their_places() -> None:
    v = Venue(checkpoint_every=16)
    v.open_market()
    for _ in range(100):
        v.place(ANN, Side.BUY, 100, 1, tif=Tif.GTC)
    v.work()
    at = [int(c["seq"]) for c in v.log if c["kind"] == Kind.CHECKPOINT]
    assert at == list(range(16, len(v.log) + 1, 16))
    for c in v.log:
        if c["kind"] == Kind.CHECKPOINT:
            assert c["settled_seq"] == c["seq"] - 1
            assert c["request"] == 0 and c["lines"] == 2
    check_reports(v)


def test_closing_takes_nothing_more_and_ends_with_a_checkpoint() -> None:
    v = Venue()
    for _ in range(5):
        v.send(Kind.TICK)
    v.feed()
    v.turn(Stage.SEQUENCE)
    v.send(Kind.TICK)
    v.feed()
    for _ in range(3):
        v.turn(Stage.SEQUENCE | Stage.CLOSE)
    assert v.arrays["commands"]["kind"][1:8].tolist() == [Kind.TICK] * 5 + [Kind.CHECKPOINT, 0]
    assert v.rings[DESK][ingress.TAIL] - v.rings[DESK][ingress.HEAD] == 1


def test_closing_lets_proposals_in() -> None:
    """What settlement still proposes is done before the last CHECKPOINT."""
    v = Venue().open_market()
    v.place(ANN, Side.BUY, 100, 5, tif=Tif.GTD, expire_ns=v.now + 5)
    v.work()
    v.wait(5)
    v.send(Kind.TICK)
    v.feed()
    v.sequence()
    v.risk()
    for _ in range(6):
        v.turn(Stage.SEQUENCE | Stage.CLOSE)
        v.risk()
        v.match()
        v.risk()
        v.journal()
        v.read()
    kinds = [Kind(int(c["kind"])).name for c in v.log[-3:]]
    assert kinds == ["TICK", "EXPIRE", "CHECKPOINT"]
    assert v.book() == []


def test_proposals_come_before_everybody() -> None:
    v = Venue().open_market()
    v.place(ANN, Side.BUY, 100, 5, tif=Tif.GTD, expire_ns=v.now + 5)
    v.work()
    v.wait(5)
    v.send(Kind.TICK)
    v.feed()
    v.sequence()
    v.risk()
    assert v.arrays["proposals"][PUT] == v.arrays["proposals"][TAKEN] + 1
    v.send(Kind.TICK, ring=CLOCK)
    v.send(Kind.TICK)
    v.work()
    assert [Kind(int(c["kind"])).name for c in v.log[-3:]] == ["EXPIRE", "TICK", "TICK"]
    c = v.log[-3]
    assert (c["request"], c["account"], c["symbol"], c["lines"]) == (0, ANN, 0, 1)
    check_laws(v)


def test_an_expire_that_nobody_proposed_does_nothing() -> None:
    """Only settlement's mark lets it through; a producer cannot send one anyway."""
    v = Venue().open_market()
    v.place(BOB, Side.BUY, 100, 5)
    v.work()
    order_id = int(v.log[-1]["seq"])
    told = v.do(Kind.EXPIRE, account=BOB, symbol=0, order_id=order_id)
    assert [r["reason"] for r in told if r["seq"] > order_id] == ["FORBIDDEN"]
    assert v.book()


def test_cut_becomes_a_state_of_the_venue() -> None:
    """The disk is nearly full: no new openings until there is room again."""
    v = Venue().open_market()
    v.place(ANN, Side.BUY, 100, 5)
    v.cursors[cursors.CUT] = 1
    v.place(ANN, Side.BUY, 100, 5, client_id="late")
    told = v.drain()
    assert [r.get("reason") for r in told] == ["NONE", "VENUE_STATE", "VENUE_STATE"]
    assert v.venue["disk_state"] == State.CANCEL_ONLY and v.venue["state"] == State.TRADING
    assert v.do(Kind.CANCEL_ALL, account=ANN)[0]["reason"] == "NONE"
    v.cursors[cursors.CUT] = 0
    v.work()
    v.place(ANN, Side.BUY, 100, 5)
    assert v.drain()[-2]["status"] == "NEW"
    assert v.venue["disk_state"] == State.TRADING


def test_cut_is_taken_back_after_a_restart() -> None:
    """The state remembers that the disk was nearly full; a new sequencer finds that there is room."""
    v = Venue().open_market()
    v.cursors[cursors.CUT] = 1
    v.sequence()
    v.work()
    assert v.venue["disk_state"] == State.CANCEL_ONLY
    v.cursors[cursors.CUT] = 0
    v.engine = engine_of(v.arrays, v.limits, rings=v.rings)
    v.sequence()
    v.work()
    assert v.venue["disk_state"] == State.TRADING


def test_cut_is_not_the_venues_own_state() -> None:
    """An operator's state stands, whatever the disk says."""
    v = Venue().open_market()
    v.send(Kind.VENUE_STATE, state=State.CANCEL_ONLY)
    v.work()
    v.cursors[cursors.CUT] = 1
    v.work()
    v.sequence()
    v.cursors[cursors.CUT] = 0
    v.sequence()
    v.work()
    v.place(ANN, Side.BUY, 100, 5)
    assert v.drain()[-1]["reason"] == "VENUE_STATE"


def test_a_ring_whose_cursor_makes_no_sense_is_not_heard() -> None:
    """A producer that scribbles over its cursors harms nobody else."""
    for tail in (-1, 1 << 62, 5000):
        v = Venue()
        v.rings[GATEWAY][ingress.TAIL] = tail
        v.send(Kind.TICK)
        v.feed()
        assert v.sequence() == 1
        v.risk()
        assert v.cursors[cursors.SETTLED] == 1


def test_commands_of_the_engine_itself_are_whole() -> None:
    """Nothing of the command that stood in the slot a lap ago is left in one of the engine's."""
    v = Venue(commands=64)
    v.open_market()
    for _ in range(100):
        v.place(ANN, Side.SELL, 100, 3, client_id="z", trace_hi=9, expire_ns=4)
    v.work()
    v.send(Kind.ACCOUNT, account=BOB, state=2, cancel=1)
    v.place(BOB, Side.BUY, 90, 5)
    v.work()
    v.place(BOB, Side.BUY, 90, 5)
    v.work()
    own = [c for c in v.log if c["request"] == 0]
    for c in own:
        words = c.reshape(1).view(np.int64)
        assert not words[8:24].any() and not words[3:6].any()
        assert c["symbol"] == NO_SYMBOL and c["flags"] == 0
