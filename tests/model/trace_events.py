"""What a file of Chrome's trace event format must be, as a slow and obvious check.

Reads   "Trace Event Format" (Google, 2016): async events, metadata events.
"""

from __future__ import annotations

from typing import Any


def check_document(made: dict[str, Any]) -> int:
    """Assert that viewers can draw it, and that hops follow one another; returns the commands.

    Every async event has cat, id, pid, tid, ts; slices of one id nest and never go back in time;
    of one command a hop begins where the one before it ended, or later.
    """
    assert made["displayTimeUnit"] in ("ms", "ns")
    assert isinstance(made["traceEvents"], list)
    named = set()
    open_slices: dict[tuple[str, str], list[tuple[str, float]]] = {}
    clock: dict[tuple[str, str], float] = {}
    commands = 0
    for event in made["traceEvents"]:
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
            named.add((event["pid"], event.get("tid")))
            continue
        assert event["ph"] in ("b", "e"), event
        assert isinstance(event["name"], str) and event["name"] and event["cat"] == "hops"
        assert isinstance(event["id"], str) and isinstance(event["ts"], int | float)
        assert (event["pid"], event["tid"]) in named and event["ts"] >= 0
        track = (event["cat"], event["id"])
        assert event["ts"] >= clock.get(track, 0.0), f"{event['id']} goes back in time"
        clock[track] = event["ts"]
        stack = open_slices.setdefault(track, [])
        if event["ph"] == "b":
            assert len(stack) < 2, "a command, and one hop of it at a time"
            commands += not stack and "seq" in event["args"]
            stack.append((event["name"], event["ts"]))
        else:
            name, begun = stack.pop()
            assert name == event["name"] and event["ts"] >= begun
    assert not any(open_slices.values()), "a slice without an end"
    return commands
