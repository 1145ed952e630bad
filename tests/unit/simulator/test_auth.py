import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hireliab.simulator import auth
from hireliab.simulator.auth import ApiKey
from hireliab.simulator.message import Request

# Section 3.5 of the API sheet.
SEED = "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="
PUBLIC = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="
STAMP = "1760000000"
ADD_BODY = (
    b'{"type":"buy","srcCurrency":"btc","dstCurrency":"rls","amount":"0.001",'
    b'"price":"50000000000","clientOrderId":"a1-0001"}'
)
VECTORS = [
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
        ADD_BODY,
        "xVEL_MXF5yqJwW2wn2Z_odtQeGwGrWvTUQ5fIM7lUraSAE3c_SmxFcWJJiY5jTb1PfPvtrUYgRuEJA4gG89WCw==",
    ),
]


@pytest.fixture
def keyed(exchange):
    """The exchange, knowing the documents' example key; its clock stands at the vectors' time."""
    now = exchange.clock.time_ns()
    exchange.state.credentials.add_key(ApiKey(PUBLIC, "user", "docs", ("READ", "TRADE"), now, now))
    return exchange


def signed(exchange, method, target, body=b"", signature=None, stamp=STAMP, key=PUBLIC):
    if signature is None:
        private = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(SEED))
        signature = base64.urlsafe_b64encode(private.sign(f"{stamp}{method}{target}".encode() + body)).decode()
    headers = {
        "nobitex-key": key,
        "nobitex-timestamp": stamp,
        "nobitex-signature": signature,
        "content-type": "application/json",
    }
    return exchange.venue.process(exchange.venue.receive(Request(method, target, headers, body)))


def test_the_documents_example_seed_gives_their_example_public_key():
    assert auth.public_key_of(SEED) == PUBLIC


@pytest.mark.parametrize(("method", "target", "body", "signature"), VECTORS)
def test_the_published_signatures_are_accepted(keyed, method, target, body, signature):
    assert signed(keyed, method, target, body, signature).status == 200


@pytest.mark.parametrize(("method", "target", "body", "signature"), VECTORS)
def test_a_signature_covers_method_target_and_body(keyed, method, target, body, signature):
    other = {"GET": "POST", "POST": "GET"}[method]
    for changed in (
        (other, target, body),
        (method, target + ("&" if "?" in target else "?"), body),
        (method, target, body + b" "),
    ):
        reply = signed(keyed, *changed, signature)
        assert reply.status in (401, 405)
        if reply.status == 401:
            assert json.loads(reply.body) == {"detail": "توکن غیر مجاز"}


@pytest.mark.parametrize(("seconds", "status"), [(-30, 200), (30, 200), (-31, 401), (31, 401)])
def test_a_timestamp_may_be_thirty_seconds_off_either_way(keyed, seconds, status):
    assert signed(keyed, "GET", "/users/profile", stamp=str(int(STAMP) + seconds)).status == status


@pytest.mark.parametrize("stamp", ["", "abc", "1760000000.5", "-1", "9" * 30, "۱۷۶۰۰۰۰۰۰۰"])
def test_a_timestamp_that_is_no_whole_number_is_refused(keyed, stamp):
    assert signed(keyed, "GET", "/users/profile", signature=VECTORS[0][3], stamp=stamp).status == 401


@pytest.mark.parametrize(
    "change", [lambda s: s.rstrip("="), lambda s: s.replace("_", "/").replace("-", "+"), lambda _: "", lambda _: "****"]
)
def test_a_signature_must_be_padded_url_safe_base64(keyed, change):
    assert signed(keyed, "GET", "/users/profile", signature=change(VECTORS[0][3])).status == 401


def test_the_standard_alphabet_is_an_option(keyed):
    keyed.state.change_settings({"standard_base64": True})
    standard = VECTORS[0][3].replace("_", "/").replace("-", "+")
    assert signed(keyed, "GET", "/users/profile", signature=standard).status == 200


def test_a_signature_can_be_replayed_unless_that_is_switched_off(keyed):
    assert [signed(keyed, "GET", "/users/profile").status for _ in range(2)] == [200, 200]
    keyed.state.change_settings({"refuse_replay": True})
    assert [signed(keyed, "GET", "/users/profile").status for _ in range(2)] == [200, 401]


def test_a_key_is_refused_where_it_has_no_permission_or_the_route_takes_only_tokens(keyed):
    keyed.state.credentials.keys[PUBLIC].permissions = ("READ",)
    assert signed(keyed, *VECTORS[2][:3]).status == 403
    assert signed(keyed, "GET", "/apikeys/list").status == 403


def test_a_key_is_bound_to_its_addresses_and_its_lifetime(keyed):
    keyed.state.credentials.keys[PUBLIC].whitelist = ("10.0.0.1",)
    assert signed(keyed, "GET", "/users/profile").status == 403
    keyed.state.credentials.keys[PUBLIC].expires_ns = keyed.clock.time_ns()
    assert signed(keyed, "GET", "/users/profile").status == 401


def test_an_unknown_key_is_refused(keyed):
    assert signed(keyed, "GET", "/users/profile", key=SEED).status == 401


@pytest.mark.parametrize("value", ["", "Bearer x", "Token", "Token "])
def test_a_missing_or_ill_formed_token_header_has_an_answer_of_its_own(exchange, value):
    reply = exchange.send("GET", "/users/profile", headers={"authorization": value})
    assert reply.status == 401
    assert json.loads(reply.body) == {"detail": "اطلاعات برای اعتبارسنجی ارسال نشده است."}


def test_an_unknown_token_is_refused_without_status_or_code(exchange):
    reply = exchange.send("GET", "/users/profile", headers={"authorization": "Token " + "0" * 40})
    assert (reply.status, json.loads(reply.body)) == (401, {"detail": "توکن غیر مجاز"})


LOGIN = {"username": "user@example.com", "password": "password", "captcha": "api"}
AGENT = {"user-agent": "TraderBot/test", "x-totp": "123456"}


def test_a_login_says_success_and_its_token_works_for_four_hours(exchange):
    answer = exchange.post("/auth/login/", LOGIN, headers=AGENT)
    assert (answer["status"], answer["device"]) == ("success", "AlRyansW")
    token = {"authorization": "Token " + answer["key"]}
    assert exchange.send("GET", "/users/profile", headers=token).status == 200
    exchange.clock.advance(4 * 3600)
    assert exchange.send("GET", "/users/profile", headers=token).status == 401


def test_a_remembered_login_works_for_thirty_days(exchange):
    answer = exchange.post("/auth/login/", {**LOGIN, "remember": "yes"}, headers=AGENT)
    exchange.clock.advance(30 * 86400 - 1)
    assert exchange.send("GET", "/users/profile", headers={"authorization": "Token " + answer["key"]}).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        ({**LOGIN, "password": "x"}, AGENT, {"non_field_errors": ["Unable to log in with provided credentials."]}),
        (LOGIN, {"user-agent": "TraderBot/x"}, {"non_field_errors": ["OTP not provided"], "code": "MissingOTP"}),
        (LOGIN, {**AGENT, "x-totp": "1"}, {"non_field_errors": ["Invalid OTP"], "code": "InvalidOTP"}),
        ({**LOGIN, "captcha": ""}, AGENT, {"non_field_errors": ["Missing Captcha"], "code": "MissingCaptcha"}),
        (LOGIN, {**AGENT, "user-agent": "curl"}, {"non_field_errors": ["Missing Captcha"], "code": "MissingCaptcha"}),
    ],
)
def test_failed_logins_have_the_documented_bodies(exchange, body, headers, error):
    reply = exchange.send("POST", "/auth/login/", body, headers=headers)
    assert (reply.status, json.loads(reply.body)) == (400, error)


def test_a_logout_kills_the_token_and_has_no_status(exchange):
    answer = exchange.post("/auth/logout/")
    assert set(answer) == {"detail", "message"}
    assert exchange.send("GET", "/users/profile").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/auth/login",
        "/auth/logout",
        "/users/profile/",
        "/market/orders/add/",
        "/v3/orderbook/",
        "/v3/orderbook/BTCIRT/",
    ],
)
def test_a_slash_too_many_or_too_few_is_an_unknown_path(exchange, path):
    reply = exchange.send("POST", path)
    assert reply.status == 404
    assert reply.content_type.startswith("text/html")


def test_an_api_key_is_created_used_changed_and_deleted(exchange):
    otp = {"x-totp": "123456"}
    given = {"name": "bot", "permissions": "READ,TRADE", "ipAddressesWhitelist": ["127.0.0.1"]}
    made = exchange.post("/apikeys/create", given, headers=otp)
    public = made["key"]["key"]
    assert auth.public_key_of(made["privateKey"]) == public
    assert made["key"]["permissions"] == "READ,TRADE"
    assert made["key"]["createdAt"].endswith("Z")
    assert public in [key["key"] for key in exchange.get("/apikeys/list")["keys"]]
    quoted = public.replace("=", "%3D")
    assert exchange.post(f"/apikeys/update/{quoted}", {"name": "x"}, headers=otp)["key"]["name"] == "x"
    assert exchange.post(f"/apikeys/delete/{quoted}", headers=otp) == {"status": "ok"}
    assert exchange.send("POST", f"/apikeys/delete/{quoted}", headers=otp).status == 404
    assert exchange.send("POST", "/apikeys/create", given).status == 400
