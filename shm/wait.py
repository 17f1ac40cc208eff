"""What a worker does when there is nothing to do: spin, yield, sleep, and be woken in time.

One policy for all workers (shm.config.Wait). With a core each, spin. With fewer cores than
workers, yield at once and then sleep: a spinning worker keeps the one it waits for off the core.

    worker                                       whoever makes work for it
    turns = rest(did nothing) x n  (spin, yield)
    rest: SLEEP = 1, fence        "announced"    store_release of a cursor
    looks once more for work                     ring_doorbells: fence
    rest: futex_wait(SLEEP == 1)                 SLEEP == 1 ? SLEEP = 0, futex_wake

Invariants
    1. Between announcing and sleeping the worker has looked for work again. Both sides store,
       fence, then load the other's cell: at least one of them sees the other.
    2. futex_wait returns at once when SLEEP is no longer 1, so a wake-up between looking and
       sleeping is not lost.
    3. Nobody sleeps longer than `sleep_ns`, at most 50 ms: a doorbell that a killed process
       never rang costs that much, not a hang.
    4. Python's signal handlers do not run inside kernels: whoever loops here looks at `stopping`
       and returns to Python every few milliseconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shm.atomics import (
    CLOCK_MONOTONIC,
    clock_ns,
    fence,
    futex_wait,
    futex_wake,
    load_acquire,
    pause,
    store_release,
    trailing_zeros,
    yield_now,
)
from shm.config import Wait
from shm.cursors import DOORBELL_CELLS, HEARTBEAT_NS, PROGRESS, SLEEP, SLEEPS, STOP, TIMEOUTS
from shm.jit import inlined, kernel
from shm.pointers import Cells

FOR_EVER: Final = 1 << 62


class Policy(NamedTuple):
    """shm.config.Wait as kernels take it: three ints."""

    spins: int
    yields: int
    sleep_ns: int


def policy_of(wait: Wait) -> Policy:
    """What the configuration asks for."""
    spins = FOR_EVER if wait.policy == "spin" else wait.spins
    return Policy(spins, wait.yields, wait.sleep_ms * 1_000_000)


@inlined
def rest(
    bells: Cells, worker: int, did: int, turns: int, spins: int, yields: int, sleep_ns: int
) -> int:
    """One idle step after a turn of the worker's loop; call it after every turn.

    bells       the doorbells of all workers
    did         what the turn did; above 0 the worker is busy and only the state is put right
    turns       what the last call returned, 0 at first
    returns     turns for the next call
    """
    limit = spins + yields
    if did > 0:
        if turns > limit:
            store_release(bells, worker * DOORBELL_CELLS + SLEEP, 0)
        return 0
    if turns < spins:
        pause()
        return turns + 1
    return _rest_slowly(bells, worker, turns, limit, sleep_ns)


@kernel
def _rest_slowly(bells: Cells, worker: int, turns: int, limit: int, sleep_ns: int) -> int:
    """The part of `rest` that a busy worker never reaches."""
    base = worker * DOORBELL_CELLS
    if turns < limit:
        yield_now()
        return turns + 1
    if turns == limit:
        store_release(bells, base + SLEEP, 1)
        fence()
        return turns + 1  # announced: the caller looks for work once more
    bells[base + SLEEPS] = bells[base + SLEEPS] + 1
    woken = futex_wait(bells, base + SLEEP, 1, sleep_ns)
    still = load_acquire(bells, base + SLEEP)
    store_release(bells, base + SLEEP, 0)
    if woken == 0 or still == 0:
        return 0  # rung for: start over, more is likely to come
    bells[base + TIMEOUTS] = bells[base + TIMEOUTS] + 1
    return limit  # one look, then sleep again


@inlined
def ring_doorbells(bells: Cells, workers: int) -> None:
    """Wake those of `workers` that sleep; call it after moving a cursor they wait for.

    workers     bit w: worker w. Not the caller itself.
    """
    fence()
    left = workers
    while left != 0:
        cell = trailing_zeros(left) * DOORBELL_CELLS + SLEEP
        if load_acquire(bells, cell) == 1:
            store_release(bells, cell, 0)
            futex_wake(bells, cell, 1)
        left &= left - 1


@inlined
def beat(bells: Cells, worker: int, did: int) -> None:
    """Tell the supervisor that the worker is alive, and what it did since the last beat."""
    base = worker * DOORBELL_CELLS
    bells[base + PROGRESS] = bells[base + PROGRESS] + did
    store_release(bells, base + HEARTBEAT_NS, clock_ns(CLOCK_MONOTONIC))


@inlined
def stopping(bells: Cells, worker: int) -> bool:
    """Whether somebody asked this worker to leave its loop."""
    return load_acquire(bells, worker * DOORBELL_CELLS + STOP) != 0


@kernel
def request_stop(bells: Cells, worker: int) -> None:
    """Ask a worker to leave its loop, and wake it."""
    store_release(bells, worker * DOORBELL_CELLS + STOP, 1)
    ring_doorbells(bells, 1 << worker)


def others(workers: int, me: int) -> int:
    """The set of all workers but one, for ring_doorbells."""
    return ((1 << workers) - 1) & ~(1 << me)
