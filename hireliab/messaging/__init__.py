"""
Tells other processes.

bus          MessageBus contract, Message, PublishReceipt
memory_bus   InMemoryMessageBus
message_bus  the door: the names above
"""
