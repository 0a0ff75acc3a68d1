"""The profiles of the package: each is sound, and each board finds its own."""

import pytest

from edge_agent.config.checks import BUILT_IN_DELEGATES
from edge_agent.config.profile import best_profile, parse_profile
from edge_agent.errors import ConfigError
from edge_agent.io.board import Board
from edge_agent.io.profiles import find_profile, load_profile, profile_names

ALL = (
    "coral-dev-board",
    "coral-pcie-on-pi",
    "coral-usb-on-pi",
    "generic-arm64",
    "generic-x86",
    "jetson-agx-orin",
    "jetson-nano",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2",
)


def board(model="", arch="aarch64", usb=(), pci=()):
    return Board(model, arch, 4, 4096, "Linux", "3.11", "host", frozenset(usb), frozenset(pci))


def test_every_profile_comes_with_the_package():
    assert profile_names() == ALL


@pytest.mark.parametrize("name", ALL)
def test_a_profile_names_back_ends_that_exist_and_what_it_was_tested_on(name):
    profile = load_profile(name)
    assert profile.name == name
    assert set(profile.delegates) <= set(BUILT_IN_DELEGATES)
    assert len(set(profile.delegates)) == len(profile.delegates)
    assert (profile.support == "tested here") == (name == "generic-x86")
    assert profile.match or profile.match_arch


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberry-pi-3"),
        ("Raspberry Pi Compute Module 3 Plus Rev 1.0", "raspberry-pi-3"),
        ("Raspberry Pi 4 Model B Rev 1.5", "raspberry-pi-4"),
        ("Raspberry Pi 400 Rev 1.0", "raspberry-pi-4"),
        ("Raspberry Pi Compute Module 4 Rev 1.0", "raspberry-pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi 500 Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi Compute Module 5 Lite Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry-pi-zero-2"),
        ("NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
        ("NVIDIA Orin NX Developer Kit", "jetson-orin-nx"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "jetson-orin-nx"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("Freescale i.MX8MQ Phanbell", "coral-dev-board"),
        ("Hardkernel ODROID-N2", "generic-arm64"),
        ("", "generic-arm64"),
    ],
)
def test_a_board_finds_the_profile_made_for_it(model, name):
    assert find_profile("auto", board(model)).name == name


def test_a_pc_finds_the_generic_profile():
    assert find_profile("auto", board("OptiPlex 7010", "x86_64")).name == "generic-x86"


@pytest.mark.parametrize("stick", ["1a6e:089a", "18d1:9302"])
def test_a_coral_stick_counts_on_a_raspberry_pi_only(stick):
    pi = "Raspberry Pi 4 Model B Rev 1.5"
    assert find_profile("auto", board(pi, usb=[stick, "1d6b:0002"])).name == "coral-usb-on-pi"
    assert find_profile("auto", board(pi, usb=["1d6b:0002"])).name == "raspberry-pi-4"
    assert find_profile("auto", board("OptiPlex", "x86_64", usb=[stick])).name == "generic-x86"


def test_an_edge_tpu_on_pcie_counts_on_a_raspberry_pi_only():
    pi = "Raspberry Pi 5 Model B Rev 1.0"
    assert find_profile("auto", board(pi, pci=["1ac1:089a", "14e4:2712"])).name == "coral-pcie-on-pi"
    assert find_profile("auto", board(pi, pci=["14e4:2712"])).name == "raspberry-pi-5"
    assert find_profile("auto", board("OptiPlex", "x86_64", pci=["1ac1:089a"])).name == "generic-x86"


@pytest.mark.parametrize("name", ALL)
def test_a_profile_says_which_systems_have_a_package_and_what_the_others_lose(name):
    systems = load_profile(name).systems
    assert systems
    assert len({system.name for system in systems}) == len(systems)
    assert all((system.suite is None) == bool(system.lost) for system in systems)
    suites = {"bookworm": ("3.11", "2.36"), "trixie": ("3.13", "2.41"), "jammy": ("3.10", "2.35")}
    assert all((system.python, system.glibc) == suites[system.suite] for system in systems if system.suite)


def test_a_system_without_a_package_must_say_what_that_costs():
    head = 'title = "x"\nsupport = "untested"\nthermal = { slow_above_c = 80, normal_below_c = 70 }\n'
    system = '[[systems]]\nname = "y"\npython = "3.11"\nglibc = "2.36"\narch = "arm64"\n'
    with pytest.raises(ConfigError, match="must have either a suite or what is lost"):
        parse_profile(head + system, "x", "x.toml")


def test_a_named_profile_is_taken_whatever_the_board_is():
    assert find_profile("coral-usb-on-pi", board("OptiPlex", "x86_64")).delegates == ("edgetpu", "xnnpack")


def test_an_unknown_name_is_answered_with_the_nearest_and_all():
    with pytest.raises(ConfigError) as raised:
        find_profile("raspberry-pi4", board())
    message = str(raised.value)
    assert message.startswith('no such profile; did you mean "raspberry-pi-4"? known: "auto", "coral-dev-board", ')
    assert all(name in message for name in ALL)


def test_a_machine_of_an_unknown_kind_is_told_to_choose():
    with pytest.raises(
        ConfigError, match=r'no profile fits this machine \(model "", architecture "riscv64"\); name one'
    ):
        find_profile("auto", board(arch="riscv64"))


def test_the_longest_match_wins_over_the_wider_one():
    head = 'title = "x"\nsupport = "untested"\nthermal = { slow_above_c = 80, normal_below_c = 70 }\n'
    wide = parse_profile(head + 'match = ["Acme *"]', "wide", "wide.toml")
    close = parse_profile(head + 'match = ["Acme Mark 2*"]', "close", "close.toml")
    for order in ([wide, close], [close, wide]):
        assert best_profile(order, "Acme Mark 2b", "aarch64", frozenset()).name == "close"
        assert best_profile(order, "Acme Mark 1", "aarch64", frozenset()).name == "wide"
