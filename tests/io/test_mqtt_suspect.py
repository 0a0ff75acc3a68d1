"""Who is blamed for a lost connection, and when to come back: pure rules, by plain values."""

from __future__ import annotations

import pytest

from edge_agent.io.mqtt_pace import FIGHT_DELAY_S, FIGHT_OVER_S, SHORT_TIMES, Pace
from edge_agent.io.mqtt_packet import length_bytes, publish_bytes
from edge_agent.io.mqtt_suspect import INNOCENT_FIRST, LOSSES, Suspect, Verdict


def lose(suspect: Suspect, times: int, in_flight: int) -> list[Verdict]:
    return [suspect.lost(in_flight) for _ in range(times)]


def test_losses_in_a_row_first_isolate_and_then_condemn() -> None:
    suspect = Suspect()
    assert lose(suspect, LOSSES, 7) == [Verdict.NOTHING] * (LOSSES - 1) + [Verdict.ISOLATE]
    assert suspect.alone
    assert lose(suspect, LOSSES, 1) == [Verdict.NOTHING] * (LOSSES - 1) + [Verdict.CONDEMN]


def test_an_acknowledgement_in_between_starts_the_count_anew() -> None:
    suspect = Suspect()
    for _ in range(20):
        assert Verdict.ISOLATE not in lose(suspect, LOSSES - 1, 7)
        suspect.acknowledged()
    assert not suspect.alone


def test_a_loss_with_nothing_under_way_blames_nothing() -> None:
    suspect = Suspect()
    assert set(lose(suspect, 50, 0)) == {Verdict.NOTHING}


def test_nothing_is_condemned_while_more_than_one_message_is_under_way() -> None:
    suspect = Suspect()
    lose(suspect, LOSSES, 7)
    assert set(lose(suspect, 50, 2)) == {Verdict.NOTHING}


def test_after_a_verdict_messages_go_alone_until_one_is_acknowledged() -> None:
    suspect = Suspect()
    lose(suspect, LOSSES, 7)
    lose(suspect, LOSSES, 1)
    assert suspect.alone
    suspect.acknowledged()
    assert not suspect.alone


def test_good_messages_that_go_first_do_not_end_the_search_and_a_search_in_vain_makes_the_next_one_longer() -> None:
    suspect = Suspect()
    searched = []
    for _ in range(3):
        assert lose(suspect, LOSSES, 7)[-1] is Verdict.ISOLATE
        count = 0
        while suspect.alone:
            suspect.acknowledged()
            count += 1
        searched.append(count)
    assert searched == [INNOCENT_FIRST, 4 * INNOCENT_FIRST, 16 * INNOCENT_FIRST]


def test_delays_double_from_the_first_to_the_last_and_are_spread_over_half_of_it() -> None:
    lowest, highest = Pace(1, 30), Pace(1, 30)
    assert [highest.delay_s(0, 1.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [lowest.delay_s(0, 0.0) for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]
    highest.settled()
    assert highest.delay_s(0, 1.0) == 1


def test_a_broker_that_talks_rubbish_after_each_connection_is_left_alone_for_longer_each_time() -> None:
    pace = Pace(1, 30)
    delays = []
    for _ in range(7):
        pace.settled()
        pace.misbehaved()
        delays.append(pace.delay_s(0, 1.0))
    assert delays == sorted(delays)
    assert delays[-1] == 30
    pace.acknowledged()
    pace.settled()
    assert pace.delay_s(0, 1.0) == 1


def test_a_fight_over_the_client_id_slows_us_down_until_it_is_over() -> None:
    pace = Pace(1, 30)
    pace.taken_over(1000)
    pace.settled()
    assert pace.delay_s(1000, 0.0) == FIGHT_DELAY_S
    assert pace.delay_s(1000 + FIGHT_OVER_S - 1, 0.0) == FIGHT_DELAY_S
    pace.settled()
    assert pace.delay_s(1000 + FIGHT_OVER_S, 1.0) == 1


def test_short_connections_in_a_row_look_like_a_fight_and_a_long_one_in_between_does_not() -> None:
    pace = Pace(1, 30)
    assert [pace.closed(0, 0.1) for _ in range(SHORT_TIMES)] == [False] * (SHORT_TIMES - 1) + [True]
    for _ in range(5):
        assert not any(pace.closed(0, 0.1) for _ in range(SHORT_TIMES - 1))
        assert not pace.closed(0, 60)


@pytest.mark.parametrize(
    ("remaining", "length"), [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_152, 4), (268_435_455, 4)]
)
def test_the_length_of_a_packet_takes_as_many_bytes_as_the_standard_says(remaining: int, length: int) -> None:
    """OASIS MQTT 5.0, table 1-1."""
    assert length_bytes(remaining) == length


def test_a_packets_size_counts_everything_on_the_wire() -> None:
    assert publish_bytes(3, 10, qos=0, v5=False, with_expiry=False) == 2 + 2 + 3 + 10
    assert publish_bytes(3, 10, qos=1, v5=False, with_expiry=False) == 2 + 2 + 3 + 2 + 10
    assert publish_bytes(3, 10, qos=1, v5=True, with_expiry=False) == 2 + 2 + 3 + 2 + 1 + 10
    assert publish_bytes(3, 200, qos=1, v5=True, with_expiry=True) == 3 + 2 + 3 + 2 + 6 + 200
