"""The kernel's clocks. What the kernel says of synchronisation is compared with what it is asked directly."""

import ctypes
import threading
import time

import pytest

from edge_agent.io.clock import SystemClock, _Timex


def test_the_wall_estimate_of_now_is_the_wall_clock():
    clock = SystemClock()
    before = time.time_ns()
    estimate = clock.wall_ns(clock.monotonic_ns())
    after = time.time_ns()
    # A tenth of a second for threads that lose the processor in between.
    assert before - 10**8 <= estimate <= after + 10**8


def test_wall_estimates_keep_the_distance_of_monotonic_times():
    clock = SystemClock()
    now = clock.monotonic_ns()
    assert abs(clock.wall_ns(now) - clock.wall_ns(now - 3_600 * 10**9) - 3_600 * 10**9) < 10**8


def test_time_stands_where_the_kernel_s_structure_has_it():
    timex = _Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        pytest.skip("this sandbox does not let the clock be asked")
    if timex.status & 0x2000:  # STA_NANO: the field holds nanoseconds
        timex.usec //= 1000
    assert abs(timex.sec - time.time()) < 5
    assert 0 <= timex.usec < 10**6
    assert 9_000 <= timex.tick <= 11_000  # microseconds a tick at 100 Hz, at most 10 % off


def test_synchronisation_is_what_the_kernel_says(tmp_path):
    timex = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    clock = SystemClock(timesync_mark=tmp_path / "absent")
    assert clock.synced() == (state >= 0 and not timex.status & 0x40)


def test_without_the_system_call_the_mark_of_timesyncd_decides(tmp_path):
    mark = tmp_path / "synchronized"
    refused = SystemClock(timesync_mark=mark)
    refused._adjtimex = lambda timex: -1  # as under ProtectClock=yes
    assert not refused.synced()
    mark.touch()
    absent = SystemClock(timesync_mark=mark)
    absent._adjtimex = None  # as in a C library without it
    assert absent.synced()


def test_the_kernel_is_asked_once_for_many_questions_of_many_threads():
    clock = SystemClock()
    asked = []
    ask = clock._adjtimex
    clock._adjtimex = lambda timex: (asked.append(1), ask(timex))[1]
    clock.synced()
    threads = [threading.Thread(target=lambda: [clock.synced() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Once, and once more for each thread should the five seconds end meanwhile.
    assert len(asked) <= 5
