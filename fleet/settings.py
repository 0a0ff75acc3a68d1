"""``fleet.toml`` in the private folder beside a repository: how long signatures last, where the broker is."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from edge_agent.config.convert import convert, parse_toml
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError
from fleet import files

FILE = "fleet.toml"
DAYS_MOST = 3650


class Days(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Until what a role signs expires. Offline keys are fetched rarely; online ones sign by themselves, from cron."""

    root: int = 365
    targets: int = 365
    models: int = 365
    rollouts: int = 365
    snapshot: int = 365
    timestamp: int = 365


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``offline``: roles whose keys are made in ``offline/``, to be carried away; ``mqtt``: the broker to ring the bell
    at (None: only where the command line says)."""

    offline: tuple[str, ...] = ()
    days: Days = Days()
    mqtt: MqttConfig | None = None


def private_folder(repository: Path) -> Path:
    """``repo.private`` beside ``repo``: what must never be served. Raises ConfigError."""
    whole = repository.resolve()
    if not whole.name:
        raise ConfigError(f"{repository}: the whole file system can't be a repository: name a folder in it")
    return whole.with_name(whole.name + ".private")


def read_settings(private: Path) -> Settings:
    """Raises ConfigError."""
    path = private / FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is not there: changes are made where `edge-fleet init` was called, or where that folder was "
            "copied to, beside the repository"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    settings = convert(parse_toml(text, str(path)), Settings, str(path))
    for role in Days.__struct_fields__:
        if not 1 <= (days := getattr(settings.days, role)) <= DAYS_MOST:
            raise ConfigError(f"{path}: days.{role} = {days}: expected 1 to {DAYS_MOST}")
    return settings


def write_settings(private: Path, settings: Settings) -> None:
    """The first ones, for the owner to edit. Raises StorageError."""
    offline = ", ".join(f'"{role}"' for role in settings.offline)
    days = "\n".join(f"{role} = {getattr(settings.days, role)}" for role in Days.__struct_fields__)
    text = (
        f"# Settings of edge-fleet for the repository beside this folder.\n\n"
        f"# Roles whose new keys are made in offline/, to be carried away.\noffline = [{offline}]\n\n"
        f"# Days until what a role signs expires; edge-fleet keys refresh begins anew.\n[days]\n{days}\n"
        f"\n# The broker at which a new rollout wakes the devices; keys as in agent.toml.\n"
        f'# [mqtt]\n# host = "broker.example.org"\n# port = 8883\n# [mqtt.tls]\n# ca = "ca.pem"\n'
    )
    files.write_whole(private / FILE, text.encode(), files.PRIVATE)
