"""In every Python process started with this folder on PYTHONPATH: time is what a file says.

Reads   the first 8 bytes of the file PERPCORE_TEST_CLOCK names: ns since the epoch.
Never   touches what measures spans: CLOCK_MONOTONIC is the host's, as is all of Python's own time.

Kernels ask libc's clock_gettime by name (shm/atomics.py), and LLVM looks a name up here first. So
the engine under test is the real one to the last instruction, but for who tells it the time.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import llvmlite.binding as llvm

_SECOND = 1_000_000_000
_REALTIME = 0


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("rest_ns", ctypes.c_int64)]


with open(os.environ["PERPCORE_TEST_CLOCK"], "r+b") as _file:
    _memory = mmap.mmap(_file.fileno(), 8)
_now_ns = ctypes.c_int64.from_buffer(_memory)
_real = ctypes.CDLL(None).clock_gettime


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Timespec))
def _scripted(clock: int, at: Any) -> int:
    if clock != _REALTIME:
        return int(_real(clock, at))
    at[0].seconds, at[0].rest_ns = divmod(_now_ns.value, _SECOND)
    return 0


llvm.add_symbol("clock_gettime", ctypes.cast(_scripted, ctypes.c_void_p).value)
