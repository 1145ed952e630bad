import json
from collections.abc import Mapping
from decimal import Decimal

import pytest

from hireliab.simulator.clock import VirtualClock
from hireliab.simulator.faults import FaultPlan
from hireliab.simulator.message import Request
from hireliab.simulator.settings import Settings
from hireliab.simulator.state import ExchangeState
from hireliab.simulator.venue import Venue

LIMIT_BUY = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "0.001", "price": "49000000000"}


class Exchange:
    """A venue without sockets on a virtual clock, with one account."""

    def __init__(self, clock: VirtualClock, settings: Mapping[str, object], truth=None, balances=None):
        self.clock = clock
        self.faults = FaultPlan(seed=1)
        self.state = ExchangeState(
            clock, seed=1, settings=Settings().changed({"limits": False, **settings}), truth=truth
        )
        self.opened = self.state.open_account(balances=balances)
        self.engine = self.state.engine
        self.venue = Venue(self.state, self.faults)

    def send(self, method, target, body=None, headers=None, ip="127.0.0.1"):
        """Send raw; the reply."""
        given = {"authorization": f"Token {self.opened.token}", "content-type": "application/json"}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = Request(method, target, {**given, **(headers or {})}, raw, ip)
        return self.venue.process(self.venue.receive(request))

    def get(self, target, **more):
        """The decoded body of a GET."""
        return json.loads(self.send("GET", target, **more).body, parse_float=Decimal)

    def post(self, target, body=None, **more):
        """The decoded body of a POST."""
        return json.loads(self.send("POST", target, body, **more).body, parse_float=Decimal)

    def add(self, **changes):
        """Place a limit buy below the market, with changes; the answer."""
        return self.post("/market/orders/add", {**LIMIT_BUY, **changes})

    def order(self, **changes):
        """Place an order that must be accepted; its row, or the rows of an OCO."""
        answer = self.add(**changes)
        assert answer["status"] == "ok", answer
        return answer.get("order") or answer["orders"]

    def status(self, order_id):
        """The order row of a status call."""
        return self.post("/market/orders/status", {"id": order_id})["order"]

    def wallet(self, code):
        """Balance and blocked part of one wallet."""
        found = self.get("/v2/wallets")["wallets"][code.upper()]
        return Decimal(found["balance"]), Decimal(found["blocked"])


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def make_exchange(clock):
    made = []

    def make(truth=None, balances=None, **settings):
        made.append(Exchange(clock, settings, truth, balances))
        return made[-1]

    yield make
    for exchange in made:
        exchange.state.truth.close()


@pytest.fixture
def exchange(make_exchange):
    return make_exchange()
