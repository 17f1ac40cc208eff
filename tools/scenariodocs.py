"""The format of scenarios in words: an example that runs, and every key, from one source.

Reads   tools/scenariokeys.py.
Writes  text: `perpcore scenario --example` and `--keys`; the latter is README's reference too.
"""

from __future__ import annotations

from typing import Final

from tools import scenariokeys as keys

EXAMPLE: Final = """\
# A scenario: who trades what, what happens step by step, and what must be true.
# Run it: perpcore scenario FILE.toml; with -v it prints everything that the venue says.

title = "A long position, a price that moves, and an order that may only close"

# Everything has a default (perpcore scenario --keys); this is what the file cares about.
[symbols.BTC]
tick = 0.1                      # price step
lot = 0.001                     # quantity step
taker_fee = "0.05%"             # the same as 0.0005
maker_fee = "0.02%"

[accounts.Ann]
deposit = 10_000                # of the settlement asset, USDT unless [assets] says otherwise
leverage = 20

[accounts.Bob]
deposit = 10_000

# Steps happen in order. The first key says what is done, and to what: `place = "a"` places an order
# and calls it a. A step that is refused fails the scenario, unless it expects that.
[[steps]]
place = "a"
account = "Ann"
side = "buy"
qty = 0.1
price = 60_000
expect.status = "NEW"
expect.order.a = { open = 0.1, hold = 303 }          # 6000 / 20 margin, and the taker's fee of 3

# Lines that belong together may stand in one table; `expect.fills` lists all fills of the step.
[[steps]]
place = "b"
account = "Bob"
side = "sell"
qty = 0.1
type = "market"
expect.fills = [{ taker = "b", maker = "a", qty = 0.1, price = 60_000, maker_fee = 1.2 }]
expect.position.Ann = { qty = 0.1, entry = 60_000 }
expect.position.Bob = -0.1                           # a plain value means the quantity
expect.balance.Ann = { wallet = 9_998.8, held = 0 }

[[steps]]
mark = { BTC = 61_000 }
expect.position.Ann.unrealised = 100
expect.balance.Ann.equity = 10_098.8

# A refusal that is wanted, by its code in README's table.
[[steps]]
place = "c"
account = "Ann"
side = "sell"
qty = 0.2
price = 61_000
reduce_only = true
expect.order.c = { qty = 0.1, close_claim = 0.1 }    # cut to what there is to close

[[steps]]
cancel = "a"
expect.reason = "UNKNOWN_ORDER"                      # it was filled

# In the end; ~ compares the digits written, < > .. != compare as they say.
[expect]
position.Ann.liquidation_price = "none"              # this symbol has no maintenance margin
balance.Ann.available = "~9793"
fees = 4.2
book.BTC = { bids = [], asks = [[61_000, 0.1]] }
"""


def reference() -> str:
    """Every key as Markdown, as it stands in README."""
    return "\n\n".join(
        [
            _table("**The file**", keys.FILE),
            _table("**`[assets.NAME]`**", keys.ASSET),
            _table("**`[symbols.NAME]`**", keys.SYMBOL),
            _table("**`[symbols.NAME]`, what makes it a perpetual**", keys.CONTRACT),
            _table("**`brackets = [{ ... }]`** of a symbol, lowest first", keys.BRACKET),
            _table("**`[accounts.NAME]`**", keys.ACCOUNT),
            _verbs(),
            _step_keys(),
            _table("**`expect`, the step's answer**", keys.ANSWER),
            *(
                _table(
                    f"**`expect.{name} = [{{ ... }}]`**, all of the step, in "
                    f"{'any ' if name in keys.ANY_ORDER else ''}order",
                    table,
                )
                for name, table in keys.EVENTS.items()
            ),
            *(
                _table(f"**`expect.{name}.{of}`**; a plain value means `{short}`", table)
                for name, (of, table, short) in keys.STATE.items()
            ),
            _table("**`expect.venue`**", keys.VENUE),
            *(
                _table(f"**`expect.{name}.{of}`**, {_LISTS[name]}", table)
                for name, (of, table) in keys.ROWS.items()
            ),
            _purses(),
        ]
    )


_LISTS: Final = {
    "book": "`{ bids = [...], asks = [...] }`, best first; `[90, 30]` is price and quantity",
    "claims": "a list, oldest first",
}


def _table(title: str, table: dict[str, keys.Key]) -> str:
    rows = [f"| `{name}` | {key.type} | {_meaning(key)} |" for name, key in table.items()]
    return "\n".join([title, "", "| key | value | meaning |", "|---|---|---|", *rows])


def _meaning(key: keys.Key) -> str:
    if key.needed:
        return f"{key.meaning}; needed"
    return f"{key.meaning}; else {key.default}" if key.default else key.meaning


def _verbs() -> str:
    rows = []
    for name, verb in keys.VERBS.items():
        needed = [f"**{key}**" for key, k in verb.keys.items() if k.needed]
        others = [key for key, k in verb.keys.items() if not k.needed]
        rows.append(
            f"| `{name}` | {verb.subject} | {verb.meaning} | {', '.join(needed + others)} |"
        )
    head = "**`[[steps]]`**: one of these, its value, and its keys (those needed in bold)"
    return "\n".join([head, "", "| step | value | does | keys |", "|---|---|---|---|", *rows])


def _step_keys() -> str:
    """Keys of steps, each meaning once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, verb in keys.VERBS.items():
        for key, k in verb.keys.items():
            found.setdefault((key, k.type, _meaning(k)), []).append(name)
    for key, k in keys.STEP.items():
        found[key, k.type, _meaning(k)] = ["every step"]
    rows = [
        f"| `{key}` | {kind} | {meaning} | {', '.join(verbs)} |"
        for (key, kind, meaning), verbs in sorted(found.items())
    ]
    head = "**Keys of steps**"
    return "\n".join([head, "", "| key | value | meaning | of |", "|---|---|---|---|", *rows])


def _purses() -> str:
    rows = [f"| `{name}` | number | {meaning} |" for name, meaning in keys.PURSES.items()]
    head = "**`expect`, the venue's own purses**"
    return "\n".join([head, "", "| key | value | meaning |", "|---|---|---|", *rows])
