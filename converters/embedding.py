"""Files that ride inside a model: put in, replaced, taken out. The model's own bytes stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from converters.device_model import DeviceModel
from converters.drift_facts import require_fit
from converters.inspected_file import card_facts, port_specs
from converters.members import replaced
from converters.tflite.graph import read_graph
from edge_agent.core.card_schema import CARD_MEMBER, GOLDEN_MEMBER
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import MEMBER_BYTES_MOST, MEMBERS_MOST, parse_model, read_model
from edge_agent.io.runtimes.choose import CPU_MEMBER
from edge_agent.monitoring import REFERENCE_MEMBER
from edge_agent.records import ModelFile

# These say something about the model's tensors: their own commands check that it is true.
_OWN_COMMAND = {CARD_MEMBER: "edge-convert card edit", GOLDEN_MEMBER: "edge-convert golden"}


def embed(path: Path, files: Mapping[str, bytes], remove: Collection[str] = ()) -> bytes:
    """The model at ``path`` with ``files`` by member name, without those in ``remove``.

    Raises ModelError or ConfigError for a name or a content that a device would not take.
    """
    file = read_model(path)
    if file.notes:
        raise ModelError(f"{path}: {'; '.join(file.notes)}; writing it anew would lose that: mend the file first")
    for name, content in files.items():
        _check_name(name)
        _check_content(name, content)
    for name in remove:
        if name not in file.members:
            inside = ", ".join(file.members) or "no files"
            raise ConfigError(f"--remove {name}: {path} has no such file; it has {inside}")
    members = {name: content for name, content in file.members.items() if name not in remove}
    members |= files
    total = sum(map(len, members.values()))
    if len(members) > MEMBERS_MOST or total > MEMBER_BYTES_MOST:
        raise ConfigError(
            f"{len(members)} files of {total} bytes: a device reads at most {MEMBERS_MOST} files and "
            f"{MEMBER_BYTES_MOST // 2**20} MiB in a model"
        )
    whole = replaced(file, members)
    if REFERENCE_MEMBER in members:
        _check_reference(parse_model(whole, path))
    return whole


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if name in _OWN_COMMAND:
        raise ConfigError(f"{name} is written by `{_OWN_COMMAND[name]}`, which checks it against the model")
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable() or str(path) != name:
        raise ConfigError(f"{name!r}: not a name for a file in a model: expected one such as labels.txt or docs/a.md")


def _check_content(name: str, content: bytes) -> None:
    if name == CPU_MEMBER and parse_model(content, Path(name)).form == "edgetpu":
        raise ConfigError(f"{name}: compiled for the Edge TPU; the build for the CPU belongs here")


def _check_reference(file: ModelFile) -> None:
    """A drift reference must be of this model."""
    if file.form == "onnx":
        model = DeviceModel(file.content, path=Path(file.path))
        require_fit(file.members, model.card, model.outputs)
        return
    specs = port_specs(read_graph(file.content))
    card, _ = card_facts(file, specs)
    require_fit(file.members, card, specs[1])
