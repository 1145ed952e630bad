"""
Tells other processes.

bus          MessageBus contract, Message, PublishReceipt
memory_bus   InMemoryMessageBus
rabbitmq     RabbitMQMessageBus
outbox       journalled events -> bus, through callables
inbox        Inbox: at-least-once made once
message_bus  the door: the names above, and open_message_bus
"""
