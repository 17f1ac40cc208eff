"""A journal in a process of its own, for tests that break its disk; says each command it may.

    python -m tests.faults.sync_actor DATA COUNT IO

After a block is durable it writes its last command to standard output, as a gateway would answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from engine.journal import end_process
from shm.config import Wal
from shm.cursors import CUT, JOURNALED
from tests.model.wal_rig import PAGE, WalRig


def main() -> None:
    data, count, io = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    config = Wal(
        io=io,
        segment_bytes=64 * PAGE,
        block_bytes_max=4 * PAGE,
        heartbeat_ms=60_000,
        preallocate=1,
    )
    rig = WalRig(data, config)
    rig.start(failed=end_process)
    print("ready", flush=True)
    for _block in range(count):
        rig.put(3, reports=1)
        while rig.cursors[JOURNALED] < int(rig.commands[-1]["seq"][-1]):
            if rig.journal.step() == 0 and rig.cursors[CUT]:
                print("cut", int(rig.cursors[JOURNALED]), flush=True)
                return
        print(int(rig.cursors[JOURNALED]), flush=True)
    rig.journal.close()
    print("closed", flush=True)


if __name__ == "__main__":
    main()
