"""A .tflite run so that every tensor on the way can be read: for ranges and for the error of each layer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from converters.quantization.flatbuffer import parse, signature_names
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.runtimes.litert import one_line
from edge_agent.io.runtimes.native_log import without_chatter
from edge_agent.records import Array


class EveryTensor:
    """One interpreter that keeps all tensors. ``names`` are those that ``run`` gives; the reference kernels do the
    work, since XNNPACK would fuse some tensors away. Raises ModelError."""

    def __init__(self, model: bytes, names: Iterable[str]) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        parsed = parse(model)
        tensors = parsed.subgraphs[0].tensors
        places = {tensor.name.decode(): index for index, tensor in enumerate(tensors)}
        self._places = {name: places[name] for name in names}
        self._inputs = {name: places[tensor] for name, tensor in signature_names(parsed)[0].items()}
        try:
            with without_chatter(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "for debugging purposes only": this is the purpose
                self._interpreter: Any = Interpreter(
                    model_content=model,
                    num_threads=1,
                    experimental_preserve_all_tensors=True,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"the float model can't be run: {one_line(error)}") from error
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._scales = {name: _scale(details[index]) for name, index in self._places.items()}

    def run(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """(name, real values) of each tensor. Quantised inputs take and quantised tensors give real values: float32.
        Read each before the next run. Raises ConfigError for an input that is missing or does not fit."""
        for name, index in self._inputs.items():
            if name not in inputs:
                raise ConfigError(f"the sample has no {name!r}; the model takes {', '.join(self._inputs)}")
            try:
                self._interpreter.set_tensor(index, inputs[name])
            except ValueError as error:
                raise ConfigError(f"sample, input {name!r}: {one_line(error)}") from None
        self._interpreter.invoke()
        for name, index in self._places.items():
            scale, zero_point = self._scales[name]
            values = self._interpreter.get_tensor(index)
            yield name, (values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values

    def scale(self, name: str) -> float:
        """The step of a quantised tensor; 0 for float."""
        return self._scales[name][0]


def _scale(detail: Mapping[str, Any]) -> tuple[float, int]:
    scale, zero_point = detail["quantization"]
    return float(scale), int(zero_point)
