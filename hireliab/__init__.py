"""
hireliab: a blocking trading bot's orders, placed at most once and never forgotten.

core        keeps one call safe: circuit breaker, rate limiter, clock, money
exchange    talks to a venue: connection pool, HTTP session, Nobitex client and adapter, verified transactions with a journal
messaging   tells other processes: message bus
monitoring  tells people: alerts, metrics, health
simulator   a Nobitex-speaking exchange in its own process, with faults
testing     FakeClock and ScriptedExchange for tests of bots
errors      every exception: not sent, refused, or unknown

The names below are imported at their first use; ``import hireliab`` loads no third-party module.
"""

from hireliab._lazy import lazy as _lazy
from hireliab._version import __version__ as __version__

TYPE_CHECKING = False  # not typing's: it would be imported for this line alone
if TYPE_CHECKING:
    from hireliab.core.bulkhead import Bulkhead as Bulkhead
    from hireliab.core.circuit_breaker import CircuitBreaker as CircuitBreaker
    from hireliab.core.circuit_breaker import circuit_breaker as circuit_breaker
    from hireliab.core.deadline import deadline as deadline
    from hireliab.core.policy import Policy as Policy
    from hireliab.core.policy import reliable as reliable
    from hireliab.core.rate_limiter import RateLimiter as RateLimiter
    from hireliab.core.retry import RetryBudget as RetryBudget
    from hireliab.core.retry import retry as retry
    from hireliab.errors import AlertError as AlertError
    from hireliab.errors import AuthenticationError as AuthenticationError
    from hireliab.errors import BulkheadFullError as BulkheadFullError
    from hireliab.errors import BusError as BusError
    from hireliab.errors import BusFullError as BusFullError
    from hireliab.errors import CircuitOpenError as CircuitOpenError
    from hireliab.errors import ClosedError as ClosedError
    from hireliab.errors import ConfigError as ConfigError
    from hireliab.errors import ConnectError as ConnectError
    from hireliab.errors import DeadlineExceededError as DeadlineExceededError
    from hireliab.errors import DuplicateOrderError as DuplicateOrderError
    from hireliab.errors import HireliabError as HireliabError
    from hireliab.errors import IdempotencyConflictError as IdempotencyConflictError
    from hireliab.errors import InsufficientFundsError as InsufficientFundsError
    from hireliab.errors import InvalidOrderError as InvalidOrderError
    from hireliab.errors import JournalCorruptError as JournalCorruptError
    from hireliab.errors import JournalError as JournalError
    from hireliab.errors import JournalLockedError as JournalLockedError
    from hireliab.errors import JournalPoisonedError as JournalPoisonedError
    from hireliab.errors import MalformedResponseError as MalformedResponseError
    from hireliab.errors import MessageDecodeError as MessageDecodeError
    from hireliab.errors import MissingDependencyError as MissingDependencyError
    from hireliab.errors import NotSentError as NotSentError
    from hireliab.errors import OrderNotFoundError as OrderNotFoundError
    from hireliab.errors import OrderRejectedError as OrderRejectedError
    from hireliab.errors import OutcomeUnknownError as OutcomeUnknownError
    from hireliab.errors import PartialFillError as PartialFillError
    from hireliab.errors import PoolCreateError as PoolCreateError
    from hireliab.errors import PoolDeadlockError as PoolDeadlockError
    from hireliab.errors import PoolDownError as PoolDownError
    from hireliab.errors import PoolError as PoolError
    from hireliab.errors import PoolFullError as PoolFullError
    from hireliab.errors import PoolStoppedError as PoolStoppedError
    from hireliab.errors import PoolTimeoutError as PoolTimeoutError
    from hireliab.errors import RateLimitedError as RateLimitedError
    from hireliab.errors import RefusedError as RefusedError
    from hireliab.errors import ResponseLostError as ResponseLostError
    from hireliab.errors import ResponseTimeoutError as ResponseTimeoutError
    from hireliab.errors import ThrottledError as ThrottledError
    from hireliab.errors import TopologyError as TopologyError
    from hireliab.errors import TransactionDeniedError as TransactionDeniedError
    from hireliab.errors import UnconfirmedPublishError as UnconfirmedPublishError
    from hireliab.exchange.adapter import ExchangeAdapter as ExchangeAdapter
    from hireliab.exchange.connection_pool import ConnectionPool as ConnectionPool
    from hireliab.exchange.enhanced_nobitex_adapter import EnhancedNobitexAdapter as EnhancedNobitexAdapter
    from hireliab.exchange.http_session import Session as Session
    from hireliab.exchange.http_session import pool_of_sessions as pool_of_sessions
    from hireliab.exchange.nobitex_client import NobitexClient as NobitexClient
    from hireliab.exchange.own_venue import OwnVenue as OwnVenue
    from hireliab.exchange.sqlite_journal import SQLiteJournal as SQLiteJournal
    from hireliab.exchange.transaction import Transaction as Transaction
    from hireliab.exchange.transaction import TransactionResult as TransactionResult
    from hireliab.exchange.transaction import Verdict as Verdict
    from hireliab.exchange.transaction_verification import (
        TransactionVerificationPipeline as TransactionVerificationPipeline,
    )
    from hireliab.exchange.verified_transaction import verified_transaction as verified_transaction
    from hireliab.messaging.inbox import Inbox as Inbox
    from hireliab.messaging.message_bus import InMemoryMessageBus as InMemoryMessageBus
    from hireliab.messaging.message_bus import Message as Message
    from hireliab.messaging.message_bus import MessageBus as MessageBus
    from hireliab.messaging.message_bus import Reject as Reject
    from hireliab.messaging.message_bus import open_message_bus as open_message_bus
    from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus as RabbitMQMessageBus
    from hireliab.monitoring.alert_system import AlertLevel as AlertLevel
    from hireliab.monitoring.alert_system import AlertSource as AlertSource
    from hireliab.monitoring.alert_system import AlertSystem as AlertSystem
    from hireliab.monitoring.health import HealthMonitor as HealthMonitor
    from hireliab.monitoring.log_handler import AlertHandler as AlertHandler
else:
    __getattr__, __dir__, __all__ = _lazy(
        __name__,
        {
            "AlertError": "errors",
            "AlertHandler": "monitoring.log_handler",
            "AlertLevel": "monitoring.alert_system",
            "AlertSource": "monitoring.alert_system",
            "AlertSystem": "monitoring.alert_system",
            "AuthenticationError": "errors",
            "Bulkhead": "core.bulkhead",
            "BulkheadFullError": "errors",
            "BusError": "errors",
            "BusFullError": "errors",
            "CircuitBreaker": "core.circuit_breaker",
            "CircuitOpenError": "errors",
            "ClosedError": "errors",
            "ConfigError": "errors",
            "ConnectError": "errors",
            "ConnectionPool": "exchange.connection_pool",
            "DeadlineExceededError": "errors",
            "DuplicateOrderError": "errors",
            "EnhancedNobitexAdapter": "exchange.enhanced_nobitex_adapter",
            "ExchangeAdapter": "exchange.adapter",
            "HealthMonitor": "monitoring.health",
            "HireliabError": "errors",
            "IdempotencyConflictError": "errors",
            "InMemoryMessageBus": "messaging.message_bus",
            "Inbox": "messaging.inbox",
            "InsufficientFundsError": "errors",
            "InvalidOrderError": "errors",
            "JournalCorruptError": "errors",
            "JournalError": "errors",
            "JournalLockedError": "errors",
            "JournalPoisonedError": "errors",
            "MalformedResponseError": "errors",
            "Message": "messaging.message_bus",
            "MessageBus": "messaging.message_bus",
            "MessageDecodeError": "errors",
            "MissingDependencyError": "errors",
            "NobitexClient": "exchange.nobitex_client",
            "NotSentError": "errors",
            "OrderNotFoundError": "errors",
            "OrderRejectedError": "errors",
            "OutcomeUnknownError": "errors",
            "OwnVenue": "exchange.own_venue",
            "PartialFillError": "errors",
            "Policy": "core.policy",
            "PoolCreateError": "errors",
            "PoolDeadlockError": "errors",
            "PoolDownError": "errors",
            "PoolError": "errors",
            "PoolFullError": "errors",
            "PoolStoppedError": "errors",
            "PoolTimeoutError": "errors",
            "RabbitMQMessageBus": "messaging.rabbitmq.bus",
            "RateLimitedError": "errors",
            "RateLimiter": "core.rate_limiter",
            "RefusedError": "errors",
            "Reject": "messaging.message_bus",
            "ResponseLostError": "errors",
            "ResponseTimeoutError": "errors",
            "RetryBudget": "core.retry",
            "SQLiteJournal": "exchange.sqlite_journal",
            "Session": "exchange.http_session",
            "ThrottledError": "errors",
            "TopologyError": "errors",
            "Transaction": "exchange.transaction",
            "TransactionDeniedError": "errors",
            "TransactionResult": "exchange.transaction",
            "TransactionVerificationPipeline": "exchange.transaction_verification",
            "UnconfirmedPublishError": "errors",
            "Verdict": "exchange.transaction",
            "circuit_breaker": "core.circuit_breaker",
            "deadline": "core.deadline",
            "open_message_bus": "messaging.message_bus",
            "pool_of_sessions": "exchange.http_session",
            "reliable": "core.policy",
            "retry": "core.retry",
            "verified_transaction": "exchange.verified_transaction",
        },
    )
