"""Builds the parts of the daemon from the configuration. With agent.py (which joins them) the only place where
adapters of ``io`` meet the logic of ``core``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.config.schema import Config, OutboxConfig, PipelineConfig, SensorConfig
from edge_agent.core.align import Aligner, Wanted
from edge_agent.core.card_schema import Feature
from edge_agent.core.drift.carried import carried
from edge_agent.core.model_card import resolve
from edge_agent.core.outbox import Bounds
from edge_agent.core.physical_units import conversion
from edge_agent.core.readings import FieldConverter
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import parse_model
from edge_agent.io.runtimes.choose import Chosen
from edge_agent.io.runtimes.failover import FailoverRuntime
from edge_agent.loading import Loading, ModelRequest, begin
from edge_agent.records import ModelFile, ModelIdentity
from edge_agent.stages.engine import Engine


class LoadedModel(Struct, frozen=True):
    """An engine and the story of its back-end: ``tried`` lists what was not used and why; ``failover`` is its runtime,
    where that may change the back-end."""

    engine: Engine
    file: ModelFile
    tried: tuple[tuple[str, str], ...]
    failover: FailoverRuntime | None = None


def load_model(request: ModelRequest) -> LoadedModel:
    """From the file to an engine. Raises ModelError, DeviceError or ConfigError."""
    return finish(begin(request))


def finish(loading: Loading, trying: Callable[[str, float], None] = lambda _name, _trial_s: None) -> LoadedModel:
    """Wait for the back-end, resolve the card. ``trying`` is told each back-end before it is waited for, and how
    long at most. Raises ModelError, DeviceError or ConfigError."""
    request, file, chosen = loading.request, loading.file, loading.choice.result(trying=trying)
    running = _running(file, chosen)
    card = resolve(
        running,
        chosen.runtime.inputs,
        chosen.runtime.outputs,
        request.config.card,
        where=request.where,
        read_text=lambda name: read_labels(request.folder / name),
    )
    identity = ModelIdentity(card.name or request.name, request.version or card.version or "unversioned", file.sha256)
    found = carried(running.members, card, chosen.runtime.outputs)
    return LoadedModel(Engine(identity, card, chosen.runtime, found), file, chosen.tried, chosen.failover)


def _running(file: ModelFile, chosen: Chosen) -> ModelFile:
    """The file whose tensors run: the CPU build inside a build for the Edge TPU says of itself what it can, and is
    described by the outer file where it does not."""
    if chosen.member is None:
        return file
    inner = parse_model(chosen.content, Path(file.path) / chosen.member)
    return replace(
        inner,
        card=inner.card or file.card,
        metadata=inner.metadata or file.metadata,
        members={**file.members, **inner.members},
    )


def read_labels(path: Path) -> str:
    """The text of a labels file. Raises ConfigError."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: the labels can't be read: not a file")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the labels can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the labels are not UTF-8 text; give a file with one label a line") from None


def make_aligner(pipeline: PipelineConfig, config: Config, engine: Engine) -> Aligner:
    """The aligner for a pipeline's features and attached sensors. Raises ConfigError where they do not fit."""
    return Aligner(wanted_of(pipeline, config, engine), pipeline.align)


def wanted_of(pipeline: PipelineConfig, config: Config, engine: Engine) -> list[Wanted]:
    """What the pipeline wants of the readings with this model. Raises ConfigError where they do not fit."""
    sensors = {sensor.name: sensor for sensor in config.sensor}
    features = {feature.name: feature for item in engine.card.feature_inputs for feature in item.features}
    _check_images(pipeline, tuple(engine.images))
    _check_features(pipeline, features)
    wanted = [_feature(pipeline, sensors, name, features[name]) for name in features]
    for sensor_name in pipeline.attach:
        for field_name, field in sensors[sensor_name].fields.items():
            key = f"{sensor_name}.{field_name}"
            wanted.append(Wanted(name=key, key=key, unit=field.unit))
    return wanted


def wanted_arguments(engine: Engine) -> list[Wanted]:
    """The model's features as values given by hand, in the card's own units, under the keys "argument.NAME"."""
    features = [feature for item in engine.card.feature_inputs for feature in item.features]
    return [_wanted_feature(feature, f"argument.{feature.name}", feature.unit) for feature in features]


def bounds(config: OutboxConfig) -> Bounds:
    """What may wait for the broker, and how it goes out."""
    period_ns = round(1e9 / config.drain) if config.drain > 0 else 0
    memory = min(config.memory, config.disk)  # the store spares what is in memory too, so that has to fit on the disk
    return Bounds(memory, config.disk, config.max_age, period_ns, every=config.durability == "every")


def converters(sensor: SensorConfig) -> list[FieldConverter]:
    """One for each field, with a state of its own."""
    return [FieldConverter(sensor.name, name, field) for name, field in sensor.fields.items()]


def sensors_of(pipeline: PipelineConfig) -> set[str]:
    """Names of the sensors that a pipeline needs."""
    return {key.split(".")[0] for key in pipeline.features.values()} | set(pipeline.attach)


def silence_s(sensor: SensorConfig) -> float:
    """Seconds without a reading after which a sensor counts as silent; infinite for a file, which has its own times."""
    kind = sensor.source.split(":", 1)[0]
    if kind == "csv":
        return math.inf
    polled = kind in ("iio", "hwmon", "command")
    return max(sensor.timeout.seconds, 2 * sensor.interval.seconds if polled else 0.0)


def _check_images(pipeline: PipelineConfig, tensors: tuple[str, ...]) -> None:
    for tensor in pipeline.images:
        if tensor not in tensors:
            known = ", ".join(tensors) or "none"
            raise ConfigError(
                f"pipeline {pipeline.name!r}: images: the model has no image input {tensor!r}; it has: {known}"
            )


def _check_features(pipeline: PipelineConfig, features: Mapping[str, Feature]) -> None:
    where = f"pipeline {pipeline.name!r}: features"
    for name in pipeline.features.keys() - features.keys():
        known = ", ".join(features) or "none: it takes no features (use attach to publish readings beside predictions)"
        raise ConfigError(f"{where}: the model has no feature {name!r}; its features are: {known}")
    for name in features.keys() - pipeline.features.keys():
        raise ConfigError(f'{where}: the model\'s feature {name!r} has no sensor; add {name} = "sensor.field"')


def _feature(pipeline: PipelineConfig, sensors: Mapping[str, SensorConfig], name: str, feature: Feature) -> Wanted:
    key = pipeline.features[name]
    sensor_name, field_name = key.split(".")
    unit = sensors[sensor_name].fields[field_name].unit
    try:
        to_card = conversion(unit, feature.unit)
    except ValueError as error:
        raise ConfigError(
            f"pipeline {pipeline.name!r}: {name} = {key!r} is in {unit!r} but the model wants {feature.unit!r}: {error}"
        ) from None
    return _wanted_feature(feature, key, unit, to_card)


def _wanted_feature(feature: Feature, key: str, unit: str, to_card: tuple[float, float] = (1.0, 0.0)) -> Wanted:
    fill = feature.mean if feature.fill is None else feature.fill
    return Wanted(name=feature.name, key=key, unit=unit, feature=True, fill=fill, to_card=to_card, valid=feature.range)
