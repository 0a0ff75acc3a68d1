"""Names of devices that stay when the kernel numbers them anew: the links of udev in ``by-id`` and ``by-path``."""

from __future__ import annotations

from pathlib import Path


def lasting_names(folder: Path) -> dict[str, str]:
    """The device node -> the name to write into a configuration, for each node that has one.

    ``folder``: ``/dev/v4l`` or ``/dev/serial``. A name by id follows the device into any socket, one by path stands for
    the socket. Devices without a serial number of their own share one name by id, and the last that came has it: where
    one of the USB devices has none, all of them go by path.
    """
    by_id, by_path = _links(folder / "by-id"), _links(folder / "by-path")
    shared = any("-usb" in Path(link).name for node, link in by_path.items() if node not in by_id)
    return {**by_id, **by_path} if shared else {**by_path, **by_id}


def _links(folder: Path) -> dict[str, str]:
    """Where each link of the folder leads -> the first link, in the order of the alphabet, that leads there."""
    found: dict[str, str] = {}
    try:
        for link in sorted(folder.iterdir()):
            found.setdefault(str(link.resolve()), str(link))
    except OSError:  # no such device, or the folder went with the last one
        return found
    return found
