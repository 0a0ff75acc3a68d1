"""The port for metrics and health: it has neither TLS nor a password, so it stays on this machine unless told."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.config.checks_mqtt import is_loopback
from edge_agent.config.finding import Finding, at
from edge_agent.config.schema import Config


def _open_to_others(config: Config) -> Iterator[Finding]:
    http = config.http
    if http is not None and not http.insecure and not is_loopback(http.host):
        text = "not this machine alone, and everybody who reaches the port may read it"
        yield Finding(at("http.host", http.host), f"{text}: write insecure = true to accept that")


HTTP_CHECKS = (_open_to_others,)
