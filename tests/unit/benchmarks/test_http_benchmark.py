"""The http benchmark: which urllib3 it accepts, what it calls done work, and when a goal is reached."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import socket
import threading

import pytest

from benchmarks import _http_clients as clients
from benchmarks import _http_python_server as python_server
from benchmarks import _http_report as report
from benchmarks import _http_server as server
from benchmarks import harness, http
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks._http_clients import ALL_PARTS, GUARDED, HTTPX, OURS, PRESET, REQUESTS, REQUESTS_ALONE, STDLIB, URLLIB3
from benchmarks._http_report import Added, Findings, Part
from benchmarks._http_server import Request
from benchmarks.harness import Spread

GET, POST, NEW = Part("GET", "http", "kept"), Part("POST", "https", "kept"), Part("GET", "https", "once")

# -- which urllib3 ------------------------------------------------------------------------------------------------


def installed(monkeypatch, **versions):
    def version(name):
        try:
            return versions[name.replace("-", "_")]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(vars(clients.urllib3), "__version__", "2.8.0")


def test_urllib3_itself_is_measured(monkeypatch):
    installed(monkeypatch, urllib3="2.8.0")
    assert clients.foreign_urllib3() == ""


@pytest.mark.parametrize("others", [{"niquests": "3.21"}, {"urllib3_future": "2.25.904"}])
def test_a_library_that_takes_the_place_of_urllib3_is_not(monkeypatch, others):
    installed(monkeypatch, urllib3="2.8.0", **others)
    assert "replaces urllib3" in clients.foreign_urllib3()


def test_neither_is_one_of_another_version_than_the_installed(monkeypatch):
    installed(monkeypatch, urllib3="2.2.0")
    assert clients.foreign_urllib3() == "urllib3 2.2.0 is installed, but 2.8.0 is imported"
    installed(monkeypatch)
    assert "not installed" in clients.foreign_urllib3()


def test_then_it_refuses_in_one_line_with_an_exit_code(monkeypatch, capsys):
    installed(monkeypatch, urllib3="2.8.0", niquests="3.21")
    assert main(["http", "--quick"]) == 1
    out, err = capsys.readouterr()
    why = "niquests 3.21 is installed and replaces urllib3; measure in an environment without it"
    assert f"\nhttp: NOT MEASURED: {why}\n" in out
    assert err == f"NOT COUNTED http: {why}\n"


# -- the environment ----------------------------------------------------------------------------------------------


def test_contestants_see_thirty_five_variables_without_proxies_and_the_old_ones_come_back(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    before = dict(os.environ)
    with pytest.raises(ValueError, match="in the block"), clients.environment(tmp_path):
        assert len(os.environ) == clients.VARIABLES == 35
        assert not [name for name in os.environ if "PROXY" in name.upper() or "BUNDLE" in name]
        raise ValueError("in the block")
    assert dict(os.environ) == before


# -- work that was not done ---------------------------------------------------------------------------------------


def seen(part, *, times, connections=1, length=None):
    length = (60 if part.method == "POST" else 0) if length is None else length
    return [Request(part.method, "/x", length, str(i % connections)) for i in range(times)]


def judged(part, requests, asked=10, wrong=()):
    others = [Request("GET", "/another", 0, "99")]
    return http.undone(http.Work("/x", asked, list(wrong)), part, requests + others)


def test_honest_work_is_done():
    assert judged(GET, seen(GET, times=10)) == ""
    assert judged(POST, seen(POST, times=10)) == ""
    assert judged(NEW, seen(NEW, times=10, connections=10)) == ""


@pytest.mark.parametrize(
    ("part", "requests", "why"),
    [
        (GET, seen(GET, times=9), "the server had 9 requests, not 10"),
        (GET, seen(GET, times=11), "the server had 11 requests, not 10"),
        (GET, seen(POST, times=10), "the server had 0 requests"),
        (POST, seen(POST, times=9) + seen(POST, times=1, length=0), "the bodies"),
        (GET, seen(GET, times=9) + seen(GET, times=1, length=5), "the bodies"),
        (GET, seen(GET, times=10, connections=2), "2 connections for 10 requests"),
        (NEW, seen(NEW, times=10, connections=9), "9 connections for 10 requests"),
    ],
)
def test_what_the_server_did_not_see_does_not_count(part, requests, why):
    assert why in judged(part, requests)


def test_a_wrong_answer_does_not_count():
    assert judged(GET, seen(GET, times=10), wrong=[{"status": "failed"}]) == (
        "1 wrong answers, such as {'status': 'failed'}"
    )


def test_answers_are_looked_at_in_every_call_of_a_round():
    answers = iter([server.ANSWER, {"status": "failed"}, server.ANSWER])
    client = clients.Client(name="a", get=lambda url: next(answers), post=lambda url: None, close=lambda: None)
    work = http.Work("/x")
    sample = http._contestant(client, GET, "http://host/x", work, 3).run(0)
    assert (sample.operations, len(sample.latencies_ns), work.asked) == (3, 3, 3)
    assert work.wrong == [{"status": "failed"}]


def test_a_round_counts_as_its_median_call_so_that_interruptions_favour_nobody():
    sample = harness.Sample(operations=5, elapsed_ns=9_000, latencies_ns=(100, 110, 120, 8_000, 90), extra={})
    assert http.typical(sample).elapsed_ns == 5 * 110
    assert http.typical(sample).latencies_ns == sample.latencies_ns


def test_the_price_of_the_guard_is_not_taken_from_wrong_answers():
    with pytest.raises(AssertionError, match="wrong answers"):
        http._difference(lambda url: server.ANSWER, lambda url: None, "http://host/x", 1)
    assert http._difference(lambda url: server.ANSWER, lambda url: server.ANSWER, "http://host/x", 5) < 1000


def test_the_servers_log_is_read():
    (get, post) = server.read_log("GET /kept/http-0 - 12\nPOST /kept/http-1 98 13\n")
    assert get == Request("GET", "/kept/http-0", 0, "12")
    assert post == Request("POST", "/kept/http-1", 98, "13")


# -- the server that stands in for nginx --------------------------------------------------------------------------


@contextlib.contextmanager
def talking():
    python_server.SEEN.clear()
    client, peer = socket.socketpair()
    thread = threading.Thread(target=python_server.serve, args=(peer,), daemon=True)
    thread.start()
    client.settimeout(5.0)
    with client, peer:
        yield client
        client.shutdown(socket.SHUT_WR)
        thread.join(5.0)
        assert not thread.is_alive()


def received(client):
    data = b""
    while not data.endswith(server.BODY):
        data += client.recv(65536)
    return data


def test_an_answer_has_nine_headers_and_41_bytes():
    head, _, body = python_server.answer("keep-alive").partition(b"\r\n\r\n")
    assert len(head.split(b"\r\n")) == 1 + 9
    assert len(body) == 41
    assert json.loads(body) == server.ANSWER


def test_it_answers_requests_that_come_in_pieces_or_together_and_writes_them_down():
    with talking() as client:
        client.sendall(b"POST /kept/a HTTP/1.1\r\nContent-")
        client.sendall(b"Length: 4\r\n\r\nab")
        client.sendall(b"cdGET /kept/b HTTP/1.1\r\n\r\n")
        received(client)
    (first, second) = server.read_log("".join(python_server.SEEN))
    assert (first.method, first.path, first.length) == ("POST", "/kept/a", 4)
    assert (second.method, second.path, second.length) == ("GET", "/kept/b", 0)
    assert first.connection == second.connection


def test_it_ends_the_connection_where_it_says_so():
    with talking() as client:
        client.sendall(b"GET /once/a HTTP/1.1\r\n\r\nGET /once/a HTTP/1.1\r\n\r\n")
        assert b"Connection: close" in received(client)
    assert len(python_server.SEEN) == 1


# -- contestants --------------------------------------------------------------------------------------------------


def test_everybody_takes_part_and_requests_is_the_first(tmp_path):
    server.make_certificates(tmp_path)
    opened = clients.open_all("https://127.0.0.1:1", tmp_path / "authorities.pem")
    for client in opened.values():
        client.close()
    assert next(iter(opened)) == REQUESTS
    assert {REQUESTS_ALONE, OURS, GUARDED, URLLIB3, STDLIB} <= set(opened)


# -- goals --------------------------------------------------------------------------------------------------------


def result(name, rate, problem=""):
    return harness.Result(
        name=name, rounds=21, operations=4200, rate=Spread(median=rate, low=rate * 0.9, high=rate * 1.1), mean=1.0, p50=0.9,
        p95=0.9, p99=1.0, extra={}, checked=not problem, problem=problem,
    )  # fmt: skip


def figures(**changes):
    rates = {REQUESTS: 1000, OURS: 3500, HTTPX: 1700, URLLIB3: 3300, STDLIB: 9000} | changes
    return [result(name, rate) for name, rate in rates.items()]


def added(microseconds, scheme, guard=PRESET):
    spread = Spread(median=microseconds, low=12.0, high=19.0)
    return Added(guard=guard, scheme=scheme, microseconds=spread, pairs=8400)


def findings(**changes):
    found = Findings(
        server="nginx/1.22.1",
        versions={"requests": "2.34.2", "urllib3": "2.8.0", "httpx": "0.28.1"},
        load="load of the machine: 0.4 before, 1.1 after, on 2 cores",
        results={part: figures() for part in http.PARTS},
        added=[added(14.0, "http"), added(15.0, "https")],
    )
    return dataclasses.replace(found, **changes)


def missed(found):
    return [goal.what for goal in report.goals(found) if goal.reached is not True]


def test_goals_that_are_reached():
    assert len(report.goals(findings())) == 11
    assert missed(findings()) == []


@pytest.mark.parametrize(
    ("part", "rates", "which"),
    [
        (GET, {OURS: 3400, REQUESTS: 1710}, REQUESTS),
        (GET, {HTTPX: 3499}, HTTPX),
        (GET, {URLLIB3: 3600}, URLLIB3),
        (POST, {REQUESTS: 2000}, REQUESTS),
        (NEW, {REQUESTS: 1200}, REQUESTS),
    ],
)
def test_a_goal_that_is_just_missed_is_missed(part, rates, which):
    found = findings(results={one: figures(**(rates if one == part else {})) for one in http.PARTS})
    assert missed(found) == [f"{part.name}: against {which}"]


def test_a_guard_that_costs_too_much_misses_its_goal():
    found = findings(added=[added(15.1, "http"), added(15.0, "https")])
    assert missed(found) == ["pool and the preset for reads add to a GET, http"]


def test_a_guard_of_every_part_has_no_goal_but_is_told_where_hireliab_loses():
    found = findings(added=[added(14.0, "http"), added(17.8, "http", ALL_PARTS)])
    assert missed(found) == []
    assert f"  pool and {ALL_PARTS} add to a GET, http: 17.8 us, more than 15" in list(report.losses(found))


def test_figures_that_do_not_count_reach_no_goal_and_are_named():
    lazy = [result(OURS, 9999, "the server had 0 requests, not 10") if one.name == OURS else one for one in figures()]
    found = findings(results={**findings().results, GET: lazy})
    assert missed(found) == [f"{GET.name}: against {name}" for name in (REQUESTS, HTTPX, URLLIB3)]
    assert found.problems() == (f"{GET.name}, {OURS}: the server had 0 requests, not 10",)
    assert f"{OURS} NOT COUNTED" in "\n".join(report.lines(found))


def test_the_report_has_the_ratios_first_says_where_it_loses_and_fits():
    lines = list(report.lines(findings()))
    assert max(map(len, lines)) <= harness.WIDTH
    assert lines[2:4] == [
        "GET http, kept connection, hireliab against requests:",
        "  3.50x (our worst round against their best: 2.86x)",
    ]
    text = "\n".join(lines)
    assert text.index("3.50x") < text.index("Goals") < text.index("p50 us")
    assert f"{STDLIB}, GET http, kept connection: 2.57 x" in text


def test_what_is_missing_is_said():
    bare = [one for one in figures() if one.name not in (OURS, HTTPX)]
    versions = {"requests": "2.34.2", "urllib3": "2.8.0"}
    found = findings(results=dict.fromkeys(http.PARTS, bare), added=[], versions=versions)
    text = "\n".join(report.lines(found))
    assert "hireliab was not measured." in text
    assert "NOT COMPARED, not installed: httpx" in text
    assert len(missed(found)) == 9


def test_the_figures_are_json():
    data = json.loads(json.dumps(report.plain(findings())))
    assert data["goals"][0]["reached"] is True
    assert data["parts"][0]["results"][1]["name"] == OURS


def test_it_is_known_to_the_command_line():
    assert callable(BENCHMARKS["http"])
