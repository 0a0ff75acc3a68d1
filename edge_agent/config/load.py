"""agent.toml -> LoadedConfig: the profile's defaults under the file, converted, cross-checked, frozen.

The only reader of agent.toml. What the machine is comes in as arguments, so that nothing here asks for it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.config.checks import cross_check
from edge_agent.config.convert import convert, parse_toml
from edge_agent.config.profile import Profile
from edge_agent.config.schema import Config
from edge_agent.config.words import show
from edge_agent.errors import ConfigError

FindProfile = Callable[[str], Profile]

# A configuration by hand has some kilobytes: whatever is larger was named by mistake.
_BYTES_MOST: Final = 2**20
_SHARED_HOST_NAMES: Final = {"localhost", "raspberrypi", "ubuntu", "debian", "coral", "jetson"}


class LoadedConfig(Struct, frozen=True):
    """A configuration that can be started. ``config.device.id`` is always set; ``warnings`` are whole lines."""

    config: Config
    path: Path
    profile: Profile
    warnings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Paths in the file that do not begin with / are meant from here."""
        return self.path.parent

    def resolve(self, name: str) -> Path:
        return self.folder / name


def load_config(path: Path, find_profile: FindProfile, host_name: str) -> LoadedConfig:
    """Read and check a whole configuration; ``find_profile`` turns ``device.profile`` into the board's profile.

    Raises ConfigError: one line with file, key, value and what is allowed.
    """
    raw = parse_toml(_read(path), str(path))
    config, profile, warnings = build_config(raw, str(path), find_profile, host_name)
    return LoadedConfig(config, path, profile, warnings)


def build_config(
    raw: dict[str, Any], file: str, find_profile: FindProfile, host_name: str
) -> tuple[Config, Profile, tuple[str, ...]]:
    """The part of ``load_config`` that reads nothing: raw TOML -> configuration, profile, warnings."""
    alone = convert(raw, Config, file)
    try:
        profile = find_profile(alone.device.profile)
    except ConfigError as error:
        raise ConfigError(f"{file}: device.profile = {show(alone.device.profile)}: {error}") from error
    config = convert(merge(profile.defaults, raw), Config, file)
    warnings = []
    if config.device.id is None:
        device = replace(config.device, id=device_id(host_name, file))
        config = replace(config, device=device)
        if device.id in _SHARED_HOST_NAMES:
            warnings.append(f"{file}: device.id: taken from the host name {show(host_name)}, which others have too")
    warnings.extend(cross_check(config, file))
    return config, profile, tuple(warnings)


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; every other value, lists too, is replaced as a whole."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def device_id(host_name: str, file: str) -> str:
    """The host name as a device id: lower case, other characters replaced by -, at most 63."""
    name = re.sub(r"[^a-z0-9]+", "-", host_name.lower()).strip("-")[:63].rstrip("-")
    if not name:
        raise ConfigError(f"{file}: device.id: missing, and the host name {show(host_name)} can't stand in: set it")
    return name


def _read(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe would never end
            raise ConfigError(f"{path}: not a file; name the configuration, such as agent.toml")
        with path.open("rb") as file:
            content = file.read(_BYTES_MOST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; docs/configuration.md has one to start from") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; name the file in it, such as {path / 'agent.toml'}") from None
    except PermissionError:
        raise ConfigError(f"{path}: this user may not read it; see its owner and mode") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    if len(content) > _BYTES_MOST:
        raise ConfigError(f"{path}: larger than 1 MiB: not a configuration")
    try:
        return content.decode("utf-8-sig")  # some editors put a byte order mark before the text
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8") from None
