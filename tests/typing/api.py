"""Never run: mypy --strict checks that the public names are typed and that a typical bot type-checks."""

from decimal import Decimal

import hireliab
from hireliab import (
    AlertLevel,
    AlertSource,
    AlertSystem,
    CircuitBreaker,
    ConnectionPool,
    EnhancedNobitexAdapter,
    InMemoryMessageBus,
    NobitexClient,
    OutcomeUnknownError,
    PartialFillError,
    RateLimiter,
    Transaction,
    TransactionResult,
    TransactionVerificationPipeline,
    circuit_breaker,
    verified_transaction,
)


@circuit_breaker(name="typed")
def fetch(symbol: str, depth: int = 1) -> Decimal:
    return Decimal(depth)


def bot() -> bool:
    pool: ConnectionPool[NobitexClient] = ConnectionPool(name="typed", create_client_func=NobitexClient)
    breaker = CircuitBreaker(name="typed", failure_threshold=3)
    price: Decimal = breaker.execute(fetch, "BTC/USDT", depth=2)
    limiter = RateLimiter(name="typed", limit=10, per=60.0)
    limiter.acquire()
    with pool.connection() as client:
        client.get_market_data("BTC/USDT")
    alerts = AlertSystem({"channels": {"console": True}})
    alerts.send_alert(source=AlertSource.SYSTEM, level=AlertLevel.INFO, title="typed", message=str(price))
    adapter = EnhancedNobitexAdapter(config={"connection_pool": pool})
    verifier = TransactionVerificationPipeline(
        exchange_adapter=adapter, message_bus=InMemoryMessageBus(), alert_system=alerts
    )
    order: Transaction = verifier.create_transaction(type="market_buy", symbol="BTC/USDT", amount="0.1")
    result: TransactionResult = verifier.execute(order)
    filled: Decimal = result.filled
    try:
        return verifier.execute_transaction(order) and filled > 0
    except (OutcomeUnknownError, PartialFillError):
        return False


def own_function(verifier: TransactionVerificationPipeline) -> bool:
    def find(client_order_id: str) -> dict[str, str] | None:
        return {"id": client_order_id}

    @verified_transaction(verifier, find=find, cancel=find, refused=(KeyError, ValueError))
    def place_order(symbol: str, amount: Decimal, client_order_id: str | None = None) -> dict[str, str]:
        return {"id": f"{symbol} {amount} {client_order_id}"}

    placed: dict[str, str] = place_order("BTC/USDT", Decimal(1))
    return place_order.cancel(placed["id"])


VERSION: str = hireliab.__version__
