"""Work done ahead of whoever goes on with it: the next pieces are made in a thread beside.

Kernels and reads of files run without the interpreter's lock, so a replay and what it is fed with
take a core each. Order is kept, and so is the place of an error: it is raised where its piece
would have come.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

DEPTH: Final = 3  # pieces made and not taken yet
COMMANDS_MANY: Final = 1 << 15
BUFFERS: Final = DEPTH + 2  # one is being made, one is in use


def ahead(pieces: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same pieces, up to DEPTH of them made before they are asked for.

    A piece stays as it is until the next one is asked for, if its memory is one of BUFFERS that
    take turns. Close it: the thread ends, and `pieces` is closed in there.
    """
    made: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(DEPTH)
    stop = threading.Event()

    def work() -> None:
        try:
            for piece in pieces:
                made.put((piece, None))
                room.acquire()
                if stop.is_set():
                    break
            pieces.close()
            made.put((None, StopIteration()))
        except BaseException as error:
            made.put((None, error))

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            piece, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield piece  # type: ignore[misc]
    finally:
        stop.set()
        room.release()
        thread.join()


def taken_ahead(pieces: Generator[T, None, None], many: bool) -> Generator[T, None, None]:
    """`pieces` ahead where there are many, else as they are: a thread costs more than a few."""
    return ahead(pieces) if many else pieces


def many_commands(after_seq: int, upto_seq: int) -> bool:
    """Whether reading them is worth threads of its own."""
    return upto_seq - after_seq >= COMMANDS_MANY
