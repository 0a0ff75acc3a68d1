"""Pruning: single weights to zero, or whole channels away. What each buys is measured, and said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from converters.techniques.comparison import Candidate, Comparison, Variant, compared, trained_source
from converters.techniques.jobs import check_numbers, require_keras, train, training_rows, written_file
from converters.techniques.words import chance, counted, kilobytes, latencies, scores
from converters.workbench import Workbench
from edge_agent.errors import ConfigError

EPOCHS = 4
# As for new weights, so that the comparison is fair; at a third of it what remained did not recover in four epochs.
LEARNING_RATE = 3e-3
SPARSITY = 0.75
KEEP = 0.5


class Pruned(Struct, frozen=True):
    """``comparison``: the variants "original", "pruned", and what was trained just as long to compare: "tuned" (no
    zeros) or "scratch" (same size, new weights). ``keras``: the pruned model as a .keras file. ``facts``: what was
    removed. ``said``: what it buys, for a person."""

    method: str
    comparison: Comparison
    keras: bytes
    facts: dict[str, Any]
    said: tuple[str, ...]

    @property
    def pruned(self) -> Variant:
        return self.comparison.variant("pruned")


def prune_magnitude(
    bench: Workbench,
    *,
    sparsity: float = SPARSITY,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    limit: int | None = None,
) -> Pruned:
    """Set the share ``sparsity`` of each layer's weights to zero, more and more of them while training.

    Beside it stands the model trained just as long without zeros. ``limit``: measure on at most so many test rows.
    Raises ConfigError for a source that is no Keras model and for what can't be trained, EnvironmentMissingError,
    WorkerFailedError.
    """
    require_keras(bench.source, "pruning")
    if not 0 < sparsity < 1:
        raise ConfigError(f"sparsity = {sparsity:g}: between 0 and 1, such as 0.75 for three weights in four")
    result, folder = train(
        bench,
        "magnitude",
        {"sparsity": sparsity},
        training_rows(bench),
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        text="pruning weights",
    )
    texts = {"pruned": f"{sparsity:.0%} of weights zero", "tuned": "tuned, no zeros"}
    comparison = compared(bench, _candidates(bench, result, folder, texts), "pruned", limit=limit)
    facts = {"sparsity": result["zeros"] / result["weights"], "weights": result["weights"]}
    return Pruned("magnitude", comparison, written_file(folder, "pruned.keras"), facts, _on_zeros(comparison))


def prune_channels(
    bench: Workbench,
    *,
    keep: float = KEEP,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    scratch_epochs: int | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Pruned:
    """Remove channels, but for the share ``keep`` of those that are made together, and fine-tune what remains.

    Beside it stands a model of the same size, trained from new weights for ``scratch_epochs`` (None: just as long; the
    epochs of the original and the fine-tuning together make the stricter comparison). ``limit``:
    measure on at most so many test rows. Raises as ``prune_magnitude``, and ConfigError with the layer's
    name where channels can't be followed soundly.
    """
    require_keras(bench.source, "pruning")
    if not 0 < keep < 1:
        raise ConfigError(f"keep = {keep:g}: between 0 and 1, such as 0.5 for every second channel")
    anew = epochs if scratch_epochs is None else scratch_epochs
    check_numbers(anew, learning_rate)
    result, folder = train(
        bench,
        "channels",
        {"keep": keep, "scratch_epochs": anew},
        training_rows(bench),
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        text="pruning channels",
    )
    texts = {"pruned": f"{keep:.0%} of channels", "scratch": "same size, trained anew"}
    comparison = compared(bench, _candidates(bench, result, folder, texts), "pruned", limit=limit)
    facts = {key: result[key] for key in ("channels", "kept_whole", "difference")}
    said = _on_channels(comparison, result["kept_whole"], epochs, anew)
    return Pruned("channels", comparison, written_file(folder, "pruned.keras"), facts, said)


def _candidates(
    bench: Workbench, result: Mapping[str, Any], folder: Path, texts: Mapping[str, str]
) -> tuple[Candidate, ...]:
    original = Candidate("original", "as trained", bench.source, result["before"]["parameters"])
    others = [
        Candidate(
            kind,
            text,
            trained_source(bench, written_file(folder, f"{kind}.tflite"), result[kind]["versions"]),
            result[kind]["parameters"],
        )
        for kind, text in texts.items()
    ]
    return (original, *others)


def _on_zeros(comparison: Comparison) -> tuple[str, ...]:
    before, after = comparison.variant("original"), comparison.variant("pruned")
    return (
        f"{after.zero_share:.0%} of the int8 weights are zero, {before.zero_share:.0%} were before",
        f"the file is not smaller, since zeros are stored like any number: {kilobytes(before, after, 'model_bytes')}; "
        f"a compressed download is: {kilobytes(before, after, 'deflated_bytes')}",
        f"the int8 kernels multiply zeros like any number, so no speed-up is claimed: {latencies(before, after)}",
        "TensorFlow Lite's sparse kernels are not used: int8 models that were sparse gave wrong answers with them",
        *scores(comparison, "original"),
        *scores(comparison, "tuned"),
    )


def _on_channels(comparison: Comparison, kept_whole: Mapping[str, str], epochs: int, anew: int) -> tuple[str, ...]:
    before, after = comparison.variant("original"), comparison.variant("pruned")
    said = [
        f"{after.parameters} of {before.parameters} parameters remain; {kilobytes(before, after, 'model_bytes')}; "
        f"{latencies(before, after)}",
        *scores(comparison, "original"),
        *scores(comparison, "scratch"),
        f"the model trained anew had {counted(anew, 'epoch')}, the pruned one {counted(epochs, 'epoch')} after those "
        "of the original",
    ]
    if comparison.variant("scratch").score >= after.score:
        said.append(f"pruning did not pay{chance(comparison, 'scratch')}: train the smaller network anew instead")
    if kept_whole:
        names = ", ".join(f"{name!r} ({kind})" for name, kind in kept_whole.items())
        said.append(f"kept whole, since their channels can't be followed: what goes into {names}")
    return tuple(said)
