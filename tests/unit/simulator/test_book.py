from decimal import Decimal

from hireliab.simulator.book import Book, Resting

D = Decimal


def filled(taken):
    return [(entry.order_id, part) for entry, part in taken]


def test_better_prices_are_taken_first_and_older_entries_within_a_price():
    book = Book()
    for order_id, price in ((1, 101), (2, 100), (3, 100)):
        book.rest(Resting("sell", D(price), D(5), order_id))
    assert filled(book.take("buy", D(12), D(101))) == [(2, 5), (3, 5), (1, 2)]
    assert book.levels("sell", 5) == [(101, 3)]


def test_nothing_beyond_the_limit_is_taken():
    book = Book()
    book.rest(Resting("buy", D(100), D(5), 1))
    book.rest(Resting("buy", D(99), D(5), 2))
    assert filled(book.take("sell", D(20), D(100))) == [(1, 5)]
    assert book.best("buy") == 99


def test_levels_sum_up_and_are_best_first():
    book = Book()
    for price in (98, 100, 99, 100):
        book.rest(Resting("buy", D(price), D(1)))
    assert book.levels("buy", 2) == [(100, 2), (99, 1)]
    assert book.best("sell") is None


def test_a_removed_entry_is_gone():
    book = Book()
    entry = Resting("sell", D(100), D(1), 1)
    book.rest(entry)
    book.remove(entry)
    assert book.take("buy", D(1), D(200)) == []
