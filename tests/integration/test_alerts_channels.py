"""An alert system with real channels, of which some hang, drip, refuse, limit the rate or are not there."""

import contextlib
import logging
import threading
import time

import pytest

from hireliab.core.clock import SystemClock
from hireliab.monitoring.alert_system import AlertSystem
from hireliab.monitoring.log_handler import AlertHandler
from tests.support import alert_endpoints as ends
from tests.support.alert_endpoints import TOKEN, endpoint, mail_server, telegram_endpoint

PATIENCE = 20.0


@pytest.fixture
def started():
    """Makes and starts alert systems; they are stopped at the end."""
    systems = []

    def started(clock=None, spool=False, config=None, **channels):
        urls = {
            name: {"url": made if isinstance(made, str) else f"json://{made.address}/"}
            for name, made in channels.items()
        }
        more = {} if clock is None else {"clock": clock}
        system = AlertSystem({"channels": urls, "spool": spool, **(config or {})}, **more)
        systems.append(system)
        system.start()
        return system

    yield started
    for system in systems:
        system.stop(timeout=5.0)


def send(system, title="trouble", level="error", **more):
    return system.send_alert("exchange", level, title, "what happened", **more)


def until(condition, what="it"):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.005)


def state(system, name):
    one = system.status().channels[name]
    assert one.accepted == (
        one.queued
        + one.held
        + one.in_flight
        + one.spooled
        + one.delivered
        + one.failed
        + one.dropped
        + one.deduplicated
    )
    return one


def titles(made):
    return [one["title"].partition(": ")[2] for one in made.accepted]


# -- channels that hang -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [ends.hang, ends.drip_head(0.2)])
def test_channels_that_hang_or_drip_hold_up_neither_the_bot_nor_the_others(started, mode):
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        stuck = {f"stuck{i}": stack.enter_context(endpoint(mode)) for i in range(6)}
        well = stack.enter_context(endpoint())
        system = started(**stuck, well=well)
        slowest = 0.0
        for number in range(50):
            began = time.perf_counter()
            assert send(system, f"trouble {number}").accepted
            slowest = max(slowest, time.perf_counter() - began)
        well.wait_accepted(50)
        assert titles(well) == [f"trouble {number}" for number in range(50)]
        assert state(system, "stuck0").delivered == 0
        assert slowest < 1.0
        # One for each channel, the watchdog, and each endpoint's own two or three.
        assert threading.active_count() - before <= 8 + 7 * 3
        began = time.monotonic()
        system.stop(timeout=0.5)
        assert time.monotonic() - began < 5.0


def test_a_channel_that_works_again_gets_what_it_missed(started):
    with endpoint([ends.reset, ends.server_error, ends.ok]) as made:
        system = started(ops=made)
        send(system, "first")
        send(system, "second", level="critical")
        made.wait_accepted(2)
        until(lambda: state(system, "ops").delivered == 2)
    assert sorted(titles(made)) == ["first", "second"]
    assert state(system, "ops").retries == 2


def test_an_answer_that_never_comes_is_sent_again_with_the_same_id(started):
    with endpoint([ends.ok_late, ends.ok]) as made:
        system = started(ops=made)
        receipt = send(system)
        made.wait_accepted(2)
        until(lambda: state(system, "ops").delivered == 1)
    assert [one["message"].endswith(f"[{receipt.id}]") for one in made.accepted] == [True, True]


# -- channels that refuse -----------------------------------------------------------------------------------------


def test_a_text_that_is_refused_for_good_does_not_block_the_queue(started):
    def refuse_the_first(peer, request):
        (ends.bad_markup if "first" in request.body.decode() else ends.ok)(peer, request)

    with endpoint(refuse_the_first) as made:
        system = started(ops=made)
        send(system, "first", level="critical")
        send(system, "second")
        made.wait_accepted(1)
        until(lambda: (state(system, "ops").failed, state(system, "ops").delivered) == (1, 1))
        assert "can't parse entities" in state(system, "ops").last_error
    assert titles(made) == ["second"]


def test_a_wrong_token_is_a_wrong_configuration_and_the_service_is_left_alone(started, monkeypatch):
    with telegram_endpoint(monkeypatch, ends.unauthorized) as (made, url):
        system = started(chat=url)
        send(system, "first")
        until(lambda: state(system, "chat").state == "misconfigured")
        for number in range(10):
            send(system, f"more {number}")
        assert made.taken == 1  # a hundred bad calls block an address
        assert "wrong token" in state(system, "chat").last_error


def test_a_limited_rate_rests_the_channel_and_only_it(started):
    with endpoint([ends.rate_limited(1), ends.ok]) as limited, endpoint() as well:
        system = started(limited=limited, well=well)
        began = time.monotonic()
        for number in range(5):
            send(system, f"trouble {number}")
        well.wait_accepted(5)
        limited.wait_accepted(5)
        assert time.monotonic() - began >= 1.0
        assert limited.taken == 6  # the pause is the channel's, not each message's


@pytest.mark.parametrize("given", ["3600", "-1", "abc", "Wed, 21 Oct 2199 07:28:00 GMT", None])
def test_whatever_a_service_says_of_its_pause_the_channel_rests_and_says_so(started, given):
    with endpoint(ends.rate_limited(given)) as made:
        system = started(ops=made)
        send(system)
        until(lambda: state(system, "ops").state == "paused")
        send(system, "another", level="critical")
        assert made.taken == 1
        assert "too many messages" in state(system, "ops").last_error


@pytest.mark.parametrize("mode", [ends.rate_limited("3600"), ends.unauthorized])
def test_a_critical_alert_goes_to_the_failover_of_a_channel_that_rests(started, mode):
    with endpoint(mode) as resting, endpoint() as well:
        system = started(
            config={"failover": {"resting": "well"}, "level_thresholds": {"well": "critical"}},
            resting=resting,
            well=well,
        )
        receipt = send(system, "only for the first", level="error")
        assert receipt.channels == ("resting",)
        well.wait_accepted(1)
        send(system, "for both", level="critical")
        until(lambda: "for both" in titles(well))
        assert resting.taken == 1
    assert "only for the first" in titles(well)
    assert titles(well).count("for both") == 1


def test_mail_and_telegram_get_the_same_alert(started, monkeypatch):
    with telegram_endpoint(monkeypatch) as (chat, url), mail_server() as mail:
        system = started(chat=url, mail=mail.url)
        receipt = send(system, "spread is too wide", level="critical", context={"spread": "0.5 %"})
        (one,) = chat.wait_accepted(1)
        (letter,) = mail.wait_accepted(1)
    assert receipt.id in one["text"]
    assert "spread is too wide" in one["text"]
    assert "spread is too wide" in str(letter["Subject"])


# -- time ---------------------------------------------------------------------------------------------------------


class Stepping(SystemClock):
    """The machine's clocks, of which the wall clock steps."""

    offset = 0.0

    def time(self):
        return super().time() + self.offset


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_wall_clock_that_steps_by_an_hour_delays_nothing_and_repeats_nothing(started, step):
    clock = Stepping()
    with endpoint() as made:
        system = started(clock=clock, ops=made)
        send(system, "before", dedup_key="k")
        made.wait_accepted(1)
        clock.offset = step
        began = time.monotonic()
        send(system, "after")
        send(system, "before", dedup_key="k")
        made.wait_accepted(2)
        assert time.monotonic() - began < 5.0
        until(lambda: state(system, "ops").delivered == 2)
    assert titles(made) == ["before", "after"]


# -- logging ------------------------------------------------------------------------------------------------------


def test_the_senders_own_errors_make_no_alerts(started):
    root = logging.getLogger()
    with endpoint([ends.server_error, ends.ok]) as made:
        system = started(ops=made)
        handler = AlertHandler(system, "warning")
        root.addHandler(handler)
        try:
            logging.getLogger("a_bot").error("the bot's own trouble")
            made.wait_accepted(1)
            until(lambda: state(system, "ops").delivered == 1)
        finally:
            root.removeHandler(handler)
        assert state(system, "ops").accepted == 1
    assert titles(made) == ["the bot's own trouble"]


def test_a_storm_of_log_lines_from_one_place_is_one_message(started):
    logger = logging.getLogger("a_stormy_bot")
    logger.propagate = False
    with endpoint() as made:
        system = started(ops=made)
        handler = AlertHandler(system)
        logger.addHandler(handler)
        try:
            for number in range(5000):
                logger.error("order %s failed", number)
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
        made.wait_accepted(1)
        assert state(system, "ops").deduplicated >= 4990
    assert len(made.accepted) <= 2


# -- secrets ------------------------------------------------------------------------------------------------------


def test_no_planted_secret_is_written_anywhere_whatever_fails(started, monkeypatch, tmp_path, caplog, capsys):
    secret, password = "sk-ZZplantedZZ0123456789", "planted-mail-pass"
    caplog.set_level(1)
    for name in ("apprise", "urllib3", "requests", "hireliab"):
        caplog.set_level(1, logger=name)
    modes = [ends.unauthorized, ends.server_error, ends.bad_markup, ends.reset, ends.rate_limited(1)]
    with telegram_endpoint(monkeypatch, ends.telegram) as (chat, url), endpoint(ends.server_error) as hook:
        system = started(
            chat=url, hook=f"json://bot:{password}@{hook.address}/?+X-Token={secret}", spool=str(tmp_path / "spool")
        )
        caplog.clear()
        for number, mode in enumerate(modes):
            chat.mode = mode
            send(
                system, f"trouble {number} token={secret}", level="critical",
                context={"api_secret": secret, "url": f"https://u:{password}@x/", "headers": {"Authorization": f"Bearer {secret}"}},
            )  # fmt: skip
            until(
                lambda number=number: state(system, "chat").retries + state(system, "chat").failed + hook.taken > number
            )
        status = repr(system.status())
        results = repr(system.test(timeout=5.0))
        system.stop(timeout=1.0)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    shown = caplog.text + str(capsys.readouterr()) + status + results + written.decode("utf-8", "replace")
    for planted in (TOKEN, TOKEN.partition(":")[2], secret, password):
        assert planted not in shown
    sent = b"".join(request.body for request in [*chat.server.requests, *hook.server.requests]).decode()
    assert secret not in sent
