"""Metrics over HTTP: a whole bot on the simulator, read by prometheus_client's own parser; and clients that misbehave."""

import contextlib
import errno
import math
import os
import socket
import threading
import urllib.error
import urllib.request

import pytest

from hireliab import (
    AlertSystem,
    CircuitBreaker,
    EnhancedNobitexAdapter,
    InMemoryMessageBus,
    TransactionVerificationPipeline,
)
from hireliab.errors import ConfigError
from hireliab.monitoring import _metrics_exporter
from hireliab.monitoring.alert_channels import Ok
from hireliab.monitoring.metrics import Metrics
from hireliab.simulator.server import Simulator
from tests.support.together import Background, in_child, together, until

prometheus_client = pytest.importorskip("prometheus_client")
SECRET = "0123456789abcdef0123456789abcdef01234567"


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode("utf-8")


def scrape(url):
    """Every sample: value by name and labels. A name with the same labels twice is an error, as it is to Prometheus."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(get(url)):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found, name, /, **labels):
    return found[name, tuple(sorted(labels.items()))]


@contextlib.contextmanager
def bot(folder):
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(Simulator(seed=1, truth=folder / "truth.jsonl"))
        adapter = EnhancedNobitexAdapter(token=simulator.token, base_url=simulator.base_url)
        stack.enter_context(adapter)
        bus = stack.enter_context(InMemoryMessageBus(name="events"))
        bus.subscribe("transaction.#", lambda _: None, group='of "quotes"\\ and more')
        alerts = stack.enter_context(AlertSystem({"channels": {"told": lambda _: Ok()}, "spool": False}))
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=adapter, message_bus=bus, alert_system=alerts, journal=folder / "journal"
        )
        stack.callback(pipeline.stop)
        yield pipeline, bus, alerts, simulator


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/", "/metric", "/favicon.ico"])
def test_another_path_is_not_found(path):
    with Metrics().serve(0) as exporter:
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            get(exporter.url.removesuffix("/metrics") + path)
        assert caught.value.read() == b"the metrics are at /metrics\n"
        assert scrape(f"{exporter.url}?name[]=hireliab_up") == {}


def test_a_whole_bot_is_scraped(tmp_path):
    with bot(tmp_path) as (pipeline, bus, alerts, simulator):
        metrics = Metrics(pipeline, bus, alerts)
        with metrics.serve(0) as exporter:
            before = scrape(exporter.url)
            assert value(before, "hireliab_up", kind="pipeline", name="default") == 0
            assert pipeline.state == "new"  # looking starts nothing
            for n in range(3):
                # Not of one amount: the venue refuses an order that equals another one of the last ten seconds.
                order = pipeline.create_transaction(type="market_buy", symbol="BTC/USDT", amount=f"0.00{n + 1}")
                assert pipeline.execute_transaction(order)
            until(lambda: bus.status().published == 3)
            found = scrape(exporter.url)
            assert simulator.token not in get(exporter.url)
    assert all(value_ == 1 for (name, _), value_ in found.items() if name == "hireliab_up")
    assert value(found, "hireliab_pipeline_transactions_total", name="default", verdict="COMPLETED") == 3
    assert value(found, "hireliab_pipeline_unresolved", name="default") == 0
    assert value(found, "hireliab_breaker_state", name="nobitex place", state="closed") == 1
    assert value(found, "hireliab_pool_acquired_total", name="nobitex") >= 6
    # The limits of orders are those of the simulator's books.
    used = [
        v
        for (name, labels), v in found.items()
        if name == "hireliab_limiter_window_used" and ("name", "nobitex orders/add") in labels
    ]
    assert used == [3]
    assert value(found, "hireliab_bus_messages_total", name="events", outcome="confirmed") == 3
    quoted = {"name": "events", "pattern": "transaction.#", "group": 'of "quotes"\\ and more'}
    assert value(found, "hireliab_bus_subscription_accepted_total", **quoted) == 3
    # Three were sent and answered, and each waited for the disk.
    for phase in ("prepare", "intent", "send", "verify", "total"):
        buckets = sorted(
            (float(dict(labels)["le"]), v)
            for (name, labels), v in found.items()
            if name == "hireliab_pipeline_phase_seconds_bucket" and ("phase", phase) in labels
        )
        assert [v for _, v in buckets] == sorted(v for _, v in buckets)
        assert buckets[-1] == (math.inf, 3)
        assert value(found, "hireliab_pipeline_phase_seconds_count", name="default", phase=phase) == 3
    sums = {
        p: value(found, "hireliab_pipeline_phase_seconds_sum", name="default", phase=p)
        for p in ("send", "verify", "total")
    }
    assert 0 < sums["send"] + sums["verify"] <= sums["total"]
    assert value(found, "hireliab_journal_commit_seconds_count", name="default") == value(
        found, "hireliab_journal_commits_total", name="default"
    )


def test_many_scrape_at_once_and_calls_go_on():
    breaker = CircuitBreaker(name="b", failure_threshold=3)
    metrics = Metrics(breaker)
    with metrics.serve(0) as exporter:

        def work(i):
            if i % 2:
                return [breaker.execute(lambda: 1) for _ in range(200)]
            return [value(scrape(exporter.url), "hireliab_breaker_trips_total", name="b") for _ in range(10)]

        results = together(6, work)
    assert results[0] == [0.0] * 10


def test_users_own_metrics_stand_beside_ours():
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("signals", "Signals.", registry=registry).inc()
    breaker = CircuitBreaker(name="b")
    metrics = Metrics(breaker)
    metrics.register(registry)
    with metrics.serve(0, registry=registry) as exporter:
        found = scrape(exporter.url)
    assert value(found, "signals_total") == 1
    assert value(found, "hireliab_up", kind="breaker", name="b") == 1


def test_openmetrics_is_spoken_to_those_who_ask():
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    breaker = CircuitBreaker(name='quoted "b"')
    metrics = Metrics(breaker)
    with metrics.serve(0) as exporter:
        request = urllib.request.Request(
            exporter.url, headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    (sample,) = families["hireliab_breaker_trips"].samples
    assert (sample.name, sample.labels, sample.value) == ("hireliab_breaker_trips_total", {"name": 'quoted "b"'}, 0)


def test_a_part_that_raises_does_not_fail_the_scrape():
    class Odd:
        preload = None
        name = "odd"

        def stats(self):
            raise OSError(f"token={SECRET}")

    odd = Odd()
    metrics = Metrics(odd)
    with metrics.serve(0) as exporter:
        assert value(scrape(exporter.url), "hireliab_up", kind="limiter", name="odd") == 0
        assert SECRET not in get(exporter.url)


# -- the server ---------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said():
    metrics = Metrics()
    with metrics.serve(0) as exporter, pytest.raises(ConfigError, match=f"127.0.0.1 port {exporter.port}"):
        metrics.serve(exporter.port)


@pytest.mark.parametrize("address", ["203.0.113.7", "no such host.invalid", "\udcff"])
def test_an_address_that_is_not_ours_is_said(address):
    with pytest.raises(ConfigError, match=r"listen|address"):
        Metrics().serve(0, address)


def test_stop_frees_the_port_and_can_be_called_again():
    metrics = Metrics()
    exporter = metrics.serve(0)
    assert "hireliab" not in get(exporter.url)
    exporter.stop()
    exporter.stop()
    with pytest.raises(OSError):
        get(exporter.url)
    with metrics.serve(exporter.port) as again:
        assert again.port == exporter.port


def test_a_client_that_says_nothing_holds_up_neither_the_others_nor_the_stop(monkeypatch):
    monkeypatch.setattr(_metrics_exporter._Handler, "timeout", 300.0)  # it is not that which helps here
    metrics = Metrics()
    silent = []
    with metrics.serve(0) as exporter:
        for _ in range(_metrics_exporter.MOST_REQUESTS - 1):
            silent.append(socket.create_connection(("127.0.0.1", exporter.port)))
        until(lambda: len(_requests(exporter)) == _metrics_exporter.MOST_REQUESTS - 1)
        get(exporter.url)
        until(lambda: len(_requests(exporter)) == _metrics_exporter.MOST_REQUESTS - 1)
        for _ in range(3):
            silent.append(socket.create_connection(("127.0.0.1", exporter.port)))
        until(lambda: len(_requests(exporter)) == _metrics_exporter.MOST_REQUESTS)
        silent[-1].settimeout(10)
        assert silent[-1].recv(1) == b""  # one too many is hung up on
    assert not _requests(exporter)
    for client in silent:
        client.close()


@pytest.mark.parametrize("pause", [0.01, 300.0])
def test_without_a_descriptor_it_rests_and_neither_a_client_nor_the_stop_waits_for_ever(monkeypatch, pause):
    tries = []
    accept = _metrics_exporter.WSGIServer.get_request

    def refuse(server):
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(server)

    monkeypatch.setattr(_metrics_exporter, "REFUSED_PAUSE", pause)
    monkeypatch.setattr(_metrics_exporter.WSGIServer, "get_request", refuse)
    with Metrics().serve(0) as exporter:
        if pause < 1:
            get(exporter.url)
            assert len(tries) == 3
        else:
            with socket.create_connection(("127.0.0.1", exporter.port), timeout=10):
                until(lambda: tries)
                get_thread = exporter._thread
                exporter.stop()
                assert not get_thread.is_alive()
                assert len(tries) == 1


def test_a_request_without_a_thread_gives_its_place_back(monkeypatch):
    start, refused = threading.Thread.start, []

    def refuse(thread):
        if thread.name.endswith("-request") and len(refused) <= _metrics_exporter.MOST_REQUESTS:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with Metrics().serve(0) as exporter:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        while len(refused) <= _metrics_exporter.MOST_REQUESTS:
            with pytest.raises(OSError):
                get(exporter.url)
        get(exporter.url)


def test_an_exporter_without_a_thread_frees_its_port(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with monkeypatch.context() as patch:
        patch.setattr(_metrics_exporter, "start_thread", _refuse)
        with pytest.raises(RuntimeError, match="new thread") as caught:
            Metrics().serve(port)
    Metrics().serve(port).stop()
    assert caught.value  # its traceback kept the exporter alive until here


def _refuse(*_, **__):
    raise RuntimeError("can't start new thread")


def test_a_signal_handler_may_stop_it_while_it_is_stopped():
    metrics = Metrics()
    with socket.socket() as silent, metrics.serve(0) as exporter:
        silent.connect(("127.0.0.1", exporter.port))
        until(lambda: _requests(exporter))

        class Reentrant(dict):
            stops = 0

            def copy(self):
                self.stops += 1
                if self.stops == 1:
                    exporter.stop()  # as from a signal handler
                    assert not _requests(exporter)
                return super().copy()

        exporter._server._open = requests = Reentrant(exporter._server._open)
        Background(exporter.stop).result()
        assert requests.stops == 2
    assert not _requests(exporter)


def test_a_stop_that_was_cut_short_is_finished_by_the_next(monkeypatch):
    exporter = Metrics().serve(0)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_metrics_exporter.socket.socket, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            exporter.stop()
    exporter.stop()
    assert not exporter._thread.is_alive()


def _requests(exporter):
    return [thread for thread in threading.enumerate() if thread.name == f"hireliab.metrics.{exporter.port}-request"]


@pytest.mark.parametrize("words", [b"", b"\x00\xff\n\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70000])
def test_nonsense_does_not_end_the_server(words, capfd):
    metrics = Metrics()
    with metrics.serve(0) as exporter:
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as client, contextlib.suppress(OSError):
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        get(exporter.url)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_hold_the_port():
    breaker = CircuitBreaker(name="b")
    metrics = Metrics(breaker)
    exporter = metrics.serve(0)

    def child():
        exporter.stop()  # harmless
        return (
            exporter._server.socket.fileno() == -1
            and metrics.snapshot().value("hireliab_breaker_trips_total", name="b") == 0
        )

    in_child(child)
    assert value(scrape(exporter.url), "hireliab_up", kind="breaker", name="b") == 1
    exporter.stop()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_it_listens_on_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with Metrics().serve(0, "::1") as exporter:
        assert exporter.url.startswith("http://[::1]:")
        get(exporter.url)
