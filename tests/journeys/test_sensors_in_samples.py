"""Real sensors of four kinds drive the example's model; what is wrong with a reading is seen in the prediction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.agent_toml import MODEL, belt, pipeline, sensor
from tests.simulators.serial_device import SerialDevice
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.simulators.working import working

FEATURES = """features = { weight = "scale.weight", temperature = "oven.temperature", vibration = "shaker.vibration" }
attach = ["ambient"]
"""
HOLD = 'method = "hold", max_skew = "400ms", max_age = "1s"'
OVEN = "plant/oven/state"
MEAN_WEIGHT = '{"gross": 111.5}'


class Line:
    """A daemon whose readings a test makes."""

    def __init__(self, subscriber: Subscriber, scale: SerialDevice, shaker: Path) -> None:
        self.subscriber = subscriber
        self.scale = scale
        self.shaker = shaker

    def say(self, topic: str, message: object) -> None:
        self.subscriber.publish(topic, json.dumps(message))

    def wait_reading(self, name: str, fits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first prediction from now on whose reading fits."""
        seen = len(self.subscriber.predictions())

        def found() -> dict[str, Any] | None:
            new = self.subscriber.payloads("/prediction/filling")[seen:]
            return next((item for item in new if fits(item["readings"][name])), None)

        return wait_for(found, f"a prediction with such a reading of {name}")

    def stats(self) -> dict[str, Any]:
        seen = len(self.subscriber.raw("/stats"))
        return wait_for(lambda: self.subscriber.payloads("/stats")[seen:], "new statistics")[0]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("sensors")
    (folder / "shaker.json").write_text('{"rms": 2.5}')
    (folder / "ambient.csv").write_text("time,value\n" + "".join(f"{row / 10},{20 + row}\n" for row in range(5)))
    configuration = (
        belt(20)
        + sensor(
            "scale",
            f"serial:{folder}/scale?baud=115200",
            fields={"weight": 'select = "gross"\nunit = "g"\nrange = [0, 1000]'},
        )
        + sensor("oven", f"mqtt:{OVEN}", fields={"temperature": 'select = "oven.t"\nunit = "degF"'})
        + sensor(
            "shaker",
            "command:cat shaker.json",
            'interval = "200ms"',
            fields={"vibration": 'select = "rms"\nunit = "m/s"\nscale = 0.001'},
        )
        + sensor("ambient", "csv:ambient.csv", "loop = true", fields={"value": "degC"})
        + pipeline("filling", "belt", "conveyor", FEATURES, f"align = {{ {HOLD} }}")
        + pipeline("discarding", "belt", "conveyor", FEATURES, f'align = {{ {HOLD}, missing = "discard" }}')
        + MODEL
    )
    with SerialDevice(folder / "scale", MEAN_WEIGHT) as scale, working(folder, configuration) as (_, subscriber):
        subscriber.wait_predictions(1)
        yield Line(subscriber, scale, folder / "shaker.json")


def test_a_serial_line_an_mqtt_topic_a_program_and_a_table_meet_in_one_sample(line: Line) -> None:
    line.scale.line = '{"gross": 123.5}'
    line.wait_reading("weight", lambda reading: reading["value"] == 123.5)
    line.say(OVEN, {"oven": {"t": 140.0}})
    item = line.wait_reading("temperature", lambda reading: reading["value"] == 140.0)
    readings = item["readings"]
    assert readings["weight"]["unit"] == "g"
    assert readings["temperature"]["unit"] == "degF"
    assert readings["vibration"]["value"] == pytest.approx(0.0025)
    assert readings["vibration"]["unit"] == "m/s"
    assert 20 <= readings["ambient.value"]["value"] <= 24
    assert all(0 <= reading["age_ms"] <= 1000 for reading in readings.values())
    assert not [word for word in item["quality"] if "missing" in word or "range" in word]


def test_the_readings_decide_what_the_model_says(line: Line) -> None:
    def weights_of_hollow(weight: float) -> list[float]:
        line.scale.line = json.dumps({"gross": weight})
        line.wait_reading("weight", lambda reading: reading["value"] == weight)
        seen = len(line.subscriber.payloads("/prediction/filling"))
        wait_for(lambda: len(line.subscriber.payloads("/prediction/filling")) >= seen + 10, "ten predictions")
        last = line.subscriber.payloads("/prediction/filling")[-10:]
        return [found["score"] for item in last for found in item["outputs"]["fault"]["classes"] if found["index"] == 2]

    light, heavy = weights_of_hollow(60.0), weights_of_hollow(190.0)
    assert sum(light) > sum(heavy)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ('{"gross": NaN}', ["missing", "filled", "invalid"]),
        ('{"gross": "heavy"}', ["missing", "filled", "invalid"]),
        ('{"net": 5}', ["missing", "filled", "invalid"]),
        ("boot v1.2", ["missing", "filled", "invalid"]),
    ],
)
def test_a_reading_that_is_no_number_is_flagged_and_filled(line: Line, text: str, flags: list[str]) -> None:
    line.scale.line = text
    item = line.wait_reading("weight", lambda reading: reading["flags"] == flags)
    assert item["readings"]["weight"]["value"] is None
    assert item["readings"]["weight"]["age_ms"] is None
    assert [f"weight:{flag}" for flag in flags] == [word for word in item["quality"] if word.startswith("weight")]
    line.scale.line = MEAN_WEIGHT
    line.wait_reading("weight", lambda reading: reading["value"] == 111.5)


def test_readings_that_are_no_numbers_are_counted(line: Line) -> None:
    before = line.stats()["sensors"]["scale"]
    line.scale.line = "{}"
    line.wait_reading("weight", lambda reading: "invalid" in reading["flags"])
    after = line.stats()["sensors"]["scale"]
    assert before["invalid"] < after["invalid"] < after["readings"]


def test_a_reading_out_of_range_is_used_and_flagged(line: Line) -> None:
    line.scale.line = '{"gross": 5000}'
    # "held" beside it, where the machine is busy
    line.wait_reading("weight", lambda reading: (reading["value"], reading["flags"]) == (5000, ["out_of_range"]))
    line.scale.line = MEAN_WEIGHT


def test_a_serial_sensor_is_unplugged_and_plugged_in_again(line: Line) -> None:
    line.say(OVEN, {"oven": {"t": 140.0}})
    line.scale.unplug()
    wait_for(lambda: line.subscriber.events("sensor_lost"), "the event of the loss")
    item = line.wait_reading("weight", lambda reading: "missing" in reading["flags"])
    assert item["readings"]["weight"]["flags"] == ["missing", "filled", "stale"]
    line.scale.line = '{"gross": 77.5}'
    line.scale.plug_in()
    line.wait_reading("weight", lambda reading: reading["value"] == 77.5)
    assert [event["subject"] for event in line.subscriber.events("sensor_back")].count("scale") == 1
    scale = line.stats()["sensors"]["scale"]
    assert (scale["state"], scale["reopened"]) == ("reading", 1)
    assert scale["failures"] >= 1


def test_without_its_readings_a_pipeline_that_discards_publishes_nothing_and_counts(line: Line) -> None:
    line.say(OVEN, {"oven": {}})
    line.wait_reading("temperature", lambda reading: "missing" in reading["flags"])
    before = line.stats()["pipelines"]["discarding"]
    seen = len(line.subscriber.payloads("/prediction/discarding"))
    after = line.stats()["pipelines"]["discarding"]
    assert after["discards"]["missing_feature"] > before["discards"]["missing_feature"]
    assert after["predictions"] == before["predictions"]
    line.say(OVEN, {"oven": {"t": 130}})
    wait_for(lambda: len(line.subscriber.payloads("/prediction/discarding")) > seen, "a prediction again")
    again = line.subscriber.payloads("/prediction/discarding")[-1]
    assert again["readings"]["temperature"]["value"] == 130


def test_a_program_that_fails_is_told_and_comes_back(line: Line) -> None:
    line.shaker.rename(line.shaker.with_suffix(".away"))
    wait_for(
        lambda: [event for event in line.subscriber.events("sensor_lost") if event["subject"] == "shaker"],
        "the event of the program",
    )
    line.shaker.with_suffix(".away").rename(line.shaker)
    line.shaker.write_text('{"rms": 3.25}')
    line.wait_reading("vibration", lambda reading: reading["value"] == pytest.approx(0.00325))


def test_a_table_is_played_again_and_again_in_real_time(line: Line) -> None:
    seen = len(line.subscriber.predictions())
    wait_for(
        lambda: len({item["readings"]["ambient.value"]["value"] for item in line.subscriber.predictions()[seen:]}) == 5,
        "each row of the table",
    )
