"""
Examples; each runs offline: python -m hireliab.examples.<name>. ``python -m hireliab.examples`` lists them.

high_reliability_demo  everything together against the simulator
legacy_bot_before      an old bot on requests that forgets an order and doubles another
legacy_bot_after       the same bot with one decorator
decorators             what is done again after an error, and what never is
circuit_breaker        a dead exchange, and its return
pool_of_sessions       threads that share connections
alerts_from_logging    a bot's log lines as alerts
several_processes      a bus in memory, or between processes over RabbitMQ
"""
