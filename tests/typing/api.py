"""Never run: mypy --strict checks that the public names are typed and that a typical bot type-checks."""

import logging
from decimal import Decimal

import hireliab
from hireliab import (
    AlertHandler,
    AlertLevel,
    AlertSource,
    AlertSystem,
    CircuitBreaker,
    ConnectionPool,
    EnhancedNobitexAdapter,
    Inbox,
    InMemoryMessageBus,
    Message,
    MessageBus,
    NobitexClient,
    OutcomeUnknownError,
    OwnVenue,
    PartialFillError,
    RabbitMQMessageBus,
    RateLimiter,
    Reject,
    Transaction,
    TransactionResult,
    TransactionVerificationPipeline,
    circuit_breaker,
    open_message_bus,
    verified_transaction,
)
from hireliab.messaging.bus import PublishReceipt, PublishStatus
from hireliab.testing import FaultyBus


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
    logging.getLogger().addHandler(AlertHandler(alerts, level="error", source=AlertSource.SYSTEM))
    alerts.watch(breaker)
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


def own_function() -> bool:
    verifier = TransactionVerificationPipeline(exchange_adapter=OwnVenue("kraken", account="main"))

    def find(client_order_id: str) -> dict[str, str] | None:
        return {"id": client_order_id}

    @verified_transaction(verifier, find=find, cancel=find, refused=(KeyError, ValueError))
    def place_order(symbol: str, amount: Decimal, client_order_id: str | None = None) -> dict[str, str]:
        return {"id": f"{symbol} {amount} {client_order_id}"}

    placed: dict[str, str] = place_order("BTC/USDT", Decimal(1))
    return place_order.cancel(placed["id"])


def listen(message: Message) -> None:
    if not message.data:
        raise Reject("empty")


def buses() -> list[MessageBus]:
    return [
        InMemoryMessageBus(),
        FaultyBus(InMemoryMessageBus(), seed=1, rates={"drop": 0.1}),
        RabbitMQMessageBus({"source": "bot-1"}, url=["amqp://a", "amqp://b"]),
        open_message_bus("memory://"),
    ]


def talk(bus: MessageBus) -> bool:
    with bus:
        subscription = bus.subscribe("order.#", Inbox("state.db", group="g").once(listen), group="g", concurrency=2)
        bus.subscribe("position.#", listen, group="positions", in_order=True)
        receipt: PublishReceipt = bus.publish("order.filled", {"price": Decimal(1)}, mandatory=True)
        return receipt.result(1.0) is PublishStatus.CONFIRMED and subscription.unsubscribe()


VERSION: str = hireliab.__version__


def session() -> None:
    with hireliab.Session(base_url="https://api.example.com", total_timeout=15.0) as client:
        client.get("/v1/time", total_timeout=2.0, retry_safe=True, params={"a": "b"}).json()
        client.post("/v1/orders", json={"a": 1}, total_timeout=5.0, max_idle=2.0).raise_for_status()
