"""
Attacks on the alert system, each of which once succeeded: alerts that never arrive, arrive too often, or stop a thread.

Where a fake clock serves, the channel is a function; where a service's behaviour counts, it is a server on loopback.
"""

import contextlib
import gzip
import importlib
import itertools
import os
import random
import signal
import sqlite3
import sys
import threading
import tracemalloc
from collections import Counter

import pytest

from hireliab.monitoring._channel_answer import judge
from hireliab.monitoring._channel_worker import ChannelWorker
from hireliab.monitoring.alert import AlertLevel, make_alert
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, RateLimited, Retry, Unknown
from hireliab.monitoring.apprise_channel import AppriseChannel
from tests.support import alert_endpoints as ends
from tests.support.alert_endpoints import TOKEN, MailServer, decode, mail_server, telegram_endpoint
from tests.support.alerts import Hanging, Scripted, channel, send, system
from tests.support.together import in_child, until


@pytest.fixture
def make(clock, tmp_path):
    systems = []

    def make(**given):
        systems.append(system(clock, **given))
        return systems[-1]

    yield make
    for one in systems:
        one.stop(0.0)


# -- what a channel answers -------------------------------------------------------------------------------------------


async def _never_awaited(alert):
    raise AssertionError("nobody runs this")


def _generator(alert):
    yield alert


@pytest.mark.parametrize("func", [_never_awaited, _generator])
def test_a_channel_that_returns_something_that_must_be_run_has_not_sent(make, clock, func):
    other = Scripted()
    with make(mine=lambda alert: func(alert), other=other) as alerts:  # noqa: PLW0108 - a function that is no coroutine function
        send(alerts, "lost?", level="critical")
        until(lambda: channel(alerts).state == "misconfigured")
        assert channel(alerts).delivered == 0
        until(lambda: "alert channel 'mine' is down" in other.titles)


def test_a_channel_that_returns_false_has_not_sent(make, clock):
    mine = Scripted(False)
    with make(mine=mine) as alerts:
        send(alerts, "trouble")
        until(lambda: channel(alerts).retries == 1)
        clock.advance(2.0)
        until(lambda: channel(alerts).delivered == 1)


@pytest.mark.parametrize("answer", [None, True, 0, "", "sent", 204, object(), Ok()])
def test_anything_else_means_sent(answer):
    assert judge(answer) == Ok()


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Retry("x", after="soon"), Retry("x")),
        (Retry("x", after="7"), Retry("x", 7.0)),
        (RateLimited("x", after=object()), RateLimited("x")),
        (RateLimited("x", after=[1]), RateLimited("x")),
        (Retry("x", after=10**400), Retry("x")),
        (Permanent(None), Permanent("None")),
        (Unknown(17), Unknown("17")),
        (Misconfigured("a\x1b[2J\nb"), Misconfigured("a [2J b")),
        (Permanent("api_secret=abcdefgh"), Permanent("api_secret=***")),
    ],
)
def test_an_answer_that_was_made_wrongly_is_made_right(answer, result):
    assert judge(answer) == result


@pytest.mark.parametrize(
    "answer", [Retry("x", after="soon"), RateLimited("x", after=()), Permanent(None), Retry(object())]
)
def test_a_wrong_answer_does_not_end_the_channels_thread(make, clock, answer):
    mine = Scripted(answer)
    with make(mine=mine) as alerts:
        send(alerts, "first")
        until(lambda: channel(alerts).retries + channel(alerts).failed == 1)
        send(alerts, "second")
        clock.advance(60.0)
        until(lambda: "second" in mine.titles)


class _ExitsWhenPrinted(Exception):
    def __str__(self):
        raise SystemExit(3)


def test_an_error_that_ends_the_thread_when_it_is_printed_does_not(make, clock):
    mine = Scripted(_ExitsWhenPrinted())
    with make(mine=mine) as alerts:
        send(alerts, "first")
        until(lambda: channel(alerts).retries == 1)
        send(alerts, "second")
        until(lambda: "second" in mine.titles)


@pytest.mark.parametrize("where", ["settle", "bury", "load"])
def test_a_bug_of_ours_ends_no_thread_and_loses_no_later_alert(clock, where, caplog):
    class Store:
        def __init__(self):
            self.calls = Counter()

        def __getattr__(self, name):
            def call(*_args, **_more):
                self.calls[name] += 1
                if name == where and self.calls[name] == 1:
                    raise MemoryError(name)
                return {} if name == "load" else _Written()

            return call

    class _Written:
        def wait(self, _timeout):
            return True

    store = Store()
    mine = Scripted(Permanent("no") if where == "bury" else Ok())
    worker = ChannelWorker(
        name="mine",
        channel=mine,
        threshold=AlertLevel.INFO,
        size=1 if where == "load" else 10,
        clock=clock,
        store=store,
    )
    for number in range(3):
        _put(worker, f"t{number}", _Written())
    worker.start()
    until(lambda: store.calls[where] >= 1)

    def goes_on():
        clock.advance(1.0)
        return worker.status().delivered >= (1 if where == "load" else 2)

    until(goes_on)
    _put(worker, "the last", _Written())

    def told():
        clock.advance(1.0)
        return "the last" in mine.titles

    until(told)
    worker.close()
    assert worker.wait_ended(5.0)
    assert "bug" in caplog.text


def _put(worker, title, ticket=None, level="critical"):
    alert = make_alert(id=title, time=0.0, source="system", level=level, title=title, message="m")
    return worker.push(worker.offer(alert), alert, ticket)


# -- what comes first -------------------------------------------------------------------------------------------------


def test_a_stream_of_small_matters_does_not_keep_critical_alerts_in_the_spool(make, clock, tmp_path):
    mine = Hanging()
    alerts = make(mine=mine, queue_size=3, spool=tmp_path)
    alerts.start()
    send(alerts, "held", level="critical")
    mine.wait_entered()
    for number in range(6):
        assert send(alerts, f"c{number}", level="critical").durable
    assert channel(alerts).spooled == 3
    for number in range(4):  # while the first four are sent, others come that matter less
        mine.go.release()
        mine.wait_entered()
        send(alerts, f"small {number}a", level="info")
        send(alerts, f"small {number}b", level="info")
    mine.go.release(100)
    until(lambda: sum(title.startswith(("c", "held")) for title in (one.title for one in mine.alerts)) == 7)
    assert {one.level for one in mine.alerts[:7]} == {AlertLevel.CRITICAL}
    alerts.stop(1.0)


def test_a_report_of_drops_does_not_disturb_a_service_that_asked_for_rest(make, clock):
    mine = Scripted(RateLimited("slow down", after=600.0))
    alerts = make(mine=mine, queue_size=1)
    alerts.start()
    send(alerts, "first", level="error")
    until(lambda: channel(alerts).state == "paused")
    for _ in range(8):
        send(alerts, level="error")  # the one before has to go, which is to be reported
        clock.advance(61.0)
        clock.wait_parked(2)
    assert len(mine.alerts) == 1
    clock.advance(200.0)
    until(lambda: any("dropped" in title for title in mine.titles))
    alerts.stop(1.0)


# -- late successes ---------------------------------------------------------------------------------------------------


def test_a_late_success_does_not_count_for_what_came_after_it(make, clock, tmp_path):
    mine = Hanging()
    alerts = make(mine=mine, spool=tmp_path)
    alerts.start()
    send(alerts, "trouble", level="error")
    mine.wait_entered()
    clock.advance(30.0)  # abandoned, and back in the queue until its next attempt
    until(lambda: channel(alerts).abandoned == 1)
    with alerts._crew.workers[0]._lock:
        alerts._crew.workers[0]._desk.paused_until = clock.monotonic() + 20.0  # as after failures in a row
    receipt = send(alerts, "trouble", level="critical")
    assert receipt.durable
    mine.go.release()  # the ERROR has arrived after all; the CRITICAL has not
    until(lambda: channel(alerts).abandoned == 0)
    until(lambda: alerts.status().spool.rows == 1)
    mine.go.release(10)

    def told():
        clock.advance(1.0)
        return any(one.level is AlertLevel.CRITICAL for one in mine.alerts)

    until(told)
    until(lambda: alerts.status().spool.rows == 0)
    alerts.stop(1.0)


def test_a_late_success_told_of_no_more_than_it_did(make, clock):
    mine = Hanging()
    alerts = make(mine=mine)
    alerts.start()
    send(alerts, "trouble")
    mine.wait_entered()
    send(alerts, "trouble")  # counted
    clock.advance(30.0)  # abandoned; what another channel would tell of it counts both
    until(lambda: channel(alerts).abandoned == 1)
    clock.wait_parked(2)
    mine.go.release(10)
    until(lambda: channel(alerts).abandoned == 0)
    clock.advance(61.0)
    until(lambda: mine.alerts[-1].count == 2)
    alerts.stop(1.0)


# -- Ctrl-C, signal handlers and finalisers -----------------------------------------------------------------------------

_OURS = (os.sep.join(("hireliab", "monitoring", "")), "threading.py")


@contextlib.contextmanager
def interrupted_at(step, what, files=_OURS):
    """
    Call `what` at the given place of ours where Python looks for signals: where a function begins, and where one in C
    has ended. Yields a list that is not empty once it was called.
    """
    count, done = itertools.count(), []

    def profile(frame, event, _arg):
        if event in {"call", "c_return"} and any(part in frame.f_code.co_filename for part in files):
            if next(count) == step:
                done.append(step)
                what()

    sys.setprofile(profile)
    try:
        yield done
    finally:
        sys.setprofile(None)


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a generator's end
@pytest.mark.parametrize("level", ["info", "critical"])
def test_ctrl_c_anywhere_in_send_alert_leaves_the_title_alive(clock, tmp_path, level):
    begin = random.Random(level).randrange(3)
    reached = 0
    for step in range(begin, 100_000, 3):
        mine = Scripted()
        alerts = system(clock, mine=mine, queue_size=2, group_interval=60.0)
        send(alerts, "a", level=level)
        send(alerts, "b", level=level)
        with contextlib.suppress(KeyboardInterrupt), interrupted_at(step, _interrupt) as done:
            send(alerts, "trouble", level=level)
        reached += bool(done)
        send(alerts, "trouble", level=level)
        alerts.start()
        for _ in range(4):
            send(alerts, "trouble", level=level)
            clock.advance(20.0)
            clock.wait_parked(2)
        alerts.stop(5.0)
        assert alerts.status().channels["mine"].state == "stopped"
        assert "trouble" in mine.titles, step
        if not done:
            break
    assert reached > 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("settings", [{}, {"group_wait": 2.0}])
def test_a_start_that_ctrl_c_cut_short_is_finished_by_the_next(clock, tmp_path, settings):
    reached = 0
    for step in range(random.Random(len(settings)).randrange(2), 100_000, 2):
        mine = Scripted()
        alerts = system(clock, mine=mine, spool=tmp_path / str(step), **settings)
        try:
            # Not in threading.py: Ctrl-C may leave a lock of filelock's, or of an Event, as it should not be.
            with contextlib.suppress(KeyboardInterrupt), interrupted_at(step, _interrupt, _OURS[:1]) as done:
                alerts.start()
            reached += bool(done)
            alerts.start()
            assert send(alerts, "trouble").durable, step
            until(lambda mine=mine: mine.alerts)
        finally:
            alerts.stop(5.0)
        assert mine.titles == ["trouble"], step
        assert channel(alerts).state == "stopped"
        if not done:
            break
    assert reached > 5


@pytest.mark.parametrize("what", ["send_alert", "critical", "resolve", "silence", "status", "stop"])
def test_a_signal_handler_may_call_anything_anywhere_in_send_alert(clock, what):
    for step in range(random.Random(what).randrange(11), 100_000, 11):
        mine = Scripted()
        alerts = system(clock, mine=mine, queue_size=4)
        acts = {
            "send_alert": lambda alerts=alerts: send(alerts, "of the handler", level="info"),
            "critical": lambda alerts=alerts: send(alerts, "of the handler", level="critical"),
            "resolve": lambda alerts=alerts: alerts.resolve("before"),
            "silence": lambda alerts=alerts: alerts.silence(1.0, title="nothing"),
            "status": alerts.status,
            "stop": lambda alerts=alerts: alerts.stop(0.0),
        }
        send(alerts, "before", level="error", dedup_key="before")
        with interrupted_at(step, acts[what]) as done:
            receipt = send(alerts, "trouble", level="error")
        assert receipt.reason in {"not_started", "stopped", "dropped", "queued"}, (step, receipt)
        if what != "stop":
            alerts.start()
        alerts.stop(5.0)
        if what != "stop":
            assert "trouble" in mine.titles, step
            assert "of the handler" in mine.titles or not done or what not in {"send_alert", "critical"}, step
        channel(alerts)
        if not done:
            break


def test_a_finaliser_may_send_anywhere_in_the_threads_that_send(clock):
    """The collector of garbage runs a finaliser wherever a thread happens to be."""
    draw = random.Random(5)
    mine = Scripted(*[draw.choice([Ok(), Retry("reset"), RateLimited("slow", 1.0)]) for _ in range(40)])
    alerts = system(clock, mine=mine, queue_size=100)
    here, sent, count = threading.local(), [], itertools.count()

    def profile(frame, event, _arg):
        if event != "call" or _OURS[0] not in frame.f_code.co_filename or getattr(here, "busy", False):
            return
        if next(count) % 97 == 0 and len(sent) < 60:
            here.busy = True
            try:
                title = f"of a finaliser {len(sent)}"
                sent.append((title, send(alerts, title, level="critical")))
            finally:
                here.busy = False

    threading.setprofile(profile)
    try:
        alerts.start()
    finally:
        threading.setprofile(None)
    for number in range(60):
        send(alerts, f"t{number}", level="critical")
        if number % 4 == 0:
            clock.advance(1.5)
            clock.wait_parked(2)

    def told():
        clock.advance(2.0)
        return len(sent) == 60 and {title for title, _ in sent} <= set(mine.titles)

    until(told)
    until(lambda: channel(alerts).delivered == 120)
    alerts.stop(5.0)
    channel(alerts)


# -- a spool that was damaged or written by somebody else -----------------------------------------------------------------


def _left_behind(make, folder, *titles):
    dead = make(spool=folder, mine=Scripted(*[Retry("down")] * 99))
    dead.start()
    for title in titles:
        assert send(dead, title, level="critical").durable
    dead.stop(0.0)


def _change(folder, *statements):
    with contextlib.closing(sqlite3.connect(folder / "alerts.db")) as on:
        for statement in statements:
            on.execute(statement)
        on.commit()


@pytest.mark.parametrize("cell", ["CAST(x'ff7b' AS TEXT)", "x'ff'", "7", "1.5", "'{'", "''"])
def test_a_row_that_nobody_can_read_does_not_keep_the_others_from_being_told(make, tmp_path, cell):
    _left_behind(make, tmp_path, "one", "two", "three")
    _change(tmp_path, f"UPDATE alerts SET body = {cell} WHERE seq = 1")
    mine = Scripted()
    alerts = make(spool=tmp_path, mine=mine)
    alerts.start()
    until(lambda: {"two", "three"} <= set(mine.titles))
    until(lambda: alerts.status().spool.rows == 0)
    alerts.stop(1.0)
    assert "cannot be read" in (tmp_path / "dead.jsonl").read_text()


@pytest.mark.parametrize(
    "change",
    [
        "level = 7",
        "level = 'high'",
        "time = 'soon'",
        "time = 9e999",
        "time = x'00'",
        "count = 'many'",
        "fingerprint = x'ff'",
        "fingerprint = CAST(x'ff' AS TEXT)",
        "channel = x'ff'",
    ],
)
def test_a_notification_log_that_nobody_can_have_written_does_not_fail_the_start(make, tmp_path, change):
    told = Scripted()
    first = make(spool=tmp_path, mine=told)
    first.start()
    send(first, "told", level="critical")
    until(lambda: told.alerts and first.status().spool.rows == 0)
    first.stop(1.0)
    _left_behind(make, tmp_path, "not told")
    _change(tmp_path, f"UPDATE notified SET {change}")
    mine = Scripted()
    alerts = make(spool=tmp_path, mine=mine)
    alerts.start()
    until(lambda: "not told" in mine.titles)
    assert alerts.status().spool.state == "open"
    send(alerts, "new", level="critical")
    until(lambda: "new" in mine.titles)
    alerts.stop(1.0)


# -- several recipients ---------------------------------------------------------------------------------------------------


def _by_recipient(answers):
    """A mode that answers each chat with the next of its own modes, the last one staying."""

    def mode(peer, request):
        chat = decode(request)["chat_id"]
        modes = answers[chat]
        (modes.pop(0) if len(modes) > 1 else modes[0])(peer, request)

    return mode


def idle(clock, alerts, done):
    """Let the time go on between two sends, and not while one is under way, until `done` holds."""

    def step():
        status = channel(alerts)
        if not status.in_flight:
            clock.advance(1.0)
        return done(status)

    until(step)


def _chats(made):
    return Counter(one["chat_id"] for one in made.accepted)


needs_tracker = pytest.mark.skipif(
    not hasattr(importlib.import_module("apprise.plugins.base"), "_delivery_tracker"),
    reason="before 2.3 Apprise does not tell which recipients have got a message",
)


@needs_tracker
@pytest.mark.parametrize("failure", [ends.server_error, ends.rate_limited(5), ends.reset, ends.bad_markup])
def test_who_has_got_a_message_does_not_get_it_again_because_another_one_has_not(make, clock, monkeypatch, failure):
    with telegram_endpoint(monkeypatch) as (made, _):
        made.mode = _by_recipient({111111: [ends.ok], 222222: [failure, failure, failure, failure, ends.ok]})
        alerts = make(mine={"url": f"tgram://{TOKEN}/111111/222222"})
        alerts.start()
        send(alerts, "trouble", level="critical")
        idle(clock, alerts, lambda status: status.delivered + status.failed)
        assert _chats(made)[111111] == 1
        assert _chats(made)[222222] == channel(alerts).delivered == (failure is not ends.bad_markup)
        send(alerts, "the next", level="critical")
        idle(clock, alerts, lambda _: _chats(made)[111111] == 2)
        alerts.stop(1.0)


@needs_tracker
def test_a_recipient_who_blocks_us_does_not_block_the_others(make, clock, monkeypatch):
    with telegram_endpoint(monkeypatch) as (made, _):
        made.mode = _by_recipient({111111: [ends.ok], 222222: [ends.server_error, ends.forbidden]})
        alerts = make(mine={"url": f"tgram://{TOKEN}/111111/222222"})
        alerts.start()
        for number in range(3):
            send(alerts, f"trouble {number}", level="critical")
            idle(clock, alerts, lambda status, number=number: status.failed > number)
        assert _chats(made) == {111111: 3}
        assert channel(alerts).state == "ready"
        alerts.stop(1.0)


@needs_tracker
def test_a_mail_box_that_is_busy_does_not_fill_the_others(make, clock):
    class Busy(MailServer):
        async def handle_RCPT(self, server, session, envelope, address, options):
            self.asked = getattr(self, "asked", Counter())
            self.asked[address] += 1
            if address.startswith("busy") and self.asked[address] < 4:
                return "451 4.2.1 mailbox busy"
            envelope.rcpt_tos.append(address)
            return "250 OK"

    with mail_server(made=Busy()) as server:
        alerts = make(
            mine={"url": server.url.replace("to=trader@example.com", "to=trader@example.com,busy@example.com")}
        )
        alerts.start()
        send(alerts, "trouble", level="critical")
        idle(clock, alerts, lambda status: status.delivered)
        assert Counter(mail["To"] for mail in server.accepted) == {"trader@example.com": 1, "busy@example.com": 1}
        alerts.stop(1.0)


# -- what a service says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 100, 150, 180, 190, 195, 250, 280, 1950, 1990])
def test_no_part_of_a_token_that_a_service_repeats_is_shown(make, monkeypatch, caplog, before):
    words = "x " * (before // 2) + f"/bot{TOKEN}/sendMessage is unknown"
    with telegram_endpoint(monkeypatch, ends.status("404 Not Found", {"ok": False, "description": words})) as (_, url):
        alerts = make(mine={"url": url})
        alerts.start()
        send(alerts, "trouble", level="critical")
        until(lambda: channel(alerts).state == "misconfigured")
        (result,) = alerts.test("mine")
        said = f"{alerts.status()} {result} {caplog.text}"
        assert "AAbb" not in said
        alerts.stop(1.0)


def test_what_a_service_says_moves_no_cursor_and_turns_no_line(make, monkeypatch, caplog):
    body = '{"ok": false, "description": "Bad\x1b[2J\x1b]0;pwned\x07 \u202eReque\x00st\\u001b"}'.encode()
    with telegram_endpoint(monkeypatch, ends.status("404 Not Found", body)) as (_, url):
        alerts = make(mine={"url": url})
        alerts.start()
        send(alerts, "trouble", level="critical")
        until(lambda: channel(alerts).state == "misconfigured")
        said = f"{channel(alerts).last_error}{alerts.test('mine')[0].reason}{caplog.text}"
        assert not set(said) & set("\x1b\x07\x00\u202e")
        assert "Bad" in said
        alerts.stop(1.0)


@pytest.mark.parametrize(
    "given",
    ["Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 99999 23:59:59 GMT", "Mon, 01 Jan 2024 00:00:00 +9999999999", "1e999",
     "-1e999", "0x10", "1_0", "\u0663", "nan", "", " ", ";", "9" * 4000, "-5", "1, 2"],
)  # fmt: skip
def test_no_pause_that_a_service_asks_for_is_a_bug(make, clock, given):
    def limited(peer, request):
        peer.send(b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: " + given.encode() + b"\r\n\r\n")

    with ends.endpoint([limited, ends.ok]) as made:
        alerts = make(mine={"url": f"json://{made.address}/"})
        alerts.start()
        send(alerts, "trouble", level="critical")
        until(lambda: channel(alerts).state == "paused")
        clock.advance(600.0)
        until(lambda: channel(alerts).delivered == 1)
        alerts.stop(1.0)


def test_an_answer_that_grows_a_thousand_times_a_thousand_times_costs_little_memory():
    bomb = gzip.compress(gzip.compress(bytes(60_000_000), 1), 9)

    def answer(peer, request):
        peer.reply("500 Oops", bomb, [("Content-Encoding", "gzip, gzip")])

    with ends.endpoint(answer) as made:
        mine = AppriseChannel(f"json://{made.address}/", name="mine")
        tracemalloc.start()
        try:
            result = mine(make_alert(id="a", time=0.0, source="s", level="error", title="t", message="m"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(result, Retry)
    assert peak < 10_000_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_of_a_process_that_was_loading_apprise_can_load_it():
    from hireliab.monitoring import _apprise_evidence, apprise_channel

    with apprise_channel._loading, _apprise_evidence._swapping:

        def loads():
            signal.alarm(10)  # which ends a child that waits for ever
            return AppriseChannel("json://127.0.0.1:1/", name="mine").name == "mine"

        in_child(loads)
