"""
A bot's existing log lines as alerts: `AlertHandler`, and hooks for exceptions that nobody caught.

    logging.getLogger().addHandler(AlertHandler(alerts, level="error"))

Lines of one place in the program are one trouble, however their values differ: the alert system groups and repeats
them as it does all alerts. Lines that are written while an alert is made or sent are none: they would make the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol

from hireliab.core import config as checks
from hireliab.errors import ConfigError
from hireliab.monitoring._freeze import type_name
from hireliab.monitoring.alert import EVENT_KEY, MAX_MESSAGE, MAX_TITLE, AlertLevel, AlertSource

IGNORED = ("hireliab", "apprise", "urllib3", "requests", "requests_oauthlib", "pika", "smtplib")
"""Loggers whose lines, and whose children's, are never alerts: those of everybody who takes part in sending one."""
_SENDERS = "hireliab.alerts."
"""How the names of the threads begin that send alerts: what is logged there is about sending."""
_FRAMES = 8
"""Most frames of a traceback in the message, the innermost ones."""


_NUMBERS = re.compile(r"\b(?:0x)?[0-9][0-9a-fA-F]*(?:[.,:-][0-9]+)*")


class SendsAlerts(Protocol):
    """An alert system, as far as it is used here."""

    def send_alert(  # noqa: PLR0917 - as AlertSystem has them
        self,
        source: AlertSource | str,
        level: AlertLevel | str,
        title: str,
        message: str,
        context: Mapping[str, Any] | None = None,
        dedup_key: str | None = None,
    ) -> object:
        """See `AlertSystem.send_alert`."""


class _Here(threading.local):
    busy = False


class AlertHandler(logging.Handler):
    """
    Sends log records as alerts.

    The record is formatted on the thread that logs it, as every handler does; nothing else happens there. It never
    raises: what cannot be formatted becomes an alert that says so.

    Args:
        alerts: An alert system, or anything with its `send_alert`.
        level: The lowest level that becomes an alert: a name, an AlertLevel or a number of `logging`.
        source: Of the alerts.
        ignore: Further loggers whose lines are no alerts, with their children; those that take part in sending are
            always ignored.

    Raises:
        ConfigError: A level that is none, or `alerts` cannot send.
    """

    def __init__(
        self,
        alerts: SendsAlerts,
        level: AlertLevel | str | int = AlertLevel.ERROR,
        *,
        source: AlertSource | str = AlertSource.SYSTEM,
        ignore: Iterable[str] = (),
    ) -> None:
        if not callable(getattr(alerts, "send_alert", None)):
            raise ConfigError(
                f"AlertHandler: alerts must be an AlertSystem, got {type(alerts).__name__}",
                setting="alerts",
                allowed="an AlertSystem",
            )
        super().__init__(_level(level))
        self._alerts = alerts
        self._source = source
        self._ignored = (*IGNORED, *([ignore] if isinstance(ignore, str) else ignore))
        self._ignored_below = tuple(f"{name}." for name in self._ignored)
        self._here = _Here()

    def handle(self, record: logging.LogRecord) -> bool:
        """
        Filter and emit; like logging's own, without its lock.

        A signal handler or a finaliser may log in the middle of this one, and a fork may happen there; and nothing here
        is changed.
        """
        kept = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record, unless it comes from those who send."""
        if self._here.busy or self._is_ours(record):
            return
        self._here.busy = True
        try:
            self._send(record)
        except Exception:
            self.handleError(record)
        finally:
            self._here.busy = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nothing: logging's own prints the record, secrets and all."""

    def _is_ours(self, record: logging.LogRecord) -> bool:
        return (
            record.name in self._ignored
            or record.name.startswith(self._ignored_below)
            or (record.threadName or "").startswith(_SENDERS)
        )

    def _send(self, record: logging.LogRecord) -> None:
        level = _nearest(record.levelno)
        try:
            text = record.getMessage()
        except Exception as misfit:
            text = f"{_text(record.msg):.500} (its arguments do not fit: {type(misfit).__name__})"
        title, _, rest = text.strip().partition("\n")
        if len(title) > MAX_TITLE:
            rest = text
        kind = None
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            kind = type(error).__name__
            rest = "\n".join(part for part in (rest, _traceback(error)) if part)
        if self.formatter is not None:
            with contextlib.suppress(Exception):
                rest = self.format(record)
        self._alerts.send_alert(
            source=self._source,
            level=level,
            title=title or f"(an empty line of {record.name})",
            message=rest,
            context={"logger": record.name, "where": f"{record.filename}:{record.lineno}"},
            dedup_key=_fingerprint(record, kind),
        )


def install_excepthooks(alerts: SendsAlerts, *, source: AlertSource | str = AlertSource.SYSTEM) -> Callable[[], None]:
    """
    Send CRITICAL alerts for exceptions that end the program or a thread; the hooks that were there are called, too.

    Returns:
        A function that takes the hooks out again, as far as nobody has put others over them.
    """
    before, before_in_threads = sys.excepthook, threading.excepthook
    here = _Here()

    def tell(error: BaseException | None, where: str) -> None:
        if error is None or not isinstance(error, Exception) or here.busy:
            return  # KeyboardInterrupt and SystemExit are wishes, not troubles
        here.busy = True
        try:
            alerts.send_alert(
                source=source,
                level=AlertLevel.CRITICAL,
                title=f"{where}: {type(error).__name__}",
                message=_traceback(error),
                context={"thread": threading.current_thread().name},
                dedup_key=_digest("uncaught", where, type(error).__name__, _top(error.__traceback__)),
            )
        except Exception:
            pass  # the hook before must run
        finally:
            here.busy = False

    def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell(error, "the program ends")
        before(kind, error, trace)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "a thread"
        if not name.startswith(_SENDERS):
            tell(args.exc_value, "a thread ended")
        before_in_threads(args)

    sys.excepthook, threading.excepthook = in_main, in_thread

    def remove() -> None:
        if sys.excepthook is in_main:
            sys.excepthook = before
        if threading.excepthook is in_thread:
            threading.excepthook = before_in_threads

    return remove


# -- helpers --------------------------------------------------------------------------------------------------------


def _level(given: AlertLevel | str | int) -> int:
    if isinstance(given, int) and not isinstance(given, bool):
        return int(given)
    word = given.strip().lower() if isinstance(given, str) else given
    names = [level.name.lower() for level in AlertLevel]
    return int(AlertLevel[checks.choice("AlertHandler: level", word, names).upper()])


def _nearest(number: int) -> AlertLevel:
    """The alert level of a log level of one's own, such as 25: the highest that is not above it."""
    return max((level for level in AlertLevel if level <= number), default=AlertLevel.DEBUG)


def _text(given: object) -> str:
    try:
        return str(given)
    except Exception:
        return type_name(given)


def _fingerprint(record: logging.LogRecord, kind: str | None) -> str:
    """Of the place and not of the values: logger, level, the template, the exception's type and its top frame."""
    template = _text(record.msg)[:500]
    if not record.args:  # perhaps an f-string, filled in before it was logged
        template = _NUMBERS.sub("#", template)
    top = _top(record.exc_info[2]) if record.exc_info else ""
    return _digest(record.name, str(record.levelno), template, kind or "", top)


def _top(trace: TracebackType | None) -> str:
    """Where the exception was raised."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_frame.f_code.co_name}"


def _digest(*parts: str) -> str:
    return EVENT_KEY + hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def _traceback(error: BaseException) -> str:
    """The end of a traceback: the innermost frames, and the error; without values of variables."""
    try:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        lines = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        text = "".join(traceback.format_exception_only(error)).strip()
    except Exception:
        return type(error).__name__
    return "\n".join([*lines, text])[-MAX_MESSAGE:]
