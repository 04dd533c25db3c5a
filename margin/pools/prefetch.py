"""Ask for memory before it is read: for pools that lie apart, whose rows no processor foresees."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from margin.fixed_point import uncounted
from margin.invariant import Int64Array

_PER_LINE = 8  # integers of 64 bits in a cache line
_TO_READ, _KEEP, _DATA = 0, 3, 1  # arguments of LLVM's llvm.prefetch


def _typed_ask(typing: Any, array: Any, index: Any) -> Any:
    """A function of an array and an index that begins to load the cache line of that element.

    It reads nothing, so no index is wrong.
    """

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), (byte, number, number, number))
        declared: Any = cgutils.get_or_insert_function
        prefetch = declared(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(prefetch, [place, number(_TO_READ), number(_KEEP), number(_DATA)])
        return context.get_dummy_value()

    return types.void(array, types.int64), lower


def _no_ask(array: Int64Array, index: int) -> None:
    """Nothing: interpreted code waits for other things than memory."""


_interpreted: bool = getattr(config, "DISABLE_JIT")  # noqa: B009 - set at run time
_ask: Any = _no_ask if _interpreted else intrinsic(_typed_ask)


@uncounted
def prefetch_lines(column: Int64Array, begin: int, end: int) -> None:
    """Begin to load the cache lines of `column[begin:end]`."""
    for k in range(begin, end, _PER_LINE):
        _ask(column, k)
