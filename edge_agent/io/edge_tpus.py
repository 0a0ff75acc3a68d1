"""The Edge TPUs that the kernel sees, from sysfs and /dev: no library is loaded and no device is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

ROOT: Final = Path("/")

# The stick introduces itself as the first until a program loads its firmware at the first use, then as the second
# (google-coral/edgetpu issue 536).
FRESH: Final = ("1a6e", "089a")
READY: Final = ("18d1", "9302")


class EdgeTpu(Struct, frozen=True, order=True):
    """``where``: the port's name in sysfs ("2-1.4") or the device file ("/dev/apex_0"). ``ready``: its firmware is
    loaded; a stick's is loaded by its first use, after which it appears as another USB device."""

    bus: Literal["pci", "usb"]
    where: str
    ready: bool = True


def edge_tpus(root: Path = ROOT) -> tuple[EdgeTpu, ...]:
    """All of them, in no order that the Edge TPU's library promises."""
    return tuple(sorted((*_on_pci(root), *_on_usb(root))))


def _on_pci(root: Path) -> Iterator[EdgeTpu]:
    """The driver (gasket, apex) makes a file for each chip."""
    for path in (root / "dev").glob("apex_[0-9]*"):
        yield EdgeTpu("pci", f"/dev/{path.name}")


def _on_usb(root: Path) -> Iterator[EdgeTpu]:
    for path in (root / "sys/bus/usb/devices").glob("*"):
        ids = _read(path / "idVendor"), _read(path / "idProduct")
        if ids in (FRESH, READY):
            yield EdgeTpu("usb", path.name, ids == READY)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):  # an interface has none, and a device may go while it is looked at
        return ""
