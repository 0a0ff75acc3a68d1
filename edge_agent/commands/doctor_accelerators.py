"""What ``edge-agent doctor`` says of Edge TPUs and the libraries around them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from edge_agent.commands.common import Check
from edge_agent.io.board import Board
from edge_agent.io.edge_tpus import FRESH, READY
from edge_agent.io.host import Host

LIBRARIES: Final = ("ai-edge-litert", "tflite-runtime")
USB_IDS: Final = frozenset({":".join(FRESH), ":".join(READY)})
PCI_ID: Final = "1ac1:089a"  # the driver's alias pci:v00001AC1d0000089A: google-coral/edgetpu issue 729
PAGE_BYTES: Final = 4096  # the driver maps pages of 4 KiB: google-coral/edgetpu issue 817
# Google's own packages have no TensorFlow in their version (google-coral/libedgetpu issue 56) and were built for 2.5;
# the rebuilds are named like 16.0tf2.17.1-1.
STOCK: Final = "for TensorFlow 2.5: it aborts or crashes under the runtimes of today (google-coral/edgetpu issue 812)"
REBUILD: Final = "a rebuild for TensorFlow 2.17 or later (github.com/feranick/libedgetpu, releases)"


def accelerator_checks(board: Board, host: Host) -> Iterator[Check]:
    yield runtime({name: version for name in LIBRARIES if (version := _version(name))})
    yield from pycoral(_version("pycoral"), _folders("pycoral"))
    yield from edgetpu(board, host)


def runtime(installed: Mapping[str, str]) -> Check:
    """``installed``: name -> version of the TFLite runtimes, the preferred one first."""
    for name, version in installed.items():
        return Check("runtime", "ok", f"{name} {version}")
    return Check("runtime", "fail", "no TFLite runtime is installed", "pip install ai-edge-litert")


def pycoral(version: str | None, folders: Sequence[Path]) -> Iterator[Check]:
    """Google's PyCoral was never on PyPI; the package of that name there is an atlas of coral reefs. ``folders``: where
    the module of that name lies."""
    if version is None and not folders:
        return
    if not any((folder / "utils" / "edgetpu.py").exists() for folder in folders):
        detail = f"pycoral {version or 'of unknown version'} is PyPI's: nothing of Coral's, and it hides Google's"
        yield Check("pycoral", "warn", detail, "pip uninstall pycoral  # edge-agent needs none")


def edgetpu(board: Board, host: Host) -> Iterator[Check]:
    """An Edge TPU that is there, and what stands between it and its use, in the order in which it has to be mended."""
    usb, pcie = bool(board.usb & USB_IDS), PCI_ID in board.pci
    if not usb and not pcie and not host.apex:
        return
    ways = [way for way, there in (("USB", usb), ("PCIe", pcie or bool(host.apex))) if there]
    yield Check("edgetpu", "ok", f"an Edge TPU on {' and '.join(ways)}")
    if pcie and not host.apex:
        detail = "the Edge TPU on PCIe has no driver: /dev/apex_0 is not there"
        fix = (
            "sudo apt install dkms linux-headers-$(uname -r) && sudo apt install ./gasket-dkms_*.deb && sudo reboot"
            "  # 1.0-18.4 or later of github.com/feranick/gasket-driver, releases: Google's 1.0-18 does not build on "
            "kernels after 6.1"
        )
        yield Check("edgetpu.driver", "fail", detail, fix)
    if (pcie or host.apex) and host.page_bytes != PAGE_BYTES:
        detail = f"this kernel has pages of {host.page_bytes // 1024} KiB; the Edge TPU's driver needs 4"
        pi = board.model.startswith("Raspberry Pi")  # geerlingguy/raspberry-pi-pcie-devices issue 44
        command = "echo kernel=kernel8.img | sudo tee -a /boot/firmware/config.txt && sudo reboot"
        fix = command if pi else "start a kernel that was built with pages of 4 KiB"
        yield Check("edgetpu.pages", "fail", detail, fix)
    yield from libedgetpu(host.packages)


def libedgetpu(packages: Mapping[str, str]) -> Iterator[Check]:
    """Which build it is, by its package: the ABI can't be asked, and a wrong one ends the process that loads it."""
    found = {name: version for name, version in packages.items() if name.startswith("libedgetpu1-")}
    for name, version in found.items():
        if "tf" in version:
            yield Check("libedgetpu", "ok", f"{name} {version}")
        else:
            command = f"sudo apt remove {name} && sudo apt install ./libedgetpu1-std_*.deb  # {REBUILD}"
            yield Check("libedgetpu", "fail", f"{name} {version} is Google's own build {STOCK}", command)
    if not found:
        detail = "libedgetpu1-std is not installed as a package"
        yield Check("libedgetpu", "warn", detail, f"sudo apt install ./libedgetpu1-std_*.deb  # {REBUILD}")


def _folders(module: str) -> list[Path]:
    found = importlib.util.find_spec(module)
    return [Path(place) for place in (found.submodule_search_locations or ())] if found else []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
