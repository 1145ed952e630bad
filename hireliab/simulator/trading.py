"""/market/orders and /market/trades/list: spot trading of one account."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hireliab.simulator import money, orders, params
from hireliab.simulator.limits import too_many
from hireliab.simulator.markets import Market
from hireliab.simulator.message import Refused, Reply, answer, failed
from hireliab.simulator.orders import EXECUTION_NAMES, Order
from hireliab.simulator.placing import OrderRefused, client_id_of, parse_order
from hireliab.simulator.render import added_order, brief_order, fill_row, full_order
from hireliab.simulator.settings import SHORT_PAGE
from hireliab.simulator.state import Call, ExchangeState

MAX_BATCH = 20
_DAY = 86_400
_MARKET = frozenset({"market", "srcCurrency", "dstCurrency"})
_EXECUTIONS = tuple(EXECUTION_NAMES)
_KEYS: dict[str, Callable[[Order], object]] = {
    "id": lambda order: order.id,
    "created_at": lambda order: (order.created_ns, order.id),
    "price": lambda order: (order.price or order.worst_price, order.id),
}
_STATUS_FILTERS: dict[str, Callable[[Order], bool]] = {
    "open": lambda order: order.is_open,
    "all": lambda _: True,
    "done": lambda order: bool(order.matched),
    "close": lambda order: order.status in {orders.DONE, orders.CANCELED},
}


def add(exchange: ExchangeState, call: Call) -> Reply:
    """POST /market/orders/add."""
    body, status = _place(exchange, call, call.params)
    return answer(body, status)


def batch_add(exchange: ExchangeState, call: Call) -> Reply:
    """POST /market/orders/batch-add; stops without an answer for the rest when the limit is hit."""
    if not call.request.is_json:
        return answer({"detail": "Unsupported media type"}, 415)
    items = call.params.get("data")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_BATCH or not all(isinstance(i, dict) for i in items):
        raise params.parse_error("Invalid data value")
    results: list[dict[str, object]] = []
    for item in items:
        given = {**item, "pro": call.params.get("pro")}
        throttled = call.charge(order_cost(given))
        if throttled is not None:
            if not results:
                return too_many(throttled, exchange.settings)
            break
        body, _ = _place(exchange, call, given)
        results.append(body)
    return answer({"status": "ok", "results": results})


def order_cost(given: params.Params) -> int:
    """How many orders an add counts as: both legs of an OCO count."""
    return 2 if given.get("mode") == "oco" else 1


def status(exchange: ExchangeState, call: Call) -> Reply:
    """POST /market/orders/status, by id or by client id; the id wins."""
    order = _find(exchange, call, "id", lagging=True)
    return answer({"status": "ok", "order": _full(exchange, order)})


def update_status(exchange: ExchangeState, call: Call) -> Reply:
    """POST /market/orders/update-status: cancels."""
    wanted = params.choice(call.params, "status", ("canceled", "active"))
    if wanted is None:
        raise params.parse_error("Missing choices value")
    order = _find(exchange, call, "order", lagging=False)
    if not order.is_open or wanted == "active":
        return answer({"status": "failed", "updatedStatus": order.status})
    changed = exchange.engine.cancel(order)
    return answer({"status": "ok", "updatedStatus": changed.status, "order": _full(exchange, changed)})


def cancel_old(exchange: ExchangeState, call: Call) -> Reply:
    """POST /market/orders/cancel-old: all matching orders but untriggered stops outside an OCO."""
    hours = call.params.get("hours")
    age = money.parse(hours) if hours not in (None, "") else money.ZERO
    if age is None or age < 0:
        raise params.parse_error(f'Invalid float value: "{hours}"')
    is_wanted = _market_filter(exchange, call)
    oldest = call.now_ns - int(money.mul(age, money.parse("3600E9") or money.ZERO))
    for order in exchange.engine.orders.open_orders(call.account):
        current = exchange.engine.orders.get(order.id)
        if (
            current is not None
            and current.is_open
            and current.status != orders.INACTIVE
            and is_wanted(order)
            and order.created_ns <= oldest
        ):
            exchange.engine.cancel(current)
    return answer({"status": "ok"})


def cancel_batch(exchange: ExchangeState, call: Call) -> Reply:
    """POST /market/orders/cancel-batch."""
    ids = call.params.get("orderIds")
    if not isinstance(ids, list) or not ids:
        raise params.parse_error("Order_ids list is empty")
    if len(ids) > MAX_BATCH:
        raise params.parse_error(f"The maximum number of orderIds should be {MAX_BATCH}")
    numbers = [params.whole({"id": value}, "id") for value in ids]
    results: dict[str, object] = {}
    for number in numbers:
        order = exchange.engine.orders.get(number or 0)
        if order is None or order.account != call.account:
            results[str(number)] = {"status": "failed", "message": "No Order matches the given query."}
        elif not order.is_open:
            results[str(number)] = {"status": "failed", "message": f"Order is {order.status}"}
        else:
            exchange.engine.cancel(order)
            results[str(number)] = {"status": "ok"}
    return answer({"status": "ok", "message": "", "orders": results})


def open_count(exchange: ExchangeState, call: Call) -> Reply:
    """GET /market/orders/open-count."""
    is_wanted = _market_filter(exchange, call)
    count = sum(order.is_open and is_wanted(order) for order in _listed(exchange, call))
    return answer({"status": "ok", "count": count})


def list_orders(exchange: ExchangeState, call: Call) -> Reply:
    """GET /market/orders/list with every filter."""
    given = call.params
    side = params.choice(given, "type", ("buy", "sell"))
    has_status = _STATUS_FILTERS[params.choice(given, "status", tuple(_STATUS_FILTERS), "open") or "open"]
    details = params.choice(given, "details", ("1", "2"), "1")
    first = params.whole(given, "fromId")
    if first is not None and given.get("page") not in (None, ""):
        raise params.parse_error("page and fromId cannot be used together")
    is_wanted = _market_filter(exchange, call)
    found = [
        order
        for order in _listed(exchange, call, after=first or 1)
        if has_status(order) and is_wanted(order) and side in (None, order.side)
    ]
    allowed = (*_KEYS, *("-" + key for key in _KEYS))
    ordering = params.choice(given, "order", allowed) or _default_order(first, side)
    found.sort(key=_KEYS[ordering.lstrip("-")], reverse=ordering.startswith("-"))  # type: ignore[arg-type]  # each key sorts with itself
    quirks = exchange.settings.quirks
    page, has_next = params.cut(found, given, 100, 1000, most=_most(exchange))
    show = full_order if details == "2" else brief_order
    rows = [show(order, _market_of(exchange, order), exchange.settings) for order in page]
    if "no_market" in quirks:
        rows = [{name: value for name, value in row.items() if name not in _MARKET} for row in rows]
    has_next = has_next and "no_next_page" not in quirks
    return answer({"status": "ok", "orders": rows, "hasNext": has_next})


def list_trades(exchange: ExchangeState, call: Call) -> Reply:
    """GET /market/trades/list: own fills of the last days, newest first."""
    base, quote = params.currency(call.params, "srcCurrency"), params.currency(call.params, "dstCurrency")
    if (base is None) != (quote is None):
        raise params.parse_error("srcCurrency and dstCurrency must be given together")
    market = exchange.engine.by_key.get(f"{base}-{quote}")
    if base is not None and market is None:
        # The documents' sample has "ok" beside this code.
        return answer({"status": "ok", "code": "InvalidMarketPair", "message": "Market Validation Failed"})
    first = params.whole(call.params, "fromId") or 0
    trade_type = params.choice(call.params, "tradeType", ("spot", "margin", "credit", "debit"))
    cutoff = exchange.engine.visibility.cutoff("trades", call.now)
    oldest = call.now_ns - int(exchange.settings.trade_days * _DAY) * 1_000_000_000
    found = []
    for fill in reversed(exchange.engine.fills[call.account]):
        if fill.at_ns < oldest or trade_type not in (None, "spot"):
            break
        if fill.at <= cutoff and fill.id >= first and (market is None or fill.market == market.symbol):
            found.append(fill)
    page, has_next = params.cut(found, call.params, 30, 500, 100, most=_most(exchange))
    pits = exchange.engine.pits
    rows = [fill_row(fill, pits[fill.market].market, exchange.settings) for fill in page]
    return answer({"status": "ok", "trades": rows, "hasNext": has_next})


def _most(exchange: ExchangeState) -> int | None:
    """Rows on a page, where that is fewer than may be asked for."""
    return SHORT_PAGE if "short_pages" in exchange.settings.quirks else None


def _place(exchange: ExchangeState, call: Call, given: params.Params) -> tuple[dict[str, object], int]:
    """Place one order; the answer's body and HTTP status."""
    engine, settings = exchange.engine, exchange.settings
    try:
        draft = parse_order(given, engine.by_key)
        placed = engine.place(call.account, draft)
    except OrderRefused as refused:
        body: dict[str, object] = {
            "status": "failed",
            "code": refused.code,
            "message": refused.message,
            "clientOrderId": client_id_of(given),
        }
        return body, refused.status
    rows = [added_order(order, draft.market, settings) for order in placed]
    return {"status": "ok", **({"orders": rows} if draft.is_oco else {"order": rows[0]})}, 200


def _find(exchange: ExchangeState, call: Call, id_name: str, *, lagging: bool) -> Order:
    """The order of a status or cancel call; by client id only open ones are found."""
    store, visibility = exchange.engine.orders, exchange.engine.visibility
    number, client_id = params.whole(call.params, id_name), call.params.get("clientOrderId")
    if number is not None:
        order = store.visible(number, visibility.cutoff("status", call.now)) if lagging else store.get(number)
    elif client_id not in (None, ""):
        cutoff = visibility.cutoff("clientid", call.now) if lagging else call.now
        order = store.open_by_client_id(call.account, str(client_id), cutoff)
    else:
        raise Refused(failed("NullIdAndClientOrderId", "Both id and clientOrderId cannot be null"))
    if order is None or order.account != call.account:
        raise params.not_found()
    return order


def _listed(exchange: ExchangeState, call: Call, after: int = 0) -> Iterator[Order]:
    """The account's orders with a greater id, as listings see them."""
    engine = exchange.engine
    return engine.orders.account_orders(call.account, engine.visibility.cutoff("list", call.now), after)


def _market_filter(exchange: ExchangeState, call: Call) -> Callable[[Order], bool]:
    """A test for execution, tradeType, srcCurrency and dstCurrency; each may stand alone."""
    execution = params.choice(call.params, "execution", _EXECUTIONS)
    trade_type = params.choice(call.params, "tradeType", ("spot", "margin", "credit", "debit"))
    base, quote = params.currency(call.params, "srcCurrency"), params.currency(call.params, "dstCurrency")

    def is_wanted(order: Order) -> bool:
        market = _market_of(exchange, order)
        return (
            execution in (None, order.execution)
            and trade_type in (None, "spot")
            and base in (None, market.base)
            and quote in (None, market.quote)
        )

    return is_wanted


def _default_order(first: int | None, side: str | None) -> str:
    if first is not None:
        return "-id"
    return {"buy": "-price", "sell": "price"}.get(side or "", "-created_at")


def _full(exchange: ExchangeState, order: Order) -> dict[str, object]:
    return full_order(order, _market_of(exchange, order), exchange.settings)


def _market_of(exchange: ExchangeState, order: Order) -> Market:
    return exchange.engine.pits[order.market].market
