"""A real mosquitto with the configuration and the ACL that docs/mosquitto ships, at other paths and ports."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.certificates import Authority

SHIPPED: Final = Path(__file__).resolve().parents[2] / "docs" / "mosquitto"


class ShippedBroker(Mosquitto):
    """``port`` asks for user and password, ``certificate_port`` for a client certificate; both are TLS."""

    def __init__(self, folder: Path, authority: Authority, passwords: Mapping[str, str]) -> None:
        """``authority`` has issued ``broker``. ``passwords``: user -> password."""
        super().__init__(folder)
        self.certificate_port = free_port()
        users, acl = folder / "passwd", folder / "acl"
        users.touch()
        for user, password in passwords.items():
            subprocess.run(["mosquitto_passwd", "-b", users, user, password], check=True, capture_output=True)
        acl.write_text((SHIPPED / "acl").read_text())
        for private in (users, acl):  # newer versions of mosquitto complain about files that others may read
            private.chmod(0o600)
        text = (SHIPPED / "mosquitto.conf").read_text()
        for shipped, here in (
            ("/etc/mosquitto/certs/", f"{authority.folder}/"),
            ("/etc/mosquitto/", f"{folder}/"),
            ("/var/lib/mosquitto/", f"{folder}/"),
            ("listener 8883\n", f"listener {self.port} 127.0.0.1\n"),
            ("listener 8884\n", f"listener {self.certificate_port} 127.0.0.1\n"),
        ):
            assert shipped in text, f"{shipped} is not in the shipped configuration"
            text = text.replace(shipped, here)
        self._configuration.write_text(f"user root\n{text}")  # as the tests' other brokers: it reads the test's files
