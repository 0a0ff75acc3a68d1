"""``edge-agent models verify``: the models of this device, or a file, through the examination of an update."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from edge_agent.children.verify import Place, RefusedModelError, Requirements, verify_model
from edge_agent.config.load import LoadedConfig
from edge_agent.core.rollout_steps import Evidence
from edge_agent.errors import ConfigError, ModelError, UpdateError
from edge_agent.io.model_file import read_model
from edge_agent.io.model_store import ModelStore
from edge_agent.loading import model_request
from edge_agent.rollouts import FACTORY, Held, Reason, Slot


class Verified(Struct, frozen=True):
    """``reason`` None: the model is good."""

    label: str
    path: Path
    reason: str | None = None
    detail: str = ""
    evidence: Evidence = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.reason is None

    def as_text(self) -> str:
        measured = ", ".join(f"{name} {value}" for name, value in self.evidence.items())
        said = measured if self.ok else f"{self.reason}: {self.detail}"
        return f"{'ok' if self.ok else 'fail':<5} {self.label}: {said}"

    def as_json(self) -> dict[str, object]:
        return {
            "label": self.label,
            "path": str(self.path),
            "ok": self.ok,
            "reason": self.reason,
            "detail": self.detail,
            "evidence": self.evidence,
        }


def verify_all(loaded: LoadedConfig, store: ModelStore) -> list[Verified]:
    """What each [model.NAME] runs, what ran before it, and its factory model. Raises StorageError."""
    state = store.load()
    found = []
    for name in loaded.config.model:
        held = state.models.get(name, Held())
        slots = [("runs", held.current), ("before it", held.previous)]
        for which, slot in slots:
            if slot is not None and slot.sha256 != FACTORY:
                found.append(_slot(loaded, store, name, slot, which))
        found.append(_examine(loaded, name, f"{name} factory", loaded.folder / loaded.config.model[name].path))
    return found


def verify_file(loaded: LoadedConfig, path: Path, name: str | None) -> Verified:
    """Raises ConfigError where it is not clear for which [model.NAME] it is meant."""
    known = loaded.config.model
    if name is None and len(known) == 1:
        name = next(iter(known))
    if name is None:
        try:
            name = str((read_model(path).card or {}).get("name"))
        except ModelError as error:
            return Verified(str(path), path, Reason.NOT_A_MODEL.value, str(error))
    if name not in known:
        raise ConfigError(f"{path}: for which model is it? --model takes one of: {', '.join(known) or 'none'}")
    return _examine(loaded, name, f"{path} as {name}", path)


def _slot(loaded: LoadedConfig, store: ModelStore, name: str, slot: Slot, which: str) -> Verified:
    label = f"{name} {slot.version} ({which})"
    path = store.slot(slot.sha256)
    if path is None:
        place = store.folder / "slots" / slot.sha256
        return Verified(label, place, Reason.HASH.value, "not there, or damaged; the daemon fetches it again")
    return _examine(loaded, name, label, path, slot.sha256)


def _examine(loaded: LoadedConfig, name: str, label: str, path: Path, sha256: str = "") -> Verified:
    request = model_request(loaded, name)
    place = Place(replace(request, folder=request.folder.absolute()), loaded.config)
    try:
        return Verified(label, path, evidence=verify_model(path, Requirements(sha256=sha256, place=place)))
    except UpdateError as error:
        evidence = error.evidence if isinstance(error, RefusedModelError) else {}
        return Verified(label, path, Reason(error.reason).value, str(error), evidence)
