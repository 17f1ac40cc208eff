"""kill -9 of every process of a venue under load: nothing that was acknowledged is lost or changed.

A witness follows the reports as any client does, through all the restarts. In the end
    every report it ever saw stands at its index in what an independent replay of the WAL derives
    the replay's digests are those that the engine recorded while it ran (CHECKPOINT)
    every request that was answered is in the WAL exactly once
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import files
from engine.recovery import fresh_arrays
from engine.replay import Replayer
from engine.state import Limits
from engine.walreader import read_commands
from shm.codes import Kind, Reason, ReportKind
from shm.control import View
from shm.cursors import SEQUENCED
from shm.records import ANSWER_REPORT, COMMAND, REPORT
from tests.process.helpers import SMALL, Venue, Witness, wait_until

ROLES = {
    "fused": ("engine", "journal", "publisher", "demo", "supervisor"),
    "split": ("sequencer", "risk", "match0", "match1", "journal", "publisher"),
}
LIMITS = Limits(**{k.partition(".")[2]: v for k, v in SMALL.items() if k.startswith("limits.")})


@pytest.fixture
def make(tmp_path: Path, instance: str) -> Iterator[Any]:
    made = []

    def venue(*arguments: str, **settings: Any) -> Venue:
        made.append(Venue(tmp_path, instance, *arguments, settings=settings))
        return made[-1]

    yield venue
    for venue in made:
        venue.end()


def kill(venue: Venue, role: str) -> None:
    """kill -9 one process of the venue, and have it run again."""
    if role == "supervisor":
        os.kill(venue.pid, signal.SIGKILL)
        venue.until_ended()
        wait_until(lambda: not venue.processes(), 10, "workers outlive their supervisor")
        venue.start()
    elif role == "demo":
        demos = wait_until(  # it may be on its way after the last kill
            lambda: [p for p in venue.processes() if p.name() == "pc-demo"], 30, "no demo"
        )
        demos[0].kill()
    else:
        os.kill(venue.worker(role), signal.SIGKILL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ten venues of each topology with --long, and every process of each is killed twice."""
    if "topology" in metafunc.fixturenames:
        rounds = 10 if metafunc.config.getoption("--long") else 1
        metafunc.parametrize("topology", [topology for topology in ROLES for _ in range(rounds)])


def test_kill_any_process_under_load(make: Any, topology: str, long_run: bool) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    roles = [*ROLES[topology]] * (2 if long_run else 1)
    dice.shuffle(roles)
    venue = make(
        *("--topology", topology, "--traffic", "4000"),
        shards=2 if topology == "split" else 1,
        restarts_max=1000,
        checkpoint_every=1024,
    )
    venue.start()
    witness = Witness(venue)
    view = venue.until_running()
    for role in roles:
        epoch = view.epoch
        witness.attach(view)
        loaded(view)
        witness.follow(dice.uniform(0.0, 1.0))
        print(f"epoch {epoch}: kill {role} after {witness.count} reports")
        kill(venue, role)
        if role != "demo":
            view = venue.until_running(epoch + 1)
    witness.attach(view)
    loaded(view)
    witness.follow(0.2)
    assert venue.stop() == 0, venue.said()[-4000:]
    witness.finish()
    witness.detach()
    venue.check_nothing_left()
    check_history(venue.data, view.cursor(SEQUENCED), witness.reports())


def loaded(view: View) -> None:
    """Wait until this start has taken commands of the demo."""
    first = int(view.engine["recovered_seq"])
    wait_until(lambda: view.cursor(SEQUENCED) > first + 100, 60, "the demo sends nothing")


def check_history(data: Path, last_seq: int, seen: np.ndarray[Any, Any]) -> None:
    """Replay the WAL alone, and hold against it all that was ever shown outside."""
    derived: list[np.ndarray[Any, Any]] = []
    requests: list[np.ndarray[Any, Any]] = []
    arrays = fresh_arrays(LIMITS)
    replayer = Replayer(arrays, LIMITS, sink=lambda _index, rows: derived.append(rows.copy()))
    checkpoints = 0
    for rows in read_commands(data, 0, last_seq):
        requests.append(rows["request"].copy())
        checkpoints += int((rows["kind"] == Kind.CHECKPOINT).sum())
        replayer.feed(rows)  # raises Diverged where a recorded digest is another one
    replayer.feed(np.zeros(0, COMMAND.dtype), end=True)
    assert checkpoints > 0
    every = np.concatenate(derived)
    assert len(seen) == len(every), "the witness followed to the end"
    same = seen == every
    assert same.all(), f"report {np.flatnonzero(~same)[0]}: acknowledged as {seen[~same][0]}"

    taken = np.concatenate(requests)
    taken = taken[taken != 0]
    assert len(np.unique(taken)) == len(taken), "a request was taken twice"
    orders = seen[(seen["kind"] == ReportKind.ORDER) & (seen["request"] != 0)]
    others = seen[seen["kind"] == ReportKind.ANSWER].view(ANSWER_REPORT.dtype)
    for answers in (orders, others):
        assert not (answers["reason"] == Reason.DUPLICATE_REQUEST).any()
    answered = np.concatenate([orders["request"], others["request"]])
    answered = answered[answered != 0]
    assert len(np.unique(answered)) == len(answered), "a request was answered twice"
    assert np.isin(answered, taken).all()
    assert files.read_manifest(data).seq <= last_seq and REPORT.dtype == every.dtype
