"""Replay by one release never crosses into what another has decided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.files import DataError
from engine.releases import Releases
from shm.codes import Kind, Reason
from shm.kinds import command
from tests.venue import LIMITS, Venue

TABLE = [
    # release, log ((kind, names)), what is said
    (2, [(Kind.TICK, 0), (Kind.CHECKPOINT, 0)], None),
    (1, [(Kind.TICK, 0), (Kind.UPGRADE, 2)], None),
    (1, [(Kind.TICK, 0), (Kind.UPGRADE, 2), (Kind.CHECKPOINT, 0)], None),
    (1, [(Kind.UPGRADE, 2), (Kind.TICK, 0)], "command 2 was decided by release 2"),
    (
        2,
        [(Kind.UPGRADE, 2), (Kind.TICK, 0)],
        "before command 1 was decided by the release before 2",
    ),
    (3, [(Kind.UPGRADE, 2), (Kind.TICK, 0)], "Start release 2"),
    (2, [(Kind.UPGRADE, 0), (Kind.TICK, 0)], None),  # risk had refused it
]


@pytest.mark.parametrize(("release", "log", "said"), TABLE)
@pytest.mark.parametrize("pieces", [1, 2])
def test_replay_stops_at_another_release(
    release: int, log: list[tuple[Kind, int]], said: str | None, pieces: int
) -> None:
    rows = np.concatenate(
        [command(kind, **({"note": (n, 0, 0)} if kind == Kind.UPGRADE else {})) for kind, n in log]
    )
    rows["seq"] = np.arange(1, len(rows) + 1)

    def feed() -> None:
        releases = Releases("here", release)
        for part in np.array_split(rows, pieces):
            releases.check(part)

    if said is None:
        feed()
    else:
        with pytest.raises(DataError, match=said):
            feed()


def test_an_upgrade_names_a_release() -> None:
    v = Venue(LIMITS._replace(leaves=64, trie=128))

    def answer(**fields: Any) -> str:
        return str(v.do(Kind.UPGRADE, **fields)[0]["reason"])

    for wrong in (0, -1, 1 << 31):
        assert answer(note=(wrong, 0, 0)) == Reason.BAD_PARAMETER.name
    assert answer(note=(2, 0, 0)) == Reason.NONE.name
    assert answer(note=(2, 0, 0), side=1) == Reason.MALFORMED.name
