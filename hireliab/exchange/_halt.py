"""
The file HALT in a journal's folder: while it is there, no order is sent. Its first word is the mode.

A person may make it by hand, also with an editor or ``touch``: what cannot be read or understood halts everything.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from hireliab.core import config
from hireliab.core._sqlite_disk import sync_folder
from hireliab.errors import JournalError

MODES = ("HALTED", "REDUCING")
NAME = "HALT"
_MOST = 16384
_MOST_WORDS = 1000
"""Characters of the reason and of the name that are kept: the whole file is read at once, before each send."""
# Not to wait in open() when somebody made a pipe of that name.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


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
        descriptor = os.open(folder / NAME, _FLAGS)
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
    lines = text.splitlines() or [""]
    words = lines[0].split(maxsplit=1)
    facts = dict(line.partition(": ")[::2] for line in lines[1:])
    mode = words[0].upper() if words else ""
    known = mode in MODES
    return Halt(
        mode=mode if known else "HALTED",
        reason=lines[0].strip() if not known else words[1].strip() if len(words) > 1 else "",
        who=facts.get("who", "").strip(),
        since=_seconds(facts.get("since", "")),
    )


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def write(folder: Path, halt: Halt) -> None:
    """
    Write the file so that it survives power loss.

    Raises:
        ConfigError: Another mode.
        JournalError: It cannot be written: nothing is halted.
    """
    config.choice("mode", halt.mode, MODES)
    since = "" if halt.since is None else f"since: {halt.since:.3f}\n"
    text = f"{halt.mode} {_one_line(halt.reason)}\nwho: {_one_line(halt.who)}\n{since}"
    # A name of its own: two persons may halt at once.
    temporary = folder / f"{NAME}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / NAME)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(folder)
    except OSError as error:
        raise JournalError(f"{folder / NAME}: cannot be written ({error.strerror}); nothing is halted") from error


def _one_line(words: str) -> str:
    return " ".join(words.split())[:_MOST_WORDS]


def clear(folder: Path) -> bool:
    """Remove the file; whether there was one."""
    try:
        (folder / NAME).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"{folder / NAME}: cannot be removed ({error.strerror}); the halt goes on") from error
    with contextlib.suppress(OSError):
        sync_folder(folder)  # a halt that power loss brings back is the safe side
    return True
