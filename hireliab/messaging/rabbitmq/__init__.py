"""
The message bus over RabbitMQ; the only package that names pika.

bus          RabbitMQMessageBus
connection   one connection, kept up by one thread of its own
publisher    messages on their way out: window, confirms, publishing again
consumer     subscriptions: deliveries, handlers, acknowledgements, dead letters
topology     what is declared at the broker, and what a refusal means
"""
