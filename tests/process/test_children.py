"""Children of `perpcore demo`: ready when they say so, started again, ended with all they started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.helpers import wait_until
from tools import children
from tools.children import ChildError, Children

READY = "from shm.notify import notify; notify('READY=1\\nSTATUS=here'); "
STAY = "import time; time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Children]:
    said: list[str] = []
    made = Children(tmp_path, said.append)
    made.said = said  # type: ignore[attr-defined]
    yield made
    made.kill()


def start(family: Children, name: str, program: str, grace_s: float = 10.0) -> int:
    """Start a program of a line or two, wait until it is ready; its pid."""
    child = family.start(name, "-c", program, grace_s=grace_s)
    assert family.until_ready([name], 60, lambda: False)
    assert child.process is not None
    return child.process.pid


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_says_when_it_is_ready_and_what_it_does(family: Children) -> None:
    start(family, "a", READY + STAY)
    assert family.all["a"].status == "here" and family.all["a"].alive
    assert family.stop(["a"], lambda: False) == [] and family.all == {}


def test_one_that_ends_before_is_told_with_its_last_words(family: Children) -> None:
    family.start("a", "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ChildError, match=r"(?s)a ended with 3.*no luck"):
        family.until_ready(["a"], 60, lambda: False)


def test_whoever_asks_to_stop_is_heard_while_waiting(family: Children) -> None:
    family.start("a", "-c", STAY)
    assert not family.until_ready(["a"], 60, lambda: True)


def test_a_killed_child_comes_back_and_what_it_started_goes(family: Children) -> None:
    pid = start(family, "a", PARENT + READY + STAY)
    (grandchild,) = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        family.look()
        family.wait(0.01)
        child = family.all["a"]
        return child.alive and child.ready and child.restarts == 1

    wait_until(again, 60, "it stays dead")
    assert gone(grandchild.pid), "it would be in its successor's way"
    assert family.said == ["a was killed by SIGKILL, starting it again"]  # type: ignore[attr-defined]


def test_one_that_dies_again_and_again_is_hopeless(
    family: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "AGAIN_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(children, "DEATHS_MAX", 2)
    family.start("a", "-c", "raise SystemExit(4)")
    with pytest.raises(ChildError, match=r"3 times within a minute: a ended with 4"):
        wait_until(lambda: family.look(), 60, "it goes on for ever")


def test_one_that_does_not_hear_is_killed(family: Children) -> None:
    pid = start(family, "a", DEAF + READY + STAY, grace_s=0.2)
    other = start(family, "b", READY + STAY)
    assert family.stop(["a", "b"], lambda: False) == ["a"]
    assert gone(pid) and gone(other)


def test_who_insists_does_not_wait(family: Children) -> None:
    start(family, "a", DEAF + READY + STAY, grace_s=600.0)
    begun = time.monotonic()
    assert family.stop(["a"], lambda: True) == ["a"]
    assert time.monotonic() - begun < 300
