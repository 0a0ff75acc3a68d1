"""``edge-fleet collect``: subscribe and store what all devices say, each message once."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError, TransportError
from fleet.collector import Collector, Listener, Until
from fleet.commands.common import add_database, add_json, duration, parser
from fleet.commands.mqtt_options import add_mqtt, as_options, mqtt_config
from fleet.store import Store
from fleet.subscription import Subscription

SCHEMA = "edge-fleet/collect/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    config = mqtt_config(options, prefix="") or MqttConfig()
    store = Store(options.db)
    try:
        return _collect(options, config, store)
    except (ConfigError, TransportError) as error:
        raise type(error)(as_options(str(error), prefix="")) from None
    finally:
        store.close()


def _collect(options: argparse.Namespace, config: MqttConfig, store: Store) -> int:
    client_id = options.client_id or _client_id(options.db, config.base_topic)
    subscription = Subscription(config, Path(), client_id, _say)
    terminal = _Terminal(options.json, options.quiet)
    listener = Listener(_say, terminal.warning, lambda rate: terminal.status(store.devices(), rate))
    collector = Collector(store, subscription, config.base_topic, listener)
    terminal.collector = collector

    def stop(_number: int, _frame: FrameType | None) -> None:
        collector.stopping = True
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one ends the process at once
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        collector.run(Until(_seconds(options.run_for), _seconds(options.until_idle)))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    terminal.summary(store.devices(), subscription.given_up, options.db)
    return 0


class _Terminal:
    """Lines for a person on standard error and the summary on standard output; with ``--json`` objects there."""

    collector: Collector

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._json, self._quiet = as_json, quiet

    def status(self, devices: int, rate: float) -> None:
        if self._json:
            self._object(
                "status", devices=devices, rate=round(rate, 1), **msgspec.structs.asdict(self.collector.totals)
            )
        elif not self._quiet:
            totals = self.collector.totals
            print(
                f"{_count(devices, 'device')}, {_count(totals.predictions, 'prediction')} ({rate:.0f}/s), "
                f"{_count(totals.duplicates, 'duplicate')}, {_count(totals.conflicts, 'conflict')}, "
                f"{totals.rejected} rejected",
                file=sys.stderr,
                flush=True,
            )

    def warning(self, device: str, time: str, line: str) -> None:
        if self._json:
            self._object("event", device=device, time=time, text=line)
        elif not self._quiet:
            print(f"{time}  {device}  {line}", file=sys.stderr, flush=True)

    def summary(self, devices: int, given_up: int, database: Path) -> None:
        totals = self.collector.totals
        if self._json:
            self._object("summary", devices=devices, given_up=given_up, **msgspec.structs.asdict(totals))
            return
        print(
            f"{database}: {_count(totals.messages, 'message')}: {_count(totals.predictions, 'prediction')}, "
            f"{_count(totals.events, 'event')}, {totals.others} others, {_count(totals.duplicates, 'duplicate')}, "
            f"{_count(totals.conflicts, 'conflict')}, {totals.rejected} rejected; {_count(devices, 'device')} in all"
        )
        if given_up:
            print(f"{given_up} of QoS 0 came faster than the disk took them and were given up: publish with QoS 1")

    def _object(self, kind: str, **members: Any) -> None:
        print(json.dumps({"schema": SCHEMA, "type": kind, **members}), flush=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _say(line: str) -> None:
    print(f"edge-fleet collect: {as_options(line, prefix='')}", file=sys.stderr, flush=True)


def _seconds(given: int | None) -> float | None:
    return None if given is None else given / 1e9


def _client_id(database: Path, base: str) -> str:
    """The same each time for the same file, so that the broker's session is found again. Other topics are another
    session: it remembers what was subscribed."""
    key = hashlib.sha256(f"{database.resolve()}\n{base}".encode()).hexdigest()[:12]
    return f"edge-fleet-{socket.gethostname()}-{key}"


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "collect",
        "Subscribe to all devices of a broker and store predictions, drift, stats, events and rollout states, each "
        "once. A message is acknowledged when it is on the disk. Ctrl-C ends it; the broker keeps what comes then.",
    )
    add_database(arguments, "SQLite file; made where it is not there")
    add_mqtt(arguments, prefix="")
    arguments.set_defaults(mqtt_host=MqttConfig().host)
    arguments.add_argument("--client-id", metavar="ID", help="name of the broker's session (default: by host and file)")
    arguments.add_argument("--for", dest="run_for", type=duration, metavar="TIME", help='end after, such as "60s"')
    arguments.add_argument("--until-idle", type=duration, metavar="TIME", help="end when nothing came for that long")
    arguments.add_argument("--quiet", action="store_true", help="no status lines and events, only trouble")
    add_json(arguments)
    return arguments
