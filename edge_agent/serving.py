"""``[http]``: what is answered to whoever asks this machine instead of subscribing."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from edge_agent.control import Control
from edge_agent.core.metrics import metrics
from edge_agent.errors import TransportError
from edge_agent.io import prometheus
from edge_agent.io.http_port import Answer, HttpPort
from edge_agent.parts import Parts
from edge_agent.stages.http import HttpWorker
from edge_agent.stages.worker import Services

log = logging.getLogger("edge_agent")


def make_http(parts: Parts, control: Control, services: Services) -> HttpWorker | None:
    """The worker that answers; None without ``[http]``. Raises ConfigError where Prometheus' library is missing."""
    config = parts.config.http
    if config is None:
        return None
    prometheus.require()

    def scrape() -> Answer:
        stats = control.last_stats
        found = metrics(control.reports.info(), stats) if stats else ()
        return Answer(HTTPStatus.OK, prometheus.CONTENT_TYPE, prometheus.render(found))

    def health() -> Answer:
        silent = control.without_progress()
        status = HTTPStatus.SERVICE_UNAVAILABLE if silent else HTTPStatus.OK
        body = {"ok": not silent, "no_progress": silent, "uptime_s": control.reports.uptime_s()}
        return Answer(status, "application/json", json.dumps(body).encode() + b"\n")

    def listen() -> HttpPort:
        try:
            port = HttpPort(config.host, config.port, {"/metrics": scrape, "/healthz": health})
        except OSError as error:
            where = f"[http] host = {config.host!r}, port = {config.port}"
            raise TransportError(
                f"{where}: {error.strerror or error}; name another, or end what listens there"
            ) from None
        log.info("http: listening on %s, port %d", config.host, port.port)
        return port

    return HttpWorker(listen, services)
