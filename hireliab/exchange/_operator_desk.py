"""What a pipeline can be asked through the files of _operator.py, and how its answers look in JSON."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol, overload

from hireliab.core import money
from hireliab.core._threads import start_thread
from hireliab.errors import ConfigError
from hireliab.exchange.adapter import OrderState
from hireliab.exchange.transaction import Transaction, TransactionResult

Answer = Mapping[str, Any]
Later = Callable[[], Answer | None]
"""For what takes its time: asked at every poll until it has the answer."""
Handler = Callable[[Mapping[str, Any]], Answer | Later]


def plain(value: Any) -> Any:
    """The same in JSON's types: money as text, what is no number as null, the unknown as its text."""
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return money.text(value) if value.is_finite() else None
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


class Desk(Protocol):
    """What the handlers need of a pipeline."""

    def resolve(
        self, transaction_id: str, as_: str, *, evidence: str, who: str, order_id: str | None, filled: object
    ) -> TransactionResult:
        """Decide on a person's word."""

    def adopt(self, order_id: str, *, who: str) -> Transaction:
        """Take an orphan in."""

    def cancel(self, transaction_id: str) -> TransactionResult:
        """Cancel and verify; waits."""

    def sweep_orphans(self) -> tuple[OrderState, ...]:
        """Look for orphans."""


def handlers(desk: Desk) -> dict[str, Handler]:
    """
    The commands of a pipeline, by name, with their arguments (texts, or null where optional).

    resolve: transaction_id, as, evidence, who, order_id, filled. adopt: order_id, who. cancel: transaction_id, who.
    sweep: none.
    """

    def resolve(args: Mapping[str, Any]) -> Answer:
        result = desk.resolve(
            _text(args, "transaction_id"),
            _text(args, "as"),
            evidence=_text(args, "evidence"),
            who=_text(args, "who"),
            order_id=_text(args, "order_id", optional=True),
            filled=_text(args, "filled", optional=True),
        )
        return told(result)

    def adopt(args: Mapping[str, Any]) -> Answer:
        return told(desk.adopt(_text(args, "order_id"), who=_text(args, "who")).result())

    def cancel(args: Mapping[str, Any]) -> Later:
        transaction_id = _text(args, "transaction_id")
        # It waits for the cancel's transaction, which may need the very thread that asks here.
        return _apart(f"cancel-{transaction_id:.40}", lambda: told(desk.cancel(transaction_id)))

    def sweep(_args: Mapping[str, Any]) -> Later:
        def look() -> Answer:
            found = desk.sweep_orphans()
            return {"orphans": [{"order_id": o.order_id, "client_order_id": o.client_order_id} for o in found]}

        # A long history takes minutes, in which the thread that asks here decides nothing and cancels nothing.
        return _apart("sweep", look)

    return {"resolve": resolve, "adopt": adopt, "cancel": cancel, "sweep": sweep}


def _apart(name: str, work: Callable[[], Answer]) -> Later:
    """Do it in a thread of its own; ask the result for the answer."""
    outcome: list[Answer | Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    start_thread(run, name=f"hireliab.txn.operator-{name}")

    def later() -> Answer | None:
        if not outcome:
            return None
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    return later


def told(result: TransactionResult) -> dict[str, Any]:
    """A result as an answer."""
    names = (
        "transaction_id", "kind", "verdict", "proof", "reason", "order_id", "client_order_id", "filled", "remaining",
        "order_status", "durable",
    )  # fmt: skip
    return {name: plain(getattr(result, name)) for name in names}


@overload
def _text(args: Mapping[str, Any], name: str) -> str: ...
@overload
def _text(args: Mapping[str, Any], name: str, *, optional: bool) -> str | None: ...
def _text(args: Mapping[str, Any], name: str, *, optional: bool = False) -> str | None:
    value = args.get(name)
    if isinstance(value, str) or (optional and value is None):
        return value
    raise ConfigError(f"{name}: must be a text, got {value!r:.60}", setting=name, value=value, allowed="a text")
