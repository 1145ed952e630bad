"""The stand-in for an adapter: the whole protocol, nothing sent, nothing read, nothing claimed."""

import inspect
from decimal import Decimal

import pytest

from hireliab import ConfigError, InvalidOrderError, NotSentError, OwnVenue, TransactionVerificationPipeline
from hireliab.exchange.adapter import ExchangeAdapter, Order, Unavailable

ORDER = Order(symbol="BTC/USD", side="buy", type="market", amount=Decimal(1), client_order_id="")
READS = {
    "find_by_id": ("7",),
    "find_by_client_id": ("ours",),
    "list_orders_since": ("0",),
    "list_open_orders": (),
    "newest_order_id": (),
    "reference_price": ("BTC/USD",),
    "list_fills_since": (0.0,),
    "balances": (),
}
ORDERS = {"validate": (ORDER,), "prepare": (ORDER,), "prepare_cancel": ("7",)}
TOLD = {"restore_limits": ([1.0],), "note_listing_shows_client_id": (True,)}


def members(cls):
    return {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}


def test_it_has_every_member_of_the_protocol_and_no_other():
    assert members(OwnVenue) == members(ExchangeAdapter)
    assert members(OwnVenue) == {*READS, *ORDERS, *TOLD, "name", "account", "capabilities", "server_time"}


@pytest.mark.parametrize("read", READS)
def test_no_read_proves_anything(read):
    answer = getattr(OwnVenue("kraken"), read)(*READS[read])
    assert isinstance(answer, Unavailable)
    assert isinstance(answer.error, NotSentError)
    assert "kraken" in str(answer.error)


@pytest.mark.parametrize("order", ORDERS)
def test_it_places_no_order(order):
    with pytest.raises(InvalidOrderError, match="kraken: this pipeline places no order itself"):
        getattr(OwnVenue("kraken"), order)(*ORDERS[order])


def test_what_it_is_told_changes_nothing(clock):
    venue = OwnVenue("kraken", clock=clock)
    before = (venue.account, venue.capabilities, venue.server_time())
    for name, arguments in TOLD.items():
        assert getattr(venue, name)(*arguments) is None
    assert (venue.account, venue.capabilities, venue.server_time()) == before


def test_its_account_is_its_users_word_and_its_clock_ours(clock):
    venue = OwnVenue("kraken", account="second", clock=clock)
    assert (venue.name, venue.account.venue, venue.account.identity) == ("kraken", "kraken", "second")
    assert venue.account != OwnVenue("kraken").account
    assert venue.server_time() == clock.time()


def test_absence_at_it_is_never_proof():
    capabilities = OwnVenue("kraken").capabilities
    assert (capabilities.late_arrival_bound, capabilities.late_arrival_is_proof) == (70.0, False)
    assert (capabilities.finds_closed_by_client_id, capabilities.listing_shows_client_id) == (False, None)
    assert OwnVenue("kraken", late_arrival_bound=5).capabilities.late_arrival_bound == 5.0


@pytest.mark.parametrize("given", [{"name": ""}, {"name": "k", "account": ""}, {"name": "k", "late_arrival_bound": -1}])
def test_a_wrong_setting_is_named(given):
    wrong = next(name for name, value in given.items() if value in ("", -1))
    with pytest.raises(ConfigError, match=wrong):
        OwnVenue(given.pop("name"), **given)


class SDK:
    """A client that is no adapter; its repr shows a key."""

    def __repr__(self):
        return "SDK(key='s3cret')"

    def prepare(self, order):
        return order


@pytest.mark.parametrize("given", [object(), None, "kraken", SDK(), OwnVenue])
def test_what_is_no_adapter_is_refused_at_once_and_own_venue_is_named(tmp_path, given):
    with pytest.raises(ConfigError, match=r"exchange_adapter must be .* OwnVenue\(") as caught:
        TransactionVerificationPipeline(exchange_adapter=given, journal=tmp_path / "journal")
    assert caught.value.setting == "exchange_adapter"
    assert "s3cret" not in str(caught.value)
    assert not (tmp_path / "journal").exists()
