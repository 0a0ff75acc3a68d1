"""edge-agent.service in a container, and a stranger on this side of its line who listens to what it publishes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.io.journal import message_id
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.system.debian_machine import Machine

UNIT = "edge-agent"
CONFIG = "etc/edge-agent/agent.toml"
STATE = "var/lib/edge-agent"
PORT, PORT_WITH_PASSWORD = 1883, 1884
USER, PASSWORD = "line3", "geheim"
WATCHDOG_S = 4
# The unit's own times, shortened; nothing else of it is changed.
QUICK = f"WatchdogSec={WATCHDOG_S}\nRestartSec=500ms\nTimeoutAbortSec=2\n"
BROKER = f"""\
per_listener_settings true
listener {PORT}
allow_anonymous true
listener {PORT_WITH_PASSWORD}
password_file /etc/mosquitto/passwords
"""


def set_up(machine: Machine, deb: Path) -> None:
    """The package installed as a person does it, a broker that can be reached from outside, and quick times."""
    said = machine.install(deb)
    assert "edge-agent" in said
    (machine.root / "etc/mosquitto/conf.d/outside.conf").write_text(BROKER)
    machine.run("mosquitto_passwd", "-b", "-c", "/etc/mosquitto/passwords", USER, PASSWORD)
    machine.run("chown", "mosquitto", "/etc/mosquitto/passwords")
    machine.run("systemctl", "restart", "mosquitto")
    drop_in(machine, "quick", QUICK)


def drop_in(machine: Machine, name: str, text: str) -> Path:
    path = machine.root / f"etc/systemd/system/{UNIT}.service.d/{name}.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[Service]\n{text}")
    machine.run("systemctl", "daemon-reload")
    return path


class Service:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.stranger = Subscriber(PORT, client_id=secrets.token_hex(8), host=machine.address)

    def close(self) -> None:
        self.stranger.close()

    def systemctl(self, *words: str) -> None:
        self.machine.run("systemctl", *words)

    def show(self, name: str) -> str:
        return self.machine.show(UNIT, name)

    @property
    def active(self) -> bool:
        return self.show("ActiveState") == "active"

    @property
    def restarts(self) -> int:
        return int(self.show("NRestarts"))

    def kill(self, signal: str) -> None:
        """The daemon alone gets it. The shell's own command: a minimal Debian has no other."""
        self.machine.run("sh", "-c", f"kill -{signal} {self.show('MainPID')}")

    def predicts(self) -> dict[str, Any]:
        """A prediction that comes from now on."""
        before = len(self.stranger.predictions())
        return self.stranger.wait_predictions(before + 1)[-1]

    def availability(self) -> str:
        said = self.stranger.raw("/availability")
        return said[-1][1].decode() if said else ""

    def wait_status(self, pattern: str) -> str:
        """The status line once it matches."""
        texts = [""]

        def matches() -> bool:
            texts.append(self.show("StatusText"))
            return re.search(pattern, texts[-1]) is not None

        try:
            wait_for(matches, f"the status line says {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {texts[-1]!r}") from None
        return texts[-1]

    def logged(self, kind: str) -> list[dict[str, str]]:
        """The journal's entries with that event's id, of this start of the service."""
        return self.machine.journal(
            f"MESSAGE_ID={message_id(kind)}", f"_SYSTEMD_INVOCATION_ID={self.show('InvocationID')}"
        )

    @contextmanager
    def configured(self, *changes: tuple[str, str], more: str = "") -> Iterator[None]:
        """The service started anew with parts of its configuration replaced, and ``more`` behind it; at the end what
        was there before, not started."""
        path = self.machine.root / CONFIG
        before = path.read_text()
        text = before
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text + more)
        try:
            self.systemctl("restart", "--no-block", UNIT)
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def with_drop_in(self, text: str) -> Iterator[None]:
        """Without a start."""
        path = drop_in(self.machine, "test", text)
        try:
            yield
        finally:
            path.unlink()
            self.systemctl("daemon-reload")

    def wait_ready(self) -> None:
        wait_for(lambda: self.active, "the service is ready")
