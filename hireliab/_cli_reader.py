"""Where a journal is, and how the command line reads it: beside a live bot or without one, never writing."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from hireliab._cli_text import Misplaced
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import JournalCorruptError, JournalError
from hireliab.exchange import _halt, _operator_client
from hireliab.exchange._journal_rows import SELECT, from_row
from hireliab.exchange._operator_desk import plain
from hireliab.exchange._orphans import FACT
from hireliab.exchange._pipeline_settings import PipelineConfig, default_folder
from hireliab.exchange.sqlite_journal import JournalReader
from hireliab.exchange.transaction import Record, State

FILE = "journal.db"
UNRESOLVED = tuple(state.value for state in State if not state.is_terminal and state is not State.NEW)
_PAGE = 500


@dataclasses.dataclass(frozen=True)
class Place:
    """
    A journal's folder.

    Attributes:
        options: How the user named it, for the commands that are suggested.
    """

    folder: Path
    options: str

    @property
    def halt(self) -> _halt.Halt | None:
        """The halt in force."""
        return _halt.read(self.folder)

    def bot(self) -> dict[str, Any] | None:
        """What a bot that runs said last, or None where none seems to run."""
        said = _operator_client.status(self.folder)
        if said is None or said.get("state") == "stopped":
            return None
        updated = said.get("updated")
        fresh = isinstance(updated, int | float) and abs(SYSTEM_CLOCK.time() - updated) < _operator_client.FRESH
        with contextlib.suppress(JournalError):  # the lock is not ours to try: its age has to do
            fresh = fresh and _operator_client.is_owned(self.folder)
        return said if fresh else None


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a journal; the command gets it as `place`."""

    @functools.wraps(command)
    def with_place(*, name: str | None, journal: str | None, **given: Any) -> Any:
        return command(place=find(name, journal), **given)

    with_journal = click.option("--journal", metavar="FOLDER", help="Its journal.")
    with_name = click.option(
        "--name", metavar="NAME", help="Name of the pipeline.  [default: default, or the only one]"
    )
    return with_name(with_journal(with_place))


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command."""
    return click.option("--json", "as_json", is_flag=True, help="JSON instead of text for people.")(command)


def find(name: str | None, journal: str | None) -> Place:
    """
    The journal that the options name; without them that of "default", or else the only one that there is.

    Raises:
        Misplaced: There is none, or no "default" and several others.
        ConfigError: The name cannot be one.
    """
    if name is not None and journal is not None:
        raise click.UsageError("give --name or --journal, not both")
    if journal is not None:
        place = Place(Path(journal), f" --journal {shlex.quote(journal)}")
    else:
        wanted = PipelineConfig(name="default" if name is None else name).name
        place = Place(default_folder(wanted), "" if name is None else f" --name {wanted}")
    try:
        exists = (place.folder / FILE).exists()
    except (OSError, ValueError) as error:
        raise Misplaced(f"journal {str(place.folder)!r}: {getattr(error, 'strerror', None) or error}") from None
    if not exists:
        known = [] if journal is not None else _names(place.folder.parent)
        if name is None and len(known) == 1:  # the one that there is; in an emergency nobody remembers a name
            return find(known[0], None)
        hint = "is the name right, and did the bot ever start?"
        if known:
            hint = f"known names: {', '.join(known)}; choose one with --name"
        raise Misplaced(f"no journal in {place.folder}; {hint}")
    return place


def _names(home: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(path.name for path in home.iterdir() if (path / FILE).exists())[:20]
    return []


def check_owner(place: Place) -> None:
    """
    Refuse to write as another user: files of ours in the bot's folder would be closed to it.

    Raises:
        Misplaced: The folder is another user's.
    """
    if os.name == "posix" and place.folder.stat().st_uid != os.geteuid():
        raise Misplaced(f"journal {place.folder}: belongs to user {place.folder.stat().st_uid}; run this as that user")


class Reader(JournalReader):
    """A journal's reader with the questions that only the command line asks."""

    @property
    def version(self) -> int:
        """Of the schema."""
        return int(self._query("PRAGMA user_version")[0][0])

    def count(self, table: str) -> int:
        """Rows of one of our tables."""
        assert table in ("txn", "txn_log", "fill"), "bug: a table of ours"
        return int(self._query(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608 - one of three words

    def oldest(self) -> float | None:
        """When the oldest transaction was made."""
        found = self._query("SELECT min(created) FROM txn")[0][0]
        return None if found is None else float(found)

    def children(self, txn_id: str) -> list[Record]:
        """The cancels of a transaction."""
        return [from_row(row) for row in self._query(f"{SELECT} WHERE parent_id=? ORDER BY txn_id", (txn_id,))]

    def orphans(self) -> dict[str, str]:
        """Client order ids of the orders without a transaction, by venue id."""
        return {name.removeprefix(FACT): client_id for name, client_id in sorted(self.facts(FACT).items())}

    def all(self) -> Iterator[Record]:
        """Every transaction, oldest first, a page at a time."""
        after = ""
        while True:
            rows = self._query(f"{SELECT} WHERE txn_id > ? ORDER BY txn_id LIMIT ?", (after, _PAGE))
            records = [from_row(row) for row in rows]
            yield from records
            if len(records) < _PAGE:
                return
            after = records[-1].txn_id


@contextlib.contextmanager
def reading(place: Place) -> Iterator[Reader]:
    """
    Read a journal beside its bot, or without one.

    Raises:
        JournalCorruptError: The file is damaged, another program's, or of a newer version.
        JournalError: It cannot be read.
    """
    with contextlib.closing(Reader(place.folder)) as reader:
        try:
            reader.oldest()
            yield reader
        except (sqlite3.Error, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise JournalCorruptError(
                f"{place.folder / FILE}: holds what no journal holds ({type(error).__name__}: {error}); see"
                f" 'hireliab journal check{place.options}'"
            ) from error


def shows_filled(record: Record) -> bool:
    """Whether what was filled is known: the record of a call begins at 0, and its look-up need not show a figure."""
    return record.kind != "CALL" or record.filled != 0


def record_json(record: Record) -> dict[str, Any]:
    """A record in JSON's types: money as text, times as Unix seconds."""
    whole: dict[str, Any] = plain(record)
    order = whole.pop("order")
    if not shows_filled(record):
        whole["filled"] = None
    return {"txn_id": whole.pop("txn_id"), **order, "verdict": record.verdict.value, **whole}
