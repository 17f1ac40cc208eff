"""Every benchmark, one after the other: what `perpcore bench` runs.

perpcore bench                     all of them, a quarter of an hour
perpcore bench orderbook rings     these
perpcore bench --smoke             all of them tiny, as the tests do
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

SUBJECTS: Final = (
    *("rings", "orderbook", "pipeline", "wal", "recovery", "ledger", "funding", "followers"),
    *("scan", "gateways_http", "gateways_zmq"),
)


def run(subjects: tuple[str, ...], *, smoke: bool = False, out: Path | None = None) -> int:
    """Run the named benchmarks (none named: all) in processes of their own; the exit code.

    out    also write NAME.txt, NAME.json and NAME.svg there
    """
    unknown = [name for name in subjects if name not in SUBJECTS]
    if unknown:
        print(
            f"no benchmark {', '.join(unknown)}; there are: {', '.join(SUBJECTS)}", file=sys.stderr
        )
        return 2
    failed = 0
    for name in subjects or SUBJECTS:
        options = ["--smoke"] if smoke else []
        options += ["--out", str(out)] if out is not None else []
        print(f"== {name} {' '.join(options)}", flush=True)
        # A process each: pinning, shared memory and compiled kernels of one don't touch the next.
        failed |= subprocess.run([sys.executable, "-m", f"bench.{name}", *options]).returncode
    return 1 if failed else 0
