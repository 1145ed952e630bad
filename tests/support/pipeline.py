"""What tests of the pipeline ask it for, in fake time."""


def market(pipeline, **more):
    return pipeline.create_transaction(**{"type": "market_buy", "symbol": "BTC/USDT", "amount": "0.5", **more})


def limit(pipeline, **more):
    return pipeline.create_transaction(
        **{"type": "limit_buy", "symbol": "BTC/USDT", "amount": "0.5", "price": "100", **more}
    )


def finish(clock, pipeline, transaction, limit=3600.0):
    """Execute in fake time; returns the first answer."""
    handle = pipeline.submit(transaction)
    clock.advance_until(lambda: transaction._answered or handle.done, limit=limit)
    return handle.result()


def decide(clock, transaction, limit=3600.0):
    """Let time pass until it is decided; returns the result."""
    clock.advance_until(lambda: transaction.state.is_terminal, limit=limit)
    return transaction.result()


class Alerts(list):
    """An alert system that keeps what it is given."""

    def send_alert(self, **alert):
        self.append(alert)
