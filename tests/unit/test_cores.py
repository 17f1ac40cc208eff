"""Where a gateway's threads are let run, with the kernel's answers made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateways.zmq import cores
from gateways.zmq.cores import CROWD, Cores

ALL = {0, 1, 5}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What the kernel was asked for, for this process's first thread; the disk has core 1."""
    asked: list[set[int]] = []

    def take(thread: int, cpus: set[int]) -> None:
        if thread == os.getpid():
            asked.append(set(cpus))

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(ALL))
    monkeypatch.setattr(os, "sched_setaffinity", take)
    monkeypatch.setattr(cores, "disk_cpus", lambda _: {1})
    return asked


def test_off_the_disks_core_until_many_are_awaited(asked: list[set[int]], tmp_path: Path) -> None:
    own = Cores(tmp_path)
    for _ in range(3):
        own.awaits_one()
    assert asked == [{0, 5}], "asked for once"
    for _ in range(CROWD - 1):
        own.awaits_many()
    own.awaits_one()
    own.awaits_many()
    assert asked == [{0, 5}], "a few of them in a row are no crowd"
    for _ in range(2 * CROWD):
        own.awaits_many()
    assert asked == [{0, 5}, ALL]


@pytest.mark.parametrize("taken", [set(), ALL, {7}])
def test_nothing_to_choose_from(
    asked: list[set[int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken: set[int]
) -> None:
    """Nobody knows the disk's cores, all are, or none of those this process has."""
    monkeypatch.setattr(cores, "disk_cpus", lambda _: taken)
    own = Cores(tmp_path)
    own.awaits_one()
    for _ in range(CROWD):
        own.awaits_many()
    assert asked == []


def test_a_host_that_forbids_it_is_asked_once(
    asked: list[set[int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(thread: int, cpus: set[int]) -> None:
        asked.append(cpus)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    own = Cores(tmp_path)
    for _ in range(2):
        own.awaits_one()
        for _ in range(CROWD):
            own.awaits_many()
    assert asked == [{0, 5}]
