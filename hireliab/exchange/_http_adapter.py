"""
requests' adapter on watched connections: it says what was sent, and sends once more only what may be sent twice.

`send` goes through the one that `requests.adapters.HTTPAdapter` has at that moment, so that a tool which replaces it
(responses) is asked first.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import TimeoutStateError
from urllib3.util import Timeout

from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.exchange import _tls
from hireliab.exchange._http_errors import CONNECTION, HTTPTLSConnectError, subject, translate, words
from hireliab.exchange._http_response import Response
from hireliab.exchange._http_wire import STOCK, Stack, Watch, current, watched_pool

_HOSTS = 8
# Idle connections kept for each host; no limit on how many are open. urllib3.future takes it for that limit.
_PER_HOST = 4 if STOCK else 10
_GIVE_UP = 20  # seconds without an acknowledgement after which the kernel calls a connection dead

_left_behind: list[Any] = []
"""Pools of a parent process. A forked child neither uses nor closes them, so nothing may collect them."""


def _socket_options() -> list[tuple[int, int, int]]:
    # The list replaces urllib3's own, so that one comes first: without its NODELAY an order waits for an acknowledgement.
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", _GIVE_UP),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", _GIVE_UP * 1000),
    ):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class Adapter(HTTPAdapter):
    """The adapter of a `Session`."""

    def __init__(self) -> None:
        # Not blocking: with one connection and a limit, a hook that sends a request would wait for itself.
        super().__init__(pool_connections=_HOSTS, pool_maxsize=_PER_HOST, max_retries=0, pool_block=False)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See requests."""
        if STOCK:
            kwargs.setdefault("socket_options", _socket_options())
        super().init_poolmanager(*args, **kwargs)
        _watch_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """See requests."""
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        if STOCK:
            kwargs.setdefault("socket_options", _socket_options())
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch_pools(manager)
        return manager

    def renew(self) -> None:
        """In a forked child: new pools, and never another look at the parent's."""
        _left_behind.append((self.poolmanager, self.proxy_manager))
        self.proxy_manager = {}
        self.init_poolmanager(_HOSTS, _PER_HOST, block=False)

    def build_connection_pool_key_attributes(  # type: ignore[override]  # requests' types are private
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See requests; the certificates are in the context already."""
        host: Any
        pool: Any
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if STOCK and host["scheme"] == "https":
            context = _tls.shared_context(verify, cert)
            pool = {"cert_reqs": pool["cert_reqs"], "ssl_context": context}
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """See requests; a pool with a shared context has had its files checked, and must not read them again."""
        if not isinstance(getattr(conn, "conn_kw", {}).get("ssl_context"), ssl.SSLContext):
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """See requests; the response knows what was seen on the wire."""
        response: Any = super().build_response(req, resp)
        if type(response) is requests.Response:
            # Made by requests, in whatever way its version does that; ours adds methods and no state of its own.
            response.__class__ = Response
            vars(response)["_watch"] = current.watch
        result: requests.Response = response
        return result

    def send(  # noqa: PLR0917 -- requests' signature
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """See requests; raises what `_http_errors` says."""
        outer = current.watch
        watch = outer or Watch(SYSTEM_CLOCK.monotonic)
        current.watch = watch
        method, url = request.method or "", str(request.url)
        try:
            while True:
                watch.begin(_read_timeout(timeout), stream=stream)
                if not STOCK and watch.deadline is not None:
                    timeout = _shortened(timeout, watch)
                try:
                    return super().send(request, stream, timeout, verify, cert, proxies)
                except ssl.SSLError as error:  # the files named by verify or cert; requests wraps all others
                    raise HTTPTLSConnectError(
                        f"{subject(method, url)}: no connection ({words(error)}), nothing was sent; correct the file"
                    ) from error
                except CONNECTION as error:
                    if watch.may_resend(method, request.body):
                        continue
                    made = translate(error, watch, method, url, request=request)
                    if made is error:
                        raise
                    raise made from made.__cause__
        finally:
            current.watch = outer


def _read_timeout(timeout: Any) -> float | None:
    """The second of requests' pair; what is no timeout at all is left for requests to refuse."""
    if isinstance(timeout, tuple):
        timeout = timeout[1] if len(timeout) == 2 else None
    elif isinstance(timeout, Timeout):
        try:
            timeout = timeout.clone().read_timeout
        except TimeoutStateError:  # it has a total only, whose clock does not run yet
            timeout = timeout.total
    return timeout if isinstance(timeout, int | float) and timeout >= 0 else None


def _shortened(timeout: Any, watch: Watch) -> Any:
    """Without our connections, the total limit holds for each write and read, but not for a body that drips."""
    left = max(0.001, (watch.deadline or 0.0) - watch.monotonic())
    pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(pair) != 2 or not all(isinstance(seconds, int | float | None) for seconds in pair):
        return timeout
    return tuple(left if seconds is None else min(seconds, left) for seconds in pair)


def _watch_pools(manager: Any) -> None:
    if STOCK:
        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: watched_pool(cls) for scheme, cls in classes.items()}


def idle_connections(pool: Any) -> Stack | None:
    """Where an urllib3 pool of ours keeps its idle connections; None when it is closed, or somebody else's."""
    stack = getattr(pool, "pool", None)
    return stack if type(stack) is Stack else None


def forked(adapters: Any) -> None:
    """Renew those adapters that are ours."""
    for adapter in adapters:
        if isinstance(adapter, Adapter):
            adapter.renew()
