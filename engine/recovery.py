"""Snapshots and recovery: a state is what the newest sound snapshot and the WAL after it say.

    recover     newest sound snapshot + WAL -> the arrays of an instance, ready for its workers
    take        replay the WAL from the newest snapshot to the last CHECKPOINT, write a snapshot
    verify      replay a whole data directory, compare digests and the report log byte by byte

Reads   <data>/snapshots, <data>/wal, <data>/reports.
Writes  state tables, cursors, the report log where it is short, snapshots.
Never   runs beside what it recovers into; `take` and `verify` only read, in a process of their own.

A snapshot at S is the state just before a CHECKPOINT S + 1: risk decides that one only when
settlement has caught up, so nothing is between them, and the CHECKPOINT says what the digest of
all reports must be. It keeps the tables marked `kept` in engine/state.py up to the last row ever
used, and what was proposed and not taken yet; indexes and price tries are made again.

What is pending is proposed again in the order in which it was: replay queues proposals as the
engine did, and each command of the engine's own in the WAL has taken the oldest one. So after a
kill the engine goes on with the very commands that would have come without it.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine import book, countdown, delisting, digests, hashmap, proposals, readahead, triggers
from engine.clients import client_key
from engine.files import (
    DataError,
    Manifest,
    lock_data,
    lock_wal,
    read_manifest,
    read_watermark,
    replace_file,
    segment_numbers,
)
from engine.memory import limits_of
from engine.overlap import Overlap, Proof
from engine.pipeline import Arrays, Engine, allocate_rings, engine_of, initialise, shard_arrays
from engine.positions import position_key
from engine.releases import Releases
from engine.replay import Diverged, Replayer
from engine.reportlog import (
    SEGMENT_RECORDS,
    ReportLogReader,
    follower_positions,
    sync_reports,
)
from engine.setup import CLIENT_BITS, ORDER_BITS, POSITION_BITS, setup_cells
from engine.snapshotfile import (
    list_snapshots,
    load_snapshot,
    newest_sound,
    prune_snapshots,
    snapshot_path,
    write_snapshot,
)
from engine.state import (
    ALGO_LINKS,
    Limits,
    Risk,
    allocate,
    books_of,
    risk_of,
    risk_tables,
    shard_tables,
    shared_book_tables,
)
from engine.wal import WalRecovery, WalScan, begin_epoch, open_wal, scan_wal
from engine.walreader import BlockScanner, WalReader, commands_upto, first_header
from shm.codes import Kind
from shm.config import Config
from shm.cursors import (
    JOURNALED,
    PUBLISHED,
    REPORTS_CLAIMED,
    REPORTS_JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
)
from shm.hashing import SEED, hash_words
from shm.jit import kernel
from shm.pointers import Cells, table
from shm.records import CHECKPOINT_COMMAND, REPORT

LIMITS_FILE = "limits.json"


class Block(NamedTuple):
    """A block of the WAL by what it says of itself, as a snapshot keeps it."""

    block: int
    block_last_seq: int
    block_hash: int
    previous_hash: int


class Recovered(NamedTuple):
    """Where a recovery ended."""

    seq: int  # last command
    ts_ns: int  # its time
    epoch: int
    snapshot_seq: int  # 0: no snapshot, replay from the beginning
    replayed: int  # commands
    reports: int  # reports ever made
    cut_bytes: int  # of a torn tail
    notes: tuple[str, ...]  # snapshots that were passed over, and why


# ---------------------------------------------------------------- what a snapshot keeps


def _used(arrays: Arrays, limits: Limits) -> dict[str, int]:
    """Rows of each kept table up to the last one ever used; all of those that are small."""
    v = arrays["venue"][0]
    accounts, claims = int(v["accounts_used"]), int(v["claims_used"])
    ranked = np.flatnonzero(arrays["adl_ranks"]["ranked"])
    used = {
        "accounts": accounts,
        "wallets": accounts * limits.assets,
        "positions": int(v["positions_used"]),
        "claims": claims,
        "algos": int(v["algos_used"]),
        "requests": int(v["requests_used"]),
        "clients": int(v["clients_used"]),
        "algo_links": ALGO_LINKS * int(v["algos_used"]),
        "digests": min(int(v["digests_first"] + v["digests_count"]), limits.digests),
        "heap": int(v["heap_count"]),
        "countdowns": int(v["countdown_count"]),
        "nodes": claims,
        "adl_ranks": int(ranked[-1]) + 1 if len(ranked) else 0,
    }
    return {name: used.get(name, rows) for name, rows in _kept(limits)}


@lru_cache(16)
def _kept(limits: Limits) -> tuple[tuple[str, int], ...]:
    """(name, rows) of the tables that a snapshot keeps."""
    specs = (*risk_tables(limits), *shared_book_tables(limits))
    return tuple((spec.name, spec.rows) for spec in specs if spec.kept)


def kept_tables(arrays: Arrays, limits: Limits) -> dict[str, np.ndarray[Any, Any]]:
    """The state proper, as views: the same on every topology and for every number of shards."""
    return {name: arrays[name][:rows] for name, rows in _used(arrays, limits).items()}


def state_digest(arrays: Arrays, limits: Limits) -> int:
    """Hash of the whole state proper."""
    digest = SEED
    for rows in kept_tables(arrays, limits).values():
        if len(rows):
            words = np.ascontiguousarray(rows).view(np.int64)
            digest = int(hash_words(table(words), 0, len(words), digest))
    return digest


def restore(
    arrays: Arrays,
    limits: Limits,
    sections: dict[str, np.ndarray[Any, Any]],
    shards: int,
    risk: Risk | None = None,
) -> None:
    """Lay the sections of a snapshot into initialised arrays and make again what they leave out.

    risk    `risk_of` the arrays, by who has made it already
    """
    for name, rows in sections.items():
        if name == "wallets" and len(sections["accounts"]):
            kept = len(rows) // len(sections["accounts"])
            if kept != limits.assets:
                raise DataError(
                    f"limits.assets = {limits.assets}, but the snapshot was taken with {kept}. "
                    "The number of assets is fixed when a data directory is made"
                )
        if len(rows) > len(arrays[name]):
            raise DataError(
                f"limits: table {name} has {len(arrays[name])} rows, the snapshot needs "
                f"{len(rows)}. Limits may grow but not shrink below what is in use"
            )
        # As bytes: numpy copies rows of a record field by field.
        arrays[name][: len(rows)].view(np.uint8)[:] = rows.view(np.uint8)
    _straighten(arrays)
    setup = setup_cells(limits, commands=1, matches=1, reports=1)
    _reindex(risk or risk_of(arrays), table(setup))
    shared = books_of(shard_arrays(arrays, limits, 0, shards))
    book.rebuild_shared(shared, limits)
    for shard in range(shards):
        cut = books_of(shard_arrays(arrays, limits, shard, shards))
        book.rebuild_shard(cut, limits, shard, shards)


def _straighten(arrays: Arrays) -> None:
    """A ring of digests that had wrapped begins anew where there is more room for it now."""
    v, rows = arrays["venue"][0], arrays["digests"]
    first, count = int(v["digests_first"]), int(v["digests_count"])
    used = int(np.count_nonzero(rows["seq"]))
    assert used == count
    at = np.flatnonzero(rows["seq"])
    if count and len(rows) > int(at[-1]) + 1 and first + count > int(at[-1]) + 1:
        kept = rows[at][np.argsort(rows["seq"][at], kind="stable")]
        rows[:] = np.zeros(1, rows.dtype)
        rows[:count] = kept
        v["digests_first"] = 0


@kernel
def _reindex(r: Risk, setup: Cells) -> None:
    """The three hash indexes from the rows they index; they are empty before."""
    v = r.venue[0]
    for slot in range(v["claims_used"]):
        c = r.claims[slot]
        if c["order_id"] != 0 and c["done"] == 0:
            hashmap.put(r.order_index, setup[ORDER_BITS], c["order_id"], slot)
    for row in range(v["positions_used"]):
        p = r.positions[row]
        key = position_key(p["account"], p["symbol"], p["position_side"])
        hashmap.put(r.position_index, setup[POSITION_BITS], key, row)
    for row in range(v["clients_used"]):
        if r.clients[row]["order_id"] != 0:
            key = client_key(r.clients[row]["account"], r.client_words, row * 8)
            hashmap.put(r.client_index, setup[CLIENT_BITS], key, row)
    triggers.reindex(r, setup)
    digests.reindex(r, setup)


@kernel
def refill(r: Risk, setup: Cells) -> None:
    """Propose again all that is marked pending in a recovered state."""
    proposals.refill(r, setup)
    triggers.refill(r, setup)
    countdown.refill(r, setup)
    delisting.refill(r, setup)


def taken_proposals(rows: np.ndarray[Any, Any]) -> int:
    """How many COMMAND rows the sequencer made of proposals: the engine's own, but for those that
    it makes by itself."""
    kinds = rows["kind"][rows["request"] == 0]
    return int(((kinds != Kind.CHECKPOINT) & (kinds != Kind.VENUE_STATE)).sum())


def untaken(arrays: Arrays, taken: int) -> np.ndarray[Any, Any]:
    """The queue of proposals as a replay has left it, oldest first, without the `taken` oldest."""
    queue = arrays["proposals"]
    size = len(queue) - proposals.FIRST
    put = int(queue[proposals.PUT])
    at = np.arange(max(taken, put - size), put)
    return queue[proposals.FIRST + at % size].copy()


def propose_again(arrays: Arrays, setup: Cells, taken: int, risk: Risk | None = None) -> None:
    """After a replay that began with an empty queue, or with the one of its snapshot: queue all
    that is marked pending, in the order in which it was proposed.

    taken     proposals that the replayed commands were made of
    risk      `risk_of` the arrays, by who has made it already

    The marks in state say what is pending. What has ended since it was proposed, an order or a
    conditional one, stays in the queue as well: its command comes, and is refused. A queue that is
    not the marks' otherwise (of a release without this rule) is made of them.
    """
    queue = arrays["proposals"]
    kept = untaken(arrays, taken)
    refill(risk or risk_of(arrays), setup)
    if len(kept) == queue[proposals.PUT] == 0:
        return
    marks = queue[proposals.FIRST : proposals.FIRST + int(queue[proposals.PUT])]
    if np.array_equal(marks, kept):
        return
    once = ~np.isin(kept & proposals.KIND_MASK, (proposals.ORDER, proposals.ALGO))
    if (
        np.isin(marks, kept).all()
        and np.isin(kept[once], marks).all()
        and len(np.unique(kept[once])) == once.sum()
    ):
        queue[proposals.PUT] = len(kept)
        queue[proposals.FIRST : proposals.FIRST + len(kept)] = kept


def queue_section(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A queue of nothing but `codes`, as the table begins."""
    return np.concatenate([np.array([0, len(codes)], np.int64), codes])


def fresh_arrays(limits: Limits, *, commands: int = 32768, reports: int = 65536) -> Arrays:
    """Private arrays for a replay: one shard, and a ring for any lag a WAL can hold."""
    arrays = allocate_rings(commands=commands, matches=16384, reports=reports)
    for specs in (risk_tables(limits), shared_book_tables(limits), shard_tables(limits)):
        arrays.update(allocate(specs))
    initialise(arrays, limits)
    return arrays


def wal_name(manifest: Manifest) -> str:
    """The WAL's own name, 32 hex digits."""
    return f"{manifest.wal_hi & _MASK:016x}{manifest.wal_lo & _MASK:016x}"


def _load_newest(
    data: Path, manifest: Manifest
) -> tuple[dict[str, Any] | None, dict[str, np.ndarray[Any, Any]], list[str]]:
    """(meta, sections) of the newest sound snapshot, or (None, {}); why newer ones were not."""
    found = newest_sound(data)
    if found is None:
        return None, {}, []
    path, meta, sections, damaged = found
    if meta["wal"] != wal_name(manifest):
        raise DataError(
            f"{path}: a snapshot of WAL {meta['wal']}, the directory has {wal_name(manifest)}. "
            "Move it away, or copy back the WAL it belongs to"
        )
    return meta, sections, [str(d) for d in damaged]


_MASK = (1 << 64) - 1


def log_start(data: Path, manifest: Manifest) -> int:
    """The last command before the oldest segment: 0 where the log begins at genesis."""
    numbers = segment_numbers(data)
    head = first_header(data, manifest, numbers[0]) if numbers else None
    return int(head["first_seq"]) - 1 if head is not None else 0


def block_of(data: Path, seq: int) -> Block | None:
    """The block that holds command `seq`; None when the log ends before it."""
    reader = WalReader(data, seq - 1, batch=1)
    try:
        return _block(reader)
    finally:
        reader.close()


def _block(reader: WalReader) -> Block | None:
    """The block that holds the reader's next command; None when the log ends before it."""
    head = reader.peek()
    if head is None:
        return None
    last = int(head["first_seq"]) + int(head["record_count"]) - 1
    return Block(*(int(head["block"]), last, int(head["header_hash"]), int(head["previous_hash"])))


def check_history(data: Path, meta: dict[str, Any]) -> None:
    """Raise DataError when a snapshot was taken of another history than the log holds.

    The block after the cut must be the very one, or, where a restore has shortened it, follow the
    same one. Nothing is compared where the log ends at the cut or was pruned behind it, or the
    snapshot says no block: it is older than this rule.
    """
    if log_start(data, read_manifest(data)) <= int(meta["seq"]):
        _check_block(data, meta, block_of(data, int(meta["seq"]) + 1))


def _check_block(data: Path, meta: dict[str, Any], found: Block | None) -> None:
    """Raise DataError when the block after the cut is of another history than the snapshot."""
    if "block" not in meta:
        return
    wanted = Block(*(int(meta[name]) for name in Block._fields))
    if found is None or found == wanted:
        return
    shortened = found.block_last_seq < wanted.block_last_seq
    if shortened and found[0::3] == wanted[0::3]:
        return
    names = ("block", "previous_hash") if shortened else ("block", "previous_hash", "block_hash")
    name = next((n for n in names if getattr(found, n) != getattr(wanted, n)), "block_last_seq")
    got, want = (getattr(b, name) & _MASK for b in (found, wanted))
    raise DataError(
        f"{snapshot_path(data, int(meta['seq']))}: was taken of another history than the log's: "
        f"of the block of command {int(meta['seq']) + 1}, {name} is {got:x} in {data}/wal, and was "
        f"{want:x}. Nothing was changed. Move the snapshot away to recover from the one before it, "
        "or copy back the WAL it was taken of"
    )


# ---------------------------------------------------------------- recover


def recover(
    config: Config,
    arrays: Arrays,
    segment_records: int = SEGMENT_RECORDS,
    engine: Engine | None = None,
) -> Recovered:
    """Bring the arrays of an instance to the end of its WAL, and begin the next epoch.

    arrays           zeroed tables, rings and cursors of a new start (engine/memory.py)
    segment_records  of a new segment of the report log
    engine           `engine_of` these arrays, by who has made it already
    raises    DataError and WalDamage: what was acknowledged cannot be had; Diverged
    """
    data = Path(config.data_dir)
    limits = limits_of(config)
    shards = config.shards
    manifest = open_wal(data, config.wal.segment_bytes)
    _keep_limits(data, limits)
    told_in = arrays
    if engine is None:
        # Reports are compared right after they are written, while they are still in the cache.
        told_in = {**arrays, "reports": np.zeros(_REPORTS, REPORT.dtype)}
        engine = engine_of(told_in, limits, shards=shards)
    meta, sections, notes = _load_newest(data, manifest)
    snapshot_seq = int(meta["seq"]) if meta else 0
    initialise(arrays, limits, shards)
    if meta:
        restore(arrays, limits, sections, shards, engine.risk)
    told = int(arrays["venue"]["reports_count"][0])
    with ExitStack() as stack:
        wal = stack.enter_context(WalRecovery(data, manifest, snapshot_seq))
        judge = functools.partial(scan_wal, data, snapshot_seq)
        overlap = Overlap(data, manifest, told, judge, segment_records)
        stack.callback(overlap.close)
        replayer = Replayer(told_in, limits, shards, overlap, engine, overlap)
        reader = _reader(data, snapshot_seq, wal.marked_seq, wal.blocks)
        if meta:
            _check_block(data, meta, _block(reader))
        taken = 0
        for rows, count in stack.enter_context(closing(_looked_at(data, reader))):
            replayer.feed(rows)
            taken += count
        end = wal.finish()
        assert reader.after_seq == end.seq
        replayer.feed(_NOTHING, end=True)
        overlap.finish(int(arrays["venue"]["reports_count"][0]))
    propose_again(arrays, engine.setup, taken, engine.risk)
    manifest = begin_epoch(data, end, manifest)
    v = arrays["venue"][0]
    cursors = arrays["cursors"]
    for cell in (JOURNALED, PUBLISHED):
        cursors[cell] = end.seq
    for cell in (REPORTS_CLAIMED, REPORTS_WRITTEN, REPORTS_READ, REPORTS_JOURNALED):
        cursors[cell] = int(v["reports_count"])
    assert replayer.seq == end.seq
    return Recovered(
        seq=end.seq,
        ts_ns=int(v["ts_ns"]),
        epoch=manifest.epoch,
        snapshot_seq=snapshot_seq,
        replayed=end.seq - snapshot_seq,
        reports=int(v["reports_count"]),
        cut_bytes=end.cut_bytes,
        notes=tuple(notes),
    )


def _keep_limits(data: Path, limits: Limits) -> None:
    """Leave them for tools that replay the directory in a process of their own."""
    path, content = data / LIMITS_FILE, json.dumps(limits._asdict()).encode()
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    if kept != content:
        replace_file(path, content)


def _reader(
    data: Path, after_seq: int, upto_seq: int, blocks: BlockScanner | None = None
) -> WalReader:
    """A reader for about the commands after_seq + 1 .. upto_seq."""
    some = max(64, min(_BATCH, upto_seq - after_seq))
    buffers = readahead.BUFFERS if readahead.many_commands(after_seq, upto_seq) else 1
    return WalReader(data, after_seq, some, blocks, buffers)


def _looked_at(
    data: Path, reader: WalReader, upto_seq: int | None = None
) -> Generator[tuple[np.ndarray[Any, Any], int], None, None]:
    """(commands that a replay may be fed with, proposals they were made of) to the end of the log;
    or up to `upto_seq`, WalDamage when it ends before.

    Read, hashed and unpacked ahead of the replay where there are many.
    """
    batches = reader.batches() if upto_seq is None else commands_upto(reader, upto_seq)
    releases = Releases(data)

    def look() -> Generator[tuple[np.ndarray[Any, Any], int], None, None]:
        for rows in batches:
            releases.check(rows)
            yield rows, taken_proposals(rows)

    return readahead.taken_ahead(look(), reader.buffers > 1)


_NOTHING = np.zeros(0, CHECKPOINT_COMMAND.dtype)
_BATCH: Final = 8192  # commands in one step of a replay
_REPORTS: Final = 2048  # slots of the reports ring of a replay: 128 KiB


# ---------------------------------------------------------------- snapshots


class Taken(NamedTuple):
    """A snapshot that was written, or why none was."""

    path: Path | None
    seq: int
    replayed: int
    seconds: float
    why: str


def take(data: Path, limits: Limits, keep: int = 2) -> Taken:
    """Write a snapshot at the last CHECKPOINT of the WAL, by replay from the newest one before it.

    Runs beside the engine, in a process of its own. A digest that differs from the CHECKPOINT's
    raises Diverged and writes nothing.
    """
    begun = time.monotonic()
    manifest = read_manifest(data)
    meta, sections, _notes = _load_newest(data, manifest)
    first = int(meta["seq"]) if meta else 0
    target = _last_checkpoint(data, manifest, first)
    if target is None or target - 1 <= first:
        why = "no CHECKPOINT after the newest snapshot yet whose reports are all in the report log"
        return Taken(None, first, 0, 0.0, why)
    if meta:
        check_history(data, meta)
    block = block_of(data, target)
    assert block is not None
    arrays = fresh_arrays(limits, reports=_REPORTS)
    if meta:
        restore(arrays, limits, sections, 1)
    replayer = Replayer(arrays, limits)
    taken = 0
    with closing(_looked_at(data, _reader(data, first, target), target)) as batches:
        for rows, count in batches:
            if int(rows["seq"][-1]) == target:  # a CHECKPOINT, no proposal
                checkpoint = rows[-1:].view(CHECKPOINT_COMMAND.dtype)[0].copy()
                rows = rows[:-1]
            replayer.feed(rows)
            taken += count
    replayer.feed(_NOTHING, end=True)
    v = arrays["venue"][0]
    if (v["reports_digest"], v["reports_count"]) != (
        checkpoint["reports_digest"],
        checkpoint["reports_count"],
    ):
        raise Diverged(f"{data}: the state at {target - 1} is not the one CHECKPOINT {target} saw")
    sync_reports(data, manifest, int(v["reports_count"]))
    path = snapshot_path(data, target - 1)
    write_snapshot(
        path,
        {
            "seq": target - 1,
            "ts_ns": int(v["ts_ns"]),
            "wal": wal_name(manifest),
            "epoch": manifest.epoch,
            **block._asdict(),
            "reports_count": int(v["reports_count"]),
            "reports_digest": int(v["reports_digest"]),
            "state_digest": state_digest(arrays, limits),
            "limits": dict(limits._asdict()),
        },
        {
            **kept_tables(arrays, limits),
            "proposals": queue_section(untaken(arrays, taken)),
        },
    )
    prune_snapshots(data, keep, min(follower_positions(data).values(), default=None))
    return Taken(path, target - 1, target - 1 - first, time.monotonic() - begun, "")


def _last_checkpoint(data: Path, manifest: Manifest, after_seq: int) -> int | None:
    """Sequence of the last CHECKPOINT that is durable, and whose reports are in the report log.

    No further than the watermark says: a block behind it may still be lost with the power, and a
    snapshot of what is lost would refuse every recovery. And no further than the report log goes:
    recovery looks at no report before its snapshot again, so they must be there to be synced. The
    newest are still in the ring. (A directory without a report log has none that could be lost.)
    """
    durable = read_watermark(data, manifest).durable_seq
    reports = ReportLogReader(data, manifest)
    logged = reports.find_end() if reports.segments else np.iinfo(np.int64).max
    reports.close()
    reader = WalReader(data, after_seq)
    found = None
    try:
        while len(rows := reader.read(durable)):
            points = rows[rows["kind"] == Kind.CHECKPOINT].view(CHECKPOINT_COMMAND.dtype)
            points = points[points["reports_count"] <= logged]
            if len(points):
                found = int(points["seq"][-1])
    finally:
        reader.close()
    return found


# ---------------------------------------------------------------- verify


class Verified(NamedTuple):
    """What a proof of a data directory covered."""

    first_seq: int
    seq: int
    checkpoints: int
    reports: int
    compared: int  # reports found in the log and equal
    snapshots: int
    state_digest: int
    seconds: float
    notes: tuple[str, ...]


def verify(data: Path, limits: Limits) -> Verified:
    """Prove a data directory: the log is whole, and replay gives what it says it gave.

    A log that was pruned is proven from the oldest snapshot that it goes on from.

    Every segment's chain and hashes; every snapshot's hashes, and the state it holds against the
    state replay reaches there; every CHECKPOINT's digest; every report in the log, byte by byte.
    """
    begun = time.monotonic()
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(lock_data(data))
        stack.enter_context(lock_wal(data))  # nor a journal that outlives its engine
        manifest = read_manifest(data)
        first, sections = _oldest(data, manifest)
        arrays = fresh_arrays(limits, reports=_REPORTS)
        if sections:
            restore(arrays, limits, sections, 1)
        proof = Proof(data, manifest, int(arrays["venue"]["reports_count"][0]))
        replayer = Replayer(arrays, limits, logged=proof)
        snapshots = {}
        for path in list_snapshots(data):
            meta, sections = load_snapshot(path)
            check_history(data, meta)
            snapshots[int(meta["seq"])] = (path, meta, sections)
        checkpoints = 0
        stack.enter_context(closing(proof))
        wal = stack.enter_context(closing(WalScan(data, manifest, first)))
        reader = _reader(data, first, wal.marked_seq, wal.blocks)
        for rows, _taken in stack.enter_context(closing(_looked_at(data, reader))):
            start = 0
            for at in np.flatnonzero(rows["kind"] == Kind.CHECKPOINT):
                checkpoints += 1
                seq = int(rows["seq"][at]) - 1
                if seq in snapshots:
                    replayer.feed(rows[start:at])
                    replayer.feed(_NOTHING, end=True)
                    start = int(at)
                    path, meta, _sections = snapshots[seq]
                    if state_digest(arrays, limits) != meta["state_digest"]:
                        raise Diverged(f"{path}: replay reaches another state at {seq}")
            replayer.feed(rows[start:])
        end = wal.finish()
        assert reader.after_seq == end.seq
        replayer.feed(_NOTHING, end=True)
        compared = proof.finish(int(arrays["venue"]["reports_count"][0]))
        v = arrays["venue"][0]
        return Verified(
            first_seq=first + 1,
            seq=end.seq,
            checkpoints=checkpoints,
            reports=int(v["reports_count"]),
            compared=compared,
            snapshots=len(snapshots),
            state_digest=state_digest(arrays, limits),
            seconds=time.monotonic() - begun,
            notes=tuple(notes),
        )


def _oldest(data: Path, manifest: Manifest) -> tuple[int, dict[str, np.ndarray[Any, Any]]]:
    """(command, sections) of the oldest sound snapshot that the log reaches back to; (0, {}) where
    the log begins at genesis, or no snapshot will do."""
    start = log_start(data, manifest)
    for path in reversed(list_snapshots(data)) if start else ():
        meta, sections = load_snapshot(path)
        if int(meta["seq"]) >= start:
            return int(meta["seq"]), sections
    return 0, {}


__all__ = ["REPORT", "Recovered", "Taken", "Verified", "recover", "take", "verify"]
