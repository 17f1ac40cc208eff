"""Tables for kernels: rows of a record, by raw pointer in production, by array under test.

`rows[i]["field"]` reads and writes one field and means the same in all three builds (shm/jit.py).
A numba array as an argument costs seven words and an atomic reference count at every call, which
made the order book six times slower; a pointer costs one word. The price is that nothing checks
an index, so the test suite runs the same kernels on arrays with bounds checks.

    orders = table(np.zeros(1024, ORDER.dtype))   # what a kernel takes
    @kernel
    def total(orders: Rows, count: int) -> int: ... orders[i]["lots"] ...

A table of plain int64 cells is indexed the same way: `cells[i] = cells[i] + 1`.

Kernels that work on the whole state take its tables together: a NamedTuple of them, `bundle`d. As
a NamedTuple it would be an argument for each table, 27 stores and loads at every call; bundled it
is one pointer, to their addresses. `r.claims[i]["field"]` means the same either way.
"""

from __future__ import annotations

import operator
from functools import cache
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin, lower_getattr_generic
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
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
T = TypeVar("T")


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


class Bundle:
    """A NamedTuple of tables on its way into a kernel as one pointer; keeps them alive."""

    __slots__ = ("_cells", "address", "kind", "tables")

    def __init__(self, tables: Any) -> None:
        self.tables = tables
        self._cells = np.array([each.address for each in tables], np.int64)
        self.address = self._cells.ctypes.data
        names = tuple(tables._fields)
        self.kind = BundleType(type(tables).__name__, names, tuple(each.kind for each in tables))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tables, name)


# numba looks here first: each bundle has a type of its own, though all are of one class.
Bundle._numba_type_ = Bundle.__dict__["kind"]  # type: ignore[attr-defined]


def bundle(tables: T) -> T:
    """What to hand to a kernel for a NamedTuple of tables; under test that itself."""
    made: Any = tables if BOUNDSCHECK or PLAIN else Bundle(tables)
    return made


class BundleType(types.Type):  # type: ignore[misc]
    """Pointer to the addresses of tables that are never moved: told by the NamedTuple's name."""

    def __init__(self, name: str, names: tuple[str, ...], tables: tuple[RowsType, ...]) -> None:
        self.names = names
        self.tables = tables
        super().__init__(f"Bundle({name})")

    @property
    def key(self) -> Any:
        return self.name, self.names, self.tables


@register_model(BundleType)
class _BundleModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.IntType(8).as_pointer().as_pointer())


@typeof_impl.register(Bundle)  # type: ignore[untyped-decorator]
def _typeof_bundle(value: Bundle, _context: Any) -> BundleType:
    return value.kind


@unbox(RowsType)  # type: ignore[untyped-decorator]
@unbox(BundleType)  # type: ignore[untyped-decorator]
def _unbox_table(typ: Any, obj: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(obj, "address")
    value = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    pointer = c.builder.inttoptr(value, c.context.get_value_type(typ))
    return NativeValue(pointer, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@infer_getattr
class _GetTable(AttributeTemplate):  # type: ignore[misc]
    key = BundleType

    def generic_resolve(self, typ: BundleType, attr: str) -> Any:
        return typ.tables[typ.names.index(attr)] if attr in typ.names else None


@lower_getattr_generic(BundleType)  # type: ignore[untyped-decorator]
def _get_table(context: Any, builder: Any, typ: BundleType, value: Any, attr: str) -> Any:
    at = typ.names.index(attr)
    loaded = builder.load(builder.gep(value, [ir.Constant(ir.IntType(32), at)], inbounds=True))
    # No store changes it: read once, it may stay in a register.
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return builder.bitcast(loaded, context.get_value_type(typ.tables[at]))


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
