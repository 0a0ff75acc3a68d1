"""``edge-agent doctor``: what this machine has, what would be used and why, and how to mend what is missing.

Reads and joins; the judgements are in doctor_board.py, doctor_service.py, doctor_accelerators.py,
doctor_surroundings.py and doctor_updates.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from edge_agent.assembly import load_model
from edge_agent.commands.common import DEFAULT_CONFIG, Check, add_json, look_at_service, parser
from edge_agent.commands.doctor_accelerators import accelerator_checks
from edge_agent.commands.doctor_board import board_checks, budget, clock, power, temperature
from edge_agent.commands.doctor_service import needed_drop_ins, service_checks
from edge_agent.commands.doctor_surroundings import broker, camera_checks, sensor_checks
from edge_agent.commands.doctor_text import Delegate, doctor_text
from edge_agent.commands.doctor_updates import update_checks
from edge_agent.config.load import LoadedConfig
from edge_agent.config.profile import Profile
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.io.board import memory_rss_mb, read_board, temperature_c, throttled
from edge_agent.io.cameras.discover import find_cameras
from edge_agent.io.clock import SystemClock
from edge_agent.io.host import Host, holders, read_host
from edge_agent.io.mqtt_reachable import reachable
from edge_agent.io.profiles import find_profile
from edge_agent.io.runtimes import PLAIN, backends, plugins_of
from edge_agent.io.runtimes.probe import Probe
from edge_agent.io.runtimes.self_test import self_test_model
from edge_agent.io.sensors.discover import find_sensors
from edge_agent.loading import load_configuration, model_request
from edge_agent.records import Form

SCHEMA = "edge-agent/doctor/1"
PATIENCE = 1 / 3  # of the time that a start has for a trial: the model is tiny, and a person waits


def main(argv: Sequence[str]) -> int:
    arguments = parser("doctor", "Say what this machine has and what the daemon would use.")
    arguments.add_argument("--config", type=Path, metavar="FILE", help=f"also examine this (default {DEFAULT_CONFIG})")
    add_json(arguments)
    options = arguments.parse_args(argv)
    board = read_board()
    path = options.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    closed = _closed(path)
    loaded, checks = _configuration(path)
    profile = loaded.profile if loaded else find_profile("auto", board)
    delegates = try_delegates(profile, loaded)
    declared = declared_order(profile, loaded)
    chosen = next((delegate.name for delegate in delegates if delegate.usable and delegate.name in declared), None)
    host = read_host()
    checks = [
        *board_checks(board, host, profile),
        temperature(temperature_c(), profile),
        *power(throttled()),
        clock(SystemClock().synced()),
        *service_checks(host, needed_drop_ins(declared, profile.drop_ins)),
        *accelerator_checks(board, host),
        *checks,
        *_back_ends(delegates, chosen, declared),
        *_models(loaded),
        *budget(memory_rss_mb(), profile),
        *([closed] if closed else update_checks(loaded) if loaded else ()),
        *_surroundings(loaded, profile, host),
    ]
    ok = all(check.status != "fail" for check in checks)
    if options.json:
        shown = {"checks": [asdict(check) for check in checks], "delegates": [asdict(item) for item in delegates]}
        print(json.dumps({"schema": SCHEMA, "ok": ok, **shown, "chosen": chosen}))
    else:
        print(doctor_text(checks, delegates, chosen, shutil.get_terminal_size().columns))
    return 0 if ok else 1


def try_delegates(profile: Profile, loaded: LoadedConfig | None) -> list[Delegate]:
    """Each back-end in the declared order, then the others that this machine may have, tried in a child with a small
    model of a form that it takes."""
    external = loaded.config.delegate if loaded else {}
    known = backends(plugins_of(external))
    declared = declared_order(profile, loaded)
    names = dict.fromkeys((*declared, *profile.delegates, *external, "edgetpu", *PLAIN))
    forms: dict[str, Form] = {name: "onnx" if known[name].forms == {"onnx"} else "tflite" for name in names}
    probes = {
        name: Probe(self_test_model(form), name, threads=1, external=external).start() for name, form in forms.items()
    }
    results = {name: probe.result(PATIENCE * known[name].trial_s) for name, probe in probes.items()}
    return [Delegate(name, result.usable, result.reason) for name, result in results.items()]


def declared_order(profile: Profile, loaded: LoadedConfig | None) -> tuple[str, ...]:
    """The back-ends that are meant to be used: of each model in turn, the most wanted first; the profile's where no
    model says."""
    orders = [model.delegates or profile.delegates for model in loaded.config.model.values()] if loaded else []
    return tuple(dict.fromkeys(name for order in orders or [profile.delegates] for name in order))


def _closed(path: Path | None) -> Check | None:
    """A plain user sees nothing of what the service keeps; what that user's own daemon kept is another matter."""
    try:
        if path is not None:
            look_at_service(path)
    except ConfigError as error:
        return Check("update.state", "skip", str(error), "sudo edge-agent doctor sees more")
    return None


def _configuration(path: Path | None) -> tuple[LoadedConfig | None, list[Check]]:
    if path is None:
        return None, [Check("configuration", "skip", f"{DEFAULT_CONFIG} is not there", "give one: --config FILE")]
    try:
        loaded = load_configuration(path)
    except ConfigError as error:
        return None, [Check("configuration", "fail", str(error), "correct that line")]
    warnings = [Check("configuration", "warn", warning) for warning in loaded.warnings]
    return loaded, [Check("configuration", "ok", str(path)), *warnings]


def _back_ends(delegates: Sequence[Delegate], chosen: str | None, declared: Collection[str]) -> Iterator[Check]:
    for item in delegates:
        if item.name in declared and not item.usable:
            fix = f'mend that, or leave "{item.name}" out of [model.NAME] delegates'
            yield Check(f"delegate.{item.name}", "warn", item.reason, fix)
    if chosen is not None:
        yield Check("delegate", "ok", f"{chosen}: the first in the declared order that works")
        return
    other = next((item.name for item in delegates if item.usable), None)
    fix = f'add "{other}" to [model.NAME] delegates' if other else "see the reasons above"
    yield Check("delegate", "fail", "no declared back-end works", fix)


def _models(loaded: LoadedConfig | None) -> Iterator[Check]:
    if loaded is None:
        return
    for name in loaded.config.model:
        try:
            model = load_model(model_request(loaded, name, remember=False))
        except EdgeAgentError as error:
            yield Check(f"model.{name}", "fail", str(error).splitlines()[0], "edge-agent check says more")
            continue
        info = model.engine.runtime.info
        because = f" ({info.reason})" if info.reason else ""
        yield Check(f"model.{name}", "ok", f"runs on {info.delegate}{because}")
        for note in model.engine.card.notes:
            yield Check(f"model.{name}", "ok", note)


def _surroundings(loaded: LoadedConfig | None, profile: Profile, host: Host) -> Iterator[Check]:
    yield from camera_checks(find_cameras(), profile, holders)
    yield from sensor_checks(find_sensors())
    mqtt, folder = (loaded.config.mqtt, loaded.folder) if loaded else (MqttConfig(), Path())
    yield broker(mqtt, reachable(mqtt, folder), host)
