"""The 37 rows of section 10 of the API sheet, each with its judgement; pure."""

from __future__ import annotations

from collections.abc import Callable

from hireliab.exchange import _nobitex_survey_order as order
from hireliab.exchange import _nobitex_survey_rows as rows
from hireliab.exchange._nobitex_survey import Facts, Finding, Judged, other, unasked

Judge = Callable[[Facts], Judged]


def _never(why: str) -> Judge:
    return lambda _facts: unasked(why)


ROWS: tuple[tuple[int, str, str, Judge], ...] = (
    (1, "clientOrderId uniqueness after terminal", "may be reused, the server does not protect", rows.client_id_reuse),
    (2, "clientOrderId charset", "[A-Za-z0-9-]{1,32}", rows.client_id_charset),
    (3, "clientOrderId and the 10-s duplicate rule", "does not exempt", rows.duplicate_rule),
    (4, "DuplicateOrder or DuplicateClientOrderId first", "both mean: look first",
     _never("needs one order sent twice; the pipeline looks first after either")),
    (5, "read-after-write of status, list, wallets", "eventual, up to tens of seconds", order.read_after_write),
    (6, "status 404 by clientOrderId", "proves nothing", rows.closed_by_client_id),
    (7, "closed orders stay in the list", "maybe for a short time", rows.retention),
    (8, "clientOrderId in closed list rows", "shown; where it is not, the pipeline learns it", rows.closed_client_ids),
    (9, "timeouts and 5xx on add", "outcome unknown",
     _never("one client cannot make the exchange lose an answer; the simulator does")),
    (10, "a 429 on add is free of side effects", "yes, but verify",
     _never("needs more than 300 orders in 10 min, which risks a ban of the token")),
    (11, "kind and key of rate windows", "sliding, of IP and user",
     _never("needs limits to be hit from two addresses, which risks a ban")),
    (12, "headers of a 429", "none; the body's backOff", rows.throttle_headers),
    (13, "HTTP status of business failures", "200 mostly; also 400, 404, 422", rows.failure_statuses),
    (14, "body of a wrong signature", "an authentication failure", rows.bad_signature),
    (15, "clock and timestamp tolerance", "within 30 s; keep within 5 s", rows.clock_skew),
    (16, "API key on unlisted endpoints", "not supported",
     _never("a refusal may count as a failed authentication; the adapter calls listed endpoints only")),
    (17, "price that triggers stops", "unknown",
     _never("needs the market to move through a stop; the pipeline reads what became of it")),
    (18, "OCO with a partly filled limit leg", "unknown; check both legs",
     _never("needs a partial fill of an OCO; the pipeline places none")),
    (19, "latency from New to Active", "unknown; New is not live", order.activation),
    (20, "spelling of Rejected", "Rejected; others alert", rows.status_tokens),
    (21, "fee currency and rates", "buy in base, sell in quote, at most the profile's", rows.fees),
    (22, "matching rule", "price, then time",
     _never("needs the orders of others at a known time")),
    (23, "self-trade", "unknown; avoid",
     _never("needs two orders that trade with each other, which costs fees and may be forbidden")),
    (24, "largest order, most open orders", "unknown", rows.maximum),
    (25, "minimum value at equality", "must exceed", order.minimum),
    (26, "reference of the 30 % band", "keep well inside", order.band),
    (27, "funds blocked by an order", "amount (sell), amount x price (buy)", order.blocked_funds),
    (28, "more decimals than allowed", "never sent; numbers on the steps come back as sent", order.echo),
    (29, "amount rounded to zero", "refused locally",
     _never("the adapter refuses it before sending, so that no answer depends on it")),
    (30, "order of rows, number of levels", "orders/list as asked; others sorted locally", rows.answer_order),
    (31, "unit of candles", "toman for IRT", rows.candle_unit),
    (32, "size of ids", "64 bits", rows.id_sizes),
    (33, "extra parameters", "ignored", rows.extra_parameter),
    (34, "maintenance answers", "no JSON, 5xx", rows.maintenance),
    (35, "clientOrderId on OCO legs", "limit leg only", rows.oco_client_ids),
    (36, "cancel is synchronous", "perhaps not; confirmed by polling", order.cancel_synchronous),
    (37, "body on GET, Content-Type", "never sent",
     _never("the adapter never sends one, so that no answer depends on it")),
)  # fmt: skip


def judge(facts: Facts) -> tuple[Finding, ...]:
    """All rows, in order."""
    findings = []
    for number, topic, assumes, judged_by in ROWS:
        try:
            judged = judged_by(facts)
        except Exception as error:  # an answer of a new form must not cost the other rows
            judged = other(
                f"answers of a form that cannot be judged ({type(error).__name__})",
                action="report it, with the answer that the exchange gave",
            )
        findings.append(
            Finding(
                row=number,
                topic=topic,
                assumes=assumes,
                observed=_clean(judged.observed),
                verdict=judged.verdict,
                evidence=_clean(judged.evidence),
                action=_clean(judged.action),
            )
        )
    return tuple(findings)


def _clean(text: str) -> str:
    """What the exchange wrote must not steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:400]
