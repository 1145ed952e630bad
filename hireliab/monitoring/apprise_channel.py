"""
Any of Apprise's services as an alert channel: `AppriseChannel`.

The only file that names apprise. Its `Apprise.notify()` is not used: it sends through one small pool of threads that
all services share, so that one that hangs starves the others, refuses to work while the interpreter exits, sleeps by
the wall clock, and tells no more than True or False. Here each address is a plugin object of its own, made once and
called on the channel's own thread, with its retries and its throttle off; what it did is seen by
`_apprise_evidence` and judged by `_apprise_verdict`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import unquote

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import ConfigError, MissingDependencyError
from hireliab.monitoring._alert_text import fit, render_body, render_id, render_title
from hireliab.monitoring._apprise_evidence import Evidence, gathering, keep_quiet, watch
from hireliab.monitoring._apprise_verdict import paused, verdict, wants_plain_text
from hireliab.monitoring._redaction import known_secrets, secrets_of_url
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_channels import Ok, Permanent, Rate, Result

TOTAL_TIMEOUT = 15.0
"""Seconds for one send, as far as it can be cut from inside: connecting, and each wait for the peer, have less."""
PLAIN_LIMIT = 1000
"""Most characters of the second try without markup: long enough to say what happened, short enough for anybody."""
NO_LIMIT = 32_768
"""Characters of a text where a service states no limit."""

MOST_REMEMBERED = 1000
"""Messages of which it is known who has got them already."""

_FASTEST = Rate(60, gap=0.5)
RATES: dict[str, Rate | None] = {
    "tgram": Rate(20, gap=1.0),  # core.telegram.org/bots/faq: 1 a second in a chat, 20 a minute in a group
    "slack": Rate(60, gap=1.0),  # docs.slack.dev/apis/web-api/rate-limits: 1 a second for each webhook
    "discord": Rate(30, gap=0.5),  # 5 in 2 s, 30 a minute for each webhook
    "mailto": Rate(60),
    "mailtos": Rate(60),
    **dict.fromkeys(("json", "jsons", "xml", "xmls", "form", "forms"), None),  # the user's own servers
}
"""What services take, by scheme; the others get `_FASTEST`."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
_MARKUP = str.maketrans(dict.fromkeys("*_`~#|\\", " ") | dict(zip("<>[]&", "()()+", strict=True)))
_loading = threading.Lock()  # held while Apprise loads: its registry of plugins is filled by whoever comes first


def _renew_in_child() -> None:
    """In a forked child it may be held by a thread that is not here."""
    global _loading
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_in_child)


class AppriseChannel:
    """
    One service that Apprise knows, such as ``tgram://…``, ``slack://…`` or ``mailto://…``.

    A call sends one alert and says what became of it. Texts are cut to what the service takes, with their beginning,
    their end and the alert's id kept; one that is refused all the same is sent once more, short and without markup.
    Nothing is ever raised for what a service does.

    Attributes:
        name: The channel's name.
        rate: How much the service takes, or None.
        secrets: What must not be shown of the address; masked in everything that hireliab writes.

    Args:
        url: An Apprise URL.
        name: The channel's name.
        timeout: Seconds for one send, as far as the plugin lets itself be held to it.

    Raises:
        ConfigError: It does not parse, or names no service; no part of it but the service's name is repeated.
        MissingDependencyError: Apprise is not installed, or too broken to be imported.
    """

    def __init__(self, url: str, *, name: str, clock: Clock = SYSTEM_CLOCK, timeout: float = TOTAL_TIMEOUT) -> None:
        self.name = name
        self._clock = clock
        self._timeout = timeout
        if not isinstance(url, str) or not url.strip():
            raise _refused(name, f"the url must be a text such as 'tgram://…', got {type(url).__name__}")
        url = url.strip()
        known_secrets.add(secrets_of_url(url))  # before anything can be said about it
        # Loading a hundred plugins brings warnings of what they use; a program that turns warnings into errors would
        # have no alerts.
        with _loading, gathering(clock, timeout), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            apprise = _apprise()
            keep_quiet()
            self._plugin = _plugin(apprise, url, name)
        watch(kind.__module__ for kind in type(self._plugin).__mro__ if kind.__module__.startswith("apprise."))
        watch(_helpers(type(self._plugin).__module__))
        keep_quiet()
        self._types = apprise.NotifyType
        self._text_format = apprise.NotifyFormat.TEXT
        self._split = apprise.OverflowMode.SPLIT
        self._recipients = _Recipients()
        self._convert = importlib.import_module("apprise.conversion").convert_between
        self.secrets = _secrets(self._plugin, url)
        known_secrets.add(self.secrets)
        scheme = _scheme(url)
        self.rate = RATES.get(scheme, _FASTEST)

    def __call__(self, alert: Alert) -> Result:
        """Send it once; what became of it."""
        text = _Text(render_title(alert), render_body(alert), render_id(alert))
        kind = getattr(self._types, _kind(alert))
        with self._recipients.of(alert) as told:
            with gathering(self._clock, self._timeout) as evidence:
                result = self._send(evidence, text, kind, told)
            if isinstance(result, Permanent) and wants_plain_text(evidence):
                with gathering(self._clock, self._timeout) as evidence:
                    plain = _Text(*(part.translate(_MARKUP) for part in text))
                    result = self._send(evidence, plain, kind, told, limit=PLAIN_LIMIT)
        if isinstance(result, Ok | Permanent):
            self._recipients.forget(alert)
        return result

    def close(self) -> None:
        """Nothing is kept open between two sends."""

    def __repr__(self) -> str:
        return f"<AppriseChannel {self.name}: {getattr(self._plugin, 'service_name', 'a service')}>"

    def _send(self, evidence: Evidence, text: _Text, kind: Any, told: set[Any], limit: int = NO_LIMIT) -> Result:
        plugin = self._plugin
        try:
            fitted_title, fitted_body, body_format = self._fitted(text, limit)
            accepted = plugin.notify(
                body=fitted_body,
                title=fitted_title,
                notify_type=kind,
                body_format=body_format,
                overflow=self._split,  # a net under our own fitting
            )
        except _PauseError as pause:
            return paused(pause.seconds)
        except Exception as error:  # a plugin's own mistake: what it did until then still counts
            evidence.said.append(f"the plugin raised {type(error).__name__}")
            accepted = False
        several = len(getattr(plugin, "targets", None) or ()) > 1
        return verdict(evidence, accepted=bool(accepted), several=several, told=bool(told))

    # -- texts --------------------------------------------------------------------------------------------------

    def _fitted(self, text: _Text, limit: int) -> tuple[str, str, Any]:
        """Title and body in the service's markup and within its length, and the format to name to the plugin."""
        plugin = self._plugin
        # Since 2.0 a plugin knows several formats, and converts text that is not in one of them. Before, that was
        # done for it, and it was told the format that the text had had.
        resolve = getattr(plugin, "resolve_format", None)
        target = resolve(self._text_format) if resolve else plugin.notify_format
        most_of_title = min(int(plugin.title_maxlen), limit)
        most = min(int(plugin.body_maxlen) or NO_LIMIT, limit)
        lines = int(getattr(plugin, "body_max_line_count", 0) or 0)
        if most_of_title > 0:
            first, rest = _shortened(text.title, most_of_title), ("", text.body)
        else:
            first, rest = "", (text.title, text.body)
        budget = most
        while True:
            whole = fit(*rest, text.tail, budget)
            if lines and whole.count("\n") >= lines:
                whole = _in_lines(whole, lines)
            marked = str(self._convert(self._text_format, target, whole))
            # As Telegram counts, in UTF-16; the markup is counted, too, which is on the safe side.
            size = len(marked.encode("utf-16-le", "surrogatepass")) // 2
            if size <= most or budget <= 20:
                return first, marked, target if resolve else self._text_format
            budget = max(20, min(budget - 1, budget * most // size))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _in_lines(text: str, most: int) -> str:
    """The first lines as they are; the rest on the last one."""
    lines = text.splitlines()
    return "\n".join([*lines[: most - 1], " ".join(" ".join(lines[most - 1 :]).split())])


def _kind(alert: Alert) -> str:
    """The name of Apprise's type, which has no CRITICAL; the title says the level."""
    if alert.resolved:
        return "SUCCESS"
    if alert.level >= AlertLevel.ERROR:
        return "FAILURE"
    return "WARNING" if alert.level >= AlertLevel.WARNING else "INFO"


class _Text(NamedTuple):
    """The parts of a rendered alert, without markup."""

    title: str
    body: str
    tail: str


class _Recipients:
    """
    Who has got a message that others have not got yet, so that a further attempt does not send it to them again.

    The plugins of Apprise 2.3 and later write that down themselves, for Apprise's own retries, in a set that a context
    variable of theirs holds; we give them one that lasts from one of our attempts to the next.
    """

    def __init__(self) -> None:
        tracker = getattr(importlib.import_module("apprise.plugins.base"), "_delivery_tracker", None)
        self._tracker: ContextVar[set[Any] | None] | None = tracker if isinstance(tracker, ContextVar) else None
        # By message; touched by this channel's thread, and by one that was abandoned in a send.
        self._told: dict[tuple[object, ...], set[Any]] = {}

    @contextlib.contextmanager
    def of(self, alert: Alert) -> Iterator[set[Any]]:
        """Those who have got this message; what the plugin adds meanwhile is kept."""
        if self._tracker is None:
            yield set()
            return
        told = self._told.setdefault(self._key(alert), set())
        before = self._tracker.set(told)
        try:
            yield told
        finally:
            self._tracker.reset(before)
            if not told:
                self.forget(alert)
            elif len(self._told) > MOST_REMEMBERED:
                self._told.pop(next(iter(self._told)), None)

    def forget(self, alert: Alert) -> None:
        """There will be no further attempt."""
        self._told.pop(self._key(alert), None)

    def _key(self, alert: Alert) -> tuple[object, ...]:
        return alert.id, alert.level, alert.resolved


# -- making a plugin ----------------------------------------------------------------------------------------------


class _PauseError(Exception):
    """A plugin wants to sleep."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def _no_sleep(last_io: object = None, wait: float | None = None) -> None:  # noqa: ARG001 - the plugins' names
    """Stands for a plugin's throttle, which sleeps by the wall clock; waiting is the channel's worker's business."""
    if wait is not None and wait > 0:
        raise _PauseError(float(wait))


def _apprise() -> Any:
    try:
        return importlib.import_module("apprise")
    except ImportError as error:
        raise MissingDependencyError("alert channels with a url need Apprise: pip install apprise") from error


def _plugin(apprise: Any, url: str, name: str) -> Any:
    wanted = {"secure_logging": True, "http_redirects": False, "app_id": "hireliab", "app_desc": "hireliab"}
    asset = apprise.AppriseAsset(**{key: value for key, value in wanted.items() if hasattr(apprise.AppriseAsset, key)})
    why = ""
    try:
        plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=False)
    except Exception as error:  # a TypeError before 2.0; its text repeats what it was given
        plugin, why = None, f" ({type(error).__name__})"
    if plugin is None:
        raise _refused(name, _what_is_wrong(apprise, url) + why)
    plugin.request_rate_per_sec = 0
    plugin.throttle = _no_sleep
    for setting in ("retry", "wait"):
        if hasattr(plugin, setting):
            setattr(plugin, setting, 0)
    return plugin


def _what_is_wrong(apprise: Any, url: str) -> str:
    scheme = _scheme(url)
    if not scheme:
        return "the url does not begin with a service such as 'tgram://'"
    schemes = sorted(_schemes(apprise))
    if scheme in schemes:
        return f"the rest of its {scheme}:// url does not parse; see the page of that service in Apprise's documents"
    near = difflib.get_close_matches(scheme, schemes, n=1)
    shown = scheme if scheme.isalpha() and len(scheme) <= 12 else "of this url"  # a token may stand in front
    return f"Apprise knows no service {shown!r}" + (f", did you mean '{near[0]}://'?" if near else "")


def _schemes(apprise: Any) -> set[str]:
    found: set[str] = set()
    for service in apprise.Apprise().details()["schemas"]:
        for key in ("protocols", "secure_protocols"):
            found.update(service.get(key) or ())
    return found


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def _refused(name: str, why: str) -> ConfigError:
    return ConfigError(f"channels: {name!r}: {why}", setting=name, allowed="a URL that Apprise knows")


def _helpers(module: str) -> list[str]:
    """Modules of a plugin that is a package: e-mail's session is in one of its own."""
    package = module.rpartition(".")[0]
    if package in {"apprise", "apprise.plugins"}:
        return []
    return [name for name in list(sys.modules) if name == package or name.startswith(package + ".")]


def _secrets(plugin: Any, url: str) -> tuple[str, ...]:
    """What the plugin itself masks in its address, besides what looks like a secret."""
    found = list(secrets_of_url(url))
    try:
        shown, whole = plugin.url(privacy=True), plugin.url(privacy=False)
    except Exception:
        return tuple(found)
    words = [*re.split(r"[/:@?&=#]+", whole.partition("://")[2]), *re.split(r"[/:@?&=#]+", url.partition("://")[2])]
    words += [value for value in vars(plugin).values() if isinstance(value, str)]
    visible = {unquote(word) for word in re.split(r"[/:@?&=#]+", shown)}
    for word in words:
        plain = unquote(word)
        # A number is the name of a bot or of a chat; masked, it would be missing in half of all texts.
        if (
            len(plain) >= 6
            and not plain.isdigit()
            and plain in unquote(whole)
            and plain not in visible
            and plain not in unquote(shown)
        ):
            found.append(plain)
    return tuple(dict.fromkeys(found))
