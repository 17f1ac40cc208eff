"""`perpcore doctor`: what of this host matters to latency and safety, and what mends it.

Reads   /proc, /sys, limits and capabilities of this process, under a root that tests may replace;
        times a few syncs in the data directory and the scheduler's pauses on each core.
Writes  a few kilobytes in the data directory, and removes them; nothing else, and mends nothing.
Never   fails on a host that lacks something: what can't be read is `unknown`.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from shm.config import Config, Worker, workers_for
from shm.histogram import new_histogram, percentiles, record_all

OK: Final = "ok"
WARNING: Final = "warning"
UNKNOWN: Final = "unknown"

MIB: Final = 1 << 20
SYNC_P99_US_MAX: Final = 5_000
JITTER_US_MAX: Final = 50
CAP_IPC_LOCK: Final = 14
CAP_SYS_NICE: Final = 23


class Finding(NamedTuple):
    """One check: what was found, what is wanted, and how to get there."""

    name: str
    status: str
    found: str
    wanted: str
    mend: str


@dataclass(frozen=True)
class Host:
    """Where checks look."""

    config: Config
    root: Path = Path("/")
    jitter_seconds: float = 0.5  # a core; 0 leaves the timed checks out
    syncs: int = 50

    def text(self, path: str) -> str | None:
        """The first line of a file, or None where there is none."""
        with suppress(OSError, UnicodeDecodeError):
            return (self.root / path.lstrip("/")).read_text().partition("\n")[0].strip()
        return None

    def lines(self, path: str) -> list[str]:
        with suppress(OSError, UnicodeDecodeError):
            return (self.root / path.lstrip("/")).read_text().splitlines()
        return []

    def number(self, path: str) -> int | None:
        text = self.text(path)
        return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None

    @property
    def workers(self) -> tuple[Worker, ...]:
        return workers_for(self.config, len(os.sched_getaffinity(0)))

    @property
    def cores(self) -> list[int]:
        """Cores that workers are pinned to; without any, all this process may use."""
        pinned = sorted({w.cpu for w in self.workers if w.cpu is not None})
        return pinned or sorted(os.sched_getaffinity(0))


Check = Callable[[Host], Finding]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Register a check; they run in the order they are written."""
    CHECKS.append(function)
    return function


def _judged(name: str, good: bool | None, found: object, wanted: str, mend: str) -> Finding:
    """ok or warning; None: it could not be read."""
    status = UNKNOWN if good is None else OK if good else WARNING
    shown = "?" if good is None and found is None else str(found)
    return Finding(name, status, shown, wanted, mend if status != OK else "")


def _setting(name: str, path: str, wanted: Callable[[int], bool], words: str, mend: str) -> Check:
    """A check of one number in /proc/sys or /sys."""

    def look(host: Host) -> Finding:
        value = host.number(path)
        return _judged(name, None if value is None else wanted(value), value, words, mend)

    return check(look)


def parse_cores(text: str) -> set[int]:
    """ "0-2,5" as a set; what makes no sense is left out."""
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match:
            cores.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return cores


# ---------------------------------------------------------------- cores


@check
def isolated_cores(host: Host) -> Finding:
    text = host.text("/sys/devices/system/cpu/isolated")
    pinned = {w.cpu for w in host.workers if w.cpu is not None}
    wanted = "the cores workers are pinned to"
    mend = "kernel command line: isolcpus=managed_irq,domain,CORES, then reboot"
    if text is None:
        return _judged("isolated cores", None, None, wanted, mend)
    if not pinned:
        return _judged(
            "isolated cores",
            False,
            "no worker is pinned",
            wanted,
            "give each worker a core: [[topology]] cpu = N",
        )
    return _judged("isolated cores", pinned <= parse_cores(text), text or "none", wanted, mend)


@check
def tickless(host: Host) -> Finding:
    text = host.text("/sys/devices/system/cpu/nohz_full")
    good = None if text is None else text not in ("", "(null)")
    return _judged(
        "tickless cores",
        good,
        text,
        "nohz_full covers the isolated cores",
        "kernel command line: nohz_full=CORES rcu_nocbs=CORES, then reboot",
    )


@check
def hyper_threads(host: Host) -> Finding:
    value = host.number("/sys/devices/system/cpu/smt/active")
    return _judged(
        "SMT",
        None if value is None else value == 0,
        value,
        "0: no sibling shares a core",
        "echo off > /sys/devices/system/cpu/smt/control",
    )


@check
def governor(host: Host) -> Finding:
    base = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    found = {text for core in host.cores if (text := host.text(base.format(core)))}
    return _judged(
        "frequency governor",
        None if not found else found == {"performance"},
        ", ".join(sorted(found)) or None,
        "performance",
        "cpupower frequency-set -g performance",
    )


@check
def turbo(host: Host) -> Finding:
    value = host.number("/sys/devices/system/cpu/intel_pstate/no_turbo")
    return _judged(
        "turbo",
        None if value is None else value == 1,
        value,
        "1: a frequency that doesn't move",
        "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo",
    )


@check
def idle_states(host: Host) -> Finding:
    folder = host.root / "sys/devices/system/cpu/cpu0/cpuidle"
    deep = []
    for state in sorted(folder.glob("state*")) if folder.is_dir() else []:
        relative = "/" + str(state.relative_to(host.root))
        latency = host.number(f"{relative}/latency")
        if latency is not None and latency > 2 and host.number(f"{relative}/disable") == 0:
            deep.append(host.text(f"{relative}/name") or state.name)
    good = None if not folder.is_dir() else not deep
    return _judged(
        "idle states",
        good,
        ", ".join(deep) or "shallow only",
        "none that wakes in over 2 us",
        "cpupower idle-set -D 2, or hold /dev/cpu_dma_latency at 0 (tuned: network-latency)",
    )


@check
def clock_source(host: Host) -> Finding:
    text = host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    good = None if text is None else text in ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page")
    return _judged(
        "clock source",
        good,
        text,
        "tsc: read without a system call",
        "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
    )


@check
def steady_clock(host: Host) -> Finding:
    flags: set[str] = set()
    for line in host.lines("/proc/cpuinfo"):
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    good = None if not flags else {"constant_tsc", "nonstop_tsc"} <= flags
    shown = " ".join(sorted(flags & {"constant_tsc", "nonstop_tsc"})) or None
    return _judged("time-stamp counter", good, shown, "constant_tsc nonstop_tsc", "other hardware")


@check
def virtual(host: Host) -> Finding:
    flags = next((x for x in host.lines("/proc/cpuinfo") if x.startswith("flags")), None)
    good = None if flags is None else " hypervisor" not in f" {flags} "
    return _judged(
        "bare metal",
        good,
        "a virtual machine" if good is False else "bare metal",
        "bare metal: no neighbour takes the core",
        "run on hardware of your own for low tails",
    )


@check
def core_count(host: Host) -> Finding:
    count = len(os.sched_getaffinity(0))
    workers = len(host.workers)
    return _judged(
        "cores",
        count > workers,
        count,
        f"more than the {workers} workers",
        'topology = "fused", or more cores',
    )


# ---------------------------------------------------------------- kernel settings


@check
def huge_pages(host: Host) -> Finding:
    text = host.text("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", text or "")
    return _judged(
        "transparent huge pages",
        None if chosen is None else chosen[1] != "always",
        chosen[1] if chosen else None,
        "madvise or never: no surprise compaction",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    )


@check
def defragmentation(host: Host) -> Finding:
    text = host.text("/sys/kernel/mm/transparent_hugepage/defrag")
    chosen = re.search(r"\[([\w+]+)\]", text or "")
    return _judged(
        "huge page compaction",
        None if chosen is None else chosen[1] != "always",
        chosen[1] if chosen else None,
        "anything but always",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag",
    )


_setting(
    "page merging (ksm)",
    "/sys/kernel/mm/ksm/run",
    lambda v: v != 1,
    "0",
    "echo 0 > /sys/kernel/mm/ksm/run",
)
_setting(
    "NUMA balancing",
    "/proc/sys/kernel/numa_balancing",
    lambda v: v == 0,
    "0",
    "sysctl kernel.numa_balancing=0",
)


@check
def throttling(host: Host) -> Finding:
    value = host.number("/proc/sys/kernel/sched_rt_runtime_us")
    spinning = host.config.wait.policy == "spin" and any(
        w.scheduler.startswith("fifo") for w in host.workers
    )
    good = None if value is None else value == -1 or not spinning
    return _judged(
        "real-time throttling",
        good,
        value,
        "-1 where workers spin under fifo",
        "sysctl kernel.sched_rt_runtime_us=-1, or let spinning workers run under other",
    )


_setting(
    "NMI watchdog",
    "/proc/sys/kernel/nmi_watchdog",
    lambda v: v == 0,
    "0",
    "sysctl kernel.nmi_watchdog=0",
)
_setting(
    "timer migration",
    "/proc/sys/kernel/timer_migration",
    lambda v: v == 0,
    "0: timers stay off isolated cores",
    "sysctl kernel.timer_migration=0",
)
_setting(
    "swappiness",
    "/proc/sys/vm/swappiness",
    lambda v: v <= 10,
    "at most 10",
    "sysctl vm.swappiness=1",
)
_setting(
    "vm statistics interval",
    "/proc/sys/vm/stat_interval",
    lambda v: v >= 10,
    "10 s or more",
    "sysctl vm.stat_interval=120",
)
_setting(
    "listen backlog",
    "/proc/sys/net/core/somaxconn",
    lambda v: v >= 4096,
    "at least 4096",
    "sysctl net.core.somaxconn=4096",
)
_setting(
    "receive buffers",
    "/proc/sys/net/core/rmem_max",
    lambda v: v >= 4 * MIB,
    "at least 4 MiB",
    "sysctl net.core.rmem_max=16777216",
)
_setting(
    "busy polling",
    "/proc/sys/net/core/busy_read",
    lambda v: v > 0,
    "50 on hosts whose gateways wait for the network",
    "sysctl net.core.busy_read=50",
)
_setting(
    "pids",
    "/proc/sys/kernel/pid_max",
    lambda v: v >= 32768,
    "at least 32768",
    "sysctl kernel.pid_max=4194304",
)


@check
def swap(host: Host) -> Finding:
    used = host.lines("/proc/swaps")
    return _judged(
        "swap",
        None if not used else len(used) == 1,
        f"{max(len(used) - 1, 0)} areas",
        "none: a swapped page costs milliseconds",
        "swapoff -a, or lock_memory = true",
    )


@check
def interrupts(host: Host) -> Finding:
    folder = host.root / "proc/irq"
    cores = {w.cpu for w in host.workers if w.cpu is not None}
    hit = 0
    seen = 0
    with suppress(OSError):
        for irq in folder.iterdir():
            text = host.text(f"/proc/irq/{irq.name}/effective_affinity_list")
            if text:
                seen += 1
                hit += bool(cores & parse_cores(text))
    good = None if not seen or not cores else hit == 0
    return _judged(
        "interrupts",
        good,
        f"{hit} of {seen} on workers' cores" if seen else None,
        "none on the cores of workers",
        "kernel command line: irqaffinity=OTHER_CORES; stop irqbalance",
    )


@check
def mitigations(host: Host) -> Finding:
    text = host.text("/proc/cmdline")
    return _judged(
        "kernel command line",
        None if text is None else "isolcpus=" in text,
        (text or "")[:60],
        "isolcpus= nohz_full= rcu_nocbs= irqaffinity=",
        "set them in the boot loader; the tuned profile `perpcore` does",
    )


# ---------------------------------------------------------------- limits of this user


def _limit(name: str, which: int, wanted: int, words: str, unit: str) -> None:
    @check
    def look(_host: Host) -> Finding:
        soft = resource.getrlimit(which)[0]
        good = soft == resource.RLIM_INFINITY or soft >= wanted
        found = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
        return _judged(name, good, found, words, f"systemd: {unit}; or /etc/security/limits.conf")


_limit("locked memory", resource.RLIMIT_MEMLOCK, 1 << 40, "unlimited", "LimitMEMLOCK=infinity")
_limit("real-time priority", resource.RLIMIT_RTPRIO, 50, "at least 50", "LimitRTPRIO=50")
_limit("open files", resource.RLIMIT_NOFILE, 65536, "at least 65536", "LimitNOFILE=1048576")


def _capability(name: str, bit: int) -> None:
    @check
    def look(host: Host) -> Finding:
        line = next((x for x in host.lines("/proc/self/status") if x.startswith("CapEff:")), None)
        good = None if line is None else bool(int(line.split()[1], 16) >> bit & 1)
        return _judged(
            f"capability {name}",
            good,
            "yes" if good else "no",
            "yes",
            f"systemd: AmbientCapabilities={name}; or setcap on the interpreter",
        )


_capability("CAP_IPC_LOCK", CAP_IPC_LOCK)
_capability("CAP_SYS_NICE", CAP_SYS_NICE)


# ---------------------------------------------------------------- memory, disk, time


@check
def shared_memory(host: Host) -> Finding:
    from engine.memory import shared_bytes

    needed = shared_bytes(host.config)
    try:
        free = shutil.disk_usage(host.root / "dev/shm").free
    except OSError:
        return _judged("/dev/shm", None, None, f"{needed // MIB:,} MiB free", "mount a tmpfs there")
    return _judged(
        "/dev/shm",
        free >= needed,
        f"{free // MIB:,} MiB free",
        f"{needed // MIB:,} MiB free",
        f"mount -o remount,size={2 * needed // MIB}M /dev/shm",
    )


@check
def memory(host: Host) -> Finding:
    found = None
    for line in host.lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) // 1024
    return _judged(
        "memory",
        None if found is None else found >= 2048,
        f"{found} MiB available",
        "2 GiB beside the tables",
        "smaller limits, or more memory",
    )


def _data_folder(host: Host) -> Path:
    """The data directory, or the nearest folder above it that exists."""
    folder = Path(host.config.data_dir).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


@check
def disk_space(host: Host) -> Finding:
    wal = host.config.wal
    needed = wal.segment_bytes * (wal.preallocate + 2) + wal.report_log_bytes_max
    free = shutil.disk_usage(_data_folder(host)).free
    return _judged(
        "disk space",
        free >= needed,
        f"{free // MIB:,} MiB free",
        f"{needed // MIB:,} MiB free",
        "a larger disk, or a smaller wal.report_log_bytes_max",
    )


def _block_device(host: Host) -> str | None:
    """Name of the disk the data directory is on, as in /sys/block."""
    try:
        number = os.stat(_data_folder(host)).st_dev
    except OSError:
        return None
    link = host.root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    with suppress(OSError):
        path = link.resolve(strict=True)
        return path.parent.name if (path / "partition").exists() else path.name
    return None


@check
def write_cache(host: Host) -> Finding:
    device = _block_device(host)
    text = host.text(f"/sys/block/{device}/queue/write_cache") if device else None
    return _judged(
        "disk write cache",
        None if text is None else text == "write through",
        text,
        "write through, or a cache that survives a power cut",
        "a disk with power-loss protection; hdparm -W0 turns the cache of others off",
    )


@check
def disk_scheduler(host: Host) -> Finding:
    device = _block_device(host)
    text = host.text(f"/sys/block/{device}/queue/scheduler") if device else None
    chosen = re.search(r"\[([\w-]+)\]", text or "")
    name = chosen[1] if chosen else text
    return _judged(
        "disk scheduler",
        None if not name else name in ("none", "noop", "mq-deadline"),
        name,
        "none",
        f"echo none > /sys/block/{device}/queue/scheduler",
    )


@check
def sync_latency(host: Host) -> Finding:
    wanted = f"p99 below {SYNC_P99_US_MAX // 1000} ms"
    if host.syncs == 0:
        return _judged("sync latency", None, None, wanted, "run without --quick")
    times = new_histogram()
    taken: list[int] = []
    try:
        with tempfile.TemporaryFile(dir=_data_folder(host)) as file:
            file.write(b"\0" * 4096)
            file.flush()
            for k in range(host.syncs):
                begun = time.monotonic_ns()
                os.pwrite(file.fileno(), bytes([k & 255]) * 4096, 0)
                os.fdatasync(file.fileno())
                taken.append(time.monotonic_ns() - begun)
    except OSError as error:
        return _judged("sync latency", None, f"{error.strerror}", wanted, "make it writable")
    import numpy as np

    record_all(times, np.array(taken, np.int64))
    p50, p99 = (ns // 1000 for ns in percentiles(times, (50, 99)))
    return _judged(
        "sync latency",
        p99 <= SYNC_P99_US_MAX,
        f"p50 {p50} us, p99 {p99} us",
        wanted,
        "a disk with power-loss protection, of its own for data_dir",
    )


@check
def time_sync(host: Host) -> Finding:
    state = host.text("/run/systemd/timesync/synchronized")
    chrony = (host.root / "run/chrony").is_dir() or (host.root / "var/run/chrony").is_dir()
    ptp = any((host.root / "dev").glob("ptp*")) if (host.root / "dev").is_dir() else False
    stamped = (host.root / "run/systemd/timesync/synchronized").exists()
    found = ", ".join(
        name
        for name, there in (
            ("timesyncd", stamped or state is not None),
            ("chrony", chrony),
            ("ptp clock", ptp),
        )
        if there
    )
    good = None if not found else chrony or stamped
    return _judged(
        "time synchronisation",
        good,
        found or None,
        "chrony or timesyncd has synchronised",
        "apt-get install chrony",
    )


def pauses_us(core: int, seconds: float) -> int:
    """The longest time this process didn't run on a core while it only looked at the clock."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {core})
        until = time.monotonic_ns() + int(seconds * 1e9)
        last = time.monotonic_ns()
        longest = 0
        while last < until:
            now = time.monotonic_ns()
            longest = max(longest, now - last)
            last = now
    finally:
        os.sched_setaffinity(0, before)
    return longest // 1000


@check
def spin_jitter(host: Host) -> Finding:
    wanted = f"no pause over {JITTER_US_MAX} us"
    mend = "isolate the cores (see above), stop what else runs there"
    if host.jitter_seconds <= 0:
        return _judged("spin jitter", None, None, wanted, "run without --quick")
    found: dict[int, int] = {}
    for core in host.cores[:16]:
        with suppress(OSError):
            found[core] = pauses_us(core, host.jitter_seconds)
    worst = max(found.values(), default=None)
    shown = ", ".join(f"core {core} {us} us" for core, us in found.items())
    return _judged(
        "spin jitter",
        None if worst is None else worst <= JITTER_US_MAX,
        shown or None,
        wanted,
        mend,
    )


def examine(host: Host) -> Iterator[Finding]:
    """Every check in order."""
    for function in CHECKS:
        yield function(host)


def as_text(findings: list[Finding]) -> str:
    """A table, and below it what to do about each warning."""
    width = max(len(f.name) for f in findings)
    rows = [f"{f.status:<8} {f.name:<{width}}  {f.found}" for f in findings]
    todo = [f for f in findings if f.status == WARNING]
    if todo:
        rows += ["", "To mend:"]
        rows += [f"  {f.name}: wanted {f.wanted}\n      {f.mend}" for f in todo]
    counts = {s: sum(f.status == s for f in findings) for s in (OK, WARNING, UNKNOWN)}
    rows += ["", ", ".join(f"{count} {status}" for status, count in counts.items())]
    return "\n".join(rows)
