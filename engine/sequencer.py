"""Stage 1 of 7, sequence: many ingress rings become one total order.

Reads   ingress rings, what settlement proposes, the clock: the only reader of it in the engine.
Writes  lines 0 to 2 of the next slots of the commands ring; SEQUENCED.
Never   decides anything about a command, but for one: what its producer may not send becomes a
        REFUSED command, which risk answers.

Rings are drained in turn, at most QUOTA commands each time round, so that no producer starves
another. What settlement proposes and the first ring (the clock) come before all others.
A slot is free again when settlement, the journal and every shard have passed the command in it: a
shard that has nothing to do with a command may be far behind those that settled it.

Every CHECKPOINT_EVERY-th command is a CHECKPOINT of the engine's own: risk decides it only when
settlement has caught up, so the state there is one a snapshot can hold, and it carries the digest
of all reports before it into the WAL.
"""

from __future__ import annotations

from typing import Final

from engine import proposals
from engine.setup import (
    ASSETS,
    CHECKPOINT_EVERY,
    COMMAND_MASK,
    FUNDING_SLICE,
    PROPOSAL_MASK,
    REPORT_MASK,
    SHARDS,
)
from engine.state import Risk
from shm import ingress
from shm.arithmetic import wide
from shm.atomics import CLOCK_REALTIME, clock_ns, load_acquire, store_release, unlikely
from shm.codes import PRIVILEGED_FLAGS, Flag, Kind, LiquidationStep, Side, State, Tif
from shm.cursors import (
    CUT,
    JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    SEQUENCED,
    SETTLED,
    matched,
)
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows, cells_at
from shm.records import NO_SYMBOL
from shm.units import PRODUCER_SHIFT, REQUEST_NUMBER_MAX

QUOTA: Final = 64  # commands taken from one ring in one round

# Cells of the stage's own.
LAST_TS_NS: Final = 0  # time of the newest command
CUT_SEEN: Final = 1  # what was last sequenced about CUT
FREE_SEEN: Final = 2  # the least of the cursors that free a slot, when they were last looked at
LAST_KIND: Final = 3  # of the newest command
SEQUENCER_CELLS: Final = 16

_WORDS: Final = 32
_MATCHED: Final = matched(0)
_SHARD_CELLS: Final = matched(1) - matched(0)
_LOW_48: Final = (1 << 48) - 1
_PRIVILEGED: Final = int(PRIVILEGED_FLAGS)
_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)
_KNOWN: Final = sum(1 << kind for kind in Kind if kind != Kind.NONE)

# An INGRESS record lies in the first cells of a ring (shm/ingress.py).
_PRODUCER: Final = ingress.HEAD_PRODUCER
_KINDS: Final = ingress.HEAD_KINDS
_PRIVILEGE: Final = ingress.HEAD_PRIVILEGED
_CAPACITY: Final = ingress.HEAD_CAPACITY


@inlined
def _room(cursors: Cells, setup: Cells, own: Cells, seq: int) -> bool:
    """Whether the slot of `seq` may be overwritten."""
    capacity = setup[COMMAND_MASK] + 1
    if seq - capacity > own[FREE_SEEN]:
        free = min(load_acquire(cursors, SETTLED), load_acquire(cursors, JOURNALED))
        for shard in range(setup[SHARDS]):
            free = min(free, load_acquire(cursors, _MATCHED + shard * _SHARD_CELLS))
        own[FREE_SEEN] = free
    return seq - capacity <= own[FREE_SEEN]


@inlined
def _crowded(cursors: Cells, setup: Cells) -> bool:
    """Whether the reports ring is over half full: a slice of positions would stop settlement in its
    middle, and with it whatever comes after."""
    waiting = load_acquire(cursors, REPORTS_WRITTEN) - load_acquire(cursors, REPORTS_READ)
    return 2 * waiting > setup[REPORT_MASK] + 1


@inlined
def _blank(
    commands: Rows, words: Cells, setup: Cells, own: Cells, seq: int, kind: int, now: int
) -> int:
    """A command of the engine's own in the slot of `seq`; returns the slot."""
    at = seq & setup[COMMAND_MASK]
    for k in range(24):
        words[at * _WORDS + k] = 0
    c = commands[at]
    c["seq"] = seq
    c["ts_ns"] = now
    c["symbol"] = NO_SYMBOL
    c["kind"] = kind
    # Only what `lines` says reaches the WAL, and a CHECKPOINT's digest stands in line 1.
    c["lines"] = 2 if kind == Kind.CHECKPOINT else 1
    own[LAST_KIND] = kind
    return at


@kernel
def _corrected(ring: Cells, codes: int) -> int:
    """The word of kind, flags and lines of a command that may not come as it is."""
    rarely()
    kind = codes & 255
    if kind >= 64 or ((_KNOWN >> kind) & 1) == 0:
        kind = Kind.NONE
    elif ((ring[_KINDS] >> kind) & 1) == 0 or (
        kind <= Kind.AMEND and ((codes >> 32) & _PRIVILEGED) != 0 and ring[_PRIVILEGE] == 0
    ):
        kind = Kind.REFUSED
    return (codes & 0x00FFFFFFFFFFFF00) | kind | (ingress.lines_of(codes) << 56)


@inlined
def _take(
    ring: Cells,
    source: int,
    words: Cells,
    setup: Cells,
    own: Cells,
    seq: int,
    now: int,
    kinds: int,
    barred: int,
) -> None:
    """Copy one command out of a ring into the slot of `seq`, and make it safe to look at.

    kinds       bit k: the producer may send kind k
    barred      flags of word 7 that it may not set on some kinds
    """
    to = (seq & setup[COMMAND_MASK]) * _WORDS
    # Read once: the producer may still scribble over its ring, and a copy is what is judged.
    number = ring[source + 2]
    parameter_1 = ring[source + 3]
    parameter_2 = ring[source + 4]
    parameter_3 = ring[source + 5]
    about = ring[source + 6]
    codes = ring[source + 7]
    kind = codes & 255
    lines = (codes >> 56) & 255
    if unlikely(
        kind >= 64 or ((kinds >> kind) & 1) == 0 or codes & barred != 0 or lines == 0 or lines > 3
    ):
        codes = _corrected(ring, codes)
        kind = codes & 255
        lines = codes >> 56
    # Lines of the command that was here before; what it did not fill is zero already, and most
    # commands are of one line: theirs are the only two of a slot that are touched.
    before = (words[to + 7] >> 56) & 255
    if lines > 1:
        ingress.copy_line(words, to + 8, ring, source + 8)
    elif before > 1:
        for k in range(8, 16):
            words[to + k] = 0
    if lines > 2:
        ingress.copy_line(words, to + 16, ring, source + 16)
    elif before > 2:
        for k in range(16, 24):
            words[to + k] = 0
    words[to] = seq
    words[to + 1] = now
    words[to + 2] = (ring[_PRODUCER] << PRODUCER_SHIFT) | (number & REQUEST_NUMBER_MAX)
    words[to + 3] = parameter_1
    words[to + 4] = parameter_2
    words[to + 5] = parameter_3
    words[to + 6] = about & _LOW_48  # settled_lag is the journal's
    words[to + 7] = codes
    own[LAST_KIND] = kind


@inlined
def _liquidation_kind(step: int) -> int:
    """The command that takes the step a liquidation waits for."""
    if step == LiquidationStep.STARTED:
        return Kind.LIQUIDATE
    return Kind.LIQUIDATION_ORDER if step == LiquidationStep.ORDER else Kind.TAKEOVER


@inlined
def _about_position(r: Risk, commands: Rows, at: int, row: int) -> None:
    """Name a position in a command."""
    p = r.positions[row]
    commands[at]["account"] = p["account"]
    commands[at]["symbol"] = p["symbol"]
    commands[at]["position_side"] = p["position_side"]


@inlined
def _about_liquidation(
    r: Risk, commands: Rows, settles: Rows, takeovers: Rows, at: int, step: int, row: int
) -> None:
    """The step of a liquidation that is about one position; an order as it was planned."""
    _about_position(r, commands, at, row)
    settles[at]["settle_row"] = row
    if step == LiquidationStep.ORDER:
        p = r.positions[row]
        settles[at]["settle_ticks"] = p["plan_ticks"]
        settles[at]["settle_lots"] = p["plan_lots"]
        commands[at]["side"] = Side.SELL if p["lots"] > 0 else Side.BUY
        commands[at]["tif"] = Tif.IOC
        commands[at]["flags"] = _REDUCE_ONLY
    elif step != LiquidationStep.STARTED:
        takeovers[at]["takeover_row"] = row
        takeovers[at]["tells_rank"] = 1


@kernel
def sequence_commands(
    r: Risk,
    cursors: Cells,
    setup: Cells,
    commands: Rows,
    settles: Rows,
    takeovers: Rows,
    words: Cells,
    own: Cells,
    rings: Cells,
    ring_count: int,
    closing: bool,
) -> int:
    """One round over all sources; returns how many commands were sequenced.

    rings       pairs of (address, cells) of the ingress rings, the clock's first
    closing     take nothing more from the rings; end with a CHECKPOINT
    """
    first = cursors[SEQUENCED] + 1
    seq = first
    if not _room(cursors, setup, own, seq):
        return 0
    now = max(clock_ns(CLOCK_REALTIME), own[LAST_TS_NS])

    cut = load_acquire(cursors, CUT)
    if cut != own[CUT_SEEN]:
        at = _blank(commands, words, setup, own, seq, Kind.VENUE_STATE, now)
        words[at * _WORDS + 3] = State.CANCEL_ONLY if cut != 0 else State.TRADING
        own[CUT_SEEN] = cut
        seq += 1
    every = setup[CHECKPOINT_EVERY]
    checkpoint = -(-seq // every) * every  # the next sequence number that is one

    taken = r.proposals[proposals.TAKEN]
    put = load_acquire(r.proposals, proposals.PUT)
    while taken < put and _room(cursors, setup, own, seq):
        if seq == checkpoint:
            _blank(commands, words, setup, own, seq, Kind.CHECKPOINT, now)
            checkpoint += every
            seq += 1
            continue
        code = r.proposals[proposals.FIRST + (taken & setup[PROPOSAL_MASK])]
        kind = code & proposals.KIND_MASK
        if (kind == proposals.FUNDING or kind == proposals.DELIST) and _crowded(cursors, setup):
            break
        row = code & ~proposals.KIND_MASK
        taken += 1
        if kind == proposals.ACCOUNT:
            at = _blank(commands, words, setup, own, seq, Kind.CANCEL_ALL, now)
            commands[at]["account"] = row
        elif kind == proposals.SYMBOL:
            at = _blank(commands, words, setup, own, seq, Kind.CANCEL_SYMBOL, now)
            commands[at]["symbol"] = row
        elif kind == proposals.ALGO:
            # Risk fills in the order: the row may change while it is looked at here.
            at = _blank(commands, words, setup, own, seq, Kind.TRIGGER, now)
            commands[at]["order_id"] = r.algos[row]["algo_id"]
        elif kind == proposals.POSITION:
            at = _blank(commands, words, setup, own, seq, Kind.CANCEL_ALL, now)
            _about_position(r, commands, at, row)
        elif kind == proposals.DELIST:
            at = _blank(commands, words, setup, own, seq, Kind.DELIST, now)
            commands[at]["symbol"] = row
        elif kind == proposals.FUNDING:
            at = _blank(commands, words, setup, own, seq, Kind.FUNDING, now)
            commands[at]["symbol"] = row
            settles[at]["settle_lots"] = setup[FUNDING_SLICE]
        elif kind == proposals.WALLET:
            wallet = r.wallets[row]
            step = wallet["liquidation"]
            at = _blank(commands, words, setup, own, seq, _liquidation_kind(step), now)
            commands[at]["account"] = row // setup[ASSETS]
            if step == LiquidationStep.STARTED:
                settles[at]["settle_row"] = row
            else:
                on = wallet["liquidation_row"]
                _about_liquidation(r, commands, settles, takeovers, at, step, on)
        elif kind == proposals.ISOLATED:
            step = wide(r.positions[row]["liquidation"])
            at = _blank(commands, words, setup, own, seq, _liquidation_kind(step), now)
            _about_liquidation(r, commands, settles, takeovers, at, step, row)
        else:
            # What it says may be stale by now; risk checks that the mark still stands.
            claim = r.claims[row]
            at = _blank(commands, words, setup, own, seq, Kind.EXPIRE, now)
            commands[at]["order_id"] = claim["order_id"]
            commands[at]["account"] = claim["account"]
            commands[at]["symbol"] = claim["symbol"]
        seq += 1
    store_release(r.proposals, proposals.TAKEN, taken)

    if closing:
        if own[LAST_KIND] != Kind.CHECKPOINT and _room(cursors, setup, own, seq):
            _blank(commands, words, setup, own, seq, Kind.CHECKPOINT, now)
            seq += 1
    else:
        for k in range(ring_count):
            ring = cells_at(rings[2 * k], rings[2 * k + 1])
            capacity = ring[_CAPACITY]
            count = ingress.available(ring, capacity)
            # A producer that lost its mind (ingress.CORRUPT) is not heard; the others are.
            count = min(max(count, 0), QUOTA)
            kinds = ring[_KINDS] & _KNOWN
            barred = _PRIVILEGED << 32 if ring[_PRIVILEGE] == 0 else 0
            done = 0
            while done < count and _room(cursors, setup, own, seq):
                if unlikely(seq == checkpoint):
                    _blank(commands, words, setup, own, seq, Kind.CHECKPOINT, now)
                    checkpoint += every
                else:
                    source = ingress.peek(ring, capacity, done)
                    _take(ring, source, words, setup, own, seq, now, kinds, barred)
                    done += 1
                seq += 1
            if done > 0:
                ingress.release(ring, done)
                store_release(cursors, SEQUENCED, seq - 1)
    if seq > first:
        own[LAST_TS_NS] = now
        store_release(cursors, SEQUENCED, seq - 1)
    return seq - first
