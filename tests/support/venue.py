"""A venue on loopback that answers JSON, for the recipes; a subclass says what."""

import json
import threading
from urllib.parse import parse_qsl, urlsplit

from tests.support.http_servers import serve

LOST = object()
"""An answer that never leaves: the connection is closed instead."""


class Venue:
    """
    A context manager around one server.

    `answer(path, fields, request)` is called for each request, by the threads of the connections, with the fields of
    its query and its form. It returns what is sent as JSON, a pair of status line and that, or LOST.
    """

    def __init__(self):
        self.lock = threading.Lock()  # for the subclass

    def __enter__(self):
        self._serve = serve(self._script)
        self.server = self._serve.__enter__()
        self.url = self.server.url
        return self

    def __exit__(self, *error):
        self._serve.__exit__(*error)

    def _script(self, peer):
        while (request := peer.read()) is not None:
            url = urlsplit(request.target)
            said = self.answer(url.path, dict(parse_qsl(url.query) + parse_qsl(request.body.decode())), request)
            if said is LOST:
                return
            status, body = said if isinstance(said, tuple) else ("200 OK", said)
            peer.reply(status, body)

    def count(self, path):
        return sum(target.partition("?")[0] == path for target in self.server.targets)


class OtherExchange(Venue):
    """
    An exchange that hireliab has no adapter for: keeps orders by client order id.

    `faults` are what happens to the next orders: None, "refuse", "lost on the way" or "answer lost" (and executed).
    """

    def __init__(self):
        super().__init__()
        self.orders, self.faults = [], []

    def answer(self, path, fields, request):
        with self.lock:
            if request.method == "GET":
                return {"orders": [order for order in self.orders if order["clientOrderId"] == fields["clientOrderId"]]}
            fault = self.faults.pop(0) if self.faults else None
            if fault == "refuse":
                return "422 Unprocessable Entity", {"message": "balance"}
            if fault == "lost on the way":
                return LOST
            self.orders.append({"id": len(self.orders) + 1, **json.loads(request.body), "status": "closed"})
            return LOST if fault == "answer lost" else self.orders[-1]
