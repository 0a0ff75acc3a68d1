"""``edge-agent doctor``: what this machine has, what would be used and why, and how to mend what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_agent.assembly import load_model
from edge_agent.commands.common import DEFAULT_CONFIG, Check, add_json, parser
from edge_agent.commands.doctor_updates import update_checks
from edge_agent.config.load import LoadedConfig
from edge_agent.config.profile import Profile
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.io.board import Board, read_board, temperature_c, throttled
from edge_agent.io.cameras.discover import find_cameras
from edge_agent.io.clock import SystemClock
from edge_agent.io.mqtt_reachable import reachable
from edge_agent.io.profiles import find_profile
from edge_agent.io.runtimes.probe import Probe
from edge_agent.io.runtimes.self_test import self_test_model
from edge_agent.io.sensors.discover import find_sensors
from edge_agent.loading import load_configuration, model_request

SCHEMA = "edge-agent/doctor/1"
PROBE_S = 20.0
LIBRARIES = ("ai-edge-litert", "tflite-runtime")


@dataclass(frozen=True, slots=True)
class Delegate:
    name: str
    usable: bool
    reason: str


def main(argv: Sequence[str]) -> int:
    arguments = parser("doctor", "Say what this machine has and what the daemon would use.")
    arguments.add_argument("--config", type=Path, metavar="FILE", help=f"also examine this (default {DEFAULT_CONFIG})")
    add_json(arguments)
    options = arguments.parse_args(argv)
    board = read_board()
    path = options.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    loaded, checks = _configuration(path)
    profile = loaded.profile if loaded else find_profile("auto", board)
    delegates = try_delegates(profile, loaded)
    chosen = next((delegate.name for delegate in delegates if delegate.usable), None)
    checks = [
        *_machine(board, profile),
        *checks,
        _back_end(delegates, chosen),
        *_models(loaded),
        *(update_checks(loaded) if loaded else ()),
        *_surroundings(loaded),
    ]
    ok = all(check.status != "fail" for check in checks)
    if options.json:
        shown = {"checks": [asdict(check) for check in checks], "delegates": [asdict(item) for item in delegates]}
        print(json.dumps({"schema": SCHEMA, "ok": ok, **shown, "chosen": chosen}))
    else:
        print(_text(checks, delegates, chosen))
    return 0 if ok else 1


def try_delegates(profile: Profile, loaded: LoadedConfig | None) -> list[Delegate]:
    """Each back-end of the declared order, and the others that are built in, tried with a small model in a child."""
    external = loaded.config.delegate if loaded else {}
    names = dict.fromkeys((*profile.delegates, *external, "edgetpu", "xnnpack", "cpu"))
    model = self_test_model()
    probes = {name: Probe(model, name, threads=1, external=external).start() for name in names}
    results = {name: probe.result(PROBE_S) for name, probe in probes.items()}
    return [Delegate(name, result.usable, result.reason) for name, result in results.items()]


def _machine(board: Board, profile: Profile) -> Iterator[Check]:
    yield Check(
        "board",
        "ok",
        f"{board.model or 'unnamed board'}, {board.arch}, {board.cpus} cores, {board.memory_mb} MB, {board.os_name}",
    )
    status = "warn" if profile.support == "container only" else "ok"
    yield Check("profile", status, f"{profile.name} ({profile.title}): {profile.support}", "; ".join(profile.notes))
    yield _library()
    celsius = temperature_c()
    if celsius is None:
        yield Check("temperature", "skip", "this machine shows no thermal zone")
    else:
        hot = celsius >= profile.thermal.slow_above_c
        fix = "cool the board: at this temperature it runs slower" if hot else ""
        yield Check("temperature", "warn" if hot else "ok", f"{celsius:.0f} degC", fix)
    flags = throttled()
    if flags and (flags.now or flags.since_start):
        words = ", ".join(flags.now or flags.since_start)
        yield Check("power", "warn", f"the firmware reports: {words}", "use the board's own power supply, and cool it")
    synced = SystemClock().synced()
    fix = "" if synced else "timedatectl set-ntp true (until then predictions carry clock_synced = false)"
    yield Check("clock", "ok" if synced else "warn", "synchronised" if synced else "not synchronised", fix)


def _library() -> Check:
    for name in LIBRARIES:
        try:
            return Check("runtime", "ok", f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Check("runtime", "fail", "no TFLite runtime is installed", "pip install ai-edge-litert")


def _configuration(path: Path | None) -> tuple[LoadedConfig | None, list[Check]]:
    if path is None:
        return None, [Check("configuration", "skip", f"{DEFAULT_CONFIG} is not there", "give one: --config FILE")]
    try:
        loaded = load_configuration(path)
    except ConfigError as error:
        return None, [Check("configuration", "fail", str(error), "correct that line")]
    warnings = [Check("configuration", "warn", warning) for warning in loaded.warnings]
    return loaded, [Check("configuration", "ok", str(path)), *warnings]


def _back_end(delegates: Sequence[Delegate], chosen: str | None) -> Check:
    if chosen is None:
        return Check("delegate", "fail", "no back-end works", "see the reasons below")
    before = [f"{item.name}: {item.reason}" for item in delegates[: [item.name for item in delegates].index(chosen)]]
    why = f"the first in the declared order that works{' (' + '; '.join(before) + ')' if before else ''}"
    return Check("delegate", "ok", f"{chosen}: {why}")


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


def _surroundings(loaded: LoadedConfig | None) -> Iterator[Check]:
    cameras = find_cameras()
    for camera in cameras:
        status = "warn" if camera.problem else "ok"
        yield Check("camera", status, f"{camera.source} {camera.name}", camera.problem)
    if not cameras:
        fix = "attach one; a network camera or a file needs none (rtsp://, http://, file:, images:)"
        yield Check("camera", "skip", "no local camera", fix)
    sensors = find_sensors()
    for sensor in sensors:
        yield Check("sensor", "ok", f"{sensor.source} {sensor.detail} {' '.join(sensor.selects)}".strip())
    if not sensors:
        yield Check("sensor", "skip", "no local sensor (IIO, hwmon, thermal zone, serial port)")
    mqtt, folder = (loaded.config.mqtt, loaded.folder) if loaded else (MqttConfig(), Path())
    reason = reachable(mqtt, folder)
    place = f"{mqtt.host}:{mqtt.port}"
    if reason is None:
        yield Check("broker", "ok", f"{place} accepts connections")
    else:
        fix = "the daemon starts without and waits; no broker yet: apt install mosquitto, or set [mqtt] host and port"
        yield Check("broker", "warn", reason if place in reason else f"{place}: {reason}", fix)


def _text(checks: Sequence[Check], delegates: Sequence[Delegate], chosen: str | None) -> str:
    lines = []
    for check in checks:
        lines.append(f"{check.status:<5} {check.id:<14} {check.detail}")
        if check.fix:
            lines.append(f"{'':<21}-> {check.fix}")
    lines.append("")
    lines.append("back-ends, in order")
    for delegate in delegates:
        mark = "used" if delegate.name == chosen else ("works" if delegate.usable else "no")
        lines.append(f"{mark:<5} {delegate.name:<14} {delegate.reason}")
    return "\n".join(lines)
