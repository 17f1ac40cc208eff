"""Signed requests that have come, until their time is over: each is dealt with once.

A network may bring a request twice, on two connections: by a proxy that sends again, by a client's
library. The engine refuses the second of two that it took (codes.Reason.REPLAYED). Here the second
is refused also where the first came to nothing: it was told "not accepted", and a copy of it that
was carried out a moment later would make that untrue.

Never   forgets one that could still be accepted: its time stamp and receive window say how long.
        A gateway knows of what came to itself, in this life.
"""

from __future__ import annotations

from collections import defaultdict


class Once:
    """Of one gateway process; as many as limits let through within a receive window."""

    def __init__(self) -> None:
        self._came: defaultdict[int, set[int]] = defaultdict(set)  # by the second they end in
        self._swept_s = 0

    def first(self, api_key: str, message: bytes, until_ms: int, now_ms: int) -> bool:
        """Whether this request comes for the first time.

        message     what was signed
        until_ms    when it is too old
        """
        now_s = now_ms // 1000
        if now_s > self._swept_s:
            self._swept_s = now_s
            for second in [s for s in self._came if s < now_s]:
                del self._came[second]
        same_end = self._came[until_ms // 1000]
        # Python's hash of bytes has a key of its own in each process: nobody can aim at another's.
        name = hash((api_key, message))
        if name in same_end:
            return False
        same_end.add(name)
        return True

    def __len__(self) -> int:
        return sum(map(len, self._came.values()))
