"""What a plugin's doings mean, without a plugin; tests/integration/test_alerts_apprise.py has real ones."""

import smtplib

import pytest
from requests import exceptions as http

from hireliab.monitoring._apprise_evidence import Answer, Evidence
from hireliab.monitoring._apprise_verdict import LONGEST_PAUSE, paused, retry_after, verdict, wants_plain_text
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, RateLimited, Retry, Unknown


@pytest.fixture
def gathered(clock):
    def gathered(*events, said=()):
        return Evidence(clock, clock.monotonic() + 15, events=list(events), said=list(said))

    return gathered


def smtp(code, text=""):
    return Answer(code, text, smtp=True)


def test_what_the_plugin_calls_sent_is_sent(gathered):
    assert verdict(gathered(Answer(500, ""), Answer(200, "")), accepted=True) == Ok()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(400, ""), Permanent),
        (Answer(413, ""), Permanent),
        (Answer(400, '{"description": "Bad Request: chat not found"}'), Misconfigured),
        (Answer(400, "channel_not_found"), Misconfigured),
        (Answer(401, ""), Misconfigured),
        (Answer(403, ""), Misconfigured),
        (Answer(404, ""), Misconfigured),
        (Answer(302, ""), Misconfigured),
        (Answer(408, ""), Retry),
        (Answer(429, ""), RateLimited),
        (Answer(500, ""), Retry),
        (Answer(503, ""), Retry),
        (Answer(503, "", retry_after="30"), RateLimited),
        (smtp(421), Retry),
        (smtp(451), Retry),
        (smtp(535), Misconfigured),
        (smtp(530), Misconfigured),
        (smtp(550), Permanent),
    ],
)
def test_a_refusal_is_what_its_code_says(gathered, answer, kind):
    assert isinstance(verdict(gathered(answer), accepted=False), kind)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (http.ConnectTimeout("timed out"), Retry, "no connection in time"),
        (http.ConnectionError("[Errno 111] Connection refused"), Retry, "connection refused"),
        (http.ConnectionError("NameResolutionError: Failed to resolve"), Retry, "its name cannot be resolved"),
        (http.SSLError("certificate verify failed"), Misconfigured, "its certificate is not valid"),
        (http.SSLError("wrong version number"), Retry, "the TLS handshake failed"),
        (http.ReadTimeout("timed out"), Unknown, "no answer in time"),
        (http.ConnectionError("Connection aborted"), Unknown, "the connection broke before the answer"),
        (http.ProxyError("no"), Misconfigured, "its address cannot be used (ProxyError)"),
        (ConnectionRefusedError(111, "Connection refused"), Retry, "connection refused"),
        (TimeoutError("timed out"), Unknown, "no answer in time"),
        (
            smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
            Unknown,
            "the connection broke before the answer",
        ),
        (smtplib.SMTPNotSupportedError("STARTTLS"), Misconfigured, "the server lacks an extension"),
    ],
)
def test_an_error_tells_whether_it_may_have_been_sent(gathered, error, kind, words):
    result = verdict(gathered(error), accepted=False)
    assert isinstance(result, kind)
    assert result.reason.startswith(words)


def test_the_last_thing_that_went_wrong_decides(gathered):
    assert isinstance(verdict(gathered(Answer(500, ""), Answer(401, "")), accepted=False), Misconfigured)
    assert isinstance(verdict(gathered(Answer(401, ""), http.ReadTimeout()), accepted=False), Unknown)
    assert isinstance(verdict(gathered(http.ReadTimeout(), Answer(200, "")), accepted=False), Unknown)


def test_a_mail_servers_refusal_decides_even_if_it_hangs_up_then(gathered):
    result = verdict(gathered(smtp(421, "busy"), smtplib.SMTPServerDisconnected()), accepted=False)
    assert result == Retry("refused (SMTP 421: busy)")


def test_a_plugin_of_another_protocol_is_judged_by_its_words(gathered):
    assert isinstance(verdict(gathered(said=["x", "Failed to send: error=429."]), accepted=False), RateLimited)
    assert verdict(gathered(said=["cannot reach the broker"]), accepted=False) == Unknown("cannot reach the broker")
    assert verdict(gathered(), accepted=False) == Unknown("the plugin gave no reason")


@pytest.mark.parametrize("code", [400, 403])
def test_what_some_recipients_have_got_is_not_sent_to_all_again(gathered, code):
    evidence = gathered(Answer(200, ""), Answer(code, ""))
    assert isinstance(verdict(evidence, accepted=False, several=True), Permanent)
    evidence = gathered(Answer(200, ""), Answer(500, ""))
    assert isinstance(verdict(evidence, accepted=False, several=True), Retry)
    # A log-in that went well before the message was refused is not a delivery.
    evidence = gathered(Answer(200, ""), Answer(403, ""))
    assert isinstance(verdict(evidence, accepted=False, several=False), Misconfigured)


# -- pauses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("35", 35.0),
        ("0.5", 1.0),
        ("3600", LONGEST_PAUSE),
        ("9" * 400, None),
        ("1e999", None),
        ("-1", None),
        ("0", None),
        ("nan", None),
        ("abc", None),
        ("", None),
        (None, None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0),
        ("Thu, 01 Jan 1970 00:01:40", 100.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Mon, 32 Foo 99999 99:99:99 GMT", None),
        ("Wed, 21 Oct 9998 07:28:00 GMT", LONGEST_PAUSE),
    ],
)
def test_a_pause_is_taken_within_reason_and_nonsense_is_none(header, seconds):
    assert retry_after(Answer(429, "", retry_after=header), now=0.0) == seconds


@pytest.mark.parametrize(
    "text",
    [
        '{"parameters": {"retry_after": 35}}',
        "Too Many Requests: retry after 35",
        '{"retry_after":35.0, "global": false}',
    ],
)
def test_a_pause_may_stand_in_the_body(text):
    assert retry_after(Answer(429, text), now=0.0) == 35.0
    assert retry_after(Answer(429, text, retry_after="abc"), now=0.0) == 35.0


def test_a_plugin_that_wants_to_sleep_is_rate_limited():
    assert paused(3605.5).after == LONGEST_PAUSE
    assert paused(2.0) == RateLimited("the service's own limit is used up", 2.0)


# -- the second try -----------------------------------------------------------------------------------------------


def test_only_a_refused_text_is_tried_again_without_markup(gathered):
    assert wants_plain_text(gathered(Answer(400, "can't parse entities")))
    assert wants_plain_text(gathered(Answer(413, "")))
    assert not wants_plain_text(gathered(Answer(400, "chat not found")))
    assert not wants_plain_text(gathered(Answer(401, "")))
    assert not wants_plain_text(gathered(smtp(413)))
    assert not wants_plain_text(gathered(http.ReadTimeout()))
    assert not wants_plain_text(gathered())


# -- words --------------------------------------------------------------------------------------------------------


def test_a_reason_quotes_the_service_on_one_line_without_secrets(gathered):
    answer = Answer(400, '{"ok": false, "description": "Bad Request:\\n no\\"t this", "token": "x"}')
    result = verdict(gathered(answer), accepted=False)
    assert result.reason == 'bad request (HTTP 400: Bad Request:\\n no\\"t this)'
    secret = "123456789:" + "A" * 35
    assert secret not in verdict(gathered(Answer(404, f'{{"message": "no bot {secret}"}}')), accepted=False).reason
    assert len(verdict(gathered(smtp(550, "x" * 5000)), accepted=False).reason) < 400
