import subprocess
import sys

import pytest

from edge_agent.errors import ConfigError


@pytest.mark.parametrize("source", ["cvs:a.csv", "cvs"])
def test_an_unknown_kind_of_source_names_the_sensor_the_source_and_the_nearest_kind(sensor, source):
    with pytest.raises(ConfigError) as error:
        sensor(source, ["value"])
    text = str(error.value)
    assert f'sensor "s": source "{source}"' in text
    assert text.endswith("allowed: command, csv, hwmon, iio, mqtt, serial; nearest: csv")


def test_a_source_without_a_device_is_refused(sensor):
    with pytest.raises(ConfigError, match='names nothing after "iio:"'):
        sensor("iio:", ["value"])


def test_a_sensor_without_fields_is_refused(sensor):
    with pytest.raises(ConfigError, match="has no fields"):
        sensor("iio:bmp280", {})


def test_only_files_run_on_media_time(series):
    with pytest.raises(ConfigError, match=r'no kind of sensor with timeline = "media"; allowed: csv'):
        series("serial:/dev/ttyUSB0", ["value"])


def test_a_back_end_is_imported_only_when_it_is_chosen():
    loaded = "[m for m in sys.modules if 'io.sensors.' in m or m == 'serial']"
    program = f"import sys, edge_agent.io.sensors; print({loaded})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['edge_agent.io.sensors.context']"
