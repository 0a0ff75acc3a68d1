"""The TFLite interpreter (ai-edge-litert, or tflite-runtime where that has no wheel) as our Runtime.

Built from bytes, never from a path: a path is memory-mapped, and truncating that file kills the process.
Tensors are found by name once; their order in the file means nothing.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from edge_agent.errors import ConfigError, ModelError, RunError
from edge_agent.io.runtimes import xnnpack_forced
from edge_agent.records import Array, RuntimeInfo, TensorSpec

LibraryName = Literal["litert", "tflite-runtime"]

_PACKAGES: dict[LibraryName, tuple[str, str]] = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime", "tflite-runtime"),
}
_REASON_CHARS = 240  # a reason travels in info, in events and in one line of a terminal


class Library(NamedTuple):
    """An importable TFLite runtime: ``module`` is its ``interpreter`` module, ``version`` "name x.y.z"."""

    name: LibraryName
    version: str
    module: Any


def load_library(name: LibraryName | None = None) -> Library:
    """The named runtime, or the first that can be imported. Raises ConfigError when there is none."""
    failures = []
    for candidate in [name] if name else list(_PACKAGES):
        package, distribution = _PACKAGES[candidate]
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ImportError as error:
            failures.append(f"{distribution}: {one_line(error)}")
            continue
        version = getattr(importlib.import_module(package), "__version__", "of unknown version")
        return Library(candidate, f"{distribution} {version}", module)
    wanted = _PACKAGES[name or "litert"][1]
    raise ConfigError(f"no TFLite runtime can be imported ({'; '.join(failures)}); install {wanted}")


def version(name: LibraryName | None) -> str:
    """Of the library that runs a model, as "name x.y.z". Raises ConfigError when there is none."""
    return load_library(name).version


def one_line(error: object) -> str:
    """The message of a foreign error without line breaks and links, short enough for a log line."""
    text = re.sub(r"See instructions: \S+", "", str(error))
    text = " ".join(re.sub(r"(?<=\w)(?=Node number |Restored original )", "; ", text).split())
    return text if len(text) <= _REASON_CHARS else text[: _REASON_CHARS - 1] + "…"


class LiteRtRuntime:
    """One interpreter with its tensors allocated and every input at real zero. Used by one thread only.

    ``label`` is the configured name of the back-end; ``plugin`` an external delegate (see external.py);
    ``default_delegates=False`` keeps XNNPACK out. A dimension that only a run decides is -1 in ``outputs``.
    Raises ModelError when the interpreter refuses the model.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    info: RuntimeInfo

    def __init__(
        self,
        model: bytes,
        *,
        label: str = "xnnpack",
        threads: int = 1,
        library: LibraryName | None = None,
        plugin: object | None = None,
        default_delegates: bool = True,
    ) -> None:
        if not model:
            raise ModelError("the file is empty")
        source = load_library(library)
        plugins = [plugin] if plugin is not None else []
        if default_delegates and not plugins and source.name == "tflite-runtime":
            # its default resolver leaves quantised graphs to the slow kernels
            plugins = xnnpack_forced.delegates(source.module, threads)
        try:
            self._interpreter: Any = _interpreter(source.module, model, threads, plugins, default_delegates)
            # a plug-in takes its part at once, XNNPACK only when tensors are allocated: looked at in
            # between, DELEGATE ops are the plug-in's own
            delegated = _delegated(self._interpreter)
            self._interpreter.allocate_tensors()
            if plugin is None:
                delegated = _delegated(self._interpreter)
            self.inputs, self.outputs = _tensors(self._interpreter)
            for spec in self.inputs:  # an input that nobody names must not be whatever the memory held
                self._interpreter.set_tensor(spec.index, _real_zeros(spec))
        except (ValueError, RuntimeError) as error:
            raise ModelError(one_line(error) or "it can't allocate its tensors (MemoryError)") from error
        except SystemError as error:  # tflite-runtime 2.14 was built for numpy 1
            raise ConfigError(
                f"{source.version} does not work with numpy {np.__version__}; install numpy<2, or ai-edge-litert"
            ) from error
        self.info = RuntimeInfo(delegate=label, runtime=source.version, threads=threads, delegated=delegated)
        self._inputs_by_name = {spec.name: spec for spec in self.inputs}

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Copy each input in by name, run, and return copies of all outputs by name.

        An input that is not named keeps its last value. Raises ModelError for a tensor that does not fit, RunError
        for a run that fails.
        """
        # set_tensor and get_tensor copy, so that no live view can ever forbid the run; measured, they are also
        # faster than assigning through a view taken anew
        for name, array in tensors.items():
            spec = self._inputs_by_name.get(name)
            if spec is None or array.shape != spec.shape or array.dtype != spec.dtype:
                raise ModelError(misfit(name, array, spec, self.inputs))
            self._interpreter.set_tensor(spec.index, array)
        failure: str | None = None
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            failure = one_line(error)
        if failure is not None:  # out here: the other's traceback holds the interpreter, and that a device
            raise RunError(f"{self.info.delegate}: the run failed: {failure}")
        return {spec.name: self._output(spec) for spec in self.outputs}

    def close(self) -> None:
        """Release the interpreter and its delegate; the runtime can't be used afterwards. May be called twice."""
        self._interpreter = None

    def _output(self, spec: TensorSpec) -> Array:
        try:
            array: Array = self._interpreter.get_tensor(spec.index)
        except ValueError as error:
            # an empty result (nothing detected, shape (0, 4)) can't be read, only measured
            shape = next(d["shape"] for d in self._interpreter.get_output_details() if d["index"] == spec.index)
            if np.prod(shape) != 0:
                raise ModelError(f"output {spec.name!r} can't be read: {one_line(error)}") from error
            array = np.empty(tuple(shape), spec.dtype)
        return array


def _interpreter(module: Any, model: bytes, threads: int, plugins: list[object], default_delegates: bool) -> Any:
    resolver = module.OpResolverType
    forced = any(isinstance(plugin, xnnpack_forced.ForcedXnnpack) for plugin in plugins)
    return module.Interpreter(
        model_content=model,
        num_threads=threads,
        experimental_delegates=plugins,
        experimental_op_resolver_type=(
            resolver.AUTO if default_delegates and not forced else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )


def _delegated(interpreter: Any) -> bool:
    nodes = interpreter._interpreter  # names alone: _get_ops_details() describes every tensor, a fifth of the build
    return any(nodes.NodeName(position) == "DELEGATE" for position in range(nodes.NumNodes()))


def _tensors(interpreter: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    signature = _signature(interpreter._get_full_signature_list(), inputs, outputs)
    return (
        _specs("inputs", inputs, signature.get("inputs", {})),
        _specs("outputs", outputs, signature.get("outputs", {})),
    )


def _signature(signatures: dict[str, Any], inputs: list[Any], outputs: list[Any]) -> dict[str, dict[str, int]]:
    """Names to tensor indices of the signature that is meant to be run; empty where there is no such one."""
    key = next(iter(signatures)) if len(signatures) == 1 else "serving_default"
    signature: dict[str, dict[str, int]] = signatures.get(key, {"inputs": {}, "outputs": {}})
    of_main_graph = {detail["index"] for detail in inputs + outputs}
    named = {*signature["inputs"].values(), *signature["outputs"].values()}
    # a signature of another subgraph counts its tensors anew
    return signature if named <= of_main_graph else {}


def _specs(role: str, details: Iterable[dict[str, Any]], signature: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    specs = []
    for detail in {detail["index"]: detail for detail in details}.values():
        names = [name for name, index in signature.items() if index == detail["index"]] or [detail["name"]]
        specs += [_spec(name, detail) for name in names]
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError(f"two {role} have the same name ({', '.join(names)}); convert the model with a signature")
    return tuple(specs)


def _spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    # an output that only a run can size has no shape yet, but a signature with -1 in it
    shape = detail["shape"] if len(detail["shape"]) else detail["shape_signature"]
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        name=name,
        index=detail["index"],
        shape=tuple(int(size) for size in shape),
        dtype=np.dtype(detail["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _real_zeros(spec: TensorSpec) -> Array:
    return np.full(spec.shape, spec.zero_point, spec.dtype)


def misfit(name: str, array: Array, spec: TensorSpec | None, inputs: Iterable[TensorSpec]) -> str:
    if spec is None:
        return f"the model has no input {name!r}; it has {', '.join(repr(s.name) for s in inputs)}"
    return (
        f"input {name!r} takes {spec.dtype} of shape {spec.shape}, "
        f"got {array.dtype} of shape {tuple(array.shape)}; the card must describe this model's tensors"
    )
