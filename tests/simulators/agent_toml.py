"""Parts of agent.toml that the daemons under test are configured with, most of them around the shipped example."""

from __future__ import annotations

from pathlib import Path

CONVEYOR = Path(__file__).resolve().parents[2] / "examples" / "conveyor"
DEVICE = "line1"
FIELDS = {"weight": "g", "temperature": "degC", "vibration": "mm/s"}


def head(port: int, *mqtt: str) -> str:
    """``mqtt``: further lines of that table."""
    return _table("[device]", f'id = "{DEVICE}"') + _table("[mqtt]", f"port = {port}", 'stats_interval = "1s"', *mqtt)


def camera(name: str, source: str, *lines: str) -> str:
    return _table("[[camera]]", f'name = "{name}"', f'source = "{source}"', *lines)


def belt(fps: int = 20, *lines: str) -> str:
    """The example's pictures as the camera ``belt``, in real time, for ever."""
    return camera("belt", f"images:{CONVEYOR}/media/frames/*.jpg", f"fps = {fps}", "loop = true", *lines)


def sensor(name: str, source: str, *lines: str, fields: dict[str, str]) -> str:
    """``fields``: name -> the lines of its table, or just its unit."""
    text = _table("[[sensor]]", f'name = "{name}"', f'source = "{source}"', *lines)
    for field, content in fields.items():
        text += _table(f"[sensor.fields.{field}]", content if "=" in content else f'unit = "{content}"')
    return text


def machine(timeline: str = "live") -> str:
    """The example's readings, ten a second, as the sensor ``machine``."""
    source = f"csv:{CONVEYOR}/media/sensors.csv"
    return sensor("machine", source, f'timeline = "{timeline}"', "loop = true", fields=FIELDS)


def inspect(name: str = "inspect", camera: str = "belt", *lines: str) -> str:
    """A pipeline of the example's model with readings of ``machine``."""
    features = ", ".join(f'{field} = "machine.{field}"' for field in FIELDS)
    return pipeline(name, camera, "conveyor", f"features = {{ {features} }}", *lines)


def pipeline(name: str, camera: str, model: str, *lines: str) -> str:
    return _table("[[pipeline]]", f'name = "{name}"', f'camera = "{camera}"', f'model = "{model}"', *lines)


MODEL = f'[model.conveyor]\npath = "{CONVEYOR}/model/conveyor.tflite"\n'


def classifier(name: str, path: Path, *lines: str) -> str:
    """An ImageNet classifier of the shared data as ``[model.NAME]``."""
    labels = path.parents[1] / "labels" / "imagenet_labels.txt"
    return _table(f"[model.{name}]", f'path = "{path}"', *lines) + _table(
        f"[model.{name}.card]", 'task = "classification"', f'labels = "{labels}"'
    )


def _table(header: str, *lines: str) -> str:
    return "\n".join([header, *lines]) + "\n"
