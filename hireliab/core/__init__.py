"""
Keeps one call safe; knows no venue, no broker, no alert.

clock            Clock protocol, SystemClock
config           load(): dict, config or None to a frozen dataclass
money            Decimal in, text out, exact
deadline         one shrinking time budget for everything below it
retry            @retry over tenacity's strategies, RetryBudget (_retry_budget, _retry_entries)
rate_limiter     sliding-window limits with reserved shares (_limiter_window)
bulkhead         bounded concurrency with a bounded queue
circuit_breaker  CircuitBreaker, @circuit_breaker, registry (_breaker_*, _gate, _window, _listeners)
policy           Policy: the parts above in one stated order; @reliable
_sqlite          one writer thread for each file, group commit
_threads         stoppable daemon threads, and what a forked child renews
"""
