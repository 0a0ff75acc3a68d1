"""How ``edge-agent doctor`` reads: what was found, then what to do, in order, with commands that can be copied."""

from __future__ import annotations

from edge_agent.commands.common import Check
from edge_agent.commands.doctor_text import Delegate, doctor_text

CHECKS = [
    Check("board", "ok", "Raspberry Pi 4 Model B Rev 1.4, aarch64, 4 cores, 3793 MB, Debian GNU/Linux 12 (bookworm)"),
    Check("clock", "warn", "not synchronised", "sudo timedatectl set-ntp true"),
    Check("groups", "fail", "the user edge-agent is not in: video", "sudo usermod -aG video edge-agent && " + "x" * 60),
    Check("camera", "skip", "no local camera", "attach one"),
]
DELEGATES = [
    Delegate("edgetpu", False, "no Edge TPU: libedgetpu.so.1 is not installed"),
    Delegate("xnnpack", True, ""),
    Delegate("cpu", True, ""),
]

EXPECTED = """\
ok    board           Raspberry Pi 4 Model B Rev 1.4, aarch64, 4 cores, 3793 MB,
                      Debian GNU/Linux 12 (bookworm)
warn  clock           not synchronised
fail  groups          the user edge-agent is not in: video
skip  camera          no local camera
                      attach one

back-ends, in order
no    edgetpu         no Edge TPU: libedgetpu.so.1 is not installed
used  xnnpack
works cpu

to do, in this order
  1. groups: the user edge-agent is not in: video
     sudo usermod -aG video edge-agent && xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
  2. clock (advice): not synchronised
     sudo timedatectl set-ntp true"""


def test_what_keeps_the_daemon_from_working_comes_first_and_no_command_is_broken() -> None:
    assert doctor_text(CHECKS, DELEGATES, "xnnpack", 80) == EXPECTED


def test_a_board_in_order_is_told_so() -> None:
    assert doctor_text(CHECKS[:1], DELEGATES, "xnnpack", 80).endswith("\n\nnothing to do")
