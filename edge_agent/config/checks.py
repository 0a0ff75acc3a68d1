"""What one table alone can't know: that names exist and are unique, that back-ends are known, what is unused.

Pure: no file, host or device is looked at. Each check yields findings; the first fatal one is the error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from edge_agent.config.checks_http import HTTP_CHECKS
from edge_agent.config.checks_mqtt import MQTT_CHECKS
from edge_agent.config.checks_sources import SOURCE_CHECKS
from edge_agent.config.checks_time import TIME_CHECKS
from edge_agent.config.checks_update import UPDATE_CHECKS
from edge_agent.config.explain import PATTERN_WORDS
from edge_agent.config.finding import Finding, at
from edge_agent.config.schema import Config, Name
from edge_agent.config.words import choices, key_path, listed, show
from edge_agent.errors import ConfigError

Check = Callable[[Config], Iterator[Finding]]
BUILT_IN_DELEGATES: Final = ("xnnpack", "cpu", "edgetpu", "gpu", "onnx-tensorrt", "onnx-cuda", "onnx-cpu")
_DEVICE: Final = r"(usb|pci)?(:[0-9]+)?"  # of libedgetpu: "" any, "usb" any stick, "usb:1" the second, ":1" of all
_NAME: Final[str] = Name.__metadata__[0].pattern  # type: ignore[attr-defined]
_FIELD: Final = r"[A-Za-z0-9_-]+"


def cross_check(config: Config, file: str) -> tuple[str, ...]:
    """The warnings of all checks. Raises ConfigError for the first finding that is fatal."""
    warnings = []
    for check in CHECKS:
        for finding in check(config):
            if finding.fatal:
                raise ConfigError(f"{file}: {finding}")
            warnings.append(f"{file}: {finding}")
    return tuple(warnings)


def _something_to_do(config: Config) -> Iterator[Finding]:
    needed = "at least one [[camera]], one [model.NAME] and one [[pipeline]] are needed"
    for key in ("camera", "model", "pipeline"):
        if not getattr(config, key):
            yield Finding(key, f"missing; {needed}: docs/configuration.md has an example")


def _unique_names(config: Config) -> Iterator[Finding]:
    for table in ("camera", "sensor", "pipeline"):
        first: dict[str, int] = {}
        for i, item in enumerate(getattr(config, table)):
            if first.setdefault(item.name, i) != i:
                where = at(f"{table}[{i}].name", item.name)
                yield Finding(where, f"{table}[{first[item.name]}] has that name already; names must differ")


def _names_as_keys(config: Config) -> Iterator[Finding]:
    for table in ("model", "delegate"):
        for name in getattr(config, table):
            if not re.fullmatch(_NAME, name):
                yield Finding(key_path(table, name), f"expected {PATTERN_WORDS[_NAME]}")
    for i, sensor in enumerate(config.sensor):
        if not sensor.fields:
            yield Finding(f"sensor[{i}].fields", f"empty; add [sensor.fields.NAME] for each value of {sensor.name}")
        for name in sensor.fields:
            if not re.fullmatch(_FIELD, name):
                yield Finding(key_path(f"sensor[{i}].fields", name), "expected a name of letters, digits, - and _")


def _references(config: Config) -> Iterator[Finding]:
    cameras = [camera.name for camera in config.camera]
    sensors = {sensor.name: sensor.fields for sensor in config.sensor}
    for i, pipeline in enumerate(config.pipeline):
        where = f"pipeline[{i}]"
        yield from _exists(f"{where}.camera", pipeline.camera, cameras, "camera")
        yield from _exists(f"{where}.model", pipeline.model, config.model, "model")
        for tensor, camera in pipeline.images.items():
            yield from _exists(key_path(f"{where}.images", tensor), camera, cameras, "camera")
        for feature, ref in pipeline.features.items():
            yield from _reading_exists(key_path(f"{where}.features", feature), ref, sensors)
        for n, sensor in enumerate(pipeline.attach):
            yield from _exists(f"{where}.attach[{n}]", sensor, sensors, "sensor")
        yield from _repeated(f"{where}.attach", pipeline.attach)
        yield from _repeated(f"{where}.features", pipeline.features.values())


def _exists(where: str, name: str, known: Collection[str], what: str) -> Iterator[Finding]:
    if name not in known:
        yield Finding(at(where, name), f"no such {what}{choices(name, known)}")


def _reading_exists(where: str, ref: str, sensors: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    known = [f"{sensor}.{field}" for sensor, fields in sensors.items() for field in fields]
    if ref not in known:
        yield Finding(at(where, ref), f"no sensor has that field{choices(ref, known)}")


def _repeated(where: str, names: Iterable[str]) -> Iterator[Finding]:
    seen = set()
    for name in names:
        if name in seen:
            yield Finding(where, f"{show(name)} is there twice; each may be named once")
        seen.add(name)


def _delegates(config: Config) -> Iterator[Finding]:
    for name, delegate in config.delegate.items():
        drives_edgetpu = name == "edgetpu" or delegate.kind == "edgetpu"
        if name in BUILT_IN_DELEGATES and name != "edgetpu":
            yield Finding(f"delegate.{name}", f"{show(name)} is built in; give the library another name")
        if delegate.library == "" or (delegate.library is None and not drives_edgetpu):
            said = "missing" if delegate.library is None else "empty"
            yield Finding(f"delegate.{name}.library", f"{said}; name the shared library")
        device = delegate.options.get("device", "")
        if drives_edgetpu and not re.fullmatch(_DEVICE, device):
            where = at(key_path(f"delegate.{name}.options", "device"), device)
            yield Finding(where, 'expected "usb", "pci", "usb:0", "pci:0" or ":0" (they are counted from 0)')
    known = (*BUILT_IN_DELEGATES, *config.delegate)
    for model, settings in config.model.items():
        where = f"model.{model}.delegates"
        if not settings.path:
            yield Finding(f"model.{model}.path", "empty; name the .tflite or .onnx file")
        if settings.delegates == ():
            yield Finding(where, f"empty; leave it out for the profile's order, or name some of: {listed(known)}")
        for i, name in enumerate(settings.delegates or ()):
            yield from _exists(f"{where}[{i}]", name, known, "back-end")
        yield from _repeated(where, settings.delegates or ())


def _unused(config: Config) -> Iterator[Finding]:
    used: dict[str, set[str]] = {"camera": set(), "sensor": set(), "model": set(), "delegate": {"edgetpu"}}
    for pipeline in config.pipeline:
        used["camera"] |= {pipeline.camera, *pipeline.images.values()}
        used["sensor"] |= {*pipeline.attach, *(ref.partition(".")[0] for ref in pipeline.features.values())}
        used["model"].add(pipeline.model)
    for model in config.model.values():
        used["delegate"] |= set(model.delegates or ())
    by = {"camera": "pipeline", "sensor": "pipeline", "model": "pipeline", "delegate": "model"}
    for table, names in used.items():
        items = getattr(config, table)
        for name in items if isinstance(items, dict) else [item.name for item in items]:
            if name not in names:
                yield Finding(table, f"{show(name)} is used by no {by[table]}", fatal=False)


CHECKS: tuple[Check, ...] = (
    _something_to_do,
    _unique_names,
    _names_as_keys,
    *SOURCE_CHECKS,
    _references,
    *TIME_CHECKS,
    *UPDATE_CHECKS,
    _delegates,
    *MQTT_CHECKS,
    *HTTP_CHECKS,
    _unused,
)
