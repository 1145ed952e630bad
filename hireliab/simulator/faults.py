"""
Fault rules, and the decision whether a request meets one. Pure; what a fault does is in delivery.py.

A rule is a JSON object::

    {"route": "POST /market/orders/add", "kind": "answer_lost", "probability": 0.02}

===============  =================================================================================
``route``        a method and path, or a path, or ``*``; always a prefix, a trailing ``*`` is
                 allowed. Default ``*``
``kind``         see below; the only required member
``nth``          fires on the n-th matching request only (from 1)
``every``        fires on every k-th matching request
``probability``  fires with this chance, by the rule's own seeded generator
``count``        fires at most so many times; null or absent: no bound
``account``      only requests with a credential of this account
``seconds``      how long, for delay, late, drip, down, and ``backOff`` of throttle
``processed``    whether the request takes effect, for the kinds marked *p*
``variant``      ``short`` or ``cut``, for truncated_json; ``after_auth``, for late
===============  =================================================================================

Of ``nth``, ``every`` and ``probability`` at most one is given; none means every matching request.
Each rule counts and draws for every matching request, whether or not an earlier rule fired; the
first rule that fires decides. So the same seed and the same sequence of requests meet the same
faults.

=================  ===============================================================================
``request_lost``   read, never processed, closed without an answer
``answer_lost``    processed, closed without an answer
``delay``          processed at once, answered after ``seconds`` (5)
``late``           not answered; processed after ``seconds`` (10), as if held on the way: its
                   credential and limits are checked then, or on arrival with
                   ``"variant": "after_auth"``. The connection stays open for that time
``late_close``     the same, but the connection is closed at once
``throttle``       429 with ``backOff`` *p* (false)
``http_500``       500 with JSON *p* (false)
``http_502``       502, HTML page *p* (false)
``http_503``       503, HTML page *p* (false)
``http_504``       504, HTML page *p* (true)
``truncated_json`` *p* (true); ``short`` (default): Content-Length fits the truncated body;
                   ``cut``: Content-Length is that of the whole body, then the connection closes
``unauthorized``   401 although the credential is good; *p* (false)
``reset``          the connection is reset *p* (false)
``drip``           processed; the answer comes one byte per ``seconds`` (1)
``duplicate``      a proxy delivers the request twice; the second answer is returned
``wrong_id``       processed; the answer carries another order's id and client id
``no_id``          processed; the answer lacks the order's id and client id
``short_list``     processed; the last half of a listing is missing
``down``           the whole exchange is cut off for ``seconds`` (null: until POST /up);
                   this request *p* (false)
=================  ===============================================================================
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hireliab.simulator import money

# kind → (processed by default, seconds by default)
_KINDS: dict[str, tuple[bool, float | None]] = {
    "request_lost": (False, None),
    "answer_lost": (True, None),
    "delay": (True, 5.0),
    "late": (True, 10.0),
    "late_close": (True, 10.0),
    "throttle": (False, 5.0),
    "http_500": (False, None),
    "http_502": (False, None),
    "http_503": (False, None),
    "http_504": (True, None),
    "truncated_json": (True, None),
    "unauthorized": (False, None),
    "reset": (False, None),
    "drip": (True, 1.0),
    "duplicate": (True, None),
    "wrong_id": (True, None),
    "no_id": (True, None),
    "short_list": (True, None),
    "down": (False, None),
}
KINDS = tuple(_KINDS)
_EITHER_WAY = frozenset(
    {"throttle", "http_500", "http_502", "http_503", "http_504", "truncated_json", "unauthorized", "reset", "down"}
)
_VARIANTS = {"truncated_json": ("short", "cut"), "late": ("after_auth",), "late_close": ("after_auth",)}
_MEMBERS = frozenset(
    {"route", "kind", "nth", "every", "probability", "count", "account", "seconds", "processed", "variant"}
)


class FaultError(ValueError):
    """A fault rule that cannot be."""


@dataclass(frozen=True)
class Fault:
    """One request's fate."""

    rule: int
    kind: str
    processed: bool
    seconds: float | None
    variant: str | None


@dataclass
class _Rule:
    id: int
    given: dict[str, object]
    fault: Fault
    method: str
    path: str
    nth: int | None
    every: int | None
    probability: float | None
    limit: int | None
    account: str | None
    rng: random.Random
    seen: int = 0
    fired: int = field(default=0)

    def matches(self, method: str, path: str, account: str | None) -> bool:
        return (
            (not self.method or method == self.method)
            and path.startswith(self.path)
            and (self.account is None or self.account == account)
        )

    def fires(self) -> bool:
        self.seen += 1
        chance = self.rng.random() if self.probability is not None else 0.0
        if self.limit is not None and self.fired >= self.limit:
            return False
        if self.nth is not None:
            return self.seen == self.nth
        if self.every is not None:
            return self.seen % self.every == 0
        return self.probability is None or chance < self.probability


class FaultPlan:
    """
    The rules in force, in the order they were added.

    Thread safety: Any thread.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._lock = threading.Lock()  # guards _rules, _added and each rule's counters
        self._rules: list[_Rule] = []
        self._added = 0

    def add(self, rule: Mapping[str, object] | None = None, /, **members: object) -> int:
        """
        Add a rule, as a mapping or as keywords.

        Returns:
            Its id: 1 for the first rule ever added, and so on; `clear` does not start anew.

        Raises:
            FaultError: A member that is unknown or out of range.
        """
        return self.add_all([{**(rule or {}), **members}])[0]

    def add_all(self, rules: Sequence[Mapping[str, object]]) -> list[int]:
        """Add several rules, or none of them when one is wrong; their ids."""
        with self._lock:
            made = [_rule(self._added + i, dict(given), self._seed) for i, given in enumerate(rules, 1)]
            self._added += len(made)
            self._rules.extend(made)
        return [rule.id for rule in made]

    def clear(self, rule_id: int | None = None) -> None:
        """Remove all rules, or one."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule_id not in (None, rule.id)]

    def decide(self, method: str, path: str, account: str | None) -> Fault | None:
        """The fate of the next request."""
        if not self._rules:
            return None
        fault = None
        with self._lock:
            for rule in self._rules:
                if rule.matches(method, path, account) and rule.fires() and fault is None:
                    rule.fired += 1
                    fault = rule.fault
        return fault

    def as_json(self) -> list[dict[str, object]]:
        """The rules with id, number of matching requests and number of times fired."""
        with self._lock:
            return [{**rule.given, "id": rule.id, "seen": rule.seen, "fired": rule.fired} for rule in self._rules]


def _rule(rule_id: int, given: dict[str, object], seed: int) -> _Rule:
    unknown = sorted(set(given) - _MEMBERS)
    if unknown:
        raise FaultError(f"a fault rule has no member {unknown[0]!r}; it has {', '.join(sorted(_MEMBERS))}")
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise FaultError(f"kind is {kind!r}; one of {', '.join(KINDS)} is expected")
    if sum(given.get(name) is not None for name in ("nth", "every", "probability")) > 1:
        raise FaultError("of nth, every and probability only one can be given")
    probability = _number(given, "probability")
    if probability is not None and probability > 1:
        raise FaultError(f"probability is {probability}; 0 to 1 is allowed")
    method, path = _route(given.get("route", "*"))
    account = given.get("account")
    if account is not None and not isinstance(account, str):
        raise FaultError(f"account is {account!r}; a name is expected")
    return _Rule(
        id=rule_id,
        given=given,
        fault=_fault(rule_id, kind, given),
        method=method,
        path=path,
        nth=_whole(given, "nth"),
        every=_whole(given, "every"),
        probability=probability,
        limit=_whole(given, "count"),
        account=account,
        rng=random.Random(f"{seed}/fault/{rule_id}"),
    )


def _fault(rule_id: int, kind: str, given: Mapping[str, object]) -> Fault:
    processed, seconds = _KINDS[kind]
    wanted = given.get("processed")
    if wanted is not None:
        if not isinstance(wanted, bool) or (wanted != processed and kind not in _EITHER_WAY):
            raise FaultError(f"processed is {wanted!r}; {kind} is always {str(processed).lower()}")
        processed = wanted
    variant = given.get("variant")
    allowed = _VARIANTS.get(kind, ())
    if variant is not None and variant not in allowed:
        raise FaultError(f"variant is {variant!r}; {kind} knows {', '.join(allowed) or 'none'}")
    chosen = _number(given, "seconds")
    return Fault(
        rule_id, kind, processed, seconds if chosen is None else chosen, None if variant is None else str(variant)
    )


def _route(route: object) -> tuple[str, str]:
    if not isinstance(route, str):
        raise FaultError(f"route is {route!r}; a text like 'POST /market/orders/add' is expected")
    method, space, path = route.strip().rpartition(" ")
    path = path.removesuffix("*")
    if path and not path.startswith("/"):
        raise FaultError(f"route is {route!r}; its path must begin with a slash")
    return (method.strip().upper() if space else ""), path


def _number(given: Mapping[str, object], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    number = money.parse(str(value) if isinstance(value, float) else value)
    if number is None or number < 0:
        raise FaultError(f"{name} is {value!r}; a number of at least 0 is expected")
    return float(number)


def _whole(given: Mapping[str, object], name: str) -> int | None:
    number = _number(given, name)
    if number is None:
        return None
    if number != int(number) or number < 1:
        raise FaultError(f"{name} is {given[name]!r}; a whole number of at least 1 is expected")
    return int(number)
