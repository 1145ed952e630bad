"""Judgements that rest on public data, on the account's own history and on harmless wrong calls; pure."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from hireliab.core import money
from hireliab.errors import AuthenticationError, HireliabError, RefusedError
from hireliab.exchange import _nobitex_survey as survey
from hireliab.exchange import _nobitex_values as values
from hireliab.exchange._nobitex_survey import Facts, Judged, Seen, other, rows_of, same, unasked, unseen
from hireliab.exchange.adapter import OrderStatus

Row = Mapping[str, Any]

_CLIENT_ID = re.compile(r"[A-Za-z0-9-]{1,32}", re.ASCII)
_KNOWN = {status.value for status in OrderStatus if status is not OrderStatus.OTHER}
_DUPLICATE_WINDOW = 10.0
_SKEW_KEPT = 5.0
_SIGNED_WINDOW = 30.0
_DAY = 86400.0
_LEAST_RATE, _MOST_RATE = Decimal("0.00005"), Decimal("0.02")  # any plausible fee, as a share
_TOMAN = (Decimal("0.08"), Decimal("0.125"))
_RIAL = (Decimal("0.8"), Decimal("1.25"))
_INT64 = 63


def decimal(value: object) -> Decimal | None:
    """A number of an answer, or None."""
    try:
        return values.number(value, "")
    except HireliabError:
        return None


def when(row: Row, name: str) -> float | None:
    """A time of an answer as Unix seconds, or None."""
    try:
        return values.when(row[name], "") if row.get(name) is not None else None
    except HireliabError:
        return None


def client_id_of(row: Row) -> str | None:
    """The client id that a row shows, or None."""
    shown = row.get("clientOrderId")
    return shown if isinstance(shown, str) and shown not in ("", "null") else None


def client_id_reuse(facts: Facts) -> Judged:
    """Row 1."""
    holders: dict[str, set[str]] = defaultdict(set)
    rows = facts.order_rows()
    for order_id, row in rows.items():
        if shown := client_id_of(row):
            holders[shown].add(order_id)
    shared = [ids for ids in holders.values() if len(ids) > 1]
    if shared:
        return same(f"{len(shared)} client ids belong to several orders of the history", f"orders {_few(shared[0])}")
    return unseen(
        f"no client id occurs twice in {_count(len(rows), 'order')}; the adapter uses none twice, so it may rest"
    )


def client_id_charset(facts: Facts) -> Judged:
    """Row 2."""
    placed = facts.placed
    if placed is not None:
        for add in facts.of(survey.ADD):
            if add.code == "ParseError":
                return other(
                    f"the client id of {len(placed.order.client_order_id)} characters was not taken",
                    add,
                    action="report it: the pipeline's client order ids cannot be used on this exchange as it is now",
                )
            if add.is_ok:
                return same(f"{len(placed.order.client_order_id)} characters with a dash were taken", add)
    rows = facts.order_rows().values()
    strange = [shown for row in rows if (shown := client_id_of(row)) and not _CLIENT_ID.fullmatch(shown)]
    if strange:
        return other(
            f"the history has {_count(len(strange), 'client id')} with other characters or more of them", "orders/list"
        )
    ours = [row["id"] for row in rows if client_id_of(row)]
    if ours:
        return same(f"{_count(len(ours), 'order')} of the history have ids of that form", f"orders {_few(ours)}")
    return unasked(facts.not_placed)


def duplicate_rule(facts: Facts) -> Judged:
    """Row 3."""
    adds = [one for one in facts.of(survey.ADD) if one.status is not None]
    if len(adds) > 1:
        apart = adds[1].sent - adds[0].received
        if adds[1].code == "DuplicateOrder":
            return same(f"an equal order with another client id, {apart:.1f} s later, was refused", adds[1])
        if adds[1].is_ok and apart < _DUPLICATE_WINDOW:
            return other(
                f"an equal order with another client id, {apart:.1f} s later, was taken: the id exempts", adds[1]
            )
        return unseen(f"the second order was answered with HTTP {adds[1].status} {adds[1].code} after {apart:.1f} s")
    groups: dict[tuple[object, ...], list[tuple[float, str, str]]] = defaultdict(list)
    for order_id, row in facts.order_rows().items():
        created, shown = when(row, "created_at"), client_id_of(row)
        if created is not None and shown:
            key = tuple(str(row.get(name)) for name in ("type", "execution", "market", "amount", "price", "param1"))
            groups[key].append((created, order_id, shown))
    for group in groups.values():
        group.sort()
        for (first, one, id_one), (second, two, id_two) in itertools.pairwise(group):
            if second - first < _DUPLICATE_WINDOW and id_one != id_two:
                return other(
                    f"equal orders {second - first:.1f} s apart were both taken; unless they were sent with pro=yes,"
                    " another client id exempts",
                    f"orders {one}, {two}",
                )
    return unseen("no two equal orders within 10 s in the history; --second-order asks")


def closed_by_client_id(facts: Facts) -> Judged:
    """Row 6."""
    asked = facts.of(survey.STATUS, survey.CLOSED_BY_CLIENT_ID)
    unknown = facts.of(survey.STATUS, survey.UNKNOWN_CLIENT_ID)
    for one in asked:
        if _has_order(one):
            return other("a closed order is found by its client id: more than the adapter counts on", one)
    for one in (*asked, *unknown):
        if one.status is not None and not (one.status == 404 and one.code == "NotFound"):
            return other(
                f"the answer for an order that is not found is HTTP {one.status} {one.code or 'without a code'}",
                one,
                action="report it: the adapter takes this answer for a failed read, so look-ups by client id never"
                " show an absence and unknown outcomes stay unknown for longer",
            )
    if asked:
        return same("404 NotFound for a closed order of the account, which is the same as for no order", asked[0])
    if unknown:
        return unseen("404 NotFound for an unknown id; the history shows no closed order with a client id to ask about")
    return unseen("no answer")


def retention(facts: Facts) -> Judged:
    """Row 7."""
    rows, fills = facts.order_rows(), facts.fill_rows()
    listed = [one for one in facts.of(survey.LIST) if one.is_ok and one.query.get("order") == "-id"]
    if not listed:
        return unseen("orders/list gave no answer")
    oldest_listed = min((int(order_id) for order_id in rows if order_id.isdigit()), default=0)
    is_all = all(one.payload.get("hasNext") is False for one in listed)
    gone = {
        str(fill["orderId"])
        for fill in fills.values()
        if fill.get("orderId") is not None
        and str(fill["orderId"]) not in rows
        and str(fill.get("tradeType", "spot")).lower() == "spot"
        and (is_all or int(fill["orderId"]) > oldest_listed)
    }
    if gone:
        return other(
            f"{_count(len(gone), 'order')} with fills of the last days are not listed any more",
            f"orders {_few(gone)} have fills in trades/list",
            action="start a bot again soon after a crash: an order that has left the list cannot be found by recovery,"
            " and is left to a person (hireliab transactions resolve)",
        )
    closed = facts.closed_rows()
    if not closed:
        return unseen("no closed order in the list")
    ages = [facts.now - created for row in closed if (created := when(row, "created_at")) is not None]
    age = f"; the oldest is {max(ages) / _DAY:.1f} days old" if ages else ""
    return same(f"{_count(len(closed), 'closed order')} listed{age}", listed[0])


def closed_client_ids(facts: Facts) -> Judged:
    """Row 8."""
    action = (
        "keep duplicate_guard on, run one bot per account, and keep idempotency keys: an order that closes before its"
        " answer is known is matched by its values. The pipeline learns the rest from the first closed order"
    )
    closed = facts.closed_rows()
    shown = [row for row in closed if client_id_of(row)]
    placed = facts.placed
    if placed is not None:
        ours = {str(one.payload["order"].get("id")) for one in facts.of(survey.ADD) if _has_order(one)}
        mine = [row for row in closed if str(row["id"]) in ours]
        if mine and not client_id_of(mine[-1]):
            lost = "the closed row of the placed order has lost its client id"
            return other(lost, f"order {mine[-1]['id']}", action=action)
        if mine:
            return same("the closed row of the placed order shows its client id", f"order {mine[-1]['id']}")
    if shown:
        evidence = f"orders {_few(row['id'] for row in shown)}"
        return same(f"{len(shown)} of {_count(len(closed), 'closed row')} show one", evidence)
    known = {
        client_id
        for one in (*facts.of(survey.LIST), *facts.of(survey.STATUS))
        for row in (*rows_of(one, "orders"), *([one.payload["order"]] if _has_order(one) else []))
        if row.get("status") in ("New", "Active", "Inactive") and (client_id := client_id_of(row))
    }
    if closed and known:
        return other(
            f"open orders show client ids, and none of {_count(len(closed), 'closed row')} does",
            f"orders {_few(row['id'] for row in closed)}",
            action=action,
        )
    if closed:
        return unseen(f"{_count(len(closed), 'closed row')} without a client id, perhaps sent without one")
    return unseen("no closed order in the list")


def throttle_headers(facts: Facts) -> Judged:
    """Row 12."""
    throttled = [one for one in facts.seen if one.status == 429]
    if not throttled:
        return unseen("no 429 came, and none was provoked")
    for one in throttled:
        names = sorted(name for name in one.headers if name == "retry-after" or "ratelimit" in name)
        if names:
            return other(f"a 429 carries {', '.join(names)}; the adapter reads Retry-After", one)
    back_off = throttled[0].payload.get("backOff") if isinstance(throttled[0].payload, dict) else None
    return same(f"none; backOff in the body is {back_off}", throttled[0])


def failure_statuses(facts: Facts) -> Judged:
    """Row 13."""
    asked = [one for one in facts.seen if one.label in (survey.NO_ID, survey.BAD_SYMBOL, survey.UNKNOWN_CLIENT_ID)]
    answered = [one for one in asked if one.status is not None and one.status != 429 and one.status < 500]
    if not answered:
        return unseen("no answer")
    observed = "; ".join(f"{one.label}: HTTP {one.status} {one.code or 'without a code'}" for one in answered)
    for one in answered:
        meaning = one.means(signed=facts.is_key_pair)
        if not isinstance(meaning, RefusedError) or isinstance(meaning, AuthenticationError):
            return other(
                observed,
                one,
                action=f"report it: the adapter does not take the answer to {one.label} for a definite no",
            )
    return same(observed, answered[0])


def bad_signature(facts: Facts) -> Judged:
    """Row 14."""
    asked = facts.of(survey.PROFILE, survey.BAD_SIGNATURE)
    if not asked:
        return unasked(
            "needs --one-wrong-signature, which counts as one of the 100 failures that an address may have in 30 min"
            if facts.is_key_pair
            else "needs a key pair and --one-wrong-signature"
        )
    one = asked[0]
    if one.status is None:
        return unseen(f"no answer ({one.error})")
    names = ", ".join(sorted(map(str, one.payload))) if isinstance(one.payload, dict) else "no JSON"
    observed = f"HTTP {one.status}, body with {names}; a replay was not tried"
    if isinstance(one.means(signed=True), AuthenticationError):
        return same(observed, one)
    return other(observed, one, action="report it: the adapter would not stop private calls after a refused signature")


def clock_skew(facts: Facts) -> Judged:
    """Row 15."""
    private = [one for one in facts.seen if one.path.startswith(("/users", "/market/orders", "/v2/wallets"))]
    skews = sorted(one.skew for one in private if one.skew is not None)
    if not skews:
        return unseen("no private answer had a Date header")
    skew = skews[len(skews) // 2]
    observed = f"the exchange's clock differs from this machine's by {skew:+.1f} s"
    evidence = f"Date of {_count(len(skews), 'private answer')}"
    if abs(skew) < _SKEW_KEPT:
        return same(observed, evidence)
    action = "set this machine's clock (NTP): a signed request must come within 30 s of the exchange's time"
    if abs(skew) < _SIGNED_WINDOW and facts.is_key_pair:
        observed += ", and signed requests were taken"
    return other(observed, evidence, action=action if facts.is_key_pair else "")


def status_tokens(facts: Facts) -> Judged:
    """Row 20."""
    rows = [
        row
        for one in facts.seen
        for row in (*rows_of(one, "orders"), *([one.payload["order"]] if _has_order(one) else []))
    ]
    tokens = {str(row["status"])[:40] for row in rows if row.get("status") is not None}
    strange = sorted(tokens - _KNOWN)
    if strange:
        example = next(row for row in rows if str(row.get("status")) == strange[0])
        return other(
            f"the unknown status {', '.join(map(repr, strange))}",
            f"order {example.get('id')}",
            action="report it, and settle such orders by hand: the pipeline alerts and draws no conclusion from them",
        )
    if "Rejected" in tokens:
        return same("'Rejected' occurs in the history", f"{_count(len(rows), 'row')}")
    if not tokens:
        return unseen("the account has no order")
    return unseen(f"no rejected order; {_count(len(rows), 'row')} say {', '.join(sorted(tokens))}")


def fees(facts: Facts) -> Judged:
    """Row 21."""
    promised = _promised_fees(facts)
    told = ", ".join(f"{name} {money.text(rate)} %" for name, rate in promised.items() if rate is not None) or "no rate"
    seen_rates: dict[str, list[Decimal]] = {"buy": [], "sell": []}
    above = ""
    for fill in facts.fill_rows().values():
        side = str(fill.get("type")).lower()
        parts = [decimal(fill.get(name)) for name in ("amount", "price", "fee")]
        if side not in seen_rates or any(part is None or part <= 0 for part in parts):
            continue
        amount, price, fee = (part for part in parts if part is not None)
        total = money.multiply(amount, price)
        in_base, in_quote = money.divide(fee, amount), money.divide(fee, total)
        assumed, opposite = (in_base, in_quote) if side == "buy" else (in_quote, in_base)
        if not _is_rate(assumed) and _is_rate(opposite):
            return other(
                f"the fee of a {side} is in the {'quote' if side == 'buy' else 'base'} currency",
                f"fill {fill.get('id')}: fee {money.text(fee)} for {money.text(amount)} at {money.text(price)}",
                action="do not use TransactionResult.fee for accounts, and read balances before selling what was bought",
            )
        if not _is_rate(assumed):
            continue  # a price near 1 or a rebate decides nothing
        seen_rates[side].append(assumed)
        rate = promised["USDT" if str(fill.get("market", "")).upper().endswith("USDT") else "IRT"]
        if rate is not None and money.multiply(assumed, Decimal(100)) > money.multiply(rate, Decimal("1.01")):
            above = f"fill {fill.get('id')} paid {_percent(assumed)}, above the profile's {money.text(rate)} %"
    found = {side: rates for side, rates in seen_rates.items() if rates}
    if not found:
        return unseen(f"no fill with a fee in the last days; the profile says {told}")
    observed = "; ".join(
        f"{side} in {'base' if side == 'buy' else 'quote'}, {_percent(min(rates))} to {_percent(max(rates))}"
        for side, rates in found.items()
    )
    if above:
        observed += f"; the profile ({told}) is no upper bound"
        return other(observed, above, action="plan with a higher fee than the profile's")
    return same(
        f"{observed}; the profile says {told}", f"{_count(sum(map(len, found.values())), 'fill')} of trades/list"
    )


def maximum(facts: Facts) -> Judged:
    """Row 24."""
    one = next((one for one in facts.of(survey.OPTIONS) if one.is_ok), None)
    section = one.payload.get("nobitex") if one else None
    if one is None or not isinstance(section, dict):
        return unseen("v2/options gave no answer")
    names = sorted(str(name)[:40] for name in section if str(name).lower().startswith("max"))
    if names:
        return other(f"v2/options names {', '.join(names)}, which the adapter does not read", one)
    return unseen("v2/options names no maximum; asking would need a large order")


def answer_order(facts: Facts) -> Judged:
    """Row 30."""
    said, evidence = [], ""
    for one in facts.of(survey.LIST):
        ids = [int(row["id"]) for row in rows_of(one, "orders") if isinstance(row.get("id"), int)]
        wanted = one.query.get("order")
        is_wrong = (wanted == "id" and ids != sorted(ids)) or (wanted == "-id" and ids != sorted(ids, reverse=True))
        first = one.query.get("fromId")
        if is_wrong or (first is not None and any(number <= int(first) for number in ids)):
            return other(
                f"orders/list does not keep to order={wanted}" + (f" and fromId={first}" if first else ""),
                f"ids {_few(ids)}",
                action="do not trade with the pipeline until this is understood: its listings would never be complete,"
                " so that unknown outcomes stay unknown",
            )
        if len(ids) > 1:
            said.append(f"orders/list keeps to order={wanted}")
    for one in facts.of(survey.BOOK, ""):
        if not one.is_ok:
            continue
        asks, bids = _prices(one, "asks"), _prices(one, "bids")
        good = asks == sorted(asks) and bids == sorted(bids, reverse=True)
        market = one.path.rpartition("/")[2]
        said.append(f"{market} has {len(asks)}+{len(bids)} levels, best {'' if good else 'not '}first")
        evidence = str(one)
    for one in facts.of(survey.FILLS):
        ids = [int(row["id"]) for row in rows_of(one, "trades") if isinstance(row.get("id"), int)]
        if len(ids) > 1:
            said.append(f"trades/list {'newest first' if ids == sorted(ids, reverse=True) else 'not newest first'}")
    if not said:
        return unseen("no answer with two rows")
    return same("; ".join(dict.fromkeys(said)) + "; sorted locally in any case", evidence)


def candle_unit(facts: Facts) -> Judged:
    """Row 31."""
    for one in facts.of(survey.CANDLES):
        path = str(one.query.get("symbol", ""))
        closes = one.payload.get("c") if one.status == 200 and isinstance(one.payload, dict) else None
        book = next((b for b in facts.of(survey.BOOK + path, "") if b.is_ok), None)
        last = decimal(book.payload.get("lastTradePrice")) if book else None
        close = decimal(closes[-1]) if isinstance(closes, list) and closes else None
        if not path.endswith("IRT") or not last or not close:
            continue
        ratio = money.divide(close, last)
        observed = f"the last candle of {path} closes at {money.text(close)}, the last trade was at {money.text(last)}"
        if _TOMAN[0] < ratio < _TOMAN[1]:
            return same(observed + ": toman", one)
        if _RIAL[0] < ratio < _RIAL[1]:
            return other(
                observed + ": rial",
                one,
                action="divide the prices of get_ohlc() for IRT markets by ten, or do not use it: it multiplies by ten",
            )
        return unseen(observed + ": neither the same nor a tenth")
    return unseen("no candles or no last price of an IRT market")


def id_sizes(facts: Facts) -> Judged:
    """Row 32."""
    ids = [row["id"] for row in (*facts.order_rows().values(), *facts.fill_rows().values())]
    if not ids:
        return unseen("the account has no order and no fill")
    texts = [one for one in ids if not isinstance(one, int)]
    if texts:
        return other(f"{_count(len(texts), 'id')} are text; the adapter takes both", f"{str(texts[0])[:40]!r}")
    bits = max(ids).bit_length()
    observed = f"up to {bits} bits in {_count(len(ids), 'id')}"
    if bits <= _INT64:
        return same(observed, f"id {max(ids)}")
    return other(observed + "; ids are text here, so they fit", f"id {max(ids)}")


def extra_parameter(facts: Facts) -> Judged:
    """Row 33."""
    asked = [one for one in facts.seen if one.label == survey.EXTRA_PARAMETER and one.status is not None]
    if not asked:
        return unseen("no answer")
    if asked[0].is_ok:
        return same("ignored", asked[0])
    return other("refused; the adapter sends documented parameters only", asked[0])


def maintenance(facts: Facts) -> Judged:
    """Row 34."""
    down = [one for one in facts.seen if one.status is not None and (one.status >= 500 or one.payload is None)]
    if not down:
        return unseen("every answer was JSON below HTTP 500")
    plain = [one for one in down if one.payload is None and one.status is not None and one.status >= 500]
    if plain:
        return same(f"{_count(len(plain), 'answer')} without JSON and above HTTP 500", plain[0])
    kind = "without JSON" if down[0].payload is None else "with JSON"
    return other(f"{_count(len(down), 'answer')}, such as HTTP {down[0].status} {kind}", down[0])


def oco_client_ids(facts: Facts) -> Judged:
    """Row 35."""
    rows = facts.order_rows()
    legs = [(row, rows[str(row["pairId"])]) for row in rows.values() if str(row.get("pairId")) in rows]
    with_id = [(one, two) for one, two in legs if client_id_of(one) and client_id_of(one) == client_id_of(two)]
    if with_id:
        evidence = f"orders {_few(leg['id'] for leg in with_id[0])}"
        return other("both legs of an OCO carry one client id; the pipeline places none", evidence)
    told = [(one, two) for one, two in legs if client_id_of(one) and not client_id_of(two)]
    if told:
        return same("one leg only", f"orders {_few(leg['id'] for leg in told[0])}")
    return unseen("no OCO with a client id in the history; the pipeline places none")


def _has_order(one: Seen) -> bool:
    return one.is_ok and isinstance(one.payload.get("order"), dict)


def _prices(one: Seen, side: str) -> list[Decimal]:
    levels = one.payload.get(side)
    firsts = [level[0] for level in levels if isinstance(level, list) and level] if isinstance(levels, list) else []
    return [price for first in firsts if (price := decimal(first)) is not None]


def _promised_fees(facts: Facts) -> dict[str, Decimal | None]:
    """The profile's percentages by quote currency."""
    told: dict[str, object] = {}
    for one in facts.of(survey.PROFILE, ""):
        profile = one.payload.get("profile") if one.is_ok else None
        options = profile.get("options") if isinstance(profile, dict) else None
        told = options if isinstance(options, dict) else told
    return {"IRT": decimal(told.get("fee")), "USDT": decimal(told.get("feeUsdt"))}


def _is_rate(share: Decimal) -> bool:
    return _LEAST_RATE <= share <= _MOST_RATE


def _percent(share: Decimal) -> str:
    return f"{float(share) * 100:.3g} %"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _few(ids: Iterable[object]) -> str:
    shown = [str(one)[:40] for one in ids]
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
