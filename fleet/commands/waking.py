"""Which broker the devices are at, and the bell that wakes them after a change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import EdgeAgentError
from edge_agent.rollouts import Rollout
from fleet.bell import ring_once
from fleet.commands.mqtt_options import as_options, mqtt_config
from fleet.settings import Settings, private_folder


def known_broker(options: argparse.Namespace, settings: Settings) -> tuple[MqttConfig, Path] | None:
    """That of the command line, else that of fleet.toml; with the folder that its files are meant from.

    Raises ConfigError."""
    if config := mqtt_config(options):
        return config, Path()
    return None if settings.mqtt is None else (settings.mqtt, private_folder(options.repository))


def wake(options: argparse.Namespace, settings: Settings, rollout: Rollout) -> bool:
    """Whether the devices were woken. What was signed stands, whatever becomes of the bell."""
    try:
        broker = known_broker(options, settings)
        if broker is None:
            return False
        ring_once(*broker, rollout)
    except EdgeAgentError as error:
        print(
            f"warning: the devices were not woken and see it at their next poll: {as_options(str(error))}",
            file=sys.stderr,
        )
        return False
    return True


def when_seen(woken: bool) -> str:
    """For the end of a sentence."""
    return "the devices were woken" if woken else "devices see it at their next poll"
