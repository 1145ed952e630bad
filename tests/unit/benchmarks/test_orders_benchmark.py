"""The audit of the books: every kind of mistake is counted as what it is."""

from decimal import Decimal

import pytest

from benchmarks import _bots, orders
from benchmarks._bots import NOT_PLACED, PLACED, UNKNOWN, Outcome
from benchmarks.harness import Result, Spread

D = Decimal


def order(number=1, client_id="k-0", **changes):
    return {
        "kind": "order", "account": "bot", "id": number, "client_order_id": client_id, "status": "Done",
        "matched": "0.001",
    } | changes  # fmt: skip


def placed(client_id="k-0", order_id="1", status="Done", filled="0.001"):
    return Outcome(client_order_id=client_id, belief=PLACED, order_id=order_id, status=status, filled=D(filled))


def believed(belief, client_id="k-0"):
    return Outcome(client_order_id=client_id, belief=belief)


def audit(outcomes, records):
    return orders.audit("bot", outcomes, records, account="bot", faults=0)


def mistakes(books):
    names = ("duplicates", "forgotten", "imagined", "wrong_figures", "unresolved")
    return {name: count for name in names if (count := getattr(books, name))}


def test_true_beliefs_are_no_mistakes():
    books = audit([placed(), believed(NOT_PLACED, "k-1")], [order(status="Active", matched="0"), order()])
    assert mistakes(books) == {}
    assert (books.asked, books.at_exchange, books.off_by_btc) == (2, 1, D(0))
    assert not books.is_wrong


def test_a_second_order_for_one_intent_is_a_duplicate_and_moves_the_books():
    books = audit([placed()], [order(), order(2)])
    assert mistakes(books) == {"duplicates": 1}
    assert books.off_by_btc == D("0.001")


def test_an_order_believed_not_placed_is_forgotten():
    books = audit([believed(NOT_PLACED)], [order()])
    assert mistakes(books) == {"forgotten": 1}
    assert books.is_wrong
    assert books.off_by_btc == D("0.001")


def test_an_order_of_which_the_bot_has_no_intent_is_forgotten():
    books = audit([placed()], [order(), order(2, "other")])
    assert mistakes(books) == {"forgotten": 1}
    assert books.off_by_btc == D("0.001")


def test_an_order_that_does_not_exist_is_imagined():
    books = audit([placed()], [])
    assert mistakes(books) == {"imagined": 1}
    assert books.is_wrong


@pytest.mark.parametrize("change", [{"order_id": "2"}, {"status": "Active"}, {"filled": "0.002"}])
def test_other_figures_than_the_exchanges_are_wrong(change):
    books = audit([placed(**change)], [order()])
    assert mistakes(books) == {"wrong_figures": 1}
    assert books.is_wrong


def test_saying_that_it_is_unknown_is_no_wrong_belief():
    books = audit([believed(UNKNOWN)], [order()])
    assert mistakes(books) == {"unresolved": 1}
    assert not books.is_wrong


def test_other_accounts_do_not_matter():
    assert audit([placed()], [order(), order(9, "x", account="user")]).at_exchange == 1


def test_work_counts_as_done_only_when_every_order_is_there_and_known():
    assert orders.undone(audit([placed()], [order()])) == ""
    for outcomes, records in (
        ([placed(), believed(NOT_PLACED, "k-1")], [order()]),
        ([believed(UNKNOWN)], [order()]),
        ([placed()], [order(), order(2)]),
        ([placed(status="Active")], [order()]),
    ):
        assert "truth file shows" in orders.undone(audit(outcomes, records))


def test_the_amounts_of_neighbouring_intents_differ_and_their_keys_are_client_order_ids():
    first, second = orders.intents("bare1", 100), orders.intents("bare1", 100, start=100)
    both = first + second
    assert len({intent.amount for intent in both}) == len({intent.key for intent in both}) == 200
    assert {intent.side for intent in both[:2]} == {"buy", "sell"}
    assert all(intent.key.replace("-", "").isalnum() and len(intent.key) <= 32 for intent in both)


def test_threads_share_the_intents_and_each_is_traded_once():
    class Fake:
        def trade(self, intent):
            return believed(NOT_PLACED, intent.key)

        def counts(self):
            return {"commits": 3.0}

    sample, outcomes = orders.trade_all(Fake(), orders.intents("k", 50), threads=4)
    assert sorted(o.client_order_id for o in outcomes) == sorted(f"k-{i}" for i in range(50))
    assert sample.operations == len(sample.latencies_ns) == 50
    assert sample.extra == {"commits": 0.0}


def test_an_error_of_a_bot_ends_the_benchmark():
    class Broken:
        def trade(self, intent):
            raise KeyError(intent.key)

        def counts(self):
            return {}

    with pytest.raises(KeyError):
        orders.trade_all(Broken(), orders.intents("k", 4), threads=2)


class Answers:
    """A session that plays a list of answers; a callable raises."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []

    def post(self, url, *, json, timeout):
        self.sent.append((url, json))
        assert timeout
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Answer:
    def __init__(self, payload):
        self.payload = payload

    def raise_for_status(self):
        pass

    def json(self):
        if isinstance(self.payload, Exception):
            raise self.payload
        return self.payload


ROW = {"id": 5, "status": "Done", "matchedAmount": "0.001"}
OK = Answer({"status": "ok", "order": ROW})
LOST = _bots.requests.ConnectionError("lost")


def bare(*answers, pro=False):
    bot = _bots.BareBot(base_url="http://x", token="t", pro=pro)
    session = bot._local.session = Answers(*answers)
    return bot.trade(orders.intents("k", 1)[0]), session


def test_the_bare_bot_sends_once_and_reads_once():
    outcome, session = bare(OK, OK)
    assert [url for url, _ in session.sent] == ["http://x/market/orders/add", "http://x/market/orders/status"]
    assert (outcome.belief, outcome.order_id, outcome.filled) == (PLACED, "5", D("0.001"))
    assert "pro" not in session.sent[0][1]


def test_the_bare_bot_sends_again_after_one_exception_and_gives_up_after_two():
    outcome, session = bare(LOST, OK, OK)
    assert outcome.belief == PLACED
    assert session.sent[0] == session.sent[1]
    outcome, session = bare(LOST, Answer(ValueError("truncated")))
    assert outcome.belief == NOT_PLACED
    assert len(session.sent) == 2


def test_the_bare_bot_believes_a_refusal():
    outcome, session = bare(Answer({"status": "failed", "code": "DuplicateOrder"}))
    assert outcome.belief == NOT_PLACED
    assert len(session.sent) == 1


def test_the_bare_bot_keeps_the_first_answer_when_it_cannot_read_the_order():
    outcome, session = bare(OK, LOST, LOST)
    assert (outcome.belief, outcome.status) == (PLACED, "Done")
    assert len(session.sent) == 3


def test_pro_is_sent_when_asked_for():
    _, session = bare(OK, OK, pro=True)
    assert session.sent[0][1]["pro"] == "yes"


def speed_of(name, problem=""):
    return Result(
        name=name, rounds=1, operations=10, rate=Spread(median=50.0, low=40.0, high=60.0), mean=1.0, p50=1.0, p95=1.0, p99=1.0,
        extra={"commits": 2.0, "commit_wait_ns": 1e5}, checked=not problem, problem=problem,
    )  # fmt: skip


def test_a_bot_that_did_not_do_its_work_is_compared_with_nobody():
    lazy = [(1, speed_of("bare")), (1, speed_of("hireliab", "lost an order"))]
    speed = [*lazy, (8, speed_of("bare")), (8, speed_of("hireliab"))]
    assert list(orders._ratios(speed)) == [8]
    text = "\n".join(orders._speed_lines(speed))
    assert "hireliab against bare, 8 threads: 1.00x" in text and "against bare, 1 thread:" not in text
    assert text.count("hireliab NOT COUNTED") == 1
