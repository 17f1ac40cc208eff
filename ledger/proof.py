"""Proof of liabilities: a Merkle sum tree over what customers are owed.

A leaf is H(0x00, salt, customer, balances); a node H(0x01, left sums, left hash, right sums, right
hash), all BLAKE2b-256. Both children's sums are hashed: with their total alone a venue can show
every customer a branch whose siblings are too small. No balance below zero gets in: what a customer
owes is no liability, and would hide another's.

A customer checks a proof with ledger/check_proof.py, a page of Python that imports nothing of ours.
What it cannot show: that a customer who doesn't check was not left out, and that the venue holds
the keys of its custody.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ledger.books import Books, Cut
from ledger.chart import CODE_SHIFT, Code
from ledger.files import LedgerError, QuestionError
from ledger.statements import CUSTOMERS, exact_sum
from shm.files import create_file, replace_file
from shm.units import SYSTEM_ACCOUNTS

FORMAT: Final = "perpcore-liabilities-1"


class Node(NamedTuple):
    """Sums by asset, in the tree's order of assets, and the hash over everything below."""

    sums: tuple[int, ...]
    hash: bytes


def _h(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"".join(value.to_bytes(16, "big") for value in values)


def leaf_node(salt: bytes, customer: int, sums: tuple[int, ...]) -> Node:
    return Node(sums, _h(b"\x00" + salt + customer.to_bytes(8, "big") + _numbers(sums)))


def parent_node(left: Node, right: Node) -> Node:
    data = b"\x01" + _numbers(left.sums) + left.hash + _numbers(right.sums) + right.hash
    return Node(tuple(a + b for a, b in zip(left.sums, right.sums, strict=True)), _h(data))


class Tree:
    """The tree of one cut. `secret` makes the salts: without it nobody can guess a leaf."""

    def __init__(self, books: Books, cut: Cut, secret: bytes) -> None:
        if len(secret) < 16:
            raise LedgerError(f"the secret has {len(secret)} bytes, must be at least 16")
        self.books, self.cut, self._secret = books, cut, secret
        owed, self.assets, self.deficits = liabilities(books, cut)
        self.customers = sorted(owed)
        self.leaves = [
            leaf_node(self.salt(customer), customer, owed[customer]) for customer in self.customers
        ]
        if not self.leaves:
            raise QuestionError("nobody is owed anything at this cut")
        self.rows = [self.leaves]
        while len(self.rows[-1]) > 1:
            below = self.rows[-1]
            row = [parent_node(below[k], below[k + 1]) for k in range(0, len(below) - 1, 2)]
            self.rows.append([*row, below[-1]] if len(below) % 2 else row)

    def salt(self, customer: int) -> bytes:
        """Of one leaf: known to its customer, and worthless for any other."""
        said = customer.to_bytes(8, "big") + self.cut.seq.to_bytes(8, "big")
        return hashlib.blake2b(said, key=self._secret[:64], digest_size=16).digest()

    @property
    def root(self) -> Node:
        return self.rows[-1][0]

    def publish(self) -> dict[str, Any]:
        """What everybody may see."""
        return {
            "format": FORMAT,
            "sequence": self.cut.seq,
            "instant_ns": self.cut.ts_ns,
            "assets": [
                {"name": self.books.commodity_name(a), "scale": self.books.scale(a)}
                for a in self.assets
            ],
            "customers": len(self.customers),
            "root": {"sums": [str(s) for s in self.root.sums], "hash": self.root.hash.hex()},
        }

    def prove(self, customer: int) -> dict[str, Any]:
        """The inclusion proof of one customer: its leaf, and the siblings up to the root."""
        at = bisect_left(self.customers, customer)
        if at == len(self.customers) or self.customers[at] != customer:
            raise QuestionError(f"customer {customer} is owed nothing at sequence {self.cut.seq}")
        leaf = self.leaves[at]
        path = []
        for row in self.rows[:-1]:
            sibling = at ^ 1
            if sibling < len(row):
                node = row[sibling]
                path.append(
                    {
                        "side": "left" if sibling < at else "right",
                        "sums": [str(s) for s in node.sums],
                        "hash": node.hash.hex(),
                    }
                )
            at //= 2
        return {
            **self.publish(),
            "customer": customer,
            "salt": self.salt(customer).hex(),
            "balances": [str(s) for s in leaf.sums],
            "path": path,
        }


def liabilities(
    books: Books, cut: Cut
) -> tuple[dict[int, tuple[int, ...]], list[int], dict[int, int]]:
    """(what each customer is owed by asset, those assets, what is owed by customers instead).

    An isolated wallet, a pending withdrawal and a cross wallet of one customer count together; one
    that is below zero together is a deficit, by asset.
    """
    balances = books.balances(cut)
    keys = books.keys["key"]
    wanted = np.isin(keys >> CODE_SHIFT, [int(code) for code in CUSTOMERS])
    wanted &= (keys & 0xFFFFFFFF) >= SYSTEM_ACCOUNTS
    assets = sorted(set(books.keys["commodity"][wanted].tolist()))
    place = {asset: k for k, asset in enumerate(assets)}
    owed: dict[int, list[int]] = {}
    for row in np.flatnonzero(wanted & (balances != 0)).tolist():
        customer = int(keys[row]) & 0xFFFFFFFF
        line = owed.setdefault(customer, [0] * len(assets))
        line[place[int(books.keys[row]["commodity"])]] -= int(balances[row])
    deficits: dict[int, int] = {}
    for line in owed.values():
        for k, amount in enumerate(line):
            if amount < 0:
                deficits[assets[k]] = deficits.get(assets[k], 0) - amount
                line[k] = 0
    return {c: tuple(line) for c, line in owed.items() if any(line)}, assets, deficits


# ---------------------------------------------------------------- the proof that was published


def salt_path(data: Path) -> Path:
    """Where the secret of published proofs is kept, for the venue alone."""
    return data / "proof.key"


def root_path(data: Path) -> Path:
    """What everybody may see of the newest published proof."""
    return data / "proof.json"


def secret_of(data: Path) -> bytes:
    """The venue's own secret; made when there is none."""
    path = salt_path(data)
    if not path.exists():
        create_file(path, os.urandom(32))
    if path.stat().st_mode & 0o077:
        raise LedgerError(f"{path}: others may read it. chmod 600 {path}")
    return path.read_bytes()


def publish(data: Path, tree: Tree) -> dict[str, Any]:
    """Publish a tree's root: customers' proofs are of this one from now on.

    raises   LedgerError when it is not all that customers are owed (R9)
    """
    _, assets, deficits = liabilities(tree.books, tree.cut)
    balances, commodity = tree.books.balances(tree.cut), tree.books.keys["commodity"]
    wanted = np.isin(tree.books.keys["key"] >> CODE_SHIFT, [int(code) for code in CUSTOMERS])
    for k, asset in enumerate(assets):
        owed = -exact_sum(balances[wanted & (commodity == asset)]) + deficits.get(asset, 0)
        if owed != tree.root.sums[k]:
            name = tree.books.commodity_name(asset)
            raise LedgerError(
                f"the root says {tree.root.sums[k]} {name}, customers are owed {owed}"
            )
    said = {**tree.publish(), "entries": tree.cut.entries}
    replace_file(root_path(data), json.dumps(said).encode())
    return said


def published(data: Path) -> dict[str, Any] | None:
    """The root that was published last, if any."""
    try:
        found: dict[str, Any] = json.loads(root_path(data).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LedgerError(f"{root_path(data)}: {error}. Publish again: perpcore ledger prove "
                          "--publish") from None  # fmt: skip
    return found


def published_tree(books: Books, said: dict[str, Any]) -> Tree:
    """The tree of a published root, made again; LedgerError when the books give another one."""
    return _tree(books.folder, int(said["entries"]), int(said["sequence"]), said["root"]["hash"])


@lru_cache(maxsize=1)
def _tree(folder: Path, entries: int, seq: int, root: str) -> Tree:
    books = Books(folder)
    tree = Tree(books, books.cut_entry(entries)._replace(seq=seq), secret_of(folder.parent))
    if tree.root.hash.hex() != root:
        raise LedgerError(
            f"{root_path(folder.parent)}: the books at sequence {seq} give another root. Verify "
            "them: perpcore ledger verify"
        )
    return tree


__all__ = [
    "Code",
    "Node",
    "Tree",
    "leaf_node",
    "liabilities",
    "parent_node",
    "publish",
    "published",
    "published_tree",
    "secret_of",
]
