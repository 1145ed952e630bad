"""The door: an exchange with its API port, its admin port and its truth file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType

from hireliab.simulator.admin import Admin
from hireliab.simulator.clock import Clock
from hireliab.simulator.delivery import Delivery
from hireliab.simulator.engine import Engine
from hireliab.simulator.faults import FaultPlan
from hireliab.simulator.httpd import Listener
from hireliab.simulator.settings import Settings
from hireliab.simulator.state import ExchangeState
from hireliab.simulator.venue import Venue

LOOPBACK = "127.0.0.1"


class Simulator:
    """
    A running exchange; use it as a context manager, or call `start` and `stop`.

    Args:
        seed: Prices, credentials and faults follow from it.
        truth: File to which every request and change is appended; None keeps none.
        token: User token of the first account; None invents one from the seed.
        api_secret: Private seed of the first account's key pair; None invents one.
        host: Address of the API port.
        port: API port; 0 lets the system choose.
        admin_port: Admin port, always on loopback; 0 lets the system choose.
        faults: Fault rules from the start, as in faults.py.
        limits: False switches off rate limits, token ban and 401 count.
        limit_scale: Multiplies every rate limit.
        null_client_ids: Terminal orders lose their client id in reads.
        lag: Seconds until changes show, by kind of read: status, clientid, list, trades, wallets.
        settings: Any of settings.py by name; wins over the three above.
        balances: Of the first account, by currency; None is generous.
        keep_alive: Seconds after which an idle connection is closed.
        clock: The exchange's clock; None is real, steppable time.

    Guarantees: an answer leaves only after its records are in the truth file. `stop` ends every
    thread, however long a fault was still to wait.

    Thread safety: Any thread. Whoever looks into `engine` while requests run holds `venue.lock`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        truth: str | os.PathLike[str] | None = None,
        token: str | None = None,
        api_secret: str | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        admin_port: int = 0,
        faults: Sequence[Mapping[str, object]] = (),
        limits: bool = True,
        limit_scale: float = 1.0,
        null_client_ids: bool = False,
        lag: Mapping[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
        balances: Mapping[str, object] | None = None,
        keep_alive: float = 75.0,
        clock: Clock | None = None,
    ) -> None:
        chosen = {"limits": limits, "limit_scale": limit_scale, "null_client_ids": null_client_ids, **(settings or {})}
        self.seed = seed
        self.clock = clock or Clock()
        self.faults = FaultPlan(seed)
        self.faults.add_all(faults)
        self._state = ExchangeState(self.clock, seed=seed, settings=Settings().changed(chosen), truth=truth)
        opened = self._state.open_account(balances=balances, token=token, api_secret=api_secret)
        self._state.engine.visibility.set(lag or {}, self.clock.monotonic())
        self.token = opened.token
        self.api_key = opened.api_key
        self.api_secret = opened.api_secret
        self.venue = Venue(self._state, self.faults)
        self._is_stopping = False
        delivery = Delivery(self.venue, self.clock, lambda: self._is_stopping, self.go_down)
        admin = Admin(self.venue, self.faults, self)
        self._host = host
        self._api = Listener("api", (host, port), delivery.serve, self.clock, keep_alive)
        self._admin = Listener("admin", (LOOPBACK, admin_port), admin.serve, self.clock, keep_alive)

    @property
    def engine(self) -> Engine:
        """The matching engine; hold `venue.lock` while requests run."""
        return self._state.engine

    @property
    def truth(self) -> str | None:
        """Path of the truth file."""
        return self._state.truth.path

    @property
    def base_url(self) -> str:
        """Where clients connect."""
        return f"http://{self._host}:{self._api.port}"

    @property
    def admin_url(self) -> str:
        """Where admin.py listens."""
        return f"http://{LOOPBACK}:{self._admin.port}"

    @property
    def is_up(self) -> bool:
        """Whether clients can connect."""
        return self._api.is_listening

    def start(self) -> None:
        """
        Bind both ports and serve.

        Raises:
            OSError: A port is taken; nothing runs.
        """
        state = self._state
        with self.venue.lock:
            state.truth.add_first("start", state.describe_start())
            state.truth.flush()
        try:
            self._api.start()
            self._admin.start()
        except OSError:
            self.stop()
            raise

    def stop(self, timeout: float = 5.0) -> None:
        """
        Stop serving; requests that a fault still holds back are never processed.

        Args:
            timeout: Seconds to wait for all threads together.

        Raises:
            RuntimeError: A thread is still alive; its name is in the text.
        """
        if self._is_stopping:
            return
        self._is_stopping = True
        listeners = (self._api, self._admin)
        for listener in listeners:
            listener.begin_stop()
        self.clock.wake()
        alive = [name for listener in listeners for name in listener.join(timeout)]
        with self.venue.lock:
            self._state.engine.run_due()
            self._state.truth.add("stop", {})
            self._state.truth.flush()
            self._state.truth.close()
        if alive:
            raise RuntimeError(f"simulator: still alive after {timeout} s: {', '.join(alive)}")

    def go_down(self, seconds: float | None = None) -> None:
        """Cut the exchange off: connections are refused and reset until `go_up`, or for some seconds."""
        self._api.cut_off(seconds)

    def go_up(self) -> None:
        """Let clients connect again, at the same address."""
        self._api.reconnect()

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
