"""Which cores take a disk's interrupts: whoever waits awake for its syncs keeps off them.

Reads   /sys and /proc/interrupts, once.

A sync ends with an interrupt. Where it is delivered to a core on which somebody spins it takes half
as long again: 0.24 ms where it takes 0.16, measured with virtio on two cores. A disk with a queue
for each core interrupts the one that asked: then nobody has to move.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_SHARE: Final = 8  # who takes less than this part of a disk's interrupts isn't one of its cores


def _lines_of(device: Path) -> set[str]:
    """Numbers of the interrupts of a block device, or of those it is made of."""
    slaves = device / "slaves"
    below = list(slaves.iterdir()) if slaves.is_dir() else []
    if below:
        return set().union(*(_lines_of(each.resolve()) for each in below))
    for place in (device, *device.parents):
        lines = place / "msi_irqs"
        if lines.is_dir():
            return {line.name for line in lines.iterdir()}
    return set()


def disk_cpus(folder: Path, *, system: Path = Path("/sys"), proc: Path = Path("/proc")) -> set[int]:
    """Cores that have taken the interrupts of the disk under `folder`; none where nobody knows."""
    number = folder.stat().st_dev
    device = system / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    try:
        lines = _lines_of(device.resolve(strict=True))
        rows = (proc / "interrupts").read_text().splitlines()
    except OSError:
        return set()  # a disk without a device, or a host that doesn't tell
    cpus = [int(word.removeprefix("CPU")) for word in rows[0].split()]
    taken = dict.fromkeys(cpus, 0)
    for row in rows[1:]:
        line, _, rest = row.partition(":")
        if line.strip() in lines:
            for cpu, count in zip(cpus, rest.split(), strict=False):
                taken[cpu] += int(count)
    least = sum(taken.values()) / _SHARE
    return {cpu for cpu, count in taken.items() if count > least}
