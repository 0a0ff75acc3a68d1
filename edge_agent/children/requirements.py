"""What a model must be to run somewhere: the signed release, the device's configuration, or the file's own word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from edge_agent.config.load import LoadedConfig
from edge_agent.config.schema import Config, ModelConfig
from edge_agent.core.card_schema import OutputCard
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import UpdateError
from edge_agent.io.runtimes import PLAIN
from edge_agent.loading import ModelRequest, model_request
from edge_agent.rollouts import Reason, Release


class Place(Struct, frozen=True):
    """The device that the model is for: how it is loaded there, all pipelines that use it, and the outputs (name to
    task) that whoever listens relies on."""

    request: ModelRequest
    config: Config
    outputs: Mapping[str, str] = field(default_factory=dict)


class Requirements(Struct, frozen=True, kw_only=True):
    """What the file must be. ``sha256`` "" and ``length`` None: whatever it is. ``p95_ms`` (of one invoke) and
    ``memory_mb`` (10^6 bytes, what loading and running add to a process) None: the card's, if it has any.
    ``place`` None: no device; then roles must come from the file's own card."""

    sha256: str = ""
    length: int | None = None
    p95_ms: float | None = None
    memory_mb: float | None = None
    place: Place | None = None


def requirements_of(loaded: LoadedConfig, release: Release, live: ResolvedCard | None = None) -> Requirements:
    """What a signed release must be on this device. ``live``: the card of what runs there now, whose outputs the new
    model must have too. Raises UpdateError where no [model.NAME] is meant."""
    if release.name not in loaded.config.model:
        known = ", ".join(loaded.config.model) or "none"
        raise UpdateError(
            Reason.INCOMPATIBLE, f"this device has no [model.{release.name}]; it has: {known}", final=True
        )
    request = model_request(loaded, release.name)
    outputs = {head.name: task_of(head) for head in live.outputs} if live else {}
    return Requirements(
        sha256=release.sha256,
        length=release.length,
        p95_ms=release.p95_ms,
        memory_mb=release.memory_mb,
        place=Place(replace(request, folder=request.folder.absolute()), loaded.config, outputs),
    )


def task_of(head: OutputCard) -> str:
    """ "classification", "detection", "regression" or "anomaly"."""
    return str(type(head).__struct_config__.tag)


def request_for(path: Path, requirements: Requirements) -> ModelRequest:
    """How to load the file at ``path`` there."""
    if requirements.place is None:
        config = ModelConfig(path=str(path))
        return ModelRequest(path.stem, config, path.parent, PLAIN, 1, {}, "the card")
    request = requirements.place.request
    return replace(request, config=replace(request.config, path=str(path)))
