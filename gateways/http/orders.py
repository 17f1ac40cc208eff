"""An account as this gateway follows it: its orders, legs and wallets, report by report.

Reads   the account view once, when somebody first asks for the account; reports from there on.
Writes  what happened, command by command, for the answer and for the user stream.
Never   is asked for figures that depend on the mark of another sequence: those come from the view.

Invariant: a report of a command that the view had already taken in is not applied again.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Any, Final, NamedTuple

from gateways.http.venue import Symbol
from shm.codes import (
    AlgoStatus,
    AlgoType,
    Kind,
    PositionSide,
    Reason,
    ReportKind,
    Side,
    Status,
    Stp,
    Tif,
    Type,
)
from shm.units import CLIENT_ID_BYTES

CLOSED_MAX: Final = 200  # ended orders an account is remembered with
TIF_WORDS: Final = {int(tif): tif.name for tif in Tif}
STATUS_WORDS: Final = {int(s): s.name for s in Status}
_NAME: Final = Struct("<5q")
SIDES: Final = {int(s): s.name for s in Side}
LEGS: Final = {int(p): p.name for p in PositionSide}
STPS: Final = {int(s): s.name for s in Stp}
TYPES: Final = {int(t): t.name for t in Type}
ALGO_TYPES: Final = {int(t): t.name for t in AlgoType}
WORKINGS: Final = ("CONTRACT_PRICE", "MARK_PRICE")
_ENDED: Final = (Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REJECTED)
# Members of enumerations as plain integers, for what every order goes through.
_NEW, _AMENDED, _EXPIRED = int(Status.NEW), int(Status.AMENDED), int(Status.EXPIRED)
_NOT_DONE: Final = (int(Status.REJECTED), int(Status.REFUSED))
_BY_BOOK: Final = (int(Reason.WOULD_TAKE), int(Reason.FOK_UNFILLED), int(Reason.BOOK_FULL))
_LIQUIDATION: Final = int(Kind.LIQUIDATION_ORDER)


def text_of(words: tuple[int, ...]) -> str:
    """A client id out of the words of a report."""
    return _NAME.pack(*words)[:CLIENT_ID_BYTES].rstrip(b"\0").decode("latin1")


def byte(word: int, k: int) -> int:
    """One of the eight codes in the last word of a report."""
    return (word >> (8 * k)) & 255


class Order:
    """An order, as far as its reports have told."""

    __slots__ = (
        *("order_id", "client_id", "symbol", "side", "type", "tif", "reduce_only", "stp", "leg"),
        *("price_ticks", "qty_lots", "open_lots", "quote", "expire_ms", "created_ms"),
        *("updated_ms", "status", "reason", "algo_id", "algo_type", "trigger_ticks", "working"),
        *("protect", "close_position", "activate_ticks", "callback_ppm", "price_match", "cause"),
    )

    def __init__(self, order_id: int, symbol: int) -> None:
        self.order_id = order_id
        self.client_id = ""
        self.symbol = symbol
        self.side = self.type = self.tif = self.stp = self.leg = 0
        self.reduce_only = False
        self.price_ticks = self.qty_lots = self.open_lots = self.quote = 0
        self.expire_ms = self.created_ms = self.updated_ms = 0
        self.status = int(Status.NEW)
        self.reason = 0
        self.algo_id = 0  # the conditional order it was
        self.algo_type = 0
        self.trigger_ticks = self.activate_ticks = self.callback_ppm = 0
        self.working = 0
        self.protect = self.close_position = False
        self.price_match = "NONE"
        self.cause = 0  # codes.Kind of the command that made it, where that wasn't a client's

    @property
    def executed_lots(self) -> int:
        return self.qty_lots - self.open_lots

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    @property
    def status_word(self) -> str:
        status = self.status
        if status == _NEW:
            return "NEW" if self.qty_lots == self.open_lots else "PARTIALLY_FILLED"
        if status == _EXPIRED and self.reason == Reason.SELF_TRADE:
            return "EXPIRED_IN_MATCH"
        if status == _EXPIRED and self.reason == Reason.COUNTDOWN:
            return "CANCELED"
        return STATUS_WORDS[status]

    @property
    def type_word(self) -> str:
        if self.cause == Kind.LIQUIDATION_ORDER:
            return "LIQUIDATION"
        return TYPES[self.type]

    @property
    def original_type(self) -> str:
        return ALGO_TYPES[self.algo_type] if self.algo_id else TYPES[self.type]

    @property
    def shown_price_ticks(self) -> int:
        """MARKET orders have no price, whatever was reckoned with."""
        return 0 if self.type == Type.MARKET else self.price_ticks

    @classmethod
    def of_view(cls, row: dict[str, Any]) -> Order:
        """An order out of the account view."""
        order = cls(row["order_id"], row["symbol"])
        order.client_id = row["client_id"]
        order.side, order.type, order.tif = row["side"], row["type"], row["tif"]
        order.reduce_only = bool(row["flags"] & 1)
        order.stp, order.leg = row["stp"], row["position_side"]
        order.price_ticks, order.qty_lots = row["price_ticks"], row["qty_lots"]
        order.open_lots, order.quote = row["open_lots"], row["quote_ticks_lots"]
        order.expire_ms = row["expire_ns"] // 1_000_000
        order.created_ms = row["created_ns"] // 1_000_000
        order.updated_ms = row["updated_ns"] // 1_000_000
        order.status, order.reason = row["status"], row["reason"]
        order.algo_id, order.algo_type = row["algo_id"], row["algo_type"]
        order.trigger_ticks = row["trigger_ticks"]
        order.working, order.protect = row["working"] & 1, bool(row["working"] & 2)
        order.close_position = bool(row["algo_flags"] & 128)
        return order


class Algo:
    """A conditional order."""

    __slots__ = (
        *("algo_id", "client_id", "symbol", "side", "type", "tif", "reduce_only", "stp", "leg"),
        *("price_ticks", "qty_lots", "trigger_ticks", "activate_ticks", "callback_ppm"),
        *("expire_ms", "created_ms", "updated_ms", "triggered_ms", "status", "reason", "order_id"),
        *("working", "protect", "close_position", "price_match", "classic"),
    )

    def __init__(self, algo_id: int, symbol: int) -> None:
        self.algo_id = algo_id
        self.client_id = ""
        self.symbol = symbol
        self.side = self.type = self.tif = self.stp = self.leg = 0
        self.reduce_only = self.protect = self.close_position = False
        self.price_ticks = self.qty_lots = self.trigger_ticks = 0
        self.activate_ticks = self.callback_ppm = self.working = 0
        self.expire_ms = self.created_ms = self.updated_ms = self.triggered_ms = 0
        self.status = int(AlgoStatus.NEW)
        self.reason = self.order_id = 0
        self.price_match = "NONE"
        self.classic: bool | None = None  # came through the order path; None: not looked up yet

    @property
    def status_word(self) -> str:
        return AlgoStatus(self.status).name

    @classmethod
    def of_view(cls, row: dict[str, Any]) -> Algo:
        """A conditional order out of the account view."""
        algo = cls(row["algo_id"], row["symbol"])
        algo.client_id = row["client_id"]
        algo.side, algo.type, algo.tif = row["side"], row["type"], row["tif"]
        algo.reduce_only = bool(row["flags"] & 1)
        algo.close_position = bool(row["flags"] & 128)
        algo.stp, algo.leg = row["stp"], row["position_side"]
        algo.price_ticks, algo.qty_lots = row["price_ticks"], row["qty_lots"]
        algo.trigger_ticks = row["trigger_ticks"]
        algo.activate_ticks, algo.callback_ppm = row["activate_ticks"], row["callback_ppm"]
        algo.working, algo.protect = row["working"] & 1, bool(row["working"] & 2)
        algo.expire_ms = row["expire_ns"] // 1_000_000
        algo.created_ms = row["created_ns"] // 1_000_000
        algo.updated_ms = row["updated_ns"] // 1_000_000
        algo.status, algo.reason, algo.order_id = row["status"], row["reason"], row["order_id"]
        if algo.order_id:
            algo.triggered_ms = algo.updated_ms
        return algo


class Leg:
    """A position: BOTH, LONG or SHORT of one symbol."""

    __slots__ = (
        *("entry_quanta", "isolated", "isolated_quanta", "leverage", "lots"),
        *("realised_quanta", "sunk_quanta"),
    )

    def __init__(self) -> None:
        self.lots = self.entry_quanta = self.realised_quanta = 0
        self.sunk_quanta = self.isolated_quanta = 0
        self.isolated = False
        self.leverage = 0


class Happening(NamedTuple):
    """Something an order's owner hears of, as it stood then."""

    what: str  # NEW, TRADE, CANCELED, EXPIRED, AMENDMENT, CALCULATED
    order: Order
    status: str
    executed_lots: int
    quote: int
    lots: int
    price_ticks: int
    trade_id: int
    fee_quanta: int
    realised_quanta: int
    maker: bool


class AlgoHappening(NamedTuple):
    """The same for a conditional order."""

    algo: Algo
    status: str


class Turn:
    """All that one command did to one account."""

    __slots__ = (
        *("cause", "happenings", "legs", "leverage", "seq", "ts_ms", "wallets", "warnings"),
    )

    def __init__(self, seq: int, ts_ns: int) -> None:
        self.seq = seq
        self.ts_ms = ts_ns // 1_000_000
        self.happenings: list[Happening | AlgoHappening] = []
        self.legs: set[tuple[int, int]] = set()
        self.wallets: dict[int, int] = {}  # asset -> change that is neither PnL nor fee
        self.cause = ""  # why the account changed, as ACCOUNT_UPDATE says it
        self.leverage: tuple[int, int] | None = None  # symbol, leverage
        self.warnings: list[tuple[int, ...]] = []


class AccountState:
    """One account, kept up to date by `apply`."""

    def __init__(self, account: int) -> None:
        self.account = account
        self.ready = False  # seeded from the view
        self.listened = True  # somebody may hear what happens
        self.seeded_seq = 0
        self.backlog: list[tuple[tuple[int, ...], int]] = []
        self.orders: dict[int, Order] = {}
        self.closed: deque[Order] = deque(maxlen=CLOSED_MAX)
        self.names: dict[str, Order] = {}
        self.algos: dict[int, Algo] = {}
        self.closed_algos: deque[Algo] = deque(maxlen=CLOSED_MAX)
        self.legs: dict[tuple[int, int], Leg] = {}
        self.wallets: dict[int, int] = {}
        self.hedge = False
        self.turn: Turn | None = None
        self._last: Order | Algo | None = None  # whose CLIENT_ID comes next
        self._becoming: dict[int, Algo] = {}  # order id -> the conditional order it was

    # ------------------------------------------------------------ from the view

    def seed(self, found: Any) -> None:
        """Take over what the view has (`gateways.accounts.client.Account`)."""
        self.seeded_seq = found.seq
        self.hedge = bool(found.row["position_mode"])
        self.orders = {row["order_id"]: Order.of_view(row) for row in found.orders}
        self.names = {order.client_id: order for order in self.orders.values()}
        self.algos = {row["algo_id"]: Algo.of_view(row) for row in found.algos}
        self.wallets = {asset: row["wallet_quanta"] for asset, row in found.wallets.items()}
        for row in found.positions:
            leg = self.leg(row["symbol"], row["position_side"])
            leg.lots, leg.entry_quanta = row["lots"], row["entry_quanta"]
            leg.realised_quanta, leg.sunk_quanta = row["realised_quanta"], row["sunk_quanta"]
            leg.isolated, leg.isolated_quanta = bool(row["isolated"]), row["isolated_quanta"]
            leg.leverage = row["leverage"]

    def leg(self, symbol: int, side: int) -> Leg:
        """A leg, made when it is first heard of."""
        found = self.legs.get((symbol, side))
        if found is None:
            found = self.legs[symbol, side] = Leg()
        return found

    # ------------------------------------------------------------ looking up

    def find(self, order_id: int | None, client_id: str | None) -> Order | None:
        """An order that lives, or ended not long ago; by id where both are given."""
        if order_id:
            found = self.orders.get(order_id)
            if found is not None:
                return found
            return next((o for o in reversed(self.closed) if o.order_id == order_id), None)
        if client_id:
            found = self.names.get(client_id)
            if found is not None:
                return found
            return next((o for o in reversed(self.closed) if o.client_id == client_id), None)
        return None

    def find_algo(self, algo_id: int | None, client_id: str | None) -> Algo | None:
        """The same for conditional orders."""
        every = (*self.algos.values(), *reversed(self.closed_algos))
        if algo_id:
            return next((a for a in every if a.algo_id == algo_id), None)
        return next((a for a in every if a.client_id == client_id), None) if client_id else None

    # ------------------------------------------------------------ reports

    def apply(self, report: tuple[int, ...], ts_ns: int) -> None:
        """One report about this account."""
        seq = report[0]
        if seq <= self.seeded_seq:
            return
        turn = self.turn
        if turn is None or turn.seq != seq:
            turn = self.turn = Turn(seq, ts_ns)
        apply = _APPLY.get(report[3])
        if apply is not None:
            apply(self, report, turn)

    def _order(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, status, _, _, order_id, price_ticks, open_lots, codes = r
        if status in _NOT_DONE:
            return
        order = self.orders.get(order_id)
        reason = byte(codes, 4)
        if order is None:
            order = self._new_order(order_id, symbol, codes, turn)
            order.qty_lots = open_lots
            if reason in _BY_BOOK:
                order.status, order.reason, order.open_lots = status, reason, open_lots
                return  # refused by the book: it is recorded nowhere
            self.orders[order_id] = order
        if status == _AMENDED:
            order.qty_lots = order.executed_lots + open_lots
        order.price_ticks, order.open_lots, order.reason = price_ticks, open_lots, reason
        order.updated_ms = turn.ts_ms
        self._last = order
        if status == _NEW:
            self._happen(turn, "NEW", order)
        elif status == _AMENDED:
            self._happen(turn, "AMENDMENT", order)
        else:
            order.status = status
            word = order.status_word
            self._happen(turn, "EXPIRED" if word == "EXPIRED_IN_MATCH" else word, order)
            self._close(order)

    def _new_order(self, order_id: int, symbol: int, codes: int, turn: Turn) -> Order:
        order = Order(order_id, symbol)
        order.side, order.type, order.tif, flags, _, order.leg, order.stp, order.cause = (
            codes.to_bytes(8, "little", signed=True)
        )
        order.reduce_only = flags & 1 == 1
        if order.cause == _LIQUIDATION:  # nobody named it; history calls it the same
            order.client_id = f"autoclose-{order_id}"
        order.created_ms = turn.ts_ms
        algo = self._becoming.pop(order_id, None) if self._becoming else None
        if algo is not None:
            self._inherit(order, algo)
        return order

    @staticmethod
    def _inherit(order: Order, algo: Algo) -> None:
        order.algo_id, order.algo_type = algo.algo_id, algo.type
        order.client_id = algo.client_id
        order.trigger_ticks, order.activate_ticks = algo.trigger_ticks, algo.activate_ticks
        order.callback_ppm, order.working = algo.callback_ppm, algo.working
        order.protect, order.close_position = algo.protect, algo.close_position

    def _close(self, order: Order) -> None:
        self.orders.pop(order.order_id, None)
        if self.names.get(order.client_id) is order:
            del self.names[order.client_id]
        self.closed.append(order)

    def _name(self, r: tuple[int, ...], _turn: Turn) -> None:
        last, name = self._last, text_of(r[6:11])
        if isinstance(last, Order) and last.order_id == r[5]:
            last.client_id = name
            if not last.ended:
                self.names[name] = last
        elif isinstance(last, Algo) and last.algo_id == r[5]:
            last.client_id = name

    def _exec(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, status, order_id, trade_id, price_ticks, lots, open_lots, fee = r
        leg = (status >> 5) & 3
        cause = (status >> 2) & 7
        order = self.orders.get(order_id) or self._outside(r, turn)
        order.open_lots = open_lots
        order.quote += price_ticks * lots
        order.updated_ms = turn.ts_ms
        if open_lots == 0:
            order.status = int(Status.FILLED)
        what = "TRADE" if cause == 0 and order.order_id else "CALCULATED"
        turn.happenings.append(
            Happening(
                what,
                order,
                order.status_word,
                order.executed_lots,
                order.quote,
                lots,
                price_ticks,
                trade_id,
                fee,
                0,
                not status & 1,
            )
        )
        turn.legs.add((symbol, leg))
        turn.cause = "ORDER"  # whatever margin moved for it
        if open_lots == 0 and order.order_id:
            self._close(order)

    def _outside(self, r: tuple[int, ...], turn: Turn) -> Order:
        """The order that a takeover, ADL or settlement trade would have been."""
        order = Order(r[5], r[2])
        status = r[4]
        order.side, order.leg = (status >> 1) & 1, (status >> 5) & 3
        order.tif = int(Tif.IOC)
        order.price_ticks, order.qty_lots = r[7], r[8] + r[9]
        order.reduce_only = True
        order.created_ms = turn.ts_ms
        word = {2: "autoclose-", 3: "adl_autoclose-", 4: "settlement_autoclose-"}
        prefix = word.get((status >> 2) & 7, "autoclose-")
        order.client_id = f"{prefix}{turn.seq}"[:CLIENT_ID_BYTES]
        return order

    def _position(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, status, _, lots, entry, realised, wallet, _ = r
        leg = self.leg(symbol, (status >> 5) & 3)
        leg.lots, leg.entry_quanta = lots, entry
        leg.realised_quanta += realised
        if turn.happenings and isinstance(turn.happenings[-1], Happening):
            turn.happenings[-1] = turn.happenings[-1]._replace(realised_quanta=realised)
        turn.legs.add((symbol, (status >> 5) & 3))
        self._wallet_of(symbol, wallet, turn)

    def _wallet_of(self, symbol: int, wallet: int, turn: Turn) -> None:
        asset = self.asset_of(symbol)
        self.wallets[asset] = wallet
        turn.wallets.setdefault(asset, 0)

    def asset_of(self, symbol: int) -> int:
        """Settlement asset of a symbol; the door says which (`Accounts`)."""
        return self.assets_by_symbol.get(symbol, 0)

    assets_by_symbol: dict[int, int] = {}

    def _margin(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, status, _, isolated_quanta, _, leverage, sunk, _ = r
        leg = self.leg(symbol, status & 3)
        leg.isolated, leg.isolated_quanta = bool(status & 4), isolated_quanta
        leg.leverage, leg.sunk_quanta = leverage, sunk
        turn.legs.add((symbol, status & 3))

    def _wallet(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, _, _, kind, asset, amount, wallet, _, _, _ = r
        self.wallets[asset] = wallet
        turn.wallets[asset] = turn.wallets.get(asset, 0) + amount
        turn.cause = "DEPOSIT" if kind == Kind.DEPOSIT else "WITHDRAW"

    def _move(self, r: tuple[int, ...], turn: Turn) -> None:
        _, account, symbol, _, move, amount, wallet, other, other_quanta, _, pocket = r
        asset = pocket & 0xFFFF
        self.wallets[asset] = wallet
        turn.wallets.setdefault(asset, 0)
        if move <= 1 and other == account:  # between the wallet and an isolated position
            side = (pocket >> 16) & 255
            self.leg(symbol, side).isolated_quanta = other_quanta
            turn.legs.add((symbol, side))
            turn.cause = turn.cause or "MARGIN_TRANSFER"
        else:
            turn.wallets[asset] += amount
            turn.cause = turn.cause or _MOVE_WORDS.get(move, "ADJUSTMENT")

    def _funding(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, status, _, _, _, _, amount, wallet = r
        turn.cause = "FUNDING_FEE"
        asset = self.asset_of(symbol)
        if status & 4:
            self.leg(symbol, status & 3).isolated_quanta = wallet
            turn.legs.add((symbol, status & 3))
        else:
            self.wallets[asset] = wallet
        turn.wallets[asset] = turn.wallets.get(asset, 0) + amount

    def _answer(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, kind, _, _, reason, value, _, _ = r
        if reason != Reason.NONE:
            return
        if kind == Kind.LEVERAGE:
            for side in PositionSide:
                self.leg(symbol, side).leverage = value
            turn.leverage = (symbol, value)
        elif kind == Kind.MARGIN_TYPE:
            for side in PositionSide:
                self.leg(symbol, side).isolated = bool(value)
            turn.legs.add((symbol, 0))
            turn.cause = "MARGIN_TYPE_CHANGE"
        elif kind == Kind.POSITION_MODE:
            self.hedge = bool(value)

    def _algo(self, r: tuple[int, ...], turn: Turn) -> None:
        _, _, symbol, _, status, algo_id, order_id, trigger, price, qty, codes = r
        algo = self.algos.get(algo_id)
        if algo is None:
            if status in (AlgoStatus.REFUSED, AlgoStatus.REJECTED):
                return  # an answer: there is no such order, or it never was one
            algo = self.algos[algo_id] = Algo(algo_id, symbol)
            algo.side, algo.type, algo.tif = byte(codes, 0), byte(codes, 1), byte(codes, 2)
            algo.reduce_only = bool(byte(codes, 3) & 1)
            algo.close_position = bool(byte(codes, 3) & 128)
            algo.leg, algo.stp = byte(codes, 5), byte(codes, 6)
            algo.working, algo.protect = byte(codes, 7) & 1, bool(byte(codes, 7) & 2)
            algo.created_ms = turn.ts_ms
        if status == AlgoStatus.REFUSED:
            return
        algo.trigger_ticks, algo.price_ticks, algo.qty_lots = trigger, price, qty
        algo.status, algo.reason, algo.updated_ms = status, byte(codes, 4), turn.ts_ms
        self._last = algo
        if order_id:
            algo.order_id, algo.triggered_ms = order_id, turn.ts_ms
            order = self.orders.get(order_id)
            if order is not None:
                self._inherit(order, algo)
            else:
                self._becoming[order_id] = algo
        turn.happenings.append(AlgoHappening(algo, algo.status_word))
        if status != AlgoStatus.NEW:
            self.algos.pop(algo_id, None)
            self.closed_algos.append(algo)

    def _trail(self, r: tuple[int, ...], _turn: Turn) -> None:
        algo = self.algos.get(r[5])
        if algo is not None:
            algo.activate_ticks, algo.callback_ppm = r[6], r[7]
            algo.expire_ms = r[8] // 1_000_000

    def _warning(self, r: tuple[int, ...], turn: Turn) -> None:
        turn.warnings.append(r)

    def _happen(self, turn: Turn, what: str, order: Order) -> None:
        if not self.listened:
            return
        executed, quote = order.qty_lots - order.open_lots, order.quote
        turn.happenings.append(
            Happening(what, order, order.status_word, executed, quote, 0, 0, 0, 0, 0, False)
        )


_MOVE_WORDS: Final = {
    2: "ASSET_TRANSFER",
    3: "INSURANCE_CLEAR",
    4: "INSURANCE_CLEAR",
    5: "INSURANCE_CLEAR",
    7: "ADJUSTMENT",
    8: "WITHDRAW",
    9: "WITHDRAW_REJECT",
    10: "WITHDRAW",
}
_APPLY: Final[dict[int, Any]] = {
    ReportKind.ORDER: AccountState._order,
    ReportKind.CLIENT_ID: AccountState._name,
    ReportKind.EXEC: AccountState._exec,
    ReportKind.POSITION: AccountState._position,
    ReportKind.MARGIN: AccountState._margin,
    ReportKind.WALLET: AccountState._wallet,
    ReportKind.MOVE: AccountState._move,
    ReportKind.FUNDING: AccountState._funding,
    ReportKind.ANSWER: AccountState._answer,
    ReportKind.ALGO: AccountState._algo,
    ReportKind.TRAIL: AccountState._trail,
    ReportKind.WARNING: AccountState._warning,
}
HEARD: Final = frozenset(int(kind) for kind in _APPLY)
__all__ = [
    "HEARD",
    "AccountState",
    "Algo",
    "AlgoHappening",
    "Happening",
    "Leg",
    "Order",
    "Symbol",
    "Turn",
]
