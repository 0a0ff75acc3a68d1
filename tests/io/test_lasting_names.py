"""Names of devices that stay when the kernel numbers them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.io.lasting_names import lasting_names


@pytest.fixture
def links(tmp_path: Path):
    """``links({"by-id/NAME": "video0"})`` makes the folder that udev would make."""

    def make(found: dict[str, str]) -> Path:
        for name, node in found.items():
            link = tmp_path / "v4l" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / node).touch()
            link.symlink_to(f"../../{node}")
        return tmp_path / "v4l"

    return make


def names(folder: Path) -> dict[str, str]:
    return {Path(node).name: str(Path(name).relative_to(folder)) for node, name in lasting_names(folder).items()}


def test_a_machine_without_such_devices_has_none(tmp_path):
    assert lasting_names(tmp_path / "v4l") == {}


def test_a_device_goes_by_its_id_and_one_without_an_id_by_its_socket(links):
    folder = links(
        {
            "by-id/usb-Vendor_Cam_123-video-index0": "video0",
            "by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0": "video0",
            "by-path/platform-vivid.0-video-index0": "video1",
        }
    )
    assert names(folder) == {
        "video0": "by-id/usb-Vendor_Cam_123-video-index0",
        "video1": "by-path/platform-vivid.0-video-index0",
    }


def test_two_devices_that_share_an_id_go_by_their_sockets(links):
    folder = links(
        {
            "by-id/usb-Vendor_Cam-video-index0": "video1",
            "by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0": "video0",
            "by-path/pci-0000:00:14.0-usb-0:2:1.0-video-index0": "video1",
        }
    )
    assert set(names(folder).values()) == {
        "by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0",
        "by-path/pci-0000:00:14.0-usb-0:2:1.0-video-index0",
    }


def test_of_several_names_the_first_in_the_alphabet_is_taken(links):
    folder = links(
        {
            "by-path/pci-0000:00:14.0-usbv2-0:1:1.0-video-index0": "video0",
            "by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0": "video0",
        }
    )
    assert names(folder) == {"video0": "by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0"}
