"""Ctrl-C anywhere in a call, forked children, and threads: an answer is never another request's."""

import os
import random
import signal
import threading

import pytest
import requests

from hireliab.exchange.http_session import Session
from tests.support.http_servers import drips, echo, head, serve
from tests.support.http_sessions import stock
from tests.support.together import handler, in_child, together

pytestmark = pytest.mark.usefixtures("plain_environment")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def ctrl_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


PLACES = {
    "before the answer": b"",
    "in the status line": b"HTTP/1.1 2",
    "in the headers": b"HTTP/1.1 200 OK\r\nContent-Len",
    "in the body": head(headers=[("Content-Length", "8")]) + b"half",
    "in a chunk": head(headers=[("Transfer-Encoding", "chunked")]) + b"8\r\nhalf",
}


@posix
@pytest.mark.parametrize("warm", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("place", PLACES)
def test_after_ctrl_c_the_connection_is_not_used_again(session, place, method, warm):
    """The server's thread interrupts the main thread, which waits for it; the rest of the answer comes too late."""

    def script(peer):
        if warm:
            peer.read()
            peer.reply(body={})
        peer.read()
        peer.send(PLACES[place])
        ctrl_c()
        peer.wait_until_closed()

    with serve(script, echo) as server:
        if warm:
            session.get(f"{server.url}/warm")
        with pytest.raises(KeyboardInterrupt):
            session.request(method, f"{server.url}/interrupted", json={})
        answer = session.get(f"{server.url}/next").json()
        assert (answer["target"], answer["connection"]) == ("/next", 1)
        assert server.targets.count("/interrupted") == 1


@posix
def test_ctrl_c_while_iterating_over_a_stream_leaves_the_session_usable(session):
    def script(peer):
        peer.read()
        peer.send(head(headers=[("Content-Length", "8")]) + b"half")
        ctrl_c()
        peer.wait_until_closed()

    with serve(script, echo) as server:
        with pytest.raises(KeyboardInterrupt):
            with session.get(f"{server.url}/1", stream=True) as response:
                list(response.iter_content(1))
        assert session.get(f"{server.url}/2").json()["target"] == "/2"


# A socket on its way into an object, or out of one, is closed by the collector.
@stock
@posix
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ctrl_c_at_any_moment_never_lets_an_answer_reach_another_request(method):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    interrupts = 0

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler(interrupt))
    try:
        with serve(echo) as server, Session() as session:
            for i in range(400):
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 1.5e-3))
                    for j in range(5):
                        answer = session.request(method, f"{server.url}/{i}/{j}").json()
                        assert answer["target"] == f"/{i}/{j}"
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupts += 1
                assert session.request(method, f"{server.url}/after/{i}").json()["target"] == f"/after/{i}"
            if method == "POST":
                assert len(set(server.targets)) == len(server.targets), "a POST was sent twice"
            assert interrupts > 20
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@posix
def test_ctrl_c_is_neither_swallowed_nor_made_something_else(session):
    def script(peer):
        peer.read()
        ctrl_c()
        peer.wait_until_closed()

    with serve(script) as server:
        with pytest.raises(KeyboardInterrupt) as caught:
            session.get(server.url)
        assert type(caught.value) is KeyboardInterrupt


# -- fork --------------------------------------------------------------------------------------------------------------


@posix
def test_a_child_opens_its_own_connection_and_leaves_the_parents_alone(session):
    with serve(echo) as server:
        assert session.get(f"{server.url}/parent").json()["connection"] == 0
        in_child(lambda: session.get(f"{server.url}/child").json()["connection"] == 1)
        in_child(lambda: session.close() or session.post(f"{server.url}/child").json()["connection"] == 2)
        in_child(lambda: Session().get(f"{server.url}/child").json()["connection"] == 3)
        assert session.get(f"{server.url}/parent").json()["connection"] == 0


@posix
def test_a_child_that_closes_says_no_goodbye_on_the_parents_tls_connection(session, certificates):
    with serve(echo, tls=certificates.server_context()) as server:
        session.verify = certificates.ca
        assert session.get(f"{server.url}/parent").json()["connection"] == 0

        def check():
            session.close()
            return session.get(f"{server.url}/child").json()["connection"] == 1

        in_child(check)
        assert session.get(f"{server.url}/parent").json()["connection"] == 0


@posix
def test_children_forked_in_the_middle_of_other_threads_calls_can_make_calls(session):
    with serve(echo) as server:
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                assert session.get(f"{server.url}/busy").json()["target"] == "/busy"

        threads = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for i in range(10):
                in_child(lambda i=i: session.get(f"{server.url}/child/{i}").json()["target"] == f"/child/{i}")
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)


# -- threads -------------------------------------------------------------------------------------------------------------


def test_threads_that_share_a_session_get_their_own_answers(session):
    def run(i):
        for j in range(50):
            method = ("GET", "POST")[j % 2]
            answer = session.request(method, f"{server.url}/{i}/{j}", json={"i": i}, headers={"X-I": str(i)}).json()
            assert (answer["method"], answer["target"], answer["body"]) == (method, f"/{i}/{j}", f'{{"i": {i}}}')
            assert ["X-I", str(i)] in answer["headers"]
        return i

    with serve(echo) as server:
        assert together(12, run) == list(range(12))


@stock
def test_one_threads_deadline_is_not_anothers(session):
    """Thread 0 waits for an answer that drips, with a short limit; the others go on, on the same session."""

    def run(i):
        if i == 0:
            with pytest.raises(requests.Timeout):
                session.get(slow.url, total_timeout=0.2)
        else:
            for _ in range(30):
                assert session.get(server.url).status_code == 200
        return i

    with serve(echo) as server, serve(drips(slowly=head() + b"x" * 100)) as slow:
        assert together(4, run) == list(range(4))


@stock
def test_a_session_closed_while_other_threads_call_breaks_nobodys_answer(session):
    def run(i):
        for j in range(30):
            if i == 0:
                session.close()
            else:
                try:
                    assert session.get(f"{server.url}/{i}/{j}").json()["target"] == f"/{i}/{j}"
                except requests.ConnectionError:
                    pass
        return i

    with serve(echo) as server:
        assert together(6, run) == list(range(6))
        assert session.get(f"{server.url}/after").json()["target"] == "/after"
