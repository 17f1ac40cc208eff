"""Which compiled kernels are still used: folders of the cache, by when anybody last needed them.

    <cache>/<digest>   one folder for each file of kernels as it was in some release (shm/jit.py)

Several releases share a cache, and any of them may run: nothing says which folders are needed but
their use. Whoever loads kernels marks its own; what nobody has marked or read for weeks goes.

Reads   the cache folder; sources, for the names of their folders.
Writes  times of folders; removes folders.
Never   removes what this release would load now, nor anything that isn't named like a digest.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from shm.jit import KERNEL_PACKAGES, ROOT, cache_root, code_digest

UNUSED_DAYS: Final = 30
_DIGEST: Final = re.compile(r"[0-9a-f]{16}")
_DAY_S: Final = 86_400


def own_folders() -> set[Path]:
    """Folders of this release that are there."""
    files = (path for package in KERNEL_PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {folder for f in files if (folder := cache_root() / code_digest(f)).is_dir()}


def mark_used() -> None:
    """Say that this process has loaded its kernels: those of every module that is loaded."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in KERNEL_PACKAGES and file and Path(file).is_relative_to(ROOT):
            # Not there, or another user's cache: then somebody else marks it, or nobody needs it.
            with suppress(OSError):
                os.utime(cache_root() / code_digest(Path(file).resolve()))


def _last_used_s(folder: Path) -> float:
    """When a folder was marked, or a file in it written or read (where the disk notes that)."""
    newest = folder.stat().st_mtime
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # numba replaces files
            found = path.stat()
            newest = max(newest, found.st_mtime, found.st_atime)
    return newest


def prune(days: float = UNUSED_DAYS, now_s: float | None = None) -> list[Path]:
    """Remove folders that nobody has used for so long; returns them."""
    before_s = (time.time() if now_s is None else now_s) - days * _DAY_S
    removed: list[Path] = []
    own = own_folders()
    if not cache_root().is_dir():
        return removed
    for folder in sorted(cache_root().iterdir()):
        if folder.is_dir() and _DIGEST.fullmatch(folder.name) and folder not in own:
            with suppress(OSError):
                if _last_used_s(folder) < before_s:
                    shutil.rmtree(folder)
                    removed.append(folder)
    return removed


__all__ = ["UNUSED_DAYS", "mark_used", "own_folders", "prune"]
