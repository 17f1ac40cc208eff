"""Stage 4 of 7, match: cross the commands risk let through against the books of one shard.

Reads   commands up to RISKED: their first line and what risk decided; NODE rows and levels.
Writes  MATCH records in its matches ring, in command order, the last of each command flagged;
        BOOK trade ids and last prices; the book itself, through engine/book.py.
Never   touches money. A record says who met whom at what price; settlement says what it costs.

A command may produce more records than the ring holds. Then the stage publishes what it has and
returns in mid-command; called again, it goes on at the same order. What that takes is little,
because the book itself is the state: a cancel of many finds the rest where it stopped, and a
half-matched order has its remainder in its NODE row. `matcher[TAKING]` names that command.

Rules a trader may rely on
    price first, then arrival; a fill has the maker's price
    an order of one's own account is met only when stp is NONE; otherwise the taker's stp decides
    FOK counts only what stp lets it trade; GTX looks at prices alone, whoever's they are
    an amend keeps its place only at the same price, for no more than is open, without TO_BACK
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.book import best_against, crosses, join_mine, leave_mine, link, unlink
from engine.prices import NO_ASK, NO_BID, READ_SEEN, TAKING, TAKING_JOINED, leaf_of, next_price
from engine.state import Books
from shm.arithmetic import below_zero, product_exceeds, wide
from shm.atomics import either, load_acquire, prefetch, store_release, unlikely
from shm.codes import Flag, Kind, MatchKind, NodeState, Reason, Route, Side, Stp, Tif, Type
from shm.cursors import RISKED
from shm.jit import apart, inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import NIL, NOTIONAL_QUANTA_MAX

_NO_MATCH: Final = int(Flag.NO_MATCH)
_TO_BACK: Final = int(Flag.TO_BACK)
_UPSERT: Final = int(Flag.UPSERT)
_REMAINING: Final = int(Flag.REMAINING)
_KEEP_QTY: Final = int(Flag.KEEP_QTY)
_OF_ONE_ORDER: Final = (
    (1 << Kind.AMEND) | (1 << Kind.CANCEL) | (1 << Kind.REDUCE) | (1 << Kind.EXPIRE)
)

# No step writes more records than this before it asks for room again: AMENDED and RESTED, or what a
# taker met and what became of it.
_STEP_RECORDS_MAX: Final = 2
IMPACT_LEVELS_MAX: Final = 256  # price levels a SAMPLE walks on each side, at most
MATCHES_MIN: Final = 2  # least capacity of a matches ring
_PUBLISH_EVERY: Final = 32  # commands between two looks of settlement at what is there

# How many commands ahead rows are asked for. With a million orders resting a row is a cache miss,
# and asking early takes a third off the cost of a command; with a thousand it costs nothing.
_AHEAD: Final = 4

# How taking ended.
_LEFT: Final = 0  # nothing more within the limit; open_lots of the taker are left, > 0
_OVER: Final = 1  # filled or expired, and said so
_PAUSED: Final = 2  # the ring is full


@inlined
def _room(cursors: Cells, read_cell: int, matcher: Cells, written: int, capacity: int) -> bool:
    """Whether the matches ring takes another step."""
    if written + _STEP_RECORDS_MAX - matcher[READ_SEEN] <= capacity:
        return True
    matcher[READ_SEEN] = load_acquire(cursors, read_cell)
    return written + _STEP_RECORDS_MAX - matcher[READ_SEEN] <= capacity


@inlined
def _write(
    r: Any,
    seq: int,
    symbol: int,
    slot: int,
    kind: int,
    reason: int,
    last: int,
    price_ticks: int,
    lots: int,
    open_lots: int,
) -> None:
    """One MATCH record that is not a fill."""
    r["seq"] = seq
    r["price_ticks"] = price_ticks
    r["lots"] = lots
    r["open_lots"] = open_lots
    r["maker_open_lots"] = 0
    r["trade_id"] = 0
    r["slot"] = slot
    r["maker"] = NIL
    r["symbol"] = symbol
    r["kind"] = kind
    r["reason"] = reason
    r["last"] = last


@kernel
def _can_fill(
    nodes: Rows,
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    symbol: int,
    side: int,
    account: int,
    limit_ticks: int,
    lots: int,
    stp: int,
) -> bool:
    """Whether an order of this size would be filled at once, down to the last lot."""
    rarely()
    row = symbol * 2 + 1 - side
    price = best_against(books, symbol, side)
    while crosses(price, side, limit_ticks):
        leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, row, price, 0)
        level = levels[leaf * 64 + (price & 63)]
        if stp == Stp.NONE:
            lots -= level["lots"]
        else:
            maker = level["first"]
            while maker != NIL and lots > 0:
                if nodes[maker]["account"] != account:
                    lots -= nodes[maker]["open_lots"]
                elif stp != Stp.EXPIRE_MAKER:
                    return False
                maker = nodes[maker]["next"]
        if lots <= 0:
            return True
        price = next_price(matcher, trie_bits, trie_children, leaf_bits, row, price)
    return False


@kernel
def _take(
    cursors: Cells,
    matches: Rows,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    mine: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    matches_mask: int,
    read_cell: int,
    seq: int,
    slot: int,
    limit_ticks: int,
    stp: int,
    written: int,
) -> tuple[int, int]:
    """Trade the order at `slot` with the other side while prices are within its limit.

    returns     (records written so far, _LEFT | _OVER | _PAUSED)
    """
    apart()
    o = nodes[slot]
    symbol = np.int64(o["symbol"])
    side = np.int64(o["side"])
    account = o["account"]
    left_lots = o["open_lots"]
    outcome = _LEFT
    price = best_against(books, symbol, side)
    while outcome == _LEFT and crosses(price, side, limit_ticks):
        if not _room(cursors, read_cell, matcher, written, matches_mask + 1):
            outcome = _PAUSED
            break
        leaf = leaf_of(
            matcher, trie_bits, trie_children, leaf_bits, symbol * 2 + 1 - side, price, 0
        )
        level = levels[leaf * 64 + (price & 63)]
        maker = np.int64(level["first"])
        m = nodes[maker]
        gone = True
        if stp != Stp.NONE and m["account"] == account:
            gone = stp != Stp.EXPIRE_TAKER
            if gone:
                _write(
                    matches[written & matches_mask],
                    seq,
                    symbol,
                    maker,
                    MatchKind.ENDED,
                    Reason.SELF_TRADE,
                    0,
                    0,
                    0,
                    m["open_lots"],
                )
                written += 1
            if stp != Stp.EXPIRE_MAKER:
                _write(
                    matches[written & matches_mask],
                    seq,
                    symbol,
                    slot,
                    MatchKind.ENDED,
                    Reason.SELF_TRADE,
                    1,
                    0,
                    0,
                    left_lots,
                )
                written += 1
                outcome = _OVER
        else:
            maker_lots = m["open_lots"]
            lots = min(left_lots, maker_lots)
            left_lots -= lots
            maker_lots -= lots
            m["open_lots"] = maker_lots
            m["filled_lots"] += lots
            level["lots"] -= lots
            gone = maker_lots == 0
            book = books[symbol]
            trade_id = book["trade_id"] + 1
            book["trade_id"] = trade_id
            book["last_ticks"] = price
            o["filled_lots"] += lots
            r = matches[written & matches_mask]
            r["seq"] = seq
            r["price_ticks"] = price
            r["lots"] = lots
            r["open_lots"] = left_lots
            r["maker_open_lots"] = maker_lots
            r["trade_id"] = trade_id
            r["slot"] = slot
            r["maker"] = maker
            r["symbol"] = symbol
            r["kind"] = MatchKind.FILL
            r["reason"] = Reason.NONE
            r["last"] = left_lots == 0
            written += 1
            if left_lots == 0:
                outcome = _OVER
        if gone:
            unlink(
                nodes,
                node_levels,
                books,
                trie_bits,
                trie_children,
                leaf_bits,
                levels,
                matcher,
                maker,
            )
            leave_mine(nodes, mine, maker)
            price = best_against(books, symbol, side)
    o["open_lots"] = left_lots
    return written, outcome


@kernel
def _cancel_all(
    cursors: Cells,
    matches: Rows,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    mine: Rows,
    mine_heads: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    matches_mask: int,
    read_cell: int,
    c: Any,
    written: int,
) -> tuple[int, bool]:
    """End the orders of an account in one symbol or all: by symbol, leg by leg, oldest first.

    finding 1: those of the command's position alone, not of other legs.

    returns     (records written so far, whether it is finished)
    """
    rarely()
    seq = c["seq"]
    row = np.int64(mine_heads[c["account"]])
    while row != NIL:
        if (c["symbol"] == NO_SYMBOL or c["symbol"] == mine[row]["symbol"]) and (
            c["finding"] == 0 or c["position"] == row
        ):
            while mine[row]["first"] != NIL:
                if not _room(cursors, read_cell, matcher, written, matches_mask + 1):
                    return written, False
                slot = np.int64(mine[row]["first"])
                unlink(
                    nodes,
                    node_levels,
                    books,
                    trie_bits,
                    trie_children,
                    leaf_bits,
                    levels,
                    matcher,
                    slot,
                )
                leave_mine(nodes, mine, slot)
                _write(
                    matches[written & matches_mask],
                    seq,
                    nodes[slot]["symbol"],
                    slot,
                    MatchKind.ENDED,
                    c["end_reason"],
                    0,
                    0,
                    0,
                    nodes[slot]["open_lots"],
                )
                written += 1
        row = np.int64(mine[row]["next_position"])
    if not _room(cursors, read_cell, matcher, written, matches_mask + 1):
        return written, False
    r = matches[written & matches_mask]
    _write(r, seq, c["symbol"], NIL, MatchKind.DONE, Reason.NONE, 1, 0, 0, 0)
    return written + 1, True


@kernel
def _cancel_symbol(
    cursors: Cells,
    matches: Rows,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    mine: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    matches_mask: int,
    read_cell: int,
    c: Any,
    written: int,
) -> tuple[int, bool]:
    """End every order of a book: bids from the best, oldest first, then asks.

    returns     (records written so far, whether it is finished)
    """
    rarely()
    seq = c["seq"]
    symbol = np.int64(c["symbol"])
    book = books[symbol]
    while True:
        if not _room(cursors, read_cell, matcher, written, matches_mask + 1):
            return written, False
        r = matches[written & matches_mask]
        written += 1
        side = Side.BUY if book["bid_orders"] > 0 else Side.SELL
        if side == Side.SELL and book["ask_orders"] == 0:
            _write(r, seq, symbol, NIL, MatchKind.DONE, Reason.NONE, 1, 0, 0, 0)
            return written, True
        price = best_against(books, symbol, 1 - side)
        row = symbol * 2 + side
        leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, row, price, 0)
        slot = np.int64(levels[leaf * 64 + (price & 63)]["first"])
        unlink(
            nodes, node_levels, books, trie_bits, trie_children, leaf_bits, levels, matcher, slot
        )
        leave_mine(nodes, mine, slot)
        _write(
            r,
            seq,
            symbol,
            slot,
            MatchKind.ENDED,
            c["end_reason"],
            0,
            0,
            0,
            nodes[slot]["open_lots"],
        )


@kernel
def _impact(
    books: Rows,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    symbol: int,
    side: int,
    notional: int,
) -> tuple[int, int]:
    """The average price of trading `notional` (ticks times lots) with the orders of `side`.

    It is notional * ticks / divisor, exactly: full levels of `lots` lots worth S, and at the last
    price p the rest of the notional, (notional - S) / p lots; so p * notional over
    lots * p + notional - S.

    returns     (ticks, divisor); (0, 0) when the side is too thin, or takes too many levels
    """
    rarely()
    lots = 0
    left = notional
    price = best_against(books, symbol, 1 - side)
    for _ in range(IMPACT_LEVELS_MAX):
        if left <= 0 or price in (NO_BID, NO_ASK):
            break
        row = symbol * 2 + side
        leaf = leaf_of(matcher, trie_bits, trie_children, leaf_bits, row, price, 0)
        here = levels[leaf * 64 + (price & 63)]["lots"]
        if product_exceeds(price, here, left - 1):
            if product_exceeds(lots, price, NOTIONAL_QUANTA_MAX):
                break
            return price, lots * price + left
        left -= price * here
        lots += here
        price = next_price(matcher, trie_bits, trie_children, leaf_bits, row, price)
    return 0, 0


@inlined
def _place(nodes: Rows, c: Any, slot: int) -> None:
    """Lay a new order into its row; it is not in the book yet."""
    o = nodes[slot]
    assert o["state"] != NodeState.LIVE
    assert c["decided_lots"] > 0
    o["order_id"] = c["decided_order_id"]
    o["price_ticks"] = c["limit_ticks"]
    o["open_lots"] = c["decided_lots"]
    o["filled_lots"] = 0
    o["account"] = c["account"]
    o["next"] = NIL
    o["prev"] = NIL
    o["mine_next"] = NIL
    o["mine_prev"] = NIL
    o["position"] = c["position"]
    o["symbol"] = c["symbol"]
    o["side"] = c["side"]
    o["state"] = NodeState.DEAD


@inlined
def _fetch_order(c: Any, nodes: Rows, node_levels: Cells) -> None:
    """Ask for the row of the order a command names."""
    # Asking for row NIL does no harm, and testing for it would cost more than it saves.
    slot = np.int64(c["slot"])
    prefetch(nodes, slot)
    prefetch(node_levels, slot)


@inlined
def _fetch_queue(c: Any, nodes: Rows, node_levels: Cells, levels: Rows) -> None:
    """Ask for the level and the neighbours of that order, whose row is here by now."""
    # Of what matching never sees, the slot is a row of another table, which may be the longer one.
    slot = max(np.int64(c["slot"]), 0) if c["route"] == Route.SHARD else 0
    o = nodes[slot]
    prefetch(levels, node_levels[slot])
    prefetch(nodes, np.int64(o["prev"]))
    prefetch(nodes, np.int64(o["next"]))


@kernel
def match_commands(
    cursors: Cells,
    commands: Rows,
    matches: Rows,
    nodes: Rows,
    node_levels: Cells,
    books: Rows,
    mine: Rows,
    mine_heads: Cells,
    trie_bits: Cells,
    trie_children: Cells,
    leaf_bits: Cells,
    levels: Rows,
    matcher: Cells,
    shard: int,
    shards: int,
    commands_mask: int,
    matches_mask: int,
    matched_cell: int,
    written_cell: int,
    read_cell: int,
    budget: int,
) -> int:
    """Match up to `budget` commands that risk has decided; stop early when the ring is full.

    commands        COMMAND[commands_mask + 1]
    matches         MATCH[matches_mask + 1], at least MATCHES_MIN
    matched_cell, written_cell, read_cell    of this shard, see shm/cursors.py
    returns         commands finished + records written; 0: nothing to do, or no room at all
    """
    first_seq = cursors[matched_cell] + 1
    seq = first_seq
    stop_seq = min(load_acquire(cursors, RISKED), seq + budget - 1)
    first_written = cursors[written_cell]
    written = first_written
    capacity = matches_mask + 1
    while seq <= stop_seq:
        if seq + _AHEAD <= stop_seq:
            ahead = commands[(seq + _AHEAD) & commands_mask]
            _fetch_order(ahead, nodes, node_levels)
            ahead = commands[(seq + _AHEAD // 2) & commands_mask]
            _fetch_queue(ahead, nodes, node_levels, levels)
        c = commands[seq & commands_mask]
        symbol = np.int64(c["symbol"])
        route = c["route"]
        if unlikely(
            route == Route.NOWHERE
            or (route == Route.SHARD and shards != 1 and symbol % shards != shard)
        ):
            seq += 1
            continue
        if unlikely(not _room(cursors, read_cell, matcher, written, capacity)):
            break
        assert c["seq"] == seq
        kind = c["kind"]
        slot = np.int64(c["slot"])
        enter = False  # the order at `slot`, out of the book, goes for the other side and rests
        joined = False  # it is in its account's list
        resumed = False
        amended = NIL  # where its AMENDED is, the newest record
        if unlikely(matcher[TAKING] == seq):
            enter = True
            resumed = True
            joined = matcher[TAKING_JOINED] == 1
        elif (_OF_ONE_ORDER >> np.int64(kind)) & 1 != 0:
            live = (
                slot != NIL
                and nodes[slot]["state"] == NodeState.LIVE
                and nodes[slot]["order_id"] == c["decided_order_id"]
            )
            r = matches[written & matches_mask]
            written += 1
            flags = np.int64(c["flags"])
            open_lots = c["decided_lots"]  # after an amend
            amends = wide(kind == Kind.AMEND)
            reason = either(amends, wide(c["end_reason"]), Reason.AMENDED_AWAY)  # if none are left
            refused = not live
            if live:
                # Of whatever else there is, decided_lots is what shall come off; 0: all of it.
                o = nodes[slot]
                was_lots = o["open_lots"]
                fewer_lots = either(below_zero(-open_lots), 0, was_lots - open_lots)
                filled_lots = either(wide(flags & _REMAINING != 0), o["filled_lots"], 0)
                kept = wide(flags & _KEEP_QTY != 0)
                open_lots = either(kept, open_lots - filled_lots, was_lots)
                open_lots = either(amends, fewer_lots, open_lots)
            elif (
                amends != 0
                and flags & _UPSERT != 0
                and slot != NIL
                and open_lots > 0
                and nodes[slot]["state"] != NodeState.LIVE
            ):
                # A row that settlement has not given away yet keeps what it had filled.
                filled_lots = nodes[slot]["filled_lots"]
                same = nodes[slot]["order_id"] == c["decided_order_id"]
                _place(nodes, c, slot)
                nodes[slot]["filled_lots"] = filled_lots if same else 0
                enter = True
                refused = False
            if unlikely(refused):
                _write(r, seq, symbol, slot, MatchKind.REFUSED, Reason.NONE, 1, 0, 0, 0)
            elif live:
                o = nodes[slot]
                was_lots = o["open_lots"]
                moves = (
                    (c["limit_ticks"] != o["price_ticks"])
                    | (open_lots > was_lots)
                    | (flags & _TO_BACK != 0)
                )
                # Kept as one number: asked for one after the other, each is a toss.
                if either(amends & wide(moves), below_zero(-open_lots), 0) != 0:
                    levels[node_levels[slot]]["lots"] -= was_lots - open_lots
                    o["open_lots"] = open_lots
                    _write(
                        r,
                        seq,
                        symbol,
                        slot,
                        MatchKind.AMENDED,
                        Reason.NONE,
                        1,
                        o["price_ticks"],
                        o["filled_lots"] + open_lots,
                        open_lots,
                    )
                else:
                    unlink(
                        nodes,
                        node_levels,
                        books,
                        trie_bits,
                        trie_children,
                        leaf_bits,
                        levels,
                        matcher,
                        slot,
                    )
                    if open_lots <= 0:
                        leave_mine(nodes, mine, slot)
                        _write(r, seq, symbol, slot, MatchKind.ENDED, reason, 1, 0, 0, was_lots)
                    else:
                        enter = True
                        joined = True
            if enter:
                o = nodes[slot]
                o["price_ticks"] = c["limit_ticks"]
                o["open_lots"] = open_lots
                amended = written
                _write(
                    r,
                    seq,
                    symbol,
                    slot,
                    MatchKind.AMENDED,
                    Reason.NONE,
                    0,
                    c["limit_ticks"],
                    o["filled_lots"] + open_lots,
                    open_lots,
                )
        elif kind == Kind.PLACE or kind == Kind.TRIGGER or kind == Kind.LIQUIDATION_ORDER:
            _place(nodes, c, slot)
            enter = True
        elif kind == Kind.CANCEL_ALL:
            written, finished = _cancel_all(
                cursors,
                matches,
                nodes,
                node_levels,
                books,
                mine,
                mine_heads,
                trie_bits,
                trie_children,
                leaf_bits,
                levels,
                matcher,
                matches_mask,
                read_cell,
                c,
                written,
            )
            if not finished:
                break
        elif kind == Kind.CANCEL_SYMBOL:
            written, finished = _cancel_symbol(
                cursors,
                matches,
                nodes,
                node_levels,
                books,
                mine,
                trie_bits,
                trie_children,
                leaf_bits,
                levels,
                matcher,
                matches_mask,
                read_cell,
                c,
                written,
            )
            if not finished:
                break
        elif kind == Kind.SAMPLE:
            notional = c["decided_lots"]
            book = books[symbol]
            r = matches[written & matches_mask]
            _write(
                r,
                seq,
                symbol,
                NIL,
                MatchKind.BOOK,
                Reason.NONE,
                0,
                book["best_bid"],
                book["best_ask"],
                0,
            )
            bid, bid_divisor = _impact(
                books,
                trie_bits,
                trie_children,
                leaf_bits,
                levels,
                matcher,
                symbol,
                Side.BUY,
                notional,
            )
            ask, ask_divisor = _impact(
                books,
                trie_bits,
                trie_children,
                leaf_bits,
                levels,
                matcher,
                symbol,
                Side.SELL,
                notional,
            )
            r = matches[(written + 1) & matches_mask]
            _write(
                r,
                seq,
                symbol,
                NIL,
                MatchKind.IMPACT,
                Reason.NONE,
                1,
                bid,
                bid_divisor,
                ask,
            )
            r["maker_open_lots"] = ask_divisor
            r["trade_id"] = notional
            written += 2
        else:
            r = matches[written & matches_mask]
            _write(r, seq, symbol, NIL, MatchKind.DONE, Reason.NONE, 1, 0, 0, 0)
            written += 1

        if enter:
            side = np.int64(nodes[slot]["side"])
            limit = c["limit_ticks"]
            tif = c["order_tif"]
            no_match = c["flags"] & _NO_MATCH != 0
            market = (kind == Kind.PLACE or kind == Kind.TRIGGER) and c["type"] == Type.MARKET
            ended = np.int64(Reason.NONE)
            outcome = _LEFT
            if not no_match and crosses(best_against(books, symbol, side), side, limit):
                if tif == Tif.GTX:
                    ended = np.int64(Reason.WOULD_TAKE)
                elif (
                    tif == Tif.FOK
                    and not resumed
                    and not _can_fill(
                        nodes,
                        books,
                        trie_bits,
                        trie_children,
                        leaf_bits,
                        levels,
                        matcher,
                        symbol,
                        side,
                        c["account"],
                        limit,
                        nodes[slot]["open_lots"],
                        c["order_stp"],
                    )
                ):
                    ended = np.int64(Reason.FOK_UNFILLED)
                else:
                    written, outcome = _take(
                        cursors,
                        matches,
                        nodes,
                        node_levels,
                        books,
                        mine,
                        trie_bits,
                        trie_children,
                        leaf_bits,
                        levels,
                        matcher,
                        matches_mask,
                        read_cell,
                        seq,
                        slot,
                        limit,
                        c["order_stp"],
                        written,
                    )
            if unlikely(outcome == _PAUSED):
                matcher[TAKING] = seq
                matcher[TAKING_JOINED] = joined
                break
            if unlikely(resumed):
                matcher[TAKING] = 0
            if outcome == _LEFT:
                open_lots = nodes[slot]["open_lots"]
                if ended == Reason.NONE and not no_match:
                    if tif == Tif.FOK:
                        ended = np.int64(Reason.FOK_UNFILLED)
                    elif market:
                        ended = np.int64(Reason.MARKET_REMAINDER)
                    elif tif == Tif.IOC:
                        ended = np.int64(Reason.IOC_REMAINDER)
                if ended == Reason.NONE and not link(
                    nodes,
                    node_levels,
                    books,
                    trie_bits,
                    trie_children,
                    leaf_bits,
                    levels,
                    matcher,
                    slot,
                    symbol,
                    side,
                    limit,
                    open_lots,
                ):
                    ended = np.int64(Reason.BOOK_FULL)
                if ended == Reason.NONE:
                    if not joined:
                        join_mine(
                            nodes,
                            mine,
                            mine_heads,
                            slot,
                            np.int64(c["position"]),
                            np.int64(c["account"]),
                            symbol,
                        )
                    if amended == written:
                        # It has met nobody: its AMENDED, which nobody has seen yet, says it all.
                        matches[(written - 1) & matches_mask]["last"] = 1
                    else:
                        r = matches[written & matches_mask]
                        written += 1
                        _write(
                            r,
                            seq,
                            symbol,
                            slot,
                            MatchKind.RESTED,
                            Reason.NONE,
                            1,
                            limit,
                            0,
                            open_lots,
                        )
                else:
                    r = matches[written & matches_mask]
                    written += 1
                    if joined:
                        leave_mine(nodes, mine, slot)
                    _write(r, seq, symbol, slot, MatchKind.ENDED, ended, 1, 0, 0, open_lots)
            elif joined:
                leave_mine(nodes, mine, slot)
        seq += 1
        if seq % _PUBLISH_EVERY == 0:
            store_release(cursors, written_cell, written)
            store_release(cursors, matched_cell, seq - 1)
    work = seq - first_seq + written - first_written
    if work != 0:
        store_release(cursors, written_cell, written)
        store_release(cursors, matched_cell, seq - 1)
    return work


@kernel
def match_shard(
    cursors: Cells,
    commands: Rows,
    matches: Rows,
    b: Books,
    shard: int,
    shards: int,
    commands_mask: int,
    matches_mask: int,
    matched_cell: int,
    written_cell: int,
    read_cell: int,
    budget: int,
) -> int:
    """match_commands for a caller in Python."""
    return match_commands(
        cursors,
        commands,
        matches,
        b.nodes,
        b.node_levels,
        b.books,
        b.mine,
        b.mine_heads,
        b.trie_bits,
        b.trie_children,
        b.leaf_bits,
        b.levels,
        b.matcher,
        shard,
        shards,
        commands_mask,
        matches_mask,
        matched_cell,
        written_cell,
        read_cell,
        budget,
    )
