"""
Every distribution that hireliab uses, and a small piece of real work for each: whether it can be used is seen by using it.

Wherever hireliab has a part around it, that part does the work: a version that imports and does not fit is found too.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

NAME = "hireliab"
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?\s*(?:;(.*))?", re.DOTALL)
_EXTRA = re.compile(r"""\s*(?:and\s+)?extra\s*==\s*["']([^"']+)["']\s*""")


class Failed(Exception):  # noqa: N818 - said in the table, raised to nobody
    """What a part did was not what it should do."""


def require(condition: object, otherwise: str) -> None:
    """Go on only if the condition holds."""
    if not condition:
        raise Failed(otherwise)


# -- what is wanted -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """
    One line of a distribution's metadata.

    Attributes:
        name: The distribution, lower case with dashes.
        line: What pip takes, such as "rich>=13", with its environment marker and without the extra.
        least: The lowest version, or an empty text.
        extra: The extra that asks for it, or None.
    """

    name: str
    line: str
    least: str
    extra: str | None


def requirements() -> list[Requirement]:
    """
    What the installed hireliab needs, and what its extra `all` adds; from its metadata, wherever it came from.

    Raises:
        PackageNotFoundError: hireliab is not installed, but run from its folder.
    """
    found = [parse(line) for line in importlib.metadata.requires(NAME) or ()]
    return [one for one in found if one.extra in (None, "all")]


def parse(line: str) -> Requirement:
    """One requirement as the metadata has it, such as ``rich>=13; extra == "cli"``."""
    match = _REQUIREMENT.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"{NAME}: {line!r} in the metadata is no requirement")
    name, versions, marker = match[1], (match[2] or "").strip(), (match[3] or "").strip()
    extra = _EXTRA.search(marker)
    rest = _EXTRA.sub("", marker).strip()
    rest = f"; {rest}" if rest else ""
    least = re.search(r">=\s*([\d.]+)", versions)
    return Requirement(
        name=name.lower().replace("_", "-").replace(".", "-"),
        line=f"{name}{versions.replace(' ', '')}{rest}",
        least="" if least is None else least[1],
        extra=None if extra is None else extra[1],
    )


def is_older(version: str, least: str) -> bool:
    """Whether the numbers of a version are below those of another, missing ones counting as zero."""
    ours, bound = (
        [int(n) for n in match[0].split(".")] if (match := _NUMBERS.match(v)) else [] for v in (version, least)
    )
    length = max(len(ours), len(bound))
    return ours + [0] * (length - len(ours)) < bound + [0] * (length - len(bound))


# -- what it is good for, and whether it works ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Part:
    """
    One distribution.

    Attributes:
        name: The distribution.
        use: What hireliab does with it.
        work: Uses it; raises when it cannot be used.
    """

    name: str
    use: str
    work: Callable[[], object]


def _apprise() -> None:
    from hireliab.monitoring.apprise_channel import AppriseChannel  # noqa: PLC0415 - loads a third party

    channel = AppriseChannel("json://user:secret-of-the-check@127.0.0.1:9/", name="check")
    require("secret-of-the-check" in channel.secrets, "an address's password was not found")


def _click() -> None:
    import click  # noqa: PLC0415 - each import is what is tried

    from hireliab.cli import root  # noqa: PLC0415

    with click.Context(root) as context:
        require("transactions" in root.get_help(context), "the command line has no help")


def _cryptography() -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    import hireliab.exchange._nobitex_signing  # noqa: F401, PLC0415 - what it is for

    key = Ed25519PrivateKey.generate()
    signature = key.sign(b"an order")
    key.public_key().verify(signature, b"an order")
    try:
        key.public_key().verify(signature, b"another order")
    except InvalidSignature:
        return
    raise Failed("a wrong signature passed")


def _filelock() -> None:
    from hireliab.core._file_lock import FileLock  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="hireliab-") as folder:
        path = Path(folder) / "lock"
        with FileLock(path):
            require(not FileLock(path).acquire(0.0), "two took one lock")
        again = FileLock(path)
        require(again.acquire(1.0), "a lock that was given back cannot be taken")
        again.release()


def _orjson() -> None:
    from hireliab.exchange import _json  # noqa: PLC0415

    # Looked up by name: hireliab does without it where it is missing, and would answer as well.
    fast = importlib.import_module("orjson")
    body = b'{"status": "ok", "price": "98000.5", "amounts": [1, 2.5, null]}'
    require(fast.loads(body) == _json.loads(body), "it reads something else than json")
    require(fast.loads(fast.dumps({"a": [1, "x"]})) == {"a": [1, "x"]}, "what it writes is not what it reads")


def _pika() -> None:
    from hireliab.messaging.rabbitmq._link import parameters  # noqa: PLC0415
    from hireliab.messaging.rabbitmq._url import parse_addresses  # noqa: PLC0415

    (address,) = parse_addresses("amqp://user:password@127.0.0.1:5672/")
    made = parameters(address, name="check", heartbeat=15, connection_timeout=5.0)
    require((made.host, made.port) == ("127.0.0.1", 5672), "an address became another one")
    third: Any = importlib.import_module("pika")
    publish = third.spec.Basic.Publish(exchange="hireliab", routing_key="transaction.completed")
    _, frame = third.frame.decode_frame(third.frame.Method(1, publish).marshal())
    require(frame.method.routing_key == "transaction.completed", "a frame became another one")


def _platformdirs() -> None:
    import platformdirs  # noqa: PLC0415

    folder = platformdirs.user_state_dir(NAME, appauthor=False)
    require(Path(folder).is_absolute(), f"the folder for a user's state is {folder!r}")


def _prometheus() -> None:
    prometheus: Any = importlib.import_module("prometheus_client")
    registry = prometheus.CollectorRegistry()
    prometheus.Counter("hireliab_check", "Looks at this installation.", registry=registry).inc()
    text = prometheus.generate_latest(registry).decode()
    require("hireliab_check_total 1.0" in text, "a counter is not in the text that Prometheus reads")


def _pybreaker() -> None:
    from hireliab.core.circuit_breaker import CircuitBreaker  # noqa: PLC0415

    breaker = CircuitBreaker(name="check", failure_threshold=1, reset_timeout=60.0)
    try:
        breaker.execute(int, "no number")
    except ValueError:
        require(breaker.current_state == "open", "a failure did not open the circuit")
        return
    raise Failed("a failure was swallowed")


def _requests() -> None:
    with _Loopback() as url:
        import requests  # noqa: PLC0415

        with requests.Session() as session:
            session.trust_env = False  # a proxy that the environment names must not see it
            require(session.get(url, timeout=5.0).json() == {"status": "ok"}, "an answer became another one")


def _rich() -> None:
    console = importlib.import_module("rich.console").Console(file=io.StringIO(), width=60, color_system=None)
    table = importlib.import_module("rich.table").Table("order", "status")
    table.add_row("17", "filled")
    console.print(table)
    require("filled" in console.file.getvalue(), "a table has no cells")


def _tenacity() -> None:
    from hireliab.core.retry import Retry  # noqa: PLC0415

    tenacity: Any = importlib.import_module("tenacity")
    calls: list[int] = []

    def third_time() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise TimeoutError
        return len(calls)

    retry = Retry(on=TimeoutError, idempotent=True, stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none())
    require(retry.execute(third_time) == 3, "a call was not made as often as it had to be")


def _urllib3() -> None:
    from hireliab.exchange.http_session import Session  # noqa: PLC0415

    with _Loopback() as url, Session(timeout=5.0, trust_env=False) as session:
        require(session.get(url).json() == {"status": "ok"}, "an answer became another one")


PARTS = (
    Part(name="apprise", use="alerts to people", work=_apprise),
    Part(name="click", use="the command line", work=_click),
    Part(name="cryptography", use="signed requests", work=_cryptography),
    Part(name="filelock", use="one owner of a journal", work=_filelock),
    Part(name="pika", use="RabbitMQ", work=_pika),
    Part(name="platformdirs", use="where state is kept", work=_platformdirs),
    Part(name="pybreaker", use="circuit breakers", work=_pybreaker),
    Part(name="requests", use="HTTP", work=_requests),
    Part(name="tenacity", use="retries", work=_tenacity),
    Part(name="urllib3", use="HTTP connections", work=_urllib3),
    Part(name="orjson", use="fast: JSON", work=_orjson),
    Part(name="prometheus-client", use="prometheus: metrics", work=_prometheus),
    Part(name="rich", use="cli: tables", work=_rich),
)
"""The required ones, then those of the extras. A test compares them with the metadata."""


class _Loopback:
    """An HTTP server that answers each GET with the same JSON."""

    def __enter__(self) -> str:
        self._server = HTTPServer(("127.0.0.1", 0), _Answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="hireliab.install-loopback", daemon=True
        )
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class _Answer(BaseHTTPRequestHandler):
    timeout = 5.0

    def do_GET(self) -> None:
        body = b'{"status": "ok"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is written."""
