"""
The thirty adversarial cases of the design (transactions.md section 5): where each is proven, and those that were missing.

CASES is the table; the last tests of this file check that it is complete and that every test it names exists.
"""

import dataclasses
import math
import os
import re
import shutil
import signal
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from hireliab import testing
from hireliab.errors import (
    AuthenticationError,
    ConnectError,
    InvalidOrderError,
    MalformedResponseError,
    OrderRejectedError,
    OutcomeUnknownError,
    ResponseLostError,
    ResponseTimeoutError,
    ThrottledError,
    TransactionDeniedError,
)
from hireliab.exchange._conclusion import conclude
from hireliab.exchange._ledger import prefix_of
from hireliab.exchange.adapter import Absent, Account, FillListing, OrderState, OrderStatus
from hireliab.exchange.transaction import Proof, State, Verdict, new_id
from tests.support.pipeline import decide, finish, limit, market
from tests.support.together import Background, together

HERE = "unit/exchange/test_thirty_cases.py"
WIRE = "integration/test_thirty_cases.py"
ATTACKS = "unit/exchange/test_pipeline_attacks.py"
ATTACKS_HTTP = "integration/test_pipeline_attacks_http.py"
RULES = "unit/exchange/test_commit_rule.py"
DECISION = "unit/exchange/test_decision.py"
PRETRADE = "unit/exchange/test_pretrade.py"
VERDICTS = "unit/exchange/test_pipeline_verdicts.py"
RECOVERY = "unit/exchange/test_recovery.py"
ADAPTER = "unit/exchange/test_enhanced_nobitex_adapter.py"
CLIENT = "integration/test_nobitex_client.py"
CRASH = "crash/test_crash.py"
DISK = "integration/test_journal_disk.py"
SQLITE = "unit/core/test_sqlite.py"
OUTBOX = "unit/messaging/test_outbox.py"
EVENTS = "unit/exchange/test_pipeline_events.py"

# Case -> (what it is about, {file: tests without "test_"}, what is left out and why).
CASES = {
    1: (
        "answer lost, filled at once, look-ups by client id blind",
        {HERE: ["a_lost_answer_is_found_among_the_closed_orders_where_neither_id_nor_book_shows_it"]},
        "",
    ),
    2: ("the same, closed list 40 s late, trades 20 s", {HERE: ["listings_that_lag_keep_it_undecided_until_they_show_it"]}, ""),
    3: ("arrives 45 s after the time-out", {HERE: ["a_request_that_arrives_after_45_s_is_found_and_not_repeated"]}, ""),
    4: (
        "the same beyond the venue's own expiry",
        {HERE: ["where_the_venue_refuses_late_requests_absence_after_the_fence_is_final"],
         "integration/test_simulator_http.py": ["a_late_signed_request_is_stale_unless_it_was_checked_on_arrival"]},
        "recvWindow of Binance: another venue. Nobitex's own expiry is not documented as a promise, so its proof stays ABSENT",
    ),
    5: (
        "arrives 10 min later",
        {HERE: ["an_order_that_arrives_after_ten_minutes_is_told_and_its_equal_is_named",
                "the_alert_of_a_resurrection_names_both_although_the_clock_stepped_back"],
         DECISION: ["an_order_that_appears_after_it_was_presumed_absent_is_told_with_its_equal"],
         ATTACKS: ["a_likeness_that_appears_after_absence_is_told_to_a_person"]},
        "",
    ),
    6: (
        "DNS dies for 10 min after the accept",
        {HERE: ["ten_minutes_without_names_are_no_negative_answer"],
         ADAPTER: ["no_error_is_ever_an_absent_order"], CLIENT: ["a_name_that_does_not_resolve_is_not_sent"]},
        "",
    ),
    7: ("502 pages, executed and not", {WIRE: ["the_same_502_page_for_an_order_that_is_live_and_one_that_is_not"]}, ""),
    8: (
        "error with a success body, success with an error body",
        {HERE: ["an_acknowledgement_of_an_order_that_does_not_exist_is_never_true"],
         ATTACKS: ["an_acknowledgement_that_names_another_client_order_id_is_no_acknowledgement"],
         VERDICTS: ["any_exception_while_sending_is_ambiguous"],
         ADAPTER: ["an_answer_without_an_id_is_unknown"],
         "unit/exchange/test_nobitex_errors.py": ["a_code_beats_the_word_ok", "a_success_under_another_status_is_unknown"]},
        "",
    ),
    9: (
        "time-out, then the bot asks again with the same key and has no money left",
        {HERE: ["a_second_ask_with_the_same_key_joins_the_first_that_is_not_decided"],
         WIRE: ["a_bot_that_asks_again_with_its_key_pays_once"],
         VERDICTS: ["no_money_after_a_throttled_attempt_is_looked_into"]},
        "",
    ),
    10: (
        "kill at every label",
        {CRASH: ["a_bot_that_is_killed_again_and_again_keeps_its_books_equal_to_the_exchanges",
                 "the_bot_died_at_every_label_in_each_profile"],
         ATTACKS: ["every_prefix_of_the_journal_leads_to_the_truth_without_another_send"]},
        "L25 and L28 belong to archive and lease, which are not built",
    ),
    11: (
        "two processes recover one folder",
        {WIRE: ["of_two_processes_that_recover_at_once_one_claims_and_none_sends"],
         RECOVERY: ["a_second_pipeline_on_the_journal_is_refused"]},
        "",
    ),
    12: ("SIGSTOP for two leases", {}, "leases are of several machines (PostgreSQL), which the issue leaves out"),
    13: (
        "fork in the middle of trading",
        {WIRE: ["a_forked_child_that_outlives_its_parent_does_not_keep_the_journal",
                "a_forked_child_that_ends_first_does_not_give_the_journal_away"],
         ATTACKS_HTTP: ["the_journals_lock_dies_with_its_owner_although_a_forked_child_lives",
                        "a_handle_that_a_forked_child_inherits_does_not_wait_for_ever"],
         "integration/test_interrupt.py": ["a_forked_child_is_refused_and_the_parent_goes_on"]},
        "",
    ),
    14: (
        "Ctrl-C in the caller during the send",
        {HERE: ["ctrl_c_during_the_send_reaches_the_caller_and_the_order_is_decided_in_the_background"],
         "integration/test_interrupt.py": [
             "ctrl_c_while_an_order_is_in_flight_ends_in_bounded_time_and_the_next_start_finds_it"],
         ATTACKS: ["an_interrupt_right_after_a_transaction_was_begun_leaves_no_one_waiting",
                   "an_interrupt_before_the_thread_starts_leaks_no_place"]},
        "",
    ),
    15: (
        "EIO at the intent, at the verdict",
        {ATTACKS: ["a_disk_that_fails_at_the_intent_sends_nothing",
                   "a_disk_that_fails_at_the_verdict_is_told_and_a_restart_finds_the_same"],
         DISK: ["a_failed_sync_poisons_for_good_and_what_was_durable_is_there"]},
        "",
    ),
    16: (
        "disk full",
        {ATTACKS: ["a_full_disk_at_the_intent_sends_nothing"],
         DISK: ["verdicts_still_fit_on_a_full_disk_while_nothing_new_is_sent",
                "an_intent_that_meets_the_full_disk_itself_is_not_written",
                "a_disk_with_space_again_takes_new_intents_and_keeps_room_again"],
         OUTBOX: ["too_many_events_cost_the_oldest_and_are_told_and_counted"]},
        "events are rows of the journal's commits",
    ),
    17: (
        "last frame torn",
        {ATTACKS: ["a_torn_last_frame_loses_only_the_last_record"],
         DISK: ["a_log_that_was_cut_or_corrupted_anywhere_opens_with_its_prefix"],
         SQLITE: ["a_torn_write_ahead_log_opens_with_its_prefix"],
         "crash/test_power_loss.py": ["whatever_write_the_power_cuts_every_acknowledged_barrier_is_there"]},
        "",
    ),
    18: (
        "journal restored from a back-up",
        {HERE: ["a_journal_from_a_back_up_tells_of_the_orders_since_and_adopts_them_on_a_word"],
         DECISION: ["a_restored_journal_finds_the_orders_that_it_does_not_know",
                    "a_lost_journal_finds_what_still_rests_in_the_book", "an_orphan_is_told_once_also_after_a_restart"]},
        "adoption waits for the operator's word",
    ),
    19: (
        "answers of one byte a second",
        {WIRE: ["sixty_four_answers_that_drip_free_their_threads_and_stop_nobody_else"],
         CLIENT: ["an_answer_that_drips_ends_at_the_total_limit"]},
        "",
    ),
    20: (
        "429 storm with unresolved orders",
        {HERE: ["a_storm_of_429_is_no_negative_sends_nothing_and_ends_in_one_listing",
                "an_outage_while_an_absent_order_is_watched_is_no_storm"],
         CRASH: ["under_the_real_limits_fifty_unknowns_are_decided_without_one_request_too_many"],
         ADAPTER: ["half_of_the_listings_is_reserved_for_look_ups",
                   "a_throttled_endpoint_is_left_alone_for_as_long_as_the_venue_asks"]},
        "418 is Binance's; Nobitex bans with 429 and backOff",
    ),
    21: (
        "key revoked in flight",
        {HERE: ["a_key_that_is_revoked_in_flight_makes_it_unknown_and_never_failed"],
         WIRE: ["orders_of_a_revoked_key_are_unknown_until_a_good_key_looks"],
         ADAPTER: ["ten_unknown_orders_under_a_401_make_at_most_35_calls_in_30_minutes"]},
        "",
    ),
    22: (
        "clock steps and suspends",
        {HERE: ["a_clock_that_steps_between_send_and_recovery_changes_no_verdict",
                "a_restart_keeps_the_deadline_of_the_venues_clock_when_ours_steps", "a_machine_that_sleeps_during_the_send",
                "a_clock_that_jumps_ahead_does_not_end_the_afterwatch"],
         ATTACKS: ["a_wall_clock_step_between_send_and_answer_changes_no_verdict"],
         RECOVERY: ["a_wall_clock_that_stepped_back_does_not_disturb_recovery"]},
        "",
    ),
    23: (
        "a proxy delivers the first request twice",
        {WIRE: ["an_order_that_a_proxy_delivered_twice_is_one_order_and_true"],
         VERDICTS: ["a_duplicate_answer_to_an_order_that_a_proxy_delivered_twice_is_true"],
         ATTACKS: ["a_duplicate_answer_that_nothing_explains_is_not_a_rejection"],
         ATTACKS_HTTP: ["an_order_that_a_proxy_delivered_twice_is_not_rejected_while_the_listings_lag"]},
        "",
    ),
    24: ("somebody else's order has our client id", {ATTACKS: ["a_foreign_order_with_our_client_id_is_left_alone"]}, ""),
    25: (
        "two equal orders where ids are hidden",
        {HERE: ["of_equal_orders_where_ids_are_hidden_none_is_bound_to_anothers"],
         PRETRADE: ["equal_orders_go_one_after_the_other_where_the_exchange_hides_client_ids"],
         ATTACKS: ["two_equal_lost_orders_with_null_client_ids_are_never_bound",
                   "an_equal_order_of_a_person_is_a_candidate_and_never_bound",
                   "swapped_answers_of_two_equal_orders_bind_neither_to_the_others"]},
        "a venue without any client id is another venue; Nobitex's null-client-id profile stands for it",
    ),
    26: (
        "cancel lost, order filled",
        {RULES: ["a_fill_at_the_same_instant_as_the_timeout_is_a_late_fill",
                 "a_cancel_that_was_executed_without_an_answer_is_not_called_failed",
                 "what_was_filled_before_the_cancel_is_kept_and_told"],
         ATTACKS: ["a_cancel_whose_answer_is_lost_while_the_order_fills_says_so",
                   "a_cancel_that_closes_a_partly_filled_order_conserves_its_fills"]},
        "compensation is left out by the issue",
    ),
    27: (
        "races at the end",
        {HERE: ["a_fill_and_the_timeout_in_the_same_instant_decide_once", "a_cancel_and_a_persons_word_at_once_decide_once"],
         RULES: ["a_fill_at_the_same_instant_as_the_timeout_is_a_late_fill"],
         DECISION: ["of_two_people_who_decide_at_once_one_wins"], ATTACKS: ["sixteen_cancels_at_once_agree"]},
        "",
    ),
    28: ("saga of two legs", {}, "sagas are left out by the issue"),
    29: (
        "outbox and broker",
        {OUTBOX: ["three_connections_that_drop_before_the_confirm_are_four_deliveries_of_one_id",
                  "an_event_that_no_queue_wants_stays_unpublished_and_holds_up_nothing",
                  "an_hour_without_a_broker_keeps_every_event_and_their_order"],
         EVENTS: ["a_bus_that_is_down_costs_no_order_and_the_next_start_publishes",
                  "late_events_are_an_alert_and_trading_goes_on"]},
        "",
    ),
    30: (
        "hostile values",
        {HERE: ["an_error_of_ten_megabytes_is_cut_wherever_it_goes", "a_venue_order_id_that_is_none_binds_nothing",
                "a_transaction_id_holds_every_random_bit_it_was_given",
                "transaction_ids_sort_by_time_and_never_meet_over_steps_back_and_restarts",
                "client_order_ids_have_one_length_and_alphabet_whatever_the_account",
                "hostile_idempotency_keys_are_text_or_refused"],
         ATTACKS: ["hostile_values_are_refused_by_name_and_write_nothing", "a_quoted_symbol_is_only_text",
                   "a_float_sum_means_the_decimal_that_it_prints_as", "an_error_text_of_ten_megabytes_is_cut",
                   "an_absurd_id_in_an_acknowledgement_does_not_blind_later_look_ups",
                   "client_order_ids_are_all_different_also_when_the_clock_steps_back"],
         VERDICTS: ["a_bad_amount_names_the_field"],
         "integration/test_bad_input.py": ["a_number_that_is_none_is_an_invalid_order_that_names_the_field"],
         CLIENT: ["a_body_longer_than_the_limit_is_not_read_to_its_end"]},
        "",
    ),
}  # fmt: skip

BAD_INPUT = {
    "a journal folder that cannot be written": {
        WIRE: ["a_journal_that_cannot_be_written_is_a_journal_error_and_nothing_is_sent"],
        DISK: ["a_folder_that_cannot_be_written_is_refused_by_name"],
    },
    "a network file system": {
        SQLITE: ["a_network_file_system_is_refused_by_its_name"], DISK: ["a_network_file_system_is_refused"],
    },
    "a full disk at start": {
        DISK: ["a_new_journal_on_a_full_disk_is_refused_with_what_is_free_and_needed",
               "a_full_disk_at_start_is_opened_to_recover_and_sends_nothing_new",
               "a_full_disk_without_ballast_and_with_nothing_to_recover_is_refused"],
    },
    "a clock that jumps": {HERE: CASES[22][1][HERE]},
    "a damaged or foreign file": {
        SQLITE: ["a_damaged_file_is_refused_and_untouched", "another_programs_file_is_refused_and_untouched"],
        DISK: ["a_damaged_journal_is_refused_and_can_be_read_by_hand"],
        "integration/test_bad_input.py": ["a_journal_that_is_not_ours_is_refused"],
    },
    "hostile values": {HERE: CASES[30][1][HERE]},
}  # fmt: skip


def told(result):
    """What execute_transaction would do: a bool, or the class of what it raises."""
    try:
        return bool(result)
    except Exception as error:
        return type(error)


def truth(exchange):
    """Amounts filled at the exchange, by client order id."""
    return {order.client_order_id: order.filled for order in exchange.orders.values()}


def pass_time(clock, seconds):
    end = clock.monotonic() + seconds
    clock.advance_until(lambda: clock.monotonic() >= end, limit=seconds + 4000.0)


def reads(exchange):
    return [name for name, _ in exchange.calls if name.startswith(("find", "list"))]


class VenueClock:
    """The exchange's own clock: it goes on while ours is stepped."""

    def __init__(self, clock):
        self.monotonic = clock.monotonic
        self._ahead = clock.time() - clock.monotonic()

    def time(self):
        return self.monotonic() + self._ahead


class Held:
    """A proxy that keeps the order, and lets the client wait in vain."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.orders = []

    def __call__(self, order):
        self.orders.append(order)
        raise ResponseTimeoutError("order: no answer")

    def deliver(self, action="fill"):
        return [self.exchange._accept(order, action) for order in self.orders]


# -- answers that are lost, late or wrong (1 to 9) --------------------------------------------------------------------


def test_a_lost_answer_is_found_among_the_closed_orders_where_neither_id_nor_book_shows_it(clock, exchange, pipeline):
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    result = finish(clock, pipeline, transaction)
    assert isinstance(exchange.find_by_client_id(transaction.client_order_id), Absent)
    assert exchange.list_open_orders().orders == ()
    assert (told(result), result.verdict, result.proof) == (True, Verdict.COMPLETED, Proof.FILLED)
    assert (exchange.sends(), truth(exchange)) == (1, {transaction.client_order_id: Decimal("0.5")})


def test_listings_that_lag_keep_it_undecided_until_they_show_it(clock, exchange, pipeline):
    start, orders, fills = clock.monotonic(), exchange.list_orders_since, exchange.list_fills_since

    def late_orders(since):
        listing = orders(since)
        return listing if clock.monotonic() - start >= 40.0 else dataclasses.replace(listing, orders=())

    def late_fills(since):
        if clock.monotonic() - start >= 20.0:
            return fills(since)
        return FillListing(fills=(), since=since, started=clock.monotonic())

    exchange.list_orders_since, exchange.list_fills_since = late_orders, late_fills
    exchange.find_by_id = lambda order_id: Absent("status by id") if clock.monotonic() - start < 40.0 else None
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    answer = finish(clock, pipeline, transaction)
    assert told(answer) is OutcomeUnknownError
    seen = set()
    clock.advance_until(lambda: seen.add(transaction.state) or clock.monotonic() - start >= 39.0)
    assert seen <= {State.RESOLVING, State.UNKNOWN}
    del exchange.find_by_id
    assert decide(clock, transaction).verdict is Verdict.COMPLETED
    assert (exchange.sends(), truth(exchange)) == (1, {transaction.client_order_id: Decimal("0.5")})


def test_a_request_that_arrives_after_45_s_is_found_and_not_repeated(clock, exchange, pipeline):
    held = Held(exchange)
    exchange.script.append(held)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) is OutcomeUnknownError
    pass_time(clock, 15.0)
    assert reads(exchange).count("list_orders_since") > 3  # negative answers there were, before the fence
    assert transaction.state is State.UNKNOWN
    held.deliver()
    result = decide(clock, transaction)
    assert (result.verdict, result.proof, told(result)) == (Verdict.COMPLETED, Proof.FILLED, True)
    assert (exchange.sends(), len(exchange.orders)) == (1, 1)


def test_where_the_venue_refuses_late_requests_absence_after_the_fence_is_final(clock, exchange, make):
    exchange.capabilities = dataclasses.replace(
        exchange.capabilities, late_arrival_bound=17.0, late_arrival_is_proof=True
    )
    pipeline = make()
    exchange.script.append("request_lost")
    transaction = market(pipeline)
    began = clock.monotonic()
    pipeline.submit(transaction)
    result = decide(clock, transaction)
    assert 17.0 <= clock.monotonic() - began < 40.0
    assert (result.verdict, result.proof, told(result)) == (Verdict.FENCED, Proof.FENCED, False)
    assert transaction.record.watch_until is None
    assert (exchange.sends(), truth(exchange)) == (1, {})


def test_an_order_that_arrives_after_ten_minutes_is_told_and_its_equal_is_named(clock, exchange, pipeline, alerts):
    held = Held(exchange)
    exchange.script.append(held)
    first = market(pipeline)
    finish(clock, pipeline, first)
    denied = finish(clock, pipeline, market(pipeline))
    assert (told(denied), exchange.sends()) == (TransactionDeniedError, 1)  # while nobody knows, no equal order
    result = decide(clock, first)
    assert (result.verdict, told(result)) == (Verdict.ABSENT, OutcomeUnknownError)
    pass_time(clock, 480.0)
    second = market(pipeline)
    assert told(finish(clock, pipeline, second)) is True
    held.deliver()
    clock.advance_until(lambda: first.record.proof is Proof.FILLED, limit=7200.0)
    (alert,) = [alert for alert in alerts if "resurrected" in alert["title"]]
    assert alert["level"] == "critical"
    assert first.id in alert["message"] and second.id in alert["message"]
    assert (exchange.sends(), len(exchange.orders)) == (2, 2)


def test_the_alert_of_a_resurrection_names_both_although_the_clock_stepped_back(clock, exchange, make, alerts):
    pipeline = make(late_arrival_bound=1.0)
    held = Held(exchange)
    exchange.script.append(held)
    first = market(pipeline)
    finish(clock, pipeline, first)
    assert decide(clock, first).verdict is Verdict.ABSENT
    clock.step_wall(-7200.0)
    second = market(pipeline)
    assert told(finish(clock, pipeline, second)) is True
    held.deliver()
    clock.advance_until(lambda: first.record.proof is Proof.FILLED, limit=7200.0)
    (alert,) = [alert for alert in alerts if "resurrected" in alert["title"]]
    assert second.id in alert["message"]


@pytest.mark.parametrize("arrived", [True, False])
def test_ten_minutes_without_names_are_no_negative_answer(clock, exchange, make, alerts, arrived):
    pipeline = make(late_arrival_bound=0.0, visibility_window=0.0)

    def cut(order):
        if arrived:
            exchange._accept(order, "fill")
        exchange.blind = ConnectError("the name does not resolve")
        raise ResponseLostError("the connection broke")

    exchange.script.append(cut)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) is OutcomeUnknownError
    pass_time(clock, 600.0)
    assert transaction.state is State.UNKNOWN
    assert len([alert for alert in alerts if alert["title"] == "Cannot see the exchange"]) == 1
    exchange.blind = None
    before = reads(exchange).count("list_orders_since")
    result = decide(clock, transaction)
    assert result.verdict is (Verdict.COMPLETED if arrived else Verdict.ABSENT)
    listings = reads(exchange).count("list_orders_since") - before
    assert listings >= (1 if arrived else 3), "none of the failed reads counted"
    assert (exchange.sends(), len(exchange.orders)) == (1, int(arrived))


def test_an_acknowledgement_of_an_order_that_does_not_exist_is_never_true(clock, exchange, pipeline):
    """The answer says ok and names an order, filled even; the exchange refused it and knows of none."""

    def ghost(order):
        return OrderState(
            order_id="3000000777",
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            amount=order.amount,
            filled=order.amount,
            status=OrderStatus.DONE,
            client_order_id=order.client_order_id,
            price=order.price,
            raw_status="Done",
        )

    exchange.script.append(ghost)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) is OutcomeUnknownError
    result = decide(clock, transaction)
    assert (result.verdict, told(result)) == (Verdict.ABSENT, OutcomeUnknownError)
    assert transaction.record.watch_until is not None
    assert (exchange.sends(), truth(exchange)) == (1, {})


def test_a_second_ask_with_the_same_key_joins_the_first_that_is_not_decided(clock, exchange, pipeline):
    exchange.script.extend(["fill_answer_lost", "reject"])  # a second send would find no money
    exchange.blind = ConnectionError("so that it stays undecided")
    first = market(pipeline, idempotency_key="signal-9")
    assert told(finish(clock, pipeline, first)) is OutcomeUnknownError
    again = market(pipeline, idempotency_key="signal-9")
    assert again is first
    assert told(finish(clock, pipeline, again)) is OutcomeUnknownError
    exchange.blind = None
    decide(clock, first)
    assert told(pipeline.execute(market(pipeline, idempotency_key="signal-9"))) is True
    assert (exchange.sends(), truth(exchange)) == (1, {first.client_order_id: Decimal("0.5")})


# -- the process (14, 18) ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
def test_ctrl_c_during_the_send_reaches_the_caller_and_the_order_is_decided_in_the_background(
    clock, exchange, pipeline
):
    raised = threading.Event()

    def interrupted(order):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert raised.wait(10.0)  # the send is in the middle while the caller leaves
        exchange._accept(order, "fill")
        raise ResponseLostError("lost")

    exchange.script.append(interrupted)
    transaction = market(pipeline)
    # A shell starts what runs in its background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pipeline.execute(transaction)
    finally:
        signal.signal(signal.SIGINT, before)
    assert transaction.state is State.SUBMITTING
    raised.set()
    result = decide(clock, transaction)
    assert (result.verdict, told(result)) == (Verdict.COMPLETED, True)
    assert (exchange.sends(), truth(exchange)) == (1, {transaction.client_order_id: Decimal("0.5")})


def test_a_journal_from_a_back_up_tells_of_the_orders_since_and_adopts_them_on_a_word(
    clock, exchange, make, alerts, tmp_path
):
    folder, saved = tmp_path / "journal", tmp_path / "saved"
    first = make()
    old = limit(first)
    finish(clock, first, old)
    first.stop()
    shutil.copytree(folder, saved)
    second = make()
    since = [market(second), limit(second, price="99")]
    for transaction in since:
        finish(clock, second, transaction)
    second.stop()
    exchange.change(old.result().order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    shutil.rmtree(folder)
    shutil.copytree(saved, folder)
    alerts.clear()
    third = make()
    third.start()
    clock.advance_until(lambda: len(third.orphans()) == 2)
    clock.advance_until(lambda: third.get(old.id).record.filled == Decimal("0.5"))
    told_of = [alert for alert in alerts if "not in the journal" in alert["title"]]
    assert [alert["level"] for alert in told_of] == ["critical", "critical"]
    assert third.unresolved() == [] and third.get(since[0].id) is None  # nothing is adopted without a word
    adopted = [third.adopt(transaction.result().order_id, who="sara") for transaction in since]
    assert [(t.id, t.record.proof) for t in adopted] == [(since[0].id, Proof.FILLED), (since[1].id, Proof.LIVE)]
    assert third.orphans() == ()
    assert (exchange.sends(), len(exchange.orders)) == (3, 3)


# -- the exchange refuses to talk (20, 21) ----------------------------------------------------------------------------


def test_a_storm_of_429_is_no_negative_sends_nothing_and_ends_in_one_listing(clock, exchange, make):
    pipeline = make(late_arrival_bound=0.0)
    exchange.script.extend(["fill_answer_lost"] * 6)
    exchange.blind = ThrottledError("too many requests", retry_after=5.0, http_status=429)
    transactions = [market(pipeline, amount=f"0.{n + 11}") for n in range(6)]
    for transaction in transactions:
        pipeline.submit(transaction)
    clock.advance_until(lambda: all(t._answered for t in transactions))
    before, seconds = len(reads(exchange)), 60.0
    pass_time(clock, seconds)
    assert {t.state for t in transactions} == {State.UNKNOWN}
    assert (len(reads(exchange)) - before) <= 4.5 * seconds  # 240 look-ups and 15 listings in a minute at most
    exchange.blind = None
    exchange.find_by_client_id = lambda client_order_id: Absent("finds open orders only")
    before = reads(exchange).count("list_orders_since")
    clock.advance_until(lambda: all(t.state.is_terminal for t in transactions), limit=60.0)
    assert {told(t.result()) for t in transactions} == {True}
    assert reads(exchange).count("list_orders_since") - before == 1, "one listing serves all"
    assert (exchange.sends(), len(exchange.orders)) == (6, 6)


def test_an_outage_while_an_absent_order_is_watched_is_no_storm(clock, exchange, make, monkeypatch):
    monkeypatch.setattr(testing, "HANG_CAP", 1.0)  # a thread that never rests is what this is about
    pipeline = make(late_arrival_bound=1.0)
    held = Held(exchange)
    exchange.script.append(held)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert decide(clock, transaction).verdict is Verdict.ABSENT
    exchange.blind = ConnectionError("down")
    before = len(reads(exchange))
    pass_time(clock, 600.0)
    assert 0 < len(reads(exchange)) - before <= 600 / 4
    exchange.blind = None
    held.deliver()
    clock.advance_until(lambda: transaction.record.proof is Proof.FILLED, limit=7200.0)
    assert (exchange.sends(), len(exchange.orders)) == (1, 1)


def test_a_key_that_is_revoked_in_flight_makes_it_unknown_and_never_failed(clock, exchange, make, alerts):
    pipeline = make(late_arrival_bound=0.0)

    def revoked(order):
        exchange._accept(order, "fill")
        exchange.blind = AuthenticationError("not accepted", http_status=401)
        raise ResponseLostError("lost")

    exchange.script.append(revoked)
    transaction = market(pipeline)
    assert told(finish(clock, pipeline, transaction)) is OutcomeUnknownError
    pass_time(clock, 600.0)
    assert transaction.state is State.UNKNOWN
    assert {"Cannot see the exchange"} <= {a["title"] for a in alerts if a["level"] == "error"}
    assert any(transaction.id in a["message"] for a in alerts if a["level"] == "error")
    exchange.blind = None
    assert decide(clock, transaction).verdict is Verdict.COMPLETED
    assert (exchange.sends(), truth(exchange)) == (1, {transaction.client_order_id: Decimal("0.5")})


# -- clocks (22) ------------------------------------------------------------------------------------------------------


@pytest.fixture
def apart(clock, exchange):
    """An exchange with a clock of its own."""
    exchange._clock = VenueClock(clock)
    return exchange


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
@pytest.mark.parametrize("word", ["fill_answer_lost", "request_lost", "rest_answer_lost"])
def test_a_clock_that_steps_between_send_and_recovery_changes_no_verdict(clock, apart, make, step, word):
    first = make()
    apart.script.append(word)
    transaction = limit(first)
    first.submit(transaction)
    apart.blind = ConnectionError("so that it is still undecided")
    clock.advance_until(lambda: transaction.state is State.RESOLVING)
    first.stop()
    apart.blind = None
    clock.step_wall(step)
    began = clock.monotonic()
    second = make()
    assert second.start().undecided == (transaction.id,)
    result = decide(clock, second.get(transaction.id))
    if word == "request_lost":
        assert clock.monotonic() - began >= 70.0, "the fence is the monotonic clock's"
        assert (result.verdict, told(result)) == (Verdict.ABSENT, OutcomeUnknownError)
    else:
        assert (result.verdict, told(result)) == (Verdict.COMPLETED, True)
    assert (apart.sends(), len(apart.orders)) == (1, int(word != "request_lost"))


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_restart_keeps_the_deadline_of_the_venues_clock_when_ours_steps(clock, apart, make, step):
    first = make(verification_timeout=100.0)
    transaction = limit(first, commit="filled_or_cancel", timeout=50.0)
    began = clock.monotonic()
    first.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    first.stop()
    clock.step_wall(step)
    second = make()
    second.start()
    result = decide(clock, second.get(transaction.id), limit=300.0)
    assert 50.0 <= clock.monotonic() - began <= 60.0
    assert (result.verdict, told(result)) == (Verdict.CANCELLED, False)
    (order,) = apart.orders.values()
    assert (order.status, apart.sends()) == (OrderStatus.CANCELED, 1)


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("counts", [True, False])
def test_a_machine_that_sleeps_during_the_send(clock, apart, pipeline, arrived, counts):
    """Two hours in the middle of submit; some systems' monotonic clock counts them, Linux's does not."""

    def sleeping(order):
        if arrived:
            apart._accept(order, "fill")
        clock.advance(7200.0) if counts else clock.step_wall(7200.0)
        raise ResponseLostError("the connection was gone when the machine woke up")

    apart.script.append(sleeping)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    result = decide(clock, transaction)
    assert result.verdict is (Verdict.COMPLETED if arrived else Verdict.ABSENT)
    assert (apart.sends(), len(apart.orders)) == (1, int(arrived))


def test_a_clock_that_jumps_ahead_does_not_end_the_afterwatch(clock, apart, make):
    """A machine without a battery clock starts in 1970 and learns the time from the network."""
    pipeline = make(late_arrival_bound=1.0)
    held = Held(apart)
    apart.script.append(held)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    assert decide(clock, transaction).verdict is Verdict.ABSENT
    clock.step_wall(2 * 86400.0)
    pass_time(clock, 600.0)
    held.deliver()
    clock.advance_until(lambda: transaction.record.proof is Proof.FILLED, limit=7200.0)


# -- equal orders and races (25, 27) ----------------------------------------------------------------------------------


def test_of_equal_orders_where_ids_are_hidden_none_is_bound_to_anothers(clock, exchange, make):
    """Two of ours from two threads, the second one's answer lost, and a third of a person by hand."""
    pipeline = make(verification_timeout=5.0, late_arrival_bound=0.0)
    exchange.capabilities = dataclasses.replace(exchange.capabilities, listing_shows_client_id=False)
    exchange.null_client_ids = True
    exchange.script.extend(["fill", "fill_answer_lost"])
    transactions = [market(pipeline), market(pipeline)]
    together(2, lambda i: pipeline.submit(transactions[i]))
    clock.advance_until(lambda: all(t._answered for t in transactions))
    byhand = exchange._accept(dataclasses.replace(transactions[0].record.order, client_order_id=None), "fill")
    pass_time(clock, 120.0)
    (good,) = [t for t in transactions if t.record.proof is Proof.FILLED]
    (lost,) = [t for t in transactions if t is not good]
    assert told(good.result()) is True
    assert exchange.orders[good.record.order_id].client_order_id == good.client_order_id
    assert (told(lost.result()), lost.record.order_id, lost.record.needs_human) == (OutcomeUnknownError, None, True)
    assert byhand.order_id in lost.record.candidates and good.record.order_id not in lost.record.candidates
    assert told(finish(clock, pipeline, market(pipeline))) is TransactionDeniedError  # an equal one waits for a person
    assert (exchange.sends(), len(exchange.orders)) == (2, 3)


@pytest.mark.parametrize("first", [State.COMPLETED, State.CANCELLING])
def test_a_fill_and_the_timeout_in_the_same_instant_decide_once(clock, exchange, pipeline, first):
    """Whoever comes second comes while the first writes."""
    transaction = limit(pipeline, commit="filled_or_cancel", timeout=20.0)
    pipeline.submit(transaction)
    clock.advance_until(lambda: transaction.state is State.WORKING)
    exchange.change(transaction.record.order_id, status=OrderStatus.DONE, filled=Decimal("0.5"))
    (filled,) = exchange.orders.values()
    exchange.blind = ConnectionError("so that the runner sees only that the time is over")
    write, prepare_cancel = pipeline._journal.write, exchange.prepare_cancel
    held, tried, go = threading.Event(), threading.Event(), threading.Event()

    def hold(record, *, cause, barrier):
        if record.state is first:
            held.set()
            assert go.wait(10.0)
        write(record, cause=cause, barrier=barrier)

    def trying(order_id):
        tried.set()
        return prepare_cancel(order_id)

    pipeline._journal.write, exchange.prepare_cancel = hold, trying
    timeout = transaction.sent_at + 20.0 - clock.monotonic()
    if first is State.COMPLETED:
        finding = Background(conclude, transaction, filled, ledger=pipeline._ledger)
        assert held.wait(10.0)
        clock.advance(timeout)
        assert tried.wait(10.0)
        go.set()
        finding.result()
    else:
        clock.advance(timeout)
        assert held.wait(10.0)
        conclude(transaction, filled, ledger=pipeline._ledger)
        go.set()
    exchange.blind = None
    result = decide(clock, transaction)
    assert (result.verdict, result.proof, told(result)) == (Verdict.COMPLETED, Proof.FILLED, True)
    assert [state for _, state, _ in result.timeline].count("COMPLETED") == 1
    cancels = [name for name, _ in exchange.calls if name == "cancel"]
    assert len(cancels) == (0 if first is State.COMPLETED else 1)
    assert (exchange.sends(), truth(exchange)) == (1, {transaction.client_order_id: Decimal("0.5")})


def test_a_cancel_and_a_persons_word_at_once_decide_once(clock, exchange, pipeline):
    write = pipeline._journal.write

    def slow(record, *, cause, barrier):
        threading.Event().wait(0.002)  # so that the other comes while one writes
        write(record, cause=cause, barrier=barrier)

    pipeline._journal.write = slow
    for n in range(3):
        transaction = limit(pipeline, commit="filled", amount=f"0.{n + 1}")
        pipeline.submit(transaction)
        clock.advance_until(lambda: transaction.state is State.WORKING)  # noqa: B023 - called at once

        def word():
            try:
                return pipeline.resolve(transaction.id, "cancelled", evidence="gone", who="sara")  # noqa: B023
            except InvalidOrderError:
                return None  # it was decided before

        race = [word, lambda: pipeline.cancel(transaction.id)]  # noqa: B023
        said, cancelled = together(2, lambda i: race[i]())  # noqa: B023
        result = decide(clock, transaction)
        assert (cancelled.verdict, told(cancelled)) == (Verdict.CANCELLED, True)
        assert (told(result), result.filled) == (False, 0)
        assert result.proof is (Proof.CLOSED_UNFILLED if said is None else Proof.OPERATOR)
        assert len([s for _, s, _ in result.timeline if s in ("FAILED", "ROLLED_BACK", "COMPLETED")]) == 1
        assert exchange.orders[transaction.record.order_id].status is OrderStatus.CANCELED
    assert exchange.sends() == 3


# -- hostile values (30) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OrderRejectedError, MalformedResponseError])
def test_an_error_of_ten_megabytes_is_cut_wherever_it_goes(clock, exchange, make, alerts, error):
    events = []

    class Bus:
        def publish(self, topic, data, *, message_id):
            events.append(data)

    pipeline = make(message_bus=Bus())

    def long(order):
        raise error("<html>" + "x" * 10_000_000, http_status=502)

    exchange.script.append(long)
    transaction = market(pipeline)
    result = finish(clock, pipeline, transaction)
    assert told(result) is (False if error is OrderRejectedError else OutcomeUnknownError)
    assert exchange.sends() == 1
    texts = [alert["message"] for alert in alerts] + [data["reason"] for data in events] + [result.reason]
    texts += [cause for _, _, cause in result.timeline]
    assert max(map(len, texts)) < 10_000


@pytest.mark.parametrize("bad", ["x" * 200, "9" * 200, "", "1.5", "'; DROP TABLE txn; --", "9" * 5000])
def test_a_venue_order_id_that_is_none_binds_nothing(clock, exchange, pipeline, bad):
    def absurd(order):
        return dataclasses.replace(exchange._accept(order, "fill"), order_id=bad)

    exchange.script.append(absurd)
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    result = decide(clock, transaction)
    assert (told(result), result.order_id) == (True, "3000000001")
    assert told(finish(clock, pipeline, market(pipeline))) is True  # and later orders are not disturbed
    assert (exchange.sends(), len(exchange.orders)) == (2, 2)


CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def number_of(txn_id):
    """The 128 bits of a transaction's id."""
    number = 0
    for letter in txn_id:
        number = number << 5 | CROCKFORD.index(letter)
    return number


def test_a_transaction_id_holds_every_random_bit_it_was_given(monkeypatch):
    """
    So that 10^7 ids of one millisecond meet with a chance of less than 10^-10, and those of other milliseconds never.

    A sample cannot show that; that no bit is lost does.
    """
    given = [bytes(10), b"\xff" * 10, *((1 << bit).to_bytes(10, "big") for bit in range(80))]
    for random in given:
        monkeypatch.setattr(os, "urandom", lambda n, random=random: random if n == 10 else None)
        number = number_of(new_id(1_760_000_000.123))
        assert number & ((1 << 80) - 1) == int.from_bytes(random, "big")
        assert number >> 80 == 1_760_000_000_123
    assert 1 - math.exp(-((10**7) ** 2) / 2 / 2**80) < 1e-10


def test_transaction_ids_sort_by_time_and_never_meet_over_steps_back_and_restarts(clock, make):
    """New processes have no memory of the ids of the old one, and the same second comes again."""
    ids, stamps = set(), []
    for start in range(3):
        pipeline = make()
        for n in range(40):
            if n % 5 == 4:
                clock.step_wall(-3600.0)
            ids.add(limit(pipeline).id)
            clock.step_wall(1.0)
        pipeline.stop()
        clock.step_wall(-86400.0 * start)
    assert len(ids) == 120
    for wall in (0.0, 1e-9, 1_760_000_000.0, 1_760_000_000.001, 281474976710.655):
        stamps.append(new_id(wall))
    assert [number_of(i) >> 80 for i in stamps] == [0, 0, 1_760_000_000_000, 1_760_000_000_001, (1 << 48) - 1]
    for wall in (-1.0, 281474976710.656, 1e15):  # a clock that is broken, or past the year 10889
        stamps.append(new_id(wall))
    many = {new_id(wall) for wall in (0.0, 1_760_000_000.0) for _ in range(2000)}
    assert len(many) == 4000
    assert all(re.fullmatch(f"[0-7][{CROCKFORD}]{{25}}", each) for each in (*ids, *stamps, *many))


def test_client_order_ids_have_one_length_and_alphabet_whatever_the_account():
    hostile = ["", "x" * 500, "a'b\";--", "\u0641\u0627\u0631\u0633\u06cc", "\U0001f600", "a\0b", "-" * 40]
    prefixes = {
        prefix_of(Account(venue="nobitex", host=host, identity=identity), name)
        for host in hostile
        for identity in hostile
        for name in ("default", "a" * 64)
    }
    assert all(re.fullmatch(r"[a-z2-7]{5}", prefix) for prefix in prefixes)
    assert len(prefixes) == 2 * len(hostile) ** 2
    assert all(len(f"{prefix}-{new_id(1e9)}") == 32 for prefix in prefixes)


@pytest.mark.parametrize("key", ["a'b\";--", "%", "_", "كليد", "\U0001f600", "x" * 200, " "])
def test_hostile_idempotency_keys_are_text_or_refused(clock, exchange, make, key):
    first = make()
    transaction = market(first, idempotency_key=key)
    assert told(finish(clock, first, transaction)) is True
    assert told(finish(clock, first, market(first, idempotency_key=key + "." if len(key) < 200 else "x"))) is True
    first.stop()
    again = make()
    assert market(again, idempotency_key=key).id == transaction.id
    assert exchange.sends() == 2


# -- the table --------------------------------------------------------------------------------------------------------

TESTS = Path(__file__).resolve().parents[2]


def tables():
    return [*(tests for _, tests, _ in CASES.values()), *BAD_INPUT.values()]


def names_in(path):
    return set(re.findall(r"^def (test_\w+)\(", (TESTS / path).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_table_has_every_case_with_a_test_or_a_reason():
    assert list(CASES) == list(range(1, 31))
    without = {case for case, (_, tests, _) in CASES.items() if not any(tests.values())}
    assert without == {12, 28}
    assert all(CASES[case][2] for case in without), "what has no test has a reason"


def test_every_test_that_the_table_names_exists():
    wanted = {}
    for tests in tables():
        for path, names in tests.items():
            wanted.setdefault(path, set()).update(f"test_{name}" for name in names)
    missing = {path: names - names_in(path) for path, names in wanted.items()}
    assert not {path: names for path, names in missing.items() if names}


def test_the_table_names_every_test_of_its_own_files():
    for path in (HERE, WIRE):
        named = {f"test_{name}" for tests in tables() for name in tests.get(path, ())}
        about = {name for name in names_in(path) if "table" not in name}
        assert about == named
