"""
Self-test of an installation: ``python -m hireliab.test_high_reliability``.

Each part does real work against a simulated exchange that runs in a process of its own: answers are lost, the exchange is
cut off, a bot is killed in the middle of an order. It takes about five seconds (less than 30 on a slow machine), needs no
network, leaves no file, and never touches the user's folders. RabbitMQ is used where one answers at HIRELIAB_AMQP_URL or
127.0.0.1:5672, and left out elsewhere.

Exit codes: 0 every part works (one that is left out counts as working); 1 one does not; 2 it cannot be done as it was asked
(usage, no folder for temporary files); 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hireliab import _cli_table as screen
from hireliab import _self_test_core as core
from hireliab import _self_test_exchange as exchange
from hireliab import _self_test_messaging as messaging
from hireliab import _self_test_monitoring as monitoring
from hireliab._cli_arguments import USAGE, Parser
from hireliab._self_test_run import FAILED, SKIPPED, Check, Row, run_checks
from hireliab._self_test_stage import Stage
from hireliab.core._threads import join_all
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.examples._demo_venue import Venue

__test__ = False  # for pytest: this file is no module of tests, whatever it is called

PROG = "python -m hireliab.test_high_reliability"
BAD, INTERRUPTED, TERMINATED = 1, 130, 143
ENDING = 5.0
"""Seconds for the checks that were interrupted."""

CHECKS = (
    Check(part="simulator", work=exchange.simulator),
    Check(part="circuit breaker", work=core.breaker),
    Check(part="retry", work=core.retry),
    Check(part="rate limiter", work=core.limiter),
    Check(part="bulkhead", work=core.bulkhead),
    Check(part="deadline, policy", work=core.policy),
    Check(part="connection pool", work=exchange.pool),
    Check(part="session", work=exchange.session),
    Check(part="Nobitex client", work=exchange.client),
    Check(part="Nobitex adapter", work=exchange.adapter),
    Check(part="verified order", work=exchange.order),
    Check(part="lost answer", work=exchange.lost_answer),
    Check(part="verified function", work=exchange.function),
    Check(part="journal, recovery", work=exchange.journal),
    Check(part="memory bus", work=messaging.memory_bus),
    Check(part="outbox", work=messaging.outbox),
    Check(part="inbox", work=messaging.inbox),
    Check(part="RabbitMQ", work=messaging.rabbitmq),
    Check(part="alerts, Apprise", work=monitoring.alerts),
    Check(part="metrics", work=monitoring.metrics),
    Check(part="health", work=monitoring.health),
    Check(part="command line", work=monitoring.command_line),
)


def main(arguments: Sequence[str] | None = None, *, checks: Sequence[Check] = CHECKS) -> int:
    """The command line; the exit code."""
    parser = Parser(prog=PROG, description=__doc__ or "")  # -OO leaves no docstring
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    options = parser.read(arguments)
    screen.prepare_streams()
    # What the parts say while they are broken on purpose would stand between the lines.
    logging.getLogger("hireliab").addHandler(logging.NullHandler())
    began = SYSTEM_CLOCK.monotonic()
    try:
        with _own_folder() as folder:
            rows = _run(folder, checks)
    except KeyboardInterrupt:
        _complain("interrupted; processes ended, files removed")
        return INTERRUPTED
    except OSError as error:
        _complain(f"no folder for temporary files: {error.strerror or error}; set TMPDIR to one that can be written")
        return USAGE
    return _tell(rows, SYSTEM_CLOCK.monotonic() - began, as_json=options.json)


def _run(folder: Path, checks: Sequence[Check]) -> list[Row]:
    with contextlib.ExitStack() as stack:
        venue: Venue | BaseException
        try:
            venue = stack.enter_context(Venue(folder))
        except Exception as error:  # the checks that need it say so
            venue = error
        stage, progress = Stage(folder=folder, venue=venue), _progress(len(checks))

        def begin(number: int, check: Check) -> None:
            progress(number, check)
            stage.calm()

        return run_checks(checks, stage, begin=begin)


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A new folder that stands for the user's, for this process and those that it starts; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hireliab-", ignore_cleanup_errors=True) as folder:
        # Loopback only: a proxy that the environment names must not see it.
        no_proxy = {
            name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))) for name in ("NO_PROXY", "no_proxy")
        }
        ours = {"HIRELIAB_HOME": str(Path(folder) / "home"), **no_proxy}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield Path(folder)
        finally:
            # A check that was interrupted still writes here; its exchange is gone, so it ends soon.
            running = [thread for thread in threading.enumerate() if thread.name.startswith("hireliab.self-test.")]
            join_all(running, timeout=ENDING)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


# -- what it says -------------------------------------------------------------------------------------------------


def _progress(count: int) -> Callable[[int, Check], None]:
    """Writes on a terminal which check runs; nothing elsewhere."""

    def begin(number: int, check: Check) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{number}/{count} {check.part}")
            sys.stderr.flush()

    return begin


def _tell(rows: Sequence[Row], took: float, *, as_json: bool) -> int:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
    failed = [row.part for row in rows if row.verdict == FAILED]
    skipped = [row.part for row in rows if row.verdict == SKIPPED]
    if as_json:
        parts = [
            {"part": row.part, "verdict": row.verdict, "seconds": round(row.seconds, 3), "text": row.text}
            for row in rows
        ]
        _say(json.dumps({"ok": not failed, "seconds": round(took, 3), "parts": parts}, ensure_ascii=False, indent=1))
        return BAD if failed else 0
    screen.table(
        ("part", "time (s)", "", "what was proved, or why not"),
        [[row.part, f"{row.seconds:.2f}", row.verdict, row.text] for row in rows],
        right=(1,),
        marked=[row.verdict == FAILED for row in rows],
    )
    left_out = f", {len(skipped)} left out ({', '.join(skipped)})" if skipped else ""
    if failed:
        _say(f"\n{len(failed)} of {len(rows)} parts FAILED: {', '.join(failed)}{left_out}; in {took:.1f} s")
        return BAD
    _say(f"\n{len(rows) - len(skipped)} parts work{left_out}; in {took:.1f} s, without network; no file is left")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"{PROG}: {' '.join(text.split())}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that a terminated one cleans up as well
    sys.exit(main())
