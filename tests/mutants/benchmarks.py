"""Breakages of the benchmarks, each caught by a test: figures that would flatter somebody."""

_HARNESS = "benchmarks/harness.py"
_ORDERS = "benchmarks/orders.py"
_BOTS = "benchmarks/_bots.py"

MUTANTS = [
    ("turns are not reversed", _HARNESS, "turn if number % 2 == 0 else reversed(turn)", "turn"),
    ("the warm-up counts", _HARNESS, "            if number:\n", "            if True:\n"),
    ("percentiles are rounded down", _HARNESS, "    rank = -(-len(ordered) * percent // 100)", "    rank = len(ordered) * percent // 100"),
    ("unfinished work counts", _HARNESS, "        checked=not problem,\n", "        checked=True,\n"),
    ("the worst ratio is the median", _HARNESS, "worst=ours.rate.low / theirs.rate.high", "worst=ours.rate.median / theirs.rate.median"),
    ("the ratio is upside down", _HARNESS, "median=ours.rate.median / theirs.rate.median", "median=theirs.rate.median / ours.rate.median"),
    ("duplicates are not counted", _ORDERS, "        duplicates += max(0, len(orders) - 1)\n", ""),
    ("forgotten orders are not counted", _ORDERS, "            forgotten += bool(orders)\n", "            pass\n"),
    ("imagined orders are not counted", _ORDERS, "            imagined += 1\n", "            pass\n"),
    ("figures are not compared", _ORDERS, '        and outcome.filled == Decimal(str(order["matched"]))\n', ""),
    ("unknown is a wrong belief", _ORDERS, "            unresolved += 1\n", "            wrong += 1\n"),
    ("strays are no mistake", _ORDERS, "forgotten=forgotten + len(strays)", "forgotten=forgotten"),
    ("missing work is not noticed", _ORDERS, " or books.at_exchange != books.asked:", ":"),
    ("rounds repeat their orders", _ORDERS, "start=which * number", "start=0"),
    ("the bare bot never tries again", _BOTS, "        except (requests.RequestException, ValueError, KeyError):\n            return self._post(path, body)\n", "        except ZeroDivisionError:\n            return self._post(path, body)\n"),
    ("the bare bot argues with a refusal", _BOTS, "        except _RefusedError:\n            raise\n", ""),
    ("commits of one round are those of all", _ORDERS, "count - before[name] for name", "count for name"),
    ("a failed check does not fail the run", "benchmarks/__main__.py", "    return 1 if failures else 0\n", "    return 0\n"),
]
TESTS = [
    "tests/unit/benchmarks/test_harness.py",
    "tests/unit/benchmarks/test_orders_benchmark.py",
    "tests/integration/test_benchmarks.py",
]
