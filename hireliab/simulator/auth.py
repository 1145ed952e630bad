"""
User tokens, API keys, and Ed25519 signatures verified over the raw bytes of the request.

Signed are timestamp, method, raw request target and raw body, one after the other. Keys and seeds
are URL-safe base64 with padding of 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hireliab.simulator.message import Refused, Reply, Request, answer
from hireliab.simulator.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NO_CREDENTIALS = "اطلاعات برای اعتبارسنجی ارسال نشده است."
BAD_CREDENTIALS = "توکن غیر مجاز"
FORBIDDEN = "شما اجازه انجام این کار را ندارید."

PERMISSIONS = ("READ", "TRADE", "WITHDRAW")
TOKEN_ONLY = "TOKEN"  # noqa: S105 - the name of a permission
"""What a route demands that API keys cannot use."""

_SEED_BYTES = 32
_SEEN_SIGNATURES = 100_000


@dataclass(frozen=True)
class Identity:
    """Who sent a request; `credential` keys the rate limits."""

    account: str
    credential: str


@dataclass
class ApiKey:
    """A public key and what it may do. The private seed is not kept."""

    public: str
    account: str
    name: str
    permissions: tuple[str, ...]
    created_ns: int
    updated_ns: int
    description: str = ""
    whitelist: tuple[str, ...] = ()
    expires_ns: int | None = None


@dataclass
class Login:
    """What an account logs in with."""

    username: str
    password: str = field(repr=False)
    otp: str = field(repr=False)


@dataclass(frozen=True)
class _Token:
    account: str
    expires_ns: int | None


class Credentials:
    """
    Every token, key and login of the exchange.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.logins: dict[str, Login] = {}
        """By account."""
        self._tokens: dict[str, _Token] = {}
        self._loaded: dict[str, Ed25519PublicKey] = {}
        self._seen: dict[str, None] = {}

    def add_token(self, token: str, account: str, expires_ns: int | None = None) -> None:
        """Accept a token from now on."""
        self._tokens[token] = _Token(account, expires_ns)

    def drop_token(self, token: str) -> None:
        """Accept a token no longer."""
        self._tokens.pop(token, None)

    def add_key(self, key: ApiKey) -> None:
        """Accept an API key from now on."""
        self.keys[key.public] = key

    def account_hint(self, request: Request) -> str | None:
        """Whose credential a request shows, without verifying anything."""
        key = self.keys.get(request.headers.get("nobitex-key", ""))
        if key is not None and "authorization" not in request.headers:
            return key.account
        token = self._tokens.get(bearer(request) or "")
        return None if token is None else token.account

    def identify(self, request: Request, permission: str, now_ns: int, settings: Settings) -> Identity:
        """
        Authenticate a request.

        Raises:
            Refused: 401 for a missing or bad credential, 403 for one that may not do this.
        """
        if "nobitex-key" in request.headers and "authorization" not in request.headers:
            return self._identify_key(request, permission, now_ns, settings)
        value = bearer(request)
        if value is None:
            raise Refused(unauthorized(NO_CREDENTIALS))
        token = self._tokens.get(value)
        if token is None or (token.expires_ns is not None and token.expires_ns <= now_ns):
            raise Refused(unauthorized(BAD_CREDENTIALS))
        return Identity(token.account, "token:" + fingerprint(value))

    def _identify_key(self, request: Request, permission: str, now_ns: int, settings: Settings) -> Identity:
        key = self.keys.get(request.headers["nobitex-key"])
        timestamp = request.headers.get("nobitex-timestamp", "")
        signature = request.headers.get("nobitex-signature", "")
        if key is None or not self._is_signed(key.public, request, timestamp, signature, settings):
            raise Refused(unauthorized(BAD_CREDENTIALS))
        if abs(int(timestamp) * 1_000_000_000 - now_ns) > settings.timestamp_window * 1e9:
            raise Refused(unauthorized(BAD_CREDENTIALS))
        if key.expires_ns is not None and key.expires_ns <= now_ns:
            raise Refused(unauthorized(BAD_CREDENTIALS))
        if settings.refuse_replay:
            self._refuse_replay(signature)
        if permission not in key.permissions or (key.whitelist and request.ip not in key.whitelist):
            raise Refused(answer({"detail": FORBIDDEN}, 403))
        return Identity(key.account, "key:" + key.public)

    def _is_signed(self, public: str, request: Request, timestamp: str, signature: str, settings: Settings) -> bool:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return False
        raw = _decode(signature, standard_too=settings.standard_base64)
        if raw is None:
            return False
        loaded = self._loaded.get(public)
        if loaded is None:
            loaded = self._loaded[public] = _load_public(public)
        return verify(loaded, signed_bytes(timestamp, request), raw)

    def _refuse_replay(self, signature: str) -> None:
        if signature in self._seen:
            raise Refused(unauthorized(BAD_CREDENTIALS))
        self._seen[signature] = None
        if len(self._seen) > _SEEN_SIGNATURES:
            self._seen.pop(next(iter(self._seen)))


def unauthorized(detail: str) -> Reply:
    """A 401 answer, which has neither `status` nor `code`."""
    return answer({"detail": detail}, 401)


def bearer(request: Request) -> str | None:
    """The token of the Authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "token" else None


def signed_bytes(timestamp: str, request: Request) -> bytes:
    """What a signature covers."""
    head = f"{timestamp}{request.method.upper()}{request.target}"
    return head.encode("latin-1") + request.body


def verify(key: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is good."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only signed requests need it

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def public_key_of(seed: str) -> str:
    """
    The public key of a private seed, both URL-safe base64 of 32 bytes.

    Raises:
        ValueError: The seed is no such text.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    raw = _decode(seed, standard_too=False)
    if raw is None or len(raw) != _SEED_BYTES:
        raise ValueError("an API secret is the URL-safe base64 of 32 bytes")
    private = Ed25519PrivateKey.from_private_bytes(raw)
    return base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).decode()


def invented_token(seed: int, account: str) -> str:
    """A token that is the same for the same seed."""
    return hashlib.sha1(f"{seed}/token/{account}".encode(), usedforsecurity=False).hexdigest()


def invented_seed(seed: int, account: str) -> str:
    """A private seed that is the same for the same simulator seed. For a simulator only."""
    raw = random.Random(f"{seed}/key/{account}").randbytes(_SEED_BYTES)
    return base64.urlsafe_b64encode(raw).decode()


def new_token() -> str:
    """A fresh random token."""
    return secrets.token_hex(20)


def new_seed() -> str:
    """A fresh random private seed."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_SEED_BYTES)).decode()


def fingerprint(secret: str) -> str:
    """A short name for a secret that does not give it away."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def _load_public(public: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(public))


def _decode(text: str, *, standard_too: bool) -> bytes | None:
    """Strict URL-safe base64: alphabet and padding as issued."""
    try:
        if standard_too:
            text = text.replace("+", "-").replace("/", "_")
        if not text.isascii() or "+" in text or "/" in text:
            return None
        return base64.b64decode(text.translate({45: 43, 95: 47}), validate=True)
    except (binascii.Error, ValueError):
        return None
