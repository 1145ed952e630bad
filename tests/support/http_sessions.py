"""Fixtures for tests of `Session` against the servers of http_servers.py; tests/integration/conftest.py offers them."""

import socket
import warnings

import pytest
import urllib3

from hireliab.exchange import _tls
from tests.support.http_servers import Certificates

URLLIB3_FUTURE = hasattr(urllib3, "AsyncPoolManager")
"""urllib3.future stands in urllib3's place, as it does wherever niquests is installed."""

stock = pytest.mark.skipif(URLLIB3_FUTURE, reason="urllib3.future has no http.client underneath that could be watched")
"""For what the session cannot do there: send a read once more, limit idleness, end an answer that drips."""


@pytest.fixture
def plain_environment(monkeypatch, tmp_path):
    """No proxy, CA bundle or netrc of the machine's, and no name server asked for names that do not exist."""

    def look_up(host, *args, **kwargs):
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return original(host, *args, **kwargs)

    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    yield Certificates(tmp_path_factory.mktemp("certificates"))
    _tls.forget()


@pytest.fixture
def session(plain_environment):
    from hireliab.exchange.http_session import Session

    with Session() as session:
        yield session


@pytest.fixture
def unverified():
    """urllib3 warns of each request without a check of the certificate; here it is wanted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        yield


@pytest.fixture
def one_boundary(monkeypatch):
    """Multipart bodies have the same boundary each time."""
    monkeypatch.setattr("urllib3.filepost.choose_boundary", lambda: "boundary")
