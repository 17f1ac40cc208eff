"""Runs engines through the public referee in turn, and says who is how fast in the worst scenario.

    python -m bench.referee.compare REFEREE ENGINE.so ENGINE.so ... [--rounds 5] [--cores 0,1]

REFEREE is a checkout, built (`make`). Engines take turns within a round, so that what else the
machine does hits all of them. A run whose hash or verdict is not right counts as failed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
from pathlib import Path

SCENARIOS = ("static", "normal", "swing-25", "swing-40", "flash-crash")


def throughput(referee: Path, engine: Path, scenario: str, cores: str) -> float:
    """Million messages a second of one run; 0 when it was not valid."""
    matcher, drainer = cores.split(",")
    command = [
        *(str(referee / "harness"), "--engine", str(engine), "--scenario", scenario),
        *("--mode", "perf", "--matcher-core", matcher, "--drainer-core", drainer),
    ]
    done = subprocess.run(command, cwd=referee, capture_output=True, text=True, check=False)
    found = re.search(r"Throughput: +([0-9.]+) M", done.stdout)
    valid = "Verdict: VALID" in done.stdout and "Status: PASS" in done.stdout
    return float(found.group(1)) if found and valid else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.referee.compare", description=__doc__)
    parser.add_argument("referee", type=Path)
    parser.add_argument("engines", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", default="0,1", help="of the matcher and of the drainer")
    chosen = parser.parse_args()
    referee = chosen.referee.resolve()
    engines = [engine.resolve() for engine in chosen.engines]
    for path in (referee / "harness", *engines):
        if not path.is_file():
            parser.error(f"{path} is not there: build it first, see bench/referee/README.md")
    runs: dict[tuple[Path, str], list[float]] = {}
    for _ in range(chosen.rounds):
        for scenario in SCENARIOS:
            for engine in engines:
                speed = throughput(referee, engine, scenario, chosen.cores)
                runs.setdefault((engine, scenario), []).append(speed)
    print("million messages a second: median (best); 0 stands for a run that was not valid")
    for engine in engines:
        print(f"\n{engine.name}")
        for scenario in SCENARIOS:
            speeds = runs[engine, scenario]
            print(f"  {scenario:<12} {statistics.median(speeds):6.2f} ({max(speeds):.2f})")
        medians = [statistics.median(runs[engine, scenario]) for scenario in SCENARIOS]
        bests = [max(runs[engine, scenario]) for scenario in SCENARIOS]
        print(f"  worst        {min(medians):6.2f} ({min(bests):.2f})")


if __name__ == "__main__":
    main()
