"""The simulated exchange of the examples: a process of its own, its admin port and its truth file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hireliab.simulator import truth

ADD = "POST /market/orders/add"


class Venue:
    """
    ``python -m hireliab.simulator`` as a context manager.

    Args:
        folder: Where its truth file goes.
        options: Further ones of its command line.

    Attributes:
        folder: As given.
        where: Its first line: base_url, api_key, api_secret and so on.
        truth_file: What it received and did; see hireliab/simulator/truth.py.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self.truth_file = folder / "truth.jsonl"
        self.where: Mapping[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None
        # Loopback only: a proxy that the environment names must not see this.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Venue:
        command = [sys.executable, "-m", "hireliab.simulator", "--seed", "7", "--truth", str(self.truth_file)]
        command += self._options
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"simulator: ended at once with code {self._process.wait()}")
            self.where = json.loads(line)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def admin(self, path: str, **body: object) -> None:
        """One call of the admin port; see hireliab/simulator/admin.py."""
        request = urllib.request.Request(  # noqa: S310 - the simulator said where: http on loopback
            f"{self.where['admin_url']}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with self._opener.open(request, timeout=10.0) as answer:
            answer.read()

    def records(self) -> list[truth.Record]:
        """The truth so far."""
        return list(truth.read(self.truth_file))

    def wait_for(
        self, wanted: Callable[[truth.Record], bool], timeout: float, *, unless: Callable[[], bool] = lambda: False
    ) -> bool:
        """Whether such a record is in the truth file within `timeout` seconds; `unless` ends the wait earlier."""
        give_up = time.monotonic() + timeout
        while True:
            over = unless() or time.monotonic() > give_up  # asked first: what came before it counts
            if any(wanted(record) for record in self.records()):
                return True
            if over:
                return False
            time.sleep(0.02)
