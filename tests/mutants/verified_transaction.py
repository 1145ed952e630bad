"""Small breakages of @verified_transaction; each must be caught by a unit test."""

TESTS = ["tests/unit/exchange/test_verified_transaction.py"]

_RUNNER = "hireliab/exchange/_verified_runner.py"
_CALLS = "hireliab/exchange/_verified_calls.py"
_VALUES = "hireliab/exchange/_verified_values.py"
_ARGUMENTS = "hireliab/exchange/_verified_arguments.py"
_CANCEL = "hireliab/exchange/_verified_cancel.py"
_DOOR = "hireliab/exchange/verified_transaction.py"

MUTANTS = [
    (
        "the call is made before the barrier",
        _RUNNER,
        "            self._barrier(transaction, call)\n            return self._call(transaction, call)",
        "            value = self._func(*call.args, **call.kwargs)\n"
        "            self._barrier(transaction, call)\n            return value",
    ),
    (
        "an ambiguous exception is a refusal",
        _RUNNER,
        "            return self._ambiguous(transaction, call, error)",
        '            self._fail(transaction, "T7", Proof.REJECTED, error)\n            raise',
    ),
    (
        "an ambiguous exception calls again",
        _RUNNER,
        "            return self._ambiguous(transaction, call, error)",
        "            value = self._func(*call.args, **call.kwargs)",
    ),
    (
        "duplicate counts as a refusal",
        _RUNNER,
        "if not isinstance(error, DuplicateOrderError) and self._proves",
        "if self._proves",
    ),
    (
        "an order that nobody sees is returned as placed",
        _RUNNER,
        '            raise self._unknown(transaction, f"the function returned, but its look-up {saw}")',
        '            self._unknown(transaction, "not shown")',
    ),
    (
        "a halt is looked at once only",
        _RUNNER,
        "            self._pipeline._runner._check_send(transaction)  # a halt",
        "            pass  # a halt",
    ),
    (
        "a halt is not looked at before the barrier",
        _RUNNER,
        "            runner._check_send(transaction)\n",
        "            pass\n",
    ),
    ("an interrupted call is forgotten", _RUNNER, "            self._abandon(transaction)\n", ""),
    ("the resolver never gets it", _RUNNER, "            self._pipeline._resolver.add(transaction)\n", ""),
    ("a version that may be on disk is written again", _RUNNER, "version=record.version + 1", "version=record.version"),
    ("an equal call is ignored", _RUNNER, "        if left:\n", "        if False:\n"),
    (
        "an equal call from before a restart is not waited for",
        _RUNNER,
        "            if sibling.restored:",
        "            if False:",
    ),
    (
        "a key is only a word",
        _RUNNER,
        "        if not transaction.begin(object()):",
        "        if not transaction.begin(object()) and False:",
    ),
    ("joiners get no answer", _RUNNER, "            transaction.answer()\n", "            pass\n"),
    (
        "without a look-up nobody is told to look",
        _RUNNER,
        "cause=why, reason=why, needs_human=not self._has_find)",
        "cause=why, reason=why)",
    ),
    (
        "an error of the look-up is a no",
        _CALLS,
        "            return Unavailable(error), None\n        with self._lock:",
        '            return Absent("x"), None\n        with self._lock:',
    ),
    (
        "every look-up sees closed orders",
        _CALLS,
        "return finder is not None and finder.finds_closed and",
        "return finder is not None and",
    ),
    ("absence needs no client order id", _CALLS, ' and record.order.client_order_id != ""', ""),
    ("another's order is ours", _CALLS, "if not ours or client_id_of(order) in (None, ours)", "if True"),
    ("a duplicate is not told", _CALLS, "        if len(mine) > 1:", "        if len(mine) > 99:"),
    ("addresses are written with their queries", _VALUES, "_QUERY.sub('?...', str(error))", "error"),
    ("a key stays taken after not sent", _RUNNER, "if proof is Proof.REJECTED else None", "if proof else None"),
    (
        "a response object is an order",
        _VALUES,
        "if not _id_of(_unwrapped(item)) and client_id_of(item) is None:",
        "if False:",
    ),
    (
        "what is false is a no",
        _VALUES,
        "    if value is None or (isinstance(value, Mapping) and not value):",
        "    if not value:",
    ),
    ("a named tuple is a list", _VALUES, ' and not hasattr(value, "_fields")', ""),
    ("facts pile up", _CALLS, "        for txn_id in decided:\n", "        for txn_id in ():\n"),
    ("secrets are kept", _VALUES, "if simple(value) and not is_secret(name)}", "if simple(value)}"),
    ("long arguments are kept", _VALUES, "if len(text) <= MOST_TEXT or not kept:", "if True:"),
    ("the venue's word is kept as it is", _VALUES, "word(status, 40).lower() if", "word(status, 40) if"),
    ("amounts come back as texts", _VALUES, 'return Decimal(value["$decimal"]) if', 'return value["$decimal"] if'),
    ("an open order is cancelled", _VALUES, "    if order.raw_status not in CLOSED:\n        return None\n", ""),
    (
        "a partial fill before the cancel is forgotten",
        _VALUES,
        'return "filled" if money.ZERO < order.amount <= order.filled else "partial"',
        'return "unfilled"',
    ),
    ("the caller's own id is replaced", _ARGUMENTS, "if where.get(self.id_name) is None:", "if True:"),
    ("client_id is taken for ours", _ARGUMENTS, '"newClientOrderId")\n', '"newClientOrderId", "client_id")\n'),
    ("other arguments are the same call", _ARGUMENTS, "{fingerprint_of(same)}", ""),
    (
        "the cancel is sent before its intent",
        _CANCEL,
        "        pipeline._runner._check_open()\n",
        "        self._cancel(**self._parameters.pick(known))\n",
    ),
    (
        "earlier cancels stay open",
        _CANCEL,
        "for other in [child, *self._earlier(parent, child)]:",
        "for other in [child]:",
    ),
    (
        "a refused connection is proof by default",
        _DOOR,
        '"not_sent": _judge("not_sent", not_sent)',
        '"not_sent": never_connected',
    ),
    ("a coroutine is a look-up", _CALLS, "    config.blocking_function(what, find)\n", ""),
    ("a look-up that cannot be called is taken", _CALLS, "    if missing and not takes_all:", "    if False:"),
]
