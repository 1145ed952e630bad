"""Breakages of the benchmarks, each caught by a test: figures that would flatter somebody."""

_HARNESS = "benchmarks/harness.py"
_ORDERS = "benchmarks/orders.py"
_BOTS = "benchmarks/_bots.py"
_BUS = "benchmarks/bus.py"
_BUS_BROKER = "benchmarks/_bus_broker.py"
_BUS_PEERS = "benchmarks/_bus_peers.py"
_BUS_REPORT = "benchmarks/_bus_report.py"
_BUS_WORK = "benchmarks/_bus_work.py"

_ROWS = "benchmarks/_rows.py"
_RECORD = "benchmarks/_record.py"
_LOSSES = "benchmarks/_losses.py"
_MEASURING = "benchmarks/_measuring.py"
_MAIN = "benchmarks/__main__.py"

MUTANTS = [
    ("turns are not reversed", _HARNESS, "turn if number % 2 == 0 else reversed(turn)", "turn"),
    ("the warm-up counts", _HARNESS, "            if number:\n", "            if True:\n"),
    (
        "percentiles are rounded down",
        _HARNESS,
        "    rank = -(-len(ordered) * percent // 100)",
        "    rank = len(ordered) * percent // 100",
    ),
    ("unfinished work counts", _HARNESS, "        checked=not problem,\n", "        checked=True,\n"),
    (
        "the worst ratio is the median",
        _HARNESS,
        "worst=ours.rate.low / theirs.rate.high",
        "worst=ours.rate.median / theirs.rate.median",
    ),
    (
        "the ratio is upside down",
        _HARNESS,
        "median=ours.rate.median / theirs.rate.median",
        "median=theirs.rate.median / ours.rate.median",
    ),
    ("duplicates are not counted", _ORDERS, "        duplicates += max(0, len(orders) - 1)\n", ""),
    ("forgotten orders are not counted", _ORDERS, "            forgotten += bool(orders)\n", "            pass\n"),
    ("imagined orders are not counted", _ORDERS, "            imagined += 1\n", "            pass\n"),
    ("figures are not compared", _ORDERS, '        and outcome.filled == Decimal(str(order["matched"]))\n', ""),
    ("unknown is a wrong belief", _ORDERS, "            unresolved += 1\n", "            wrong += 1\n"),
    ("strays are no mistake", _ORDERS, "forgotten=forgotten + len(strays)", "forgotten=forgotten"),
    ("missing work is not noticed", _ORDERS, " or books.at_exchange != books.asked:", ":"),
    ("rounds repeat their orders", _ORDERS, "start=which * number", "start=0"),
    (
        "the bare bot never tries again",
        _BOTS,
        "        except (requests.RequestException, ValueError, KeyError):\n            return self._post(path, body)\n",
        "        except ZeroDivisionError:\n            return self._post(path, body)\n",
    ),
    ("the bare bot argues with a refusal", _BOTS, "        except _RefusedError:\n            raise\n", ""),
    ("commits of one round are those of all", _ORDERS, "count - before[name] for name", "count for name"),
    ("a failed check does not fail the run", _MAIN, "    return 1 if problems else 0\n", "    return 0\n"),
    (
        "one failure ends the run",
        _MEASURING,
        "except Exception as error:  # whatever",
        "except ZeroDivisionError as error:  # whatever",
    ),
    (
        "an interrupt loses what was measured",
        _MEASURING,
        "            interrupted = INTERRUPTED\n",
        "            record.benchmarks.clear()\n            interrupted = INTERRUPTED\n",
    ),
    (
        "children leave their files",
        _MEASURING,
        'os.environ["TMPDIR"] = tempfile.tempdir = folder',
        "tempfile.tempdir = folder",
    ),
    (
        "files are tried after measuring",
        _MAIN,
        "                _record.require_writable(file)\n",
        "                pass\n",
    ),
    (
        "the ratios of the table are upside down",
        _ROWS,
        'rate / one["rate"]["median"], absolute',
        'one["rate"]["median"] / rate, absolute',
    ),
    ("times are rates", _ROWS, "yield self.row(what, name, ns / mine,", "yield self.row(what, name, mine / ns,"),
    ("who did not do the work is compared", _ROWS, 'for one in results if not one["problem"]}', "for one in results}"),
    ("goals without a peer fall out", _ROWS, "*part.rest()]", "]"),
    ("a lost alert came at once", _ROWS, "if ms is not None]:", "if ms is not None] + [0.0]:"),
    (
        "the first file wins",
        _RECORD,
        "        self.benchmarks.update(other.benchmarks)\n",
        "        self.benchmarks = {**other.benchmarks, **self.benchmarks}\n",
    ),
    ("two machines are one", _RECORD, 'if mine["machine"].get(name) != run["machine"].get(name):', "if False:"),
    ("old problems stay with new figures", _RECORD, "if _benchmark(line) not in other.benchmarks]", "if line]"),
    ("problems of others stay with the chosen figures", _RECORD, "if _benchmark(line) in names]", "if line]"),
    (
        "a failure is forgotten with the next file",
        _RECORD,
        "if _benchmark(line) not in other.benchmarks]",
        "if _benchmark(line) in self.benchmarks and _benchmark(line) not in other.benchmarks]",
    ),
    (
        "losses are left out of the overview",
        "benchmarks/_charts.py",
        "is not None and row.ratio is not None\n    ]",
        "is not None and (row.ratio or 0) >= 1\n    ]",
    ),
    ("every round draws", "benchmarks/_progress.py", "if time.monotonic() - self._drawn >= PAUSE:", "if True:"),
    (
        "a contestant is disturbed",
        _HARNESS,
        "            sample = contestant.run(number)\n",
        "            _progress.current.between_rounds(number, rounds)\n            sample = contestant.run(number)\n",
    ),
    ("modules of others are not seen", "benchmarks/imports.py", "    if foreign:\n", "    if False:\n"),
    ("a lost message counts", _BUS_BROKER, "    if len(times) != said:\n", "    if len(times) > said:\n"),
    ("a message too many counts", _BUS_BROKER, "    if len(times) != said:\n", "    if len(times) < said:\n"),
    ("a doubled message counts", _BUS_BROKER, "    if len(found) != len(times):\n", "    if False:\n"),
    ("nothing is enough", _BUS_BROKER, "    if said <= 0:\n", "    if said < 0:\n"),
    (
        "the queue is not looked into",
        _BUS,
        "            if problem := unbalanced(done.count, found):\n",
        "            if problem := unbalanced(done.count, list(range(done.count))):\n",
    ),
    (
        "a message that was skipped counts",
        _BUS,
        '    done = turn.worker.ask("consume", turn.place, count=count)\n    if not done.count == done.distinct == count:\n',
        '    done = turn.worker.ask("consume", turn.place, count=count)\n    if done.count != count:\n',
    ),
    (
        "what is not acknowledged counts",
        _BUS,
        '        turn.problems.append(f"{left} messages were not acknowledged")\n    return done\n',
        "        pass\n    return done\n",
    ),
    ("only the last round is judged", _BUS, "problems.setdefault(name, turn.problems[0])", "problems.pop(name, None)"),
    ("a dead contestant counts", _BUS, "                problems.setdefault(name, str(error))\n", ""),
    ("the peer's messages are smaller", _BUS, "bare=turn.name.endswith(BARE)", "bare=turn.name != OURS"),
    (
        "nine is ten",
        _BUS_REPORT,
        'goal("  the aim", blocking, "{:.1f} x", least=10)',
        'goal("  the aim", blocking, "{:.1f} x", least=8)',
    ),
    (
        "goals of those not counted",
        _BUS_REPORT,
        "if one.name == name and one.checked), None)",
        "if one.name == name), None)",
    ),
    (
        "losses in latency are not named",
        _BUS_REPORT,
        "                if one.p50 < ours.p50:\n",
        "                if False:\n",
    ),
    (
        "losses in CPU time are not named",
        _BUS_REPORT,
        '            if 0 < one.extra["cpu_ns"] < ours.extra["cpu_ns"]:\n',
        "            if False:\n",
    ),
    ("who was not measured wins", _LOSSES, "    elif not any(counts):\n", "    elif False:\n"),
    ("who was measured in parts wins everywhere", _LOSSES, "    elif not all(counts):\n", "    elif False:\n"),
    (
        "threads publish the same messages",
        _BUS_WORK,
        "number = publisher.publish, time.perf_counter, i * THREAD\n",
        "number = publisher.publish, time.perf_counter, 0\n",
    ),
    (
        "open messages are not waited for",
        _BUS_WORK,
        "            confirmed = [publisher.finish() for publisher in opened]\n",
        "            pass\n",
    ),
    ("repeats are different", _BUS_WORK, "distinct=len(set(self._seen))", "distinct=len(self._seen)"),
    (
        "multiple confirms one",
        _BUS_PEERS,
        "sum(n not in self._acked for n in range(self._open_from + 1, tag + 1))",
        "1",
    ),
    ("a refusal confirms", _BUS_PEERS, '        if frame.method.NAME == "Basic.Nack":\n', "        if False:\n"),
]
TESTS = [
    "tests/unit/benchmarks/test_harness.py",
    "tests/unit/benchmarks/test_benchmark_command.py",
    "tests/unit/benchmarks/test_summary.py",
    "tests/unit/benchmarks/test_record.py",
    "tests/unit/benchmarks/test_charts.py",
    "tests/unit/benchmarks/test_progress.py",
    "tests/unit/benchmarks/test_imports_benchmark.py",
    "tests/unit/benchmarks/test_orders_benchmark.py",
    "tests/unit/benchmarks/test_bus_benchmark.py",
    "tests/integration/test_benchmarks.py",
]
