"""What a machine says of itself, read from folders laid out as the kernel lays them out, and from this machine."""

import os

import pytest

from edge_agent.io.board import Throttling, memory_rss_mb, read_board, temperature_c, throttled, uptime_s


@pytest.fixture
def root(tmp_path):
    """Writes files below a root: root({"proc/uptime": "1.0 2.0"})."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path

    return write


def test_the_device_tree_names_the_board_without_the_nul_at_its_end(root):
    files = {"proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.4\0", "sys/class/dmi/id/product_name": "PC"}
    assert read_board(root(files)).model == "Raspberry Pi 4 Model B Rev 1.4"


def test_a_pc_is_named_by_its_firmware(root):
    assert read_board(root({"sys/class/dmi/id/product_name": "OptiPlex 7010\n"})).model == "OptiPlex 7010"


def test_memory_and_system_are_read(root):
    files = {
        "proc/meminfo": "MemTotal:        3884360 kB\nMemFree:   100 kB\n",
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }
    board = read_board(root(files))
    assert (board.memory_mb, board.os_name) == (3793, "Debian GNU/Linux 12 (bookworm)")


def test_plugged_in_usb_devices_are_listed_by_vendor_and_product(root):
    files = {
        "sys/bus/usb/devices/usb1/idVendor": "1d6b\n",
        "sys/bus/usb/devices/usb1/idProduct": "0002\n",
        "sys/bus/usb/devices/2-1/idVendor": "1a6e\n",
        "sys/bus/usb/devices/2-1/idProduct": "089a\n",
        "sys/bus/usb/devices/2-1:1.0/bInterfaceClass": "ff\n",
    }
    assert read_board(root(files)).usb == {"1d6b:0002", "1a6e:089a"}


def test_a_machine_that_says_nothing_leaves_nothing_guessed(root):
    board = read_board(root({}))
    assert (board.model, board.memory_mb, board.usb) == ("", None, frozenset())
    assert temperature_c(root({})) is None
    assert throttled(root({})) is None
    assert uptime_s(root({})) is None
    assert memory_rss_mb(root({})) is None


def test_the_hottest_zone_counts_and_broken_zones_do_not(root):
    zones = ["48312", "61250\n", "-256000", "2147483647", "", "N/A"]
    files = {f"sys/class/thermal/thermal_zone{i}/temp": text for i, text in enumerate(zones)}
    assert temperature_c(root(files)) == 61.25


FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(
    ("text", "now", "since_start"),
    [
        ("0\n", (), ()),
        ("50005", ("under_voltage", "throttled"), ("under_voltage", "throttled")),
        ("throttled=0x80008", ("soft_temperature_limit",), ("soft_temperature_limit",)),
        ("20000", (), ("frequency_capped",)),
    ],
)
def test_the_firmware_s_bits_become_words(root, text, now, since_start):
    assert throttled(root({FLAGS: text})) == Throttling(now, since_start)


def test_an_answer_that_is_no_number_is_no_answer(root):
    assert throttled(root({FLAGS: "VCHI initialization failed"})) is None


def test_the_firmware_s_tool_is_asked_where_the_kernel_has_no_file(tmp_path, monkeypatch):
    tool = tmp_path / "vcgencmd"
    tool.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50000\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert throttled() == Throttling((), ("under_voltage", "throttled"))


def test_a_tool_that_may_not_ask_leaves_the_question_open(tmp_path, monkeypatch):
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho 'VCHI initialization failed'; exit 255\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert throttled() is None


def test_a_tool_that_does_not_run_leaves_the_question_open(tmp_path, monkeypatch):
    tool = tmp_path / "vcgencmd"
    tool.write_bytes(b"\x7fELF")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert throttled() is None
    tool.unlink()
    assert throttled() is None


def test_this_machine_has_memory_cores_and_a_running_process():
    board = read_board()
    assert board.cpus == len(os.sched_getaffinity(0))
    assert board.memory_mb > memory_rss_mb() > 1
    assert uptime_s() > 0
    assert board.python and board.arch and board.os_name
