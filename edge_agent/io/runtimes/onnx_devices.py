"""NVIDIA's accelerators as ONNX Runtime drives them: their options, TensorRT's cache of engines, and what of a model
really ran on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.io.runtimes.kept_folder import kept_folder

_CUDA: Final = "CUDAExecutionProvider"
_TENSORRT: Final = "TensorrtExecutionProvider"
_WORKSPACE_BYTES: Final = 512 * 2**20  # of TensorRT while it builds and runs: a Jetson's GPU shares the board's memory
_FOLDER: Final = "tensorrt"

Placement = dict[str, Counter[str]]
"""By provider: how often each operator ran there."""


class Device(NamedTuple):
    """``providers``: its own first, then who takes what that leaves. ``start_s``: how long its first use may take."""

    title: str
    providers: tuple[str, ...]
    start_s: float


CUDA: Final = Device("CUDA", (_CUDA,), 120.0)  # the first use on a Jetson loads some hundred MB of libraries
# it tries kernels for each layer: minutes for a large model on a small Jetson; from its cache, seconds
TENSORRT: Final = Device("TensorRT", (_TENSORRT, _CUDA), 600.0)


def options_of(provider: str, model: bytes, cache_dir: Path | None) -> dict[str, str]:
    if provider == _CUDA:
        # the default search tries every convolution for minutes, and the default arena doubles each time it grows
        return {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    if provider != _TENSORRT:
        return {}
    chosen = {"trt_fp16_enable": "True", "trt_max_workspace_size": str(_WORKSPACE_BYTES)}
    if b"QuantizeLinear" in model:
        chosen["trt_int8_enable"] = "True"
    # one folder for each model: ONNX Runtime names an engine by the graph, not by its weights, and would run an older
    # version's
    folder = kept_folder(cache_dir, _FOLDER, model) if cache_dir else None
    if folder:
        chosen |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
        chosen |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(folder)}
    return chosen


def forget_engines(device: Device, model: bytes, cache_dir: Path | None) -> bool:
    """A damaged engine must not keep TensorRT away for ever. False: there was none."""
    folder = kept_folder(cache_dir, _FOLDER, model) if cache_dir and _TENSORRT in device.providers else None
    engines = list(folder.iterdir()) if folder else []
    for path in engines:
        path.unlink(missing_ok=True)
    return bool(engines)


def placement(profile: bytes) -> Placement:
    """What ran where, from the profile that ONNX Runtime wrote."""
    found: Placement = {}
    for event in json.loads(profile):
        if event.get("cat") == "Node" and (provider := event["args"].get("provider")):
            found.setdefault(provider, Counter())[event["args"].get("op_name", "")] += 1
    return found


def elsewhere(found: Placement, device: Device) -> str:
    """One clause on what did not run on the device; "" where everything did."""
    rest = {name: ops for name, ops in found.items() if name != device.providers[0]}
    parts = [
        f"{ops.total()} of {sum(all_.total() for all_ in found.values())} nodes ran on "
        f"{name.removesuffix('ExecutionProvider')} ({', '.join(sorted(ops))})"
        for name, ops in rest.items()
    ]
    return f"{device.title}: {'; '.join(parts)}" if parts else ""
