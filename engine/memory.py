"""All memory of one running engine: which segments there are, and what lies in each.

    control    doorbells, status of engine and workers (shm/control.py)
    cursors    how far every stage has got (shm/cursors.py)
    commands   the commands ring            matches   one ring a shard, one after the other
    reports    the reports ring             ingress.* one ring a producer (shm/ingress.py)
    risk       tables of risk and settle    books     tables all shards share row by row
    shards     tables of each shard, one shard's rows after the other's
    counters   counters and histograms (shm/counters.py)
    errors     distinct errors and how often (shm/errors.py)
    hops       where sampled commands are on their way (shm/hops.py)

Reads   nothing but the configuration.
Writes  segments of zeros, heads of ingress rings, labels of counters.
Never   starts, recovers or judges anything: that is the supervisor's.

`create` makes them all and owns them; `attach` maps what a supervisor made, for its workers. Both
give one dict of numpy arrays by name, over which every stage's kernels run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.state import Limits, TableSpec, risk_tables, shard_tables, shared_book_tables
from shm import hops
from shm.config import Config
from shm.control import CONTROL, CONTROL_PARTS, CURSOR_PARTS, CURSORS
from shm.counters import Counters, counter_parts
from shm.errors import ERROR_PARTS, ERRORS
from shm.ingress import format_ring, ring_parts, segment_name
from shm.segment import Part, Segment

Array = np.ndarray[Any, Any]


def limits_of(config: Config) -> Limits:
    """The sizes of the state's tables."""
    return Limits(**{name: getattr(config.limits, name) for name in Limits._fields})


def segment_parts(config: Config) -> dict[str, tuple[Part, ...]]:
    """Every segment of an instance but the ingress rings, with what lies in it."""
    limits, rings, shards = limits_of(config), config.rings, config.shards

    def tables(specs: tuple[TableSpec, ...], times: int = 1) -> tuple[Part, ...]:
        return tuple(Part(s.name, s.type, s.rows * times) for s in specs)

    return {
        CONTROL: CONTROL_PARTS,
        CURSORS: CURSOR_PARTS,
        "commands": (Part("commands", "COMMAND", rings.commands),),
        "matches": (Part("matches", "MATCH", shards * rings.matches),),
        "reports": (Part("reports", "REPORT", rings.reports),),
        "risk": tables(risk_tables(limits)),
        "books": tables(shared_book_tables(limits)),
        "shards": tables(shard_tables(limits), shards),
        "counters": counter_parts(),
        ERRORS: ERROR_PARTS,
        hops.SEGMENT: hops.HOP_PARTS,
    }


def shared_bytes(config: Config) -> int:
    """How much shared memory an instance of this configuration takes, without page headers."""
    parts = [part for several in segment_parts(config).values() for part in several]
    parts += [p for _ in config.producers for p in ring_parts(config.rings.ingress)]
    return sum(part.rows * part.dtype.itemsize for part in parts)


class Memory:
    """Every segment of one start of one engine, mapped; `arrays` is what kernels are given."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.arrays: dict[str, Array] = {}
        self._segments: list[Segment] = []

    def _add(self, segment: Segment) -> Segment:
        assert not self.arrays.keys() & segment.arrays.keys(), segment.label
        self._segments.append(segment)
        self.arrays.update(segment.arrays)
        return segment

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    def close(self) -> None:
        """Forget the mappings; they go when the last array out of them does."""
        self.arrays.clear()
        for segment in self._segments:
            segment.close()

    def unlink(self) -> None:
        """Remove the names. Whoever still maps the memory keeps it, and nobody new finds it."""
        for segment in self._segments:
            segment.unlink()


def create(config: Config, epoch: int) -> Memory:
    """Make all segments of an instance, replacing what a dead engine left.

    raises      SegmentError when another engine runs under this instance name, or /dev/shm is full;
                what was made until then is removed again
    """
    memory = Memory(epoch)
    try:
        # Control first: an engine that is alive under this name is found before anything is made.
        for name, parts in segment_parts(config).items():
            memory._add(Segment.create(config.instance, name, parts, epoch))
        for producer in config.producers:
            name = segment_name(producer.name)
            capacity = config.rings.ingress
            made = Segment.create(config.instance, name, ring_parts(capacity), epoch)
            ring = made.arrays.pop("ring")
            format_ring(ring, producer, capacity)
            made.arrays[name] = ring
            memory._add(made)
    except BaseException:
        memory.unlink()
        memory.close()
        raise
    Counters(memory.arrays).format()
    return memory


def attach(config: Config, epoch: int | None = None) -> Memory:
    """Map all segments of a running instance; SegmentError says why it cannot be done."""
    memory = Memory(epoch or 0)
    try:
        for name, parts in segment_parts(config).items():
            segment = memory._add(Segment.attach(config.instance, name, parts, epoch))
            epoch = memory.epoch = segment.epoch  # all others must be of the same start
        for producer in config.producers:
            name = segment_name(producer.name)
            parts = ring_parts(config.rings.ingress)
            segment = Segment.attach(config.instance, name, parts, epoch)
            segment.arrays = {name: segment.arrays["ring"]}
            memory._add(segment)
    except BaseException:
        memory.close()
        raise
    return memory


def ring_names(config: Config) -> list[str]:
    """Arrays of the ingress rings in the order they are drained: the clock's before all others."""
    producers = sorted(config.producers, key=lambda p: p.kinds != ("clock",))
    return [segment_name(producer.name) for producer in producers]
