"""Wakes devices to look for an update now. The bell is not signed and decides nothing; a device that misses it polls.

with FleetLink(config, folder) as link:
    ring(link, rollout)
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.config.schema import MqttConfig
from edge_agent.rollouts import Rollout
from fleet.fleet_link import FleetLink

BELL = "update/bell"
ALL = f"_fleet/{BELL}"


def ring(link: FleetLink, rollout: Rollout) -> None:
    """At each device that is named, or at all of them. Retained, so that a device that is away is woken when it is
    back. Raises TransportError."""
    link.publish([(topic, rollout.id.encode()) for topic in bells(rollout)])


def ring_once(config: MqttConfig, folder: Path, rollout: Rollout) -> None:
    """Connect, ring, leave. Files of ``config`` are meant from ``folder``. Raises ConfigError, TransportError."""
    with FleetLink(config, folder) as link:
        ring(link, rollout)


def bells(rollout: Rollout) -> list[str]:
    """Topics below the base. There is none of a group: the broker does not know who is in it."""
    if rollout.to.everyone or rollout.to.groups:
        return [ALL]
    return [f"{device}/{BELL}" for device in rollout.to.devices]
