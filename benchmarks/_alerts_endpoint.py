"""
``python -m benchmarks._alerts_endpoint HUNG``: web hooks of which some hang, in a process of their own.

Prints one line of JSON: the ports that hang, and one that answers. ``GET /arrivals`` there tells what came, with the time on
the machine's monotonic clock, which all processes share. Ends when its standard input does.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_arrivals: list[tuple[str, int]] = []


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _arrivals.append((str(body["title"]), time.monotonic_ns()))
        self._reply(b"{}")

    def do_GET(self) -> None:
        self._reply(json.dumps(_arrivals).encode())

    def _reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_: Any) -> None:
        """Nothing: a worker ends without a farewell."""


def _hang(listener: socket.socket) -> None:
    """Take every connection and say nothing."""
    kept = []
    while True:
        kept.append(listener.accept()[0])


def main() -> None:
    """The process."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(int(sys.argv[1]))]
    for listener in listeners:
        threading.Thread(target=_hang, args=(listener,), daemon=True).start()
    server = _Server(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {"hung": [listener.getsockname()[1] for listener in listeners], "well": server.server_address[1]}
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
