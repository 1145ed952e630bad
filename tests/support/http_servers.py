"""
HTTP servers on loopback that behave as a test tells them, well or badly.

``serve(script)`` starts one. A script is a function of one connection (a `Peer`): it reads requests and writes
bytes. A list of scripts gives the first connection the first one and so on, the last one staying for the rest.
The server records its connections and the raw bytes of every request. Everything is a thread of this process, named
``sim-http``, and has ended when the ``with`` block is left; what a script raised comes out there.
"""

import contextlib
import datetime as dt
import gzip
import hashlib
import ipaddress
import json
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 10.0  # seconds; longer than any test waits, so that a hung client fails the test and not the suite


@dataclass
class Request:
    """One request as it came over the wire."""

    connection: int  # the number of its connection, from 0
    method: str
    target: str
    headers: list  # pairs, as sent
    body: bytes
    raw: bytes  # head and body, chunk marks included

    def header(self, name):
        """The only value of this header, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)


class Peer:
    """One connection, seen from the server."""

    def __init__(self, server, sock, number):
        self.server, self.sock, self.number = server, sock, number
        self._file = sock.makefile("rb")
        self._method = None  # of the request read last

    def read(self):
        """The next request, recorded; None when the client has closed."""
        if self._file.peek(1)[:1] == b"\x16":  # a TLS client
            return None
        raw = b""
        while not raw.endswith(b"\r\n\r\n"):
            line = self._file.readline(65536)
            if not line:
                assert not raw.strip(), f"the client left in the middle of a head: {raw!r}"
                return None
            raw += line
        first, *rest = raw[:-4].decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers = [tuple(line.split(": ", 1)) for line in rest]
        known = {name.lower(): value for name, value in headers}
        body = b""
        if known.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = self._file.readline()
                chunk = self._file.read(int(size, 16) + 2)
                raw += size + chunk
                if chunk == b"\r\n":
                    break
                body += chunk[:-2]
        elif "content-length" in known:
            body = self._file.read(int(known["content-length"]))
            raw += body
        request = Request(self.number, method, target, headers, body, raw)
        self._method = method
        with self.server.changed:
            self.server.requests.append(request)
            self.server.changed.notify_all()
        return request

    def send(self, data):
        self.sock.sendall(data)

    def reply(self, status="200 OK", body=b"", headers=(), *, length=True):
        """A whole answer; `body` is bytes, or anything else as JSON."""
        headers = list(headers)
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.append(("Content-Type", "application/json"))
        if length:
            headers.append(("Content-Length", str(len(body))))
        self.send(head(status, headers) + (b"" if self._method == "HEAD" else body))

    def drip(self, data, interval=0.02):
        """`data` byte by byte, `interval` seconds apart, until the client leaves or the server stops."""
        for i in range(len(data)):
            self.send(data[i : i + 1])
            if self.server.stopping.wait(interval):
                return

    def wait_until_closed(self):
        """Returns when the client has closed; what it still sends is thrown away."""
        with contextlib.suppress(OSError):
            while self._file.read1(65536):
                pass

    def reset(self):
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self._file.close()
        self.sock.close()
        with self.server.changed:
            self.server.closed.add(self.number)
            self.server.changed.notify_all()


class Server:
    """Made by `serve`."""

    def __init__(self, scripts, tls):
        self.requests = []
        self.connections = 0
        self.handshakes_failed = 0
        self.closed = set()  # numbers of the connections that the script has ended
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        self._scripts, self._tls = scripts, tls
        self._errors, self._threads, self._sockets = [], [], []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.host = "127.0.0.1"
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._start(self._accept)

    def _start(self, func, *args):
        thread = threading.Thread(target=func, args=args, name=f"sim-http-{self.port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self.changed:
                number = self.connections
                self.connections += 1
                self._sockets.append(sock)
                self.changed.notify_all()
            self._start(self._run, sock, number)

    def _run(self, sock, number):
        sock.settimeout(PATIENCE)
        # Small answers leave at once: Nagle's delay is none of the peers we play.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = None
        try:
            if self._tls is not None:
                try:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                except OSError:
                    with self.changed:
                        self.handshakes_failed += 1
                        self.changed.notify_all()
                    return
                with self.changed:
                    self._sockets.append(sock)
            peer = Peer(self, sock, number)
            self._scripts[min(number, len(self._scripts) - 1)](peer)
        except (OSError, ValueError) as error:
            # The client's leaving, or our stop, ends a script; a mistake in one is no OSError.
            if isinstance(error, ValueError) and not self.stopping.is_set():
                self._errors.append(error)
        except BaseException as error:
            self._errors.append(error)
        finally:
            if peer is not None:
                with contextlib.suppress(OSError, ValueError):
                    peer.close()
            sock.close()

    def wait_for(self, condition):
        """Wait until ``condition(server)`` holds; for what the server sees later than the client."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), PATIENCE), "the server waited in vain"

    @property
    def targets(self):
        return [request.target for request in self.requests]

    def stop(self):
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(PATIENCE)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a script does not end"


@contextlib.contextmanager
def serve(*scripts, tls=None):
    """A server of these scripts, in TLS when a server-side SSLContext is given."""
    server = Server(scripts, tls)
    try:
        yield server
    finally:
        server.stop()
    if server._errors:
        raise server._errors[0]


def head(status="200 OK", headers=()):
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


# -- scripts: of one connection each ----------------------------------------------------------------------------


def echo(peer):
    """Answers each request with what it was, as JSON, as long as the client stays."""
    while (request := peer.read()) is not None:
        peer.reply(
            body={
                "connection": peer.number,
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "body": request.body.decode("latin-1"),
            }
        )


def answers(*replies):
    """The first request gets the first of these raw answers, and so on; then the connection is closed."""

    def script(peer):
        for reply in replies:
            if peer.read() is None:
                return
            peer.send(reply)

    return script


def answer(body=b"{}", status="200 OK", headers=(("Content-Type", "application/json"),), times=1_000_000):
    """Answers each request with this, `times` times; then closes."""

    def script(peer):
        for _ in range(times):
            if peer.read() is None:
                return
            peer.reply(status, body, headers)

    return script


closes_idle = answer(times=1)
"""Answers once and closes the connection, without having said that it would."""


def _then(start, after):
    """A script that answers `after` requests, reads one more, and does `start`."""

    def script(peer):
        for _ in range(after):
            if peer.read() is None:
                return
            peer.reply(body={})
        if peer.read() is not None:
            start(peer)

    return script


def warmed(script):
    """Answers one request well before the script begins: the client then reuses a connection."""

    def both(peer):
        if peer.read() is not None:
            peer.reply(body={})
            script(peer)

    return both


def closes_after_request(after=1):
    """Answers `after` requests, reads the next one whole and closes without a byte."""
    return _then(lambda peer: None, after)


def resets_after_request(after=1):
    """The same, but with RST."""
    return _then(Peer.reset, after)


def half_status_line(after=1):
    """Answers `after` requests; of the next answer comes half the status line, then the end."""
    return _then(lambda peer: peer.send(b"HTTP/1.1 2"), after)


def drips(first=b"", slowly=b"", after=0, interval=0.02):
    """Answers `after` requests; the next gets `first` at once and `slowly` byte by byte."""

    def start(peer):
        peer.send(first)
        peer.drip(slowly, interval)

    return _then(start, after)


def silent(after=0):
    """Answers `after` requests; the next one never."""
    return _then(Peer.wait_until_closed, after)


def drips_in_handshake(interval=0.02):
    """A server that speaks a TLS record no faster than this. (Serve it without `tls`.)"""

    def script(peer):
        peer.drip(b"\x16\x03\x03\x3f\x00" + b"\x02\x00\x3e\xfc" + bytes(16_000), interval)

    return script


def bomb(size=50_000_000, times=1):
    """A small answer that grows to `size` bytes of zeros, or more slowly when compressed `times` times."""
    data = bytes(size)
    for _ in range(times):
        data = gzip.compress(data)
    return answer(data, headers=[("Content-Encoding", ", ".join(["gzip"] * times))])


def chunked(*chunks, headers=(), trailer=b""):
    """Answers each request in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    return answers(*[head(headers=[("Transfer-Encoding", "chunked"), *headers]) + body] * 100)


def informs_first(*statuses):
    """Sends these 1xx answers before each real one."""

    def script(peer):
        while peer.read() is not None:
            for status in statuses:
                peer.send(head(status, [("Link", "</style.css>; rel=preload")]))
            peer.reply(body={})

    return script


def redirects(to, status="302 Found"):
    """Sends each request to this URL."""
    return answer(b"", status, [("Location", to)])


def wrong_length(says, body, *, then_close=True):
    """Says one Content-Length and sends another; with `then_close` the connection ends there."""

    def script(peer):
        while peer.read() is not None:
            peer.send(head(headers=[("Content-Length", str(says)), ("Content-Type", "application/json")]) + body)
            if then_close:
                return

    return script


def many_headers(count=200):
    """Answers with this many fields."""
    return answer(headers=[(f"X-Field-{i}", str(i)) for i in range(count)])


# -- certificates -----------------------------------------------------------------------------------------------


@dataclass
class Certificates:
    """A CA in a folder, a server certificate for localhost and 127.0.0.1, and a client certificate."""

    folder: Path
    ca: str = field(init=False)  # path of the CA's certificate
    ca_folder: str = field(init=False)  # the same, as OpenSSL wants folders
    other_ca: str = field(init=False)  # a CA that signed nothing
    client: str = field(init=False)  # certificate and key in one file
    client_pair: tuple = field(init=False)  # in two files
    encrypted_pair: tuple = field(init=False)  # the key needs a password

    def __post_init__(self):
        from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

        ca, ca_key = self._make("hireliab test ca")
        other, _ = self._make("another test ca")
        server, server_key = self._make("localhost", signed_by=(ca, ca_key))
        wrong, wrong_key = self._make("other.invalid", signed_by=(ca, ca_key))
        client, client_key = self._make("client", signed_by=(ca, ca_key))
        self.ca = self._write("ca.pem", _pem(ca))
        self.other_ca = self._write("other.pem", _pem(other))
        (self.folder / "cas").mkdir()
        self.ca_folder = str(self.folder / "cas")
        self._write(f"cas/{_openssl_hash('hireliab test ca')}.0", _pem(ca))
        self._server = self._write("server.pem", _pem(server) + _pem_key(server_key))
        self._misnamed = self._write("misnamed.pem", _pem(wrong) + _pem_key(wrong_key))
        self.client = self._write("client.pem", _pem(client) + _pem_key(client_key))
        certificate = self._write("client.crt", _pem(client))
        self.client_pair = (certificate, self._write("client.key", _pem_key(client_key)))
        encrypted = _pem_key(client_key, BestAvailableEncryption(b"secret"))
        self.encrypted_pair = (certificate, self._write("encrypted.key", encrypted))

    def server_context(self, *, asks_for_client=False, misnamed=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._misnamed if misnamed else self._server)
        if asks_for_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _write(self, name, data):
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def _make(self, name, signed_by=None):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        ca, ca_key = signed_by or (None, key)
        now = dt.datetime.now(dt.timezone.utc)
        names = [x509.DNSName(name)]
        if name == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca.subject if ca else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=7))
            .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                    key_agreement=False, key_cert_sign=ca is None, crl_sign=ca is None, encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )  # fmt: skip
        if ca is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(ca_key, hashes.SHA256()), key


def _pem(certificate):
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_key(key, encryption=None):
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def _openssl_hash(common_name):
    """The file name under which OpenSSL looks for a CA in a folder: SHA-1 of the subject's canonical form."""
    text = common_name.lower().encode()
    name = b"\x06\x03\x55\x04\x03" + b"\x0c" + bytes([len(text)]) + text
    sequence = b"\x30" + bytes([len(name)]) + name
    rdn = b"\x31" + bytes([len(sequence)]) + sequence
    return hashlib.sha1(rdn).digest()[3::-1].hex()
