"""Exporter: serves metrics over HTTP until it is stopped. No third party but for the text that it serves."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hireliab.core._threads import join_all, renew_after_fork, start_thread
from hireliab.core.config import number
from hireliab.errors import ConfigError
from hireliab.monitoring._metrics_prometheus import wsgi_app

PATH = "/metrics"
MOST_REQUESTS = 32
"""Requests that are answered at once; one more is hung up on. Prometheus has one at a time."""
READ_TIMEOUT = 10.0
"""Seconds without a byte after which a client is hung up on."""
REFUSED_PAUSE = 1.0
"""Seconds until the next try after a client could not be accepted: the process has no descriptor left, usually."""


def _at_its_path(app: Any) -> Any:
    """The application, which answers under any path, under its own alone: a probe of another one must not look fine."""

    def answer(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH:
            answered: Iterable[bytes] = app(environ, start_response)
            return answered
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"the metrics are at {PATH}\n".encode()]

    return answer


class _Handler(WSGIRequestHandler):
    timeout = READ_TIMEOUT

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is no news."""


class _Server(WSGIServer):
    request_queue_size = MOST_REQUESTS
    timeout = 0.0  # of handle_request, which is called when there is a request
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two listen on one port

    def __init__(self, address: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        # Guards _open; taken by our own threads only, because a signal handler may call stop() on any other.
        self._lock = threading.Lock()
        self.refused = False  # whether the last client could not be accepted
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, _Handler)
        self.socket.settimeout(0.0)  # a client that is gone before it is accepted must not hold up the others

    def server_bind(self) -> None:
        # Not HTTPServer's, which looks up the machine's name in the DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> Any:
        try:
            accepted = super().get_request()
        except (BlockingIOError, ConnectionError):  # it went away before
            raise
        except OSError:
            self.refused = True
            raise
        self.refused = False
        return accepted

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._answer,
            args=(request, client_address),
            name=f"hireliab.metrics.{self.server_port}-request",
            daemon=True,
        )
        with self._lock:
            busy = len(self._open) >= MOST_REQUESTS
            if not busy:
                self._open[request] = thread
        if busy:
            self.shutdown_request(request)
            return
        try:
            thread.start()
        except BaseException:  # no more threads: it is hung up on by whoever called
            with self._lock:
                del self._open[request]
            raise

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            with contextlib.suppress(OSError):  # the client went away, or stop() hung up
                self.finish_request(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            with contextlib.suppress(OSError):
                self.shutdown_request(request)

    def hang_up(self) -> list[threading.Thread]:
        """End every request; the threads that were at them."""
        requests = self._open.copy()
        for request in requests:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        return list(requests.values())

    def forget(self) -> None:
        """In a forked child: everything that is open is the parent's."""
        self._lock = threading.Lock()
        for request in self._open:
            request.close()
        self._open = {}
        self.socket.close()

    def handle_error(self, *_: object) -> None:
        """What went wrong at one request is said in its answer."""


class Exporter:
    """
    An HTTP server for Prometheus, made by `Metrics.serve`; it runs from the beginning.

    At most 32 requests are answered at once. A forked child has none: its parent serves.

    Thread safety: any thread. Context manager: stops at the end.
    """

    def __init__(self, registry: Any, port: int, address: str) -> None:
        app = _at_its_path(wsgi_app(registry))
        try:
            self._server = _Server((address, port))
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"metrics: cannot listen on {address} port {port} ({why}); is another one running, or is the address not of"
                " this machine?",
                setting="port",
                value=port,
            ) from error
        self._server.set_app(app)
        self.port: int = self._server.server_port
        host = f"[{address}]" if ":" in address else address
        self.url = f"http://{host}:{self.port}{PATH}"
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.settimeout(0.0)
        self._stopped = False
        try:
            self._thread = start_thread(self._serve, name=f"hireliab.metrics.{self.port}")
        except RuntimeError:  # no more threads
            self._close()
            raise
        renew_after_fork(self)

    def stop(self, timeout: float = 5.0) -> None:
        """
        Close the port and hang up on who is being answered; idempotent, and a signal handler may call it.

        Args:
            timeout: Seconds to wait for the threads.
        """
        number("timeout", timeout, low=0)
        self._stopped = True
        with contextlib.suppress(OSError):  # the thread has ended and closed it
            self._wake_write.send(b"x")
        join_all([self._thread], timeout=timeout)
        join_all(self._server.hang_up(), timeout=timeout)

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Exporter {self.url}{' stopped' if self._stopped else ''}>"

    def renew_in_child(self) -> None:
        """In a forked child: the port is the parent's, and must be free when the parent ends."""
        self._stopped = True
        self._server.forget()
        self._wake_read.close()
        self._wake_write.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._server.socket, selectors.EVENT_READ)
            waiting.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopped:
                waiting.select()
                if not self._stopped:
                    self._server.handle_request()
                if self._server.refused:
                    # Who knocks still waits: listening to the port would be a busy loop.
                    waiting.unregister(self._server.socket)
                    waiting.select(REFUSED_PAUSE)
                    waiting.register(self._server.socket, selectors.EVENT_READ)
        self._close()

    def _close(self) -> None:
        self._server.server_close()
        self._wake_read.close()
        self._wake_write.close()
