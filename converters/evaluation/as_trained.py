"""From the accuracy that training saw to the accuracy on the device, one step at a time, and why a step costs what it
costs: conversion alone, preprocessing alone, quantisation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from converters.device_model import DeviceModel
from converters.evaluation.agreement import compare_recorded
from converters.evaluation.card_search import GAIN_LEAST, CardSearch, search_card
from converters.evaluation.input_difference import Difference, InputDifference, trained_input
from converters.evaluation.recorded import Recorded
from converters.evaluation.results import judge
from converters.evaluation.run import Recording, prepared_images, record
from converters.progress import Progress, Silent
from converters.records import Dataset, Example, Tensors
from converters.sources import predict_source
from edge_agent.errors import ConfigError, ModelError
from edge_agent.records import Array, Crossing, TensorSpec


class Step(Struct, frozen=True):
    """One way to run the model, by output name. ``scores``: the main score, None without labels. ``lost``: of the
    score against the step before. ``agreement`` and ``max_error``: with the answers of the step before."""

    name: str
    how: str
    scores: dict[str, float | None]
    lost: dict[str, float | None] = {}
    agreement: dict[str, float] = {}
    max_error: dict[str, float | None] = {}


class AsTrained(Struct, frozen=True):
    """``score_names`` by output. ``inputs``: how far the device's inputs are from the training's, where the rows hold
    those. ``search`` is there where preprocessing costs something, or can't be told apart."""

    rows: int
    score_names: dict[str, str]
    steps: tuple[Step, ...]
    inputs: tuple[InputDifference, ...] = ()
    search: CardSearch | None = None
    explanation: str = ""
    notes: tuple[str, ...] = ()


def as_trained(
    source: str,
    float_model: DeviceModel,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    work: Path,
    device: Recorded | None = None,
    quantised: Recorded | None = None,
    progress: Progress | None = None,
) -> AsTrained:
    """``source`` is the model as trained, run in its own framework; ``float_model`` its float .tflite. ``device`` and
    ``quantised``: what the float and the quantised model answered on these rows; the first is recorded here where it
    is not given. ``work``: a folder for the inputs, as large as all rows in float32.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    progress = progress or Silent()
    gathered = _Gathered(float_model, work, len(rows))
    with progress.step("preparing inputs", len(rows)) as advance:
        for done, row in enumerate(rows, 1):
            gathered.add(dataset.example(row))
            advance(done)
    runs: list[tuple[str, str, Recorded]] = []
    fed = "the training's own inputs" if gathered.trained else "the device's inputs"
    if not float_model.card.state_inputs:
        images = [item.tensor for item in float_model.card.image_inputs]
        answers = predict_source(source, gathered.inputs, work=work / "predict", images=images, progress=progress)
        runs.append(("as trained", f"the original in its own framework, on {fed}", gathered.answered(answers)))
        runs.append(("converted", f"the float .tflite, on {fed}", gathered.run(progress)))
    if gathered.trained or not runs:
        recorded = device or record(float_model, dataset, rows, progress=progress)
        runs.append(("float on the device", "the float .tflite, on inputs as the device prepares them", recorded))
    if quantised:
        runs.append(("as deployed", "the shipped .tflite, on inputs as the device prepares them", quantised))
    steps = _steps(runs)
    inputs = gathered.differences()
    reason = _reason(steps, inputs, gathered.trained)
    search = search_card(float_model, dataset, rows, progress=progress) if reason else None
    names = {name: head.score_name for name, head in judge(runs[0][2]).outputs.items()}
    same = "the device's inputs are those of the training" if gathered.trained else ""
    said = f"{reason}: {search.sentence}" if search else same
    return AsTrained(len(rows), names, steps, inputs, search, said, tuple(gathered.notes()))


class _Gathered:
    """The float inputs of all rows, on disk."""

    def __init__(self, model: DeviceModel, work: Path, rows: int) -> None:
        self._model = model
        self._work = work
        self._rows = rows
        states = {item.tensor for item in model.card.state_inputs}
        self._specs = [spec for spec in model.inputs if spec.name not in states]
        self._examples: list[Example] = []
        self._crossings: list[Crossing] = []
        self._differences: dict[str, Difference] = {}
        self._without: dict[str, int] = {}
        self.inputs: Tensors = {spec.name: self._array(number, spec) for number, spec in enumerate(self._specs)}

    @property
    def trained(self) -> bool:
        """Whether any input is the training's own."""
        return bool(self._differences)

    def add(self, example: Example) -> None:
        place = len(self._examples)
        self._crossings.append(prepared_images(self._model, example)[1])
        prepared = self._model.prepare(example)
        for spec in self._specs:
            if spec.name in (example.trained or {}):
                if place and spec.name not in self._differences:
                    raise ConfigError(_partly(example, spec, "has"))
                self._differences.setdefault(spec.name, Difference(spec)).add(example, prepared[spec.name])
                self.inputs[spec.name][place] = trained_input(example, spec)
            elif spec.name in self._differences:
                raise ConfigError(_partly(example, spec, "has no"))
            else:
                self.inputs[spec.name][place] = prepared[spec.name][0]
        self._examples.append(replace(example, images={}, trained=None))  # what is large is on disk

    def differences(self) -> tuple[InputDifference, ...]:
        return tuple(difference.finished() for difference in self._differences.values())

    def notes(self) -> list[str]:
        """What a person must know of these steps."""
        notes = []
        if self._model.card.state_inputs:
            notes.append("the model has states: it is not run in its own framework here")
        missing = [spec.name for spec in self._specs if spec.name not in self._differences]
        if missing:
            notes.append(
                f"the data set does not hold what the training fed for {', '.join(missing)}: the first steps use the "
                "device's inputs there, so a difference in preprocessing does not show in them"
            )
        return notes

    def answered(self, answers: Mapping[str, Array]) -> Recorded:
        """The original's answers, read by the card of the float model."""
        recording = Recording(self._model)
        wanted = {spec.name: spec for spec in self._model.outputs}
        for name, spec in wanted.items():
            if name not in answers or len(answers[name]) != self._rows or answers[name][0].size != np.prod(spec.shape):
                found = ", ".join(f"{n} {list(a.shape)}" for n, a in answers.items())
                raise ModelError(
                    f"the original answers {found}; the float .tflite has {name} {list(spec.shape)} for each row"
                )
        for place, example in enumerate(self._examples):
            row = {name: answers[name][place].astype(spec.dtype).reshape(spec.shape) for name, spec in wanted.items()}
            recording.add_outputs(example, row, self._crossings[place])
        return recording.finished()

    def run(self, progress: Progress) -> Recorded:
        """The float .tflite on the gathered inputs."""
        recording = Recording(self._model)
        with progress.step("running the float .tflite", self._rows) as advance:
            for place, example in enumerate(self._examples):
                outputs = self._model.invoke({name: array[place : place + 1] for name, array in self.inputs.items()})
                recording.add_outputs(example, outputs, self._crossings[place])
                advance(place + 1)
        return recording.finished()

    def _array(self, number: int, spec: TensorSpec) -> Array:
        self._work.mkdir(parents=True, exist_ok=True)
        shape = (self._rows, *spec.shape[1:])
        return np.lib.format.open_memmap(self._work / f"input-{number}.npy", "w+", spec.dtype, shape)


def _partly(example: Example, spec: TensorSpec, has: str) -> str:
    return (
        f"{example.id}: this row {has} training's input for {spec.name!r}, unlike the rows before it: give it for "
        "every row, or for none"
    )


def _steps(runs: Sequence[tuple[str, str, Recorded]]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for place, (name, how, recorded) in enumerate(runs):
        judged = judge(recorded).outputs
        scores = {output: head.score if head.labelled else None for output, head in judged.items()}
        if not place:
            steps.append(Step(name, how, scores))
            continue
        against = compare_recorded(runs[place - 1][2], recorded).outputs
        lost = {output: _lost(steps[-1].scores.get(output), score) for output, score in scores.items()}
        agreement = {output: head.agreement for output, head in against.items()}
        largest = {output: head.max_error for output, head in against.items()}
        steps.append(Step(name, how, scores, lost, agreement, largest))
    return tuple(steps)


def _lost(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _reason(steps: Sequence[Step], inputs: Sequence[InputDifference], trained: bool) -> str:
    """Why to look for an error in the card; empty where there is no need."""
    differing = [item.tensor for item in inputs if item.differs]
    if differing:
        return f"the device's inputs are not those of the training ({', '.join(differing)})"
    prepared = next((step for step in steps if step.name == "float on the device"), None)
    costs = [lost for lost in (prepared.lost.values() if prepared else ()) if lost is not None]
    if max(costs, default=0.0) > GAIN_LEAST:
        return f"preprocessing costs {max(costs):.4f}"
    labelled = any(score is not None for score in steps[0].scores.values())
    return "" if trained or not labelled else "without the training's inputs, only the score can tell"
