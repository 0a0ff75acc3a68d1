"""``edge-agent check``: says of a configuration what ``run`` would say; ``--devices`` opens each device once."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from edge_agent.assembly import load_model, make_aligner
from edge_agent.commands.common import add_config, add_json, parser
from edge_agent.config.files import check_files
from edge_agent.config.load import LoadedConfig
from edge_agent.config.schema import CameraConfig, PipelineConfig, SensorConfig
from edge_agent.errors import ConfigError, DeviceError, EdgeAgentError, TransportError
from edge_agent.io.cameras import create_camera
from edge_agent.io.clock import SystemClock
from edge_agent.io.model_file import read_model
from edge_agent.io.mqtt_client import make_client
from edge_agent.io.mqtt_reachable import reachable
from edge_agent.io.sensors import create_sensor, create_series
from edge_agent.loading import load_configuration, model_request
from edge_agent.ports import MessageHandler

SCHEMA = "edge-agent/check/1"
UNTRIED = "understood; --devices tries it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer. ``code`` is the exit code that it asks for."""

    subject: str
    status: str  # ok | warn | fail
    detail: str
    code: int = 0


def main(argv: Sequence[str]) -> int:
    arguments = parser("check", "Validate the configuration without starting anything.")
    add_config(arguments)
    arguments.add_argument("--devices", action="store_true", help="also open each camera, sensor and back-end once")
    add_json(arguments)
    options = arguments.parse_args(argv)
    findings = check(load_configuration(options.config), options.devices)
    code = max((finding.code for finding in findings), default=0)
    if options.json:
        print(json.dumps({"schema": SCHEMA, "ok": code == 0, "findings": [asdict(finding) for finding in findings]}))
        return code
    for finding in findings:
        stream = sys.stderr if finding.status == "fail" else sys.stdout
        print(f"{finding.status:<5} {finding.subject}: {finding.detail}", file=stream)
    print("the configuration is good" if code == 0 else "the configuration can't be used as it is")
    return code


def check(loaded: LoadedConfig, devices: bool) -> list[Finding]:
    """Everything that can be said, the good too, in the order of the file."""
    config = loaded.config
    findings = [
        Finding(str(loaded.path), "ok", f"read; pipelines: {len(config.pipeline)}, profile {loaded.profile.name}")
    ]
    findings += [Finding("configuration", "warn", warning) for warning in loaded.warnings]
    files = check_files(loaded)
    findings += [Finding("files", "fail", problem, ConfigError.exit_code) for problem in files.problems]
    findings += [Finding("files", "warn", warning) for warning in files.warnings]
    for pipeline in config.pipeline:
        findings.append(_try(f"pipeline {pipeline.name}", partial(_pipeline, loaded, pipeline, devices)))
    for camera in config.camera:
        findings.append(_try(f"camera {camera.name}", partial(_camera, loaded, camera, devices)))
    for sensor in config.sensor:
        findings.append(_try(f"sensor {sensor.name}", partial(_sensor, loaded, sensor, devices)))
    findings.append(_try("broker", partial(_broker, loaded, devices)))
    return findings


def _try(subject: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, "ok", attempt())
    except TransportError as error:  # the daemon starts without a broker and waits for it
        return Finding(subject, "warn", str(error))
    except EdgeAgentError as error:
        return Finding(subject, "fail", str(error), error.exit_code)


def _pipeline(loaded: LoadedConfig, pipeline: PipelineConfig, devices: bool) -> str:
    file = read_model(loaded.folder / loaded.config.model[pipeline.model].path)
    if file.form == "edgetpu" and not devices:
        return f"model {pipeline.model} is compiled for the Edge TPU; --devices says whether one is there"
    model = load_model(model_request(loaded, pipeline.model, remember=False))
    make_aligner(pipeline, loaded.config, model.engine)
    info = model.engine.runtime.info
    model.engine.runtime.close()
    return (
        f"model {model.engine.identity.name} {model.engine.identity.version} on {info.delegate}{_because(info.reason)}"
    )


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _camera(loaded: LoadedConfig, config: CameraConfig, devices: bool) -> str:
    camera = create_camera(config, SystemClock(), loaded.folder, threading.Event())
    if not devices:
        return UNTRIED
    try:
        camera.open()
        if camera.grab() is None:
            raise DeviceError(f"camera {config.name}: the source has no frame")
        height, width = camera.retrieve().shape[:2]
    finally:
        camera.close()
    note = getattr(camera, "note", "")
    return f"{width}x{height}" + (f"; {note}" if note else "")


def _sensor(loaded: LoadedConfig, config: SensorConfig, devices: bool) -> str:
    if config.timeline == "media":
        create_series(config, loaded.folder)
        return "its rows can be read"
    sensor = create_sensor(config, SystemClock(), loaded.folder, subscribe=_no_subscription, stopping=threading.Event())
    if not devices or config.source.startswith("mqtt:"):
        return UNTRIED
    try:
        sensor.open()
        sample = sensor.read(config.timeout.seconds)
    finally:
        sensor.close()
    if sample is None:
        raise DeviceError(f"sensor {config.name}: no reading within {config.timeout.seconds:g} s")
    return ", ".join(f"{name} = {value!r}" for name, value in sample.values.items()) or "a reading without values"


def _no_subscription(_topic: str, _handler: MessageHandler) -> None:
    """A check does not connect as the daemon would."""


def _broker(loaded: LoadedConfig, devices: bool) -> str:
    mqtt = loaded.config.mqtt
    # reads the password and the certificates: what is wrong with them keeps the daemon from starting
    make_client(mqtt, loaded.folder, "")
    if not devices:
        return UNTRIED
    reason = reachable(mqtt, loaded.folder)
    if reason is not None:
        raise TransportError(f"{reason}; the daemon would start and wait for it")
    return f"{mqtt.host}:{mqtt.port} accepts this configuration"
