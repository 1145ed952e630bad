"""
Who we are to Nobitex: a user token, or a key pair whose Ed25519 signature goes with each request.

Keys and signatures are URL-safe base64 with padding; the secret is the raw 32-byte seed (nobitex-api.md section 3).
No secret appears in a repr, a log or an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hireliab.errors import ConfigError

# A header value: no space, no control character, no line end that would start another header.
_TOKEN = re.compile(r"[!-~]{1,200}", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=", re.ASCII)
_LOOKS = "32 bytes in URL-safe base64: 44 characters of A-Z, a-z, 0-9, - and _, the last one '='"


class Credentials:
    """
    A token or a key pair, checked; immutable, and safe to print.

    Attributes:
        is_key_pair: Whether requests are signed.
        public: What may be shown: a short hash of the API key, or "token".
    """

    __slots__ = ("_key", "_secret", "_token", "is_key_pair", "public")

    def __init__(
        self, *, token: str | None = None, key: str | None = None, secret: Ed25519PrivateKey | None = None
    ) -> None:
        self._token = token
        self._key = key
        self._secret = secret
        self.is_key_pair = key is not None
        self.public = "token" if key is None else hashlib.sha256(key.encode("ascii")).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.public}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("Credentials: secrets are not pickled; make them again from their source")

    def headers(self, *, timestamp: int, method: str, path: str, body: bytes) -> dict[str, str]:
        """
        The headers that authenticate one request.

        Args:
            timestamp: Unix seconds.
            method: In upper case.
            path: With the query string, byte for byte as on the wire.
            body: The very bytes that are sent.
        """
        if self._secret is None or self._key is None:
            return {"Authorization": f"Token {self._token}"}
        signature = self._secret.sign(f"{timestamp}{method}{path}".encode() + body)
        return {
            "Nobitex-Key": self._key,
            "Nobitex-Timestamp": str(timestamp),
            "Nobitex-Signature": base64.urlsafe_b64encode(signature).decode("ascii"),
        }


def credentials(
    *, token: str | None = None, api_key: str | None = None, api_secret: str | None = None
) -> Credentials | None:
    """
    Check what the user gave; None when that is nothing (public data only).

    Raises:
        ConfigError: Both kinds, half a pair, a text that is no key, or two keys that are no pair.
    """
    if token is not None and (api_key is not None or api_secret is not None):
        raise ConfigError(
            "credentials: token and api_key/api_secret were both given; give the user token or the key pair",
            setting="token",
            allowed="token, or api_key and api_secret",
        )
    if token is not None:
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ConfigError(
                "token: must be printable ASCII without spaces; a Nobitex token is 40 lower-case hexadecimal digits",
                setting="token",
                allowed="printable ASCII without spaces",
            )
        return Credentials(token=token)
    if api_key is None and api_secret is None:
        return None
    if api_key is None or api_secret is None:
        missing = "api_key" if api_key is None else "api_secret"
        raise ConfigError(
            f"{missing}: missing; a key pair is api_key (public) and api_secret (private), each {_LOOKS}",
            setting=missing,
            allowed=_LOOKS,
        )
    public = _decode("api_key", api_key)
    secret = Ed25519PrivateKey.from_private_bytes(_decode("api_secret", api_secret))
    if secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != public:
        raise ConfigError(
            "api_key: is not the public half of api_secret; take both from the same answer of apikeys/create"
            " (its 'key' and its 'privateKey')",
            setting="api_key",
            allowed="the public key that belongs to api_secret",
        )
    return Credentials(key=api_key, secret=secret)


def _decode(setting: str, text: object) -> bytes:
    try:
        if not isinstance(text, str) or not _KEY.fullmatch(text):
            raise ValueError
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        # The text itself is not shown: it may be another service's secret.
        shown = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
        raise ConfigError(
            f"{setting}: is no Nobitex key ({shown}); a key is {_LOOKS}", setting=setting, allowed=_LOOKS
        ) from None
    return raw
