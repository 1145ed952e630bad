"""Proxies, netrc and CA bundle of the environment, and what is taken from a request that goes elsewhere."""

import base64
import functools
import os

import pytest
import requests

from hireliab.errors import NotSentError
from hireliab.exchange.http_session import Session
from tests.support.http_servers import answer, echo, redirects, serve
from tests.support.http_sessions import URLLIB3_FUTURE
from tests.support.side_by_side import attempt

pytestmark = pytest.mark.usefixtures("plain_environment")

ELSEWHERE = "http://exchange.invalid/path?q=1"


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def proxies():
    with serve(echo) as first, serve(echo) as second:
        yield first, second


# -- proxies ------------------------------------------------------------------------------------------------------


def test_a_proxy_is_read_once_and_again_when_told_to(monkeypatch, proxies):
    first, second = proxies
    monkeypatch.setenv("http_proxy", first.url)
    with Session() as session:
        assert session.get(ELSEWHERE).json()["target"] == ELSEWHERE
        monkeypatch.setenv("http_proxy", second.url)
        session.get(ELSEWHERE)
        assert (len(first.requests), len(second.requests)) == (2, 0)
        session.refresh_env()
        session.get(ELSEWHERE)
        session.post(ELSEWHERE, json={})
        assert (len(first.requests), len(second.requests)) == (2, 2)
        monkeypatch.setenv("no_proxy", "exchange.invalid")
        session.get(ELSEWHERE)
        session.refresh_env()
        with pytest.raises(NotSentError):
            session.get(ELSEWHERE)
        monkeypatch.delenv("http_proxy")
        monkeypatch.delenv("no_proxy")
        session.refresh_env()
        with pytest.raises(requests.ConnectionError):
            session.get(ELSEWHERE)
        assert (len(first.requests), len(second.requests)) == (2, 3)


def test_each_session_reads_the_environment_for_itself(monkeypatch, proxies):
    first, second = proxies
    monkeypatch.setenv("http_proxy", first.url)
    with Session() as old:
        old.get(ELSEWHERE)
        monkeypatch.setenv("http_proxy", second.url)
        with Session() as new:
            new.get(ELSEWHERE)
            old.get(ELSEWHERE)
    assert (len(first.requests), len(second.requests)) == (2, 1)


def test_a_proxy_that_appears_after_a_direct_connection_is_used_after_refreshing(monkeypatch, session, proxies):
    proxy, target = proxies
    session.get(f"{target.url}/direct")
    monkeypatch.setenv("http_proxy", proxy.url)
    session.refresh_env()
    assert session.get(f"{target.url}/proxied").json()["target"] == f"{target.url}/proxied"
    assert proxy.targets == [f"{target.url}/proxied"] and target.targets == ["/direct"]


def test_without_trust_the_environment_does_not_count(monkeypatch, proxies, tmp_path):
    first, target = proxies
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", first.url)
    with Session(trust_env=False) as session:
        assert session.get(f"{target.url}/x").json()["target"] == "/x"
    with Session() as session:
        session.trust_env = False
        assert session.get(f"{target.url}/y").json()["target"] == "/y"
    assert first.requests == []
    assert all(r.header("Authorization") is None for r in target.requests)


PROXY_CASES = {
    "environment": ({"http_proxy": "A"}, {}, {}),
    "upper case": ({"HTTP_PROXY": "A"}, {}, {}),
    "all": ({"all_proxy": "A"}, {}, {}),
    "the environment's before the session's": ({"http_proxy": "A"}, {"http": "B"}, {}),
    "the call's before the environment's": ({"http_proxy": "A"}, {}, {"http": "B"}),
    "the session's": ({}, {"http": "A"}, {}),
    "the call's before the session's": ({}, {"http": "A"}, {"http": "B"}),
    "of the host": ({}, {"http://exchange.invalid": "A", "http": "B"}, {}),
    "all of the session": ({}, {"all": "A"}, {}),
    "not for this host": ({"http_proxy": "A", "no_proxy": "exchange.invalid"}, {}, {}),
    "not for this domain": ({"http_proxy": "A", "NO_PROXY": ".invalid, x"}, {}, {}),
    "for no host": ({"http_proxy": "A", "no_proxy": "*"}, {}, {}),
    "not for others": ({"http_proxy": "A", "no_proxy": "other.invalid,10.0.0.0/8"}, {}, {}),
    "no_proxy of the call": ({"http_proxy": "A"}, {}, {"no_proxy": "exchange.invalid"}),
    "no_proxy of the session": ({"http_proxy": "A"}, {"no_proxy": "exchange.invalid"}, {}),
    "without scheme": ({"http_proxy": "A without scheme"}, {}, {}),
    "with a password": ({"http_proxy": "A with password"}, {}, {}),
    "empty": ({"http_proxy": ""}, {}, {}),
    "none for the call": ({"http_proxy": "A"}, {}, {"http": ""}),
    "of another scheme": ({"https_proxy": "A"}, {}, {}),
}


@pytest.mark.parametrize("name", PROXY_CASES)
def test_proxies_are_chosen_as_in_requests(monkeypatch, proxies, name):
    first, second = proxies
    values = {
        "A": first.url,
        "B": second.url,
        "A without scheme": first.url.removeprefix("http://"),
        "A with password": first.url.replace("//", "//us%20er:pass@"),
    }
    environment, of_session, of_call = PROXY_CASES[name]
    for key, value in environment.items():
        monkeypatch.setenv(key, values.get(value, value))
    told = []
    for session in (requests.Session(), Session()):
        with session:
            session.proxies.update({key: values.get(value, value) for key, value in of_session.items()})
            chosen = {key: values.get(value, value) for key, value in of_call.items()} or None
            for _ in range(2):
                attempt(functools.partial(session.get, ELSEWHERE, proxies=chosen))
        told.append([[(r.target, sorted(r.headers)) for r in server.requests] for server in (first, second)])
        first.requests.clear()
        second.requests.clear()
    assert told[0] == told[1]


def test_no_secret_of_a_proxy_shows_in_an_error(session):
    with pytest.raises(requests.exceptions.ProxyError) as caught:
        session.get("http://exchange.invalid/?key=secret1", proxies={"http": "http://user:secret2@127.0.0.1:1"})
    assert "secret1" not in str(caught.value)
    assert "secret2" not in str(caught.value)
    assert URLLIB3_FUTURE or isinstance(caught.value, NotSentError)


# -- netrc and CA bundle ---------------------------------------------------------------------------------------------


@pytest.fixture
def netrc(monkeypatch, tmp_path):
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))

    def write(login, host="127.0.0.1"):
        path.write_text(f"machine {host} login {login} password secret\n")

    write("first")
    return write


def test_netrc_is_read_once_for_a_host_and_again_when_told_to(netrc):
    with Session() as session, serve(echo) as server:
        session.get(server.url)
        netrc("second")
        session.post(server.url)
        session.refresh_env()
        session.get(server.url)
        said = [r.header("Authorization") for r in server.requests]
        assert said == [basic("first", "secret")] * 2 + [basic("second", "secret")]


@pytest.mark.usefixtures("netrc")
def test_netrc_replaces_no_authorization_of_the_user():
    with Session() as session, serve(echo) as server:
        session.get(server.url, headers={"Authorization": "Token mine"})
        session.get(server.url, headers={"authorization": "Token mine"})
        session.headers["Authorization"] = "Token mine"
        session.get(server.url)
        assert [r.header("Authorization") for r in server.requests] == ["Token mine"] * 3
        session.get(server.url, auth=("a", "b"))
        del session.headers["Authorization"]
        session.auth = ("a", "b")
        session.get(server.url)
        assert [r.header("Authorization") for r in server.requests[3:]] == [basic("a", "b")] * 2


def test_netrc_goes_to_its_own_host_only(netrc):
    netrc("first", host="other.invalid")
    with Session() as session, serve(echo) as server:
        session.get(server.url)
        session.get(server.url.replace("127.0.0.1", "localhost"))
        # CVE-2024-47081: a host that only looks like the other one
        attempt(lambda: session.get(server.url.replace("http://", "http://other.invalid:@") + "/"))
        assert [r.header("Authorization") for r in server.requests[:2]] == [None, None]
        assert basic("first", "secret") not in [r.header("Authorization") for r in server.requests]


def test_the_ca_bundle_of_the_environment_counts_and_is_read_again_when_told_to(monkeypatch, certificates):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca)
    with serve(echo, tls=certificates.server_context()) as server, Session() as session:
        assert [session.get(server.url).status_code for _ in range(2)] == [200, 200]
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.other_ca)
        assert session.get(server.url).status_code == 200
        session.refresh_env()
        with pytest.raises(requests.exceptions.SSLError):
            session.get(server.url)
        with pytest.raises(requests.exceptions.SSLError), Session() as other:
            other.get(server.url)


# -- redirects to another place ------------------------------------------------------------------------------------


def elsewhere(url):
    """The same server, by another name."""
    return url.replace("127.0.0.1", "localhost")


SECRETS = {
    "header": {"headers": {"Authorization": "Bearer secret"}},
    "auth": {"auth": ("user", "secret")},
    "lower case": {"headers": {"authorization": "Bearer secret"}},
}


@pytest.mark.parametrize("how", SECRETS)
@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
)
def test_a_redirect_to_another_host_carries_no_credentials(session, how, status):
    with serve(echo) as target, serve(redirects(elsewhere(target.url) + "/new", status)) as origin:
        for method in ("GET", "POST"):
            for _ in range(2):
                response = session.request(method, origin.url, **SECRETS[how])
                assert response.history[0].status_code == int(status[:3])
                assert origin.requests[-1].header("Authorization")
                assert target.requests[-1].header("Authorization") is None
                assert b"secret" not in target.requests[-1].raw


def test_a_redirect_to_another_port_carries_no_credentials_of_session_headers(session):
    session.headers["Authorization"] = "Bearer secret"
    with serve(echo) as target, serve(redirects(f"{target.url}/new")) as origin:
        session.get(origin.url)
        session.get(origin.url)
        assert [r.header("Authorization") for r in target.requests] == [None, None]


def test_a_redirect_to_the_same_place_keeps_credentials(session):
    def script(peer):
        while (request := peer.read()) is not None:
            if request.target == "/old":
                peer.reply("302 Found", headers=[("Location", "/new")])
            else:
                peer.reply(body={})

    with serve(script) as server:
        for _ in range(2):
            session.get(f"{server.url}/old", headers={"Authorization": "Bearer mine"})
        assert [r.header("Authorization") for r in server.requests] == ["Bearer mine"] * 4


def test_a_redirect_from_https_to_http_carries_no_credentials(session, certificates):
    with serve(echo) as target, serve(redirects(f"{target.url}/new"), tls=certificates.server_context()) as origin:
        session.get(origin.url, verify=certificates.ca, auth=("user", "secret"))
        assert target.requests[0].header("Authorization") is None


def test_a_redirect_finds_the_netrc_of_where_it_leads(netrc):
    netrc("theirs", host="localhost")
    with Session() as session, serve(echo) as target, serve(redirects(elsewhere(target.url))) as origin:
        session.get(origin.url)
        session.get(origin.url, headers={"Authorization": "Bearer mine"})
        assert [r.header("Authorization") for r in target.requests] == [basic("theirs", "secret")] * 2
        assert [r.header("Authorization") for r in origin.requests] == [None, "Bearer mine"]


def test_cookies_go_back_to_their_own_host_only(session):
    with serve(answer(headers=[("Set-Cookie", "id=secret; Path=/")])) as server:
        session.get(server.url)
        session.get(server.url)
        session.get(elsewhere(server.url))
        assert [r.header("Cookie") for r in server.requests] == [None, "id=secret", None]


def test_a_base_url_is_no_host_for_absolute_urls():
    with serve(echo) as base, serve(echo) as other, Session(base_url=base.url) as session:
        assert session.get("/a").json()["target"] == "/a"
        assert session.get("b/c?d=1").json()["target"] == "/b/c?d=1"
        assert session.get(f"{other.url}/x").json()["target"] == "/x"
        assert (base.targets, other.targets) == (["/a", "/b/c?d=1"], ["/x"])


def test_the_environment_is_not_changed(monkeypatch, proxies):
    first, _ = proxies
    monkeypatch.setenv("http_proxy", first.url)
    monkeypatch.setenv("no_proxy", "x.invalid")
    before = dict(os.environ)
    with Session() as session:
        session.get(ELSEWHERE)
        session.get(ELSEWHERE, proxies={"no_proxy": "y.invalid"})
    assert dict(os.environ) == before
