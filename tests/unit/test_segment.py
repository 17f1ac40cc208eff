"""Segments: what is in the header, and every reason to refuse one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shm import records, segment
from shm.control import CONTROL, CONTROL_PARTS, CURSOR_PARTS, CURSORS, View
from shm.segment import (
    FOLDER,
    MAGIC,
    PAGE_BYTES,
    Part,
    ProcessWatch,
    Segment,
    SegmentError,
    list_segments,
    process_start,
    remove_segments,
)

ROOT = Path(__file__).parent.parent.parent
PARTS = (Part("commands", "COMMAND", 64), Part("cells", "<i8", 3), Part("bytes", "u1", 5000))


def file_of(instance: str, name: str) -> str:
    return str(FOLDER / f"perpcore.{instance}.{name}")


def poke(instance: str, name: str, field: str, value: int) -> None:
    """Change one header field of an existing segment behind everybody's back."""
    layout = records.SEGMENT_HEADER.dtype
    with open(file_of(instance, name), "r+b") as file:
        header = np.frombuffer(file.read(PAGE_BYTES), layout).copy()
        header[field] = value
        file.seek(0)
        file.write(header.tobytes())


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_parts_start_on_pages_and_are_shared(instance: str) -> None:
    made = Segment.create(instance, "ring", PARTS, epoch=7)
    seen = Segment.attach(instance, "ring", PARTS, epoch=7)
    assert [a.ctypes.data % PAGE_BYTES for a in made.arrays.values()] == [0, 0, 0]
    assert [len(a) for a in made.arrays.values()] == [64, 3, 5000]
    assert not any(np.any(a.view(np.uint8)) for a in made.arrays.values())
    made.arrays["commands"][5]["price_ticks"] = 42
    assert seen.arrays["commands"][5]["price_ticks"] == 42
    assert (seen.epoch, seen.owner_alive(), seen.current()) == (7, True, True)
    assert made.size_bytes == os.stat(file_of(instance, "ring")).st_size == 4096 * (1 + 4 + 1 + 2)


def test_every_page_is_there_before_it_is_touched(instance: str) -> None:
    made = Segment.create(instance, "ring", (Part("big", "u1", 1 << 20),), epoch=1)
    stat = os.stat(file_of(instance, "ring"))
    assert stat.st_blocks * 512 >= made.size_bytes


def test_mode_is_what_was_asked_for_whatever_the_umask(instance: str) -> None:
    before = os.umask(0o077)
    try:
        Segment.create(instance, "ring", PARTS, epoch=1, mode=0o664)
    finally:
        os.umask(before)
    assert os.stat(file_of(instance, "ring")).st_mode & 0o777 == 0o664


REFUSALS = """
  field    | says
  magic    | magic 0200000000000000 != {magic} of this build. Stop every Perpcore process
  layouts  | layout digest 0200000000000000 != {layouts} of this build; written by pid {pid} at
  parts    | parts digest 0200000000000000 != {parts} of this build; written by pid {pid} at
  epoch    | epoch 2 != 7 of the running engine; written by pid {pid} at
  size_bytes | 2 bytes, must be 32,768; written by
  process_start | the process that made it is gone; written by pid {pid} at
"""


@pytest.mark.parametrize("row", REFUSALS.strip().splitlines()[1:])
def test_another_builds_or_epochs_segment_is_refused(instance: str, row: str) -> None:
    field, says = (cell.strip() for cell in row.split("|"))
    Segment.create(instance, "ring", PARTS, epoch=7)
    poke(instance, "ring", field, 2)
    wanted = says.format(
        magic=MAGIC.to_bytes(8, "little").hex(),
        layouts=records.layouts_digest(),
        parts=segment.parts_digest(PARTS),
        pid=os.getpid(),
    )
    with pytest.raises(SegmentError) as refused:
        Segment.attach(instance, "ring", PARTS, epoch=7)
    assert f"segment {instance}.ring: {wanted}" in str(refused.value)
    assert "perpcore shm reset" in str(refused.value)


def test_a_file_cut_short_is_refused_before_it_can_fault(instance: str) -> None:
    Segment.create(instance, "ring", PARTS, epoch=7)
    os.truncate(file_of(instance, "ring"), 8192)
    with pytest.raises(SegmentError, match="8,192 bytes, must be 32,768"):
        Segment.attach(instance, "ring", PARTS)


def test_one_that_its_maker_never_finished_is_refused_and_replaced(instance: str) -> None:
    for content in (b"", b"\0" * 100, b"\0" * 8192):
        with open(file_of(instance, "ring"), "wb") as file:
            file.write(content)
        with pytest.raises(
            SegmentError, match="unfinished: it is being made now, or its maker died"
        ):
            Segment.attach(instance, "ring", PARTS)
        assert [i.state for i in list_segments(instance)] == ["unfinished"]
        Segment.create(instance, "ring", PARTS, epoch=1).unlink()


def test_the_lock_of_one_that_was_removed_is_refused(instance: str) -> None:
    """An engine that ends while a gateway attaches to it: the gateway tries again, and goes on."""
    Segment.create(instance, "ring", PARTS, epoch=7)
    attached = Segment.attach(instance, "ring", PARTS)
    attached.unlink()
    with pytest.raises(SegmentError, match="was removed just now"), attached.locked():
        pass


def test_an_engine_that_has_not_described_itself_is_not_looked_at(instance: str) -> None:
    """Its pid would be 0, and a signal to that goes to the whole group of whoever sends it."""
    control = Segment.create(instance, CONTROL, CONTROL_PARTS, epoch=7)
    Segment.create(instance, CURSORS, CURSOR_PARTS, epoch=7)
    with pytest.raises(SegmentError, match="has only begun to start"):
        View(instance)
    engine = control.arrays["engine_status"][0]
    engine["pid"], engine["started_ns"] = os.getpid(), 1
    assert View(instance).pid == os.getpid()


def test_one_of_a_release_we_cannot_read_is_left_to_the_operator(instance: str) -> None:
    Segment.create(instance, "ring", PARTS, epoch=7)
    poke(instance, "ring", "magic", 2)
    with pytest.raises(SegmentError, match="of this build. Stop .* perpcore shm reset --force"):
        Segment.create(instance, "ring", PARTS, epoch=8)
    assert remove_segments(instance) == []
    assert remove_segments(instance, dead_only=False) == ["ring"]


def test_other_parts_are_refused(instance: str) -> None:
    Segment.create(instance, "ring", PARTS, epoch=7)
    for parts in (PARTS[:2], (PARTS[0], PARTS[1], Part("bytes", "u1", 5001)), PARTS[::-1]):
        with pytest.raises(SegmentError, match="parts digest"):
            Segment.attach(instance, "ring", parts)


def test_no_segment_no_engine(instance: str) -> None:
    with pytest.raises(SegmentError, match=r"there is none. Is the engine of instance"):
        Segment.attach(instance, "ring", PARTS)


def test_names_are_checked(instance: str) -> None:
    for wrong in ("", "A", "a.b", "a/b", "x" * 33):
        with pytest.raises(SegmentError, match="must match"):
            Segment.create(wrong, "ring", PARTS, epoch=1)
    for wrong in ("", "../x", "a/b", ".x"):
        with pytest.raises(SegmentError, match="must match"):
            Segment.attach(instance, wrong, PARTS)


def test_a_live_owner_keeps_its_name_a_dead_one_does_not(instance: str) -> None:
    first = Segment.create(instance, "ring", PARTS, epoch=1)
    first.arrays["cells"][0] = 5
    with pytest.raises(SegmentError, match=f"in use, written by pid {os.getpid()} at"):
        Segment.create(instance, "ring", PARTS, epoch=2)
    poke(instance, "ring", "pid", dead_pid())
    second = Segment.create(instance, "ring", PARTS, epoch=2)
    assert second.arrays["cells"][0] == 0
    assert first.arrays["cells"][0] == 5, "what was mapped stays what it was"
    assert (first.current(), second.current()) == (False, True)
    first.unlink()
    assert second.current(), "an old mapping cannot remove the name's new meaning"


def test_what_the_dead_left_can_be_looked_at(instance: str) -> None:
    made = Segment.create(instance, "ring", PARTS, epoch=1)
    made.arrays["cells"][1] = 9
    poke(instance, "ring", "pid", dead_pid())
    seen = Segment.attach(instance, "ring", PARTS, writable=False, dead=True)
    assert (int(seen.arrays["cells"][1]), seen.owner_alive()) == (9, False)
    with pytest.raises(ValueError, match="read-only"):
        seen.arrays["cells"][1] = 1


def test_no_room_says_need_have_and_what_to_do(instance: str) -> None:
    with pytest.raises(SegmentError) as refused:
        Segment.create(instance, "ring", (Part("huge", "u1", 1 << 45),), epoch=1)
    for said in ("needs 35,184,372,092,928 bytes", "free of", "[limits] or [rings]", "remount"):
        assert said in str(refused.value)
    assert list_segments(instance) == []


def test_listing_and_removing(instance: str) -> None:
    a = Segment.create(instance, "a", PARTS, epoch=3)
    Segment.create(instance, "b", PARTS, epoch=3)
    Segment.create(instance + "x", "c", PARTS, epoch=3).unlink()
    poke(instance, "b", "pid", dead_pid())
    found = list_segments(instance)
    assert [(i.name, i.state, i.epoch, i.same_build) for i in found] == [
        ("a", "live", 3, True),
        ("b", "dead", 3, True),
    ]
    assert remove_segments(instance) == ["b"]
    assert a.current()
    assert remove_segments(instance, dead_only=False) == ["a"]
    assert not a.current()


def test_closing_while_an_array_is_held_keeps_its_memory(instance: str) -> None:
    made = Segment.create(instance, "ring", PARTS, epoch=1)
    cells = made.arrays["cells"]
    made.close()
    cells[0] = 1
    assert made.arrays == {}


def test_a_pid_reused_by_another_process_is_not_the_owner() -> None:
    assert process_start(os.getpid()) > 0
    # Not its parent's: both may have been started in the same hundredth of a second.
    assert process_start(os.getpid()) != process_start(1)
    assert process_start(dead_pid()) == 0
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(zombie.pid) == 0, "a process that nobody has waited for is dead too"
    zombie.wait()


def test_importing_it_needs_no_numba() -> None:
    code = "import shm.segment, shm.config, shm.counters, shm.histogram, sys; "
    code += "sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_watched_process_is_gone_when_it_has_exited_and_not_before() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = ProcessWatch(process.pid)
    try:
        assert not watch.gone
        process.kill()
        # Nobody has waited for it yet: a zombie is gone.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert watch.gone
    finally:
        process.communicate()
        watch.close()
    assert ProcessWatch(process.pid).gone, "of one that was gone before"
