"""
``python -m benchmarks._http_python_server FOLDER``: the stand-in for nginx; see _http_server.py.

It prints its ports and serves, a thread for each connection, until SIGQUIT or SIGTERM; then it writes down what it saw.
"""

from __future__ import annotations

import itertools
import json
import signal
import socket
import ssl
import sys
import threading
from email.utils import formatdate
from pathlib import Path

from benchmarks._http_server import BODY, HEADERS

SEEN: list[str] = []
_NUMBERS = itertools.count(1)


def answer(connection: str) -> bytes:
    """The bytes of an answer, in one piece."""
    heads = {
        "Server": "python",
        "Date": formatdate(usegmt=True),
        "Content-Type": "application/json",
        "Content-Length": str(len(BODY)),
        "Connection": connection,
        **HEADERS,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in heads.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("ascii") + BODY


def serve(peer: socket.socket) -> None:
    """Answer on one connection until it ends."""
    number = next(_NUMBERS)
    kept, once = answer("keep-alive"), answer("close")
    pending = b""
    while True:
        while b"\r\n\r\n" not in pending:
            if not (piece := peer.recv(65536)):
                return
            pending += piece
        head, _, pending = pending.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        names = (line.partition(":") for line in lines)
        length = next((int(value) for name, _, value in names if name.lower() == "content-length"), 0)
        while len(pending) < length:
            if not (piece := peer.recv(65536)):
                return
            pending += piece
        pending = pending[length:]
        SEEN.append(f"{method} {path} {length} {number}\n")
        keep = path.startswith("/kept/")
        peer.sendall(kept if keep else once)
        if not keep:
            return


def _connection(peer: socket.socket, context: ssl.SSLContext | None) -> None:
    try:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with peer if context is None else context.wrap_socket(peer, server_side=True) as talking:
            serve(talking)
    except OSError:
        peer.close()  # the client went away


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=_connection, args=(peer, context), daemon=True).start()


def main(folder: Path) -> None:
    """Serve until told to end."""
    signals = {signal.SIGQUIT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the threads, so that this one gets them
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    ports = {}
    for scheme, wrap in (("http", None), ("https", context)):
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        ports[scheme] = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, wrap), daemon=True).start()
    print(json.dumps(ports), flush=True)
    signal.sigwait(signals)
    (folder / "requests").write_text("".join(SEEN), encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
