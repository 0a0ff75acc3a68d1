"""A line with simulated hardware: one machine, two cameras, five values, and a broker and a listener outside of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.simulators.broker import Mosquitto
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.system.simulated_hardware import (
    EXAMPLE,
    HOST,
    LINE_MAC,
    I2cSensors,
    LoopbackCamera,
    UsbScale,
    VividCamera,
    recipe,
)
from tests.system.virtual_machine import VirtualMachine
from tests.system.vm_image import built

UNIT = "edge-agent"
LIMIT_S = 400.0
CONFIG = f"""\
[device]
id = "line3"

[mqtt]
host = "{HOST}"
port = BROKER_PORT
insecure = true
stats_interval = "5s"

[outbox]
durability = "every"

[[camera]]
name = "belt"
source = "v4l2:{LoopbackCamera.NODE}"

[[camera]]
name = "gate"
source = "v4l2:{VividCamera.LINK}"
width = 300
height = 170
fps = 7

[[sensor]]
name = "heat"
source = "hwmon:lm75"
interval = "300ms"
[sensor.fields.temperature]
select = "temp1"
unit = "degC"

[[sensor]]
name = "air"
source = "iio:bmp280"
interval = "300ms"
[sensor.fields.temperature]
select = "in_temp"
unit = "degC"
scale = 0.001
[sensor.fields.pressure]
select = "in_pressure"
unit = "hPa"
scale = 10.0

[[sensor]]
name = "scale"
source = "serial:{UsbScale.LINK}?baud=115200&columns=weight,vibration"
format = "csv"
[sensor.fields.weight]
unit = "g"
[sensor.fields.vibration]
unit = "mm/s"

[[pipeline]]
name = "inspect"
camera = "belt"
model = "conveyor"
rate = "2/s"
features = {{ weight = "scale.weight", temperature = "heat.temperature", vibration = "scale.vibration" }}
attach = ["air"]
align = {{ method = "nearest", max_skew = "2s" }}

[[pipeline]]
name = "watch"
camera = "gate"
model = "conveyor"
rate = "1/s"
features = {{ weight = "scale.weight", temperature = "heat.temperature", vibration = "scale.vibration" }}
align = {{ method = "nearest", max_skew = "2s" }}

[model.conveyor]
path = "{EXAMPLE}/model/conveyor.tflite"
"""


class Part(NamedTuple):
    """What lies before the camera, what the instruments say of it, and what is wrong with it."""

    picture: str
    weight: float
    celsius: float
    vibration: float
    label: str


class World:
    """The machine, its devices, the broker outside and who listens there."""

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto(folder / "broker")
        self.broker.start()
        self.stranger = Subscriber(self.broker.port)
        self.scale = UsbScale()
        line = ["-netdev", "user,id=line,net=10.0.3.0/24", "-device"]
        line.append(f"virtio-net-pci,netdev=line,romfile=,mac={LINE_MAC}")
        extra = [*self.scale.arguments, *line]
        self.machine = VirtualMachine(built(recipe()), folder / "vm", memory_mib=768, extra=extra)
        self.belt, self.gate = LoopbackCamera(self.machine), VividCamera(self.machine)
        self.i2c = I2cSensors(self.machine)

    def start(self) -> None:
        print(f"shell after {self.machine.start():.0f} s")
        self.machine.write("/etc/edge-agent/agent.toml", CONFIG.replace("BROKER_PORT", str(self.broker.port)))
        self.scale.connect(self.machine)
        began = time.monotonic()
        self.machine.run(f"systemctl start {UNIT}", limit_s=900.0)
        print(f"the service was ready after {time.monotonic() - began:.0f} s more")

    def close(self) -> None:
        self.scale.close()
        self.machine.remove()
        self.stranger.close()
        self.broker.stop()

    def present(self, part: Part) -> None:
        self.belt.lay(part.picture)
        self.i2c.set_celsius(part.celsius)
        self.scale.shows(part.weight, part.vibration)

    @contextmanager
    def hears(self, kind: str, subject: str, words: str = "") -> Iterator[None]:
        """An event of that kind comes for what is done meanwhile."""

        def found() -> list[str]:
            events = [event for event in self.stranger.events(kind) if event["subject"] == subject]
            return [event["detail"] for event in events if words in event["detail"]]

        before = len(found())
        yield
        try:
            wait_for(lambda: len(found()) > before, f"{kind} of {subject}: {words}", LIMIT_S)
        except AssertionError as error:
            last = [f"{event['kind']}: {event['detail']}" for event in self.stranger.payloads("/event")][-8:]
            raise AssertionError(f"{error}; the last events: {last}") from None

    def predictions(self, pipeline: str) -> list[dict[str, Any]]:
        return [item for item in self.stranger.predictions() if item["pipeline"] == pipeline]

    def predicts(self, pipeline: str, holds: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """A prediction that comes from now on and for which that holds."""
        seen = len(self.predictions(pipeline))
        new: list[dict[str, Any]] = []

        def matching() -> bool:
            new.extend(self.predictions(pipeline)[seen + len(new) :])
            return any(map(holds, new))

        wait_for(matching, f"a prediction of {pipeline}; the last was {new[-1:]}", LIMIT_S)
        return next(filter(holds, new))

    def gate_counts(self, name: str) -> int:
        """Of the camera that is unplugged, as the newest statistics say."""
        stats = self.stranger.last("/stats")
        assert stats is not None
        return int(stats["cameras"]["gate"][name])

    def show(self, name: str) -> str:
        return self.machine.run(f"systemctl show --value --property={name} {UNIT}")


def label(prediction: dict[str, Any]) -> str:
    return str(prediction["outputs"]["fault"]["classes"][0]["label"])


def value(prediction: dict[str, Any], reading: str) -> float | None:
    return prediction["readings"][reading]["value"]  # type: ignore[no-any-return]
