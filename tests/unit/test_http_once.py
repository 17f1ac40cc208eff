"""A signed request is dealt with once, for as long as a copy of it could be accepted."""

from __future__ import annotations

import pytest

from gateways.http.once import Once

# At (ms) a request by a key comes, good until (ms): is it the first?
CAME = """
    at | key  | signed | until | first
     0 | ann  | a      |  5000 | yes
    10 | ann  | a      |  5000 | no     a copy
    10 | ann  | b      |  5000 | yes    another one
    10 | bob  | a      |  5000 | yes    somebody else's
  5000 | ann  | a      |  5000 | no     on its last millisecond
  5999 | ann  | c      | 60999 | yes
 60999 | ann  | c      | 60999 | no
"""


def test_each_once() -> None:
    once = Once()
    for row in CAME.strip().splitlines()[1:]:
        at, key, signed, until, first = (cell.strip() for cell in row.split("|"))
        assert once.first(key, signed.encode(), int(until), int(at)) == first.startswith("yes"), row


@pytest.mark.parametrize("window_ms", [1, 999, 5000, 60_000])
def test_what_can_no_longer_come_is_forgotten(window_ms: int) -> None:
    """However many come, no more are known than fit into a receive window and a second."""
    once = Once()
    for now_ms in range(0, 200_000, 50):
        assert once.first("key", b"%d" % now_ms, now_ms + window_ms, now_ms)
        assert len(once) <= (window_ms + 2000) // 50 + 1
