"""HTTP on loopback: a kept connection and a new one, GET and POST with JSON; Session beside other clients."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import _http_clients, harness
from benchmarks._http_clients import ALL_PARTS, PRESET, Client, guarded, guarded_by_all, ours
from benchmarks._http_report import Added, Findings, Part, lines, plain
from benchmarks._http_server import ANSWER, Request, Server, find_nginx, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is done: rounds, calls in each over a kept connection, and over new ones."""

    rounds: int
    calls: int
    new: int
    pairs: int


FULL = Plan(rounds=21, calls=200, new=20, pairs=400)
QUICK = Plan(rounds=1, calls=20, new=3, pairs=20)
PARTS = (
    Part("GET", "http", "kept"),
    Part("POST", "http", "kept"),
    Part("GET", "https", "kept"),
    Part("POST", "https", "kept"),
    Part("GET", "https", "once"),
)


def run(quick: bool) -> harness.Report:
    """Everything; `quick` finds breakage only."""
    if problem := _http_clients.foreign_urllib3():
        return harness.Report(lines=(f"http: NOT MEASURED: {problem}",), data={}, problems=(problem,))
    harness.quiet("hireliab")
    found = find(QUICK if quick else FULL, find_nginx())
    return harness.Report(lines=tuple(lines(found)), data=plain(found), problems=found.problems())


@dataclass(slots=True)
class Work:
    """What a contestant was asked for in one part: how often, and what it said that is not the answer."""

    path: str
    asked: int = 0
    wrong: list[Any] = field(default_factory=list)


def find(plan: Plan, nginx: str | None) -> Findings:
    """Measure everything, against nginx where its path is given."""
    before = harness.load()
    with tempfile.TemporaryDirectory(prefix="hireliab-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        home = folder / "home"
        home.mkdir()
        with serving(folder, nginx) as server, contextlib.ExitStack() as stack:
            stack.enter_context(_http_clients.environment(home))
            works: dict[tuple[Part, str], Work] = {}
            taken = {part: _part(part, server, plan, works) for part in PARTS}
            added = _added(server, plan)
            seen = server.stop()
    results = {
        part: [
            _result(contestant, samples, undone(works[part, contestant.name], part, seen))
            for contestant, samples in pairs
        ]
        for part, pairs in taken.items()
    }
    return Findings(
        server=server.name,
        versions=_http_clients.versions(),
        load=harness.load_line(before, harness.load()),
        results=results,
        added=added,
    )


def _result(contestant: harness.Contestant, samples: Sequence[harness.Sample], problem: str) -> harness.Result:
    judged = dataclasses.replace(contestant, check=lambda: problem)
    return harness.summarise(judged, [typical(sample) for sample in samples])


def typical(sample: harness.Sample) -> harness.Sample:
    """
    The same round, if each call had taken as long as its median call.

    Where other programs run, a slow client is interrupted more often than a fast one, and a sum would say so in our favour.
    """
    return dataclasses.replace(sample, elapsed_ns=round(statistics.median(sample.latencies_ns) * sample.operations))


def _part(
    part: Part, server: Server, plan: Plan, works: dict[tuple[Part, str], Work]
) -> list[tuple[harness.Contestant, list[harness.Sample]]]:
    clients = _http_clients.open_all(server.urls[part.scheme], server.authorities)
    harness.progress(f"http: {part.name}: {plan.rounds} rounds of {len(clients)} clients, and one to warm up")
    contestants = []
    for number, (name, client) in enumerate(clients.items()):
        work = works[part, name] = Work(f"/{part.folder}/{part.scheme}-{number}")
        calls = plan.calls if part.folder == "kept" else plan.new
        contestants.append(_contestant(client, part, server.urls[part.scheme] + work.path, work, calls))
    samples = harness.interleave(contestants, rounds=plan.rounds)
    for client in clients.values():
        client.close()
    return list(zip(contestants, samples, strict=True))


def _contestant(client: Client, part: Part, url: str, work: Work, calls: int) -> harness.Contestant:
    call = client.get if part.method == "GET" else client.post

    def one_round(_number: int) -> harness.Sample:
        now = time.perf_counter_ns
        latencies = []
        began = now()
        for _ in range(calls):
            start = now()
            told = call(url)
            latencies.append(now() - start)
            if told != ANSWER:
                work.wrong.append(told)
        elapsed = now() - began
        work.asked += calls
        return harness.Sample(operations=calls, elapsed_ns=elapsed, latencies_ns=tuple(latencies), extra={})

    return harness.Contestant(name=client.name, run=one_round, check=lambda: "")


def undone(work: Work, part: Part, seen: Sequence[Request]) -> str:
    """
    Why a contestant did not do what it was timed for, or "".

    Args:
        seen: All that the server had.
    """
    if work.wrong:
        return f"{len(work.wrong)} wrong answers, such as {str(work.wrong[0])[:60]}"
    mine = [one for one in seen if one.path == work.path and one.method == part.method]
    if len(mine) != work.asked:
        return f"the server had {len(mine)} requests, not {work.asked}"
    if any((one.length > 0) != (part.method == "POST") for one in mine):
        return "the bodies of its requests are not what they should be"
    connections = len({one.connection for one in mine})
    most, least = (1, 1) if part.folder == "kept" else (work.asked, work.asked)
    if not least <= connections <= most:
        return f"{connections} connections for {work.asked} requests"
    return ""


def _added(server: Server, plan: Plan) -> list[Added]:
    """
    What pool and policy add to Session.get: bare and guarded calls take turns, one by one.

    A difference of some microseconds between calls of some hundred is lost among rounds of their own.
    """
    harness.progress("http: the price of pool and policy, call by call")
    found = []
    for guard, opener in ((PRESET, guarded), (ALL_PARTS, guarded_by_all)):
        for scheme, url in server.urls.items():
            bare, behind = ours(str(server.authorities)), opener(str(server.authorities))
            differences = [
                _difference(bare.get, behind.get, f"{url}/kept/added", plan.pairs) for _ in range(plan.rounds + 1)
            ]
            bare.close()
            behind.close()
            spread = harness.spread(differences[1:])
            found.append(Added(guard=guard, scheme=scheme, microseconds=spread, pairs=plan.pairs * plan.rounds))
    return found


def _difference(bare: Callable[[str], Any], behind: Callable[[str], Any], url: str, pairs: int) -> float:
    """Microseconds between the medians."""
    now = time.perf_counter_ns
    plain_ns, guarded_ns = [], []
    for _ in range(pairs):
        start = now()
        one = bare(url)
        between = now()
        other = behind(url)
        end = now()
        plain_ns.append(between - start)
        guarded_ns.append(end - between)
        if one != ANSWER or other != ANSWER:
            raise AssertionError(f"wrong answers: {one}, {other}")
    return (statistics.median(guarded_ns) - statistics.median(plain_ns)) / 1000
