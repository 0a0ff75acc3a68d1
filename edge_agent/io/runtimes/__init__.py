"""Back-ends by name: what the configuration may call, and the one way to build a runtime from it.

A new back-end is one file beside this one and one line in BACKENDS. It may take its process down when it does not fit:
choose.py tries each in a child first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_agent.errors import ConfigError
from edge_agent.io.runtimes import gpu, litert, onnx
from edge_agent.io.runtimes.backend import Backend, Build
from edge_agent.io.runtimes.external import EDGETPU, ExternalRuntime, Kind, Plugin
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.io.runtimes.native_log import without_chatter
from edge_agent.ports import Runtime
from edge_agent.records import Form

if TYPE_CHECKING:  # a child that probes a back-end has no use for msgspec
    from edge_agent.config.schema import DelegateConfig

PLAIN: Final = ("xnnpack", "cpu")  # the back-ends that every machine has
ONNX_PLAIN: Final = "onnx-cpu"  # the one for ONNX models that needs no device
_TFLITE: Final = frozenset[Form](("tflite",))
_COMPILED: Final = frozenset[Form](("edgetpu",))


def _external(plugin: Plugin) -> Backend:
    forms = _COMPILED if plugin.kind == "edgetpu" else _TFLITE | _COMPILED
    return Backend(partial(_build_external, plugin), forms, litert.version, device=True, plugin=plugin)


def _build_external(plugin: Plugin, model: bytes, wanted: Build) -> Runtime:
    return ExternalRuntime(plugin, model, label=wanted.label, threads=wanted.threads, library=wanted.library)


def _build_litert(model: bytes, wanted: Build, *, default_delegates: bool = True) -> Runtime:
    return litert.LiteRtRuntime(
        model,
        label=wanted.label,
        threads=wanted.threads,
        library=wanted.library,
        default_delegates=default_delegates,
    )


BACKENDS: dict[str, Backend] = {
    "xnnpack": Backend(_build_litert, _TFLITE, litert.version),
    "cpu": Backend(partial(_build_litert, default_delegates=False), _TFLITE, litert.version),
    "edgetpu": _external(EDGETPU),
    "gpu": gpu.GPU,
    "onnx-tensorrt": onnx.ONNX_TENSORRT,
    "onnx-cuda": onnx.ONNX_CUDA,
    ONNX_PLAIN: onnx.ONNX_CPU,
}


def backends(plugins: Mapping[str, Plugin]) -> dict[str, Backend]:
    """The built-in back-ends and those of ``[delegate.NAME]``, which may give ``edgetpu`` another library or
    options. Raises ConfigError for a name that is taken."""
    known = dict(BACKENDS)
    for name, plugin in plugins.items():
        built_in = BACKENDS.get(name)
        if built_in is not None and built_in.plugin is None:
            raise ConfigError(f"[delegate.{name}]: this back-end is built in; give the library another name")
        known[name] = _external(plugin.absolute())
    return known


def plugins_of(external: Mapping[str, DelegateConfig]) -> dict[str, Plugin]:
    """The ``[delegate.NAME]`` tables of the configuration as plug-ins."""
    return {name: _plugin(name, config) for name, config in external.items()}


def _plugin(name: str, config: DelegateConfig) -> Plugin:
    kind: Kind = "edgetpu" if name == "edgetpu" or config.kind == "edgetpu" else ""
    return Plugin(config.library or (EDGETPU.library if kind else ""), config.options, kind)


def backend(name: str, known: Mapping[str, Backend]) -> Backend:
    """Raises ConfigError with the names that there are, and the nearest."""
    if name in known:
        return known[name]
    from difflib import get_close_matches

    nearest = get_close_matches(name, known, n=1)
    hint = f'; did you mean "{nearest[0]}"?' if nearest else "; add [delegate.NAME] for a library of your own"
    raise ConfigError(f'there is no back-end "{name}"; allowed are {", ".join(known)}{hint}')


def create(
    model: bytes,
    delegate: str,
    *,
    threads: int,
    external: Mapping[str, DelegateConfig],
    library: LibraryName | None = None,
    cache_dir: Path | None = None,
) -> Runtime:
    """A runtime on that back-end, quietly. Raises ConfigError, DeviceError, ModelError."""
    chosen, wanted = backend(delegate, backends(plugins_of(external))), Build(delegate, threads, library, cache_dir)
    if chosen.own_process:  # it keeps its chatter to itself, and may take long
        return chosen.build(model, wanted)
    with without_chatter():
        return chosen.build(model, wanted)
