"""From a trained hybrid model to one .tflite that a device can trust: the steps of ``edge-convert`` as functions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Looked up when asked for: `import converters` costs nothing, and a step imports only what it needs.
_STEPS = {
    "Goal": "converters.conversion",
    "convert": "converters.conversion",
    "open_workbench": "converters.workbench",
    "quantized": "converters.steps",
    "calibrated": "converters.steps",
    "judged": "converters.steps",
    "finish": "converters.dressing",
    "climb": "converters.ladder",
    "evaluate": "converters.evaluation.results",
    "compare_recorded": "converters.evaluation.agreement",
    "inspect": "converters.inspection",
    "embed": "converters.embedding",
    "choose_golden": "converters.golden",
    "check_golden": "converters.golden",
    "make_baseline": "converters.baseline",
    "open_dataset": "converters.datasets",
    "DeviceModel": "converters.device_model",
    "load_device_model": "converters.device_model",
    "write_report": "converters.report",
}
__all__ = list(_STEPS)


def __getattr__(name: str) -> Any:
    if name not in _STEPS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_STEPS)}")
    return getattr(import_module(_STEPS[name]), name)
