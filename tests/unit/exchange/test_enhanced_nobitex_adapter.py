"""EnhancedNobitexAdapter over scripted answers and a fake clock."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
from decimal import Decimal

import pytest

from hireliab.errors import (
    AuthenticationError,
    CircuitOpenError,
    ClosedError,
    ConfigError,
    ConnectError,
    DuplicateOrderError,
    InsufficientFundsError,
    InvalidOrderError,
    MalformedResponseError,
    NotSentError,
    OrderNotFoundError,
    OutcomeUnknownError,
    PoolError,
    PoolTimeoutError,
    RateLimitedError,
    ResponseTimeoutError,
    ThrottledError,
)
from hireliab.exchange.adapter import Absent, ExchangeAdapter, Found, Order, OrderStatus, Unavailable
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter
from hireliab.testing import FakeClock
from tests.support.scripted_nobitex import (
    BOOK,
    KEY,
    OPTIONS,
    SECRET,
    TOKEN,
    Script,
    order_row,
    scripted_pool,
)

NOT_FOUND = (404, {"error": "NotFound", "message": "No Order matches the given query."})
REFUSED = (401, {"detail": "no"})
ADD, STATUS, LIST, FILLS, CANCEL = (
    "/market/orders/add",
    "/market/orders/status",
    "/market/orders/list",
    "/market/trades/list",
    "/market/orders/update-status",
)


class Bench:
    """An adapter, its script and its clock."""

    def __init__(self, **settings) -> None:
        self.clock = FakeClock()
        self.script = Script(self.clock)
        self.script.answers[ADD] = self.echo
        self.pool = scripted_pool(self.script)
        settings = {"token": TOKEN, "connection_pool": self.pool} | settings
        self.adapter = EnhancedNobitexAdapter(settings, clock=self.clock)

    def echo(self, sent) -> dict:
        """The order as it was sent, accepted."""
        body = json.loads(sent.body)
        execution = "".join(word.capitalize() for word in body["execution"].split("_"))
        quote = {"rls": "RLS", "usdt": "USDT"}[body["dstCurrency"]]
        return {
            "status": "ok",
            "order": order_row(
                id=100,
                type=body["type"],
                execution=execution,
                market=f"{body['srcCurrency'].upper()}-{quote}",
                amount=body["amount"],
                price=body.get("price", "market"),
                clientOrderId=body.get("clientOrderId"),
            ),
        }

    def idle(self) -> bool:
        """Whether every client is back in the pool."""
        return self.pool.stats().in_use == 0

    def used(self, endpoint: str) -> int:
        return self.adapter._access.limits._limiters[endpoint].stats().used


def limit(**fields) -> Order:
    return Order(
        **{
            "symbol": "BTC/USDT",
            "side": "buy",
            "type": "limit",
            "amount": Decimal("0.001"),
            "price": Decimal(50000),
            "client_order_id": "a1",
        }
        | fields
    )


def market(**fields) -> Order:
    return limit(type="market", price=None, **fields)


def nothing() -> None:
    pass


# -- shape ----------------------------------------------------------------------------------------------------------


def test_it_is_an_exchange_adapter():
    adapter: ExchangeAdapter = Bench().adapter  # checked by mypy
    for name in ExchangeAdapter.__dict__:
        if not name.startswith("_"):
            assert hasattr(type(adapter), name)
    assert adapter.name == "nobitex"


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"api_kye": "x"}, "api_kye"),
        ({"token": TOKEN, "api_key": KEY, "api_secret": SECRET}, "token"),
        ({"api_key": KEY, "api_secret": "x"}, "api_secret"),
        ({"base_url": "apiv2.nobitex.ir"}, "base_url"),
        ({"base_url": "https://user:pw@x"}, "base_url"),
        ({"connection_pool": object()}, "connection_pool"),
        ({"rate_limits": {"orders/lists": (1, 1)}}, "orders/lists"),
        ({"rate_limits": {"orders/list": 5}}, "rate_limits"),
        ({"rate_limits": 5}, "rate_limits"),
        ({"timeouts": {"conect": 1}}, "conect"),
        ({"timeouts": {"connect": 0}}, "connect_timeout"),
    ],
)
def test_a_wrong_setting_is_named(settings, setting):
    with pytest.raises(ConfigError) as caught:
        EnhancedNobitexAdapter(settings, clock=FakeClock())
    assert caught.value.setting == setting
    assert "pw" not in str(caught.value)


def test_settings_may_be_keywords_but_not_twice():
    assert EnhancedNobitexAdapter(token=TOKEN, clock=FakeClock()).capabilities.late_arrival_bound == 70
    with pytest.raises(ConfigError):
        EnhancedNobitexAdapter({"token": TOKEN}, token=TOKEN)


def test_timeouts_belong_to_an_own_pool():
    with pytest.raises(ConfigError):
        Bench(timeouts={"read": 1.0})


@pytest.mark.parametrize("secrets", [{"token": TOKEN}, {"api_key": KEY, "api_secret": SECRET}])
def test_no_secret_is_printed(secrets):
    adapter = EnhancedNobitexAdapter(secrets, clock=FakeClock())
    for shown in (repr(adapter), repr(adapter._config), repr(adapter._access.pool), str(vars(adapter))):
        assert TOKEN not in shown and SECRET not in shown


def test_a_pool_of_other_clients_is_a_config_error_that_names_their_class():
    clock = FakeClock()
    pool = ConnectionPool(name="other", create_client_func=lambda: Script(clock), clock=clock)
    adapter = EnhancedNobitexAdapter(token=TOKEN, connection_pool=pool, clock=clock)
    with pytest.raises(ConfigError, match=r"got tests\..*Script"):
        adapter.initialize()
    with pytest.raises(ConfigError):
        adapter.find_by_id("1")
    assert pool.stats().in_use == 0


def test_without_base_url_the_borrowed_clients_own_is_used_and_the_client_is_not_changed():
    bench = Bench()
    bench.adapter.initialize()
    assert bench.script.requests[0].url == "http://venue.test/v2/options"
    other = Bench(base_url="http://other.test/")
    other.adapter.initialize()
    assert other.script.requests[0].url == "http://other.test/v2/options"
    with other.pool.connection() as client:
        assert client.base_url == "http://venue.test" and client.credentials is None


@pytest.mark.parametrize(
    ("url", "open_"),
    [
        ("https://apiv2.nobitex.ir", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost:8000", False),
        ("http://simulator:8000", False),
        ("http://192.168.1.5", False),
        ("http://apiv2.nobitex.ir", True),
        ("http://8.8.8.8", True),
    ],
)
def test_a_token_that_would_cross_the_net_in_the_clear_is_warned_of(url, open_, caplog):
    Bench(base_url=url).adapter.initialize()
    assert [url in record.getMessage() for record in caplog.records if "no https" in record.getMessage()] == [
        True
    ] * open_


def test_its_text_names_what_is_known():
    assert repr(Bench(token=None).adapter) == "<EnhancedNobitexAdapter>"
    assert repr(Bench(token=None, base_url="http://venue.test").adapter) == "<EnhancedNobitexAdapter http://venue.test>"


def test_a_stopped_adapter_refuses_and_its_reads_are_unavailable():
    bench = Bench()
    with bench.adapter as adapter:
        pass
    with pytest.raises(NotSentError) as caught:
        adapter.prepare(market())
    assert isinstance(caught.value, ClosedError)
    assert isinstance(adapter.find_by_id("1"), Unavailable)
    assert isinstance(adapter.list_orders_since("0"), Unavailable)
    assert isinstance(adapter.balances(), Unavailable)
    assert bench.pool.stats().status == "running"  # it is not ours
    adapter.initialize()
    adapter.prepare(market()).abandon()


def test_an_own_pool_is_stopped_with_the_adapter():
    adapter = EnhancedNobitexAdapter(token=TOKEN, base_url="http://127.0.0.1:9", clock=FakeClock())
    adapter.stop()
    assert [pool.stats().status for pool in adapter._own_pools] == ["stopped", "stopped"]


def test_a_cancel_has_a_client_when_all_others_are_in_use_and_takes_one_of_them_when_not():
    adapter = EnhancedNobitexAdapter(token=TOKEN, base_url="http://127.0.0.1:9", clock=FakeClock())
    pool, reserve = adapter._own_pools
    adapter._access.admit(CANCEL.removeprefix("/market/")).abandon()
    assert (pool.stats().size, reserve.stats().size) == (1, 0)
    lent = [pool.acquire() for _ in range(16)]
    with pytest.raises(PoolError):
        adapter._access.admit(STATUS.removeprefix("/market/"))
    cancel = adapter.prepare_cancel("7")
    assert (pool.stats().in_use, reserve.stats().in_use) == (16, 1)
    cancel.abandon()
    assert reserve.stats().in_use == 0
    adapter.stop()
    with pytest.raises(ClosedError):
        adapter.prepare_cancel("7")
    for lease in lent:
        lease.release()


# -- who ------------------------------------------------------------------------------------------------------------


def test_the_account_of_a_key_pair_is_known_without_asking():
    bench = Bench(token=None, api_key=KEY, api_secret=SECRET)
    account = bench.adapter.account
    assert (account.venue, account.host) == ("nobitex", "venue.test")
    assert len(account.identity) == 16 and KEY not in account.identity
    assert bench.script.requests == []


def test_the_account_of_a_token_outlives_the_token():
    first, second = Bench(), Bench(token="e" * 40)
    for bench in (first, second):
        bench.script.answers["/users/profile"] = {"status": "ok", "profile": {"email": "User@Example.com"}}
    assert first.adapter.account == second.adapter.account
    assert first.adapter.account.identity != "token" and "example" not in first.adapter.account.identity
    assert len(first.script.requests) == 1


@pytest.mark.parametrize("answer", [ResponseTimeoutError(), (500, b""), {"status": "ok", "profile": {}}])
def test_an_account_that_cannot_be_read_yet_is_not_sent(answer):
    bench = Bench()
    bench.script.answers["/users/profile"] = [answer, {"status": "ok", "profile": {"username": "u"}}]
    with pytest.raises(NotSentError):
        _ = bench.adapter.account
    assert bench.adapter.account.identity


def test_capabilities_tell_when_a_late_request_is_dead():
    token, pair = Bench().adapter, Bench(token=None, api_key=KEY, api_secret=SECRET).adapter
    assert token.capabilities.late_arrival_bound == 70
    pair._access.skew = -3.0
    assert pair.capabilities.late_arrival_bound == 43
    assert not pair.capabilities.late_arrival_is_proof and not pair.capabilities.finds_closed_by_client_id
    assert pair.server_time() == pair._clock.time() - 3.0


# -- preparing ------------------------------------------------------------------------------------------------------


def test_an_order_is_sent_as_it_was_quantised_and_its_answer_is_the_state():
    bench = Bench()
    prepared = bench.adapter.prepare(
        limit(symbol="btc-usdt", amount=Decimal("0.0012345678"), price=Decimal("49999.126"))
    )
    assert prepared.order == limit(amount=Decimal("0.001234"), price=Decimal("49999.13"))
    assert bench.script.bodies(ADD) == []
    state = prepared.submit(nothing)
    assert state.order_id == "100" and state.status is OrderStatus.ACTIVE
    assert bench.script.bodies(ADD) == [
        b'{"type":"buy","srcCurrency":"btc","dstCurrency":"usdt","amount":"0.001234","clientOrderId":"a1",'
        b'"execution":"limit","price":"49999.13"}'
    ]
    assert bench.idle()


@pytest.mark.parametrize(("side", "price"), [("buy", "50010"), ("sell", "49990")])
def test_a_market_order_carries_the_best_opposite_price(side, price):
    bench = Bench()
    prepared = bench.adapter.prepare(market(side=side))
    assert prepared.order.price == Decimal(price)
    prepared.submit(nothing)
    assert f'"execution":"market","price":"{price}"'.encode() in bench.script.bodies(ADD)[0]


def test_the_price_of_a_market_order_is_at_most_two_seconds_old():
    bench = Bench()
    for age in (0.0, 1.9, 0.2):
        bench.clock.advance(age)
        bench.adapter.prepare(market()).abandon()
    assert bench.script.paths().count("/v3/orderbook/BTCUSDT") == 2


def test_a_market_order_into_an_empty_book_is_not_sent():
    bench = Bench()
    bench.script.answers["/v3/orderbook/"] = BOOK | {"asks": []}
    with pytest.raises(NotSentError):
        bench.adapter.prepare(market())
    bench.adapter.prepare(market(side="sell")).abandon()


def test_stop_orders_go_out_with_their_trigger():
    bench = Bench()
    bench.adapter.prepare(limit(type="stop_limit", side="sell", stop_price=Decimal("49000.001"))).submit(nothing)
    bench.adapter.prepare(limit(type="stop_market", price=None, stop_price=Decimal(51000))).submit(nothing)
    first, second = bench.script.bodies(ADD)
    assert b'"execution":"stop_limit","price":"50000","stopPrice":"49000"' in first
    assert b'"execution":"stop_market","stopPrice":"51000"' in second and b'"price"' not in second


@pytest.mark.parametrize(
    "order",
    [
        limit(symbol="BTC/EUR"),
        limit(symbol="ABC/USDT"),
        limit(side="hold"),
        limit(type="iceberg"),
        limit(price=None),
        limit(stop_price=Decimal(1)),
        limit(type="stop_limit"),
        limit(type="stop_market", stop_price=Decimal(50000)),
        limit(amount=Decimal(0)),
        limit(amount=Decimal(-1)),
        limit(amount=Decimal("NaN")),
        limit(amount=Decimal("0.0000004")),
        limit(price=Decimal("0.001")),
        limit(client_order_id="with_underscore"),
        limit(client_order_id="x" * 33),
        limit(amount=Decimal("0.00022"), price=Decimal(50000)),  # worth exactly the minimum of 11
        limit(amount=Decimal("0.0001")),
        market(amount=Decimal("0.0001")),
        limit(type="stop_market", price=None, stop_price=Decimal(50000), amount=Decimal("0.0001")),
    ],
    ids=str,
)
def test_an_order_that_breaks_a_rule_is_refused_here(order):
    bench = Bench()
    with pytest.raises(InvalidOrderError) as caught:
        bench.adapter.prepare(order)
    assert caught.value.by == "hireliab"
    assert bench.script.private() == 0 and bench.idle()


def test_an_order_just_above_the_minimum_value_is_taken():
    bench = Bench()
    bench.adapter.prepare(limit(amount=Decimal("0.000221"))).abandon()


def rial(price: str, **fields) -> Order:
    return limit(symbol="BTC/IRT", price=Decimal(price), **fields)


@pytest.mark.parametrize(
    "price", ["5000000000", "500000000000", "400000000000", "600000000000", "4166666670", "6250000000"]
)
def test_a_price_that_looks_like_toman_is_refused_with_the_reason(price):
    with pytest.raises(InvalidOrderError, match="rial.*toman"):
        Bench().adapter.prepare(rial(price))


@pytest.mark.parametrize(
    "price", ["50000000000", "45000000000", "399999999990", "600000000010", "4166666660", "6250000010"]
)
def test_a_price_that_is_merely_far_away_is_left_to_the_venue(price):
    Bench().adapter.prepare(rial(price)).abandon()


def test_the_rial_guard_looks_at_stop_prices_and_not_at_tether_markets():
    bench = Bench()
    with pytest.raises(InvalidOrderError, match="stop_price.*rial"):
        bench.adapter.prepare(rial("50000000000", type="stop_limit", stop_price=Decimal("5000000000")))
    bench.adapter.prepare(limit(price=Decimal(500000))).abandon()


def test_an_order_without_a_readable_last_price_is_not_sent_on_a_rial_market():
    bench = Bench()
    bench.script.answers["/v3/orderbook/BTCIRT"] = (502, b"<html>")
    with pytest.raises(NotSentError):
        bench.adapter.prepare(rial("50000000000"))


def test_while_the_rules_are_unknown_orders_are_refused_and_read_again():
    bench = Bench()
    bench.script.answers["/v2/options"] = [ResponseTimeoutError(), (502, b"<html>"), OPTIONS]
    bench.adapter.initialize()
    assert bench.adapter.validate(limit(amount=Decimal("0.00000001"))).symbol == "BTC/USDT"  # only the form
    with pytest.raises(NotSentError):
        bench.adapter.prepare(limit())
    bench.adapter.prepare(limit()).abandon()
    bench.adapter.prepare(limit()).abandon()
    assert bench.script.paths().count("/v2/options") == 3


def test_old_rules_are_better_than_none_and_are_refreshed_after_ten_minutes():
    bench = Bench()
    bench.adapter.initialize()
    bench.script.answers["/v2/options"] = ResponseTimeoutError()
    bench.clock.advance(601)
    bench.adapter.prepare(limit()).abandon()
    bench.adapter.prepare(limit()).abandon()
    assert bench.script.paths().count("/v2/options") == 2  # the failed read is not repeated for 30 s
    bench.clock.advance(31)
    bench.adapter.prepare(limit()).abandon()
    assert bench.script.paths().count("/v2/options") == 3


def test_validate_quantises_without_the_network():
    bench = Bench()
    bench.adapter.initialize()
    before = len(bench.script.requests)
    assert bench.adapter.validate(limit(symbol="btcusdt", amount=Decimal("0.00123456"))).amount == Decimal("0.001234")
    assert bench.adapter.validate(market()).price is None
    with pytest.raises(InvalidOrderError):
        bench.adapter.validate(limit(amount=Decimal("0.0001")))
    assert len(bench.script.requests) == before


def test_many_threads_that_need_a_price_share_one_read():
    bench = Bench()
    bench.adapter.initialize()
    inside, go = threading.Event(), threading.Event()

    def slow(_sent):
        inside.set()
        assert go.wait(10)
        return BOOK

    bench.script.answers["/v3/orderbook/"] = slow
    found, threads = [], []

    def work() -> None:
        found.append(bench.adapter._book("BTC/USDT", max_age=2.0))

    for _ in range(3):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        assert inside.wait(10)
    bench.clock.wait_parked(2)
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 3
    assert bench.script.paths().count("/v3/orderbook/BTCUSDT") == 1


# -- submitting -----------------------------------------------------------------------------------------------------


def test_before_send_is_called_after_everything_that_can_refuse_and_before_the_bytes():
    bench = Bench()
    seen = []
    prepared = bench.adapter.prepare(limit())
    prepared.submit(lambda: seen.append(len(bench.script.bodies(ADD))))
    assert seen == [0] and len(bench.script.bodies(ADD)) == 1


@pytest.mark.parametrize("error", [ValueError("halt"), KeyboardInterrupt()])
def test_what_before_send_raises_passes_through_and_nothing_is_sent_or_kept(error):
    bench = Bench()

    def halt() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        bench.adapter.prepare(limit()).submit(halt)
    assert caught.value is error
    assert bench.script.bodies(ADD) == [] and bench.idle() and bench.used("orders/add") == 0


def test_an_abandoned_order_gives_everything_back():
    bench = Bench()
    bench.adapter.prepare(limit()).abandon()
    assert bench.idle() and bench.used("orders/add") == 0


def test_a_prepared_order_is_used_once():
    bench = Bench()
    prepared = bench.adapter.prepare(limit())
    prepared.submit(nothing)
    for again in (lambda: prepared.submit(nothing), prepared.abandon):
        with pytest.raises(RuntimeError):
            again()
    assert len(bench.script.bodies(ADD)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "sell"},
        {"execution": "Market"},
        {"market": "ETH-USDT"},
        {"market": "BTC-RLS"},
        {"amount": "0.002"},
        {"clientOrderId": "b2"},
    ],
    ids=str,
)
def test_an_answer_about_another_order_is_unknown_and_names_the_candidate(wrong):
    bench = Bench()
    bench.script.answers[ADD] = lambda sent: {"status": "ok", "order": bench.echo(sent)["order"] | wrong}
    with pytest.raises(OutcomeUnknownError) as caught:
        bench.adapter.prepare(limit()).submit(nothing)
    assert caught.value.candidates == ("100",) and caught.value.client_order_id == "a1"
    assert bench.idle()


@pytest.mark.parametrize("missing", ["clientOrderId", "execution", "market", "averagePrice"])
def test_an_answer_may_leave_out_what_nobitex_leaves_out(missing):
    bench = Bench()

    def quirky(sent):
        row = bench.echo(sent)["order"]
        del row[missing]
        return {"status": "ok", "order": row}

    bench.script.answers[ADD] = quirky
    assert bench.adapter.prepare(market()).submit(nothing).type == "market"


def test_an_answer_without_an_id_is_unknown():
    bench = Bench()
    bench.script.answers[ADD] = {"status": "ok", "order": order_row(id=None)}
    with pytest.raises(MalformedResponseError):
        bench.adapter.prepare(limit()).submit(nothing)


@pytest.mark.parametrize(
    ("answer", "kind", "breaker_failures"),
    [
        (ConnectError("x"), ConnectError, 1),
        (ResponseTimeoutError("x"), ResponseTimeoutError, 1),
        ((502, b"<html>"), MalformedResponseError, 1),
        ({"status": "failed", "code": "NewCode"}, MalformedResponseError, 1),
        ({"status": "failed", "code": "OverValueOrder"}, InsufficientFundsError, 0),
        ({"status": "failed", "code": "DuplicateClientOrderId"}, DuplicateOrderError, 0),
        ((429, {"status": "failed", "code": "TooManyRequests", "backOff": 5}), ThrottledError, 0),
    ],
    ids=str,
)
def test_errors_pass_through_and_only_the_exchange_s_failures_count(answer, kind, breaker_failures):
    bench = Bench()
    bench.script.answers[ADD] = answer
    with pytest.raises(kind):
        bench.adapter.prepare(limit()).submit(nothing)
    assert bench.adapter._access.breakers["place"].fail_counter == breaker_failures
    assert bench.idle()
    assert bench.used("orders/add") == (0 if kind is ConnectError else 1)
    assert len(bench.script.bodies(ADD)) == 1


def test_a_429_of_a_proxy_leaves_an_order_unknown_and_the_next_one_waits():
    bench = Bench()
    bench.script.answers[ADD] = (429, b"<html>slow down</html>")
    with pytest.raises(MalformedResponseError, match="what happened is unknown"):
        bench.adapter.prepare(limit()).submit(nothing)
    bench.clock.advance(8)
    with pytest.raises(RateLimitedError):
        bench.adapter.prepare(limit(amount=Decimal(2)))
    assert len(bench.script.bodies(ADD)) == 1
    bench.clock.advance(3)
    bench.adapter.prepare(limit(amount=Decimal(2))).abandon()
    assert bench.idle()


# -- what refuses ---------------------------------------------------------------------------------------------------


def test_each_group_of_calls_has_a_breaker_of_its_own():
    bench = Bench()
    bench.script.answers[ADD] = ResponseTimeoutError("x")
    for number in range(5):
        with pytest.raises(ResponseTimeoutError):
            bench.adapter.prepare(limit(amount=Decimal(number + 1))).submit(nothing)
    with pytest.raises(CircuitOpenError):
        bench.adapter.prepare(limit())
    assert bench.idle() and bench.used("orders/add") == 5
    bench.script.answers[STATUS] = {"status": "ok", "order": order_row()}
    bench.script.answers[CANCEL] = {"status": "ok", "updatedStatus": "Canceled", "order": order_row(status="Canceled")}
    assert isinstance(bench.adapter.find_by_id("7"), Found)
    assert bench.adapter.prepare_cancel("7").submit(nothing).status is OrderStatus.CANCELED


def test_failing_market_data_does_not_keep_orders_from_being_looked_up():
    bench = Bench()
    bench.script.answers["/v3/orderbook/"] = (502, b"")
    for _ in range(6):
        with pytest.raises(NotSentError):
            bench.adapter.prepare(market())
        bench.clock.advance(0.1)
    assert bench.adapter._access.breakers["market"].state == "open"
    bench.script.answers[STATUS] = {"status": "ok", "order": order_row()}
    assert isinstance(bench.adapter.find_by_id("7"), Found)


def test_the_limiter_refuses_an_order_that_would_have_to_wait_for_more_than_a_second():
    bench = Bench(rate_limits={"orders/add": (1, 600)})
    bench.adapter.prepare(limit()).submit(nothing)
    with pytest.raises(RateLimitedError):
        bench.adapter.prepare(limit())
    assert bench.idle()


def test_a_throttled_endpoint_is_left_alone_for_as_long_as_the_venue_asks():
    bench = Bench()
    bench.script.answers[STATUS] = [(429, {"status": "failed", "code": "TooManyRequests", "backOff": 30}), NOT_FOUND]
    first = bench.adapter.find_by_id("7")
    assert isinstance(first, Unavailable) and isinstance(first.error, ThrottledError)
    bench.clock.advance(28)
    again = bench.adapter.find_by_id("7")
    assert isinstance(again, Unavailable) and isinstance(again.error, RateLimitedError)
    assert len(bench.script.bodies(STATUS)) == 1
    bench.clock.advance(3)
    assert isinstance(bench.adapter.find_by_id("7"), Absent)


def test_half_of_the_listings_is_reserved_for_look_ups():
    bench = Bench()
    bench.script.answers[LIST] = {"status": "ok", "orders": []}
    taken = 0
    with pytest.raises(RateLimitedError):
        while True:
            bench.adapter.list_open()
            taken += 1
    assert taken == 15
    for _ in range(15):
        assert not isinstance(bench.adapter.list_orders_since("0"), Unavailable)
    assert isinstance(bench.adapter.list_orders_since("0"), Unavailable)


def test_limits_may_be_switched_off_or_scaled():
    off = Bench(rate_limits="off")
    off.script.answers[LIST] = {"status": "ok", "orders": []}
    for _ in range(100):
        off.adapter.list_open()
    off.adapter.restore_limits([1.0])
    scaled = Bench(rate_limits={"scale": 0.1, "orders/status": "off"})
    assert scaled.adapter._access.limits._limiters["orders/add"].limit == 30
    assert scaled.adapter._access.limits._limiters["orders/status"] is None


def test_a_restart_knows_its_orders_and_takes_the_rest_as_half_used():
    bench = Bench()
    bench.adapter.restore_limits([10.0, 20.0, 700.0])
    assert bench.used("orders/add") == 2
    assert bench.used("orders/status") == 150
    assert bench.used("orders/list") == 16


def test_without_a_free_client_an_order_is_not_sent():
    bench = Bench()
    bench.adapter.initialize()
    held = [bench.pool.acquire(timeout=0) for _ in range(4)]
    error: list[BaseException] = []

    def work() -> None:
        try:
            bench.adapter.prepare(limit())
        except BaseException as caught:
            error.append(caught)

    thread = threading.Thread(target=work)
    thread.start()
    bench.clock.wait_parked()
    bench.clock.advance(2.1)
    thread.join(10)
    assert isinstance(error[0], PoolTimeoutError)
    assert bench.used("orders/add") == 0
    for lease in held:
        lease.release()


# -- look-ups -------------------------------------------------------------------------------------------------------


def test_a_look_up_finds_misses_or_does_not_know():
    bench = Bench()
    bench.script.answers[STATUS] = [{"status": "ok", "order": order_row()}, NOT_FOUND, ResponseTimeoutError("x")]
    found = bench.adapter.find_by_id("7")
    assert isinstance(found, Found) and found.order.order_id == "7"
    assert isinstance(bench.adapter.find_by_client_id("a1"), Absent)
    unavailable = bench.adapter.find_by_client_id("a1")
    assert isinstance(unavailable, Unavailable) and isinstance(unavailable.error, ResponseTimeoutError)
    assert bench.script.bodies(STATUS) == [b'{"id":7}', b'{"clientOrderId":"a1"}', b'{"clientOrderId":"a1"}']


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"<html>not found</html>"),
        (404, {"detail": "Not found."}),
        (500, {"error": "NotFound"}),
        (403, {"detail": "no"}),
        (429, b""),
        {"status": "ok"},
        {"status": "ok", "order": None},
        {"status": "ok", "order": order_row(id=8)},
        {"status": "failed", "code": "Odd"},
        ConnectError("x"),
        RuntimeError("a bug"),
        MemoryError(),
    ],
    ids=str,
)
def test_no_error_is_ever_an_absent_order(answer):
    bench = Bench()
    bench.script.answers[STATUS] = answer
    assert isinstance(bench.adapter.find_by_id("7"), Unavailable)


def test_a_look_up_by_client_id_that_finds_another_is_unavailable():
    bench = Bench()
    bench.script.answers[STATUS] = {"status": "ok", "order": order_row(clientOrderId="other")}
    assert isinstance(bench.adapter.find_by_client_id("a1"), Unavailable)


@pytest.mark.parametrize("call", ["find_by_id", "list_orders_since", "prepare_cancel"])
@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5", "۷", None, 7])
def test_an_id_that_is_none_is_a_config_error(call, bad):
    with pytest.raises(ConfigError):
        getattr(Bench().adapter, call)(bad)


def test_an_interrupt_is_not_swallowed_by_a_look_up():
    bench = Bench()
    bench.script.answers[STATUS] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.adapter.find_by_id("7")
    assert bench.idle()


def pages(*sizes: int, start: int = 1, has_next: list[bool | None] | None = None) -> list[dict]:
    made = []
    for number, size in enumerate(sizes):
        page = {"status": "ok", "orders": [order_row(id=start + i, clientOrderId=None) for i in range(size)]}
        if has_next is not None and has_next[number] is not None:
            page["hasNext"] = has_next[number]
        made.append(page)
        start += size
    return made


def test_a_listing_has_every_page_oldest_first():
    bench = Bench()
    bench.script.answers[LIST] = pages(1000, 1000, 3, start=6)
    listing = bench.adapter.list_orders_since("5")
    assert [int(order.order_id) for order in listing.orders] == list(range(6, 2009))
    assert (listing.since, listing.started) == ("5", bench.clock.monotonic())
    paths = bench.script.paths()
    assert [path.partition("fromId=")[2].partition("&")[0] for path in paths] == ["5", "1005", "2005"]
    for part in ("status=all", "details=2", "tradeType=spot", "order=id", "pageSize=1000"):
        assert all(part in path for path in paths)


def test_a_venue_that_caps_its_pages_below_what_was_asked_does_not_hide_orders():
    bench = Bench()
    bench.script.answers[LIST] = pages(100, 100, 7)
    assert len(bench.adapter.list_orders_since("0").orders) == 207


def test_has_next_false_of_a_full_page_hides_no_order():
    # Nobitex does not combine pages with fromId: "no next page" may be all that it means.
    bench = Bench()
    bench.script.answers[LIST] = pages(100, 100, 7, has_next=[False, False, False])
    assert len(bench.adapter.list_orders_since("0").orders) == 207


def test_has_next_asks_for_another_page_after_a_short_one():
    bench = Bench()
    bench.script.answers[LIST] = pages(2, 2, has_next=[True, False])
    assert len(bench.adapter.list_orders_since("0").orders) == 4


@pytest.mark.parametrize(
    "broken",
    [
        ResponseTimeoutError("x"),
        {"status": "ok"},
        {"status": "ok", "orders": [order_row(id=3)]},  # below what was asked for
        {"status": "ok", "orders": [order_row(id=2002), order_row(id=2001)]},
        {"status": "ok", "orders": [order_row(id=2001), order_row(id=2001)]},
        {"status": "ok", "orders": [order_row(id=2001), order_row(id=2002, status=None)]},
        {"status": "ok", "orders": [], "hasNext": True},
    ],
    ids=str,
)
def test_a_listing_with_one_bad_page_is_unavailable(broken):
    bench = Bench()
    bench.script.answers[LIST] = [*pages(1000, start=6), broken]
    assert isinstance(bench.adapter.list_orders_since("5"), Unavailable)


def test_margin_orders_are_left_out_of_listings():
    bench = Bench()
    bench.script.answers[LIST] = {"status": "ok", "orders": [order_row(id=None, tradeType="Margin"), order_row(id=9)]}
    assert [order.order_id for order in bench.adapter.list_orders_since("0").orders] == ["9"]


def test_an_order_of_a_trade_type_that_is_not_documented_is_not_hidden():
    bench = Bench()
    bench.script.answers[LIST] = {"status": "ok", "orders": [order_row(id=9, tradeType="SpotV2")]}
    assert [order.order_id for order in bench.adapter.list_orders_since("0").orders] == ["9"]


def test_the_newest_order_is_the_first_watermark():
    bench = Bench()
    bench.script.answers[LIST] = [pages(3, start=5)[0], {"status": "ok", "orders": []}, (500, b"")]
    assert bench.adapter.newest_order_id() == "7"
    assert "order=-id" in bench.script.paths()[-1] and "status=all" in bench.script.paths()[-1]
    assert bench.adapter.newest_order_id() == "0"
    assert isinstance(bench.adapter.newest_order_id(), Unavailable)


def fills(*ids: int, second: int = 0, has_next: bool | None = None) -> dict:
    rows = [
        {
            "id": i,
            "orderId": 7,
            "market": "BTC-USDT",
            "timestamp": f"2026-01-02T03:{i // 60:02}:{i % 60:02}+00:00",
            "type": "buy",
            "price": "1",
            "amount": "2",
            "fee": "0.1",
        }
        for i in ids
    ]
    return {"status": "ok", "trades": rows} | ({} if has_next is None else {"hasNext": has_next})


def at(number: int) -> float:
    return 1767322800.0 + number  # 2026-01-02T03:00:00Z


def test_fills_are_read_until_they_are_older_than_asked_for():
    bench = Bench()
    bench.script.answers[FILLS] = [fills(*range(200, 100, -1), has_next=True), fills(*range(101, 1, -1), has_next=True)]
    listing = bench.adapter.list_fills_since(at(90))
    assert sorted(int(fill.trade_id) for fill in listing.fills) == list(range(90, 201))
    assert len(bench.script.requests) == 2
    assert listing.fills[0].fee == Decimal("0.1") and listing.fills[0].order_id == "7"


def test_fills_that_are_not_sorted_from_new_to_old_are_read_to_the_end():
    bench = Bench()
    bench.script.answers[FILLS] = [fills(1, 2, 3, has_next=True), fills(4, 5, has_next=False)]
    assert len(bench.adapter.list_fills_since(at(2)).fills) == 4


def test_a_trade_between_two_own_orders_is_listed_for_each_of_them():
    bench = Bench()
    page = fills(5, 5, has_next=False)
    page["trades"][1].update(orderId=8, type="sell")
    bench.script.answers[FILLS] = [page]
    assert {(fill.order_id, fill.side) for fill in bench.adapter.list_fills_since(at(0)).fills} == {
        ("7", "buy"),
        ("8", "sell"),
    }


def test_fills_without_an_end_are_unavailable():
    bench = Bench(rate_limits="off")
    bench.script.answers[FILLS] = fills(500, 499, has_next=True)
    assert isinstance(bench.adapter.list_fills_since(at(0)), Unavailable)


def test_fills_of_which_a_page_fails_are_unavailable():
    bench = Bench()
    bench.script.answers[FILLS] = [fills(*range(200, 100, -1), has_next=True), ConnectError("x")]
    assert isinstance(bench.adapter.list_fills_since(at(0)), Unavailable)


DAY = 86400.0


@pytest.mark.parametrize(
    ("asked", "oldest", "complete_from"),
    [
        (2.9 * DAY, None, 2.9 * DAY),  # the venue keeps three days
        (9 * DAY, None, 3 * DAY),
        (9 * DAY, 2 * DAY, 3 * DAY),
        (9 * DAY, 9.5 * DAY, 9 * DAY),  # it shows older ones, and so keeps more
        (9 * DAY, 9 * DAY, 9 * DAY),
    ],
)
def test_a_listing_of_fills_says_from_when_on_it_is_complete(asked, oldest, complete_from):
    bench = Bench()
    now = bench.clock.time()
    page = fills() if oldest is None else fills(1)
    for row in page["trades"]:
        row["timestamp"] = dt.datetime.fromtimestamp(now - oldest, dt.timezone.utc).isoformat()
    bench.script.answers[FILLS] = page
    listing = bench.adapter.list_fills_since(now - asked)
    assert listing.since == pytest.approx(now - complete_from)
    assert len(listing.fills) == (oldest is not None and oldest <= asked)


def test_a_foreign_pool_is_a_config_error_of_the_reference_price_too(pool_of):
    adapter = EnhancedNobitexAdapter(connection_pool=pool_of(object), token=TOKEN)
    with pytest.raises(ConfigError, match="NobitexClient"):
        adapter.reference_price("BTC/USDT")


def test_balances_are_typed_or_unavailable():
    bench = Bench()
    bench.script.answers["/v2/wallets"] = [
        {"status": "ok", "wallets": {"BTC": {"balance": "2", "blocked": "0.5"}}},
        {"status": "ok", "wallets": []},
    ]
    assert bench.adapter.balances()["BTC"].available == Decimal("1.5")
    assert isinstance(bench.adapter.balances(), Unavailable)


def test_whether_listings_show_client_ids_is_learnt_from_an_own_closed_order():
    for shown, expected in (("a1", True), (None, False)):
        bench = Bench()
        bench.adapter.prepare(limit()).submit(nothing)
        bench.script.answers[LIST] = {"status": "ok", "orders": [order_row(id=100, clientOrderId="a1")]}
        bench.adapter.list_orders_since("0")
        assert bench.adapter.capabilities.listing_shows_client_id is None  # it is open
        bench.script.answers[LIST] = {
            "status": "ok",
            "orders": [
                order_row(id=99, status="Done", clientOrderId=None),
                order_row(id=100, status="Done", clientOrderId=shown),
            ],
        }
        bench.adapter.list_orders_since("0")
        assert bench.adapter.capabilities.listing_shows_client_id is expected
    bench.adapter.note_listing_shows_client_id(True)
    assert bench.adapter.capabilities.listing_shows_client_id is True


def test_market_data_is_book_last_price_and_statistics():
    bench = Bench()
    bench.script.answers["/market/stats"] = {
        "status": "ok",
        "stats": {"btc-usdt": {"dayHigh": "51000", "isClosed": False}},
    }
    data = bench.adapter.get_market_data("btcusdt")
    assert (data.symbol, data.best_ask, data.best_bid, data.last_price) == ("BTC/USDT", 50010, 49990, 50000)
    assert data.stats == {"dayHigh": Decimal(51000), "isClosed": False}
    bench.clock.advance(1.5)
    bench.adapter.get_market_data("BTC/USDT")
    assert len(bench.script.requests) == 3  # the book again, the statistics not


# -- cancelling -----------------------------------------------------------------------------------------------------


def test_a_cancel_returns_the_order_after_it():
    bench = Bench()
    done = order_row(status="Canceled", matchedAmount="0.0004")
    bench.script.answers[CANCEL] = {"status": "ok", "updatedStatus": "Canceled", "order": done}
    state = bench.adapter.prepare_cancel("7").submit(nothing)
    assert (state.status, state.filled) == (OrderStatus.CANCELED, Decimal("0.0004"))
    assert bench.script.bodies(CANCEL) == [b'{"order":7,"status":"canceled"}']


@pytest.mark.parametrize(
    "answer", [{"status": "failed", "updatedStatus": "Done"}, {"status": "ok", "updatedStatus": "Canceled"}]
)
def test_a_cancel_whose_answer_has_no_order_is_followed_by_a_look(answer):
    bench = Bench()
    bench.script.answers[CANCEL] = answer
    bench.script.answers[STATUS] = {"status": "ok", "order": order_row(status="Done", matchedAmount="0.001")}
    assert bench.adapter.prepare_cancel("7").submit(nothing).filled == Decimal("0.001")


@pytest.mark.parametrize("look", [ResponseTimeoutError("x"), NOT_FOUND, (500, b"")], ids=str)
def test_a_cancel_whose_outcome_cannot_be_read_is_unknown(look):
    bench = Bench()
    bench.script.answers[CANCEL] = {"status": "ok", "updatedStatus": "Canceled"}
    bench.script.answers[STATUS] = look
    with pytest.raises(OutcomeUnknownError):
        bench.adapter.prepare_cancel("7").submit(nothing)
    assert bench.idle()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (NOT_FOUND, OrderNotFoundError),
        ({"status": "failed", "updatedStatus": "Active"}, OutcomeUnknownError),
        ({"status": "ok"}, OutcomeUnknownError),
        ({"status": "ok", "updatedStatus": "Canceled", "order": order_row(id=8)}, OutcomeUnknownError),
        (ConnectError("x"), NotSentError),
    ],
    ids=str,
)
def test_a_cancel_that_fails_says_how(answer, kind):
    bench = Bench()
    bench.script.answers[CANCEL] = answer
    with pytest.raises(kind):
        bench.adapter.prepare_cancel("7").submit(nothing)
    assert bench.idle()


def test_a_cancel_that_is_stopped_before_its_first_byte_is_not_sent():
    bench = Bench()

    def halt() -> None:
        raise ValueError("halt")

    with pytest.raises(ValueError, match="halt"):
        bench.adapter.prepare_cancel("7").submit(halt)
    bench.adapter.prepare_cancel("7").abandon()
    assert bench.script.bodies(CANCEL) == [] and bench.used("orders/update-status") == 0


# -- refused credentials --------------------------------------------------------------------------------------------


def test_ten_unknown_orders_under_a_401_make_at_most_35_calls_in_30_minutes():
    bench = Bench()
    bench.adapter.initialize()
    bench.script.answers |= dict.fromkeys((STATUS, LIST, FILLS, ADD, CANCEL, "/users/profile", "/v2/wallets"), REFUSED)
    for second in range(0, 1800, 4):
        for number in range(10):
            assert isinstance(bench.adapter.find_by_client_id(f"a{number}"), Unavailable)
        if second % 20 == 0:
            assert isinstance(bench.adapter.list_orders_since("0"), Unavailable)
            assert isinstance(bench.adapter.list_fills_since(0.0), Unavailable)
            assert isinstance(bench.adapter.balances(), Unavailable)
            for prepare in (lambda: bench.adapter.prepare(limit()), lambda: bench.adapter.prepare_cancel("7")):
                with pytest.raises(NotSentError):
                    prepare()
        bench.clock.advance(4)
    assert 25 <= bench.script.private() <= 35
    assert bench.idle()


def test_the_first_401_isolates_the_private_breakers_and_leaves_market_data_alone():
    bench = Bench()
    bench.script.answers[STATUS] = REFUSED
    read = bench.adapter.find_by_id("7")
    assert isinstance(read, Unavailable) and isinstance(read.error, AuthenticationError)
    breakers = bench.adapter._access.breakers
    assert {what: str(breaker.state) for what, breaker in breakers.items()} == {
        "market": "closed",
        "account": "isolated",
        "place": "isolated",
        "cancel": "isolated",
    }
    with pytest.raises(CircuitOpenError) as caught:
        bench.adapter.prepare(limit())
    assert caught.value.retry_after == pytest.approx(60)
    bench.script.answers["/market/stats"] = {"status": "ok", "stats": {}}
    assert bench.adapter.get_market_data("BTC/USDT").best_ask == 50010


def test_a_refused_order_closes_the_gate_and_is_a_definite_no():
    bench = Bench()
    bench.script.answers[ADD] = REFUSED
    with pytest.raises(AuthenticationError):
        bench.adapter.prepare(limit()).submit(nothing)
    with pytest.raises(NotSentError):
        bench.adapter.prepare(limit())


def test_prepare_probes_when_a_probe_is_due_and_goes_on_when_it_succeeds():
    bench = Bench()
    bench.script.answers[STATUS] = REFUSED
    bench.adapter.find_by_id("7")
    bench.script.answers["/users/profile"] = [REFUSED, {"status": "ok", "profile": {}}]
    bench.clock.advance(61)
    with pytest.raises(NotSentError):
        bench.adapter.prepare(limit())
    bench.clock.advance(61)
    assert bench.adapter.prepare(limit()).submit(nothing).order_id == "100"
    assert all(str(breaker.state) == "closed" for breaker in bench.adapter._access.breakers.values())


def test_a_probe_that_was_not_answered_opens_nothing():
    bench = Bench()
    bench.script.answers[STATUS] = [REFUSED, ResponseTimeoutError("x"), NOT_FOUND, NOT_FOUND]
    bench.adapter.find_by_id("7")
    bench.clock.advance(61)
    bench.adapter.find_by_id("7")
    assert isinstance(bench.adapter.find_by_id("7"), Unavailable)
    bench.clock.advance(61)
    assert isinstance(bench.adapter.find_by_id("7"), Absent)  # answered as to somebody known
    assert isinstance(bench.adapter.find_by_id("7"), Absent)


def test_a_probe_that_could_not_be_made_is_left_to_the_next_caller():
    bench = Bench(rate_limits={"orders/list": (1, 600)})
    bench.script.answers[LIST] = REFUSED
    bench.script.answers[STATUS] = NOT_FOUND
    bench.adapter.list_orders_since("0")
    bench.clock.advance(61)
    assert isinstance(bench.adapter.list_orders_since("0"), Unavailable)  # our own limiter refused the probe
    assert isinstance(bench.adapter.find_by_id("7"), Absent)


def test_a_missing_permission_is_not_a_refused_account():
    bench = Bench()
    bench.script.answers["/v2/wallets"] = (403, {"detail": "no"})
    assert isinstance(bench.adapter.balances(), Unavailable)
    bench.adapter.prepare(limit()).submit(nothing)


def test_an_order_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Bench().adapter.prepare(limit()).order.price = Decimal(1)
