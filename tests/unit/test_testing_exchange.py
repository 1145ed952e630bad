from decimal import Decimal

import pytest

from hireliab.errors import ConfigError
from hireliab.exchange.adapter import Order
from hireliab.testing import FakeClock, ScriptedExchange

ORDER = Order(symbol="BTC/USDT", side="buy", type="limit", amount=Decimal(1), price=Decimal(2), client_order_id="c")


@pytest.mark.parametrize("word", ["filled", "reject_answer_lost", "fill_lost", "", None])
def test_a_word_that_it_does_not_know_is_refused_and_places_nothing(word):
    exchange = ScriptedExchange(clock=FakeClock())
    exchange.script.append(word)
    with pytest.raises(ConfigError, match="one of fill, rest, .*rest_answer_lost.*, reject, "):
        exchange.place(ORDER)
    assert not exchange.orders


def test_a_refusal_names_the_word_that_was_meant():
    exchange = ScriptedExchange(clock=FakeClock())
    exchange.script.append("fil_answer_lost")
    with pytest.raises(ConfigError, match="did you mean 'fill_answer_lost'"):
        exchange.place(ORDER)
