"""What the session takes from its environment: once, and never over what was said explicitly."""

import os

import pytest
import requests

from hireliab.exchange import _http_environment, _tls, http_session
from hireliab.exchange.http_session import Session
from tests.support.http_fakes import Network, reply

HOME = "http://venue.test/"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def network(monkeypatch):
    network = Network(monkeypatch)
    network.scripts += [[reply() for _ in range(20)] for _ in range(20)]
    yield network
    network.close()


@pytest.fixture(params=["short", "long"])
def way(request, monkeypatch):
    if request.param == "long":
        monkeypatch.setattr(http_session, "attempt", lambda *_: None)


def settings(session, url=HOME, **given):
    given = {"proxies": None, "stream": None, "verify": None, "cert": None, **given}
    return session.merge_environment_settings(url, **given)


def test_the_environment_is_read_once_and_again_on_request(network, way, monkeypatch):
    with Session() as session:
        session.get(HOME)
        monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
        session.get(HOME)
        assert [host for host, *_ in network.asked] == [("venue.test", 80)]
        session.refresh_env()
        session.get(HOME)
    assert [host for (host, *_) in network.asked] == [("venue.test", 80), ("proxy.test", 3128)]
    assert network.sent[1][0].startswith(b"GET http://venue.test/ HTTP/1.1\r\n")


def test_a_session_that_does_not_trust_the_environment_leaves_it_alone(network, way, monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    (tmp_path / ".netrc").write_text("machine venue.test login u password p\n")
    with Session(trust_env=False) as session:
        session.get(HOME)
        session.get(HOME)
        assert settings(session)["proxies"] == {}
    assert [host for host, *_ in network.asked] == [("venue.test", 80)]
    assert all(b"Authorization" not in sent for sent in network.sent[0])


def test_hosts_in_no_proxy_are_asked_directly(network, way, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("no_proxy", "venue.test")
    with Session() as session:
        monkeypatch.setenv("no_proxy", "other.test")  # later, and therefore not seen
        session.get(HOME)
        session.get(HOME)
        session.get("http://other.test/")
    assert [host for host, *_ in network.asked] == [("venue.test", 80), ("proxy.test", 3128)]
    assert os.environ["no_proxy"] == "other.test"


def test_the_calls_proxies_go_before_the_environments(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    with Session() as session, requests.Session() as theirs:
        for given in ({"http": "http://mine.test"}, {"no_proxy": "venue.test"}, {"no_proxy": "x.test"}, {}):
            assert settings(session, proxies=dict(given)) == settings(theirs, proxies=dict(given))
        given = {}
        settings(session, proxies=given)
        assert given == {}  # requests fills it in


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_what_was_set_on_the_session_goes_before_the_environments_certificates(monkeypatch, name):
    monkeypatch.setenv(name, "/env.pem")
    with Session() as session:
        assert settings(session)["verify"] == "/env.pem"
        assert settings(session, verify=True)["verify"] == "/env.pem"
        assert settings(session, verify="/call.pem")["verify"] == "/call.pem"
        session.verify = "/mine.pem"
        assert settings(session)["verify"] == "/mine.pem"
        session.verify = False
        assert settings(session)["verify"] is False


def test_the_certificates_are_read_again_on_request(monkeypatch):
    forgotten = []
    monkeypatch.setattr(_tls, "forget", lambda: forgotten.append(1))
    with Session() as session:
        session.refresh_env()
    assert forgotten


@pytest.fixture
def netrc(tmp_path):
    path = tmp_path / ".netrc"
    path.write_text("machine venue.test login u password p\n")
    path.chmod(0o600)
    return path


def test_netrc_fills_in_what_is_missing(network, way, netrc):
    with Session() as session:
        session.get(HOME)
        session.get(HOME)
        session.get("http://other.test/")
    assert all(b"Authorization: Basic dTpw\r\n" in sent for sent in network.sent[0])
    assert b"Authorization" not in network.sent[1][0]


def test_netrc_never_replaces_an_authorization(network, way, netrc):
    with Session() as session:
        session.get(HOME, headers={"authorization": "Token t"})
        session.get(HOME, auth=("a", "b"))
        session.headers["Authorization"] = "Token s"
        session.get(HOME)
        session.get(HOME)
    assert b"authorization: Token t\r\n" in network.sent[0][0]
    assert b"dTpw" not in b"".join(network.sent[0])
    assert b"Authorization: Token s\r\n" in network.sent[0][2]
    assert b"Authorization: Token s\r\n" in network.sent[0][3]


def test_netrc_does_not_replace_an_authorization_on_a_further_hop(monkeypatch, way, netrc):
    network = Network(monkeypatch)
    network.scripts.append([reply(status="302 Found", headers=[("Location", "/there")]), reply()])
    with Session() as session:
        session.get(HOME, headers={"Authorization": "Token t"})
    assert b"Authorization: Token t\r\n" in network.sent[0][1]
    network.close()


def test_netrc_is_looked_at_once_for_each_host(network, way, netrc, monkeypatch):
    looked = []
    original = _http_environment.get_netrc_auth
    monkeypatch.setattr(_http_environment, "get_netrc_auth", lambda url: looked.append(url) or original(url))
    with Session() as session:
        for _ in range(3):
            session.get(HOME)
    assert len(looked) == 1


def test_many_hosts_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    environment = _http_environment.Environment()
    for i in range(1000):
        environment.proxies(f"http://host-{i}.test/")
        environment.login(f"http://host-{i}.test/")
    assert len(environment._by_origin) <= 256
    assert len(environment._logins) <= 256
