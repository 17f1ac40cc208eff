#!/usr/bin/env python3
"""Check that a venue counted what it owes you: python3 check_proof.py proof.json [ROOT_HASH]

Stands alone, with nothing but Python's own library. Give ROOT_HASH as the venue published it for
everybody, in hex: a proof that leads to another root proves nothing. Ends with 0 if all is right.
"""

import hashlib
import json
import sys
from typing import Any


def h(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def numbers(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(16, "big") for value in values)


def check(proof: dict[str, Any], root_hash: str = "") -> str | None:
    """None when the proof holds, else what is wrong with it."""
    if proof["format"] != "perpcore-liabilities-1":
        return f"format {proof['format']} is not known"
    count = len(proof["assets"])
    sums = [int(text) for text in proof["balances"]]
    if len(sums) != count or min(sums) < 0:
        return "a balance is below zero, or missing"
    customer = proof["customer"].to_bytes(8, "big")
    node = h(b"\x00" + bytes.fromhex(proof["salt"]) + customer + numbers(sums))
    for step in proof["path"]:
        other = [int(text) for text in step["sums"]]
        if len(other) != count or min(other) < 0:
            return "a sibling's sum is below zero, or missing"
        sibling = numbers(other) + bytes.fromhex(step["hash"])
        mine = numbers(sums) + node
        node = h(b"\x01" + (sibling + mine if step["side"] == "left" else mine + sibling))
        sums = [a + b for a, b in zip(sums, other, strict=True)]
    if node.hex() != proof["root"]["hash"] or [str(s) for s in sums] != proof["root"]["sums"]:
        return "the path does not lead to the proof's root"
    if root_hash and node.hex() != root_hash.lower():
        return "the proof's root is not the one that was published"
    return None


def main(arguments: list[str]) -> int:
    with open(arguments[0], encoding="utf-8") as file:
        proof = json.load(file)
    wrong = check(proof, arguments[1] if len(arguments) > 1 else "")
    if wrong:
        print(f"NOT PROVEN: {wrong}")
        return 1
    print(f"proven: customer {proof['customer']} at sequence {proof['sequence']}, of")
    for k, asset in enumerate(proof["assets"]):
        own, total = proof["balances"][k], proof["root"]["sums"][k]
        print(f"  {asset['name']}: {own} of {total}, in 10^-{asset['scale']}")
    print(f"root {proof['root']['hash']}: compare it with what everybody else was shown")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
