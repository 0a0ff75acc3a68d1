"""Every key of agent.toml, its type and its default. A leaf: values only, read by everybody.

docs/configuration.md explains each key; a test keeps the two the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from edge_agent.config.units import Duration, Rate, Size

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
DeviceId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,63}$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
FieldRef = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*\.[A-Za-z0-9_-]+$")]


def _ms(value: int) -> Duration:
    return Duration(value * 10**6)


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An unknown key is an error, never ignored."""


class DeviceConfig(_Strict, frozen=True, kw_only=True):
    id: DeviceId | None = None  # None: the host name
    groups: tuple[Name, ...] = ()
    profile: str = "auto"


class TlsConfig(_Strict, frozen=True, kw_only=True):
    ca: str | None = None  # None: the system's certificates
    certificate: str | None = None
    key: str | None = None


class MqttConfig(_Strict, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Port = 1883
    protocol: Literal["5", "3.1.1"] = "5"
    username: Annotated[str, Meta(max_length=256)] | None = None
    password_file: str | None = None
    insecure: bool = False
    base_topic: Annotated[str, Meta(pattern=r"^[^+#\x00]+$", max_length=256)] = "edge-agent"
    client_id: Annotated[str, Meta(max_length=256)] | None = None  # None: "<base_topic>-<device>"
    keepalive: Duration = _ms(30_000)
    prediction_expiry: Duration = _ms(86_400_000)  # MQTT 5 message expiry of a prediction
    stats_interval: Duration = _ms(10_000)
    tls: TlsConfig | None = None


class CameraConfig(_Strict, frozen=True, kw_only=True):
    name: Name
    source: str
    width: Annotated[int, Meta(ge=1, le=16384)] | None = None
    height: Annotated[int, Meta(ge=1, le=16384)] | None = None
    fps: Annotated[float, Meta(gt=0, le=1000)] | None = None
    pace: Literal["media", "max"] = "media"
    loop: bool = False
    drop: Literal["newest", "none"] | None = None  # None: "newest" for live sources, "none" for files
    username: str | None = None
    password_file: str | None = None
    timeout: Duration = _ms(5_000)  # no frame for that long: the source is lost and opened anew


class FieldConfig(_Strict, frozen=True, kw_only=True):
    select: str | None = None  # column, JSON path or pattern group; None: the field's own name
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    range: tuple[float, float] | None = None  # in `unit`, after scale and offset
    stuck_after: Duration = _ms(300_000)  # bit-identical for that long (and 30 readings): flagged; "0s" never


class SensorConfig(_Strict, frozen=True, kw_only=True):
    name: Name
    source: str
    fields: dict[str, FieldConfig]
    timeline: Literal["live", "media"] = "live"
    start: str | float | None = None  # csv: the row time that is media time 0; None: the first row
    speed: Annotated[float, Meta(gt=0)] = 1.0  # csv: seconds of the file's time in one second
    loop: bool = False  # csv: begin again after the last row
    time_column: str | None = None  # csv: None: the first column
    interval: Duration = _ms(1_000)  # iio, hwmon, command: how often it is asked
    timeout: Duration = _ms(10_000)  # no reading for that long: the sensor is lost and opened anew
    format: Literal["regex", "json", "csv"] = "json"  # serial lines
    pattern: str | None = None  # serial, format = "regex": named groups are the fields


class AlignConfig(_Strict, frozen=True, kw_only=True):
    method: Literal["nearest", "interpolate", "hold"] = "nearest"
    max_skew: Duration = _ms(200)
    max_age: Duration = _ms(5_000)
    wait: Duration = _ms(0)
    missing: Literal["fill", "discard"] = "fill"


class PublishConfig(_Strict, frozen=True, kw_only=True):
    mode: Literal["every", "change", "interval"] = "every"
    interval: Duration = _ms(1_000)
    deadband: Annotated[float, Meta(ge=0)] = 0.0


class SmoothingConfig(_Strict, frozen=True, kw_only=True):
    window: Annotated[int, Meta(ge=1, le=1000)] = 1  # predictions averaged; 1: off


class PipelineConfig(_Strict, frozen=True, kw_only=True):
    name: Name
    camera: Name
    model: Name
    images: dict[str, Name] = {}  # further image inputs: tensor name -> camera; the others take `camera`
    features: dict[str, FieldRef] = {}
    attach: tuple[Name, ...] = ()
    rate: Rate = Rate("inf")
    align: AlignConfig = AlignConfig()
    publish: PublishConfig = PublishConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None  # overrides the card's
    rate_floor: Rate = Rate(1.0)  # heat lowers the rate no further


class ModelConfig(_Strict, frozen=True, kw_only=True):
    path: str
    card: dict[str, Any] | None = None  # checked by core.model_card against the file's own tensors
    delegates: tuple[str, ...] | None = None  # None: the profile's order
    threads: Annotated[int, Meta(ge=1, le=64)] | None = None  # None: the profile's
    runtime: Literal["litert", "tflite-runtime"] | None = None  # of a .tflite; None: LiteRT where it is installed


class DelegateConfig(_Strict, frozen=True, kw_only=True):
    """An external TFLite delegate: a shared library with tflite_plugin_create_delegate."""

    kind: Literal["edgetpu"] | None = None  # "edgetpu": it drives one, and takes models compiled for it alone
    library: str | None = None  # None: libedgetpu.so.1 of an Edge TPU; others must name theirs
    options: dict[str, str] = {}


class OutboxConfig(_Strict, frozen=True, kw_only=True):
    path: str | None = None  # the file; None: in the service's state directory
    durability: Literal["batch", "every"] = "batch"  # every: on the disk before it is published
    memory: Size = Size(16 * 2**20)  # may wait in memory
    disk: Size = Size(2**30)  # may wait on the disk
    max_age: Duration = _ms(7 * 86_400_000)
    drain: Rate = Rate(2000.0)  # the backlog, beside the live predictions


class UpdateConfig(_Strict, frozen=True, kw_only=True):
    """Models over the air. Without ``repository`` only ``edge-agent models install`` brings new ones."""

    repository: str | None = None  # "https://…", "http://…", "mqtt:" (chunks over the broker), or a folder
    root: str | None = None  # root metadata that this device trusts; None: update-root.json beside agent.toml
    channel: Name = "main"
    poll: Duration = _ms(6 * 3_600_000)  # with jitter; a bell over MQTT comes first
    window: str | None = None  # "02:00-05:00", UTC: trials begin inside it; None: at any time
    rate: Size = Size(0)  # bytes a second of a transfer at most; 0: as fast as it goes
    disk: Size = Size(512 * 2**20)  # for models beside the current, the previous and the factory one
    path: str | None = None  # the folder of state and models; None: in the service's state directory
    tls: TlsConfig | None = None  # of https


class SamplesConfig(_Strict, frozen=True, kw_only=True):
    """Samples kept for retraining. They leave the device by ``edge-agent samples export`` alone."""

    disk: Size = Size(64 * 2**20)  # all of them together, the oldest go first; 0: none are kept
    images: bool = False  # the picture too, as the camera took it


class DriftConfig(_Strict, frozen=True, kw_only=True):
    """Drift and data quality of every pipeline."""

    enabled: bool = True
    report: Duration = _ms(300_000)  # between two reports while nothing happens
    block: Duration = _ms(900_000)  # the least; correlated pictures make it longer
    commissioning: Duration = _ms(14 * 86_400_000)  # how long the baseline is learnt; a weekly cycle is seen twice
    feedback: Duration = _ms(7 * 86_400_000)  # how long a label may come after its prediction
    path: str | None = None  # the folder of what was learnt and of the samples; None: in the state directory
    samples: SamplesConfig = SamplesConfig()


class HttpConfig(_Strict, frozen=True, kw_only=True):
    """A port for those who ask instead of subscribing: metrics, health. Without the table nothing listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9477  # 0: any that is free
    insecure: bool = False  # must be true for any other host: no TLS, no password


class LogConfig(_Strict, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Strict, frozen=True, kw_only=True):
    device: DeviceConfig = DeviceConfig()
    mqtt: MqttConfig = MqttConfig()
    camera: tuple[CameraConfig, ...] = ()
    sensor: tuple[SensorConfig, ...] = ()
    pipeline: tuple[PipelineConfig, ...] = ()
    model: dict[str, ModelConfig] = field(default_factory=dict)
    delegate: dict[str, DelegateConfig] = field(default_factory=dict)
    outbox: OutboxConfig = OutboxConfig()
    update: UpdateConfig = UpdateConfig()
    drift: DriftConfig = DriftConfig()
    http: HttpConfig | None = None
    log: LogConfig = LogConfig()
