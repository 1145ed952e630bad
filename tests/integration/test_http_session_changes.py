"""One session whose settings change from call to call, that is forked inside a call, or that makes very many calls."""

import gc
import os
import random
import socket
import ssl
import threading
import tracemalloc

import pytest
import requests

from hireliab.exchange import _tls, http_session
from hireliab.exchange.http_session import Session
from tests.support.http_servers import Certificates, answer, echo, serve
from tests.support.http_sessions import stock
from tests.support.together import in_child

pytestmark = pytest.mark.usefixtures("plain_environment", "unverified")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(params=["short", "long"])
def way(request, monkeypatch):
    """Which way calls go on a connection that is open; in the end, whether the short one was taken at all."""
    taken = []
    original = http_session.attempt

    def attempt(*args):
        made = original(*args) if request.param == "short" else None
        taken.append(made is not None)
        return made

    monkeypatch.setattr(http_session, "attempt", attempt)
    yield request.param
    assert any(taken) == (request.param == "short"), "the other way was tested"


@pytest.fixture
def chance():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


# -- verify ----------------------------------------------------------------------------------------------------------


@stock
def test_verify_back_and_forth_is_each_time_that_of_the_call(certificates, way, chance):
    """Idle connections of every kind lie about; none may serve a call that would not have opened it."""
    good = {certificates.ca, certificates.ca_folder, False}
    values = [*good, True, certificates.other_ca]
    with serve(echo, tls=certificates.server_context()) as server, Session() as session:
        session.verify = certificates.ca
        session.get(server.url)
        session.get(server.url)
        for step in range(250):
            if chance.random() < 0.2:
                session.verify = chance.choice(values)
            verify = chance.choice([None, None, *values])
            effective = session.verify if verify is None else verify
            method = chance.choice(["GET", "POST"])

            def call(method=method, verify=verify, step=step):
                return session.request(method, f"{server.url}/{step}", verify=verify)

            if effective in good:
                assert call().json()["target"] == f"/{step}"
            else:
                with pytest.raises(requests.exceptions.SSLError):
                    call()
                assert server.targets.count(f"/{step}") == 0
        # Each kind of check has its own connection, and keeps it.
        assert len({request.connection for request in server.requests}) <= len(good)


@stock
def test_the_environments_bundle_and_verify_back_and_forth(certificates, way, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca)
    with serve(echo, tls=certificates.server_context()) as server, Session() as session:
        for _ in range(3):
            for verify in (None, True, certificates.ca, False):
                assert session.get(server.url, verify=verify).status_code == 200
            session.verify = certificates.other_ca  # goes before the environment's
            with pytest.raises(requests.exceptions.SSLError):
                session.get(server.url)
            assert session.get(server.url, verify=True).status_code == 200
            session.verify = True
        session.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            session.get(server.url)


# -- client certificates -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Certificates of another CA, whose clients the server takes, too."""
    return Certificates(tmp_path_factory.mktemp("others"))


@pytest.fixture
def asking(certificates, others):
    """A server that answers with the serial number of the client's certificate; None where it showed none."""

    def show(peer):
        while peer.read() is not None:
            peer.reply(body={"serial": (peer.sock.getpeercert() or {}).get("serialNumber")})

    context = certificates.server_context(asks_for_client=True)
    context.load_verify_locations(others.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    with serve(show, tls=context) as server:
        yield server


def serial(path):
    from cryptography import x509

    with open(path, "rb") as file:
        number = x509.load_pem_x509_certificate(file.read()).serial_number
    return f"{number:X}".rjust(len(f"{number:X}") + len(f"{number:X}") % 2, "0")


@stock
def test_client_certificates_back_and_forth_are_each_time_those_of_the_call(certificates, others, asking, way, chance):
    first, second = serial(certificates.client), serial(others.client)
    shown = [
        (certificates.client, first),
        (certificates.client_pair, first),
        (list(certificates.client_pair), first),
        (others.client, second),
        (others.client_pair, second),
    ]
    with Session() as session:
        session.verify = certificates.ca
        sessions_own = None
        for _ in range(250):
            if chance.random() < 0.2:
                session.cert, sessions_own = chance.choice([(None, None), *shown])
            cert, expected = chance.choice([(None, sessions_own), (None, sessions_own), *shown])
            method = chance.choice(["GET", "POST"])
            assert session.request(method, asking.url, cert=cert).json() == {"serial": expected}
        session.cert = None
        for _ in range(2):
            assert session.get(asking.url).json() == {"serial": None}


@stock
def test_a_pair_of_certificates_may_be_changed_in_its_list(certificates, others, asking):
    with Session() as session:
        session.verify = certificates.ca
        session.cert = list(certificates.client_pair)
        for pair in (certificates, others, certificates):
            session.cert[:] = pair.client_pair
            for _ in range(3):
                assert session.get(asking.url).json() == {"serial": serial(pair.client)}


@stock
def test_a_renewed_client_certificate_is_shown_after_refresh_env(certificates, others, asking, way, tmp_path):
    file = tmp_path / "client.pem"
    with Session() as session:
        session.verify, session.cert = certificates.ca, str(file)
        for fresh in (certificates, others, certificates):
            with open(fresh.client, "rb") as source:
                file.write_bytes(source.read())
            session.refresh_env()
            for _ in range(3):
                assert session.get(asking.url).json() == {"serial": serial(fresh.client)}


@stock
def test_a_certificate_that_fits_no_key_fails_alone(certificates, others, asking, way):
    mixed = (certificates.client_pair[0], others.client_pair[1])
    with Session() as session:
        session.verify, session.cert = certificates.ca, certificates.client
        for _ in range(3):
            assert session.get(asking.url).json() == {"serial": serial(certificates.client)}
            for bad in (mixed, certificates.encrypted_pair, (certificates.client_pair[0],), certificates.ca):
                with pytest.raises((requests.exceptions.SSLError, ValueError)):
                    session.get(asking.url, cert=bad)


@stock
def test_a_server_that_wants_a_certificate_gets_that_of_the_call_in_threads(certificates, others, asking):
    """Each of six threads shows its own, or none, on one session."""
    shown = [
        (certificates.client, serial(certificates.client)),
        (others.client_pair, serial(others.client)),
        (None, None),
    ]
    wrong = []

    def run(i):
        cert, expected = shown[i % 3]
        for _ in range(40):
            got = session.get(asking.url, cert=cert, verify=certificates.ca).json()["serial"]
            if got != expected:
                wrong.append((cert, got))

    with Session() as session:
        threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert wrong == []


# -- fork inside a call --------------------------------------------------------------------------------------------


def child_makes_a_call(session, url):
    in_child(lambda: session.get(f"{url}/child").json()["target"] == "/child")


@posix
@pytest.mark.parametrize("place", ["hook", "auth", "body", "stream", "proxies"])
def test_a_fork_inside_a_call_leaves_both_usable(session, certificates, place):
    """The child makes a call of its own, on a connection of its own; the parent's call goes on as if nothing were."""
    with serve(echo, tls=certificates.server_context()) as server:
        session.verify = certificates.ca
        session.get(server.url)

        def fork(value, **_):
            child_makes_a_call(session, server.url)
            return value

        def parts():
            yield b"be"
            fork(None)
            yield b"fore"

        for _ in range(2):
            if place == "hook":
                got = session.post(f"{server.url}/parent", json={}, hooks={"response": fork})
            elif place == "auth":
                got = session.post(f"{server.url}/parent", json={}, auth=fork)
            elif place == "body":
                got = session.post(f"{server.url}/parent", data=parts())
                assert got.json()["body"] == "before"
            elif place == "stream":
                got = session.post(f"{server.url}/parent", json={}, stream=True)
                chunks = got.iter_content(10)
                first = next(chunks)
                fork(None)
                assert b'"target": "/parent"' in first + b"".join(chunks)
                assert session.get(f"{server.url}/after").json()["target"] == "/after"
                continue
            else:
                got = session.post(f"{server.url}/parent", json={})
                fork(None)
            assert got.json()["target"] == "/parent"
        assert server.targets.count("/parent") == 2


@posix
def test_a_child_of_another_threads_moment_with_the_cookies_can_make_calls(session):
    """A fork may come while another thread is inside the jar; that thread does not exist in the child."""
    with serve(answer(headers=[("Set-Cookie", "a=b"), ("Content-Type", "application/json")])) as server:
        session.get(server.url)
        inside, leave = threading.Event(), threading.Event()

        def hold():
            with session.cookies._cookies_lock:
                inside.set()
                leave.wait(20)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            assert inside.wait(10)
            in_child(lambda: session.get(server.url).status_code == 200 and session.cookies["a"] == "b")
        finally:
            leave.set()
            thread.join(10)
        assert session.get(server.url).status_code == 200


# -- very many calls -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not list open files there")
def test_thousands_of_calls_leave_neither_memory_nor_descriptors_behind(certificates):
    """Six kinds of calls, also those that fail; 100,000 of them were flat, and here are some thousands."""
    refused = socket.create_server(("127.0.0.1", 0))
    nowhere = f"http://127.0.0.1:{refused.getsockname()[1]}"
    refused.close()

    def drops(peer):
        if peer.read() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    def calls(count):
        for i in range(count):
            assert session.get(f"{plain.url}/{i % 1500}").status_code == 200
            assert session.post(tls.url, json={"i": i}).status_code == 200
            if i % 10 == 0:
                with pytest.raises(requests.ConnectionError):
                    session.get(nowhere)
                with pytest.raises(requests.RequestException):
                    session.get(broken.url)
                with session.get(plain.url, stream=True) as response:
                    next(response.iter_content(1))
                assert session.get(f"{plain.url}/{i}", headers={"X-I": str(i)}, params={"i": i}).status_code == 200
        plain.requests.clear()
        tls.requests.clear()
        broken.requests.clear()

    def seen():
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(os.listdir("/proc/self/fd"))

    with (
        serve(echo) as plain,
        serve(echo, tls=certificates.server_context()) as tls,
        serve(drops) as broken,
        Session() as session,
    ):
        session.verify = certificates.ca
        tracemalloc.start()
        try:
            calls(600)
            before, files = seen()
            calls(600)
            after, files_after = seen()
        finally:
            tracemalloc.stop()
        # The servers are threads of this process: their own lists of connections grow by some bytes each.
        assert after - before < 600_000
        assert files_after - files < 200  # sockets of the servers' side
        assert len(_tls._shared) <= _tls._MOST
