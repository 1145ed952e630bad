"""
Tools that replace parts of requests, urllib3 or http.client, really active: each must see every call.

They come with the extra test-compat; HIRELIAB_REQUIRE_COMPAT=1 makes a missing one a failure.
"""

import http.client
import json
import logging

import pytest
import requests
import urllib3

from hireliab.errors import ConnectError
from hireliab.exchange.http_session import Session
from tests.support.http_servers import echo, serve
from tests.support.http_sessions import URLLIB3_FUTURE

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def server():
    with serve(echo) as server:
        yield server


@pytest.fixture
def warm(session, server):
    """A session that has gone the short way before the tool comes."""
    for _ in range(3):
        session.get(server.url)
        session.post(server.url, json={})
    assert quick(session.get(server.url))
    server.requests.clear()
    return session


def quick(response):
    """Whether it came the short way, which the tests would otherwise not be about."""
    return URLLIB3_FUTURE or "_made" in vars(response)


def calls(session, url):
    """The calls that the session speeds up."""
    return [
        session.get(url),
        session.get(url, params={"a": "1"}),
        session.post(url, json={"b": 2}),
        session.request("GET", url),
    ]


def still_quick(session, server):
    """After the tool has gone, the server is asked again."""
    server.requests.clear()
    session.get(server.url)
    answers = calls(session, server.url)
    assert [r.status_code for r in answers] == [200] * 4
    assert all(map(quick, answers))
    assert len(server.requests) == 5


# -- responses -----------------------------------------------------------------------------------------------------------


def test_responses_answers_instead_of_the_server(warm, server):
    responses = pytest.importorskip("responses")
    with responses.RequestsMock() as mock:
        mock.add("GET", server.url, json={"from": "responses"}, status=202, headers={"X": "1"})
        mock.add("POST", server.url, json={"from": "responses"})
        answers = calls(warm, server.url)
        assert [a.json() for a in answers] == [{"from": "responses"}] * 4
        assert answers[0].status_code == 202 and answers[0].headers["X"] == "1"
        assert [c.request.method for c in mock.calls] == ["GET", "GET", "POST", "GET"]
        assert json.loads(mock.calls[2].request.body) == {"b": 2}
        with pytest.raises(requests.ConnectionError):
            warm.get(f"{server.url}/unknown")
    assert server.requests == []
    still_quick(warm, server)


def test_responses_errors_come_through(warm, server):
    responses = pytest.importorskip("responses")
    with responses.RequestsMock() as mock:
        mock.add("GET", server.url, body=requests.ReadTimeout("mocked"))
        mock.add("POST", server.url, body=ValueError("mocked"))
        with pytest.raises(requests.ReadTimeout, match="mocked"):
            warm.get(server.url)
        with pytest.raises(ValueError, match="mocked"):
            warm.post(server.url, json={})
    assert server.requests == []


def test_a_session_made_while_responses_is_active_is_answered_too():
    responses = pytest.importorskip("responses")
    with responses.RequestsMock() as mock, Session(base_url="https://exchange.invalid") as session:
        mock.add("GET", "https://exchange.invalid/time", json={"t": 2**70})
        assert [session.get("/time").json() for _ in range(2)] == [{"t": 2**70}] * 2


# -- requests-mock ---------------------------------------------------------------------------------------------------------


def test_requests_mock_answers_instead_of_the_server(warm, server):
    requests_mock = pytest.importorskip("requests_mock")
    with requests_mock.Mocker() as mock:
        mock.get(server.url, json={"from": "mock"})
        mock.post(server.url, json={"from": "mock"})
        assert [a.json() for a in calls(warm, server.url)] == [{"from": "mock"}] * 4
        assert [r.method for r in mock.request_history] == ["GET", "GET", "POST", "GET"]
        assert mock.request_history[1].qs == {"a": ["1"]}
        with pytest.raises(requests_mock.NoMockAddress):
            warm.get(f"{server.url}/unknown")
    assert server.requests == []
    still_quick(warm, server)


def test_requests_mock_of_one_session_answers_that_one_only(warm, server):
    requests_mock = pytest.importorskip("requests_mock")
    with requests_mock.Mocker(session=warm) as mock, Session() as other:
        mock.register_uri(requests_mock.ANY, server.url, json={"from": "mock"})
        assert [a.json() for a in calls(warm, server.url)] == [{"from": "mock"}] * 4
        assert other.get(server.url).json()["target"] == "/"
    still_quick(warm, server)


def test_an_adapter_of_requests_mock_is_used_where_it_is_mounted(warm, server):
    requests_mock = pytest.importorskip("requests_mock")
    adapter = requests_mock.Adapter()
    adapter.register_uri(requests_mock.ANY, f"{server.url}/mocked", text="mocked")
    warm.mount(f"{server.url}/mocked", adapter)
    assert [a.text for a in calls(warm, f"{server.url}/mocked")] == ["mocked"] * 4
    assert adapter.call_count == 4
    still_quick(warm, server)


# -- vcrpy -----------------------------------------------------------------------------------------------------------------


# Its connections replace those that lie idle, which the collector then closes.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_vcr_records_and_replays(warm, server, tmp_path):
    vcr = pytest.importorskip("vcr")
    cassette = str(tmp_path / "cassette.yaml")
    with vcr.use_cassette(cassette, record_mode="once") as tape:
        recorded = [a.json() for a in calls(warm, server.url)]
        assert len(tape) == 4
    assert [r.method for r in server.requests] == ["GET", "GET", "POST", "GET"]
    server.requests.clear()
    with vcr.use_cassette(cassette, record_mode="none") as tape:
        assert [a.json() for a in calls(warm, server.url)] == recorded
        assert tape.play_count == 4
        with Session() as fresh, pytest.raises(Exception, match="cassette|recorded"):
            fresh.get(f"{server.url}/unknown")
    assert server.requests == []
    still_quick(warm, server)


# -- OpenTelemetry -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def spans():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    exporter.provider = provider
    yield exporter
    provider.shutdown()


def urls(spans):
    return [span.attributes.get("http.url") or span.attributes.get("url.full") for span in spans.get_finished_spans()]


def test_opentelemetry_for_requests_sees_each_call_and_adds_its_header(warm, server, spans):
    pytest.importorskip("opentelemetry.instrumentation.requests")
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider)
    try:
        calls(warm, server.url)
    finally:
        instrumentor.uninstrument()
    assert len(urls(spans)) == 4
    assert all(r.header("traceparent") for r in server.requests)
    assert len({r.header("traceparent") for r in server.requests}) == 4
    spans.clear()
    still_quick(warm, server)
    assert urls(spans) == []
    assert all(r.header("traceparent") is None for r in server.requests)


def test_opentelemetry_for_urllib3_sees_each_call_and_adds_its_header(warm, server, spans):
    pytest.importorskip("opentelemetry.instrumentation.urllib3")
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

    instrumentor = URLLib3Instrumentor()
    instrumentor.instrument(tracer_provider=spans.provider)
    try:
        calls(warm, server.url)
    finally:
        instrumentor.uninstrument()
    assert len(urls(spans)) == 4
    assert all(r.header("traceparent") for r in server.requests)
    spans.clear()
    still_quick(warm, server)
    assert urls(spans) == []


def test_opentelemetry_records_an_error(warm, spans):
    pytest.importorskip("opentelemetry.instrumentation.requests")
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider)
    try:
        with pytest.raises(ConnectError):
            warm.get("http://127.0.0.1:1/")
    finally:
        instrumentor.uninstrument()
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
    assert span.attributes["error.type"] if "error.type" in span.attributes else span.events


# -- Sentry --------------------------------------------------------------------------------------------------------------------


def test_sentry_sees_each_call(warm, server, monkeypatch):
    sentry_sdk = pytest.importorskip("sentry_sdk")
    for name in ("putrequest", "getresponse"):  # which it patches for good; the other tests want them back
        monkeypatch.setattr(http.client.HTTPConnection, name, getattr(http.client.HTTPConnection, name))
    sent = []

    class Transport(sentry_sdk.transport.Transport):
        def capture_envelope(self, envelope):
            sent.append(envelope)

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1", transport=Transport, traces_sample_rate=1.0, auto_enabling_integrations=False,
        trace_propagation_targets=[".*"], max_breadcrumbs=100,
    )  # fmt: skip
    try:
        with sentry_sdk.start_transaction(name="test", op="test"):
            calls(warm, server.url)
            sentry_sdk.capture_message("look")
        sentry_sdk.flush()
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.init()
    items = [item.payload.json for envelope in sent for item in envelope.items]
    (message,) = [item for item in items if item.get("message") == "look" or item.get("logentry")]
    crumbs = [c for c in message["breadcrumbs"]["values"] if c["type"] == "http"]
    assert [c["data"]["http.method"] if "http.method" in c["data"] else c["data"]["method"] for c in crumbs] == [
        "GET",
        "GET",
        "POST",
        "GET",
    ]
    (transaction,) = [item for item in items if item.get("type") == "transaction"]
    assert len([s for s in transaction["spans"] if s["op"] == "http.client"]) == 4
    assert all(r.header("sentry-trace") for r in server.requests)


# -- without any tool ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "requests.Session.send", "requests.Session.request", "requests.Session.get_adapter", "requests.Session.prepare_request",
        "requests.adapters.HTTPAdapter.send", "requests.adapters.HTTPAdapter.build_response",
        "urllib3.connectionpool.HTTPConnectionPool.urlopen", "urllib3.connection.HTTPConnection.request",
        "urllib3.connection.HTTPConnection.getresponse", "http.client.HTTPConnection.putrequest",
        "http.client.HTTPConnection.endheaders", "http.client.HTTPConnection.getresponse", "http.client.HTTPResponse.begin",
    ],
)  # fmt: skip
def test_whoever_wraps_a_part_is_called_each_time(warm, server, monkeypatch, place):
    """Before, while and after: the short way is left, and found again."""
    if URLLIB3_FUTURE and place.startswith("http.client"):
        pytest.skip("urllib3.future does not use http.client")
    owner_path, _, name = place.rpartition(".")
    owner = {"requests": requests, "urllib3": urllib3, "http": http}[owner_path.partition(".")[0]]
    for part in owner_path.split(".")[1:]:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    heard = []

    def wrapper(*args, **kwargs):
        heard.append(name)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrapper)
        calls(warm, server.url)
        assert len(heard) >= 4, f"{place} was bypassed"
    heard.clear()
    still_quick(warm, server)
    assert heard == []


@pytest.mark.parametrize("name", ["send", "get_adapter", "prepare_request", "request"])
def test_a_subclass_that_overrides_a_part_is_asked_each_time(server, name):
    heard = []

    def override(self, *args, **kwargs):
        heard.append(name)
        return getattr(Session, name)(self, *args, **kwargs)

    with type("Mine", (Session,), {name: override})() as session:
        for _ in range(2):
            heard.clear()
            calls(session, server.url)
            assert len(heard) == 4


def test_a_part_replaced_on_the_session_itself_is_asked_each_time(warm, server):
    heard = []
    original = warm.send
    warm.send = lambda request, **kwargs: heard.append(request.method) or original(request, **kwargs)
    calls(warm, server.url)
    assert heard == ["GET", "GET", "POST", "GET"]
    del warm.send
    still_quick(warm, server)


def test_an_adapter_of_the_users_is_used(warm, server):
    heard = []

    class Mine(requests.adapters.HTTPAdapter):
        def send(self, request, *args, **kwargs):
            heard.append(request.method)
            return super().send(request, *args, **kwargs)

    warm.mount("http://", Mine())
    calls(warm, server.url)
    assert heard == ["GET", "GET", "POST", "GET"]


def test_urllib3s_debug_lines_are_written_in_both_ways(warm, server, caplog):
    with caplog.at_level(logging.DEBUG, logger="urllib3.connectionpool"):
        calls(warm, server.url)
    lines = [r.getMessage() for r in caplog.records if "HTTP/1.1" in r.getMessage()]
    assert len(lines) == 4
    assert '"GET /?a=1 HTTP/1.1" 200' in lines[1]
