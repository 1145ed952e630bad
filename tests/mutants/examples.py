"""Breakages of the examples, of `OwnVenue` and of what the README promises, each caught by a test."""

_AFTER = "hireliab/examples/legacy_bot_after.py"
_BEFORE = "hireliab/examples/legacy_bot_before.py"
_DAY = "hireliab/examples/_legacy_day.py"
_LIST = "hireliab/examples/__main__.py"
_OFFLINE = "hireliab/examples/_offline.py"
_PROCESSES = "hireliab/examples/several_processes.py"
_VENUE = "hireliab/exchange/own_venue.py"

MUTANTS = [
    ("no answer is lost on that day", _DAY, '"kind": "answer_lost", "nth": 3}', '"kind": "answer_lost", "nth": 30}'),
    ("no gateway fails on that day", _DAY, '"processed": True, "nth": 2}', '"processed": True, "nth": 20}'),
    ("the old bot is careful", _BEFORE, "        for _attempt in range(3):\n", "        for _attempt in range(1):\n"),
    ("the new bot has no look-up", _AFTER, "verifier, find=find_order, finds_closed=True, ", "verifier, "),
    ("the new bot sends no client order id", _AFTER, '        order["clientOrderId"] = client_order_id\n', ""),
    (
        "the truth is what was asked for",
        _DAY,
        'orders[record["id"]] = Decimal(str(record["matched"]))',
        "orders[0] = Decimal(amount)",
    ),
    ("every difference is hidden", _DAY, 'wrong = "" if belief == sum(bought) else', 'wrong = "" if bought else'),
    (
        "a refusing machine is a traceback",
        _OFFLINE,
        "    except (OSError, HireliabError) as error:\n",
        "    except ZeroDivisionError as error:\n",
    ),
    (
        "a refusing machine is a success",
        _OFFLINE,
        "file=sys.stderr)\n        return 1\n",
        "file=sys.stderr)\n        return 0\n",
    ),
    ("the list forgets an example", _LIST, 'r"^(\\w+)  +(\\S.*)$"', 'r"^(\\w+)  (\\S.*)$"'),
    ("no near miss", _LIST, "cutoff=0.4", "cutoff=1.0"),
    ("an unknown name is a success", _LIST, "        return 2\n", "        return 0\n"),
    (
        "the bookkeepers have no inbox",
        _PROCESSES,
        "inbox.once(functools.partial(book, who, books))",
        "functools.partial(book, who, books)",
    ),
    ("nobody is killed", _PROCESSES, "        kill()\n", ""),
    ("a broker that is away is waited for", _PROCESSES, "    if not status.connected:\n", "    if False:\n"),
    (
        "a stand-in invents a bound of nothing",
        _VENUE,
        'late_arrival_bound=config.number("late_arrival_bound", late_arrival_bound, low=0, high=86400)',
        "late_arrival_bound=0.0",
    ),
    (
        "orders are let through",
        _VENUE,
        '    def validate(self, order: Order) -> NoReturn:\n        """Refuse: raises InvalidOrderError."""\n        raise self._no_order()\n',
        "    def validate(self, order: Order) -> Order:\n        return order\n",
    ),
    ("any account may use a journal", _VENUE, 'identity=config.text("account", account)', 'identity="default"'),
]
TESTS = [
    "tests/unit/exchange/test_own_venue.py",
    "tests/integration/test_examples.py",
    "tests/integration/test_from_a_legacy_bot.py",
    "tests/integration/test_readme.py",
]
