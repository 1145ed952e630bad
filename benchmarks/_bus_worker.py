"""
A contestant of the bus benchmark in a process of its own, so that its interpreter lock and its CPU time are its own.

``python -m benchmarks._bus_worker MODULE:CLASS`` reads one JSON line for each thing to do and answers it with one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._bus_work import Done, Place, publish_for

ROOT = Path(__file__).parents[1]
PATIENCE = 150.0
"""Seconds after which a worker that does not answer is ended."""


class Worker:
    """The same, seen from the benchmark."""

    def __init__(self, contestant: str) -> None:
        self._process: Any = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._bus_worker", contestant],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, place: Place, **arguments: Any) -> Done:
        """Have one thing done; raises RuntimeError when it was not."""
        alarm = threading.Timer(PATIENCE, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, "place": asdict(place), **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise RuntimeError("its process has ended, or did not answer in time")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return Done(**answer)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


def do(contestant: Any, task: dict[str, Any]) -> Done:
    """One thing."""
    place, what = Place(**task["place"]), task["do"]
    if what == "publish":
        threads, seconds = task["threads"], task["seconds"]
        if hasattr(contestant, "publish_alone"):
            alone: Done = contestant.publish_alone(place, seconds)
            return alone
        with contextlib.ExitStack() as stack:
            opened = [
                stack.enter_context(contestant.publisher(place)) for _ in range(1 if contestant.shared else threads)
            ]
            return publish_for(seconds, opened, threads=threads)
    done: Done = getattr(contestant, what)(place, task["count"])
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    module, _, name = (sys.argv[1:] if arguments is None else arguments)[0].partition(":")
    for library in ("hireliab", "pika", "amqp", "kombu", "amqpstorm"):
        logging.getLogger(library).addHandler(logging.NullHandler())
        logging.getLogger(library).propagate = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark's own process ends this one
    contestant = getattr(importlib.import_module(module), name)()
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = asdict(do(contestant, json.loads(line)))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
