"""``hireliab alerts``: does what should wake a person arrive?"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hireliab._cli_text import BAD, Group, Misplaced, echo_json, table
from hireliab.monitoring.alert_system import AlertSystem

VARIABLE = "HIRELIAB_ALERTS"
_BUILT_IN = {"email": "HIRELIAB_EMAIL_URL", "telegram": "HIRELIAB_TELEGRAM_URL"}


@click.group(cls=Group)
def alerts() -> None:
    """The channels that alerts go through."""


@alerts.command()
@click.argument("channel", required=False)
@click.option(
    "--config",
    metavar="FILE|MODULE:NAME",
    help=f"The alert system's settings: a JSON file, or a mapping in a Python module, such as mybot.settings:ALERTS."
    f" Default: ${VARIABLE}; without it the console, and e-mail and Telegram where their variables are set.",
)
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=20.0, show_default=True, help="Seconds for all.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text for people.")
def test(*, channel: str | None, config: str | None, timeout: float, as_json: bool) -> int:
    """
    Send a test message through each channel, or through CHANNEL alone, and show what happened.

    Past thresholds and silences; nothing is stored. Exit code 1: a channel did not take it.
    """
    where = config or os.environ.get(VARIABLE, "").strip()
    settings = _load(where) if where else _from_environment()
    results = AlertSystem({**settings, "spool": False, "heartbeat": None}).test(channel, timeout=timeout)
    if as_json:
        echo_json(
            [
                {"channel": one.channel, "ok": one.ok, "reason": one.reason, "seconds": round(one.seconds, 3)}
                for one in results
            ]
        )
    elif results:
        table(
            ["channel", "result", "seconds", "what happened"],
            [[one.channel, "ok" if one.ok else "FAILED", f"{one.seconds:.2f}", one.reason] for one in results],
            right=[2],
            marked=[not one.ok for one in results],
        )
    else:
        raise Misplaced("alerts test: no channel is on")
    return 0 if all(one.ok for one in results) else BAD


def _from_environment() -> dict[str, Any]:
    set_up = {
        name: True
        for name, variable in _BUILT_IN.items()
        if os.environ.get(variable, "").strip() or os.environ.get(f"{variable}_FILE", "").strip()
    }
    return {"channels": {"console": True, **set_up}}


def _load(where: str) -> dict[str, Any]:
    """Settings from a file or a module; no error shows what they hold."""
    if "://" in where or where.lstrip()[:1] in {"{", "["}:  # not repeated: it holds tokens
        raise Misplaced(
            f"${VARIABLE} or --config must name a file or a module:name; the settings themselves stand there"
        )
    module, colon, name = where.partition(":")
    if colon and module.replace(".", "").isidentifier() and name.isidentifier() and not Path(where).exists():
        found = _from_module(module, name)
    else:
        found = _from_file(where)
    # A whole AlertConfig serves as well.
    found = vars(found) if type(found).__name__ == "AlertConfig" else found
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise Misplaced(f"{where}: holds no mapping of an alert system's settings")
    return dict(found)


def _from_module(module: str, name: str) -> Any:
    sys.path.insert(0, "")  # as python -m does: the bot's own modules are beside the operator
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise Misplaced(f"{module}:{name} cannot be read: {type(error).__name__}: {error}"[:300]) from None
    finally:
        sys.path.remove("")


def _from_file(where: str) -> Any:
    try:
        return json.loads(Path(where).read_text(encoding="utf-8"))
    except OSError as error:
        raise Misplaced(f"{where} cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError as error:  # also a wrong encoding; the text around the mistake may hold a secret
        line = getattr(error, "lineno", None)
        raise Misplaced(f"{where} is no JSON" + ("" if line is None else f": line {line}")) from None
