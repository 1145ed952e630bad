"""
@verified_transaction: puts the pipeline's journal around a place_order function that a bot has already.

The function stays as it is: requests, ccxt or an SDK. What is added is what a crash or a lost answer takes away: a record
on disk before it is called, and a look-up afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from hireliab.core import config
from hireliab.errors import ConfigError
from hireliab.exchange._verified_arguments import Shape
from hireliab.exchange._verified_calls import Finder, check_finder
from hireliab.exchange._verified_cancel import CallCanceller, no_cancel
from hireliab.exchange._verified_runner import CallRunner, Judge
from hireliab.exchange._verified_values import Parameters
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline

__all__ = ["VerifiedFunction", "never_connected", "verified_transaction"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_NEVER_CONNECTED = frozenset(
    (
        ("requests", "ConnectTimeout"),
        ("urllib3", "ConnectTimeoutError"),
        ("urllib3", "NewConnectionError"),
        ("httpx", "ConnectTimeout"),
        ("httpx", "ConnectError"),
        ("socket", "gaierror"),
        ("builtins", "ConnectionRefusedError"),
    )
)
_DEPTH = 10


class VerifiedFunction(Protocol[P, R_co]):
    """A decorated function; called as before."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call it, with the journal around it; see `verified_transaction`."""

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., R_co]:
        """A method stays one."""

    def cancel(self, transaction_id: str) -> bool:
        """
        Cancel the order of a decided call with ``cancel=``, and look with ``find=`` until it is closed.

        The intent is on disk before the cancel is sent. Cancelling again is harmless, and decides earlier cancels, too.

        Returns:
            True: it is closed, and not because all of it was filled. False: it was filled before the cancel.

        Raises:
            InvalidOrderError: There is no such call of this function, it placed no order, or there is no ``cancel=``.
            OutcomeUnknownError: The look-up does not show that it is closed, or the order itself is not found yet.
        """


def never_connected(error: BaseException) -> bool:
    """
    Whether an exception of requests, urllib3, httpx or a socket says that no connection was made; for ``not_sent=``.

    It speaks of the last request only. It proves that no order left if, and only if, the decorated function makes one
    request and nothing below it sends again: requests without a urllib3 ``Retry``, ccxt without
    ``maxRetriesOnFailure``, no redirect that is followed. That is why it is not the default.
    """
    seen: set[int] = set()
    links: list[object] = [error]
    for _ in range(_DEPTH):
        if not links:
            break
        link = links.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        names = {(str(cls.__module__).partition(".")[0], cls.__name__) for cls in type(link).__mro__}
        if names & _NEVER_CONNECTED:
            return True
        links += [link.__cause__, getattr(link, "reason", None), *link.args]
    return False


def verified_transaction(
    pipeline: TransactionVerificationPipeline,
    *,
    find: Callable[..., Any] | None = None,
    cancel: Callable[..., Any] | None = None,
    finds_closed: bool = False,
    refused: type[BaseException] | tuple[type[BaseException], ...] | Judge = (),
    not_sent: type[BaseException] | tuple[type[BaseException], ...] | Judge = (),
    idempotency_key: Callable[..., str | None] | None = None,
    client_order_id_arg: str | None = None,
    name: str | None = None,
) -> Callable[[Callable[P, R_co]], VerifiedFunction[P, R_co]]:
    """
    Decorate a function that places one order.

    It runs in the caller's thread. Before it is called a record of the call is on disk, so that a crash forgets nothing;
    a client order id of the pipeline's is put in where the signature takes one and the caller gave none. Then:

    - it returned: with `find` once that shows the order, without it at once. Its value is returned as it is.
    - it raised NotSentError, or what `not_sent` knows: nothing happened; the exception passes.
    - it raised RefusedError (DuplicateOrderError excepted), or what `refused` knows: a definite no; the exception passes.
    - anything else may have placed the order. `find` is asked, in the caller's thread, for `verification_timeout`
      seconds at most; when it shows the order, this is returned (of a list the first that is ours), because the
      function's own value is lost. Else OutcomeUnknownError is raised from the exception, and `find` is asked again in
      the background, also after a restart.
    - Ctrl-C and the like pass as they are; the background goes on.

    Guarantees: the function is called at most once for each call of the wrapper, and not at all when the record cannot
    be made durable; no call is forgotten. Does not: see inside the function. A retry in there (ccxt's
    ``maxRetriesOnFailure``, a urllib3 ``Retry`` that repeats POST) can place a second order, which is told only where
    `find` shows two. A function that swallows its exceptions has no outcome but "returned". Without a client order id
    `find` must know the order by other means. Of the pipeline's limits only the halt and the duplicate guard apply.
    Without `find` the honest maximum is journal, alert and unknown.

    Args:
        pipeline: On the account at which the function trades.
        find: Called with those of ``client_order_id``, ``order_id`` and the function's arguments that it takes by name,
            from any thread. Returns the order (a mapping or object that shows its id, or the id) or a list of them; None
            or an empty list when the look-up worked and shows nothing; an exception when it did not work. Anything else
            counts as not having worked. It needs a time limit of its own.
        cancel: Called in the same way by the wrapper's ``cancel(transaction_id)``.
        finds_closed: Whether `find` sees closed orders, too. Only then do three empty look-ups after the exchange's
            late arrival bound make the order presumed absent.
        refused: Exception types, or a function of the exception, that mean the venue's definite no.
        not_sent: The same for exceptions that prove that no byte left; see `never_connected`.
        idempotency_key: Makes a text from the arguments that it takes by name. A call with a key that was used before,
            also before a restart, returns what the first one returned or what `find` shows, and calls nothing.
        client_order_id_arg: The parameter for the client order id; found by itself when it is called client_order_id,
            clientOrderId or newClientOrderId.
        name: The function's name in the journal, under which a restart finds `find` again; its qualified name when
            left out. Two functions need two names.

    Raises:
        ConfigError: At decoration: an async or generator function, a `find` or `cancel` that takes what the function
            does not have, or settings that do not go together.

    The decorated function raises, besides what it raises itself, OutcomeUnknownError; TransactionDeniedError (halt,
    an equal call that is not decided, or "executed" for a key whose value is lost); IdempotencyConflictError;
    NotSentError and children; and what `TransactionVerificationPipeline.start` raises. In all but the first nothing
    was called.
    """
    if not isinstance(pipeline, TransactionVerificationPipeline):
        raise ConfigError(
            f"verified_transaction: pipeline must be a TransactionVerificationPipeline, got {pipeline!r:.80};"
            " write @verified_transaction(pipeline)",
            setting="pipeline",
        )
    config.flag("finds_closed", finds_closed)
    if find is None and (finds_closed or cancel is not None):
        raise ConfigError("verified_transaction: finds_closed and cancel need find", setting="find")
    judges = {"refused": _judge("refused", refused), "not_sent": _judge("not_sent", not_sent)}

    def decorate(func: Callable[P, R_co]) -> VerifiedFunction[P, R_co]:
        config.decorable("verified_transaction", func)
        called = config.text("name", _name_of(func) if name is None else name)
        shape = Shape(called, func, client_order_id_arg)
        names = _available(shape)
        canceller: Callable[[str], bool] = no_cancel(called)
        if find is not None:
            finder = Finder(
                find=find,
                parameters=check_finder(find, names, takes_all=shape.takes_all, what="find"),
                finds_closed=finds_closed,
                keep=cancel is not None,
                alert=pipeline._ledger.alert,
            )
            pipeline._calls.register(called, finder)
        if cancel is not None:
            parameters = check_finder(cancel, names, takes_all=shape.takes_all, what="cancel")
            canceller = CallCanceller(pipeline=pipeline, name=called, cancel=cancel, parameters=parameters)
        runner = CallRunner(
            pipeline=pipeline,
            shape=shape,
            func=func,
            has_find=find is not None,
            key=_key(idempotency_key, names, takes_all=shape.takes_all),
            **judges,
        )

        @functools.wraps(func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R_co:
            return cast("R_co", runner(args, kwargs))

        wrapper.cancel = canceller  # type: ignore[attr-defined]
        return cast("VerifiedFunction[P, R_co]", wrapper)

    return decorate


def _name_of(func: Callable[..., Any]) -> str:
    return f"{func.__module__}.{getattr(func, '__qualname__', type(func).__qualname__)}"


def _available(shape: Shape) -> frozenset[str]:
    """What a look-up may ask for by name."""
    ids = {"order_id"} | ({"client_order_id"} if shape.id_name is not None else set())
    return shape.names | ids


def _judge(setting: str, given: Any) -> Judge:
    types = given if isinstance(given, tuple) else (given,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
        return lambda error: isinstance(error, types)
    if callable(given) and not isinstance(given, type):
        return cast("Judge", given)
    raise ConfigError(
        f"{setting} must be exception types or a function of the exception, got {given!r:.80}", setting=setting
    )


def _key(
    given: Callable[..., str | None] | None, names: frozenset[str], *, takes_all: bool
) -> Callable[[Mapping[str, Any]], str | None]:
    if given is None:
        return lambda _known: None
    parameters: Parameters = check_finder(given, names, takes_all=takes_all, what="idempotency_key")

    def make(known: Mapping[str, Any]) -> str | None:
        key = given(**parameters.pick(known))
        return None if key is None else config.text("idempotency_key", key)

    return make
