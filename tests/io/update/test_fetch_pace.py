"""How fast bytes come, on a clock that the test turns."""

from __future__ import annotations

import pytest

from edge_agent import limits
from edge_agent.errors import TransportError
from edge_agent.io.fetch.pace import Pace, SlowError

LEAST = limits.TRANSFER_LEAST_RATE * int(limits.TRANSFER_SILENCE_S)


class Turned:
    def __init__(self, rate: int = 0) -> None:
        self.now_s = 1000.0
        self.pace = Pace(rate, monotonic=lambda: self.now_s)


def test_silence_is_slow() -> None:
    turned = Turned()
    assert turned.pace.left_s() == limits.TRANSFER_SILENCE_S
    turned.now_s += limits.TRANSFER_SILENCE_S - 1
    assert turned.pace.left_s() == pytest.approx(1)
    turned.now_s += 1
    with pytest.raises(SlowError, match="0 bytes in 60 s"):
        turned.pace.left_s()


def test_a_byte_now_and_then_is_slow_too() -> None:
    turned = Turned()
    with pytest.raises(SlowError):
        for _ in range(int(limits.TRANSFER_SILENCE_S) + 1):
            turned.now_s += 1
            turned.pace.received(limits.TRANSFER_LEAST_RATE - 20)
            turned.pace.left_s()


def test_the_least_rate_may_go_on_for_ever() -> None:
    turned = Turned()
    for _ in range(10_000):
        turned.now_s += 1
        turned.pace.left_s()
        turned.pace.received(limits.TRANSFER_LEAST_RATE + 20)


def test_a_burst_buys_no_more_than_one_silence() -> None:
    turned = Turned()
    turned.pace.received(100 * LEAST)
    turned.now_s += limits.TRANSFER_SILENCE_S
    with pytest.raises(TransportError):
        turned.pace.left_s()


def test_each_transfer_begins_anew() -> None:
    turned = Turned()
    turned.now_s += 10 * limits.TRANSFER_SILENCE_S
    turned.pace.begin()
    assert turned.pace.left_s() == limits.TRANSFER_SILENCE_S


def test_without_a_limit_nobody_waits() -> None:
    turned = Turned()
    turned.pace.received(10**9)
    assert turned.pace.delay_s() == 0


def test_a_limit_is_kept_over_any_time() -> None:
    turned = Turned(rate=10_000)
    began_s = turned.now_s
    for count in (8192, 100, 65536, 1) * 50:
        turned.now_s += turned.pace.delay_s()
        turned.pace.left_s()
        turned.pace.received(count)
    turned.now_s += turned.pace.delay_s()
    assert turned.now_s - began_s == pytest.approx((8192 + 100 + 65536 + 1) * 50 / 10_000)


def test_unused_time_is_not_saved_up() -> None:
    turned = Turned(rate=1000)
    turned.now_s += 50
    turned.pace.received(2000)
    assert turned.pace.delay_s() == pytest.approx(2)


@pytest.mark.parametrize("rate", [1, 10, 500, 1024])
def test_a_limit_below_the_least_rate_is_no_slow_server(rate: int) -> None:
    turned = Turned(rate)
    for _ in range(200):
        turned.now_s += turned.pace.delay_s()
        turned.pace.left_s()
        turned.pace.received(4096)
