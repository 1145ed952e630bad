"""Where brokers are: ``amqp://`` and ``amqps://`` addresses taken apart. No error repeats one: it holds a password."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from hireliab.core import config as checks
from hireliab.errors import ConfigError

_WHERE = "message bus: the address"
_ALLOWED = "amqp://user:password@host:port/vhost or amqps://…"
_PORTS = {"amqp": 5672, "amqps": 5671}
MOST_HOSTS = 32


@dataclass(frozen=True, kw_only=True)
class Address:
    """
    One broker.

    Attributes:
        host: Its name or IP address.
        port: Its port.
        vhost: The virtual host.
        user: Whom we are there.
        password: Appears in no text that we make.
        tls: Whether the connection is encrypted, and the broker's certificate checked.
        ca_file: Certificates to trust instead of the system's, a PEM file; or None.
        cert_file: Our own certificate, a PEM file; or None.
        key_file: Its key, when that is not in `cert_file`; or None.
        heartbeat: Seconds; None takes the bus's.
        connection_timeout: Seconds; None takes the bus's.
    """

    host: str
    port: int
    vhost: str = "/"
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    heartbeat: int | None = None
    connection_timeout: float | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_addresses(url: str | Sequence[str]) -> tuple[Address, ...]:
    """
    The brokers that an address, or each of several, names.

    Args:
        url: ``amqp(s)://user:password@host:port/vhost?option=value``, or a list of these. The options are heartbeat,
            connection_timeout, cacertfile, certfile and keyfile.

    Raises:
        ConfigError: Not such an address, or an unknown option (with the near miss).
    """
    urls = [url] if isinstance(url, str) else url
    if not isinstance(urls, list | tuple) or not 0 < len(urls) <= MOST_HOSTS:
        raise ConfigError(
            f"{_WHERE} must be a text or a list of 1 to {MOST_HOSTS} of them", setting="url", allowed=_ALLOWED
        )
    return tuple(_parse(one) for one in urls)


def _parse(url: object) -> Address:
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        raise _wrong("is no text without blanks")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise _wrong("has a malformed host or port") from None
    if parts.scheme not in _PORTS:
        raise _wrong("has an unknown scheme")
    if not host:
        raise _wrong("has no host")
    if port == 0:
        raise _wrong("has the port 0")
    if parts.fragment:
        raise _wrong("has a # in it; write it as %23")
    tls = parts.scheme == "amqps"
    options = _options(parts, tls=tls)
    return Address(
        host=unquote(host),
        port=port or _PORTS[parts.scheme],
        vhost=_vhost(parts.path),
        user="guest" if parts.username is None else unquote(parts.username),
        password="guest" if parts.password is None else unquote(parts.password),
        tls=tls,
        **options,
    )


def _vhost(path: str) -> str:
    if path in ("", "/"):
        return "/"
    if "/" in path[1:]:
        raise _wrong("has a second / after the host; write a vhost's own as %2F")
    return unquote(path[1:])


def _options(parts: SplitResult, *, tls: bool) -> dict[str, Any]:
    given = parse_qsl(parts.query, keep_blank_values=True)
    readers: dict[str, tuple[str, Callable[[str, str], object]]] = {
        "heartbeat": ("heartbeat", _seconds(0, 3600, whole=True)),
        "connection_timeout": ("connection_timeout", _seconds(0.1, 300, whole=False)),
    }
    files = {"cacertfile": "ca_file", "certfile": "cert_file", "keyfile": "key_file"}
    if tls:
        readers.update({option: (name, _file) for option, name in files.items()})
    elif any(option in files for option, _ in given):
        raise _wrong("has an option for certificates, which only amqps:// checks", setting="url")
    checks.refuse_unknown([option for option, _ in given], readers, where=_WHERE)
    options: dict[str, Any] = {}
    for option, value in given:
        name, read = readers[option]
        if name in options:
            raise _wrong(f"has {option} twice", setting=option)
        options[name] = read(option, value)
    if "key_file" in options and "cert_file" not in options:
        raise _wrong("has keyfile without certfile", setting="keyfile")
    return options


def _seconds(low: float, high: float, *, whole: bool) -> Callable[[str, str], object]:
    def read(option: str, value: str) -> object:
        try:
            number = int(value) if whole else float(value)
        except ValueError:
            number = -1
        return (
            checks.number(option, number, low=low, high=high)
            if not whole
            else checks.whole(option, number, low=int(low), high=int(high))
        )

    return read


def _file(option: str, value: str) -> str:
    if not value:
        raise _wrong(f"has {option} without a path", setting=option)
    return value


def _wrong(what: str, *, setting: str = "url") -> ConfigError:
    return ConfigError(f"{_WHERE} {what}; write {_ALLOWED}", setting=setting, allowed=_ALLOWED)
