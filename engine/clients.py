"""Client ids: the dedupe window that makes intake exactly-once by (account, client id).

A row lives as long as its order and for `client_window_ns` of sequencer time after it, unless the
table is full: then the oldest closed row goes first. Closed rows form a list in order of closing.
Keys of the index may collide, so a probe compares all 36 bytes.
"""

from __future__ import annotations

from engine import hashmap
from engine.setup import CLIENT_BITS, CLIENTS, WINDOW_NS
from engine.state import Risk
from shm.hashing import fold_word
from shm.jit import apart, inlined, kernel, rarely
from shm.pointers import Cells
from shm.units import NIL

_ROW = 8  # words of a CLIENT row; the client id is the first five
FORGET_PER_TICK = 1024


@inlined
def client_key(account: int, words: Cells, first: int) -> int:
    """Hash of (account, the five words of a client id); never 0."""
    digest = fold_word(account + 1, words[first])
    digest = fold_word(digest, words[first + 1])
    digest = fold_word(digest, words[first + 2])
    digest = fold_word(digest, words[first + 3] ^ (words[first + 4] << 32))
    return digest if digest != 0 else 1


@inlined
def _same(client_words: Cells, row: int, words: Cells, first: int) -> bool:
    at = row * _ROW
    return (
        client_words[at] == words[first]
        and client_words[at + 1] == words[first + 1]
        and client_words[at + 2] == words[first + 2]
        and client_words[at + 3] == words[first + 3]
        and client_words[at + 4] == words[first + 4]
    )


@kernel
def find_client(r: Risk, setup: Cells, account: int, words: Cells, first: int) -> int:
    """Row of a client id, the five cells from words[first] on, or NIL."""
    apart()
    bits = setup[CLIENT_BITS]
    index = r.client_index
    mask = (1 << bits) - 1
    key = client_key(account, words, first)
    at = hashmap.home(key, bits)
    while index[2 * at] != 0:
        if index[2 * at] == key:
            row = index[2 * at + 1]
            if r.clients[row]["account"] == account and _same(r.client_words, row, words, first):
                return row
        at = (at + 1) & mask
    return NIL


@kernel
def _drop(r: Risk, setup: Cells, row: int) -> None:
    c = r.clients[row]
    key = client_key(c["account"], r.client_words, row * _ROW)
    hashmap.remove(r.client_index, setup[CLIENT_BITS], key, row)
    for k in range(_ROW):
        r.client_words[row * _ROW + k] = 0
    c["next"] = r.venue[0]["clients_free"]
    r.venue[0]["clients_free"] = row


@kernel
def _drop_oldest(r: Risk, setup: Cells) -> None:
    v = r.venue[0]
    row = v["clients_oldest"]
    v["clients_oldest"] = r.clients[row]["next"]
    if v["clients_oldest"] == NIL:
        v["clients_newest"] = NIL
    _drop(r, setup, row)


@inlined
def is_over(r: Risk, setup: Cells, row: int) -> bool:
    """Whether the window of a closed row has passed: its client id is free again."""
    c = r.clients[row]
    return c["closed_ns"] != 0 and c["closed_ns"] + setup[WINDOW_NS] <= r.venue[0]["ts_ns"]


@kernel
def forget(r: Risk, setup: Cells, row: int) -> None:
    """Drop a closed row, and with it all that closed before it."""
    while r.clients[row]["closed_ns"] != 0:
        _drop_oldest(r, setup)


@kernel
def forget_past(r: Risk, setup: Cells) -> None:
    """With each TICK: drop rows whose window has passed, so that they don't pile up in a lull."""
    for _ in range(FORGET_PER_TICK):
        oldest = r.venue[0]["clients_oldest"]
        if oldest == NIL or not is_over(r, setup, oldest):
            break
        _drop_oldest(r, setup)


@kernel
def open_client(
    r: Risk, setup: Cells, account: int, words: Cells, first: int, order_id: int
) -> int:
    """A row for a client id that is not in the table, or NIL when every row is a live one.

    Forgets at most two rows whose window has passed, so that the work per order stays bounded.
    """
    apart()
    v = r.venue[0]
    for _ in range(2):
        oldest = v["clients_oldest"]
        if oldest == NIL or not is_over(r, setup, oldest):
            break
        _drop_oldest(r, setup)
    if v["clients_free"] == NIL and v["clients_used"] == setup[CLIENTS]:
        if v["clients_oldest"] == NIL:
            return NIL
        _drop_oldest(r, setup)
    row = v["clients_free"]
    if row != NIL:
        v["clients_free"] = r.clients[row]["next"]
    else:
        row = v["clients_used"]
        v["clients_used"] = row + 1
    for k in range(5):
        r.client_words[row * _ROW + k] = words[first + k]
    c = r.clients[row]
    c["order_id"] = order_id
    c["closed_ns"] = 0
    c["account"] = account
    c["next"] = NIL
    hashmap.put(r.client_index, setup[CLIENT_BITS], client_key(account, words, first), row)
    return row


@kernel
def close_client(r: Risk, setup: Cells, row: int) -> None:
    """The order that a row named has ended: the row stays for the window."""
    rarely()
    v = r.venue[0]
    if setup[WINDOW_NS] == 0:
        _drop(r, setup, row)
        return
    c = r.clients[row]
    c["closed_ns"] = v["ts_ns"]
    c["next"] = NIL
    if v["clients_newest"] == NIL:
        v["clients_oldest"] = row
    else:
        r.clients[v["clients_newest"]]["next"] = row
    v["clients_newest"] = row
