"""
How the baseline bots speak to the exchange: `requests`, one session per thread, the user token. Nothing of hireliab.

Every answer is read as a careful author would read it: a definite refusal is told from an answer that did not come, and
"this client order id is open already" counts as placed.
"""

import threading
import time
import uuid

import requests

TRANSIENT = (429, 500, 502, 503, 504)
ALREADY = ("DuplicateClientOrderId", "DuplicateOrder")
SETTLED = ("Active", "Inactive", "Done", "Canceled", "Rejected")


class Trouble(Exception):
    """No answer, or none that says what happened."""


class Client:
    """
    The three calls that the bots need.

    Args:
        venue: Has base_url and token.
        timeouts: connect_timeout and read_timeout, the same as hireliab's client gets. Seconds.
    """

    def __init__(self, venue, timeouts):
        self.venue, self.timeouts = venue, (timeouts["connect_timeout"], timeouts["read_timeout"])
        self.own = threading.local()

    def _session(self):
        session = getattr(self.own, "session", None)
        if session is None:
            session = self.own.session = requests.Session()
            session.trust_env = False  # loopback needs no proxy
            session.headers["Authorization"] = f"Token {self.venue['token']}"
        return session

    def _post(self, path, body):
        try:
            answer = self._session().post(self.venue["base_url"] + path, json=body, timeout=self.timeouts)
            if answer.status_code in TRANSIENT:
                raise Trouble(f"{path}: HTTP {answer.status_code}")
            data = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise Trouble(f"{path}: {type(error).__name__}") from error
        if not isinstance(data, dict):
            raise Trouble(f"{path}: {str(data)[:60]}")
        return data

    def add(self, body):
        """Place an order: its id, None when the exchange has it already, or a mapping with "refused" for a definite no."""
        data = self._post("/market/orders/add", body)
        if data.get("status") == "ok":
            order = (data.get("order") or {}).get("id")
            if order is None:
                raise Trouble("orders/add: no id in the answer")
            return str(order)
        if data.get("code") in ALREADY:
            return None
        return {"refused": str(data.get("code"))}

    def status(self, **one_id):
        """An order as the exchange shows it, or None for "no such order"."""
        data = self._post("/market/orders/status", one_id)
        if data.get("status") == "ok" and isinstance(data.get("order"), dict):
            return data["order"]
        if data.get("error") == "NotFound" or data.get("code") == "NotFound":
            return None
        raise Trouble(f"orders/status: {str(data)[:80]}")

    def settled(self, client_order_id, order, *, patience=1.0):
        """
        What became of an order: read by its id, or by its client order id, until it is no longer `New`.

        Returns:
            The last state that was seen, or None when each look-up until `patience` seconds found nothing.
        """
        wanted = {"clientOrderId": client_order_id} if order is None else {"id": int(order)}
        give_up = time.monotonic() + patience
        while True:
            seen = self.status(**wanted)
            if (seen is not None and seen.get("status") in SETTLED) or time.monotonic() > give_up:
                return seen
            time.sleep(0.05)


def body(wanted, client_order_id):
    """The request of an order of workload.py."""
    base, _, quote = wanted["symbol"].lower().partition("/")
    execution, _, side = wanted["type"].rpartition("_")
    given = {
        "type": side,
        "execution": execution,
        "srcCurrency": base,
        "dstCurrency": "rls" if quote == "irt" else quote,
        "amount": wanted["amount"],
        "clientOrderId": client_order_id,
    }
    if "price" in wanted:
        given["price"] = wanted["price"]
    return given


def fresh_id(i):
    """A client order id that no other attempt has; the checker finds the order number in it."""
    return f"b-{i}-{uuid.uuid4().hex[:10]}"


def fixed_id(i):
    """The client order id of an order number, the same in every life."""
    return f"b-{i}-x"
