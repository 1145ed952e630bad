"""/auth and /apikeys: login, logout, API-key management."""

from __future__ import annotations

import ipaddress

from hireliab.simulator import auth, params
from hireliab.simulator.auth import PERMISSIONS, ApiKey
from hireliab.simulator.message import Refused, Reply, answer, refuse
from hireliab.simulator.render import iso_z
from hireliab.simulator.state import Call, ExchangeState

_FOUR_HOURS_NS = 4 * 3600 * 1_000_000_000
_THIRTY_DAYS_NS = 30 * 86_400 * 1_000_000_000
_GOODBYE = "شما با موفقیت خارج شدید."


def login(exchange: ExchangeState, call: Call) -> Reply:
    """POST /auth/login/: a new token for 4 hours, or 30 days with `remember`."""
    given, request = call.params, call.request
    if given.get("captcha") != "api":
        raise _login_error("Missing Captcha", "MissingCaptcha")
    agent = request.headers.get("user-agent", "")
    if exchange.settings.login_needs_user_agent and not agent.startswith("TraderBot/"):
        raise _login_error("Missing Captcha", "MissingCaptcha")
    account = _account_of(exchange, given)
    if account is None:
        raise _login_error("Unable to log in with provided credentials.")
    otp = request.headers.get("x-totp")
    if not otp:
        raise _login_error("OTP not provided", "MissingOTP")
    if otp != exchange.credentials.logins[account].otp:
        raise _login_error("Invalid OTP", "InvalidOTP")
    token = auth.new_token()
    lifetime = _THIRTY_DAYS_NS if given.get("remember") == "yes" else _FOUR_HOURS_NS
    exchange.credentials.add_token(token, account, call.now_ns + lifetime)
    return answer({"status": "success", "key": token, "device": str(given.get("device") or "AlRyansW")})


def logout(exchange: ExchangeState, call: Call) -> Reply:
    """POST /auth/logout/: the token dies."""
    exchange.credentials.drop_token(auth.bearer(call.request) or "")
    return answer({"detail": _GOODBYE, "message": _GOODBYE})


def create_key(exchange: ExchangeState, call: Call) -> Reply:
    """POST /apikeys/create: the only time that the private key is shown."""
    _check_otp(exchange, call)
    name = call.params.get("name")
    wanted = call.params.get("permissions")
    if not isinstance(name, str) or not name or not isinstance(wanted, str):
        raise params.parse_error("Missing string value")
    permissions = tuple(word.strip() for word in wanted.split(","))
    if not set(permissions) <= set(PERMISSIONS):
        raise params.parse_error(f'Invalid choices value: "{wanted}"')
    secret = auth.new_seed()
    key = ApiKey(
        public=auth.public_key_of(secret),
        account=call.account,
        name=name,
        permissions=permissions,
        created_ns=call.now_ns,
        updated_ns=call.now_ns,
        description=str(call.params.get("description") or ""),
        whitelist=_whitelist(call.params),
        expires_ns=params.moment(call.params, "expirationDate"),
    )
    exchange.credentials.add_key(key)
    return answer({"status": "ok", "key": _key_row(key), "privateKey": secret})


def list_keys(exchange: ExchangeState, call: Call) -> Reply:
    """GET /apikeys/list."""
    keys = [key for key in exchange.credentials.keys.values() if key.account == call.account]
    return answer({"status": "ok", "keys": [_key_row(key) for key in keys]})


def update_key(exchange: ExchangeState, call: Call) -> Reply:
    """POST /apikeys/update/KEY: name, description and whitelist only."""
    _check_otp(exchange, call)
    key = _own_key(exchange, call)
    if "name" in call.params:
        key.name = str(call.params["name"])
    if "description" in call.params:
        key.description = str(call.params["description"])
    if "ipAddressesWhitelist" in call.params:
        key.whitelist = _whitelist(call.params)
    key.updated_ns = call.now_ns
    return answer({"status": "ok", "key": _key_row(key)})


def delete_key(exchange: ExchangeState, call: Call) -> Reply:
    """POST /apikeys/delete/KEY."""
    _check_otp(exchange, call)
    del exchange.credentials.keys[_own_key(exchange, call).public]
    return answer({"status": "ok"})


def _login_error(message: str, code: str | None = None) -> Refused:
    body: dict[str, object] = {"non_field_errors": [message]}
    return Refused(answer(body if code is None else {**body, "code": code}, 400))


def _account_of(exchange: ExchangeState, given: params.Params) -> str | None:
    for account, known in exchange.credentials.logins.items():
        if given.get("username") == known.username and given.get("password") == known.password:
            return account
    return None


def _check_otp(exchange: ExchangeState, call: Call) -> None:
    otp = call.request.headers.get("x-totp")
    if not otp:
        raise refuse("MissingOTP", "OTP not provided", 400)
    if otp != exchange.credentials.logins[call.account].otp:
        raise refuse("InvalidOTP", "Invalid OTP", 400)


def _own_key(exchange: ExchangeState, call: Call) -> ApiKey:
    key = exchange.credentials.keys.get(call.rest)
    if key is None or key.account != call.account:
        raise params.not_found("APIKey")
    return key


def _whitelist(given: params.Params) -> tuple[str, ...]:
    value = given.get("ipAddressesWhitelist") or []
    if not isinstance(value, list):
        raise params.parse_error("Invalid list value")
    try:
        return tuple(str(ipaddress.ip_address(str(member))) for member in value)
    except ValueError:
        raise params.parse_error("Invalid IP address") from None


def _key_row(key: ApiKey) -> dict[str, object]:
    return {
        "createdAt": iso_z(key.created_ns),
        "description": key.description,
        "expirationDate": None if key.expires_ns is None else iso_z(key.expires_ns),
        "ipAddressesWhitelist": list(key.whitelist),
        "key": key.public,
        "name": key.name,
        "permissions": ",".join(key.permissions),
        "updatedAt": iso_z(key.updated_ns),
    }
