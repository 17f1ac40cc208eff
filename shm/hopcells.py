"""The cells of the ring of sampled commands, as kernels name them (shm/hops.py says what it is).

a line of the sequencer's own | a line of each stage that marks | HOPS[SAMPLES_MAX] as a ring
"""

from __future__ import annotations

from typing import Final

from shm.records import HOPS
from shm.units import SHARDS_MAX

SAMPLES_MAX: Final = 8192  # a power of two: 8 s of the most there may be, hours of a quiet venue
SAMPLES_PER_S: Final = 1000
SAMPLES_BURST: Final = 1000


def _word(name: str) -> int:
    """Word of a HOPS row in which a field lies."""
    return HOPS.place(name)[0]


# Cells of the segment: a line of the sequencer's own, then one of each stage that marks.
ARMED: Final = 0  # samples chosen so far
TARGET: Final = 1  # the command chosen and not taken yet; 0: none
NEXT_NS: Final = 2  # no sample is chosen before
MARKED_RISK: Final = 16  # samples that risk has marked, and so on
MARKED_SETTLE: Final = 32
MARKED_DURABLE: Final = 48
MARKED_PUBLISH: Final = 64
MARKED_MATCH: Final = 80  # of shard 0; the others follow
MARK_STRIDE: Final = 16
_HEADER: Final = MARKED_MATCH + SHARDS_MAX * MARK_STRIDE
ROW_WORDS: Final = HOPS.dtype.itemsize // 8
FIRST: Final = -(-_HEADER // ROW_WORDS) * ROW_WORDS  # first cell of the first row
HOP_CELLS: Final = FIRST + SAMPLES_MAX * ROW_WORDS

NUMBER: Final = _word("number")
SEQ: Final = _word("seq")
REQUEST: Final = _word("request")
ABOUT: Final = _word("account")  # account and symbol, and the codes in the word after it
TRACE: Final = _word("trace_hi")
RECEIVED: Final = _word("received_ns")
SEQUENCED: Final = _word("sequenced_ns")
RISKED: Final = _word("risked_ns")
SETTLED: Final = _word("settled_ns")
DURABLE: Final = _word("durable_ns")
PUBLISHED: Final = _word("published_ns")
MATCHED: Final = _word("matched_ns")
