"""
The admin port: everything that a test does to the exchange from outside. JSON over HTTP, loopback
only, no credential. Never on the API's own port.

=======================  =========================================================================
``GET /state``           seed, clock, settings, lags, faults, accounts with balances, markets,
                         counts, whether the exchange is up
``GET /truth-count``     ``{"records": 123, "requests": 45}``
``POST /faults``         one rule, or a list of rules (faults.py); answers ``{"ids": [1, 2]}``
``DELETE /faults``       removes all rules; ``DELETE /faults?id=2`` one
``POST /balances``       ``{"account": "user", "balances": {"rls": "1000000"}}``: sets totals;
                         orders that are no longer covered are cancelled by the system
``POST /book``           ``{"market": "BTCIRT", …}`` with one or more of, in this order:
                         ``"mid": "51000000000"`` moves the market there (passed orders fill, stops
                         trigger); ``"bids"``/``"asks"``: ``[["price", "amount"], …]`` replace all
                         house quotes; ``"thin": "0.001"`` leaves that much per side within reach
                         of a market order, ``"thin": "0"`` nothing; ``"closed": true`` closes the
                         market. ``"mid"`` alone also undoes ``thin``
``POST /trade``          ``{"market": "BTCIRT", "price": "50000000000", "amount": "0.1"}``: others
                         trade at a price; users' orders that accept it fill (up to amount, if
                         given), it becomes the last price, stops trigger
``POST /clock``          ``{"advance": 30}``: steps the exchange's clock; due changes happen, waits
                         of faults end
``POST /settings``       any of settings.py, e.g. ``{"refill": false, "quirks": ["int_zero"]}``
``POST /lag``            ``{"status": 2, "list": 5, "trades": 20, "wallets": 5, "clientid": 2}``
``POST /accounts``       ``{"name": "second", "balances": {…}, "token": …, "api_secret": …}``, all
                         but the name optional; answers the credentials. With ``"refuse":
                         "TradingUnavailable"`` for an existing name: its orders are refused with
                         that code, ``null`` lifts it
``POST /down``           cuts the exchange off: connections are refused, open ones reset;
                         ``{"seconds": 5}`` ends by itself
``POST /up``             ends that
=======================  =========================================================================

A body that makes no sense is answered 400 ``{"error": "…"}``, and nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from hireliab.simulator import money, trading_floor
from hireliab.simulator.faults import FaultError, FaultPlan
from hireliab.simulator.httpd import Connection
from hireliab.simulator.message import BadBodyError, Reply, Request, answer
from hireliab.simulator.settings import SettingError
from hireliab.simulator.state import ExchangeState, checked_balances
from hireliab.simulator.venue import Venue

_SECRETS = ("token", "api_secret")
Body = Mapping[str, object]


class Line(Protocol):
    """What connects the exchange to its clients."""

    @property
    def is_up(self) -> bool:
        """Whether clients can connect."""

    def go_down(self, seconds: float | None = None) -> None:
        """Cut the exchange off."""

    def go_up(self) -> None:
        """Let clients connect again."""


class AdminError(ValueError):
    """The body makes no sense."""


class Admin:
    """
    Answers the admin port.

    Thread safety: Any thread.
    """

    def __init__(self, venue: Venue, faults: FaultPlan, line: Line) -> None:
        self._venue = venue
        self._faults = faults
        self._line = line
        self._calls: dict[tuple[str, str], Callable[[Request], object]] = {
            ("GET", "/state"): self._state,
            ("GET", "/truth-count"): self._truth_count,
            ("POST", "/faults"): self._add_faults,
            ("DELETE", "/faults"): self._clear_faults,
            ("POST", "/balances"): self._changing(_set_balances),
            ("POST", "/book"): self._changing(_change_book),
            ("POST", "/trade"): self._changing(_trade),
            ("POST", "/clock"): self._changing(_step_clock),
            ("POST", "/settings"): self._changing(_change_settings),
            ("POST", "/lag"): self._changing(_change_lag),
            ("POST", "/accounts"): self._changing(_change_account),
            ("POST", "/down"): self._down,
            ("POST", "/up"): self._up,
        }

    def serve(self, connection: Connection, request: Request) -> bool:
        """Serve one request of the admin port."""
        return connection.send(self.reply(request))

    def reply(self, request: Request) -> Reply:
        """The answer to an admin request."""
        call = self._calls.get((request.method, request.path))
        if call is None:
            return answer({"error": f"no admin call {request.method} {request.path}"}, 404)
        try:
            result = call(request)
        except (AdminError, BadBodyError, FaultError, SettingError) as error:
            return answer({"error": str(error)}, 400)
        return answer(result if isinstance(result, dict) else {"ok": True})

    def _changing(self, action: Callable[[ExchangeState, Body], object]) -> Callable[[Request], object]:
        """An admin call that changes the exchange's state."""

        def call(request: Request) -> object:
            body = request.form
            shown = {name: "…" if name in _SECRETS else value for name, value in body.items()}
            return self._venue.run(lambda state: action(state, body), request.path, _plain(shown))

        return call

    def _note(self, request: Request, shown: object) -> None:
        self._venue.run(lambda _: None, request.path, _plain(shown))

    def _state(self, _request: Request) -> object:
        up = self._line.is_up
        return {**_dict(self._venue.look(_describe)), "faults": _plain(self._faults.as_json()), "up": up}

    def _truth_count(self, _request: Request) -> object:
        records = self._venue.look(lambda state: state.truth.count)
        return {"records": records, "requests": self._venue.received}

    def _add_faults(self, request: Request) -> object:
        rules = request.form_or_list
        ids = self._faults.add_all(rules)
        self._note(request, rules)
        return {"ids": ids}

    def _clear_faults(self, request: Request) -> object:
        number = request.query.get("id")
        if number is not None and not number.isdecimal():
            raise AdminError(f"id is {number!r}; a number is expected")
        self._faults.clear(None if number is None else int(number))
        self._note(request, {"delete": number})
        return None

    def _down(self, request: Request) -> object:
        seconds = None if request.form.get("seconds") is None else float(_amount(request.form, "seconds"))
        self._note(request, {"seconds": seconds})
        self._line.go_down(seconds)
        return None

    def _up(self, request: Request) -> object:
        self._line.go_up()
        self._note(request, {})
        return None


def _set_balances(state: ExchangeState, body: Body) -> None:
    account = str(body.get("account") or "user")
    if account not in state.accounts:
        raise AdminError(f"account is {account!r}; one of {', '.join(state.accounts)} is expected")
    for currency, total in checked_balances(_dict(body.get("balances"))).items():
        state.engine.set_balance(account, currency, total)


def _change_book(state: ExchangeState, body: Body) -> None:
    symbol = _symbol(state, body)
    pit = state.engine.pits[symbol]
    mid = _amount(body, "mid") if "mid" in body else None
    thin = _amount(body, "thin", zero=True) if "thin" in body else None
    levels = [(side, *level) for side, name in (("buy", "bids"), ("sell", "asks")) for level in _levels(body, name)]
    closed = body.get("closed", pit.is_closed)
    if not isinstance(closed, bool):
        raise AdminError(f"closed is {closed!r}; true or false is expected")
    if mid is not None:
        trading_floor.move_market(state.engine, symbol, mid)
    if "bids" in body or "asks" in body:
        trading_floor.quote(state.engine, symbol, levels)
    if thin is not None:
        trading_floor.thin(state.engine, symbol, thin)
    pit.is_closed = closed


def _trade(state: ExchangeState, body: Body) -> None:
    amount = _amount(body, "amount") if body.get("amount") is not None else None
    side = str(body.get("side") or "buy")
    if side not in {"buy", "sell"}:
        raise AdminError(f"side is {side!r}; buy or sell is expected")
    trading_floor.house_trade(state.engine, _symbol(state, body), _amount(body, "price"), amount, side)


def _step_clock(state: ExchangeState, body: Body) -> None:
    state.clock.advance(float(_amount(body, "advance", zero=True)))


def _change_settings(state: ExchangeState, body: Body) -> None:
    state.change_settings(body)


def _change_lag(state: ExchangeState, body: Body) -> None:
    state.engine.visibility.set(body, state.clock.monotonic())


def _change_account(state: ExchangeState, body: Body) -> object:
    name = str(body.get("name") or "")
    if name in state.accounts and "refuse" in body:
        code = body["refuse"]
        state.engine.blocked_accounts.pop(name, None)
        if code is not None:
            state.engine.blocked_accounts[name] = str(code)
        return None
    balances = body.get("balances")
    opened = state.open_account(
        name,
        None if balances is None else _dict(balances),
        token=_text(body, "token"),
        api_secret=_text(body, "api_secret"),
    )
    return {"name": name, "token": opened.token, "api_key": opened.api_key, "api_secret": opened.api_secret}


def _describe(state: ExchangeState) -> dict[str, object]:
    engine = state.engine
    markets = {
        symbol: {
            "last": money.text(pit.tape.last),
            "mid": money.text(pit.house.mid),
            "bestBuy": money.text(pit.book.best("buy") or money.ZERO),
            "bestSell": money.text(pit.book.best("sell") or money.ZERO),
            "closed": pit.is_closed,
        }
        for symbol, pit in engine.pits.items()
    }
    accounts = {
        name: {
            code: {"balance": money.text(held.total), "blocked": money.text(held.blocked)}
            for code, held in engine.ledger.wallets(name).items()
        }
        for name in state.accounts
    }
    return {
        "seed": state.seed,
        "time_ns": state.clock.time_ns(),
        "settings": state.settings.as_json(),
        "lag": engine.visibility.as_json(),
        "accounts": accounts,
        "markets": markets,
        "orders": len(engine.orders),
        "open_orders": {name: len(engine.orders.open_orders(name)) for name in state.accounts},
        "truth": {"path": state.truth.path, "records": state.truth.count},
    }


def _symbol(state: ExchangeState, body: Body) -> str:
    symbol = str(body.get("market") or "")
    if symbol not in state.engine.pits:
        raise AdminError(f"market is {symbol!r}; one of {', '.join(state.engine.pits)} is expected")
    return symbol


def _levels(body: Body, name: str) -> list[tuple[Decimal, Decimal]]:
    rows = body.get(name) or []
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        raise AdminError(f"{name} is {rows!r}; a list of [price, amount] is expected")
    return [(_amount({name: price}, name), _amount({name: amount}, name)) for price, amount in rows]


def _amount(body: Body, name: str, *, zero: bool = False) -> Decimal:
    number = money.parse(body.get(name))
    if number is None or number < 0 or (not number and not zero):
        raise AdminError(f"{name} is {body.get(name)!r}; a positive number is expected")
    return number


def _text(body: Body, name: str) -> str | None:
    value = body.get(name)
    return None if value is None else str(value)


def _dict(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise AdminError(f"{value!r}; an object is expected")
    return value


def _plain(value: object) -> object:
    """JSON values without Decimal, which has no JSON form."""
    if isinstance(value, Decimal):
        return money.text(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, frozenset)):
        return [_plain(member) for member in value]
    return value
