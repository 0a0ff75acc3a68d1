"""``edge-agent drift``: what the daemon's last report says of each pipeline, and how it came to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge_agent.commands.common import add_config, add_json, look_at_service, parser
from edge_agent.commands.drift_picture import draw
from edge_agent.commands.drift_text import as_text
from edge_agent.config.load import LoadedConfig
from edge_agent.core.drift.snapshot import Snapshot, read_snapshot
from edge_agent.errors import ConfigError, StorageError
from edge_agent.io.drift_state import DriftFolder
from edge_agent.loading import drift_folder, load_configuration
from edge_agent.monitoring import Level
from edge_agent.stages.drift import SNAPSHOT


def main(argv: Sequence[str]) -> int:
    """0: every pipeline is at ok, info, or learns; 1: one is at warning or critical, or has no report yet, or there is
    nothing to draw."""
    arguments = parser("drift", "Show what the running daemon found of drift, data quality and labels. Reads only.")
    arguments.add_argument("pipeline", nargs="*", help="pipelines; all of them where none is named")
    add_config(arguments)
    add_json(arguments)
    arguments.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw reference against now for the features that differ most"
    )
    options = arguments.parse_args(argv)
    look_at_service(options.config)
    loaded = load_configuration(options.config)
    names = _names(loaded, options.pipeline)
    found = {name: _read(loaded, name) for name in names}
    there = {name: snapshot for name, snapshot in found.items() if snapshot is not None}
    if options.json:
        for snapshot in there.values():
            print(json.dumps(json.loads(snapshot.encode())))
    else:
        print("\n\n".join(as_text(name, found[name]) for name in names))
    if options.plot is not None:
        draw(there, options.plot)
    return 0 if all(snapshot is not None and not _bad(snapshot) for snapshot in found.values()) else 1


def _names(loaded: LoadedConfig, asked: Sequence[str]) -> list[str]:
    known = [pipeline.name for pipeline in loaded.config.pipeline]
    for name in asked:
        if name not in known:
            raise ConfigError(f"no pipeline {name!r} in {loaded.path}; it has {', '.join(known)}")
    if not loaded.config.drift.enabled:
        raise ConfigError(f"{loaded.path}: drift.enabled = false, so the daemon watches nothing")
    return list(asked) or known


def _read(loaded: LoadedConfig, name: str) -> Snapshot | None:
    folder = drift_folder(loaded)
    content = DriftFolder(folder).load(name + SNAPSHOT)
    if content is None:
        return None
    try:
        return read_snapshot(content)
    except ValueError as error:
        raise StorageError(f"{folder / (name + SNAPSHOT)}: {error}; the next report replaces it") from None


def _bad(snapshot: Snapshot) -> bool:
    return snapshot.said().level in (Level.WARNING, Level.CRITICAL)
