"""Quantisation-aware fine-tuning: int8 steps are in the loop while weights and steps are trained.

It works on the graph of the float .tflite, so on every kind of source (the TensorFlow toolkit takes plain Keras 2
models only), and simulates just the steps of the quantiser that makes the file. Inputs keep the range that the card
gives them.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from converters.arrays import calibration_samples
from converters.quantization.quantize import quantize
from converters.records import Quantized
from converters.steps import CALIBRATION_SAMPLES, Io, calibrated, kept_for, own_normalisation
from converters.techniques.comparison import Candidate, Comparison, compared
from converters.techniques.jobs import check_numbers, train, training_rows
from converters.techniques.training_graph import computed_values, learnt_calibration, training_graph, with_constants
from converters.techniques.words import counted, scores
from converters.tflite.graph import read_graph
from converters.workbench import Workbench
from converters.workers.protocol import load_arrays, save_arrays

EPOCHS = 2
LEARNING_RATE = 2e-3  # of a weight's own size; steps learn faster (workers.training_qat)
# Half of the loss is how far the answers are from the float model's. Measured on digits and wine, labels alone gave the
# same accuracy and changed 2.4 % of the answers instead of 1.7 %.
TEACHER_SHARE = 0.5


class Tuned(Struct, frozen=True):
    """``comparison``: the variants "original", by post-training quantisation, and "qat". ``said``: for a person."""

    quantized: Quantized
    comparison: Comparison
    said: tuple[str, ...]


def quantization_aware(
    bench: Workbench,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    samples: int = CALIBRATION_SAMPLES,
    io: Io = "int8",
) -> Quantized:
    """An int8 model whose weights and steps were fine-tuned for it on the rows of the split train, starting from
    post-training quantisation with ``samples`` calibration rows.

    Labels are used where the data has them for a classification or a regression; any other output learns to answer as
    the float model does. The same arguments give the same bytes. Raises ConfigError for what can't be trained,
    EnvironmentMissingError without the environment keras, WorkerFailedError.
    """
    return _fine_tuned(bench, epochs, learning_rate, seed, samples, io)


def tuned(
    bench: Workbench,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    samples: int = CALIBRATION_SAMPLES,
    io: Io = "int8",
    limit: int | None = None,
) -> Tuned:
    """The same, measured on the test rows (at most ``limit``) beside post-training quantisation of the model as it
    was."""
    after = _fine_tuned(bench, epochs, learning_rate, seed, samples, io)
    parameters = _parameters(bench.source.content)
    candidates = (
        Candidate("original", "post-training", bench.source, parameters),
        Candidate("qat", "quantisation-aware", bench.source, parameters, after),
    )
    comparison = compared(bench, candidates, "qat", limit=limit, io=io)
    said = list(scores(comparison, "original"))
    if comparison.variant("original").score >= comparison.variant("qat").score:
        said.append("fine-tuning did not pay here: take post-training quantisation (edge-convert quantize)")
    return Tuned(after, comparison, tuple(said))


def _fine_tuned(bench: Workbench, epochs: int, learning_rate: float, seed: int, samples: int, io: Io) -> Quantized:
    check_numbers(epochs, learning_rate)
    arrays = training_rows(bench)
    calibration = calibrated(bench, samples=samples)
    kept = kept_for(own_normalisation(bench))
    before = quantize(bench.source, "int8", calibration=calibration, keep_float=kept, io=io)
    graph, constants = training_graph(bench.source.content, before.content)
    folder = bench.work / "qat"
    save_arrays(folder, "constants", {str(buffer): values for buffer, values in constants.items()})
    sample = next(calibration_samples(arrays))
    save_arrays(folder, "sample", sample)
    save_arrays(folder, "expected", computed_values(bench.source.content, graph, sample))
    result, folder = train(
        bench,
        "qat",
        {"graph": graph.to_json(), "teacher_share": TEACHER_SHARE},
        arrays,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        text="fine-tuning for int8",
    )
    weights = {int(buffer): values for buffer, values in load_arrays(folder, "trained").items()}
    fine_tuned = msgspec.structs.replace(bench.source, content=with_constants(bench.source.content, weights))
    learnt = learnt_calibration(calibration, graph, result["scales"])
    after = quantize(fine_tuned, "int8", calibration=learnt, keep_float=kept, io=io)
    method = f"quantisation-aware, {counted(epochs, 'epoch')} of {len(arrays.ids)} rows, from {before.method}"
    return msgspec.structs.replace(after, method=method)


def _parameters(content: bytes) -> int:
    """The float constants of the model: weights with batch normalisation folded in."""
    return sum(t.elements for t in read_graph(content).main.tensors if t.is_constant and t.dtype == "float32")
