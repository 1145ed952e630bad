"""What a channel's answer means: of the results that it may return, and of everything else that it may return instead."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any

from hireliab.monitoring._freeze import freeze_text
from hireliab.monitoring.alert_channels import RESULTS, Misconfigured, Ok, RateLimited, Result, Retry

MAX_REASON = 500
_NEVER_RUN = (Coroutine, Generator, AsyncGenerator)


def judge(answer: object) -> Result:
    """
    A channel's answer as a result whose reason is a short line without secrets, and whose pause is a number or None.

    False is a failure: the functions that people wrap say so with it. A coroutine or a generator is a mistake of the
    configuration: nothing of it has run, and to count it as sent would lose every alert without a word.
    """
    if answer is None:
        return Ok()
    if isinstance(answer, RESULTS):
        return _plain(answer)
    if answer is False:
        return Retry("the channel returned False")
    if isinstance(answer, _NEVER_RUN):
        close = getattr(answer, "close", None)
        if callable(close):
            close()  # else Python warns later that it was never awaited
        return Misconfigured("the channel returned a coroutine or a generator, which nobody runs; it must do its work")
    return Ok()


def _plain(result: Any) -> Result:
    kind: Any = next(kind for kind in RESULTS if isinstance(result, kind))
    if kind is Ok:
        return Ok()
    reason = freeze_text(result.reason, MAX_REASON, one_line=True)
    if kind in {Retry, RateLimited}:
        return kind(reason, _seconds(result.after))  # type: ignore[no-any-return]
    return kind(reason)  # type: ignore[no-any-return]


def _seconds(given: Any) -> float | None:
    if given is None:
        return None
    try:
        return float(given)
    except (TypeError, ValueError, OverflowError):
        return None
