"""Processes that all bring the same signed requests to one set, and are killed meanwhile.

    python -m tests.process.once_actors FOLDER SEED KILLS

Writes  a line of JSON: how often each request was the first, and how many were killed.

One process that forks: a killed one's successor is there in a millisecond. It opens the set as a
gateway does that was started again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path

from gateways.http.once import Came, Once
from gateways.http.signing import digest_of

ACTORS = 4
REQUESTS = 20_000
BUCKETS = 1024
WON = struct.Struct("<q")
NOW_MS = 1_800_000_000_000


def act(folder: Path, who: int, begin: int) -> None:
    """Bring all requests from one on; say which were the first, as soon as that is known."""
    once = Once(folder / "once", BUCKETS)
    said = os.open(folder / f"won.{who}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for k in range(begin, REQUESTS):
        if once.came(digest_of(b"%d" % k, "key"), NOW_MS + 60_000, NOW_MS) is Came.FIRST:
            os.write(said, WON.pack(k))


def start(folder: Path, who: int, begin: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            act(folder, who, begin)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return pid


def winners(folder: Path) -> Counter[int]:
    found: Counter[int] = Counter()
    for path in folder.glob("won.*"):
        found.update(k for (k,) in WON.iter_unpack(path.read_bytes()))
    return found


def main() -> None:
    folder, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    pids = [start(folder, who, 0) for who in range(ACTORS)]
    killed = 0
    while killed < kills:
        time.sleep(draw.uniform(0.0002, 0.004))
        who = draw.randrange(ACTORS)
        os.kill(pids[who], signal.SIGKILL)
        _, status = os.waitpid(pids[who], 0)
        killed += os.WIFSIGNALED(status)
        # From a place where the others are, or from where it asks for nothing but copies.
        front = sum(p.stat().st_size for p in folder.glob("won.*")) // WON.size
        pids[who] = start(folder, who, max(0, min(front, REQUESTS - 2000) - draw.randrange(200)))
    if killed:
        os.kill(pids[0], signal.SIGKILL)
        os.waitpid(pids[0], 0)
        pids[0] = start(folder, 0, 0)
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    times = Counter(winners(folder).values())
    never = REQUESTS - sum(times.values())
    print(json.dumps({"first": dict(times), "never": never, "failed": failed}))


if __name__ == "__main__":
    main()
