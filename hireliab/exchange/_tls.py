"""
TLS contexts that sessions share.

requests makes a context and reads the CA file anew for each connection, which costs more than the rest of the call.
Here is one context per (verify, cert), complete before anybody sees it, and frozen afterwards: urllib3 sets
`verify_mode` and the ALPN protocols at each connect, and two threads that change a live context are the probable
cause of what made requests take its own shared context back in 2.32.5. Setting what is there already does
nothing, and setting anything else is an error.

Source: psf/requests issues 6667, 6715, 6726 and 6872, urllib3 issue 3155 (shared context, its crashes).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import requests.utils
from urllib3.util import ssl_ as urllib3_ssl

from hireliab.errors import ConfigError

Verify = bool | str | os.PathLike[str] | None
Cert = str | os.PathLike[str] | Sequence[str] | None

_MOST = 64  # contexts kept; a program that writes a new CA file for each call must not fill the memory
_ALPN = ["http/1.1"]
# What urllib3's own context says, read from a new one of its, so that its defaults hold in each of its versions.
_TAKEN_OVER = (
    "minimum_version",
    "maximum_version",
    "options",
    "verify_flags",
    "post_handshake_auth",
    "hostname_checks_common_name",
    "keylog_filename",
)

# Guards the dictionary, and is held while a context is built (the one place where a file is read under a lock): who
# waits here would read the same CA file. Re-entrant, because a signal handler or finaliser may make a request
# while its own thread is building.
_building = threading.RLock()
_shared: dict[tuple[Any, ...], ssl.SSLContext] = {}


class FrozenContext(ssl.SSLContext):
    """An SSLContext that, once frozen, takes no change."""

    _frozen = False

    def freeze(self) -> None:
        self._frozen = True

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._frozen:
            super().__setattr__(name, value)
        elif getattr(self, name, None) != value:
            _refuse(name)

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        if not self._frozen:
            super().set_alpn_protocols(alpn_protocols)
        elif list(alpn_protocols) != _ALPN:
            _refuse("the ALPN protocols")

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> None:
        if self._frozen:
            _refuse("the CA certificates")
        super().load_verify_locations(*args, **kwargs)

    def load_default_certs(self, *args: Any, **kwargs: Any) -> None:
        if self._frozen:
            _refuse("the CA certificates")
        super().load_default_certs(*args, **kwargs)

    def set_default_verify_paths(self) -> None:
        if self._frozen:
            _refuse("the CA certificates")
        super().set_default_verify_paths()

    def load_cert_chain(self, *args: Any, **kwargs: Any) -> None:
        if self._frozen:
            _refuse("the client certificate")
        super().load_cert_chain(*args, **kwargs)

    def set_ciphers(self, *args: Any) -> None:
        if self._frozen:
            _refuse("the ciphers")
        super().set_ciphers(*args)


def _refuse(what: str) -> NoReturn:
    raise ConfigError(
        f"shared TLS context: {what} cannot be changed, other sessions use it; give verify= or cert=, "
        "or mount an adapter with a context of its own",
        setting="ssl_context",
    )


def shared_context(verify: Verify = True, cert: Cert = None) -> ssl.SSLContext:
    """
    The context for this `verify` and `cert`, frozen, the same object for all who ask with the same values.

    Its settings are urllib3's. Where another library has replaced the context class that urllib3 uses (truststore,
    pyOpenSSL), the context is of that class, shared too but not frozen.

    Args:
        verify: As in requests: True (certifi's CAs), False (no check), or the path of a CA file or folder.
        cert: As in requests: None, the path of a file with certificate and key, or the pair of their paths.

    Raises:
        OSError: A file is missing or cannot be read.
        ssl.SSLError: A file holds no certificate, or its key is encrypted or does not fit. (It is an OSError too.)
        ConfigError: `verify` or `cert` is none of the above; an empty path would mean "no check" in requests.
    """
    key = (_verify_key(verify), *_cert_key(cert))
    context = _shared.get(key)
    if context is None:
        with _building:
            context = _shared.get(key)
            if context is None:
                built = _build(*key)
                if len(_shared) >= _MOST:
                    del _shared[next(iter(_shared))]
                # A signal handler may have come between; all must have the same one.
                context = _shared.setdefault(key, built)
    return context


def forget() -> None:
    """Read the files again at the next request for a context; those already given away stay as they are."""
    with _building:
        _shared.clear()


def _verify_key(verify: Verify) -> bool | str:
    if verify is None or verify is False:
        return False
    if verify is True:
        return True
    path = _path(verify)
    if not path:
        raise ConfigError(
            "verify: not True, False or the path of a CA file or folder; False is what switches the check off",
            setting="verify",
            value=verify,
        )
    return path


def _cert_key(cert: Cert) -> tuple[str | None, str | None]:
    """The paths of certificate and key."""
    if not cert:
        return None, None
    pair: tuple[str | None, ...] = (_path(cert), None)
    if isinstance(cert, Sequence) and not isinstance(cert, str | bytes):
        pair = tuple(map(_path, cert))
    if len(pair) != 2 or not pair[0]:
        raise ConfigError(
            "cert: neither the path of a file with certificate and key nor the pair of their paths", setting="cert"
        )
    return pair[0], pair[1] or None


def _path(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else ""


def _build(verify: bool | str, certificate: str | None, key: str | None) -> ssl.SSLContext:
    ca = requests.utils.DEFAULT_CA_BUNDLE_PATH if verify is True else verify
    for path, what in ((ca, "CA certificates"), (certificate, "client certificate"), (key, "client key")):
        if path and not Path(path).exists():
            raise FileNotFoundError(f"TLS: no {what} at {path}; check the path")
    template = urllib3_ssl.create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    if type(template).__module__ != "ssl":
        context = template
    else:
        context = FrozenContext(ssl.PROTOCOL_TLS_CLIENT)
        for name in _TAKEN_OVER:
            # None is what an unset keylog_filename says, and cannot be set.
            if (value := getattr(template, name, None)) is not None:
                setattr(context, name, value)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(_ALPN)
    if ca and Path(ca).is_dir():
        context.load_verify_locations(capath=ca)
    elif ca:
        with _naming(ca):
            context.load_verify_locations(cafile=ca)
    if certificate:
        with _naming(certificate if key is None else f"{certificate} with {key}"):
            # Without a password function, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, _no_password)
    if isinstance(context, FrozenContext):
        context.freeze()
    return context


@contextlib.contextmanager
def _naming(files: str) -> Iterator[None]:
    """OpenSSL's errors do not say which file it was."""
    try:
        yield
    except ssl.SSLError as error:
        # Not `from`: the texts of the session are made of the innermost cause.
        raise ssl.SSLError(error.errno, f"TLS: {files} cannot be used: {error.strerror}; check the file") from None


def _no_password() -> NoReturn:
    raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the key is encrypted and a password cannot be given")


def _after_fork_in_child() -> None:
    # The lock may have been held at the fork by a thread that is not in the child, and so may OpenSSL's own inside
    # the contexts.
    global _building
    _building = threading.RLock()
    _shared.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
