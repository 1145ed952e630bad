"""Small breakages of the pipeline, its journal and its evidence; each must be caught by a unit test."""

TESTS = ["tests/unit/exchange/test_pipeline_verdicts.py", "tests/unit/exchange/test_recovery.py",
         "tests/unit/exchange/test_evidence.py", "tests/unit/exchange/test_transaction.py",
         "tests/contract/test_journal.py", "tests/unit/core/test_sqlite.py"]

_RUNNER = "hireliab/exchange/_runner.py"
_RESOLVER = "hireliab/exchange/_resolver.py"
_EVIDENCE = "hireliab/exchange/evidence.py"
_LEDGER = "hireliab/exchange/_ledger.py"
_SQLITE = "hireliab/core/_sqlite.py"
_DOOR = "hireliab/exchange/transaction_verification.py"
_RECOVERY = "hireliab/exchange/_recovery.py"

MUTANTS = [
    ("ambiguous answers are sent again", _RUNNER,
     "            self._ambiguous(transaction, error)\n        else:",
     "            return _Sent.AGAIN\n        else:"),
    ("an unsent order is not sent again", _RUNNER,
     "if not last and error.retryable and self._pause(record.attempt):", "if False:"),
    ("retries have no end", _RUNNER,
     "last = attempt > self._config.max_retries", "last = False"),
    ("a duplicate answer is believed at once", _RUNNER,
     "            self._ambiguous(transaction, error, refused=True)",
     "            self._fail(transaction, \"T7\", Proof.REJECTED, error)\n            return _Sent.DECIDED"),
    ("the caller waits for ever", _RUNNER,
     "transaction.wait_until(lambda record: record.state.is_terminal or self._stop.is_set, max(0.0, left))",
     "transaction.wait_until(lambda record: record.state.is_terminal, None)"),
    ("the gate is ignored", _RUNNER,
     "if not self._wait_for_gate(symbol, self._config.verification_timeout) and not self._stop.is_set:", "if False:"),
    ("a new order counts as live", "hireliab/exchange/adapter.py",
     "return self in (OrderStatus.ACTIVE,", "return self in (OrderStatus.NEW, OrderStatus.ACTIVE,"),
    ("an error of a listing is an empty listing", _RESOLVER,
     "        if isinstance(orders, Unavailable):\n            return\n",
     "        if isinstance(orders, Unavailable):\n"
     "            orders = OrderListing(orders=(), since=str(min(floors)), started=started)\n"),
    ("an error of the fills is an empty listing", _RESOLVER,
     "listed = fills if isinstance(fills, FillListing) else None",
     "listed = fills if isinstance(fills, FillListing) else FillListing(fills=(), since=0.0, started=started)"),
    ("not found by client id is absent", _RESOLVER,
     "        elif isinstance(read, Absent) and record.order_id is not None and record.kind == \"ORDER\":",
     "        elif isinstance(read, Absent) and record.order_id is None:\n"
     "            self._absent(case, record)\n"
     "        elif isinstance(read, Absent) and record.order_id is not None and record.kind == \"ORDER\":"),
    ("the fence is ignored", _EVIDENCE,
     "if started < self.fence or not canary_shown:", "if not canary_shown:"),
    ("the canary is ignored", _EVIDENCE,
     "if started < self.fence or not canary_shown:", "if started < self.fence:"),
    ("one empty listing is enough", _EVIDENCE, "NEGATIVES = 3", "NEGATIVES = 1"),
    ("the visibility window is ignored", _EVIDENCE,
     "return self._count >= NEGATIVES and started - self._first >= self._window", "return self._count >= NEGATIVES"),
    ("a likeness binds", _EVIDENCE,
     "            candidates.append(order)", "            ours.append(order)"),
    ("the baseline is ignored", _EVIDENCE,
     "        if not is_newer(order.order_id, record.baseline):\n            continue\n", ""),
    ("a partial fill counts as filled", _EVIDENCE,
     "return Step(\"T11b\", State.COMPLETED, Proof.PARTIAL)", "return Step(\"T11\", State.COMPLETED, Proof.FILLED)"),
    ("a cancel is believed while the order is open", _EVIDENCE,
     "    if not order.status.is_closed:\n        return None\n", ""),
    ("two may claim one version", "hireliab/exchange/transaction.py",
     "if self._moving or self._record.version != version:", "if False:"),
    ("resting orders are not followed", _RESOLVER,
     "                self._follow(transaction, shown)", "                pass"),
    ("the afterwatch looks away", _RESOLVER,
     "            self._afterwatch(transaction, orders)", "            pass"),
    ("blindness is not told", _RESOLVER, "if blind >= BLIND_AFTER:", "if False:"),
    ("recovery lets new orders pass", _RECOVERY,
     "            gate.shut(record.txn_id, record.order.symbol)", "            pass"),
    ("recovery forgets what was submitting", _RECOVERY,
     "        resolver.add(transaction)\n", "        if record.state is not State.SUBMITTING:\n            resolver.add(transaction)\n"),
    ("the limiters are not told", _DOOR,
     "                self._adapter.restore_limits(ages)", "                pass"),
    ("one key is two transactions", _DOOR,
     "            self._keys[key] = known\n", "            known = Transaction(record, clock=self._clock)\n"),
    ("a key is not compared with its order", _DOOR,
     "if known.record.payload_hash != record.payload_hash:", "if False:"),
    ("events are told before the record is written", _LEDGER,
     "        transition = BY_ID[row]\n", "        transition = BY_ID[row]\n        self.tell(transition.event, expected)\n"),
    ("a failed commit is tried again", _SQLITE,
     "                self._poison = self._poison or error", "                self._poison = None"),
    ("one bad operation undoes its neighbours", _SQLITE,
     "            connection.execute(\"ROLLBACK TO operation\")", "            connection.execute(\"ROLLBACK\")"),
    ("a foreign file is taken", _SQLITE,
     "        if owner == self._application_id or (owner == 0 and tables == 0):", "        if True:"),
    ("durability is off", _SQLITE, "(\"synchronous\", 2)", "(\"synchronous\", 0)"),
]
