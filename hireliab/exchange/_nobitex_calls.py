"""One call of Nobitex's API: serialise once, sign those bytes, send those bytes, and say what the answer means."""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from hireliab.core import money
from hireliab.core.clock import Clock
from hireliab.errors import ConfigError, InvalidOrderError
from hireliab.exchange import _nobitex_values as values
from hireliab.exchange._nobitex_errors import error_of
from hireliab.exchange._nobitex_signing import Credentials
from hireliab.exchange._nobitex_transport import Answer, Request, Transport, address
from hireliab.exchange.adapter import Fill, OrderState, OrderStatus

_CLIENT_ID = re.compile(r"[A-Za-z0-9-]{1,32}", re.ASCII)

Number: TypeAlias = "Decimal | str | int | float"


class Calls:
    """
    Makes the calls of one client.

    Attributes:
        base_url: Where to, unless a call says otherwise.
        credentials: Who we are, unless a call says otherwise.
        transport: What carries the calls.
        skew: Seconds that the venue's clock is ahead of ours, from the Date of the last private answer, or of a first
            public one; None before that.
    """

    def __init__(
        self,
        *,
        base_url: str,
        credentials: Credentials | None,
        user_agent: str,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self.base_url = base_url
        self.credentials = credentials
        self.transport = transport
        self.skew: float | None = None
        self._user_agent = user_agent
        self._clock = clock

    def public(self, path: str, *, base_url: str | None, params: Mapping[str, object] | None = None) -> dict[str, Any]:
        """GET without credentials."""
        return self._call("GET", path, params=params, body=None, who=None, changes=False, base_url=base_url)

    def private(
        self,
        method: str,
        path: str,
        *,
        credentials: Credentials | None,
        base_url: str | None,
        params: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        changes: bool = False,
    ) -> dict[str, Any]:
        """
        A call with credentials.

        Args:
            changes: It places or cancels: it is sent at most once.
        """
        who = credentials or self.credentials
        if who is None:
            raise ConfigError(
                f"nobitex {path}: needs credentials; give the client a token, or api_key and api_secret",
                setting="token",
            )
        return self._call(method, path, params=params, body=body, who=who, changes=changes, base_url=base_url)

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None,
        body: Mapping[str, object] | None,
        who: Credentials | None,
        changes: bool,
        base_url: str | None,
    ) -> dict[str, Any]:
        base = self.base_url if base_url is None or base_url == self.base_url else checked_base_url(base_url)
        url, target = address(base + path)
        if params:
            query = "?" + urllib.parse.urlencode(params)
            url, target = url + query, target + query
        # Serialised once: these bytes are signed, and these bytes are sent.
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode("ascii")

        def make() -> Request:
            headers = {"User-Agent": self._user_agent}
            if data is not None:
                headers["Content-Type"] = "application/json"
            if who is not None:
                now = int(self._clock.time())
                headers |= who.headers(timestamp=now, method=method, path=target, body=data or b"")
            return Request(method=method, url=url, path=target, headers=headers, body=data)

        what = f"nobitex {path}"
        answer = self.transport.request(make, what=what, read=not changes)
        return self._payload(answer, what, who=who, changes=changes)

    def _payload(self, answer: Answer, what: str, *, who: Credentials | None, changes: bool) -> dict[str, Any]:
        skew = answer.skew
        # A public answer may come from a cache, with the time at which it was put there.
        if skew is not None and (who is not None or self.skew is None):
            self.skew = skew
        try:
            payload = values.loads(answer.body)
        except ValueError:
            payload = None
        error = error_of(
            what=what,
            status=answer.status,
            payload=payload,
            headers=answer.headers,
            signed=who is not None and who.is_key_pair,
            skew=skew,
            changes=changes,
        )
        if error is not None:
            raise error
        return values.mapping(payload, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class FillPage:
    """One page of own fills; `has_next` is None where the venue does not say."""

    fills: tuple[Fill, ...]
    has_next: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPage:
    """One page of own spot orders in the venue's order; `rows` counts the left-out margin rows too."""

    orders: tuple[OrderState, ...]
    has_next: bool | None
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """
    The answer to a cancel.

    Attributes:
        status: What the venue says that the order is now.
        order: The order after it, or None where the answer leaves it out: look it up.
        already_closed: The order was closed before; the cancel changed nothing.
    """

    status: OrderStatus
    order: OrderState | None
    already_closed: bool


def checked_base_url(text: object) -> str:
    """A base URL without its trailing slash; ConfigError for one without scheme or host, or with more than a path."""
    allowed = "a URL like https://apiv2.nobitex.ir or http://127.0.0.1:8000"
    try:
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError
        parts = urllib.parse.urlsplit(text)
        extra = parts.username or parts.password or parts.query or parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or extra or parts.port == 0:
            raise ValueError
        address(text.rstrip("/") + "/")
    except ValueError:
        shown = "" if not isinstance(text, str) or "@" in text else f", got {text[:80]!r}"
        raise ConfigError(f"base_url: must be {allowed}{shown}", setting="base_url", allowed=allowed) from None
    return text.rstrip("/")


def is_in_the_clear(base_url: str) -> bool:
    """Whether what is sent there can be read on its way: plain HTTP to another network than this machine's own."""
    parts = urllib.parse.urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return False
    try:
        return not ipaddress.ip_address(host).is_private  # the loopback is private, too
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))


def checked_client_id(text: object) -> str:
    """A client order id as Nobitex takes it; InvalidOrderError for any other."""
    if not isinstance(text, str) or not _CLIENT_ID.fullmatch(text):
        raise InvalidOrderError(
            f"client_order_id: must be 1 to 32 characters of A-Z, a-z, 0-9 and -, got {text!r:.60}", by="hireliab"
        )
    return text


def pair(market: values.Symbol) -> dict[str, object]:
    """A market as request fields."""
    return {"srcCurrency": market.src, "dstCurrency": market.dst}


def wire(name: str, number: Number) -> str:
    """A user's number as plain digits; InvalidOrderError for anything else."""
    return money.text(money.positive(number, what=name))


def flag(value: object) -> bool | None:
    """True, False, or None for anything else."""
    return value if isinstance(value, bool) else None


def one_id(name: str, order_id: str | int | None, client_order_id: str | None) -> dict[str, object]:
    """The request field for one of two ids; `name` is what the endpoint calls the venue's."""
    if (order_id is None) == (client_order_id is None):
        raise InvalidOrderError("order: give either order_id or client_order_id", by="hireliab")
    if client_order_id is not None:
        return {"clientOrderId": checked_client_id(client_order_id)}
    try:
        return {name: int(str(order_id))}
    except ValueError:
        raise InvalidOrderError(f"order_id: must be the venue's number, got {order_id!r:.60}", by="hireliab") from None
