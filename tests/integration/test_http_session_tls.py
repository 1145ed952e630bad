"""TLS: one frozen context for each (verify, cert), in threads, and no setting that sticks to the next call."""

import ssl

import pytest
import requests

from hireliab.errors import ConnectError, NotSentError
from hireliab.exchange import _tls
from hireliab.exchange.http_session import Session
from tests.support.http_servers import Certificates, closes_after_request, echo, serve
from tests.support.http_sessions import URLLIB3_FUTURE, stock
from tests.support.together import together

pytestmark = pytest.mark.usefixtures("plain_environment", "unverified")


@pytest.fixture
def server(certificates):
    with serve(echo, tls=certificates.server_context()) as server:
        yield server


@pytest.fixture
def loads(monkeypatch):
    """Whenever CA certificates are read."""
    read = []
    original = ssl.SSLContext.load_verify_locations

    def load(self, *args, **kwargs):
        read.append((args, kwargs))
        original(self, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load)
    return read


def refused(call):
    with pytest.raises(requests.exceptions.SSLError) as caught:
        call()
    # urllib3.future's handshake cannot be watched.
    assert URLLIB3_FUTURE or (isinstance(caught.value, ConnectError) and isinstance(caught.value, NotSentError))
    return caught.value


def test_verify_works_as_in_requests_and_sticks_to_no_later_call(session, server, certificates):
    good = [certificates.ca, certificates.ca_folder, False]
    for _ in range(2):
        for verify in good:
            assert session.get(server.url, verify=verify).status_code == 200
            refused(lambda: session.get(server.url))
            refused(lambda: session.get(server.url, verify=certificates.other_ca))
            refused(lambda: session.post(server.url, json={}, verify=True))


def test_the_sessions_verify_may_change_between_calls(session, server, certificates):
    session.verify = False
    assert session.get(server.url).status_code == 200
    session.verify = True
    refused(lambda: session.get(server.url))
    session.verify = certificates.ca
    assert [session.get(server.url).status_code for _ in range(3)] == [200] * 3
    session.verify = certificates.other_ca
    refused(lambda: session.get(server.url))
    session.verify = False
    assert session.post(server.url, json={}).status_code == 200
    session.verify = True
    refused(lambda: session.post(server.url, json={}))


def test_threads_with_different_settings_do_not_meet(server, certificates):
    """Thread i checks its own way over and over, on new connections, while the others check theirs."""
    ways = [
        (certificates.ca, True),
        (certificates.ca_folder, True),
        (False, True),
        (certificates.other_ca, False),
        (True, False),
    ]

    def run(i):
        verify, works = ways[i % len(ways)]
        for _ in range(15):
            with Session() as session:
                if works:
                    assert session.get(server.url, verify=verify).status_code == 200
                else:
                    refused(lambda: session.get(server.url, verify=verify))
        return i

    assert together(10, run) == list(range(10))


def test_threads_that_share_a_session_keep_their_own_verify(session, server, certificates):
    def run(i):
        for _ in range(15):
            if i % 2:
                assert session.get(server.url, verify=certificates.ca, max_idle=0).status_code == 200
            else:
                refused(lambda: session.get(server.url, verify=certificates.other_ca))
        return i

    assert together(6, run) == list(range(6))


@stock
def test_the_ca_file_is_read_once_for_all_sessions_and_connections(certificates, loads):
    _tls.forget()
    with serve(closes_after_request(after=1), tls=certificates.server_context()) as server:
        for _ in range(3):
            with Session() as session:
                session.verify = certificates.ca
                session.get(server.url)
                session.get(server.url, max_idle=0)
        assert server.connections == 6
    assert len(loads) == 1


@stock
def test_refreshing_the_environment_reads_the_ca_file_again(session, certificates, server, loads, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes((certificates.folder / "other.pem").read_bytes())
    session.verify = str(bundle)
    refused(lambda: session.get(server.url))
    bundle.write_bytes((certificates.folder / "ca.pem").read_bytes())
    refused(lambda: session.get(server.url))
    session.refresh_env()
    assert session.get(server.url).status_code == 200
    assert len(loads) == 2


def test_a_client_certificate_is_shown_and_only_where_it_was_given(session, certificates):
    with serve(echo, tls=certificates.server_context(asks_for_client=True)) as server:
        for cert in (certificates.client, certificates.client_pair):
            assert session.get(server.url, verify=certificates.ca, cert=cert).status_code == 200
            with pytest.raises(requests.RequestException):
                session.get(server.url, verify=certificates.ca)
        session.cert, session.verify = certificates.client, certificates.ca
        assert session.post(server.url, json={}).status_code == 200


def test_the_name_is_checked(session, server, certificates):
    url = server.url.replace("127.0.0.1", "localhost")
    assert session.get(url, verify=certificates.ca).status_code == 200
    with serve(echo, tls=certificates.server_context(misnamed=True)) as misnamed:
        refused(lambda: session.get(misnamed.url, verify=certificates.ca))
        assert session.get(misnamed.url, verify=False).status_code == 200
        refused(lambda: session.get(misnamed.url, verify=certificates.ca))


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"verify": "/nowhere"}, OSError),
        ({"cert": "/nowhere"}, OSError),
        ({"cert": ("/nowhere", "/nor/there")}, OSError),
        ({"verify": ""}, ValueError),
    ],
)
@stock
def test_a_missing_file_is_an_error_before_anything_is_sent(session, server, kwargs, error):
    before = server.connections
    with pytest.raises(error):
        session.get(server.url, **kwargs)
    assert server.connections == before


@stock
def test_a_file_of_another_kind_is_an_ssl_error_that_names_it(session, server, certificates, tmp_path):
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    assert "text.pem" in str(refused(lambda: session.get(server.url, verify=str(text))))
    assert "text.pem" in str(refused(lambda: session.get(server.url, verify=certificates.ca, cert=str(text))))
    assert "encrypted" in str(
        refused(lambda: session.get(server.url, verify=certificates.ca, cert=certificates.encrypted_pair))
    )


def test_a_plain_server_behind_https_is_an_ssl_error_and_nothing_was_sent(session):
    with serve(echo) as server:
        refused(lambda: session.post(server.url.replace("http:", "https:"), json={}))
        assert server.requests == []


@stock
def test_an_adapter_with_a_context_of_its_own_is_left_alone(session, server, certificates):
    class Own(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args, **kwargs):
            context = ssl.create_default_context(cafile=certificates.ca)
            super().init_poolmanager(*args, ssl_context=context, **kwargs)

        def cert_verify(self, conn, url, verify, cert):
            pass

    session.mount("https://127.0.0.1", Own())
    assert session.get(server.url).status_code == 200


def test_certificates_of_another_run_are_not_trusted(session, server, tmp_path):
    refused(lambda: session.get(server.url, verify=Certificates(tmp_path).ca))
