"""
A Nobitex-speaking exchange in its own process, with faults and a truth file.

Run it with ``python -m hireliab.simulator``, or in-process::

    from hireliab.simulator.server import Simulator

    with Simulator(seed=1, truth="truth.jsonl") as sim:
        ...  # point a bot at sim.base_url with sim.token

General layout, lowest first (a module uses those above it). Nothing here imports any other part
of hireliab, so that a client and this simulator cannot share a mistake.

clock        real time that can be stepped, and a virtual clock for tests
money        Decimal arithmetic in a context of its own; text in, text out
settings     every documented switch, with its default and range
markets      currencies, markets, steps
orders       the order and fill values, and the store that remembers their versions
visibility   how much later a change shows up in each kind of read
ledger       balances with blocked parts
book         price-time order book of one market
house        the house's quotes in a book, and their refill
tape         last price, recent trades, candles and day statistics
placing      order parameters and the checks that come before an order exists
engine       places, matches, triggers and cancels orders
trading_floor  the house's own trades and market moves, as the admin port asks for them
truth        the truth file: format, writer, reader
limits       sliding windows, token ban, count of failed authentications
faults       fault rules and the decision whether a request meets one
auth         user tokens, API keys, Ed25519 signatures
message      HTTP request and reply values, body parsing
render       order, fill and wallet values as the API shows them
state        all of the above in one object for the handlers, and what one call brings along
params       whole numbers, choices, pages and times among request parameters
accounts     /auth and /apikeys
public       market data
private      /users and /v2/wallets
trading      /market/orders and /market/trades/list
routes       which handler, permission and limit belongs to a path
venue        one request from arrival to reply, without sockets
httpd        sockets: listener, connections, cut-off
delivery     what each fault does to the wire
admin        the admin port
server       Simulator: the door
__main__     the command line
"""
