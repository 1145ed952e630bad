"""What an Apprise plugin's doings mean: evidence to result. Pure."""

from __future__ import annotations

import math
import re
import smtplib
from datetime import timezone
from email.utils import parsedate_to_datetime

from hireliab.monitoring._apprise_evidence import Answer, Evidence
from hireliab.monitoring._freeze import clean
from hireliab.monitoring.alert_channels import Misconfigured, Ok, Permanent, RateLimited, Result, Retry, Unknown

LONGEST_PAUSE = 600.0
"""Seconds; a service that asks for more is asked again then: an hour without alerts is worse than a second refusal."""
_MARKUP_CODES = frozenset((400, 413, 422))
_LOGIN_CODES = frozenset((454, 530, 534, 535, 538))
_WORDS = {
    400: "bad request",
    401: "wrong token or password",
    403: "forbidden",
    404: "not found",
    408: "the service gave up waiting",
    413: "too long",
    429: "too many messages",
}
# A 400 that no other text would mend.
_NOBODY = re.compile(
    r"(chat|channel|user|webhook|recipient|room)[ _](?:id )?(?:is )?(?:not[ _]found|invalid)", re.IGNORECASE
)
_AFTER = re.compile(r"retry[ _-]?after\"?[\s:]{0,4}(\d{1,9}(?:\.\d{1,6})?)", re.IGNORECASE)
_DESCRIPTION = re.compile(r'"(?:description|message|error|detail|title)"\s*:\s*"((?:[^"\\]|\\.){1,2000})')
_ERROR_CODE = re.compile(r"\berror=(\d{3})\b")


def verdict(evidence: Evidence, *, accepted: bool, several: bool = False, told: bool = False) -> Result:
    """
    What became of the message.

    Args:
        evidence: Of one call of a plugin.
        accepted: What the plugin returned.
        several: Whether the plugin sends to more than one recipient.
        told: Whether one of them is known to have got it, now or at an earlier attempt.
    """
    if accepted:
        return Ok()
    result = _failure(evidence)
    some_got_it = told or any(isinstance(event, Answer) and event.code < 300 for event in evidence.events)
    if several and some_got_it and isinstance(result, Permanent | Misconfigured):
        # Sent once more, it would come twice to those who got it.
        return Permanent(f"not all recipients: {result.reason}")
    return result


def wants_plain_text(evidence: Evidence) -> bool:
    """Whether the service refused the text itself, so that a shorter one without markup may do."""
    failed = _decisive(evidence)
    return (
        isinstance(failed, Answer)
        and not failed.smtp
        and failed.code in _MARKUP_CODES
        and not _NOBODY.search(failed.text)
    )


def paused(seconds: float) -> RateLimited:
    """A plugin wanted to sleep."""
    return RateLimited("the service's own limit is used up", _clamped(seconds))


def _failure(evidence: Evidence) -> Result:
    failed = _decisive(evidence)
    if failed is None:
        failed = _from_words(evidence.said)
    if failed is None:
        return Unknown(_clean(evidence.said[-1] if evidence.said else "the plugin gave no reason"))
    if not isinstance(failed, Answer):
        return _of_error(failed)
    return _of_smtp(failed) if failed.smtp else _of_http(failed, now=evidence.clock.time())


def _decisive(evidence: Evidence) -> Answer | Exception | None:
    """The last thing that went wrong; of an SMTP session its last refusal, after which the peer may just hang up."""
    wrong = [event for event in evidence.events if not isinstance(event, Answer) or event.code >= 300]
    refusals = [event for event in wrong if isinstance(event, Answer) and event.smtp]
    return (refusals or wrong or [None])[-1]


def _from_words(said: list[str]) -> Answer | None:
    """From a plugin that uses neither requests nor smtplib: what its own warnings say."""
    for text in reversed(said):
        found = _ERROR_CODE.search(text)
        if found:
            return Answer(int(found[1]), text)
    return None


def _of_http(answer: Answer, *, now: float) -> Result:
    code = answer.code
    reason = _reason(answer)
    after = retry_after(answer, now=now)
    if code == 429 or (code == 503 and after is not None):
        return RateLimited(reason, after)
    if code in {408, 425} or code >= 500:
        return Retry(reason, after)
    if code in _MARKUP_CODES and not _NOBODY.search(answer.text):
        return Permanent(reason)
    return Misconfigured(reason)  # 401, 403, 404, a redirect, …: no alert will be taken until somebody looks


def _of_smtp(answer: Answer) -> Result:
    reason = _reason(answer)
    if answer.code in _LOGIN_CODES:
        return Misconfigured(reason)
    return Permanent(reason) if answer.code >= 500 else Retry(reason)


def _of_error(error: Exception) -> Result:
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if "SSLError" in names:
        wrong = "certificate" in text.lower()
        return Misconfigured("its certificate is not valid") if wrong else Retry("the TLS handshake failed")
    if "ConnectTimeout" in names or "ConnectTimeoutError" in text:
        return Retry("no connection in time")
    if "NameResolutionError" in text or "gaierror" in names or "getaddrinfo" in text or "Name or service" in text:
        return Retry("its name cannot be resolved")
    if "ConnectionRefusedError" in names or "refused" in text or "NewConnectionError" in text:
        return Retry("connection refused" if "refused" in text.lower() else "no connection")
    if names & {"ProxyError", "InvalidURL", "MissingSchema", "InvalidSchema"}:
        return Misconfigured(f"its address cannot be used ({type(error).__name__})")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Misconfigured("the server lacks an extension that the address asks for")
    if "Timeout" in names or isinstance(error, TimeoutError) or "timed out" in text:
        return Unknown("no answer in time")
    return Unknown("the connection broke before the answer")


def retry_after(answer: Answer, *, now: float) -> float | None:
    """Seconds that a service asks to wait, between 1 and `LONGEST_PAUSE`; None when it says nothing that makes sense."""
    given = (answer.retry_after or "").strip()
    if given:
        try:
            return _clamped(float(given))
        except ValueError:
            pass
        try:
            moment = parsedate_to_datetime(given)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
            return _clamped(moment.timestamp() - now)
        except (ValueError, TypeError, IndexError, OverflowError):
            pass
    said = _AFTER.search(answer.text)
    return _clamped(float(said[1])) if said else None


def _clamped(seconds: float) -> float | None:
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(max(1.0, seconds), LONGEST_PAUSE)


def _reason(answer: Answer) -> str:
    said = _DESCRIPTION.search(answer.text)
    detail = said[1] if said else answer.text if answer.smtp else ""
    words = _WORDS.get(answer.code, "server error" if answer.code >= 500 and not answer.smtp else "refused")
    if not answer.smtp and 300 <= answer.code < 400:
        words = "redirected elsewhere"
    where = "SMTP" if answer.smtp else "HTTP"
    return _clean(f"{words} ({where} {answer.code}{': ' + detail if detail.strip() else ''})")


def _clean(text: str) -> str:
    # The service's own words: they may hold anything, and a cut may leave half of a token.
    return clean(" ".join(text.split()), 300, one_line=True)
