"""``edge-fleet serve``: a repository for benches, over HTTP and in pieces over MQTT."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError
from fleet.chunk_server import ChunkServer
from fleet.commands.common import add_json, parser
from fleet.commands.mqtt_options import add_mqtt, as_options, mqtt_config
from fleet.commands.repository_options import warn_of_expiry
from fleet.http_server import RepositoryServer
from fleet.repository import read_repository

SCHEMA = "edge-fleet/serve/1"
PORT = 8090
CONNECT_S = 3.0  # the broker's time before devices are told of it; it may come later


def main(argv: Sequence[str]) -> int:
    """Returns 0 after Ctrl-C or SIGTERM."""
    options = _arguments().parse_args(argv)
    mqtt = mqtt_config(options)
    if options.no_http and mqtt is None:
        raise ConfigError("--no-http: there is nothing else to serve over; give --mqtt-host")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        http = None if options.no_http else stack.enter_context(_http(options))
        chunks = None if mqtt is None else stack.enter_context(_chunks(options.repository, mqtt))
        if chunks is not None:
            chunks.connected.wait(CONNECT_S)
        _warn(options.repository)
        _tell(options, http.url if http else None, mqtt)
        stop.wait()
        _sum_up(options.json, http, chunks)
    return 0


def _warn(folder: Path) -> None:
    """Of what devices would refuse; it is served all the same."""
    try:
        warn_of_expiry(read_repository(folder, datetime.now(timezone.utc)))
    except ConfigError as error:
        print(f"warning: {error}", file=sys.stderr, flush=True)


def _http(options: argparse.Namespace) -> RepositoryServer:
    return RepositoryServer(options.repository, options.host, options.port, tls=_tls(options))


def _chunks(repository: Path, config: MqttConfig) -> ChunkServer:
    key = hashlib.sha256(f"{repository.resolve()}\n{config.base_topic}".encode()).hexdigest()[:12]
    client_id = f"edge-fleet-serve-{socket.gethostname()}-{key}"
    try:
        return ChunkServer(config, Path(), repository, client_id, _say)
    except ConfigError as error:
        raise ConfigError(as_options(str(error))) from None


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Of the server; with ``--client-ca`` only devices with a certificate of that authority are let in."""
    if options.certificate is None:
        if options.key is not None or options.client_ca is not None:
            raise ConfigError("--key and --client-ca are of HTTPS: give --certificate, too")
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.client_ca)
        context.load_cert_chain(options.certificate, options.key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"--certificate, --key, --client-ca can't be used: {error}") from None
    if options.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _tell(options: argparse.Namespace, url: str | None, mqtt: MqttConfig | None) -> None:
    if options.json:
        broker = None if mqtt is None else {"host": mqtt.host, "port": mqtt.port, "base_topic": mqtt.base_topic}
        print(json.dumps({"schema": SCHEMA, "type": "serving", "url": url, "mqtt": broker}), flush=True)
        return
    print(f"serving {options.repository}; in agent.toml of a device, below [update]:")
    if url is not None:
        beyond = (
            "" if options.host not in ("0.0.0.0", "::") else f"  # with this machine's name: {socket.gethostname()}"
        )
        print(f'repository = "{url}"{beyond}')
    if mqtt is not None:
        print(f'repository = "mqtt:"  # in pieces over {mqtt.host}:{mqtt.port}')
    sys.stdout.flush()


def _sum_up(as_json: bool, http: RepositoryServer | None, chunks: ChunkServer | None) -> None:
    sent = {"http": http.bytes_sent if http else 0, "mqtt": chunks.served.bytes if chunks else 0}
    if as_json:
        print(json.dumps({"schema": SCHEMA, "type": "summary", "bytes": sent}), flush=True)
    else:
        print(f"{sent['http']} bytes served over HTTP, {sent['mqtt']} over MQTT", file=sys.stderr)


def _say(line: str) -> None:
    print(f"edge-fleet serve: {as_options(line)}", file=sys.stderr, flush=True)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "serve",
        "Serve the public part of a repository (metadata and targets; private keys lie elsewhere) to devices, over "
        "HTTP and, with --mqtt-host, in pieces over MQTT for devices that may open no other port. For benches: any "
        "static web server does as well. Ctrl-C ends it.",
    )
    arguments.add_argument("repository", type=Path, help="folder that edge-fleet init made")
    arguments.add_argument("--host", default="127.0.0.1", help="listen here (default 127.0.0.1: this machine only)")
    arguments.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0: any that is free")
    arguments.add_argument("--no-http", action="store_true", help="over MQTT alone")
    arguments.add_argument("--certificate", metavar="FILE", help="HTTPS with this certificate; with --key")
    arguments.add_argument("--key", metavar="FILE")
    arguments.add_argument(
        "--client-ca", metavar="FILE", help="let in only clients with a certificate of this authority"
    )
    add_mqtt(arguments)
    add_json(arguments)
    return arguments
