"""
The operator's command line: ``hireliab``, or ``python -m hireliab``.

Exit codes: 0 done; 1 done, but the answer is bad (a damaged journal, a command that was refused, an outcome that is not
known); 2 it cannot be done as it was asked (usage, no journal, no such transaction). Those of ``hireliab status`` are a
monitoring plugin's, see _cli_status.py.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import click

from hireliab._cli_journal import halt, journal, unhalt
from hireliab._cli_status import status
from hireliab._cli_text import Group, prepare_streams
from hireliab._cli_transactions import transactions
from hireliab._version import __version__
from hireliab.errors import ConfigError, HireliabError

INTERRUPTED = 130
_COSTLY = ("alerts", "venue")
"""Commands that are imported only when they are asked for: they need the alert system, and the HTTP client."""


class _Root(Group):
    """Adds what is costly to import only when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Every command; one that cannot be imported is left out."""
        costly = [name for name in _COSTLY if self.get_command(context, name)]
        return sorted({*super().list_commands(context), *costly})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """A command by name."""
        if name in _COSTLY:
            try:
                command: click.Command = getattr(importlib.import_module(f"hireliab._cli_{name}"), name)
            except ImportError:
                return None
            return command
        return super().get_command(context, name)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hireliab")
def root() -> None:
    """Look at the transactions of a bot, decide what only a person can, and stop it from sending orders."""


for _command in (status, transactions, journal, halt, unhalt):
    root.add_command(_command)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    prepare_streams()
    try:
        code = root.main(args=None if args is None else list(args), prog_name="hireliab", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "hireliab"
        text = _with_near_miss(error)
        _complain(f"{text} See '{where} --help'" if text.endswith("?") else f"{text}; see '{where} --help'")
        return error.exit_code
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return INTERRUPTED
    except ConfigError as error:
        _complain(str(error))
        return 2
    except HireliabError as error:
        _complain(str(error))
        return 1
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        return 1
    return code if isinstance(code, int) else 0


def _with_near_miss(error: click.UsageError) -> str:
    """What click says, as one line that names the near miss."""
    text = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and isinstance(error.ctx.command, click.Group):
        group, context = error.ctx.command, error.ctx
        commands = [group.get_command(context, name) for name in group.list_commands(context)]
        if any(error.option_name in one.opts for command in commands if command for one in command.params):
            where = f"'{context.command_path} COMMAND {error.option_name}'"
            return f"no option {error.option_name!r} here: it belongs behind the command, as in {where}"
    if isinstance(error, click.NoSuchOption) and not error.possibilities and error.ctx is not None:
        known = [name for parameter in error.ctx.command.get_params(error.ctx) for name in parameter.opts]
        near = difflib.get_close_matches(error.option_name, known, n=1)
        return f"{text}; did you mean {near[0]!r}?" if near else text
    return text


def _complain(text: str) -> None:
    click.echo(f"hireliab: {' '.join(text.split())}", err=True)


if __name__ == "__main__":
    sys.exit(main())
