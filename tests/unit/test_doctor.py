"""doctor: verdicts on trees that stand for other hosts, and a run on this one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from shm.config import Config, Worker
from tools.cli import main
from tools.doctor import OK, UNKNOWN, WARNING, Host, as_text, examine, parse_cores

PINNED = Config(
    topology=(
        Worker(name="engine", stages=("sequence", "risk", "match:*", "settle"), cpu=2),
        Worker(name="rest", stages=("journal", "publish"), cpu=3),
    )
)
# file, its text, name of the check, verdict
TABLE = """
  sys/devices/system/cpu/isolated                                    | 2-3                | isolated cores         | ok
  sys/devices/system/cpu/isolated                                    | 3                  | isolated cores         | warning
  sys/devices/system/cpu/nohz_full                                   | (null)             | tickless cores         | warning
  sys/devices/system/cpu/nohz_full                                   | 2-3                | tickless cores         | ok
  sys/devices/system/cpu/smt/active                                  | 1                  | SMT                    | warning
  sys/devices/system/cpu/cpu2/cpufreq/scaling_governor               | powersave          | frequency governor     | warning
  sys/devices/system/cpu/cpu2/cpufreq/scaling_governor               | performance        | frequency governor     | ok
  sys/devices/system/clocksource/clocksource0/current_clocksource    | hpet               | clock source           | warning
  sys/devices/system/clocksource/clocksource0/current_clocksource    | tsc                | clock source           | ok
  sys/kernel/mm/transparent_hugepage/enabled                         | [always] madvise   | transparent huge pages | warning
  sys/kernel/mm/transparent_hugepage/enabled                         | always [never]     | transparent huge pages | ok
  sys/kernel/mm/transparent_hugepage/enabled                         | nonsense           | transparent huge pages | unknown
  proc/sys/kernel/numa_balancing                                     | 1                  | NUMA balancing         | warning
  proc/sys/vm/swappiness                                             | 1                  | swappiness             | ok
  proc/sys/vm/swappiness                                             | many               | swappiness             | unknown
  proc/sys/kernel/sched_rt_runtime_us                                | 950000             | real-time throttling   | ok
  proc/irq/9/effective_affinity_list                                 | 0-3                | interrupts             | warning
  proc/irq/9/effective_affinity_list                                 | 0-1                | interrupts             | ok
  proc/cmdline                                                       | isolcpus=2,3 quiet | kernel command line    | ok
  proc/meminfo                                                       | MemAvailable: 9 kB | memory                 | warning
  proc/swaps                                                         | Filename Type      | swap                   | ok
  proc/cpuinfo                                                       | flags : hypervisor | bare metal             | warning
  proc/cpuinfo                                                       | flags : constant_tsc nonstop_tsc | time-stamp counter | ok
"""


@pytest.mark.parametrize("line", TABLE.strip().splitlines(), ids=lambda s: s.split("|")[2].strip())
def test_verdicts(line: str, tmp_path: Path) -> None:
    path, text, name, status = (cell.strip() for cell in line.split("|"))
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text + "\n")
    found = {f.name: f for f in examine(Host(PINNED, tmp_path, 0.0, 0))}
    assert found[name].status == status, found[name]
    assert bool(found[name].mend) == (status != OK)


def test_an_empty_host_is_unknown_and_no_crash(tmp_path: Path) -> None:
    findings = list(examine(Host(Config(), tmp_path, 0.0, 0)))
    assert len(findings) >= 30
    about_files = [f for f in findings if f.found == "?"]
    assert len(about_files) > 20 and all(f.status == UNKNOWN for f in about_files)
    assert "To mend:" in as_text([f for f in findings if f.status == WARNING])


def test_unreadable_files_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/vm").mkdir(parents=True)
    (tmp_path / "proc/sys/vm/swappiness").write_bytes(b"\xff\xfe")
    (tmp_path / "proc/cmdline").mkdir()
    found = {f.name: f.status for f in examine(Host(Config(), tmp_path, 0.0, 0))}
    assert found["swappiness"] == found["kernel command line"] == UNKNOWN


@pytest.mark.parametrize("text, cores", [("0-2,5", {0, 1, 2, 5}), ("", set()), ("x,1", {1})])
def test_lists_of_cores(text: str, cores: set[int]) -> None:
    assert parse_cores(text) == cores


def test_this_host(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    args = ["doctor", "--json", "--data", str(tmp_path / "not/yet/there")]
    result = CliRunner().invoke(main, args)
    assert result.exit_code in (0, 1), result.output
    findings = {f["name"]: f for f in json.loads(result.stdout)}
    assert (result.exit_code == 1) == any(f["status"] == WARNING for f in findings.values())
    assert "p99" in findings["sync latency"]["found"]
    assert findings["spin jitter"]["status"] != UNKNOWN
    assert os.sched_getaffinity(0) == before
    assert not list(tmp_path.iterdir()), "nothing stays behind"
