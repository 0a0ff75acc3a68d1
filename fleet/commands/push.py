"""``edge-fleet push``: a model to devices in one command: publish, rollout, serve, ring, watch."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from edge_agent.errors import EdgeAgentError
from edge_agent.io.model_file import read_model
from edge_agent.rollouts import Rollout
from fleet.bell import ring_once
from fleet.chunk_server import ChunkServer
from fleet.commands.common import add_json, duration, parser
from fleet.commands.following import Broker, broker_of, follow
from fleet.commands.mqtt_options import add_mqtt, as_options
from fleet.commands.release_options import add_profiles
from fleet.commands.repository_options import opened
from fleet.commands.rollout_terms import add_terms, terms_of
from fleet.http_server import RepositoryServer
from fleet.new_repository import PRESETS, create
from fleet.releases import examine, identify, publish
from fleet.repository import read_repository
from fleet.rollout_book import RolloutBook, audience

HERE: Final = Path("updates")


def main(argv: Sequence[str]) -> int:
    """Returns 0: every device that is meant and known has committed the model; 1: not, or the time is over."""
    options = _arguments().parse_args(argv)
    terms = terms_of(options)
    options.repository = options.repository or default_repository()
    broker = broker_of(options)
    model = read_model(options.model)
    to = audience(options.to)
    name, version = identify(model, options.name, options.version)
    _say("examining the model as a device will ...")
    examine(model, None, None)
    _make(options)
    with opened(options) as repository:
        release, new = publish(repository, model, name, version, {"profiles": tuple(options.profiles)})
        _say(f"{name}@{version} {'is signed' if new else 'was there already'}: {options.repository}")
        rollout = RolloutBook(repository, options.channel).begin(release, to, **terms)
    with _served(options, broker):
        _ring(broker, rollout)
        return follow(options, broker, rollout.id)


def default_repository() -> Path:
    """``updates`` in the current folder where that is there, else one of the user's own."""
    if (HERE / "metadata").is_dir():
        return HERE
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "edge-fleet" / "updates"


def _make(options: argparse.Namespace) -> None:
    """On first use."""
    folder: Path = options.repository
    if (folder / "metadata").exists():
        return
    now = datetime.now(timezone.utc)
    create(folder, PRESETS["bench"], now)
    root = read_repository(folder, now).root_file()
    _say(
        f"made {folder} and its keys ({PRESETS['bench'].says}); each device needs, once:\n"
        f"  {root.absolute()}\n"
        f"  as update-root.json beside its agent.toml, and there [update] repository = {_where(options)}"
    )


def _where(options: argparse.Namespace) -> str:
    """What devices are told."""
    return '"mqtt:"' if options.http_port is None else f'"mqtt:" or "http://{socket.gethostname()}:{options.http_port}"'


@contextlib.contextmanager
def _served(options: argparse.Namespace, broker: Broker) -> Iterator[None]:
    """As long as it is watched: in pieces over the broker that the devices are at, and over HTTP where asked for."""
    with contextlib.ExitStack() as stack:
        if not options.no_serve:
            client_id = f"edge-fleet-push-{socket.gethostname()}-{os.getpid()}"
            stack.enter_context(ChunkServer(*broker, options.repository, client_id, _serving))
            if options.http_port is not None:
                server = RepositoryServer(options.repository, options.http_host, options.http_port)
                _say(f"serving at {stack.enter_context(server).url}")
        try:
            yield
        except KeyboardInterrupt:
            if not options.no_serve:
                _say(f"nothing is served from here any more; edge-fleet serve {options.repository} goes on")
            raise


def _ring(broker: Broker, rollout: Rollout) -> None:
    """What is signed stands; a device that is not woken looks at its next poll."""
    try:
        ring_once(*broker, rollout)
    except EdgeAgentError as error:
        _say(f"the devices were not woken: {as_options(str(error))}")


def _serving(line: str) -> None:
    _say(f"serving in pieces over MQTT: {as_options(line)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "push",
        "A model to devices, in one command: examine, sign, roll out, serve, wake, and watch until all have come to an "
        "end. On first use it makes a repository with one key (edge-fleet init makes others). Devices take it over "
        'MQTT ([update] repository = "mqtt:"), from any server of that folder, or with --http-port from here.',
    )
    arguments.add_argument("model", type=Path, metavar="MODEL", help="a .tflite or .onnx file")
    arguments.add_argument(
        "--repository", type=Path, metavar="FOLDER", help="default: updates here, else in ~/.local/share/edge-fleet"
    )
    arguments.add_argument(
        "--keys", type=Path, action="append", default=[], metavar="FOLDER", help="where further private keys are"
    )
    arguments.add_argument("--channel", default="main", metavar="NAME", help="of [update] channel (default main)")
    add_mqtt(arguments)
    add_json(arguments)
    arguments.add_argument("--name", help="NAME of [model.NAME] on the devices (default: the card's)")
    arguments.add_argument("--version", help="of these bytes for ever (default: the card's)")
    add_profiles(arguments)
    add_terms(arguments)
    arguments.add_argument("--for", dest="run_for", type=duration, metavar="TIME", help="watch no longer than that")
    arguments.add_argument("--no-serve", action="store_true", help="something else serves the repository")
    arguments.add_argument("--http-port", type=int, metavar="PORT", help="serve over HTTP, too; 0: any that is free")
    arguments.add_argument("--http-host", default="127.0.0.1", metavar="HOST", help="listen here (default 127.0.0.1)")
    return arguments
