"""Breakages of the in-memory bus that a test must notice."""

_BUS = "hireliab/messaging/memory_bus.py"
_QUEUE = "hireliab/messaging/_memory_queue.py"
_CONTRACT = "hireliab/messaging/bus.py"

TESTS = ["tests/unit/messaging", "tests/contract/test_message_bus.py", "tests/property/test_bus_topics.py"]

MUTANTS = [
    ("a failed message is not redelivered", _BUS, "heapq.heappush(queue.delayed, (due, next(self._numbers), delivery))", "pass"),
    ("one attempt too many", _BUS, "last=delivery.attempt > len(self._retry_delays)", "last=delivery.attempt > len(self._retry_delays) + 1"),
    ("every retry has the first delay", _BUS, "self._retry_delays[delivery.attempt - 1]", "self._retry_delays[0]"),
    ("a retry wakes no sleeping thread", _BUS, "                queue.changed.notify_all()  # a thread that waits", "                # a thread that waits"),
    ("Reject is an ordinary failure", _BUS, "except (Reject, MessageDecodeError) as error:", "except MessageDecodeError as error:"),
    ("SystemExit ends the handler thread", _BUS, "except BaseException as error:\n                    # Also", "except Exception as error:\n                    # Also"),
    ("the queue is not bounded", _BUS, "queue.held_locked() >= self._config.queue_size", "queue.held_locked() >= self._config.queue_size + 1"),
    ("messages in hand take no room", _QUEUE, "return len(self.ready) + len(self.delayed) + self.in_flight", "return len(self.ready) + len(self.delayed)"),
    ("retrying messages take no room", _QUEUE, "return len(self.ready) + len(self.delayed) + self.in_flight", "return len(self.ready) + self.in_flight"),
    ("a handler waits for room in its own bus", _BUS, "                timeout = 0.0  # a handler that waits", "                pass  # a handler that waits"),
    ("room wakes no publisher after an ack", _BUS, "queue.acked += 1\n                        self._room.notify_all()", "queue.acked += 1"),
    ("stop leaves queued messages", _BUS, 'if subscription.closed or self._state == "stopped":', 'if subscription.closed or self._state != "running":'),
    ("stop waits for its own handler", _BUS, "            if threading.current_thread() in self._threads:\n                return\n", ""),
    ("unsubscribe waits for its own handler", _BUS, "            if threading.current_thread() in subscription.threads:\n                return subscription.alive == 0  # a handler cannot wait for itself\n", ""),
    ("messages are published after stop", _BUS, 'if self._state in ("stopping", "stopped"):', 'if self._state == "stopped":'),
    ("deliveries share one copy of the data", _BUS, "data=decode_data(delivery.body))", "data=queue.__dict__.setdefault(delivery.envelope.id, decode_data(delivery.body)))"),
    ("last in, first out", _BUS, "return queue.ready.popleft()", "return queue.ready.pop()"),
    ("a mandatory message is confirmed unseen", _BUS, "returned = mandatory and not queues", "returned = False"),
    ("a redelivered message does not say so", _BUS, "redelivered=delivery.attempt > 1", "redelivered=False"),
    ("unsubscribed handlers go on", _BUS, "subscription.closed = True\n", "pass\n"),
    ("the size limit counts characters", _CONTRACT, "if len(encoded) > limit:", "if len(body) > limit:"),
    ("a star matches no word", _CONTRACT, 'part in ("*", words[i])', 'part == words[i]'),
    ("a hash needs a word", _CONTRACT, "reached = [i >= first for i in range(len(reached))]", "reached = [i > first for i in range(len(reached))]"),
    ("a receipt settles twice", _CONTRACT, "if self._status is not None:\n                return False", "if False:\n                return False"),
    ("an unconfirmed message counts as refused", _CONTRACT, "if status is None or status is PublishStatus.UNKNOWN:", "if status is None:"),
    ("the bus is used after a fork", _BUS, "        if self._pid != os.getpid():\n            # Its", "        if False:\n            # Its"),
]  # fmt: skip
