"""perpcore.toml: defaults that are sound, every way to be wrong, and what a topology means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import state
from shm.codes import Kind
from shm.config import (
    Config,
    ConfigError,
    Limits,
    expand,
    kinds_mask,
    load,
    parse_override,
    workers_for,
)


def problem(**overrides: Any) -> str:
    """The text of the error, with __ for the dots of the path."""
    with pytest.raises(ConfigError) as refused:
        load(None, {path.replace("__", "."): value for path, value in overrides.items()})
    return str(refused.value).replace("configuration: ", "")


def test_no_file_is_a_sound_configuration() -> None:
    config = load(None)
    assert config == Config()
    state.Limits(**msgspec.structs.asdict(config.limits)).check()


def test_limits_are_those_of_the_state() -> None:
    assert msgspec.structs.asdict(Limits()) == state.Limits()._asdict()


WRONG = """
instance = "Main"                | instance = 'Main', must be text that matches
instance = 3                     | instance = 3, must be text
shards = 0                       | shards = 0, must be 1 to 16
shards = 17                      | shards = 17, must be 1 to 16
shards = 1.5                     | shards = 1.5, must be an integer
log_level = "loud"               | log_level = 'loud', must be debug or info or warning or error
data_dir = ""                    | data_dir = '', must be a path
data_dir = "a\\u0000b"           | data_dir = 'a\\x00b', must be a path
checkpoint_every = 0             | checkpoint_every = 0, must be 256 to
wait.policy = "sleep"            | wait.policy = 'sleep', must be spin or futex
wait.sleep_ms = 51               | wait.sleep_ms = 51, must be 1 to 50
rings.commands = 65536           | rings.commands = 65536, must be a power of two, 64 to 32768
rings.commands = 1000            | rings.commands = 1000, must be a power of two
rings.ingress = -16              | rings.ingress = -16, must be a power of two
rings.comands = 64               | rings.comands: there is no such setting
rings = 64                       | rings = 64, must be a table
limits.accounts = 16             | limits.accounts = 16, must be 17 to 2147483647
limits.accounts = true           | limits.accounts = True, must be an integer
limits.symbols = 65535           | limits.symbols = 65535, must be 1 to 65534
limits.orders = 2147483648       | limits.orders = 2147483648, must be 1 to 2147483647
wal.io = "buffered"              | wal.io = 'buffered', must be direct or mmap
wal.block_bytes_max = 5000       | wal.block_bytes_max = 5000, must be a multiple of 4096
wal.segment_bytes = 65536        | wal.segment_bytes = 65536, must be a multiple of 4096, 2097152 to
wal.report_log_bytes_max = 1     | wal.report_log_bytes_max = 1, must be 536870912 to
publisher.tcp = "7001"           | publisher.tcp = '7001', must be host:port
publisher.tcp = "*:70000"        | publisher.tcp = '*:70000', must be host:port
topology = "both"                | topology = 'both', must be fused or split or auto or a list of
topology = 2                     | topology = 2, must be text or a list
surprise = 1                     | surprise: there is no such setting
"""


@pytest.mark.parametrize("row", WRONG.strip().splitlines())
def test_each_problem_names_path_got_and_must_be(row: str, tmp_path: Path) -> None:
    text, says = (cell.strip() for cell in row.split("|"))
    file = tmp_path / "perpcore.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file}: {says}")


def test_all_problems_are_listed_at_once() -> None:
    said = problem(shards=0, wait__policy="x", rings__matches=3)
    assert [line.split(" ")[0] for line in said.splitlines()] == [
        "shards",
        "wait.policy",
        "rings.matches",
    ]


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none.toml")
    file = tmp_path / "perpcore.toml"
    for content in (b"instance = ", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"perpcore\.toml: "):
            load(file)
    with pytest.raises(ConfigError):
        load(tmp_path)


def test_a_socket_path_that_the_kernel_would_cut_is_refused() -> None:
    assert "publisher.ipc = '/" in problem(data_dir="/" + "x" * 200)


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "perpcore.toml"
    file.write_text("shards = 2\n[rings]\ncommands = 1024\nmatches = 2048\n")
    config = load(file, dict([parse_override("rings.commands=512"), ("instance", "b")]))
    assert (config.shards, config.rings.commands, config.rings.matches) == (2, 512, 2048)
    assert config.instance == "b"
    with pytest.raises(ConfigError, match=r"shards\.x: shards is not a table"):
        load(file, {"shards.x": 1})


OVERRIDES = """
  text                | path           | value
  shards=2            | shards         | 2
  wait.policy=spin    | wait.policy    | 'spin'
  a = "x y"           | a              | 'x y'
  a=[1, 2]            | a              | [1, 2]
  a=                  | a              | ''
  data_dir=/tmp/x=y   | data_dir       | '/tmp/x=y'
"""


@pytest.mark.parametrize("row", OVERRIDES.strip().splitlines()[1:])
def test_overrides(row: str) -> None:
    text, path, value = (cell.strip() for cell in row.split("|"))
    got = parse_override(text)
    assert (got[0], repr(got[1])) == (path, value)


@pytest.mark.parametrize("text", ["shards", "=2", ""])
def test_an_override_without_a_path_or_a_value(text: str) -> None:
    with pytest.raises(ConfigError, match="must be path=value"):
        parse_override(text)


# ---------------------------------------------------------------- producers


def test_producers_are_named_and_numbered_apart() -> None:
    good = {"name": "a", "id": 1, "kinds": ["order"]}
    assert load(None, {"producers": [good]}).producer("a").id == 1
    assert "producers[0].id = 64, must be a number of its own, 1 to 63" in problem(
        producers=[good | {"id": 64}]
    )
    said = problem(producers=[good, good | {"kinds": []}, good | {"name": "B", "kinds": ["all"]}])
    for line in ("[1].name = 'a'", "[1].id = 1", "[1].kinds = []", "[2].name", "[2].kinds[0]"):
        assert f"producers{line}" in said
    assert "producers[0].kinds is missing" in problem(producers=[{"name": "a", "id": 1}])


def test_who_may_send_what() -> None:
    def allowed(*kinds: str) -> set[Kind]:
        return {kind for kind in Kind if kinds_mask(kinds) >> kind & 1}

    assert Kind.TICK in allowed("clock") and Kind.PLACE not in allowed("clock")
    assert Kind.PLACE in allowed("order") and Kind.DEPOSIT not in allowed("order")
    assert allowed("admin", "clock") == allowed("admin") | allowed("clock")
    made_by_the_sequencer = {Kind.NONE, Kind.EXPIRE, Kind.CHECKPOINT, Kind.REFUSED, Kind.TRIGGER}
    made_by_the_sequencer |= {Kind.FUNDING, Kind.LIQUIDATION_ORDER, Kind.TAKEOVER, Kind.DELIST}
    assert allowed("any") == set(Kind) - made_by_the_sequencer


# ---------------------------------------------------------------- topology


def test_match_star_is_every_shard() -> None:
    assert expand(("risk", "match:*", "settle"), 2) == ("risk", "match:0", "match:1", "settle")


TOPOLOGIES = """
  asked | shards | cores | workers
  fused |   2    |  64   | sequence,risk,match:0,match:1,settle journal publish
  split |   2    |   1   | sequence risk,settle match:0 match:1 journal publish
  auto  |   1    |   6   | sequence risk,settle match:0 journal publish
  auto  |   1    |   5   | sequence,risk,match:0,settle journal publish
  auto  |   2    |   6   | sequence,risk,match:0,match:1,settle journal publish
"""


@pytest.mark.parametrize("row", TOPOLOGIES.strip().splitlines()[1:])
def test_topologies(row: str) -> None:
    asked, shards, cores, workers = (cell.strip() for cell in row.split("|"))
    config = load(None, {"topology": asked, "shards": int(shards)})
    got = workers_for(config, int(cores))
    assert [",".join(w.stages) for w in got] == workers.split()
    assert len({w.name for w in got}) == len(got)


def worker(name: str, *stages: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "stages": list(stages), **more}


ALL = ("sequence", "risk", "match:*", "settle", "journal", "publish")


def test_a_list_of_workers_is_taken_as_it_stands() -> None:
    config = load(
        None,
        {
            "shards": 2,
            "topology": [
                worker("front", "sequence", cpu=1, scheduler="fifo:10", lock_memory=True),
                worker("money", "risk", "settle", "match:1", scheduler="nice:-5"),
                worker("rest", "match:0", "journal", "publish"),
            ],
        },
    )
    front, money, rest = workers_for(config, 1)
    assert (front.cpu, front.scheduler, front.lock_memory) == (1, "fifo:10", True)
    assert (money.cpu, rest.scheduler) == (None, "other")


def test_lists_of_workers_that_cannot_run() -> None:
    assert problem(topology=[worker("a", *ALL[:-1])]).endswith("also run stage 'publish'")
    assert "'risk', must be in one worker only, not in topology[0]" in problem(
        topology=[worker("a", *ALL), worker("b", "risk")]
    )
    assert "such that one worker runs risk and settle" in problem(
        topology=[worker("a", *ALL[:3], *ALL[4:]), worker("b", "settle")]
    )
    assert "'match:1', must be one of" in problem(topology=[worker("a", *ALL, "match:1")])
    assert "topology[0].stages = [], must be" in problem(topology=[worker("a")])
    assert "topology[1].name = 'a'" in problem(topology=[worker("a", *ALL), worker("a")])
    for wrong in ("fifo", "fifo:0", "fifo:100", "nice:20", "nice:-21", "batch", "other:1"):
        assert f"scheduler = {wrong!r}" in problem(topology=[worker("a", *ALL, scheduler=wrong)])
    assert "topology[0].cpu = -1" in problem(topology=[worker("a", *ALL, cpu=-1)])
    assert "topology[0].cpu = '1', must be an integer" in problem(
        topology=[worker("a", *ALL, cpu="1")]
    )


# ---------------------------------------------------------------- anything at all

SCALARS = (
    st.integers(-5, 70000)
    | st.integers()
    | st.booleans()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["fused", "spin", "fifo:3", "main", "match:0", "*:1"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "id", "kinds", "stages", "cpu"]), inner)
    ),
    max_leaves=6,
)
PATHS = st.sampled_from(
    [
        *Config.__struct_fields__,
        *(f"{t}.{f}" for t in ("wait", "rings", "limits", "wal", "publisher")
          for f in getattr(Config(), t).__struct_fields__),
        "nothing",
        "rings.nothing",
    ]
)  # fmt: skip


@given(st.dictionaries(PATHS, VALUES, max_size=4))
def test_any_value_anywhere_is_taken_or_explained(overrides: dict[str, Any]) -> None:
    try:
        config = load(None, overrides)
    except ConfigError as error:
        assert str(error).startswith("configuration: ")
        return
    workers = workers_for(config, 4)
    stages = [stage for w in workers for stage in w.stages]
    assert sorted(stages) == sorted(expand(ALL, config.shards))
    assert load(None, msgspec.to_builtins(config)) == config
