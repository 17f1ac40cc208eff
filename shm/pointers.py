"""Tables for kernels: rows of a record, by raw pointer in production, by array under test.

`rows[i]["field"]` reads and writes one field and means the same in all three builds (shm/jit.py).
A numba array as an argument costs seven words and an atomic reference count at every call, which
made the order book six times slower; a pointer costs one word. The price is that nothing checks
an index, so the test suite runs the same kernels on arrays with bounds checks.

    orders = table(np.zeros(1024, ORDER.dtype))   # what a kernel takes
    @kernel
    def total(orders: Rows, count: int) -> int: ... orders[i]["lots"] ...

A table of plain int64 cells is indexed the same way: `cells[i] = cells[i] + 1`.
"""

from __future__ import annotations

import operator
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype

from shm.jit import BOUNDSCHECK, PLAIN

Rows = Any  # a table of records: rows[i]["field"]
Cells = Any  # a table of plain integers: cells[i]


class Table:
    """An array on its way into a kernel as a bare pointer; keeps the array alive."""

    __slots__ = ("address", "array", "kind")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        assert array.ndim == 1 and array.flags.c_contiguous and array.flags.writeable
        self.array = array
        self.address = array.ctypes.data
        self.kind = _rows_type(array.dtype)


def table(array: np.ndarray[Any, Any]) -> Any:
    """What to hand to a kernel for `array`: a pointer, or the array itself under test."""
    return array if BOUNDSCHECK or PLAIN else Table(array)


def array_of(rows: Any) -> np.ndarray[Any, Any]:
    """The numpy array behind what `table` gave."""
    return rows.array if isinstance(rows, Table) else rows


class RowsType(types.Type):  # type: ignore[misc]
    """Pointer to the first row; `row` is a numba Record, or a plain number type."""

    def __init__(self, row: Any) -> None:
        self.row = row
        super().__init__(f"Rows({row})")


@register_model(RowsType)
class _RowsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.row).get_data_type().as_pointer())


@cache
def _rows_type(dtype: np.dtype[Any]) -> RowsType:
    # numba takes up to 0.7 ms to make a type of a record, and asks at every call of a kernel.
    return RowsType(from_dtype(dtype))


@typeof_impl.register(Table)  # type: ignore[untyped-decorator]
def _typeof_table(value: Table, _context: Any) -> RowsType:
    return value.kind


@unbox(RowsType)  # type: ignore[untyped-decorator]
def _unbox_table(typ: Any, obj: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(obj, "address")
    value = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    pointer = c.builder.inttoptr(value, c.context.get_value_type(typ))
    return NativeValue(pointer, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@infer_global(operator.getitem)
class _GetRow(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], RowsType) and isinstance(args[1], types.Integer):
            return signature(args[0].row, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _SetCell(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        if (
            isinstance(args[0], RowsType)
            and not isinstance(args[0].row, types.Record)
            and isinstance(args[1], types.Integer)
        ):
            return signature(types.void, args[0], types.intp, args[0].row)
        return None


@lower_builtin(operator.getitem, RowsType, types.Integer)  # type: ignore[untyped-decorator]
def _get_row(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = builder.gep(args[0], [args[1]], inbounds=True)
    # A numba Record value *is* the pointer to its bytes; a number is loaded.
    return pointer if isinstance(sig.args[0].row, types.Record) else builder.load(pointer)


@lower_builtin(operator.setitem, RowsType, types.Integer, types.Any)  # type: ignore[untyped-decorator]
def _set_cell(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], builder.gep(args[0], [args[1]], inbounds=True))
    return context.get_dummy_value()


if PLAIN:

    def rows_from(rows: Rows, first: int) -> Rows:
        return rows[first:]

    def cells_at(address: int, count: int) -> Cells:
        import ctypes

        memory = (ctypes.c_int64 * int(count)).from_address(int(address))
        return np.frombuffer(memory, np.int64)  # type: ignore[call-overload]

elif BOUNDSCHECK:
    from numba import carray, njit

    @njit  # type: ignore[untyped-decorator]
    def rows_from(rows: Rows, first: int) -> Rows:
        return rows[first:]

    @intrinsic  # type: ignore[untyped-decorator]
    def _pointer(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

        return types.CPointer(types.int64)(types.int64), codegen

    @njit  # type: ignore[untyped-decorator]
    def cells_at(address: int, count: int) -> Cells:
        return carray(_pointer(address), (count,))

else:

    @intrinsic  # type: ignore[untyped-decorator]
    def rows_from(typingctx: Any, rows: Any, first: Any) -> Any:
        """The same table from row `first` on: one shard's part of a table of all."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.gep(args[0], [args[1]], inbounds=True)

        return rows(rows, types.intp), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def cells_at(typingctx: Any, address: Any, count: Any) -> Any:
        """int64 cells at a mapped address, of which there are `count`."""
        rows = RowsType(types.int64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

        return rows(types.int64, types.intp), codegen
