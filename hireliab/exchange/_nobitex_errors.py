"""
What an answer of Nobitex means: one table from its codes to our errors.

A code in the table is a definite no. Whatever is not listed is *unknown*: a new code, a page of the CDN, a server
error, a body without the promised shape. Source: nobitex-api.md sections 5 and 8.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hireliab.errors import (
    AuthenticationError,
    DuplicateOrderError,
    HireliabError,
    InsufficientFundsError,
    InvalidOrderError,
    MalformedResponseError,
    OrderNotFoundError,
    OrderRejectedError,
    RefusedError,
    ThrottledError,
)

CODES: dict[str, type[RefusedError]] = {
    # section 5.3
    "ParseError": InvalidOrderError,
    "InvalidSymbol": InvalidOrderError,
    "TooManyRequests": ThrottledError,
    "NotFound": OrderNotFoundError,
    "NullIdAndClientOrderId": RefusedError,
    "FeatureUnavailable": OrderRejectedError,
    "TradingUnavailable": OrderRejectedError,
    "TradeLimitation": OrderRejectedError,
    # section 8.2
    "InvalidOrderPrice": InvalidOrderError,
    "BadPrice": OrderRejectedError,
    "PriceConditionFailed": OrderRejectedError,
    "OverValueOrder": InsufficientFundsError,
    "InsufficientBalance": InsufficientFundsError,
    "SmallOrder": InvalidOrderError,
    "DuplicateOrder": DuplicateOrderError,
    "DuplicateClientOrderId": DuplicateOrderError,
    "InvalidMarketPair": InvalidOrderError,
    "MarketClosed": OrderRejectedError,
    "InvalidExecutionType": InvalidOrderError,
    "InvalidOrderType": InvalidOrderError,
    "UnexpectedMarketPrice": OrderRejectedError,
    "MissingStopPrice": InvalidOrderError,
}
"""Every code that is documented, or was seen in the field, for the endpoints that the client has."""

DEFAULT_BACKOFF = 10.0
"""Seconds to wait after a 429 that does not say how long."""

_LONGEST_BACKOFF = 3600.0
_SKEW_WORTH_SAYING = 5.0


def error_of(
    *,
    what: str,
    status: int,
    payload: object,
    headers: Mapping[str, str],
    signed: bool = False,
    skew: float | None = None,
    changes: bool = False,
) -> HireliabError | None:
    """
    The error that an answer stands for, or None for a success.

    Args:
        what: The endpoint, for the text.
        status: The HTTP status.
        payload: The parsed body, or None when it is not JSON.
        headers: Of the answer, looked up without regard to case.
        signed: Whether the request was signed with a key pair.
        skew: Seconds that the venue's clock is ahead of ours, when known: it spoils signatures.
        changes: Whether the request places or cancels.

    Returns:
        ThrottledError for a 429 (one without Nobitex's own code leaves a change unknown), AuthenticationError for a 401
        (one without a JSON object leaves a change unknown), the table's class for a listed code under 200 and 4xx,
        MalformedResponseError for everything else that is not a success.
    """
    body = payload if isinstance(payload, dict) else None
    code = _code(body)
    said = _said(body, code)
    if status == 429 and code != "TooManyRequests" and changes:
        # Not the limiter in front of the book but a proxy or CDN, which may have passed the order on before.
        return MalformedResponseError(
            f"{what}: too many requests (HTTP 429), but not by Nobitex's own code TooManyRequests{said};"
            " what happened is unknown",
            code=code,
            http_status=status,
        )
    if status == 429 or (code == "TooManyRequests" and status < 500):
        return ThrottledError(
            f"{what}: too many requests (HTTP {status}){said}; send it again later",
            retry_after=retry_after(body, headers),
            code=code,
            http_status=status,
        )
    if status == 401 and (body is not None or not changes):  # of Nobitex it has neither status nor code
        # Without a JSON object it is a proxy's or a CDN's, which may have passed an order on before.
        return _refused_credentials(what, status, code, said, skew if signed else None)
    if body is None or not (status == 200 or 400 <= status < 500):
        kind = "a server error" if status >= 500 else "no JSON object" if body is None else "an unexpected status"
        return MalformedResponseError(
            f"{what}: answered with {kind} (HTTP {status}){said}; what happened is unknown",
            code=code,
            http_status=status,
        )
    if status == 200 and code is None and _is_success(body):
        return None
    listed = CODES.get(code) if code is not None else None
    if listed is not None:
        return listed(f"{what}: refused with {code} (HTTP {status}){said}", code=code, http_status=status)
    if status == 403 or (status == 400 and signed and code is None):
        return _refused_credentials(what, status, code, said, skew if signed else None)
    # A 404 without Nobitex's own "NotFound" is a wrong path or somebody else's page: it proves no absence.
    return MalformedResponseError(
        f"{what}: answered with {'the undocumented code ' + repr(code) if code else 'no known meaning'}"
        f" (HTTP {status}){said}; what happened is unknown",
        code=code,
        http_status=status,
    )


def _refused_credentials(
    what: str, status: int, code: str | None, said: str, skew: float | None
) -> AuthenticationError:
    off = "" if skew is None or abs(skew) < _SKEW_WORTH_SAYING else f" (it differs from the venue's by {skew:+.0f} s)"
    return AuthenticationError(
        f"{what}: credentials, signature, permission or address not accepted (HTTP {status}){said};"
        f" check the key, its permissions and the clock{off}",
        code=code,
        http_status=status,
    )


def _is_success(body: dict[str, Any]) -> bool:
    # Charts have "s" instead; a refused cancel of a closed order is no error, but says "failed" without a code.
    return body.get("status") == "ok" or (body.get("status") == "failed" and "updatedStatus" in body) or "s" in body


def _code(body: dict[str, Any] | None) -> str | None:
    if body is None:
        return None
    code = body.get("code")
    if code is None:
        code = body.get("error")  # orders/status and cancel-old
    return None if code is None or code == "" else str(code)[:60]


def _said(body: dict[str, Any] | None, code: str | None) -> str:
    if body is None:
        return ""
    message = body.get("message") or body.get("detail")
    if not isinstance(message, str) or message == code:
        return ""
    printable = "".join(c if c.isprintable() else " " for c in message[:120])
    return f": {printable}"


def retry_after(body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> float:
    """Seconds to wait after a 429: the larger of the body's backOff and the header's Retry-After."""
    found = [_seconds(None if body is None else body.get("backOff")), _seconds(headers.get("Retry-After"))]
    known = [seconds for seconds in found if seconds is not None]
    return max(known) if known else DEFAULT_BACKOFF


def _seconds(value: object) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(str(value))
    except ValueError:
        return None  # Retry-After may also be a date; nobody has seen Nobitex send one
    return min(seconds, _LONGEST_BACKOFF) if math.isfinite(seconds) and seconds >= 0 else None
