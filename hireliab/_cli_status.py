"""``hireliab status``: how a bot is, as it says itself in status.json, and whether it is still there to say it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import click

from hireliab._cli_reader import Place, find, json_option
from hireliab._cli_text import age, ago, clean, echo_json, facts, local_time, table, title
from hireliab._cli_transactions import halt_line
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import ConfigError, JournalError
from hireliab.exchange import _operator_client
from hireliab.exchange._operator import STATUS
from hireliab.monitoring._health_rules import RULES, Health

MOST_BYTES = 4 * 1024 * 1024
_COMMAND = re.compile(r"'(hireliab [^']*)'")
CODES = {Health.HEALTHY: 0, Health.DEGRADED: 1, Health.DOWN: 2}
NOT_KNOWN = 3
_ELSEWHERE = frozenset(
    "pid name state started updated health health_error status_error halt oldest_unresolved"
    " verdicts events reads phases outbox journal".split()
)
"""What is shown apart from the plain facts, or not at all."""


class _Unknown(click.ClickException):
    """How the bot is cannot be told: one line on stderr, exit code 3."""

    exit_code = NOT_KNOWN


class _Status(click.Command):
    """Usage errors have exit code 3: a monitor must not take a misspelt option for a bot that is down."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """As click does."""
        try:
            return super().parse_args(context, args)
        except click.UsageError as error:
            error.exit_code = NOT_KNOWN  # type: ignore[misc]  # click has it on the class; its readers do not mind
            raise


@dataclass
class _Verdict:
    """How the bot is, the worst so far, and why."""

    status: Health = Health.HEALTHY
    reasons: list[str] = field(default_factory=list)

    def add(self, status: Health, reason: str) -> None:
        if status.rank > self.status.rank:
            self.status = status
            self.reasons.insert(0, reason)
        else:
            self.reasons.append(reason)


@click.command(cls=_Status)
@click.option("--name", metavar="NAME", help="Name of the pipeline.  [default: default, or the only one]")
@click.option("--journal", metavar="FOLDER", help="Its journal.")
@json_option
def status(*, name: str | None, journal: str | None, as_json: bool) -> int:
    """
    How a bot is, by its status.json: process, health with reasons, figures.

    It works beside a running bot, and changes nothing. Exit codes, as of a monitoring plugin: 0 healthy; 1 degraded; 2
    down, stopped or not running; 3 that cannot be told.
    """
    try:
        place = _place(name, journal)
        said, mode = _read(place.folder)
    except _Unknown as error:
        if not as_json:
            raise
        echo_json({"health": "unknown", "reasons": [error.message], "status": None})
        return NOT_KNOWN
    verdict = _judge(place.folder, said, mode)
    if place.halt is not None and not any(reason.startswith("halted") for reason in verdict.reasons):
        verdict.add(Health.DEGRADED, "halted by an operator, from the next start on, too")
    # A command that the user copies has to name the journal as he did.
    verdict.reasons = [_COMMAND.sub(lambda found: f"'{found[1]}{place.options}'", one) for one in verdict.reasons]
    if as_json:
        echo_json({"health": verdict.status.value, "reasons": verdict.reasons, "status": said})
    else:
        _show(place, said, verdict)
    return CODES[verdict.status]


def _place(name: str | None, journal: str | None) -> Place:
    try:
        return find(name, journal)
    except (click.ClickException, ConfigError) as error:
        raise _Unknown(error.message if isinstance(error, click.ClickException) else str(error)) from None


# -- reading ------------------------------------------------------------------------------------------------------


def _read(folder: Path) -> tuple[dict[str, Any], int]:
    """What the bot said last, and the mode of the file."""
    path = folder / STATUS
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            _check(path, found, folder)
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise _Unknown(f"no {path}: no bot has run here with operator_interval, or it has not started yet") from None
    except OSError as error:
        hint = "; run this as the bot's user" if isinstance(error, PermissionError) else ""
        raise _Unknown(f"{path}: cannot be read ({error.strerror or type(error).__name__}){hint}") from None
    if len(raw) > MOST_BYTES:
        raise _Unknown(f"{path}: larger than {MOST_BYTES} bytes, so no bot wrote it")
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        _is_torn(path)
    if not isinstance(said, dict) or not isinstance(said.get("state"), str) or not _number(said.get("updated")):
        _is_torn(path)
    return said, stat.S_IMODE(found.st_mode)


def _is_torn(path: Path) -> NoReturn:
    raise _Unknown(f"{path}: torn, or no bot's: a bot replaces it as a whole; it writes it anew within 10 s")


def _check(path: Path, found: os.stat_result, folder: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _Unknown(f"{path}: is no plain file, so no bot wrote it")
    if os.name != "posix":  # Windows has no such owners and modes
        return
    owner = folder.stat().st_uid
    if found.st_uid != owner:
        raise _Unknown(f"{path}: belongs to user {found.st_uid}, and the folder to user {owner}; it is not believed")
    if stat.S_IMODE(found.st_mode) & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise _Unknown(f"{path}: can be written by others (mode {mode:o}); it is not believed; the bot writes 600")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


# -- judging ------------------------------------------------------------------------------------------------------


def _judge(folder: Path, said: dict[str, Any], mode: int) -> _Verdict:
    verdict, pid, owner = _Verdict(), said.get("pid"), _owner(folder)
    stopped = said["state"] == "stopped"
    if not _is_there(folder, pid):
        gone = f"process {pid} is gone and did not stop in order; the next start goes on with its orders"
        verdict.add(Health.DOWN, "no bot runs: it was stopped" if stopped else f"no bot runs: {gone}")
        return verdict
    if owner is not None and owner != pid:
        verdict.add(Health.DEGRADED, f"process {owner} owns the journal and has not said anything yet: it is starting")
        return verdict
    if stopped:
        verdict.add(Health.DOWN, "the bot is stopping")
        return verdict
    late = SYSTEM_CLOCK.time() - said["updated"]
    if late >= _operator_client.FRESH:
        verdict.add(Health.DOWN, f"the bot is there, but last said something {ago(late)}: it is stuck, or suspended")
    elif late <= -_operator_client.FRESH:
        verdict.add(Health.DEGRADED, "what it said last is of the future: a clock was set back")
    if os.name == "posix" and mode & 0o044:
        verdict.add(Health.DEGRADED, f"status.json can be read by others (mode {mode:o}); the bot writes 600")
    _judge_health(said, verdict)
    _judge_figures(said, verdict)
    for name in ("health_error", "status_error"):
        if said.get(name):
            verdict.add(Health.DEGRADED, f"{name.replace('_', ' ')}: {said[name]}")
    return verdict


def _judge_health(said: dict[str, Any], verdict: _Verdict) -> None:
    """What its HealthMonitor says, if it has one."""
    health = said.get("health")
    if not isinstance(health, Mapping) or health.get("status") not in [one.value for one in Health]:
        return
    reasons = health.get("reasons")
    verdict.reasons += map(str, reasons) if isinstance(reasons, list) else []
    verdict.status = max(verdict.status, Health(health["status"]), key=lambda one: one.rank)


def _judge_figures(said: dict[str, Any], verdict: _Verdict) -> None:
    """The pipeline by its own figures: nobody has to have set up a HealthMonitor, or told it of the pipeline."""
    try:
        outbox = said.get("outbox")
        figures = {
            **said,
            "journal": SimpleNamespace(**said["journal"]),
            "outbox": None if outbox is None else SimpleNamespace(**outbox),
        }
        found = list(RULES["pipeline"](SimpleNamespace(**figures)))
    except (KeyError, TypeError, AttributeError, ValueError):
        verdict.add(Health.DEGRADED, "status.json has no figures that this version of hireliab knows")
        return
    for status_, why in found:
        if not any(reason.endswith(why) for reason in verdict.reasons):
            verdict.add(status_, why)


def _owner(folder: Path) -> int | None:
    """The process that took the journal last."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / "owner.pid").read_text(encoding="ascii"))
    return None


def _is_there(folder: Path, pid: object) -> bool:
    """Whether a bot runs. The journal's lock decides: a process id may be another program's by now."""
    try:
        return _operator_client.is_owned(folder)
    except JournalError:  # the lock is not ours to try: see whether there is such a process
        if os.name == "posix" and isinstance(pid, int) and 0 < pid < 2**31:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
            except OSError:
                return True
    return True


# -- showing ------------------------------------------------------------------------------------------------------


def _show(place: Place, said: dict[str, Any], verdict: _Verdict) -> None:
    now = SYSTEM_CLOCK.time()
    oldest = said.get("oldest_unresolved") if _number(said.get("oldest_unresolved")) else None
    title(clean(f"bot {said.get('name')}: {verdict.status.value}"))
    for reason in verdict.reasons:
        click.echo(f"  - {clean(reason)}")
    started = said.get("started")
    since = f", started {local_time(started)} ({ago(now - started)})" if _number(started) else ""  # type: ignore[operator]
    facts(
        [
            ("journal", str(place.folder)),
            ("process", f"{said.get('pid')}, {said['state']}{since}"),
            ("last sign", f"{local_time(said['updated'])} ({ago(now - said['updated'])})"),
            ("halt", halt_line(place) if place.halt else "-"),
            ("oldest unresolved", age(oldest)),
            *((name.replace("_", " "), _words(value)) for name, value in said.items() if name not in _ELSEWHERE),
        ]
    )
    rows = list(_rows(said))
    if rows:
        click.echo()
        table(["figure", "value"], rows)
    checks = said.get("health")
    checks = checks.get("checks") if isinstance(checks, Mapping) else None
    if isinstance(checks, Mapping) and checks:
        click.echo()
        table(
            ["check", "status"],
            [[str(name), str(word)] for name, word in checks.items()],
            marked=[word != Health.HEALTHY.value for word in checks.values()],
        )
    elif "health" not in said:
        click.echo("\nNo HealthMonitor is set up; give the pipeline health=HealthMonitor(...).")
    sys.stdout.flush()


def _words(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(said: dict[str, Any]) -> list[list[str]]:
    """Figures that are mappings, a line for each."""
    rows = []
    for name in ("verdicts", "reads", "outbox", "journal"):
        figures = said.get(name)
        if isinstance(figures, Mapping):
            rows += [
                [f"{name} {key}".replace("_", " "), _words(value)] for key, value in figures.items() if value != ""
            ]
    phases = said.get("phases")
    if isinstance(phases, Mapping):
        for name, phase in phases.items():
            if isinstance(phase, Mapping) and phase.get("count"):
                times = ", ".join(f"{key} {_words_seconds(phase.get(key))}" for key in ("p50", "p99", "most"))
                word = "time" if phase["count"] == 1 else "times"
                rows.append([f"phase {name}", f"{phase['count']} {word}, {times}"])
    return rows


def _words_seconds(value: object) -> str:
    return f"{value * 1000:.1f} ms" if _number(value) else "-"  # type: ignore[operator]
