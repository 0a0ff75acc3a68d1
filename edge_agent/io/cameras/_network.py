"""User names and passwords of network cameras. They go to the library that connects and nowhere else."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError
from edge_agent.io.cameras.registry import label
from edge_agent.io.secrets import read_secret


def split_address(config: CameraConfig, folder: Path) -> tuple[str, tuple[str, str] | None]:
    """The address without user information, and user name and password where there are any: the configuration's
    (the password from ``password_file`` or the systemd credential ``camera-<name>``), else those in the address.

    Raises ConfigError when the address has no host or the password can't be read.
    """
    try:
        parts = urlsplit(config.source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise ConfigError(
            f"{label(config)}: the address has no valid host and port; write {parts_form(config)}, and a user name "
            "and password as username and password_file"
        )
    location = f"[{host}]" if ":" in host else host
    address = urlunsplit(parts._replace(netloc=f"{location}:{port}" if port else location))
    if config.username:
        path = folder / config.password_file if config.password_file else None
        return address, (config.username, read_secret(path, f"camera-{config.name}") or "")
    if parts.username:
        return address, (unquote(parts.username), unquote(parts.password or ""))
    return address, None


def join_address(address: str, credentials: tuple[str, str] | None) -> str:
    """The address with user information, escaped, for libraries that take it only there."""
    if credentials is None:
        return address
    parts = urlsplit(address)
    user, password = (quote(part, safe="") for part in credentials)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc}"))


def parts_form(config: CameraConfig) -> str:
    """The form of an address with that scheme."""
    return f"{config.source.partition(':')[0]}://HOST:PORT/PATH"
