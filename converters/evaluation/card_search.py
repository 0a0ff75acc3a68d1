"""Is the card wrong? One thing at a time is changed in how inputs are prepared, and the same model is run again.

Works through the card and the device's own arithmetic: there is no second preprocessing here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from converters.device_model import DeviceModel
from converters.evaluation.input_difference import Difference, InputDifference
from converters.evaluation.results import MAIN_SCORES, judge
from converters.evaluation.run import Recording, picture
from converters.progress import Progress, Silent
from converters.records import Dataset, Example
from edge_agent.core.card_roles import task_of
from edge_agent.core.card_schema import FeaturesInput, ImageInput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.records import Array, TensorSpec
from edge_agent.stages.engine import Engine

ROWS_MOST = 300  # a wrong card shows on fewer
GAIN_LEAST = 0.005  # of the main score: half a point
CLOSER_LEAST = 0.5  # of the inputs' difference that must go away
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB in 0..255; torchvision's


class Change(Struct, frozen=True):
    """``key`` of the input ``tensor`` was ``now`` and is ``tried``."""

    tensor: str
    key: str
    now: str
    tried: str


class Tried(Struct, frozen=True):
    """What came of a change; ``change`` None is the card as it is. ``scores`` by output, where there are labels;
    ``difference``: mean absolute difference of the changed tensor from the training's inputs, where those are known.
    ``clear``: the better score is beyond chance."""

    change: Change | None
    scores: dict[str, float | None]
    difference: float | None = None
    clear: bool = False


class CardSearch(Struct, frozen=True):
    """``best`` is the single change that explains most, None where none does; ``sentence`` says it to a person.
    ``inputs``: how far they are from the training's with the card as it is, where the rows hold those."""

    rows: int
    as_is: Tried
    tried: tuple[Tried, ...]
    best: Tried | None
    sentence: str
    inputs: tuple[InputDifference, ...] = ()


def search_card(
    model: DeviceModel,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    tensors: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> CardSearch:
    """Try each single change on at most 300 of the rows. ``tensors``: only changes to those inputs.

    Judged by the difference from the training's inputs where the rows have them, else by the main scores.
    """
    rows = rows[:ROWS_MOST]
    changes = [pair for pair in card_changes(model) if tensors is None or pair[0].tensor in tensors]
    trials = [_Trial(model, None, model.card), *(_Trial(model, change, card) for change, card in changes)]
    with (progress or Silent()).step("trying other ways to prepare the inputs", len(rows)) as advance:
        for done, row in enumerate(rows, 1):
            example = dataset.example(row)
            for trial in trials:
                trial.add(example)
            advance(done)
    as_is, *tried = [trial.finished(trials[0]) for trial in trials]
    before = trials[0].differences()
    best = _best(as_is, tried, before)
    sentence = (
        _sentence(model, as_is, best, before) if best else f"none of {len(tried)} single changes of the card helps"
    )
    said = f"{sentence} ({len(rows)} rows)"
    return CardSearch(len(rows), as_is, tuple(tried), best, said, tuple(before.values()))


def with_card(model: DeviceModel, card: ResolvedCard) -> DeviceModel:
    """The same model with another card. Both share one interpreter, so they are used in turn by one thread."""
    other = copy.copy(model)
    other.card = card
    other.engine = Engine(model.engine.identity, card, model.engine.runtime)
    return other


def card_changes(model: DeviceModel) -> Iterator[tuple[Change, ResolvedCard]]:
    """Each change of one thing, with the card that has it."""
    card = model.card
    specs = {spec.name: spec for spec in model.inputs}
    for item in card.image_inputs:
        for key, now, tried, changed in _image_changes(item, specs[item.tensor]):
            images = tuple(changed if other is item else other for other in card.image_inputs)
            yield Change(item.tensor, key, now, tried), replace(card, image_inputs=images)
    for vector in card.feature_inputs:
        plain = tuple(replace(feature, mean=0.0, std=1.0, clip=None) for feature in vector.features)
        if plain != vector.features:
            raw = FeaturesInput(tensor=vector.tensor, features=plain)
            vectors = tuple(raw if other is vector else other for other in card.feature_inputs)
            change = Change(vector.tensor, "feature scaling", "(x - mean) / std", "raw values")
            yield change, replace(card, feature_inputs=vectors)


def _image_changes(item: ImageInput, spec: TensorSpec) -> Iterator[tuple[str, str, str, ImageInput]]:
    """(key, now, tried, the changed input)."""
    for resize in ("nearest", "bilinear", "area", "bicubic"):
        if resize != item.resize:
            yield "resize", item.resize, resize, replace(item, resize=resize)
    for fit in ("stretch", "crop", "letterbox"):
        if fit != item.fit:
            yield "fit", item.fit, fit, replace(item, fit=fit)
    if item.color != "gray":
        swapped = "bgr" if item.color == "rgb" else "rgb"
        yield "color", item.color, swapped, replace(item, color=swapped)
    now = normalisation(item, spec)
    for text, mean, std in _scalings(item):
        if not np.allclose(np.concatenate([mean, std]), np.concatenate(now)):
            yield "scaling", _formula(*now), text, replace(item, mean=mean, std=std)


def _scalings(item: ImageInput) -> Iterator[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """(in words, mean, std), one value for each channel in the order of the item's colour."""
    channels = 1 if item.color == "gray" else 3
    yield "pixel / 255", (0.0,) * channels, (255.0,) * channels
    yield "pixel / 127.5 - 1", (127.5,) * channels, (127.5,) * channels
    yield "pixel as it is", (0.0,) * channels, (1.0,) * channels
    if channels == 3:
        order = 1 if item.color == "rgb" else -1
        yield "ImageNet's mean and std", IMAGENET_MEAN[::order], IMAGENET_STD[::order]


def normalisation(item: ImageInput, spec: TensorSpec) -> tuple[Array, Array]:
    """(mean, std), a value for each channel: of (pixel - mean) / std, the tensor's real value, also where the card
    says neither and pixels go in as core.preprocess documents it."""
    channels = spec.shape[3]
    if item.mean is not None or item.std is not None:
        mean, std = np.array(item.mean or (0.0,)), np.array(item.std or (1.0,))
    elif spec.dtype.kind == "f":
        mean, std = np.zeros(1), np.full(1, 255.0)
    else:  # q = pixel, or pixel - 128; real = (q - zero point) * scale
        offset = 128 if spec.dtype == np.int8 else 0
        mean, std = np.array([spec.zero_point + offset]), np.array([1 / (spec.scale or 1.0)])
    return np.broadcast_to(mean, channels).astype(float), np.broadcast_to(std, channels).astype(float)


def _formula(mean: Array, std: Array) -> str:
    text = [
        f"{side[0]:g}" if (side == side[0]).all() else f"[{', '.join(f'{v:g}' for v in side)}]" for side in (mean, std)
    ]
    return f"(pixel - {text[0]}) / {text[1]}" if mean.any() else f"pixel / {text[1]}"


class _Trial:
    """One card, run over the rows. ``change`` None: the card as it is, whose every input is compared."""

    def __init__(self, model: DeviceModel, change: Change | None, card: ResolvedCard) -> None:
        self.change = change
        self._model = with_card(model, card)
        self._recording = Recording(self._model)
        self._specs = {s.name: s for s in model.inputs if change is None or s.name == change.tensor}
        self._differences: dict[str, Difference] = {}

    def add(self, example: Example) -> None:
        self._recording.add(example)
        trained = example.trained or {}
        for name, spec in self._specs.items():
            if name in trained:
                self._differences.setdefault(name, Difference(spec)).add(example, self._prepared(example, name))

    def _prepared(self, example: Example, tensor: str) -> Array:
        images, features = self._model.engine.images, self._model.engine.features
        if tensor in images:
            slot = images[tensor].slot()
            images[tensor].fill(picture(example, tensor), slot)
        else:
            slot = features[tensor].slot()
            features[tensor].fill(example.features, slot)
        return slot

    def differences(self) -> dict[str, InputDifference]:
        return {name: difference.finished() for name, difference in self._differences.items()}

    def finished(self, as_is: _Trial) -> Tried:
        recorded, reference = self._recording.finished(), as_is._recording.finished()
        evaluation = judge(recorded, reference=reference)
        drops = [head.agreement.drop for head in evaluation.outputs.values() if head.agreement]
        scores = {name: head.score if head.labelled else None for name, head in evaluation.outputs.items()}
        found = self.differences()
        difference = found[self.change.tensor].mean if self.change and self.change.tensor in found else None
        return Tried(self.change, scores, difference, clear=any(drop is None or drop.high < 0 for drop in drops))


def _best(as_is: Tried, tried: Sequence[Tried], before: dict[str, InputDifference]) -> Tried | None:
    """By the inputs where the training's are known and differ, else by the scores; None where no change helps."""
    differing = {name: item.mean for name, item in before.items() if item.differs}
    if differing:
        closest = [
            (trial.difference / differing[trial.change.tensor], place)
            for place, trial in enumerate(tried)
            if trial.change and trial.difference is not None and trial.change.tensor in differing
        ]
        share, place = min(closest, default=(1.0, 0))
        return tried[place] if share <= CLOSER_LEAST else None
    gains = [(_gain(as_is, trial), -place) for place, trial in enumerate(tried) if trial.clear]
    gain, place = max(gains, default=(0.0, 0))
    return tried[-place] if gain >= GAIN_LEAST else None


def _gain(as_is: Tried, trial: Tried) -> float:
    """The mean gain over the outputs that have a score."""
    pairs = [(as_is.scores[name], score) for name, score in trial.scores.items()]
    gains = [after - before for before, after in pairs if before is not None and after is not None]
    return sum(gains) / len(gains) if gains else 0.0


def _sentence(model: DeviceModel, as_is: Tried, best: Tried, before: dict[str, InputDifference]) -> str:
    change, heads = best.change, model.card.outputs
    if change is None:
        raise ValueError("the card as it is explains nothing")
    effects = []
    for head in heads:
        now, after = as_is.scores[head.name], best.scores[head.name]
        measure = MAIN_SCORES[task_of(head)] + (f" of {head.name}" if len(heads) > 1 else "")
        if now is not None and after is not None:
            effects.append(f"{measure} would be {after:.4f} instead of {now:.4f}")
    if best.difference is not None:
        effects.append(
            f"the input would be {best.difference:.4g} from the training's on average instead of "
            f"{before[change.tensor].mean:.4g}"
        )
    return (
        f'the card says {change.now} as the {change.key} of "{change.tensor}"; with {change.tried} '
        f"{' and '.join(effects)}"
    )
