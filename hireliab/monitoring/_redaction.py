"""
Nothing secret is shown: by the name of a value, by its looks, and because we know it.

The third layer is `known_secrets`: the exact values out of our own configuration, such as the addresses of channels
with their tokens, which no pattern would recognise.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import traceback
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
"""What stands where a secret was."""

MIN_SECRET = 6
"""Shorter values are no secrets worth the name, and masking them would mask half of every text."""

_NAMES = (
    "token|secret|password|passwd|passphrase|pwd|api_?-?key|private_?-?key|access_?-?key|authorization|signature|"
    "credential|cookie"
)
_SECRET_KEY = re.compile(_NAMES, re.IGNORECASE)

# One expression, so that each text is read once. Every repetition is bounded or cannot overlap what follows it:
# the time is proportional to the text, whatever the text.
_SECRET = re.compile(
    r"(?P<pem>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?s:.)*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    # Authorization: Token 0123…   api_secret = "…"   'token': '…'   signature=…
    rf"|(?P<name>(?i:{_NAMES})[\w-]{{0,20}}[\"']?[^\S\n]{{0,3}}[:=][^\S\n]{{0,3}})"
    r"(?:(?P<quote>[\"'])[^\"'\n]*[\"']?|(?:(?i:token|bearer|basic)[^\S\n]{1,3})?[^\s\"',;&)}\]]+)"
    # Token 0123…   Bearer …
    r"|(?P<scheme>\b(?i:token|bearer|basic)[^\S\n]{1,3})[A-Za-z0-9._~+/=-]{16,}"
    # https://user:password@host
    r"|(?P<url>://)[^/\s@]{1,200}@"
    # a Telegram bot's token
    r"|(?<!\d)\d{6,12}:[A-Za-z0-9_-]{30,}"
    # a JSON web token
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    # 40 hexadecimal digits or more: a Nobitex token, a key
    r"|(?<![0-9A-Za-z])[0-9a-fA-F]{40,}(?![0-9A-Za-z])"
    # 32 or 64 bytes in base64: an Ed25519 key, a signature
    r"|(?<![0-9A-Za-z+/_-])(?:[A-Za-z0-9+/_-]{43}=|[A-Za-z0-9+/_-]{86}==)(?![=0-9A-Za-z])"
)

# What every text has in which that expression finds something; most texts have nothing of it, and looking for it takes
# a fraction of the time.
_NAMES_HAVE = (
    "token",
    "secret",
    "passw",
    "passphrase",
    "pwd",
    "key",
    "authorization",
    "signature",
    "credential",
    "cookie",
)
_SCHEMES = ("token", "bearer", "basic")
_OTHERS_HAVE = ("://", "eyJ", "-----BEGIN")
_LONG_WORD = 37
"""The shortest of the other shapes, a Telegram token, in a word of its own."""
_FOLDED = ("\u017f", "\u212a", "\u0130", "\u0131")
"""Letters that the expression takes for an s, a k or an i, and `str.lower` does not."""


class KnownSecrets:
    """
    Values that must never be shown, in any of the spellings that an address gives them; one object for the process.

    Values are never removed: a log line may outlive the channel.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards _values; re-entrant: a signal handler may construct a channel
        self._values: frozenset[str] = frozenset()
        self._cores: tuple[str, ...] = ()  # those that hold no other one: a text with any has one of these
        self._pattern: re.Pattern[str] | None = None
        self.longest = 0

    def add(self, values: Iterable[str]) -> None:
        """Mask these from now on; those shorter than 6 characters are left alone."""
        with self._lock:
            spellings = set(self._values)
            for value in values:
                spellings |= {
                    spelling
                    for spelling in (value, unquote(value), quote(value, safe=""), quote_plus(value), quote(value))
                    if len(spelling) >= MIN_SECRET
                }
            # Longest first: a token that is a part of an address must not keep the rest of it in view.
            ordered = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
            self._values = frozenset(spellings)
            self.longest = len(ordered[0]) if ordered else 0
            self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
            cores: list[str] = []
            for spelling in reversed(ordered):
                if not any(core in spelling for core in cores):
                    cores.append(spelling)
            self._cores = tuple(cores)

    def mask(self, text: str) -> str:
        """The text without them."""
        for core in self._cores:
            if core in text:
                assert self._pattern is not None  # it is older than the cores
                return self._pattern.sub(MASK, text)
        return text

    def renew_in_child(self) -> None:
        """In a forked child the lock may be held by a thread that is not here."""
        self._lock = threading.RLock()


known_secrets = KnownSecrets()
"""The secrets of this process's configuration."""


def redact(text: str) -> str:
    """
    Mask what is known to be a secret and what looks like one: values of names such as ``api_secret=``, authorization
    headers, credentials in addresses, private keys, and runs of characters of the shape of a token.

    It would rather mask too much than too little.
    """
    text = known_secrets.mask(text)
    return _SECRET.sub(_mask, text) if _may_hold_a_secret(text) else text


def _may_hold_a_secret(text: str) -> bool:
    """False only where `_SECRET` finds nothing."""
    if any(mark in text for mark in _OTHERS_HAVE):
        return True
    if not text.isascii() and any(letter in text for letter in _FOLDED):
        return True
    lower = text.lower()
    if any(word in lower for word in _SCHEMES):
        return True
    if (":" in text or "=" in text) and any(word in lower for word in _NAMES_HAVE):
        return True
    return len(text) >= _LONG_WORD and max(map(len, text.split()), default=0) >= _LONG_WORD


def _mask(match: re.Match[str]) -> str:
    if match["pem"]:
        return MASK
    if match["name"]:
        quote_mark = match["quote"] or ""
        return f"{match['name']}{quote_mark}{MASK}{quote_mark}"
    if match["scheme"]:
        return match["scheme"] + MASK
    if match["url"]:
        return f"://{MASK}@"
    return MASK


@functools.lru_cache(maxsize=512)  # a bot's contexts have the same few names
def is_secret_key(key: str) -> bool:
    """Whether the values under this name are masked whatever they look like."""
    return _SECRET_KEY.search(key) is not None


_PLAIN_PATHS = frozenset(["json", "jsons", "xml", "xmls", "form", "forms", "http", "https", "mailto", "mailtos"])
"""Schemes whose host is a host; elsewhere it may be a token, as in tgram://<token>/<chat>."""


def secrets_of_url(url: str) -> tuple[str, ...]:
    """What must not be shown of an address: all of it, its credentials, and the parts that look like tokens."""
    found = [url]
    try:
        parts = urlsplit(url)
        found += [value for value in (parts.password, parts.username if parts.password is None else None) if value]
        words = parts.path.split("/")
        if parts.scheme.lower() not in _PLAIN_PATHS and parts.netloc:
            words.append(parts.netloc.rpartition("@")[2])
        for pair in parts.query.split("&"):
            name, _, value = pair.partition("=")
            words += [value]
            if is_secret_key(name):
                found.append(value)
        found += [word for word in words if _is_token(word)]
    except ValueError:
        found += [word for word in re.split(r"[/?&=@]+", url) if _is_token(word)]
    return tuple(dict.fromkeys(value for value in found if len(value) >= MIN_SECRET))


def _is_token(word: str) -> bool:
    """Whether it is no word of a language: letters and digits in one, or very long."""
    if len(word) < MIN_SECRET or word.startswith(("#", "@", "%23", "%40")):
        return False
    return len(word) >= 20 or (any(map(str.isdigit, word)) and any(map(str.isalpha, word)))


# -- other people's log lines ------------------------------------------------------------------------------------

_TALKATIVE = (
    "apprise",
    "requests",
    "requests.packages.urllib3",
    "requests_oauthlib",
    "oauthlib",
    "urllib3",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.util.retry",
    "urllib3.response",
)
"""Loggers that write addresses and bodies, some at DEBUG only. A filter on a logger does not see its children's."""


class _RedactingFilter(logging.Filter):
    """Masks secrets in a record before any handler sees it; it drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True."""
        try:
            said = record.getMessage()
            clean = redact(said)
            if clean != said:
                record.msg, record.args = clean, ()
            if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
                record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
                # A formatter that ignores exc_text would print the original.
                record.exc_info = None
        except Exception:
            record.msg, record.args, record.exc_info = "(a line that could not be checked for secrets)", (), None
        return True


_the_filter = _RedactingFilter("hireliab")


def guard_loggers() -> None:
    """Have the loggers of those who send for us masked, whatever their level; a second call changes nothing."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_the_filter)  # which adds it once
