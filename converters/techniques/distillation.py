"""Distillation: a smaller model taught by a larger one, always beside the same model trained without a teacher."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from converters.records import Kind
from converters.source_kind import factory_of, kind_of
from converters.techniques.comparison import Candidate, Comparison, Variant, compared, trained_source
from converters.techniques.jobs import require_keras, train, training_rows, written_file
from converters.techniques.words import chance, counted, kilobytes, latencies, scores
from converters.workbench import Workbench
from edge_agent.errors import ConfigError

EPOCHS = 10
LEARNING_RATE = 3e-3
TEMPERATURE = 3.0
ALPHA = 0.5


class Distilled(Struct, frozen=True):
    """``comparison``: the variants "original" (the teacher), "taught" and "alone". ``better``: the kind of the student
    with the higher int8 score; of equal ones "alone", which is simpler. ``keras``: both students as .keras files, by
    kind. ``said``: for a person."""

    comparison: Comparison
    better: str
    keras: dict[str, bytes]
    said: tuple[str, ...]

    def student(self, kind: str) -> Variant:
        return self.comparison.variant(kind)


def distill(
    teacher: Workbench,
    student: str,
    *,
    temperature: float = TEMPERATURE,
    alpha: float = ALPHA,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    limit: int | None = None,
) -> Distilled:
    """Train ``student`` (FILE.py:FUNCTION that returns an untrained Keras model with the teacher's input and output
    names, or a Keras file) twice: with ``alpha`` of its loss against the teacher's answers softened by ``temperature``,
    and on the labels alone, with the same seed, rows and epochs.

    Raises ConfigError for what can't be trained, EnvironmentMissingError, WorkerFailedError.
    """
    require_keras(teacher.source, "distillation")
    if not 0 < alpha <= 1:
        raise ConfigError(f"alpha = {alpha:g}: above 0 and at most 1, the share of the loss against the teacher")
    if not temperature > 0:
        raise ConfigError(f"temperature = {temperature:g}: above 0, usually 1 to 10")
    place, kind = _student(student)
    result, folder = train(
        teacher,
        "distill",
        {"student": place, "student_kind": kind, "temperature": temperature, "alpha": alpha},
        training_rows(teacher),
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        text="distilling",
    )
    candidates = [Candidate("original", "teacher", teacher.source, result["before"]["parameters"])]
    for name, text in (("taught", "student with teacher"), ("alone", "student alone")):
        content, facts = written_file(folder, f"{name}.tflite"), result[name]
        candidates.append(
            Candidate(name, text, trained_source(teacher, content, facts["versions"]), facts["parameters"])
        )
    comparison = compared(teacher, candidates, "taught", limit=limit)
    better = "taught" if comparison.variant("taught").score > comparison.variant("alone").score else "alone"
    keras = {name: written_file(folder, f"{name}.keras") for name in ("taught", "alone")}
    return Distilled(comparison, better, keras, _said(comparison, better, epochs))


def _student(student: str) -> tuple[str, Kind | None]:
    """(absolute place, kind of a file; None for a function). Raises ConfigError."""
    factory = factory_of(student)
    if factory is not None and not Path(student).exists():
        if not factory.file.is_file():
            raise ConfigError(f"--student {student}: there is no file {factory.file}; name FILE.py:FUNCTION")
        return f"{factory.file.absolute()}:{factory.function}", None
    kind = kind_of(student)
    if kind not in ("keras2", "keras3"):
        raise ConfigError(f"--student {student}: {kind}; a student is a Keras file, or FILE.py:FUNCTION that makes one")
    return str(Path(student).absolute()), kind


def _said(comparison: Comparison, better: str, epochs: int) -> tuple[str, ...]:
    before, after = comparison.variant("original"), comparison.variant(better)
    verdict = "the teacher helped" if better == "taught" else "the teacher did not help: take the one that learnt alone"
    return (
        f"both students had the same seed, rows and {counted(epochs, 'epoch')}: {verdict}{chance(comparison, 'alone')}",
        *scores(comparison, "alone"),
        *scores(comparison, "original"),
        f"{after.parameters} parameters, the teacher has {before.parameters}; "
        f"{kilobytes(before, after, 'model_bytes')}; {latencies(before, after)}",
    )
