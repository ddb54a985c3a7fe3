"""docs/robustness.md says of each fault what the client sees: each row of its table has tests, and they are named here."""

from __future__ import annotations

import importlib
import re

from ..support.docs_shell import ROOT

PAGE = (ROOT / "docs" / "robustness.md").read_text()
KILLED = "handlers.test_faults.test_an_upstream_that_is_killed"
STOPPED = "handlers.test_faults.test_an_upstream_that_stays_stopped_is_given_up_where_a_timeout_is_set"
RESET = "handlers.test_faults.test_a_reset_of_the_upstream_is_a_cut_or_a_502"
TESTS = {
    "no process listens on the port": ["upstream.test_curl.test_a_dead_port_is_unreachable_at_once"],
    "the service is killed before its response's head is complete": [KILLED],
    "the service is killed in the middle of its response": [KILLED],
    "the service is killed while a WebSocket is open": [KILLED],
    "the service is stopped (SIGSTOP) and continues": ["handlers.test_faults.test_an_upstream_that_is_stopped_and_goes_on"],
    "the service stays stopped": [STOPPED],
    "the service accepts no connection": [
        "upstream.test_curl.test_a_connection_that_is_not_accepted_in_time_is_a_timeout",
        "upstream.test_connect.test_dial_gives_up_in_time",
    ],
    "the service resets the connection before its response": [
        "upstream.test_curl.test_no_answer_is_a_bad_upstream",
        "upstream.test_handshake.test_a_reset_instead_of_an_answer_is_a_bad_upstream",
    ],
    "the service resets the connection in the middle of its response": [RESET],
    "the service is killed, or resets the connection, in the middle of an upload": [RESET, KILLED],
    "a response, of the service or the gateway, comes before the end of an upload": [
        "gateway.test_lingering_close.test_a_client_that_sends_on_after_the_response_gets_it_and_the_end",
    ],
    "the client resets its connection": [
        "handlers.test_faults.test_a_reset_of_the_client_cuts_the_upload_and_stops_the_download",
        "upstream.test_tunnel.test_the_clients_end_reaches_the_upstream",
    ],
    "a kept-alive connection is closed as a GET is sent": [
        "upstream.test_curl.test_a_get_goes_through_after_the_upstream_closed_its_kept_connection",
        "upstream.test_curl.test_only_a_get_is_repeated_when_the_upstream_closes_after_reading_it",
    ],
    "a kept-alive connection is closed as a POST is sent": [
        "upstream.test_curl.test_a_connection_is_kept_for_the_next_get_and_none_is_shared_with_what_must_not_be_repeated",
        "upstream.test_curl.test_only_a_get_is_repeated_when_the_upstream_closes_after_reading_it",
    ],
    "one end of a WebSocket disappears without closing it": [
        "handlers.test_faults.test_the_kernel_watches_over_every_long_lived_connection",
        "upstream.test_tunnel.test_a_half_closed_tunnel_does_not_stay_forever",
    ],
    "another program takes the port": [
        "handlers.test_faults.test_a_port_that_another_program_has_taken_gets_nothing_of_the_first_ones_connection",
        "gateway.test_policy.test_a_port_that_is_handed_over_between_two_requests_gets_no_byte",
    ],
    "a limit of the settings is reached": [
        "gateway.test_limits.test_one_exchange_too_many_is_refused_by_name",
        "gateway.test_limits.test_one_tunnel_too_many_is_refused_before_it_is_dialled",
    ],
    "file descriptors run out": ["handlers.test_faults.test_no_descriptor_to_spare_is_a_503_and_jupyter_answers_on"],
    "the disk is full below a service's log": ["handlers.test_faults.test_a_full_disk_below_a_services_log_stops_no_service"],
    "the disk is full below the server's own log": [
        "handlers.test_faults.test_a_full_disk_below_the_servers_own_log_stops_nothing"
    ],
    "another extension blocks the event loop for seconds": [
        "handlers.test_faults.test_a_loop_that_is_held_up_for_5_s_cuts_nothing"
    ],
    "the wall clock is set": [
        "handlers.test_faults.test_a_clock_that_is_set_cuts_nothing",
        "handlers.test_faults.test_the_wall_clock_measures_nothing",
        "services.test_ports.test_a_clock_that_jumps_ends_no_reservation",
    ],
    "the server shuts down": [
        "handlers.test_faults.test_a_shutdown_with_1000_exchanges_open_lets_them_end_and_then_cuts",
        "upstream.test_tunnel.test_a_shutdown_says_1001_to_whom_stands_between_two_frames",
    ],
}


def test_every_row_of_the_page_has_a_test_and_every_test_its_row():
    table = PAGE.partition("## Faults")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    assert [row for row in rows if row != "What happens"] == list(TESTS)


def test_they_are_there():
    for names in TESTS.values():
        for name in names:
            file, _, test = name.rpartition(".")
            assert callable(getattr(importlib.import_module(f"tests.{file}"), test, None)), name
