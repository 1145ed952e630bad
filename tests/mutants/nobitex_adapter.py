"""Small breakages of the Nobitex adapter; a test catches each."""

_ADAPTER = "hireliab/exchange/enhanced_nobitex_adapter.py"
_ACCESS = "hireliab/exchange/_nobitex_access.py"
_GATE = "hireliab/exchange/_nobitex_gate.py"
_LISTINGS = "hireliab/exchange/_nobitex_listings.py"
_LIMITS = "hireliab/exchange/_nobitex_limits.py"
_PREPARED = "hireliab/exchange/_nobitex_prepared.py"
_RULES = "hireliab/exchange/_nobitex_rules.py"
_FRESH = "hireliab/exchange/_nobitex_fresh.py"
_CLIENT = "hireliab/exchange/nobitex_client.py"

TESTS = ["tests/unit/exchange/test_enhanced_nobitex_adapter.py"]

MUTANTS = [
    ("an error is an absent order", _ADAPTER, "        except OrderNotFoundError:\n            return Absent(source)", "        except HireliabError:\n            return Absent(source)"),
    ("old prices are good enough", _ADAPTER, "PRICE_AGE = 2.0", "PRICE_AGE = 20.0"),
    ("the rial guard is off", _ADAPTER, 'elif order.symbol.endswith("/IRT"):', 'elif order.symbol.endswith("/EUR"):'),
    ("prepare does not probe", _ADAPTER, '        order = rules.fit(order, market, last=last)\n        self._access.probe()\n', '        order = rules.fit(order, market, last=last)\n'),
    ("rules are read for every order", _ADAPTER, "OPTIONS_AGE = 600.0", "OPTIONS_AGE = -1.0"),
    ("failed rules are read again at once", _ADAPTER, 'self._options.put("", old, age=OPTIONS_AGE - _OPTIONS_RETRY)', "pass"),
    ("the skew is not in the bound", _ADAPTER, "_SIGNED_BOUND + abs(self._access.skew)", "_SIGNED_BOUND + self._access.skew"),
    ("the token is the account", _ADAPTER, "if not who.is_key_pair:", "if False:"),
    ("a found order with another client id is taken", _ADAPTER, "if wanted is not None and state.client_order_id not in (wanted, None):", "if False:"),
    ("a token is not given back", _ACCESS, "        self.limits.give_back(endpoint, token)\n", ""),
    ("a refused breaker keeps the permit of the limiter", _ACCESS, "            self._give_up(endpoint, token, probe=probe)\n            raise\n        return Ticket", "            raise\n        return Ticket"),
    ("one breaker for all", _ACCESS, '"orders/add": "place",', '"orders/add": "account",'),
    ("cancels share the breaker of orders", _ACCESS, '_CANCEL: "cancel",', '_CANCEL: "place",'),
    ("a 429 is forgotten", _ACCESS, "self.limits.penalize(endpoint, error.retry_after)", "pass"),
    ("a 401 is forgotten", _ACCESS, "self.gate.refused(error)", "pass"),
    ("a 403 refuses the account", _ACCESS, "error.http_status != 403", "error.http_status != 999"),
    ("an unanswered probe opens the gate", _ACCESS, "elif probe and (error is None or isinstance(error, RefusedError)):", "elif probe:"),
    ("a probe waits behind the isolated breakers", _ACCESS, "permit = None if probe else breaker.acquire()", "permit = breaker.acquire()"),
    ("a ticket may be used twice", _ACCESS, "        self._used = True\n", "        pass\n"),
    ("cancels wait behind all others", _ACCESS, "if endpoint == _CANCEL and self._reserve is not None:", "if False:"),
    ("every cancel has a cold connection", _ACCESS, "lease = self.pool.acquire(timeout=0)", "raise PoolError"),
    ("a foreign client stays borrowed", _ACCESS, "            lease.release()\n            raise ConfigError", "            raise ConfigError"),
    ("a stopped adapter goes on", _ACCESS, "if self._stopped.is_set():", "if False:"),
    ("probes every six seconds", _GATE, "PROBE_EVERY = 60.0", "PROBE_EVERY = 6.0"),
    ("every caller is a probe once one is due", _GATE, "                self._next_probe = now + PROBE_EVERY\n                return True", "                return True"),
    ("breakers are not isolated", _GATE, "                breaker.isolate()\n", "                pass\n"),
    ("breakers stay isolated", _GATE, "                breaker.reset()\n", "                pass\n"),
    ("an unmade probe costs a minute", _GATE, "            self._next_probe = self._clock.monotonic()\n", "            pass\n"),
    ("one page is a listing", _LISTINGS, "if page.rows < _SHORT_PAGE and not page.has_next:", "if True:"),
    ("a full page is measured by what was asked", _LISTINGS, "_SHORT_PAGE = 50\n", "_SHORT_PAGE = 1000\n"),
    ("hasNext of orders is not looked at", _LISTINGS, "if page.rows < _SHORT_PAGE and not page.has_next:", "if page.rows < _SHORT_PAGE:"),
    ("no next page is believed of a full one", _LISTINGS, "if page.rows < _SHORT_PAGE and not page.has_next:", "if (page.rows < _SHORT_PAGE and not page.has_next) or page.has_next is False:"),
    ("hasNext of fills is not looked at", _LISTINGS, "return len(page.fills) < _SHORT_FILL_PAGE if page.has_next is None else not page.has_next", "return len(page.fills) < _SHORT_FILL_PAGE"),
    ("fills are complete from whenever was asked", _LISTINGS, "since=max(since, kept)", "since=since"),
    ("older fills do not show that more is kept", _LISTINGS, "kept = min([now - _FILLS_KEPT, *(fill.time for fill in found.values())])", "kept = now - _FILLS_KEPT"),
    ("an order of an unknown trade type is hidden", "hireliab/exchange/_nobitex_values.py", "return str(kind).lower() not in _OTHER_TRADES", 'return kind is None or str(kind).lower() == "spot"'),
    ("disorder in a page is overlooked", _LISTINGS, "if ids != sorted(set(ids)) or (ids and ids[0] <= above):", "if False:"),
    ("fills stop at any old one", _LISTINGS, "return bool(times) and times[-1] < since and times == sorted(times, reverse=True)", "return bool(times) and min(times) < since"),
    ("fills before the time are listed", _LISTINGS, "if fill.time >= since)", "if fill.time >= 0)"),
    ("look-ups use the normal lane", _LISTINGS, '_LANE = "reserved"', '_LANE = "normal"'),
    ("open rows teach about closed ones", _LISTINGS, "if order.status.is_closed and order.order_id in self._own:", "if order.order_id in self._own:"),
    ("nothing is reserved", _LIMITS, '"orders/list": 0.5,', '"orders/list": 0.0,'),
    ("a restart forgets its orders", _LIMITS, "limiter.preload(send_ages)", "pass"),
    ("the answer is not compared", _PREPARED, "        check_echo(self._order, state)\n", ""),
    ("another client id is accepted", _PREPARED, "if wanted == echoed and not other_id:", "if wanted == echoed:"),
    ("before_send comes after the bytes", _PREPARED, "        _before(before_send, self._ticket)\n        state = self._ticket.run(self._place)\n", "        state = self._ticket.run(self._place)\n        before_send()\n"),
    ("a stopped order keeps its client", _PREPARED, "        ticket.abandon()\n        raise\n", "        raise\n"),
    ("a cancel without an answer is taken as done", _PREPARED, "except HireliabError as error:", "except KeyError as error:"),
    ("amounts go up", _RULES, "amount = money.snap_down(", "amount = money.snap_up("),
    ("the minimum itself is enough", _RULES, "money.multiply(amount, unit) <= rules.min_value", "money.multiply(amount, unit) < rules.min_value"),
    ("a market buy carries the best bid", _RULES, 'levels = book.asks if side == "buy" else book.bids', 'levels = book.bids if side == "buy" else book.asks'),
    ("toman ten times too low passes", _RULES, "    elif money.multiply(number, _LEAST) <= last", "    elif False and money.multiply(number, _LEAST) <= last"),
    ("stop prices are not guarded", _RULES, '(("price", price), ("stop_price", stop_price))', '(("price", price),)'),
    ("an answer about another order is taken", _CLIENT, "if order_id is not None and order.order_id != str(int(order_id)):", "if False:"),
    ("every thread reads", _FRESH, "if key in self._reading:", "if False:"),
]  # fmt: skip
