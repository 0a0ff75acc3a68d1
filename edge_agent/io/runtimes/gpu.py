"""A GPU through LiteRT's own accelerator (WebGPU, on the system's Vulkan driver), in a process of its own.

Over there since it compiles its shaders for up to minutes while it holds Python's lock, and since a driver may take
its process down. What a driver has compiled stays on the disk, a folder for each model: the next start takes seconds.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_agent import limits
from edge_agent.errors import ConfigError, DeviceLostError
from edge_agent.io.runtimes import litert
from edge_agent.io.runtimes.backend import Backend, Build
from edge_agent.io.runtimes.in_child import ChildRuntime
from edge_agent.io.runtimes.kept_folder import kept_folder
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.records import Form

log = logging.getLogger("edge_agent")

_ENTRY: Final = "edge_agent.io.runtimes.gpu_model:build"
_FOLDER: Final = "gpu"
_BYTES_MOST: Final = 64 * 2**20  # of each folder; a MobileNetV2 needs 2 MB
# without a folder of ours the drivers would write into the user's home, which a service does not have
_NO_CACHE: Final = {"MESA_SHADER_CACHE_DISABLE": "true", "__GL_SHADER_DISK_CACHE": "0"}


def version(library: LibraryName | None) -> str:
    """As "ai-edge-litert x.y.z". Raises ConfigError where it is not installed, or another library is asked for."""
    if library not in (None, "litert"):
        raise ConfigError(f"{library} has no GPU accelerator; install ai-edge-litert")
    return litert.version("litert")


def open_runtime(model: bytes, wanted: Build) -> ChildRuntime:
    """Compiled, and run once. Raises DeviceError where there is no usable GPU or it does not take the model, ModelError
    where no back-end would."""
    folder = kept_folder(wanted.cache_dir, _FOLDER, model) if wanted.cache_dir else None
    end_s = time.monotonic() + limits.GPU_START_S
    cached = folder is not None and any(folder.iterdir())
    try:
        return _start(model, wanted, folder, limits.GPU_START_S)
    except DeviceLostError as error:
        if folder is None or not cached:
            raise
        # a driver checks what it reads, and yet a damaged file may be what killed it
        log.warning("%s: %s; once more, without the shaders of %s", wanted.label, error, folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        return _start(model, wanted, folder, end_s - time.monotonic())


def _start(model: bytes, wanted: Build, folder: Path | None, start_s: float) -> ChildRuntime:
    return ChildRuntime(_ENTRY, model, wanted, start_s=start_s, environment=_environment(folder))


def _environment(folder: Path | None) -> Mapping[str, str]:
    """Where drivers keep their shaders: Mesa's (envvars.html of its documentation) and NVIDIA's (its README's chapter
    on environment variables). Others keep none, or where they like."""
    if folder is None:
        return _NO_CACHE
    return {
        "MESA_SHADER_CACHE_DIR": str(folder),
        "MESA_SHADER_CACHE_MAX_SIZE": f"{_BYTES_MOST // 2**20}M",
        "__GL_SHADER_DISK_CACHE": "1",
        "__GL_SHADER_DISK_CACHE_PATH": str(folder),
        "__GL_SHADER_DISK_CACHE_SIZE": str(_BYTES_MOST),
    }


GPU: Final = Backend(
    open_runtime,
    frozenset[Form](("tflite",)),
    version,
    device=True,
    own_process=True,
    trial_s=limits.GPU_START_S,
)
