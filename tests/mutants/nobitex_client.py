"""Small breakages of the Nobitex client; a test catches each."""

_WIRE = "hireliab/exchange/_http_wire.py"
_SAYS = "hireliab/exchange/_http_errors.py"
_TRANSPORT = "hireliab/exchange/_nobitex_transport.py"
_ERRORS = "hireliab/exchange/_nobitex_errors.py"
_VALUES = "hireliab/exchange/_nobitex_values.py"
_MARKETS = "hireliab/exchange/_nobitex_markets.py"
_CALLS = "hireliab/exchange/_nobitex_calls.py"
_SIGNING = "hireliab/exchange/_nobitex_signing.py"
_CLIENT = "hireliab/exchange/nobitex_client.py"

TESTS = [
    "tests/unit/exchange/test_nobitex_signing.py",
    "tests/unit/exchange/test_nobitex_errors.py",
    "tests/unit/exchange/test_nobitex_values.py",
    "tests/integration/test_nobitex_client.py",
    "tests/integration/test_nobitex_transport.py",
    "tests/property/test_money_and_wire.py",
]

MUTANTS = [
    ("the total limit is not looked at while reading", _WIRE, "set_timeout(self._sock, watch.patience())", "self._sock.settimeout(watch.read_timeout)"),
    ("a byte that left is forgotten", _SAYS, "    if not watch.sent:\n", "    if not watch.answered:\n"),
    ("whatever was not written counts as not sent", _WIRE, "            raise\n        self.sent = True\n", "            raise\n"),
    ("a failed connection is not recognised", _TRANSPORT, "if isinstance(error, ConnectError) or (", "if ("),
    ("the total limit is not looked at before the first write", _WIRE, "            set_timeout(sock, self.patience())\n        except", "            sock.settimeout(self.read_timeout)\n        except"),
    ("old connections are used for orders", _TRANSPORT, "ORDER_MAX_IDLE = 5.0", "ORDER_MAX_IDLE = 30.0"),
    ("new connections for every order", _TRANSPORT, "ORDER_MAX_IDLE = 5.0", "ORDER_MAX_IDLE = 1.0"),
    ("orders are sent again", _TRANSPORT, "if not read or not watch.stale:", "if not watch.stale:"),
    ("reads are sent again on new connections", _TRANSPORT, "if not read or not watch.stale:", "if not read or watch.answered:"),
    ("bodies of any length are read", _TRANSPORT, "limit=self._max_bytes,", "limit=None,"),
    ("time-outs are called lost connections", _TRANSPORT, "if isinstance(error, ResponseTimeoutError):", "if False:"),
    ("an unlisted code is a refusal", _ERRORS, "listed = CODES.get(code) if code is not None else None", "listed = CODES.get(code, RefusedError) if code is not None else None"),
    ("a server error with a code is a refusal", _ERRORS, "400 <= status < 500):", "400 <= status < 600):"),
    ("a page that is not found is an absent order", _ERRORS, '    code = _code(body)\n', '    code = _code(body) or ("NotFound" if status == 404 else None)\n'),
    ("the shorter of two hints is enough", _ERRORS, "return max(known)", "return min(known)"),
    ("the word ok beats a code", _ERRORS, "if status == 200 and code is None and _is_success(body):", "if status == 200 and _is_success(body):"),
    ("a 401 needs a JSON body", _ERRORS, "if status == 401 and (body is not None or not changes):", "if status == 401 and body:"),
    ("a proxy's 401 says that an order was refused", _ERRORS, "if status == 401 and (body is not None or not changes):", "if status == 401:"),
    ("candles stay in toman", _MARKETS, "scale = _TEN if market.quote", "scale = Decimal(1) if market.quote"),
    ("asks are not sorted", _MARKETS, 'asks=tuple(sorted(_levels(payload.get("asks"), what)))', 'asks=tuple(_levels(payload.get("asks"), what))'),
    ("U+2212 is no minus", _VALUES, '.replace("\\u2212", "-")', ""),
    ("broken fills of an order are zero", _VALUES, 'filled = amount(row.get("matchedAmount")', 'filled = amount(row.get("matchedAmount") or 0'),
    ("NaN is JSON", _VALUES, ", parse_constant=_refuse_constant", ""),
    ("floats come in", _VALUES, "parse_float=Decimal, ", ""),
    ("the signature leaves out the body", _SIGNING, '.encode() + body)', '.encode())'),
    ("the standard alphabet signs", _SIGNING, "base64.urlsafe_b64encode(signature)", "base64.b64encode(signature)"),
    ("any two keys are a pair", _SIGNING, "if secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != public:", "if not public:"),
    ("the query is not signed", _CALLS, "path=target, body", 'path=target.partition("?")[0], body'),
    ("the wire text follows str()", _CALLS, "return money.text(money.positive(number, what=name))", "return str(money.positive(number, what=name))"),
    ("a cancel is a read", _CLIENT, '"POST", "/market/orders/update-status", body=body, changes=True,', '"POST", "/market/orders/update-status", body=body, changes=False,'),
    ("the skew is the other way round", _TRANSPORT, "date + 0.5 - (self.sent + self.received) / 2", "(self.sent + self.received) / 2 - date"),
    ("a local mistake is unknown", _TRANSPORT, "if isinstance(error, ConnectError) or (isinstance(error, _LOCAL) and not watch.sent):", "if isinstance(error, ConnectError):"),
    ("a cached page tells the time", _CALLS, "if skew is not None and (who is not None or self.skew is None):", "if skew is not None:"),
    ("what is signed is not what requests makes of it", _CALLS, "url, target = address(base + path)", "url, target = address(base + path)[0], urllib.parse.urlsplit(base + path).path"),
    ("netrc logs in", _TRANSPORT, "trust_env=False", "trust_env=True"),
    ("cookies of the venue are kept", _TRANSPORT, "DefaultCookiePolicy(allowed_domains=[])", "DefaultCookiePolicy()"),
    ("an order has no middle at which to die", _TRANSPORT, "            super().write(sock, head + end)\n            data = body\n", "            pass\n"),
]  # fmt: skip
