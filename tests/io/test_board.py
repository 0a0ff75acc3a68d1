"""What a machine says of itself, read from folders laid out as the kernel lays them out, and from this machine."""

import os

import pytest

from edge_agent.io.board import (
    BoardState,
    Throttling,
    memory_available_mb,
    memory_limit_mb,
    memory_rss_mb,
    read_board,
    read_state,
    temperature_c,
    throttled,
    uptime_s,
)


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


def test_devices_on_pcie_are_listed_by_vendor_and_device(root):
    files = {
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x1ac1\n",
        "sys/bus/pci/devices/0000:01:00.0/device": "0x089a\n",
    }
    assert read_board(root(files)).pci == {"1ac1:089a"}


def test_a_machine_that_says_nothing_leaves_nothing_guessed(root):
    board = read_board(root({}))
    assert (board.model, board.memory_mb, board.usb) == ("", None, frozenset())
    assert temperature_c(root({})) is None
    assert throttled(root({})) is None
    assert uptime_s(root({})) is None
    assert memory_rss_mb(root({})) is None
    assert memory_available_mb(root({})) is None
    assert memory_limit_mb(root({})) is None
    assert read_state(root({})) == BoardState(None, None, None, None, None, None)


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


MIB = 2**20
UNIFIED = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"
V1_NONE = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        # version 2: the least of the group's own and those above it
        (
            {
                "proc/self/cgroup": "0::/system.slice/edge-agent.service\n",
                f"{UNIFIED}/system.slice/edge-agent.service/memory.max": f"{512 * MIB}\n",
                f"{UNIFIED}/system.slice/memory.max": "max\n",
            },
            512.0,
        ),
        (
            {
                "proc/self/cgroup": "0::/system.slice/edge-agent.service\n",
                f"{UNIFIED}/system.slice/edge-agent.service/memory.max": "max\n",
                f"{UNIFIED}/system.slice/memory.max": f"{256 * MIB}\n",
            },
            256.0,
        ),
        ({"proc/self/cgroup": "0::/user.slice\n", f"{UNIFIED}/user.slice/memory.max": "max\n"}, None),
        # a container that sees its own group as the root
        ({"proc/self/cgroup": "0::/\n", f"{UNIFIED}/memory.max": f"{64 * MIB}\n"}, 64.0),
        # a container that is told its path outside, which it can't see
        ({"proc/self/cgroup": "0::/docker/abc\n", f"{UNIFIED}/memory.max": f"{64 * MIB}\n"}, 64.0),
        ({"proc/self/cgroup": "0::/../../other\n", f"{UNIFIED}/memory.max": f"{64 * MIB}\n"}, 64.0),
        # version 1, also beside an empty version 2
        (
            {
                "proc/self/cgroup": "9:name=systemd:/a\n4:cpu,memory:/a/b\n0::/\n",
                f"{V1}/a/b/memory.limit_in_bytes": f"{100 * MIB}\n",
                f"{V1}/a/memory.limit_in_bytes": V1_NONE,
                f"{V1}/memory.limit_in_bytes": V1_NONE,
            },
            100.0,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/a:b/c\n",  # a name may have a colon
                f"{V1}/a:b/c/memory.limit_in_bytes": V1_NONE,
                f"{V1}/a:b/memory.limit_in_bytes": f"{300 * MIB}\n",
            },
            300.0,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", f"{V1}/memory.limit_in_bytes": V1_NONE}, None),
        ({"proc/self/cgroup": "3:cpuset:/\n", f"{V1}/memory.limit_in_bytes": f"{300 * MIB}\n"}, None),
        ({"proc/self/cgroup": "nonsense\n\n"}, None),
    ],
)
def test_the_limit_is_what_the_kernel_will_act_on(root, files, limit):
    assert memory_limit_mb(root(files)) == limit


def test_one_look_holds_what_changes(root):
    files = {
        "sys/class/thermal/thermal_zone0/temp": "50500",
        FLAGS: "4",
        "proc/self/statm": "9 1 0",
        "proc/meminfo": "MemTotal:  2048000 kB\nMemFree:  1 kB\nMemAvailable:  1024000 kB\n",
        "proc/self/cgroup": "0::/\n",
        f"{UNIFIED}/memory.max": f"{64 * MIB}\n",
    }
    page_mb = os.sysconf("SC_PAGE_SIZE") / MIB
    assert read_state(root(files)) == BoardState(50.5, Throttling(("throttled",), ()), page_mb, 64.0, 1000.0, 2000.0)


def test_this_machine_s_available_memory_is_part_of_its_memory():
    look = read_state()
    assert 0 < look.memory_mb < look.board_memory_mb
    assert 0 < look.memory_available_mb <= look.board_memory_mb
    assert look.memory_limit_mb is None or look.memory_limit_mb > 1
