"""
What really happened while an Apprise plugin sent something.

A plugin says True or False, and logs the rest in words of its own, of which those at DEBUG hold the token and the text.
So while one of our threads is inside a plugin, three things are looked at on that thread, and nothing of them is
written anywhere: the answers and errors of its HTTP requests, those of its SMTP session, and its log records.

The first two stand in the place of the module globals ``requests`` and ``smtplib`` of the plugin's own module, and
pass everything on unchanged on threads that are not ours: a program that uses Apprise by itself notices nothing.
Nothing in `requests` or `smtplib` itself is touched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import smtplib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hireliab.core.clock import Clock

MOST_OF_AN_ANSWER = 64 * 1024
"""Bytes of an answer's body that are read; a longer one is cut, for nobody needs it."""
_VERBS = frozenset(("request", "get", "post", "put", "patch", "delete", "head", "options"))
_LOGGERS = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "paho", "slixmpp")


@dataclass(frozen=True)
class Answer:
    """
    One answer of a service.

    Attributes:
        code: HTTP's or SMTP's.
        text: The beginning of its body; may hold anything.
        retry_after: HTTP's header of that name.
        smtp: Whether the code is SMTP's.
    """

    code: int
    text: str
    retry_after: str | None = None
    smtp: bool = False


@dataclass
class Evidence:
    """
    What one call of a plugin did.

    Attributes:
        deadline: On the monotonic clock: no body is read, and no request begun, after it.
        events: Answers, and what its requests and its SMTP session raised, in order.
        said: Texts of its own records at WARNING and above.
    """

    clock: Clock
    deadline: float
    events: list[Answer | Exception] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def left(self) -> float:
        """Seconds until the deadline, at least a little: 0 means something else to a socket."""
        return max(0.01, self.deadline - self.clock.monotonic())


class _Here(threading.local):
    evidence: Evidence | None = None


_here = _Here()


@contextlib.contextmanager
def gathering(clock: Clock, timeout: float) -> Iterator[Evidence]:
    """Gather on this thread, and keep third parties' log records of it to ourselves."""
    evidence = Evidence(clock, clock.monotonic() + timeout)
    outer, _here.evidence = _here.evidence, evidence
    try:
        yield evidence
    finally:
        _here.evidence = outer


class _Quiet(logging.Filter):
    """On a third party's logger: takes the records of a thread that gathers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record goes on."""
        evidence = _here.evidence
        if evidence is None:
            return True
        if record.levelno >= logging.WARNING and record.name == "apprise" and len(evidence.said) < 20:
            with contextlib.suppress(Exception):
                evidence.said.append(record.getMessage()[:2000])
        return False


_quiet = _Quiet()


def keep_quiet() -> None:
    """Watch the loggers of Apprise and of all below it; again after a plugin was loaded, which may bring new ones."""
    names = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _LOGGERS]
    for name in {*names, "apprise"}:
        logger = logging.getLogger(name)
        if _quiet not in logger.filters:
            logger.addFilter(_quiet)


_swapping = threading.Lock()  # guards the globals of the plugins' modules


def _renew_in_child() -> None:
    """In a forked child it may be held by a thread that is not here."""
    global _swapping
    _swapping = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_in_child)


def watch(modules: Iterable[str]) -> None:
    """Put our `requests` and `smtplib` in the place of these modules' own."""
    with _swapping:
        for name in modules:
            module = sys.modules.get(name)
            for word, watched in (("requests", _Requests), ("smtplib", _Smtplib)):
                known = getattr(module, word, None)
                if isinstance(known, ModuleType):
                    setattr(module, word, watched(known))


class _Requests:
    """The module `requests`, as far as a plugin can tell."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return _watched(value) if name in _VERBS else value


def _watched(func: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        evidence = _here.evidence
        if evidence is None or kwargs.get("stream"):
            return func(*args, **kwargs)
        kwargs["timeout"] = _shorter(kwargs.get("timeout"), evidence.left())
        kwargs["allow_redirects"] = False  # an alert, and the secret of its address, goes nowhere else
        try:
            response = func(*args, stream=True, **kwargs)
        except Exception as error:
            evidence.events.append(error)
            raise
        body = _read(response, evidence)
        evidence.events.append(
            Answer(response.status_code, body[:2000].decode("utf-8", "replace"), response.headers.get("Retry-After"))
        )
        return response

    return call


def _shorter(timeout: Any, left: float) -> Any:
    if timeout is None:
        return left
    if isinstance(timeout, tuple):
        return tuple(left if one is None else min(one, left) for one in timeout)
    return min(timeout, left) if isinstance(timeout, int | float) else timeout


def _read(response: Any, evidence: Evidence) -> bytes:
    """
    The body, as much of it as we want and as comes in time.

    The head has been read, and it is the head that says whether the service took the message: a body that does not
    end in time is cut, not an error.
    """
    body = b""
    # What is packed twice may grow a million times; only its code counts then.
    unpack = "," not in response.headers.get("Content-Encoding", "")
    # requests' own content would be read to its end; these are what it sets after reading.
    try:
        while len(body) < MOST_OF_AN_ANSWER and evidence.clock.monotonic() < evidence.deadline:
            some = response.raw.read1(MOST_OF_AN_ANSWER, decode_content=unpack)  # not read: it would wait for so much
            if not some:
                break
            body += some
    except Exception:
        pass  # reset or too slow in the body
    response.close()
    response._content, response._content_consumed = body, True
    return body


class _Smtplib:
    """The module `smtplib`, as far as a plugin can tell."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if _here.evidence is not None:
            if name == "SMTP":
                return _SMTP
            if name == "SMTP_SSL":
                return _SMTPOverTLS
        return getattr(self._module, name)


class _Session(smtplib.SMTP):
    def connect(self, *args: Any, **kwargs: Any) -> Any:
        with _noting_errors():
            return super().connect(*args, **kwargs)

    def getreply(self) -> Any:
        with _noting_errors():
            code, text = super().getreply()
        if code >= 400 and _here.evidence is not None:
            _here.evidence.events.append(Answer(code, text[:500].decode("utf-8", "replace"), smtp=True))
        return code, text

    def starttls(self, *args: Any, **kwargs: Any) -> Any:
        with _noting_errors():
            return super().starttls(*args, **kwargs)


class _SMTP(_Session):
    pass


class _SMTPOverTLS(_Session, smtplib.SMTP_SSL):
    pass


@contextlib.contextmanager
def _noting_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        evidence = _here.evidence
        if evidence is not None and (not evidence.events or evidence.events[-1] is not error):
            evidence.events.append(error)
        raise
