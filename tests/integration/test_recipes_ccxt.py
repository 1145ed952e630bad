"""docs/recipes-ccxt.rst, run as it stands against an imitation of Kraken on loopback."""

import os
import threading

import pytest

from hireliab.errors import ConnectError, NotSentError, OutcomeUnknownError, RateLimitedError
from tests.support import documents
from tests.support.scripted_kraken import KEY, SECRET, Kraken
from tests.support.together import Background, together

if os.environ.get("HIRELIAB_REQUIRE_COMPAT") == "1":
    import ccxt
else:
    ccxt = pytest.importorskip("ccxt", reason="ccxt is of the extra test-compat")

PAGE = "docs/recipes-ccxt.rst"
RECIPE, RELOAD, PLACE, POOLED = range(4)
ROOMY = [("limit=15, per=15.0", "limit=1000, per=15.0")]  # where the limit is not what is tested


@pytest.fixture
def kraken(monkeypatch):
    with Kraken() as kraken:

        class AtLoopback(ccxt.kraken):
            def describe(self):
                return self.deep_extend(
                    super().describe(), {"urls": {"api": dict.fromkeys(("public", "private"), kraken.url)}}
                )

        monkeypatch.setattr(ccxt, "kraken", AtLoopback)
        yield kraken


@pytest.fixture
def bot(kraken):
    spaces = []

    def start(*only, replace=ROOMY):
        spaces.append({"API_KEY": KEY, "SECRET": SECRET})
        return documents.run(PAGE, spaces[-1], replace=replace, only=(RECIPE, *only))

    yield start
    for space in spaces:
        for pool in ("public", "private"):
            space[pool].stop()
        space["template"].session.close()


def test_the_page_runs_from_top_to_bottom(bot, kraken):
    space = bot(RELOAD, PLACE, POOLED)
    assert (space["ticker"]["last"], space["balance"]["BTC"]["free"]) == (50000.0, 1.0)
    assert space["place"]("BTC/USD", "buy", 0.001, 20000)["id"] == "O1"
    assert [order["volume"] for order in kraken.orders] == ["0.001"]


def test_markets_are_loaded_once_for_all_clients_and_shared(bot, kraken):
    space = bot()
    together(4, lambda i: space["public"].execute("fetch_ticker", "BTC/USD"))
    with space["public"].connection() as one, space["public"].connection() as other:
        assert one is not other
        assert one.markets is other.markets is space["template"].markets
    assert (kraken.count("/0/public/AssetPairs"), kraken.count("/0/public/Assets")) == (1, 1)


def test_after_a_reload_clients_with_the_old_markets_are_replaced(bot):
    space = bot()
    with space["public"].connection() as client:
        old = client
    documents.run(PAGE, space, only=(RELOAD,))
    with space["public"].connection() as client:
        assert client is not old
        assert client.markets is space["template"].markets is not old.markets


def test_private_calls_of_many_threads_arrive_in_the_order_of_their_nonces(bot, kraken):
    space = bot()
    together(8, lambda i: [space["private"].execute("fetch_balance") for _ in range(10)])
    assert len(kraken.nonces) == 81  # the page itself asks once
    assert kraken.nonces == sorted(set(kraken.nonces))


def test_a_pool_with_a_nonce_window_repeats_no_nonce(bot, kraken):
    kraken.window = 10_000
    space = bot()
    together(8, lambda i: [space["public"].execute("fetch_balance") for _ in range(10)])
    assert len(kraken.nonces) == len(set(kraken.nonces)) == 81
    assert space["public"].stats().created > 1


def test_requests_on_two_connections_may_overtake_which_is_why_private_calls_have_one(bot, kraken):
    space = bot()
    under_way, arrives = kraken.hold["/0/private/BalanceEx"] = threading.Event(), threading.Event()
    slow = Background(space["public"].execute, "fetch_balance")
    try:
        assert under_way.wait(10)  # signed, with the lower nonce
        space["public"].execute("fetch_balance")
    finally:
        arrives.set()
    with pytest.raises(ccxt.InvalidNonce):
        slow.result()


def test_all_clients_share_one_limit_which_counts_every_request(bot, kraken):
    space = bot(replace=[("limit=15, per=15.0", "limit=30, per=3600.0"), ("timeout=1.0)", "timeout=0.0)")])
    before = len(kraken.server.requests)
    used = space["limiter"].stats().used
    assert used == 1 + 1 + 1 + 3  # two for the markets, a ticker, and a balance, which costs 3

    def ask_until_refused(i):
        for n in range(100):
            try:
                space["public"].execute("fetch_ticker", "BTC/USD")
            except RateLimitedError:
                return n
        return 100

    done = together(8, ask_until_refused)
    assert sum(done) == len(kraken.server.requests) - before == 30 - used


def test_a_refused_permit_sends_nothing_and_keeps_the_client(bot, kraken):
    space = bot(PLACE)
    space["limiter"].penalize(60.0)
    discarded = space["private"].stats().discarded
    with pytest.raises(NotSentError):
        space["place"]("BTC/USD", "buy", 0.001, 20000)
    assert kraken.orders == []
    assert space["private"].stats().discarded == discarded


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("create_order", "BTC/USD", "limit", "buy", 2, 20000), ccxt.InsufficientFunds),
        (("fetch_ticker", "DOGE/USD"), ccxt.BadSymbol),
    ],
)
def test_what_the_exchange_refuses_keeps_the_client(bot, arguments, error):
    space = bot()
    with space["private"].connection() as client:
        before = client
    with pytest.raises(error):
        space["private"].execute(*arguments)
    with space["private"].connection() as client:
        assert client is before


def test_an_order_whose_answer_is_lost_is_unknown_sent_once_and_its_client_replaced(bot, kraken):
    space = bot(PLACE)
    kraken.lose.append("/0/private/AddOrder")
    with space["private"].connection() as client:
        before = client
    with pytest.raises(OutcomeUnknownError):
        space["place"]("BTC/USD", "buy", 0.001, 20000)
    assert (kraken.count("/0/private/AddOrder"), len(kraken.orders)) == (1, 1)
    with space["private"].connection() as client:
        assert client is not before


def test_ccxt_itself_calls_the_lost_answer_a_network_error(bot, kraken):
    space = bot()
    kraken.lose.append("/0/private/AddOrder")
    with pytest.raises(ccxt.NetworkError) as caught:
        space["private"].execute("create_order", "BTC/USD", "limit", "buy", 0.001, 20000)
    assert isinstance(caught.value.__cause__, OutcomeUnknownError)


def test_an_order_without_a_connection_was_not_sent(bot, kraken):
    space = bot(PLACE)
    space["private"].execute("fetch_balance")
    kraken.server.stop()
    with space["private"].connection() as client:
        client.session.close()  # the exchange is gone and has closed every connection
    with pytest.raises(ConnectError):
        space["place"]("BTC/USD", "buy", 0.001, 20000)
    assert kraken.orders == []


def test_each_client_has_a_session_of_its_own_which_the_pool_closes(bot):
    space = bot()
    with space["public"].connection() as one, space["public"].connection() as other:
        assert type(one.session).__module__ == "hireliab.exchange.http_session"
        assert one.session is not other.session


def test_the_pooled_object_borrows_for_each_call(bot, kraken):
    space = bot(POOLED)
    before = kraken.count("/0/public/Ticker")
    tickers = together(6, lambda i: space["exchange"].fetch_ticker("BTC/USD")["symbol"])
    assert tickers == ["BTC/USD"] * 6
    assert kraken.count("/0/public/Ticker") == before + 6
    assert space["private"].stats().in_use == 0
