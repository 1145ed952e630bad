"""The third layer, what we know to be secret, and other people's log lines."""

import logging
import threading

import pytest

from hireliab.monitoring import _redaction
from hireliab.monitoring._freeze import clean
from hireliab.monitoring._redaction import KnownSecrets, guard_loggers, redact, secrets_of_url


@pytest.fixture
def known(monkeypatch):
    known = KnownSecrets()
    monkeypatch.setattr(_redaction, "known_secrets", known)
    monkeypatch.setattr("hireliab.monitoring._freeze.known_secrets", known)
    return known


def test_a_known_secret_is_masked_in_any_spelling_and_a_short_one_is_left_alone(known):
    known.add(["pa ss/wörd", "tiny"])
    assert redact("x pa ss/wörd y") == "x *** y"
    assert redact("pa%20ss%2Fw%C3%B6rd pa+ss%2Fw%C3%B6rd pa%20ss/w%C3%B6rd") == "*** *** ***"
    assert redact("tiny things") == "tiny things"
    known.add(["pa%21ssword"])
    assert redact("it was pa!ssword") == "it was ***"


def test_the_longest_is_masked_first(known):
    known.add(["hunter2", "json://bot:hunter2@host/hook"])
    assert redact("json://bot:hunter2@host/hook and hunter2") == "*** and ***"


def test_characters_that_mean_something_in_patterns_are_taken_as_they_are(known):
    known.add(["a.c*(d]"])
    assert redact("a.c*(d] abc*(d]") == "*** abc*(d]"


@pytest.mark.parametrize("where", range(80, 360, 7))
def test_no_part_of_a_known_secret_shows_at_a_cut(known, where):
    secret = "corr3ct h0rse (battery) st@ple!"
    known.add([secret])
    text = "x" * (where - 1) + " " + secret + " y" * 500
    shown = clean(text, 100)
    for size in range(4, len(secret)):
        assert secret[:size] not in shown


@pytest.mark.parametrize("where", range(220, 320, 3))
def test_no_part_of_a_known_secret_shows_at_a_cut_that_a_mask_has_moved_forward(known, where):
    secret = "corr3ct h0rse (battery) st@ple!"
    known.add([secret])
    shown = clean(f"api_secret={'q' * where} {secret} and more" + " y" * 500, 100)
    assert shown.startswith("api_secret=***")
    for size in range(4, len(secret)):
        assert secret[:size] not in shown


@pytest.mark.parametrize("name", ["api_\u017fecret", "to\u212aen", "\u017fecret_key", "s\u0131gnature", "api_secret"])
def test_a_name_is_known_however_its_letters_are_written(name):
    assert "hunter2x" not in redact(f"{name}=hunter2x")


def test_a_cut_text_without_secrets_keeps_its_length(known):
    known.add(["z" * 300])
    assert clean("x" * 500, 100).startswith("x" * 100)


@pytest.mark.parametrize(
    ("url", "secret", "shown"),
    [
        ("tgram://123456789:AAbbccddee/999", ["123456789:AAbbccddee"], ["999"]),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", ["A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"], ["#general"]),
        ("mailto://user:hunter2x@gmail.com?to=me@example.com", ["hunter2x"], ["user", "gmail.com", "me@example.com"]),
        ("json://bot:hunter2x@localhost:8080/alerts", ["hunter2x"], ["localhost", "alerts", "bot"]),
        ("json://localhost/hooks/a1b2c3d4e5", ["a1b2c3d4e5"], ["localhost", "hooks"]),
        ("https://x.example/ping?token=swordfish", ["swordfish"], ["x.example", "ping"]),
        ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", ["JHMHI8qBe7bk2ZwO5U711o3dV_js"], []),
        ("tgram://[broken/123456789:AAbbccddee", ["123456789:AAbbccddee"], []),
    ],
)  # fmt: skip
def test_what_must_not_be_shown_of_an_address(url, secret, shown):
    found = secrets_of_url(url)
    assert url in found
    assert set(secret) <= set(found)
    assert not set(shown) & set(found)


@pytest.mark.parametrize("name", ["apprise", "urllib3.connectionpool", "requests"])
def test_other_peoples_lines_are_masked_at_every_level_with_their_exceptions(known, caplog, name):
    secret = "s3cr3t-of-ours"
    known.add([secret])
    guard_loggers()
    guard_loggers()
    log = logging.getLogger(name)
    caplog.set_level(logging.DEBUG, logger=name)
    assert len([one for one in log.filters if isinstance(one, _redaction._RedactingFilter)]) == 1
    log.debug("POST /%s/send %d", secret, 200)
    try:
        raise OSError(f"https://example.com/{secret}")
    except OSError:
        log.exception("failed")
    log.info("ordinary %s", "line")
    log.info("%d", "no number")
    assert secret not in caplog.text
    assert "POST /***/send 200" in caplog.text
    assert "OSError: https://example.com/***" in caplog.text
    assert "ordinary line" in caplog.text
    assert "could not be checked" in caplog.text


def test_a_forked_childs_registry_has_a_lock_of_its_own(known):
    known._lock.acquire()
    thread = threading.Thread(target=known._lock.release)  # not its owner: as after a fork
    known.renew_in_child()
    known.add(["another-secret"])
    assert redact("another-secret") == "***"
    assert not thread.is_alive()
