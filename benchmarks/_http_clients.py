"""The HTTP clients that are compared, each used as its own documents show, and where they are measured."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3

from benchmarks._calls import peer
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.policy import Policy, reliable
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.http_session import Session

OURS, GUARDED = "hireliab Session", "hireliab Session, pooled and guarded"
REQUESTS, REQUESTS_ALONE = "requests.Session", "requests.Session, trust_env=False"
URLLIB3, HTTPX, STDLIB = "urllib3.PoolManager", "httpx.Client", "http.client"
VARIABLES = 35
PRESET, ALL_PARTS = "the preset for reads", "a policy of all parts"
ORDER = {"symbol": "BTCUSDT", "side": "buy", "amount": "0.001", "price": "61234.5", "clientOrderId": "hr-0001"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """
    A client of one server.

    Attributes:
        get: Fetches a URL and returns what its JSON says.
        post: The same, with ORDER as JSON.
    """

    name: str
    get: Callable[[str], Any]
    post: Callable[[str], Any]
    close: Callable[[], object]


def foreign_urllib3() -> str:
    """Why the urllib3 of this environment is not urllib3, or ""; niquests puts another library in its place."""
    for name in ("niquests", "urllib3-future", "urllib3.future"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(name)
            return f"{name} {version} is installed and replaces urllib3; measure in an environment without it"
    try:
        installed = importlib.metadata.version("urllib3")
    except importlib.metadata.PackageNotFoundError:
        return "urllib3 is imported, but not installed; its version cannot be asserted"
    if installed != (imported := vars(urllib3)["__version__"]):
        return f"urllib3 {installed} is installed, but {imported} is imported"
    return ""


@contextlib.contextmanager
def environment(home: Path) -> Iterator[None]:
    """
    Thirty-five variables for a block, without proxy, CA file or .netrc: requests reads them at every call.

    Args:
        home: An empty folder.
    """
    before = dict(os.environ)
    kept = {"PATH": before.get("PATH", ""), "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}
    filler = {f"BOT_SETTING_{i:02}": f"value {i}" for i in range(VARIABLES - len(kept))}
    try:
        os.environ.clear()
        os.environ.update(kept | filler)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def open_all(url: str, authorities: Path) -> dict[str, Client]:
    """
    All that can take part, requests first: the others are compared with it.

    Args:
        url: Of the server; some clients are bound to one.
        authorities: File of the certificates that they trust.
    """
    secure = url.startswith("https:")
    trusted = str(authorities)
    clients = [_requests(REQUESTS, trusted, trust_env=True), _requests(REQUESTS_ALONE, trusted, trust_env=False)]
    clients += [ours(trusted), guarded(trusted)]
    if (httpx := peer("httpx")) is not None:
        clients.append(_httpx(httpx, trusted))
    clients += [_urllib3(trusted), _stdlib(url, ssl.create_default_context(cafile=trusted) if secure else None)]
    return {client.name: client for client in clients}


def _session(name: str, session: requests.Session) -> Client:
    return Client(
        name=name,
        get=lambda url: session.get(url).json(),
        post=lambda url: session.post(url, json=ORDER).json(),
        close=session.close,
    )


def _requests(name: str, authorities: str, *, trust_env: bool) -> Client:
    session = requests.Session()
    session.trust_env = trust_env
    session.verify = authorities
    return _session(name, session)


def _new_session(authorities: str) -> Session:
    session = Session()
    session.verify = authorities
    return session


def ours(authorities: str) -> Client:
    return _session(OURS, _new_session(authorities))


def guarded(authorities: str) -> Client:
    """A pool of Sessions behind the preset for reads: what the documents tell a bot to write."""
    return _behind(GUARDED, authorities, reliable("bench http", idempotent=True))


def guarded_by_all(authorities: str) -> Client:
    """The same behind a policy of every part that there is."""
    return _behind(
        GUARDED,
        authorities,
        Policy(
            name="bench http all",
            idempotent=True,
            deadline=30.0,
            retry=Retry(on=ConnectionError, idempotent=True, attempts=2, wait=0),
            breaker=CircuitBreaker(name="bench http all", reset_timeout=600),
            bulkhead=Bulkhead(name="bench http all", max_concurrent=10),
            limiter=RateLimiter(name="bench http all", limits=((100_000_000, 1.0), (1_000_000_000, 60.0))),
        ),
    )


def _behind(name: str, authorities: str, policy: Callable[[Callable[[str], Any]], Callable[[str], Any]]) -> Client:
    pool: ConnectionPool[Session] = ConnectionPool(
        name="bench http", create_client_func=lambda: _new_session(authorities)
    )

    @policy
    def get(url: str) -> Any:
        return pool.execute("get", url).json()

    @policy
    def post(url: str) -> Any:
        return pool.execute("post", url, json=ORDER).json()

    return Client(name=name, get=get, post=post, close=pool.stop)


def _httpx(httpx: Any, authorities: str) -> Client:
    client = httpx.Client(verify=ssl.create_default_context(cafile=authorities))
    return Client(
        name=HTTPX,
        get=lambda url: client.get(url).json(),
        post=lambda url: client.post(url, json=ORDER).json(),
        close=client.close,
    )


def _urllib3(authorities: str) -> Client:
    manager = urllib3.PoolManager(ca_certs=authorities)
    return Client(
        name=URLLIB3,
        get=lambda url: manager.request("GET", url).json(),
        post=lambda url: manager.request("POST", url, json=ORDER).json(),
        close=manager.clear,
    )


def _stdlib(url: str, context: ssl.SSLContext | None) -> Client:
    """The floor: what every one of them but httpx stands on."""
    scheme, _, place = url.partition("://")
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(place)
    else:
        connection = http.client.HTTPSConnection(place, context=context)
    start = len(f"{scheme}://{place}")
    heads = {"Accept": "application/json"}

    def get(full: str) -> Any:
        connection.request("GET", full[start:], headers=heads)
        return json.loads(connection.getresponse().read())

    def post(full: str) -> Any:
        body = json.dumps(ORDER)
        connection.request("POST", full[start:], body=body, headers={**heads, "Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    return Client(name=STDLIB, get=get, post=post, close=connection.close)


def versions() -> Mapping[str, str]:
    """Of the libraries that are measured, where they can be told."""
    found = {"requests": requests.__version__, "urllib3": vars(urllib3)["__version__"]}
    if (httpx := peer("httpx")) is not None:
        found["httpx"] = httpx.__version__
    return found
