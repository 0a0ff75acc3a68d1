"""What is known of a kind of board: which machines it fits, which back-ends are tried, how hot it may get.

Values and their choice only; ``io/profiles.py`` reads the files and knows the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
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


class Profile(_Strict, frozen=True, kw_only=True):
    """One file of ``device_profiles/``. A profile fits where every ``match`` list that it has fits."""

    name: str  # the file's name
    title: str
    support: Support
    match: tuple[str, ...] = ()  # globs on the board's model; case counts
    match_usb: tuple[str, ...] = ()  # "vendor:product" of a device that must be plugged in
    match_arch: tuple[str, ...] = ()  # what uname calls the machine
    delegates: tuple[str, ...] = ("xnnpack", "cpu")  # the order in which back-ends are tried
    threads: Annotated[int, Meta(ge=1, le=64)] | None = None  # None: see thread_count
    thermal: Thermal
    memory_mb: Annotated[int, Meta(ge=1)] | None = None  # of every board of this kind; None: sold in several sizes
    notes: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)  # merged under agent.toml

    def thread_count(self, cpus: int) -> int:
        """Threads of an interpreter: the profile's, else all cores but one, at least 1 and at most 4.

        A core stays free for capture and the network; beyond four, small models lose more than they gain.
        """
        return self.threads or min(4, max(1, cpus - 1))


def parse_profile(text: str, name: str, file: str) -> Profile:
    """Raises ConfigError where the profile or its defaults can't be used."""
    profile = convert({**parse_toml(text, file), "name": name}, Profile, file)
    if profile.thermal.normal_below_c >= profile.thermal.slow_above_c:
        raise ConfigError(f"{file}: thermal.normal_below_c must be below thermal.slow_above_c")
    convert(profile.defaults, Config, f"{file}: defaults")
    return profile


def unknown_profile(name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"no such profile{choices(name, (AUTO, *sorted(known)))}")


def best_profile(profiles: Iterable[Profile], model: str, arch: str, usb: frozenset[str]) -> Profile:
    """The profile that fits most closely: a plugged-in accelerator first, then the board's model, then the
    architecture. Raises ConfigError where none fits."""
    fitting = {profile.name: (_fit(profile, model, arch, usb), profile) for profile in profiles}
    best, profile = max(fitting.values(), key=lambda pair: pair[0])
    if best == _NO_FIT:
        machine = f"model {show(model)}, architecture {show(arch)}"
        raise ConfigError(f"no profile fits this machine ({machine}){choices('', sorted(fitting), 'name one')}")
    return profile


def _fit(profile: Profile, model: str, arch: str, usb: frozenset[str]) -> tuple[int, int, int]:
    """How closely: USB devices, letters of the model's glob, architecture; ``_NO_FIT`` where a list does not fit."""
    devices = len(usb.intersection(profile.match_usb))
    letters = [len(glob.replace("*", "")) for glob in profile.match if fnmatchcase(model, glob)]
    here = arch in profile.match_arch
    wanted = ((profile.match_usb, devices), (profile.match, letters), (profile.match_arch, here))
    if any(given and not hit for given, hit in wanted) or not any(given for given, _ in wanted):
        return _NO_FIT
    return devices, max(letters, default=0), int(here)
