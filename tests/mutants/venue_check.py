"""Small breakages of the venue check; a test catches each."""

_ROWS = "hireliab/exchange/_nobitex_survey_rows.py"
_ORDER = "hireliab/exchange/_nobitex_survey_order.py"
_READS = "hireliab/exchange/_nobitex_survey_reads.py"
_TABLE = "hireliab/exchange/_nobitex_survey_table.py"
_CLI = "hireliab/_cli_venue.py"

TESTS = [
    "tests/unit/exchange/test_nobitex_survey.py",
    "tests/integration/test_venue_check.py::test_a_run_without_leave_only_reads_and_stays_below_its_number_of_requests",
    "tests/integration/test_venue_check.py::test_one_wrong_signature_is_sent_with_leave_only_and_only_once",
    "tests/integration/test_venue_check.py::test_without_consent_nothing_is_placed",
    "tests/integration/test_venue_check.py::test_a_clock_that_is_off_matters_with_signed_requests",
    "tests/integration/test_venue_check.py::test_what_keeps_it_from_running_makes_the_exit_code_two",
]

MUTANTS = [
    ("a run that reads may place", _READS, "if not reads and not self.may_change:", "if False:"),
    ("requests are not counted", _READS, "            self._count += 1\n", ""),
    ("there is no most of requests", _READS, "if self.most is not None and self._count >= self.most:", "if False:"),
    ("the profile is kept whole", _READS, "if address.path == survey.PROFILE and", "if False and"),
    ("a wrong signature is a right one", _READS, "                _spoil(request)\n", "                pass\n"),
    ("a wrong signature goes out unasked", _READS, "        if wrong_signature:\n", "        if True:\n"),
    ("every header is kept", _READS, "if name in _HEADERS or", "if True or"),
    ("nobody is asked before placing", _CLI, "if not self.yes and not self._agreed():", "if False:"),
    ("a difference leaves the exit code at 0", _CLI, "MATTERS if matters or broken else FINE", "FINE"),
    ("the name of a variable is shown", _CLI, 'f"{option}: the environment variable that it names is not set"', 'f"{option}: the environment variable {name} is not set"'),
    ("the path of a file is shown", _CLI, "the file that it names cannot be read ({why})", "the file {path} cannot be read ({why})"),
    ("open rows are closed ones", _ROWS, 'closed = facts.closed_rows()\n    shown =', 'closed = list(facts.order_rows().values())\n    shown ='),
    ("lost client ids do not matter", _ROWS, 'f"orders {_few(row[\'id\'] for row in closed)}",\n            action=action,', 'f"orders {_few(row[\'id\'] for row in closed)}",'),
    ("fees are compared with the wrong part", _ROWS, '(in_base, in_quote) if side == "buy"', '(in_base, in_quote) if side == "sell"'),
    ("rial candles are toman", _ROWS, 'if _TOMAN[0] < ratio < _TOMAN[1]:', 'if _TOMAN[0] < ratio < _RIAL[1]:'),
    ("disorder of a listing is overlooked", _ROWS, '(wanted == "-id" and ids != sorted(ids, reverse=True))', 'False'),
    ("public clocks count", _ROWS, "for one in private if one.skew is not None", "for one in facts.seen if one.skew is not None"),
    ("a 404 of another kind proves an absence", _ROWS, 'not (one.status == 404 and one.code == "NotFound")', 'not (one.status == 404)'),
    ("old orders count as lost", _ROWS, "and (is_all or int(fill[\"orderId\"]) > oldest_listed)", ""),
    ("unknown words of a status are known", _ROWS, "strange = sorted(tokens - _KNOWN)", "strange = sorted(tokens - tokens)"),
    ("a lag of any length is as assumed", _ORDER, 'if lag > placed.window and source != "client id":', "if False:"),
    ("a list of open orders must show closed ones", _ORDER, 'one.query.get("status") != "all" or int(', 'False or int('),
    ("the order is not above the minimum", _ORDER, "while money.multiply(amount, price) <= rules.min_value:", "while money.multiply(amount, price) < rules.min_value:"),
    ("the order may trade", _ORDER, 'if opposite and (price >= opposite[0][0]) == (side == "buy"):', "if False:"),
    ("the balance is not looked at", _ORDER, "if held is None or held.available < needed:", "if held is None:"),
    ("another order's cancel is ours", _ORDER, 'one.status == 200 and one.body.get("order") == order_id', "one.status == 200"),
    ("a slow cancel is synchronous", _ORDER, "    if not still:\n        return same", "    if True:\n        return same"),
    ("a second order's balance is the first one's", _ORDER, "min([*later, ", "min(["),
    ("a second order is refused for any reason", _ROWS, 'if adds[1].code == "DuplicateOrder":', "if adds[1].code:"),
    ("one odd answer costs the report", _TABLE, "except Exception as error:", "except KeyError as error:"),
    ("the exchange may steer the terminal", _TABLE, 'c if c.isprintable() else " "', "c"),
]  # fmt: skip
