"""What ``edge-agent doctor`` says of the service: its package, its user's groups, its drop-ins."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import edge_agent
from edge_agent.commands.common import Check
from edge_agent.io.host import DROP_INS, DROP_INS_ON, USER, Host

# Owners of cameras, GPUs, serial lines, buses, pins, USB accelerators and Edge TPUs: those of the package's sysusers
# file, which also makes those that a system lacks.
DEVICE_GROUPS: Final = ("video", "render", "dialout", "i2c", "gpio", "plugdev", "apex")
# Which drop-in a back-end needs: what the unit's sandbox forbids by default, drivers that compile at run time do.
DROP_IN_OF: Final = {"gpu": "gpu", "onnx-tensorrt": "jetson", "onnx-cuda": "jetson"}
RESTART: Final = "sudo systemctl daemon-reload && sudo systemctl restart edge-agent"


def service_checks(host: Host, wanted_drop_ins: Collection[str]) -> Iterator[Check]:
    yield from package(host)
    yield from groups(host)
    yield from drop_ins(host, wanted_drop_ins)


def package(host: Host, running: str = edge_agent.__version__) -> Iterator[Check]:
    """The package's version is the program's with Debian's suite behind a tilde."""
    installed = host.packages.get("edge-agent")
    if installed is None:
        return
    upstream = installed.partition("~")[0].partition("-")[0]
    if upstream == running:
        yield Check("package", "ok", f"edge-agent {installed}")
    else:
        detail = f"the package is {installed}, this program {running}: another installation comes first in PATH"
        fix = "call /usr/bin/edge-agent, or remove the other one (pip uninstall edge-agent-runtime)"
        yield Check("package", "warn", detail, fix)


def groups(host: Host) -> Iterator[Check]:
    if host.user_groups is None:
        return
    missing = [name for name in DEVICE_GROUPS if name in host.groups and name not in host.user_groups]
    if missing:
        fix = f"sudo usermod -aG {','.join(missing)} {USER} && sudo systemctl restart edge-agent"
        yield Check("groups", "fail", f"the user {USER} is not in: {', '.join(missing)}", fix)
    else:
        yield Check("groups", "ok", f"the user {USER} is in every group of devices that is here")


def needed_drop_ins(orders: Collection[str], profile_drop_ins: Collection[str]) -> frozenset[str]:
    """``orders``: all back-ends that the profile or the configuration declares."""
    return frozenset(DROP_IN_OF[name] for name in orders if name in DROP_IN_OF) | frozenset(profile_drop_ins)


def drop_ins(host: Host, wanted: Collection[str]) -> Iterator[Check]:
    """Only what the package brings along and what is not in use."""
    for name in sorted(wanted):
        file = f"{name}.conf"
        if file in host.drop_ins_on:
            yield Check("drop-in", "ok", f"{name} is in use")
        elif file in host.drop_ins:
            command = f"sudo install -m 644 -D -t /{DROP_INS_ON} /{DROP_INS}/{file}"
            yield Check("drop-in", "warn", f"{name} is meant for this board and not in use", f"{command} && {RESTART}")
