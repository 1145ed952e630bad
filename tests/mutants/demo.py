"""Breakages of the demo, each caught by a test: its table must not be kinder than the truth."""

_BOOKS = "hireliab/examples/_demo_books.py"
_MAIN = "hireliab/examples/high_reliability_demo.py"
_OFFLINE = "hireliab/examples/_offline.py"
_STEPS = "hireliab/examples/_demo_steps.py"

MUTANTS = [
    (
        "a differing figure passes",
        _BOOKS,
        "for name, ours, true in pairs if ours != true]",
        "for name, ours, true in pairs if ours is None]",
    ),
    ("status is not compared", _BOOKS, '        ("status", belief.status, order.status),\n', ""),
    ("fee is not compared", _BOOKS, '        ("fee", belief.fee, order.fee),\n', ""),
    (
        "the first version counts",
        _BOOKS,
        "            orders[order.order_id] = order\n",
        "            orders.setdefault(order.order_id, order)\n",
    ),
    ("a duplicate passes", _BOOKS, "if len(orders) != expected and", "if len(orders) < expected and"),
    (
        "a second send passes",
        _BOOKS,
        "    if received > belief.attempts:\n",
        "    if received > belief.attempts + 1:\n",
    ),
    ("unknown passes", _BOOKS, "    if belief.verdict is Verdict.UNKNOWN:\n", "    if False:\n"),
    (
        "orders that the bot does not know get no row",
        _BOOKS,
        "    for client_id, others in by_client_id.items():\n",
        "    for client_id, others in ():\n",
    ),
    ("the verdict need not fit", _BOOKS, "    if not _bears_out(belief, order):\n", "    if False:\n"),
    (
        "every request is a send",
        _BOOKS,
        'record["kind"] == "request" and str(record["path"]).startswith(ADD)',
        'record["kind"] == "request"',
    ),
    ("a difference does not fail the demo", _MAIN, "    return 1 if wrong else 0\n", "    return 0\n"),
    ("the restarted bot's order is left out", _MAIN, "    return found + stage.heirs\n", "    return found\n"),
    ("no answer is lost", _STEPS, 'kind="answer_lost", count=1', 'kind="answer_lost", count=1, nth=9'),
    ("the book is deep", _STEPS, 'thin="0.004"', 'thin="0.4"'),
    ("a step is missing", _STEPS, "fill_a_part, cut_off, kill_a_bot", "fill_a_part, kill_a_bot"),
    (
        "an interruption leaves by a traceback",
        _OFFLINE,
        "    except KeyboardInterrupt:\n",
        "    except ZeroDivisionError:\n",
    ),
]
TESTS = ["tests/unit/examples/test_demo_books.py", "tests/integration/test_demo.py"]
