"""Ordered loads and stores on int64 cells of shared memory, waiting by futex, and bit tricks.

LLVM may hoist a plain load out of a spin loop, and does; it may also reorder two plain stores.
Whatever another process reads or writes goes through here. As plain Python (NUMBA_DISABLE_JIT=1)
the same names are ordinary functions: the plain build runs in one process only.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from shm.jit import PLAIN
from shm.pointers import Cells, RowsType

FUTEX_WAIT = 0
FUTEX_WAKE = 1
SYS_FUTEX = 202  # x86-64; aarch64 is 98, see _machine below
CLOCK_MONOTONIC = 1
CLOCK_REALTIME = 0

if PLAIN:

    def load_acquire(cells: Cells, index: int) -> int:
        return int(cells[index])

    def store_release(cells: Cells, index: int, value: int) -> None:
        cells[index] = value

    def fetch_add(cells: Cells, index: int, value: int) -> int:
        before = int(cells[index])
        cells[index] = before + value
        return before

    def fence() -> None:
        return None

    def fence_release() -> None:
        return None

    def fence_acquire() -> None:
        return None

    def pause() -> None:
        return None

    def yield_now() -> None:
        time.sleep(0)

    def clock_ns(clock: int) -> int:
        return time.time_ns() if clock == CLOCK_REALTIME else time.monotonic_ns()

    def futex_wait(cells: Cells, index: int, expected: int, timeout_ns: int) -> int:
        return 0

    def futex_wake(cells: Cells, index: int, count: int) -> int:
        return 0

    def prefetch(cells: Cells, index: int) -> None:
        return None

    def prefetch_line(rows: Cells, index: int, line: int) -> None:
        return None

    def trailing_zeros(word: int) -> int:
        word = int(word) & ((1 << 64) - 1)
        return (word & -word).bit_length() - 1

    def leading_zeros(word: int) -> int:
        return 64 - (int(word) & ((1 << 64) - 1)).bit_length()

    def divide_up(a: int, b: int) -> int:
        return -(-int(a) // int(b))

    def unlikely(condition: bool) -> bool:
        return condition

    def foretell(condition: bool) -> None:
        return None

    def either(which: int, zeroth: int, first: int) -> int:
        assert which in (0, 1)
        return first if which else zeroth

    def multiply_high(a: int, b: int) -> tuple[np.uint64, np.uint64]:
        product = int(a) * int(b)
        return np.uint64(product >> 64), np.uint64(product & ((1 << 64) - 1))

else:
    import platform

    if platform.machine() == "aarch64":
        SYS_FUTEX = 98

    _I64 = ir.IntType(64)
    _I32 = ir.IntType(32)
    _I128 = ir.IntType(128)

    def _address(context: Any, builder: Any, kind: Any, cells: Any, index: Any) -> Any:
        base = (
            cells
            if isinstance(kind, RowsType)
            else context.make_array(kind)(context, builder, cells).data
        )
        return builder.gep(base, [index], inbounds=True)

    def _is_cells(kind: Any) -> bool:
        return (isinstance(kind, RowsType) and kind.row == types.int64) or (
            isinstance(kind, types.Array) and kind.ndim == 1 and kind.dtype == types.int64
        )

    @intrinsic  # type: ignore[untyped-decorator]
    def load_acquire(typingctx: Any, cells: Any, index: Any) -> Any:
        """The cell, and everything its writer stored before its store_release of it."""
        if not _is_cells(cells):
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.load_atomic(
                _address(context, builder, sig.args[0], *args), "acquire", 8, typ=_I64
            )

        return types.int64(cells, types.intp), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def store_release(typingctx: Any, cells: Any, index: Any, value: Any) -> Any:
        """Store the cell after everything stored before it in program order."""
        if not _is_cells(cells):
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.store_atomic(
                args[2], _address(context, builder, sig.args[0], *args[:2]), "release", 8
            )
            return context.get_dummy_value()

        return types.void(cells, types.intp, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def fetch_add(typingctx: Any, cells: Any, index: Any, value: Any) -> Any:
        """Add atomically; returns what was there before."""
        if not _is_cells(cells):
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.atomic_rmw(
                "add", _address(context, builder, sig.args[0], *args[:2]), args[2], "seq_cst"
            )

        return types.int64(cells, types.intp, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def fence(typingctx: Any) -> Any:
        """Full barrier: a store before it is visible before any load after it."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence("seq_cst")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def fence_release(typingctx: Any) -> Any:
        """No store after it becomes visible before a load or store before it; free on x86."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence("release")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def fence_acquire(typingctx: Any) -> Any:
        """No load before it is made after a load or store after it; free on x86."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence("acquire")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def pause(typingctx: Any) -> Any:
        """Tell the core that this is a spin loop."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            if platform.machine() == "aarch64":
                hint = cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(ir.VoidType(), [_I32]), "llvm.aarch64.hint"
                )
                builder.call(hint, [ir.Constant(_I32, 1)])
            else:
                hint = cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
                )
                builder.call(hint, [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def yield_now(typingctx: Any) -> Any:
        """sched_yield: let another runnable process have the core."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            call = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_I32, []), "sched_yield"
            )
            builder.call(call, [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def clock_ns(typingctx: Any, clock: Any) -> Any:
        """clock_gettime in ns: CLOCK_REALTIME or CLOCK_MONOTONIC."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            call = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_I32, [_I32, _I64.as_pointer()]),
                "clock_gettime",
            )
            spec = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
            cells = builder.bitcast(spec, _I64.as_pointer())
            builder.call(call, [builder.trunc(args[0], _I32), cells])
            seconds = builder.load(cells)
            nanos = builder.load(builder.gep(cells, [ir.Constant(_I64, 1)]))
            return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), nanos)

        return types.int64(types.int64), codegen

    def _futex(builder: Any, address: Any, operation: int, value: Any, timeout: Any) -> Any:
        # By symbol, not by ctypes pointer: a ctypes pointer would disable the kernel cache.
        call = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_I64, [_I64], var_arg=True), "syscall"
        )
        zero = ir.Constant(_I64, 0)
        return builder.call(
            call,
            [
                ir.Constant(_I64, SYS_FUTEX),
                builder.ptrtoint(address, _I64),
                ir.Constant(_I64, operation),
                value,
                timeout,
                zero,
                zero,
            ],
        )

    @intrinsic  # type: ignore[untyped-decorator]
    def futex_wait(typingctx: Any, cells: Any, index: Any, expected: Any, timeout_ns: Any) -> Any:
        """Sleep while the low 32 bits of the cell equal `expected`, at most `timeout_ns` < 1 s.

        Returns 0 when woken, -1 on time-out, interruption or when the value differs already.
        """
        if not _is_cells(cells):
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            spec = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
            at = builder.bitcast(spec, _I64.as_pointer())
            builder.store(ir.Constant(_I64, 0), at)
            builder.store(args[3], builder.gep(at, [ir.Constant(_I64, 1)]))
            address = _address(context, builder, sig.args[0], *args[:2])
            return _futex(builder, address, FUTEX_WAIT, args[2], builder.ptrtoint(at, _I64))

        return types.int64(cells, types.intp, types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def futex_wake(typingctx: Any, cells: Any, index: Any, count: Any) -> Any:
        """Wake up to `count` sleepers of the cell; returns how many there were."""
        if not _is_cells(cells):
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            address = _address(context, builder, sig.args[0], *args[:2])
            return _futex(builder, address, FUTEX_WAKE, args[2], ir.Constant(_I64, 0))

        return types.int64(cells, types.intp, types.int64), codegen

    def _prefetch(builder: Any, address: Any) -> None:
        byte = ir.IntType(8).as_pointer()
        call = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32]),
            "llvm.prefetch.p0",
        )
        builder.call(call, [address, *(ir.Constant(_I32, k) for k in (0, 3, 1))])

    @intrinsic  # type: ignore[untyped-decorator]
    def prefetch(typingctx: Any, cells: Any, index: Any) -> Any:
        """Ask for the cache line of a cell or row that will be read soon."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            byte = ir.IntType(8).as_pointer()
            _prefetch(
                builder, builder.bitcast(_address(context, builder, sig.args[0], *args), byte)
            )
            return context.get_dummy_value()

        return types.void(cells, types.intp), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def prefetch_line(typingctx: Any, rows: Any, index: Any, line: Any) -> Any:
        """Ask for one of the cache lines of a row of several; line 0 is its first."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            byte = ir.IntType(8).as_pointer()
            row = builder.bitcast(_address(context, builder, sig.args[0], *args[:2]), byte)
            offset = builder.mul(args[2], ir.Constant(_I64, 64))
            _prefetch(builder, builder.gep(row, [offset]))
            return context.get_dummy_value()

        return types.void(rows, types.intp, types.intp), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def trailing_zeros(typingctx: Any, word: Any) -> Any:
        """Index of the lowest set bit of a 64-bit word that is not zero."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def leading_zeros(typingctx: Any, word: Any) -> Any:
        """Zero bits above the highest set bit of a 64-bit word that is not zero."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def divide_up(typingctx: Any, a: Any, b: Any) -> Any:
        """ceil(a / b) for b > 0, which nothing checks.

        As -((-a) // b) it would be three times as long: numba's // first rounds as Python does.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            cut = builder.sdiv(*args)
            left = builder.sub(args[0], builder.mul(cut, args[1]))
            more = builder.icmp_signed(">", left, ir.Constant(_I64, 0))
            return builder.add(cut, builder.zext(more, _I64))

        return types.int64(types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def unlikely(typingctx: Any, condition: Any) -> Any:
        """The condition of an `if` that is hardly ever true: what it leads to is laid out apart,
        and what that needs in registers and on the stack isn't got ready on the common way."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            one_bit = ir.IntType(1)
            expect = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(one_bit, [one_bit, one_bit]),
                "llvm.expect.i1",
            )
            return builder.call(expect, [args[0], ir.Constant(one_bit, 0)])

        return types.boolean(types.boolean), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def foretell(typingctx: Any, condition: Any) -> Any:
        """A branch that leads nowhere, ahead of one that nearly always goes the same way.

        For a toss whose outcome takes long to reckon, where something at hand tells it: a wrong
        guess costs as much here as anywhere, but is found out at once; and the processor, which
        guesses by the branches before, gets the later one right.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            with builder.if_then(args[0]):
                # Nothing, which LLVM can't see and so may neither leave out nor do in any case.
                builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], True)
            return context.get_dummy_value()

        return types.void(types.boolean), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def either(typingctx: Any, which: Any, zeroth: Any, first: Any) -> Any:
        """`zeroth` where `which` is 0, `first` where it is 1, by a mask and never by a branch.

        For what is a coin toss to the processor, as the side of an order: a wrong guess costs it
        as much as fifty instructions. The mask is one that LLVM can't see through, or it would
        make a branch of it again.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            which, zeroth, first = args
            shape = ir.FunctionType(_I64, [_I64])
            mask = builder.asm(shape, "", "=r,0", [builder.neg(which)], False)
            return builder.xor(zeroth, builder.and_(builder.xor(zeroth, first), mask))

        return types.int64(types.int64, types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply_high(typingctx: Any, a: Any, b: Any) -> Any:
        """Unsigned 64 x 64 -> (high, low), both uint64."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            product = builder.mul(builder.zext(args[0], _I128), builder.zext(args[1], _I128))
            high = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
            return context.make_tuple(
                builder, sig.return_type, [high, builder.trunc(product, _I64)]
            )

        return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), codegen
