"""READ THIS FIRST: the order of stages in one function.

    ingress rings -> 1 sequence -> 2 risk -> 4 match -> 5 settle -> reports ring
                                        \\-> 6 journal (engine/journal.py) -> WAL, report log
                                                       7 publish (engine/publisher.py)

`turn` runs the stages that a worker hosts once over what is there; `run` repeats it for a slice of
time and waits by policy when there is nothing to do. A worker may host one stage or all of them:
the kernels are the same, and `replay_turn` runs them again over commands from the WAL. Stages
never block inside a kernel, so any set of them can share a process without deadlock.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, Final, NamedTuple

import numpy as np

from engine import book, proposals
from engine.commands import Commands, commands_of
from engine.matching import match_commands
from engine.reports import Out
from engine.risk import risk_commands
from engine.sequencer import CUT_SEEN, LAST_TS_NS, SEQUENCER_CELLS, sequence_commands
from engine.settlement import settle_commands
from engine.setup import (
    ACCOUNTS,
    COMMAND_MASK,
    LEAVES,
    MATCH_MASK,
    MATCHER,
    SHARDS,
    SLICE_APART,
    TRIE,
    setup_cells,
)
from engine.state import (
    Books,
    Limits,
    Risk,
    books_of,
    risk_of,
    shard_tables,
)
from engine.triggers import empty_heads
from shm import hopcells as hops
from shm import records
from shm.atomics import CLOCK_MONOTONIC, clock_ns
from shm.codes import ReportKind, State
from shm.cursors import RISKED, SEQUENCED, SETTLED
from shm.jit import inlined, kernel, spliced
from shm.marks import mark, sample
from shm.pointers import Cells, Rows, bundle, rows_from, table
from shm.units import NIL, SYSTEM_ACCOUNTS
from shm.wait import FOR_EVER, Policy, beat, rest, ring_doorbells, stopping

Arrays = dict[str, np.ndarray[Any, Any]]

BATCH: Final = 64  # commands a stage takes in one turn: they stay in the first-level cache
SETTLE_BATCH: Final = 256
_LOOK_EVERY: Final = 64  # turns between two looks at the clock


class Stage(IntFlag):
    """What a worker hosts; bits in the order of shm.control.STAGES. Risk and settle go together."""

    SEQUENCE = 1
    RISK = 2
    MATCH = 4
    SETTLE = 8
    JOURNAL = 16
    PUBLISH = 32
    CLOSE = 64  # with SEQUENCE: take nothing more, end with a CHECKPOINT


_SEQUENCE: Final = int(Stage.SEQUENCE)
_RISK: Final = int(Stage.RISK | Stage.SETTLE)
_MATCH: Final = int(Stage.MATCH)
_CLOSE: Final = int(Stage.CLOSE)


class Engine(NamedTuple):
    """Everything a worker's kernels touch."""

    cursors: Cells
    setup: Cells
    commands: Commands
    matches: Rows  # MATCH, one ring a shard, one after the other
    out: Out
    risk: Risk
    books: Books  # tables of all shards; those of one shard alone stand one after the other
    sequencer: Cells
    rings: Cells  # (address, cells) of every ingress ring
    bells: Cells
    hops: Cells  # samples of commands on their way (shm/hops.py): nothing reads them here


@spliced
def _match(e: Engine, shard: int, budget: int) -> int:
    """One shard's matching over its own part of the tables."""
    setup = e.setup
    b = e.books
    cell = 256 + shard * 48  # shm.cursors.matched(shard)
    return match_commands(
        e.cursors,
        e.commands.base,
        rows_from(e.matches, shard * (setup[MATCH_MASK] + 1)),
        b.nodes,
        b.node_levels,
        b.books,
        b.mine,
        rows_from(b.mine_heads, shard * setup[ACCOUNTS]),
        rows_from(b.trie_bits, shard * setup[TRIE]),
        rows_from(b.trie_children, shard * setup[TRIE] * 64),
        rows_from(b.leaf_bits, shard * setup[LEAVES]),
        rows_from(b.levels, shard * setup[LEAVES] * 64),
        rows_from(b.matcher, shard * setup[MATCHER]),
        shard,
        setup[SHARDS],
        setup[COMMAND_MASK],
        setup[MATCH_MASK],
        cell,
        cell + 16,
        cell + 32,
        budget,
    )


@spliced
def _settle(e: Engine, upto: int, budget: int) -> int:
    return settle_commands(e.risk, e.out, e.cursors, e.setup, e.commands, e.matches, upto, budget)


@spliced
def _risk(e: Engine, replaying: bool, budget: int) -> int:
    return risk_commands(e.risk, e.cursors, e.setup, e.commands, replaying, budget)


@spliced
def turn(e: Engine, stages: int, shards: int) -> int:
    """Each hosted stage once, in order; returns how much was done.

    stages    bits of Stage
    shards    bit k: this worker matches shard k
    """
    did = 0
    if stages & _SEQUENCE:
        took = sequence_commands(
            e.risk,
            e.cursors,
            e.setup,
            e.commands.base,
            e.commands.settles,
            e.commands.takeovers,
            e.commands.words,
            e.sequencer,
            e.rings,
            len_of(e),
            stages & _CLOSE != 0,
        )
        if took > 0:
            now_ns = e.sequencer[LAST_TS_NS]
            mask = e.setup[COMMAND_MASK]
            shard_count = e.setup[SHARDS]
            last = e.cursors[SEQUENCED]
            sample(e.hops, e.commands.words, mask, last, took, now_ns, shard_count)
        did += took
    if stages & _RISK:
        did += _risk(e, False, BATCH)
        mark(e.hops, hops.MARKED_RISK, hops.RISKED, e.cursors[RISKED])
    if stages & _MATCH:
        left = shards
        shard = 0
        while left != 0:
            if left & 1:
                did += _match(e, shard, BATCH)
                done = e.cursors[256 + shard * 48]  # shm.cursors.matched(shard)
                own = hops.MARKED_MATCH + shard * hops.MARK_STRIDE
                mark(e.hops, own, hops.MATCHED + shard, done)
            left >>= 1
            shard += 1
    if stages & _RISK:
        did += _settle(e, e.risk.venue[0]["risked_seq"], SETTLE_BATCH)
        mark(e.hops, hops.MARKED_SETTLE, hops.SETTLED, e.cursors[SETTLED])
    return did


@inlined
def len_of(e: Engine) -> int:
    """How many ingress rings there are; the first cell of `rings` says so."""
    return e.sequencer[SEQUENCER_CELLS - 1]


@kernel
def run(
    e: Engine,
    stages: int,
    shards: int,
    worker: int,
    peers: int,
    spins: int,
    yields: int,
    sleep_ns: int,
    slice_ns: int,
) -> int:
    """Turn after turn for about `slice_ns`, waiting by policy; returns how much was done.

    worker    this worker's doorbell
    peers     bit w: wake worker w after doing anything
    """
    until = clock_ns(CLOCK_MONOTONIC) + slice_ns
    total = 0
    since = 0
    # An idle worker slept until just now: it looks once, and doesn't yield its way to sleep again.
    turns = 0 if spins >= FOR_EVER else spins + yields
    count = 0
    while True:
        did = turn(e, stages, shards)
        if did > 0:
            since += did
            total += did
            ring_doorbells(e.bells, peers)
        turns = rest(e.bells, worker, did, turns, spins, yields, sleep_ns)
        count += 1
        if count % _LOOK_EVERY == 0 or turns > spins + yields:
            beat(e.bells, worker, since)
            since = 0
            if stopping(e.bells, worker) or clock_ns(CLOCK_MONOTONIC) >= until:
                break
    beat(e.bells, worker, since)
    return total


@spliced
def replay_turn(e: Engine, shards: int, upto: int) -> int:
    """Risk, match and settle what lies in the commands ring, interleaved as the slots say.

    upto    settlement goes no further: what the next command to be decided was decided after
    """
    did = _risk(e, True, BATCH)
    for shard in range(shards):
        did += _match(e, shard, BATCH)
    did += _settle(e, min(e.risk.venue[0]["risked_seq"], upto), SETTLE_BATCH)
    # Nobody proposes in a replay: marks stay in state, and are proposed when it is over.
    e.risk.proposals[proposals.TAKEN] = e.risk.proposals[proposals.PUT]
    return did


def out_of(array: np.ndarray[Any, Any]) -> Out:
    """The reports ring in all its views."""
    kinds = tuple(k.name for k in ReportKind if k not in (ReportKind.NONE, ReportKind.ORDER))
    views = [table(array.view(records.RECORDS[f"{k}_REPORT"].dtype)) for k in kinds]
    return bundle(Out._make([table(array), *views, table(array.view(np.int64))]))


def engine_of(
    arrays: Arrays,
    limits: Limits,
    *,
    shards: int = 1,
    checkpoint_every: int = 65536,
    funding_slice: int = SLICE_APART,
    rings: tuple[np.ndarray[Any, Any], ...] = (),
) -> Engine:
    """The arrays of an instance, or of a replay, as the kernels take them.

    arrays    "cursors", "commands", "matches", "reports", "control", "hops" and every table of the
              state
    funding_slice    positions that one FUNDING pays
    rings     the int64 cells of the ingress rings, in the order they are drained
    """
    setup = setup_cells(
        limits,
        commands=len(arrays["commands"]),
        matches=len(arrays["matches"]) // shards,
        reports=len(arrays["reports"]),
        shards=shards,
        checkpoint_every=checkpoint_every,
        funding_slice=funding_slice,
    )
    sequencer = np.zeros(SEQUENCER_CELLS, np.int64)
    begin_sequencing(sequencer, arrays, len(rings))
    where = np.zeros(max(2 * len(rings), 2), np.int64)
    for k, ring in enumerate(rings):
        where[2 * k] = ring.ctypes.data
        where[2 * k + 1] = len(ring)
    return Engine(
        table(arrays["cursors"]),
        table(setup),
        commands_of(arrays["commands"]),
        table(arrays["matches"]),
        out_of(arrays["reports"]),
        risk_of(arrays),
        books_of(arrays),
        table(sequencer),
        table(where),
        table(arrays["control"]),
        table(arrays["hops"]),
    )


def begin_sequencing(sequencer: np.ndarray[Any, Any], arrays: Arrays, rings: int) -> None:
    """The sequencer's own cells as a start has them: it goes on from what was recovered."""
    sequencer[:] = 0
    sequencer[SEQUENCER_CELLS - 1] = rings
    sequencer[LAST_TS_NS] = arrays["venue"]["ts_ns"][0]
    sequencer[CUT_SEEN] = arrays["venue"]["disk_state"][0] != State.TRADING


def policy_cells(policy: Policy) -> tuple[int, int, int]:
    """A waiting policy as `run` takes it."""
    return policy.spins, policy.yields, policy.sleep_ns


def shard_arrays(arrays: Arrays, limits: Limits, shard: int, shards: int) -> Arrays:
    """The arrays with the per-shard tables cut down to one shard's rows."""
    cut = dict(arrays)
    specs = shard_tables(limits)
    for spec in specs:
        cut[spec.name] = arrays[spec.name][shard * spec.rows : (shard + 1) * spec.rows]
    assert all(len(cut[s.name]) == s.rows for s in specs), shards
    return cut


def initialise(arrays: Arrays, limits: Limits, shards: int = 1) -> None:
    """Fresh state in zeroed arrays: nothing declared but the venue's own accounts."""
    venue = arrays["venue"]
    lists = ("claims", "clients", "algos", "requests")
    for name in (*(f"{n}_free" for n in lists), "clients_oldest", "clients_newest"):
        venue[name] = NIL
    venue["accounts_used"] = SYSTEM_ACCOUNTS
    arrays["accounts"]["state"] = State.ABSENT
    arrays["accounts"]["first_position"] = NIL
    arrays["accounts"]["state"][:SYSTEM_ACCOUNTS] = State.TRADING
    arrays["accounts"]["first_algo"] = NIL
    arrays["algo_heaps"][:] = empty_heads(limits.symbols)
    arrays["symbols"]["state"] = State.ABSENT
    arrays["symbols"]["first_position"] = NIL
    arrays["symbols"]["last_position"] = NIL
    book.reset_shared(books_of(shard_arrays(arrays, limits, 0, shards)), limits)
    for shard in range(shards):
        book.reset_shard(books_of(shard_arrays(arrays, limits, shard, shards)), limits)


def allocate_rings(
    *, commands: int = 1024, matches: int = 1024, reports: int = 4096, shards: int = 1
) -> Arrays:
    """Private rings and cursors, for replay, tools and tests that share nothing."""
    from shm.control import CONTROL_PARTS, CURSOR_PARTS

    return {
        "cursors": np.zeros(CURSOR_PARTS[0].rows, np.int64),
        "control": np.zeros(CONTROL_PARTS[0].rows, np.int64),
        "commands": np.zeros(commands, records.COMMAND.dtype),
        "matches": np.zeros(matches * shards, records.MATCH.dtype),
        "reports": np.zeros(reports, records.REPORT.dtype),
        "hops": np.zeros(hops.HOP_CELLS, np.int64),
    }
