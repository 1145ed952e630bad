"""Whatever happens, money is conserved and exactly what open orders need is blocked."""

from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hireliab.simulator import trading_floor
from hireliab.simulator.clock import VirtualClock
from hireliab.simulator.ledger import FEES, HOUSE
from hireliab.simulator.markets import DEFAULT_BALANCES
from hireliab.simulator.placing import OrderRefused, parse_order
from hireliab.simulator.settings import Settings
from hireliab.simulator.state import ExchangeState

D = Decimal
SYMBOL, BASE, QUOTE = "USDTIRT", "usdt", "rls"
PRICES = st.integers(48_000, 54_000).map(lambda n: D(n) * 10)
AMOUNTS = st.integers(600, 5_000_000).map(lambda n: D(n) / 100)
ACCOUNTS = ("user", "second")

orders = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["buy", "sell"]),
        "execution": st.sampled_from(["limit", "limit", "market", "stop_limit", "stop_market"]),
        "amount": AMOUNTS,
        "price": PRICES,
        "stopPrice": PRICES,
        "stopLimitPrice": PRICES,
        "mode": st.sampled_from(["default", "default", "oco"]),
    }
)
actions = st.one_of(
    st.tuples(st.just("place"), st.sampled_from(ACCOUNTS), orders),
    st.tuples(st.just("place"), st.sampled_from(ACCOUNTS), orders),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("trade"), PRICES, AMOUNTS | st.none()),
    st.tuples(st.just("move"), PRICES),
    st.tuples(st.just("thin"), AMOUNTS | st.just(D(0))),
    st.tuples(st.just("balance"), st.sampled_from(ACCOUNTS), st.sampled_from([BASE, QUOTE]), st.integers(0, 10**11)),
    st.tuples(st.just("advance"), st.floats(0, 10)),
)
switches = st.fixed_dictionaries(
    {
        "new_delay": st.sampled_from([0, 3]),
        "cancel_delay": st.sampled_from([0, 3]),
        "reject_probability": st.sampled_from([0, 0.3]),
        "self_trade": st.booleans(),
        "refill": st.booleans(),
        "null_client_ids": st.booleans(),
        "fee": st.sampled_from(["0.25", "0.3333"]),
    }
)


def act(engine, clock, action):
    kind, *details = action
    engine.run_due()
    if kind == "place":
        account, params = details
        given_params = {**params, "srcCurrency": BASE, "dstCurrency": QUOTE, "pro": "yes"}
        if given_params["mode"] == "oco":
            given_params["execution"] = "limit"
        try:
            engine.place(account, parse_order(given_params, engine.by_key))
        except OrderRefused:
            pass
    elif kind == "cancel":
        open_orders = [order for account in ACCOUNTS for order in engine.orders.open_orders(account)]
        if open_orders:
            engine.cancel(open_orders[details[0] % len(open_orders)])
    elif kind == "trade":
        trading_floor.house_trade(engine, SYMBOL, *details)
    elif kind == "move":
        trading_floor.move_market(engine, SYMBOL, details[0])
    elif kind == "thin":
        trading_floor.thin(engine, SYMBOL, details[0])
    elif kind == "balance":
        engine.set_balance(details[0], details[1], D(details[2]))
    else:
        clock.advance(details[0])
    engine.run_due()


def check(engine, totals):
    for code, total in totals.items():
        assert engine.ledger.total(code) == total
    for account in ACCOUNTS:
        needed = dict.fromkeys(totals, D(0))
        for order in engine.orders.account_orders(account, float("inf")):
            assert order.matched + order.unmatched == order.amount
            assert 0 <= order.matched <= order.amount
            assert (order.status == "Done") == (order.unmatched == 0)
            if order.is_open:
                needed[QUOTE if order.side == "buy" else BASE] += order.held
                sibling = engine.orders.get(order.pair_id) if order.pair_id else None
                if sibling is None or not sibling.is_open:
                    assert order.held == order.need()
                else:
                    assert order.held + sibling.held == max(order.need(), sibling.need())
            else:
                assert order.held == 0
        for code, amount in needed.items():
            balance = engine.ledger.get(account, code)
            assert balance.blocked == amount
            assert 0 <= balance.blocked <= balance.total
        for fill in engine.fills[account]:
            assert fill.total == fill.amount * fill.price
            assert fill.fee >= 0
    assert engine.ledger.get(HOUSE, QUOTE).blocked == engine.ledger.get(FEES, QUOTE).blocked == 0
    book = engine.pits[SYMBOL].book
    best_buy, best_sell = book.best("buy"), book.best("sell")
    if best_buy is not None and best_sell is not None:
        assert best_buy < best_sell


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(switches, st.lists(actions, max_size=25))
def test_money_is_conserved_and_blocked_exactly_for_open_orders(chosen, steps):
    clock = VirtualClock()
    state = ExchangeState(clock, seed=3, settings=Settings().changed(chosen))
    for account in ACCOUNTS:
        state.open_account(account)
    engine = state.engine
    totals = {code: engine.ledger.total(code) for code in DEFAULT_BALANCES}
    assert set(totals.values()) == {D(0)}  # the house owes what users have
    for step in steps:
        act(engine, clock, step)
        check(engine, totals)
    filled = {code: D(0) for code in totals}
    for account in ACCOUNTS:
        for fill in engine.fills[account]:
            filled[fill.fee_currency] += fill.fee
    for code, fees in filled.items():
        assert engine.ledger.get(FEES, code).total == fees
