"""
The truth file: what the exchange received and what it did, in order, for a checker to read.

One JSON object per line, UTF-8. What a request does is written by one `os.write` to a descriptor
opened with O_APPEND, before the answer is sent: when a client has an answer, the file has the
records. What became due in the meantime, and a fault's decision, go into writes of their own
before it. A simulator that is started on an existing file appends; `seq` continues.

Every record has

=========  =======================================================================================
``seq``    int, increases by one per record
``wall``   text, Unix seconds with microseconds on the exchange's own clock (steppable)
``mono``   int, `time.monotonic_ns()` of the machine when the record was made: comparable between
           processes on one machine, not moved by clock steps
``kind``   one of the following
=========  =======================================================================================

``start``    ``seed``, ``settings``, ``markets`` (symbols), ``accounts`` (name → currency →
             balance as text), ``lag``, ``pid``. Opens each run.
``request``  ``n`` (number of the request in this run), ``account`` (or null; from the credential,
             even if the signature was wrong), ``ip``, ``method``, ``path`` (with query),
             ``body`` (text) or ``body_base64`` when it is not UTF-8, or ``body_redacted`` true for
             login; ``client_order_id`` (or null), ``fault`` (kind, or null), ``received_mono``
             (when its last byte had arrived), ``status`` (HTTP) and ``code`` (``code`` or
             ``error`` of the answer, or null). ``status`` is null when it was not processed when
             the record was written: for good (`request_lost`, `reset`, `http_5xx` unprocessed …),
             or not yet (`late`).
``outcome``  ``n``, ``status``, ``code``: a request recorded before was processed now. Its changes
             follow.
``order``    one version of one order: ``id``, ``account``, ``market`` (``BTCIRT``), ``side``,
             ``execution``, ``amount``, ``price``, ``stop_price``, ``matched``, ``average_price``,
             ``fee``, ``fee_currency``, ``status``, ``client_order_id`` (never nulled),
             ``pair_id``, ``created`` (wall), ``request`` (n that placed it), ``cause`` (n that
             changed it; null for time and admin), ``reason``: accepted, queued, activated,
             triggered, match, collar, cancel, system, rejected.
``fill``     ``id``, ``order_id``, ``account``, ``market``, ``side``, ``amount``, ``price``,
             ``total``, ``fee``, ``fee_currency``, ``maker``.
``balance``  ``account``, ``currency``, ``balance``, ``blocked``, after a request that changed it.
``fault``    ``n``, ``rule`` (id), ``fault`` (kind), ``seconds``, ``processed``: a rule fired for
             the request with this number, whose own record may follow later.
``admin``    ``action`` and ``body`` of an admin call; secrets in it are replaced.
``stop``     the simulator was stopped in order.

All numbers that are money are plain decimal texts. No token, private key, password or signature
is ever written.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

from hireliab.simulator import money
from hireliab.simulator.clock import Clock, machine_ns
from hireliab.simulator.ledger import Balance
from hireliab.simulator.orders import Fill, Order

Record = dict[str, object]
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class TruthError(ValueError):
    """A line in the middle of a truth file is not a record."""


class TruthFile:
    """
    Collects the records of one operation and appends them in one write.

    Args:
        path: The file; None keeps only the counts.
        clock: The exchange's clock, for `wall`.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(self, path: str | os.PathLike[str] | None, clock: Clock) -> None:
        self._clock = clock
        self._pending: list[tuple[str, Record]] = []
        self._handle: int | None = None
        self.path = None if path is None else os.fspath(path)
        self.count = 0
        """Records written by this run."""
        self.last_seq = 0
        self.last_ids = {"order": 0, "fill": 0}
        """Of the runs before, so that ids stay unique in the file."""
        if self.path is not None:
            self._resume(Path(self.path))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._handle = os.open(self.path, flags, 0o600)

    def add(self, kind: str, fields: Record) -> None:
        """Collect a record for the next `flush`."""
        self._pending.append((kind, fields))

    def add_first(self, kind: str, fields: Record) -> None:
        """Collect a record that goes before those collected so far."""
        self._pending.insert(0, (kind, fields))

    def flush(self) -> None:
        """Append everything collected, in one write."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        wall, mono = as_seconds(self._clock.time_ns()), machine_ns()
        lines = []
        for kind, fields in pending:
            self.last_seq += 1
            head: Record = {"seq": self.last_seq, "wall": wall, "mono": mono, "kind": kind}
            head.update(fields)
            lines.append(_ENCODE(head))
        self.count += len(lines)
        if self._handle is not None:
            data = ("\n".join(lines) + "\n").encode()
            written = os.write(self._handle, data)
            if written != len(data):
                message = f"{self.path}: only {written} of {len(data)} bytes were written"
                raise OSError(message)

    def close(self) -> None:
        """Close the file; later records are only counted."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _resume(self, path: Path) -> None:
        """Continue the numbers of an existing file, and finish its torn last line."""
        if not path.exists():
            return
        torn = _ends_torn(path)
        for record in read(path):
            self.last_seq = max(self.last_seq, _int(record.get("seq")))
            kind = record["kind"]
            if kind in ("order", "fill"):
                self.last_ids[str(kind)] = max(self.last_ids[str(kind)], _int(record.get("id")))
        if torn:
            with path.open("ab") as file:
                file.write(b"\n")


def read(path: str | os.PathLike[str]) -> Iterator[Record]:
    """
    Yield the records of a truth file.

    A last line without line end (a write in progress, or cut off) is left out, and so is the
    first part of a line that a restarted simulator found torn.

    Raises:
        TruthError: A complete line that is not a record.
    """
    with Path(path).open("rb") as file:
        previous_torn = b""
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or "seq" not in record:
                    raise ValueError("no record")
            except ValueError as error:
                if previous_torn:
                    raise TruthError(f"{os.fspath(path)}:{number}: {error}") from error
                previous_torn = line
                continue
            if previous_torn and record["kind"] != "start":
                raise TruthError(f"{os.fspath(path)}:{number - 1}: {previous_torn[:60]!r} is no record")
            previous_torn = b""
            yield record


def as_seconds(ns: int) -> str:
    """Nanoseconds as a text of seconds with microseconds."""
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000 // 1000:06d}"


def describe_order(order: Order, reason: str, cause: int | None) -> Record:
    """The fields of an ``order`` record."""
    return {
        "id": order.id,
        "account": order.account,
        "market": order.market,
        "side": order.side,
        "execution": order.execution,
        "amount": money.text(order.amount),
        "price": None if order.price is None else money.text(order.price),
        "stop_price": None if order.stop_price is None else money.text(order.stop_price),
        "matched": money.text(order.matched),
        "average_price": money.text(order.average_price),
        "fee": money.text(order.fee),
        "fee_currency": order.fee_currency,
        "status": order.status,
        "client_order_id": order.client_order_id,
        "pair_id": order.pair_id,
        "created": as_seconds(order.created_ns),
        "request": order.request,
        "cause": cause,
        "reason": reason,
    }


def describe_fill(fill: Fill) -> Record:
    """The fields of a ``fill`` record."""
    return {
        "id": fill.id,
        "order_id": fill.order_id,
        "account": fill.account,
        "market": fill.market,
        "side": fill.side,
        "amount": money.text(fill.amount),
        "price": money.text(fill.price),
        "total": money.text(fill.total),
        "fee": money.text(fill.fee),
        "fee_currency": fill.fee_currency,
        "maker": fill.maker,
    }


def describe_balance(account: str, currency: str, balance: Balance) -> Record:
    """The fields of a ``balance`` record."""
    return {
        "account": account,
        "currency": currency,
        "balance": money.text(balance.total),
        "blocked": money.text(balance.blocked),
    }


def describe_body(body: bytes) -> Record:
    """A request body as ``body``, or as ``body_base64`` when it is not UTF-8."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
