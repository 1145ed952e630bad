"""A part of every kind that can be measured and looked after, in memory, on a FakeClock where it has one."""

import contextlib

from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import RetryBudget
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction_verification import TransactionVerificationPipeline
from hireliab.messaging.inbox import Inbox
from hireliab.messaging.memory_bus import InMemoryMessageBus
from hireliab.messaging.outbox import Outbox
from hireliab.monitoring.alert_channels import Ok
from hireliab.monitoring.alert_system import AlertSystem
from hireliab.testing import ScriptedExchange


class Client:
    def close(self):
        pass


@contextlib.contextmanager
def whole_bot(folder, clock):
    """The running parts by kind, the kinds of `hireliab.monitoring._parts.KINDS`."""
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(InMemoryMessageBus(name="memory"))
        bus.subscribe("transaction.#", lambda _: None, group="books")
        alerts = AlertSystem({"channels": {"told": lambda _: Ok()}, "spool": folder / "spool"})
        stack.enter_context(alerts)
        journal = SQLiteJournal(folder / "own" / "default")  # its name is the pipeline's, too
        journal.open()
        stack.callback(journal.close)
        pipeline = TransactionVerificationPipeline(
            exchange_adapter=ScriptedExchange(clock=clock),
            message_bus=bus,
            journal=folder / "journal",
            clock=clock,
            operator_interval=None,
        )
        stack.callback(pipeline.stop)
        pipeline.start()
        pool = ConnectionPool(name="clients", create_client_func=Client, clock=clock)
        stack.enter_context(pool)
        yield {
            "pipeline": pipeline,
            "journal": journal,
            "pool": pool,
            "breaker": CircuitBreaker(name="orders", clock=clock),
            "limiter": RateLimiter(name="requests", limits=[(10, 1.0), (100, 60.0)], clock=clock),
            "bulkhead": Bulkhead(name="slow calls", max_concurrent=2),
            "retry_budget": RetryBudget(target="venue", clock=clock),
            "outbox": Outbox(
                bus, name="own", pending=lambda *_: [], mark_published=lambda _: None, backlog=lambda: (0, None),
                drop=lambda _: 0, alert=lambda *_: None,
            ),
            "inbox": stack.enter_context(Inbox(folder, group="books")),
            "bus": bus,
            "alerts": alerts,
        }  # fmt: skip
