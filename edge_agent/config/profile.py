"""What is known of a kind of board: which machines it fits, which back-ends are tried, how hot it may get.

Values and their choice only; ``io/profiles.py`` reads the files and knows the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from edge_agent.config.convert import convert, parse_toml
from edge_agent.config.schema import Config
from edge_agent.config.words import choices, show
from edge_agent.errors import ConfigError

AUTO: Final = "auto"
_NO_FIT: Final = (-1, -1, -1)

Support = Literal["tested here", "tested in emulation", "untested", "container only"]
Celsius = Annotated[float, Meta(ge=0, le=125)]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An unknown key is an error, never ignored."""


class Thermal(_Strict, frozen=True, kw_only=True):
    """From where the board is too hot to go on at full rate, and below which it is well again: degrees Celsius of the
    hottest thermal zone."""

    slow_above_c: Celsius
    normal_below_c: Celsius


class System(_Strict, frozen=True, kw_only=True):
    """An operating system of the board, its Python and C library, and what the package is called for:
    ``script/package --for SUITE --arch ARCH``. ``suite`` None: there is no package, and ``lost`` says what that costs.
    """

    name: str
    python: Annotated[str, Meta(pattern=r"^3\.[0-9]+$")]
    glibc: Annotated[str, Meta(pattern=r"^2\.[0-9]+$")]
    arch: Literal["arm64", "amd64", "armhf"]
    suite: Literal["bookworm", "trixie", "jammy"] | None = None
    lost: str = ""


class Profile(_Strict, frozen=True, kw_only=True):
    """One file of ``device_profiles/``. A profile fits where every ``match`` list that it has fits."""

    name: str  # the file's name
    title: str
    support: Support
    match: tuple[str, ...] = ()  # globs on the board's model; case counts
    match_usb: tuple[str, ...] = ()  # "vendor:product" of a device that must be plugged in
    match_pci: tuple[str, ...] = ()  # the same of a device on PCIe
    match_arch: tuple[str, ...] = ()  # what uname calls the machine
    delegates: tuple[str, ...] = ("xnnpack", "cpu")  # the order in which back-ends are tried
    threads: Annotated[int, Meta(ge=1, le=64)] | None = None  # of all interpreters together; None: see thread_count
    thermal: Thermal
    memory_mb: Annotated[int, Meta(ge=1)] | None = None  # of every board of this kind; None: sold in several sizes
    memory_budget_mb: Annotated[int, Meta(ge=1)] | None = None  # for the daemon with its models; None: no bound known
    systems: tuple[System, ...] = ()
    camera: tuple[str, ...] = ()  # what to know of cameras on this board
    drop_ins: tuple[str, ...] = ()  # of the service's unit, that every board of this kind should use
    notes: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)  # merged under agent.toml

    def thread_count(self, cpus: int, interpreters: Sequence[int | None] = (None,)) -> int:
        """Threads of an interpreter whose model does not say. ``interpreters``: what is configured for each that runs.

        The profile's number, else all cores but one, is split evenly among them, at least 1 and at most 4 each: a core
        stays free for capture and the network; beyond four, small models lose more than they gain. Splitting is better
        than runs that take turns with all threads: benchmarks/several.py.
        """
        left = (self.threads or cpus - 1) - sum(threads or 0 for threads in interpreters)
        share = left // max(1, sum(threads is None for threads in interpreters))
        return min(self.threads or 4, max(1, share))


def parse_profile(text: str, name: str, file: str) -> Profile:
    """Raises ConfigError where the profile or its defaults can't be used."""
    profile = convert({**parse_toml(text, file), "name": name}, Profile, file)
    if profile.thermal.normal_below_c >= profile.thermal.slow_above_c:
        raise ConfigError(f"{file}: thermal.normal_below_c must be below thermal.slow_above_c")
    for system in profile.systems:
        if (system.suite is None) == (not system.lost):
            raise ConfigError(f"{file}: systems: {system.name!r} must have either a suite or what is lost without one")
    convert(profile.defaults, Config, f"{file}: defaults")
    return profile


def unknown_profile(name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"no such profile{choices(name, (AUTO, *sorted(known)))}")


def best_profile(
    profiles: Iterable[Profile], model: str, arch: str, usb: frozenset[str], pci: frozenset[str] = frozenset()
) -> Profile:
    """The profile that fits most closely: an accelerator first, then the board's model, then the architecture. Raises
    ConfigError where none fits."""
    fitting = {profile.name: (_fit(profile, model, arch, usb, pci), profile) for profile in profiles}
    best, profile = max(fitting.values(), key=lambda pair: pair[0])
    if best == _NO_FIT:
        machine = f"model {show(model)}, architecture {show(arch)}"
        raise ConfigError(f"no profile fits this machine ({machine}){choices('', sorted(fitting), 'name one')}")
    return profile


def _fit(profile: Profile, model: str, arch: str, usb: frozenset[str], pci: frozenset[str]) -> tuple[int, int, int]:
    """How closely: accelerators, letters of the model's glob, architecture; ``_NO_FIT`` where a list does not fit."""
    on_usb, on_pci = len(usb.intersection(profile.match_usb)), len(pci.intersection(profile.match_pci))
    letters = [len(glob.replace("*", "")) for glob in profile.match if fnmatchcase(model, glob)]
    here = arch in profile.match_arch
    wanted = (
        (profile.match_usb, on_usb),
        (profile.match_pci, on_pci),
        (profile.match, letters),
        (profile.match_arch, here),
    )
    if any(given and not hit for given, hit in wanted) or not any(given for given, _ in wanted):
        return _NO_FIT
    return on_usb + on_pci, max(letters, default=0), int(here)
