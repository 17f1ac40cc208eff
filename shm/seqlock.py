"""A few words that one process changes and others read whole, without making the writer wait.

    writer                                  reader
    write_begin: VERSION odd                VERSION even? copy, VERSION the same? it is whole
    stores                                  otherwise again, a bounded number of times
    write_end:   VERSION even

Invariants
    1. One writer. VERSION only grows; odd means that a write is under way, or that the writer
       was killed in one.
    2. A reader never hangs: after `tries` it says BUSY and its caller decides. What a killed
       writer left odd stays BUSY until the next write is done.
"""

from __future__ import annotations

from typing import Final

from shm.atomics import fence_acquire, fence_release, load_acquire, pause, store_release
from shm.jit import inlined, kernel
from shm.pointers import Cells

BUSY: Final = -1


@inlined
def write_begin(versions: Cells, index: int) -> None:
    """Before the first store to what versions[index] protects."""
    # From odd to odd: the last writer was killed in the middle, this write makes it whole.
    store_release(versions, index, (versions[index] + 1) | 1)
    fence_release()


@inlined
def write_end(versions: Cells, index: int) -> None:
    """After the last store."""
    assert versions[index] & 1 == 1
    store_release(versions, index, versions[index] + 1)


@inlined
def read_begin(versions: Cells, index: int) -> int:
    """The version to check the copy against, or BUSY."""
    version = load_acquire(versions, index)
    return version if version & 1 == 0 else BUSY


@inlined
def read_whole(versions: Cells, index: int, version: int) -> bool:
    """Whether what was copied since read_begin gave `version` is of one piece."""
    fence_acquire()
    return load_acquire(versions, index) == version


@kernel
def read_words(
    versions: Cells, index: int, words: Cells, first: int, count: int, out: Cells, tries: int
) -> int:
    """Copy words[first : first + count] to out[0:].

    versions    int64 cells; versions[index] protects the words
    tries       how often to look, at least 1; some hundreds outlast any write under way
    returns     the version copied, >= 0, or BUSY; then `out` means nothing
    """
    for _ in range(tries):
        version = read_begin(versions, index)
        if version != BUSY:
            for k in range(count):
                out[k] = words[first + k]
            if read_whole(versions, index, version):
                return version
        pause()
    return BUSY
