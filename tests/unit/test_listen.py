"""Who listens for reports is told once for each time it has read, and of nothing it knows."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shm import listen
from shm.control import CONTROL, CONTROL_PARTS
from shm.cursors import (
    CURSOR_CELLS,
    DOORBELLS_MAX,
    REPORTS_JOURNALED,
    SLEEP,
    WORKER_PID,
    doorbell,
)
from shm.feed import store_cursor
from shm.jit import PLAIN, kernel
from shm.listen import FIRST, LISTENERS, NEWS, READABLE, Listener, NoBell
from shm.pointers import table
from shm.segment import Segment
from shm.wait import ring_doorbells

INSTANCE = f"listen-{os.getpid()}"
LONG_S = 20.0  # for what must come; nothing here waits so long when all is well
SHORT_S = 0.05  # for what must not


@kernel
def ring(bells: Any, workers: int) -> None:
    ring_doorbells(bells, workers)


class Rig:
    """A journal, as far as listeners see it, and the event loop of one of them."""

    def __init__(self) -> None:
        self.control = Segment.create(INSTANCE, CONTROL, CONTROL_PARTS, 1)
        self.cursors = np.zeros(CURSOR_CELLS, np.int64)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.listeners: list[Listener] = []

    def listen(self) -> Listener:
        self.listeners.append(Listener(INSTANCE, 1, self.cursors, self.fd))
        return self.listeners[-1]

    def journal(self, upto: int) -> None:
        store_cursor(table(self.cursors), REPORTS_JOURNALED, upto)
        ring(table(self.control.arrays["control"]), LISTENERS)

    def told(self, wait_s: float) -> bool:
        if not select.select([self.fd], [], [], wait_s)[0]:
            return False
        return os.eventfd_read(self.fd) > 0

    def close(self) -> None:
        for one in self.listeners:
            one.close()
        os.close(self.fd)
        self.control.unlink()
        self.control.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


@pytest.mark.skipif(PLAIN, reason="nobody can be rung awake")
def test_news_are_told_once_until_they_are_read(rig: Rig) -> None:
    one = rig.listen()
    assert not rig.told(SHORT_S)  # nothing has happened
    rig.journal(3)
    assert rig.told(LONG_S)
    rig.journal(5)
    assert not rig.told(SHORT_S)  # it was told, and hasn't read
    one.seen(5)
    assert not rig.told(SHORT_S)  # it knows
    rig.journal(6)
    assert rig.told(LONG_S)


@pytest.mark.skipif(PLAIN, reason="nobody can be rung awake")
def test_what_came_during_the_reading_is_told(rig: Rig) -> None:
    one = rig.listen()
    for upto in range(2, 400, 2):
        rig.journal(upto)
        assert rig.told(LONG_S)
        rig.journal(upto + 1)  # while it reads what was there before
        one.seen(upto)
        assert rig.told(LONG_S)
        one.seen(upto + 1)


def test_who_attends_finds_news_or_a_message_or_nothing(rig: Rig) -> None:
    one = rig.listen()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    long_ns, over_ns = round(LONG_S * 1e9), time.monotonic_ns()

    def attend(index: int) -> int:
        return one.attend(index, fd, time.monotonic_ns() + long_ns)

    assert one.attend(0, fd, over_ns) == 0  # the time has come
    rig.journal(3)
    assert attend(0) == NEWS
    assert one.attend(0, fd, over_ns) == NEWS  # and is looked at once all the same
    os.eventfd_write(fd, 1)
    assert attend(3) == READABLE
    assert attend(2) == NEWS  # which goes before it
    os.close(fd)


@pytest.mark.skipif(PLAIN, reason="nobody can be rung awake")
def test_nobody_rings_for_who_attends_and_its_bell_hangs_there_again(rig: Rig) -> None:
    one = rig.listen()
    bell = rig.control.arrays["control"][doorbell(FIRST) :]
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    found: list[int] = []
    while bell[SLEEP] == 0:  # the thread comes to rest
        time.sleep(0.001)
    until_ns = time.monotonic_ns() + round(LONG_S * 1e9)
    looker = threading.Thread(target=lambda: found.append(one.attend(0, fd, until_ns)))
    looker.start()
    while bell[SLEEP] == 1:
        time.sleep(0.001)
    rig.journal(3)
    looker.join()
    assert found == [NEWS]
    one.seen(3)
    rig.journal(4)  # it looks no longer: now the thread is rung for
    assert rig.told(LONG_S)
    os.close(fd)


def test_each_has_a_bell_of_its_own_and_a_dead_one_gives_it_up(rig: Rig) -> None:
    cells = rig.control.arrays["control"]
    for _ in range(FIRST, DOORBELLS_MAX):
        rig.listen()
    owners = [int(cells[doorbell(k) + WORKER_PID]) for k in range(FIRST, DOORBELLS_MAX)]
    assert owners == [os.getpid()] * len(owners)
    with pytest.raises(NoBell, match="more than 31 listen"):
        rig.listen()
    cells[doorbell(FIRST + 4) + listen.STARTED] -= 1  # another process had this pid
    rig.listen()
    rig.listeners.pop(0).close()
    rig.listen()


def test_bells_of_listeners_are_behind_those_of_workers() -> None:
    assert LISTENERS & (1 << FIRST) - 1 == 0
    assert LISTENERS.bit_count() == DOORBELLS_MAX - FIRST
    assert 0 < LISTENERS < 1 << 62
