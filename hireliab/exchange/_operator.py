"""
Operator: the bot's half of the conversation with the command line, through files in the journal's folder.

A command is a file ``commands/<ULID>.json`` that appears by a rename, so it is whole. The resolver thread claims it by
renaming it to ``.running`` before it does anything, and writes ``<ULID>.answer.json`` afterwards. Therefore no command
is done twice, whatever dies when: what was claimed and has no answer is answered "interrupted" by the next start, and
whoever asked can withdraw what is not claimed yet by removing it.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hireliab.core._sqlite_disk import sync_folder
from hireliab.core.clock import Clock
from hireliab.errors import HireliabError
from hireliab.exchange._operator_desk import Answer, Handler, Later, plain

_log = logging.getLogger("hireliab.operator")

COMMANDS = "commands"
STATUS = "status.json"
NAME = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)
MOST_BYTES = 64 * 1024
MOST_AGE = 600.0
"""Seconds after which a command is not done any more: nobody expects the next start to do what was asked yesterday."""
KEPT = 86400.0
"""Seconds that an answer, and what others left in the folder half written, is kept."""
STATUS_EVERY = 10.0
_AT_ONCE = 8
_SWEEP_EVERY = 3600.0
INTERRUPTED = "interrupted: the bot ended while it did this; look at the transaction before you ask again"


class Operator:
    """
    Args:
        folder: The journal's; it exists.
        handlers: What can be asked, by name; each gets the command's arguments and returns the answer. What it raises
            is the answer, too.
        status: What status.json says beside pid, name, started, updated and state.
        interval: Least seconds between two looks, so that `poll` may be called as often as one likes.

    Only one thread calls `poll` and `close`; neither raises.
    """

    def __init__(
        self,
        folder: Path,
        handlers: Mapping[str, Handler],
        status: Callable[[], Mapping[str, Any]],
        clock: Clock,
        *,
        interval: float = 0.5,
    ) -> None:
        self._folder = folder
        self._commands = folder / COMMANDS
        self._handlers = dict(handlers)
        self._status = status
        self._clock = clock
        self._interval = interval
        self._started = clock.time()
        self._next_look = -math.inf
        self._next_sweep = -math.inf
        self._is_new = True
        self._later: dict[str, tuple[str, Callable[[], Answer | Later | None]]] = {}
        self._unwritten: dict[str, dict[str, Any]] = {}  # answers that the disk did not take yet
        self._written: dict[str, Any] | None = None
        self._written_at = -math.inf
        self._told: set[str] = set()

    def poll(self) -> None:
        """Do what was asked, answer it, and bring status.json up to date."""
        now = self._clock.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._interval
        self._guarded("commands", self._look)
        self._guarded("status", self._write_status)

    def close(self) -> None:
        """The bot stops: answer what is not done, and say so in status.json."""
        self._guarded("commands", self._end)
        self._guarded("status", partial(self._write_status, state="stopped"))

    def _end(self) -> None:
        for name, (command, later) in list(self._later.items()):
            self._do(name, command, later, again=True)
            if self._later.pop(name, None) is not None:
                self._answer(name, {"ok": False, "command": command, "error": INTERRUPTED, "error_type": "Interrupted"})

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the thread has money to look after
            self._tell_once(f"{what}: {type(error).__name__}: {error}")

    def _tell_once(self, text: str) -> None:
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            _log.warning("operator, %s: %s", self._folder, text)

    # -- commands ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._make_folder()
        self._check_folder()
        names = sorted(path.name for path in self._commands.iterdir())
        if self._is_new:
            self._answer_interrupted(names)
            self._is_new = False
        for name, answer in list(self._unwritten.items()):
            self._answer(name, answer)
        for name, (command, later) in list(self._later.items()):
            self._do(name, command, later, again=True)
        waiting = [name[:-5] for name in names if name.endswith(".json") and NAME.fullmatch(name[:-5])]
        for name in waiting[:_AT_ONCE]:  # a ULID sorts by its time; the others are looked at the next time
            self._take(name)
        if self._clock.monotonic() >= self._next_sweep:
            self._next_sweep = self._clock.monotonic() + _SWEEP_EVERY
            self._sweep(names)

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._commands.mkdir(mode=0o700)

    def _check_folder(self) -> None:
        found = os.lstat(self._commands)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(f"{self._commands} is no folder; no command is done")
        why = _distrust(found)
        if why:
            raise PermissionError(f"{self._commands} {why}; no command is done")

    def _answer_interrupted(self, names: list[str]) -> None:
        for file in names:
            name = file.removesuffix(".running")
            if file == name or not NAME.fullmatch(name):
                continue
            if f"{name}.answer.json" in names:  # the bot ended between the answer and this
                self._remove(file)
            else:
                _log.warning("operator: command %s was interrupted; it is not done again", name)
                self._answer(name, {"ok": False, "error": INTERRUPTED, "error_type": "Interrupted"})

    def _take(self, name: str) -> None:
        running = self._commands / f"{name}.running"
        try:
            (self._commands / f"{name}.json").rename(running)
        except FileNotFoundError:
            return  # withdrawn
        answer = {"ok": False, "error": "", "error_type": "Refused"}
        try:
            sync_folder(self._commands)  # a claim that power loss undoes would be done again
            command, args = self._read(running)
        except (OSError, ValueError, OverflowError) as error:
            answer["error"] = f"command {name}: {error}; nothing was done"
            _log.warning("operator: command %s is refused: %s", name, error)
            self._answer(name, answer)
            return
        if command not in self._handlers:
            near = difflib.get_close_matches(command, self._handlers, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(self._handlers))}"
            answer["error"] = f"no command {command!r:.60}; {hint}; nothing was done"
            self._answer(name, answer)
            return
        _log.info("operator: %s %s (%.60r)", command, name, args.get("who"))
        self._do(name, command, lambda: self._handlers[command](args))

    def _read(self, path: Path) -> tuple[str, dict[str, Any]]:
        """The command and its arguments; a ValueError says why not."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is no plain file")
            why = _distrust(found)
            if why:
                raise ValueError(f"it {why}")
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES} bytes")
        try:
            given = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON ({type(error).__name__})") from None
        why = _misshapen(given)
        if why:
            raise ValueError(f"it {why}")
        command, args, asked = given["command"], given.get("args", {}), given["asked"]
        age = self._clock.time() - asked
        if not abs(age) <= MOST_AGE:
            raise ValueError(f"it was asked {age:.0f} s ago by this machine's clock, and {MOST_AGE:.0f} s are allowed")
        return command, args

    def _do(self, name: str, command: str, work: Callable[[], Answer | Later | None], *, again: bool = False) -> None:
        """
        Args:
            again: It may say None for "not yet".
        """
        self._later.pop(name, None)
        try:
            outcome = work()
        except HireliabError as error:
            self._answer(name, _failed(command, str(error), error))
        except Exception as error:
            _log.exception("operator: %s %s failed", command, name)
            self._answer(name, _failed(command, f"{type(error).__name__}: {error}; see the bot's log", error))
        else:
            if callable(outcome):
                self._do(name, command, outcome, again=True)
            elif outcome is None and again:
                self._later[name] = (command, work)
            else:
                self._answer(name, {"ok": True, "command": command, "answer": plain(outcome or {})})

    def _answer(self, name: str, answer: dict[str, Any]) -> None:
        answer = {"id": name, **answer, "answered": self._clock.time()}
        self._unwritten[name] = answer
        _replace(self._commands / f"{name}.answer.json", answer)
        del self._unwritten[name]
        self._remove(f"{name}.running")

    def _remove(self, file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._commands / file).unlink()

    def _sweep(self, names: list[str]) -> None:
        """Remove what is a day old: answers, and files that were begun and never renamed."""
        now = self._clock.time()
        for file in names:
            if not file.endswith((".answer.json", ".tmp")):
                continue
            with contextlib.suppress(FileNotFoundError):
                if now - os.lstat(self._commands / file).st_mtime > KEPT:
                    self._remove(file)

    # -- status -----------------------------------------------------------------------------------------------

    def _write_status(self, state: str | None = None) -> None:
        try:
            told = dict(plain(self._status()))
        except Exception as error:  # a status that fails is told as one
            told = {"status_error": f"{type(error).__name__}: {error}"}
        content = {"pid": os.getpid(), "name": self._folder.name, "started": self._started, "state": "running", **told}
        if state is not None:
            content["state"] = state
        now = self._clock.monotonic()
        if content == self._written and now - self._written_at < STATUS_EVERY:
            return
        _replace(self._folder / STATUS, {**content, "updated": self._clock.time()}, sync=False)
        self._written, self._written_at = content, now


def _failed(command: str, text: str, error: Exception) -> dict[str, Any]:
    return {"ok": False, "command": command, "error": text, "error_type": type(error).__name__}


def _misshapen(given: object) -> str:
    """What a command lacks, or ""."""
    if not isinstance(given, dict) or not isinstance(given.get("command"), str):
        return "has no text 'command'"
    if not isinstance(given.get("args", {}), dict):
        return "has 'args' that are no JSON object"
    asked = given.get("asked")
    return "has no number 'asked'" if isinstance(asked, bool) or not isinstance(asked, int | float) else ""


def _distrust(found: os.stat_result) -> str:
    """Why a file or folder could be somebody else's word, or ""; Windows has no such owners and modes."""
    if os.name != "posix":
        return ""
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to the bot's"
    if stat.S_IMODE(found.st_mode) & 0o022:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    return ""


def _replace(path: Path, content: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write a file of mode 0600 that others see whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="ascii") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
