"""Whose core a disk's interrupts come to, on hosts made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shm.interrupts import disk_cpus

# lines of /proc/interrupts: of the disk 36 and 37, of something else 31
CASES = """
                 | CPU0 CPU1      | 36: 0 21639 | 31: 14408 0    | 1
                 | CPU0 CPU1      | 36: 7 21639 | 31: 14408 0    | 1
    each its own | CPU0 CPU1      | 36: 900 10  | 37: 12 1100    | 0 1
    some are off | CPU0 CPU2 CPU5 | 36: 0 0 50  | 37: 0 3 0      | 5
    it never did | CPU0 CPU1      | 36: 0 0     | 31: 5 5        |
    not told     | CPU0 CPU1      | 31: 5 9     | NMI: 1 1       |
"""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """/sys with the disk that `tmp_path` lies on, as virtio has it."""
    number = tmp_path.stat().st_dev
    card = tmp_path / "sys" / "devices" / "pci0000:00" / "0000:00:02.0"
    disk = card / "virtio1" / "block" / "vda"
    disk.mkdir(parents=True)
    (card / "msi_irqs").mkdir()
    for line in ("36", "37"):
        (card / "msi_irqs" / line).write_text("msix\n")
    by_number = tmp_path / "sys" / "dev" / "block"
    by_number.mkdir(parents=True)
    (by_number / f"{os.major(number)}:{os.minor(number)}").symlink_to(disk)
    return tmp_path / "sys"


def interrupts(folder: Path, *rows: str) -> Path:
    """/proc with these lines of interrupts, each followed by what names it."""
    folder.mkdir(exist_ok=True)
    head, *rest = rows
    lines = [f"    {head}", *(f" {row}   PCI-MSIX-0000:00:02.0   virtio1-req.0" for row in rest)]
    (folder / "interrupts").write_text("\n".join(lines) + "\nERR:          0\n")
    return folder


@pytest.mark.parametrize("case", CASES.strip("\n").splitlines())
def test_the_cores_of_a_disk(case: str, system: Path, tmp_path: Path) -> None:
    _, head, first, second, cores = (word.strip() for word in case.split("|"))
    proc = interrupts(tmp_path / "proc", head, first, second)
    wanted = {int(core) for core in cores.split()}
    assert disk_cpus(tmp_path, system=system, proc=proc) == wanted


def test_a_volume_is_on_the_disks_it_is_made_of(system: Path, tmp_path: Path) -> None:
    by_number = next((system / "dev" / "block").iterdir())
    disk = by_number.resolve()
    volume = system / "devices" / "virtual" / "block" / "dm-0"
    (volume / "slaves").mkdir(parents=True)
    (volume / "slaves" / "vda").symlink_to(disk)
    by_number.unlink()
    by_number.symlink_to(volume)
    proc = interrupts(tmp_path / "proc", "CPU0 CPU1", "36: 1000 3")
    assert disk_cpus(tmp_path, system=system, proc=proc) == {0}


@pytest.mark.parametrize("missing", ["dev/block", "devices/pci0000:00/0000:00:02.0/msi_irqs"])
def test_a_host_that_does_not_tell(system: Path, tmp_path: Path, missing: str) -> None:
    """No device (memory, a network's file system), or interrupts of the old kind."""
    proc = interrupts(tmp_path / "proc", "CPU0 CPU1", "36: 0 9")
    (system / missing).rename(tmp_path / "gone")
    assert disk_cpus(tmp_path, system=system, proc=proc) == set()


def test_this_host_is_read_without_a_fault(tmp_path: Path) -> None:
    assert disk_cpus(tmp_path) <= set(range(os.cpu_count() or 1))
