"""The one place where numba options are chosen, and where compiled code is kept.

numba's own cache looks only at the file a kernel is written in: change a kernel it calls from
another file, or ask for bounds checks, and the old machine code runs on. So each file's kernels are
kept in a directory named after everything that could change them: that file, every file of ours
that it imports, however indirectly, and options and versions. Nothing else names it, neither the
folder the sources lie in nor their dates: a second checkout, an upgrade that changes no kernel and
a roll-back all start warm.

Three builds of the same source, chosen by environment:

    (default)               tables are raw pointers, no bounds checks: what runs in production
    PERPCORE_BOUNDSCHECK=1  tables are arrays and every index is checked: the test suite
    NUMBA_DISABLE_JIT=1     plain Python on numpy arrays: slow and obvious
"""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core.caching import IndexDataCacheFile

P = ParamSpec("P")
R = TypeVar("R")

BOUNDSCHECK = os.environ.get("PERPCORE_BOUNDSCHECK") == "1"
PLAIN = os.environ.get("NUMBA_DISABLE_JIT", "0") == "1"
KERNEL_PACKAGES = ("shm", "ledger", "engine", "gateways")
ROOT = Path(__file__).parent.parent


@functools.cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the kernel packages that a file imports itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    files = [ROOT / f"{name.replace('.', '/')}.py" for name in names]
    inside = [f for f in files if f.relative_to(ROOT).parts[0] in KERNEL_PACKAGES]
    return tuple(f for f in inside if f.exists())


@functools.cache
def code_digest(path: Path) -> str:
    """Name of a file's machine code: 16 hex digits over what it is made from.

    Imports inside functions and for type checkers count as well, which only costs a compilation.
    """
    found: set[Path] = set()
    todo = [path]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo.extend(_imports(at))
    stamp = f"{numba.__version__} {sys.version} {BOUNDSCHECK}"
    digest = hashlib.blake2s(stamp.encode(), digest_size=8)
    for at in sorted(found):
        digest.update(str(at.relative_to(ROOT)).encode() + b"\0" + at.read_bytes())
    return digest.hexdigest()


def is_compiled(path: Path) -> bool:
    """Whether kernels of this very source are kept already."""
    return (cache_root() / code_digest(path.resolve())).exists()


def cache_root() -> Path:
    """Where compiled kernels are kept: PERPCORE_CACHE, systemd's, or the user's cache folder."""
    for name in ("PERPCORE_CACHE", "CACHE_DIRECTORY"):
        if os.environ.get(name):
            return Path(os.environ[name])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "perpcore"


class BySource:
    """Where numba keeps the machine code of one function: told by the source, not by its path.

    A cache locator as numba's NUMBA_CACHE_LOCATOR_CLASSES takes it, and what its own ones answer.
    """

    def __init__(self, function: Callable[..., object], path: Path) -> None:
        place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
        inside = path.is_relative_to(ROOT) and place.parts[0] in KERNEL_PACKAGES
        # A kernel elsewhere (bench, tests) calls these: any of them may have changed.
        digest = code_digest(path) if inside else _everything()
        self._folder = cache_root() / digest / ".".join(place.with_suffix("").parts)
        self._line = function.__code__.co_firstlineno
        self._stamp = hashlib.blake2s(path.read_bytes(), digest_size=8).hexdigest()

    @classmethod
    def from_function(cls, function: Callable[..., object], path: str) -> BySource:
        return cls(function, Path(path).resolve())

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return str(self._line)


_save = IndexDataCacheFile.save


def _save_alone(file: IndexDataCacheFile, key: object, data: object) -> None:
    """As numba saves a kernel for some types, but one process after another.

    It numbers files by an index that it read before: two processes that saved a kernel for
    different types at once took one number, and then the code of the one could stand in the index
    under the types of the other, to be run for them ever after.
    """
    folder = os.open(file._cache_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _save(file, key, data)
    finally:
        os.close(folder)


IndexDataCacheFile.save = _save_alone


def _compiled(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """`function` as numba's, its machine code kept where this source alone may find it."""
    before = numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{BySource.__name__}"  # read when it decorates
    try:
        compiled: Callable[P, R] = numba.njit(
            cache=True,
            nogil=True,
            fastmath=False,
            error_model="numpy",
            boundscheck=BOUNDSCHECK,
            **options,
        )(function)
    finally:
        numba.config.CACHE_LOCATOR_CLASSES = before
    return compiled


@functools.cache
def _everything() -> str:
    """A digest over all kernel packages."""
    digest = hashlib.blake2s(digest_size=8)
    for package in KERNEL_PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(code_digest(path).encode())
    return digest.hexdigest()


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with our options; type checkers see its own signature."""
    # Said, because what isn't said is inherited from whoever calls it first: every kernel below an
    # `inlined` one was copied into all its callers, however large and rare.
    return _compiled(function, forceinline=False)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, and LLVM must inline it: for a few lines on the hot path."""
    if BOUNDSCHECK:
        return _compiled(
            function
        )  # nobody waits for this build's nanoseconds, but for its compiler
    return _compiled(function, forceinline=True)


def spliced(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, and numba copies it into whoever calls it, before LLVM sees either.

    A kernel is optimised together with everything below it, and so is its caller: for large ones
    with one caller that is most of the time a start without cached kernels takes.
    """
    return _compiled(function, inline="always")


if PLAIN:

    def apart() -> None:
        return None

    def rarely() -> None:
        return None

else:
    from numba import types
    from numba.core import callconv, cgutils
    from numba.extending import intrinsic

    class _Unfilled:
        """numba's code generator, but where a call's result goes is not zeroed beforehand.

        numba zeroes the places for result and error of every call when a function is entered,
        whichever calls are then made; whoever is called writes them, and nobody reads them before.
        In a kernel that could call forty others it was a store in fourteen of all instructions.
        """

        def __getattr__(self, name: str) -> Any:
            return getattr(cgutils, name)

        def alloca_once(self, builder: Any, ty: Any, **options: Any) -> Any:
            if options.get("zfill"):
                return cgutils.alloca_once(builder, ty, **options)
            with builder.goto_entry_block():
                return builder.alloca(ty, **options)

    callconv.cgutils = _Unfilled()

    @intrinsic  # type: ignore[untyped-decorator]
    def apart(typingctx: Any) -> Any:
        """First in a kernel: its code is never copied into its callers'.

        LLVM copies what is called once, or is short, and then works out what that needs ahead of
        the loop it is called in: registers and stack that the common path pays for.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def rarely(typingctx: Any) -> Any:
        """As `apart`, and hardly ever called: what leads here is laid out of the common way."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")
            builder.function.attributes.add("cold")
            return context.get_dummy_value()

        return types.void(), codegen


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


def compile_for(
    function: Callable[..., object], *arguments: Any, constants: tuple[int, ...] = ()
) -> None:
    """Have `function` compiled for arguments of these types, without a call.

    constants    the last arguments, where a `spliced` caller writes constants: numba compiles
                 the function for those very values
    """
    if not PLAIN:
        types = [numba.typeof(argument) for argument in arguments]
        types += [numba.types.literal(value) for value in constants]
        function.compile(tuple(types))  # type: ignore[attr-defined]
