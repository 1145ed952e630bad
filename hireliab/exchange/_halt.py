"""The file HALT in a journal's folder: while it is there, no order is sent. Its first word is the mode."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hireliab.core import config
from hireliab.errors import JournalError

MODES = ("HALTED", "REDUCING")
NAME = "HALT"
_MOST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """
    Attributes:
        mode: "HALTED": nothing but cancels; "REDUCING": sells, too.
        since: Unix seconds, or None where the file does not say.
    """

    mode: str
    reason: str
    who: str
    since: float | None


def read(folder: Path) -> Halt | None:
    """The halt that is in force; a file that cannot be read or understood halts, too."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Halt(mode="HALTED", reason=f"{NAME} cannot be read: {error.strerror}", who="", since=None)
    try:
        text = os.read(descriptor, _MOST).decode("utf-8", "replace")
    except OSError as error:
        return Halt(mode="HALTED", reason=f"{NAME} cannot be read: {error.strerror}", who="", since=None)
    finally:
        os.close(descriptor)
    lines = text.split("\n")
    words = lines[0].split(maxsplit=1)
    facts = dict(line.partition(": ")[::2] for line in lines[1:] if ": " in line)
    try:
        since: float | None = float(facts.get("since", ""))
    except ValueError:
        since = None
    mode = words[0].upper() if words else ""
    return Halt(
        mode=mode if mode in MODES else "HALTED",
        reason=words[1].strip() if len(words) > 1 else "",
        who=facts.get("who", "").strip(),
        since=since,
    )


def write(folder: Path, halt: Halt) -> None:
    """
    Write the file so that it survives power loss.

    Raises:
        ConfigError: Another mode.
        JournalError: It cannot be written: nothing is halted.
    """
    config.choice("mode", halt.mode, MODES)
    one_line = " ".join(halt.reason.split())
    who = " ".join(halt.who.split())
    text = f"{halt.mode} {one_line}\nwho: {who}\nsince: {halt.since or 0:.3f}\n"
    temporary = folder / f"{NAME}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(folder / NAME)
        _sync(folder)
    except OSError as error:
        raise JournalError(f"{folder / NAME}: cannot be written ({error.strerror}); nothing is halted") from error


def clear(folder: Path) -> bool:
    """Remove the file; whether there was one."""
    try:
        (folder / NAME).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"{folder / NAME}: cannot be removed ({error.strerror}); the halt goes on") from error
    _sync(folder)
    return True


def _sync(folder: Path) -> None:
    """Make the file's name durable; Windows cannot open a folder and needs no such thing."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
