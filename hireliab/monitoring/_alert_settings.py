"""What an alert system is told: `AlertConfig`, and the channels that it describes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hireliab.core import config as checks
from hireliab.core.clock import Clock
from hireliab.errors import ConfigError
from hireliab.monitoring._redaction import MASK, known_secrets, secrets_of_url
from hireliab.monitoring.alert import AlertLevel
from hireliab.monitoring.alert_channels import Channel, ConsoleChannel, Rate, check_channel
from hireliab.monitoring.alert_groups import GROUP_INTERVAL, GROUP_WAIT, REPEAT_INTERVAL

BUILT_IN = ("console", "email", "telegram")
_VARIABLES = {"email": "HIRELIAB_EMAIL_URL", "telegram": "HIRELIAB_TELEGRAM_URL"}
_EXAMPLES = {"email": "mailto://user:password@gmail.com", "telegram": "tgram://<bot token>/<chat id>"}
_CHANNEL_KEYS = ("url", "urls", "url_file", "per_minute")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class AlertConfig:
    """
    Settings of an alert system.

    Attributes:
        channels: By name: True or False for "console", "email" and "telegram", the last two with the Apprise URL from
            HIRELIAB_EMAIL_URL and HIRELIAB_TELEGRAM_URL, or from the file that HIRELIAB_EMAIL_URL_FILE and
            HIRELIAB_TELEGRAM_URL_FILE name. Under any name, a callable that takes an `Alert`; or a mapping with "url",
            an Apprise URL, or "urls", several, or "url_file", a file with one on each line; and, if you like,
            "per_minute", the most messages in a minute.
        level_thresholds: By channel: the lowest level that it gets, an AlertLevel or its name; INFO when not given.
        failover: By channel: the channels that tell an alert of ERROR or more, the first of them that works, when this
            one could not within 30 s.
        queue_size: Most messages that wait for one channel.
        name: Names the folder of the spool; one for each bot of a user.
        spool: The folder in which alerts of ERROR and more survive a crash; True for the default one below
            $HIRELIAB_HOME or the user's state folder; False for none; None: True when there is another channel than
            the console.
        group_wait: Seconds that the first alert of a group below ERROR waits.
        group_interval: Seconds between two messages of a group.
        repeat_interval: Seconds after which an unresolved alert with a dedup key is told again.
        heartbeat: An http(s) URL that is called every 60 s while the process lives; or a mapping with "url" and "every",
            in seconds; or None. Whoever watches it notices a process that was killed and cannot alert.
    """

    channels: Mapping[str, bool | Channel | Mapping[str, Any]] = field(
        default_factory=lambda: MappingProxyType({"console": True}), repr=False
    )
    level_thresholds: Mapping[str, AlertLevel | str] = field(default_factory=lambda: _NOTHING)
    failover: Mapping[str, str | Sequence[str]] = field(default_factory=lambda: _NOTHING)
    queue_size: int = 1000
    name: str = "main"
    spool: bool | str | os.PathLike[str] | None = None
    group_wait: float = GROUP_WAIT
    group_interval: float = GROUP_INTERVAL
    repeat_interval: float = REPEAT_INTERVAL
    heartbeat: str | Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for setting in ("channels", "level_thresholds", "failover"):
            if not isinstance(getattr(self, setting), Mapping):
                raise ConfigError(f"{setting} must be a mapping by channel", setting=setting, allowed="a mapping")
        for name, channel in self.channels.items():
            _check_setting(name, channel)
        checks.refuse_unknown(self.level_thresholds, {*self.channels, *BUILT_IN}, where="level_thresholds")
        for name, level in self.level_thresholds.items():
            _threshold(name, level)
        self._check_failover()
        checks.whole("queue_size", self.queue_size, low=1, high=100_000)
        self._check_name()
        spool: object = self.spool
        if not isinstance(spool, bool | str | os.PathLike | None):
            allowed = "True, False, None or a folder"
            raise ConfigError(
                f"spool must be {allowed}, got {type(self.spool).__name__}", setting="spool", allowed=allowed
            )
        checks.number("group_wait", self.group_wait, low=0, high=600)
        checks.number("group_interval", self.group_interval, low=1, high=86400)
        checks.number("repeat_interval", self.repeat_interval, low=self.group_interval, high=30 * 86400)
        if self.heartbeat is not None:
            self.heartbeat_settings()

    def _check_name(self) -> None:
        checks.text("name", self.name, most=60)
        if not all(character.isalnum() or character in "-_." for character in self.name) or self.name.startswith("."):
            allowed = "letters, digits, '-', '_' and '.', for it names a folder"
            raise ConfigError(f"name must be of {allowed}, got {self.name!r}", setting="name", allowed=allowed)

    def _check_failover(self) -> None:
        on = [name for name, channel in self.channels.items() if channel is not False]
        checks.refuse_unknown(self.failover, on, where="failover, which knows the channels that are on")
        for name, others in self.failover.items():
            if not isinstance(others, str | list | tuple):
                allowed = "a channel's name or a list of them"
                raise ConfigError(f"failover[{name!r}] must be {allowed}", setting="failover", allowed=allowed)
            for other in self.failover_of(name):
                checks.choice(f"failover[{name!r}]", other, [one for one in on if one != name])

    def failover_of(self, name: str) -> tuple[str, ...]:
        """The channels that stand in for one, in their order."""
        others = self.failover.get(name, ())
        return (others,) if isinstance(others, str) else tuple(others)

    def threshold(self, name: str) -> AlertLevel:
        """The lowest level that a channel gets."""
        return _threshold(name, self.level_thresholds.get(name, AlertLevel.INFO))

    def heartbeat_settings(self) -> tuple[str, float]:
        """The heartbeat's URL, and the seconds between two calls."""
        given: Any = {"url": self.heartbeat} if isinstance(self.heartbeat, str) else self.heartbeat
        allowed = 'an http or https URL, or {"url": …, "every": seconds}'
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"heartbeat must be {allowed}, got {type(given).__name__}", setting="heartbeat", allowed=allowed
            )
        checks.refuse_unknown(given, ("url", "every"), where="heartbeat")
        url = given.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")) or any(map(str.isspace, url)):
            raise ConfigError(f"heartbeat must be {allowed}", setting="heartbeat", allowed=allowed)
        return url, checks.number("heartbeat['every']", given.get("every", 60.0), low=1, high=86400)

    def spool_folder(self) -> Path | None:
        """Where the spool is; None for none."""
        if isinstance(self.spool, str | os.PathLike):
            return Path(self.spool)
        wanted = self.spool
        if wanted is None:
            wanted = any(channel is not False for name, channel in self.channels.items() if name != "console")
        return default_folder(self.name) if wanted else None


def default_folder(name: str) -> Path:
    """The spool's folder of an alert system: below $HIRELIAB_HOME, or the platform's folder for a user's state."""
    home = os.environ.get("HIRELIAB_HOME")
    if home:
        return Path(home) / "alert-spool" / name
    import platformdirs  # noqa: PLC0415 - third parties are imported where they are used

    return Path(platformdirs.user_state_dir("hireliab", appauthor=False)) / "alert-spool" / name


@dataclass(frozen=True, kw_only=True)
class ChannelPlan:
    """
    One channel to be made.

    Attributes:
        name: Its own name; `family` with a number when one setting makes several.
        family: The name under which it is configured.
        channel: What sends.
        threshold: The lowest level that it gets.
        rate: What the settings say about its rate, or None.
    """

    name: str
    family: str
    channel: Channel
    threshold: AlertLevel
    rate: Rate | None = None


_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s'\"]+")


def without_addresses(error: ConfigError, where: str = "") -> ConfigError:
    """The same error; an address that stands in a wrong place, token and all, is shown by its scheme only."""

    def mask(given: object) -> Any:
        return _ADDRESS.sub(rf"\1{MASK}", given) if isinstance(given, str) else given

    value = error.value if error.value is None or isinstance(error.value, str | int | float) else repr(error.value)
    return ConfigError(
        mask(f"{where}{error}"),
        setting=mask(error.setting),
        value=mask(value),
        allowed=mask(error.allowed),
        near_miss=mask(error.near_miss),
    )


def plan_channels(config: AlertConfig, clock: Clock) -> tuple[ChannelPlan, ...]:
    """
    The channels of a configuration.

    Raises:
        ConfigError: A URL is missing or cannot be read; no secret is in its text.
        MissingDependencyError: A URL is given and apprise is not installed.
    """
    plans = []
    for family, setting in config.channels.items():
        if setting is False:
            continue
        rate = None
        made: list[Channel]
        if setting is True and family == "console":
            made = [ConsoleChannel()]
        elif callable(setting):
            made = [setting]
        else:
            urls = _urls_from_environment(family) if setting is True else _urls(family, setting)
            made = [_apprise_channel(url, family, clock) for url in urls]
            if isinstance(setting, Mapping) and "per_minute" in setting:
                rate = Rate(setting["per_minute"])
        for number, channel in enumerate(made, 1):
            plans.append(
                ChannelPlan(
                    name=family if len(made) == 1 else f"{family}[{number}]",
                    family=family,
                    channel=channel,
                    threshold=config.threshold(family),
                    rate=rate,
                )
            )
    return tuple(plans)


def _apprise_channel(url: str, name: str, clock: Clock) -> Channel:
    known_secrets.add(secrets_of_url(url))  # before anything can be written about it
    from hireliab.monitoring.apprise_channel import AppriseChannel  # noqa: PLC0415 - loads a third party

    channel = AppriseChannel(url, name=name, clock=clock)
    known_secrets.add(channel.secrets)
    return channel


def _check_setting(name: str, channel: object) -> None:
    checks.text("channels", name, most=60)
    if isinstance(channel, Mapping) and not callable(channel):
        if name == "console":
            raise ConfigError(
                "channels: 'console' must be True, False or a callable; give a URL another name",
                setting=name,
                allowed="True, False or a callable",
            )
        checks.refuse_unknown(channel, _CHANNEL_KEYS, where=f"channels[{name!r}]")
        given = [key for key in ("url", "urls", "url_file") if key in channel]
        if len(given) != 1:
            raise ConfigError(
                f"channels[{name!r}]: give one of url, urls and url_file, got {' and '.join(given) or 'none'}",
                setting=name,
                allowed="one of url, urls and url_file",
            )
        if "per_minute" in channel:
            checks.number(f"channels[{name!r}]['per_minute']", channel["per_minute"], above=0, high=60_000)
        if given[0] != "url_file":
            _urls(name, channel)
        return
    if not isinstance(channel, bool):
        check_channel(name, channel)
        return
    checks.refuse_unknown([name], BUILT_IN, where="channels, where True and False are for those built in")


def _threshold(name: str, level: object) -> AlertLevel:
    if isinstance(level, AlertLevel):
        return level
    word = level.strip().lower() if isinstance(level, str) else level
    names = [known.name.lower() for known in AlertLevel]
    return AlertLevel[checks.choice(f"level_thresholds[{name!r}]", word, names).upper()]


def _urls(name: str, setting: Mapping[str, Any]) -> list[str]:
    """The URLs of a channel's mapping; no error shows any part of them."""
    if "url_file" in setting:
        return _urls_from_file(setting["url_file"], f"channels[{name!r}]['url_file']", name)
    key = "url" if "url" in setting else "urls"
    given = [setting["url"]] if key == "url" else setting["urls"]
    allowed = "an Apprise URL" if key == "url" else "a list of Apprise URLs"
    if not isinstance(given, list | tuple) or not given or not all(isinstance(u, str) and u.strip() for u in given):
        raise ConfigError(f"channels[{name!r}][{key!r}] must be {allowed}", setting=name, allowed=allowed)
    return [url.strip() for url in given]


def _urls_from_environment(name: str) -> list[str]:
    variable = _VARIABLES[name]
    url = os.environ.get(variable, "").strip()
    file = os.environ.get(f"{variable}_FILE", "").strip()
    if url and file:
        raise ConfigError(
            f"channels: {name!r} is True, and both {variable} and {variable}_FILE are set; unset one", setting=name
        )
    if url:
        return [url]
    if file:
        return _urls_from_file(file, f"{variable}_FILE", name)
    raise ConfigError(
        f"channels: {name!r} is True, but {variable} is not set; set it, or {variable}_FILE to a file that holds it, to"
        f" an Apprise URL such as {_EXAMPLES[name]}",
        setting=name,
        allowed=f"{variable} or {variable}_FILE",
    )


def _urls_from_file(file: Any, where: str, name: str) -> list[str]:
    if not isinstance(file, str | os.PathLike) or not os.fspath(file):
        raise ConfigError(f"{where} must be a path", setting=name, allowed="a path")
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{where}: {os.fspath(file)} cannot be read: {why}", setting=name) from None
    urls = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not urls:
        raise ConfigError(f"{where}: {os.fspath(file)} holds no URL", setting=name, allowed="one URL on each line")
    return urls
