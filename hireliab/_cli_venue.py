"""``hireliab venue check``: does the real exchange behave as hireliab assumes where its documents are silent?"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hireliab import _cli_venue_order as placing
from hireliab._cli_text import Group
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import (
    AuthenticationError,
    ConfigError,
    HireliabError,
    InvalidOrderError,
    MalformedResponseError,
)
from hireliab.exchange._nobitex_access import Access
from hireliab.exchange._nobitex_calls import checked_base_url
from hireliab.exchange._nobitex_signing import Credentials, credentials
from hireliab.exchange._nobitex_survey import DIFFERS, VERDICTS, Facts, Finding, Placed
from hireliab.exchange._nobitex_survey_order import smallest_order
from hireliab.exchange._nobitex_survey_reads import MOST_REQUESTS, Notebook, Reads, SurveyClient
from hireliab.exchange._nobitex_survey_table import judge
from hireliab.exchange._nobitex_values import symbol
from hireliab.exchange._pipeline_settings import default_folder
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.nobitex_client import PRODUCTION, NobitexClient

_SHORTEST_SECRET = 12
FINE, MATTERS, CANNOT = 0, 1, 2


@click.group(cls=Group)
def venue() -> None:
    """The exchange itself."""


@venue.command()
@click.option("--token-env", metavar="NAME", help="Environment variable with the user token.")
@click.option("--token-file", metavar="PATH", help="File with the user token.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable with the public key of a key pair.")
@click.option("--api-secret-env", metavar="NAME", help="Environment variable with its private key.")
@click.option("--api-secret-file", metavar="PATH", help="File with its private key.")
@click.option("--base-url", default=PRODUCTION, show_default=True, help="Where the exchange is.")
@click.option("--market", default="BTC/USDT", show_default=True, help="The market to look at, such as BTC/IRT.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=10.0, show_default=True, help="Seconds per request.")
@click.option("--one-wrong-signature", is_flag=True, help="See how one request with a wrong signature is refused.")
@click.option("--place-minimal-order", is_flag=True, help="Place the smallest order, far from the market; cancel it.")
@click.option("--second-order", is_flag=True, help="With it: see whether an equal one, seconds later, is refused.")
@click.option(
    "--hold", type=click.FloatRange(2, 300), default=15.0, show_default=True, help="Seconds until the cancel."
)
@click.option("--journal", type=click.Path(path_type=Path, file_okay=False), help="Folder of the order's journal.")
@click.option("--yes", is_flag=True, help="Do not ask before placing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def check(**given: Any) -> None:
    """
    Compare the exchange with what hireliab assumes.

    Answers the questions that the documents of Nobitex leave open, as far as one client can. It only reads, in at most
    40 requests, unless --place-minimal-order is given. Secrets come from the environment or from files.

    Exit code: 0 nothing to do, 1 something differs and asks for a change, 2 the check cannot run.
    """
    click.get_current_context().exit(_Check(**given).run())


class _Secrets:
    """The credentials, and the last defence against showing them."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def from_env(self, option: str, name: str | None) -> str | None:
        if name is None:
            return None
        value = os.environ.get(name, "").strip()
        if not value:
            # The name is not repeated: somebody may have given the secret itself.
            raise ConfigError(f"{option}: the environment variable that it names is not set")
        return self._keep(value)

    def from_file(self, option: str, path: str | None) -> str | None:
        if path is None:
            return None
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(f"{option}: the file that it names cannot be read ({why})") from None
        if not value:
            raise ConfigError(f"{option}: the file that it names is empty")
        return self._keep(value)

    def _keep(self, value: str) -> str:
        self._texts.append(value)
        return value

    def hide(self, text: str) -> str:
        for secret in self._texts:
            if len(secret) >= _SHORTEST_SECRET:  # a shorter one is none, and may be a part of any word
                text = text.replace(secret, "[hidden]")
        return text


@dataclasses.dataclass(kw_only=True)
class _Check:
    token_env: str | None
    token_file: str | None
    api_key_env: str | None
    api_secret_env: str | None
    api_secret_file: str | None
    base_url: str
    market: str
    timeout: float
    one_wrong_signature: bool
    place_minimal_order: bool
    second_order: bool
    hold: float
    journal: Path | None
    yes: bool
    as_json: bool
    clock: Clock = SYSTEM_CLOCK

    def __post_init__(self) -> None:
        self._secrets = _Secrets()
        self._notebook = Notebook(self.clock)
        self._left_open: list[str] = []

    def run(self) -> int:
        """Everything; the exit code."""
        try:
            self.base_url = checked_base_url(self.base_url)
            self.market = str(symbol(self.market))
            if self.second_order and not self.place_minimal_order:
                raise ConfigError("--second-order: needs --place-minimal-order")
            who, make = self._clients()
            config = {"min_connections": 0, "max_connections": 4}
            with ConnectionPool(name="venue check", create_client_func=make, config=config, clock=self.clock) as pool:
                return self._run(pool, who)
        except HireliabError as error:
            return self._fail(error)

    def _clients(self) -> tuple[Credentials, Callable[[], NobitexClient]]:
        secrets = self._secrets
        for one, two in (("token_env", "token_file"), ("api_secret_env", "api_secret_file")):
            if getattr(self, one) is not None and getattr(self, two) is not None:
                raise ConfigError(f"--{one} and --{two}: give one of them".replace("_", "-"))
        secrets_of = {
            "token": secrets.from_env("--token-env", self.token_env)
            or secrets.from_file("--token-file", self.token_file),
            "api_key": secrets.from_env("--api-key-env", self.api_key_env),
            "api_secret": secrets.from_env("--api-secret-env", self.api_secret_env)
            or secrets.from_file("--api-secret-file", self.api_secret_file),
        }
        found = credentials(**secrets_of)
        if found is None:
            raise ConfigError(
                "no credentials: give --token-env or --token-file, or --api-key-env with --api-secret-env or"
                " --api-secret-file"
            )

        def make() -> NobitexClient:
            return SurveyClient(self._notebook, timeout=self.timeout, base_url=self.base_url, **secrets_of)

        make().close()
        return found, make

    def _run(self, pool: ConnectionPool[NobitexClient], who: Credentials) -> int:
        access = Access(pool=pool, credentials=None, base_url=None, rate_limits=placing.HALF, clock=self.clock)
        reads = Reads(access, self._notebook, market=self.market)
        reads.first()
        if reads.options is not None and self.market not in reads.options.markets:
            raise ConfigError(f"--market: the exchange has no market {self.market} that can be traded by steps")
        reads.all(wrong_signature=self.one_wrong_signature and who.is_key_pair)

        def facts(placed: Placed | None, not_placed: str = "needs --place-minimal-order") -> Facts:
            return Facts(
                seen=self._notebook.seen,
                symbol=self.market,
                now=self.clock.time() + access.skew,
                is_key_pair=who.is_key_pair,
                placed=placed,
                not_placed=not_placed,
            )

        code, placed, why = FINE, None, "needs --place-minimal-order"
        if self.place_minimal_order:
            code, placed, why = self._order(pool, who, reads, facts)
        findings = judge(facts(placed, why))
        return max(code, self._report(findings, reads, who, placed, code))

    def _order(
        self,
        pool: ConnectionPool[NobitexClient],
        who: Credentials,
        reads: Reads,
        facts: Callable[[Placed], Facts],
    ) -> tuple[int, Placed | None, str]:
        """The exit code so far, what was placed, and why nothing was."""
        if reads.book is None or reads.options is None or reads.balances is None:
            self._say("cannot place: the order book or the balances could not be read")
            return CANNOT, None, "the order book or the balances could not be read"
        try:
            order, last = smallest_order(
                self.market,
                book=reads.book,
                rules=reads.options.markets[self.market],
                balances=reads.balances,
                times=2 if self.second_order else 1,
            )
        except InvalidOrderError as error:
            self._say(f"cannot place: {error}")
            return CANNOT, None, f"no order could be placed ({error})"
        folder = self.journal or default_folder(placing.NAME)
        self._say(
            placing.describe(
                order,
                last,
                where=self.base_url,
                who=who.public,
                hold=self.hold,
                twice=self.second_order,
                folder=folder,
            )
        )
        if not self.yes and not self._agreed():
            self._say("nothing was placed")
            return FINE, None, "you did not agree to the order"
        try:
            placed, results, undecided = placing.place(
                order,
                last,
                pool=pool,
                reads=reads,
                notebook=self._notebook,
                facts=facts,
                folder=folder,
                hold=self.hold,
                twice=self.second_order,
                say=self._say,
                clock=self.clock,
            )
        except HireliabError as error:
            self._say(f"the order could not be placed: {error}")
            return CANNOT, None, f"no order could be placed ({type(error).__name__})"
        if not placing.was_sent(results[0]):
            self._say(f"the order was not sent: {results[0].reason}")
            return CANNOT, None, f"the order was not sent ({results[0].reason})"
        for result in results:
            if placing.is_closed(result):
                self._say(
                    f"the order ended as {result.verdict.value} ({result.reason or result.order_status or 'closed'})"
                )
                continue
            self._left_open.append(
                f"order {result.order_id or 'without a known id'} (client order id {result.client_order_id},"
                f" {result.verdict.value}) is not proven closed: look at the exchange, and run this command again,"
                " which goes on with it"
            )
        if undecided and not self._left_open:
            self._left_open.append(f"undecided from an earlier run: {', '.join(undecided)}")
        for line in self._left_open:
            self._say(line)
        return MATTERS if self._left_open else FINE, placed, ""

    @staticmethod
    def _agreed() -> bool:
        try:
            return click.confirm("Place it?", default=False, err=True)
        except click.Abort:  # nobody is there to ask
            return False

    # -- what is said -----------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        click.echo(self._secrets.hide(text), err=True)

    def _fail(self, error: HireliabError) -> int:
        kind = "the exchange refuses the credentials" if isinstance(error, AuthenticationError) else "cannot check"
        if self.as_json:
            found = {"exit_code": CANNOT, "error": str(error), "requests": self._notebook.count}
            click.echo(self._secrets.hide(json.dumps(found)))
        self._say(f"{kind}: {error}")
        return CANNOT

    def _report(
        self, findings: tuple[Finding, ...], reads: Reads, who: Credentials, placed: Placed | None, code: int
    ) -> int:
        unread = [f"{endpoint}: {error}" for endpoint, error in reads.problems]
        broken = any(
            isinstance(error, MalformedResponseError) and error.http_status == 200 for _, error in reads.problems
        )
        matters = [finding for finding in findings if finding.matters]
        code = max(code, MATTERS if matters or broken else FINE)
        requests = self._notebook.count
        if self.as_json:
            rows = [{**dataclasses.asdict(finding), "matters": finding.matters} for finding in findings]
            report = {
                "venue": "nobitex",
                "base_url": self.base_url,
                "market": self.market,
                "account": who.public,
                "requests": requests,
                "exit_code": code,
                "order": None
                if placed is None
                else {"client_order_id": placed.order.client_order_id, "verdict": placed.verdict},
                "left_open": self._left_open,
                "unread": unread,
                "rows": rows,
            }
            click.echo(self._secrets.hide(json.dumps(report, ensure_ascii=False, indent=1)))
            return code
        counts = Counter(finding.verdict for finding in findings)
        lines = [_table(findings), f"{self.base_url}, {self.market}, account {who.public}: {requests} requests"]
        if placed is None:
            lines[-1] += f" (at most {MOST_REQUESTS}), all of them reads"
        lines.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
        lines += [f"could not be read: {line}" for line in unread]
        lines += [f"row {finding.row} asks for a change: {finding.action}" for finding in matters]
        if broken:
            lines.append("an answer without an error was not understood: report it, and do not trade until it is")
        click.echo(self._secrets.hide("\n".join(lines)))
        return code


def _table(findings: tuple[Finding, ...]) -> str:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.table import Table  # noqa: PLC0415
    except ImportError:
        return _plain(findings)
    table = Table(title="Nobitex where its documents are silent")
    for heading in ("row", "topic", "hireliab assumes", "the exchange did", "verdict", "evidence"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        style = "bold red" if finding.matters else "yellow" if finding.verdict == DIFFERS else None
        cells = (finding.topic, finding.assumes, finding.observed, finding.verdict, finding.evidence)
        table.add_row(str(finding.row), *(_escaped(cell) for cell in cells), style=style)
    is_screen = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if is_screen else 180)
    with console.capture() as captured:
        console.print(table)
    text: str = captured.get()
    return text


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _plain(findings: tuple[Finding, ...]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.row:>3}  {finding.verdict:<10}  {finding.topic}")
        lines.append(f"{'':17}assumed: {finding.assumes}")
        lines.append(f"{'':17}did:     {finding.observed}")
        if finding.evidence:
            lines.append(f"{'':17}seen in: {finding.evidence}")
    return "\n".join(lines)
