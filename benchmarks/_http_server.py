"""
The server of the http benchmark: nginx where it is installed, else a Python one, in a process of its own.

Both know two folders: ``/kept/`` keeps the connection open, ``/once/`` closes it after each answer. Both write down
each request (method, path, length of the body, number of the connection): that is how a contestant's work is checked.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ANSWER = {"status": "ok", "price": "61234567890"}
BODY = b'{"status": "ok", "price": "61234567890"}\n'
"""41 bytes."""
HEADERS = {
    "Cache-Control": "no-store",
    "Vary": "Accept-Encoding",
    "X-Request-Id": "2f1c9a70c3d84f4c",
    "X-Frame-Options": "DENY",
}
"""Beside the server's own five: Server, Date, Content-Type, Content-Length, Connection."""

_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    log_format seen '$request_method $uri $content_length $connection';
    access_log {folder}/requests seen buffer=256k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    default_type application/json;
    ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/key.pem;
{headers}
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl;
        location /kept/ {{ return 200 '{body}'; }}
        location /once/ {{ keepalive_timeout 0; return 200 '{body}'; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One that the server had."""

    method: str
    path: str
    length: int
    connection: str


class Server:
    """
    A running server; `stop` it to read what it saw.

    Attributes:
        name: With its version.
        urls: Of "http" and "https", without a slash at the end.
        authorities: File of those that a client trusts: all of certifi's, as everywhere, and the server's own.
    """

    def __init__(self, name: str, folder: Path, ports: dict[str, int], process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.urls = {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}
        self.authorities = folder / "authorities.pem"
        self._folder = folder
        self._process = process

    def stop(self) -> list[Request]:
        """End it; what it saw. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # nginx: close idle connections, write the log out, end
            try:
                self._process.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return read_log((self._folder / "requests").read_text(encoding="ascii"))


def read_log(text: str) -> list[Request]:
    """What the server wrote down."""
    lines = (line.split() for line in text.splitlines())
    return [Request(method, path, int(length.replace("-", "0")), number) for method, path, length, number in lines]


@contextlib.contextmanager
def serving(folder: Path, nginx: str | None = None) -> Iterator[Server]:
    """
    A server for a block.

    Args:
        folder: Empty; for its files.
        nginx: Its path, or None: the Python server.
    """
    make_certificates(folder)
    server = _start_nginx(folder, nginx) if nginx is not None else _start_python(folder)
    try:
        yield server
    finally:
        server.stop()


def find_nginx() -> str | None:
    """Where nginx is, also where only root's PATH leads."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def _start_nginx(folder: Path, nginx: str) -> Server:
    told = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True)
    version = re.search(r"nginx/[\d.]+", told.stderr + told.stdout)
    problem = ""
    for _ in range(3):  # another process may take a free port before nginx does
        ports = _free_ports()
        config = _CONFIG.format(
            folder=folder,
            headers="\n".join(f"    add_header {name} '{value}';" for name, value in HEADERS.items()),
            plain=ports["http"],
            secure=ports["https"],
            body=BODY.decode().replace("\n", "\\n"),
        )
        file = folder / "nginx.conf"
        file.write_text(config, encoding="ascii")
        command = [nginx, "-c", str(file), "-p", str(folder), "-e", str(folder / "error.log")]
        with (folder / "stderr").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        up = False
        try:
            up = _is_up(process, ports)
        finally:  # an interrupt must not leave it behind
            if not up:
                process.terminate()  # a killed master would leave its worker
                process.wait(10.0)
        if up:
            return Server(version[0] if version else "nginx", folder, ports, process)
        problem = (folder / "stderr").read_text(encoding="utf-8", errors="replace")[-500:]
    raise RuntimeError(f"nginx does not start: {problem}")


def _start_python(folder: Path) -> Server:
    command = [sys.executable, "-m", "benchmarks._http_python_server", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = b""
    try:
        line = process.stdout.readline()
    finally:
        process.stdout.close()
        if not line:  # an interrupt must not leave it behind
            process.kill()
    if not line:
        raise RuntimeError(f"the Python server does not start: code {process.wait()}")
    return Server("the Python server (install nginx for a faster one)", folder, json.loads(line), process)


def _free_ports() -> dict[str, int]:
    with socket.socket() as plain, socket.socket() as secure:
        plain.bind(("127.0.0.1", 0))
        secure.bind(("127.0.0.1", 0))
        return {"http": plain.getsockname()[1], "https": secure.getsockname()[1]}


def _is_up(process: subprocess.Popen[bytes], ports: dict[str, int]) -> bool:
    limit = time.monotonic() + 10.0
    while process.poll() is None and time.monotonic() < limit:
        try:
            for port in ports.values():
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


def make_certificates(folder: Path) -> None:
    """An authority of one's own and a certificate for 127.0.0.1, with P-256 keys as most sites have."""
    now = dt.datetime.now(tz=dt.timezone.utc)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hireliab benchmark authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(authority_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=2))

    usage = {
        "content_commitment": False, "key_encipherment": False, "data_encipherment": False, "key_agreement": False,
        "encipher_only": False, "decipher_only": False,
    }  # fmt: skip
    root = (
        certificate(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    leaf = (
        certificate(name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "certificate.pem").write_bytes(leaf.public_bytes(pem) + root.public_bytes(pem))
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(secret)
    (folder / "authorities.pem").write_bytes(Path(certifi.where()).read_bytes() + b"\n" + root.public_bytes(pem))
