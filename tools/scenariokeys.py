"""Every key of a scenario file: its type and what it means. README and `--keys` follow from it.

A type says how a value is written and in what unit: price, qty and money are decimals of the
symbol or asset concerned, a rate is a share (0.0005 or "0.05%"), a duration is seconds or "8h".
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Key(NamedTuple):
    """One key: how it is written, what it means, and what it is when left out."""

    type: str
    meaning: str
    default: str = ""

    @property
    def needed(self) -> bool:
        return self.default == "needed"


class Verb(NamedTuple):
    """One thing a step can do; its value names the subject."""

    subject: str
    meaning: str
    keys: dict[str, Key]


NEEDED: Final = "needed"

FILE: Final = {
    "title": Key("text", "what it shows", "the file's name"),
    "start": Key("instant", "when it begins", "2026-01-01T00:00:00Z"),
    "assets": Key("table", "money, by name", "USDT alone"),
    "symbols": Key("table", "contracts, by name", "BTC alone"),
    "accounts": Key("table", "traders, by name", NEEDED),
    "fund": Key("money", "deposit of the insurance fund; by asset if there are several", "0"),
    "shards": Key("list", "numbers of matching shards to run with", "[1, 2, 3]"),
    "seeds": Key("list", "random interleavings of the stages to run with besides", "[1, 2, 3, 4]"),
    "scan": Key(
        "flag", "look for unsafe accounts after every step, as the clock process does", "true"
    ),
    "steps": Key("list", "what happens, in order", "none"),
    "expect": Key("table", "what shall be true in the end", "nothing"),
}

ASSET: Final = {"scale": Key("count", "decimals of its smallest unit, 0 to 8", "8")}

SYMBOL: Final = {
    "asset": Key("asset", "what it is settled in", "the first asset"),
    "tick": Key("decimal", "price step", "0.01"),
    "lot": Key("decimal", "quantity step", "0.001"),
    "mark": Key("price", "mark price at the start; none before the first if left out", "none"),
    "leverage": Key("count", "leverage of an account that chose none", "10"),
    "leverage_max": Key("count", "largest leverage", "125"),
    "maker_fee": Key("rate", "of notional; negative is a rebate", "0"),
    "taker_fee": Key("rate", "of notional", "0"),
    "qty_min": Key("qty", "least quantity of an order", "one lot"),
    "qty_max": Key("qty", "largest quantity of an order", "the most there can be"),
    "price_min": Key("price", "lowest price", "one tick"),
    "price_max": Key("price", "highest price", "the most there can be"),
    "notional_min": Key("money", "least notional of an order that may open", "0"),
    "band": Key("rate", "a limit price may be this far from the mark; 0: any", "0"),
    "market_band": Key("rate", "a MARKET order trades this far from the mark; 0: any", "0"),
    "orders_max": Key("count", "open orders an account may have here", "200"),
    "state": Key("state", "TRADING, CANCEL_ONLY, HALTED or CLOSED", "TRADING"),
    "maintenance": Key("rate", "maintenance margin, when one bracket is enough", "none"),
    "brackets": Key("list", "leverage brackets: tables of cap, maintenance, leverage", "none"),
    "sources": Key("table", "index sources: weight by name; a list: weight 1 each", "none"),
}

BRACKET: Final = {
    "cap": Key("money", "notional where it ends; it begins where the one before ends", NEEDED),
    "maintenance": Key("rate", "of notional", NEEDED),
    "leverage": Key("count", "largest leverage", NEEDED),
}

# Of SYMBOL too; with one of them the symbol gets a CONTRACT.
CONTRACT: Final = {
    "funding_interval": Key("duration", "between two funding times; 0: no funding", "0"),
    "funding_first": Key("instant", "a funding time; others lie whole intervals from it", "start"),
    "impact_notional": Key("money", "impact margin notional, for the premium", "0"),
    "interest": Key("rate", "interest rate of 8 hours", "0.01%"),
    "funding_clamp": Key("rate", "interest - premium is clamped at +- this", "0.05%"),
    "funding_cap": Key("rate", "highest rate of one interval", "0.3%"),
    "funding_floor": Key("rate", "lowest rate of one interval", "-0.3%"),
    "mark_band": Key("rate", "the mark stays this near the index; 0: any distance", "0"),
    "source_clamp": Key("rate", "a source counts at most this far from their median", "1%"),
    "source_stale": Key("duration", "an older source price doesn't count; 0: none is stale", "0"),
    "liquidation_fee": Key("rate", "clearance fee, of liquidated notional", "0"),
    "price_protect": Key("rate", "of conditional orders: how far mark and last may differ", "0"),
    "breaker": Key("rate", "a mark that moves more in the window halts; 0: never", "0"),
    "breaker_window": Key("duration", "of the circuit breaker", "0"),
    "breaker_pause": Key("duration", "how long it lets nothing but cancels through", "0"),
    "algos_max": Key("count", "conditional orders an account may have here", "100"),
    "position_max": Key("money", "largest notional of a position; 0: the brackets'", "0"),
}

ACCOUNT: Final = {
    "deposit": Key("money", "what it has at the start; by asset if there are several", "0"),
    "leverage": Key("count", "its leverage; by symbol if they differ", "the symbol's"),
    "margin_type": Key("margin_type", "CROSS or ISOLATED; by symbol if they differ", "CROSS"),
    "position_mode": Key("position_mode", "ONE_WAY or HEDGE", "ONE_WAY"),
    "maker_fee": Key("rate", "its own fee instead of the symbols'; with taker_fee", "none"),
    "taker_fee": Key("rate", "the same", "none"),
}

_SYMBOL: Final = Key("symbol", "where", "the only symbol")
_ACCOUNT: Final = Key("account", "who", NEEDED)
_ASSET: Final = Key("asset", "which money", "the first asset")
_SIDE: Final = Key("side", "BUY or SELL", NEEDED)
_LEG: Final = Key("leg", "LONG or SHORT in hedge mode, else BOTH", "BOTH")
_ORDER_TERMS: Final = {
    "reduce_only": Key("flag", "may only close", "false"),
    "stp": Key("stp", "NONE, EXPIRE_TAKER, EXPIRE_MAKER or EXPIRE_BOTH", "NONE"),
    "position_side": _LEG,
    "expires": Key("instant", "GTD: when it ends", "never"),
    "client_id": Key("text", "client order id, up to 36 characters", "none"),
}
_REQUESTED: Final = {
    "principal": Key("count", "who does it: a user's number", "1"),
}

VERBS: Final = {
    "place": Verb(
        "new order",
        "place an order",
        {
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "side": _SIDE,
            "qty": Key("qty", "quantity", NEEDED),
            "price": Key("price", "limit price; without one it is a MARKET order", "none"),
            "type": Key("type", "LIMIT or MARKET", "by price"),
            "tif": Key("tif", "GTC, IOC, FOK, GTX (POST_ONLY) or GTD", "GTC, or GTD with expires"),
            "post_only": Key("flag", "the same as tif GTX", "false"),
            **_ORDER_TERMS,
        },
    ),
    "cancel": Verb(
        "order",
        "cancel one order",
        {
            "account": Key("account", "who asks", "whose it is"),
            "by": Key("by", "ID or CLIENT_ID: how the order is named", "ID"),
        },
    ),
    "amend": Verb(
        "order",
        "change price or quantity",
        {
            "price": Key("price", "new price", "as it is"),
            "qty": Key("qty", "new total quantity, filled part included", "what remains stays"),
            "to_back": Key("flag", "lose the place in the queue whatever the change", "false"),
            "account": Key("account", "who asks", "whose it is"),
            "by": Key("by", "ID or CLIENT_ID", "ID"),
        },
    ),
    "reduce": Verb(
        "order",
        "take so much off an order; it keeps its place",
        {
            "qty": Key("qty", "how much", NEEDED),
            "account": Key("account", "who asks", "whose it is"),
            "by": Key("by", "ID or CLIENT_ID", "ID"),
        },
    ),
    "cancel_all": Verb(
        "account",
        "cancel every order of an account",
        {"symbol": Key("symbol", "in this symbol alone", "in all")},
    ),
    "cancel_symbol": Verb("symbol", "cancel every order of everybody in a symbol", {}),
    "place_algo": Verb(
        "new order",
        "place a conditional order; the order it becomes has the same name",
        {
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "side": _SIDE,
            "type": Key(
                "algo_type",
                "STOP, STOP_MARKET, TAKE_PROFIT, TAKE_PROFIT_MARKET or TRAILING_STOP_MARKET",
                NEEDED,
            ),
            "qty": Key("qty", "quantity; none with close_position", "0"),
            "trigger": Key("price", "the price it waits for; none for TRAILING", "none"),
            "price": Key("price", "limit price of STOP and TAKE_PROFIT", "none"),
            "activate": Key("price", "TRAILING: begins to follow here", "at once"),
            "callback": Key("rate", "TRAILING: how far it lets the price come back", "none"),
            "working": Key("working", "LAST or MARK: which price it watches", "LAST"),
            "price_protect": Key("flag", "not while mark and last differ too much", "false"),
            "close_position": Key("flag", "all that is there then", "false"),
            "tif": Key("tif", "of the order it becomes", "GTC"),
            **_ORDER_TERMS,
        },
    ),
    "cancel_algo": Verb(
        "order",
        "cancel a conditional order",
        {
            "account": Key("account", "who asks", "whose it is"),
            "by": Key("by", "ID or CLIENT_ID", "ID"),
        },
    ),
    "cancel_algos": Verb(
        "account",
        "cancel every conditional order of an account",
        {"symbol": Key("symbol", "in this symbol alone", "in all")},
    ),
    "countdown": Verb(
        "account",
        "dead man's switch: cancel all orders unless set again",
        {"symbol": _SYMBOL, "after": Key("duration", "from now; 0 stops it", NEEDED)},
    ),
    "leverage": Verb(
        "account",
        "choose a leverage",
        {"symbol": _SYMBOL, "to": Key("count", "leverage", NEEDED)},
    ),
    "margin_type": Verb(
        "account",
        "choose cross or isolated margin",
        {"symbol": _SYMBOL, "to": Key("margin_type", "CROSS or ISOLATED", NEEDED)},
    ),
    "position_mode": Verb(
        "account",
        "choose one-way or hedge mode",
        {"to": Key("position_mode", "ONE_WAY or HEDGE", NEEDED)},
    ),
    "position_margin": Verb(
        "account",
        "move money between the wallet and an isolated position",
        {
            "symbol": _SYMBOL,
            "position_side": _LEG,
            "amount": Key("money", "into the position; negative takes out", NEEDED),
        },
    ),
    "fee_rates": Verb(
        "account",
        "give an account its own fees; without any, the symbols' again",
        {
            "maker_fee": Key("rate", "of notional; negative is a rebate", "none"),
            "taker_fee": Key("rate", "of notional", "none"),
        },
    ),
    "deposit": Verb(
        "account",
        "put money in",
        {
            "amount": Key("money", "how much", NEEDED),
            "asset": _ASSET,
            "request": Key("text", "request id; the same one is not done twice", "none"),
        },
    ),
    "withdraw": Verb(
        "account",
        "take money out, at once",
        {
            "amount": Key("money", "how much", NEEDED),
            "asset": _ASSET,
            "request": Key("text", "request id; the same one is not done twice", "none"),
        },
    ),
    "transfer": Verb(
        "account",
        "move money to another account",
        {
            "to": Key("account", "who receives", NEEDED),
            "amount": Key("money", "how much", NEEDED),
            "asset": _ASSET,
            "request": Key("text", "request id; the same one is not done twice", "none"),
        },
    ),
    "request_withdraw": Verb(
        "new request",
        "set money aside until it is approved or rejected",
        {
            "account": _ACCOUNT,
            "amount": Key("money", "how much", NEEDED),
            "asset": _ASSET,
            **_REQUESTED,
        },
    ),
    "request_adjust": Verb(
        "new request",
        "propose an adjustment of a wallet",
        {
            "account": _ACCOUNT,
            "amount": Key("money", "into the wallet; negative takes out", NEEDED),
            "asset": _ASSET,
            **_REQUESTED,
        },
    ),
    "approve": Verb("request", "approve a request", dict(_REQUESTED)),
    "reject": Verb("request", "reject a request: what was set aside returns", dict(_REQUESTED)),
    "settle_withdraw": Verb(
        "request",
        "an approved withdrawal has left",
        {"fee": Key("money", "the part of it that is the venue's fee", "0"), **_REQUESTED},
    ),
    "account_state": Verb(
        "account",
        "set what an account may do",
        {
            "to": Key("state", "TRADING, CANCEL_ONLY or HALTED", NEEDED),
            "cancel": Key("flag", "cancel its orders too: a kill switch", "false"),
        },
    ),
    "symbol_state": Verb(
        "symbol",
        "set what a symbol accepts",
        {
            "to": Key("state", "TRADING, CANCEL_ONLY, HALTED or CLOSED", NEEDED),
            "cancel": Key("flag", "cancel its orders too", "false"),
        },
    ),
    "venue_state": Verb(
        "state",
        "set what the venue accepts: TRADING, CANCEL_ONLY or HALTED",
        {"cancel": Key("flag", "cancel all orders too", "false")},
    ),
    "change_symbol": Verb(
        "symbol",
        "change parameters of a symbol: any key of `symbols`, but asset, tick, lot, mark, state",
        {},
    ),
    "settle_symbol": Verb(
        "symbol",
        "delist: close every position at one price",
        {"price": Key("price", "settlement price", NEEDED)},
    ),
    "mark": Verb(
        "symbol",
        "set the mark price by hand",
        {"price": Key("price", "mark price", NEEDED)},
    ),
    "source_price": Verb(
        "symbol",
        "what an index source says",
        {
            "source": Key("text", "its name; all of them when left out", "all"),
            "price": Key("price", "its price", NEEDED),
            "at": Key("instant", "when it said so", "now"),
        },
    ),
    "sample": Verb("symbol", "look at the book, for basis and premium; once a second counts", {}),
    "wait": Verb(
        "duration",
        "let time pass, then tick: what is due by then is done",
        {
            "every": Key("duration", "tick at this pace meanwhile", "once, at the end"),
            "tick": Key("flag", "false: only time passes, nothing is done", "true"),
            "sample": Key("flag", "sample every symbol with each tick", "false"),
            "sources": Key("flag", "the index sources say again what they said", "true"),
        },
    ),
    "tick": Verb("true", "what is due now is done", {}),
    "scan": Verb("true", "look for unsafe accounts now", {}),
    "restart": Verb(
        "true", "the venue dies and comes back from its log, byte for byte the same", {}
    ),
    "together": Verb(
        "steps", "commands that are all decided before any of them is matched and settled", {}
    ),
    "race": Verb("steps", "commands in flight together, interleaved by the seed", {}),
}

STEP: Final = {
    "note": Key("text", "printed with the step", "none"),
    "expect": Key("table", "what shall be true after it", "it is not refused"),
}

# ---------------------------------------------------------------- expectations

ANSWER: Final = {
    "status": Key(
        "name",
        "of the step's order by then: NEW, PARTIALLY_FILLED, FILLED, CANCELED, "
        "EXPIRED, REJECTED; REFUSED or ACCEPTED of other commands",
    ),
    "reason": Key("name", "the reject code, or why the order ended; NONE"),
    "accepted": Key("flag", "whether the command was taken"),
}

EVENTS: Final = {
    "fills": {
        "taker": Key("order", "the order that took; none outside the book"),
        "maker": Key("order", "the order that rested"),
        "buyer": Key("account", "who bought"),
        "seller": Key("account", "who sold"),
        "symbol": Key("symbol", "where"),
        "qty": Key("number", "how much"),
        "price": Key("number", "at what price"),
        "cause": Key("name", "MATCH, LIQUIDATION, TAKEOVER, ADL or DELIST"),
        "buyer_fee": Key("number", "fee of the buyer; negative is a rebate"),
        "seller_fee": Key("number", "fee of the seller"),
        "taker_fee": Key("number", "fee of the taker"),
        "maker_fee": Key("number", "fee of the maker"),
    },
    "flips": {
        "order": Key("order", "whose claim"),
        "to": Key("name", "TO_OPEN, TO_CLOSE or TRIMMED"),
        "qty": Key("number", "how much changed kind"),
        "thief": Key("order", "the order that took what was claimed"),
        "close": Key("number", "its close claim after it"),
        "hold": Key("number", "its hold after it"),
        "hold_change": Key("number", "what that took, or (negative) gave back"),
    },
    "ended": {
        "order": Key("order", "which; filled ones don't count, nor a liquidation's own"),
        "status": Key("name", "CANCELED or EXPIRED"),
        "reason": Key("name", "why"),
        "open": Key("number", "what was left of it"),
    },
    "triggered": {
        "order": Key("order", "the conditional order"),
        "status": Key("name", "TRIGGERED, REJECTED, EXPIRED or CANCELED"),
        "reason": Key("name", "why"),
    },
    "liquidations": {
        "account": Key("account", "whose"),
        "symbol": Key("symbol", "where; none for the cross wallet"),
        "step": Key("name", "STARTED, ORDER, TAKEOVER, ADL, RECOVERED or CLOSED"),
        "price": Key("number", "bankruptcy price of what is closed"),
        "qty": Key("number", "to close, signed as the position"),
        "equity": Key("number", "margin balance then"),
        "maintenance": Key("number", "maintenance margin then"),
        "fund": Key("number", "the insurance fund's wallet then"),
    },
    "deleveraged": {
        "account": Key("account", "whose position was closed"),
        "symbol": Key("symbol", "where"),
        "qty": Key("number", "how much, signed as the position was"),
        "price": Key("number", "bankruptcy price of the other side"),
        "adl": Key("number", "lights of the ADL queue it had: 0 to 4"),
        "adl_score": Key("number", "its score, cut at 9 decimals"),
        "place": Key("number", "its place in the queue, 1 is the highest score"),
        "ranked": Key("number", "positions in the queue"),
    },
    "warnings": {
        "account": Key("account", "whose"),
        "symbol": Key("symbol", "where; none for the cross wallet"),
        "equity": Key("number", "margin balance then"),
        "maintenance": Key("number", "maintenance margin then"),
    },
    "funding": {
        "account": Key("account", "whose position"),
        "symbol": Key("symbol", "where"),
        "rate": Key("rate", "positive: longs pay"),
        "mark": Key("number", "the mark it is reckoned at"),
        "qty": Key("number", "signed position"),
        "amount": Key("number", "into the account; negative: paid"),
    },
    "moves": {
        "account": Key("account", "whose wallet"),
        "from": Key("account", "where it came from; the account itself: another pocket"),
        "why": Key(
            "name",
            "ISOLATE, RELEASE, TRANSFER, CLEARANCE, LEFTOVER, BAD_DEBT, DUST, ADJUST, "
            "WITHDRAW_HOLD, WITHDRAW_RETURN or WITHDRAW_SETTLE",
        ),
        "amount": Key("number", "into the wallet; negative: out of it"),
    },
}

# Lists whose order is that of tables, and no trader's.
ANY_ORDER: Final = ("funding", "warnings")

POSITION: Final = {
    "qty": Key("number", "signed: negative is short; 0: flat"),
    "side": Key("name", "LONG, SHORT or FLAT"),
    "entry": Key("number", "average entry price; none when flat"),
    "cost": Key("number", "signed exact cost of what is open: entry * qty"),
    "break_even": Key(
        "number", "(cost + fees - realised) / qty since it was opened; none when flat"
    ),
    "realised": Key("number", "sum of realised PnL, fees not included"),
    "unrealised": Key("number", "at the mark; 0 before the first"),
    "notional": Key("number", "at the mark; at cost before the first"),
    "initial": Key("number", "initial margin of what is open"),
    "maintenance": Key("number", "maintenance margin at the mark"),
    "liquidation_price": Key("number", "none: it can't be liquidated"),
    "margin_type": Key("name", "CROSS or ISOLATED"),
    "isolated": Key("number", "its own wallet when isolated, else 0"),
    "leverage": Key("number", "chosen"),
    "equity": Key("number", "margin balance behind it: its own, or that of the cross wallet"),
    "ratio": Key("rate", "maintenance / equity of the same; none when equity isn't above 0"),
    "removable": Key("number", "most that may be taken out of it; 0 when cross"),
    "notional_max": Key("number", "largest notional its leverage may have; none without brackets"),
    "adl": Key("number", "lights of the ADL queue: 0 to 4; 4 is deleveraged first"),
    "adl_score": Key("number", "its score in that queue, cut at 9 decimals"),
    "claimed": Key("number", "sum of the close claims of orders against it"),
    "hold": Key("number", "sum of the holds of orders here"),
    "orders": Key("number", "open orders here"),
}

BALANCE: Final = {
    "wallet": Key("number", "deposits - withdrawals + realised PnL - fees + funding"),
    "available": Key("number", "what new orders may hold"),
    "withdrawable": Key("number", "most that may be withdrawn, transferred or isolated"),
    "held": Key("number", "held for open orders"),
    "pending": Key("number", "set aside for withdrawals; part of the wallet"),
    "isolated": Key("number", "sum of its isolated positions' wallets; not in the wallet"),
    "unrealised": Key("number", "of its cross positions, at the marks"),
    "equity": Key("number", "margin balance: wallet + unrealised"),
    "initial": Key("number", "initial margin of its cross positions"),
    "maintenance": Key("number", "maintenance margin of its cross positions"),
    "ratio": Key("rate", "maintenance / equity; none when equity isn't above 0"),
    "deposited": Key("number", "sum of deposits"),
    "withdrawn": Key("number", "sum of withdrawals"),
    "realised": Key("number", "sum of realised PnL"),
    "fees": Key("number", "sum of fees paid"),
    "funding": Key("number", "sum of funding received - paid"),
    "adjusted": Key("number", "sum of adjustments, transfers and moves of the fund"),
    "deficits": Key("number", "times settlement found less than it had to take"),
}

ORDER: Final = {
    "status": Key("name", "NEW, PARTIALLY_FILLED, FILLED, CANCELED, EXPIRED or REJECTED"),
    "reason": Key("name", "why it was rejected or ended; NONE"),
    "qty": Key("number", "total quantity"),
    "open": Key("number", "what is left of it in the market"),
    "filled": Key("number", "what was filled"),
    "price": Key("number", "limit price"),
    "average": Key("number", "average price of its fills; none without"),
    "fees": Key("number", "fees paid for its fills"),
    "close_claim": Key("number", "the part that claims position, and holds nothing"),
    "open_claim": Key("number", "the part that opens: open - close_claim"),
    "hold": Key("number", "margin and fee held for it"),
}

ALGO: Final = {
    "status": Key("name", "NEW, TRIGGERED, CANCELED, EXPIRED or REJECTED"),
    "reason": Key("name", "why; NONE"),
    "trigger": Key("number", "what it waits for"),
}

SYMBOLS: Final = {
    "mark": Key("number", "mark price; none before the first"),
    "last": Key("number", "last trade; none before the first"),
    "index": Key("number", "index price; none before the first"),
    "state": Key("name", "TRADING, CANCEL_ONLY, HALTED or CLOSED"),
    "open_interest": Key("number", "sum of long positions"),
    "trades": Key("number", "trades so far, in the book"),
    "best_bid": Key("number", "none without"),
    "best_ask": Key("number", "none without"),
    "halted": Key("flag", "no index to trust: no liquidation, no funding"),
    "funding_rate": Key("rate", "of the last funding; none before the first"),
    "next_funding": Key("instant", "next funding time; none without"),
}

VENUE: Final = {
    "state": Key("name", "TRADING, CANCEL_ONLY or HALTED"),
    "orders": Key("number", "orders not ended"),
    "deficits": Key("number", "times settlement found less than it had to take"),
}

LEVEL: Final = {
    "price": Key("number", "of the level"),
    "qty": Key("number", "of all its orders"),
    "orders": Key("list", "names of its orders, oldest first"),
}

CLAIM: Final = {
    "order": Key("order", "whose"),
    "close": Key("number", "its claim on the position"),
}

# name -> (what it is about, fields, the field meant by a plain value)
STATE: Final = {
    "position": ("account[.symbol][.leg]", POSITION, "qty"),
    "balance": ("account[.asset]", BALANCE, "wallet"),
    "order": ("order", ORDER, "status"),
    "algo": ("order", ALGO, "status"),
    "symbol": ("symbol", SYMBOLS, "mark"),
}
ROWS: Final = {
    "book": ("symbol", LEVEL),
    "claims": ("account[.symbol][.leg]", CLAIM),
}
PURSES: Final = {
    "fund": "wallet of the insurance fund; by asset if there are several",
    "fees": "wallet of the fee account",
    "dust": "wallet of the dust account: what rounding kept",
}
START: Final = "2026-01-01T00:00:00Z"
