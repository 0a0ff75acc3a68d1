"""The system around the daemon, read from folders laid out as a Debian and its kernel lay them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edge_agent.io.host import holders, read_host

Tree = Callable[[Mapping[str, str]], Path]

STATUS = """Package: mosquitto
Status: install ok installed
Version: 2.0.11-1.2+deb12u1
Description: broker
 Package: not-a-field
 .

Package: libedgetpu1-std
Status: deinstall ok config-files
Version: 16.0

Package: libedgetpu1-max
Status: hold ok installed
Version: 16.0tf2.17.1-1.bookworm

Package: bash
Status: install ok installed
Version: 5
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files below a root."""

    def write(files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def test_an_empty_system_leaves_nothing_guessed(tree: Tree) -> None:
    host = read_host(tree({}))
    assert (host.swap_mb, host.user_groups, host.governor_driver) == (None, None, "")
    assert not any((host.governors, host.groups, host.packages, host.drop_ins, host.drop_ins_on, host.apex))
    assert host.disk is not None  # the folder itself lies on one
    assert host.disk.device == ""


def test_groups_count_by_membership_and_as_the_user_s_own(tree: Tree) -> None:
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nedge-agent:x:990:989::/var/lib/edge-agent:/usr/sbin/nologin\n",
        "etc/group": "root:x:0:\nvideo:x:44:pi,edge-agent\nrender:x:105:pi\nedge-agent:x:989:\nbroken\n",
    }
    host = read_host(tree(files))
    assert host.groups == {"root", "video", "render", "edge-agent"}
    assert host.user_groups == {"video", "edge-agent"}


def test_only_installed_packages_that_somebody_asks_for_are_told(tree: Tree) -> None:
    packages = read_host(tree({"var/lib/dpkg/status": STATUS})).packages
    assert packages == {"mosquitto": "2.0.11-1.2+deb12u1", "libedgetpu1-max": "16.0tf2.17.1-1.bookworm"}


def test_swap_clocks_nodes_and_drop_ins_are_read(tree: Tree) -> None:
    host = read_host(
        tree(
            {
                "proc/meminfo": "MemTotal: 500000 kB\nSwapTotal:  102400 kB\n",
                "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "powersave\n",
                "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "ondemand\n",
                "sys/devices/system/cpu/cpufreq/policy0/scaling_driver": "cpufreq-dt\n",
                "dev/apex_1": "",
                "dev/apex_0": "",
                "usr/share/edge-agent/drop-ins/gpu.conf": "",
                "usr/share/edge-agent/drop-ins/jetson.conf": "",
                "etc/systemd/system/edge-agent.service.d/gpu.conf": "",
            }
        )
    )
    assert host.swap_mb == 100
    assert (host.governors, host.governor_driver) == ({"powersave", "ondemand"}, "cpufreq-dt")
    assert host.apex == ("/dev/apex_0", "/dev/apex_1")
    assert host.drop_ins == {"gpu.conf", "jetson.conf"}
    assert host.drop_ins_on == {"gpu.conf"}


@pytest.mark.parametrize(
    ("mounts", "device"),
    [
        ("/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/mmcblk0p1 /boot/firmware vfat rw 0 0\n", "/dev/mmcblk0p2"),
        ("/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/sda1 /var ext4 rw 0 0\n/dev/sdb1 /va ext4 rw 0 0\n", "/dev/sda1"),
        ("rootfs / rootfs rw 0 0\n/dev/nvme0n1p1 / ext4 rw 0 0\n", "/dev/nvme0n1p1"),
    ],
)
def test_the_disk_is_the_one_that_holds_the_state_directory(tree: Tree, mounts: str, device: str) -> None:
    disk = read_host(tree({"proc/self/mounts": mounts, "var/lib/edge-agent/outbox.sqlite": ""})).disk
    assert disk is not None
    assert disk.device == device
    assert 0 <= disk.free_mb <= disk.total_mb


def test_whoever_has_a_device_open_is_named_once(tree: Tree) -> None:
    root = tree({"proc/17/comm": "motion\n", "proc/18/comm": "bash\n", "proc/self/comm": "motion\n"})
    for descriptor, target in (("17/fd/3", "/dev/video0"), ("17/fd/4", "/dev/video0"), ("18/fd/0", "/dev/null")):
        (root / "proc" / descriptor).parent.mkdir(exist_ok=True)
        (root / "proc" / descriptor).symlink_to(target)
    assert holders("/dev/video0", root) == ("motion",)
    assert holders("/dev/video1", root) == ()


def test_this_system_is_read_too() -> None:
    host = read_host()
    assert host.python >= (3, 10)
    assert host.bits == 64
    assert host.page_bytes % 4096 == 0
    assert host.disk is not None
