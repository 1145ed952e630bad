"""The command line's half of the conversation with a bot that runs: see _operator.py."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hireliab.core._threads import Stop
from hireliab.core.clock import Clock
from hireliab.errors import JournalError, NotSentError, OutcomeUnknownError
from hireliab.exchange._operator import COMMANDS, MOST_BYTES, STATUS
from hireliab.exchange.transaction import new_id

_LOOK_EVERY = 0.05
FRESH = 15.0
"""Seconds after which a status.json that says "running" is no sign of life any more."""


def ask(folder: Path, command: str, args: Mapping[str, Any], *, timeout: float, clock: Clock) -> dict[str, Any]:
    """
    Ask the bot that owns the journal's folder, and wait for its answer.

    Returns:
        ``ok``, and ``answer`` or ``error``.

    Raises:
        NotSentError: The bot did not take it within `timeout` seconds; it was withdrawn, so nothing was or will be done.
        OutcomeUnknownError: The bot took it and has not answered.
        JournalError: The command cannot be written.
    """
    name = new_id(clock.time())
    commands = folder / COMMANDS
    file, answer = commands / f"{name}.json", commands / f"{name}.answer.json"
    content = json.dumps({"command": command, "args": dict(args), "asked": clock.time()}).encode("ascii")
    if len(content) > MOST_BYTES:
        raise NotSentError(f"{command}: the words are longer than {MOST_BYTES} bytes; nothing was done")
    try:
        commands.mkdir(mode=0o700, exist_ok=True)
        _write(file, content)
    except OSError as error:
        raise JournalError(f"{commands}: cannot be written ({error.strerror}); nothing was done") from error
    end = clock.monotonic() + timeout
    rest = Stop(clock)
    try:
        while clock.monotonic() < end:
            found = _read(answer)
            if found is not None:
                return found
            rest.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        _withdraw(file)
        raise
    if _withdraw(file):
        raise NotSentError(
            f"{command}: the bot did not take it within {timeout:g} s; it was withdrawn, nothing was done; is the bot"
            " stuck, or does it run an older hireliab?"
        )
    found = _read(answer)
    if found is not None:
        return found
    raise OutcomeUnknownError(
        f"{command}: the bot took it and has not answered within {timeout:g} s; look at the transaction before you ask"
        f" again, or read {answer}"
    )


def _write(file: Path, content: bytes) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    temporary.rename(file)


def _withdraw(file: Path) -> bool:
    """Take the command back; False when the bot has it."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """A file's JSON object, or None where it is missing or is none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return None


def status(folder: Path) -> dict[str, Any] | None:
    """What the bot said last in status.json, or None."""
    return _read(folder / STATUS)


def is_owned(folder: Path) -> bool:
    """
    Whether some process owns the journal.

    There is no way to look at the lock without trying it; a bot that starts in the same instant tries for longer.
    """
    import filelock  # noqa: PLC0415 - third parties are imported where they are used

    path = folder / "journal.lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0, mode=0o600):
            return False
    except filelock.Timeout:
        return True
    except OSError as error:
        raise JournalError(f"{path}: cannot be tried ({error.strerror}); nothing was done") from error
