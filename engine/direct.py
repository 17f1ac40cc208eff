"""System calls that kernels make themselves: positioned writes and syncs, without the interpreter.

A kernel that writes, syncs and then moves a cursor answers a few microseconds sooner than Python
would, and a helper thread that stays in such a kernel never waits for the interpreter's lock.
Results are as the kernel of the operating system gives them: >= 0, or minus errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from shm.files import PAGE_BYTES
from shm.jit import PLAIN, kernel

__all__ = ["PAGE_BYTES"]

EINTR: Final = errno.EINTR

if PLAIN:
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.pwrite.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
    _libc.pwrite.restype = ctypes.c_ssize_t
    _libc.fdatasync.argtypes = (ctypes.c_int,)

    def pwrite_once(fd: int, address: int, size_bytes: int, offset: int) -> int:
        written: int = _libc.pwrite(int(fd), int(address), int(size_bytes), int(offset))
        return written if written >= 0 else -ctypes.get_errno()

    def fdatasync(fd: int) -> int:
        return 0 if _libc.fdatasync(int(fd)) == 0 else -ctypes.get_errno()

else:
    _I64 = ir.IntType(64)
    _I32 = ir.IntType(32)
    _BYTE = ir.IntType(8).as_pointer()

    def _or_errno(builder: Any, result: Any) -> Any:
        """`result`, or minus errno where it is negative."""
        location = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_I32.as_pointer(), []), "__errno_location"
        )
        error = builder.sext(builder.load(builder.call(location, [])), _I64)
        failed = builder.icmp_signed("<", result, ir.Constant(_I64, 0))
        return builder.select(failed, builder.neg(error), result)

    @intrinsic  # type: ignore[untyped-decorator]
    def pwrite_once(typingctx: Any, fd: Any, address: Any, size_bytes: Any, offset: Any) -> Any:
        """pwrite(2) from a raw address."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            call = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_I64, [_I32, _BYTE, _I64, _I64]), "pwrite"
            )
            data = builder.inttoptr(args[1], _BYTE)
            written = builder.call(call, [builder.trunc(args[0], _I32), data, args[2], args[3]])
            return _or_errno(builder, written)

        return types.int64(types.int64, types.int64, types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def fdatasync(typingctx: Any, fd: Any) -> Any:
        """fdatasync(2)."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            call = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_I32, [_I32]), "fdatasync"
            )
            failed = builder.call(call, [builder.trunc(args[0], _I32)])
            return _or_errno(builder, builder.sext(failed, _I64))

        return types.int64(types.int64), codegen


@kernel
def pwrite_all(fd: int, address: int, size_bytes: int, offset: int) -> int:
    """Write all of it. Returns 0, or minus errno; what came before the error may be there."""
    done = 0
    while done < size_bytes:
        written = pwrite_once(fd, address + done, size_bytes - done, offset + done)
        if written == 0:
            return -errno.EIO
        if written > 0:
            done += written
        elif written != -EINTR:
            return written
    return 0


@kernel
def write_zeros(fd: int, address: int, chunk_bytes: int, offset: int, end: int) -> int:
    """Fill [offset, end) of a file with the chunk at `address`, which the caller keeps zero."""
    at = offset
    while at < end:
        size = min(chunk_bytes, end - at)
        failed = pwrite_all(fd, address, size, at)
        if failed != 0:
            return failed
        at += size
    return 0


def aligned(size_bytes: int) -> np.ndarray[Any, Any]:
    """Zeroed int64 cells that begin on a page, as O_DIRECT wants them."""
    assert size_bytes % 8 == 0 and size_bytes > 0
    # Of the heap, not mapped anew each time: first touches of pages cost more than reading a log.
    memory = np.zeros(size_bytes + PAGE_BYTES, np.uint8)
    start = -memory.ctypes.data % PAGE_BYTES
    return memory[start : start + size_bytes].view(np.int64)


def open_direct(path: str | os.PathLike[str], flags: int) -> tuple[int, bool]:
    """(descriptor, whether it is O_DIRECT): file systems without direct I/O get a plain one."""
    try:
        return os.open(path, flags | os.O_DIRECT), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags), False


def check(result: int, what: str, path: object) -> None:
    """Raise OSError for a result below zero."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}", str(path))
