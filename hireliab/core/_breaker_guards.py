"""
The wrappers of decorated functions: what a good call through a closed circuit costs is decided here.

While a call is good and the one before it was, there is nothing to write down: no lock is taken, no listener asked
and, without a window, no clock read. Everything else goes the breaker's general way. The gate is read once, before
the call; it may be retired by the time at which the call ends, which `_finish` finds out with the lock held.

A wrapper is compiled for the parameters of its function. To take ``*args, **kwargs`` and pass them on costs four to
five bare calls by itself; to pass three named arguments on costs one. Dataclasses do the same for ``__init__``.
"""

from __future__ import annotations

import functools
import keyword
import types
from collections.abc import Callable
from typing import Any, Protocol

from hireliab.core._breaker_machine import Machine
from hireliab.core._gate import Gate, Outcome

# The names of the wrapper's own variables; a parameter that is called so gets a wrapper that takes everything.
_OWN = "_hireliab_"

_PLAIN = """
def wrap(FUNC, CALL, FINISH, FAILED, GOOD, MACHINE):
    def wrapper({parameters}):
        GATE = MACHINE.gate
        if not GATE.quick:
            return CALL(FUNC, ({positional}), {{{named}}})
        try:
            RESULT = FUNC({arguments})
        except BaseException as ERROR:
            FAILED(GATE, ERROR, 0.0)
            raise
        if GATE.failures:
            FINISH(GATE, GOOD, 0.0)
        return RESULT
    return wrapper
"""

_TIMED = """
def wrap(FUNC, CALL, FINISH, FAILED, GOOD, MACHINE, CLOCK, SLOW):
    def wrapper({parameters}):
        GATE = MACHINE.gate
        if not GATE.quick:
            return CALL(FUNC, ({positional}), {{{named}}})
        STARTED = CLOCK()
        try:
            RESULT = FUNC({arguments})
        except BaseException as ERROR:
            FAILED(GATE, ERROR, STARTED)
            raise
        NOW = CLOCK()
        if NOW < GATE.turn and NOW - STARTED < SLOW:
            next(GATE.good)
        else:
            FINISH(GATE, GOOD, STARTED)
        return RESULT
    return wrapper
"""

_NAMES = (
    "FUNC", "CALL", "FINISH", "FAILED", "GOOD", "MACHINE", "CLOCK", "SLOW", "GATE", "RESULT", "ERROR", "STARTED", "NOW",
)  # fmt: skip


class _Breaker(Protocol):
    _machine: Machine

    def _call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any: ...

    def _finish(self, gate: Gate, outcome: Outcome, started: float) -> None: ...

    def _failed(self, gate: Gate, error: BaseException, started: float) -> None: ...


def guard(breaker: _Breaker, func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function for a breaker that counts failures in a row only."""
    return _wrap(_PLAIN, breaker, func)


def guard_timed(
    breaker: _Breaker, func: Callable[..., Any], *, monotonic: Callable[[], float], slow_after: float
) -> Callable[..., Any]:
    """Wrap a function for a breaker that has a window."""
    return _wrap(_TIMED, breaker, func, monotonic, slow_after)


def _wrap(template: str, breaker: _Breaker, func: Callable[..., Any], *more: Any) -> Callable[..., Any]:
    parameters, positional, named = _parameters(func)
    for name in _NAMES:
        template = template.replace(name, _OWN + name)
    source = template.format(
        parameters=", ".join(parameters),
        positional="".join(f"{name}, " for name in positional),
        named=", ".join(name if name.startswith("**") else f"{name!r}: {name}" for name in named),
        arguments=", ".join([*positional, *(n if n.startswith("**") else f"{n}={n}" for n in named)]),
    )
    scope: dict[str, Any] = {}
    exec(compile(source, "<hireliab guard>", "exec"), scope)  # noqa: S102  # checked identifiers in a text of ours
    wrapper: Any = scope["wrap"](
        func, breaker._call, breaker._finish, breaker._failed, Outcome.SUCCESS, breaker._machine, *more
    )
    if isinstance(func, types.FunctionType):
        wrapper.__defaults__ = func.__defaults__
        wrapper.__kwdefaults__ = func.__kwdefaults__
    functools.update_wrapper(wrapper, func)
    return wrapper  # type: ignore[no-any-return]  # of exec


def _parameters(func: Callable[..., Any]) -> tuple[list[str], list[str], list[str]]:
    """
    Parameters of a wrapper, without their defaults.

    Returns:
        As they stand in its head; those to pass on by position; those to pass on by name.
    """
    anything = ["*args", "**kwargs"], ["*args"], ["**kwargs"]
    if not isinstance(func, types.FunctionType):
        return anything
    code = func.__code__
    plain, only_named = code.co_argcount, code.co_kwonlyargcount
    flags = bool(code.co_flags & 0x04), bool(code.co_flags & 0x08)
    names = list(code.co_varnames[: plain + only_named + sum(flags)])
    if any(name.startswith(_OWN) or not name.isidentifier() or keyword.iskeyword(name) for name in names):
        return anything
    head, positional, named = names[:plain], names[:plain], names[plain : plain + only_named]
    if code.co_posonlyargcount:
        head.insert(code.co_posonlyargcount, "/")
    if flags[0]:
        rest = "*" + names[plain + only_named]
        head.append(rest)
        positional.append(rest)
    elif named:
        head.append("*")
    head += named
    if flags[1]:
        rest = "**" + names[-1]
        head.append(rest)
        named.append(rest)
    return head, positional, named
