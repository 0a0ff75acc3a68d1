import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.io.sensors.context import SensorContext
from edge_agent.io.sensors.pacing import Pacer
from tests.io.sensors.making import sensor_config


class SteppedTime(threading.Event):
    """A clock and a stop event in one, in which waiting is what makes time pass."""

    now = 0

    def monotonic_ns(self):
        return self.now

    def wait(self, timeout=None):
        if not self.is_set():
            self.now += round(timeout * 1e9)
        return self.is_set()


def paced(interval):
    time = SteppedTime()
    return time, Pacer(sensor_config("iio:x", ["t"], interval=interval), SensorContext(time, Path(), time))


def test_the_first_tick_comes_at_once():
    time, pacer = paced("1s")
    assert pacer.wait(0.2)
    assert time.now == 0


def test_a_tick_that_is_not_due_leaves_after_the_time_out():
    time, pacer = paced("1s")
    pacer.wait(0.2)
    assert not pacer.wait(0.2)
    assert time.now == 200_000_000
    assert pacer.wait(5.0)
    assert time.now == 1_000_000_000


@given(work=st.lists(st.integers(0, 3_500_000_000), max_size=20), timeout=st.floats(0.01, 5))
def test_ticks_stay_on_the_grid_however_long_the_work_takes(work, timeout):
    time, pacer = paced("1s")
    for length in work:
        before = time.now
        while not pacer.wait(timeout):
            pass
        # on time where there was time to wait, never twice within one step, never made up for
        assert time.now % 10**9 == 0 or time.now == before
        assert pacer._due_ns % 10**9 == 0
        assert time.now < pacer._due_ns <= time.now + 10**9
        time.now += length


def test_stopping_ends_the_wait_without_a_tick():
    time, pacer = paced("1s")
    time.set()
    assert not pacer.wait(5.0)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ConfigError, match='interval "0s"'):
        paced("0s")
