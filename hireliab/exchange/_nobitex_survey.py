"""
What the answers of the real exchange say about the questions that its documents leave open; pure.

The rows are those of section 10 of the API sheet. Each has a judgement that is a function of `Facts`: everything that
was sent and everything that came back. Nothing here talks to anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hireliab.exchange._nobitex_errors import error_of
from hireliab.exchange.adapter import Order

AS_ASSUMED = "as assumed"
DIFFERS = "differs"
NOT_SEEN = "not seen"
NOT_ASKED = "not asked"
VERDICTS = (AS_ASSUMED, DIFFERS, NOT_SEEN, NOT_ASKED)

ADD = "/market/orders/add"
STATUS = "/market/orders/status"
LIST = "/market/orders/list"
CANCEL = "/market/orders/update-status"
FILLS = "/market/trades/list"
WALLETS = "/v2/wallets"
PROFILE = "/users/profile"
OPTIONS = "/v2/options"
BOOK = "/v3/orderbook/"
CANDLES = "/market/udf/history"
STATS = "/market/stats"

# Labels of questions that an address alone does not tell apart.
CLOSED_BY_CLIENT_ID = "a closed order by its client id"
UNKNOWN_CLIENT_ID = "a client id that nobody has"
NO_ID = "no id at all"
BAD_SYMBOL = "a market that is none"
EXTRA_PARAMETER = "a parameter that is none"
BAD_SIGNATURE = "a wrong signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    One request and what came back.

    Attributes:
        query: Of the address; body: the JSON that was sent.
        status: HTTP status, or None where no answer came.
        payload: The parsed JSON, or None where it was none.
        headers: Those that matter here, names in lower case.
        skew: Seconds that the venue's clock is ahead of ours, by this answer's Date header.
        sent: Monotonic seconds; received likewise.
        label: Which question it was, where the address does not tell.
        error: The name of the error instead of an answer.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = 200
    payload: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    skew: float | None = None
    sent: float = 0.0
    received: float = 0.0
    label: str = ""
    error: str = ""

    @property
    def is_ok(self) -> bool:
        """A JSON object under HTTP 200 that does not say "failed"."""
        return self.status == 200 and isinstance(self.payload, dict) and self.payload.get("status") != "failed"

    @property
    def code(self) -> str:
        """The venue's code, or ""."""
        if not isinstance(self.payload, dict):
            return ""
        return str(self.payload.get("code") or self.payload.get("error") or "")[:60]

    def __str__(self) -> str:
        what = f" ({self.label})" if self.label else ""
        came = self.error or f"HTTP {self.status}" + (f" {self.code}" if self.code else "")
        return f"{self.method} {self.path}{what}: {came}"

    def means(self, *, signed: bool = False) -> Exception | None:
        """The error that the adapter makes of this answer, or None for a success."""
        return error_of(
            what=self.path, status=self.status or 0, payload=self.payload, headers=self.headers, signed=signed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """
    The order that was placed to learn from.

    Attributes:
        order: As it was sent.
        last: The market's last price when it was planned.
        verdict: The pipeline's.
        window: The pipeline's `visibility_window`; patience: its `verification_timeout`; both in seconds.
    """

    order: Order
    last: Decimal
    verdict: str
    window: float = 5.0
    patience: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    Everything that is known, for the judgements.

    Attributes:
        seen: In the order of the answers.
        now: Unix seconds of the venue's clock.
        is_key_pair: Whether the requests were signed.
        placed: None where no order was sent; `not_placed` says why.
    """

    seen: tuple[Seen, ...] = ()
    symbol: str = "BTC/USDT"
    now: float = 0.0
    is_key_pair: bool = False
    placed: Placed | None = None
    not_placed: str = "needs --place-minimal-order"

    def of(self, path: str, label: str | None = None) -> list[Seen]:
        """What was asked at an address, or under one where it ends with a slash."""
        return [
            one
            for one in self.seen
            if (one.path == path or (path.endswith("/") and one.path.startswith(path)))
            and (label is None or one.label == label)
        ]

    def order_rows(self) -> dict[str, Mapping[str, Any]]:
        """Every own order of every listing by its id, as last listed."""
        return {str(row["id"]): row for one in self.of(LIST) for row in rows_of(one, "orders") if row.get("id")}

    def closed_rows(self) -> list[Mapping[str, Any]]:
        """Own orders of the listings that are closed."""
        return [row for row in self.order_rows().values() if row.get("status") in ("Done", "Canceled", "Rejected")]

    def fill_rows(self) -> dict[str, Mapping[str, Any]]:
        """Every own fill by its id."""
        return {str(row["id"]): row for one in self.of(FILLS) for row in rows_of(one, "trades") if row.get("id")}


def rows_of(one: Seen, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list in an answer; nothing where it is no such answer."""
    if not one.is_ok:
        return
    found = one.payload.get(name)
    yield from (row for row in found if isinstance(row, dict)) if isinstance(found, list) else ()


@dataclass(frozen=True, slots=True)
class Judged:
    """
    A verdict on one row.

    Attributes:
        action: What to change; a difference matters exactly where there is something to do about it.
    """

    verdict: str
    observed: str
    evidence: str = ""
    action: str = ""


def same(observed: str, evidence: object = "") -> Judged:
    """The exchange did as the adapter assumes."""
    return Judged(AS_ASSUMED, observed, str(evidence))


def other(observed: str, evidence: object = "", *, action: str = "") -> Judged:
    """It did not."""
    return Judged(DIFFERS, observed, str(evidence), action)


def unseen(why: str) -> Judged:
    """It was looked for, and did not occur."""
    return Judged(NOT_SEEN, why)


def unasked(why: str) -> Judged:
    """It was not looked for."""
    return Judged(NOT_ASKED, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report; `matters` makes the command's exit code 1."""

    row: int
    topic: str
    assumes: str
    observed: str
    verdict: str
    evidence: str
    action: str

    @property
    def matters(self) -> bool:
        """Whether it differs in a way that asks for something to be done."""
        return self.verdict == DIFFERS and bool(self.action)
