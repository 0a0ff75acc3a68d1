"""What ``edge-agent doctor`` says of models over the air: may they come, is there room for them, what runs now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from edge_agent.commands.common import Check
from edge_agent.config.files import ROOT_FILE
from edge_agent.config.load import LoadedConfig
from edge_agent.core.wire import printable
from edge_agent.errors import StorageError, UpdateError
from edge_agent.io.model_store import RESERVE_BYTES, ModelStore, update_folder
from edge_agent.rollouts import DeviceState, Held
from edge_agent.updating.repository import read_root


def update_checks(loaded: LoadedConfig) -> Iterator[Check]:
    """Looks at files of this machine alone, and changes none."""
    config = loaded.config
    store = ModelStore(update_folder(config.update, loaded.folder, config.device.id or ""))
    yield _repository(loaded)
    try:
        state = store.load()
    except StorageError as error:
        yield Check("update.state", "warn", str(error), "call doctor as the user of the service")
        return
    if store.damage is not None:
        yield Check("update.state", "warn", store.damage, "the daemon mends it with the next update")
    for name in config.model:
        yield _runs(name, state)
    yield _room(loaded, store.folder)


def _repository(loaded: LoadedConfig) -> Check:
    update = loaded.config.update
    if update.repository is None:
        detail = "no [update] repository: models come by edge-agent models install alone"
        return Check("update", "skip", detail)
    try:
        read_root(loaded)
    except UpdateError as error:
        return Check("update", "warn", str(error), f"no update is taken until {update.root or ROOT_FILE} is there")
    return Check("update", "ok", f"from {update.repository}, channel {update.channel}; its root metadata is here")


def _runs(name: str, state: DeviceState) -> Check:
    held = state.models.get(name, Held())
    trial = state.trial.candidate.release if state.trial is not None else None
    words = [f"runs {held.current.version}"]
    words += [f"{trial.version} is on trial"] if trial is not None and trial.name == name else []
    words += [f"pinned: edge-agent models unpin {name}"] if held.pinned else []
    return Check(f"update.{name}", "ok", printable("; ".join(words)))


def _room(loaded: LoadedConfig, folder: Path) -> Check:
    """For a model as large as the largest one here."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    sizes = (loaded.resolve(model.path) for model in loaded.config.model.values())
    needed = RESERVE_BYTES + max((path.stat().st_size for path in sizes if path.is_file()), default=0)
    detail = f"{folder}: {free / 2**20:.0f} MiB free"
    if free < needed:
        return Check("update.room", "warn", detail, f"a new model needs {needed / 2**20:.1f} MiB: free some space")
    return Check("update.room", "ok", detail)
