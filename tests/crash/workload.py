"""
What the bot under test wants: order number i of a seed, always the same. Pure.

Amounts grow with i, so no two orders of a run look alike: a checker can tell them apart, and the exchange's own rule
against equal orders never hides a second sending.
"""

import random
from decimal import Decimal

# symbol, middle, price step, smallest amount, amount step; what the simulator starts with
MARKETS = (
    ("BTC/IRT", Decimal(49_980_000_000), Decimal(10), Decimal("0.001"), Decimal("0.000001")),
    ("BTC/USDT", Decimal(98_000), Decimal("0.01"), Decimal("0.001"), Decimal("0.000001")),
    ("ETH/IRT", Decimal(1_785_000_000), Decimal(10), Decimal("0.02"), Decimal("0.00001")),
    ("ETH/USDT", Decimal(3_500), Decimal("0.01"), Decimal("0.02"), Decimal("0.00001")),
    ("USDT/IRT", Decimal(510_000), Decimal(10), Decimal(20), Decimal("0.01")),
    ("DOGE/IRT", Decimal(102_000), Decimal(1), Decimal(200), Decimal(1)),
)
# More than the house offers inside the collar of a market order, by market: such an order ends filled in part.
TOO_MUCH = {"BTC": Decimal(9), "ETH": Decimal(140), "USDT": Decimal(350_000), "DOGE": Decimal(900_000)}
UNPAYABLE = {"BTC": Decimal(10**7), "ETH": Decimal(10**8), "USDT": Decimal(10**12), "DOGE": Decimal(10**12)}
BALANCES = {"rls": "1" + "0" * 19, "usdt": "1" + "0" * 10, "btc": "1000000", "eth": "10000000", "doge": "1" + "0" * 10}

KINDS = {
    "market": 40,
    "resting": 18,
    "crossing": 8,
    "crossing_filled": 5,
    "stop_limit": 7,
    "stop_market": 4,
    "partial": 4,
    "partial_accepted": 3,
    "unpayable": 3,
    "give_up": 8,  # rests, and is rolled back when its short time is over
    "give_up_filled": 3,  # the same rule, but it crosses the book
    "give_up_partial": 3,  # the same, and more than the book holds: a part of it is filled
}
FUNDABLE = ("market", "resting", "crossing", "crossing_filled", "stop_limit", "stop_market", "give_up_filled")


def _round(price, step):
    return (price / step).to_integral_value() * step


def order(seed, i, *, kinds=tuple(KINDS)):
    """The i-th order of a seed: a mapping with kind, cancel (whether the bot cancels it later) and arguments."""
    rng = random.Random(f"{seed}/order/{i}")
    symbol, middle, step, least, tick = rng.choice(MARKETS)
    base = symbol.partition("/")[0]
    kind = rng.choices(kinds, [KINDS[k] for k in kinds])[0]
    side = rng.choice(("buy", "sell"))
    up = 1 if side == "buy" else -1
    amount = least + (i % 100_000) * tick
    given = {"symbol": symbol, "type": f"market_{side}"}
    if kind in ("resting", "give_up"):
        away = Decimal(rng.randint(300, 1500)) / 100_000
        given.update(type=f"limit_{side}", price=str(_round(middle * (1 - up * away), step)))
    elif kind.startswith(("crossing", "give_up")):
        away = Decimal(rng.randint(1500, 2500)) / 100_000
        given.update(type=f"limit_{side}", price=str(_round(middle * (1 + up * away), step)))
        if kind == "crossing_filled":
            given["commit"] = "filled"
    elif kind.startswith("stop"):
        trigger = Decimal(rng.randint(1300, 2000)) / 100_000
        given.update(type=f"{kind}_{side}", stop_price=str(_round(middle * (1 + up * trigger), step)))
        if kind == "stop_limit":
            given["price"] = str(_round(middle * (1 + up * (trigger + Decimal("0.004"))), step))
    elif kind.startswith("partial"):
        amount += TOO_MUCH[base]
        if kind == "partial_accepted":
            given["on_partial"] = "accept"
    elif kind == "unpayable":
        amount += UNPAYABLE[base]
    if kind.startswith("give_up"):
        given.update(commit="filled_or_cancel", timeout=2.0 if kind == "give_up_filled" else rng.uniform(0.05, 0.4))
    if kind == "give_up_partial":
        amount += TOO_MUCH[base]
    given["amount"] = str(amount)
    return {
        "kind": kind,
        "cancel": kind in ("resting", "stop_limit", "stop_market") and rng.random() < 0.6,
        "args": given,
    }
