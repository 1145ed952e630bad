"""Breakages of the metrics that their tests must notice: (name, file, text that occurs once, replacement)."""

_DOOR = "hireliab/monitoring/metrics.py"
_PARTS = "hireliab/monitoring/_parts.py"
_TABLE = "hireliab/monitoring/_metrics_table.py"
_BRIDGE = "hireliab/monitoring/_metrics_prometheus.py"
_EXPORTER = "hireliab/monitoring/_metrics_exporter.py"

TESTS = [
    "tests/unit/core/test_metrics.py",
    "tests/unit/monitoring/test_metrics.py",
    "tests/contract/test_metrics.py",
    "tests/integration/test_metrics_http.py",
]

MUTANTS = [
    ("a handler that prints counts waits for its own thread", "hireliab/core/_metrics.py", "threading.RLock()  # guards _counts", "threading.Lock()  # guards _counts"),
    ("a handler that prints durations waits for its own thread", "hireliab/core/_metrics.py", "threading.RLock()  # guards everything below", "threading.Lock()  # guards everything below"),
    ("a field is forgotten", _TABLE, '            Measure("leaks", COUNTER, "leaks", "Clients in use for longer than leak_timeout."),\n', ""),
    ("a state is forgotten", _TABLE, '_states("state", "closed", "open", "half-open", "isolated",', '_states("state", "closed", "open", "half-open",'),
    ("a counter is a gauge", _TABLE, 'Measure("rejected", COUNTER, "rejected", "Calls that were refused."),', 'Measure("rejected", GAUGE, "rejected", "Calls that were refused."),'),
    ("one part's error is everybody's", _PARTS, "            except Exception as error:  # it costs this part, and not the others\n", "            except ZeroDivisionError as error:\n"),
    ("Ctrl-C is swallowed", _PARTS, "            except Exception as error:  # it costs this part, and not the others\n", "            except BaseException as error:\n"),
    ("half a part is told", _DOOR, "                    collected.merge(_tell(look.kind, look.snapshot, labels))\n", "                    collected.merge([]) if look.kind == 'limiter' else collected.merge(_tell(look.kind, look.snapshot, labels))\n"),
    ("a part that failed is up", _DOOR, "float(error is None))\n", "1.0)\n"),
    ("looking starts a pipeline", _PARTS, '        if state != "running":  # stats() would start it\n', "        if False:\n"),
    ("parts are held", _PARTS, "                refs.append((weakref.ref(part), critical))\n", "                refs.append((lambda part=part: part, critical))\n"),
    ("two parts of one name are added up", _PARTS, "                    while (_space(kind), free) in taken:\n", "                    while False:\n"),
    ("a journal has its pipeline's name", _PARTS, '    return "pipeline" if kind in ("journal", "outbox") else kind\n', "    return kind\n"),
    ("names change from look to look", _PARTS, "                if known is None or known[0]() is not part:\n", "                if True:\n"),
    ("a part that is added twice is told twice", _DOOR, "        if isinstance(before, float) and isinstance(value, float):\n            value += before\n", "        if isinstance(before, float) and isinstance(value, float):\n            pass\n"),
    ("labels are not cleaned", _PARTS, "            return clean(found, _NAME, one_line=True)\n", "            return found\n"),
    ("the labels of subscriptions are not bounded", _DOOR, "            if more not in seen and len(seen) >= MOST_VALUES:\n", "            if False:\n"),
    ("the keys of a mapping are not bounded", _DOOR, "one_line=True) if number_ < MOST_VALUES else OTHER\n", "one_line=True)\n"),
    ("the number of parts is not bounded", _PARTS, "        chosen = list(found.values())[:MOST_PARTS]\n", "        chosen = list(found.values())\n"),
    ("a lock is held while a part is asked", _PARTS, "        looks = []\n        for (part", "        looks = []\n        self._lock.acquire()\n        for (part"),
    ("a forked child has its parent's lock", _PARTS, "    def renew_in_child(self) -> None:\n        \"\"\"Take a lock of its own in a forked child, where nobody would release the parent's.\"\"\"\n        self._lock = threading.RLock()\n", "    def renew_in_child(self) -> None:\n        \"\"\"Nothing.\"\"\"\n"),
    ("an adapter does not stand for its parts", _PARTS, "        for child in within:\n", "        for child in ():\n"),
    ("a ring of parts never ends", _PARTS, "            yield from _expand(child, depth - 1)\n", "            yield from _expand(child, depth)\n"),
    ("a histogram is not cumulative", _BRIDGE, "        below += count\n", "        below = count\n"),
    ("a histogram has no last bucket", _BRIDGE, '        metric.add_sample(f"{name}_bucket", {**labels, "le": "+Inf"}, histogram.count)\n'.replace("        ", "    ", 1), ""),
    ("registering twice is refused", _BRIDGE, "        if registry in self._registries:\n", "        if False:\n"),
    ("a registry is not told the names", _BRIDGE, "        for name, type_, help_ in all_names():\n", "        for name, type_, help_ in ():\n"),
    ("any path has the metrics", _EXPORTER, '        if environ["PATH_INFO"] == PATH:\n', "        if True:\n"),
    ("the port is not closed", _EXPORTER, "        self._server.server_close()\n", ""),
    ("one that says nothing holds up the stop", _EXPORTER, "                request.shutdown(socket.SHUT_RDWR)\n", "                pass\n"),
    ("requests are not bounded", _EXPORTER, "            busy = len(self._open) >= MOST_REQUESTS\n", "            busy = False\n"),
    ("without a descriptor it is a busy loop", _EXPORTER, "                if self._server.refused:\n", "                if False:\n"),
    ("after a rest it is deaf", _EXPORTER, "                    waiting.register(self._server.socket, selectors.EVENT_READ)\n", ""),
    ("a request without a thread keeps its place", _EXPORTER, "                del self._open[request]\n", "                pass\n"),
    ("an exporter without a thread keeps its port", _EXPORTER, "            self._close()\n            raise\n", "            raise\n"),
    ("a stop in a handler waits for its own thread", _EXPORTER, "        requests = self._open.copy()\n", "        with self._lock:\n            requests = self._open.copy()\n"),
    ("a second stop wakes nobody", _EXPORTER, "        self._stopped = True\n        with contextlib.suppress(OSError):", "        if self._stopped:\n            return\n        self._stopped = True\n        with contextlib.suppress(OSError):"),
    ("a forked child holds the port", _EXPORTER, "        self._open = {}\n        self.socket.close()\n", "        self._open = {}\n"),
    ("a port that is taken is a bare error", _EXPORTER, "        except (OSError, UnicodeError) as error:\n", "        except ZeroDivisionError as error:\n"),
]  # fmt: skip
