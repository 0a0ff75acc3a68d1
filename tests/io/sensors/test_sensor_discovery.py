from edge_agent.io.sensors.discover import FoundSensor, find_sensors


def test_a_board_without_sensors_has_none(tmp_path):
    assert find_sensors(tmp_path) == []


def test_every_sensor_is_listed_as_the_configuration_writes_it(tree):
    root = tree(
        {
            "bus/iio/devices/iio:device0/name": "bmp280",
            "bus/iio/devices/iio:device0/in_temp_input": "1",
            "bus/iio/devices/iio:device0/in_pressure_raw": "1",
            "bus/iio/devices/iio:device0/in_pressure_scale": "1",
            "class/hwmon/hwmon0/name": "nvme",
            "class/hwmon/hwmon0/temp1_input": "1",
            "class/hwmon/hwmon10/name": "nvme",
            "class/hwmon/hwmon10/temp1_max": "1",
            "class/thermal/thermal_zone0/type": "cpu-thermal",
            "class/thermal/thermal_zone0/temp": "1",
            "class/tty/tty1/uevent": "",
            "class/tty/ttyS0/type": "0",
            "class/tty/ttyS0/device/uevent": "",
            "class/tty/ttyAMA0/type": "1",
            "class/tty/ttyAMA0/device/uevent": "",
            "class/tty/ttyUSB0/device/uevent": "",
        }
    )
    found = find_sensors(root)
    assert [(one.source, one.selects) for one in found] == [
        ("iio:bmp280", ("in_pressure", "in_temp")),
        ("hwmon:hwmon0", ("temp1_input",)),
        ("hwmon:hwmon10", ()),
        ("hwmon:thermal/cpu-thermal", ("temp",)),
        ("serial:/dev/ttyAMA0", ()),
        ("serial:/dev/ttyUSB0", ()),
    ]
    assert found[0].detail == f"bmp280 in {root}/bus/iio/devices/iio:device0"


def test_a_serial_port_is_listed_by_the_name_that_lasts(tree, tmp_path):
    devices = tmp_path / "dev"
    (devices / "serial/by-id").mkdir(parents=True)
    (devices / "serial/by-id/usb-FTDI_1-if00-port0").symlink_to("../../ttyUSB0")
    (found,) = find_sensors(tree({"class/tty/ttyUSB0/device/uevent": ""}), devices)
    assert found.source == f"serial:{devices}/serial/by-id/usb-FTDI_1-if00-port0"
    assert found.detail == "serial port ttyUSB0"


def test_this_machine_can_be_asked():
    assert all(isinstance(one, FoundSensor) for one in find_sensors())
