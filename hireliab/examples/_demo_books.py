"""
What the bot believes against what the exchange's truth file says. Pure: records in, rows out.

The truth side is read from the truth file alone; nothing that the library says about an order reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from hireliab import TransactionResult, Verdict

PLACED = frozenset({Verdict.COMPLETED, Verdict.PARTIAL, Verdict.CLOSED_UNFILLED, Verdict.CANCELLED})
"""Verdicts that say: the exchange has, or had, exactly one order."""
ADD = "/market/orders/add"


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """
    One order as the bot sees it at the end.

    Attributes:
        label: For people, such as "market buy 0.01 BTC/USDT".
        cancelled: Whether the bot itself cancelled it after it was live.
        attempts: How many sends the bot says it made, at most.
    """

    label: str
    client_order_id: str
    verdict: Verdict
    order_id: str | None
    status: str
    filled: Decimal
    average_price: Decimal
    fee: Decimal
    attempts: int
    cancelled: bool = False


def belief_of(result: TransactionResult, label: str, *, cancelled: bool = False) -> Belief:
    """The belief that a pipeline's result states."""
    return Belief(
        label=label,
        client_order_id=result.client_order_id,
        verdict=result.verdict,
        order_id=result.order_id,
        status=result.order_status,
        filled=result.filled,
        average_price=result.average_price or Decimal(0),
        fee=result.fee,
        attempts=result.attempts,
        cancelled=cancelled,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueOrder:
    """The last version of one order in the truth file."""

    order_id: str
    client_order_id: str
    label: str
    status: str
    amount: Decimal
    filled: Decimal
    average_price: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One order, both sides.

    Attributes:
        belief: None for an order at the exchange that the bot knows nothing of.
        orders: What the exchange accepted under this client order id; more than one is a duplicate.
        received: How many requests to place it the exchange received.
        differences: In words; empty when both sides agree.
    """

    belief: Belief | None
    orders: tuple[TrueOrder, ...]
    received: int
    differences: tuple[str, ...]


def compare(beliefs: Sequence[Belief], records: Iterable[Mapping[str, object]], *, account: str) -> list[Row]:
    """
    Lay beliefs beside the truth.

    Args:
        beliefs: One for each order of the bot.
        records: Of the truth file, in order.
        account: Whose orders.

    Returns:
        A row for each belief in their order, then one for each order that the bot does not know.
    """
    orders: dict[str, TrueOrder] = {}
    received: dict[str, int] = {}
    for record in records:
        if record.get("account") != account:
            continue
        if record["kind"] == "order":
            order = _true_order(record)
            orders[order.order_id] = order
        elif record["kind"] == "request" and str(record["path"]).startswith(ADD):
            client_id = str(record["client_order_id"])
            received[client_id] = received.get(client_id, 0) + 1
    by_client_id: dict[str, list[TrueOrder]] = {}
    for order in orders.values():
        by_client_id.setdefault(order.client_order_id, []).append(order)
    rows = []
    for belief in beliefs:
        mine = tuple(by_client_id.pop(belief.client_order_id, ()))
        times = received.get(belief.client_order_id, 0)
        rows.append(Row(belief=belief, orders=mine, received=times, differences=_differences(belief, mine, times)))
    for client_id, others in by_client_id.items():
        rows.append(
            Row(
                belief=None,
                orders=tuple(others),
                received=received.get(client_id, 0),
                differences=("the bot knows nothing of it",),
            )
        )
    return rows


def _true_order(record: Mapping[str, object]) -> TrueOrder:
    return TrueOrder(
        order_id=str(record["id"]),
        client_order_id=str(record["client_order_id"]),
        label=f"{record['execution']} {record['side']} {record['amount']} {record['market']}",
        status=str(record["status"]),
        amount=Decimal(str(record["amount"])),
        filled=Decimal(str(record["matched"])),
        average_price=Decimal(str(record["average_price"])),
        fee=Decimal(str(record["fee"])),
    )


def _differences(belief: Belief, orders: tuple[TrueOrder, ...], received: int) -> tuple[str, ...]:
    found = []
    if belief.verdict is Verdict.UNKNOWN:
        found.append("the bot does not know")
    if received > belief.attempts:
        found.append(f"sent {belief.attempts} times at most, but {received} requests arrived")
    expected = 1 if belief.verdict in PLACED else 0
    if len(orders) != expected and belief.verdict is not Verdict.UNKNOWN:
        found.append(f"{expected} orders believed, {len(orders)} exist")
    if len(orders) != 1 or not expected:
        return tuple(found)
    (order,) = orders
    pairs = (
        ("id", belief.order_id, order.order_id),
        ("status", belief.status, order.status),
        ("filled", belief.filled, order.filled),
        ("average price", belief.average_price, order.average_price),
        ("fee", belief.fee, order.fee),
    )
    found += [f"{name}: believed {ours}, is {true}" for name, ours, true in pairs if ours != true]
    if not _bears_out(belief, order):
        found.append(f"{belief.verdict.value} does not fit {order.status}, {order.filled} of {order.amount} filled")
    return tuple(found)


def _bears_out(belief: Belief, order: TrueOrder) -> bool:
    """Whether the verdict is what the order's end means."""
    if belief.verdict is Verdict.COMPLETED and not belief.cancelled:
        return order.status in ("Active", "Inactive") or (order.status == "Done" and order.filled == order.amount)
    if belief.verdict is Verdict.PARTIAL:
        return order.status == "Canceled" and 0 < order.filled < order.amount
    if belief.verdict in (Verdict.CLOSED_UNFILLED, Verdict.CANCELLED):
        return order.status in ("Canceled", "Rejected") and not order.filled
    return True


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as aligned lines of text, each with its differences below it."""
    heads = ("order", "verdict", "status", "filled", "sent", "id", "status", "filled", "same")
    lines = [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    right = {3, 4, 5, 7}

    def aligned(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    def across(first: int, last: int) -> int:
        return sum(widths[first:last]) + 2 * (last - first - 1)

    groups = [" " * widths[0], " the bot believes ".center(across(1, 4), "-")]
    groups.append(" the truth file says ".center(across(4, 8), "-"))
    out = ["  ".join(groups), aligned(heads), "  ".join("-" * width for width in widths)]
    for row, cells in zip(rows, lines, strict=True):
        out.append(aligned(cells))
        out.extend(f"    ^ {difference}" for difference in row.differences)
    return out


def _cells(row: Row) -> tuple[str, ...]:
    belief = row.belief
    ours = ("nothing", "-", "-")
    if belief is not None and belief.verdict in PLACED:
        ours = (belief.verdict.value, belief.status, f"{belief.filled:f}")
    elif belief is not None:
        ours = (belief.verdict.value, "no order", "-")
    true = ("-", "no order", "-")
    if row.orders:
        last = row.orders[-1]
        true = (",".join(order.order_id for order in row.orders), last.status, f"{last.filled:f}")
    label = belief.label if belief is not None else row.orders[0].label
    return (label, *ours, str(row.received), *true, "NO" if row.differences else "yes")
