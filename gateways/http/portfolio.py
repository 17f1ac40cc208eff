"""Accounts, balances, positions and settings as the dialect shows them.

Reads   the account view at one sequence: wallets, positions and marks of the same instant.
Never   rounds in the client's favour: margins up, available down, as risk does.

    margin of a position    its notional at mark (at cost before the first) / leverage, up
    need of a position      max(margin + holds that increase it, holds of the other side) + apart
    available               cross wallet - set aside + unrealised of cross positions - needs
    can be withdrawn        no more than that, and than leaves maintenance margin without profit

The formulas are those of shm/margin.py; tests/unit/test_http_figures.py compares the two.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateways.accounts.client import Account, AccountView, Row
from gateways.accounts.figures import figures_of as figures_of_tables
from gateways.http.decimals import rounded
from gateways.http.errors import ApiError
from gateways.http.gate import Call
from gateways.http.orders import LEGS
from gateways.http.shapes import Json
from gateways.http.venue import Symbol, Venue
from gateways.scales import decimal_text
from shm.codes import PositionSide, State
from shm.units import PPM

BIG: Final = 1 << 61
NO_LIMIT: Final = 9_223_372_036


def div_up(value: int, by: int) -> int:
    return -(-value // by)


class Figures(NamedTuple):
    """Of one position row at the mark, in quanta."""

    notional: int  # signed
    unrealised: int
    initial: int
    maintenance: int


def figures_of(position: Row, symbol: Row, brackets: list[Row]) -> Figures:
    """What a position is worth and needs."""
    lots, entry, mark = position["lots"], position["entry_quanta"], symbol["mark_ticks"]
    leverage = max(position["leverage"], 1)
    if lots == 0:
        return Figures(0, 0, 0, 0)
    value = abs(lots) * symbol["tick_lot_quanta"] * mark if mark else abs(entry)
    value = min(value, BIG)
    signed = value if lots > 0 else -value
    unrealised = signed - entry if mark else 0
    return Figures(signed, unrealised, div_up(value, leverage), maintenance_of(brackets, value))


def maintenance_of(brackets: list[Row], notional: int) -> int:
    """Maintenance margin of a notional; an edge belongs to the bracket below it."""
    if not brackets:
        return 0
    found = brackets[-1]
    for bracket in brackets:
        if notional <= bracket["cap_quanta"]:
            found = bracket
            break
    return div_up(notional * found["maintenance_ppm"], PPM) - found["amount_quanta"]


def notional_allowed(brackets: list[Row], leverage: int) -> int:
    """Largest notional at a leverage; 2^61, no limit, without brackets."""
    allowed = 0 if brackets else BIG
    for bracket in brackets:
        if bracket["leverage_max"] < leverage:
            break
        allowed = bracket["cap_quanta"]
    return allowed


def need_of(position: Row, figures: Figures) -> int:
    """What a position and its orders need of the cross wallet at worst."""
    lots, hold = position["lots"], position["hold_quanta"]
    sells, apart = position["hold_sell_quanta"], position["hold_apart_quanta"]
    buys = hold - sells - apart
    margin = own_margin(position, figures)
    if lots > 0:
        buys += margin
    else:
        sells += margin
    need = max(buys, sells) + apart
    return need - margin if position["isolated"] else need


def own_margin(position: Row, figures: Figures) -> int:
    """Margin that stands behind a position; of an isolated one no more than its wallet has."""
    if not position["isolated"]:
        return figures.initial
    return max(min(figures.initial, position["isolated_quanta"] + figures.unrealised), 0)


class Wallet:
    """One asset of an account: its wallets, and the sums over its positions."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.cross: int = row["wallet_quanta"]
        self.isolated = self.unrealised = self.cross_unrealised = 0
        self.initial = self.maintenance = 0
        self.orders = 0  # what orders need beyond the margin of positions
        self.available: int = self.cross - row["pending_quanta"]
        self.floor: int = self.available

    def add(self, position: Row, figures: Figures) -> None:
        need = need_of(position, figures)
        self.unrealised += figures.unrealised
        self.initial += figures.initial
        self.maintenance += figures.maintenance
        self.available -= need
        if position["isolated"]:
            self.isolated += position["isolated_quanta"]
            self.orders += need
            self.floor -= need
        else:
            self.cross_unrealised += figures.unrealised
            self.orders += need - figures.initial
            self.available += figures.unrealised
            self.floor -= figures.maintenance

    @property
    def wallet(self) -> int:
        return self.cross + self.isolated

    @property
    def margin(self) -> int:
        return self.wallet + self.unrealised

    @property
    def free(self) -> int:
        """What new orders may hold."""
        return max(self.available, 0)

    @property
    def withdrawable(self) -> int:
        return max(min(self.available, self.floor), 0)


class Portfolio:
    """An account's positions and wallets with their figures, as of one sequence."""

    def __init__(self, account: Account, view: AccountView, venue: Venue) -> None:
        self.account = account
        self.venue = venue
        self.wallets = {asset: Wallet(row) for asset, row in account.wallets.items()}
        self.positions: list[tuple[Row, Symbol, Figures]] = []
        self.brackets = {index: view.brackets(index) for index in account.symbols}
        for position in account.positions:
            index = position["symbol"]
            if index not in venue.by_index:
                continue
            row = account.symbols[index]
            figures = figures_of(position, row, self.brackets[index])
            self.positions.append((position, venue.at(index), figures))
            self.wallets[row["asset"]].add(position, figures)
        self.reckoned = figures_of_tables(account.tables).positions

    def shown_wallets(self) -> list[tuple[Row, Wallet]]:
        """Assets that exist, with their wallets."""
        return [
            (row, self.wallets[asset])
            for asset, row in sorted(self.venue.assets.items())
            if asset in self.wallets
        ]

    def liquidation(self, position: Row) -> int:
        """Liquidation price in ticks at the marks of this sequence; 0: none."""
        found = self.reckoned.get((position["symbol"], position["position_side"]))
        return 0 if found is None else found.liquidation_ticks  # none: it never had a position

    def mark(self, position: Row) -> int:
        return int(self.account.symbols[position["symbol"]]["mark_ticks"])

    def updated_ms(self, row: Row) -> int:
        """A real time, always: clients skip what has none."""
        return max(row["updated_ns"], self.account.row["opened_ns"]) // 1_000_000


async def portfolio(call: Call) -> Portfolio:
    """The caller's portfolio, its own acknowledged writes included."""
    account = await call.gate.account(call.account)
    return Portfolio(account, call.gate.view(), call.gate.venue)


# ---------------------------------------------------------------- balances


async def balance(call: Call) -> list[Json]:
    """GET /fapi/v2/balance, v3."""
    held = await portfolio(call)
    found = []
    for asset, wallet in held.shown_wallets():
        scale = asset["scale"]
        found.append(
            {
                "accountAlias": f"pc{call.account}",
                "asset": asset["name"],
                "balance": decimal_text(wallet.wallet, scale),
                "crossWalletBalance": decimal_text(wallet.cross, scale),
                "crossUnPnl": decimal_text(wallet.cross_unrealised, scale),
                "availableBalance": decimal_text(wallet.free, scale),
                "maxWithdrawAmount": decimal_text(wallet.withdrawable, scale),
                "marginAvailable": True,
                "updateTime": held.updated_ms(wallet.row),
            }
        )
    return found


def _assets(held: Portfolio) -> list[Json]:
    found = []
    for asset, wallet in held.shown_wallets():
        scale = asset["scale"]
        found.append(
            {
                "asset": asset["name"],
                "walletBalance": decimal_text(wallet.wallet, scale),
                "unrealizedProfit": decimal_text(wallet.unrealised, scale),
                "marginBalance": decimal_text(wallet.margin, scale),
                "maintMargin": decimal_text(wallet.maintenance, scale),
                "initialMargin": decimal_text(wallet.initial + wallet.orders, scale),
                "positionInitialMargin": decimal_text(wallet.initial, scale),
                "openOrderInitialMargin": decimal_text(wallet.orders, scale),
                "crossWalletBalance": decimal_text(wallet.cross, scale),
                "crossUnPnl": decimal_text(wallet.cross_unrealised, scale),
                "availableBalance": decimal_text(wallet.free, scale),
                "maxWithdrawAmount": decimal_text(wallet.withdrawable, scale),
                "updateTime": held.updated_ms(wallet.row),
            }
        )
    return found


def _totals(held: Portfolio) -> Json:
    """Sums; in single-asset mode those of the one settlement asset."""
    shown = held.shown_wallets()
    if not shown:
        raise ApiError(-1001)
    asset, wallet = shown[0]
    scale = asset["scale"]
    return {
        "totalInitialMargin": decimal_text(wallet.initial + wallet.orders, scale),
        "totalMaintMargin": decimal_text(wallet.maintenance, scale),
        "totalWalletBalance": decimal_text(wallet.wallet, scale),
        "totalUnrealizedProfit": decimal_text(wallet.unrealised, scale),
        "totalMarginBalance": decimal_text(wallet.margin, scale),
        "totalPositionInitialMargin": decimal_text(wallet.initial, scale),
        "totalOpenOrderInitialMargin": decimal_text(wallet.orders, scale),
        "totalCrossWalletBalance": decimal_text(wallet.cross, scale),
        "totalCrossUnPnl": decimal_text(wallet.cross_unrealised, scale),
        "availableBalance": decimal_text(wallet.free, scale),
        "maxWithdrawAmount": decimal_text(wallet.withdrawable, scale),
    }


async def account_v3(call: Call) -> Json:
    """GET /fapi/v3/account: only symbols with a position or an order."""
    held = await portfolio(call)
    positions = [
        {
            "symbol": symbol.name,
            "positionSide": LEGS[p["position_side"]],
            "positionAmt": symbol.scale.qty(p["lots"]),
            "unrealizedProfit": symbol.scale.money(f.unrealised),
            "isolatedMargin": symbol.scale.money(_isolated_margin(p, f)),
            "notional": symbol.scale.money(f.notional),
            "isolatedWallet": symbol.scale.money(p["isolated_quanta"]),
            "initialMargin": symbol.scale.money(f.initial + p["hold_quanta"]),
            "maintMargin": symbol.scale.money(f.maintenance),
            "updateTime": held.updated_ms(p),
        }
        for p, symbol, f in held.positions
        if p["lots"] or p["open_orders"]
    ]
    return {**_totals(held), "assets": _assets(held), "positions": positions}


def _isolated_margin(position: Row, figures: Figures) -> int:
    return position["isolated_quanta"] + figures.unrealised if position["isolated"] else 0


async def account_v2(call: Call) -> Json:
    """GET /fapi/v2/account: positions of all symbols."""
    held = await portfolio(call)
    state = held.account.row["state"]
    trading = state == State.TRADING
    positions = []
    for symbol, p, f in _every_leg(held):
        scale = symbol.scale
        positions.append(
            {
                "symbol": symbol.name,
                "initialMargin": scale.money(f.initial + p["hold_quanta"]),
                "maintMargin": scale.money(f.maintenance),
                "unrealizedProfit": scale.money(f.unrealised),
                "positionInitialMargin": scale.money(f.initial),
                "openOrderInitialMargin": scale.money(p["hold_quanta"]),
                "leverage": str(p["leverage"]),
                "isolated": bool(p["isolated"]),
                "entryPrice": entry_price(p, symbol),
                "breakEvenPrice": break_even_price(p, symbol),
                "maxNotional": _max_notional(call, symbol, p["leverage"]),
                "bidNotional": "0",
                "askNotional": "0",
                "positionSide": LEGS[p["position_side"]],
                "positionAmt": scale.qty(p["lots"]),
                "notional": scale.money(f.notional),
                "isolatedWallet": scale.money(p["isolated_quanta"]),
                "updateTime": held.updated_ms(p),
            }
        )
    return {
        "feeTier": 0,
        "feeBurn": False,
        "canTrade": trading,
        "canDeposit": True,
        "canWithdraw": trading,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
        **_totals(held),
        "assets": [{**asset, "marginAvailable": True} for asset in _assets(held)],
        "positions": positions,
    }


def _every_leg(held: Portfolio) -> list[tuple[Symbol, Row, Figures]]:
    """A row for every symbol and leg of the account's mode, whether it ever was used or not."""
    hedge = bool(held.account.row["position_mode"])
    legs = (PositionSide.LONG, PositionSide.SHORT) if hedge else (PositionSide.BOTH,)
    known = {(p["symbol"], p["position_side"]): (s, p, f) for p, s, f in held.positions}
    found = []
    for index, symbol in sorted(held.venue.by_index.items()):
        for leg in legs:
            row = known.get((index, leg))
            if row is None:
                like = known.get((index, PositionSide.BOTH))
                row = (symbol, _nothing(index, leg, symbol, like[1] if like else None), _NO_FIGURES)
            found.append(row)
    return found


_NO_FIGURES: Final = Figures(0, 0, 0, 0)


def _nothing(index: int, leg: int, symbol: Symbol, like: Row | None) -> Row:
    """The row of a position nobody opened; `like`: another leg, for its settings."""
    return {
        "symbol": index,
        "position_side": int(leg),
        "lots": 0,
        "entry_quanta": 0,
        "lights": 0,
        "sunk_quanta": 0,
        "hold_quanta": 0,
        "hold_sell_quanta": 0,
        "hold_apart_quanta": 0,
        "open_orders": 0,
        "isolated": like["isolated"] if like else 0,
        "isolated_quanta": 0,
        "leverage": like["leverage"] if like else symbol.row["leverage_default"],
        "liquidation_ticks": 0,
        "updated_ns": 0,
    }


def entry_price(position: Row, symbol: Symbol) -> str:
    """Average entry price, towards zero."""
    return _cost_price(position["entry_quanta"], position["lots"], symbol)


def break_even_price(position: Row, symbol: Symbol) -> str:
    """Where closing wins back cost and fees, less what parts of it have won already."""
    return _cost_price(position["entry_quanta"] + position["sunk_quanta"], position["lots"], symbol)


def _cost_price(quanta: int, lots: int, symbol: Symbol) -> str:
    scale = symbol.scale
    if lots == 0:
        return "0.0"
    return rounded(
        quanta * scale.price_unit, lots * scale.tick_lot_quanta * 10**scale.price_decimals, 8
    )


def _max_notional(call: Call, symbol: Symbol, leverage: int) -> str:
    allowed = notional_allowed(call.gate.view().brackets(symbol.index), leverage)
    return whole(allowed, symbol)


def whole(quanta: int, symbol: Symbol) -> str:
    """Money without a fraction where it has none; no limit is shown as a large one."""
    if quanta == BIG:
        return str(NO_LIMIT)
    text = symbol.scale.money(quanta)
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---------------------------------------------------------------- positions


async def position_risk_v3(call: Call) -> list[Json]:
    """GET /fapi/v3/positionRisk: only symbols with a position or an order."""
    wanted = call.symbol_index()
    held = await portfolio(call)
    found = []
    for p, symbol, f in held.positions:
        if wanted not in (None, p["symbol"]) or not (p["lots"] or p["open_orders"]):
            continue
        scale = symbol.scale
        found.append(
            {
                "symbol": symbol.name,
                "positionSide": LEGS[p["position_side"]],
                "positionAmt": scale.qty(p["lots"]),
                "entryPrice": entry_price(p, symbol),
                "breakEvenPrice": break_even_price(p, symbol),
                "markPrice": scale.price(held.mark(p)),
                "unRealizedProfit": scale.money(f.unrealised),
                "liquidationPrice": scale.price(held.liquidation(p)),
                "isolatedMargin": scale.money(_isolated_margin(p, f)),
                "notional": scale.money(f.notional),
                "marginAsset": symbol.asset,
                "isolatedWallet": scale.money(p["isolated_quanta"]),
                "initialMargin": scale.money(f.initial + p["hold_quanta"]),
                "maintMargin": scale.money(f.maintenance),
                "positionInitialMargin": scale.money(f.initial),
                "openOrderInitialMargin": scale.money(p["hold_quanta"]),
                "adl": p["lights"],
                "bidNotional": "0",
                "askNotional": "0",
                "updateTime": held.updated_ms(p),
            }
        )
    return found


async def position_risk_v2(call: Call) -> list[Json]:
    """GET /fapi/v2/positionRisk: all symbols."""
    wanted = call.symbol_index()
    held = await portfolio(call)
    found = []
    for symbol, p, f in _every_leg(held):
        if wanted not in (None, symbol.index):
            continue
        scale = symbol.scale
        found.append(
            {
                "symbol": symbol.name,
                "positionAmt": scale.qty(p["lots"]),
                "entryPrice": entry_price(p, symbol),
                "breakEvenPrice": break_even_price(p, symbol),
                "markPrice": scale.price(symbol.row["mark_ticks"]),
                "unRealizedProfit": scale.money(f.unrealised),
                "liquidationPrice": scale.price(held.liquidation(p)),
                "leverage": str(p["leverage"]),
                "maxNotionalValue": _max_notional(call, symbol, p["leverage"]),
                "marginType": "isolated" if p["isolated"] else "cross",
                "isolatedMargin": scale.money(_isolated_margin(p, f)),
                "isAutoAddMargin": "false",
                "positionSide": LEGS[p["position_side"]],
                "notional": scale.money(f.notional),
                "isolatedWallet": scale.money(p["isolated_quanta"]),
                "updateTime": held.updated_ms(p),
            }
        )
    return found


async def adl_quantiles(call: Call) -> list[Json]:
    """GET /fapi/v1/adlQuantile: the fifth of its side's ADL queue a position is in, 4 is first."""
    wanted = call.symbol_index()
    held = await portfolio(call)
    by_symbol: dict[str, dict[str, int]] = {}
    for p, symbol, _ in held.positions:
        if p["lots"] and wanted in (None, p["symbol"]):
            legs = by_symbol.setdefault(symbol.name, {"LONG": 0, "SHORT": 0})
            leg = LEGS[p["position_side"]]
            legs[leg] = p["lights"]
            if leg == "BOTH":
                legs["LONG" if p["lots"] > 0 else "SHORT"] = legs["BOTH"]
            elif not p["isolated"]:
                legs["HEDGE"] = 0
    for legs in by_symbol.values():
        if "HEDGE" not in legs:
            legs.setdefault("BOTH", 0)
    return [{"symbol": name, "adlQuantile": legs} for name, legs in by_symbol.items()]


# ---------------------------------------------------------------- settings, as they stand


async def account_config(call: Call) -> Json:
    """GET /fapi/v1/accountConfig."""
    account = await call.gate.account(call.account)
    trading = account.row["state"] == State.TRADING
    return {
        "feeTier": 0,
        "canTrade": trading,
        "canDeposit": True,
        "canWithdraw": trading,
        "dualSidePosition": bool(account.row["position_mode"]),
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


async def symbol_config(call: Call) -> list[Json]:
    """GET /fapi/v1/symbolConfig."""
    wanted = call.symbol_index()
    held = await portfolio(call)
    seen: dict[int, Json] = {}
    for symbol, p, _ in _every_leg(held):
        if wanted in (None, symbol.index) and symbol.index not in seen:
            seen[symbol.index] = {
                "symbol": symbol.name,
                "marginType": "ISOLATED" if p["isolated"] else "CROSSED",
                "isAutoAddMargin": False,
                "leverage": p["leverage"],
                "maxNotionalValue": _max_notional(call, symbol, p["leverage"]),
            }
    return list(seen.values())


async def leverage_brackets(call: Call) -> list[Json]:
    """GET /fapi/v1/leverageBracket."""
    wanted = call.symbol_index()
    view = await call.gate.fresh_view()
    return [
        {"symbol": symbol.name, "notionalCoef": 1.0, "brackets": bracket_rows(view, symbol)}
        for index, symbol in sorted(call.gate.venue.by_index.items())
        if wanted in (None, index)
    ]


def bracket_rows(view: AccountView, symbol: Symbol) -> list[Json]:
    """A symbol's brackets; the only money that the dialect writes as numbers.

    A symbol without brackets has one: its largest leverage for any notional.
    """
    unit = 10**symbol.scale.money_decimals
    rows = view.brackets(symbol.index)
    if not rows:
        return [
            {
                "bracket": 1,
                "initialLeverage": symbol.row["leverage_max"],
                "notionalCap": NO_LIMIT,
                "notionalFloor": 0,
                "maintMarginRatio": 0.0,
                "cum": 0.0,
            }
        ]
    return [
        {
            "bracket": k + 1,
            "initialLeverage": row["leverage_max"],
            "notionalCap": row["cap_quanta"] // unit,
            "notionalFloor": row["floor_quanta"] // unit,
            "maintMarginRatio": row["maintenance_ppm"] / PPM,
            "cum": row["amount_quanta"] / unit,
        }
        for k, row in enumerate(rows)
    ]


async def commission_rate(call: Call) -> Json:
    """GET /fapi/v1/commissionRate."""
    symbol = call.symbol()
    account = await call.gate.account(call.account)
    own = account.row["own_fees"]
    source = account.row if own else symbol.row
    return {
        "symbol": symbol.name,
        "makerCommissionRate": _rate(source["maker_fee_ppm"]),
        "takerCommissionRate": _rate(source["taker_fee_ppm"]),
        "rpiCommissionRate": _rate(source["maker_fee_ppm"]),
    }


def _rate(ppm: int) -> str:
    return decimal_text(ppm, 6)


async def position_mode(call: Call) -> Json:
    """GET /fapi/v1/positionSide/dual."""
    account = await call.gate.account(call.account)
    return {"dualSidePosition": bool(account.row["position_mode"])}


async def multi_assets(call: Call) -> Json:
    """GET /fapi/v1/multiAssetsMargin: never."""
    return {"multiAssetsMargin": False}


async def fee_burn(call: Call) -> Json:
    """GET /fapi/v1/feeBurn: there is no discount token."""
    return {"feeBurn": False}


async def trading_status(call: Call) -> Json:
    """GET /fapi/v1/apiTradingStatus: no quantitative rules here."""
    return {"indicators": {}, "updateTime": call.now_ms}


async def rate_limit_orders(call: Call) -> list[Any]:
    """GET /fapi/v1/rateLimit/order."""
    return [rule for rule in call.gate.limits.rate_limits() if rule["rateLimitType"] == "ORDERS"]
