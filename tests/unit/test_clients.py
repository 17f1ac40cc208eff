"""Client ids: taken while they live and for a window after, forgotten in order, never too much."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine import clients, hashmap
from engine.clients import FORGET_PER_TICK, client_key
from engine.setup import CLIENT_BITS, CLIENTS, WINDOW_NS, setup_cells
from engine.state import Limits, allocate, risk_of, risk_tables
from shm.codes import Kind, Reason, Side, Tif
from shm.kinds import text_words
from shm.pointers import table
from shm.units import NIL
from tests.venue import ANN, BOB, LIMITS, SECOND, Venue, check_laws

ROWS = 6
WINDOW = 10


class Names:
    """The client table alone."""

    def __init__(self, window: int = WINDOW) -> None:
        limits = Limits(
            accounts=17, symbols=1, positions=1, orders=1, clients=ROWS, client_window_ns=window
        )
        arrays = allocate(risk_tables(limits))
        self.venue, self.rows = arrays["venue"], arrays["clients"]
        for name in ("clients_free", "clients_oldest", "clients_newest"):
            self.venue[name] = NIL
        self.venue["ts_ns"] = 1_000
        self.setup = setup_cells(limits, commands=64, matches=64, reports=64)
        assert self.setup[CLIENTS] == ROWS and self.setup[WINDOW_NS] == window
        self.index = arrays["client_index"]
        self.all: Any = (risk_of(arrays), table(self.setup))

    def find(self, account: int, name: str) -> int:
        words = table(text_words(name, 5).copy())
        return int(clients.find_client(*self.all, account, words, 0))

    def open(self, account: int, name: str, order_id: int) -> int:
        words = table(text_words(name, 5).copy())
        return int(clients.open_client(*self.all, account, words, 0, order_id))

    def close(self, row: int) -> None:
        clients.close_client(*self.all, row)


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "close", "tick"]), st.integers(0, 8), st.integers(1, 2)),
        max_size=60,
    )
)
def test_it_is_a_dict_with_a_window(steps: list[tuple[str, int, int]]) -> None:
    names = Names()
    live: dict[tuple[int, str], int] = {}
    closed: list[tuple[int, str]] = []  # in order
    since: dict[tuple[int, str], int] = {}
    for number, (what, k, account) in enumerate(steps):
        key, now = (account, f"name {k}"), int(names.venue["ts_ns"][0])
        if what == "tick":
            names.venue["ts_ns"] += k
        elif what == "open" and key not in live and key not in since:
            for _ in range(2):
                if closed and since[closed[0]] + WINDOW <= now:
                    del since[closed.pop(0)]
            if len(live) + len(since) == ROWS and closed:
                del since[closed.pop(0)]
            row = names.open(*key, number + 1)
            assert (row == NIL) == (len(live) == ROWS)
            if row != NIL:
                live[key] = number + 1
        elif what == "close" and key in live:
            names.close(names.find(*key))
            del live[key]
            closed.append(key)
            since[key] = now
        for k_, account_ in ((k, a) for k in range(9) for a in (1, 2)):
            key = (account_, f"name {k_}")
            row = names.find(*key)
            assert (row != NIL) == (key in live or key in since)
            if key in live:
                assert names.rows[row]["order_id"] == live[key]


def test_names_with_the_same_hash_are_told_apart() -> None:
    """A key of the index is only a hash: two rows under one key, each found by its bytes."""
    names = Names()
    bits = int(names.setup[CLIENT_BITS])
    row = names.open(1, "a", 1)
    other = names.open(1, "b", 2)
    key = client_key(1, table(text_words("a", 5).copy()), 0)
    hashmap.remove(
        table(names.index), bits, client_key(1, table(text_words("b", 5).copy()), 0), other
    )
    hashmap.put(table(names.index), bits, key, other)
    assert names.find(1, "a") == row and names.find(1, "b") == NIL
    assert names.find(2, "a") == NIL


def test_all_36_bytes_count() -> None:
    v = Venue().open_market()
    base = "0123456789" * 3 + "abcdef"
    for k in range(36):
        name = base[:k] + "~" + base[k + 1 :]
        v.place(ANN, Side.BUY, 100, 1, client_id=name)
    assert {r["status"] for r in v.drain() if r["kind"] == "ORDER"} == {"NEW"}
    v.place(ANN, Side.BUY, 100, 1, client_id=base + "g")
    assert v.drain()[0]["reason"] == Reason.MALFORMED.name


def test_a_full_table_forgets_the_oldest_that_ended() -> None:
    v = Venue(LIMITS._replace(clients=4)).open_market()
    for k in range(4):
        v.place(ANN, Side.BUY, 100, 1, client_id=f"n{k}", tif=Tif.GTC if k else Tif.IOC)
    v.work()
    v.heard()
    v.place(ANN, Side.BUY, 100, 1, client_id="n4")  # n0 makes room, long before its window ends
    v.place(ANN, Side.BUY, 100, 1, client_id="n5")  # nobody does
    v.place(ANN, Side.BUY, 100, 1)  # needs none
    told = [r for r in v.drain() if r["kind"] == "ORDER"]
    assert [r["reason"] for r in told] == ["NONE", "CAPACITY", "NONE"]
    v.send(Kind.CANCEL, account=ANN, symbol=0, client_id="n1")
    v.work()
    v.heard()
    v.place(ANN, Side.BUY, 100, 1, client_id="n0")
    assert v.drain()[0]["reason"] == "NONE"
    check_laws(v)


def test_no_window_at_all() -> None:
    v = Venue(LIMITS._replace(client_window_ns=0)).open_market()
    for _ in range(3):
        v.place(ANN, Side.BUY, 100, 1, client_id="x", tif=Tif.IOC)
        assert v.drain()[0]["status"] == "NEW"
        v.send(Kind.DEPOSIT, account=ANN, amount_quanta=1, client_id="y")
        assert v.drain()[0]["reason"] == "NONE"
    assert v.venue["clients_used"] == 1
    check_laws(v)


def test_a_lull_leaves_nothing_behind() -> None:
    """Names whose window has passed go with each TICK, and all older ones with a name that is
    wanted again."""
    v = Venue(LIMITS._replace(clients=3 * FORGET_PER_TICK), ingress_slots=4096, commands=4096)
    v.open_market(orders_max=5000)
    count = FORGET_PER_TICK + 10
    for k in range(count):
        v.place(ANN, Side.BUY, 100, 1, client_id=f"n{k}", tif=Tif.IOC)
    v.work()
    used = int((v.arrays["clients"]["order_id"] != 0).sum())
    assert used == count
    v.wait(60 * SECOND)
    v.do(Kind.TICK)
    assert (v.arrays["clients"]["order_id"] != 0).sum() == 10
    v.do(Kind.TICK)
    assert (v.arrays["clients"]["order_id"] != 0).sum() == 0
    for k in range(20):
        v.place(BOB, Side.BUY, 100, 1, client_id=f"n{k}", tif=Tif.IOC)
    v.work()
    v.wait(60 * SECOND)
    v.place(BOB, Side.BUY, 100, 1, client_id="n9")
    v.heard()
    assert v.drain()[0]["status"] == "NEW"
    assert (v.arrays["clients"]["order_id"] != 0).sum() == 9  # n12 to n19, and the new one
    check_laws(v)
