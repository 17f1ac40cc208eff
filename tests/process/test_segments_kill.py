"""Shared memory between real processes, any of which is killed with SIGKILL at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from shm.config import Producer
from shm.cursors import REPORTS_CLAIMED, SLEEP, SLEEPS, TIMEOUTS, doorbell
from shm.follower import Follower
from shm.ingress import IngressRing
from shm.pointers import table
from shm.records import REPORT
from shm.segment import Segment, SegmentError, list_segments
from shm.seqlock import BUSY, read_words
from shm.wait import request_stop
from tests.process.segment_actors import PARTS, PRODUCER, REPORTS_CAPACITY, RING_CAPACITY
from tests.process.segment_kernels import (
    LOCKED_WORDS,
    STREAM_PARTS,
    drain,
    play,
    write_locked,
)

ROOT = Path(__file__).parent.parent.parent


def start(role: str, instance: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.process.segment_actors", role, instance, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def heard(actor: subprocess.Popen[str]) -> str:
    assert actor.stdout is not None
    return actor.stdout.readline().strip()


def kill(actor: subprocess.Popen[str], how: int = signal.SIGKILL) -> None:
    actor.send_signal(how)
    actor.wait()
    assert actor.stdout is not None
    actor.stdout.close()


@contextmanager
def acting(role: str, instance: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An actor at work; killed at the end unless the test did it."""
    actor = start(role, instance, *arguments)
    try:
        assert heard(actor) == "ready"
        yield actor
    finally:
        kill(actor)


def test_a_maker_killed_at_any_moment_never_blocks_the_name(instance: str, long_run: bool) -> None:
    for seed in range(100 if long_run else 8):
        rng = random.Random(seed)
        print(f"seed {seed}")
        with acting("maker", instance):
            time.sleep(rng.random() * 0.02)
        left = [(i.name, i.state) for i in list_segments(instance)]
        assert left in ([], [("target", "dead")], [("target", "unfinished")])
        made = Segment.create(instance, "target", PARTS, epoch=2)
        assert not made.arrays["cells"].any()
        Segment.attach(instance, "target", PARTS, epoch=2).close()
        made.unlink()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "leave"])
def test_a_visitor_that_goes_takes_nothing_with_it(instance: str, how: str) -> None:
    made = Segment.create(instance, "target", PARTS, epoch=1)
    made.arrays["cells"][:] = 7
    with acting("visitor", instance, "leave" if how == "leave" else "stay") as visitor:
        if how != "leave":
            kill(visitor, signal.Signals[how])
        visitor.wait()
    assert made.current()
    assert made.arrays["cells"][0] == 8
    assert (made.arrays["cells"][2:] == 7).all()
    Segment.attach(instance, "target", PARTS, epoch=1)


def test_what_a_killed_owner_leaves_is_dead_and_intact(instance: str) -> None:
    with acting("owner", instance):
        seen = Segment.attach(instance, "target", PARTS, epoch=1)
        assert seen.owner_alive()
        with pytest.raises(SegmentError, match="in use, written by pid"):
            Segment.create(instance, "target", PARTS, epoch=2)
    assert not seen.owner_alive()
    with pytest.raises(SegmentError, match="the process that made it is gone"):
        Segment.attach(instance, "target", PARTS, epoch=1)
    post_mortem = Segment.attach(instance, "target", PARTS, writable=False, dead=True)
    assert (post_mortem.arrays["cells"] == 7).all()
    made = Segment.create(instance, "target", PARTS, epoch=2)
    assert (made.current(), seen.current()) == (True, False)
    assert (seen.arrays["cells"] == 7).all() and not made.arrays["cells"].any()


def test_of_many_makers_at_once_one_wins(instance: str, long_run: bool) -> None:
    for _ in range(20 if long_run else 2):
        at = str(time.time() + 1.0)
        racers = [start("racer", instance, at) for _ in range(4)]
        try:
            answers = sorted(heard(racer) for racer in racers)
            assert [answer.split()[0] for answer in answers] == ["made", *["refused"] * 3]
            assert all("in use, written by pid" in answer for answer in answers[1:])
            epoch = int(answers[0].split()[1])
            assert Segment.attach(instance, "target", PARTS).epoch == epoch
        finally:
            for racer in racers:
                kill(racer)


def test_a_killed_producer_leaves_whole_commands_and_the_next_goes_on(
    instance: str, long_run: bool
) -> None:
    producer = Producer(name=PRODUCER, id=8, kinds=("order",))
    ring = IngressRing.create(instance, producer, RING_CAPACITY, epoch=1)
    last = taken = 0
    for seed in range(60 if long_run else 5):
        rng = random.Random(seed)
        print(f"seed {seed}")
        before, enough = taken, rng.randrange(1000, 20_000)
        with acting("producer", instance) as actor:
            while taken - before < enough:
                assert actor.poll() is None
                count, last, wrong = drain(ring.cells, RING_CAPACITY, last)
                assert wrong == 0
                taken += count
                os.sched_yield()
        count, last, wrong = drain(ring.cells, RING_CAPACITY, last)
        assert (wrong, drain(ring.cells, RING_CAPACITY, last)[0]) == (0, 0)
        taken += count
        assert ring.next_request() > last


def test_a_follower_never_takes_a_torn_report_for_a_whole_one(
    instance: str, long_run: bool
) -> None:
    stream = Segment.create(instance, "stream", STREAM_PARTS, epoch=1).arrays
    reports = stream["words"][: 8 * REPORTS_CAPACITY].view(REPORT.dtype)
    follower = Follower(stream["cursors"], reports, 0, batch=64)
    rng, whole, laps = random.Random(1), 0, 0
    with acting("settler", instance) as actor:
        while whole < (5_000_000 if long_run else 50_000) or laps < 200:
            assert actor.poll() is None
            got = follower.read()
            if got is None:
                # Go on at the brink: the writer is overwriting what is read next.
                laps += 1
                claimed = int(stream["cursors"][REPORTS_CLAIMED])
                follower.next = max(claimed - REPORTS_CAPACITY + rng.randrange(40), 0)
                continue
            if len(got) == 0:
                os.sched_yield()
            words = got.view(np.int64).reshape(-1, 8)
            index = np.arange(follower.next - len(words), follower.next)
            assert (words == index[:, None] * np.arange(3, 11)).all()
            whole += len(words)


def test_a_seqlock_gives_whole_words_or_none_and_a_killed_writer_hangs_nobody(
    instance: str, long_run: bool
) -> None:
    stream = Segment.create(instance, "stream", STREAM_PARTS, epoch=1).arrays
    versions, words = table(stream["cursors"]), table(stream["words"])
    out = np.zeros(LOCKED_WORDS, np.int64)
    whole = odd = 0
    while whole < (2_000_000 if long_run else 10_000) or not odd:
        with acting("writer", instance) as actor:
            for _ in range(10_000):
                assert actor.poll() is None
                version = read_words(versions, 0, words, 0, LOCKED_WORDS, table(out), 500)
                if version > 0:
                    assert (out == version * np.arange(1, LOCKED_WORDS + 1)).all()
                    whole += 1
        odd += int(stream["cursors"][0]) & 1
        got = read_words(versions, 0, words, 0, LOCKED_WORDS, table(out), 500)
        assert (got == BUSY) == (int(stream["cursors"][0]) & 1 == 1)
    write_locked(versions, words, 1)
    version = read_words(versions, 0, words, 0, LOCKED_WORDS, table(out), 1)
    assert (out == version * np.arange(1, LOCKED_WORDS + 1)).all()


def test_no_wake_up_is_lost(instance: str, long_run: bool) -> None:
    """Both sleep whenever it is not their turn; only a lost wake-up lets a second go by."""
    rounds = 200_000 if long_run else 5_000
    arrays = Segment.create(instance, "stream", STREAM_PARTS, epoch=1).arrays
    with acting("partner", instance, str(rounds)) as partner:
        play(table(arrays["bells"]), table(arrays["cursors"]), 0, rounds)
        assert partner.wait() == 0
    for worker in (0, 1):
        assert arrays["bells"][doorbell(worker) + SLEEPS] > 0
        # A host that stalls a process for a second ends a sleep too; a lost one ends many.
        assert arrays["bells"][doorbell(worker) + TIMEOUTS] <= 2


def test_ringing_for_a_worker_killed_in_its_sleep_is_harmless(instance: str) -> None:
    arrays = Segment.create(instance, "stream", STREAM_PARTS, epoch=1).arrays
    with acting("partner", instance, "1"):
        while arrays["bells"][doorbell(1) + SLEEP] != 1:
            time.sleep(0.01)
    request_stop(table(arrays["bells"]), 1)
    assert arrays["bells"][doorbell(1) + SLEEP] == 0
