"""Breakages of the HTTP session; each must be caught by a test."""

_SESSION = "hireliab/exchange/http_session.py"
_WIRE = "hireliab/exchange/_http_wire.py"
_FAST = "hireliab/exchange/_http_fast.py"
_ADAPTER = "hireliab/exchange/_http_adapter.py"
_ERRORS = "hireliab/exchange/_http_errors.py"
_RESPONSE = "hireliab/exchange/_http_response.py"
_ENVIRONMENT = "hireliab/exchange/_http_environment.py"

MUTANTS = [
    ("a post is sent twice", _WIRE, 'SAFE = frozenset({"GET", ', 'SAFE = frozenset({"GET", "POST", '),
    ("a cancel is sent twice", _WIRE, 'SAFE = frozenset({"GET", ', 'SAFE = frozenset({"GET", "DELETE", '),
    ("a new connection is a reused one", _WIRE, "self.sent and not self.connected and not self.answered", "self.sent and not self.answered"),
    ("an answered call is stale", _WIRE, "not self.connected and not self.answered and", "not self.connected and"),
    ("a call that was too slow is stale", _WIRE, "not self.answered and not self.timed_out", "not self.answered"),
    ("the second sending takes an idle connection", _WIRE, "        self.max_idle = -1.0\n", ""),
    ("a stream is sent twice", _WIRE, "or not (body is None or isinstance(body, str | bytes))", "or False"),
    ("retry_safe is not asked", _WIRE, "safe = method in SAFE if self.retry_safe is None else self.retry_safe", "safe = method in SAFE"),
    ("drips are endless", _WIRE, "        if watch.deadline is not None:\n            self._sock.settimeout(watch.patience())\n", ""),
    ("a write may outlast the limit", _WIRE, "        if len(data) > _JOIN:", "        if len(data) < 0:"),
    ("connecting takes its time", _WIRE, "min(timeout, left) if isinstance(timeout, int | float) else left", "timeout"),
    ("a byte may have left, nobody knows", _WIRE, "            raise\n        self.sent = True", "            raise"),
    ("a write that is too late was sent", _WIRE, "            self.stopped = not self.sent\n", "            self.sent = True\n"),
    ("head and body apart", _WIRE, "        self._held = []\n", "        self._held = None\n"),
    ("rested connections are used", _WIRE, "return idle > watch.max_idle or idle > self.keep", "return idle > self.keep"),
    ("rested connections are used on the short way", _FAST, "    if idle > watch.max_idle or idle > connection.keep or", "    if idle > connection.keep or"),
    ("the server's hint is ignored", _WIRE, "return idle > watch.max_idle or idle > self.keep", "return idle > watch.max_idle"),
    ("the hint without its second", _WIRE, "int(value) - 1.0", "int(value) + 0.0"),
    ("closed connections are used", _FAST, " or connection.spoke():", ":"),
    ("the wire has no limit", _WIRE, "        if self.wire_limit is not None and self.received > self.wire_limit:", "        if False:"),
    ("a head that was cut is whole", _WIRE, "        if self.ended:\n", "        if False:\n"),
    ("half an answer stays on the connection", _FAST, "        _drop(connection, answer)  # half an answer", "        stack.put(connection)  # half an answer"),
    ("a failed connection is kept", _FAST, "    except CONNECTION as error:\n        _drop(connection, answer)\n", "    except CONNECTION as error:\n        stack.put(connection)\n"),
    ("a connection that closes is kept", _FAST, "    if answer.will_close or answer.status", "    if answer.status"),
    ("early hints are the answer", _FAST, "or answer.status < 200 or", "or"),
    ("a bomb goes off", _RESPONSE, "0 if limit is None else limit + 1", "0"),
    ("a bomb goes off the long way", _RESPONSE, "            if size > limit:\n                self._too_long()", "            pass"),
    ("two lengths are one", _RESPONSE, "    if len(values) > 1 and", "    if False and"),
    ("equal is the same", _FAST, "        _Base.send is known[0]\n", "        _Base.send == known[0]\n"),
    ("wrappers are believed", _FAST, "if type(function) is not types.FunctionType or", "if not isinstance(function, types.FunctionType) or"),
    ("putrequest may be replaced", _FAST, "        and _Http.putrequest is known[9]\n", ""),
    ("urlopen may be replaced", _FAST, "        and HTTPConnectionPool.urlopen is known[6]\n", ""),
    ("subclasses are not asked", _FAST, "            session.send.__func__ is not send\n            or ", "            "),
    ("foreign adapters are bypassed", _FAST, "type(adapter) is not Adapter or scheme", "scheme"),
    ("mounted adapters are not noticed", _FAST, "        or lane.adapters != list(session.adapters.items())\n", ""),
    ("changed headers are not noticed", _FAST, "        or lane.seen != seen\n", ""),
    ("cookies are not sent", _FAST, "        if cookies._cookies and len(cookies):", "        if False and len(cookies):"),
    ("cookies are not kept", _FAST, '    if "set-cookie" in names:', '    if "set-cookie2" in names:'),
    ("hooks are not called", _FAST, 'or hooks.get("response"):', "or False:"),
    ("netrc replaces an authorization", _SESSION, " and not _authorized(request.headers, self.headers):", ":"),
    ("netrc is not asked", _FAST, " or environment.login(whole):", ":"),
    ("netrc replaces it on a further hop", _SESSION, 'if self.trust_env and "Authorization" not in prepared_request.headers:', "if self.trust_env:"),
    ("the environment's certificates go first", _SESSION, "(verify is None and self.verify is True)", "verify is None"),
    ("a hop has a limit of its own", _SESSION, "until = outer_until if until is None else min(until, outer_until)", "pass"),
    ("a further hop was not sent", _SESSION, "            earlier = outer.earlier or outer.sent\n", ""),
    ("the session's total limit is forgotten", _SESSION, "            total = self.total_timeout\n", "            total = None\n"),
    ("None is the default", _SESSION, "        if timeout is _SESSIONS:", "        if timeout is None or timeout is _SESSIONS:"),
    ("send has no limits", _SESSION, '        kwargs.setdefault("timeout", self.timeout)\n', ""),
    ("a child uses the parent's connections", _SESSION, "        forked(self.adapters.values())\n        self._lane = None\n", "        pass\n"),
    ("a child closes the parent's connections", _ADAPTER, "        _left_behind.append((self.poolmanager, self.proxy_manager))\n", "        self.close()\n"),
    ("Nagle waits", _ADAPTER, "options = [*HTTPConnection.default_socket_options, (", "options = [("),
    ("a time-out without connection is unknown", _ERRORS, "    if not watch.sent:\n", "    if not watch.sent and not watch.timed_out:\n"),
    ("the query is shown", _ERRORS, "{parts.path}", "{parts.path}?{parts.query}"),
    ("the cause shows the query", _ERRORS, "    made.__cause__ = root(error)\n", "    made.__cause__ = error\n"),
    ("the proxies are read again", _ENVIRONMENT, "        if not self._proxies:\n            return {}\n", "        if True:\n            return urllib.request.getproxies()\n"),
]  # fmt: skip

TESTS = [
    "tests/unit/exchange/test_http_session.py",
    "tests/unit/exchange/test_http_session_ways.py",
    "tests/unit/exchange/test_http_session_environment.py",
]
