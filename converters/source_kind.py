"""What kind of model a name on the command line means. By content where the content says it; without any framework."""

from __future__ import annotations

import json
import mmap
import re
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

from converters.records import Kind
from edge_agent.errors import ConfigError

ALLOWED = (
    "expected .keras, .h5, a SavedModel folder, .onnx, .pt2, a float .tflite, or FILE.py:FUNCTION that returns a "
    "torch module"
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_FACTORY = re.compile(r"(?P<module>[^:]+):(?P<function>[A-Za-z_]\w*)")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_HEAD_BYTES = 512
# What holds no graph, by how its name ends, and what to do instead
_NO_GRAPH = {
    ".safetensors": "weights without a graph",
    ".ckpt": "a checkpoint, weights without a graph",
    ".index": "a checkpoint, weights without a graph",
    ".pkl": "a pickle",
    ".joblib": "a pickle",
    ".npz": "arrays",
    ".json": "an architecture without weights",
    ".pb": "a frozen graph without signatures: save it as a SavedModel folder first",
    ".py": "a program: say which function returns the torch module, as FILE.py:FUNCTION",
}


class Factory(NamedTuple):
    """A function that makes a torch module: ``module`` is a path that ends in .py, or a dotted name."""

    module: str
    function: str

    @property
    def file(self) -> Path:
        """Where it should lie: a dotted name is looked for below the working folder."""
        return Path(self.module if self.module.endswith(".py") else self.module.replace(".", "/") + ".py")


def kind_of(model: str) -> Kind:
    """What ``model``, a path or FILE.py:FUNCTION, is. Raises ConfigError, or ModelError for a .tflite that is
    quantised already: each says what it is instead and what to do."""
    path = Path(model)
    if not path.exists() and (factory := factory_of(model)) is not None:
        if factory.module.endswith(".py") and not factory.file.is_file():
            raise ConfigError(f"{model}: there is no file {factory.file}; name the file with the function")
        return "torch"
    if path.is_dir():
        return _of_folder(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{model} does not exist: put the model there or correct the path") from None
    except OSError as error:
        raise ConfigError(f"{model} can't be read: {error.strerror or error}") from None
    return _of_file(path, head)


def factory_of(model: str) -> Factory | None:
    """The parts of FILE.py:FUNCTION or module:function; None for anything else."""
    match = _FACTORY.fullmatch(model)
    if match is None or not (match["module"].endswith(".py") or _MODULE.fullmatch(match["module"])):
        return None
    return Factory(match["module"], match["function"])


def _of_folder(path: Path) -> Kind:
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return "saved_model"
    raise ConfigError(f"{path}: a folder without saved_model.pb, so no SavedModel; {ALLOWED}")


def _of_file(path: Path, head: bytes) -> Kind:
    if not head:
        raise ConfigError(f"{path} is empty: copy the model again")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise ConfigError(f"{path} is a web page, not a model: the download answered with HTML; fetch the file itself")
    if head.startswith(b"version https://git-lfs"):
        raise ConfigError(f"{path} is a Git LFS pointer, not a model: run git lfs pull")
    if head[4:8] == b"TFL3":
        return _of_tflite(path)
    if head.startswith(_HDF5):
        return _of_hdf5(path)
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(path)
    return _by_name(path, head)


def _by_name(path: Path, head: bytes) -> Kind:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        # a ModelProto begins with its ir_version: field 1, a variable-length integer
        if head[0] != 0x08:
            raise ConfigError(f"{path} is no ONNX model: it begins with {head[:4]!r}; export it again")
        return "onnx"
    if suffix in (".pt", ".pth", ".bin"):
        raise ConfigError(_pickled(path))
    if path.name in ("saved_model.pb", "saved_model.pbtxt"):
        raise ConfigError(f"{path}: name the folder that holds it: {path.parent}")
    if suffix in _NO_GRAPH:
        raise ConfigError(f"{path}: {_NO_GRAPH[suffix]}; {ALLOWED}")
    if suffix in (".keras", ".h5", ".hdf5", ".tflite", ".pt2"):
        raise ConfigError(f"{path} is damaged, or no {suffix} file: it begins with {head[:8]!r}; copy it again")
    raise ConfigError(f"{path}: not a model of a known kind, it begins with {head[:8]!r}; {ALLOWED}")


def _of_tflite(path: Path) -> Kind:
    from converters.tflite.float_source import require_float

    require_float(path.read_bytes(), str(path))
    return "tflite"


def _of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            metadata = archive.read("metadata.json") if "metadata.json" in names else b""
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise ConfigError(f"{path} is damaged: its zip can't be read ({error}); copy the model again") from None
    if metadata and "config.json" in names:
        try:
            return _of_version(str(json.loads(metadata)["keras_version"]), path)
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: its metadata.json names no keras_version; save it again") from None
    inside = {name.rpartition("/")[2] for name in names}
    if "serialized_exported_program.json" in inside or _is_exported_program(names):
        return "torch"
    if "constants.pkl" in inside:
        raise ConfigError(
            f"{path}: TorchScript, which the converter does not take; use torch.export.save, or FILE.py:FUNCTION that "
            "returns the module"
        )
    if "data.pkl" in inside:
        raise ConfigError(_pickled(path))
    raise ConfigError(f"{path}: a zip that is neither .keras nor .pt2; {ALLOWED}")


def _is_exported_program(names: list[str]) -> bool:
    """The archive of torch 2.8 and later: models/NAME.json beside its archive_format."""
    return any(name.endswith("archive_format") for name in names) and any(
        re.search(r"(^|/)models/[^/]+\.json$", name) for name in names
    )


def _pickled(path: Path) -> str:
    return (
        f"{path}: a pickle of weights has no graph; write the model with torch.export.save (.pt2), or name "
        "FILE.py:FUNCTION that returns the module with its weights loaded"
    )


def _of_hdf5(path: Path) -> Kind:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        version = _attribute(content, b"keras_version")
        if content.find(b"model_config\0") < 0 or not version:
            raise ConfigError(
                f"{path}: holds weights only, or was not written by Keras; save the whole model with "
                "model.save('model.keras')"
            )
    return _of_version(version, path)


def _attribute(content: mmap.mmap, name: bytes) -> str:
    """The first attribute ``name`` of text in an HDF5 file; "" where there is none. Reads what h5py writes: a version 1
    attribute message (HDF5 File Format Specification 3.0, IV.A.2.m) with its text in the global heap (III.E)."""
    start = content.find(name + b"\0")
    try:
        version, _, name_size, type_size, space_size = struct.unpack_from("<BBHHH", content, start - 8)
        if start < 8 or version != 1 or name_size != len(name) + 1:
            return ""
        value = start + sum(-(-size // 8) * 8 for size in (name_size, type_size, space_size))
        length, heap, index = struct.unpack_from("<IQI", content, value)
        return _heap_object(content, heap, index)[:length].decode("ascii", errors="replace")
    except struct.error:  # offsets that lead out of a damaged file
        return ""


def _heap_object(content: mmap.mmap, heap: int, index: int) -> bytes:
    if content[heap : heap + 4] != b"GCOL":
        return b""
    position, end = heap + 16, heap + int(struct.unpack_from("<Q", content, heap + 8)[0])
    while position < end:
        found, _, _, size = struct.unpack_from("<HHIQ", content, position)
        if found == index:
            return content[position + 16 : position + 16 + size]
        if found == 0:  # the free space at the end
            break
        position += 16 + -(-size // 8) * 8
    return b""


def _of_version(version: str, path: Path) -> Kind:
    major = version.partition(".")[0]
    if major in ("1", "2"):
        return "keras2"
    if major == "3":
        return "keras3"
    raise ConfigError(f"{path}: written by Keras {version}, known are Keras 2 and 3; save it with one of these")
