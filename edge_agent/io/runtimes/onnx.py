"""ONNX Runtime for .onnx files: on the processor, and on an NVIDIA GPU by CUDA or TensorRT (a Jetson) in a child.

It takes another provider without a word where the wanted one can't be used, and gives single nodes to the processor:
both are looked at here, never assumed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.errors import ConfigError, DeviceError, DeviceLostError, EdgeAgentError, ModelError, RunError
from edge_agent.io.runtimes.backend import Backend, Build
from edge_agent.io.runtimes.in_child import ChildRuntime
from edge_agent.io.runtimes.litert import LibraryName, misfit, one_line
from edge_agent.io.runtimes.onnx_devices import (
    CUDA,
    TENSORRT,
    Device,
    elsewhere,
    forget_engines,
    options_of,
    placement,
)
from edge_agent.records import Array, Form, RuntimeInfo, TensorSpec

log = logging.getLogger("edge_agent")

_CPU: Final = "CPUExecutionProvider"
_INSTALL: Final = "pip install onnxruntime, on a Jetson NVIDIA's build of onnxruntime-gpu for its JetPack in its place"
_INSTALL_FOR_GPU: Final = "install a build with it in its place: on a Jetson NVIDIA's onnxruntime-gpu for its JetPack"
_DISTRIBUTIONS: Final = ("onnxruntime-gpu", "onnxruntime")
_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    **{f"tensor({name})": name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
    "tensor(bool)": "bool",
}
_ONNX: Final = frozenset[Form](("onnx",))
_OF_OTHER_FILES: Final = ("External data", "external data", "model_path")  # as its versions put it
_NOWHERE: Final = "/dev/null"  # a folder that has no files and never will
_FATAL_ONLY: Final = 4  # ONNX Runtime's log level: what goes wrong comes as an error too


def version(_library: LibraryName | None = None) -> str:
    """As "onnxruntime x.y.z". Raises ConfigError where it is not installed. Its import takes half a second: not here,
    where a child is about to begin with it."""
    for name in _DISTRIBUTIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(name)}"
    return f"onnxruntime {_library_module().__version__}"


def _library_module() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(f".onnx models need ONNX Runtime ({one_line(error)}): {_INSTALL}") from None


class OnnxRuntime:
    """One session with its inputs at zero. Used by one thread only; a run releases the GIL.

    ``device`` None: the processor. An open first dimension (the batch) is 1; any other open dimension of an input is
    refused, of an output it is -1. Raises ConfigError where ONNX Runtime is not installed, DeviceError where the device
    is not there or takes nothing of the model, ModelError where ONNX Runtime refuses it.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    info: RuntimeInfo

    def __init__(self, model: bytes, wanted: Build, device: Device | None = None) -> None:
        library = _library_module()
        self._device = device
        self._failures = _failures(library)
        if device and device.providers[0] not in library.get_available_providers():
            raise DeviceError(f"{version()} was built without {device.title}: {_INSTALL_FOR_GPU}")
        try:
            self._session: Any = _session(library, model, wanted, device)
            self.inputs, self.outputs = _tensors(self._session)
        except MemoryError:
            raise ModelError("it can't allocate its tensors (MemoryError)") from None
        except self._failures as error:
            raise self._refused(error) from error
        self._by_name = {spec.name: spec for spec in self.inputs}
        self._feed = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.inputs}
        self._names = [spec.name for spec in self.outputs]
        reason = self._placed(device) if device else ""
        self.info = RuntimeInfo(wanted.label, version(), wanted.threads, delegated=device is not None, reason=reason)

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Copy each input in by name, run, and return new arrays of all outputs by name.

        An input that is not named keeps its last value. Raises ModelError for a tensor that does not fit, RunError for
        a run that fails, DeviceLostError for one that fails on an accelerator: this session's memory there is lost.
        """
        for name, array in tensors.items():
            spec = self._by_name.get(name)
            if spec is None or array.shape != spec.shape or array.dtype != spec.dtype:
                raise ModelError(misfit(name, array, spec, self.inputs))
            np.copyto(self._feed[name], array)
        try:
            return dict(zip(self._names, self._session.run(self._names, self._feed), strict=True))
        except self._failures as error:
            kind = DeviceLostError if self._device else RunError
            raise kind(f"{self.info.delegate}: the run failed: {_said(error)}") from error

    def close(self) -> None:
        """Release the session; the runtime can't be used afterwards. May be called twice."""
        self._session = None

    def _placed(self, device: Device) -> str:
        """Run once, with every node's provider written down. Returns what is to be said of it."""
        try:
            self._session.run(self._names, self._feed)
            profile = Path(self._session.end_profiling())
        except self._failures as error:
            raise self._refused(error) from error
        try:
            found = placement(profile.read_bytes())
            profile.unlink()
        except (OSError, ValueError) as error:
            raise DeviceError(f"what runs on {device.title} can't be told: {one_line(error)}") from error
        if device.providers[0] not in found:
            raise DeviceError(f"{device.title} took no part of this model; it ran on {', '.join(found)}")
        return elsewhere(found, device)

    def _refused(self, error: Exception) -> EdgeAgentError:
        if self._device is None:
            return ModelError(_said(error))
        return DeviceError(f"{self._device.title} does not run this model: {_said(error)}")


def _session(library: Any, model: bytes, wanted: Build, device: Device | None) -> Any:
    """Raises _failures, DeviceError."""
    options = library.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # by default its threads spin between two runs, and take the cores of everything else
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # weights in other files: a model is one file here, and must not read any other of this machine
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    if device:
        options.enable_profiling = True  # until the first run has shown what runs where
        options.profile_file_prefix = str(Path(tempfile.gettempdir()) / f"edge-agent-{os.getpid()}")
    wishes = [(name, options_of(name, model, wanted.cache_dir)) for name in device.providers] if device else []
    # without the second chance of its own, which would take another provider
    session = library.InferenceSession(model, options, providers=[*wishes, _CPU], enable_fallback=0)
    if device and device.providers[0] not in session.get_providers():
        raise RuntimeError(f"it took {', '.join(session.get_providers())} instead")
    return session


def _tensors(session: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Raises ModelError."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    batch = {entry.shape[0] for entry in inputs if entry.shape and not isinstance(entry.shape[0], int)}
    specs = tuple(_spec("input", index, entry, batch) for index, entry in enumerate(inputs))
    for spec in specs:
        if -1 in spec.shape:
            shape = [size if size >= 0 else "?" for size in spec.shape]
            raise ModelError(
                f"input {spec.name!r} of shape {shape} has an open dimension: export it with fixed ones, or by "
                "`edge-convert onnx`"
            )
    return specs, tuple(_spec("output", index, entry, batch) for index, entry in enumerate(outputs))


def _spec(role: str, index: int, entry: Any, batch: set[Any]) -> TensorSpec:
    if entry.type not in _DTYPES:
        allowed = ", ".join(sorted(set(_DTYPES.values())))
        raise ModelError(f"{role} {entry.name!r} is {entry.type}; a device takes tensors of {allowed}")
    shape = tuple(
        size if isinstance(size, int) else 1 if position == 0 and size in batch else -1
        for position, size in enumerate(entry.shape)
    )
    return TensorSpec(entry.name, index, shape, np.dtype(_DTYPES[entry.type]))


def _failures(library: Any) -> tuple[type[Exception], ...]:
    """Its errors have no base class of their own."""
    module = library.capi.onnxruntime_pybind11_state
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (RuntimeError, ValueError, *own)


def _said(error: Exception) -> str:
    text = str(error)
    if any(words in text for words in _OF_OTHER_FILES):
        return "its weights lie in another file: export it as one (external_data=False), or by `edge-convert onnx`"
    return one_line(text.removeprefix("[ONNXRuntimeError] : "))


def build_cpu(model: bytes, wanted: Build) -> OnnxRuntime:
    """In this process."""
    return OnnxRuntime(model, wanted)


def build_cuda(model: bytes, wanted: Build) -> OnnxRuntime:
    """In this process: for the child."""
    return OnnxRuntime(model, wanted, CUDA)


def build_tensorrt(model: bytes, wanted: Build) -> OnnxRuntime:
    """In this process: for the child."""
    return OnnxRuntime(model, wanted, TENSORRT)


def _in_child(device: Device, build: Callable[[bytes, Build], OnnxRuntime]) -> Backend:
    """After an error CUDA is lost to a process until its end, and building an engine can take it down."""
    entry = f"{__name__}:{build.__name__}"

    def start(model: bytes, wanted: Build) -> ChildRuntime:
        try:
            return ChildRuntime(entry, model, wanted, start_s=device.start_s)
        except DeviceError as error:
            if not forget_engines(device, model, wanted.cache_dir):
                raise
            log.warning("%s: %s; once more, with an engine built anew", wanted.label, error)
            return ChildRuntime(entry, model, wanted, start_s=device.start_s)

    return Backend(start, _ONNX, version, device=True, own_process=True, trial_s=device.start_s)


ONNX_CPU: Final = Backend(build_cpu, _ONNX, version)
ONNX_CUDA: Final = _in_child(CUDA, build_cuda)
ONNX_TENSORRT: Final = _in_child(TENSORRT, build_tensorrt)
