"""What each fault does to the wire. Kinds are described in faults.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from hireliab.simulator.clock import Clock
from hireliab.simulator.faults import Fault
from hireliab.simulator.httpd import Connection
from hireliab.simulator.message import Reply, Request, answer
from hireliab.simulator.venue import Arrival, Venue, fault_reply

_LISTS = ("orders", "trades", "wallets", "transactions", "deposits")
_STRANGER = "somebody-elses-order"


class Delivery:
    """
    Takes requests off connections and brings answers back, or fails to, as the faults say.

    Args:
        venue: The exchange.
        clock: Its clock; waits end with it.
        is_stopped: Ends every wait.
        cut_off: Takes the exchange off the net for some seconds, or until told otherwise.

    Thread safety: Any thread.
    """

    def __init__(
        self, venue: Venue, clock: Clock, is_stopped: Callable[[], bool], cut_off: Callable[[float | None], None]
    ) -> None:
        self._venue = venue
        self._clock = clock
        self._is_stopped = is_stopped
        self._cut_off = cut_off
        self._kinds: dict[str, Callable[[Connection, Arrival, Fault], bool]] = {
            "request_lost": self._lose,
            "answer_lost": self._lose,
            "delay": self._delay,
            "late": self._late,
            "late_close": self._late,
            "truncated_json": self._truncate,
            "reset": self._reset,
            "drip": self._drip,
            "duplicate": self._duplicate,
            "wrong_id": self._alter,
            "no_id": self._alter,
            "short_list": self._alter,
            "down": self._down,
        }

    def serve(self, connection: Connection, request: Request) -> bool:
        """Serve one request; whether the connection goes on."""
        arrival = self._venue.receive(request)
        fault = arrival.fault
        if fault is None:
            return connection.send(self._venue.process(arrival))
        return self._kinds.get(fault.kind, self._refuse)(connection, arrival, fault)

    def _lose(self, _connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        if fault.processed:
            self._venue.process(arrival)
        return False

    def _refuse(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        if fault.processed:
            self._venue.process(arrival)
        return connection.send(fault_reply(fault, self._venue))

    def _delay(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        reply = self._venue.process(arrival)
        return self._wait(fault) and connection.send(reply)

    def _late(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        is_checked = fault.variant == "after_auth"
        if is_checked:
            refusal = self._venue.check(arrival)
            if refusal is not None:
                return connection.send(refusal)
        if fault.kind == "late_close":
            connection.close()
        if self._wait(fault):
            self._venue.process(arrival, is_checked=is_checked)
        return False

    def _truncate(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        if fault.processed:
            reply = self._venue.process(arrival)
        else:
            reply = answer({"status": "failed", "code": "UnexpectedError", "message": "Internal server error"})
        half = Reply(reply.status, reply.body[: len(reply.body) // 2], reply.content_type, reply.headers)
        if fault.variant == "cut":
            connection.send(half, length=len(reply.body))
            return False
        return connection.send(half)

    def _reset(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        if fault.processed:
            self._venue.process(arrival)
        connection.reset()
        return False

    def _drip(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        data = connection.wire(self._venue.process(arrival))
        return all(connection.send_raw(data[i : i + 1]) and self._wait(fault) for i in range(len(data)))

    def _duplicate(self, connection: Connection, arrival: Arrival, _fault: Fault) -> bool:
        self._venue.process(arrival)
        return connection.send(self._venue.process(self._venue.repeat(arrival)))

    def _alter(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        return connection.send(altered(self._venue.process(arrival), fault.kind))

    def _down(self, connection: Connection, arrival: Arrival, fault: Fault) -> bool:
        if fault.processed:
            self._venue.process(arrival)
        connection.reset()
        self._cut_off(fault.seconds)
        return False

    def _wait(self, fault: Fault) -> bool:
        return self._clock.pause(fault.seconds or 0.0, self._is_stopped)


def altered(reply: Reply, kind: str) -> Reply:
    """A reply with a wrong or no order id, or half of a listing; others unchanged."""
    try:
        body = json.loads(reply.body, parse_float=Decimal)
    except ValueError:
        return reply
    if not isinstance(body, dict):
        return reply
    if kind == "short_list":
        for name in _LISTS:
            rows = body.get(name)
            if isinstance(rows, list):
                body[name] = rows[: len(rows) // 2]
                body["hasNext"] = False
    for order in [body.get("order"), *(body.get("orders") or [] if kind != "short_list" else [])]:
        if isinstance(order, dict) and "id" in order:
            _spoil(order, kind)
    return answer(body, reply.status, reply.headers)


def _spoil(order: dict[str, object], kind: str) -> None:
    number = order["id"]
    if kind == "no_id":
        del order["id"]
        order.pop("clientOrderId", None)
    elif kind == "wrong_id" and isinstance(number, int):
        order["id"] = number + 1_000_000
        order["clientOrderId"] = _STRANGER
