"""Devices of a board in a virtual machine: Debian's own drivers, with a simulated other end that a test moves.

Cameras: v4l2loopback, before which a picture is laid, and vivid, which can be unplugged while it is read. Sensors:
i2c-stub with a BMP280 (IIO) and an LM75 (hwmon). A USB serial adapter of QEMU. A bad line to the broker: netem.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.simulators.broker import free_port
from tests.simulators.waiting import wait_for
from tests.system.debian_root import SUITES, package
from tests.system.virtual_machine import AMD64, VirtualMachine
from tests.system.vm_image import SUITE, Recipe

GUEST = Path(__file__).parent / "guest"
FEEDER = "/usr/local/lib/feed_camera.py"
PYTHON = "/usr/lib/edge-agent/bin/python"
EXAMPLE = "/usr/share/edge-agent/conveyor"
# Where the machine reaches the host's loopback, and through what.
HOST, LINE, LINE_MAC = "10.0.3.2", "broker0", "52:54:00:00:00:03"

# The module is built for the kernel of the image while the image is made; then what built it goes.
V4L2LOOPBACK: Final = """\
cp /lib/modules/*/updates/dkms/v4l2loopback.ko /lib/modules/*/kernel/drivers/media/test-drivers/
apt-get purge --yes --auto-remove v4l2loopback-dkms linux-headers-amd64 >/dev/null
depmod "$(ls /lib/modules)"
"""
FILES: Final = {
    FEEDER[1:]: (GUEST / "feed_camera.py").read_text(),
    f"etc/systemd/network/05-{LINE}.link": f"[Match]\nMACAddress={LINE_MAC}\n[Link]\nName={LINE}\n",
    f"etc/systemd/network/05-{LINE}.network": f"[Match]\nName={LINE}\n[Network]\nAddress=10.0.3.15/24\n",
    # exclusive_caps: a node without a writer is no camera, as with a real one that is not there
    "etc/modprobe.d/simulated.conf": "options v4l2loopback video_nr=7 card_label=belt exclusive_caps=1\n"
    "options vivid n_devs=1 node_types=0x1\noptions i2c-stub chip_addr=0x48,0x76\n",
    # The unit's own limits are a board's; here each instruction is translated.
    "etc/systemd/system/edge-agent.service.d/slow.conf": "[Service]\nTimeoutStartSec=900\nWatchdogSec=300\n",
}


def recipe() -> Recipe:
    """Debian 12 with the package of this checkout, the drivers, and what moves their other ends."""
    packages = ("python3", "libstdc++6", "zlib1g", "i2c-tools", "v4l-utils", "linux-headers-amd64", "v4l2loopback-dkms")
    deb = package(SUITES[SUITE], "amd64")
    # The first start is a test's own: with its configuration, and with nothing attached.
    commands = (V4L2LOOPBACK, "systemctl disable edge-agent")
    return Recipe(AMD64, packages, debs=[deb], files=FILES, commands=commands)


class LoopbackCamera:
    """A camera before which one picture of the example lies."""

    NODE = "/dev/video7"

    def __init__(self, machine: VirtualMachine) -> None:
        self._machine = machine

    def plug_in(self, picture: str, form: str = "YUYV") -> None:
        """``form``: YUYV, MJPG or GREY, of 320x240 pixels, five a second."""
        self.lay(picture)
        feed = f"{PYTHON} {FEEDER} {self.NODE} {form} 320 240 5 /run/picture"
        self._machine.run(f"modprobe v4l2loopback && systemd-run --quiet --collect --unit=belt {feed}")

    def lay(self, picture: str) -> None:
        """Another picture in the place of the one that lies there."""
        self._machine.run(f"ln -sfn {EXAMPLE}/media/frames/{picture}.jpg /run/picture")

    def fall_silent(self) -> None:
        """The device stays, and gives no more frames and no error."""
        self._machine.run("systemctl stop belt")


class VividCamera:
    """The kernel's test driver: its colour bars, and a plug."""

    LINK = "/dev/v4l/by-path/platform-vivid.0-video-index0"
    _DRIVER = "/sys/bus/platform/drivers/vivid"

    def __init__(self, machine: VirtualMachine) -> None:
        self._machine = machine

    def plug_in(self, number: int = 0) -> str:
        """Returns the node that it got; asked for is ``/dev/video<number>``."""
        self._machine.run(f"modprobe -r vivid; modprobe vivid vid_cap_nr={number} && udevadm settle")
        return self._machine.run(f"readlink -f {self.LINK}")

    def unplug(self) -> None:
        self._machine.run(f"echo vivid.0 >{self._DRIVER}/unbind")

    @contextmanager
    def plugged_in_and_taken(self, number: int) -> Iterator[None]:
        """Plugged in and, before the service can see it, opened by another program."""
        signal = "systemctl kill --kill-whom=main edge-agent --signal"
        self._machine.run(f"{signal}=STOP")
        try:
            other = f"v4l2-ctl -d {self.plug_in(number)} --stream-mmap"
            self._machine.run(f"systemd-run --quiet --collect --unit=other {other}")
            streams = "until journalctl --unit=other | grep -q fps; do sleep 1; done"
            self._machine.run(f"timeout 200 sh -c '{streams}'")
        finally:
            self._machine.run(f"{signal}=CONT")
        try:
            yield
        finally:
            self._machine.run("systemctl stop other")


class I2cSensors:
    """An LM75 at 0x48, whose temperature is set, and a BMP280 at 0x76, which always measures the same."""

    # Bosch BMP280 data sheet, section 3.12, the example: dig_T1 to dig_P9, adc_P and adc_T; their result:
    CALIBRATION = (27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
    ADC = (0x65, 0x5A, 0xC0, 0x7E, 0xED, 0x00)
    CELSIUS, HECTOPASCAL = 25.08, 1006.53
    DRIVERS: Final = {"lm75": 0x48, "bmp280": 0x76}

    def __init__(self, machine: VirtualMachine) -> None:
        self._machine = machine
        self._bus = ""

    def plug_in(self, celsius: float) -> None:
        self._machine.run("modprobe -a i2c-dev i2c-stub lm75 bmp280-i2c")
        self._bus = self._machine.run("i2cdetect -l | sed -n 's/^i2c-\\([0-9]*\\).*SMBus stub.*/\\1/p'")
        values = b"".join(value.to_bytes(2, "little", signed=value < 0) for value in self.CALIBRATION)
        registers = {0xD0: 0x58, **dict(enumerate(values, 0x88)), **dict(enumerate(self.ADC, 0xF7))}
        self._machine.run(" && ".join(f"i2cset -y {self._bus} 0x76 {at} {value}" for at, value in registers.items()))
        self.set_celsius(celsius)
        for name, address in self.DRIVERS.items():
            self._machine.run(f"echo {name} {address:#x} >/sys/bus/i2c/devices/i2c-{self._bus}/new_device")

    def set_celsius(self, celsius: float) -> None:
        """In steps of half a degree, as an LM75 measures."""
        register = round(celsius * 2) << 7
        self._machine.run(f"i2cset -f -y {self._bus} 0x48 0 {register >> 8 | (register & 0xFF) << 8} w")

    def unbind(self, name: str) -> None:
        self._machine.run(f"echo {self._device(name)} >/sys/bus/i2c/drivers/{name}/unbind")

    def bind(self, name: str) -> None:
        self._machine.run(f"echo {self._device(name)} >/sys/bus/i2c/drivers/{name}/bind")

    def _device(self, name: str) -> str:
        return f"{self._bus}-{self.DRIVERS[name]:04x}"


class UsbScale:
    """A scale with a vibration sensor on a USB serial adapter (an FTDI chip, as QEMU makes it): a line each 300 ms."""

    LINK = "/dev/serial/by-id/usb-QEMU_QEMU_USB_SERIAL_SCALE1-if00-port0"

    def __init__(self) -> None:
        self._port = free_port()
        self._line = b""
        self._speaking, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._speak, name="scale", daemon=True)
        self._machine: VirtualMachine | None = None

    @property
    def arguments(self) -> list[str]:
        """Of QEMU: a USB controller, the scale's cable, and another one with nothing at its end."""
        cable = f"socket,id=scale,host=127.0.0.1,port={self._port},server=on,wait=off"
        return ["-device", "qemu-xhci,id=usb", "-chardev", cable, "-chardev", "null,id=other"]

    def connect(self, machine: VirtualMachine) -> None:
        self._machine = machine
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()

    def shows(self, weight: float, vibration: float) -> None:
        self._line = f"{weight},{vibration}\n".encode()

    def plug_in(self) -> str:
        """Returns the node that it got."""
        self._add("scale", "SCALE1")
        self.speak()
        return self._node()

    def plug_in_another(self) -> None:
        """Another adapter, which takes the first free number."""
        self._add("other", "OTHER1")

    def unplug(self) -> None:
        assert self._machine is not None
        self.fall_silent()
        self._machine.monitor("device_del scale")

    def speak(self) -> None:
        self._speaking.set()

    def fall_silent(self) -> None:
        """It stays plugged in and says nothing."""
        self._speaking.clear()

    def _add(self, name: str, serial: str) -> None:
        assert self._machine is not None
        device = f"usb-serial,bus=usb.0,always-plugged=on,chardev={name},id={name},serial={serial}"
        self._machine.monitor(f"device_add {device}")
        link = self.LINK.replace("SCALE1", serial)
        self._machine.run(f"until [ -e {link} ]; do sleep 0.2; done")

    def _node(self) -> str:
        assert self._machine is not None
        return self._machine.run(f"readlink -f {self.LINK}")

    def _speak(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as cable, suppress(OSError):
            while not self._stopping.wait(0.3):
                if self._speaking.is_set():
                    cable.sendall(self._line)


@contextmanager
def bad_line(machine: VirtualMachine, loss: int, delay_ms: int) -> Iterator[None]:
    """Between the machine and the broker: that share of the packets (percent) is lost each way, and what the machine
    sends is late."""
    machine.run(
        f"modprobe -a ifb sch_netem sch_ingress cls_matchall act_mirred; ip link add ifb0 type ifb; ip link set ifb0 up"
        f" && tc qdisc add dev {LINE} root netem delay {delay_ms}ms loss {loss}%"
        f" && tc qdisc add dev {LINE} ingress"
        f" && tc filter add dev {LINE} ingress matchall action mirred egress redirect dev ifb0"
        f" && tc qdisc add dev ifb0 root netem loss {loss}%"
    )
    try:
        yield
    finally:
        machine.run(f"tc qdisc del dev {LINE} root; tc qdisc del dev {LINE} ingress; tc qdisc del dev ifb0 root")


def fetch(machine: VirtualMachine, path: str, destination: Path) -> None:
    """Copy a file out of the machine. A console may lose bytes of a long answer: asked until the digest is right."""
    digest = machine.run(f"sha256sum {path}").split()[0]

    def arrived() -> bool:
        try:
            content = gzip.decompress(base64.b64decode(machine.run(f"gzip -c {path} | base64 --wrap=0"), validate=True))
        except (ValueError, OSError, EOFError, zlib.error):
            return False
        destination.write_bytes(content)
        return hashlib.sha256(content).hexdigest() == digest

    wait_for(arrived, f"the whole of {path}")
