"""
A small imitation of Kraken on loopback, for ccxt: three public and two private endpoints.

It does what the recipe must stand up to: it refuses a nonce that does not exceed the highest one it saw (less the
key's nonce window), counts what arrives, and can keep an answer to itself or hold a request on its way.
"""

import base64
import hashlib
import hmac

from tests.support.venue import LOST, Venue

KEY = "a key"
SECRET = base64.b64encode(b"a secret").decode()

ASSETS = {
    "XXBT": {"aclass": "currency", "altname": "XBT", "decimals": 10, "display_decimals": 5, "status": "enabled"},
    "ZUSD": {"aclass": "currency", "altname": "USD", "decimals": 4, "display_decimals": 2, "status": "enabled"},
}
PAIRS = {
    "XXBTZUSD": {
        "altname": "XBTUSD", "wsname": "XBT/USD", "aclass_base": "currency", "base": "XXBT", "aclass_quote": "currency",
        "quote": "ZUSD", "pair_decimals": 1, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [],
        "leverage_sell": [], "fees": [[0, 0.26]], "fees_maker": [[0, 0.16]], "ordermin": "0.0001", "status": "online",
    },
}  # fmt: skip
TICKER = {
    "a": ["50010.0", "1", "1.0"], "b": ["49990.0", "1", "1.0"], "c": ["50000.0", "0.1"], "v": ["1.0", "2.0"],
    "p": ["50000.0", "50000.0"], "t": [1, 2], "l": ["49000.0", "49000.0"], "h": ["51000.0", "51000.0"], "o": "50000.0",
}  # fmt: skip
FUNDS = 1.0  # BTC; an order for more is refused


class Kraken(Venue):
    """
    The server; a context manager.

    Attributes:
        nonces: Every nonce that was accepted.
        orders: Every order that was placed.
        window: Of the nonces: how far below the highest one may still be, if it is new.
        lose: Paths whose next answer is lost: the request is carried out and the connection closed.
        hold: Path to two Events: the next request sets the first, and waits for the second before its nonce is read.
    """

    def __init__(self):
        super().__init__()
        self.nonces = []
        self.orders = []
        self.window = 0
        self.lose = []
        self.hold = {}

    def answer(self, path, fields, request):
        with self.lock:
            held = self.hold.pop(path, None)
        if held is not None:
            under_way, arrives = held
            under_way.set()
            arrives.wait(10)
        with self.lock:
            said = self._private_locked(path, fields, request) if "/private/" in path else self._public(path)
            if path in self.lose:
                self.lose.remove(path)
                return LOST
            return said

    def _public(self, path):
        result = {"/0/public/Assets": ASSETS, "/0/public/AssetPairs": PAIRS, "/0/public/Ticker": {"XXBTZUSD": TICKER}}
        return {"error": [], "result": result[path]}

    def _private_locked(self, path, fields, request):
        signed = path.encode() + hashlib.sha256(fields["nonce"].encode() + request.body).digest()
        expected = base64.b64encode(hmac.new(base64.b64decode(SECRET), signed, hashlib.sha512).digest()).decode()
        if request.header("API-Key") != KEY or request.header("API-Sign") != expected:
            return {"error": ["EAPI:Invalid key"]}
        nonce = int(fields["nonce"])
        if nonce in self.nonces or nonce <= max(self.nonces, default=0) - self.window:
            return {"error": ["EAPI:Invalid nonce"]}
        self.nonces.append(nonce)
        if path == "/0/private/BalanceEx":
            return {"error": [], "result": {"XXBT": {"balance": str(FUNDS), "hold_trade": "0"}}}
        if float(fields["volume"]) > FUNDS:
            return {"error": ["EOrder:Insufficient funds"]}
        self.orders.append(fields)
        described = f"{fields['type']} {fields['volume']} XBTUSD @ limit {fields['price']}"
        return {"error": [], "result": {"descr": {"order": described}, "txid": [f"O{len(self.orders)}"]}}
