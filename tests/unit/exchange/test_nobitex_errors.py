"""The table from Nobitex's codes to our errors (nobitex-api.md sections 5 and 8.2)."""

from __future__ import annotations

import pytest
from requests.structures import CaseInsensitiveDict

from hireliab.errors import (
    AuthenticationError,
    DuplicateOrderError,
    InsufficientFundsError,
    InvalidOrderError,
    MalformedResponseError,
    OrderNotFoundError,
    OrderRejectedError,
    OutcomeUnknownError,
    RefusedError,
    ThrottledError,
)
from hireliab.exchange._nobitex_errors import CODES, DEFAULT_BACKOFF, error_of

DOCUMENTED = {
    # 5.3
    "ParseError": InvalidOrderError,
    "InvalidSymbol": InvalidOrderError,
    "TooManyRequests": ThrottledError,
    "NotFound": OrderNotFoundError,
    "NullIdAndClientOrderId": RefusedError,
    "FeatureUnavailable": OrderRejectedError,
    "TradingUnavailable": OrderRejectedError,
    "TradeLimitation": OrderRejectedError,
    # 8.2
    "InvalidOrderPrice": InvalidOrderError,
    "BadPrice": OrderRejectedError,
    "PriceConditionFailed": OrderRejectedError,
    "OverValueOrder": InsufficientFundsError,
    "SmallOrder": InvalidOrderError,
    "DuplicateOrder": DuplicateOrderError,
    "DuplicateClientOrderId": DuplicateOrderError,
    "InvalidMarketPair": InvalidOrderError,
    "MarketClosed": OrderRejectedError,
    "InvalidExecutionType": InvalidOrderError,
    "InvalidOrderType": InvalidOrderError,
    "UnexpectedMarketPrice": OrderRejectedError,
    "MissingStopPrice": InvalidOrderError,
    "InsufficientBalance": InsufficientFundsError,
}


def judge(status, payload, headers=None, **more):
    return error_of(
        what="orders/add", status=status, payload=payload, headers=CaseInsensitiveDict(headers or {}), **more
    )


def failed(code, **more):
    return {"status": "failed", "code": code, "message": "text", **more}


def test_every_documented_code_is_in_the_table_and_nothing_else():
    assert DOCUMENTED == CODES


@pytest.mark.parametrize("status", [200, 400, 404, 422])
@pytest.mark.parametrize("code", sorted(DOCUMENTED))
def test_a_documented_code_is_a_definite_no_under_every_status_it_may_have(code, status):
    error = judge(status, failed(code))
    assert type(error) is DOCUMENTED[code]
    assert error.code == code and error.http_status == status and error.by == "venue"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("code", sorted(DOCUMENTED))
def test_a_documented_code_under_a_server_error_is_unknown(code, status):
    assert isinstance(judge(status, failed(code)), OutcomeUnknownError)


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 404, 409, 422, 500])
@pytest.mark.parametrize(
    "payload",
    [
        failed("BrandNew"),
        {"status": "failed"},
        {"status": "weird"},
        {},
        None,
        [],
        "text",
        {"detail": "Not found."},
        {"status": "failed", "code": 17},
        {"status": "ok", "code": "Odd"},
    ],
    ids=str,
)
def test_whatever_is_not_listed_is_unknown(status, payload):
    error = judge(status, payload)
    assert type(error) is MalformedResponseError
    assert error.http_status == status


def test_the_unlisted_code_is_named():
    error = judge(200, failed("BrandNew"))
    assert isinstance(error, MalformedResponseError)
    assert error.code == "BrandNew" and "BrandNew" in str(error)


@pytest.mark.parametrize(
    "payload",
    [{"status": "ok"}, {"status": "ok", "order": {}}, {"status": "failed", "updatedStatus": "Done"}, {"s": "no_data"}],
)
def test_a_success_is_no_error(payload):
    assert judge(200, payload) is None


def test_a_success_under_another_status_is_unknown():
    assert isinstance(judge(201, {"status": "ok"}), MalformedResponseError)


def test_a_code_beats_the_word_ok():
    assert isinstance(judge(200, {"status": "ok", "code": "InvalidMarketPair"}), InvalidOrderError)


def test_the_error_field_of_a_missing_order_is_its_code():
    assert isinstance(
        judge(404, {"error": "NotFound", "message": "No Order matches the given query."}), OrderNotFoundError
    )


@pytest.mark.parametrize(
    ("payload", "headers", "seconds"),
    [
        (failed("TooManyRequests", backOff=12), {"Retry-After": "7"}, 12),
        (failed("TooManyRequests", backOff=2), {"retry-after": "7"}, 7),
        (failed("TooManyRequests"), {}, DEFAULT_BACKOFF),
        (None, {"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT"}, DEFAULT_BACKOFF),
        (failed("TooManyRequests", backOff="nan"), {}, DEFAULT_BACKOFF),
        (failed("TooManyRequests", backOff=-1), {}, DEFAULT_BACKOFF),
        (failed("TooManyRequests", backOff=True), {}, DEFAULT_BACKOFF),
        (failed("TooManyRequests", backOff=10**9), {}, 3600),
    ],
)
def test_a_throttled_call_waits_for_the_longer_of_both_hints(payload, headers, seconds):
    error = judge(429, payload, headers)
    assert isinstance(error, ThrottledError)
    assert error.retry_after == seconds


@pytest.mark.parametrize("payload", [None, {"detail": "Request was throttled."}, failed("Odd"), failed("")])
def test_only_nobitex_own_code_proves_that_a_throttled_order_was_not_placed(payload):
    error = judge(429, payload, changes=True)
    assert isinstance(error, MalformedResponseError) and error.http_status == 429
    assert "what happened is unknown" in str(error)
    assert isinstance(judge(429, payload), ThrottledError)  # of a read
    assert isinstance(judge(429, failed("TooManyRequests"), changes=True), ThrottledError)


@pytest.mark.parametrize("payload", [None, {"detail": "token"}, failed("Odd")])
def test_401_is_about_the_credentials_whatever_the_body(payload):
    error = judge(401, payload)
    assert isinstance(error, AuthenticationError) and error.http_status == 401


def test_a_401_that_is_not_nobitex_own_proves_nothing_of_an_order():
    error = judge(401, None, changes=True)
    assert isinstance(error, MalformedResponseError) and error.http_status == 401
    assert "what happened is unknown" in str(error)
    assert isinstance(judge(401, {"detail": "token"}, changes=True), AuthenticationError)


def test_403_is_about_the_credentials_only_when_the_venue_says_it_in_json():
    assert isinstance(judge(403, {"detail": "x"}), AuthenticationError)
    assert isinstance(judge(403, None), MalformedResponseError)


def test_a_bare_400_of_a_signed_request_is_about_the_signature():
    assert isinstance(judge(400, {"detail": "x"}, signed=True), AuthenticationError)
    assert isinstance(judge(400, {"detail": "x"}, signed=False), MalformedResponseError)


def test_a_clock_that_is_off_is_named_when_a_signature_is_refused():
    assert "-40 s" in str(judge(401, None, signed=True, skew=-40.2))
    assert "differs" not in str(judge(401, None, signed=True, skew=1.0))
    assert "differs" not in str(judge(401, None, signed=False, skew=-40.2))


def test_a_message_of_the_venue_cannot_break_the_line():
    error = judge(200, failed("SmallOrder") | {"message": "a\nb\x1b[31m" + "x" * 500})
    assert "\n" not in str(error) and "\x1b" not in str(error) and len(str(error)) < 300
