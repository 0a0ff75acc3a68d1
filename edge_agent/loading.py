"""Reads the configuration and begins to load models: the part of the start that needs neither OpenCV nor the network.

``begin`` starts the child that tries the back-end; assembly.py finishes. Between the two, other things are imported.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.config.load import LoadedConfig, load_config
from edge_agent.config.schema import DelegateConfig, ModelConfig
from edge_agent.io.board import read_board
from edge_agent.io.model_file import read_model
from edge_agent.io.profiles import find_profile
from edge_agent.io.runtimes import BACKENDS, ONNX_PLAIN, PLAIN
from edge_agent.io.runtimes.choose import Choice
from edge_agent.io.state_directory import cache_directory, state_directory
from edge_agent.records import ModelFile

OUTBOX_FILE = "outbox.sqlite"


class ModelRequest(Struct, frozen=True):
    """What is to be loaded and how. ``where`` names the place in the configuration for messages; ``behind``: other
    models run meanwhile, and come first."""

    name: str
    config: ModelConfig
    folder: Path
    order: Sequence[str]  # of back-ends; empty: what fits the file
    threads: int
    external: Mapping[str, DelegateConfig]
    where: str
    cache_dir: Path | None = None
    version: str | None = None  # as it was released; None: the card's
    behind: bool = False


class Loading(Struct, frozen=True):
    """A model that has been read, and whose back-end is being tried."""

    request: ModelRequest
    file: ModelFile
    choice: Choice


def begin(request: ModelRequest) -> Loading:
    """Read the file and start to try the first back-end. Raises ModelError or ConfigError."""
    file = read_model(request.folder / request.config.path)
    choice = Choice(
        file,
        order_for(file, request.order),
        threads=request.threads,
        external=request.external,
        cache_dir=request.cache_dir,
        library=request.config.runtime,
        behind=request.behind,
    )
    return Loading(request, file, choice)


def load_configuration(path: Path) -> LoadedConfig:
    """agent.toml on this machine, with the profile of its board. Raises ConfigError."""
    board = read_board()
    return load_config(path, lambda name: find_profile(name, board), socket.gethostname())


def model_request(
    loaded: LoadedConfig,
    name: str,
    *,
    remember: bool = True,
    path: Path | None = None,
    version: str | None = None,
    behind: bool = False,
) -> ModelRequest:
    """The request for ``[model.NAME]`` of a configuration. ``remember``: keep the result of the trial for next time;
    ``path`` and ``version``: of a model that came over the air, in place of the factory's; ``behind``: see
    ModelRequest."""
    config = loaded.config.model[name]
    if path is not None:
        config = replace(config, path=str(path.absolute()))
    return ModelRequest(
        name=name,
        config=config,
        folder=loaded.folder,
        order=config.delegates or loaded.profile.delegates,
        threads=config.threads or _thread_share(loaded),
        external=loaded.config.delegate,
        where=f"{loaded.path}: [model.{name}.card]",
        cache_dir=cache_directory() if remember else None,
        version=version,
        behind=behind,
    )


def _thread_share(loaded: LoadedConfig) -> int:
    """Each pipeline has an interpreter of its own, also where two share a model."""
    interpreters = [loaded.config.model[pipeline.model].threads for pipeline in loaded.config.pipeline]
    return loaded.profile.thread_count(read_board().cpus, interpreters)


def order_for(file: ModelFile, declared: Sequence[str]) -> tuple[str, ...]:
    """The declared order; before it the Edge TPU, where a model compiled for one would meet only back-ends that can't
    take it (most profiles declare no Edge TPU: it is plugged in). Behind it ONNX Runtime on the processor, where
    nothing takes an ONNX model, or where a .tflite may go to the processor too."""
    order = tuple(declared) or PLAIN
    if file.form == "edgetpu" and set(order) <= set(PLAIN):
        return ("edgetpu", *order)
    if file.form == "onnx" and ONNX_PLAIN not in order:
        taken = any("onnx" in BACKENDS[name].forms for name in order if name in BACKENDS)
        if not taken or set(order) & set(PLAIN):
            return (*order, ONNX_PLAIN)
    return order


def outbox_path(loaded: LoadedConfig) -> Path:
    """Where what the broker has not acknowledged is kept: as configured, else in the service's state directory, else in
    the user's."""
    if loaded.config.outbox.path is not None:
        return loaded.folder / loaded.config.outbox.path
    return state_directory(loaded.config.device.id or "") / OUTBOX_FILE


def drift_folder(loaded: LoadedConfig) -> Path:
    """Where what was learnt is kept: as configured, else beside the outbox's usual place."""
    if loaded.config.drift.path is not None:
        return loaded.folder / loaded.config.drift.path
    return state_directory(loaded.config.device.id or "") / "drift"
