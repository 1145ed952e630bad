"""The ranks of ARCHITECTURE.md section 2, enforced over every import, those inside functions included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hireliab"
if not PACKAGE.exists():
    pytest.skip(
        "these look at the source tree, and there is none here: an installed wheel is tested", allow_module_level=True
    )

# Later rows and later entries may import earlier ones. An underscore file ranks just before its part.
ROWS = [
    ["errors", "_version", "_lazy"],
    [
        "core.clock",
        "core.config",
        "core.money",
        "core._metrics",
        "core._listeners",
        "core._window",
        "core._threads",
        "core._file_lock",
        "core._kill_points",
        "core._sqlite",
        "core._gate",
    ],
    ["core.deadline", "core.retry", "core.rate_limiter", "core.bulkhead", "core.circuit_breaker", "core.policy"],
    [
        "messaging.bus",
        "messaging.memory_bus",
        "messaging.rabbitmq",
        "messaging.inbox",
        "messaging.outbox",
        "messaging.message_bus",
    ],
    [
        "monitoring.alert",
        "monitoring.alert_channels",
        "monitoring.apprise_channel",
        "monitoring.alert_groups",
        "monitoring.alert_spool",
        "monitoring.alert_system",
        "monitoring.log_handler",
        "monitoring.metrics",
        "monitoring.health",
    ],
    [
        "exchange.adapter",
        "exchange.own_venue",
        "exchange.transaction",
        "exchange.evidence",
        "exchange.journal",
        "exchange.sqlite_journal",
        "exchange.connection_pool",
        "exchange.http_session",
        "exchange.nobitex_client",
        "exchange.enhanced_nobitex_adapter",
        "exchange.transaction_verification",
        "exchange.verified_transaction",
    ],
    ["testing", "cli", "examples", "install_high_reliability", "test_high_reliability", "__main__", "__init__"],
]
# The prefix of a private file tells whose it is.
OWNERS = {
    "_cli": "cli",
    "_install": "install_high_reliability",
    "_self_test": "test_high_reliability",
    "_testing": "testing",
    "core._breaker": "core.circuit_breaker",
    "core._limiter": "core.rate_limiter",
    "core._sqlite_": "core._sqlite",
    "core._retry": "core.retry",
    "messaging._bus": "messaging.bus",
    "messaging._memory": "messaging.memory_bus",
    "messaging._publish": "messaging.memory_bus",
    "messaging._handlers": "messaging.memory_bus",
    "messaging._outbox": "messaging.outbox",
    "messaging._inbox": "messaging.inbox",
    "messaging._spill": "messaging.outbox",
    "monitoring._channel": "monitoring.alert_system",
    "monitoring._alert_text": "monitoring.alert",
    "monitoring._alert": "monitoring.alert_system",
    "monitoring._apprise": "monitoring.apprise_channel",
    "monitoring._spool": "monitoring.alert_spool",
    "monitoring._freeze": "monitoring.alert",
    "monitoring._redaction": "monitoring.alert",
    "monitoring._parts": "monitoring.metrics",
    "monitoring._metrics": "monitoring.metrics",
    "monitoring._health": "monitoring.health",
    "exchange._pool": "exchange.connection_pool",
    "exchange._discard": "exchange.connection_pool",
    "exchange._tls": "exchange.http_session",
    "exchange._json": "exchange.http_session",
    "exchange._http": "exchange.http_session",
    "exchange._nobitex": "exchange.nobitex_client",
    "exchange._adapter": "exchange.enhanced_nobitex_adapter",
    "exchange._transaction": "exchange.transaction",
    "exchange._journal": "exchange.sqlite_journal",
    "exchange._endings": "exchange.transaction_verification",
    "exchange._commit_rule": "exchange.transaction_verification",
    "exchange._conclusion": "exchange.transaction_verification",
    "exchange._halt": "exchange.transaction_verification",
    "exchange._operator": "exchange.transaction_verification",
    "exchange._verified_calls": "exchange.transaction_verification",
    "exchange._verified_values": "exchange.transaction_verification",
    "exchange._verified": "exchange.verified_transaction",
    "exchange._admission": "exchange.transaction_verification",
    "exchange._decision": "exchange.transaction_verification",
    "exchange._orphans": "exchange.transaction_verification",
    "exchange._pretrade": "exchange.transaction_verification",
    "exchange._watching": "exchange.transaction_verification",
    "exchange._handle": "exchange.transaction_verification",
    "exchange._cancel": "exchange.transaction_verification",
    "exchange._fills": "exchange.transaction_verification",
    "exchange._idempotency": "exchange.transaction_verification",
    "exchange._pipeline": "exchange.transaction_verification",
    "exchange._ledger": "exchange.transaction_verification",
    "exchange._intent": "exchange.transaction_verification",
    "exchange._runner": "exchange.transaction_verification",
    "exchange._resolver": "exchange.transaction_verification",
    "exchange._recovery": "exchange.transaction_verification",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__") if name != "__init__" else name, path


def rank(name):
    """(row, position, private first) of a module."""
    for row, names in enumerate(ROWS):
        for position, known in enumerate(names):
            if name == known or name.startswith(known + "."):
                return row, position, 1
    for prefix, owner in OWNERS.items():
        if name.startswith(prefix):
            row, position, _ = rank(owner)
            return row, position, 0
    raise AssertionError(f"{name} has no rank: give it one in tests/test_layers.py and ARCHITECTURE.md")


def imports(path, name):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{name}: relative import; write the whole name")
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = (ROOT / full.replace(".", "/")).with_suffix(".py").exists() or (
                    ROOT / full.replace(".", "/")
                ).is_dir()
                yield full if is_module else base


def allowed(importer, imported):
    a, b = rank(importer), rank(imported)
    if a[0] == b[0]:
        # Files of one part see each other; else only what stands to the left.
        return a[1] >= b[1]
    if {a[0], b[0]} == {3, 4}:  # messaging and monitoring stand side by side
        return False
    if b[0] == 4 and a[0] == 5:  # exchange may import messaging; nothing imports monitoring
        return False
    return a[0] > b[0]


def test_every_module_imports_only_lower_ranks():
    wrong = []
    for name, path in modules():
        if name.startswith("simulator") or name in ("core", "exchange", "messaging", "monitoring", "examples"):
            continue
        for target in imports(path, name):
            if target == "hireliab" or not target.startswith("hireliab."):
                continue
            imported = target.removeprefix("hireliab.")
            if imported.startswith("simulator"):
                if rank(name)[0] < 6:
                    wrong.append(f"{name} imports the simulator")
            elif imported != name and not allowed(name, imported):
                wrong.append(f"{name} (rank {rank(name)}) imports {imported} (rank {rank(imported)})")
    assert not wrong, "\n".join(wrong)


def test_the_simulator_imports_nothing_of_hireliab_outside_its_folder():
    for name, path in modules():
        if name.startswith("simulator"):
            outside = [
                t for t in imports(path, name) if t.startswith("hireliab") and not t.startswith("hireliab.simulator")
            ]
            assert not outside, f"{name} imports {outside}"


def test_only_the_clock_imports_time():
    allowed_to = {"core.clock", "testing"}
    for name, path in modules():
        if not name.startswith(("simulator", "examples")) and name not in allowed_to:
            assert "time" not in set(imports(path, name)), f"{name} imports time; take a Clock"


def test_third_parties_are_named_only_in_their_own_files():
    homes = {
        "pika": ("messaging.rabbitmq",),
        "apprise": ("monitoring.apprise_channel",),
        "pybreaker": ("core.circuit_breaker", "core._breaker"),
        "tenacity": ("core.retry",),
        "prometheus_client": ("monitoring._metrics_prometheus",),
    }
    for name, path in modules():
        for target in imports(path, name):
            top = target.partition(".")[0]
            if top in homes:
                assert name.startswith(homes[top]), f"{name} imports {top}"


def test_no_file_is_longer_than_600_lines():
    long = {name: n for name, path in modules() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 600}
    assert not long
