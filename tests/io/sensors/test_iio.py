import shutil

import pytest

from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.iio import IioSensor
from tests.io.sensors.making import sensor_config

DEVICES = "bus/iio/devices"
BMP280 = {
    f"{DEVICES}/iio:device0/name": "bmp280",
    f"{DEVICES}/iio:device0/in_temp_input": "25080",
    f"{DEVICES}/iio:device0/in_pressure_input": "100.653265625",
}
ADC = {
    f"{DEVICES}/iio:device1/name": "ads1015",
    f"{DEVICES}/iio:device1/in_voltage0_raw": "100",
    f"{DEVICES}/iio:device1/in_voltage0_scale": "3",
    f"{DEVICES}/iio:device1/in_voltage1_raw": "100",
    f"{DEVICES}/iio:device1/in_voltage_scale": "2.0",
    f"{DEVICES}/iio:device1/in_voltage0-voltage1_raw": "-7",
    f"{DEVICES}/iio:device1/in_voltage-voltage_scale": "0.5",
    f"{DEVICES}/iio:device1/in_temp0_raw": "1000",
    f"{DEVICES}/iio:device1/in_temp_offset": "-200",
    f"{DEVICES}/iio:device1/in_temp_scale": "10",
    f"{DEVICES}/iio:device1/in_accel_x_raw": "-3",
    f"{DEVICES}/iio:device1/in_accel_scale": "0.25",
    f"{DEVICES}/iio:device1/in_proximity_raw": "41",
}


@pytest.fixture
def iio(context):
    def make(source, fields, root, **keys):
        return IioSensor(sensor_config(source, fields, **keys), source.removeprefix("iio:"), context, root=root)

    return make


@pytest.mark.parametrize("by", ["bmp280", "iio:device0", "PATH"])
def test_a_device_is_found_by_name_by_number_and_by_path(iio, tree, by):
    root = tree(BMP280)
    by = by.replace("PATH", f"{root}/{DEVICES}/iio:device0")
    sensor = iio(f"iio:{by}", {"t": {"select": "in_temp"}, "in_pressure": {}}, root)
    sensor.open()
    assert sensor.read(1.0).values == {"t": 25080.0, "in_pressure": 100.653265625}


@pytest.mark.parametrize(
    ("channel", "value"),
    [
        ("in_voltage0", 300.0),
        ("in_voltage1", 200.0),
        ("in_voltage0-voltage1", -3.5),
        ("in_temp0", 8000.0),
        ("in_accel_x", -0.75),
        ("in_proximity", 41.0),
    ],
)
def test_a_raw_channel_takes_its_own_scale_and_offset_or_those_of_its_type(iio, tree, channel, value):
    sensor = iio("iio:ads1015", {"x": {"select": channel}}, tree(ADC))
    sensor.open()
    assert sensor.read(1.0).values == {"x": value}


def test_a_value_that_is_no_number_is_handed_on_as_text(iio, tree):
    sensor = iio("iio:bmp280", ["in_temp"], tree({**BMP280, f"{DEVICES}/iio:device0/in_temp_input": "busy"}))
    sensor.open()
    assert sensor.read(1.0).values == {"in_temp": "busy"}


def test_a_wrong_channel_is_a_configuration_error_where_the_device_is_attached(iio, tree):
    with pytest.raises(ConfigError) as error:
        iio("iio:bmp280", {"t": {"select": "in_tmp"}}, tree(BMP280))
    assert str(error.value) == (
        'sensor "s": source "iio:bmp280" has no channel "in_tmp" for field "t"; allowed: in_pressure, in_temp; '
        "nearest: in_temp"
    )


def test_two_devices_of_one_name_must_be_told_apart(iio, tree):
    root = tree({**BMP280, f"{DEVICES}/iio:device1/name": "bmp280"})
    with pytest.raises(ConfigError, match="stands for 2 devices; write iio:device0 or iio:device1"):
        iio("iio:bmp280", ["in_temp"], root)


def test_a_device_that_is_attached_later_is_found_when_it_is_opened(iio, tree):
    root = tree(ADC)
    sensor = iio("iio:bmp280", ["in_temp"], root)
    with pytest.raises(DeviceError, match="not attached, or its driver is not loaded; allowed: ads1015, iio:device1"):
        sensor.open()
    tree(BMP280)
    sensor.open()
    assert sensor.read(1.0).values == {"in_temp": 25080.0}


def test_a_device_that_came_back_without_the_channel_is_a_device_error(iio, tree):
    root = tree(ADC)
    sensor = iio("iio:bmp280", {"h": {"select": "in_humidityrelative"}}, root)
    tree(BMP280)
    with pytest.raises(DeviceError, match='has no channel "in_humidityrelative"'):
        sensor.open()


def test_an_unplugged_device_is_lost_and_is_found_again_under_another_number(iio, tree):
    root = tree(BMP280)
    sensor = iio("iio:bmp280", ["in_temp"], root, interval="1ms")
    sensor.open()
    assert sensor.read(1.0) is not None
    (root / DEVICES / "iio:device0").rename(root / DEVICES / "iio:device3")
    with pytest.raises(DeviceError, match=r'sensor "s": source "iio:bmp280" can\'t be read: .*check that'):
        sensor.read(1.0)
    sensor.close()
    sensor.open()
    assert sensor.read(1.0).values == {"in_temp": 25080.0}
    shutil.rmtree(root / DEVICES / "iio:device3")
    with pytest.raises(DeviceError, match="can't be read"):
        sensor.read(1.0)


def test_a_channel_that_fails_alone_leaves_its_field_out(iio, tree):
    root = tree(BMP280)
    sensor = iio("iio:bmp280", ["in_temp", "in_pressure"], root)
    sensor.open()
    (root / DEVICES / "iio:device0/in_temp_input").unlink()
    assert sensor.read(1.0).values == {"in_pressure": 100.653265625}


def test_readings_come_at_the_interval_and_none_before(iio, tree):
    sensor = iio("iio:bmp280", ["in_temp"], tree(BMP280), interval="1h")
    sensor.open()
    assert sensor.read(1.0) is not None
    assert sensor.read(0.01) is None


def test_samples_are_stamped_with_the_time_of_their_reading(iio, tree, clock):
    sensor = iio("iio:bmp280", ["in_temp"], tree(BMP280))
    sensor.open()
    before = clock.monotonic_ns()
    assert before <= sensor.read(1.0).mono_ns <= clock.monotonic_ns()


def test_a_scale_that_is_no_number_is_a_device_error(iio, tree):
    sensor = iio("iio:ads1015", ["in_accel_x"], tree({**ADC, f"{DEVICES}/iio:device1/in_accel_scale": "?"}))
    with pytest.raises(DeviceError, match="in_accel_scale can't be read as a number"):
        sensor.open()
