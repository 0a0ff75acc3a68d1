"""Where a repository of models is read from: one module for each way, and the choice between them."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.config.schema import MqttConfig, UpdateConfig
from edge_agent.errors import ConfigError
from edge_agent.ports import Source


def create_source(config: UpdateConfig, mqtt: MqttConfig, folder: Path, client_id: str, topic: str) -> Source:
    """The source that ``config.repository`` names. Files and folders of the configuration are meant from ``folder``;
    ``client_id`` is the daemon's, and ``topic`` its "<base>/<device>". Raises ConfigError."""
    repository = config.repository or ""
    # The libraries take time and memory to import: only the way that is used
    if repository.startswith(("http://", "https://")):
        from edge_agent.io.fetch.http import HttpSource

        return HttpSource(repository, tls=config.tls, folder=folder, rate=config.rate)
    if repository == "mqtt:":
        from edge_agent.io.fetch.mqtt import MqttSource

        # Two clients with one id throw each other out
        return MqttSource(mqtt, folder, f"{client_id}-update", topic, rate=config.rate)
    if not repository or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", repository):
        raise ConfigError(
            f'[update] repository = {repository!r}: expected "https://HOST/PATH", "http://HOST/PATH", "mqtt:" or the '
            "path of a folder"
        )
    from edge_agent.io.fetch.folder import FolderSource

    return FolderSource(folder / Path(repository).expanduser())
