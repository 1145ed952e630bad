"""No input, however strange, looks like a bug of the exchange."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = (
    "type srcCurrency dstCurrency amount price execution stopPrice stopLimitPrice mode clientOrderId pro id order "
    "status hours orderIds data currency currencies wallet page pageSize fromId details tradeType name permissions "
    "ipAddressesWhitelist expirationDate username password captcha remember device symbol resolution to from countback tp"
).split()
WORDS = "buy sell btc rls usdt limit market stop_limit oco canceled all id -price 2 0.001 49000000000 NaN 1e400 -1 \u06f1 READ api yes D 60 ''"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS.split()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)
params = st.dictionaries(st.sampled_from(NAMES), values, max_size=12)
POSTS = (
    "/market/orders/add /market/orders/batch-add /market/orders/status /market/orders/update-status "
    "/market/orders/cancel-old /market/orders/cancel-batch /users/wallets/balance /v2/wallets /users/profile "
    "/apikeys/create /apikeys/update/x /auth/login/"
).split()
GETS = (
    "/market/orders/list /market/trades/list /market/orders/open-count /market/udf/history /market/stats "
    "/users/transactions-history /users/wallets/transactions/list /users/wallets/deposits/list /v3/orderbook/BTCIRT"
).split()
HEADERS = {"x-totp": "123456", "user-agent": "TraderBot/x"}
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(path=st.sampled_from(POSTS), body=params)
def test_strange_bodies_are_answered_in_order(exchange, path, body):
    reply = exchange.send("POST", path, body, headers=HEADERS)
    assert reply.status in (200, 400, 404)
    json.loads(reply.body)


@MANY
@given(
    path=st.sampled_from(GETS),
    query=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WORDS.split()) | st.text(max_size=8), max_size=8),
)
def test_strange_queries_are_answered_in_order(exchange, path, query):
    from urllib.parse import urlencode

    reply = exchange.send("GET", f"{path}?{urlencode(query)}")
    assert reply.status in (200, 400, 404)
    json.loads(reply.body)


@MANY
@given(
    kind=st.sampled_from(
        [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "text/plain",
            "",
        ]
    ),
    body=st.binary(max_size=60),
)
def test_strange_bytes_are_answered_in_order(exchange, kind, body):
    assert exchange.send("POST", "/market/orders/add", body, headers={"content-type": kind}).status == 400


@pytest.mark.parametrize(
    "target", ["/%00", "//", "/v3/orderbook/%2F", "/v3/orderbook/..", "/?%", "*", "/v3/orderbook/BTCIRT?%zz=%"]
)
def test_strange_targets_are_answered_in_order(exchange, target):
    assert exchange.send("GET", target).status in (200, 400, 404)
