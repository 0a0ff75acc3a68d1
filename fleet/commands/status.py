"""``edge-fleet status``: what each device runs, and how far the rollouts are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import datetime, timezone

from edge_agent.errors import TransportError
from edge_agent.rollouts import Rollout
from fleet.campaign import Campaign, Phase
from fleet.commands.common import parser
from fleet.commands.following import broker_of, link_to
from fleet.commands.mqtt_options import as_options
from fleet.commands.repository_options import warn_of_expiry
from fleet.commands.rollout_options import add_channel
from fleet.fleet_text import device_object, device_rows, table
from fleet.fleet_view import Device
from fleet.repository import read_repository
from fleet.rollout_book import RolloutBook
from fleet.watching import gather

SCHEMA = "edge-fleet/status/1"
GATHER_S = 10.0  # at most; a broker needs less for thousands of devices
ROLLOUTS_SHOWN = 10
_DEVICE_HEAD = ("DEVICE", "THERE", "MODEL", "RUNS", "LAST UPDATE", "REASON")
_ROLLOUT_HEAD = ("ROLLOUT", "STATE", "SHARE", "COMMITTED", "UNDER WAY", "WAITING", "FAILED")


def main(argv: Sequence[str]) -> int:
    """Returns 0. Where the broker can't be reached, the repository's part is printed all the same."""
    options = _arguments().parse_args(argv)
    repository = read_repository(options.repository, datetime.now(timezone.utc))
    warn_of_expiry(repository)
    rollouts = RolloutBook(repository, options.channel).channel().rollouts
    try:
        with link_to(broker_of(options)) as link:
            devices = list(gather(link, GATHER_S).devices.values())
    except TransportError as error:
        _print(options, rollouts, None)
        raise TransportError(f"nothing is known of the devices: {as_options(str(error))}") from None
    _print(options, rollouts, devices)
    return 0


def _print(options: argparse.Namespace, rollouts: Sequence[Rollout], known: Sequence[Device] | None) -> None:
    """``known`` None: the broker could not be asked, so nobody knows how far the rollouts are."""
    devices = known or []
    numbers = {rollout.id: rollout.number for rollout in rollouts}
    campaigns = [Campaign(rollout, numbers, devices) for rollout in rollouts]
    if options.json:
        members = {
            "rollouts": [_rollout_object(campaign, known is not None) for campaign in campaigns],
            "devices": [device_object(device) for device in sorted(devices, key=lambda device: device.id)],
        }
        print(json.dumps({"schema": SCHEMA, "ok": known is not None, **members}))
        return
    shown = campaigns[-ROLLOUTS_SHOWN:]
    print(
        table(_ROLLOUT_HEAD, [_rollout_row(campaign, known is not None) for campaign in shown])
        if shown
        else "no rollout yet"
    )
    if len(campaigns) > len(shown):
        print(f"and {len(campaigns) - len(shown)} older")
    rows = device_rows(devices)
    if known is not None:
        print("", table(_DEVICE_HEAD, rows) if rows else "no device is known to the broker", sep="\n")


def _rollout_row(campaign: Campaign, counted: bool) -> tuple[str, ...]:
    phases = (Phase.COMMITTED, Phase.UNDER_WAY, Phase.WAITING, Phase.FAILED)
    rollout = campaign.rollout
    counts = (str(campaign.count(phase)) if counted else "-" for phase in phases)
    return (rollout.id, rollout.state, f"{rollout.percent:g} %", *counts)


def _rollout_object(campaign: Campaign, counted: bool) -> dict[str, object]:
    rollout = campaign.rollout
    return {
        "rollout": rollout.id,
        "number": rollout.number,
        "model": rollout.model,
        "state": rollout.state,
        "percent": rollout.percent,
        "counts": {phase.value: campaign.count(phase) for phase in Phase} if counted else None,
    }


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("status", "What each device runs, and how far the rollouts of the repository are.")
    arguments.set_defaults(command="status")
    add_channel(arguments)
    return arguments
