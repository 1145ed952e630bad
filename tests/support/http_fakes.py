"""A network without sockets: each connection is a script of what comes back for each write."""

import io
import os

import urllib3.util.connection


def reply(body=b"{}", status="200 OK", headers=(), *, length=True):
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


ECHO = "a script: the body of each answer is the first line of its request"


class FakeSocket:
    """
    Answers the n-th write with the n-th item of its script.

    An item is bytes, an exception to raise, a callable to call (its result is an item), or a list of items, each one
    read. Where an item ends the server is silent if the next is read; after the last one it has closed.
    """

    def __init__(self, network, script):
        self.network = network
        self.echo = script is ECHO
        self.script = [] if self.echo else list(script)
        self.inbox = []
        self.sent = []
        self.timeouts = []
        self.closed = False
        self.ear, self._mouth = os.pipe()  # something that poll() can look at

    def sendall(self, data):
        self.sent.append(bytes(data))
        item = self.script.pop(0) if self.script else b""
        if self.echo:
            item = reply(data.partition(b"\r\n")[0])
        if isinstance(item, BaseException) and getattr(item, "at_write", False):
            raise item
        self.inbox += item if isinstance(item, list) else [item]

    def recv_into(self, buffer):
        item = self.inbox.pop(0) if self.inbox else b""
        while callable(item):
            item = item()
        if isinstance(item, BaseException):
            raise item
        size = len(buffer)
        if len(item) > size:
            self.inbox.insert(0, item[size:])
        data = item[:size]
        buffer[: len(data)] = data
        return len(data)

    def speak(self):
        """Becomes readable, as when the server closes."""
        os.write(self._mouth, b"x")

    def settimeout(self, seconds):
        self.timeouts.append(seconds)

    def fileno(self):
        return self.ear

    def makefile(self, mode, buffering=None):
        assert mode == "rb"
        return _Raw(self) if buffering == 0 else io.BufferedReader(_Raw(self))

    def shutdown(self, how):
        pass

    def close(self):
        self.closed = True

    def forget(self):
        os.close(self.ear)
        os.close(self._mouth)


class _Raw(io.RawIOBase):
    def __init__(self, sock):
        self._sock = sock

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._sock.recv_into(buffer)


class Network:
    """Takes the place of urllib3's create_connection; `scripts` are those of the connections to come."""

    def __init__(self, monkeypatch):
        self.scripts = []
        self.sockets = []
        self.asked = []  # (host, port), timeout, options
        monkeypatch.setattr(urllib3.util.connection, "create_connection", self._connect)

    def _connect(self, address, timeout=None, source_address=None, socket_options=None):
        self.asked.append((address, timeout, socket_options))
        script = self.scripts.pop(0) if self.scripts else ConnectionRefusedError(111, "Connection refused")
        if callable(script):
            script = script()
        if isinstance(script, BaseException):
            raise script
        sock = FakeSocket(self, script)
        self.sockets.append(sock)
        return sock

    @property
    def sent(self):
        """The writes of each connection."""
        return [sock.sent for sock in self.sockets]

    def close(self):
        for sock in self.sockets:
            sock.forget()


def at_write(error):
    """This exception comes out of the write itself."""
    error.at_write = True
    return error
