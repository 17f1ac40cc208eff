"""The one place where numba options are chosen, and where compiled code is kept.

numba's own cache looks only at the file a kernel is written in: change a kernel it calls from
another file, or ask for bounds checks, and the old machine code runs on. So the cache lives in a
directory named after everything that could change the code: all sources, options, versions.

Three builds of the same source, chosen by environment:

    (default)               tables are raw pointers, no bounds checks: what runs in production
    PERPCORE_BOUNDSCHECK=1  tables are arrays and every index is checked: the test suite
    NUMBA_DISABLE_JIT=1     plain Python on numpy arrays: slow and obvious
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

BOUNDSCHECK = os.environ.get("PERPCORE_BOUNDSCHECK") == "1"
PLAIN = os.environ.get("NUMBA_DISABLE_JIT", "0") == "1"
KERNEL_PACKAGES = ("shm", "ledger", "engine")
CONSTANTS = ("codes.py", "cursors.py", "records.py", "setup.py", "state.py", "units.py")


def code_digest() -> str:
    """Name of this build's machine code: 16 hex digits over sources, options and versions.

    Of the sources, those with kernels and those whose constants kernels freeze. A kernel elsewhere
    (bench, tests) may call these, and is itself kept by numba under its own file's stamp.
    """
    root = Path(__file__).parent.parent
    stamp = f"{numba.__version__} {sys.version} {BOUNDSCHECK}"
    digest = hashlib.blake2s(stamp.encode(), digest_size=8)
    for package in KERNEL_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_bytes()
            if b"shm.jit" in source or path.name in CONSTANTS:
                digest.update(str(path.relative_to(root)).encode() + b"\0" + source)
    return digest.hexdigest()


def cache_root() -> Path:
    """Where compiled kernels are kept: PERPCORE_CACHE, systemd's, or the user's cache folder."""
    for name in ("PERPCORE_CACHE", "CACHE_DIRECTORY"):
        if os.environ.get(name):
            return Path(os.environ[name])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "perpcore"


numba.config.CACHE_DIR = str(cache_root() / code_digest())


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with our options; type checkers see its own signature."""
    compiled: Callable[P, R] = numba.njit(
        cache=True, nogil=True, fastmath=False, error_model="numpy", boundscheck=BOUNDSCHECK
    )(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, and LLVM must inline it: for a few lines on the hot path."""
    compiled: Callable[P, R] = numba.njit(
        cache=True,
        nogil=True,
        fastmath=False,
        error_model="numpy",
        boundscheck=BOUNDSCHECK,
        forceinline=True,
    )(function)
    return compiled


def entry_of(function: Callable[..., R], *arguments: Any) -> Callable[..., R]:
    """`function` for arguments of these types, which every call must have.

    numba looks up the types of all arguments at every call, about 1.5 us for each table: this has
    been done once here. For what Python calls often with many tables.
    """
    if PLAIN:
        return function
    types = tuple(numba.typeof(argument) for argument in arguments)
    compiled: Callable[..., R] = function.compile(types)  # type: ignore[attr-defined]
    return compiled
