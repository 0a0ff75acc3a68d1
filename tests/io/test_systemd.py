"""The messages that a real notification socket receives."""

import os
import re
import socket
import uuid
from pathlib import Path

import pytest

from edge_agent.io.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """(receiving socket, the environment that systemd would set)."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@edge-agent-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.settimeout(10)
        yield receiver, {"NOTIFY_SOCKET": name}


def test_each_word_arrives_as_systemd_expects_it(manager):
    receiver, environment = manager
    notifier = Notifier(environment)
    notifier.ready()
    assert receiver.recv(4096) == b"READY=1"
    notifier.status("12.0 frames/s,\nbroker lost\x00")
    assert receiver.recv(4096) == b"STATUS=12.0 frames/s, broker lost\x00"
    notifier.watchdog()
    assert receiver.recv(4096) == b"WATCHDOG=1"
    notifier.stopping()
    assert receiver.recv(4096) == b"STOPPING=1"


def test_a_step_of_the_start_is_named_and_gets_its_time(manager):
    receiver, environment = manager
    Notifier(environment).starting("loading model a:\ntrying gpu", 120.0)
    assert receiver.recv(4096) == b"STATUS=loading model a: trying gpu\nEXTEND_TIMEOUT_USEC=120000000"


def test_a_reload_carries_the_monotonic_time(manager):
    receiver, environment = manager
    Notifier(environment).reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", receiver.recv(4096))


def test_a_status_can_t_smuggle_in_another_assignment(manager):
    receiver, environment = manager
    Notifier(environment).status("fine\nSTOPPING=1")
    assert receiver.recv(4096) == b"STATUS=fine STOPPING=1"


@pytest.mark.parametrize(
    "environment",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}, {"NOTIFY_SOCKET": "/" + "x" * 200}],
)
def test_without_a_manager_every_call_does_nothing(environment):
    notifier = Notifier(environment)
    notifier.ready()
    notifier.status("broken \udcff text")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()


def test_a_manager_that_does_not_read_does_not_stop_the_daemon(manager):
    receiver, environment = manager
    notifier = Notifier(environment)
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for _ in range(queue + 2):
        notifier.watchdog()
    assert receiver.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environment", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_of_its_time(environment, period_s):
    assert Notifier(environment).watchdog_period_s == period_s
