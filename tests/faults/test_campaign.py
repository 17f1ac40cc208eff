"""The whole demo venue under attack (campaign.py): nothing acknowledged is lost, nothing doubled,
and in the end the books agree to the unit.

    python -m tests.faults.campaign /tmp/attack --kills 1000            the same by hand
    python -m tests.faults.campaign /tmp/attack --seconds 600 --chaos
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.campaign import campaign

KILLS = 1000
MINUTES = 10


@pytest.mark.timeout(4 * 3600)
def test_a_thousand_kills_of_every_role(tmp_path: Path, instance: str, long_run: bool) -> None:
    if not long_run:
        pytest.skip("a thousand kills take more than an hour: --long")
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    with campaign(tmp_path, instance, seed) as made:
        made.run(KILLS)
        made.stop()
        found = made.check()
    print(found)
    assert found["kills"] == KILLS and len(found["by_role"]) >= 10


@pytest.mark.timeout(3600)
def test_ten_minutes_with_all_faults_on(tmp_path: Path, instance: str, long_run: bool) -> None:
    """Kills of every role and a bad network before the gateway, and it ends reconciled."""
    if not long_run:
        pytest.skip("ten minutes: --long")
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    with campaign(tmp_path, instance, seed, chaos=True) as made:
        made.run(1 << 30, 60.0 * MINUTES)
        made.stop()
        found = made.check()
    print(found)
    assert found["kills"] > 20 and found["orders"]["acknowledged"] > 100
