"""A model on the GPU, in the process that gpu.py starts for it.

LiteRT's API does not tell which adapter it took, which part of a model runs where, or why there is no adapter: it
prints that, and here it is read.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.errors import DeviceError, DeviceLostError, ModelError
from edge_agent.io.runtimes import litert
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.child_host import said
from edge_agent.io.runtimes.litert import misfit, one_line
from edge_agent.records import Array, RuntimeInfo, TensorSpec

SOFTWARE: Final = "EDGE_AGENT_SOFTWARE_GPU"  # in the environment, not empty: take a software adapter too, for tests

_DTYPES: Final = ("float32", "int32", "int8", "uint8", "bool")  # that both LiteRT's buffers and numpy know
_ADAPTER: Final = re.compile(r"Selected adapter: (.+?), arch=.*adapterType=(.+)")
_PARTS: Final = re.compile(r"(\d+) operations will run on the GPU, and the remaining (\d+) operations")
_UNSUPPORTED: Final = re.compile(r"not supported by GPU delegate:\n(.+)")
_WARNING: Final = re.compile(r"^Warning: (.+)", re.MULTILINE)
_LIMIT_REDUCED: Final = "artificially reduced"
_INSTALL: Final = (
    "install the GPU's own Vulkan driver, or mesa-vulkan-drivers of 25 or later (22 is too old for WebGPU)"
)


class GpuModel:
    """Implements ``ports.Runtime``; an input that was never named is at real zero."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    info: RuntimeInfo

    def __init__(self, model: bytes, wanted: Build) -> None:
        """Raises ModelError where LiteRT's interpreter refuses the model, DeviceError where the GPU does, and where
        there is none."""
        # the interpreter survives a damaged model, and knows what a compiled model does not tell: quantisation
        reference = litert.LiteRtRuntime(model, label=wanted.label, default_delegates=False)
        self.inputs, self.outputs = reference.inputs, reference.outputs
        reference.close()
        _require_transferable([*self.inputs, *self.outputs])
        self._model = model  # LiteRT does not copy it
        self._compiled, partly = _compiled(model, wanted.threads)
        self._index, key = _signature(self._compiled, self.inputs, self.outputs)
        names = self._compiled.get_signature_list()[key]
        self._inputs = dict(zip(names["inputs"], self._compiled.create_input_buffers(self._index), strict=True))
        self._outputs = dict(zip(names["outputs"], self._compiled.create_output_buffers(self._index), strict=True))
        self._specs = {spec.name: spec for spec in self.inputs}
        for spec in self.inputs:
            self._inputs[spec.name].write(np.full(spec.shape, spec.zero_point, spec.dtype))
        runtime = f"{reference.info.runtime}, {_adapter()}"
        self.info = RuntimeInfo(wanted.label, runtime, wanted.threads, delegated=True, reason=partly)

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """As ``ports.Runtime``. Raises DeviceLostError for a run that fails: what it has on the GPU is lost."""
        for name, array in tensors.items():
            spec = self._specs.get(name)
            if spec is None or array.shape != spec.shape or array.dtype != spec.dtype:
                raise ModelError(misfit(name, array, spec, self.inputs))
            self._inputs[name].write(array)
        try:
            self._compiled.run_by_index(self._index, list(self._inputs.values()), list(self._outputs.values()))
            return {spec.name: self._output(spec) for spec in self.outputs}
        except RuntimeError as error:
            raise DeviceLostError(f"the run failed: {_innermost(error)}") from error

    def close(self) -> None:
        """May be called twice."""
        self._compiled, self._inputs, self._outputs = None, {}, {}

    def _output(self, spec: TensorSpec) -> Array:
        values: Array = self._outputs[spec.name].read(int(np.prod(spec.shape)), spec.dtype)
        return values.reshape(spec.shape)


build = GpuModel


def _require_transferable(specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if min(spec.shape, default=1) < 1:
            raise DeviceError(f"tensor {spec.name!r} has a size that only a run decides, which a GPU does not take")
        if spec.dtype.name not in _DTYPES:
            raise DeviceError(f"tensor {spec.name!r} is {spec.dtype}; a GPU's buffers take {', '.join(_DTYPES)}")


def _compiled(model: bytes, threads: int) -> tuple[Any, str]:
    """The model on the GPU, or on the GPU and the processor, and what is to be said of that."""
    try:
        compiled_model = importlib.import_module("ai_edge_litert.compiled_model")
        environment = importlib.import_module("ai_edge_litert.environment").Environment.create()
        options = importlib.import_module("ai_edge_litert.options")
    except (ImportError, AttributeError) as error:
        raise DeviceError(f"{litert.version('litert')} has no GPU accelerator; install 2.3 or later") from error
    accelerators = options.HardwareAccelerator

    def compiled(which: int) -> Any:
        return compiled_model.CompiledModel.from_buffer(
            model,
            environment=environment,
            options=options.Options(
                which,
                cpu_options=options.CpuOptions(num_threads=threads),
                gpu_options=options.GpuOptions(enforce_f32=True),  # half precision would add its error to that of int8
            ),
        )

    try:
        # alone first: with the processor beside it, it succeeds also where the GPU takes nothing
        found, partly = compiled(accelerators.GPU), ""
    except RuntimeError as error:
        _require_adapter(error)
        partly = _require_part(error)
        found = compiled(accelerators.GPU | accelerators.CPU)
    _refuse_software()
    return found, partly


def _require_adapter(error: RuntimeError) -> None:
    text = said()
    if _ADAPTER.search(text):
        return
    if "No adapters found" not in text:
        raise DeviceError(f"no GPU: {_innermost(error)}") from error
    why = [line for line in _WARNING.findall(text) if _LIMIT_REDUCED not in line]
    raise DeviceError(f"no Vulkan adapter ({why[0] if why else 'none found'}); {_INSTALL}{_unopened()}") from error


def _require_part(error: RuntimeError) -> str:
    text = said()
    unsupported = _UNSUPPORTED.search(text)
    what = f" ({one_line(unsupported[1])})" if unsupported else ""
    if (parts := _PARTS.search(text)) is None:
        raise DeviceError(f"the GPU takes nothing of this model{what or f': {_innermost(error)}'}") from error
    return f"of {int(parts[1]) + int(parts[2])} operations {parts[1]} run on the GPU, the others on the processor{what}"


def _innermost(error: RuntimeError) -> str:
    """LiteRT says where it noticed, level by level, and at the end what."""
    return one_line(str(error).rpartition("└")[2])


def _refuse_software() -> None:
    found = _ADAPTER.search(said())
    if found and "CPU" in found[2] and not os.environ.get(SOFTWARE):
        raise DeviceError(
            f"no GPU: {found[1]} is Vulkan in software, far slower than XNNPACK on the same processor{_unopened()}"
        )


def _adapter() -> str:
    found = _ADAPTER.search(said())
    return found[1] if found else "adapter unknown"


def _unopened() -> str:
    """What a person can do where a GPU is there, and this user may not open it."""
    nodes = sorted(Path("/dev/dri").glob("renderD*")) if Path("/dev/dri").is_dir() else []
    shut = [str(node) for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    return f"; let this user open {shut[0]} (group render)" if shut else ""


def _signature(compiled: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[int, str]:
    """Index and name of the one that the interpreter would run."""
    wanted = {spec.name for spec in inputs}, {spec.name for spec in outputs}
    for key, names in compiled.get_signature_list().items():
        if (set(names["inputs"]), set(names["outputs"])) == wanted:
            return compiled.get_signature_index(key), key
    raise DeviceError("LiteRT's accelerator has other names for this model's tensors than its interpreter")
