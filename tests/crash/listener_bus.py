"""The bot's way to listener.py: a bus with `publish` alone, whose receipts settle when the listener answers."""

import json
import socket
import threading

from hireliab.messaging.bus import PublishReceipt, PublishStatus


class ListenerBus:
    """Used by the outbox's thread; answers come on a thread of the connection's own."""

    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()  # guards connection and open
        self.connection, self.open = None, {}

    def publish(self, topic, data, *, message_id):
        receipt = PublishReceipt(message_id=message_id, topic=topic)
        with self.lock:
            connection = self.connection
        if connection is None:
            connection = self.connect()
        with self.lock:
            if connection is not self.connection:
                raise OSError("the connection dropped")
            self.open[message_id] = receipt
        try:
            connection.sendall(json.dumps({"id": message_id, "topic": topic, "data": data}).encode() + b"\n")
        except OSError:
            self.drop(connection)
        return receipt

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=2.0)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.connection = connection
        threading.Thread(target=self.hear, args=(connection,), daemon=True).start()
        return connection

    def hear(self, connection):
        try:
            with connection.makefile("rb") as answers:
                for line in answers:
                    answer = json.loads(line)
                    with self.lock:
                        receipt = self.open.pop(answer["id"], None)
                    if receipt is not None:
                        receipt.settle(PublishStatus.CONFIRMED if answer["ok"] else PublishStatus.NACKED)
        except (OSError, ValueError):
            pass
        self.drop(connection)

    def drop(self, connection):
        """What was not answered on it may have been heard."""
        with self.lock:
            if self.connection is not connection:
                return
            self.connection = None
            lost, self.open = list(self.open.values()), {}
        connection.close()
        for receipt in lost:
            receipt.settle(PublishStatus.UNKNOWN, "the connection dropped")

    def stop(self):
        with self.lock:
            connection = self.connection
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)
