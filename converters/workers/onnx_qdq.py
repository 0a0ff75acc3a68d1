"""int8 for TensorRT: QuantizeLinear and DequantizeLinear around what multiplies, by ONNX Runtime's quantiser.

As TensorRT wants it: symmetric, so every zero point is 0; weights in float with their own pair, one scale a channel;
biases in float (an int32 bias is refused); pairs at the inputs of an operator only, so that it can be fused with the
activation behind it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converters.workers import onnx_graph
from converters.workers.onnx_session import Session, predict_rows
from converters.workers.protocol import Array, Job, RefusedError, work

LEAST_OPSET = 13  # the first with a scale for each channel
MULTIPLIES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# a residual connection: with both sides in int8 the sum is fused into the convolution before it
QUANTISED = (*MULTIPLIES, "Add")


def quantize(job: Job) -> dict[str, Any]:
    """model.onnx of the folder -> model_qdq.onnx. The set "calibration" has the float32 inputs, rows first. Arguments:
    pinned, {input: [lowest, highest]}, ranges that are given instead of measured."""
    model = onnx_graph.load(job.folder / "model.onnx")
    if onnx_graph.opset(model) < LEAST_OPSET:
        raise RefusedError(
            f"int8 needs ONNX opset {LEAST_OPSET} or later, this model has {onnx_graph.opset(model)}: "
            f"add --opset {LEAST_OPSET}"
        )
    model = _folded(model)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"  # nodes are left out by name
    samples = _Samples(job)
    quantised = _quantised(model, samples, _overrides(model, job.arguments["pinned"]))
    onnx_graph.finish(quantised)
    onnx_graph.check(quantised, "the quantised model")
    Session(quantised)  # it loads, or this says why not
    (job.folder / "model_qdq.onnx").write_bytes(quantised.SerializeToString(deterministic=True))
    multiplying = [node for node in quantised.graph.node if node.op_type in MULTIPLIES]
    made = {name for node in quantised.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    left = [node.name for node in multiplying if not set(node.input[:2]) <= made]
    if len(left) == len(multiplying):
        raise RefusedError("nothing of this model can be int8: it has no convolution, Gemm or MatMul with weights")
    return {
        "samples": samples.count,
        "quantised_ops": len(multiplying) - len(left),
        "float_ops": left,
        "versions": {"onnxruntime": version("onnxruntime")},
    }


def predict(job: Job) -> dict[str, Any]:
    """Runs the file ``path`` on the set "inputs" as the device gives them; writes the set "outputs"."""
    model = onnx_graph.load(Path(job.arguments["path"]))
    return predict_rows(job, Session(model), (), job.arguments["text"])


class _Samples:
    """Calibration rows as ONNX Runtime's quantiser asks for them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._rows = job.arrays("calibration")
        self.count = len(next(iter(self._rows.values())))
        self._next = 0

    def get_next(self) -> dict[str, Array] | None:
        row = self._next
        if row >= self.count:
            return None
        self._next += 1
        self._job.progress(self._next, self.count, "calibrating")
        return {name: np.array(rows[row : row + 1], np.float32) for name, rows in self._rows.items()}


def _quantised(model: onnx_graph.Model, samples: _Samples, overrides: Mapping[str, Any]) -> onnx_graph.Model:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # not installed where types are checked
        def get_next(self) -> dict[str, Array] | None:
            return samples.get_next()

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model_qdq.onnx"
        quantization.quantize_static(
            model,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_constant_sums(model),
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,  # TensorRT 8 takes no other; it quantises the weights when it builds
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": list(QUANTISED),
                "TensorQuantOverrides": dict(overrides),
            },
        )
        return onnx.load(str(target))


def _folded(model: onnx_graph.Model) -> onnx_graph.Model:
    """Batch normalisation folded into the convolution before it: in int8 it would cost a rounding of its own."""
    if not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        return model
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["TransposeOptimizer"],  # the Transpose behind a picture stays where it is
        )
        return onnx.load(str(target))


def _overrides(model: onnx_graph.Model, pinned: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """The pinned ranges by the tensor that is quantised: behind a picture that is what its Transpose gives."""
    behind = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Transpose"}
    return {
        behind.get(name, name): [
            {"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32), "symmetric": True}
        ]
        for name, (low, high) in pinned.items()
    }


def _constant_sums(model: onnx_graph.Model) -> list[str]:
    """Additions of a constant: a bias in int8 would lose much and win nothing."""
    constant = {item.name for item in model.graph.initializer}
    constant |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    return [node.name for node in model.graph.node if node.op_type == "Add" and constant & set(node.input)]


def main() -> None:
    work({"quantize": quantize, "predict": predict})
