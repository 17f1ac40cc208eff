"""What all tests share: hypothesis profiles, the recorded data, and which build runs which test.

The suite runs in three builds (shm/jit.py). PERPCORE_SUITE, set by tools/check.py, says which part
this run is to take; without it everything runs in whatever build the environment chose.

    compiled   PERPCORE_BOUNDSCHECK=1: all but the processes
    processes  the default build, raw pointers as in production: process, faults, sim, golden/replay
    plain      NUMBA_DISABLE_JIT=1: unit, laws, golden, with fewer examples
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shm.segment import remove_segments

ROOT = Path(__file__).parent.parent
SUITE = os.environ.get("PERPCORE_SUITE", "")
# A run on production's own build: no bounds checks, separate processes.
PROCESSES = ("process", "clients", "faults", "sim", "golden/replay", "golden/test_replay")
PLAIN = ("unit", "laws", "golden")

_NUMBERS = count()

for name, examples in (("default", 60), ("plain", 10), ("long", 2000)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=examples,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="many more examples and repeats")


def pytest_configure(config: pytest.Config) -> None:
    plain = os.environ.get("NUMBA_DISABLE_JIT") == "1"
    settings.load_profile("long" if config.getoption("--long") else "plain" if plain else "default")


def belongs(path: str, suite: str) -> bool:
    """Whether a test file, by its path under tests/, is part of a suite."""
    if suite == "processes":
        return path.startswith(PROCESSES)
    if suite == "plain":
        return path.startswith(PLAIN) and not path.startswith(PROCESSES)
    return not (suite and path.startswith(PROCESSES))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = ROOT / "tests"
    keep = [item for item in items if belongs(item.path.relative_to(tests).as_posix(), SUITE)]
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


@pytest.fixture(scope="session")
def long_run(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture
def instance() -> Iterator[str]:
    """Name of an exchange that only this test uses; its segments are removed afterwards."""
    name = f"test-{os.getpid()}-{next(_NUMBERS)}"
    yield name
    remove_segments(name, dead_only=False)


@pytest.fixture(scope="session")
def recorded() -> Path:
    """Folder of recorded market data, no part of the project; skips where there is none."""
    path = Path(os.environ.get("PERPCORE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no recorded data at {path}; PERPCORE_DATA names another place")
    return path
