"""One float .tflite in, one quantised .tflite out. Says which ops stayed float, and why; same inputs, same bytes."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from converters.quantization.borders import Border, set_borders
from converters.quantization.calibration import Calibration
from converters.quantization.flatbuffer import Op, activations_of, ops_of, pack, parse, signature_names
from converters.quantization.read_outputs import rejoin_outputs, separate_outputs
from converters.quantization.recipe import bits_of, recipe, tensor_ranges
from converters.quantization.versions import set_versions
from converters.records import FloatModel, Quantized, Scheme
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.litert import one_line

_CALIBRATED: tuple[Scheme, ...] = ("int8", "mixed", "16x8")
_METHODS = {
    "float32": "as trained",
    "dynamic": "int8 weights; activations are float32 and get their range at each run",
    "float16": "weights rounded to float16",
}
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def quantize(
    model: FloatModel,
    scheme: Scheme,
    *,
    calibration: Calibration | None = None,
    keep_float: Collection[str] = (),
    io: Border = "int8",
) -> Quantized:
    """``int8``: all of it. ``mixed``: the same with the ops in ``keep_float`` (named by their output tensor) in float.
    ``16x8``: int16 activations, int8 weights. ``dynamic``, ``float16``: weights only. ``float32``: as it is.

    int8, mixed and 16x8 need ``calibration``. ``io``: what an int8 or mixed model takes and gives; the other schemes
    always take and give float32. An input that only float ops read stays float32, and so does an output that a float
    op gives. The result's scheme is "mixed" where an op stayed float. Raises ConfigError, ModelError.
    """
    parsed = parse(model.content)
    ops = ops_of(parsed)
    _check_names(keep_float, ops)
    if scheme == "float32":
        return Quantized(model.content, scheme, _METHODS[scheme], minimum_runtime=set_versions(parsed))
    if scheme not in _CALIBRATED:
        content, minimum = _finished(_quantised(parsed, scheme, (), None), "float32")
        return Quantized(content, scheme, _METHODS[scheme], minimum_runtime=minimum)
    if calibration is None:
        raise ConfigError(f"{scheme} lays its steps over measured ranges and needs samples: add --data DATASET")
    result = _quantised(parsed, scheme, keep_float, calibration)
    content, minimum = _finished(result, "float32" if scheme == "16x8" else io)
    float_ops = _float_ops(content, keep_float)
    return Quantized(
        content,
        ("mixed" if float_ops else "int8") if scheme != "16x8" else scheme,
        calibration.text(),
        float_ops,
        minimum,
        _notes(content, scheme, io),
    )


def _quantised(parsed: Any, scheme: Scheme, keep_float: Collection[str], calibration: Calibration | None) -> bytes:
    """What AI Edge Quantizer makes of the model, with float borders."""
    # its parts, not its Quantizer: that shows progress bars which nothing turns off
    from ai_edge_quantizer import model_modifier, params_generator, recipe_manager
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    bits = bits_of(scheme)
    ranges = tensor_ranges(parsed, calibration.ranges, bits) if calibration else None
    outside = [
        ";".join(graph.tensors[index].name.decode() for index in operator.outputs or operator.inputs) + ";"
        for graph in parsed.subgraphs[1:]
        for operator in graph.operators
    ]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe(scheme, ops_of(parsed), keep_float, outside))
    separate_outputs(parsed)
    try:
        source = tfl_flatbuffer_utils.read_model(memoryview(pack(parsed)))
        parameters = params_generator.ParamsGenerator(source).generate_quantization_parameters(manager, ranges, False)
        made = model_modifier.ModelModifier(source).modify_model(parameters, enable_progress_bar=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise ModelError(f"AI Edge Quantizer can't quantise this model to {scheme}: {one_line(error)}") from error
    return bytes(made)


def _finished(content: bytes, border: Border) -> tuple[bytes, str]:
    """With its borders, op versions and oldest runtime; tried in the interpreter, which refuses some steps."""
    model = parse(content)
    rejoin_outputs(model)
    set_borders(model, border)
    minimum = set_versions(model)
    finished = pack(model)
    try:
        create(finished, "cpu", threads=1, external={}).close()
    except ModelError as error:
        raise ModelError(f"the quantised model can't be run: {error}; look at the ranges of its layers") from error
    return finished, minimum


def _float_ops(content: bytes, kept: Collection[str]) -> dict[str, str]:
    model = parse(content)
    floats = set(activations_of(model))
    found = {}
    for op in ops_of(model):
        if op.kind not in _CONVERSIONS and floats & {*op.inputs, *op.outputs}:
            asked = op.name in kept
            found[op.name] = f"{op.kind}, kept in float as asked" if asked else f"{op.kind} has no integer form here"
    if not found:
        _require_integers(model)
    return found


def _require_integers(model: Any) -> None:
    """A recipe can leave a tensor in float without a word: where no op explains it, only the borders may."""
    graph = model.subgraphs[0]
    borders = {*graph.inputs, *graph.outputs}
    left = [
        tensor.name.decode()
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == schema.TensorType.FLOAT32 and index not in borders
    ]
    if left:
        raise ModelError(
            f"the quantiser left {', '.join(left)} in float, and no op explains it: the model can't be used"
        )


def _notes(content: bytes, scheme: Scheme, io: Border) -> tuple[str, ...]:
    if scheme == "16x8" or io == "float32":
        return ()
    model = parse(content)
    kinds = {tensor.name.decode(): tensor.type for tensor in model.subgraphs[0].tensors}
    return tuple(
        f"the {side} {name!r} stays float32: its ops are in float"
        for side, names in zip(("input", "output"), signature_names(model), strict=True)
        for name, tensor in names.items()
        if kinds[tensor] == schema.TensorType.FLOAT32
    )


def _check_names(keep_float: Collection[str], ops: Collection[Op]) -> None:
    known = [op.name for op in ops]
    for name in keep_float:
        if name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0.3)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; there are {', '.join(known)}"
            raise ConfigError(f"keep in float: no op of the model has the output {name!r}{hint}")
