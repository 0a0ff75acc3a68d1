"""What ``watch``, ``status`` and ``push`` share: the broker, and a rollout followed to its end."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import TransportError
from fleet.campaign import Verdict
from fleet.commands.mqtt_options import as_options
from fleet.commands.waking import known_broker
from fleet.fleet_link import FleetLink
from fleet.fleet_view import TOPICS
from fleet.screens import screen
from fleet.settings import Settings, private_folder, read_settings
from fleet.watching import Book, Watch

Broker = tuple[MqttConfig, Path]  # the folder is the one that its files are meant from


def broker_of(options: argparse.Namespace) -> Broker:
    """That of the command line or of fleet.toml, else the one on this machine. Raises ConfigError."""
    private = private_folder(options.repository)
    settings = read_settings(private) if private.exists() else Settings()
    if settings.mqtt is None and options.mqtt_host is None:
        options.mqtt_host = MqttConfig().host
    found = known_broker(options, settings)
    assert found is not None  # a host was given
    return found


def link_to(broker: Broker) -> FleetLink:
    """Of whoever listens to devices. Raises ConfigError."""
    return FleetLink(*broker, TOPICS)


def follow(options: argparse.Namespace, broker: Broker, which: str | None) -> int:
    """Returns 0 where all of its devices that are known have committed it; 1: not. Ctrl-C leaves it as it is. Raises
    ConfigError, TransportError."""
    book = Book(options.repository, options.channel, options.keys)
    try:
        with screen(options.json) as shown, link_to(broker) as link:
            watch = Watch(link, book, which or book.newest(), shown)
            if not book.can_stop():
                shown.say("the key that signs rollouts is not here: this can't stop it by itself (give --keys FOLDER)")
            try:
                verdict = watch.run(None if options.run_for is None else options.run_for / 1e9)
            except KeyboardInterrupt:
                shown.ended(watch.campaign, None)
                raise
            shown.ended(watch.campaign, verdict)
            return 0 if verdict is Verdict.GOOD else 1
    except TransportError as error:
        raise TransportError(as_options(str(error))) from None
