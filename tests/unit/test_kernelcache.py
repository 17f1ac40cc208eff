"""What of the kernel cache goes: folders nobody has used for long, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from shm import kernelcache
from shm.jit import code_digest

DAY_S = 86_400
NOW_S = 2_000_000_000.0
OWN = code_digest(Path(kernelcache.__file__).resolve())

TABLE = f"""
  folder            | used days ago | file days ago | stays
  aaaaaaaaaaaaaaaa  | 40            | 40            | no
  bbbbbbbbbbbbbbbb  | 40            | 29            | yes    read since, where the disk notes that
  cccccccccccccccc  | 29            | 40            | yes    marked by whoever loaded it
  dddddddddddddddd  | 400           | 31            | no
  {OWN}             | 400           | 400           | yes    this release's own
  not-a-digest      | 400           | 400           | yes    not ours
  aaaaaaaaaaaaaaa   | 400           | 400           | yes    not ours either
"""


def test_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPCORE_CACHE", str(tmp_path))
    stays = {}
    for row in TABLE.strip().splitlines()[1:]:
        name, folder_days, file_days, rest = (cell.strip() for cell in row.split("|"))
        folder = tmp_path / name
        (folder / "engine.book").mkdir(parents=True)
        file = folder / "engine.book" / "cross-1.nbi"
        file.write_bytes(b"code")
        for path, days in ((file, file_days), (file.parent, folder_days), (folder, folder_days)):
            os.utime(path, (NOW_S - int(days) * DAY_S,) * 2)
        stays[name] = rest.startswith("yes")
    removed = kernelcache.prune(30, NOW_S)
    assert {path.name for path in removed} == {name for name, kept in stays.items() if not kept}
    assert {path.name for path in tmp_path.iterdir()} == {n for n, kept in stays.items() if kept}
    assert kernelcache.prune(30, NOW_S) == []


def test_who_loads_kernels_marks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPCORE_CACHE", str(tmp_path))
    folder = tmp_path / OWN
    folder.mkdir()
    os.utime(folder, (NOW_S, NOW_S))
    kernelcache.mark_used()
    assert time.time() - folder.stat().st_mtime < 60
    assert not (tmp_path / "aaaaaaaaaaaaaaaa").exists()


def test_no_cache_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPCORE_CACHE", str(tmp_path / "absent"))
    assert kernelcache.prune() == []
    kernelcache.mark_used()
