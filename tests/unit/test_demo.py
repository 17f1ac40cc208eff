"""The demo's parts: what its traffic is a function of, index paths, what a reset may touch."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path

import click
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from engine.sources import read_klines
from shm.codes import Flag, Kind
from shm.config import Config, load
from shm.records import TRANSFER_COMMAND
from tools import demopath, demoplan, demovenue, snippets
from tools.cli import main
from tools.demoflow import BET_TURNS, LEVELS, LIVES, TURNS_A_SECOND, Flow
from tools.demomarket import ACCOUNTS, CONTRACTS, declarations, gamblers, makers, takers
from tools.demoplan import DemoError, Plan
from tools.demovenue import Asked
from tools.faucet import amount_of

PATHS = [np.full(8, contract.price_ticks) for contract in CONTRACTS]


# ---------------------------------------------------------------- traffic


def test_a_turn_is_a_function_of_seed_and_number() -> None:
    one, other = Flow(5, 300, PATHS), Flow(5, 300, PATHS)
    forward = [one.turn(k) for k in range(60)]
    backward = [other.turn(k) for k in reversed(range(60))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not np.array_equal(Flow(6, 300, PATHS).turn(7), forward[7])


@pytest.mark.parametrize("rate", [1, 19, 300, 4000])
def test_the_rate_is_kept(rate: int) -> None:
    flow = Flow(1, rate, PATHS)
    rows = np.concatenate([flow.turn(k) for k in range(1000, 1000 + 5 * TURNS_A_SECOND)])
    renewed = rows["kind"] == Kind.CANCEL  # a cancel and a place are one turn of what is left
    by_clock = np.isin(rows["account"], gamblers())
    assert (~renewed & ~by_clock).sum() == 5 * rate


def test_what_is_left_is_placed_amended_and_cancelled_under_its_name() -> None:
    flow = Flow(1, 4000, PATHS)
    alive: dict[int, bytes] = {}  # taker -> the name of what is left
    seen: Counter[tuple[int, bytes]] = Counter()
    for turn in range(40):
        for row in flow.turn(turn):
            name, who = row["client_id"].tobytes().rstrip(b"\0"), int(row["account"])
            if not name.startswith(b"left-"):
                continue
            if row["kind"] == Kind.PLACE:
                assert who not in alive and seen[who, name] == 0
                alive[who] = name
            elif who in alive:
                assert alive[who] == name
                if row["kind"] == Kind.CANCEL:
                    assert seen[who, name] == LIVES, "placed, and amended in every turn between"
                    del alive[who]
                    continue
            seen[who, name] += 1
    assert set(alive) == set(takers())


def test_makers_quote_every_book_anew_on_their_side_of_the_index() -> None:
    flow = Flow(3, 2000, PATHS)
    rows = np.concatenate([flow.turn(k) for k in range(20)])
    quoting = rows[np.isin(rows["account"], makers())]
    visits = np.split(quoting, np.flatnonzero(quoting["kind"] == Kind.CANCEL_ALL))[1:-1]
    assert len({(int(v["account"][0]), int(v["symbol"][0])) for v in visits}) == 6 * len(CONTRACTS)
    for visit in visits:
        assert len(set(visit["account"])) == 1 and len(set(visit["symbol"])) == 1
        assert visit["kind"].tolist() == [Kind.CANCEL_ALL] + [Kind.PLACE] * 2 * LEVELS
        index = CONTRACTS[visit["symbol"][0]].price_ticks
        bids, asks = (visit[1:][visit[1:]["side"] == side]["price_ticks"] for side in (0, 1))
        assert len(bids) == len(asks) == LEVELS
        assert (np.diff(bids.astype(int)) < 0).all() and (np.diff(asks.astype(int)) > 0).all()
        assert bids[0] < index < asks[0]
    assert not rows["client_id"][rows["kind"] == Kind.CANCEL_ALL].any(), "no names are used up"


def test_a_gambler_is_given_a_stake_bets_and_closes() -> None:
    flow = Flow(1, 1, PATHS)
    who = gamblers()[3]
    found = []
    for turn in range(2 * BET_TURNS):
        for row in flow.turn(turn):
            if row["account"] == who:
                kind = Kind(int(row["kind"]))
                found.append((kind, bool(row["flags"] & Flag.REDUCE_ONLY), int(row["side"])))
    first = [kind for kind, _, _ in found].index(Kind.DEPOSIT)
    (_, bet, close) = found[first : first + 3]
    assert bet[:2] == (Kind.PLACE, False) and close[:2] == (Kind.PLACE, True)
    assert bet[2] != close[2], "closed on the other side"


def test_only_the_faucet_gives_and_only_known_accounts_act() -> None:
    flow = Flow(1, 60, PATHS)
    rows = np.concatenate([*declarations(), *(flow.turn(k) for k in range(BET_TURNS))])
    given = rows[rows["kind"] == Kind.DEPOSIT].view(TRANSFER_COMMAND.dtype)
    assert set((given["source"] >> 56).tolist()) == {3} and (given["amount_quanta"] > 0).all()
    placed = rows[rows["kind"] == Kind.PLACE]
    assert set(placed["account"].tolist()) == set(ACCOUNTS)
    assert {len(makers()), len(takers()), len(gamblers())} == {6, 24, 16}


# ---------------------------------------------------------------- the path


def test_a_path_turns_back_and_never_jumps() -> None:
    for ticks in demopath.paths(4, 1.0):
        assert len(ticks) == 2 * demopath.POINTS_MAX - 2
        around = np.concatenate((ticks, ticks[:1]))
        moves = np.abs(np.diff(around)) / around[:-1]
        assert moves.max() < 0.05 and (ticks >= 1).all()
        half = demopath.POINTS_MAX
        assert np.array_equal(ticks[half:], ticks[half - 2 : 0 : -1])


def test_the_same_seed_gives_the_same_path_and_another_one_another() -> None:
    one, same, other = (demopath.paths(seed, 2.0) for seed in (8, 8, 9))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("speed", [1 / 60, 1.0, 7.0, 60.0])
def test_a_recording_is_followed_at_any_speed(speed: float) -> None:
    recorded = [40_000.0 + k for k in range(20_000)]
    btc, eth, *_ = demopath.paths(1, speed, recorded)
    forward = btc[: len(btc) // 2]
    # A point is a quarter of a second; the recording climbs 10 ticks (1.0) a minute.
    assert np.allclose(np.diff(forward), 10 * speed / 4, atol=1.01)
    assert forward[0] >= 400_000 and len(eth) == len(btc)


def test_a_short_recording_is_enough() -> None:
    for ticks in demopath.paths(1, 60.0, [40_000.0, 40_001.0, 40_002.0]):
        assert len(ticks) >= 1


def test_paths_are_written_once_and_read_back(tmp_path: Path) -> None:
    demopath.write(tmp_path / "p", 3, 60.0, "")
    first = demopath.read(tmp_path / "p")
    assert all(np.array_equal(a, b) for a, b in zip(first, demopath.paths(3, 60.0), strict=True))
    demopath.write(tmp_path / "p", 4, 60.0, "")
    assert np.array_equal(demopath.read(tmp_path / "p")[0], first[0]), "what is there stays"
    prices = read_klines(str(tmp_path / "p" / "BTCUSDT.csv"), "close")
    assert float(prices[0]) == pytest.approx(first[0][0] / 10)


# ---------------------------------------------------------------- the directory


def made(tmp_path: Path) -> tuple[Path, Config, Plan]:
    """A demo's directory as a first start prepares it."""
    data = tmp_path / "venue"
    config = load(None, {"instance": f"test-demo-{os.getpid()}", "data_dir": str(data)})
    (data / "demo").mkdir(parents=True)
    asked = Asked(http_port=free_port(), seed=5, speed=60.0, recording="")
    config, plan = demovenue.prepare(config, data, asked)
    return data, config, plan


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_start_on_a_demo_goes_on_with_its_plan(tmp_path: Path) -> None:
    data, config, plan = made(tmp_path)
    assert (plan.seed, plan.speed, plan.rate, plan.played_ns) == (5, 60.0, 300, 0)
    assert demoplan.config_of_demo(data) == config
    assert {s.symbol for s in config.clock.sources} == {c.name for c in CONTRACTS}
    demoplan.write_plan(data, msgspec.structs.replace(plan, played_ns=10**12))
    _, again = demovenue.prepare(config, data, Asked(http_port=config.http.port, rate=40))
    assert (again.seed, again.rate, again.played_ns) == (5, 40, 10**12)
    began = {path.read_text() for path in data.glob("clock.*.0")}
    assert began == {str(again.began_ns)}, "index paths go on where the traffic does"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(seed=6), "made with --seed 5, and goes on so. For --seed 6 begin a new one"),
        (Asked(speed=1.0), "made with --speed 60.0"),
        (Asked(recording="/x.csv"), "made with --klines none"),
    ],
)
def test_another_seed_needs_a_new_demo(tmp_path: Path, asked: Asked, said: str) -> None:
    data, config, _ = made(tmp_path)
    with pytest.raises(DemoError, match=said):
        demovenue.prepare(config, data, asked)


def test_a_busy_port_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Shared, as gateways share theirs: a demo must not slip in beside another venue.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = load(None, {"data_dir": str(tmp_path), "http.port": port})
        with pytest.raises(DemoError, match=rf":{port}: Address already in use.*--http {port + 1}"):
            demovenue.check_free(config)


def test_reset_leaves_what_is_not_ours_and_follows_no_link(tmp_path: Path) -> None:
    data, *_ = made(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (data / "wal").symlink_to(outside)
    (data / "users.db-wal").touch()
    (data / "letter.txt").touch()
    assert demoplan.reset(data) == ["letter.txt"]
    assert (outside / "precious").exists()
    assert [path.name for path in data.iterdir()] == ["letter.txt"]


def test_reset_refuses_a_directory_that_is_no_demo(tmp_path: Path) -> None:
    (tmp_path / "manifest").touch()
    (tmp_path / "wal").mkdir()
    result = CliRunner().invoke(main, ["demo", "reset", "--data", str(tmp_path)])
    assert result.exit_code == 1 and "holds no demo" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "wal"]
    with pytest.raises(DemoError, match="no such directory"):
        demoplan.reset(tmp_path / "none")


def test_reset_refuses_what_is_in_use(tmp_path: Path) -> None:
    data, *_ = made(tmp_path)
    with demoplan.locked(data), pytest.raises(DemoError, match=f"runs there, pid {os.getpid()}"):
        demoplan.reset(data)
    assert demoplan.plan_path(data).exists()


def test_the_directory_is_said_before_or_behind_the_command(tmp_path: Path) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    for words, meant in (
        (["demo", "reset", "--data", here], here),
        (["demo", "--data", here, "reset"], here),
        (["demo", "--data", there, "reset", "--data", here], here),
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 1 and f"{meant}: there is no such directory" in result.output


def test_a_demo_never_starts_in_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "manifest").touch()
    result = CliRunner().invoke(main, ["demo", "--data", str(tmp_path)])
    assert result.exit_code == 1 and "holds no demo" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["manifest"]


# ---------------------------------------------------------------- money and words

AMOUNTS = """
  5000        | 5000
  0.5         | 0.5
  50_000      | 50000
  0.000001    | 0.000001
  0.0000001   | no         below a quantum
  0           | no
  -1          | no
  1e400       | no
  nan         | no
  ten         | no
  1000000001  | no         more than is given at once
"""


@pytest.mark.parametrize("row", AMOUNTS.strip().splitlines())
def test_amounts(row: str) -> None:
    text, wanted = (cell.split()[0] for cell in row.split("|"))
    if wanted == "no":
        with pytest.raises(DemoError):
            amount_of(text)
    else:
        assert str(amount_of(text)) == wanted


@pytest.mark.parametrize("name", snippets.SNIPPETS)
def test_a_printed_snippet_is_a_program(name: str) -> None:
    text = snippets.pasted(name, "http://127.0.0.1:8081", "KEY", "SECRET")
    compile(text, name, "exec")
    head, _, body = text.partition('B, W = "http://127.0.0.1:8081", "ws://127.0.0.1:8081"\n')
    assert body.startswith('K = "KEY"\nS = "SECRET"\n')
    assert all(line[:6] in ("import", "from b", "    De", ")", "") for line in head.splitlines())


def test_demo_and_its_commands_are_known() -> None:
    group = main.commands["demo"]
    assert isinstance(group, click.Group)
    assert set(group.commands) == {"faucet", "access", "reset"}


def test_prices_are_written_as_they_are_read() -> None:
    table = {("BTCUSDT", 463_770): "46377.0", ("DOGEUSDT", 150_000): "0.150000"}
    for (name, ticks), text in table.items():
        contract = next(c for c in CONTRACTS if c.name == name)
        assert contract.price(ticks) == text
