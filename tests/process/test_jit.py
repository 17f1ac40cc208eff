"""Where machine code is kept: found again by the same source anywhere, by no other source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CALLED = """from shm.jit import kernel
@kernel
def step(x: int) -> int:
    return x + {step}
"""
CALLING = """from shm.jit import kernel
from shm.called import step
@kernel
def twice(x: int) -> int:
    return step(step(x))
"""
RUN = """
from shm.calling import twice
print(twice(1), sum(twice.stats.cache_hits.values()), sum(twice.stats.cache_misses.values()))
"""


def checkout(place: Path, step: int) -> Path:
    """A project of two kernels in different files."""
    (place / "shm").mkdir(parents=True)
    for name in ("__init__", "jit"):
        shutil.copy(ROOT / "shm" / f"{name}.py", place / "shm" / f"{name}.py")
    (place / "shm" / "called.py").write_text(CALLED.format(step=step))
    (place / "shm" / "calling.py").write_text(CALLING)
    return place


def result(place: Path, cache: Path) -> list[int]:
    """What the outer kernel says in a process of its own, and how often the cache had it or not."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=place,
        env=os.environ | {"PERPCORE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(text) for text in done.stdout.split()]


def test_a_second_checkout_starts_warm_and_a_changed_callee_starts_cold(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = checkout(tmp_path / "a" / "project", 5)
    assert result(first, cache) == [11, 0, 1]
    assert result(first, cache) == [11, 1, 0]
    assert result(checkout(tmp_path / "b" / "other", 5), cache) == [11, 1, 0], "another folder"
    # The outer kernel's own file is the same to the byte: only what it calls has changed.
    assert result(checkout(tmp_path / "c" / "project", 7), cache) == [15, 0, 1]
