"""The self-test of what tells people: alerts over HTTP, metrics, health, and the operator's command line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.request import ProxyHandler, build_opener

from hireliab._install_parts import Failed, require
from hireliab._self_test_stage import PATIENCE, STARTING, SYMBOL, Stage, closed_port, until
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.errors import CircuitOpenError, HireliabError, MissingDependencyError
from hireliab.monitoring.alert_system import AlertLevel, AlertSource, AlertSystem
from hireliab.monitoring.health import Health, HealthMonitor
from hireliab.monitoring.metrics import Metrics

_PASSWORD = "a-password-that-nobody-may-see"  # noqa: S105 - of an endpoint that lives for a second
_LENT = "hireliab_pool_acquired_total"


def alerts(stage: Stage) -> str:
    """An alert that nobody took is sent by the next start, through Apprise, without the address's password."""

    def system(port: int) -> AlertSystem:
        url = f"json://bot:{_PASSWORD}@127.0.0.1:{port}/"
        spool = str(stage.folder / "alerts")
        return AlertSystem({"channels": {"endpoint": {"url": url}}, "spool": spool, "group_wait": 0})

    before = system(closed_port())
    before.start()
    receipt = before.send_alert(
        source=AlertSource.EXCHANGE,
        level=AlertLevel.ERROR,
        title="self-test",
        message=f"json://bot:{_PASSWORD}@127.0.0.1/ does not answer",
        context={"order": 17},
    )
    require(receipt.accepted, f"it was not taken: {receipt.reason}")
    tried = until(lambda: before.status().channels["endpoint"].last_error)
    before.stop(0.2)
    require(tried, "an alert to a closed port is no error")
    with _Endpoint() as endpoint, system(endpoint.port) as after:
        came = until(lambda: endpoint.bodies)
        require(came, f"nothing came after a restart: {after.status().channels['endpoint']}")
    body = json.loads(endpoint.bodies[0])
    require("self-test" in body["title"], f"the title became {body['title']!r:.80}")
    require("17" in body["message"], f"the context is not in the message {body['message']!r:.80}")
    require(_PASSWORD.encode() not in endpoint.bodies[0], "the message shows a password")
    return "an alert that nobody took came by Apprise's json:// after a restart, its password masked"


class _Endpoint:
    """An HTTP server that keeps what is posted to it."""

    def __enter__(self) -> _Endpoint:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing is written."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="hireliab.self-test.endpoint", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


def metrics(stage: Stage) -> str:
    """The figures are those of what was done, and Prometheus reads the same."""
    with stage.bot("metrics") as bot:
        measured = Metrics(bot.pool)
        before = measured.snapshot().value(_LENT, name="metrics")
        for _ in range(3):
            bot.pool.execute("get_orderbook", SYMBOL)
        snapshot = measured.snapshot()
        require(not snapshot.failures, f"a part could not be asked: {snapshot.failures}")
        lent = snapshot.value(_LENT, name="metrics")
        if not isinstance(before, float) or not isinstance(lent, float) or lent - before != 3:
            raise Failed(f"after 3 calls the pool's clients were lent {lent} times, {before} before them")
        try:
            exporter = measured.serve(0)
        except MissingDependencyError:
            return f"a snapshot of {len(snapshot.families)} metrics; Prometheus is left out, the extra is not installed"
        with exporter, build_opener(ProxyHandler({})).open(exporter.url, timeout=PATIENCE) as answer:
            text = answer.read().decode()
    require(f'{_LENT}{{name="metrics"}} {lent}' in text.splitlines(), f"Prometheus reads another number: {text[:200]}")
    return f"a snapshot of {len(snapshot.families)} metrics; Prometheus read the same over HTTP"


def health(stage: Stage) -> str:
    """An open circuit is told with its reason, and not any more when it has closed."""
    circuit = CircuitBreaker(name="health", failure_threshold=1, reset_timeout=0.01)
    with stage.bot("health") as bot, stage.client() as client:
        bot.verifier.start()
        monitor = HealthMonitor(bot.verifier, circuit)
        well = monitor.report()
        require(well.status is Health.HEALTHY, f"{well.status.value} before anything broke: {'; '.join(well.reasons)}")
        with stage.cut_off():
            with contextlib.suppress(HireliabError):
                circuit.execute(client.get_orderbook, SYMBOL)
            ill = monitor.report()
        require(ill.status is not Health.HEALTHY, "healthy while a circuit is open")
        require(any("breaker health" in reason for reason in ill.reasons), f"its reasons are {ill.reasons}")

        def closes() -> bool:
            try:
                circuit.execute(client.get_orderbook, SYMBOL)
            except CircuitOpenError:
                return False
            return True

        require(until(closes), "the circuit did not close")
        again = monitor.report()
    require(again.status is Health.HEALTHY, f"{again.status.value} afterwards: {'; '.join(again.reasons)}")
    return f"healthy, {ill.status.value} with its reason while a circuit was open, healthy again"


def command_line(stage: Stage) -> str:
    """Lists the transactions of a bot beside the bot, in a process of its own."""
    with stage.bot("command") as bot:
        made = bot.verifier.create_transaction(type="market_buy", symbol=SYMBOL, amount="0.003")
        bot.verifier.execute(made)
        done = subprocess.run(  # noqa: S603 - the interpreter that runs this
            [
                sys.executable,
                "-m",
                "hireliab",
                "transactions",
                "list",
                "--journal",
                str(stage.folder / "command"),
                "--json",
            ],
            capture_output=True,
            text=True,
            timeout=STARTING,
            check=False,
        )
    require(done.returncode == 0, f"it ended with code {done.returncode}: {done.stderr[-200:]}")
    said = json.loads(done.stdout)
    ids = [row["txn_id"] for row in said["transactions"]]
    require(ids == [made.id], f"it lists {ids}, and not {made.id}")
    return f"'hireliab transactions list' shows transaction {made.id} beside its bot"
