"""Exchanges that tests of processes start: each ends with its test, whatever happens in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.helpers import Venue
from tests.process.zmq_doors import Doors


class Venues:
    """Makes venues, and ends whatever is left of them."""

    def __init__(self, folder: Path, instance: str) -> None:
        self._folder = folder
        self._instance = instance
        self._made: list[Venue] = []

    def __call__(self, *arguments: str, **more: Any) -> Venue:
        number = len(self._made)
        folder = self._folder / str(number)
        folder.mkdir()
        venue = Venue(folder, f"{self._instance}-{number}", *arguments, **more)
        self._made.append(venue)
        return venue

    def end(self) -> None:
        for venue in self._made:
            venue.end()


@pytest.fixture
def venues(tmp_path: Path, instance: str) -> Iterator[Venues]:
    made = Venues(tmp_path, instance)
    yield made
    made.end()


@pytest.fixture(scope="session")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """One exchange for every test of the native gateway; some kill parts of it, and mend it."""
    made = Doors(tmp_path_factory.mktemp("zmq"), f"zmq-{os.getpid()}")
    try:
        made.open()
        yield made
    finally:
        made.end()
