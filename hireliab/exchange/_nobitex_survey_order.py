"""The smallest order that can be placed to learn from, and what its life shows; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.errors import InvalidOrderError
from hireliab.exchange import _nobitex_survey as survey
from hireliab.exchange._nobitex_markets import MarketRules, OrderBook
from hireliab.exchange._nobitex_rules import fit, reference
from hireliab.exchange._nobitex_survey import Facts, Judged, Placed, Seen, other, rows_of, same, unasked, unseen
from hireliab.exchange._nobitex_survey_rows import client_id_of, decimal
from hireliab.exchange._nobitex_values import symbol
from hireliab.exchange.adapter import Balance, Order

_AWAY = Decimal("0.2")
"""How far from the last price: well inside the band of 30 %, and far from any trade of the next minute."""
_WALLET_LOOKS = 3
_CLOSED = ("Done", "Canceled", "Rejected")


def smallest_order(
    market: str, *, book: OrderBook, rules: MarketRules, balances: Mapping[str, Balance], times: int = 1
) -> tuple[Order, Decimal]:
    """
    The smallest limit order that the market takes, 20 % away from its last price, and that price.

    A purchase where the quote currency suffices, else a sale.

    Args:
        times: How many of it the balance must suffice for.

    Raises:
        InvalidOrderError: The market has no price, the order would not rest, or no balance suffices.
    """
    last = reference(book)
    if last is None:
        raise InvalidOrderError(f"{market}: has no price now, so no order can be kept away from it", by="hireliab")
    parts = symbol(market)
    short = []
    for side, away in (("buy", money.subtract(Decimal(1), _AWAY)), ("sell", money.add(Decimal(1), _AWAY))):
        price = money.snap_nearest(money.multiply(last, away), rules.price_step)
        if price <= money.ZERO:
            continue
        amount = max(rules.amount_step, money.snap_up(money.divide(rules.min_value, price), rules.amount_step))
        while money.multiply(amount, price) <= rules.min_value:  # the value must be above the minimum
            amount = money.add(amount, rules.amount_step)
        opposite = (book.asks if side == "buy" else book.bids)[:1]
        if opposite and (price >= opposite[0][0]) == (side == "buy"):
            continue  # a book far from its last price: the order would trade
        currency = parts.quote if side == "buy" else parts.base
        needed = money.multiply(money.multiply(amount, price) if side == "buy" else amount, Decimal(times))
        held = balances.get(currency)
        if held is None or held.available < needed:
            short.append(f"{money.text(needed)} {currency} to {side}")
            continue
        order = Order(symbol=market, side=side, type="limit", amount=amount, price=price)
        return fit(order, rules, last=last), last
    why = f"needs {' or '.join(short)} free" if short else "the book is too far from the last price for a resting order"
    raise InvalidOrderError(f"{market}: {why}", by="hireliab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """
    One read that could have shown the order.

    Attributes:
        source: "id", "client id" or "list".
        status: The venue's word, or None where the read did not show it.
    """

    source: str
    sent: float
    received: float
    status: str | None
    client_id: str | None
    read: Seen


def added(facts: Facts) -> Seen | None:
    """The answer that told the order's id."""
    for one in facts.of(survey.ADD):
        if one.is_ok and isinstance(one.payload.get("order"), dict) and one.payload["order"].get("id") is not None:
            return one
    return None


def cancelled(facts: Facts) -> Seen | None:
    """The answer to its cancel; recovery may have cancelled an order of an earlier run."""
    add = added(facts)
    if add is None:
        return None
    order_id = add.payload["order"]["id"]
    return next(
        (one for one in facts.of(survey.CANCEL) if one.status == 200 and one.body.get("order") == order_id), None
    )


def sightings(facts: Facts) -> list[Sighting]:
    """Every read after the order was accepted, oldest first, by the time it was sent."""
    add, placed = added(facts), facts.placed
    if add is None or placed is None:
        return []
    order_id, client_id = add.payload["order"]["id"], placed.order.client_order_id
    found = []
    for one in facts.seen:
        if one.sent < add.received or one.status is None:
            continue
        row: Mapping[str, Any] | None = None
        if one.path == survey.STATUS and (one.body.get("id") == order_id or one.body.get("clientOrderId") == client_id):
            source = "id" if "id" in one.body else "client id"
            if not one.is_ok and one.status != 404:
                continue  # no answer about the order
            row = one.payload.get("order") if one.is_ok else None
        elif one.path == survey.LIST and one.is_ok:
            source = "list"
            row = next((row for row in rows_of(one, "orders") if row.get("id") == order_id), None)
            if row is None and (one.query.get("status") != "all" or int(one.query.get("fromId", 0)) >= order_id):
                continue  # a list that need not show it
        else:
            continue
        status = None if row is None else str(row.get("status"))
        shown = None if row is None else client_id_of(row)
        found.append(
            Sighting(source=source, sent=one.sent, received=one.received, status=status, client_id=shown, read=one)
        )
    return sorted(found, key=lambda sighting: sighting.sent)


def _no_order(facts: Facts) -> Judged:
    if facts.placed is None:
        return unasked(facts.not_placed)
    adds = facts.of(survey.ADD)
    return unseen(f"the order was not accepted ({adds[-1] if adds else facts.placed.verdict})")


def read_after_write(facts: Facts) -> Judged:
    """Row 5."""
    add, placed = added(facts), facts.placed
    if add is None or placed is None:
        return _no_order(facts)
    cancel = cancelled(facts)
    until = float("inf") if cancel is None else cancel.sent
    told, late, evidence = [], "", str(add)
    for source in ("id", "client id", "list"):
        looks = [look for look in sightings(facts) if look.source == source and look.sent < until]
        if not looks:
            continue
        shown = next((look for look in looks if look.status is not None), None)
        missed = [look for look in looks if look.status is None and (shown is None or look.sent < shown.sent)]
        lag = 0.0 if not missed else missed[-1].sent - add.received
        name = {"id": "status by id", "client id": "status by client id", "list": "orders/list"}[source]
        if shown is None:
            told.append(f"{name}: not within {lag:.1f} s")
        elif missed:
            told.append(f"{name}: between {lag:.1f} and {shown.received - add.received:.1f} s")
        else:
            told.append(f"{name}: at the first look, after {shown.received - add.received:.1f} s")
        if lag > placed.window and source != "client id":
            late, evidence = name, str(missed[-1].read)
            told[-1] += f", later than visibility_window ({placed.window:g} s)"
    changed = _wallet_lag(facts, add)
    told += [changed] if changed else []
    if not told:
        return unseen("no read after the order was accepted")
    if late:
        longest = max(
            look.sent - add.received for look in sightings(facts) if look.status is None and look.sent < until
        )
        return other(
            "; ".join(told), evidence, action=f"set the pipeline's visibility_window to {2 * longest:.0f} or more"
        )
    return same("; ".join(told), evidence)


def _blocked(one: Seen, currency: str) -> Decimal | None:
    wallets = one.payload.get("wallets") if one.is_ok else None
    if not isinstance(wallets, dict):
        return None
    wallet = wallets.get("RLS" if currency == "IRT" else currency)
    return decimal(wallet.get("blocked")) if isinstance(wallet, dict) else Decimal(0)


def _reserved(order: Order) -> tuple[str, Decimal]:
    """The currency and the sum that the adapter assumes to be blocked."""
    parts = symbol(order.symbol)
    if order.side == "sell":
        return parts.base, order.amount
    return parts.quote, money.multiply(order.amount, order.price or money.ZERO)


def _wallet_looks(facts: Facts, add: Seen, currency: str) -> tuple[Decimal | None, list[tuple[Seen, Decimal]]]:
    reads = [(one, blocked) for one in facts.of(survey.WALLETS) if (blocked := _blocked(one, currency)) is not None]
    before = [blocked for one, blocked in reads if one.received <= add.sent]
    # A second order, and the end of the first, change the balances too.
    later = [one.sent for one in facts.of(survey.ADD) if one.sent > add.sent]
    cancel = cancelled(facts)
    until = min([*later, *([] if cancel is None else [cancel.sent])], default=float("inf"))
    return (before[-1] if before else None), [(one, b) for one, b in reads if add.received <= one.sent < until]


def wallets_show_it(facts: Facts) -> bool:
    """Whether the balances have changed since the order, or were looked at often enough."""
    add, placed = added(facts), facts.placed
    if add is None or placed is None:
        return True
    before, after = _wallet_looks(facts, add, _reserved(placed.order)[0])
    return before is None or len(after) >= _WALLET_LOOKS or any(blocked != before for _, blocked in after)


def _wallet_lag(facts: Facts, add: Seen) -> str:
    assert facts.placed is not None, "bug: asked only with an order"
    before, after = _wallet_looks(facts, add, _reserved(facts.placed.order)[0])
    if before is None or not after:
        return ""
    for one, blocked in after:
        if blocked != before:
            return f"wallets: by {one.received - add.received:.1f} s"
    return f"wallets: not within {after[-1][0].sent - add.received:.1f} s"


def blocked_funds(facts: Facts) -> Judged:
    """Row 27."""
    add, placed = added(facts), facts.placed
    if add is None or placed is None:
        return _no_order(facts)
    currency, expected = _reserved(placed.order)
    before, after = _wallet_looks(facts, add, currency)
    if before is None or not after:
        return unseen("no balance could be read before and after")
    one, last = after[-1]
    blocked = money.subtract(last, before)
    observed = f"{money.text(blocked)} {currency} more are blocked; amount{'' if placed.order.side == 'sell' else ' x price'} is {money.text(expected)}"
    if blocked == expected:
        return same(observed, one)
    if blocked == money.ZERO:
        return other(observed + "; wallets may lag", one)
    return other(
        observed,
        one,
        action="leave that much more of the balance free than amount x price" if blocked > expected else "",
    )


def activation(facts: Facts) -> Judged:
    """Row 19."""
    add, placed = added(facts), facts.placed
    if add is None or placed is None:
        return _no_order(facts)
    first = str(add.payload["order"].get("status"))
    looks = [look for look in sightings(facts) if look.source == "id" and look.status is not None]
    if first != "New" and not any(look.status == "New" for look in looks):
        return same(f"{first} in the answer to the order", add)
    new = [look for look in looks if look.status == "New"]
    since = new[-1].sent - add.received if new else 0.0
    end = next((look for look in looks if look.status != "New" and (not new or look.sent > new[-1].sent)), None)
    if end is None:
        observed = f"New for {since:.1f} s and longer"
    else:
        observed = f"New, then {end.status} between {since:.1f} and {end.received - add.received:.1f} s"
    if since > placed.patience:
        return other(observed, add, action=f"set the pipeline's verification_timeout above {since:.0f} s")
    return same(observed + "; the pipeline waits for it", end.read if end else add)


def minimum(facts: Facts) -> Judged:
    """Row 25."""
    placed = facts.placed
    if placed is None:
        return _no_order(facts)
    value = money.text(money.multiply(placed.order.amount, placed.order.price or money.ZERO))
    for one in facts.of(survey.ADD):
        if one.code == "SmallOrder":
            return other(
                f"an order worth {value} was too small, though it is above the minimum of v2/options",
                one,
                action="make orders larger than minOrders of v2/options: the adapter's local check is too weak",
            )
    add = added(facts)
    return _no_order(facts) if add is None else same(f"{value}, the next value above the minimum, was taken", add)


def band(facts: Facts) -> Judged:
    """Row 26."""
    placed = facts.placed
    if placed is None:
        return _no_order(facts)
    price = placed.order.price or money.ZERO
    away = abs(float(money.divide(price, placed.last)) - 1) * 100
    for one in facts.of(survey.ADD):
        if one.code == "BadPrice":
            return other(
                f"a price {away:.0f} % from the last one was refused",
                one,
                action=f"keep limit prices nearer than that: price_collar={away / 200:.2f} refuses others before they are sent",
            )
    add = added(facts)
    side = "below" if placed.order.side == "buy" else "above"
    return _no_order(facts) if add is None else same(f"a price {away:.0f} % {side} the last one was taken", add)


def echo(facts: Facts) -> Judged:
    """Row 28."""
    add, placed = added(facts), facts.placed
    if add is None or placed is None:
        return _no_order(facts)
    shown = add.payload["order"]
    pairs = {"amount": placed.order.amount, "price": placed.order.price}
    changed = [
        f"{name} {shown.get(name)!r:.40} for {value}"
        for name, value in pairs.items()
        if decimal(shown.get(name)) != value
    ]
    if changed:
        return other(
            f"echoed with {', '.join(changed)}", add, action="report it: numbers on the market's steps were changed"
        )
    return same("amount and price on the market's steps came back as sent; nothing else was tried", add)


def cancel_synchronous(facts: Facts) -> Judged:
    """Row 36."""
    add, placed, cancel = added(facts), facts.placed, cancelled(facts)
    if add is None or placed is None:
        return _no_order(facts)
    if cancel is None:
        return unseen("the order was not cancelled by this command")
    word = str(cancel.payload.get("updatedStatus")) if isinstance(cancel.payload, dict) else "nothing"
    after = [look for look in sightings(facts) if look.source == "id" and look.sent >= cancel.received and look.status]
    still = [look for look in after if look.status not in _CLOSED]
    closed = next((look for look in after if look.status in _CLOSED), None)
    if closed is None and still:
        observed = f"the answer says {word}; still {still[-1].status} after {still[-1].sent - cancel.received:.1f} s"
        return other(
            observed, cancel, action="wait for the pipeline's verdict: an answered cancel is no closed order here"
        )
    if closed is None:
        return unseen(f"the answer says {word}; no read followed")
    if not still:
        return same(f"the answer says {word}, and so does the first read after it", closed.read)
    lag = still[-1].sent - cancel.received
    observed = f"the answer says {word}; closed between {lag:.1f} and {closed.received - cancel.received:.1f} s later"
    if lag > placed.patience:
        return other(observed, closed.read, action=f"set the pipeline's verification_timeout above {lag:.0f} s")
    return same(observed + "; the pipeline polls", closed.read)


def with_client_id(placed: Placed, client_order_id: str) -> Placed:
    """The same, as it went out."""
    return dataclasses.replace(placed, order=dataclasses.replace(placed.order, client_order_id=client_order_id))
