"""Kernels that choose samples and mark them (shm/hops.py); a few ns a turn, a clock read a sample.

Reads   cursors, as the stage that calls has just stored them; the commands ring.
Writes  rows of the samples, cells of the calling stage's own.
Never   waits, and never changes what a stage does: without room no sample is chosen.
"""

from __future__ import annotations

from typing import Final

from shm import hopcells as hops
from shm.atomics import CLOCK_REALTIME, clock_ns, load_acquire, store_release
from shm.jit import inlined, kernel, rarely
from shm.kinds import HAS_ORIGIN
from shm.pointers import Cells

_MASK: Final = hops.SAMPLES_MAX - 1
_EVERY_NS: Final = 1_000_000_000 // hops.SAMPLES_PER_S
_BURST_NS: Final = _EVERY_NS * (hops.SAMPLES_BURST - 1)
_COMMAND_WORDS: Final = 32
_STRIDE: Final = 7919  # a prime: samples fall on every place of a turn


@inlined
def _row(number: int) -> int:
    """First cell of a sample's row; `number` is how many were chosen before it."""
    return hops.FIRST + (number & _MASK) * hops.ROW_WORDS


@kernel
def _fill(cells: Cells, words: Cells, slot: int) -> None:
    """What the command in a slot of the ring says of itself, into the newest sample."""
    rarely()
    at = _row(cells[hops.ARMED] - 1)
    first = slot * _COMMAND_WORDS
    if words[first] != cells[at + hops.SEQ]:
        return  # a very small ring: it was settled and overwritten within the same turn
    cells[at + hops.REQUEST] = words[first + 2]
    cells[at + hops.ABOUT] = words[first + 6]
    codes = words[first + 7]
    cells[at + hops.ABOUT + 1] = codes
    if (codes >> 56) == 3 and ((HAS_ORIGIN >> (codes & 63)) & 1) != 0:
        cells[at + hops.TRACE] = words[first + 16]
        cells[at + hops.TRACE + 1] = words[first + 17]
        cells[at + hops.RECEIVED] = words[first + 20]
    # The last: a row with a time is whole.
    store_release(cells, at + hops.SEQUENCED, words[first + 1])


@kernel
def _choose(cells: Cells, seq: int, shards: int) -> bool:
    """Make `seq` the next sample, if every stage that marks has left its row."""
    rarely()
    number = cells[hops.ARMED]
    behind = min(
        cells[hops.MARKED_RISK], min(cells[hops.MARKED_SETTLE], cells[hops.MARKED_DURABLE])
    )
    for shard in range(shards):
        behind = min(behind, cells[hops.MARKED_MATCH + shard * hops.MARK_STRIDE])
    if number - behind >= hops.SAMPLES_MAX:
        return False
    at = _row(number)
    for k in range(hops.ROW_WORDS):
        cells[at + k] = 0
    cells[at + hops.SEQ] = seq
    cells[at + hops.NUMBER] = number + 1
    cells[hops.TARGET] = seq
    store_release(cells, hops.ARMED, number + 1)
    return True


@inlined
def sample(
    cells: Cells, words: Cells, mask: int, sequenced: int, took: int, now_ns: int, shards: int
) -> None:
    """After a turn in which the sequencer took something: note the sample, choose the next one.

    words       the commands ring, 32 a slot; command n is in slot n & mask
    sequenced   the last command taken, and `took` how many there were, at least 1
    now_ns      the sequencer's clock, as it was read in that turn
    """
    target = cells[hops.TARGET]
    if target <= sequenced:
        if target != 0:
            _fill(cells, words, target & mask)
            cells[hops.TARGET] = 0
        if cells[hops.NEXT_NS] <= now_ns:
            # Somewhere in the next turn, if that takes as many: the first one would always be of
            # the same producer.
            ahead = 1 + (cells[hops.ARMED] * _STRIDE) % took
            if _choose(cells, sequenced + ahead, shards):
                cells[hops.NEXT_NS] = max(cells[hops.NEXT_NS], now_ns - _BURST_NS) + _EVERY_NS


@inlined
def mark_at(cells: Cells, marked: int, word: int, done: int, now_ns: int) -> None:
    """Mark every sample up to command `done` that this stage hasn't marked.

    marked      the stage's cell
    word        which word of a row is its mark
    now_ns      0: read the clock if there is anything to mark
    """
    number = cells[marked]
    while number < load_acquire(cells, hops.ARMED):
        at = _row(number)
        if cells[at + hops.SEQ] > done:
            break
        if now_ns == 0:
            now_ns = clock_ns(CLOCK_REALTIME)
        cells[at + word] = now_ns
        number += 1
        store_release(cells, marked, number)


@inlined
def mark(cells: Cells, marked: int, word: int, done: int) -> None:
    """As `mark_at`, by the clock: for a stage that doesn't read it anyway."""
    mark_at(cells, marked, word, done, 0)
