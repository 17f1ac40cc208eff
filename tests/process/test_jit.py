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


def printed(place: Path, cache: Path, program: str) -> list[str]:
    """The lines that a program prints, run within a project of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env=os.environ | {"PERPCORE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def result(place: Path, cache: Path) -> list[int]:
    """What the outer kernel says in a process of its own, and how often the cache had it or not."""
    return [int(text) for text in printed(place, cache, RUN)[0].split()]


def test_a_second_checkout_starts_warm_and_a_changed_callee_starts_cold(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = checkout(tmp_path / "a" / "project", 5)
    assert result(first, cache) == [11, 0, 1]
    assert result(first, cache) == [11, 1, 0]
    assert result(checkout(tmp_path / "b" / "other", 5), cache) == [11, 1, 0], "another folder"
    # The outer kernel's own file is the same to the byte: only what it calls has changed.
    assert result(checkout(tmp_path / "c" / "project", 7), cache) == [15, 0, 1]


CHOSEN = """
import numpy as np
from shm.atomics import either
from shm.jit import kernel

@kernel
def masked(value: int, kept: int, other: int) -> int:
    return either(-(value >> np.int64(63)), kept, other)

@kernel
def written(value: int, kept: int, other: int) -> int:
    return kept ^ ((kept ^ other) & (value >> np.int64(63)))

for chosen in (masked, written):
    print(chosen(-3, 1, 2), chosen(0, 1, 2))
    text = chosen.inspect_llvm(chosen.signatures[0])
    print("select" in text[: text.index("ret i32")])
"""


def says(tmp_path: Path, program: str) -> list[str]:
    """What a module of kernels prints when it is imported, beside our atomics in a small project."""
    place = checkout(tmp_path / "project", 1)
    for name in ("atomics", "pointers"):
        shutil.copy(ROOT / "shm" / f"{name}.py", place / "shm" / f"{name}.py")
    (place / "shm" / "program.py").write_text(program)
    return printed(place, tmp_path / "cache", "import shm.program")


FORETOLD = """
from shm.atomics import foretell
from shm.jit import kernel

@kernel
def told(value: int, other: int) -> int:
    foretell(value > other)
    return value * other

@kernel
def idle(value: int, other: int) -> int:
    if value > other:
        pass
    return value * other

for foreseen in (told, idle):
    print(foreseen(3, 2), foreseen(2, 3))
    text = foreseen.inspect_llvm(foreseen.signatures[0])
    print("br i1" in text[: text.index("ret i32")])
"""


def test_llvm_leaves_a_branch_that_leads_nowhere(tmp_path: Path) -> None:
    """It leaves out the same `if` where nothing stands in it."""
    assert says(tmp_path, FORETOLD) == ["6 6", "True", "6 6", "False"]


def test_llvm_does_not_see_through_a_choice_by_mask(tmp_path: Path) -> None:
    """Where it does, it makes a select of the mask, and in a large kernel a branch of the select:
    a coin toss to the processor, where the side of an order decides."""
    assert says(tmp_path, CHOSEN) == ["2 1", "False", "2 1", "True"]


FORKED = """
from shm.jit import apart, kernel

@kernel
def one(x: int) -> int:
    apart()
    assert x < 100, "too much"
    return x + 1

@kernel
def two(x: int) -> int:
    apart()
    return x * 2

@kernel
def either(x: int) -> int:
    return one(x) if x > 0 else two(x)

print(either(4), either(-4))
try:
    either(100)
except AssertionError as error:
    print(error)
text = either.inspect_llvm(either.signatures[0])
first = text[text.index("\\nB0:") :]
print("store" in first[: first.index("br i1")])
"""


def test_only_the_call_that_is_made_sets_its_places(tmp_path: Path) -> None:
    """Nothing is zeroed for the calls of other branches, and an error is told all the same."""
    assert says(tmp_path, FORKED) == ["5 -8", "too much", "False"]
