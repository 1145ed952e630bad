"""Credentials and signatures of Nobitex (nobitex-api.md section 3)."""

from __future__ import annotations

import pickle

import pytest

from hireliab.errors import ConfigError
from hireliab.exchange._nobitex_signing import credentials

KEY = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="
SECRET = "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="
TOKEN = "0123456789abcdef0123456789abcdef01234567"
ORDER = (
    b'{"type":"buy","srcCurrency":"btc","dstCurrency":"rls","amount":"0.001","price":"50000000000",'
    b'"clientOrderId":"a1-0001"}'
)


@pytest.mark.parametrize(
    ("method", "path", "body", "signature"),
    [
        (
            "GET",
            "/users/profile",
            b"",
            "eTecZE_FXw1krwbn7byIXEp3FMXuGPkM-8hVnfxN7yoSfohx2kOJ7tZNOF-LLJiuKX7ALopOnaz3lAKP7y0kDQ==",
        ),
        (
            "GET",
            "/market/orders/list?status=open&details=2",
            b"",
            "eA8IEtx8ANZssZ_93SuYNRv6BOP8CVlAC90gNv2pkEK9SeYV5YSz2RlxngJir-UORdtfMhjMOf9tbLGlj6HZDg==",
        ),
        (
            "POST",
            "/market/orders/add",
            ORDER,
            "xVEL_MXF5yqJwW2wn2Z_odtQeGwGrWvTUQ5fIM7lUraSAE3c_SmxFcWJJiY5jTb1PfPvtrUYgRuEJA4gG89WCw==",
        ),
    ],
)
def test_a_signature_is_that_of_the_published_vector(method, path, body, signature):
    pair = credentials(api_key=KEY, api_secret=SECRET)
    assert pair is not None and pair.is_key_pair
    assert pair.headers(timestamp=1_760_000_000, method=method, path=path, body=body) == {
        "Nobitex-Key": KEY,
        "Nobitex-Timestamp": "1760000000",
        "Nobitex-Signature": signature,
    }


def test_a_token_goes_into_the_authorization_header_alone():
    token = credentials(token=TOKEN)
    assert token is not None and not token.is_key_pair
    assert token.headers(timestamp=1, method="GET", path="/", body=b"") == {"Authorization": f"Token {TOKEN}"}


def test_nothing_given_is_no_credentials():
    assert credentials() is None


OTHER = "A" * 43 + "="


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"token": TOKEN, "api_key": KEY, "api_secret": SECRET}, "token"),
        ({"token": TOKEN, "api_key": KEY}, "token"),
        ({"api_key": KEY}, "api_secret"),
        ({"api_secret": SECRET}, "api_key"),
        ({"api_key": KEY, "api_secret": "hello"}, "api_secret"),
        ({"api_key": KEY, "api_secret": SECRET.rstrip("=")}, "api_secret"),
        ({"api_key": KEY, "api_secret": SECRET.replace("-", "+").replace("_", "/")}, "api_secret"),
        ({"api_key": KEY, "api_secret": SECRET + "\n"}, "api_secret"),
        ({"api_key": KEY, "api_secret": b"bytes"}, "api_secret"),
        ({"api_key": OTHER, "api_secret": SECRET}, "api_key"),
        ({"api_key": SECRET, "api_secret": KEY}, "api_key"),
        ({"token": "two words"}, "token"),
        ({"token": "line\r\nX-Evil: 1"}, "token"),
        ({"token": ""}, "token"),
        ({"token": "ی" * 40}, "token"),
    ],
)
def test_credentials_that_cannot_work_are_refused_without_showing_them(given, setting):
    with pytest.raises(ConfigError) as caught:
        credentials(**given)
    assert caught.value.setting == setting
    assert caught.value.value is None
    for secret in given.values():
        if secret:
            assert str(secret) not in str(caught.value)
    if setting == "api_secret":
        assert "44 characters" in str(caught.value)


@pytest.mark.parametrize("given", [{"token": TOKEN}, {"api_key": KEY, "api_secret": SECRET}])
def test_no_secret_is_printed_or_pickled(given):
    made = credentials(**given)
    for shown in (repr(made), str(made), f"{made}", made.public):
        assert not any(secret in shown for secret in given.values())
    with pytest.raises(TypeError):
        pickle.dumps(made)
