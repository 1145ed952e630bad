"""The self-test of an installation: it passes as a user runs it, and each of its lines can fail."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from decimal import Decimal

import pytest
import requests

from hireliab import NotSentError
from hireliab import _self_test_core as core
from hireliab import _self_test_exchange as exchange
from hireliab import _self_test_messaging as messaging
from hireliab import _self_test_monitoring as monitoring
from hireliab import _self_test_stage as stages
from hireliab import test_high_reliability as self_test
from hireliab._self_test_run import FAILED, OK, SKIPPED, Check, Skipped, run_checks
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.rate_limiter import RateLimiter
from hireliab.examples._demo_venue import Venue
from hireliab.exchange._pool_lease import Lease
from hireliab.exchange.adapter import Unavailable
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.exchange.nobitex_client import NobitexClient
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.message_bus import InMemoryMessageBus
from hireliab.monitoring import _health_rules, _redaction
from hireliab.monitoring._alert_settings import AlertConfig
from hireliab.monitoring._metrics_prometheus import Bridge
from hireliab.monitoring.alert_channels import Ok
from hireliab.monitoring.apprise_channel import AppriseChannel
from hireliab.monitoring.metrics import Metrics
from tests.support.together import is_running

COMMAND = [sys.executable, "-m", "hireliab.test_high_reliability"]
PARTS = {check.part: check for check in self_test.CHECKS}


# -- as a user runs it ------------------------------------------------------------------------------------------------


def environment(tmp_path):
    # A proxy that cannot be reached: whoever asks it has left loopback.
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://192.0.2.1:9")
    kept = {n: v for n, v in os.environ.items() if n.lower() != "no_proxy" and not n.startswith(("HIRELIAB_", "XDG_"))}
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir(exist_ok=True)
    home, tmp = str(tmp_path / "home"), str(tmp_path / "tmp")
    ours = {"HOME": home, "USERPROFILE": home, "TMPDIR": tmp, "TEMP": tmp, "PYTHONDONTWRITEBYTECODE": "1"}
    if "HIRELIAB_AMQP_URL" in os.environ:
        ours["HIRELIAB_AMQP_URL"] = os.environ["HIRELIAB_AMQP_URL"]
    return kept | proxies | ours


def run(tmp_path, *arguments, **more):
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(tmp_path) | more,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def left_in(tmp_path):
    return [path for name in ("home", "tmp") for path in (tmp_path / name).rglob("*")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("self-test")
    return run(tmp_path, "--json"), tmp_path


def test_every_part_works_in_this_installation(finished):
    done, _ = finished
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] is True
    assert [row["part"] for row in said["parts"]] == list(PARTS)
    # RabbitMQ is the only one that a machine may be without.
    assert {row["verdict"] for row in said["parts"] if row["part"] != "RabbitMQ"} == {OK}
    print(f"\nself-test: {said['seconds']} s")


def test_it_writes_nothing_else_and_leaves_neither_file_nor_process(finished):
    done, tmp_path = finished
    assert done.stderr == ""
    assert left_in(tmp_path) == []
    pids = [int(number) for number in re.findall(r"process (\d+)", done.stdout)]
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_a_broker_that_nobody_reaches_is_left_out_and_is_no_failure(monkeypatch):
    monkeypatch.setenv("HIRELIAB_AMQP_URL", f"amqp://guest:guest@127.0.0.1:{stages.closed_port()}/")
    (row,) = run_checks([PARTS["RabbitMQ"]], None)
    assert row.verdict == SKIPPED
    assert "not reachable at 127.0.0.1:" in row.text
    assert "guest" not in row.text


def test_pytest_finds_no_test_in_it():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", self_test.__file__],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 5, done.stdout  # pytest's code for: no tests were collected


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C of another process is POSIX here")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_one_cleans_up(tmp_path, number, code):
    folder = tmp_path / "tmp"
    with subprocess.Popen(
        COMMAND, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            truth = None
            while not truth:  # the simulator is up, and the checks run
                assert running.poll() is None, running.stderr.read()
                truth = next((path for path in folder.rglob("truth.jsonl") if path.stat().st_size), None)
            pid = json.loads(truth.read_text(encoding="utf-8").partition("\n")[0])["pid"]
            running.send_signal(number)
            _, errors = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == code, errors
    assert "Traceback" not in errors
    assert left_in(tmp_path) == []
    assert not is_running(pid)


# -- bad input --------------------------------------------------------------------------------------------------------


def test_an_unknown_option_is_one_line_with_the_near_miss(capsys):
    with pytest.raises(SystemExit) as ended:
        self_test.main(["--jsom"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "python -m hireliab.test_high_reliability: no option '--jsom'; did you mean '--json'? See"
        " 'python -m hireliab.test_high_reliability --help'\n"
    )


def test_no_folder_to_write_in_is_one_line(monkeypatch, capsys):
    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(self_test.tempfile, "TemporaryDirectory", refused)
    assert self_test.main([]) == 2
    assert capsys.readouterr().err == (
        "python -m hireliab.test_high_reliability: no folder for temporary files: Permission denied; set TMPDIR to one"
        " that can be written\n"
    )


def test_a_simulator_that_does_not_start_fails_the_parts_that_need_it_and_no_other(monkeypatch, capsys):
    class Dead(Venue):
        def __enter__(self):
            raise RuntimeError("simulator: ended at once with code 1")

    monkeypatch.setattr(self_test, "Venue", Dead)
    checks = [PARTS["simulator"], PARTS["bulkhead"], PARTS["verified order"]]
    assert self_test.main(["--json"], checks=checks) == 1
    rows = json.loads(capsys.readouterr().out)["parts"]
    assert [row["verdict"] for row in rows] == [FAILED, OK, FAILED]
    assert "simulator: ended at once with code 1" in rows[2]["text"]


# -- the runner -------------------------------------------------------------------------------------------------------


def returns(text):
    return lambda _: text


def fails(error):
    def work(_):
        raise error

    return work


def test_each_check_gets_its_row_whatever_becomes_of_the_others():
    checks = [
        Check(part="good", work=returns("it works")),
        Check(part="broken", work=fails(ValueError("two\nlines"))),
        Check(part="left out", work=fails(Skipped("nothing here"))),
        Check(part="ends its thread", work=fails(SystemExit(3))),
        Check(part="good again", work=returns("it works")),
    ]
    rows = run_checks(checks, None)
    assert [row.verdict for row in rows] == [OK, FAILED, SKIPPED, FAILED, OK]
    assert re.fullmatch(r"ValueError: two lines \(at test_self_test\.py:\d+\)", rows[1].text)


def test_a_check_that_hangs_has_failed_and_the_next_one_runs():
    leave = threading.Event()
    try:
        rows = run_checks(
            [Check(part="hangs", work=lambda _: leave.wait(30)), Check(part="good", work=returns("it works"))],
            None, limit=0.05,
        )  # fmt: skip
    finally:
        leave.set()
    assert [row.verdict for row in rows] == [FAILED, OK]
    assert "did not end within" in rows[0].text


def test_what_has_no_time_left_has_failed(clock):
    def slow(_):
        clock.advance(10)
        return "it works"

    rows = run_checks([Check(part="slow", work=slow), Check(part="late", work=slow)], None, clock=clock, total=10)
    assert [(row.verdict, row.seconds) for row in rows] == [(OK, 10), (FAILED, 0)]
    assert rows[1].text == "not begun: the 10 s are over"


@pytest.mark.parametrize(
    ("works", "code", "last"),
    [
        ([returns("a"), returns("b")], 0, "2 parts work; in "),
        ([returns("a"), fails(Skipped("b"))], 0, "1 parts work, 1 left out (1); in "),
        ([fails(ValueError("a")), returns("b")], 1, "1 of 2 parts FAILED: 0; in "),
        ([fails(ValueError("a")), fails(Skipped("b"))], 1, "1 of 2 parts FAILED: 0, 1 left out (1); in "),
    ],
)
def test_the_last_line_and_the_exit_code_say_what_the_rows_say(monkeypatch, capsys, works, code, last):
    monkeypatch.setattr(self_test, "Venue", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(stages.Stage, "calm", lambda _: None)
    checks = [Check(part=str(number), work=work) for number, work in enumerate(works)]
    assert self_test.main([], checks=checks) == code
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith(last)
    assert [line.split()[2] for line in out[2:4]] == [row.verdict for row in run_checks(checks, None)]


# -- every line can fail: a planted bug in the part, and what its line then says ----------------------------------------


@pytest.fixture(scope="module")
def venue(tmp_path_factory):
    with Venue(tmp_path_factory.mktemp("venue")) as running:
        # The same order comes again within the 10 s for which the venue would call it a duplicate.
        running.admin("/settings", duplicate_window=0)
        yield running


@pytest.fixture
def stage(venue, tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))
    made = stages.Stage(folder=tmp_path, venue=venue)
    yield made
    made.calm()


def with_other(monkeypatch, module, name, **settings):
    """The part, made with other settings than the check asks for."""
    part = getattr(module, name)
    monkeypatch.setattr(module, name, lambda **given: part(**(given | settings)))


def a_truth_file_without_requests(monkeypatch):
    monkeypatch.setattr(Venue, "records", lambda _: [])


def a_breaker_that_never_opens(monkeypatch):
    with_other(monkeypatch, core, "CircuitBreaker", mode="metrics_only")


def a_breaker_that_never_closes(monkeypatch):
    with_other(monkeypatch, core, "CircuitBreaker", reset_timeout=3600.0)


def a_retry_that_repeats_what_may_have_happened(monkeypatch):
    with_other(monkeypatch, core, "Retry", on=Exception, idempotent=True)


def a_retry_that_gives_up(monkeypatch):
    with_other(monkeypatch, core, "Retry", attempts=2)


def a_limiter_that_lets_all_through(monkeypatch):
    monkeypatch.setattr(RateLimiter, "acquire", lambda *_, **__: None)


def a_bulkhead_that_lets_all_in(monkeypatch):
    monkeypatch.setattr(Bulkhead, "execute", lambda _, func: func())


def a_policy_without_its_deadline(monkeypatch):
    with_other(monkeypatch, core, "Policy", deadline=None)
    fault = stages.Stage.fault
    monkeypatch.setattr(stages.Stage, "fault", lambda self, *what, seconds: fault(self, *what, seconds=seconds / 10))


def a_pool_that_keeps_what_broke(monkeypatch):
    monkeypatch.setattr(Lease, "__exit__", lambda self, *_: self.release())


def a_session_that_does_not_say_what_happened(monkeypatch):
    class Plain(requests.Session):
        def __init__(self, base_url):
            super().__init__()
            self.base_url = base_url

        def get(self, url, **settings):
            return super().get(url if "://" in url else self.base_url + url, **settings)

    monkeypatch.setattr(exchange, "Session", Plain)


def a_client_that_reads_nothing(monkeypatch):
    monkeypatch.setattr(NobitexClient, "get_balances", lambda _: {})


def a_client_that_lets_strangers_in(monkeypatch):
    monkeypatch.setattr(NobitexClient, "get_balances", lambda _: {"USDT": 1})


def an_adapter_whose_read_failed(monkeypatch):
    monkeypatch.setattr(EnhancedNobitexAdapter, "balances", lambda _: Unavailable(NotSentError("it is down")))


execute = TransactionVerificationPipeline.execute


def a_pipeline_that_reports_another_amount(monkeypatch):
    def wrong(self, transaction):
        return dataclasses.replace(execute(self, transaction), filled=Decimal("0.009"))

    monkeypatch.setattr(TransactionVerificationPipeline, "execute", wrong)


def a_pipeline_that_sends_again(monkeypatch):
    def twice(self, transaction):
        result = execute(self, transaction)
        order = transaction.record.order
        execute(self, self.create_transaction(type="market_sell", symbol=order.symbol, amount=order.amount))
        return result

    monkeypatch.setattr(TransactionVerificationPipeline, "execute", twice)


def a_function_without_its_journal(monkeypatch):
    monkeypatch.setattr(exchange, "verified_transaction", lambda *_, **__: lambda func: func)


def a_journal_that_forgets(monkeypatch):
    monkeypatch.setattr(SQLiteJournal, "unfinished", lambda _: [])


def a_bus_that_delivers_once(monkeypatch):
    with_other(monkeypatch, messaging, "InMemoryMessageBus", config={"retry_delays": []})


def an_outbox_that_loses_the_first_event(monkeypatch):
    pending = SQLiteJournal.pending_events
    monkeypatch.setattr(SQLiteJournal, "pending_events", lambda self, after, limit: pending(self, max(1, after), limit))


def an_inbox_that_remembers_nothing(monkeypatch):
    monkeypatch.setattr(Inbox, "once", lambda _, handler: handler)


def a_broker_that_delivers_nothing(monkeypatch):
    class Deaf(InMemoryMessageBus):
        def subscribe(self, _pattern, handler):
            return super().subscribe("another.topic", handler)

    monkeypatch.setattr(messaging, "_answers", lambda _: True)
    monkeypatch.setattr(messaging, "_swept", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(messaging, "open_message_bus", lambda *_, **__: Deaf())


def a_channel_that_sends_nothing(monkeypatch):
    monkeypatch.setattr(AppriseChannel, "__call__", lambda *_: Ok())


def a_system_without_a_spool(monkeypatch):
    monkeypatch.setattr(AlertConfig, "spool_folder", lambda _: None)


def alerts_that_show_passwords(monkeypatch):
    monkeypatch.setattr(_redaction.known_secrets, "mask", lambda text: text)
    monkeypatch.setattr(_redaction, "_may_hold_a_secret", lambda _: False)


def metrics_that_stand_still(monkeypatch):
    snapshot = Metrics.snapshot
    first = []

    def same(self):
        first.append(snapshot(self))
        return first[0]

    monkeypatch.setattr(Metrics, "snapshot", same)


def an_exporter_of_nothing(monkeypatch):
    monkeypatch.setattr(Bridge, "collect", lambda _: iter(()))


def a_monitor_that_sees_no_breaker(monkeypatch):
    monkeypatch.setitem(_health_rules.RULES, "breaker", lambda _: iter(()))


def a_breaker_that_stays_ill(monkeypatch):
    with_other(monkeypatch, monitoring, "CircuitBreaker", reset_timeout=3600.0)


def a_pipeline_that_executes_nothing(monkeypatch):
    monkeypatch.setattr(TransactionVerificationPipeline, "execute", lambda *_: None)


PLANTED = [
    ("simulator", a_truth_file_without_requests, "does not have the request"),
    ("circuit breaker", a_breaker_that_never_opens, "let 10 calls fail"),
    ("circuit breaker", a_breaker_that_never_closes, "let no probe through"),
    ("retry", a_retry_that_repeats_what_may_have_happened, "after 2 calls"),
    ("retry", a_retry_that_gives_up, "ConnectError"),
    ("rate limiter", a_limiter_that_lets_all_through, "got 16 permits, not 5"),
    ("bulkhead", a_bulkhead_that_lets_all_in, "not 2 and 2"),
    ("deadline, policy", a_policy_without_its_deadline, "and with a result"),
    ("connection pool", a_pool_that_keeps_what_broke, "was lent again"),
    ("session", a_session_that_does_not_say_what_happened, "a lost answer is a ConnectionError"),
    ("Nobitex client", a_client_that_reads_nothing, "no USDT"),
    ("Nobitex client", a_client_that_lets_strangers_in, "a stranger read the balances"),
    ("Nobitex adapter", an_adapter_whose_read_failed, "it is down"),
    ("verified order", a_pipeline_that_reports_another_amount, "filled: believed 0.009, is 0.01"),
    ("verified order", a_pipeline_that_sends_again, "2 requests to place an order arrived"),
    ("lost answer", a_pipeline_that_sends_again, "2 requests to place an order arrived"),
    ("verified function", a_function_without_its_journal, "ResponseLostError"),
    ("journal, recovery", a_journal_that_forgets, "0 undecided orders, not 1"),
    ("memory bus", a_bus_that_delivers_once, "2 deliveries of 2 messages, not 3"),
    ("outbox", an_outbox_that_loses_the_first_event, "these events came"),
    ("inbox", an_inbox_that_remembers_nothing, "was handled 3 times"),
    ("RabbitMQ", a_broker_that_delivers_nothing, "FAILED"),
    ("alerts, Apprise", a_channel_that_sends_nothing, "is no error"),
    ("alerts, Apprise", a_system_without_a_spool, "nothing came after a restart"),
    ("alerts, Apprise", alerts_that_show_passwords, "shows a password"),
    ("metrics", metrics_that_stand_still, "after 3 calls the pool's clients were lent"),
    ("metrics", an_exporter_of_nothing, "Prometheus reads another number"),
    ("health", a_monitor_that_sees_no_breaker, "healthy while a circuit is open"),
    ("health", a_breaker_that_stays_ill, "the circuit did not close"),
    ("command line", a_pipeline_that_executes_nothing, "it lists []"),
]


def test_a_bug_is_planted_in_every_part():
    assert {part for part, _, _ in PLANTED} == set(PARTS)


@pytest.mark.parametrize(("part", "plant", "said"), PLANTED, ids=[plant.__name__ for _, plant, _ in PLANTED])
def test_a_part_with_a_bug_says_failed_and_why(stage, monkeypatch, part, plant, said):
    monkeypatch.setattr(stages, "PATIENCE", 0.5)
    plant(monkeypatch)
    (row,) = run_checks([PARTS[part]], stage)
    assert row.verdict == FAILED
    assert said in f"{row.verdict}: {row.text}"


def test_a_bug_is_an_exit_code_of_the_whole(monkeypatch, capsys):
    a_limiter_that_lets_all_through(monkeypatch)
    assert self_test.main([], checks=[PARTS["bulkhead"], PARTS["rate limiter"]]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^rate limiter +[\d.]+  FAILED  8 threads got 16 permits, not 5$", out, re.MULTILINE)
    assert out.splitlines()[-1].startswith("1 of 2 parts FAILED: rate limiter; in ")


def test_a_fault_that_a_check_did_not_meet_is_none_of_the_next_ones(stage):
    stage.fault(stages.BOOK, "answer_lost")
    stage.calm()
    with stage.client() as client:
        assert client.get_orderbook(stages.SYMBOL).bids


def test_the_users_folder_is_another_one_while_it_runs(monkeypatch, capsys):
    monkeypatch.setenv("HIRELIAB_HOME", "/the/users")
    monkeypatch.setattr(self_test, "Venue", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(stages.Stage, "calm", lambda _: None)
    look = Check(part="look", work=lambda stage: f"{os.environ['HIRELIAB_HOME']} {stage.folder}")
    assert self_test.main(["--json"], checks=[look]) == 0
    home, folder = json.loads(capsys.readouterr().out)["parts"][0]["text"].split()
    assert os.path.dirname(home) == folder
    assert not os.path.exists(folder)
    assert os.environ["HIRELIAB_HOME"] == "/the/users"


def test_something_that_listens_and_is_no_broker_is_a_failure(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HIRELIAB_AMQP_URL", f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/")
        monkeypatch.setattr(stages, "PATIENCE", 0.5)
        monkeypatch.setattr(messaging, "_swept", lambda *_: contextlib.nullcontext())
        (row,) = run_checks([PARTS["RabbitMQ"]], None)
    assert row.verdict == FAILED
    assert "does not feed a subscription" in row.text
