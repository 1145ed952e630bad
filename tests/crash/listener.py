"""
What the bot's events are told to: a process that survives the bot, so that nothing it was told is lost. Not hireliab's.

``python listener.py FILE SEED`` prints its port as JSON, then answers each line of standard input: ``{"calm": true}``
switches its faults off. A connection carries one JSON object per line, ``{"id", "topic", "data"}``; it is appended to the
file by one `os.write`, and then answered ``{"id", "ok"}``. Its faults, each for a small share of the messages: the
connection drops before the message is kept, or after it was kept and before it is confirmed; the message is refused; the
confirmation comes late.
"""

import json
import os
import random
import socket
import sys
import threading
import time

FAULTS = (("lost", 0.02), ("unconfirmed", 0.04), ("refused", 0.02), ("late", 0.05))


class Listener:
    """Keeps what it is told."""

    def __init__(self, path, seed):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.rng = random.Random(f"{seed}/listener")
        self.calm = False
        self.socket = socket.create_server(("127.0.0.1", 0))

    def fault(self):
        """Of the next message, or None."""
        roll = self.rng.random()
        if self.calm:
            return None
        for name, share in FAULTS:
            if roll < share:
                return name
            roll -= share
        return None

    def serve(self):
        while True:
            connection, _ = self.socket.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.listen, args=(connection,), daemon=True).start()

    def listen(self, connection):
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    if not line.endswith(b"\n"):
                        return  # the bot was killed in the middle of it
                    told = json.loads(line)
                    fault = self.fault()
                    if fault == "lost":
                        return
                    if fault != "refused":
                        note = json.dumps({"mono": time.monotonic_ns(), **told}) + "\n"
                        os.write(self.file, note.encode())
                    if fault == "unconfirmed":
                        return
                    if fault == "late":
                        time.sleep(0.03)
                    connection.sendall(json.dumps({"id": told["id"], "ok": fault != "refused"}).encode() + b"\n")
            except OSError:
                return  # the bot is gone


def main():
    listener = Listener(sys.argv[1], sys.argv[2])
    threading.Thread(target=listener.serve, daemon=True).start()
    print(json.dumps({"port": listener.socket.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        listener.calm = json.loads(line)["calm"]
        print(json.dumps({"calm": listener.calm}), flush=True)


if __name__ == "__main__":
    main()
