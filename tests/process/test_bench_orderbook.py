"""The order book benchmark, tiny, and the stream it runs on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bench import orderbook
from bench.workload import Ask, Generator, JavaRandom, exchange_core, many_resting
from shm.jit import BOUNDSCHECK, PLAIN


def test_java_random() -> None:
    """What java.util.Random(42) gives in Java: nextInt(10) five times, then nextDouble()."""
    random = JavaRandom(42)
    assert [random.below(10) for _ in range(5)] == [0, 3, 8, 4, 0]
    assert [JavaRandom(seed).below(1 << 10) for seed in (0, 1)] == [748, 748]
    assert JavaRandom(42).unit() == 0.7275636800328681


def test_the_stream_begins_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPCORE_CACHE", str(tmp_path))
    session = Generator(0, 101572685, 1000, 1000)
    assert (session.last_ticks, session.low, session.high) == (30754, 23069, 38439)
    stream = exchange_core(2_000)
    assert len(stream) == 3_000
    assert (stream["ask"][:1000] == Ask.GTC).all()
    assert stream["id"][0] == 1 and stream["account"].min() >= 1
    assert stream["account"].max() <= 1000 and stream["lots"].max() <= 126
    again = exchange_core(2_000)
    assert hashlib.sha256(stream).digest() == hashlib.sha256(again).digest()
    assert (exchange_core(500) == stream[:1_500]).all()


def test_a_book_of_many_orders_holds_them() -> None:
    stream = many_resting(500, 1000, 50)
    assert (stream["ask"][:500] == Ask.GTC).all() and len(set(stream["id"][:500])) == 500
    placed = {int(s["id"]): s for s in stream if s["ask"] in (Ask.GTC, Ask.IOC)}
    for s in stream[stream["ask"] > Ask.FOK]:
        order = placed[int(s["id"])]
        assert (s["account"], s["side"]) == (order["account"], order["side"])


@pytest.mark.skipif(PLAIN or BOUNDSCHECK, reason="measures the production build")
def test_smoke(capsys: pytest.CaptureFixture[str]) -> None:
    orderbook.main(["--smoke", "--json"])
    tables = json.loads(capsys.readouterr().out)["tables"]
    (rows,) = tables.values()
    assert [(row["commands"], row["trades"]) for row in rows] == [(21_000, 924), (20_000, 800)]
    assert all(row["cpu_ns"] > 0 for row in rows)
