"""
Every exception that hireliab raises.

One question runs through the tree: did the call *not go out* (`NotSentError`), was it *refused* (`RefusedError`),
or is its outcome *unknown* (`OutcomeUnknownError`)? The first may be repeated, the second must be changed, and the
third must be looked up before anything else is done.

An error carries its facts as attributes, pickles and copies, and its text reads ``subject: what; what next``.
This module names no third party.
"""

from __future__ import annotations

from typing import Any, ClassVar


def _rebuild(cls: type[HireliabError], args: tuple[Any, ...], facts: dict[str, Any]) -> HireliabError:
    """Make an error again from its pickled parts, without calling a subclass's ``__init__``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class HireliabError(Exception):
    """The root: catch it to catch everything that hireliab itself raises."""

    # The finished text is the only positional argument. Facts never are: OSError and its children would take
    # the first two of them as errno and strerror.
    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


class ConfigError(HireliabError, ValueError):
    """
    A setting, an argument or a combination of them is wrong; nothing was changed.

    Attributes:
        setting: The setting's name.
        value: What was given; None for a secret.
        allowed: The allowed range or choices, in words.
        near_miss: A known name that looks like the unknown one, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        setting: str | None = None,
        value: object = None,
        allowed: str | None = None,
        near_miss: str | None = None,
    ) -> None:
        super().__init__(message)
        self.setting = setting
        self.value = value
        self.allowed = allowed
        self.near_miss = near_miss


class MissingDependencyError(HireliabError, ImportError):
    """An optional package is not installed; the text is the pip command that installs it."""


class ClosedError(HireliabError):
    """The object was used after `stop()`."""


# -- the call did not go out ------------------------------------------------------------------------------------


class NotSentError(HireliabError):
    """The call did not go out: nothing happened at the other side, and repeating it is safe."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed within moments, so that trying again is sensible."""


class CircuitOpenError(NotSentError):
    """
    The circuit breaker refused the call.

    Attributes:
        name: The breaker's name.
        state: The breaker's state when it refused.
        retry_after: Seconds until the next probe may be admitted; None when that is unknown (isolated).
        last_error: Text of the error that opened the circuit, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "",
        state: str = "open",
        retry_after: float | None = None,
        last_error: str | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.state = state
        self.retry_after = retry_after
        self.last_error = last_error

    def __str__(self) -> str:
        if self.args and self.args[0]:
            return str(self.args[0])
        # Formatted only when printed: an open circuit refuses thousands of calls a second.
        after = "" if self.retry_after is None else f"; try again in {self.retry_after:.1f} s"
        cause = "" if self.last_error is None else f" after {self.last_error}"
        return f"circuit breaker {self.name!r}: {self.state}{cause}, the call was not made{after}"


class PoolError(NotSentError):
    """
    The pool gave no client: the client's method was not called.

    Attributes:
        pool: The pool's name.
    """

    def __init__(self, message: str = "", *, pool: str = "") -> None:
        super().__init__(message)
        self.pool = pool


class PoolTimeoutError(PoolError):
    """No client became free in time."""

    retryable = True


class PoolFullError(PoolError):
    """Too many callers are already waiting for a client."""


class PoolCreateError(PoolError):
    """The factory failed to make a client; the cause is its exception."""


class PoolDownError(PoolError):
    """
    The factory keeps failing and no client can come back, so waiting is pointless for now.

    Attributes:
        retry_after: Seconds until the pool tries the factory again.
    """

    def __init__(self, message: str = "", *, pool: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, pool=pool)
        self.retry_after = retry_after


class PoolDeadlockError(PoolError):
    """Every client is held by threads that wait for another one, this thread among them: the wait would never end."""


class PoolStoppedError(PoolError, ClosedError):
    """The pool is, or was meanwhile, stopped."""


class RateLimitedError(NotSentError):
    """
    Our own rate limiter refused the call before it was sent.

    Attributes:
        retry_after: Seconds until the limiter has room.
    """

    retryable = True

    def __init__(self, message: str = "", *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConnectError(NotSentError):
    """No connection could be made: no byte of the request left this machine."""

    retryable = True


class BulkheadFullError(NotSentError):
    """Too many calls of this kind are already running."""


class DeadlineExceededError(NotSentError):
    """The time budget was spent before the call was made."""


# -- a definite no ----------------------------------------------------------------------------------------------


class RefusedError(HireliabError):
    """
    A definite no: the call was understood and did not happen.

    Attributes:
        by: "venue" or "hireliab".
        code: The venue's code, or None.
        http_status: The HTTP status of the answer, or None.
    """

    by: str = "venue"

    def __init__(
        self, message: str = "", *, by: str | None = None, code: str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.by = type(self).by if by is None else by
        self.code = code
        self.http_status = http_status


class OrderRejectedError(RefusedError):
    """The venue refused the order: it was not placed."""


class InsufficientFundsError(OrderRejectedError):
    """The wallet does not cover the order."""


class InvalidOrderError(RefusedError, ValueError):
    """The order breaks a rule of the market (step, minimum, price, symbol), found here or by the venue."""


class TransactionDeniedError(RefusedError):
    """
    The pipeline refused the order before sending it: halt, limit, recovery gate or duplicate guard.

    Attributes:
        reason: One word for the cause, such as "recovering" or "executed".
        transaction_id: The transaction that was denied, or None.
    """

    by = "hireliab"

    def __init__(self, message: str = "", *, reason: str = "", transaction_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.transaction_id = transaction_id


class DuplicateOrderError(RefusedError):
    """The venue says that an equal order may exist already: look before sending another."""


class ThrottledError(RefusedError):
    """
    The venue's rate limit refused the request; the same request may be sent later.

    Attributes:
        retry_after: Seconds to wait before the same address is called again.
    """

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float = 1.0,
        by: str | None = None,
        code: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, by=by, code=code, http_status=http_status)
        self.retry_after = retry_after


class OrderNotFoundError(RefusedError):
    """The venue does not know this order *at this address*; it may know it at another."""


class AuthenticationError(RefusedError):
    """The venue did not accept the credentials, the signature or the permission."""


# -- it may have happened ---------------------------------------------------------------------------------------


class OutcomeUnknownError(HireliabError):
    """
    The call may have happened: look before acting.

    Attributes:
        transaction_id: The transaction that is still being resolved, or None outside of a pipeline.
        client_order_id: The id to look for, or None.
        candidates: Venue ids of orders that may be this one.
        presumed_absent: True when every look-up says absent, but the venue gives no fence that would prove it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        transaction_id: str | None = None,
        client_order_id: str | None = None,
        candidates: tuple[str, ...] = (),
        presumed_absent: bool = False,
    ) -> None:
        super().__init__(message)
        self.transaction_id = transaction_id
        self.client_order_id = client_order_id
        self.candidates = candidates
        self.presumed_absent = presumed_absent


class ResponseTimeoutError(OutcomeUnknownError):
    """The request went out and no answer came in time."""


class ResponseLostError(OutcomeUnknownError):
    """The connection broke after bytes of the request had left."""


class MalformedResponseError(OutcomeUnknownError):
    """
    An answer came that means nothing: not JSON, cut short, of a wrong shape, or with an undocumented code.

    Attributes:
        code: The undocumented code, or None.
        http_status: The HTTP status of the answer, or None.
    """

    def __init__(self, message: str = "", *, code: str | None = None, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status


class UnconfirmedPublishError(OutcomeUnknownError):
    """The broker did not confirm the message: it may have been published."""


# -- the rest ---------------------------------------------------------------------------------------------------


class PartialFillError(HireliabError):
    """
    The venue closed the order with a part of the amount filled.

    Attributes:
        result: The TransactionResult.
        filled: The amount that was filled, a Decimal.
        remaining: The amount that was not, a Decimal.
    """

    def __init__(self, message: str = "", *, result: Any = None, filled: Any = None, remaining: Any = None) -> None:
        super().__init__(message)
        self.result = result
        self.filled = filled
        self.remaining = remaining


class IdempotencyConflictError(HireliabError):
    """
    The idempotency key was used before with another order; nothing was sent.

    Attributes:
        idempotency_key: The key.
        transaction_id: The transaction that holds it.
    """

    def __init__(self, message: str = "", *, idempotency_key: str = "", transaction_id: str | None = None) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
        self.transaction_id = transaction_id


class JournalError(HireliabError):
    """The journal cannot be used as asked; no order was sent because of this call."""


class JournalCorruptError(JournalError):
    """The journal file is damaged or is not ours."""


class JournalLockedError(JournalError):
    """Another process or another pipeline owns this journal folder."""


class JournalPoisonedError(JournalError):
    """A write to the journal failed; nothing more is sent until a restart reads what the disk really holds."""


class BusError(HireliabError):
    """The message bus cannot do what was asked."""


class BusFullError(BusError):
    """The bus's bounded queue is full; the message was not taken."""


class MessageDecodeError(BusError):
    """A delivered message cannot be decoded."""


class TopologyError(BusError):
    """The broker has a queue or exchange with other settings; the text names the setting."""


class AlertError(HireliabError):
    """An alert could not be delivered; never raised into the trading path."""
