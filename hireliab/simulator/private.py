"""/users and /v2/wallets: profile, limits, balances, histories of one account."""

from __future__ import annotations

from decimal import Decimal

from hireliab.simulator import money, params
from hireliab.simulator.ledger import Balance, Entry
from hireliab.simulator.markets import DISPLAY_NAMES
from hireliab.simulator.message import Reply, answer
from hireliab.simulator.render import iso, wallet_number
from hireliab.simulator.state import Call, ExchangeState

_MONTH_NS = 30 * 86_400 * 1_000_000_000
_SPAN_NS = 90 * 86_400 * 1_000_000_000
_TP = (
    "deposit", "withdraw", "buy", "sell", "manual", "referral", "transfer", "pnl", "delegate",
    "staking", "yield_farming", "discount",
)  # fmt: skip
_PERSIAN_TYPES = {"deposit": "واریز", "buy": "معامله", "sell": "معامله", "manual": "تراکنش دستی"}


def profile(exchange: ExchangeState, call: Call) -> Reply:
    """/users/profile: fees in percent, trade statistics of a month."""
    recent = [fill for fill in exchange.engine.fills[call.account] if fill.at_ns > call.now_ns - _MONTH_NS]
    total = money.ZERO
    for fill in recent:
        total = money.add(total, _in_rial(exchange, fill.market, fill.total))
    return answer(
        {
            "status": "ok",
            "profile": {
                "firstName": "مشتری",
                "lastName": "آزمایشی",
                "nationalCode": "011122333",
                "email": exchange.credentials.logins[call.account].username,
                "username": exchange.credentials.logins[call.account].username,
                "phone": "02142719000-3500",
                "mobile": "09151111111",
                "city": "مشهد",
                "bankCards": [],
                "bankAccounts": [],
                "verifications": {"email": True, "phone": True, "mobile": True, "identity": True, "selfie": True},
                "pendingVerifications": {"email": False, "phone": False, "mobile": False, "identity": False},
                "options": {
                    "fee": money.text(exchange.settings.fee),
                    "feeUsdt": money.text(exchange.settings.fee_usdt),
                    "isManualFee": False,
                    "tfa": True,
                    "socialLoginEnabled": False,
                },
                "withdrawEligible": True,
            },
            "tradeStats": {"monthTradesTotal": money.text(total), "monthTradesCount": len(recent)},
            "websocketAuthParam": f"sim-{call.account}",
        }
    )


def limitations(exchange: ExchangeState, call: Call) -> Reply:
    """/users/limitations."""
    may_trade = call.account not in exchange.engine.blocked_accounts
    features = ("crypto_trade", "rial_trade", "coin_deposit", "rial_deposit", "coin_withdrawal", "rial_withdrawal")
    limits = {
        "withdrawRialDaily": "9000000000",
        "withdrawCoinDaily": "10000000000",
        "withdrawTotalDaily": "10000000000",
        "withdrawTotalMonthly": "300000000000",
    }
    return answer(
        {
            "status": "ok",
            "limitations": {
                "userLevel": "level2",
                "features": {name: may_trade or not name.endswith("trade") for name in features},
                "limits": {name: {"used": "0", "limit": limit} for name, limit in limits.items()},
            },
        }
    )


def list_wallets(exchange: ExchangeState, call: Call) -> Reply:
    """/users/wallets/list: every wallet that exists, with its rial value as a number."""
    rows = []
    for code, held in _wallets(exchange, call).items():
        worth = int(_rial_value(exchange, code, held.total))
        address = f"sim-{call.account}-{code}"
        rows.append(
            {
                "id": exchange.engine.ledger.wallet_id(call.account, code),
                "currency": code,
                "balance": wallet_number(held.total),
                "blockedBalance": money.text(held.blocked),
                "activeBalance": wallet_number(held.free),
                "rialBalance": worth,
                "rialBalanceSell": worth,
                "depositAddress": None if code == "rls" else address,
                "depositTag": None,
                "depositInfo": {} if code == "rls" else {code.upper(): {"address": address, "tag": None}},
            }
        )
    return answer({"status": "ok", "wallets": rows})


def wallets(exchange: ExchangeState, call: Call) -> Reply:
    """/v2/wallets: balance and blocked part by upper-case code; wallets that do not exist are absent."""
    wanted = {code.strip().lower() for code in str(call.params.get("currencies") or "").split(",") if code.strip()}
    found = {
        code.upper(): {
            "id": exchange.engine.ledger.wallet_id(call.account, code),
            "balance": wallet_number(held.total),
            "blocked": money.text(held.blocked),
        }
        for code, held in _wallets(exchange, call).items()
        if not wanted or code in wanted
    }
    return answer({"status": "ok", "wallets": found})


def balance(exchange: ExchangeState, call: Call) -> Reply:
    """POST /users/wallets/balance: the total of one currency, ten decimals."""
    code = params.currency(call.params, "currency")
    if code is None:
        raise params.parse_error("Missing currency value")
    held = _wallets(exchange, call).get(code, Balance())
    return answer({"balance": money.ten_decimals(held.total), "status": "ok"})


def wallet_transactions(exchange: ExchangeState, call: Call) -> Reply:
    """GET /users/wallets/transactions/list of one wallet."""
    wanted = params.whole(call.params, "wallet")
    if wanted is None:
        raise params.parse_error("Missing integer value")
    rows = [
        {
            "id": entry.id,
            "currency": entry.currency,
            "created_at": iso(entry.at_ns),
            "calculatedFee": None,
            "amount": money.text(entry.amount),
            "description": entry.description,
        }
        for entry in _statement(exchange, call)
        if exchange.engine.ledger.wallet_id(call.account, entry.currency) == wanted
    ]
    page, has_next = params.cut(rows, call.params, 50, 100)
    return answer({"status": "ok", "transactions": page, "hasNext": has_next})


def transactions_history(exchange: ExchangeState, call: Call) -> Reply:
    """GET /users/transactions-history with its filters; at most 90 days."""
    code, tp = params.currency(call.params, "currency"), params.choice(call.params, "tp", _TP)
    first_id = params.whole(call.params, "from_id") or 0
    start, end = params.moment(call.params, "from"), params.moment(call.params, "to")
    if start is not None and end is not None and not 0 < end - start <= _SPAN_NS:
        raise params.parse_error("Invalid time range")
    rows = [
        {
            "id": entry.id,
            "amount": money.text(entry.amount),
            "description": entry.description,
            "created_at": iso(entry.at_ns),
            "balance": money.text(entry.balance),
            "tp": entry.tp,
            "calculatedFee": None,
            "type": _PERSIAN_TYPES[entry.tp],
            "currency": entry.currency,
        }
        for entry in _statement(exchange, call)
        if code in (None, entry.currency)
        and tp in (None, entry.tp)
        and entry.id > first_id
        and (start is None or entry.at_ns >= start)
        and (end is None or entry.at_ns <= end)
    ]
    page, has_next = params.cut(rows, call.params, 50, 100)
    return answer({"status": "ok", "transactions": page, "hasNext": has_next})


def deposits(exchange: ExchangeState, call: Call) -> Reply:
    """GET /users/wallets/deposits/list: the starting balances, as deposits of the last 3 months."""
    wanted = call.params.get("wallet")
    number = None if wanted in (None, "", "all") else params.whole(call.params, "wallet")
    ledger = exchange.engine.ledger
    rows: list[dict[str, object]] = [
        {
            "txHash": f"sim-{entry.id}",
            "address": f"sim-{call.account}-{entry.currency}",
            "confirmed": True,
            "transaction": {
                "id": entry.id,
                "amount": money.text(entry.amount),
                "currency": entry.currency,
                "description": entry.description,
                "created_at": iso(entry.at_ns),
                "calculatedFee": None,
            },
            "currency": DISPLAY_NAMES[entry.currency],
            "blockchainUrl": None,
            "confirmations": 2,
            "requiredConfirmations": 2,
            "amount": money.text(entry.amount),
        }
        for entry in _statement(exchange, call)
        if entry.tp == "deposit"
        and entry.at_ns > call.now_ns - _SPAN_NS
        and number in (None, ledger.wallet_id(call.account, entry.currency))
    ]
    has_next = False
    if number is not None:
        rows, has_next = params.cut(rows, call.params, 50, 100)
    return answer({"status": "ok", "deposits": rows, "hasNext": has_next})


def _wallets(exchange: ExchangeState, call: Call) -> dict[str, Balance]:
    """Balances as this kind of read sees them; margin wallets do not exist."""
    if params.choice(call.params, "type", ("spot", "margin", "credit", "debit"), "spot") != "spot":
        return {}
    ledger, cutoff = exchange.engine.ledger, exchange.engine.visibility.cutoff("wallets", call.now)
    found = {}
    for code in ledger.wallets(call.account):
        held = ledger.visible(call.account, code, cutoff)
        if held is not None:
            found[code] = held
    return found


def _statement(exchange: ExchangeState, call: Call) -> list[Entry]:
    """The account statement, newest first, as wallet reads see it."""
    lag_ns = round((call.now - exchange.engine.visibility.cutoff("wallets", call.now)) * 1e9)
    entries = exchange.engine.ledger.statement(call.account)
    return [entry for entry in reversed(entries) if entry.at_ns <= call.now_ns - lag_ns]


def _rial_value(exchange: ExchangeState, code: str, amount: Decimal) -> Decimal:
    if code == "rls":
        return amount
    for pit in exchange.engine.pits.values():
        if pit.market.base == code and pit.market.quote == "rls":
            return money.mul(amount, pit.tape.last)
    return money.ZERO


def _in_rial(exchange: ExchangeState, symbol: str, total: Decimal) -> Decimal:
    return _rial_value(exchange, exchange.engine.pits[symbol].market.quote, total)
