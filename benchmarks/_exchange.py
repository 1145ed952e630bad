"""The simulated exchange of a benchmark: a process of its own, its accounts, and its truth file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from hireliab.simulator import truth

ADD = "/market/orders/add"
STATUS = "/market/orders/status"


class Exchange:
    """
    ``python -m hireliab.simulator`` without rate limits, as a context manager.

    Args:
        truth_file: What it received and did.
        seed: Of its prices and its faults.
        faults: Rules as in hireliab/simulator/faults.py.
    """

    def __init__(self, truth_file: Path, *, seed: int, faults: Sequence[Mapping[str, object]] = ()) -> None:
        self._truth_file = truth_file
        self._command = [
            *(sys.executable, "-m", "hireliab.simulator", "--no-limits", "--seed", str(seed)),
            *("--truth", str(truth_file), "--faults", json.dumps(list(faults))),
        ]
        self._process: subprocess.Popen[str] | None = None
        self._where: Mapping[str, Any] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # loopback needs no proxy

    def __enter__(self) -> Exchange:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"simulator: ended at once with code {self._process.wait()}")
            self._where = json.loads(line)
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
        self._session.close()
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

    @property
    def base_url(self) -> str:
        """Where clients connect."""
        return str(self._where["base_url"])

    def open_account(self, name: str) -> str:
        """Open a generous account; its token."""
        return str(self._admin("POST", "/accounts", {"name": name})["token"])

    def faults_met(self) -> int:
        """How many requests met a fault so far."""
        return sum(int(rule["fired"]) for rule in self._admin("GET", "/state")["faults"])

    def records(self) -> list[truth.Record]:
        """The truth so far."""
        return list(truth.read(self._truth_file))

    def _admin(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        answer = self._session.request(method, f"{self._where['admin_url']}{path}", json=body, timeout=10.0)
        if not answer.ok:
            raise RuntimeError(f"simulator: {method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()
