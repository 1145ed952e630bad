"""``python -m hireliab.simulator``: run the exchange until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from hireliab.simulator.faults import FaultError
from hireliab.simulator.server import LOOPBACK, Simulator
from hireliab.simulator.settings import SettingError
from hireliab.simulator.truth import TruthError

_EPILOG = """\
The first line of standard output is one JSON object:
  {"base_url", "admin_url", "token", "api_key", "api_secret", "seed", "truth", "pid"}
api_key and api_secret are an Ed25519 key pair (URL-safe base64) with READ and TRADE.
Login: user@example.com, password "password", X-TOTP 123456.

examples:
  python -m hireliab.simulator --port 8000 --truth truth.jsonl
  python -m hireliab.simulator --lag status=2,list=5,trades=20 --null-client-ids
  python -m hireliab.simulator --faults \\
    '[{"route": "POST /market/orders/add", "kind": "answer_lost", "probability": 0.05}]'

Fault rules are described in hireliab/simulator/faults.py, settings in settings.py, the admin port
(move the market, change balances, step the clock, cut the exchange off) in admin.py, the truth
file in truth.py.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    signals = _catch_signals()
    try:
        simulator = Simulator(
            seed=given.seed,
            truth=given.truth,
            token=given.token,
            api_secret=given.api_secret,
            host=given.host,
            port=given.port,
            admin_port=given.admin_port,
            faults=given.faults,
            limits=not given.no_limits,
            limit_scale=given.limit_scale,
            null_client_ids=given.null_client_ids,
            lag=given.lag,
            settings=given.settings,
            balances=given.balances,
            keep_alive=given.keep_alive,
        )
        simulator.start()
    except OSError as error:
        parser.exit(2, f"simulator: {error.filename or 'the system'}: {error.strerror or error}\n")
    except (FaultError, SettingError, TruthError) as error:
        parser.exit(2, f"simulator: {error}\n")
    print(json.dumps(_first_line(simulator)), flush=True)  # noqa: T201 - the line that callers wait for
    with signals:
        signals.recv(1)
    simulator.stop()
    return 0


def _catch_signals() -> socket.socket:
    """
    A socket that becomes readable when the process is asked to end.

    Not an Event: a handler runs on the main thread, and would wait for ever for the lock of an
    Event that the main thread is just about to wait for.
    """
    waker, wakee = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.detach())
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last one is Windows'
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda _number, _frame: None)
    return wakee


def _first_line(simulator: Simulator) -> dict[str, object]:
    return {
        "base_url": simulator.base_url,
        "admin_url": simulator.admin_url,
        "token": simulator.token,
        "api_key": simulator.api_key,
        "api_secret": simulator.api_secret,
        "seed": simulator.seed,
        "truth": simulator.truth,
        "pid": os.getpid(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hireliab.simulator",
        description="A Nobitex-speaking exchange with faults and a truth file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default=LOOPBACK, help="address of the API port (default: %(default)s)")
    add("--port", metavar="PORT", type=_port, default=0, help="API port; 0 lets the system choose")
    add(
        "--admin-port",
        metavar="PORT",
        type=_port,
        default=0,
        help="admin port, always on loopback; 0 lets the system choose",
    )
    add("--seed", type=int, default=0, help="prices, credentials and faults follow from it (default: 0)")
    add("--truth", metavar="FILE", help="append every request and every change to this file")
    add("--token", metavar="HEX40", type=_token, help="user token of the first account")
    add("--api-secret", metavar="SEED", help="private seed of its key pair: URL-safe base64 of 32 bytes")
    add("--faults", metavar="JSON|@FILE", type=_faults, default=[], help="a fault rule, or a list of them")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--no-limits", action="store_true", help="no rate limits, no token ban, no 401 count")
    limits.add_argument("--limit-scale", metavar="X", type=float, default=1.0, help="multiply every rate limit")
    add("--null-client-ids", action="store_true", help="terminal orders lose their clientOrderId in reads")
    add(
        "--lag",
        metavar="READ=S,…",
        type=_lag,
        default={},
        help="seconds until a change shows in status, clientid, list, trades, wallets",
    )
    add("--settings", metavar="JSON|@FILE", type=_object, default={}, help="any of settings.py by name")
    add("--balances", metavar="JSON|@FILE", type=_object, help='of the first account, e.g. \'{"rls": "1000000"}\'')
    add("--keep-alive", metavar="S", type=float, default=75.0, help="close idle connections after (default: 75)")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: a port is expected, 0 to 65535")
    return int(text)


def _token(text: str) -> str:
    if len(text) != 40 or not set(text) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError("40 lower-case hexadecimal digits are expected")
    return text


def _json(text: str) -> object:
    try:
        source = Path(text[1:]).read_text("utf-8") if text.startswith("@") else text
        return json.loads(source, parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: {error}") from error


def _object(text: str) -> dict[str, object]:
    value = _json(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: a JSON object is expected")
    return value


def _faults(text: str) -> list[dict[str, object]]:
    value = _json(text)
    rules = [rule for rule in (value if isinstance(value, list) else [value]) if isinstance(rule, dict)]
    if not isinstance(value, dict) and (not isinstance(value, list) or len(rules) != len(value)):
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: an object or a list of objects is expected")
    return rules


def _lag(text: str) -> dict[str, object]:
    lags: dict[str, object] = {}
    for part in text.split(","):
        read, equals, seconds = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{part!r}: READ=SECONDS is expected")
        lags[read.strip()] = seconds.strip()
    return lags


if __name__ == "__main__":
    sys.exit(main())
