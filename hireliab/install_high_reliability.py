"""
Install every optional part, then say what works: ``python -m hireliab.install_high_reliability``.

What hireliab needs and what its extra `all` adds is read from the installed distribution, so it makes no difference
whether that came from an index, a wheel or a folder. pip installs it into the environment of the interpreter that runs
this; then a fresh interpreter uses each part for a moment, and a table says what works, or why not.

Exit codes: 0 every part works; 1 one does not, or pip failed; 2 it cannot be done as it was asked (usage, no pip, an
environment that is managed by something else, no write permission); 130 interrupted.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shlex
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from hireliab import _cli_table as screen
from hireliab._cli_arguments import USAGE, Parser
from hireliab._install_parts import NAME, PARTS, Part, Requirement, is_older, requirements

PROG = "python -m hireliab.install_high_reliability"
BAD = 1
INTERRUPTED = 130


class Refused(Exception):  # noqa: N818 - one line for the user
    """It cannot be done as it was asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = Parser(prog=PROG, description=__doc__ or "")  # -OO leaves no docstring
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="install nothing; only say what works")
    how.add_argument("--dry-run", action="store_true", help="install nothing; print pip's command")
    options = parser.read(arguments)
    screen.prepare_streams()
    try:
        if options.check:
            return check()
        return dry_run() if options.dry_run else install()
    except Refused as error:
        _complain(str(error))
        return USAGE
    except KeyboardInterrupt:
        _complain("interrupted; run it again to go on")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# -- what it does -------------------------------------------------------------------------------------------------


def dry_run() -> int:
    """Print the command that would run; an environment that would refuse it is told as well."""
    _say(shlex.join(command(_wanted())))
    _refuse_environment()
    return 0


def install() -> int:
    """Install what is missing or too old, and check everything in a fresh interpreter."""
    wanted = _wanted()
    missing = [one for one in wanted if _why_not_installed(one)]
    if missing:
        _refuse_environment()
        _say(
            f"installing {', '.join(one.line for one in missing)}\ninto {sys.prefix} (Python {platform.python_version()})"
        )
        code = _run_pip(command(wanted))
        if code:
            _complain(f"pip ended with code {code}; its message stands above. What works without it:")
    else:
        code = 0
        _say(f"everything is installed in {sys.prefix} (Python {platform.python_version()})")
    _say("")
    # A fresh interpreter: this one has looked for, or loaded, what has just been replaced.
    checked = subprocess.run(
        [sys.executable, "-m", "hireliab.install_high_reliability", "--check"], check=False
    ).returncode
    if checked not in (0, BAD):
        _complain(f"the check ended with code {checked}: a part breaks the interpreter")
    return BAD if code or checked else 0


def check() -> int:
    """Use each part, print the table; 1 when one does not work."""
    wanted = {one.name: one for one in _wanted()}
    logging.getLogger(NAME).addHandler(logging.NullHandler())  # a breaker that opens on purpose would warn
    rows, bad = [[NAME, importlib.metadata.version(NAME), "", "yes"]], [False]
    for part in PARTS:
        if part.name not in wanted:
            continue  # of a newer or older hireliab than the metadata speaks of
        why = why_not(part, wanted[part.name])
        rows.append([part.name, _version(part.name) or "-", part.use, f"no: {why}" if why else "yes"])
        bad.append(bool(why))
    screen.table(("part", "version", "for", "works"), rows, marked=bad)
    broken = [row[0] for row, is_bad in zip(rows, bad, strict=True) if is_bad]
    if not broken:
        _say(f"\nAll {len(rows)} parts work. Next: python -m hireliab.test_high_reliability")
        return 0
    _say(f"\n{len(broken)} of {len(rows)} parts do not work: {', '.join(broken)}.")
    if all(wanted[name].extra for name in broken):
        _say("hireliab itself works without them.")
    damaged = [wanted[name] for name in broken if not _why_not_installed(wanted[name])]
    if len(damaged) < len(broken):
        _say(f"To install what is missing: {PROG}")
    if damaged:
        again = [sys.executable, "-m", "pip", "install", "--force-reinstall", *(one.line for one in damaged)]
        _say(f"To install again what is damaged: {shlex.join(again)}")
    return BAD


def why_not(part: Part, requirement: Requirement) -> str:
    """Why a part cannot be used; an empty text when it can."""
    why = _why_not_installed(requirement)
    if why:
        return why
    try:
        part.work()
    except (Exception, SystemExit) as error:  # whatever it raises is the answer
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ""


# -- what there is ------------------------------------------------------------------------------------------------


def _wanted() -> list[Requirement]:
    try:
        return requirements()
    except importlib.metadata.PackageNotFoundError:
        folder = Path(__file__).parents[1]
        raise Refused(
            f"hireliab is not installed for {sys.executable}, it is run from {folder}; install it first:"
            f" {shlex.join([sys.executable, '-m', 'pip', 'install', str(folder)])}"
        ) from None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _why_not_installed(requirement: Requirement) -> str:
    version = _version(requirement.name)
    if version is None:
        return "not installed"
    if requirement.least and is_older(version, requirement.least):
        return f"too old, at least {requirement.least} is needed"
    return ""


# -- pip ----------------------------------------------------------------------------------------------------------


def command(wanted: Sequence[Requirement]) -> list[str]:
    """What installs these, in the environment of this interpreter."""
    return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *(one.line for one in wanted)]


def _run_pip(arguments: Sequence[str]) -> int:
    """Run it and show what it does, without what was there already; its exit code."""
    with subprocess.Popen(  # noqa: S603 - the interpreter that runs this
        arguments, stdout=subprocess.PIPE, text=True, errors="replace", env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if line.strip() and not line.startswith("Requirement already satisfied"):
                _say(f"  {screen.clean(line.rstrip())}")
    return pip.returncode


def _refuse_environment() -> None:
    """Raise when pip would fail here, or should not be used."""
    managed = _externally_managed()
    if managed:
        raise Refused(managed)
    if importlib.util.find_spec("pip") is None:
        raise Refused(
            f"there is no pip in {sys.prefix}; make it with '{sys.executable} -m ensurepip --upgrade' and try again, or"
            f" use the tool that made this environment to install: {_lines(_wanted())}"
        )
    folder = sysconfig.get_path("purelib")
    if not os.access(folder, os.W_OK) and (in_venv() or not site.ENABLE_USER_SITE):
        raise Refused(
            f"there is no permission to write in {folder}; run this as the owner of {sys.prefix}, or {_OWN_ENVIRONMENT}"
        )


_OWN_ENVIRONMENT = (
    "use an environment of your own: python3 -m venv .venv, then install hireliab with .venv/bin/python -m pip and run"
    " .venv/bin/python -m hireliab.install_high_reliability (on Windows .venv\\Scripts\\python)"
)


def in_venv() -> bool:
    """Whether this interpreter runs in a virtual environment."""
    return sys.prefix != sys.base_prefix


def _externally_managed() -> str:
    """
    Why this environment belongs to something else, with the remedy; an empty text when it does not.

    Source: PEP 668, the file EXTERNALLY-MANAGED beside the standard library, which virtual environments ignore.
    """
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    if in_venv() or not marker.is_file():
        return ""
    said = ""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(marker.read_text(encoding="utf-8"))
        said = parser.get("externally-managed", "Error", fallback="").strip().partition("\n")[0]
    except (OSError, ValueError, configparser.Error):
        pass  # an unreadable marker marks all the same
    words = f" ({said})" if said else ""
    return f"the Python in {sys.prefix} is managed by its system's package manager{words}; {_OWN_ENVIRONMENT}"


def _lines(wanted: Sequence[Requirement]) -> str:
    return shlex.join(one.line for one in wanted)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"{PROG}: {screen.clean(' '.join(text.split()))}\n")


if __name__ == "__main__":
    sys.exit(main())
