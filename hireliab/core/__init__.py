"""
Keeps one call safe; knows no venue, no broker, no alert.

clock            Clock protocol, SystemClock
config           load(): dict, config or None to a frozen dataclass
money            Decimal in, text out, exact
rate_limiter     sliding-window limits with reserved shares
circuit_breaker  CircuitBreaker, @circuit_breaker, registry
_sqlite          one writer thread per file, group commit
_threads         stoppable daemon threads
"""
