"""News of durable reports in an event loop, at once: a doorbell for processes outside the engine.

    journal                       thread in a kernel            event loop
    REPORTS_JOURNALED = n
    ring_doorbells  --futex-->    n > SEEN:
                                  TOLD = 1, eventfd  ------->   reads, when it likes to
                                  sleeps        <--futex--      SEEN = n, TOLD = 0

Reads   REPORTS_JOURNALED.
Writes  one of the doorbells behind those of the workers; an eventfd.
Never   holds anybody back: the journal rings these bells as it rings the workers', a load each
        where nobody sleeps. The thread waits inside a kernel, without the interpreter's lock.

Invariants
    1. A thread that was let go looks at the cursor before it sleeps: news that came while the loop
       was reading are told.
    2. Who has told sleeps until the loop has read: a busy loop is told once a turn, and a loop that
       has nobody to tell isn't woken again.
    3. A loop that attends has taken its bell off: nobody rings. It hangs it out again and looks
       once more before it goes; the thread has slept on the same cell all the while.
    4. A bell belongs to a live process: its WORKER_PID says whose it is, and is written under the
       control segment's lock.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Any, Final

import numpy as np

from shm.atomics import (
    CLOCK_MONOTONIC,
    clock_ns,
    fence,
    futex_wait,
    futex_wake,
    load_acquire,
    store_release,
    yield_now,
)
from shm.control import CONTROL, CONTROL_PARTS
from shm.cursors import DOORBELLS_MAX, REPORTS_JOURNALED, SLEEP, WORKER_PID, doorbell
from shm.jit import PLAIN, entry_of, kernel
from shm.pointers import Cells, table
from shm.segment import Segment, SegmentError, process_start

FIRST: Final = 31  # bells below are for workers: a stage or matching shard each, 21 at most
LISTENERS: Final = ((1 << DOORBELLS_MAX) - 1) & ~((1 << FIRST) - 1)  # for ring_doorbells
_SLEEP_NS: Final = 500_000_000  # a bell that nobody rings costs so much, not a hang
STARTED: Final = WORKER_PID + 1  # with the pid: a process, not a number that was used again

# Cells that thread and loop share, a cache line pair each.
_SEEN: Final = 0
_TOLD: Final = 16
_STOP: Final = 32
_POLLED: Final = 48  # a pollfd: the descriptor, and POLLIN in the upper half
_OWN_CELLS: Final = 64

NEWS: Final = 1  # what `attend` found
READABLE: Final = 2

if PLAIN:

    def eventfd_write(fd: int, count: int) -> int:
        os.eventfd_write(fd, count)
        return 0

    def poll_fd(cells: Cells, index: int) -> int:
        fd = int(cells[index]) & 0xFFFFFFFF
        return len(select.select((fd,), (), (), 0)[0])

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator]
    def eventfd_write(typingctx: Any, fd: Any, count: Any) -> Any:
        """eventfd_write(3); returns 0, or -1."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            i32, i64 = ir.IntType(32), ir.IntType(64)
            call = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(i32, [i32, i64]), "eventfd_write"
            )
            told = builder.call(call, [builder.trunc(args[0], i32), args[1]])
            return builder.sext(told, i64)

        return types.int64(types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def poll_fd(typingctx: Any, cells: Any, index: Any) -> Any:
        """poll(2) of the pollfd in a cell, without waiting; above 0: it is readable."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            i32, i64 = ir.IntType(32), ir.IntType(64)
            call = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(i32, [i64, i64, i32]), "poll"
            )
            polled = builder.ptrtoint(cell_address(context, builder, sig, args), i64)
            found = builder.call(call, [polled, ir.Constant(i64, 1), ir.Constant(i32, 0)])
            return builder.sext(found, i64)

        return types.int64(cells, types.intp), codegen

    def cell_address(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """Of a table's cell, whichever build it is of (shm/pointers.py)."""
        base = args[0]
        if isinstance(sig.args[0], types.Array):
            base = context.make_array(sig.args[0])(context, builder, base).data
        return builder.gep(base, [args[1]], inbounds=True)


@kernel
def _listen(cursors: Cells, bells: Cells, bell: int, own: Cells, fd: int, sleep_ns: int) -> None:
    """Wait for news and tell the loop, until _STOP is set.

    bell        first cell of our doorbell
    """
    while load_acquire(own, _STOP) == 0:
        if load_acquire(own, _TOLD) == 1:
            futex_wait(own, _TOLD, 1, sleep_ns)
            continue
        store_release(bells, bell + SLEEP, 1)
        fence()
        if load_acquire(cursors, REPORTS_JOURNALED) > load_acquire(own, _SEEN):
            store_release(bells, bell + SLEEP, 0)
            store_release(own, _TOLD, 1)
            eventfd_write(fd, 1)
        else:
            futex_wait(bells, bell + SLEEP, 1, sleep_ns)
    store_release(bells, bell + SLEEP, 0)


@kernel
def _attend(cursors: Cells, bells: Cells, bell: int, own: Cells, seen: int, until_ns: int) -> int:
    """Look for reports from `seen` on until `until_ns`, and whether the descriptor in _POLLED is
    readable.

    returns     NEWS, READABLE, or 0: the time has come
    """
    store_release(bells, bell + SLEEP, 0)  # the thread goes on sleeping, and nobody wakes it
    found = 0
    while found == 0:
        if load_acquire(cursors, REPORTS_JOURNALED) > seen:
            found = NEWS
        elif poll_fd(own, _POLLED) > 0:
            found = READABLE
        elif clock_ns(CLOCK_MONOTONIC) >= until_ns:
            break
        else:
            yield_now()  # the core belongs to whoever has something to do
    store_release(bells, bell + SLEEP, 1)
    fence()
    if found == 0 and load_acquire(cursors, REPORTS_JOURNALED) > seen:
        found = NEWS  # before anybody could see that there is a bell to ring
    return found


@kernel
def _stop(bells: Cells, bell: int, own: Cells) -> None:
    store_release(own, _STOP, 1)
    store_release(own, _TOLD, 0)
    fence()
    futex_wake(own, _TOLD, 1)
    store_release(bells, bell + SLEEP, 0)
    futex_wake(bells, bell + SLEEP, 1)


@kernel
def _seen(own: Cells, index: int) -> None:
    store_release(own, _SEEN, index)
    if load_acquire(own, _TOLD) == 1:
        store_release(own, _TOLD, 0)
        futex_wake(own, _TOLD, 1)


class NoBell(SegmentError):
    """Others have them all: look now and then."""


class Listener:
    """One process's bell in one start of an engine."""

    def __init__(self, instance: str, epoch: int, cursors: np.ndarray[Any, Any], fd: int) -> None:
        """fd: an eventfd that does not block, which becomes readable when there is news.

        raises      NoBell; SegmentError when the engine is gone
        """
        self._control = Segment.attach(instance, CONTROL, CONTROL_PARTS, epoch)
        cells = self._control.arrays["control"]
        try:
            self._bell = self._claim(cells)
        except SegmentError:
            self._control.close()
            raise
        self._cells = cells
        self._bells = table(cells)
        self._own_cells = np.zeros(_OWN_CELLS, np.int64)
        self._own = table(self._own_cells)
        self._cursors = table(cursors)
        arguments = (self._cursors, self._bells, self._bell, self._own, fd, _SLEEP_NS)
        attending = (self._cursors, self._bells, self._bell, self._own)
        self._attend = entry_of(_attend, *attending, 0, 0)
        self._see = entry_of(_seen, self._own, 0)
        # As plain Python nobody can be rung awake: then only the timer of who listens looks.
        self._thread = threading.Thread(target=_listen, args=arguments, daemon=True)
        if not PLAIN:
            self._thread.start()

    def _claim(self, cells: np.ndarray[Any, Any]) -> int:
        """A bell that no live process has."""
        with self._control.locked():
            for k in range(FIRST, DOORBELLS_MAX):
                bell = doorbell(k)
                pid, started = int(cells[bell + WORKER_PID]), int(cells[bell + STARTED])
                if pid == 0 or process_start(pid) != started:
                    cells[bell + WORKER_PID] = os.getpid()
                    cells[bell + STARTED] = process_start(os.getpid())
                    return bell
        raise NoBell(f"{self._control.label}: more than {DOORBELLS_MAX - FIRST} listen")

    def seen(self, index: int) -> None:
        """After reading: reports below `index` are no news, and what comes now is told."""
        self._see(self._own, index)

    def attend(self, index: int, fd: int, until_ns: int) -> int:
        """Look for reports from `index` on, and whether `fd` becomes readable.

        For a loop that expects an answer within a sync: it hears of it without two wake-ups, its
        own and the thread's. While it looks it yields its core all the time.

        until_ns    by CLOCK_MONOTONIC
        returns     NEWS, READABLE, or 0: neither by then
        """
        self._own_cells[_POLLED] = fd | select.POLLIN << 32
        attending = (self._cursors, self._bells, self._bell, self._own)
        return int(self._attend(*attending, index, until_ns))

    def close(self) -> None:
        """End the thread, give the bell back."""
        _stop(self._bells, self._bell, self._own)
        if self._thread.is_alive():
            self._thread.join()
        self._cells[self._bell + WORKER_PID] = 0
        del self._cells, self._bells, self._cursors
        self._control.close()
