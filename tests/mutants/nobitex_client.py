"""Small breakages of the Nobitex client; a test catches each."""

_WIRE = "hireliab/exchange/_nobitex_wire.py"
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
    "tests/property/test_money_and_wire.py",
]

MUTANTS = [
    (
        "the total limit is not looked at while reading",
        _WIRE,
        "sock.settimeout(min(self.read_timeout, self.left()))\n\n    @property",
        "sock.settimeout(self.read_timeout)\n\n    @property",
    ),
    ("a byte that left is forgotten", _WIRE, "return not self.sent and (self.connecting or self.stopped)", "return self.connecting or self.stopped or not self.answered"),
    ("whatever was not written counts as not sent", _WIRE, "        self.sent = True\n", "        pass\n"),
    ("a failed connection is not recognised", _WIRE, "watch.connecting = watch.connected = True", "watch.connected = True"),
    ("the total limit is not looked at before the first write", _WIRE, "            sock.settimeout(min(self.read_timeout, self.left()))\n        except", "            sock.settimeout(self.read_timeout)\n        except"),
    ("old connections are used for orders", _TRANSPORT, "ORDER_MAX_IDLE = 5.0", "ORDER_MAX_IDLE = 30.0"),
    ("new connections for every order", _TRANSPORT, "ORDER_MAX_IDLE = 5.0", "ORDER_MAX_IDLE = 1.0"),
    ("orders are sent again", _TRANSPORT, "if not read or watch.connected", "if watch.connected"),
    ("reads are sent again on new connections", _TRANSPORT, "watch.connected or watch.answered", "watch.answered"),
    ("bodies of any length are read", _TRANSPORT, "if size > self._max_bytes:", "if size < 0:"),
    ("time-outs are called lost connections", _TRANSPORT, "if watch.timed_out:", "if False:"),
    ("an unlisted code is a refusal", _ERRORS, "listed = CODES.get(code) if code is not None else None", "listed = CODES.get(code, RefusedError) if code is not None else None"),
    ("a server error with a code is a refusal", _ERRORS, "400 <= status < 500):", "400 <= status < 600):"),
    ("a page that is not found is an absent order", _ERRORS, '    code = _code(body)\n', '    code = _code(body) or ("NotFound" if status == 404 else None)\n'),
    ("the shorter of two hints is enough", _ERRORS, "return max(known)", "return min(known)"),
    ("the word ok beats a code", _ERRORS, "if status == 200 and code is None and _is_success(body):", "if status == 200 and _is_success(body):"),
    ("a 401 needs a JSON body", _ERRORS, "if status == 401:", "if status == 401 and body:"),
    ("candles stay in toman", _MARKETS, "scale = _TEN if market.quote", "scale = Decimal(1) if market.quote"),
    ("asks are not sorted", _MARKETS, 'asks=tuple(sorted(_levels(payload.get("asks"), what)))', 'asks=tuple(_levels(payload.get("asks"), what))'),
    ("U+2212 is no minus", _VALUES, '.replace("\\u2212", "-")', ""),
    ("broken fills of an order are zero", _VALUES, 'filled = amount(row.get("matchedAmount")', 'filled = amount(row.get("matchedAmount") or 0'),
    ("NaN is JSON", _VALUES, ", parse_constant=_refuse_constant", ""),
    ("floats come in", _VALUES, "parse_float=Decimal, ", ""),
    ("the signature leaves out the body", _SIGNING, '.encode() + body)', '.encode())'),
    ("the standard alphabet signs", _SIGNING, "base64.urlsafe_b64encode(signature)", "base64.b64encode(signature)"),
    ("any two keys are a pair", _SIGNING, "if secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != public:", "if not public:"),
    ("the query is not signed", _CALLS, "path=prepared.path_url, body", 'path=prepared.path_url.partition("?")[0], body'),
    ("the wire text follows str()", _CALLS, "return money.text(money.positive(number, what=name))", "return str(money.positive(number, what=name))"),
    ("a cancel is a read", _CLIENT, '"POST", "/market/orders/update-status", body=body, changes=True,', '"POST", "/market/orders/update-status", body=body, changes=False,'),
    ("the skew is the other way round", _TRANSPORT, "return date.timestamp() + 0.5 - (self.sent + self.received) / 2", "return (self.sent + self.received) / 2 - date.timestamp()"),
    ("a local mistake is unknown", _TRANSPORT, "if watch.not_sent or (isinstance(error, _LOCAL) and not watch.sent):", "if watch.not_sent:"),
    ("a cached page tells the time", _CALLS, "if skew is not None and (private or self.skew is None):", "if skew is not None:"),
]  # fmt: skip
