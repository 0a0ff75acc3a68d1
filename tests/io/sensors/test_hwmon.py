import pytest

from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.hwmon import HwmonSensor
from tests.io.sensors.making import sensor_config

BOARD = {
    "class/hwmon/hwmon0/name": "cpu_thermal",
    "class/hwmon/hwmon0/temp1_input": "48312",
    "class/hwmon/hwmon1/name": "ina219",
    "class/hwmon/hwmon1/in1_input": "5012",
    "class/hwmon/hwmon1/curr1_input": "1250",
    "class/hwmon/hwmon1/power1_input": "6265000",
    "class/hwmon/hwmon1/energy1_input": "3000000",
    "class/hwmon/hwmon1/in1_max": "6000",
    "class/hwmon/hwmon2/name": "pwmfan",
    "class/hwmon/hwmon2/fan1_input": "2950",
    "class/hwmon/hwmon2/pwm1": "255",
    "class/hwmon/hwmon3/name": "sht3x",
    "class/hwmon/hwmon3/humidity1_input": "45678",
    "class/thermal/thermal_zone0/type": "cpu-thermal",
    "class/thermal/thermal_zone0/temp": "51540",
    "class/thermal/thermal_zone1/type": "gpu-thermal",
    "class/thermal/thermal_zone1/temp": "-1500",
}


@pytest.fixture
def read(context, tree):
    def one(source, select):
        sensor = HwmonSensor(sensor_config(source, {"x": {"select": select}}), source[6:], context, root=tree(BOARD))
        sensor.open()
        return sensor.read(1.0).values["x"]

    return one


@pytest.mark.parametrize(
    ("source", "select", "value"),
    [
        ("hwmon:cpu_thermal", "temp1_input", 48.312),
        ("hwmon:hwmon0", "temp1", 48.312),
        ("hwmon:ina219", "in1_input", 5.012),
        ("hwmon:ina219", "curr1_input", 1.25),
        ("hwmon:ina219", "power1_input", 6.265),
        ("hwmon:ina219", "energy1_input", 3.0),
        ("hwmon:pwmfan", "fan1_input", 2950.0),
        ("hwmon:pwmfan", "pwm1", 255.0),
        ("hwmon:sht3x", "humidity1_input", 45.678),
        ("hwmon:thermal/cpu-thermal", "temp", 51.54),
        ("hwmon:thermal_zone1", "temp", -1.5),
    ],
)
def test_values_come_in_whole_units(read, source, select, value):
    assert read(source, select) == value


def test_an_unknown_value_names_those_of_the_chip(read):
    with pytest.raises(
        ConfigError, match=r'no value "temp" for field "x"; allowed: curr1_input, energy1_input, in1_in'
    ):
        read("hwmon:ina219", "temp")


@pytest.mark.parametrize("source", ["hwmon:cpu", "hwmon:thermal/soc", "hwmon:thermal_zone7", "hwmon:/nowhere"])
def test_a_chip_that_is_not_there_is_a_device_error(read, source):
    with pytest.raises(DeviceError, match=f'source "{source}" is not'):
        read(source, "temp1_input")
