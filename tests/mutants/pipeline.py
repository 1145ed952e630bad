"""Small breakages of the pipeline, its journal and its evidence; each must be caught by a unit test."""

TESTS = [
    "tests/unit/exchange/test_pipeline_verdicts.py",
    "tests/unit/exchange/test_pipeline_attacks.py",
    "tests/unit/exchange/test_recovery.py",
    "tests/unit/exchange/test_evidence.py",
    "tests/unit/exchange/test_transaction.py",
    "tests/unit/exchange/test_commit_rule.py",
    "tests/unit/exchange/test_pretrade.py",
    "tests/unit/exchange/test_decision.py",
    "tests/unit/exchange/test_pipeline_review.py",
    "tests/unit/exchange/test_pipeline_lost_again.py",
    "tests/contract/test_journal.py",
    "tests/unit/core/test_sqlite.py",
]

_RUNNER = "hireliab/exchange/_runner.py"
_RESOLVER = "hireliab/exchange/_resolver.py"
_CONCLUSION = "hireliab/exchange/_conclusion.py"
_EVIDENCE = "hireliab/exchange/evidence.py"
_LEDGER = "hireliab/exchange/_ledger.py"
_DOOR = "hireliab/exchange/transaction_verification.py"
_KEYS = "hireliab/exchange/_idempotency.py"
_RECOVERY = "hireliab/exchange/_recovery.py"
_PRETRADE = "hireliab/exchange/_pretrade.py"
_CANCEL = "hireliab/exchange/_cancel.py"
_RULE = "hireliab/exchange/_commit_rule.py"
_DECISION = "hireliab/exchange/_decision.py"
_ORPHANS = "hireliab/exchange/_orphans.py"

MUTANTS = [
    (
        "ambiguous answers are sent again",
        _RUNNER,
        "            self._ambiguous(transaction, error)\n        else:",
        "            return _Sent.AGAIN\n        else:",
    ),
    (
        "an unsent order is not sent again",
        _RUNNER,
        "if not last and error.retryable and self._pause(record.attempt):",
        "if False:",
    ),
    ("retries have no end", _RUNNER, "last = attempt > self._config.max_retries", "last = False"),
    (
        "a duplicate answer is believed at once",
        _RUNNER,
        "            self._ambiguous(transaction, error, refused=self._ledger.explains_duplicate(record.order))",
        '            self.endings.fail(transaction, "T7", Proof.REJECTED, error)\n            return _Sent.DECIDED',
    ),
    (
        "the caller waits for ever",
        _RUNNER,
        "        transaction.wait_until(lambda record: record.state.is_terminal or self._stop.is_set, max(0.0, left))\n"
        "        if transaction.state in",
        "        transaction.wait_until(lambda record: record.state.is_terminal, None)\n        if transaction.state in",
    ),
    (
        "the gate is ignored",
        _RUNNER,
        "if not self._wait_for_gate(symbol, self._config.verification_timeout) and not self._stop.is_set:",
        "if False:",
    ),
    (
        "a new order counts as live",
        "hireliab/exchange/adapter.py",
        "return self in (OrderStatus.ACTIVE,",
        "return self in (OrderStatus.NEW, OrderStatus.ACTIVE,",
    ),
    (
        "an error of a listing is an empty listing",
        _RESOLVER,
        "        if isinstance(orders, Unavailable):\n            return\n",
        "        if isinstance(orders, Unavailable):\n"
        "            orders = OrderListing(orders=(), since=str(min(floors)), started=started)\n",
    ),
    (
        "an error of the fills is an empty listing",
        _RESOLVER,
        "listed = fills if isinstance(fills, FillListing) else None",
        "listed = fills if isinstance(fills, FillListing) else FillListing(fills=(), since=0.0, started=started)",
    ),
    (
        "not found by client id is absent",
        _RESOLVER,
        '        elif isinstance(read, Absent) and record.order_id is not None and record.kind == "ORDER":',
        "        elif isinstance(read, Absent) and record.order_id is None:\n"
        "            self._absent(case, record)\n"
        '        elif isinstance(read, Absent) and record.order_id is not None and record.kind == "ORDER":',
    ),
    ("the fence is ignored", _EVIDENCE, "if started < self.fence or not canary_shown:", "if not canary_shown:"),
    ("the canary is ignored", _EVIDENCE, "if started < self.fence or not canary_shown:", "if started < self.fence:"),
    ("one empty listing is enough", _EVIDENCE, "NEGATIVES = 3", "NEGATIVES = 1"),
    (
        "the visibility window is ignored",
        _EVIDENCE,
        "return self._count >= NEGATIVES and started - self._first >= self._window",
        "return self._count >= NEGATIVES",
    ),
    ("a likeness binds", _EVIDENCE, "            candidates.append(order)", "            ours.append(order)"),
    (
        "the baseline is ignored",
        _EVIDENCE,
        "        if not is_newer(order.order_id, record.baseline):\n            continue\n",
        "",
    ),
    (
        "a partial fill counts as filled",
        _EVIDENCE,
        'return Step("T11b", State.COMPLETED, Proof.PARTIAL)',
        'return Step("T11", State.COMPLETED, Proof.FILLED)',
    ),
    (
        "a cancel is believed while the order is open",
        _EVIDENCE,
        "    if not order.status.is_closed:\n        return None\n",
        "",
    ),
    (
        "two may claim one version",
        "hireliab/exchange/transaction.py",
        "if self._moving or self._record.version != version:",
        "if False:",
    ),
    (
        "resting orders are not followed",
        _RESOLVER,
        "            self._watching.look_at_resting()\n",
        "            pass\n",
    ),
    (
        "the afterwatch looks away",
        _RESOLVER,
        "self._guarded(transaction, partial(self._watching.look, transaction, orders))",
        "pass",
    ),
    ("blindness is not told", "hireliab/exchange/_resolver_sight.py", "if blind >= BLIND_AFTER:", "if False:"),
    ("recovery lets new orders pass", _RECOVERY, "gate.shut(record.txn_id, record.order.symbol)", "pass"),
    (
        "recovery forgets what was submitting",
        _RECOVERY,
        "        resolver.add(transaction)\n",
        "        if record.state is not State.SUBMITTING:\n            resolver.add(transaction)\n",
    ),
    ("the limiters are not told", _DOOR, "                self._adapter.restore_limits(ages)", "                pass"),
    (
        "one key is two transactions",
        _KEYS,
        "                self._known[key] = known\n",
        "                known = Transaction(record, clock=self._clock)\n",
    ),
    (
        "a key is not compared with its order",
        _KEYS,
        "if found.record.payload_hash != record.payload_hash:",
        "if False:",
    ),
    ("an old look-up of a key is believed", _KEYS, "if self._registrations[stripe] != before:", "if False:"),
    (
        "the answer of another order is taken",
        _RUNNER,
        "            state.client_order_id not in (None, record.order.client_order_id)\n            or ",
        "            ",
    ),
    (
        "a read of another order is taken",
        _EVIDENCE,
        "        return order.client_order_id == record.order.client_order_id\n    return record.order_id is not None and",
        "        return True\n    return record.order_id is not None and",
    ),
    ("fills that were seen are forgotten", _CONCLUSION, "behind = order.filled < record.filled", "behind = False"),
    (
        "a duplicate answer needs no explanation",
        _RUNNER,
        "refused=self._ledger.explains_duplicate(record.order)",
        "refused=True",
    ),
    (
        "an acknowledged order can be fenced",
        _RESOLVER,
        "acknowledged = record.order_id is not None ",
        "acknowledged = False ",
    ),
    (
        "an answer moves the watermark before it is read",
        _RUNNER,
        "            **seen(state),\n        )\n        if _kill",
        "            **seen(state),\n        )\n        self._ledger.note_order_id(state.order_id)\n        if _kill",
    ),
    (
        "an event tells of the version before",
        _LEDGER,
        "event=event_of(topic, candidate)",
        "event=event_of(topic, expected)",
    ),
    (
        "a halt is looked at once only",
        _RUNNER,
        "state = prepared.submit(lambda: self._check_send(transaction))",
        "state = prepared.submit(self._check_open)",
    ),
    (
        "a halt stops sells that reduce",
        _PRETRADE,
        'if halt is None or (halt.mode == "REDUCING" and order.side == "sell"):',
        "if halt is None:",
    ),
    (
        "a halt file that nobody understands halts nothing",
        "hireliab/exchange/_halt.py",
        'mode=mode if known else "HALTED",',
        'mode=mode if known else "REDUCING",',
    ),
    ("an equal order that is not decided is ignored", _PRETRADE, "        if siblings:\n", "        if False:\n"),
    ("equal orders meet where ids are hidden", _PRETRADE, "self._on_their_way.add(key)", "pass"),
    (
        "max_notional looks at the amount",
        _PRETRADE,
        "value = money.multiply(order.amount, price)",
        "value = order.amount",
    ),
    (
        "a collar without a price lets everything pass",
        _PRETRADE,
        "        if isinstance(reference, Unavailable):\n",
        "        if isinstance(reference, Unavailable):\n            return\n"
        "        if isinstance(reference, Unavailable):\n",
    ),
    ("the rate is forgotten over a restart", _DOOR, "            self._pretrade.restore(ages)\n", ""),
    (
        "a denied order keeps its permits",
        _RUNNER,
        "                prepared.abandon()\n                if not isinstance(error, TransactionDeniedError):",
        "                if not isinstance(error, TransactionDeniedError):",
    ),
    (
        "a cancel is sent before its intent is on disk",
        _CANCEL,
        'cause=cause, goal="ROLLBACK")\n    except',
        'cause=cause, goal="ROLLBACK")\n        adapter.prepare_cancel(record.order_id).submit(check_open)\n    except',
    ),
    ("an unanswered cancel is forgotten", _RESOLVER, "if case.transaction.record.is_rollback and", "if False and"),
    (
        "the goal is forgotten while unknown",
        "hireliab/exchange/transaction.py",
        'return self.kind == "CANCEL" or self.goal == "ROLLBACK"',
        'return self.kind == "CANCEL"',
    ),
    (
        "a restart forgets the deadline",
        _RULE,
        "return NEVER if record.deadline is None else record.deadline - self._adapter.server_time()",
        "return NEVER",
    ),
    (
        "the timeout waits for a read that works",
        _RUNNER,
        "            self._resolver.commit_rule.enforce(transaction)  # also while reads fail: the rule's time is over\n",
        "            if isinstance(read, Found):\n                self._resolver.commit_rule.enforce(transaction)\n",
    ),
    (
        "recovery does not claim",
        _RECOVERY,
        "records = [record if record.state.is_terminal else _claimed(record, owner, clock) for record in records]",
        "records = list(records)",
    ),
    ("a person may overrule what is decided", _DECISION, "_UNDECIDED = (", "_UNDECIDED = (State.COMPLETED, "),
    ("a person may name another order", _DECISION, "        if stranger or (record", "        if False and (record"),
    (
        "an order may be named twice",
        _DECISION,
        "if self._ledger.is_bound(order_id, to_other_than=record.parent_id or record.txn_id):",
        "if False:",
    ),
    (
        "a person may say failed of what the exchange shows live",
        _DECISION,
        'if unfilled == (as_ == "completed")',
        "if False",
    ),
    ("a further attempt takes a new baseline", _RUNNER, "record.baseline if again else", ""),
    ("a stale order is sent", _RUNNER, "waited > STALE:", "waited > 1e9:"),
    (
        "a watch that is due lists without a pause",
        _RESOLVER,
        "max(self._watching.due(t), soonest) - now",
        "self._watching.due(t) - now",
    ),
    (
        "a roll back that appears again has no way on",
        _CONCLUSION,
        "if record.state in (State.UNKNOWN, State.RESOLVING):",
        "if record.state is State.UNKNOWN:",
    ),
    ("rows that were deleted make orphans", _ORPHANS, "if forgotten is None or txn_id > forgotten:", "if True:"),
    (
        "an interrupted write is forgotten",
        _LEDGER,
        "                new = candidate  # Ctrl-C",
        "                new = None  # Ctrl-C",
    ),
    ("a foreign order is adopted", _DECISION, "if start != prefix or not txn_id:", "if not txn_id:"),
    (
        "orphans are adopted silently or told for ever",
        _ORPHANS,
        "if self.client_id(order.order_id) is None:",
        "if True:",
    ),
    (
        "our own orders are orphans",
        _ORPHANS,
        "if self._ledger.find(txn_id) is None and self._ledger.journal.get(txn_id) is None:",
        "if True:",
    ),
    (
        "a start jumps over the orders of a restored journal",
        _RECOVERY,
        'if journal.watermark == "0" and not records:',
        "if not records:",
    ),
    (
        "an order that appears late does not name its equal",
        "hireliab/exchange/_watching.py",
        "            if equals:\n",
        "            if False:\n",
    ),
    (
        "negatives from before an order was found count",
        _RESOLVER,
        "            case.unknown_id = True\n            case.proof.restart()\n",
        "            case.unknown_id = True\n",
    ),
    (
        "another's id is kept while unknown",
        _CONCLUSION,
        "        ledger.note(transaction, record, cause=cause, **NOTHING_SEEN)",
        "        pass",
    ),
    (
        "an order with a part filled is presumed absent",
        _RESOLVER,
        "if money.ZERO < record.filled < record.order.amount:",
        "if False:",
    ),
    (
        "an order older than the listed fills is presumed absent",
        _RESOLVER,
        "elif fills is not None and fills.since > record.baseline_time - evidence.CLOCK_MARGIN:",
        "elif False:",
    ),
    (
        "fills of an order that is not shown are told to nobody",
        _RESOLVER,
        "        elif finding.leads:\n",
        "        elif False:\n",
    ),
    ("an order without a market cannot be ours", _EVIDENCE, 'return shown in ("", symbol)', "return shown == symbol"),
    (
        "a person may say unfilled of what was filled",
        _DECISION,
        'if as_ != "completed" and record.filled > money.ZERO:',
        "if False:",
    ),
    ("the first order has no baseline", _RUNNER, "            self._ledger.note_watermark(newest)\n", ""),
]
