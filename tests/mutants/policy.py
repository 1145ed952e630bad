"""Breakages of the policy that its tests must notice: (name, file, text that occurs once, replacement)."""

_FILE = "hireliab/core/policy.py"

_CONFIG = "hireliab/core/config.py"
_MONEY = "hireliab/core/money.py"

TESTS = ["tests/unit/core/test_policy.py", "tests/unit/core/test_config.py", "tests/unit/core/test_money.py"]

MUTANTS = [
    ("a breaker's value that cannot be shown is no setting's error", "hireliab/core/_breaker_settings.py", "got {config.shown(value)}", "got {value!r}"),
    ("a policy's value that cannot be shown is no setting's error", _FILE, "got {config.shown(value)}", "got {value!r:.80}"),
    ("a number beyond every float is no setting's error", _CONFIG, "    except OverflowError:", "    except ZeroDivisionError:"),
    ("a value that cannot be shown is no setting's error", _CONFIG, "        return repr(value)[:most]\n    except Exception:", "        return repr(value)[:most]\n    except ZeroDivisionError:"),
    ("an amount that cannot be shown is no order's error", _MONEY, "config.shown(value, 60)", "value!r:.60"),
    ("a float of another class is no number", _MONEY, "float.__repr__(value)", "repr(value)"),
    ("no look at the breaker", _FILE, "            self._breaker.peek()\n", "            pass\n"),
    ("no admission by the breaker", _FILE, "permit = None if breaker is None else breaker.acquire()", "permit = None"),
    ("no breaker where nothing waits", _FILE, "if self._breaker is None else self._breaker._call(func, args, kwargs)", ""),
    ("the breaker does not see how it ends", _FILE, "            return breaker._call_with(permit, func, args, kwargs)\n", "            return func(*args, **kwargs)\n"),
    ("a waiting policy does not look first", _FILE, "self._attempt = self._after_waits if self._waits else self._at_once", "self._attempt = self._at_once"),
    ("a place is not given back", _FILE, "            self._bulkhead._give()\n", "            pass\n"),
    ("the bulkhead is left out", _FILE, "        if self._bulkhead is None:\n", "        if True:\n"),
    ("the limiter is left out", _FILE, "        if limiter is None:\n            return self._at_once", "        if True:\n            return self._at_once"),
    ("every attempt weighs one", _FILE, "limiter.acquire(self._weight, timeout=bounded", "limiter.acquire(1, timeout=bounded"),
    ("the lane is forgotten", _FILE, "timeout=bounded(self._max_wait), lane=self._lane", "timeout=bounded(self._max_wait)"),
    ("the limiter's wait ignores the deadline", _FILE, "timeout=bounded(self._max_wait)", "timeout=self._max_wait"),
    ("a call starts after the deadline", _FILE, "        check(self._what)\n        return", "        return"),
    ("a paid call starts after the deadline", _FILE, "            check(self._what)\n            permit", "            permit"),
    ("a permit is not given back", _FILE, "            limiter.give_back(token)\n            raise\n", "            raise\n"),
    ("the other threads do not pause", _FILE, "                limiter.penalize(min(asked, _LONGEST_PAUSE))\n", "                pass\n"),
    ("the deadline is left out", _FILE, "        if self._deadline is None:\n            return", "        if True:\n            return"),
    ("the fallback hides definite answers", _FILE, "        except self._fallback_on as error:\n", "        except BaseException as error:\n"),
    ("an order may fall back", _FILE, "        if not self.idempotent:\n", "        if False:\n"),
    ("an order may be retried blindly", _FILE, "if retry is not None and retry.idempotent and not self.idempotent:", "if False:"),
    ("a part of another kind is taken", _FILE, "if part is not None and not isinstance(part, kind):", "if False:"),
    ("an impossible weight is found at the first call", _FILE, "            _try_weight(limiter, self._weight, self._lane)\n", "            pass\n"),
    ("building takes a permit", _FILE, "        limiter.give_back(limiter.acquire(weight, timeout=0.0, lane=lane))\n", "        limiter.acquire(weight, timeout=0.0, lane=lane)\n"),
    ("reliable repeats orders", _FILE, "            on=READ_ERRORS if on is None and idempotent else on,\n            idempotent=idempotent,\n", "            on=READ_ERRORS if on is None else on,\n            idempotent=True,\n"),
    ("reliable does not repeat reads", _FILE, "            on=READ_ERRORS if on is None and idempotent else on,\n            idempotent=idempotent,\n", "            on=on,\n            idempotent=False,\n"),
    ("orders have a deadline", _FILE, "deadline = 30.0 if idempotent else None", "deadline = 30.0"),
    ("a given breaker is ignored", _FILE, "    if breaker is _PRESET:\n", "    if True:\n"),
    ("attempts beside a given retry go unnoticed", _FILE, "    elif on is not None or attempts != 3:\n", "    elif False:\n"),
]  # fmt: skip
