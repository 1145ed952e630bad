"""One send through Apprise's real plugins to real servers: what is sent, how it is judged, and what is written."""

import gc
import logging
import threading
import tracemalloc

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring import _apprise_evidence
from hireliab.monitoring.alert import make_alert
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, Rate, RateLimited, Retry, Unknown
from hireliab.monitoring.apprise_channel import AppriseChannel
from tests.support import alert_endpoints as ends
from tests.support.alert_endpoints import TOKEN, endpoint, mail_server, telegram_endpoint
from tests.support.together import Background, together

PASSWORD = "s3cr3t-pass-phrase"


def alert(**changes):
    given = {
        "id": "a1b2c3", "time": 1_760_000_000.0, "source": "exchange", "level": "critical", "title": "Order lost",
        "message": "no answer for 30 s", "context": {"symbol": "BTC/USDT"},
    }  # fmt: skip
    return make_alert(**{**given, **changes})


def channel(url, **more):
    return AppriseChannel(url, name="ops", **more)


def to(made, scheme="json"):
    return channel(f"{scheme}://bot:{PASSWORD}@{made.address}/hook", timeout=3.0)


# -- what arrives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["json", "form"])
def test_a_web_hook_gets_title_text_and_id(scheme):
    with endpoint() as made:
        assert to(made, scheme)(alert()) == Ok()
        (got,) = made.accepted
    assert got["title"] == "CRITICAL exchange: Order lost"
    assert "no answer for 30 s" in got["message"]
    assert "symbol: BTC/USDT" in got["message"]
    assert got["message"].endswith("[a1b2c3]")
    assert got["type"] == "failure"


@pytest.mark.parametrize(
    ("changes", "kind", "begins"),
    [
        ({"level": "debug"}, "info", "DEBUG"),
        ({"level": "info"}, "info", "INFO"),
        ({"level": "warning"}, "warning", "WARNING"),
        ({"level": "error"}, "failure", "ERROR"),
    ],
)
def test_levels_are_those_of_apprise_and_the_title_says_the_true_one(changes, kind, begins):
    with endpoint() as made:
        to(made)(alert(**changes))
    assert made.accepted[0]["type"] == kind
    assert made.accepted[0]["title"].startswith(begins)


def test_a_mail_arrives_with_subject_and_text():
    with mail_server() as server:
        assert channel(server.url)(alert(title="Grüße\r\nBcc: evil@example.com")) == Ok()
        (mail,) = server.wait_accepted(1)
    assert "evil" not in str(mail["Bcc"])
    assert mail["To"] == "trader@example.com"
    text = "".join(
        part.get_payload(decode=True).decode() for part in mail.walk() if part.get_content_maintype() == "text"
    )
    assert "no answer for 30 s" in text
    assert "a1b2c3" in text


def test_telegram_gets_its_own_markup_escaped(monkeypatch):
    with telegram_endpoint(monkeypatch) as (made, url):
        assert channel(url)(alert(title="<b>bold</b> & *stars*", message="a < b && c > d _x_ `y` [z](w)")) == Ok()
        (got,) = made.wait_accepted(1)
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; *stars*" in got["text"]
    assert "a &lt; b &amp;&amp; c &gt; d _x_ `y` [z](w)" in got["text"]
    assert got["chat_id"] in {12345, "12345"}


# -- texts that are too long --------------------------------------------------------------------------------------


@pytest.mark.parametrize("filling", ["x", "<", "&", "\n", "€", "😀", "word "])
def test_no_text_is_too_long_for_telegram_and_head_tail_and_id_are_kept(monkeypatch, filling):
    with telegram_endpoint(monkeypatch) as (made, url):
        send = channel(url)
        message = "HEAD " + filling * 5000 + " TAIL"
        assert (
            send(
                alert(message=message[:4000], title=filling * 190, context={f"k{i}": filling * 300 for i in range(30)})
            )
            == Ok()
        )
        (got,) = made.wait_accepted(1)
    assert made.taken == 1  # at the first attempt
    assert len(got["text"].encode("utf-16-le")) // 2 <= 4096
    assert got["text"].startswith("CRITICAL exchange:")
    assert got["text"].rstrip().endswith("[a1b2c3]")


def test_a_text_that_is_refused_all_the_same_is_sent_once_more_short_and_plain(monkeypatch):
    with telegram_endpoint(monkeypatch, [ends.bad_markup, ends.telegram]) as (made, url):
        assert channel(url)(alert(message="<b> & *x*" + "y" * 3000)) == Ok()
        (got,) = made.wait_accepted(1)
    assert made.taken == 2
    assert len(got["text"]) <= 1100
    assert not set("<>*`") & set(got["text"])
    assert "a1b2c3" in got["text"]


@pytest.mark.parametrize("mode", [ends.bad_markup, ends.too_long])
def test_a_text_that_is_refused_twice_is_given_up(monkeypatch, mode):
    with telegram_endpoint(monkeypatch, mode) as (made, url):
        result = channel(url)(alert())
    assert isinstance(result, Permanent)
    assert made.taken == 2


# -- what becomes of it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        (ends.server_error, Retry, "server error (HTTP 500"),
        (ends.unauthorized, Misconfigured, "wrong token or password (HTTP 401"),
        (ends.forbidden, Misconfigured, "forbidden (HTTP 403: Forbidden: bot was blocked"),
        (ends.no_chat, Misconfigured, "bad request (HTTP 400: Bad Request: chat not found)"),
        (
            ends.status("302 Found", headers=[("Location", "http://127.0.0.1:9/")]),
            Misconfigured,
            "redirected elsewhere",
        ),
        (ends.rate_limited(30), RateLimited, "too many messages (HTTP 429"),
        (ends.hang, Unknown, "no answer in time"),
        (ends.ok_late, Unknown, "no answer in time"),
        (ends.reset, Unknown, "the connection broke before the answer"),
    ],
)
def test_what_a_service_does_is_judged(mode, kind, words):
    with endpoint(mode) as made:
        result = to(made)(alert())
    assert isinstance(result, kind), result
    assert result.reason.startswith(words)


@pytest.mark.parametrize(("given", "after"), [("3600", 600.0), (30, 30.0), ("-1", None), ("abc", None), (None, None)])
def test_a_pause_that_a_service_asks_for_is_taken_within_reason(given, after):
    with endpoint(ends.rate_limited(given)) as made:
        result = to(made)(alert())
    assert (type(result), result.after) == (RateLimited, after)


def test_telegrams_pause_is_read_from_its_words(monkeypatch):
    with telegram_endpoint(monkeypatch, ends.rate_limited(35, header=False)) as (_, url):
        assert channel(url)(alert()).after == 35.0


def test_a_reset_after_accept_is_never_taken_for_a_delivery_nor_for_a_refusal():
    with endpoint(ends.reset_on_accept) as made:
        result = to(made)(alert())
    assert isinstance(result, Unknown | Retry)  # as the reset meets the request, or the connecting


def test_nobody_there_is_a_retry():
    with endpoint() as made:
        gone = made.address
    result = channel(f"json://{gone}/")(alert())
    assert result == Retry("connection refused")


def test_a_server_without_tls_and_a_wrong_certificate_are_told_apart(certificates):
    with endpoint() as plain:
        result = channel(f"jsons://{plain.address}/", timeout=3.0)(alert())
    assert isinstance(result, Retry), result
    with endpoint(tls=certificates.server_context()) as strange:
        result = channel(f"jsons://{strange.address}/")(alert())
    assert result == Misconfigured("its certificate is not valid")


def test_a_huge_answer_is_not_read_whole():
    with endpoint(ends.huge(100_000_000)) as made:
        send = to(made)
        gc.collect()
        tracemalloc.start()
        try:
            assert send(alert()) == Ok()
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


def test_an_answer_that_drips_counts_as_soon_as_its_head_says_yes():
    with endpoint(ends.drip(0.05)) as made:
        assert channel(f"json://{made.address}/", timeout=0.5)(alert()) == Ok()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("451 4.3.0 try later", Retry),
        ("550 5.1.1 no such user", Permanent),
    ],
)
def test_what_a_mail_server_says_is_judged(answer, kind):
    with mail_server() as server:
        server.mode = answer
        result = channel(server.url)(alert())
    assert isinstance(result, kind), result
    assert answer[:3] in result.reason


def test_a_wrong_mail_password_is_a_wrong_configuration():
    with mail_server(login=("bot", PASSWORD)) as server:
        good = channel(server.url.replace("://", f"://bot:{PASSWORD}@"))
        assert good(alert()) == Ok()
        bad = channel(server.url.replace("://", "://bot:wrong-pass@"))
        result = bad(alert())
    assert isinstance(result, Misconfigured), result
    assert "535" in result.reason


def test_a_mail_server_that_is_not_there_is_a_retry():
    with mail_server() as server:
        url = server.url
    assert channel(url)(alert()) == Retry("connection refused")


# -- time ---------------------------------------------------------------------------------------------------------


def test_apprises_throttle_does_not_sleep_however_the_wall_clock_steps():
    from datetime import datetime, timedelta

    with endpoint() as made:
        send = to(made)
        assert send(alert()) == Ok()
        # What a step of the wall clock by an hour leaves behind: 3605 s of sleep in Apprise's own notify.
        send._plugin._last_io_datetime = datetime.now() + timedelta(hours=1)
        assert send(alert()) == Ok()


def test_a_plugin_that_would_sleep_says_so_instead():
    with endpoint() as made:
        send = to(made)
        throttle = send._plugin.throttle
        send._plugin.throttle = lambda: throttle(wait=3605.5)
        assert send(alert()) == RateLimited("the service's own limit is used up", 600.0)
        assert made.taken == 0


# -- what is made of an address -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must be a text such as 'tgram://…', got str"),
        (7, "got int"),
        (None, "got NoneType"),
        ("nonsense", "does not begin with a service"),
        ("tgramm://x/y", "did you mean 'tgram://'?"),
        (f"tgram://{PASSWORD}/1", "the rest of its tgram:// url does not parse"),
        ("slack://", "the rest of its slack:// url does not parse"),
        (f"{TOKEN}://x", "does not begin with a service"),
        (f"mailto://user:{PASSWORD}@", "the rest of its mailto:// url does not parse"),
        (f"twilio://AC1:x@{PASSWORD}/1", "the rest of its twilio:// url does not parse"),  # whose error repeats it
    ],
)
def test_an_address_that_does_not_parse_is_named_without_its_secrets(url, words, caplog, capsys):
    caplog.set_level(1)
    with pytest.raises(ConfigError, match="channels: 'ops': ") as caught:
        channel(url)
    assert words in str(caught.value)
    assert caught.value.__cause__ is None
    shown = str(caught.value) + repr(vars(caught.value)) + caplog.text + str(capsys.readouterr())
    assert PASSWORD not in shown
    assert TOKEN not in shown


def test_rates_are_those_of_the_services(monkeypatch):
    with telegram_endpoint(monkeypatch) as (_, url):
        assert channel(url).rate == Rate(20, gap=1.0)
    assert channel("json://127.0.0.1/").rate is None
    assert channel("gotify://127.0.0.1/Abcdefghij12345").rate is not None


def test_secrets_are_what_must_not_be_shown(monkeypatch):
    with telegram_endpoint(monkeypatch) as (_, url):
        secrets = channel(url).secrets
    assert {url, TOKEN} <= set(secrets)
    assert TOKEN.partition(":")[0] not in secrets  # the bot's number
    secrets = channel("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts").secrets
    assert {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"} <= set(secrets)
    assert "#alerts" not in secrets
    assert "Abcdefghijklmno" in channel("gotify://127.0.0.1/Abcdefghijklmno").secrets  # for the plugin masks it
    secrets = channel(f"mailtos://bot:{PASSWORD}@example.com/?to=trader@example.com").secrets
    assert PASSWORD in secrets
    assert "trader@example.com" not in secrets


# -- what is written ----------------------------------------------------------------------------------------------


def test_nothing_of_a_send_is_logged_at_any_level(monkeypatch, caplog, capsys):
    caplog.set_level(1)
    for name in ("apprise", "urllib3", "requests", ""):
        logging.getLogger(name).setLevel(1)
    try:
        modes = [ends.telegram, ends.unauthorized, ends.bad_markup, ends.server_error, ends.rate_limited(3), ends.reset]
        with telegram_endpoint(monkeypatch) as (made, url):
            send = channel(url)
            caplog.clear()
            results = []
            for mode in modes:
                made.mode = mode
                results.append(send(alert(message="a private text")))
        with endpoint(ends.server_error) as other:
            results.append(to(other)(alert(message="a private text")))
    finally:
        for name in ("apprise", "urllib3", "requests"):
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger().setLevel(logging.WARNING)
    shown = caplog.text + str(capsys.readouterr()) + repr(results) + repr(send)
    for secret in (TOKEN, TOKEN[:20], TOKEN[-20:], PASSWORD, "a private text"):
        assert secret not in shown
    assert len(results) == 7


def test_a_programs_own_use_of_apprise_is_as_it_was(caplog):
    import apprise

    with endpoint([ends.ok, ends.server_error]) as made:
        assert to(made)(alert()) == Ok()  # from now on the module's requests is ours
        caplog.set_level(logging.WARNING, "apprise")
        own = apprise.Apprise()
        own.add(f"json://{made.address}/")
        assert not own.notify(body="of the program itself")
        assert made.taken == 2
    assert "error=500" in caplog.text


def test_threads_do_not_see_each_others_doings():
    modes = [ends.ok, ends.server_error, ends.unauthorized, ends.reset]
    wanted = [Ok, Retry, Misconfigured, Unknown]

    def one(i):
        with endpoint(modes[i % 4]) as made:
            send = to(made)
            return [type(send(alert())) for _ in range(5)]

    assert together(8, one) == [[wanted[i % 4]] * 5 for i in range(8)]


def test_a_hung_send_holds_up_no_other():
    before = {one.name for one in threading.enumerate()}
    with endpoint(ends.hang) as hung, endpoint() as well:
        stuck = Background(to(hung), alert())
        hung.wait_taken(1)
        others = [to(well) for _ in range(3)]
        assert [send(alert()) for send in others] == [Ok()] * 3
        assert isinstance(stuck.result(), Unknown)
    new = {one.name for one in threading.enumerate()} - before
    assert not [name for name in new if "Pool" in name or "pprise" in name]


def test_evidence_of_a_send_inside_a_send_is_its_own(clock):
    with _apprise_evidence.gathering(clock, 1) as outer:
        with _apprise_evidence.gathering(clock, 1) as inner:
            logging.getLogger("apprise").warning("inner")
        logging.getLogger("apprise").warning("outer")
    _apprise_evidence.keep_quiet()
    assert (inner.said, outer.said) in ((["inner"], ["outer"]), ([], []))
